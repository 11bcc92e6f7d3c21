//! The policy that never gives up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use longshore::{App, BoxError, Context, CrashLoopBackoff, Death, Worker};

use crate::support::{Started, crash, unhung, until};

struct Ready;

impl Worker for Ready {
    type Input = u32;
    type Output = u32;
    type Error = std::convert::Infallible;

    fn call(&mut self, input: &u32, _: &Context) -> Result<u32, Self::Error> {
        Ok(*input)
    }
}

fn backoff(initial: Duration) -> CrashLoopBackoff {
    CrashLoopBackoff::new()
        .initial(initial)
        .max(Duration::from_secs(600))
        .reset_after(Duration::from_secs(1_500))
}

#[test]
fn a_crash_loop_is_visible_and_pending_inputs_wait_through_it() {
    unhung(|| {
        let app = App::deployed("loop");
        let (down, enters) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (is_down, count) = (Arc::clone(&down), Arc::clone(&enters));
        let enter = move |_: &Context| -> Result<Ready, BoxError> {
            count.fetch_add(1, Ordering::SeqCst);
            if is_down.load(Ordering::SeqCst) { Err("no database".into()) } else { Ok(Ready) }
        };
        let f = app.worker("f", enter).containers(2).restart(backoff(Duration::from_millis(5))).started();
        let handle = f.clone();
        let mapped = std::thread::spawn(move || handle.run((0..20).collect()));
        until("the function is in a crash loop", || {
            f.status().crash_loop.is_some_and(|crash_loop| crash_loop.crashes >= 4)
        });
        let call = f.call(7);
        until("both containers wait for the next restart", || {
            let status = f.status();
            let next = status.crash_loop.as_ref().and_then(|crash_loop| crash_loop.next_restart);
            status.containers.backing_off == 2 && next.is_some()
        });
        let status = f.status();
        assert_eq!(status.containers.live, 0, "live containers");
        assert_eq!(status.inputs_waiting, 21, "the 20 inputs of the run, and the call");
        let (_, crash) = status.last_crash.as_ref().expect("it crashed");
        assert!(matches!(crash.death, Death::EnterFailed(_)));
        assert!(status.gave_up.is_none());
        assert!(status.to_string().contains("crash loop of"), "{status}");
        down.store(false, Ordering::SeqCst);
        assert!(!f.reset(), "the function had not given up, but the reset clears the delay");
        assert_eq!(call.wait().expect("it waited"), 7);
        assert_eq!(mapped.join().expect("no panic").expect("they waited").len(), 20);
        assert!(f.status().crash_loop.is_none(), "progress ends the loop");
    });
}

#[test]
fn shutdown_and_drop_work_while_it_backs_off() {
    unhung(|| {
        let app = App::deployed("drop");
        let enter = |_: &Context| -> Result<Ready, BoxError> { Err("never".into()) };
        let f = app.worker("f", enter).restart(backoff(Duration::from_secs(300))).started();
        until("a container backs off for minutes", || f.status().containers.backing_off > 0);
        let call = f.call(1);
        let begun = Instant::now();
        let report = app.stop_within(Duration::from_secs(60));
        assert!(report.is_clean(), "{report}");
        assert!(call.wait().expect_err("stopped").is_shut_down());
        assert!(begun.elapsed() < Duration::from_secs(30), "the shutdown does not wait for the delay");
    });
}

#[test]
fn the_first_loop_crash_restarts_at_once_and_delays_are_kept() {
    unhung(|| {
        let app = App::deployed("delays");
        let times = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let enter = move |_: &Context| -> Result<Ready, BoxError> {
            let mut times = seen.lock().expect("not poisoned");
            times.push(Instant::now());
            if times.len() < 5 { Err("not yet".into()) } else { Ok(Ready) }
        };
        let initial = Duration::from_millis(20);
        let f = app.worker("f", enter).containers(1).restart(backoff(initial)).started();
        f.ready().expect("at the fifth time");
        let times = times.lock().expect("not poisoned");
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (gap, whole) in gaps[1..].iter().zip([initial, 2 * initial, 4 * initial]) {
            assert!(*gap >= whole / 2, "{gaps:?}: equal jitter leaves at least a half");
        }
    });
}

#[test]
fn a_container_that_had_made_progress_restarts_at_once_even_inside_a_delay() {
    unhung(|| {
        let app = App::deployed("progress");
        let enters = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&enters);
        // Container 0 always enters. Container 1 never does, and so keeps the function in its delay.
        let enter = move |context: &Context| -> Result<Crashing, BoxError> {
            if context.container().index() == 1 {
                return Err("never".into());
            }
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Crashing)
        };
        struct Crashing;
        impl Worker for Crashing {
            type Input = u32;
            type Output = u32;
            type Error = std::convert::Infallible;

            fn call(&mut self, input: &u32, context: &Context) -> Result<u32, Self::Error> {
                if *input == 1 && context.attempt().get() == 1 {
                    crash();
                }
                Ok(*input)
            }
        }
        let f = app.worker("f", enter).containers(2).restart(backoff(Duration::from_secs(300))).started();
        until("container 1 is in its long delay", || f.status().containers.backing_off == 1);
        assert_eq!(f.run(vec![0, 1, 2]).expect("replayed"), [0, 1, 2]);
        assert_eq!(enters.load(Ordering::SeqCst), 2);
    });
}

/// Crashes at input 1. After that its `enter` fails.
struct Downed(Arc<AtomicBool>);

impl Worker for Downed {
    type Input = u32;
    type Output = u32;
    type Error = std::convert::Infallible;

    fn call(&mut self, input: &u32, _: &Context) -> Result<u32, Self::Error> {
        if *input == 1 {
            self.0.store(true, Ordering::SeqCst);
            crash()
        }
        Ok(*input)
    }
}

#[test]
fn a_drain_ends_with_the_last_pending_input_while_all_containers_back_off() {
    for call_last in [false, true] {
        unhung(move || {
            let app = App::deployed("drain");
            let down = Arc::new(AtomicBool::new(false));
            let enter = move |_: &Context| -> Result<Downed, BoxError> {
                if down.load(Ordering::SeqCst) { Err("gone".into()) } else { Ok(Downed(Arc::clone(&down))) }
            };
            let f = app.worker("f", enter).containers(1).restart(backoff(Duration::from_secs(300))).started();
            let mut outcomes = f.map(0..10u32).window(2).into_iter();
            assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
            until("a container backs off for minutes", || f.status().containers.backing_off == 1);
            let call = f.call(7);
            let ending = std::thread::spawn(move || app.shutdown_within(Duration::from_secs(600)));
            until("the function drains", || f.run(Vec::new()).is_err());
            assert!(f.status().inputs_waiting >= 2, "an input of the map, and the call");
            if call_last {
                drop(outcomes);
                drop(call);
            } else {
                drop(call);
                drop(outcomes);
            }
            assert!(ending.join().expect("no panic").is_clean());
        });
    }
}

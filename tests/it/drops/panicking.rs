//! Values that panic in their drop.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore::{Context, Worker};

use crate::support::{Bomb, Gate, Started, attempt, bombs, numbers_under, under_each_policy, until};

/// Keeps a value from being dropped.
fn defuse<T>(value: T) {
    std::mem::forget(value);
}

#[test]
fn inputs_that_panic_in_their_drop_are_dropped_once_and_crash_nothing() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app.infallible("f", |_: &Bomb| ()).containers(2).restart(policy).started();
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        assert_eq!(f.run(inputs).expect("infallible").len(), 200);
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == 200);
        // The map is dropped early: some inputs were executed, some are in chunks, some are still in the
        // source.
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        drop(f.map(inputs).window(10).into_iter().next());
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == 400);
        // The inputs come from a feeder.
        let again = bomb.clone();
        drop(f.map((0..50).map(move |_| again())).window(10).into_iter().next());
        until("the feeder has ended", || f.status().feeders == 0);
        assert_eq!(f.status().crashes, 0, "no drop crashes a container");
        assert!(f.call(bomb()).wait().is_ok());
        // This map never begins.
        drop(f.map((0..3).map(|_| bomb()).collect::<Vec<_>>()));
    });
}

#[test]
fn outputs_and_errors_that_panic_in_their_drop_crash_nothing() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app
            .function("f", move |n: &u64| if n.is_multiple_of(3) { Err(bomb()) } else { Ok(bomb()) })
            .retries(longshore::Retries::new(1).initial_delay(Duration::ZERO))
            .containers(2)
            .restart(policy)
            .started();
        let mut outcomes = f.map(0..300u64).return_exceptions().into_iter();
        defuse(outcomes.next());
        until("more than ten inputs are completed", || outcomes.progress().completed() > 10);
        drop(outcomes);
        let before = drops.load(Ordering::SeqCst);
        assert!(before > 0, "errors of failed attempts and of the dropped map were dropped");
        defuse(f.call(1).wait());
        assert_eq!(f.status().crashes, 0, "no drop crashes a container");
        let mut all = f.map(0..30u64).return_exceptions().into_iter();
        let mut yielded = 0;
        for outcome in all.by_ref() {
            defuse(outcome);
            yielded += 1;
        }
        assert_eq!(yielded, 30);
    });
}

#[test]
fn panic_payloads_that_panic_in_their_drop_are_dropped_once() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = numbers_under(policy, app, 2, move |n| {
            if n.is_multiple_of(10) && attempt() == 1 {
                panic_any(bomb());
            }
            *n
        });
        assert_eq!(f.run((0..100).collect()).expect("replayed").len(), 100);
        assert_eq!(drops.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn workers_and_captured_values_that_panic_in_their_drop_are_dropped_once() {
    struct Armed(#[expect(dead_code, reason = "dropped with the worker")] Bomb);
    impl Worker for Armed {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, context: &Context) -> Result<u64, Self::Error> {
            if *input == 5 && context.attempt().get() == 1 {
                crate::support::crash();
            }
            Ok(*input)
        }
    }
    under_each_policy(|_, policy| {
        let (drops, bomb) = bombs();
        let (captured_drops, captured) = bombs();
        let app = longshore::App::ephemeral("states");
        let held = captured();
        let worth = captured();
        let f = app
            .worker("f", move |_: &Context| {
                let _ = &held;
                Ok(Armed(bomb()))
            })
            .retry_if(move |_| {
                let _ = &worth;
                true
            })
            .containers(1)
            .restart(policy)
            .started();
        assert_eq!(f.run((0..20).collect()).expect("replayed").len(), 20);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "the worker of the first generation");
        assert!(app.shutdown_blocking().functions[0].threads_running == 0);
        assert_eq!(drops.load(Ordering::SeqCst), 2, "the worker of the second generation, in its exit");
        drop(f);
        until("both closures are dropped", || captured_drops.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn inputs_and_errors_inside_failures_and_errors_of_enter_may_panic_in_their_drop() {
    #[derive(Debug)]
    struct Sour(#[expect(dead_code, reason = "dropped with the error")] Bomb);
    impl std::fmt::Display for Sour {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            crate::support::crash()
        }
    }
    impl std::error::Error for Sour {}
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Self::Error> {
            Ok(*input)
        }
    }
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let make = bomb.clone();
        let f = app.function("f", move |_: &Bomb| Err::<(), Bomb>(make())).restart(policy).started();
        drop(f.run_all((0..50).map(|_| bomb()).collect()));
        until("the inputs and the errors are dropped", || drops.load(Ordering::SeqCst) == 100);

        let enter = move |_: &Context| Err::<Never, _>(longshore::BoxError::from(Sour(bomb())));
        let give_up = longshore::RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let g = app.worker("g", enter).containers(1).restart(give_up).started();
        let Err(longshore::NotReady::GaveUp(gave_up)) = g.ready() else { panic!("it must give up") };
        let longshore::Death::EnterFailed(error) = &gave_up.last().death else { panic!("{gave_up}") };
        assert!(error.get().downcast_ref::<Sour>().is_some());
        assert!(error.to_string().contains("a crash on purpose"), "{error}");
    });
}

#[test]
fn a_builder_that_is_never_started_contains_the_panics_of_its_captures() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let held = bomb();
        let builder = app.infallible("f", move |_: &u64| {
            let _ = &held;
        });
        drop(builder.restart(policy));
        until("the captured value is dropped", || drops.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn handles_dropped_while_their_thread_panics_leave_the_function_whole() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        let handle = f.clone();
        let caught = std::thread::spawn(move || {
            let mut outcomes = handle.map(0..1_000u64).into_iter();
            outcomes.next();
            let _call = handle.call(1);
            std::panic::resume_unwind(Box::new("an application's own panic"));
        })
        .join();
        assert!(caught.is_err());
        assert_eq!(f.run(vec![1, 2]).expect("the function is whole"), [1, 2]);
    });
}

#[test]
fn outputs_that_panic_in_their_drop_are_dropped_by_runs_one_by_one() {
    /// Panics in its drop even if its thread is panicking already: two of them in one vector would abort the
    /// process.
    struct Output(Arc<AtomicU64>);
    impl Drop for Output {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("dropped");
        }
    }
    under_each_policy(|app, policy| {
        let (made, drops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (makes, counted) = (Arc::clone(&made), Arc::clone(&drops));
        // Inputs that need a drop go through a map, and other inputs do not.
        let output = move |fails: bool| {
            if fails {
                return Err("no");
            }
            makes.fetch_add(1, Ordering::SeqCst);
            Ok(Output(Arc::clone(&counted)))
        };
        let other = output.clone();
        let plain = app
            .function("plain", move |n: &u64| output(*n == 20))
            .containers(1)
            .restart(policy.clone())
            .started();
        let gate = Gate::default();
        let passed = gate.clone();
        let boxed = app
            .function("boxed", move |(n,): &(Box<u64>,)| {
                if **n == 99 {
                    passed.pass();
                }
                other(**n == 20)
            })
            .containers(1)
            .restart(policy)
            .started();
        let boxes = |inputs: std::ops::Range<u64>| inputs.map(|n| (Box::new(n),)).collect::<Vec<_>>();
        assert!(plain.run((0..30).collect()).is_err());
        assert!(boxed.run(boxes(0..30)).is_err());
        assert!(futures::executor::block_on(plain.run_async((0..30).collect())).is_err());
        assert!(futures::executor::block_on(boxed.run_async(boxes(0..30))).is_err());
        assert_eq!(plain.for_each(0..20u64).expect("it goes on").ok, 20);
        let stream = futures::stream::iter(0..20u64);
        assert_eq!(futures::executor::block_on(plain.for_each_async(stream)).expect("it goes on").ok, 20);
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == made.load(Ordering::SeqCst));
        // This run is dropped while it holds some of its outcomes and waits for the last one.
        let mut run = Box::pin(boxed.run_all_async(boxes(80..100)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let before = made.load(Ordering::SeqCst);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        until("all outputs but the last are made", || made.load(Ordering::SeqCst) == before + 19);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        drop(run);
        gate.open();
        until("the last output is made", || made.load(Ordering::SeqCst) == before + 20);
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == before + 20);
    });
}

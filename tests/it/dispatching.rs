//! The order of dispatch, and that no input waits while a container is idle.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use longshore::testkit::{EnterFault, Fault};
use longshore::{App, Call, ContainerId, RateLimited, Retries};

use crate::support::{Gate, Started, attempt, numbers, unhung, until};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn inputs_that_wait_for_each_other_get_a_container_each_even_after_cheap_inputs() {
    unhung(|| {
        let app = App::ephemeral("dispatching");
        let meeting = Arc::new(Barrier::new(6));
        let meet = move |n: &u64| {
            if *n >= 100 {
                meeting.wait();
            }
            *n
        };
        let f = app.infallible("meet", meet).containers(6).started();
        for _ in 0..50 {
            f.run((0..6).collect()).expect("nothing fails here");
            f.run((100..106).collect()).expect("each has a container of its own");
        }
    });
}

#[test]
fn an_input_leased_behind_a_blocking_one_is_taken_over_without_a_consumer_that_polls() {
    unhung(|| {
        let app = App::ephemeral("dispatching");
        let (gate, passes) = (Gate::default(), Gate::default());
        let (blocks, opens) = (gate.clone(), passes.clone());
        let f = numbers(&app, 2, move |n| {
            match *n {
                1_000 => blocks.pass(),
                2_000 => opens.open(),
                _ => {}
            }
            *n
        });
        // These inputs are so cheap that the following ones are leased together.
        f.run((0..1_000).collect()).expect("nothing fails here");
        let inputs = [1_000, 1, 2_000];
        let mut map = f.map(inputs.to_vec()).unordered().into_iter();
        assert!(map.next().is_some());
        passes.pass(); // the map is not polled while this waits
        gate.open();
        assert_eq!(map.filter(Result::is_ok).count(), 2);
    });
}

#[test]
fn a_storm_of_retries_leaves_half_of_the_turns_to_new_inputs() {
    unhung(|| {
        let app = App::ephemeral("dispatching");
        let retried = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&retried);
        let f = app
            .function("stormy", move |n: &u64| {
                if *n >= 1_000 {
                    return Ok(counted.load(Ordering::Relaxed));
                }
                counted.fetch_add(1, Ordering::Relaxed);
                Err("always")
            })
            .containers(1)
            .retries(Retries::new(u32::MAX).initial_delay(Duration::ZERO).backoff_coefficient(1.0))
            .started();
        let mut storm = f.map(0..100u64).window(100).unordered().into_iter();
        std::thread::scope(|threads| {
            let abort = storm.abort_handle();
            let stormy = threads.spawn(move || storm.by_ref().count());
            until("a thousand retries were executed", || retried.load(Ordering::Relaxed) > 1_000);
            let seen = f.run((1_000..1_100).collect()).expect("the map beside it is served");
            let between = seen[99] - seen[0];
            assert!(between <= 2 * 99, "{between} retries went before 99 new inputs");
            abort.abort();
            stormy.join().expect("it only counts");
        });
    });
}

#[test]
fn an_endless_stream_of_calls_leaves_a_quarter_to_the_maps() {
    unhung(|| {
        let app = App::ephemeral("dispatching");
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let f = numbers(&app, 1, move |n| {
            if *n == 0 { counted.fetch_add(1, Ordering::Relaxed) } else { counted.load(Ordering::Relaxed) }
        });
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut queued: Vec<_> = (0..64).map(|_| f.call(0)).collect();
                while !over.load(Ordering::Relaxed) {
                    queued.push(f.call(0));
                    drop(queued.remove(0).wait());
                }
            });
            until("a thousand calls were executed", || calls.load(Ordering::Relaxed) > 1_000);
            // The window is 1, so that each input is a lease of its own.
            let seen: Vec<u64> =
                f.map(1..101u64).window(1).blocking().map(|seen| seen.expect("served")).collect();
            assert_eq!(seen.len(), 100);
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn an_endless_stream_of_calls_holds_up_neither_a_retry_nor_a_replay() {
    unhung(|| {
        let app = App::ephemeral("dispatching");
        let f = app.function("f", |n: &u64| match (*n, attempt()) {
            (1, 1..=20) => Err("not yet"),
            (2, 1..=3) => panic!("a crash"),
            _ => Ok(*n),
        });
        let at_once = Retries::new(20).initial_delay(Duration::ZERO).backoff_coefficient(1.0);
        let f = f.containers(1).retries(at_once).restart(RateLimited::never()).started();
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut queued: VecDeque<_> = (0..1_000).map(|_| f.call(0)).collect();
                while !over.load(Ordering::Relaxed) {
                    queued.push_back(f.call(0));
                    let first = queued.pop_front().map(Call::wait);
                    assert!(matches!(first, Some(Ok(0))));
                }
            });
            assert_eq!(f.call(1).wait().expect("its last attempt succeeds"), 1);
            assert_eq!(f.call(2).wait().expect("its last attempt succeeds"), 2);
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn inputs_that_wait_for_their_retry_keep_no_other_inputs_alive() {
    static ALIVE: AtomicU64 = AtomicU64::new(0);
    struct Live(u64);
    impl Live {
        fn new(n: u64) -> Self {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Self(n)
        }
    }
    impl Drop for Live {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    unhung(|| {
        let app = App::ephemeral("dispatching");
        let f = app
            .function("straggle", |n: &Live| if n.0.is_multiple_of(400) { Err(()) } else { Ok(n.0) })
            .containers(2)
            .window(1_000)
            .retries(Retries::new(3).initial_delay(3_600 * SECOND).max_delay(3_600 * SECOND))
            .started();
        let mut map = f.map((0..).map(Live::new)).unordered().return_exceptions().into_iter();
        let mut most = 0;
        for _ in 0..100_000 {
            assert!(map.next().expect("it is endless").is_ok());
            most = most.max(ALIVE.load(Ordering::SeqCst));
        }
        assert!(most <= 2 * 1_000 + 64, "{most} inputs were alive in a window of 1000");
    });
}

#[test]
fn an_outage_poisons_no_input_because_suspects_wait_for_containers_entered_after_their_crash() {
    for containers in [1, 2, 8] {
        let app = App::ephemeral("dispatching");
        let f = app.infallible("connected", |n: &u64| *n).containers(containers);
        let is_down = |now: Duration| (10 * MS..3 * SECOND).contains(&now);
        let (outcomes, record) = f
            .rehearse()
            .takes(5 * MS)
            .fault_when(move |at| is_down(at.now).then_some(Fault::Panic))
            .enter_fault_when(move |at| is_down(at.now).then_some(EnterFault::Fail))
            .run(0..100)
            .expect("valid settings");
        let failed: Vec<String> =
            outcomes.into_iter().filter_map(|outcome| outcome.err().map(|e| e.to_string())).collect();
        assert_eq!(failed, [""; 0], "with {containers} containers");
        let on_inputs = record.crashes().filter(|(_, crash)| crash.executing.is_some()).count();
        assert!(
            on_inputs <= containers,
            "{on_inputs} executions crashed, of {containers} connections that were open before the outage"
        );
    }
}

#[test]
fn a_suspect_that_hangs_holds_up_the_other_suspects_for_a_second_at_most() {
    let app = App::ephemeral("dispatching");
    let f = app.infallible("hangs", |n: &u64| *n).containers(6);
    let (outcomes, record) = f
        .rehearse()
        .takes(MS)
        .fault_when(|at| match (at.index, at.attempt) {
            (0..=3, 1) => Some(Fault::Panic),
            (0, 2) => Some(Fault::Hang),
            _ => None,
        })
        .kills(60 * SECOND, ContainerId::new(0))
        .kills(60 * SECOND, ContainerId::new(1))
        .kills(60 * SECOND, ContainerId::new(2))
        .kills(60 * SECOND, ContainerId::new(3))
        .kills(60 * SECOND, ContainerId::new(4))
        .kills(60 * SECOND, ContainerId::new(5))
        .run(0..20)
        .expect("valid settings");
    // The input that hangs is replayed after its container has been killed by hand.
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
    let ended = |input: u64| {
        let last = record.executions().iter().rfind(|execution| execution.input == input);
        last.expect("it was executed").began
    };
    for input in 1..=3 {
        let at = ended(input);
        assert!(at < 5 * SECOND, "suspect {input} waited until {at:?} for the suspect that hangs");
    }
}

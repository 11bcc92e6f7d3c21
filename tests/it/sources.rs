//! Sources that block, panic, or are maps themselves, and what a map does with its source at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream;
use longshore::{App, Cause, Function};

use crate::support::{
    Counted, Gate, Started, crash, numbers, numbers_under, under_each_policy, unhung, until,
};

#[test]
fn a_blocking_source_blocks_neither_containers_nor_engine() {
    under_each_policy(|app, policy| {
        let (send, receive) = std::sync::mpsc::channel::<u64>();
        let f = numbers_under(policy, app, 1, |n| n * 2);
        let handle = f.clone();
        let mapped = std::thread::spawn(move || {
            handle.map(receive).into_iter().map(|outcome| outcome.expect("infallible")).collect::<Vec<_>>()
        });
        until("a feeder pulls from the source", || f.status().feeders == 1);
        assert_eq!(f.call(50).wait().expect("infallible"), 100, "the container is free");
        for n in 0..1_000 {
            send.send(n).expect("the map listens");
        }
        drop(send);
        assert_eq!(mapped.join().expect("no panic"), (0..1_000).map(|n| n * 2).collect::<Vec<_>>());
        until("the feeder ends", || f.status().feeders == 0);
    });
}

#[test]
fn a_feeder_stuck_in_its_source_is_counted_until_it_returns() {
    under_each_policy(|app, policy| {
        let (send, receive) = std::sync::mpsc::channel::<u64>();
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        let mut outcomes = f.map(receive).into_iter();
        send.send(1).expect("the map listens");
        assert_eq!(outcomes.next().and_then(Result::ok), Some(1));
        drop(outcomes);
        assert_eq!(f.status().feeders, 1, "the feeder is stuck in its source");
        assert!(send.send(2).is_ok(), "the feeder still holds the other end");
        until("the feeder returns", || f.status().feeders == 0);
    });
}

#[test]
fn a_source_that_panics_ends_the_map_with_that_error_once_and_last() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        let source = || {
            (0..100u64).inspect(|n| {
                if *n == 40 {
                    panic!("source at {n}")
                }
            })
        };
        let mut all: Vec<_> = f.map(source()).return_exceptions().into_iter().collect();
        let last = all.pop().expect("the error").expect_err("last");
        let Cause::Source(panic) = last.cause() else { panic!("{last:?}") };
        assert_eq!(panic.message(), "source at 40", "message");
        assert_eq!(last.index(), None, "index");
        assert_eq!(all.into_iter().filter_map(Result::ok).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());

        let mut outcomes = f.map(source()).into_iter();
        let failure = outcomes.by_ref().find_map(Result::err).expect("it ends with the error");
        assert!(matches!(failure.cause(), Cause::Source(_)));
        assert!(outcomes.next().is_none());
        assert!(f.run(vec![1]).is_ok(), "the function goes on");
    });
}

/// A source that can panic in `size_hint` and in its drop.
struct Hostile {
    left: u64,
    dropped: Arc<AtomicU64>,
    asked_after_end: Arc<AtomicU64>,
    in_size_hint: bool,
    in_drop: bool,
}

impl Iterator for Hostile {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.left == 0 {
            self.asked_after_end.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        self.left -= 1;
        Some(self.left)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.in_size_hint {
            crash();
        }
        (0, None)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        if self.in_drop {
            crash();
        }
    }
}

#[test]
fn a_source_is_dropped_once_and_never_asked_again_after_its_end() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        for (in_size_hint, in_drop) in [(false, false), (false, true), (true, false), (true, true)] {
            let (dropped, asked_after_end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (counted, asked) = (Arc::clone(&dropped), Arc::clone(&asked_after_end));
            let source =
                Hostile { left: 10, dropped: counted, asked_after_end: asked, in_size_hint, in_drop };
            let all: Vec<_> = f.map(source).return_exceptions().into_iter().collect();
            if in_size_hint {
                assert_eq!(all.len(), 1);
                let failure = all[0].as_ref().expect_err("the source is broken");
                assert!(matches!(failure.cause(), Cause::Source(_)));
            } else {
                assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 10);
                assert_eq!(
                    asked_after_end.load(Ordering::SeqCst),
                    1,
                    "the source is asked once after its last input"
                );
            }
            until("the source is dropped", || dropped.load(Ordering::SeqCst) == 1);
        }
    });
}

#[test]
fn a_map_may_be_the_source_of_another_of_the_same_function_with_one_container() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |n| n + 1);
        let inner = f.map(0..500u64).into_iter().map(|outcome| outcome.expect("infallible"));
        let middle = f.map(inner).window(3).into_iter().map(|outcome| outcome.expect("infallible"));
        let outer: Result<Vec<u64>, _> = f.map(middle).into_iter().collect();
        assert_eq!(outer.expect("infallible"), (3..503).collect::<Vec<_>>());
    });
}

#[test]
fn a_source_that_waits_for_its_own_outcomes_finishes_with_a_window_of_one() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        let gate = Gate::default();
        let opened = gate.clone();
        let source = (0..20u64).inspect(move |n| {
            if *n == 1 {
                opened.pass();
            }
        });
        let mut outcomes = f.map(source).window(1).into_iter();
        assert_eq!(
            outcomes.next().and_then(Result::ok),
            Some(0),
            "the first outcome comes before the source gives its second input"
        );
        gate.open();
        assert_eq!(outcomes.count(), 19);
    });
}

#[test]
fn an_input_that_a_source_returns_after_the_end_of_its_map_is_not_accepted() {
    type Plain = Function<u64, u64, std::convert::Infallible>;
    let ends: [fn(&Plain); 2] = [Plain::stop, Plain::drain];
    for end in ends {
        under_each_policy(move |app, policy| {
            let f = numbers_under(policy, app, 1, |n| *n);
            let (send, receive) = std::sync::mpsc::channel::<u64>();
            let asked = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&asked);
            let source = std::iter::from_fn(move || {
                count.fetch_add(1, Ordering::SeqCst);
                receive.recv().ok()
            });
            let mut outcomes = f.map(source).return_exceptions().into_iter();
            send.send(0).expect("the map listens");
            assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
            until("the feeder is stuck in its source", || asked.load(Ordering::SeqCst) == 2);
            end(&f);
            let failure = outcomes.next().expect("the error of the map").expect_err("it is over");
            assert!(failure.is_shut_down(), "{failure:?}");
            assert!(failure.index().is_none(), "{failure:?}");
            assert!(outcomes.next().is_none());
            let ended = outcomes.progress();
            assert_eq!(ended.pulled, 1, "pulled inputs");
            assert_eq!(ended.completed(), 1, "completed inputs");
            send.send(1).expect("the feeder still holds the other end");
            until("the feeder returns", || f.status().feeders == 0);
            assert_eq!(outcomes.progress(), ended);
            assert!(outcomes.next().is_none());
        });
    }
}

/// An iterator that blocks in its drop until the gate is opened.
struct StuckSource {
    inputs: std::ops::Range<u64>,
    gate: Gate,
    drops: Counted,
}

impl Iterator for StuckSource {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        assert!(self.inputs.start < 12, "the source panics");
        self.inputs.next()
    }
}

impl Drop for StuckSource {
    fn drop(&mut self) {
        self.gate.pass();
        assert_eq!(self.drops.0.load(Ordering::SeqCst), 0, "dropped once");
    }
}

#[test]
fn a_map_ends_without_waiting_for_a_source_that_blocks_in_its_drop() {
    unhung(|| {
        let app = App::ephemeral("sources");
        let f = numbers(&app, 2, |n| *n);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.expect("a runtime can be made");
        for (way, end) in [("iterator", 10), ("stream", 10), ("its own runtime", 10), ("panic", 20)] {
            let (gate, drops) = (Gate::default(), Arc::new(AtomicU64::new(0)));
            let source =
                StuckSource { inputs: 0..end, gate: gate.clone(), drops: Counted(Arc::clone(&drops)) };
            let map = match way {
                "stream" => f.map_stream(stream::iter(source)),
                "its own runtime" => {
                    let _inside = runtime.enter();
                    f.map_stream(stream::iter(source))
                }
                _ => f.map(source),
            };
            let outcomes: Vec<_> = map.return_exceptions().into_iter().collect();
            if way == "panic" {
                assert!(matches!(outcomes[12].as_ref().map_err(|f| f.cause()), Err(Cause::Source(_))));
                assert_eq!(outcomes.len(), 13);
            } else {
                assert_eq!(outcomes.into_iter().filter_map(Result::ok).collect::<Vec<_>>().len(), 10);
            }
            assert_eq!(drops.load(Ordering::SeqCst), 0, "{way}: the source is stuck in its drop");
            assert_eq!(f.status().feeders, 1, "{way}: the feeder waits for the drop");
            gate.open();
            until("the feeder returns", || f.status().feeders == 0);
            assert_eq!(
                drops.load(Ordering::SeqCst),
                1,
                "{way}: the source is dropped before the feeder returns"
            );
        }
        // A shutdown waits a second for the feeder, and then reports it as a running thread.
        let (gate, drops) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let source = StuckSource { inputs: 0..10, gate: gate.clone(), drops: Counted(drops) };
        assert_eq!(f.map(source).into_iter().filter(Result::is_ok).count(), 10);
        let report = app.shutdown_blocking();
        assert_eq!(report.functions[0].threads_running, 1, "{report}");
        gate.open();
    });
}

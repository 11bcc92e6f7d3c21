//! Maps: order, failures, windows, laziness, dropping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore::{Cause, Progress};

use crate::support::{Gate, Started, attempt, crash, failing_under, numbers_under, under_each_policy, until};

fn sum_holds(progress: Progress) {
    let ended = progress.ok + progress.failed + progress.poisoned + progress.cancelled + progress.given_up;
    assert_eq!(progress.pulled, ended, "{progress}");
}

#[test]
fn outcomes_come_in_the_order_of_the_inputs() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 4, |n| n + 1);
        let outputs: Result<Vec<u64>, _> = f.map(0..20_000u64).into_iter().collect();
        assert_eq!(outputs.expect("no failure"), (1..=20_000).collect::<Vec<_>>());
    });
}

#[test]
fn an_unordered_map_yields_outcomes_as_they_complete() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = numbers_under(policy, app, 2, move |n| {
            if *n == 0 {
                inside.pass();
            }
            *n
        });
        let mut outcomes = f.map(0..100u64).unordered().into_iter();
        let first: Vec<u64> =
            outcomes.by_ref().take(99).map(|outcome| outcome.expect("infallible")).collect();
        assert!(!first.contains(&0));
        gate.open();
        assert_eq!(outcomes.next().map(|outcome| outcome.expect("infallible")), Some(0));
        assert!(outcomes.next().is_none());
        assert!(outcomes.next().is_none());
        sum_holds(outcomes.progress());
    });
}

#[test]
fn an_empty_input_finishes_at_once() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        assert!(f.map(Vec::new()).into_iter().next().is_none());
        assert!(f.map(std::iter::empty()).into_iter().next().is_none());
        assert!(f.run(Vec::new()).expect("nothing fails").is_empty());
        assert!(f.run_all(Vec::new()).is_empty());
        assert_eq!(f.for_each(Vec::new()).expect("nothing fails").pulled, 0);
    });
}

#[test]
fn the_first_failure_ends_the_map_at_once_and_finished_outputs_can_be_salvaged() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = failing_under(policy, app, 2, move |n| match n {
            // Input 20 is slow, and comes before the one that fails.
            20 => {
                inside.pass();
                Ok(*n)
            }
            60 => Err("sixty"),
            _ => Ok(*n),
        });
        let mut outcomes = f.map(0..100u64).window(64).into_iter();
        let mut yielded = 0;
        let failure = loop {
            match outcomes.next().expect("it ends with the failure") {
                Ok(output) => {
                    assert_eq!(output, yielded);
                    yielded += 1;
                }
                Err(failure) => break failure,
            }
        };
        assert!(yielded <= 20, "the slow input had not returned");
        assert_eq!(failure.index(), Some(60), "index");
        assert_eq!(failure.error(), Some(&"sixty"), "error");
        assert!(outcomes.next().is_none());
        sum_holds(outcomes.progress());
        assert_eq!(outcomes.progress().failed, 1);
        assert!(outcomes.progress().cancelled >= 1, "at least the slow input is cancelled");
        let saved = outcomes.salvage();
        assert!(saved.iter().all(|(index, output)| index == output && *index >= yielded));
        assert!(saved.iter().all(|(index, _)| *index != 20 && *index != 60));
        assert!(
            saved.iter().any(|(index, _)| *index > 20),
            "outputs that finished behind the slow input are not lost"
        );
        gate.open();
    });
}

#[test]
fn fail_in_order_yields_the_failure_at_its_place() {
    under_each_policy(|app, policy| {
        let f = failing_under(policy, app, 3, |n| if n % 40 == 30 { Err("thirty") } else { Ok(*n) });
        let mut outcomes = f.map(0..1_000u64).fail_in_order().into_iter();
        for n in 0..30 {
            assert_eq!(outcomes.next().and_then(Result::ok), Some(n));
        }
        let failure = outcomes.next().expect("a failure").expect_err("the thirtieth");
        assert_eq!(failure.index(), Some(30));
        assert!(outcomes.next().is_none());
        sum_holds(outcomes.progress());
    });
}

#[test]
fn return_exceptions_yields_every_outcome_at_its_place() {
    under_each_policy(|app, policy| {
        let f = app
            .function("f", |n: &u64| match n % 7 {
                3 => Err(n.to_string()),
                5 if attempt() == 1 => crash(),
                _ => Ok(*n),
            })
            .containers(3)
            .restart(policy)
            .started();
        let mut outcomes = f.map(0..700u64).return_exceptions().into_iter();
        for n in 0..700u64 {
            match outcomes.next().expect("each input has an outcome") {
                Ok(output) => assert_eq!(output, n),
                Err(failure) => {
                    assert_eq!(failure.index(), Some(n), "index");
                    assert_eq!(n % 7, 3, "inputs of remainder 3 fail");
                    assert_eq!(failure.error(), Some(&n.to_string()), "error");
                }
            }
        }
        assert!(outcomes.next().is_none());
        sum_holds(outcomes.progress());
    });
}

#[test]
fn nothing_is_pulled_before_the_first_next_and_never_more_than_the_window() {
    under_each_policy(|app, policy| {
        for window in [1, 2, 7, 64] {
            let pulled = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&pulled);
            let source = std::iter::from_fn(move || Some(count.fetch_add(1, Ordering::SeqCst))).take(300);
            let name = format!("f{window}");
            let f = app.infallible(&name, |n: &u64| *n).containers(2).restart(policy.clone()).started();
            let mut outcomes = f.map(source).window(window).into_iter();
            f.ready().expect("it starts");
            assert_eq!(pulled.load(Ordering::SeqCst), 0, "lazy");
            for yielded in 1..=300 {
                outcomes.next().expect("each input has an outcome").expect("infallible");
                let outstanding = pulled.load(Ordering::SeqCst) - yielded;
                assert!(outstanding <= window, "{outstanding} of {window}");
            }
            assert!(outcomes.next().is_none());
        }
    });
}

#[test]
fn containers_fill_the_window_without_further_polls_and_then_stop() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&runs);
        let f = numbers_under(policy, app, 2, move |_| count.fetch_add(1, Ordering::SeqCst));
        let mut outcomes = f.map(0..u64::MAX).window(32).into_iter();
        outcomes.next().expect("endless").expect("infallible");
        until("the window is full", || runs.load(Ordering::SeqCst) == 33);
        // A consumer that pauses stops the pulling. So only the call is executed in addition.
        f.call(0).wait().expect("infallible");
        assert_eq!(runs.load(Ordering::SeqCst), 34);
        assert_eq!(outcomes.progress().pulled, 33);
    });
}

#[test]
fn cheap_inputs_in_a_wide_window_never_stall() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        for _ in 0..50 {
            assert_eq!(f.map(0..50_000u64).into_iter().filter(Result::is_ok).count(), 50_000);
        }
    });
}

#[test]
fn an_endless_map_starves_neither_runs_nor_calls() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |n| *n);
        let handle = f.clone();
        let stop = Gate::default();
        let (stopped, finished) = (stop.clone(), Arc::new(AtomicU64::new(0)));
        let over = Arc::clone(&finished);
        let endless = std::thread::spawn(move || {
            let mut outcomes = handle.map(0..u64::MAX).into_iter();
            while over.load(Ordering::SeqCst) == 0 {
                outcomes.next().expect("endless").expect("infallible");
                stopped.open();
            }
        });
        stop.pass();
        assert_eq!(f.run((0..5_000).collect()).expect("infallible").len(), 5_000);
        for n in 0..50 {
            assert_eq!(f.call(n).wait().expect("infallible"), n);
        }
        finished.store(1, Ordering::SeqCst);
        endless.join().expect("no panic");
    });
}

#[test]
fn dropping_a_map_cancels_it_and_refuses_late_answers() {
    under_each_policy(|app, policy| {
        let (gate, begun) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&begun));
        let f = numbers_under(policy, app, 1, move |n| {
            count.fetch_add(1, Ordering::SeqCst);
            if *n == 1 {
                inside.pass();
            }
            *n
        });
        let mut outcomes = f.map(0..1_000u64).into_iter();
        outcomes.next().expect("the first").expect("infallible");
        until("input 1 executes", || begun.load(Ordering::SeqCst) == 2);
        drop(outcomes);
        gate.open();
        f.call(5).wait().expect("the container is free again");
        until("the cancelled answer is refused", || f.status().late_answers == 1);
        assert_eq!(begun.load(Ordering::SeqCst), 3, "no other input of the map began");
        assert_eq!(f.status().inputs_waiting, 0);
    });
}

#[test]
fn a_dropped_call_is_cancelled() {
    under_each_policy(|app, policy| {
        let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&runs));
        let f = numbers_under(policy, app, 1, move |n| {
            count.fetch_add(1, Ordering::SeqCst);
            if *n == 0 {
                inside.pass();
            }
            *n
        });
        let first = f.call(0);
        until("the first call executes", || runs.load(Ordering::SeqCst) == 1);
        drop(f.call(1));
        gate.open();
        first.wait().expect("infallible");
        f.call(2).wait().expect("infallible");
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_window_out_of_range_is_a_typed_error_and_nothing_is_pulled() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        for window in [0, (1 << 24) + 1] {
            let mut outcomes = f.map(0..10u64).window(window).into_iter();
            let failure = outcomes.next().expect("an error").expect_err("out of range");
            let Cause::Config(error) = failure.cause() else { panic!("{failure:?}") };
            assert!(error.to_string().contains(&window.to_string()), "{error}");
            assert!(outcomes.next().is_none());
        }
    });
}

#[test]
fn progress_is_observable_while_the_map_runs() {
    under_each_policy(|app, policy| {
        let f = failing_under(policy, app, 2, |n| if n % 4 == 1 { Err("one") } else { Ok(*n) });
        let mut outcomes = f.map((0..100u64).collect::<Vec<_>>()).return_exceptions().into_iter();
        assert_eq!(outcomes.progress(), Progress::default());
        let mut last = 0;
        while outcomes.next().is_some() {
            let progress = outcomes.progress();
            assert_eq!(progress.total, Some(100));
            assert!(progress.completed() >= last);
            assert!(progress.completed() <= progress.pulled);
            last = progress.completed();
        }
        let progress = outcomes.progress();
        assert_eq!(progress.ok, 75, "ok inputs");
        assert_eq!(progress.failed, 25, "failed inputs");
        assert_eq!(progress.pulled, 100, "pulled inputs");
    });
}

#[test]
fn a_handle_shows_the_progress_of_a_map_in_another_place_and_after_its_end() {
    under_each_policy(|app, policy| {
        let (began, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (began.clone(), gate.clone());
        let f = numbers_under(policy, app, 1, move |n| {
            if *n == 30 {
                told.open();
                inside.pass();
            }
            *n
        });
        let mut map = f.map((0..100u64).collect::<Vec<_>>()).unordered();
        let before = map.progress_handle();
        assert_eq!(before.get(), Progress::default(), "the map has not begun");
        std::thread::scope(|threads| {
            let consumer = threads.spawn(move || map.into_iter().take_while(Result::is_ok).count());
            began.pass();
            until("what was executed is counted", || before.get().ok >= 30);
            assert_eq!(before.get().total, Some(100));
            assert!(!before.is_ended());
            gate.open();
            assert_eq!(consumer.join().expect("it only counts"), 100);
        });
        assert!(before.is_ended());
        assert_eq!(before.get().ok, 100);
        sum_holds(before.get());

        let mut outcomes = f.map(0..1_000u64).window(8).into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        let (first, second) = (outcomes.progress_handle(), outcomes.progress_handle());
        assert!(first.get().ok > 0, "the map has begun");
        drop(outcomes);
        until("the map is closed", || second.is_ended());
        assert_eq!(first.get(), second.get());
        assert_eq!(second.get().completed(), second.get().ok + second.get().cancelled, "{}", second.get());
        sum_holds(first.get());
    });
}

#[test]
fn a_handle_holds_neither_the_function_nor_its_values() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |n| *n);
        let untyped = f.untyped();
        let mut refused = f.map(0..10u64).window(0);
        let handle = refused.progress_handle();
        assert!(refused.into_iter().next().is_some_and(|outcome| outcome.is_err()), "a window of none");
        assert_eq!(handle.get(), Progress::default());
        assert!(handle.is_ended(), "a map that was refused is over");
        let mut map = f.map(0..10u64);
        let handle = map.progress_handle();
        assert!(!handle.is_ended());
        drop(map);
        assert!(handle.is_ended(), "a map that never begins is over when it is dropped");
        f.stop();
        drop(f);
        until("the function is gone", || untyped.is_gone());
        assert_eq!(handle.get(), Progress::default(), "the map never began");
    });
}

#[test]
fn a_failure_during_a_drain_is_the_error_that_its_map_ends_with() {
    under_each_policy(|app, policy| {
        let (begun, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (begun.clone(), gate.clone());
        let f = failing_under(policy, app, 2, move |n| {
            if *n == 3 {
                told.open();
                inside.pass();
                return Err("three");
            }
            Ok(*n)
        });
        let mut outcomes = f.map(0..1_000u64).window(8).into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        begun.pass();
        f.drain();
        until("the function drains", || f.run(Vec::new()).is_err());
        gate.open();
        let failure = outcomes.by_ref().find_map(Result::err).expect("it ends with an error");
        assert_eq!(failure.index(), Some(3), "index: {failure:?}");
        assert_eq!(failure.input(), Some(&3), "input: {failure:?}");
        assert_eq!(failure.error(), Some(&"three"), "error");
        assert_eq!(failure.attempts(), 1, "attempts");
        assert!(outcomes.next().is_none(), "the map has one error");
        assert_eq!(outcomes.progress().failed, 1);
        sum_holds(outcomes.progress());
    });
}

#[test]
fn a_wide_window_is_full_while_its_first_input_executes() {
    under_each_policy(|app, policy| {
        for fed in [false, true] {
            let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
            let (inside, count) = (gate.clone(), Arc::clone(&runs));
            let f = app
                .infallible(if fed { "fed" } else { "inline" }, move |n: &u64| {
                    count.fetch_add(1, Ordering::SeqCst);
                    if *n == 0 {
                        inside.pass();
                    }
                })
                .containers(4)
                .restart(policy.clone())
                .started();
            let inputs = 0..5_000u64;
            let map = if fed { f.map(inputs.step_by(1)) } else { f.map(inputs) };
            let mut outcomes = map.window(1_000).into_iter();
            let consumer = std::thread::spawn(move || outcomes.next().map(|outcome| outcome.is_ok()));
            until("all inputs of the window have been executed or begun", || {
                runs.load(Ordering::SeqCst) == 1_000
            });
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), Some(true));
        }
    });
}

#[test]
fn maps_of_cheap_inputs_can_be_dropped_at_any_moment_and_the_function_goes_on() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        f.ready().expect("it starts");
        for round in 0..400 {
            let mut outcomes = f.map(0..1_000_000u64).into_iter();
            let taken = outcomes.by_ref().take(round * 7).filter_map(Result::ok).sum::<u64>();
            let taken_of = round as u64 * 7;
            assert_eq!(taken, (0..taken_of).sum::<u64>());
            if round % 2 == 0 {
                outcomes.abort_handle().abort();
                let rest = outcomes.find_map(Result::err).expect("it was aborted");
                assert!(matches!(rest.cause(), Cause::Cancelled), "{rest:?}");
            }
        }
        assert_eq!(f.call(1).wait().expect("the engine is whole"), 1);
    });
}

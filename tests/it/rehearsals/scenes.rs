//! Scenes: code of a test that uses a function in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore::testkit::{ExecutionEnd, Fault};
use longshore::{Cause, ContainerId, RateLimited};

use super::{SECOND, app, attempts};

#[test]
fn an_answer_that_comes_too_late_is_refused() {
    let rehearsal = attempts(&app()).containers(1).rehearse().kills(SECOND, ContainerId::new(0));
    let ((), record) = rehearsal
        .takes_when(|at| (at.attempt == 1).then_some(10 * SECOND))
        .play(async |stage| {
            assert_eq!(stage.function().call(7).await.expect("it is replayed"), 2);
            assert_eq!(stage.now(), SECOND, "virtual time");
            assert_eq!(stage.function().status().late_answers, 0, "late answers");
            stage.sleep(10 * SECOND).await;
            assert_eq!(stage.function().status().late_answers, 1);
        })
        .expect("valid settings");
    let first = &record.executions()[0];
    assert_eq!(first.ended, 10 * SECOND, "end of the first attempt: {record}");
    assert_eq!(first.ending, ExecutionEnd::Late, "ending of the first attempt: {record}");
}

#[test]
fn an_input_is_not_described_because_a_thread_that_was_left_behind_panics() {
    let described = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&described);
    // With this budget the crash of a container that is not left behind would poison the input.
    let builder = attempts(&app()).containers(1).crash_retries(0).describe(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        String::new()
    });
    let rehearsal = builder.rehearse().kills(SECOND, ContainerId::new(0));
    let ((), record) = rehearsal
        .takes_when(|at| Some(if at.map == 0 { 2 * SECOND } else { 10 * SECOND }))
        .fault_when(|at| (at.map == 0).then_some(Fault::Panic))
        .play(async |stage| {
            let killed = stage.function().call(1).await.expect_err("its container is killed");
            assert!(matches!(killed.cause(), Cause::Lost(_)), "{killed}");
            // The thread of the killed container panics a second later, while the next one executes this.
            assert_eq!(stage.function().call(2).await.expect("it is left alone"), 1);
            assert_eq!(stage.now(), 11 * SECOND);
        })
        .expect("valid settings");
    assert_eq!(record.executions()[0].ending, ExecutionEnd::Panicked, "{record}");
    assert_eq!(described.load(Ordering::Relaxed), 0, "{record}");
}

#[test]
fn a_function_serves_its_scene_after_the_scene_has_slept_for_days() {
    let day = 24 * 3600 * SECOND;
    let rehearsal = attempts(&app()).containers(1).rehearse().takes(SECOND);
    let (answers, record) = rehearsal
        .play(async |stage| {
            let first = stage.function().call(1).await;
            stage.sleep(40 * day).await;
            // Two sleeps at once take as long as the longer one.
            futures::join!(stage.sleep(3 * day), stage.sleep(5 * day));
            let naps = async || loop {
                stage.sleep(day).await;
            };
            let last =
                tokio::select! { last = stage.function().call(2) => last, () = naps() => unreachable!() };
            (first.ok(), last.ok(), stage.now())
        })
        .expect("valid settings");
    assert_eq!(answers, (Some(1), Some(1), 45 * day + 2 * SECOND), "{record}");
    assert!(!record.timed_out(), "{record}");
}

#[test]
fn the_limit_of_a_rehearsal_counts_waiting_but_not_sleeping() {
    let day = 24 * 3600 * SECOND;
    let rehearsal = attempts(&app()).containers(1).rehearse().hangs(0, 1);
    let (outcome, record) = rehearsal
        .play(async |stage| {
            stage.sleep(10 * day).await;
            stage.function().call(1).await.map_err(|failure| failure.is_shut_down())
        })
        .expect("valid settings");
    assert_eq!(outcome, Err(true), "{record}");
    assert!(record.timed_out(), "{record}");
    assert!(record.elapsed() >= 11 * day, "{record}");
    assert!(record.elapsed() < 12 * day, "{record}");
}

#[test]
fn a_scene_that_hangs_by_itself_panics_and_names_the_setting_to_change() {
    let scene = || {
        let rehearsal = attempts(&app()).rehearse().for_at_most(SECOND);
        rehearsal.play(async |_| std::future::pending::<()>().await).map(drop)
    };
    let panic = std::thread::spawn(scene).join().expect_err("it panics");
    let message = panic.downcast_ref::<String>().expect("a text");
    assert!(message.contains("goes on for 60s after the 1s"), "{message}");
    assert!(message.contains("for_at_most"), "{message}");
}

#[test]
fn a_scene_calls_maps_kills_and_resets_in_virtual_time() {
    let app = app();
    let policy = RateLimited::new().max_crashes(1).max_failure_rate(0.0);
    let rehearsal = attempts(&app).containers(1).restart(policy).rehearse().takes(SECOND);
    let ((), record) = rehearsal
        .fault_when(|at| (*at.input > 90).then_some(Fault::Panic))
        .play(async |stage| {
            let function = stage.function();
            assert_eq!(function.call(1).await.expect("it is fine"), 1);
            assert_eq!(stage.now(), SECOND);
            assert!(stage.kill(ContainerId::new(0)).await);
            assert!(!stage.kill(ContainerId::new(7)).await);
            assert!(!stage.reset().await, "it has not given up");
            let poisoned = function.call(99).await.expect_err("it always crashes");
            assert!(poisoned.is_poisoned(), "an input counts once: {poisoned}");
            let given_up = function.call(98).await.expect_err("a second one is too many");
            assert!(matches!(given_up.cause(), Cause::GaveUp(_)), "{given_up}");
            assert!(function.status().gave_up.is_some());
            assert!(stage.reset().await);
            assert_eq!(function.run_async(vec![1, 2]).await.expect("it works again"), [1, 1]);
            let refused = function.call(1).wait().expect_err("what blocks is refused");
            assert!(matches!(refused.cause(), Cause::WouldDeadlock));
            let total = futures::stream::iter(0..3);
            assert_eq!(function.for_each_async(total).await.expect("a stream is a source").ok, 3);
            let fed = (0..4u64).filter(|n| n % 2 == 0);
            assert_eq!(function.map(fed).progress().pulled, 0);
        })
        .expect("valid settings");
    assert!(record.report().threads_running == 0, "{record}");
}

#[test]
fn the_record_lists_everything_in_order_and_recording_takes_no_virtual_time() {
    let rehearsal = attempts(&app()).containers(1).rehearse().panics(1, 1);
    let ((), record) = rehearsal
        .play(async |stage| {
            let first = stage.function().run_all_async((0..3).collect()).await;
            let second = stage.function().call(7).await;
            assert!(first.iter().all(Result::is_ok));
            assert!(second.is_ok());
            assert_eq!(stage.now(), Duration::ZERO, "recording takes no virtual time");
        })
        .expect("valid settings");
    let expected = "\
        0#1 enters|0#1 has entered|0#1 map 0 input 0 attempt 1 begins|0#1 map 0 input 0 attempt 1: Completed|\
        0#1 map 0 input 1 attempt 1 begins|0#1 map 0 input 1 attempt 1: Panicked|crash: container 0#1 (input 1, \
        attempt 1)|0#2 enters|0#2 has entered|";
    let lines = record
        .to_string()
        .lines()
        .map(|line| line.trim_start_matches([' ', '0']).replace("ns  ", ""))
        .fold(String::new(), |lines, line| match line.split_once(" panicked at") {
            Some((crash, _)) => lines + crash + "|",
            None => lines + &line + "|",
        });
    let expected = expected.replace("0#", "#");
    assert!(lines.replace("0#", "#").starts_with(&expected), "{lines}\n{expected}");
    assert!(
        record.executions().iter().any(|execution| (execution.map, execution.input) == (1, 0)),
        "{record}"
    );
}

#[test]
fn a_panic_of_the_scene_ends_the_rehearsal_with_the_same_message() {
    let scene = std::thread::spawn(|| {
        attempts(&app())
            .rehearse()
            .play(async |stage| assert!(stage.now() > SECOND, "no time has passed"))
            .map(drop)
    });
    let panic = scene.join().expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"no time has passed"));
}

/// 8.6
#[test]
fn those_who_reserve_are_served_in_turn_in_virtual_time() {
    let rehearsal = attempts(&app()).containers(1).calls_max(1).rehearse().takes(SECOND);
    let (served, record) = rehearsal
        .play(async |stage| {
            let call = async |n: u64| {
                let permit = stage.function().reserve().await.expect("it takes work");
                permit.call(n).await.map(|_| (n, stage.now()))
            };
            let (first, second, third) = futures::join!(call(1), call(2), call(3));
            [first, second, third].map(|outcome| outcome.expect("it works"))
        })
        .expect("valid settings");
    assert_eq!(served, [(1, SECOND), (2, 2 * SECOND), (3, 3 * SECOND)], "{record}");
}

/// 8.8
#[test]
fn a_paused_function_waits_for_days_and_goes_on_where_it_was() {
    let day = 24 * 3600 * SECOND;
    let rehearsal = attempts(&app()).containers(2).rehearse().takes(SECOND);
    let (answers, record) = rehearsal
        .play(async |stage| {
            let function = stage.function();
            let calls = futures::future::join_all((0..6).map(|n| function.call(n)));
            let pauses = async {
                stage.sleep(SECOND / 2).await;
                assert!(function.pause());
                stage.sleep(day).await;
                assert_eq!((function.status().executing, function.status().inputs_waiting), (0, 4));
                assert!(function.resume());
            };
            let (outcomes, ()) = futures::join!(calls, pauses);
            outcomes.into_iter().filter(Result::is_ok).count()
        })
        .expect("valid settings");
    assert_eq!(answers, 6, "{record}");
    let begun = record.executions().iter().map(|execution| execution.began);
    let in_between = begun.filter(|at| (SECOND / 2..day).contains(at)).count();
    assert_eq!(in_between, 0, "{record}");
}

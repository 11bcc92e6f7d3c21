//! Rehearsals of timeouts, deadlines and timeouts of `enter`, in virtual time.

use std::time::Duration;

use longshore::testkit::{EnterFault, Entered, ExecutionEnd, Record};
use longshore::{App, Builder, Cause, CrashLoopBackoff, Death, Event, Failure, Limits, RateLimited, Retries};

use super::{MS, SECOND, app, attempt, attempts};

/// An async function whose output is the number of its attempt.
fn waits(app: &App) -> Builder<u64, u64, u8> {
    app.function_async("waits", async |_: &u64| Ok(u64::from(attempt())))
}

fn retries(times: u32) -> Retries {
    Retries::new(times).initial_delay(SECOND).backoff_coefficient(1.0)
}

fn timed_out(outcome: &Result<u64, Failure<u64, u8>>) -> Option<Duration> {
    match outcome.as_ref().err()?.cause() {
        Cause::TimedOut { limit } => Some(*limit),
        _ => None,
    }
}

/// The length of the deadline that the input has missed, and the error of its last failed attempt.
fn past_deadline(outcome: &Result<u64, Failure<u64, u8>>) -> Option<(Duration, Option<u8>)> {
    match outcome.as_ref().err()?.cause() {
        Cause::DeadlineExceeded { limit, last } => Some((*limit, *last)),
        _ => None,
    }
}

/// When the executions of an input began and ended.
fn times(record: &Record, input: u64) -> Vec<(Duration, Duration)> {
    let executions = record.executions().iter().filter(|execution| execution.input == input);
    executions.map(|execution| (execution.began, execution.ended)).collect()
}

#[test]
fn code_that_hangs_ends_by_its_timeout_and_is_retried_after_the_delay() {
    let builder = waits(&app()).containers(1).timeout(2 * SECOND).retries(retries(1));
    let (outcomes, record) = builder.rehearse().hangs(1, 1).run(0..3).expect("valid settings");
    let outputs: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.expect("it is retried")).collect();
    assert_eq!(outputs, [1, 2, 1], "{record}");
    assert_eq!(times(&record, 1), [(Duration::ZERO, 2 * SECOND), (3 * SECOND, 3 * SECOND)], "{record}");
    assert_eq!(record.executions()[1].ending, ExecutionEnd::Dropped);
    assert_eq!((record.crashes().count(), record.restarts()), (0, 0), "{record}");
}

#[test]
fn one_future_among_many_is_dropped_at_its_timeout_and_the_others_take_their_time() {
    let builder = waits(&app()).containers(1).concurrent_inputs(4).timeout(2 * SECOND);
    let rehearsal = builder.rehearse().hangs(1, 1).takes(SECOND * 3 / 2);
    let (outcomes, record) = rehearsal.run(0..8).expect("valid settings");
    assert_eq!(outcomes.iter().filter_map(timed_out).collect::<Vec<_>>(), [2 * SECOND], "{record}");
    assert_eq!(times(&record, 1), [(Duration::ZERO, 2 * SECOND)]);
    assert_eq!(times(&record, 2), [(Duration::ZERO, SECOND * 3 / 2)]);
    assert_eq!(record.crashes().count(), 0, "{record}");
    assert!((0..8).all(|input| record.attempts(input) == 1));
}

#[test]
fn synchronous_code_that_hangs_is_left_behind_after_its_grace() {
    let builder = attempts(&app()).containers(1).timeout(2 * SECOND).retries(retries(1));
    let builder = builder.restart(RateLimited::never());
    let (outcomes, record) = builder.rehearse().hangs(1, 1).run(0..3).expect("valid settings");
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
    let crashes: Vec<_> = record.crashes().collect();
    let [(at, crash)] = &crashes[..] else { panic!("one crash: {record}") };
    assert!(matches!(crash.death, Death::Unresponsive), "{crash}");
    assert_eq!(*at, 2 * SECOND + 50 * MS, "{record}");
    assert_eq!(times(&record, 1)[1].0, 3 * SECOND, "the delay runs from the timeout");
    assert_eq!(times(&record, 2)[0].0, 2 * SECOND + 50 * MS, "the next generation begins at once");
}

#[test]
fn a_function_that_drains_gives_up_once_the_only_container_that_is_left_hangs() {
    let builder = attempts(&app()).containers(3).abandoned_max(1).timeout(SECOND);
    let builder = builder.restart(RateLimited::new());
    let ((), record) = builder
        .rehearse()
        .hangs(0, 1)
        .play(async |stage| {
            // The first call leaves its thread behind, and the second one hangs in a container that is kept.
            for _ in 0..2 {
                let call = stage.function().call(7).await.expect_err("it hangs");
                assert!(call.is_timed_out(), "{call}");
                stage.sleep(SECOND).await;
            }
            let containers = stage.function().status().containers;
            assert_eq!((containers.hung, containers.abandoned), (1, 1));
            assert!(stage.function().status().gave_up.is_none(), "the third container serves");
        })
        .expect("valid settings");
    // The third container leaves at the drain. The next look at the hung one finds that no other is left.
    let gave_up = record.events().iter().filter(|(_, event)| matches!(event, Event::GaveUp(_)));
    let moments: Vec<Duration> = gave_up.map(|(at, _)| *at).collect();
    assert_eq!(moments, [4 * SECOND + 50 * MS], "{record}");
}

#[test]
fn the_next_attempt_begins_when_the_code_of_the_last_one_has_come_out() {
    let no_delay = Retries::new(1).initial_delay(Duration::ZERO);
    let builder = attempts(&app()).containers(2).timeout(2 * SECOND).retries(no_delay);
    let takes = |at: &longshore::testkit::At<'_, u64>| (at.attempt == 1).then_some(2 * SECOND + 30 * MS);
    let (outcomes, record) = builder.rehearse().takes_when(takes).run([7]).expect("valid settings");
    assert!(matches!(outcomes[..], [Ok(2)]), "{record}");
    assert_eq!(times(&record, 0)[1].0, 2 * SECOND + 30 * MS, "{record}");
    assert_eq!(record.executions()[0].ending, ExecutionEnd::Late);
    assert_eq!(record.crashes().count(), 0);
}

#[test]
fn the_clock_of_an_attempt_starts_when_the_code_gets_the_input() {
    // The start of the container and the time in the queue do not count.
    let rehearsal = waits(&app()).containers(1).timeout(2 * SECOND).rehearse().takes(SECOND * 3 / 2);
    let slow_start = |at: &longshore::testkit::Entering| (at.nth == 1).then_some(EnterFault::Fail);
    let (outcomes, record) = rehearsal.enter_fault_when(slow_start).run(0..20).expect("valid settings");
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
    assert_eq!(record.elapsed(), 30 * SECOND, "each waits for those before it: {record}");

    // The time in which a batch forms does not count either.
    let ((), record) = app()
        .batch("sizes", |inputs: &[&u64]| vec![Ok::<u64, u8>(inputs.len() as u64); inputs.len()])
        .batch_size(4)
        .batch_wait(5 * SECOND)
        .containers(1)
        .timeout(2 * SECOND)
        .rehearse()
        .takes(SECOND)
        .play(async |stage| {
            let size = stage.function().call(1).await.expect("it waits for others, and not for its limit");
            assert_eq!((size, stage.now()), (1, 6 * SECOND));
        })
        .expect("valid settings");
    assert_eq!(record.status().crashes, 0, "{record}");
}

#[test]
fn a_time_out_spends_a_retry_and_nothing_of_the_crash_budget() {
    // With `crash_retries(0)` nothing is executed again after a crash, and a time-out is no crash.
    let builder = waits(&app()).containers(1).timeout(2 * SECOND).crash_retries(0).retries(retries(2));
    let (outcomes, record) = builder.rehearse().hangs(0, 1).hangs(0, 2).run([0]).expect("valid settings");
    assert!(matches!(outcomes[..], [Ok(3)]), "{record}");
}

#[test]
fn an_attempt_that_ends_at_its_limit_is_in_time() {
    for (takes, ok) in [(2 * SECOND - MS, true), (2 * SECOND + MS, false)] {
        let rehearsal = waits(&app()).containers(1).timeout(2 * SECOND).rehearse().takes(takes);
        let (outcomes, record) = rehearsal.run([0]).expect("valid settings");
        assert_eq!(outcomes[0].is_ok(), ok, "{record}");
    }
}

#[test]
fn a_deadline_ends_what_executes_and_what_waits_behind_it() {
    let builder = waits(&app()).containers(1).deadline(5 * SECOND).retries(retries(9));
    let (outcomes, record) = builder.rehearse().takes(2 * SECOND).run(0..4).expect("valid settings");
    let past: Vec<_> = outcomes.iter().map(past_deadline).collect();
    let exceeded = Some((5 * SECOND, None));
    assert_eq!(past, [None, None, exceeded, exceeded], "{record}");
    let attempts: Vec<u32> =
        outcomes.iter().filter_map(|outcome| Some(outcome.as_ref().err()?.attempts())).collect();
    assert_eq!(attempts, [1, 0], "the third one was executing, and the fourth one never began");
    assert_eq!(record.elapsed(), 5 * SECOND, "{record}");
}

#[test]
fn a_retry_that_would_be_due_at_the_deadline_is_not_waited_for() {
    for (deadline, attempts, elapsed) in [(2 * SECOND, 2, SECOND), (2 * SECOND + MS, 3, 2 * SECOND)] {
        let builder = waits(&app()).containers(1).deadline(deadline).retries(retries(9));
        let (outcomes, record) = builder
            .rehearse()
            .fault_when(|at| Some(longshore::testkit::Fault::Fail(at.attempt as u8)))
            .run([0])
            .expect("valid");
        assert_eq!(past_deadline(&outcomes[0]), Some((deadline, Some(attempts))), "{record}");
        assert_eq!(record.elapsed(), elapsed, "{record}");
    }
}

#[test]
fn a_deadline_that_passes_while_an_input_is_executed_again_shows_its_last_error() {
    let builder = waits(&app()).containers(1).deadline(5 * SECOND).retries(retries(9));
    let rehearsal = builder.rehearse().fails(0, 1, || 7).hangs(0, 2);
    let (outcomes, record) = rehearsal.run([0]).expect("valid settings");
    assert_eq!(past_deadline(&outcomes[0]), Some((5 * SECOND, Some(7))), "{record}");
    assert_eq!(times(&record, 0), [(Duration::ZERO, Duration::ZERO), (SECOND, 5 * SECOND)]);
}

#[test]
fn a_deadline_passes_inside_a_crash_loop_delay_and_in_a_paused_function() {
    let backoff = CrashLoopBackoff::new().initial(20 * SECOND).max(60 * SECOND).reset_after(60 * SECOND);
    let builder = waits(&app()).containers(1).restart(backoff);
    let ((), record) = builder
        .rehearse()
        .down(Duration::ZERO..30 * SECOND)
        .play(async |stage| {
            let f = stage.function();
            let failure = f.call_within(1, Limits::new().deadline(5 * SECOND)).await.expect_err("it is down");
            assert!(failure.is_past_deadline() && failure.attempts() == 0, "{failure:?}");
            assert_eq!(stage.now(), 5 * SECOND);
            f.ready_async().await.expect("it recovers");
            let ready = stage.now();
            f.pause();
            let failure =
                f.call_within(1, Limits::new().deadline(5 * SECOND)).await.expect_err("it is paused");
            assert!(failure.is_past_deadline() && failure.attempts() == 0, "{failure:?}");
            assert_eq!(stage.now(), ready + 5 * SECOND);
        })
        .expect("valid settings");
    assert!(record.crashes().count() >= 2, "{record}");
}

#[test]
fn the_first_deadline_of_a_map_ends_it_unless_its_failures_are_outcomes() {
    let ((), record) = waits(&app())
        .containers(1)
        .rehearse()
        .takes(2 * SECOND)
        .play(async |stage| {
            let f = stage.function();
            let mut map = f.map(0..10).deadline(5 * SECOND);
            let mut outcomes = Vec::new();
            while let Some(outcome) = futures::StreamExt::next(&mut map).await {
                outcomes.push(outcome);
            }
            assert_eq!(outcomes.len(), 3);
            assert!(outcomes[..2].iter().all(Result::is_ok));
            assert_eq!(past_deadline(&outcomes[2]), Some((5 * SECOND, None)));
            assert_eq!(stage.now(), 5 * SECOND);
            let progress = map.progress();
            assert_eq!((progress.ok, progress.failed, progress.cancelled), (2, 1, 7), "{progress:?}");
        })
        .expect("valid settings");
    assert_eq!(record.crashes().count(), 0);
}

#[test]
fn an_enter_that_takes_too_long_is_a_failed_start() {
    for builder in [waits(&app()), attempts(&app())] {
        let builder = builder.containers(1).enter_timeout(2 * SECOND).restart(RateLimited::never());
        let hangs = |at: &longshore::testkit::Entering| (at.nth == 1).then_some(EnterFault::Hang);
        let (outcomes, record) = builder.rehearse().enter_fault_when(hangs).run([0]).expect("valid settings");
        assert!(matches!(outcomes[..], [Ok(1)]), "{record}");
        let crashes: Vec<_> = record.crashes().collect();
        let [(at, crash)] = &crashes[..] else { panic!("one crash: {record}") };
        assert!(matches!(crash.death, Death::EnterTimedOut { limit, .. } if limit == 2 * SECOND), "{crash}");
        assert_eq!(*at, 2 * SECOND);
        assert!(matches!(record.starts()[1].entered, Some((_, Entered::Well))), "{record}");
    }
}

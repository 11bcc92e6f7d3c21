//! Rehearsals of batches.

use longshore::testkit::{ExecutionEnd, Record};
use longshore::{App, Builder, Cause, ContainerId, Death, RateLimited, Retries};

use super::{MS, SECOND, app, attempt, poisoned};

/// A function of batches. The output of an input is the number of inputs of its batch.
fn sizes(app: &App) -> Builder<u64, u64, u8> {
    app.batch("sizes", |inputs: &[&u64]| vec![Ok(inputs.len() as u64); inputs.len()])
}

/// The inputs of each batch, in the order of execution.
fn batches(record: &Record) -> Vec<Vec<u64>> {
    let inputs = |batch: Vec<&longshore::testkit::Execution>| batch.into_iter().map(|it| it.input).collect();
    record.batches().into_iter().map(inputs).collect()
}

#[test]
fn the_record_shows_the_batches_as_they_were_executed() {
    let rehearsal = sizes(&app()).containers(1).batch_size(4).rehearse().takes(SECOND);
    let (outcomes, record) = rehearsal.run(0..10).expect("valid settings");
    assert_eq!(batches(&record), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]], "{record}");
    assert!(outcomes[..8].iter().all(|outcome| matches!(outcome, Ok(4))));
    assert!(outcomes[8..].iter().all(|outcome| matches!(outcome, Ok(2))));
    assert_eq!(record.elapsed(), 3 * SECOND, "a batch takes as long as its slowest input");
}

#[test]
fn a_batch_is_halved_until_the_guilty_input_is_alone() {
    for memory in [false, true] {
        let builder =
            sizes(&app()).containers(1).batch_size(8).crash_retries(1).restart(RateLimited::never());
        let rehearsal = builder.rehearse().takes(SECOND);
        let rehearsal = if memory {
            (1..=9).fold(rehearsal, |rehearsal, attempt| rehearsal.exceeds_memory(5, attempt))
        } else {
            rehearsal.always_panics(5)
        };
        let (outcomes, record) = rehearsal.run(0..8).expect("valid settings");
        let expected = [
            vec![0, 1, 2, 3, 4, 5, 6, 7],
            vec![0, 1, 2, 3],
            vec![4, 5, 6, 7],
            vec![4, 5],
            vec![6, 7],
            vec![4],
        ];
        assert_eq!(batches(&record)[..6], expected, "{record}");
        assert_eq!(batches(&record)[6..], [[5], [5]], "it is alone, and pays for both");
        for (at, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(size) => assert!(at != 5 && *size < 8),
                Err(failure) => {
                    let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
                    assert_eq!((at, deaths.len()), (5, 2));
                    let by_memory = |death: &Death| matches!(death, Death::MemoryLimit { .. });
                    assert!(deaths.iter().all(|crash| by_memory(&crash.death) == memory));
                }
            }
        }
    }
}

#[test]
fn an_input_that_fails_by_script_leaves_the_others_to_the_code() {
    let retries = Retries::new(1).initial_delay(SECOND);
    let rehearsal = sizes(&app()).containers(1).batch_size(4).retries(retries).rehearse().takes(SECOND);
    let (outcomes, record) = rehearsal.fails(2, 1, || 7).run(0..4).expect("valid settings");
    let outputs: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.expect("it is retried")).collect();
    assert_eq!(outputs, [3, 3, 1, 3], "{record}");
    assert_eq!(batches(&record), [vec![0, 1, 2, 3], vec![2]]);
    assert_eq!(record.delays(2), [SECOND]);
}

#[test]
fn a_batch_waits_for_calls_until_it_is_full_or_its_time_has_passed() {
    let builder = sizes(&app()).containers(2).batch_size(3).batch_wait(10 * SECOND);
    let scene = async |stage: &longshore::testkit::Stage<u64, u64, u8>| {
        let f = stage.function();
        let first = f.call(0);
        stage.sleep(2 * SECOND).await;
        let second = f.call(1);
        assert_eq!((first.await.expect("it returns"), stage.now()), (2, 10 * SECOND));
        assert_eq!(second.await.expect("they share a batch"), 2);
        let three = [f.call(0), f.call(1), f.call(2)];
        for call in three {
            assert_eq!(call.await.expect("it returns"), 3);
        }
        assert_eq!(stage.now(), 10 * SECOND, "a full batch does not wait");
    };
    let ((), record) = builder.rehearse().play(scene).expect("valid settings");
    assert_eq!(batches(&record), [vec![0, 0], vec![0, 0, 0]], "each call has index 0");
}

#[test]
fn a_retry_that_is_not_due_is_not_waited_for_and_one_that_is_due_joins_a_batch() {
    let retries = Retries::new(1).initial_delay(3 * SECOND);
    let builder = sizes(&app()).containers(1).batch_size(4).batch_wait(10 * SECOND).retries(retries);
    let rehearsal = builder.rehearse().takes(SECOND).fails(1, 1, || 7);
    let (_, record) = rehearsal.run(0..6).expect("valid settings");
    assert_eq!(batches(&record), [vec![0, 1, 2, 3], vec![4, 5], vec![1]], "{record}");
    assert_eq!(record.elapsed(), 5 * SECOND, "neither batch waited for ten seconds");
}

#[test]
fn a_batch_that_hangs_is_killed_by_hand_and_replayed_as_a_whole() {
    let rehearsal = sizes(&app()).containers(1).batch_size(4).rehearse().takes(SECOND).hangs(2, 1);
    let rehearsal = rehearsal.kills(5 * SECOND, ContainerId::new(0));
    let (outcomes, record) = rehearsal.run(0..4).expect("valid settings");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(4))), "{record}");
    assert_eq!(batches(&record), [[0, 1, 2, 3], [0, 1, 2, 3]]);
    assert!(
        record.batches()[0].iter().all(|execution| execution.ending == ExecutionEnd::Unended),
        "{record}"
    );
    assert_eq!(record.crashes().count(), 0);
}

#[test]
fn an_async_batch_is_dropped_when_its_container_is_killed() {
    let code = async |inputs: &[&u64]| vec![Ok::<_, u8>(u64::from(attempt())); inputs.len()];
    let builder = app().batch_async("f", code).containers(1).batch_size(4);
    let rehearsal = builder.rehearse().takes(10 * SECOND).kills(5 * SECOND, ContainerId::new(0));
    let (outcomes, record) = rehearsal.run(0..4).expect("valid settings");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(2))), "{record}");
    assert!(record.batches()[0].iter().all(|execution| execution.ending == ExecutionEnd::Dropped));
    assert_eq!(record.elapsed(), 15 * SECOND);
}

#[test]
fn a_container_that_dies_after_an_input_has_completed_the_whole_batch() {
    let rehearsal = sizes(&app()).containers(1).batch_size(4).rehearse().takes(MS).dies_after(1);
    let (outcomes, record) = rehearsal.run(0..8).expect("valid settings");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(4))), "{record}");
    assert_eq!((batches(&record).len(), record.restarts()), (2, 1));
    assert!(outcomes.iter().all(|outcome| poisoned(outcome).is_none()));
}

#[test]
fn the_timeout_of_a_batch_halves_it_until_the_slow_input_is_alone_and_fails() {
    for waits in [false, true] {
        let code = |inputs: &[&u64]| vec![Ok::<_, u8>(inputs.len() as u64); inputs.len()];
        let builder = match waits {
            false => app().batch("f", code),
            true => app().batch_async("f", async move |inputs: &[&u64]| code(inputs)),
        };
        let builder = builder.containers(1).batch_size(4).timeout(10 * SECOND).restart(RateLimited::never());
        // The code of input 2 takes a second more than it may.
        let rehearsal =
            builder.rehearse().takes_when(|at| (at.index == 2).then_some(11 * SECOND)).takes(SECOND);
        let (outcomes, record) = rehearsal.run(0..4).expect("valid settings");
        let executed = batches(&record);
        assert_eq!(executed, [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3], vec![2], vec![3]], "{record}");
        for (at, outcome) in outcomes.iter().enumerate() {
            let timed_out = outcome.as_ref().is_err_and(
                |failure| matches!(failure.cause(), Cause::TimedOut { limit } if *limit == 10 * SECOND),
            );
            assert_eq!(timed_out, at == 2, "{record}");
        }
        assert_eq!(outcomes[2].as_ref().expect_err("it timed out").attempts(), 3);
    }
}

#[test]
fn inputs_with_different_timeouts_do_not_share_a_batch() {
    let builder = sizes(&app()).containers(1).batch_size(8).batch_wait(SECOND).timeout(60 * SECOND);
    let scene = async |stage: &longshore::testkit::Stage<u64, u64, u8>| {
        let f = stage.function();
        let calls = [f.call(0), f.call(1)];
        let short = f.call_within(2, longshore::Limits::new().timeout(5 * SECOND));
        let mut outputs = Vec::new();
        for call in calls.into_iter().chain([short]) {
            outputs.push(call.await.expect("it returns"));
        }
        outputs
    };
    let (outputs, record) = builder.rehearse().takes(MS).play(scene).expect("valid settings");
    assert_eq!(outputs, [2, 2, 1], "{record}");
}

#[test]
fn a_deadline_ends_its_input_only_and_the_rest_of_the_batch_goes_on() {
    let builder = sizes(&app()).containers(1).batch_size(3).batch_wait(SECOND);
    let scene = async |stage: &longshore::testkit::Stage<u64, u64, u8>| {
        let f = stage.function();
        let urgent = f.call_within(0, longshore::Limits::new().deadline(5 * SECOND));
        let calls = [f.call(1), f.call(2)];
        let failure = urgent.await.expect_err("its deadline passes");
        assert!(matches!(failure.cause(), Cause::DeadlineExceeded { .. }), "{failure}");
        assert_eq!(stage.now(), 5 * SECOND);
        for call in calls {
            assert_eq!(call.await.expect("it returns"), 3);
        }
        assert_eq!(stage.now(), 10 * SECOND);
    };
    let ((), record) = builder.rehearse().takes(10 * SECOND).play(scene).expect("valid settings");
    assert_eq!(record.batches().len(), 1, "{record}");
    assert_eq!(record.crashes().count(), 0, "{record}");
}

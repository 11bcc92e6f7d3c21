//! Rehearsals of containers with many inputs in flight.

use longshore::testkit::{ExecutionEnd, Record};
use longshore::{App, Builder, ConcurrentWorker, ContainerId, Context, Death, RateLimited};

use super::{MS, SECOND, app, attempt, poisoned};

/// A function without state whose output is the number of its attempt.
fn function(app: &App) -> Builder<u64, u64, u8> {
    app.function_async("function", async |_: &u64| Ok(u64::from(attempt())))
}

/// The same with a state that its inputs share.
struct Shared;

impl ConcurrentWorker for Shared {
    type Input = u64;
    type Output = u64;
    type Error = u8;

    async fn call(&self, _: &u64, context: &Context) -> Result<u64, u8> {
        Ok(u64::from(context.attempt().get()))
    }
}

fn worker(app: &App) -> Builder<u64, u64, u8> {
    app.worker_concurrent("worker", async |_: &Context| Ok(Shared))
}

/// The largest number of executions at the same moment.
fn most_at_once(record: &Record) -> usize {
    let executions = record.executions();
    let at_once = |at| executions.iter().filter(|other| other.began <= at && at < other.ended).count();
    executions.iter().map(|execution| at_once(execution.began)).max().unwrap_or(0)
}

#[test]
fn as_many_inputs_as_were_asked_for_execute_at_once() {
    for builder in [function(&app()), worker(&app())] {
        let rehearsal = builder.containers(2).concurrent_inputs(10).rehearse().takes(SECOND);
        let (outcomes, record) = rehearsal.run(0..100).expect("valid settings");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(1))), "{record}");
        assert_eq!(record.elapsed(), 5 * SECOND, "{record}");
        assert_eq!(most_at_once(&record), 20);
    }
}

#[test]
fn the_others_of_a_function_go_on_beside_a_panic_and_those_of_a_worker_are_replayed() {
    let rehearse = |builder: Builder<u64, u64, u8>| {
        let rehearsal = builder.containers(1).concurrent_inputs(4).rehearse();
        // Input 2 panics after half a second, while the others are at half of their time.
        let rehearsal = rehearsal.takes_when(|at| (at.index == 2).then_some(SECOND / 2)).takes(SECOND);
        rehearsal.panics(2, 1).run(0..4).expect("valid settings")
    };
    let (outcomes, record) = rehearse(function(&app()));
    let attempts = |outcomes: &[Result<u64, _>]| {
        Vec::from_iter(outcomes.iter().map(|outcome| *outcome.as_ref().expect("it is replayed")))
    };
    assert_eq!(attempts(&outcomes), [1, 1, 2, 1], "{record}");
    assert_eq!(record.restarts(), 0, "the container lives on");
    assert_eq!(record.elapsed(), SECOND, "{record}");
    let (outcomes, record) = rehearse(worker(&app()));
    assert_eq!(attempts(&outcomes), [2, 2, 2, 2], "{record}");
    assert_eq!(record.restarts(), 1);
    // The innocent are replayed together, and the suspect before or after them, alone.
    assert_eq!(record.elapsed(), 2 * SECOND, "{record}");
}

#[test]
fn poison_among_many_costs_its_own_crashes_only() {
    for builder in [function(&app()), worker(&app())] {
        let builder =
            builder.containers(2).concurrent_inputs(8).crash_retries(2).restart(RateLimited::never());
        let (outcomes, record) =
            builder.rehearse().takes(MS).always_panics(5).run(0..64).expect("valid settings");
        assert_eq!(poisoned(&outcomes[5]), Some(3), "{record}");
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
        assert_eq!(record.crashes().count(), 3, "{record}");
    }
}

#[test]
fn an_input_that_exceeds_the_memory_beside_others_pays_only_when_it_is_alone() {
    let builder = function(&app()).containers(1).concurrent_inputs(4).crash_retries(1);
    let rehearsal = builder.restart(RateLimited::never()).rehearse().takes(MS);
    let rehearsal = rehearsal.exceeds_memory(1, 1).exceeds_memory(1, 2);
    let (outcomes, record) = rehearsal.run(0..4).expect("valid settings");
    assert_eq!(outcomes[1].as_ref().ok(), Some(&3), "the first was free: {record}");
    assert_eq!(record.restarts(), 0, "the container lives on: {record}");
    assert!(record.crashes().all(|(_, crash)| matches!(crash.death, Death::MemoryLimit { .. })));
}

#[test]
fn a_kill_drops_all_in_flight_at_once() {
    let builder = function(&app()).containers(1).concurrent_inputs(4);
    let rehearsal =
        builder.rehearse().hangs(0, 1).hangs(1, 1).hangs(2, 1).kills(5 * SECOND, ContainerId::new(0));
    let (outcomes, record) = rehearsal.run(0..3).expect("valid settings");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(2))), "{record}");
    assert_eq!(record.elapsed(), 5 * SECOND, "{record}");
    assert!(
        record
            .executions()
            .iter()
            .filter(|one| one.attempt == 1)
            .all(|one| one.ending == ExecutionEnd::Dropped)
    );
}

#[test]
fn a_rehearsal_with_many_in_flight_gives_the_same_record_each_time() {
    let record = || {
        let builder = worker(&app()).containers(3).concurrent_inputs(5).restart(RateLimited::never());
        let rehearsal = builder.rehearse().takes_when(|at| Some(MS * (1 + at.index as u32 * 7 % 5)));
        let rehearsal = rehearsal.panics(7, 1).panics(30, 1).fails(9, 1, || 3);
        rehearsal.run(0..60).expect("valid settings").1.to_string()
    };
    assert_eq!(record(), record());
}

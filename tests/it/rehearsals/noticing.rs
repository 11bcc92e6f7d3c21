//! How late the engine notices a limit of time, measured in virtual time. The supervisor and its timers are
//! the real ones, so only the slices of the system's scheduler are absent.

use std::time::Duration;

use futures::StreamExt;
use longshore::testkit::{At, ExecutionEnd, Fault, Stage};
use longshore::{App, Builder, Limits, RateLimited};
use tokio::time::advance;

use super::{app, attempt, attempts};

/// The engine notices a limit within this time. (8.2)
const NOTICED: Duration = Duration::from_millis(2);

/// Limits of many lengths. Few of them are whole milliseconds, which is the unit of the runtime's timers.
fn limits() -> impl Iterator<Item = Duration> {
    (0..60).map(|n| Duration::from_millis(1) + n * Duration::from_micros(331))
}

/// An async function whose output is the number of its attempt.
fn waits(app: &App) -> Builder<u64, u64, u8> {
    app.function_async("waits", async |_: &u64| Ok(u64::from(attempt())))
}

/// A function of batches that returns at once.
fn batches(app: &App) -> Builder<u64, u64, u8> {
    app.batch("batches", |inputs: &[&u64]| vec![Ok(0); inputs.len()]).batch_size(4)
}

fn hangs(_: &At<'_, u64>) -> Option<Fault<u8>> {
    Some(Fault::Hang)
}

/// Lets a part of a millisecond pass, another one for each call.
async fn some_time_passes(call: usize) {
    advance(Duration::from_micros(call as u64 * 271 % 1_000)).await;
}

/// Asserts that something was noticed at its moment, or within [`NOTICED`] after it.
fn is_in_time(at: Duration, moment: Duration, what: &str) {
    let late = at.checked_sub(moment).unwrap_or_else(|| panic!("{what}: {:?} too early", moment - at));
    assert!(late <= NOTICED, "{what}: {late:?} late");
}

#[test]
fn a_timeout_is_noticed_within_two_milliseconds_in_code_of_each_kind() {
    let kinds = [
        ("in a task", waits(&app())),
        ("among many in flight", waits(&app()).concurrent_inputs(64)),
        ("synchronous", attempts(&app())),
        ("a batch", batches(&app())),
    ];
    for (kind, builder) in kinds {
        let builder = builder.containers(1).abandoned_max(1_000).restart(RateLimited::never());
        let scene = async |stage: &Stage<u64, u64, u8>| {
            let mut noticed = Vec::new();
            for (call, limit) in limits().enumerate() {
                some_time_passes(call).await;
                let outcome = stage.function().call_within(0, Limits::new().timeout(limit)).await;
                assert!(outcome.expect_err("it hangs").is_timed_out());
                noticed.push((limit, stage.now()));
            }
            noticed
        };
        let (noticed, record) = builder.rehearse().fault_when(hangs).play(scene).expect("valid settings");
        for (call, (limit, at)) in noticed.into_iter().enumerate() {
            let execution = record.executions().iter().find(|execution| execution.map == call as u64);
            let began = execution.expect("each call was executed").began;
            is_in_time(at, began + limit, &format!("{kind}, {limit:?}"));
        }
    }
}

#[test]
fn a_timeout_is_noticed_within_two_milliseconds_although_the_inputs_before_and_behind_it_are_cheap() {
    for limit in limits() {
        // The other inputs take no time at all, so the container leases many at once.
        let some_hang = |at: &At<'_, u64>| (at.index % 97 == 50).then_some(Fault::Hang);
        let rehearsal = waits(&app()).containers(1).timeout(limit).rehearse().fault_when(some_hang);
        let (outcomes, record) = rehearsal.run(0..1_000).expect("valid settings");
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 10, "{record}");
        let cut = record.executions().iter().filter(|execution| execution.ending == ExecutionEnd::Dropped);
        for execution in cut {
            let what = format!("input {}, {limit:?}", execution.input);
            is_in_time(execution.ended, execution.began + limit, &what);
        }
    }
}

#[test]
fn a_deadline_is_noticed_within_two_milliseconds_while_an_input_waits_and_while_it_executes() {
    for (what, lanes) in [("executes", 1_000), ("waits", 1)] {
        let builder = waits(&app()).containers(1).concurrent_inputs(lanes);
        let scene = async |stage: &Stage<u64, u64, u8>| {
            let f = stage.function();
            let busy = f.call(0); // it has no deadline
            for (call, limit) in limits().enumerate() {
                some_time_passes(call).await;
                let moment = stage.now() + limit;
                let outcome = f.call_within(0, Limits::new().deadline(limit)).await;
                let failure = outcome.expect_err("it has no outcome in time");
                assert!(failure.is_past_deadline());
                assert_eq!(failure.attempts(), u32::from(lanes > 1), "a call that {what}");
                is_in_time(stage.now(), moment, &format!("a call that {what}, {limit:?}"));

                some_time_passes(call).await;
                let moment = stage.now() + limit;
                let mut map = f.map(0..20).deadline(limit).return_exceptions();
                while let Some(outcome) = map.next().await {
                    assert!(outcome.expect_err("it has no outcome in time").is_past_deadline());
                    is_in_time(stage.now(), moment, &format!("an input of a map that {what}, {limit:?}"));
                }
            }
            drop(busy);
        };
        builder.rehearse().fault_when(hangs).play(scene).expect("valid settings");
    }
}

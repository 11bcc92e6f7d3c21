//! The promises of the test kit: scripted faults, virtual time, the same record each time, and the same
//! outcomes as from the real engine.
//!
//! All functions are of one type, because each further one compiles the engine once more.

mod batches;
mod concurrent;
mod engine;
mod limits;
mod noticing;
mod outages;
mod scenes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore::testkit::ExecutionEnd;
use longshore::{
    App, AsyncWorker, Builder, Cause, ConfigError, ContainerId, Context, Death, Event, Failure, Fate,
    Previous, Retries, StartError, Worker,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn app() -> App {
    App::ephemeral("rehearsals")
}

/// A function whose output is the number of its attempt, so that an output shows whether its input was
/// replayed.
fn attempts(app: &App) -> Builder<u64, u64, u8> {
    app.function("attempts", |_: &u64| Ok(u64::from(attempt())))
}

fn attempt() -> u32 {
    Context::current().expect("in a container").attempt().get()
}

struct Counter {
    seen: u64,
}

impl Worker for Counter {
    type Input = u64;
    type Output = u64;
    type Error = u8;

    fn call(&mut self, _: &u64, _: &Context) -> Result<u64, u8> {
        self.seen += 1;
        Ok(self.seen)
    }
}

/// A [`Counter`] whose calls take a second, and whose exit takes ten.
struct SlowCounter(Counter, Arc<AtomicU64>);

impl AsyncWorker for SlowCounter {
    type Input = u64;
    type Output = u64;
    type Error = u8;

    async fn call(&mut self, input: &u64, context: &Context) -> Result<u64, u8> {
        tokio::time::sleep(SECOND).await;
        self.0.call(input, context)
    }

    async fn exit(self, _: &Context) {
        tokio::time::sleep(10 * SECOND).await;
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn poisoned<O, I, E>(outcome: &Result<O, Failure<I, E>>) -> Option<usize> {
    match outcome.as_ref().err()?.cause() {
        Cause::Poisoned(deaths) => Some(deaths.len()),
        _ => None,
    }
}

#[test]
fn every_kind_of_code_crashes_where_the_script_says_and_is_entered_anew() {
    fn check(builder: Builder<u64, u64, u8>, stateful: bool) {
        let rehearsal = builder.containers(1).rehearse().panics(2, 1).panics(2, 2);
        let (outcomes, record) = rehearsal.run(0..5).expect("valid settings");
        let outputs: Vec<u64> =
            outcomes.into_iter().map(|outcome| outcome.expect("it is replayed")).collect();
        assert_eq!(
            (0..5).map(|input| record.attempts(input)).collect::<Vec<_>>(),
            [1, 1, 3, 1, 1],
            "{record}"
        );
        assert_eq!(record.restarts(), 2);
        // A worker counts two inputs and crashes at the third. Each crash loses the count, and no input is
        // counted twice.
        let counted = if stateful { [1, 2, 1, 2, 3] } else { [0, 1, 2, 3, 4] };
        assert_eq!(outputs, counted, "{record}");
    }
    let app = app();
    check(app.function("plain", |n: &u64| Ok(*n)), false);
    check(app.function_async("async", async |n: &u64| Ok(*n)), false);
    check(app.worker("worker", |_| Ok(Counter { seen: 0 })), true);
    let exits = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&exits);
    let slow = app.worker_async("async worker", async move |_: &Context| {
        Ok(SlowCounter(Counter { seen: 0 }, Arc::clone(&counter)))
    });
    check(slow.exit_timeout(11 * SECOND), true);
    assert_eq!(exits.load(Ordering::Relaxed), 1, "only the last generation exits, in virtual time");
}

#[test]
fn retries_wait_to_the_millisecond_and_the_last_error_surfaces() {
    let retries = Retries::new(8).initial_delay(SECOND).backoff_coefficient(2.0).max_delay(30 * SECOND);
    let failing = app().function("failing", |_: &u64| Err::<u64, u8>(7)).retries(retries);
    let (outcomes, record) = failing.rehearse().run([0]).expect("valid settings");
    assert_eq!(record.delays(0), [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs));
    assert_eq!(record.elapsed(), 121 * SECOND);
    assert!(matches!(outcomes[0].as_ref().expect_err("it fails").cause(), Cause::Failed(7)));
    assert!(record.executions().iter().all(|execution| execution.ending == ExecutionEnd::Failed));
}

#[test]
fn a_script_can_return_an_error_in_place_of_the_function() {
    const BUSY: u8 = 1;
    const BROKEN: u8 = 2;
    let builder = app().function("fine", |n: &u64| Ok(*n)).retries(1).retry_if(|error| *error == BUSY);
    let rehearsal = builder.rehearse().fails(0, 1, || BUSY).fails(1, 1, || BROKEN);
    let (outcomes, record) = rehearsal.run(0..3).expect("valid settings");
    assert_eq!([0, 1, 2].map(|input| record.attempts(input)), [2, 1, 1]);
    assert_eq!(record.delays(0), [SECOND]);
    assert!(outcomes[0].is_ok());
    assert!(outcomes[1].is_err());
    assert!(outcomes[2].is_ok());
}

/// 8.7
#[test]
fn an_error_puts_its_retry_off_for_hours_and_at_most_a_day() {
    let retries = Retries::new(3).initial_delay(SECOND).max_delay(SECOND);
    let builder = app().function("busy", |n: &u64| Ok(*n)).retries(retries);
    let builder = builder.retry_after(|hours| (*hours > 0).then(|| u32::from(*hours) * 3600 * SECOND));
    let rehearsal = builder.rehearse().fails(0, 1, || 0_u8).fails(0, 2, || 5).fails(0, 3, || 200);
    let (outcomes, record) = rehearsal.for_at_most(48 * 3600 * SECOND).run([0]).expect("valid settings");
    assert!(outcomes[0].is_ok());
    assert_eq!(record.delays(0), [SECOND, 5 * 3600 * SECOND, 24 * 3600 * SECOND], "{record}");
}

#[test]
fn a_container_that_dies_between_two_inputs_replays_none() {
    for containers in [1, 3] {
        let rehearsal =
            attempts(&app()).containers(containers).crash_retries(0).rehearse().takes(MS).dies_after(3);
        let (outcomes, record) = rehearsal.run(0..20).expect("valid settings");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(1))), "{record}");
        assert_eq!(record.executions().len(), 20, "{record}");
        assert_eq!(record.restarts(), 1, "restarts: {record}");
        assert_eq!(record.crashes().count(), 0, "crashes: {record}");
        let killed = record.events().iter().find_map(|(_, event)| match event {
            Event::Killed(crash) => Some(crash.executing),
            _ => None,
        });
        assert_eq!(killed, Some(None), "no input was executing");
    }
}

#[test]
fn an_input_that_always_panics_is_poisoned_and_the_others_are_executed_once() {
    let rehearsal = attempts(&app()).containers(2).crash_retries(2).rehearse().takes(MS).always_panics(5);
    let (outcomes, record) = rehearsal.run(0..20).expect("valid settings");
    let others = (0..20).filter(|n| *n != 5);
    assert_eq!(poisoned(&outcomes[5]), Some(3), "{record}");
    assert!(others.clone().all(|n| record.attempts(n) == 1), "{record}");
    assert_eq!(record.attempts(5), 3);
    assert!(record.delays(5).iter().all(|delay| *delay < 10 * MS), "replays do not wait: {record}");
}

#[test]
fn synchronous_code_that_hangs_is_left_behind_and_async_code_is_dropped() {
    let kill = |rehearsal: longshore::testkit::Rehearsal<u64, u64, u8>| {
        let rehearsal = rehearsal.hangs(0, 1).kills(5 * SECOND, ContainerId::new(0));
        let (outcomes, record) = rehearsal.run(0..3).expect("valid settings");
        assert!(outcomes.iter().all(Result::is_ok), "{record}");
        assert_eq!(record.elapsed(), 5 * SECOND, "{record}");
        record
    };
    let sync = kill(attempts(&app()).containers(1).rehearse());
    assert_eq!(sync.executions()[0].ending, ExecutionEnd::Unended);
    assert_eq!(sync.status().containers.abandoned, 1, "abandoned threads: {sync}");
    assert_eq!(sync.report().threads_running, 1, "running threads: {sync}");
    let in_task = kill(
        app().function_async("async", async |_: &u64| Ok(u64::from(attempt()))).containers(1).rehearse(),
    );
    assert_eq!(in_task.executions()[0].ending, ExecutionEnd::Dropped);
    assert_eq!(in_task.status().containers.abandoned, 0, "abandoned threads: {in_task}");
    assert_eq!(in_task.report().threads_running, 0, "running threads: {in_task}");
}

#[test]
fn a_scripted_memory_fault_is_a_death_by_the_memory_limit() {
    let rehearsal = attempts(&app()).memory_limit(1 << 20).rehearse().exceeds_memory(1, 1);
    let (outcomes, record) = rehearsal.run(0..3).expect("no accountant is needed");
    assert!(matches!(outcomes[1], Ok(2)));
    let deaths: Vec<Death> = record.crashes().map(|(_, crash)| crash.death.clone()).collect();
    assert!(matches!(deaths[..], [Death::MemoryLimit { limit: 1_048_576, .. }]), "{deaths:?}");
}

#[test]
fn an_input_that_hangs_for_ever_ends_with_the_limit_of_the_rehearsal() {
    let rehearsal = attempts(&app()).containers(1).rehearse().hangs(1, 1).for_at_most(3600 * SECOND);
    let (outcomes, record) = rehearsal.run(0..3).expect("valid settings");
    assert!(record.timed_out());
    assert!(record.elapsed() >= 3600 * SECOND);
    assert!(outcomes[0].is_ok());
    assert!(matches!(outcomes[1].as_ref().expect_err("it hangs").cause(), Cause::ShutDown));
}

#[test]
fn an_exit_that_takes_too_long_is_left_behind() {
    let exits = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&exits);
    let slow = app().worker_async("slow", async move |_: &Context| {
        Ok(SlowCounter(Counter { seen: 0 }, Arc::clone(&counter)))
    });
    let (outcomes, record) = slow.containers(1).rehearse().run([1]).expect("valid settings");
    assert!(outcomes[0].is_ok());
    assert_eq!(record.report().containers[0].1, Fate::ExitTimedOut);
    assert_eq!(exits.load(Ordering::Relaxed), 0, "after 5 s it was dropped");
}

#[test]
fn tasks_that_code_spawns_live_and_die_with_their_container() {
    let ticks = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&ticks);
    let spawning = app().function_async("spawning", async move |_: &u64| {
        let counter = Arc::clone(&counter);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SECOND).await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        tokio::time::sleep(10 * SECOND + MS).await;
        Ok::<u64, u8>(0)
    });
    let rehearsal =
        spawning.containers(1).rehearse().panics(1, 1).takes_when(|at| (at.index == 2).then_some(5 * SECOND));
    let (_, record) = rehearsal.run(0..3).expect("valid settings");
    // The task of input 0 ticks ten times and dies with the crash. The task of input 1 ticks ten times during
    // input 1, and 5 + 10 times during input 2, which takes five seconds more. The task of input 2 ticks ten
    // times.
    assert_eq!(ticks.load(Ordering::Relaxed), 45, "{record}");
}

#[test]
fn a_death_between_two_inputs_leaves_no_thread_behind() {
    let builder = attempts(&app()).containers(1).abandoned_max(1);
    let (outcomes, record) =
        builder.rehearse().dies_after(0).dies_after(2).run(0..4).expect("valid settings");
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
    assert_eq!(record.restarts(), 2, "restarts: {record}");
    assert_eq!(record.report().threads_running, 0, "running threads: {record}");
}

#[test]
fn a_rehearsal_drops_every_value_of_the_user_at_its_end() {
    let witness = Arc::new(());
    let captured = Arc::clone(&witness);
    let builder = app().function_async("captures", async move |_: &u64| {
        let _held = Arc::clone(&captured);
        std::future::pending::<Result<u64, u8>>().await
    });
    let (_, record) = builder.rehearse().for_at_most(SECOND).run(0..10).expect("valid settings");
    assert!(record.timed_out());
    assert_eq!(Arc::strong_count(&witness), 1);
}

#[test]
fn a_panic_of_the_script_ends_the_rehearsal_and_names_the_script() {
    let rehearse =
        || attempts(&app()).rehearse().fault_when(|at| panic!("at {}", at.index)).run([1]).map(drop);
    let panic = std::thread::spawn(rehearse).join().expect_err("it panics");
    let message = panic.downcast_ref::<String>().expect("a text");
    assert!(message.starts_with("the script panicked at"), "{message}");
    assert!(message.ends_with("at 0"), "{message}");
}

#[test]
fn settings_are_validated_as_they_are_by_start() {
    let none = attempts(&app()).containers(0).rehearse().run([1]);
    assert!(matches!(none, Err(StartError::Config(ConfigError::Containers { .. }))), "{none:?}");
    let retries = Retries::new(1).max_delay(Duration::ZERO);
    assert!(attempts(&app()).retries(retries).rehearse().run([1]).is_err());
}

#[tokio::test]
async fn a_function_can_be_rehearsed_inside_a_runtime() {
    let (outcomes, _) = attempts(&app()).rehearse().run(0..100).expect("valid settings");
    assert_eq!(outcomes.len(), 100);
}

#[test]
fn code_sees_its_context_and_why_the_previous_attempt_ended() {
    let seen = app().function("seen", |n: &u64| {
        let context = Context::current().expect("in a container");
        let crashed = matches!(context.previous(), Some(Previous::Crashed(_)));
        assert_eq!(context.input(), Some(*n), "input");
        assert_eq!(context.function(), "seen", "name of the function");
        Ok::<u64, u8>(100 * u64::from(attempt()) + 10 * context.generation().get() + u64::from(crashed))
    });
    let (outcomes, record) = seen.containers(1).rehearse().panics(1, 1).run(0..3).expect("valid settings");
    let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect("it is fine")).collect();
    assert_eq!(outcomes, [110, 221, 120], "{record}");
    assert!(Context::current().is_none());
}

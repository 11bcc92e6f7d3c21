//! What the test kit promises: scripted faults, virtual time, the same record each time, and the same
//! outcomes as the real engine.
//!
//! All functions are of one type, because each further one compiles the engine once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore::testkit::{Ending, EnterFault, Entered, Fault, Record};
use longshore::{
    App, AsyncWorker, Builder, Cause, ConfigError, ContainerId, Context, CrashLoopBackoff, Death, Event,
    Failure, Fate, Previous, RateLimited, Retries, StartError, Worker,
};
use proptest::prelude::*;

use crate::support::Started;

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
    assert!(record.executions().iter().all(|execution| execution.ending == Ending::Failed));
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
fn enter_fails_twice_and_containers_come_back_with_growing_delays() {
    let rehearsal = attempts(&app()).containers(1).rehearse().enter_fails(2);
    let (outcomes, record) = rehearsal.run(0..3).expect("valid settings");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(1))), "{record}");
    let starts: Vec<_> = record.starts().iter().map(|start| (start.at, start.entered)).collect();
    let entered = |at: Duration, how| (at, Some((at, how)));
    let (now, then) = (Duration::ZERO, 10 * MS);
    assert_eq!(
        starts,
        [entered(now, Entered::Failed), entered(now, Entered::Failed), entered(then, Entered::Well)]
    );
}

#[test]
fn a_dependency_that_is_down_for_three_seconds_is_waited_for() {
    let app = App::deployed("rehearsals");
    let down = SECOND..4 * SECOND;
    let rehearsal = attempts(&app).containers(2).rehearse().takes(100 * MS).down(down.clone());
    let (outcomes, record) = rehearsal.run(0..60).expect("valid settings");
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
    let crashes: Vec<_> = record.crashes().collect();
    // Two containers were executing when the dependency went down. Until it came back, each `enter` failed.
    let while_down =
        crashes.iter().all(|(at, _)| down.contains(&at.saturating_sub(100 * MS)) || down.contains(at));
    assert!(crashes.len() > 3, "{record}");
    assert!(while_down, "{record}");
    let failed = record.starts().iter().filter(|start| start.entered == Some((start.at, Entered::Failed)));
    assert!(failed.clone().count() > 1, "{record}");
    assert!(failed.clone().all(|start| down.contains(&start.at)), "{record}");
    assert!(record.status().crash_loop.is_none(), "the function has recovered");
    // At 100 ms an input, 20 inputs are completed before the outage, and the other 40 take two seconds after
    // it.
    assert!(record.elapsed() > 6 * SECOND, "{:?}", record.elapsed());
    assert!(record.elapsed() < 9 * SECOND, "{:?}", record.elapsed());
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
fn a_function_gives_up_at_the_crash_that_breaks_its_limit() {
    let limited = |down| {
        let policy = RateLimited::new().max_crashes(3);
        let rehearsal = attempts(&app()).containers(1).restart(policy).rehearse().takes(100 * MS).down(down);
        rehearsal.run(0..100).expect("valid settings")
    };
    let (outcomes, record) = limited(Duration::ZERO..9000 * SECOND);
    assert_eq!(record.crashes().count(), 4, "{record}");
    assert!(outcomes.iter().all(|o| matches!(o.as_ref().expect_err("given up").cause(), Cause::GaveUp(_))));
    assert!(record.status().gave_up.is_some());
    assert_eq!(record.executions().len(), 0, "it never entered");

    // Fifty inputs have completed before, so the failure rate passes a half with the 51st crash.
    let (outcomes, record) = limited(5 * SECOND..9000 * SECOND);
    let gave_up = record.events().iter().find(|(_, event)| matches!(event, Event::GaveUp(_)));
    let (at, _) = gave_up.expect("an outage of hours breaks the limit");
    assert!(*at > 30 * SECOND, "{at:?}");
    assert!(*at < 66 * SECOND, "{at:?}");
    assert_eq!(record.crashes().count(), 51);
    assert!(outcomes.iter().take(50).all(Result::is_ok));
    assert!(outcomes[51].is_err());
    let (outcomes, record) = limited(5 * SECOND..20 * SECOND);
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
}

#[test]
fn an_outage_at_the_start_is_survived_with_any_number_of_containers() {
    for containers in [1, 2, 4, 8, 64] {
        for down in [MS, 10 * MS, 2 * SECOND, 5 * SECOND] {
            let rehearsal = attempts(&app()).containers(containers).rehearse();
            let (outcomes, record) = rehearsal.down(Duration::ZERO..down).run(0..10).expect("valid settings");
            assert!(outcomes.iter().all(Result::is_ok), "{containers} containers, {down:?}: {record}");
        }
    }
}

#[test]
fn an_outage_of_five_seconds_is_survived_at_any_moment() {
    for containers in [1, 2, 8, 64] {
        for takes in [10 * MS, 300 * MS, 1_100 * MS, 7 * SECOND] {
            for begin in [MS, 333 * MS, 6 * SECOND] {
                let builder = attempts(&app()).containers(containers).crash_retries(100);
                let rehearsal = builder.rehearse().down(begin..begin + 5 * SECOND);
                // The durations differ, so that the containers die one after the other.
                let rehearsal = rehearsal.takes_when(move |at| Some(takes + 7 * MS * (at.index % 13) as u32));
                let inputs = 4 * containers as u64;
                let (_, record) = rehearsal.run(0..inputs).expect("valid settings");
                let gave_up = &record.status().gave_up;
                assert!(
                    gave_up.is_none(),
                    "{containers} containers, {takes:?}, {begin:?}: {gave_up:?} {record}"
                );
            }
        }
    }
}

#[test]
fn failed_starts_beside_live_containers_do_not_make_a_function_give_up() {
    for made in [48, 32, 16, 1] {
        let rehearsal = attempts(&app()).containers(64).rehearse().takes(SECOND);
        let rehearsal =
            rehearsal.enter_fault_when(move |at| (at.container.index() >= made).then_some(EnterFault::Fail));
        let (outcomes, record) = rehearsal.run(0..100).expect("valid settings");
        assert!(outcomes.iter().all(Result::is_ok), "{made} can be made: {:?}", record.status().gave_up);
        assert!(record.status().crash_loop.is_some(), "the failed starts are delayed");
    }
}

#[test]
fn a_container_that_died_of_a_known_suspect_restarts_at_once_inside_a_delay() {
    let app = App::deployed("rehearsals");
    // Container 1 never starts, so a delay of minutes runs. Input 0 crashes container 0 three times.
    let policy = CrashLoopBackoff::new().initial(100 * SECOND).max(600 * SECOND).reset_after(2_000 * SECOND);
    let builder = attempts(&app).containers(2).restart(policy).crash_retries(2);
    let rehearsal =
        builder.rehearse().enter_fault_when(|at| (at.container.index() == 1).then_some(EnterFault::Fail));
    let (outcomes, record) =
        rehearsal.takes(SECOND).panics(0, 2).panics(0, 3).panics(0, 1).run(0..3).expect("valid settings");
    assert_eq!(poisoned(&outcomes[0]), Some(3), "{record}");
    let starts = record.starts().iter().filter(|start| start.container.index() == 0);
    let starts: Vec<Duration> = starts.map(|start| start.at).collect();
    let crashes = record.crashes().filter(|(_, crash)| crash.executing.is_some());
    let crashes: Vec<(Duration, bool)> = crashes
        .map(|(at, crash)| (at, crash.executing.is_some_and(|(_, attempt)| attempt.get() > 1)))
        .collect();
    let suspect = crashes.iter().filter(|(_, suspect)| *suspect);
    assert!(suspect.clone().count() == 2, "{record}");
    assert!(suspect.clone().all(|(at, _)| starts.contains(at)), "{record}");
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
    assert_eq!(sync.executions()[0].ending, Ending::Unended);
    assert_eq!(sync.status().containers.abandoned, 1, "abandoned threads: {sync}");
    assert_eq!(sync.report().threads_running, 1, "running threads: {sync}");
    let in_task = kill(
        app().function_async("async", async |_: &u64| Ok(u64::from(attempt()))).containers(1).rehearse(),
    );
    assert_eq!(in_task.executions()[0].ending, Ending::Dropped);
    assert_eq!(in_task.status().containers.abandoned, 0, "abandoned threads: {in_task}");
    assert_eq!(in_task.report().threads_running, 0, "running threads: {in_task}");
}

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
    assert_eq!(first.ending, Ending::Late, "ending of the first attempt: {record}");
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

/// A kind of fault for some pairs of an input and an attempt.
fn faults() -> impl Strategy<Value = BTreeMap<(u64, u32), u8>> {
    proptest::collection::btree_map((0..30u64, 1..4u32), 0..3u8, 0..40)
}

fn rehearsed(faults: &BTreeMap<(u64, u32), u8>, containers: usize) -> (Vec<String>, Record) {
    let faults = faults.clone();
    let builder = app().function("faulty", |n: &u64| Ok(*n)).containers(containers).crash_retries(2);
    let rehearsal = builder
        .retries(Retries::new(2).initial_delay(Duration::ZERO))
        .restart(RateLimited::never())
        .rehearse()
        .takes_when(|at| Some(MS * (1 + (at.index % 7) as u32)))
        .enter_fault_when(|at| (at.nth % 5 == 4).then_some(EnterFault::Panic))
        .fault_when(move |at| match faults.get(&(at.index, at.attempt))? {
            0 => Some(Fault::Panic),
            1 => Some(Fault::ExceedMemory),
            attempt => Some(Fault::Fail(*attempt)),
        });
    let (outcomes, record) = rehearsal.run(0..30).expect("valid settings");
    (outcomes.iter().map(said).collect(), record)
}

fn really(faults: &BTreeMap<(u64, u32), u8>, containers: usize) -> Vec<String> {
    let faults = faults.clone();
    let app = app();
    let function = app
        .function("faulty", move |n: &u64| match faults.get(&(*n, attempt())) {
            None => Ok(*n),
            Some(0 | 1) => panic!("a fault"),
            Some(error) => Err(*error),
        })
        .containers(containers)
        .crash_retries(2)
        .restart(RateLimited::never());
    let function = function.retries(Retries::new(2).initial_delay(Duration::ZERO)).started();
    function.run_all((0..30).collect()).iter().map(said).collect()
}

fn said(outcome: &Result<u64, Failure<u64, u8>>) -> String {
    match outcome {
        Ok(output) => format!("{output}"),
        // The text of the last death has the place of the panic, which differs in a rehearsal.
        Err(failure) => failure.to_string().split(": container").take(1).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rehearsal_is_the_same_each_time_and_ends_as_the_engine_does(faults in faults(), containers in 1..4usize) {
        let (outcomes, record) = rehearsed(&faults, containers);
        let (again, recorded_again) = rehearsed(&faults, containers);
        prop_assert_eq!(&outcomes, &again);
        prop_assert_eq!(record.to_string(), recorded_again.to_string());
        prop_assert_eq!(outcomes, really(&faults, containers), "{}", record);
    }
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

#[test]
fn backoff_doubles_up_to_its_maximum_in_virtual_time() {
    let app = App::deployed("rehearsals");
    let policy = CrashLoopBackoff::new().initial(SECOND).max(60 * SECOND);
    let rehearsal =
        attempts(&app).containers(1).restart(policy).rehearse().down(Duration::ZERO..3600 * SECOND);
    let (outcomes, record) = rehearsal.run([1]).expect("valid settings");
    assert!(outcomes[0].is_ok(), "{record}");
    let at: Vec<Duration> = record.starts().iter().map(|start| start.at).collect();
    let delays: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(delays[0], Duration::ZERO, "the first restart is at once");
    for (n, delay) in delays[1..].iter().enumerate() {
        let whole = (SECOND * (1 << n.min(10))).min(60 * SECOND);
        assert!(*delay >= whole / 2, "equal jitter: {n} {delay:?} {record}");
        assert!(*delay <= whole + MS, "equal jitter: {n} {delay:?} {record}");
    }
    assert!(delays.len() > 60, "{}", delays.len());
}

//! The life of a function: start, ready, drain, stop, abort, exit, and the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use longshore::{App, BoxError, Cause, Context, Failure, Fate, NotReady, StartError, Worker};

use crate::support::{Gate, Started, crash, numbers, under_each_policy, unhung, until};

#[derive(Clone, Default)]
struct Log {
    enters: Arc<AtomicU32>,
    exits: Arc<AtomicU32>,
    gate: Gate,
    begun: Gate,
}

/// The action of `exit`.
#[derive(Clone, Copy, PartialEq)]
enum Exit {
    Well,
    Panics,
    Hangs,
}

struct Tracked(Log, Exit);

impl Worker for Tracked {
    type Input = u32;
    type Output = u32;
    type Error = std::convert::Infallible;

    fn call(&mut self, input: &u32, _: &Context) -> Result<u32, Self::Error> {
        match input {
            1 => {
                self.0.begun.open();
                self.0.gate.pass();
            }
            666 => crash(),
            _ => {}
        }
        Ok(*input)
    }

    fn exit(self, _: &Context) {
        self.0.exits.fetch_add(1, Ordering::SeqCst);
        match self.1 {
            Exit::Well => {}
            Exit::Panics => crash(),
            Exit::Hangs => self.0.gate.pass(),
        }
    }
}

fn tracked(log: &Log, exit: Exit) -> impl Fn(&Context) -> Result<Tracked, BoxError> + Send + Sync + 'static {
    let log = log.clone();
    move |_| {
        log.enters.fetch_add(1, Ordering::SeqCst);
        Ok(Tracked(log.clone(), exit))
    }
}

#[test]
fn every_generation_is_entered_once_and_exits_only_gracefully() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("exits");
        let f = app
            .worker("f", tracked(&log, Exit::Well))
            .containers(2)
            .crash_retries(1)
            .restart(policy)
            .started();
        f.ready().expect("it starts");
        assert!(f.call(666).wait().expect_err("poisoned").is_poisoned());
        until("both containers live", || f.status().containers.live == 2);
        let report = app.shutdown_blocking();
        assert!(report.is_clean(), "{report}");
        let fates: Vec<_> = report.functions[0].containers.iter().map(|(_, fate)| fate.clone()).collect();
        assert_eq!(fates, [Fate::Exited, Fate::Exited]);
        assert_eq!(log.enters.load(Ordering::SeqCst), 4, "enters");
        assert_eq!(log.exits.load(Ordering::SeqCst), 2, "exits");
        assert!(matches!(f.ready(), Err(NotReady::ShutDown)));
        assert!(f.call(1).wait().expect_err("over").is_shut_down());
    });
}

#[test]
fn a_drain_finishes_accepted_inputs_and_pulls_no_more() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("drain");
        let f = app.worker("f", tracked(&log, Exit::Well)).containers(1).restart(policy).started();
        let mut outcomes = f.map(0..1_000u32).window(8).return_exceptions().into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        log.begun.pass();
        f.drain();
        until("the function drains", || matches!(f.ready(), Err(NotReady::ShutDown)));
        let refused = f.call(77).wait().expect_err("new calls are refused");
        assert!(refused.is_shut_down(), "the cause is the shutdown");
        assert_eq!(refused.input(), Some(&77), "input");
        log.gate.open();
        let mut oks = 1;
        let mut errors = Vec::new();
        for outcome in outcomes.by_ref() {
            match outcome {
                Ok(_) => oks += 1,
                Err(failure) => errors.push(failure),
            }
        }
        assert_eq!(errors.len(), 1);
        assert!(errors[0].is_shut_down());
        assert!(errors[0].index().is_none());
        let progress = outcomes.progress();
        assert_eq!(progress.ok, oks, "all accepted inputs are ok");
        assert_eq!(progress.pulled, oks, "no input is pulled after the drain");
        assert!(progress.pulled < 20, "{progress}");
        drop(f);
        drop(outcomes);
        assert!(app.shutdown_blocking().is_clean());
        assert_eq!(log.exits.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_stop_finishes_only_executing_inputs_and_gives_the_rest_back() {
    under_each_policy(|app, policy| {
        let log = Log::default();
        let f = app.worker("f", tracked(&log, Exit::Well)).containers(1).restart(policy).started();
        let mut outcomes = f.map(0..100u32).window(8).return_exceptions().into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        log.begun.pass();
        let call = f.call(50);
        f.stop();
        let failure = call.wait().expect_err("it had not begun");
        assert!(failure.is_shut_down(), "the cause is the shutdown");
        assert_eq!(failure.input(), Some(&50), "input");
        assert_eq!(failure.attempts(), 0, "attempts");
        log.gate.open();
        let all: Vec<_> = outcomes.by_ref().collect();
        assert_eq!(all[0].as_ref().ok(), Some(&1), "the executing input finishes");
        let (last, unrun) = all[1..].split_last().expect("the error of the map");
        for (outcome, n) in unrun.iter().zip(2..) {
            let failure = outcome.as_ref().expect_err("it had not begun");
            assert!(failure.is_shut_down(), "the cause is the shutdown");
            assert_eq!(failure.input(), Some(&n), "input");
            assert_eq!(failure.attempts(), 0, "attempts");
        }
        assert!(last.as_ref().is_err_and(|failure| failure.index().is_none() && failure.is_shut_down()));
        let progress = outcomes.progress();
        assert_eq!(progress.ok, 2, "ok inputs");
        assert_eq!(progress.pulled, progress.completed(), "pulled inputs");
        until("the worker exits", || log.exits.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn an_abort_waits_for_nothing_and_reports_what_still_runs() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("abort");
        let f = app.worker("f", tracked(&log, Exit::Well)).containers(2).restart(policy).started();
        until("both containers live", || f.status().containers.live == 2);
        let call = f.call(1);
        log.begun.pass();
        let report = app.abort();
        let failure: Failure<u32, _> = call.wait().expect_err("aborted");
        assert!(failure.is_shut_down(), "the cause is the shutdown");
        assert_eq!(failure.input(), Some(&1), "input");
        assert_eq!(failure.attempts(), 1, "attempts");
        assert!(!report.is_clean());
        let running = |fate: &Fate| matches!(fate, Fate::StillRunning);
        let fates = &report.functions[0].containers;
        assert_eq!(fates.iter().filter(|(_, fate)| running(fate)).count(), 1, "{report}");
        assert_eq!(report.functions[0].threads_running, 1);
        assert!(report.to_string().contains("still running"), "{report}");
        log.gate.open();
        assert_eq!(log.exits.load(Ordering::SeqCst), 0, "no exit on an abort");
    });
}

#[test]
fn a_shutdown_past_its_limit_aborts_and_reports() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("late");
        let f = app.worker("f", tracked(&log, Exit::Well)).containers(1).restart(policy).started();
        let call = f.call(1);
        log.begun.pass();
        let report = app.shutdown_within(Duration::from_millis(20));
        assert_eq!(report.functions[0].containers[0].1, Fate::StillRunning);
        assert!(call.wait().expect_err("aborted").is_shut_down());
        log.gate.open();
    });
}

#[test]
fn an_exit_that_panics_is_reported_and_is_no_crash() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("exit");
        let f = app.worker("f", tracked(&log, Exit::Panics)).containers(1).restart(policy).started();
        f.ready().expect("it starts");
        let report = app.shutdown_blocking();
        let fate = &report.functions[0].containers[0].1;
        assert!(
            matches!(fate, Fate::ExitPanicked(panic) if panic.message() == "a crash on purpose"),
            "{report}"
        );
        assert_eq!(report.functions[0].threads_running, 0, "running threads");
        assert_eq!(f.status().crashes, 0, "crashes");
    });
}

#[test]
fn an_exit_that_hangs_is_abandoned_and_reported() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("exit");
        let f = app
            .worker("f", tracked(&log, Exit::Hangs))
            .containers(1)
            .restart(policy)
            .exit_timeout(Duration::from_millis(10))
            .started();
        f.ready().expect("it starts");
        let report = app.shutdown_blocking();
        assert_eq!(report.functions[0].containers[0].1, Fate::ExitTimedOut);
        assert_eq!(report.functions[0].threads_running, 1);
        log.gate.open();
    });
}

#[test]
fn a_start_does_not_wait_for_enter_and_an_unfinished_enter_has_no_exit() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("start");
        let inside = log.clone();
        let enter = move |_: &Context| -> Result<Tracked, BoxError> {
            inside.enters.fetch_add(1, Ordering::SeqCst);
            inside.gate.pass();
            Ok(Tracked(inside.clone(), Exit::Well))
        };
        let f = app.worker("f", enter).containers(3).restart(policy).start().expect("it does not wait");
        until("all containers are in `enter` at once", || log.enters.load(Ordering::SeqCst) == 3);
        assert_eq!(f.status().containers.starting, 3);
        let call = f.call(2);
        let report = app.stop_within(Duration::from_millis(5));
        assert!(call.wait().expect_err("stopped").is_shut_down());
        assert_eq!(report.functions[0].threads_running, 3);
        log.gate.open();
        drop(f);
        assert_eq!(log.exits.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn dropping_the_last_handle_aborts_without_blocking() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("dropped");
        let f = app.worker("f", tracked(&log, Exit::Well)).containers(1).restart(policy).started();
        let call = f.call(1);
        log.begun.pass();
        let begun = Instant::now();
        drop(f);
        drop(app);
        drop(call);
        assert!(begun.elapsed() < Duration::from_secs(30), "no drop waits for the container, which hangs");
        log.gate.open();
    });
}

#[test]
fn a_handle_outlives_its_app() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("outlived");
        let f = app.infallible("f", |n: &u32| n + 1).restart(policy).started();
        drop(app);
        assert_eq!(f.run(vec![1, 2]).expect("it goes on"), [2, 3]);
        let mut outcomes = f.map(0..10u32).into_iter();
        drop(f);
        assert_eq!(outcomes.by_ref().filter_map(Result::ok).sum::<u32>(), 55);
    });
}

#[test]
fn an_ended_app_starts_no_function_and_a_name_is_taken_only_once() {
    unhung(|| {
        let app = App::ephemeral("names");
        let first = app.infallible("f", |n: &u32| *n).started();
        let again = app.infallible("f", |n: &u32| *n).start();
        assert!(matches!(again, Err(StartError::NameTaken(name)) if name == "f"));
        let late = app.infallible("late", |n: &u32| *n);
        assert!(app.shutdown_blocking().is_clean());
        assert!(matches!(late.start(), Err(StartError::ShutDown)));
        let failure = first.run(vec![1]).expect_err("over");
        assert!(matches!(failure.cause(), Cause::ShutDown));
    });
}

#[test]
fn run_blocking_returns_the_result_and_the_report() {
    unhung(|| {
        let (sum, report) = App::run_blocking("scope", |app| {
            let f = app.infallible("f", |n: &u64| *n).started();
            f.run((0..100).collect()).expect("infallible").into_iter().sum::<u64>()
        });
        assert_eq!(sum, 4_950, "sum");
        assert!(report.is_clean(), "the end is clean");
        assert_eq!(report.functions.len(), 1, "functions");
    });
}

#[test]
fn an_exit_that_hangs_is_abandoned_even_if_an_older_thread_ends_meanwhile() {
    #[derive(Clone, Default)]
    struct Slow {
        begun: Gate,
        first: Gate,
        exiting: Gate,
        last: Gate,
    }
    impl Worker for Slow {
        type Input = u32;
        type Output = u32;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u32, context: &Context) -> Result<u32, Self::Error> {
            if context.attempt().get() == 1 {
                self.begun.open();
                self.first.pass();
            }
            Ok(*input)
        }

        fn exit(self, _: &Context) {
            self.exiting.open();
            self.last.pass();
        }
    }
    under_each_policy(|_, policy| {
        let slow = Slow::default();
        let app = App::ephemeral("exit");
        let worker = slow.clone();
        let f = app
            .worker("f", move |_: &Context| Ok(worker.clone()))
            .containers(1)
            .restart(policy)
            .exit_timeout(Duration::from_millis(500))
            .started();
        let call = f.call(1);
        slow.begun.pass();
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        assert_eq!(call.wait().expect("replayed beside the first attempt"), 1);
        let ending = std::thread::spawn(move || app.shutdown_within(Duration::from_secs(600)));
        slow.exiting.pass();
        slow.first.open();
        let report = ending.join().expect("no panic");
        assert_eq!(report.functions[0].containers[0].1, Fate::ExitTimedOut, "{report}");
        slow.last.open();
    });
}

#[test]
fn a_later_drain_does_not_extend_the_limit_of_a_shutdown() {
    under_each_policy(|_, policy| {
        let log = Log::default();
        let app = App::ephemeral("limit");
        let f = app.worker("f", tracked(&log, Exit::Well)).containers(1).restart(policy).started();
        let call = f.call(1);
        log.begun.pass();
        let ending = std::thread::spawn(move || app.shutdown_within(Duration::from_millis(500)));
        until("the function drains", || f.run(Vec::new()).is_err());
        until("the report arrives", || {
            f.drain();
            ending.is_finished()
        });
        let report = ending.join().expect("no panic");
        assert_eq!(report.functions[0].containers[0].1, Fate::StillRunning, "{report}");
        assert!(call.wait().expect_err("aborted").is_shut_down());
        log.gate.open();
    });
}

#[test]
fn a_function_is_idle_once_every_accepted_input_has_its_outcome() {
    unhung(|| {
        let app = App::ephemeral("idle");
        let gate = Gate::default();
        let passes = gate.clone();
        let f = numbers(&app, 2, move |n| {
            passes.pass();
            *n
        });
        f.idle().expect("nothing was begun");
        let calls: Vec<_> = (0..10).map(|n| f.call(n)).collect();
        let mut map = f.map(0..10u64).window(4).into_iter();
        let waits = f.clone();
        let waiter = std::thread::spawn(move || waits.idle());
        until("both containers execute an input", || f.status().executing == 2);
        let reader = std::thread::spawn(move || (map.next().expect("an outcome"), map));
        assert!(!waiter.is_finished(), "`idle` waits while inputs execute");
        gate.open();
        waiter.join().expect("no panic").expect("everything has its outcome");
        let (first, map) = reader.join().expect("no panic");
        assert_eq!(first.expect("infallible"), 0);
        f.idle().expect("its window is full");
        assert_eq!(map.progress().ok, 5, "one outcome was taken, and four fill the window");
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.wait().expect("infallible"), n as u64);
        }
    });
}

#[test]
fn idle_async_ends_with_the_last_outcome_and_idle_inside_its_own_container_is_a_typed_error() {
    unhung(|| {
        let app = App::ephemeral("idle");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let f = app.function("sums", |n: &u64| Ok::<_, u8>(n + 1)).containers(2).started();
        runtime.block_on(async {
            for _ in 0..200 {
                let calls: Vec<_> = (0..8).map(|n| f.call(n)).collect();
                f.idle_async().await.expect("it ends");
                let status = f.status();
                assert_eq!(status.executing, 0, "executing inputs");
                assert_eq!(status.inputs_waiting, 0, "waiting inputs");
                drop(calls);
            }
        });
        let inner = std::sync::Arc::new(std::sync::OnceLock::<longshore::Function<u64, bool, u8>>::new());
        let own = std::sync::Arc::clone(&inner);
        let waits = app
            .function("waits for itself", move |_: &u64| {
                let own = own.get().expect("set before the call");
                Ok(matches!(own.idle(), Err(longshore::NotReady::WouldDeadlock)))
            })
            .containers(1)
            .started();
        assert!(inner.set(waits.clone()).is_ok());
        assert!(waits.call(0).wait().expect("it returns"));
    });
}

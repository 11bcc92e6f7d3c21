//! Work that is cut off at a limit, and containers that exit.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use longshore::actor::{Ending, GetStatus, Shutdown};
use longshore::{App, Context, Fate, Function, Report};

use super::{LONG, SHORT, Waits, fates};
use crate::support::{Gate, Started, numbers_under, under_each_policy, until};

#[test]
fn async_work_that_is_cut_off_is_reported_so_and_returned_inputs_are_counted() {
    let ways: [fn(App) -> Report; 3] =
        [|app| app.shutdown_within(SHORT), |app| app.stop_within(SHORT), App::abort];
    for way in ways {
        under_each_policy(move |_, policy| {
            let app = App::ephemeral("cut");
            let begun = Gate::default();
            let told = begun.clone();
            let f = app
                .function_async("f", async move |_: &u64| {
                    // The task runs once this code waits. Code inside a poll would be left behind.
                    let waits = told.clone();
                    tokio::task::spawn_local(async move { waits.open() });
                    pending::<Result<u64, Infallible>>().await
                })
                .containers(1)
                .restart(policy)
                .started();
            let executing = f.call(0);
            begun.pass();
            let waiting = [f.call(1), f.call(2)];
            // A run accepts all its inputs at once, and ends with its first failure.
            let map = std::thread::spawn({
                let f = f.clone();
                move || f.run(vec![3, 4, 5, 6])
            });
            until("all inputs are accepted", || f.status().inputs_waiting == 6);
            let report = way(app);
            assert!(executing.wait().is_err_and(|failure| failure.attempts() == 1));
            for call in waiting {
                assert!(call.wait().is_err_and(|failure| failure.is_shut_down() && failure.attempts() == 0));
            }
            assert!(map.join().expect("no panic").is_err_and(|failure| failure.index().is_none()));
            let ended = &report.functions[0];
            assert_eq!(fates(ended), vec![Fate::CutOff], "fates: {report}");
            assert_eq!(ended.threads_running, 0, "running threads: {report}");
            assert_eq!(ended.inputs_returned, 3, "returned inputs: {report}");
            assert_eq!(ended.inputs_dropped, 4, "dropped inputs: {report}");
            assert!(!report.is_clean(), "{report}");
        });
    }
}

#[test]
fn a_stop_within_its_limit_is_clean_and_says_how_many_inputs_came_back() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("stop");
        let (begun, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (begun.clone(), gate.clone());
        let f = numbers_under(policy, &app, 1, move |n| {
            if *n == 0 {
                told.open();
                inside.pass();
            }
            *n
        });
        let executing = f.call(0);
        begun.pass();
        let waiting = [f.call(1), f.call(2), f.call(3)];
        f.stop();
        gate.open();
        let report = app.stop_within(LONG);
        assert!(executing.wait().is_ok());
        assert!(waiting.into_iter().all(|call| call.wait().is_err()));
        let ended = report.functions.first();
        let told = ended.map(|ended| (fates(ended), ended.inputs_returned, ended.limit_passed));
        assert!(told.is_none_or(|told| told == (vec![Fate::Exited], 3, false)), "{report}");
        assert!(report.is_clean(), "{report}");
    });
}

#[test]
fn an_end_that_gives_inputs_back_because_its_limit_passed_is_not_clean() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("left over");
        let f = app
            .function("f", |_: &u64| Err::<u64, _>("again"))
            .containers(1)
            .restart(policy)
            .retries(longshore::Retries::new(1).initial_delay(Duration::from_secs(60)))
            .started();
        let call = f.call(1);
        until("the input waits for its retry", || f.status().inputs_waiting == 1);
        let report = app.shutdown_within(SHORT);
        assert!(call.wait().is_err_and(|failure| failure.is_shut_down() && failure.attempts() == 1));
        let ended = &report.functions[0];
        assert_eq!(fates(ended), vec![Fate::Exited], "fates: {report}");
        assert_eq!(ended.inputs_returned, 1, "returned inputs: {report}");
        assert!(ended.limit_passed, "{report}");
        assert!(!report.is_clean(), "{report}");
    });
}

#[test]
fn code_with_checkpoints_is_cut_off_within_the_second_after_the_limit() {
    let ways: [fn(App) -> Report; 2] = [|app| app.shutdown_within(SHORT), |app| app.stop_within(SHORT)];
    for way in ways {
        under_each_policy(move |_, policy| {
            let app = App::ephemeral("checkpoints");
            let begun = Gate::default();
            let told = begun.clone();
            let f = numbers_under(policy, &app, 2, move |_| {
                told.open();
                loop {
                    Context::checkpoint();
                    std::thread::yield_now();
                }
            });
            let call = f.call(0);
            begun.pass();
            let report = way(app);
            assert!(
                call.wait().is_err_and(|failure: longshore::Failure<u64, Infallible>| failure.is_shut_down())
            );
            let ended = &report.functions[0];
            assert_eq!(ended.threads_running, 0, "{report}");
            assert!(fates(ended).contains(&Fate::CutOff), "{report}");
            assert!(!fates(ended).contains(&Fate::StillRunning), "{report}");
            assert!(!report.is_clean());
        });
    }
}

/// A function of [`Waits`] workers, the gate that input 0 opens, the gate that it waits for, and the number
/// of exits.
type Waiting = (Function<u64, u64, Infallible>, Gate, Gate, Arc<AtomicU64>);

fn waiting(app: &App, containers: usize, exit_takes: Duration, policy: longshore::RestartPolicy) -> Waiting {
    let (begun, gate, exits) = (Gate::default(), Gate::default(), Arc::new(AtomicU64::new(0)));
    let kept = (begun.clone(), gate.clone(), Arc::clone(&exits));
    let enter = move |_: &Context| {
        Ok(Waits { begun: begun.clone(), gate: gate.clone(), exits: Arc::clone(&exits), exit_takes })
    };
    let f = app.worker("f", enter).containers(containers).restart(policy).started();
    f.ready_all().expect("it starts");
    (f, kept.0, kept.1, kept.2)
}

#[test]
fn idle_containers_exit_though_a_neighbour_outlasts_the_limit() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("idle");
        let (f, begun, gate, exits) = waiting(&app, 3, Duration::ZERO, policy);
        let call = f.call(0);
        begun.pass();
        let report = app.shutdown_within(SHORT);
        let (mut told, of) = (fates(&report.functions[0]), [Fate::Exited, Fate::Exited, Fate::StillRunning]);
        told.sort_by_key(|fate| *fate != Fate::Exited);
        assert_eq!(told, of.to_vec(), "fates: {report}");
        assert_eq!(exits.load(Ordering::SeqCst), 2, "exits: {report}");
        assert!(call.wait().is_err_and(|failure| failure.is_shut_down()));
        gate.open();
    });
}

#[test]
fn an_exit_that_runs_when_the_limit_passes_has_a_second_more() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("exits");
        let (_f, _, _, exits) = waiting(&app, 2, Duration::from_millis(100), policy);
        let report = app.shutdown_within(Duration::from_millis(1));
        assert_eq!(fates(&report.functions[0]), [Fate::Exited, Fate::Exited], "{report}");
        assert_eq!(exits.load(Ordering::SeqCst), 2, "exits");
        assert!(report.is_clean(), "the end is clean");
    });
}

#[test]
fn an_abort_after_the_limit_of_a_drain_waits_for_nothing() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("abort");
        let (f, begun, gate, _) = waiting(&app, 1, Duration::ZERO, policy);
        let call = f.call(0);
        begun.pass();
        let drained = f.supervisor().send(Shutdown { ending: Ending::Drain, limit: Duration::ZERO });
        let asked = std::thread::spawn(move || block_on(drained));
        assert!(call.wait().is_err_and(|failure| failure.is_shut_down()), "the limit has passed");
        let report = app.abort();
        assert_eq!(fates(&report.functions[0]), [Fate::StillRunning], "{report}");
        assert_eq!(asked.join().expect("no panic").expect("a report"), report.functions[0]);
        gate.open();
    });
}

#[test]
fn calls_are_refused_from_the_moment_a_drain_a_stop_or_an_abort_returns() {
    for ending in ["drain", "stop", "abort"] {
        under_each_policy(move |app, policy| {
            let f = app.infallible(ending, |n: &u64| *n).containers(1).restart(policy).started();
            f.ready().expect("it starts");
            // The supervisor is busy with these messages when the end begins.
            (0..2_000).for_each(|_| f.supervisor().do_send(GetStatus));
            match ending {
                "drain" => f.drain(),
                "stop" => f.stop(),
                _ => f.abort(),
            }
            let refused = f.call(7).wait().expect_err("refused");
            assert!(refused.is_shut_down());
            assert!(refused.input() == Some(&7));
            assert!(refused.attempts() == 0);
            assert!(f.run(vec![1]).is_err_and(|failure| failure.is_shut_down()));
        });
    }
}

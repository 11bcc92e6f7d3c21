//! Code learns that its execution is cancelled (8.5 of the contract).

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use longshore::{App, ContainerId, Context, Function, Retries};

use crate::support::{Started, numbers, unhung, until};

/// Runs a test in an app of its own, and fails if it hangs.
fn in_an_app(test: impl FnOnce(App) + Send + 'static) {
    unhung(|| test(App::ephemeral("cancelling")));
}

/// The reports of the code and of its helpers, each with its input.
type Reports = Receiver<(u64, &'static str)>;

/// Starts a function whose code reports that it begins, starts two helpers, and waits for ever. Each helper
/// reports when it sees that the execution is cancelled.
fn leaves_helpers(app: &App, in_flight: usize) -> (Function<u64, u64, Infallible>, Reports) {
    let (send, receive): (Sender<(u64, &str)>, _) = channel();
    let f = app.function_async("f", async move |n: &u64| {
        let (context, n) = (Context::current().expect("inside a container"), *n);
        let (scope, cancelled) = (context.scope(), context.cancelled());
        let (of_future, of_scope) = (send.clone(), send.clone());
        std::thread::spawn(move || {
            while !scope.is_cancelled() {
                std::thread::yield_now();
            }
            of_scope.send((n, "a scope")).expect("the test listens");
        });
        std::thread::spawn(move || {
            futures::executor::block_on(cancelled);
            of_future.send((n, "a future")).expect("the test listens");
        });
        send.send((n, "begun")).expect("the test listens");
        pending().await
    });
    (f.containers(1).concurrent_inputs(in_flight).started(), receive)
}

/// Receives what both helpers of an input report.
fn both_report(receive: &Reports, of: u64) {
    let mut seen: Vec<&str> = (0..2)
        .map(|_| {
            let (n, helper) = receive.recv_timeout(Duration::from_secs(30)).expect("both helpers report");
            assert_eq!(n, of, "only the helpers of the cancelled input report");
            helper
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, ["a future", "a scope"]);
}

/// Waits until the code executes an input.
fn begins(receive: &Reports, input: u64) {
    assert_eq!(receive.recv_timeout(Duration::from_secs(30)), Ok((input, "begun")));
}

#[test]
fn the_helpers_of_a_call_that_was_dropped_see_it_and_those_of_its_neighbour_do_not() {
    in_an_app(|app| {
        let (f, reports) = leaves_helpers(&app, 2);
        let first = f.call(1);
        begins(&reports, 1);
        let second = f.call(2);
        begins(&reports, 2);
        drop(first);
        both_report(&reports, 1);
        drop(second);
        both_report(&reports, 2);
    });
}

#[test]
fn the_helpers_of_a_function_that_was_aborted_see_it() {
    in_an_app(|app| {
        let (f, reports) = leaves_helpers(&app, 1);
        let mut map = f.map(vec![7]).into_iter();
        let reader = std::thread::spawn(move || map.next().is_none_or(|outcome| outcome.is_err()));
        begins(&reports, 7);
        drop(app); // the function lives on, because its handle does
        f.abort();
        assert!(reader.join().expect("it only waits"));
        both_report(&reports, 7);
    });
}

#[test]
fn the_helpers_of_a_container_that_was_killed_see_it() {
    in_an_app(|app| {
        let (f, reports) = leaves_helpers(&app, 1);
        let call = f.call(3);
        begins(&reports, 3);
        assert!(f.kill_container(ContainerId::new(0)), "it lives");
        let mut seen = Vec::from_iter(
            (0..3).map(|_| reports.recv_timeout(Duration::from_secs(30)).expect("a report").1),
        );
        seen.sort_unstable();
        assert_eq!(
            seen,
            ["a future", "a scope", "begun"],
            "the helpers of the first attempt, and the replay"
        );
        drop(call);
        both_report(&reports, 3); // the helpers of the replay
    });
}

#[test]
fn synchronous_code_that_asks_returns_early_and_its_container_goes_on() {
    in_an_app(|app| {
        let f = numbers(&app, 1, |n| {
            let context = Context::current().expect("inside a container");
            while *n == 0 && !context.is_cancelled() {
                std::thread::yield_now();
            }
            *n
        });
        let endless = f.call(0);
        until("it executes", || f.status().executing == 1);
        drop(endless);
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_eq!(f.status().crashes, 0);
        assert_eq!(f.status().late_answers, 1, "its answer was refused");
    });
}

/// 8.5
#[test]
fn a_cancelled_input_that_fails_is_not_retried() {
    in_an_app(|app| {
        let executions = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&executions);
        let f = app
            .function("fails", move |n: &u64| {
                counted.fetch_add(1, Ordering::SeqCst);
                let context = Context::current().expect("inside a container");
                while *n == 0 && !context.is_cancelled() {
                    std::thread::yield_now();
                }
                if *n == 0 { Err("gone") } else { Ok(*n) }
            })
            .containers(1)
            .retries(Retries::new(5).initial_delay(Duration::ZERO))
            .start()
            .expect("valid");
        let call = f.call(0);
        until("its code has begun", || executions.load(Ordering::SeqCst) == 1);
        drop(call);
        assert_eq!(f.call(1).wait().expect("it succeeds"), 1);
        // A retry would be executed behind the call, and before the function is idle.
        f.idle().expect("its engine is whole");
        assert_eq!(executions.load(Ordering::SeqCst), 2, "each was executed once");
        assert_eq!((f.snapshot().totals.cancelled, f.snapshot().totals.retried), (1, 0));
    });
}

#[test]
fn an_execution_that_ends_in_another_way_is_not_cancelled() {
    in_an_app(|app| {
        let f = numbers(&app, 1, |n| u64::from(Context::current().expect("inside").is_cancelled()) + n);
        assert_eq!(f.run((0..100).collect()).expect("infallible"), Vec::from_iter(0..100));
        drop(f.call(5));
        assert_eq!(f.run(vec![0]).expect("infallible"), [0], "a cancellation does not outlive its execution");
    });
}

//! Calls: one after another, many without an outcome at once, and given up in masses. The rivals are a pair
//! of crossbeam's channels, actix, a worker task with a channel for each answer, and tokio's blocking pool.
//!
//! The function has one container, as the rivals have one worker. The blocking pool has as many threads as it
//! makes. None of the rivals survives a panic of its work, bounds what waits, or can say what became of it.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

#[path = "../latency/actors.rs"]
mod actors;
#[path = "../harness/mod.rs"]
mod harness;
mod workers;

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::{StreamExt, stream};
use longshore::{App, Limits};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, spawn_blocking};

use actors::Echo;
use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, Ours};
use harness::question::Measure;
use harness::reading::{Reading, delays, per_input, timed};
use harness::work::no_op;
use workers::{Gate, Pair, Task};

const MEASURES: [Measure; 2] = [
    Measure { name: "p50", unit: "µs", goal: Goal::Shown },
    Measure { name: "p99", unit: "µs", goal: Goal::Shown },
];

fn main() {
    let mut harness = Harness::new("calls");
    one_by_one(&mut harness);
    at_once(&mut harness);
    given_up(&mut harness);
    limits(&mut harness);
}

/// A function with one container.
fn function() -> Ours {
    ours::start_with(1, App::ephemeral("bench").infallible("bench", |n: &u64| no_op(*n)))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn one_by_one(harness: &mut Harness) {
    let (function, runtime) = (function(), runtime());
    let (pair, echo, task) = (Pair::spawn(), Echo::start_elsewhere(), Task::spawn());
    let questions = [
        ("a call after another one", Duration::ZERO, 1000, [Goal::Shown, Goal::Times(2.0)]),
        ("a call after a pause of 1 ms", Duration::from_millis(1), 100, [Goal::Times(1.3), Goal::Shown]),
    ];
    for (name, pause, calls, [crossbeam, actix]) in questions {
        let n = harness.inputs(calls);
        let shown = [Goal::Shown; 2];
        harness
            .question(name, n)
            .measures(&MEASURES)
            .ours(|| trips(n, pause, |n| function.call(n).wait().expect("nothing fails here")))
            .rival("a pair of crossbeam's channels", &[crossbeam, Goal::Shown], || {
                trips(n, pause, |n| pair.ask(n))
            })
            .rival("actix `send` to another arbiter", &[actix, Goal::Shown], || {
                trips(n, pause, |n| echo.ask(n))
            })
            .rival("`mpsc` and `oneshot`", &shown, || {
                trips(n, pause, |n| runtime.block_on(task.ask(n)).expect("the task lives"))
            })
            .rival("`spawn_blocking`", &shown, || {
                trips(n, pause, |n| {
                    runtime.block_on(async { spawn_blocking(move || no_op(n)).await }).expect("no panic")
                })
            })
            .ask();
    }
}

/// The times that calls take, each after a pause.
fn trips(calls: u64, pause: Duration, call: impl Fn(u64) -> u64) -> Reading {
    let begun = Instant::now();
    let trip = |n| {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        let asked = Instant::now();
        assert_eq!(call(n), n);
        asked.elapsed()
    };
    let trips = (0..calls).map(trip).collect();
    delays(begun.elapsed(), trips)
}

/// Calls in a task that has many of them without an outcome.
fn at_once(harness: &mut Harness) {
    let (function, task, runtime) = (function(), Task::spawn(), runtime());
    let _inside = runtime.enter(); // for `spawn_blocking`
    for (name, at_once, goal) in
        [("calls, 64 at once", 64, Goal::Times(1.5)), ("calls, 10 000 at once", 10_000, Goal::Shown)]
    {
        let n = harness.inputs(30_000);
        harness
            .question(name, n)
            .ours(per_input(n, || {
                block_on(stream::iter(0..n).map(|n| function.call(n)).buffer_unordered(at_once).collect())
            }))
            .rival(
                "`mpsc` and `oneshot`",
                &[goal],
                per_input(n, || {
                    block_on(stream::iter(0..n).map(|n| task.ask(n)).buffer_unordered(at_once).collect())
                }),
            )
            .rival(
                "`spawn_blocking`",
                &[Goal::Shown],
                per_input(n, || {
                    let ask = |n| spawn_blocking(move || no_op(n));
                    block_on(stream::iter(0..n).map(ask).buffer_unordered(at_once).collect())
                }),
            )
            .ask();
    }
}

/// Calls that wait and are given up, all at once.
fn given_up(harness: &mut Harness) {
    let n = harness.inputs(100_000);
    let (gate, wait) = Gate::new();
    let (app, held) = (App::ephemeral("bench"), wait.clone());
    let stuck = app.infallible("stuck", move |n: &u64| {
        held();
        *n
    });
    let stuck: Ours = ours::start_with(1, stuck);
    let first = stuck.call(0);
    while stuck.status().executing == 0 {
        thread::yield_now();
    }
    let pool = Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
    let held = pool.spawn_blocking(wait);
    let abort = |calls: Vec<JoinHandle<u64>>| calls.into_iter().for_each(|call| call.abort());
    harness
        .question("a waiting call that is given up, of 1e5", n)
        .measures(&[Measure { name: "", unit: "ns", goal: Goal::AtMost(1000.0) }])
        .ours(timed(n, 1, || (0..n).map(|n| stuck.call(n)).collect::<Vec<_>>(), drop, |()| ()))
        .rival(
            "`spawn_blocking`, aborted",
            &[Goal::Shown],
            timed(
                n,
                1,
                || (0..n).map(|n| pool.spawn_blocking(move || no_op(n))).collect::<Vec<_>>(),
                abort,
                |()| (),
            ),
        )
        .ask();
    drop(gate);
    assert_eq!(first.wait().expect("nothing fails here"), 0);
    block_on(held).expect("no panic");
}

/// How late a timeout and a deadline are noticed, by the moment at which the caller has its outcome.
fn limits(harness: &mut Harness) {
    let n = harness.inputs(200);
    let began = Arc::new(Mutex::new(Instant::now()));
    let begins = Arc::clone(&began);
    let app = App::ephemeral("bench");
    let stuck = app.function_async("stuck", async move |_: &u64| {
        *begins.lock().expect("it does not panic") = Instant::now();
        pending::<Result<u64, Infallible>>().await
    });
    let stuck: Ours = ours::start_with(1, stuck);
    let measures = [
        Measure { name: "p50", unit: "µs", goal: Goal::AtMost(2_000.0) },
        // 2 ms, and a slice of the system's scheduler.
        Measure { name: "p99", unit: "µs", goal: Goal::AtMost(5_000.0) },
    ];
    // Limits of many lengths, because the timers of the runtime have a unit of a millisecond.
    let length = |n: u64| Duration::from_micros(2_000 + n * 271 % 1_000);
    harness
        .question("a timeout is noticed late by", n)
        .measures(&measures)
        .ours(|| {
            late(n, |n| {
                let limit = length(n);
                let failure = stuck.call_within(n, Limits::new().timeout(limit)).wait();
                assert!(failure.expect_err("it never returns").is_timed_out());
                *began.lock().expect("it does not panic") + limit
            })
        })
        .ask();
    harness
        .question("a deadline is noticed late by", n)
        .measures(&measures)
        .ours(|| {
            late(n, |n| {
                let limit = length(n);
                let passes = Instant::now() + limit;
                let failure = stuck.call_within(n, Limits::new().deadline(limit)).wait();
                assert!(failure.expect_err("it never returns").is_past_deadline());
                passes
            })
        })
        .ask();
}

/// By how much calls return late. `call` returns the moment at which it was to return.
fn late(calls: u64, call: impl Fn(u64) -> Instant) -> Reading {
    let begun = Instant::now();
    let one = |n| {
        let moment = call(n);
        moment.elapsed()
    };
    let late = (0..calls).map(one).collect();
    delays(begun.elapsed(), late)
}

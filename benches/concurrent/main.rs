//! Many async inputs at once, compared with the two ways that tokio's users know: `buffer_unordered` on one
//! runtime, and the same with each future spawned on a runtime with two threads.
//!
//! Our outcomes come in order. The rivals' outcomes come as they complete, and a panic in one of the rivals'
//! futures ends all others, or all that is not spawned. Each question measures the wall time and the CPU time
//! of the process, because waiting costs no wall time.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

#[path = "../harness/mod.rs"]
mod harness;

mod all_at_once;
mod cpu;
mod each;
mod heap;

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::panic_any;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use longshore::{App, Failure, RateLimited};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, Ours, WORKERS, as_iterator};
use harness::question::Measure;
use harness::reading::{Reading, assert_whole};
use harness::work::{Silence, one_in};

const MEASURES: [Measure; 2] = [
    Measure { name: "wall", unit: "ns", goal: Goal::Shown },
    Measure { name: "CPU", unit: "ns", goal: Goal::Shown },
];

fn main() {
    if all_at_once::is_child() {
        return;
    }
    Silence::install();
    let mut harness = Harness::new("concurrent");
    sleeping(&mut harness, 2);
    sleeping(&mut harness, 1);
    ready_at_once(&mut harness);
    yielding_once(&mut harness);
    poison(&mut harness);
    each::each(&mut harness);
    all_at_once::all_at_once(&mut harness);
}

fn sleeping(harness: &mut Harness, containers: usize) {
    let n = harness.inputs(10_000);
    let nap = harness.time(Duration::from_millis(20));
    let in_flight = 500;
    let ours = many(containers, in_flight / containers, async move |n| {
        sleep(nap).await;
        n
    });
    let (one, two) = (one_thread(), two_threads());
    let work = move |n| async move {
        sleep(nap).await;
        n
    };
    let cpu = if containers == 1 { 1.2 } else { 2.0 };
    harness
        .question(&format!("20 ms of sleep, 500 in flight, containers: {containers}"), n)
        .measures(&MEASURES)
        .ours(both(n, || as_iterator(&ours, n)))
        .rival(
            "buffer_unordered",
            &[Goal::Times(1.02), Goal::Times(cpu)],
            both(n, || {
                one.block_on(stream::iter(0..n).map(work).buffer_unordered(in_flight).map(ok).collect())
            }),
        )
        .rival(
            "buffer_unordered, spawned",
            &[Goal::Times(1.02), Goal::Times(0.7)],
            both(n, || {
                let spawned = move |n| async move { tokio::spawn(work(n)).await.expect("no panic") };
                two.block_on(stream::iter(0..n).map(spawned).buffer_unordered(in_flight).map(ok).collect())
            }),
        )
        .ask();
}

fn ready_at_once(harness: &mut Harness) {
    let n = harness.inputs(1_000_000);
    cheap(harness, "ready at once, 64 in flight", n, [1.5, 0.2], |n| async move { n });
}

fn yielding_once(harness: &mut Harness) {
    let n = harness.inputs(1_000_000);
    cheap(harness, "yields once, 64 in flight", n, [0.5, 0.3], |n| async move {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        n
    });
}

/// A question about cheap futures. `goals` are for the wall time, against each rival.
fn cheap<W, F>(harness: &mut Harness, name: &str, n: u64, goals: [f64; 2], work: W)
where
    W: Fn(u64) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = u64> + Send + 'static,
{
    let in_flight = 64;
    let ours = many(WORKERS, in_flight / WORKERS, async move |n| work(n).await);
    let (one, two) = (one_thread(), two_threads());
    harness
        .question(name, n)
        .measures(&MEASURES)
        .ours(both(n, || as_iterator(&ours, n)))
        .rival(
            "buffer_unordered",
            &[Goal::Times(goals[0]), Goal::Shown],
            both(n, || {
                one.block_on(stream::iter(0..n).map(work).buffer_unordered(in_flight).map(ok).collect())
            }),
        )
        .rival(
            "buffer_unordered, spawned",
            &[Goal::Times(goals[1]), Goal::Shown],
            both(n, || {
                let spawned = move |n| async move { tokio::spawn(work(n)).await.expect("no panic") };
                two.block_on(stream::iter(0..n).map(spawned).buffer_unordered(in_flight).map(ok).collect())
            }),
        )
        .ask();
}

fn poison(harness: &mut Harness) {
    let n = harness.inputs(20_000);
    let nap = harness.time(Duration::from_millis(5));
    let work = move |poisonous: bool| {
        many(WORKERS, 250, async move |n| {
            sleep(nap).await;
            if poisonous && one_in(100, n) {
                panic_any(Silence::WORD);
            }
            n
        })
    };
    let (calm, crashing) = (work(false), work(true));
    let whole = |outcomes: Vec<Result<u64, Failure<u64, Infallible>>>| {
        assert_eq!(outcomes.len() as u64, n);
        for (n, outcome) in (0..).zip(outcomes) {
            assert_eq!(outcome.is_err(), one_in(100, n), "outcome {n}");
        }
    };
    harness
        .question("1 % are poison, 5 ms of sleep, 500 in flight", n)
        .measures(&MEASURES)
        .ours(both_checked(n, || as_iterator(&crashing, n), whole))
        .rival(
            "itself, without poison",
            &[Goal::Throughput(0.95), Goal::Shown],
            both(n, || as_iterator(&calm, n)),
        )
        .ask();
}

/// Starts an async function with many inputs in flight in each container.
fn many(containers: usize, in_flight: usize, work: impl AsyncFn(u64) -> u64 + Send + Sync + 'static) -> Ours {
    let app = App::ephemeral("bench");
    let function = app.function_async("bench", async move |n: &u64| Ok(work(*n).await));
    let function = function.concurrent_inputs(in_flight).restart(RateLimited::never());
    ours::start_with(containers, function)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("a runtime")
}

fn ok(n: u64) -> Result<u64, Infallible> {
    Ok(n)
}

/// The wall time and the CPU time of each input of a run over `0..inputs`.
fn both<E>(inputs: u64, run: impl FnMut() -> Vec<Result<u64, E>>) -> impl FnMut() -> Reading {
    both_checked(inputs, run, move |outcomes| assert_whole(inputs, outcomes))
}

/// The same, with a check of the outcomes.
fn both_checked<T>(
    inputs: u64,
    mut run: impl FnMut() -> T,
    mut check: impl FnMut(T),
) -> impl FnMut() -> Reading {
    move || {
        let (begun, used) = (Instant::now(), cpu::used());
        let outcomes = run();
        let (took, used) = (begun.elapsed(), cpu::used() - used);
        check(outcomes);
        let figures = [took, used].map(|time| time.as_nanos() as f64 / inputs as f64);
        Reading { took, figures: figures.to_vec() }
    }
}

//! The costs of single events among many inputs in flight: a poll, a panic, a cancellation, and a timer.

use std::convert::Infallible;
use std::future::pending;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use longshore::{App, Context, RateLimited};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::harness::Harness;
use crate::harness::goal::Goal;
use crate::harness::ours::{self, WORKERS, as_iterator};
use crate::harness::question::Measure;
use crate::harness::reading::Reading;
use crate::harness::work::{Silence, one_in};
use crate::{cpu, many, one_thread};

/// How often each input of the question about polls yields.
const YIELDS: u64 = 100;

pub(crate) fn each(harness: &mut Harness) {
    poll(harness);
    panic(harness);
    cancellation(harness);
    timer(harness);
}

async fn yields(n: u64) -> u64 {
    for _ in 0..YIELDS {
        yield_now().await;
    }
    n
}

/// The CPU time around each poll of futures that yield.
fn poll(harness: &mut Harness) {
    let n = harness.inputs(20_000);
    let ours = many(1, 64, yields);
    let one = one_thread();
    let per_poll = |used: Duration, took| {
        let figures = vec![used.as_nanos() as f64 / (n * YIELDS) as f64];
        Reading { took, figures }
    };
    harness
        .question("each poll, 64 in flight: CPU", n)
        .ours(|| {
            let (begun, used) = (Instant::now(), cpu::used());
            assert_eq!(as_iterator(&ours, n).len() as u64, n);
            per_poll(cpu::used() - used, begun.elapsed())
        })
        .rival("buffer_unordered", &[Goal::TimesOrMore(1.0, 10.0)], || {
            let (begun, used) = (Instant::now(), cpu::used());
            let work = stream::iter(0..n).map(yields).buffer_unordered(64);
            assert_eq!(one.block_on(work.collect::<Vec<_>>()).len() as u64, n);
            per_poll(cpu::used() - used, begun.elapsed())
        })
        .ask();
}

/// The wall time of each panic. One input in ten panics in its first attempt.
fn panic(harness: &mut Harness) {
    let n = harness.inputs(20_000);
    let start = |panics: bool| {
        many(WORKERS, 32, async move |n| {
            yield_now().await;
            let attempt = || Context::current().expect("in a container").attempt().get();
            if panics && one_in(10, n) && attempt() == 1 {
                panic_any(Silence::WORD);
            }
            n
        })
    };
    let (calm, crashing) = (start(false), start(true));
    let panics = (0..n).filter(|n| one_in(10, *n)).count().max(1);
    let run = |function| {
        let begun = Instant::now();
        assert_eq!(as_iterator(function, n).iter().filter(|outcome| outcome.is_ok()).count() as u64, n);
        let took = begun.elapsed();
        Reading { took, figures: vec![took.as_nanos() as f64 / panics as f64] }
    };
    harness
        .question("each panic, 1 in 10 inputs, 64 in flight", n)
        .ours(|| run(&crashing))
        .rival("itself, without panics", &[Goal::TimesOrMore(1.0, 5_000.0)], || run(&calm))
        .ask();
}

/// The wall time of cancelling each of many calls in flight, and until the last one has left its container.
fn cancellation(harness: &mut Harness) {
    let n = harness.inputs(100_000);
    let app = App::ephemeral("bench");
    let work = async |_: &u64| pending::<Result<u64, Infallible>>().await;
    let function = app.function_async("bench", work).concurrent_inputs((n as usize).div_ceil(WORKERS));
    let function = ours::start_with(WORKERS, function.restart(RateLimited::never()));
    // A status counts 100 000 leases under the lock, which the containers need to begin the calls.
    let executes = |inputs: u64| {
        while function.status().executing != inputs {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let measures = [Measure { name: "", unit: "ns", goal: Goal::AtMost(2_000.0) }];
    harness
        .question("each cancellation, 100 000 in flight", n)
        .measures(&measures)
        .ours(|| {
            let calls: Vec<_> = (0..n).map(|input| function.call(input)).collect();
            executes(n);
            let begun = Instant::now();
            drop(calls);
            let took = begun.elapsed();
            executes(0);
            Reading { took, figures: vec![took.as_nanos() as f64 / n as f64] }
        })
        .ask();
}

/// How late timers fire in a container with 500 inputs that are always ready.
fn timer(harness: &mut Harness) {
    let nap = Duration::from_millis(5);
    let (busy, naps) = (500, 40);
    let measures = [Measure { name: "the latest of 40", unit: "ns", goal: Goal::AtMost(2_000_000.0) }];
    harness
        .question("a timer among 500 that are always ready", naps)
        .measures(&measures)
        .ours(|| {
            let over = Arc::new(AtomicBool::new(false));
            let ends = Arc::clone(&over);
            // Input 0 measures, and the others are busy until it has.
            let function = many(1, busy + 1, async move |n| {
                let mut latest = Duration::ZERO;
                if n == 0 {
                    for _ in 0..naps {
                        let begun = Instant::now();
                        sleep(nap).await;
                        latest = latest.max(begun.elapsed().saturating_sub(nap));
                    }
                    ends.store(true, Ordering::Relaxed);
                }
                while !ends.load(Ordering::Relaxed) {
                    yield_now().await;
                }
                latest.as_nanos() as u64
            });
            let begun = Instant::now();
            let outcomes = as_iterator(&function, busy as u64 + 1);
            let latest = outcomes.into_iter().next().and_then(Result::ok).expect("it measures");
            Reading { took: begun.elapsed(), figures: vec![latest as f64] }
        })
        .ask();
}

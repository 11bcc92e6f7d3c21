//! Batches, compared with chunks over rayon that a user writes by hand. A panic in a chunk of rayon's ends
//! the whole run.
//!
//! Both sides call the same code, which gets a slice of references and returns a vector of outcomes.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

#[path = "../harness/mod.rs"]
mod harness;

use std::convert::Infallible;
use std::hint::black_box;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore::{App, Failure};
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, Ours, as_iterator};
use harness::question::Measure;
use harness::reading::{Reading, assert_whole};
use harness::work::Silence;

type Outcomes = Vec<Result<u64, Infallible>>;

fn main() {
    Silence::install();
    let mut harness = Harness::new("batches");
    no_op(&mut harness, 64);
    no_op(&mut harness, 1_000);
    spinning(&mut harness);
    poison(&mut harness);
}

/// Starts a function of batches.
fn batches(size: usize, code: impl Fn(&[&u64]) -> Outcomes + Send + Sync + 'static) -> Ours {
    let app = App::ephemeral("bench");
    ours::start(app.batch("bench", code).batch_size(size))
}

/// The same by hand.
fn by_hand(inputs: u64, size: usize, code: impl Fn(&[&u64]) -> Outcomes + Sync) -> Outcomes {
    let inputs: Vec<u64> = (0..inputs).collect();
    let chunk = |chunk: &[u64]| {
        let references: Vec<&u64> = chunk.iter().collect();
        code(&references)
    };
    let outcomes: Vec<Outcomes> = inputs.par_chunks(size).map(chunk).collect();
    outcomes.into_iter().flatten().collect()
}

fn echo(inputs: &[&u64]) -> Outcomes {
    inputs.iter().map(|n| Ok(**n)).collect()
}

fn no_op(harness: &mut Harness, size: usize) {
    let n = harness.inputs(1_000_000);
    let ours = batches(size, echo);
    harness
        .question(&format!("no-op, batches of {size}, run_all"), n)
        .ours(wall(n, || ours.run_all((0..n).collect())))
        .rival("chunks over rayon", &[Goal::TimesOrMore(3.0, 4.0)], wall(n, || by_hand(n, size, echo)))
        .ask();
    harness
        .question(&format!("the same as an iterator, batches of {size}"), n)
        .ours(wall(n, || as_iterator(&ours, n)))
        .rival("chunks over rayon", &[Goal::Shown], wall(n, || by_hand(n, size, echo)))
        .ask();
}

/// Code that costs a microsecond an input, as a small model does.
fn spinning(harness: &mut Harness) {
    let n = harness.inputs(200_000);
    let code = |inputs: &[&u64]| {
        let until = Instant::now() + Duration::from_micros(inputs.len() as u64);
        while Instant::now() < until {
            black_box(());
        }
        echo(inputs)
    };
    let ours = batches(64, code);
    harness
        .question("1 us an input, batches of 64", n)
        .ours(wall(n, || as_iterator(&ours, n)))
        .rival("chunks over rayon", &[Goal::Times(1.05)], wall(n, || by_hand(n, 64, code)))
        .ask();
}

/// How often inputs are executed for the sake of one that always panics.
fn poison(harness: &mut Harness) {
    let n = 4_096;
    let executed = Arc::new(AtomicU64::new(0));
    let start = |poison: Option<u64>| {
        let executed = Arc::clone(&executed);
        batches(256, move |inputs| {
            executed.fetch_add(inputs.len() as u64, Ordering::Relaxed);
            if inputs.iter().any(|n| Some(**n) == poison) {
                panic_any(Silence::WORD);
            }
            echo(inputs)
        })
    };
    let (calm, crashing) = (start(None), start(Some(1_234)));
    let count = |function: &Ours, poisoned: usize| {
        executed.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let outcomes: Vec<Result<u64, Failure<u64, Infallible>>> = as_iterator(function, n);
        let took = begun.elapsed();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), poisoned);
        Reading { took, figures: vec![executed.load(Ordering::Relaxed) as f64 / n as f64] }
    };
    harness
        .question("one poison among 4096, batches of 256", n)
        .measures(&[Measure { name: "executions of an input", unit: "", goal: Goal::Shown }])
        .ours(|| count(&crashing, 1))
        .rival("itself, without poison", &[Goal::Times(1.13)], || count(&calm, 0))
        .ask();
}

/// The wall time of each input of a run over `0..inputs`.
fn wall<E>(inputs: u64, mut run: impl FnMut() -> Vec<Result<u64, E>>) -> impl FnMut() -> Reading {
    move || {
        let begun = Instant::now();
        let outcomes = run();
        let took = begun.elapsed();
        assert_whole(inputs, outcomes);
        Reading { took, figures: vec![took.as_nanos() as f64 / inputs as f64] }
    }
}

//! The cost of crashes for all the other inputs: throughput with panics, compared with the same function
//! without.
//!
//! Inputs are 50 µs of work. The only rival is our own function without crashes.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

mod harness;

use std::panic::panic_any;
use std::time::Duration;

use longshore::{App, Context};

use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, Ours, Outcome, WORKERS, as_iterator};
use harness::reading::{per_input, timed};
use harness::work::{Silence, one_in};

/// One input of this many crashes its container at its first attempt.
const CRASHING: u64 = 100;

/// One input of this many crashes every container that executes it.
const POISON: u64 = 50;

fn main() {
    Silence::install();
    let mut harness = Harness::new("faults");
    first_attempts_that_panic(&mut harness);
    poison(&mut harness);
}

fn first_attempts_that_panic(harness: &mut Harness) {
    let n = harness.inputs(10_000);
    let work = harness.work(Duration::from_micros(50));
    let half = harness.work(Duration::from_micros(25));
    let calm = ours::plain(move |n| work.run(n));
    let crashing = ours::plain(move |n| {
        if one_in(CRASHING, n) && Context::current().expect("in a container").attempt().get() == 1 {
            half.run(n); // the crash comes half-way through the work
            panic_any(Silence::WORD);
        }
        work.run(n)
    });
    harness
        .question("1 % of first attempts panic half-way", n)
        .ours(per_input(n, || as_iterator(&crashing, n)))
        .rival("itself, without panics", &[Goal::Throughput(0.95)], per_input(n, || as_iterator(&calm, n)))
        .ask();
}

fn poison(harness: &mut Harness) {
    let n = harness.inputs(10_000);
    let work = harness.work(Duration::from_micros(50));
    let innocents: Vec<u64> = (0..n).filter(|n| !one_in(POISON, *n)).collect();
    let run = move |n| {
        if one_in(POISON, n) {
            panic_any(Silence::WORD);
        }
        work.run(n)
    };
    let app = App::deployed("bench");
    let deployed = app.infallible("poisoned", move |n: &u64| run(*n));
    // The function of the ephemeral app never gives up, as in all rows. The deployed one keeps its default
    // policy.
    let apps = [("ephemeral", ours::plain(run)), ("deployed", ours::start_with(WORKERS, deployed))];
    for (app, function) in apps {
        let alone = || run_innocents(&function, innocents.clone());
        let count = innocents.len() as u64;
        let whole = |outcomes| assert_poisoned(n, outcomes);
        harness
            .question(&format!("2 % are poison, {app}"), n)
            .ours(timed(count, 1, || (), |()| as_iterator(&function, n), whole))
            .rival(
                "itself, the innocent alone",
                &[Goal::Throughput(0.9)],
                timed(count, 1, || (), |()| alone(), drop),
            )
            .ask();
    }
}

fn run_innocents(function: &Ours, innocents: Vec<u64>) -> Vec<Outcome> {
    let count = innocents.len();
    let outcomes: Vec<Outcome> = function.map(innocents).return_exceptions().into_iter().collect();
    assert!(outcomes.len() == count && outcomes.iter().all(Result::is_ok));
    outcomes
}

/// # Panics
///
/// If an innocent input of `0..inputs` has no output, or if a poisonous one has an output.
fn assert_poisoned(inputs: u64, outcomes: Vec<Outcome>) {
    assert_eq!(outcomes.len() as u64, inputs);
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(output) => assert_eq!(output, n),
            Err(failure) => assert!(failure.is_poisoned() && one_in(POISON, n), "{n}: {failure}"),
        }
    }
}

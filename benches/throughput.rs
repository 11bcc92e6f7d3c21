//! The cost of a map per input, from inputs without work to inputs of 5 ms, compared with rayon and tokio.
//!
//! Every way has two workers, gives a `Result` per input, and ends with everything collected in the caller.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time, and a rival needs a boundary")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

mod harness;

use std::any::Any;
use std::convert::Infallible;
use std::panic::catch_unwind;
use std::time::Duration;

use futures::{StreamExt, stream};
use longshore::{App, Builder};
use rayon::iter::{IntoParallelIterator, ParallelBridge, ParallelIterator};
use tokio::runtime::Runtime;
use tokio::task::{JoinError, JoinSet};

use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, WORKERS, as_iterator, as_stream, lazily, unknown_length};
use harness::reading::{assert_whole, per_input, repeated, timed};
use harness::work::{Spin, no_op, one_in};

/// A function before it is started.
type Unstarted = Builder<u64, u64, Infallible>;

/// The outcome of an input that may panic, under rayon.
type Caught = Result<u64, Box<dyn Any + Send>>;

fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build_global().expect("rayon is not in use yet");
    let mut harness = Harness::new("throughput");
    million_that_do_nothing(&mut harness);
    million_with_limits(&mut harness);
    thousand_that_do_nothing(&mut harness);
    that_work(&mut harness);
    skewed(&mut harness);
    tokio_that_does_nothing(&mut harness);
}

fn rayon(inputs: u64, run: impl Fn(u64) -> u64 + Sync) -> Vec<Caught> {
    (0..inputs).into_par_iter().map(|n| caught(&run, n)).collect()
}

fn par_bridge(inputs: u64, run: impl Fn(u64) -> u64 + Sync) -> Vec<Caught> {
    unknown_length(inputs).par_bridge().map(|n| caught(&run, n)).collect()
}

fn caught(run: &impl Fn(u64) -> u64, n: u64) -> Caught {
    catch_unwind(std::panic::AssertUnwindSafe(|| run(n)))
}

fn million_that_do_nothing(harness: &mut Harness) {
    let function = ours::plain(no_op);
    let n = harness.inputs(1_000_000);
    let goal = [Goal::TimesOrMore(3.0, 4.0)];
    harness
        .question("no-op, blocking iterator", n)
        .ours(per_input(n, || as_iterator(&function, n)))
        .rival("rayon `par_iter`", &goal, per_input(n, || rayon(n, no_op)))
        .ask();
    harness
        .question("no-op, stream", n)
        .ours(per_input(n, || as_stream(&function, n)))
        .rival("rayon `par_iter`", &goal, per_input(n, || rayon(n, no_op)))
        .ask();
    let inputs = || (0..n).collect::<Vec<u64>>();
    harness
        .question("no-op, bulk", n)
        .ours(timed(n, 1, inputs, |all| function.run_all(all), |outcomes| assert_whole(n, outcomes)))
        .rival(
            "rayon `into_par_iter`",
            &[Goal::Times(1.5)],
            timed(n, 1, inputs, rayon_in_bulk, |outcomes| assert_whole(n, outcomes)),
        )
        .ask();
    harness
        .question("no-op, iterator of unknown length", n)
        .ours(per_input(n, || lazily(&function, n)))
        .rival("rayon `par_bridge`", &[Goal::Faster(3.0)], per_input(n, || par_bridge(n, no_op)))
        .ask();
}

/// The cost of a limit of time for each input, beside the same function without one.
fn million_with_limits(harness: &mut Harness) {
    let minute = Duration::from_secs(60);
    let limited = |limit: fn(Unstarted, Duration) -> Unstarted| {
        let app = App::ephemeral("bench");
        ours::start(limit(app.infallible("bench", |n: &u64| no_op(*n)), minute))
    };
    let (timeout, deadline) = (limited(Builder::timeout), limited(Builder::deadline));
    let function = ours::plain(no_op);
    let n = harness.inputs(1_000_000);
    for (name, limited) in [("no-op with a timeout", &timeout), ("no-op with a deadline", &deadline)] {
        harness
            .question(name, n)
            .ours(per_input(n, || as_iterator(limited, n)))
            .rival("without it", &[Goal::TimesOrMore(1.0, 2.0)], per_input(n, || as_iterator(&function, n)))
            .ask();
    }
}

fn rayon_in_bulk(inputs: Vec<u64>) -> Vec<Caught> {
    inputs.into_par_iter().map(|n| caught(&no_op, n)).collect()
}

fn thousand_that_do_nothing(harness: &mut Harness) {
    /// The number of runs in a round, because one run takes only some tens of microseconds.
    const TIMES: u32 = 200;
    let function = ours::plain(no_op);
    let n = harness.inputs(1000);
    let inputs = || (0..n).collect::<Vec<u64>>();
    harness
        .question("no-op, bulk, few", n)
        .ours(timed(n, TIMES, inputs, |all| function.run_all(all), |outcomes| assert_whole(n, outcomes)))
        .rival(
            "rayon `into_par_iter`",
            &[Goal::Times(1.3)],
            timed(n, TIMES, inputs, rayon_in_bulk, |outcomes| assert_whole(n, outcomes)),
        )
        .ask();
    harness
        .question("no-op, stream, few", n)
        .ours(repeated(n, TIMES, || as_stream(&function, n)))
        .rival("rayon `par_iter`", &[Goal::Times(3.0)], repeated(n, TIMES, || rayon(n, no_op)))
        .ask();
}

fn that_work(harness: &mut Harness) {
    let sizes = [("1 µs", 1, 100_000), ("50 µs", 50, 10_000), ("5 ms", 5000, 400)];
    for (name, micros, inputs) in sizes {
        let work = harness.work(Duration::from_micros(micros));
        let function = ours::plain(move |n| work.run(n));
        let n = harness.inputs(inputs);
        harness
            .question(&format!("{name} of work"), n)
            .ours(per_input(n, || as_iterator(&function, n)))
            .rival("rayon `par_iter`", &[Goal::Times(1.05)], per_input(n, || rayon(n, |n| work.run(n))))
            .ask();
    }
}

/// One input in a hundred, at places that look random, takes a hundred times as long as the others.
fn skewed(harness: &mut Harness) {
    let (cheap, n) = (harness.work(Duration::from_micros(50)), harness.inputs(10_000));
    let run = move |n| dear_or_cheap(cheap, n);
    let function = ours::plain(run);
    harness
        .question("skewed, known length", n)
        .ours(per_input(n, || as_iterator(&function, n)))
        .rival("rayon `par_iter`", &[Goal::Times(1.03)], per_input(n, || rayon(n, run)))
        .ask();
    harness
        .question("skewed, unknown length", n)
        .ours(per_input(n, || lazily(&function, n)))
        .rival("rayon `par_bridge`", &[Goal::Times(1.0)], per_input(n, || par_bridge(n, run)))
        .ask();
}

fn dear_or_cheap(cheap: Spin, n: u64) -> u64 {
    let work = if one_in(100, n) { cheap.times(100) } else { cheap };
    work.run(n)
}

fn tokio_that_does_nothing(harness: &mut Harness) {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).build();
    let (runtime, function) = (built.expect("a runtime"), ours::plain(no_op));
    let n = harness.inputs(100_000);
    harness
        .question("no-op, async rivals", n)
        .ours(per_input(n, || as_stream(&function, n)))
        .rival(
            "tokio, `buffer_unordered(64)`",
            &[Goal::Shown],
            per_input(n, || buffer_unordered(&runtime, n)),
        )
        .rival("tokio, `JoinSet`", &[Goal::Shown], per_input(n, || join_set(&runtime, n)))
        .ask();
}

fn buffer_unordered(runtime: &Runtime, inputs: u64) -> Vec<Result<u64, JoinError>> {
    runtime.block_on(async {
        let spawned = stream::iter(0..inputs).map(|n| tokio::spawn(async move { no_op(n) }));
        spawned.buffer_unordered(64).collect().await
    })
}

fn join_set(runtime: &Runtime, inputs: u64) -> Vec<Result<u64, JoinError>> {
    runtime.block_on(async {
        let mut set: JoinSet<u64> = (0..inputs).map(async |n| no_op(n)).collect();
        let mut outcomes = Vec::with_capacity(set.len());
        while let Some(outcome) = set.join_next().await {
            outcomes.push(outcome);
        }
        outcomes
    })
}

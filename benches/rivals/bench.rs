//! The rivals that take long to build: ractor, kameo, beekeeper, threadpool.
//!
//! Each is used as its own documentation advises, with two workers, and gives the caller a `Result` per
//! input. They are slow, so there are fewer inputs than in `benches/throughput.rs`. Our function runs over as
//! many inputs as they do.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time, and a rival needs a boundary")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

mod beekeeper;
#[path = "../harness/mod.rs"]
mod harness;
mod kameo;
mod ractor;
mod threadpool;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use harness::Harness;
use harness::crashes;
use harness::goal::Goal;
use harness::ours::{self, WORKERS, as_iterator};
use harness::reading::per_input;
use harness::work::{Busy, Silence, no_op};

fn main() {
    Silence::install();
    let built = Builder::new_multi_thread().worker_threads(WORKERS).enable_time().build();
    let runtime = built.expect("a runtime");
    let mut harness = Harness::new("rivals");
    let n = harness.inputs(100_000);
    let goals = [Goal::Faster(200.0), Goal::Faster(100.0), Goal::Shown, Goal::Shown];
    maps(&mut harness, &runtime, ("no-op, heavy rivals", n), goals, no_op);
    let (work, n) = (harness.work(Duration::from_micros(50)), harness.inputs(4000));
    maps(&mut harness, &runtime, ("50 µs of work, heavy rivals", n), [Goal::Shown; 4], move |n| work.run(n));
    replays(&mut harness, &runtime);
}

/// Maps a function over inputs, with our crate and with ractor, kameo, beekeeper and threadpool.
fn maps<F>(harness: &mut Harness, runtime: &Runtime, (name, n): (&str, u64), goals: [Goal; 4], run: F)
where
    F: Fn(u64) -> u64 + Copy + Send + Sync + 'static,
{
    let function = ours::plain(run);
    let factory = ractor::factory(runtime, run);
    let pool = kameo::pool(runtime, run);
    let hive = beekeeper::hive(run);
    let threads = threadpool::threads(run);
    harness
        .question(name, n)
        .ours(per_input(n, || as_iterator(&function, n)))
        .rival("ractor, factory", &goals[..1], per_input(n, || factory(n)))
        .rival("kameo, actor pool", &goals[1..2], per_input(n, || pool(n)))
        .rival("beekeeper, hive", &goals[2..3], per_input(n, || hive(n)))
        .rival("threadpool", &goals[3..], per_input(n, || threads(n)))
        .ask();
}

fn replays(harness: &mut Harness, runtime: &Runtime) {
    let function = crashes::start();
    let linked = ractor::linked(runtime);
    let supervised = kameo::supervised(runtime);
    for (name, busy) in crashes::LOADS {
        let n = harness.inputs(100);
        let _load = busy.then(Busy::all_cores);
        harness
            .question(name, n)
            .measures(&crashes::MEASURES)
            .ours(|| crashes::replays(n, |probe| crashes::ours(&function, probe)))
            .rival("ractor, linked", &crashes::GOALS, || crashes::replays(n, &linked))
            .rival("kameo, supervised", &crashes::GOALS, || crashes::replays(n, &supervised))
            .ask();
    }
}

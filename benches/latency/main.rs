//! The latency of single events: an outcome reaches its consumer, a call is answered, a future runs, a
//! crashed input begins again. The rivals are actix and a hand-written `LocalSet`. `benches/rivals` has the
//! others.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time, and a rival needs a boundary")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

mod actors;
#[path = "../harness/mod.rs"]
mod harness;
mod local_set;

use std::convert::Infallible;
use std::thread;
use std::time::{Duration, Instant};

use longshore::{App, Function};

use harness::Harness;
use harness::crashes::{self, Probe};
use harness::goal::Goal;
use harness::ours::{self, as_stream};
use harness::question::Measure;
use harness::reading::{Reading, delays, per_input};
use harness::work::{Busy, Silence, no_op};

const MEDIAN: Measure = Measure { name: "p50", unit: "µs", goal: Goal::Shown };
const TAIL: Measure = Measure { name: "p99", unit: "µs", goal: Goal::Shown };

fn main() {
    Silence::install();
    let mut harness = Harness::new("latency");
    outcomes_held(&mut harness);
    few_outcomes_held(&mut harness);
    calls(&mut harness);
    futures(&mut harness);
    replays(&mut harness);
}

type Stamped = Function<u64, Instant, Infallible>;

/// A function whose output is the moment at which it returned.
fn stamped(harness: &Harness) -> Stamped {
    let work = harness.work(Duration::from_micros(50));
    ours::start(App::ephemeral("bench").infallible("stamped", move |n: &u64| {
        work.run(*n);
        Instant::now()
    }))
}

/// For each outcome, the time from its return until the consumer has it.
fn held_after(function: &Stamped, inputs: u64) -> Vec<Duration> {
    let mut delays = Vec::with_capacity(inputs as usize);
    for outcome in function.map(0..inputs).return_exceptions().unordered() {
        delays.push(outcome.expect("nothing fails here").elapsed());
    }
    assert_eq!(delays.len() as u64, inputs);
    delays
}

fn outcomes_held(harness: &mut Harness) {
    let (function, n) = (stamped(harness), harness.inputs(2000));
    let measures = [
        Measure { goal: Goal::AtMost(600.0), ..MEDIAN },
        Measure { goal: Goal::AtMost(4000.0), ..TAIL },
        Measure { name: "the first", goal: Goal::AtMost(100.0), ..MEDIAN },
        Measure { name: "the last", goal: Goal::AtMost(100.0), ..MEDIAN },
    ];
    let ours = || {
        let begun = Instant::now();
        let held = held_after(&function, n);
        let ends = [held[0], held[held.len() - 1]];
        let mut reading = delays(begun.elapsed(), held);
        reading.figures.extend(ends.map(micros));
        reading
    };
    harness.question("outcome held after", n).measures(&measures).ours(ours).ask();
}

/// The outcomes of small maps. No later outcome wakes the consumer for the last ones.
fn few_outcomes_held(harness: &mut Harness) {
    const INPUTS: u64 = 10;
    let (function, maps) = (stamped(harness), harness.inputs(50));
    let measures = [
        Measure { name: "the first, p50", goal: Goal::AtMost(100.0), ..MEDIAN },
        Measure { name: "the last, p50", goal: Goal::AtMost(100.0), ..MEDIAN },
    ];
    let ours = || {
        let begun = Instant::now();
        let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
        for _ in 0..maps {
            let held = held_after(&function, INPUTS);
            firsts.push(held[0]);
            lasts.push(held[held.len() - 1]);
        }
        let took = begun.elapsed();
        Reading { took, figures: [firsts, lasts].map(|held| delays(took, held).figures[0]).to_vec() }
    };
    harness.question("outcome held after, few", INPUTS).measures(&measures).ours(ours).ask();
}

fn micros(delay: Duration) -> f64 {
    delay.as_nanos() as f64 / 1000.0
}

fn calls(harness: &mut Harness) {
    let function = ours::plain(no_op);
    let actor = actors::Echo::start_elsewhere();
    let pauses =
        [("call", Duration::ZERO, 1000), ("call, after a pause of 1 ms", Duration::from_millis(1), 100)];
    for (name, pause, calls) in pauses {
        let n = harness.inputs(calls);
        let goals = [Goal::Times(1.0), Goal::Shown];
        harness
            .question(name, n)
            .measures(&[MEDIAN, TAIL])
            .ours(|| round_trips(n, pause, |n| function.call(n).wait().expect("nothing fails here")))
            .rival("actix `send` to another arbiter", &goals, || round_trips(n, pause, |n| actor.ask(n)))
            .ask();
    }
}

fn round_trips(calls: u64, pause: Duration, call: impl Fn(u64) -> u64) -> Reading {
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

fn futures(harness: &mut Harness) {
    let goal = [Goal::Times(1.2)];
    let n = harness.inputs(100_000);
    let app = App::ephemeral("bench");
    let ready = ours::start_with(1, app.function_async("ready", async |n: &u64| Ok(no_op(*n))));
    let worker = local_set::Worker::spawn(async |n| no_op(n));
    harness
        .question("future that is ready, 1 container", n)
        .ours(per_input(n, || as_stream(&ready, n)))
        .rival("a `LocalSet` worker", &goal, per_input(n, || worker.run(n)))
        .ask();
    let n = harness.inputs(50);
    let nap = harness.time(Duration::from_millis(1));
    let sleepy = app.function_async("sleepy", async move |n: &u64| Ok(sleep(*n, nap).await));
    let sleepy = ours::start_with(1, sleepy);
    let worker = local_set::Worker::spawn(async move |n| sleep(n, nap).await);
    harness
        .question("future that sleeps 1 ms, 1 container", n)
        .ours(per_input(n, || as_stream(&sleepy, n)))
        .rival("a `LocalSet` worker", &goal, per_input(n, || worker.run(n)))
        .ask();
}

async fn sleep(n: u64, nap: Duration) -> u64 {
    tokio::time::sleep(nap).await;
    n
}

fn replays(harness: &mut Harness) {
    let function = crashes::start();
    let actor = actors::Fragile::start_elsewhere();
    for (name, busy) in crashes::LOADS {
        let n = harness.inputs(100);
        let _load = busy.then(Busy::all_cores);
        harness
            .question(name, n)
            .measures(&crashes::MEASURES)
            .ours(|| crashes::replays(n, |probe| crashes::ours(&function, probe)))
            .rival("actix, a drop guard", &crashes::GOALS, || {
                crashes::replays(n, |probe: Probe| actor.ask(probe))
            })
            .ask();
    }
}

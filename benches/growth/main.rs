//! Costs that must not grow: the cost of an input with the number of inputs or containers, memory with the
//! length of a map, wake-ups with idle containers, and the share of one map beside another.
//!
//! Memory and wake-ups are read from `/proc`, so these questions are asked only on Linux.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

mod concerned;
#[path = "../harness/mod.rs"]
mod harness;
mod process;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longshore::{App, RateLimited};

use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, Ours, WORKERS, as_iterator, unknown_length};
use harness::question::Measure;
use harness::reading::{Reading, delays, per_input, timed};
use harness::work::no_op;

/// The variable that also asks for 1e8 inputs, which takes minutes.
const LONG: &str = "LONGSHORE_BENCH_LONG";

/// The argument that says what to measure, when this program runs as the child that is measured.
const LAZY: &str = "--peak-of-lazy-inputs";
const ENDLESS: &str = "--growth-of-an-endless-map";
const QUEUED: &str = "--bytes-of-queued-calls";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, inputs] = arguments.as_slice()
        && let Ok(inputs) = inputs.parse()
    {
        let measure = match what.as_str() {
            LAZY => peak_of_lazy_inputs,
            QUEUED => growth_by_queued_calls,
            _ => growth_of_endless,
        };
        return println!("{}", measure(inputs));
    }
    let mut harness = Harness::new("growth");
    inputs(&mut harness);
    containers(&mut harness);
    beside_each_other(&mut harness);
    concerned::ask(&mut harness);
    if process::can_be_read() {
        idle(&mut harness);
        memory(&mut harness);
    }
}

/// Runs a map of `0..inputs`, and adds its outcomes up without keeping them.
fn fold(function: &Ours, inputs: u64) -> u64 {
    let outcomes = function.map(0..inputs).return_exceptions();
    outcomes.into_iter().map(|outcome| outcome.expect("nothing fails here")).sum()
}

fn inputs(harness: &mut Harness) {
    let function = ours::plain(no_op);
    let long = std::env::var_os(LONG).is_some();
    let per_input = |n: u64, times| {
        let function = function.clone();
        let check = move |sum| assert_eq!(sum, n * (n - 1) / 2);
        timed(n, times, || (), move |()| fold(&function, n), check)
    };
    let few = harness.inputs(100_000);
    for many in [1_000_000, 10_000_000].into_iter().chain(long.then_some(100_000_000)) {
        let n = harness.inputs(many);
        harness
            .question(&format!("no-op, folded, {many:.0e}"), n)
            .ours(per_input(n, 1))
            .rival("itself, 1e5", &[Goal::Like(0.15)], per_input(few, 10))
            .ask();
    }
}

fn containers(harness: &mut Harness) {
    let work = harness.work(Duration::from_micros(50));
    let n = harness.inputs(4000);
    let [one, two, many] = [1, WORKERS, 64].map(|containers| {
        let app = App::ephemeral("bench");
        let builder = app.infallible("work", move |n: &u64| work.run(*n));
        let function: Ours = ours::start_with(containers, builder.restart(RateLimited::never()));
        function
    });
    harness
        .question("50 µs of work, 64 containers", n)
        .ours(per_input(n, || as_iterator(&many, n)))
        .rival("itself, 2 containers", &[Goal::Throughput(0.9)], per_input(n, || as_iterator(&two, n)))
        .rival("itself, 1 container", &[Goal::Shown], per_input(n, || as_iterator(&one, n)))
        .ask();
}

/// Two endless maps, with calls in between.
fn beside_each_other(harness: &mut Harness) {
    let work = harness.work(Duration::from_micros(50));
    let function = ours::plain(move |n| work.run(n));
    let length = harness.time(Duration::from_millis(400));
    let measures = [
        Measure { name: "the larger share over the smaller", unit: "×", goal: Goal::AtMost(1.1) },
        Measure { name: "a call, p50", unit: "µs", goal: Goal::Shown },
        Measure { name: "a call, p99", unit: "µs", goal: Goal::AtMost(5000.0) },
    ];
    let ours = || {
        let over = AtomicBool::new(false);
        let begun = Instant::now();
        let (shares, trips) = thread::scope(|scope| {
            let maps = [(); 2].map(|()| scope.spawn(|| outcomes_until(&function, &over)));
            let mut trips = Vec::new();
            while begun.elapsed() < length || trips.is_empty() {
                let asked = Instant::now();
                function.call(0).wait().expect("nothing fails here");
                trips.push(asked.elapsed());
            }
            over.store(true, Ordering::Relaxed);
            (maps.map(|map| map.join().expect("the thread only counts")), trips)
        });
        let larger = *shares.iter().max().expect("there are two") as f64;
        let smaller = *shares.iter().min().expect("there are two") as f64;
        let mut reading = delays(begun.elapsed(), trips);
        reading.figures.insert(0, larger / smaller.max(1.0));
        reading
    };
    harness.question("two endless maps", 2).measures(&measures).ours(ours).ask();
}

fn outcomes_until(function: &Ours, over: &AtomicBool) -> u64 {
    let outcomes = function.map(0u64..).into_iter();
    outcomes.take_while(|outcome| outcome.is_ok() && !over.load(Ordering::Relaxed)).count() as u64
}

fn idle(harness: &mut Harness) {
    const CONTAINERS: usize = 64;
    let app = App::ephemeral("bench");
    let function: Ours = ours::start_with(CONTAINERS, app.infallible("idle", |n: &u64| no_op(*n)));
    fold(&function, harness.inputs(100_000));
    let length = harness.time(Duration::from_millis(200));
    let measures = [Measure { name: "wake-ups", unit: "/ s", goal: Goal::AtMost(0.0) }];
    let ours = || {
        let begun = Instant::now();
        let before = process::wake_ups_of_others();
        thread::sleep(length);
        let wake_ups = process::wake_ups_of_others() - before;
        let took = begun.elapsed();
        Reading { took, figures: vec![wake_ups as f64 / took.as_secs_f64()] }
    };
    harness.question("64 idle containers", 0).measures(&measures).ours(ours).ask();
}

fn memory(harness: &mut Harness) {
    let mebibytes = |goal| [Measure { name: "", unit: "MiB", goal: Goal::AtMost(goal) }];
    let long = std::env::var_os(LONG).is_some();
    let child = |what, inputs| {
        move || {
            let begun = Instant::now();
            let bytes = process::ask_child(what, inputs);
            Reading { took: begun.elapsed(), figures: vec![bytes as f64 / f64::from(1 << 20)] }
        }
    };
    let n = harness.inputs(1_000_000);
    harness
        .question("peak memory above the baseline, lazy inputs", n)
        .measures(&mebibytes(4.0))
        .ours(child(LAZY, n))
        .ask();
    let n = harness.inputs(100_000);
    let each = [Measure { name: "", unit: "B", goal: Goal::AtMost(308.0) }];
    let queued = move || {
        let begun = Instant::now();
        let bytes = process::ask_child(QUEUED, n);
        Reading { took: begun.elapsed(), figures: vec![bytes as f64 / n as f64] }
    };
    harness
        .question("a queued call of a `u64`, with its handle: 300 bytes beyond the input", n)
        .measures(&each)
        .ours(queued)
        .ask();
    let n = harness.inputs(if long { 100_000_000 } else { 10_000_000 });
    harness
        .question("peak memory of an endless map, above that after a tenth of it", n)
        .measures(&mebibytes(0.5))
        .ours(child(ENDLESS, n))
        .ask();
}

/// The number of bytes by which queued calls raise the peak of the process, their handles included.
fn growth_by_queued_calls(calls: u64) -> u64 {
    let (held, release) = std::sync::mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    let app = App::ephemeral("bench");
    let stuck = app.infallible("stuck", move |n: &u64| {
        _ = release.lock().expect("it does not panic").recv(); // until the sender is dropped
        *n
    });
    let stuck: Ours = ours::start_with(1, stuck);
    let mut queued = Vec::with_capacity(calls as usize + 1);
    queued.push(stuck.call(0));
    let before = process::peak_bytes();
    queued.extend((1..=calls).map(|n| stuck.call(n)));
    let bytes = process::peak_bytes() - before;
    drop(held);
    bytes
}

/// The number of bytes by which a map raises the peak of the process above its peak before the function. The
/// inputs are made lazily, and the outcomes are added up.
fn peak_of_lazy_inputs(inputs: u64) -> u64 {
    let before = process::peak_bytes();
    let outcomes = ours::plain(no_op).map(unknown_length(inputs)).return_exceptions().into_iter();
    let sum: u64 = outcomes.map(|outcome| outcome.expect("nothing fails here")).sum();
    assert_eq!(sum, inputs * (inputs - 1) / 2);
    process::peak_bytes() - before
}

/// The number of bytes by which the peak grows while an endless map goes on from a tenth of `outcomes` to all
/// of them.
fn growth_of_endless(outcomes: u64) -> u64 {
    let mut map = ours::plain(no_op).map(0u64..).into_iter();
    let taken = map.by_ref().take(outcomes as usize / 10).filter(Result::is_ok).count() as u64;
    let before = process::peak_bytes();
    let rest = map.take((outcomes - taken) as usize).filter(Result::is_ok).count() as u64;
    assert_eq!(taken + rest, outcomes);
    process::peak_bytes() - before
}

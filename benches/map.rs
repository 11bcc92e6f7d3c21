//! What a map costs per input: 100 000 inputs that do nothing, against what people use today.
//!
//! | rival | what it does |
//! |---|---|
//! | `rayon` | `par_iter`, each input under `catch_unwind`, collected as `Result`s |
//! | `tokio` | `buffer_unordered(1000)` over spawned tasks, each a `Result` |
//!
//! Criterion times each by itself. As two noisy cores make absolute times mean little, all are then
//! timed in turn, round by round, and the median of the rounds' ratios is printed.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time, and a rival needs a boundary")]
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt, stream};
use longshore::{App, Function, RateLimited};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

const INPUTS: u64 = 100_000;
const ROUNDS: usize = 41;

fn no_op(n: u64) -> u64 {
    black_box(n)
}

/// One way to run all inputs, and how many outcomes it gives.
struct Rival {
    name: &'static str,
    run: Box<dyn Fn() -> usize>,
}

fn rivals() -> Vec<Rival> {
    let app = App::ephemeral("bench");
    let started = app.infallible("no-op", |n: &u64| no_op(*n)).restart(RateLimited::never()).start();
    let function: Function<u64, u64, _> = started.expect("valid settings");
    let unordered = function.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    vec![
        Rival {
            name: "longshore",
            run: Box::new(move || {
                // The handle keeps the function when the app goes out of scope.
                let outcomes: Vec<_> = function.map(0..INPUTS).return_exceptions().into_iter().collect();
                outcomes.len()
            }),
        },
        Rival {
            name: "longshore unordered",
            run: Box::new(move || {
                let outcomes = unordered.map(0..INPUTS).return_exceptions().unordered();
                outcomes.into_iter().collect::<Vec<_>>().len()
            }),
        },
        Rival {
            name: "rayon",
            run: Box::new(|| {
                let outcomes: Vec<_> =
                    (0..INPUTS).into_par_iter().map(|n| catch_unwind(|| no_op(n))).collect();
                outcomes.len()
            }),
        },
        Rival {
            name: "tokio",
            run: Box::new(move || {
                runtime.block_on(async {
                    let spawned = stream::iter(0..INPUTS).map(|n| tokio::spawn(async move { no_op(n) }));
                    let outcomes: Vec<_> = spawned.buffer_unordered(1000).collect().await;
                    outcomes.len()
                })
            }),
        },
    ]
}

fn no_op_map(c: &mut Criterion) {
    let rivals = rivals();
    let mut group = c.benchmark_group("no-op map");
    group.throughput(Throughput::Elements(INPUTS)).sample_size(20).measurement_time(Duration::from_secs(3));
    for rival in &rivals {
        group.bench_function(BenchmarkId::new(rival.name, INPUTS), |bencher| bencher.iter(&rival.run));
    }
    group.finish();
    // `cargo test --benches` only asks whether it runs.
    if !std::env::args().any(|argument| argument == "--test") {
        print_ratios(&rivals);
    }
}

/// Times all rivals in turn, round by round.
fn print_ratios(rivals: &[Rival]) {
    let rounds: Vec<Vec<f64>> =
        (0..ROUNDS).map(|_| rivals.iter().map(nanoseconds_per_input).collect()).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\n{INPUTS} inputs that do nothing, {cores} cores, medians of {ROUNDS} interleaved rounds:");
    for (at, rival) in rivals.iter().enumerate() {
        let cost = median(rounds.iter().map(|round| round[at]));
        let ratio = median(rounds.iter().map(|round| round[at] / round[0]));
        println!("{:>20}  {cost:>8.1} ns per input  {ratio:>6.2} x longshore", rival.name);
    }
}

fn nanoseconds_per_input(rival: &Rival) -> f64 {
    let begun = Instant::now();
    assert_eq!((rival.run)(), INPUTS as usize, "{}", rival.name);
    begun.elapsed().as_nanos() as f64 / INPUTS as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

criterion_group!(benches, no_op_map);
criterion_main!(benches);

//! The cost of accounting for memory, and the time until a container over its limit is replaced.
//!
//! Blocks are timed side by side in one container. Programs cannot be timed side by side, because each has
//! one global allocator. They are child processes of this one, run one after the other, and report their own
//! times.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

mod allocators;
mod blocks;
#[path = "../../harness/mod.rs"]
mod harness;
mod kill;
#[path = "../../growth/process.rs"]
mod process;
mod program;
mod survive;

use std::alloc::{GlobalAlloc, System};
use std::time::{Duration, Instant};

use longshore::{Accountant, App};
use mimalloc::MiMalloc;

use allocators::{Chosen, Kind};
use blocks::{Reader, churn};
use harness::Harness;
use harness::goal::Goal;
use harness::reading::Reading;
use program::Program;

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

// Each allocator alone, without the choice of `Chosen`.
static SYSTEM: System = System;
static OVER_SYSTEM: Accountant = Accountant::system();
static MIMALLOC: MiMalloc = MiMalloc;
static OVER_MIMALLOC: Accountant<MiMalloc> = Accountant::over(MiMalloc);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, program, inputs] = arguments.as_slice()
        && let (Some(program), Ok(inputs)) = (Program::called(program), inputs.parse())
    {
        return println!("{}", program.run(inputs));
    }
    if let [_, survive::NAME, inputs] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
        && let Ok(inputs) = inputs.parse()
    {
        return println!("{}", survive::peak_of_balloons(inputs));
    }
    let mut harness = Harness::new("memory");
    one_thread(&mut harness);
    two_threads(&mut harness);
    programs(&mut harness);
    kill::ask(&mut harness);
    if process::can_be_read() {
        survive::ask(&mut harness);
    }
}

/// Times `work` in a container. Allocations that pass through an accountant are charged to the container.
fn in_container(blocks: u64, work: impl Fn() + Send + Sync + 'static) -> impl FnMut() -> Reading {
    let app = App::ephemeral("bench");
    let timed = app.infallible("blocks", move |(): &()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    let timed = timed.containers(1).start().expect("valid");
    move || {
        let took: Duration = timed.call(()).wait().expect("it does not panic");
        Reading { took, figures: vec![took.as_nanos() as f64 / blocks as f64] }
    }
}

fn one_thread(harness: &mut Harness) {
    let n = harness.inputs(200_000);
    churns(harness, "System", n, &SYSTEM, &OVER_SYSTEM);
    churns(harness, "mimalloc", n, &MIMALLOC, &OVER_MIMALLOC);
}

fn churns<A, B>(harness: &mut Harness, name: &str, n: u64, below: &'static A, over: &'static B)
where
    A: GlobalAlloc + Sync,
    B: GlobalAlloc + Sync,
{
    harness
        .question(&format!("allocated and freed, over {name}"), n)
        .ours(in_container(n, move || churn(over, n)))
        .rival("without", &[Goal::Times(1.35)], in_container(n, move || churn(below, n)))
        .ask();
}

fn two_threads(harness: &mut Harness) {
    let n = harness.inputs(2_000);
    travels(harness, "System", n, &SYSTEM, &OVER_SYSTEM);
    travels(harness, "mimalloc", n, &MIMALLOC, &OVER_MIMALLOC);
}

fn travels<A, B>(harness: &mut Harness, name: &str, n: u64, below: &'static A, over: &'static B)
where
    A: GlobalAlloc + Sync,
    B: GlobalAlloc + Sync,
{
    const ROUNDS: u64 = 20;
    let (of_below, of_over) = (Reader::of(below), Reader::of(over));
    harness
        .question(&format!("read and freed by another thread, over {name}"), n * ROUNDS)
        .ours(in_container(n * ROUNDS, move || (0..ROUNDS).for_each(|_| of_over.round(over, n))))
        .rival(
            "without",
            &[Goal::Times(1.3)],
            in_container(n * ROUNDS, move || (0..ROUNDS).for_each(|_| of_below.round(below, n))),
        )
        .ask();
}

fn programs(harness: &mut Harness) {
    let pairs =
        [("System", Kind::System, Kind::OverSystem), ("mimalloc", Kind::MiMalloc, Kind::OverMiMalloc)];
    for (program, inputs) in [(Program::Words, 300), (Program::NoOp, 1_000_000), (Program::Work, 4_000)] {
        let n = harness.inputs(inputs);
        for (name, below, over) in pairs {
            harness
                .question(&format!("{}, over {name}", program.told()), n)
                .ours(program.as_child(over, n))
                .rival("without", &[Goal::Times(1.05)], program.as_child(below, n))
                .ask();
        }
    }
}

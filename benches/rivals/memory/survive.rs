//! The memory of a process whose containers are killed again and again for exceeding their limit.

use std::hint::black_box;
use std::time::Instant;

use longshore::{App, Context};

use crate::harness::Harness;
use crate::harness::goal::Goal;
use crate::harness::ours::{WORKERS, start};
use crate::harness::question::Measure;
use crate::harness::reading::Reading;
use crate::process::{ask_child, peak_bytes};

/// The argument for the child that is measured.
pub(crate) const NAME: &str = "--balloons";

/// The memory limit of a container.
const LIMIT: u64 = 64 << 20;

/// The number of bytes that a balloon allocates and writes between two checkpoints.
const BREATH: usize = 256 << 10;

/// Runs a map in which half of the inputs grow until they are killed. Returns the peak of this process in
/// permille of the limits of its containers together.
pub(crate) fn peak_of_balloons(inputs: u64) -> u64 {
    let before = peak_bytes();
    let app = App::ephemeral("bench");
    let f = app.infallible("balloons", |n: &u64| {
        let mut balloon = Vec::new();
        while n.is_multiple_of(2) {
            balloon.push(black_box(vec![1u8; BREATH]));
            Context::checkpoint();
        }
        *n
    });
    let f = start(f.memory_limit(LIMIT).crash_retries(0));
    let outcomes = f.run_all((0..inputs).collect());
    assert!((0..).zip(&outcomes).all(|(n, outcome): (u64, _)| outcome.is_ok() != n.is_multiple_of(2)));
    (peak_bytes() - before) * 1000 / (LIMIT * WORKERS as u64)
}

pub(crate) fn ask(harness: &mut Harness) {
    let n = harness.inputs(100);
    let measure = Measure { name: "", unit: "of the limits", goal: Goal::AtMost(1.1) };
    harness
        .question("peak of a process, half of whose inputs balloon", n)
        .measures(&[measure])
        .ours(|| {
            let begun = Instant::now();
            let permille = ask_child(NAME, n);
            Reading { took: begun.elapsed(), figures: vec![permille as f64 / 1000.0] }
        })
        .ask();
}

//! The question of the time from a panic to the replay of its input in a worker with fresh state, and our
//! side of it.

use std::convert::Infallible;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore::{App, Context, Function, Worker};

use super::goal::Goal;
use super::ours;
use super::question::Measure;
use super::reading::{Reading, delays};
use super::work::Silence;

/// The two measures. The goal of the project is 15 µs.
pub(crate) const MEASURES: [Measure; 2] = [
    Measure { name: "p50", unit: "µs", goal: Goal::AtMost(15.0) },
    Measure { name: "p99", unit: "µs", goal: Goal::Shown },
];

/// The goals of our way against every rival.
pub(crate) const GOALS: [Goal; 2] = [Goal::Times(1.0), Goal::Times(1.0)];

/// The names of the questions, and whether other threads keep all cores busy.
pub(crate) const LOADS: [(&str, bool); 2] =
    [("panic to replay, idle cores", false), ("panic to replay, busy cores", true)];

/// An input whose first attempt panics. Its second attempt measures the time since that panic.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    made: Instant,
    /// The nanoseconds from `made` to the panic, or 0 before it.
    panicked: Arc<AtomicU64>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self { made: Instant::now(), panicked: Arc::default() }
    }

    /// Panics at the first attempt. `fresh` is the state of the worker, which must not have been used.
    pub(crate) fn attempt(&self, fresh: &mut bool) -> Duration {
        assert!(std::mem::take(fresh), "a worker that crashed is used again");
        let panicked = self.panicked.load(Ordering::Relaxed);
        if panicked > 0 {
            *fresh = true; // this worker has survived, and may take another probe
            return self.made.elapsed() - Duration::from_nanos(panicked);
        }
        self.panicked.store(self.made.elapsed().as_nanos() as u64, Ordering::Relaxed);
        panic_any(Silence::WORD);
    }
}

/// Asks `probes` probes, one after the other.
pub(crate) fn replays(probes: u64, mut ask: impl FnMut(Probe) -> Duration) -> Reading {
    let begun = Instant::now();
    let replayed = (0..probes).map(|_| ask(Probe::new())).collect();
    delays(begun.elapsed(), replayed)
}

/// A worker that is entered anew after each crash.
pub(crate) struct Fragile {
    fresh: bool,
}

impl Worker for Fragile {
    type Input = Probe;
    type Output = Duration;
    type Error = Infallible;

    fn call(&mut self, probe: &Probe, _: &Context) -> Result<Duration, Infallible> {
        Ok(probe.attempt(&mut self.fresh))
    }
}

pub(crate) fn start() -> Function<Probe, Duration, Infallible> {
    ours::start(App::ephemeral("bench").worker("fragile", |_: &Context| Ok(Fragile { fresh: true })))
}

pub(crate) fn ours(function: &Function<Probe, Duration, Infallible>, probe: Probe) -> Duration {
    function.call(probe).wait().expect("it crashes once")
}

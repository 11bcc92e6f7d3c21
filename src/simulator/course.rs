//! The course of a world: its clock, its log, and the steps up to a moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::decide::time::Time;
use crate::simulator::world::Verbosity;

/// The largest number of steps that a world takes to come to a moment.
const STEPS_MAX: u64 = 200_000;

/// A world that goes on step by step.
pub(super) trait Course {
    /// The clock of its host, in nanoseconds.
    fn clock(&self) -> &AtomicU64;

    fn verbosity(&self) -> Verbosity;

    /// Takes one step. Returns whether there was one to take, now or later.
    fn step(&mut self) -> bool;

    /// Does what follows each step.
    fn after_step(&mut self);

    fn now(&self) -> Time {
        Time(Duration::from_nanos(self.clock().load(Ordering::Relaxed)))
    }

    fn move_to(&self, time: Time) {
        let nanos = u64::try_from(time.0.as_nanos()).expect("a world is shorter than five centuries");
        self.clock().fetch_max(nanos, Ordering::Relaxed);
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if self.verbosity() == Verbosity::Steps {
            println!("{:>12?}  {}", self.now().0, what());
        }
    }

    /// Takes steps until something is so.
    ///
    /// # Panics
    ///
    /// If no step is possible any more before that, or if it takes too many.
    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool)
    where
        Self: Sized,
    {
        let mut steps = 0;
        while !is_so(self) {
            assert!(steps < STEPS_MAX, "stuck: {what}, but not after {STEPS_MAX} steps");
            steps += 1;
            let goes_on = self.step();
            self.after_step();
            assert!(goes_on || is_so(self), "stuck: nothing can happen any more before {what}");
        }
    }
}

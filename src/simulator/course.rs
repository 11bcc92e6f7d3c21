//! The course of a world: its clock, its log, the steps up to a moment, and what may be left at its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::simulator::tape::Tape;
use crate::simulator::world::Verbosity;

/// The shortest delay of a timer of the supervisor, as in `engine/supervisor.rs`. So a timer may be late by
/// as much.
pub(super) const TIMER_MIN: Duration = Duration::from_micros(100);

/// The largest number of steps that a world takes to come to a moment.
const STEPS_MAX: u64 = 300_000;

/// The parts of a world by which it goes on.
pub(super) struct Parts<'a> {
    /// The clock of its host, in nanoseconds.
    pub(super) clock: &'a AtomicU64,
    pub(super) tape: &'a Tape,
    pub(super) verbosity: Verbosity,
}

/// A world that goes on step by step.
pub(super) trait Course {
    fn parts(&self) -> Parts<'_>;

    /// Lets a user or an operator do something, if the tape says so. Returns whether one did.
    fn happen(&mut self) -> bool;

    /// Takes one step. Returns whether there was one to take, now or later.
    fn step(&mut self) -> bool;

    /// Does what follows each step.
    fn after_step(&mut self);

    fn now(&self) -> Time {
        Time(Duration::from_nanos(self.parts().clock.load(Ordering::Relaxed)))
    }

    fn move_to(&self, time: Time) {
        let nanos = u64::try_from(time.0.as_nanos()).expect("a world is shorter than five centuries");
        self.parts().clock.fetch_max(nanos, Ordering::Relaxed);
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if self.parts().verbosity == Verbosity::Steps {
            println!("{:>12?}  {}", self.now().0, what());
        }
    }

    /// Lets things happen, and takes steps, until the tape has run out.
    fn play(&mut self) {
        while !self.parts().tape.has_run_out() {
            if !self.happen() {
                self.step();
            }
            self.after_step();
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

/// Checks that an engine whose function has ended has nothing left.
pub(super) fn nothing_is_left_in(engine: &Dispatch) {
    engine.under_lock(|state| {
        assert!(state.broken.is_none(), "invariant 11: the engine broke");
        assert_eq!((state.threads, state.feeders), (0, 0), "threads and feeders are left");
        assert!(state.is_empty(), "memory: something is left in the engine");
        assert_eq!(state.ledger.job_ids(), [], "memory: jobs are left in the ledger");
        assert!(state.ledger.is_at_rest(), "memory: something is left in the ledger");
        assert_eq!(state.ledger.arm(), None, "memory: a limit is left in the ledger");
        let admission = state.ledger.admission();
        let left = (admission.calls(), admission.permits(), admission.waiting());
        assert_eq!(left, (0, 0, 0), "memory: places are left in the ledger");
    });
    assert_eq!(engine.status().containers.abandoned, 0, "threads count as left behind");
}

//! What has happened to a function's inputs since its start: numbers that outlive the maps and calls they are of.
//!
//! They are added to where the books change: by the lease, and not by the input.

use std::time::Duration;

use crate::decide::job::Counts;
use crate::decide::ledger::{AfterCrash, Unrun};
use crate::decide::time::Time;
use crate::values::histogram::Histogram;

/// Totals over the life of a function.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Of all jobs. What was retried and replayed is counted when it was put to wait for that, so that no number ever goes
    /// back.
    pub(crate) counts: Counts,
    /// How long executions took.
    pub(crate) executing: Histogram,
    /// When the books last saw an input completed, `Ok` or `Err`.
    pub(crate) completed: Time,
}

impl Totals {
    pub(super) fn accepted(&mut self, inputs: u64) {
        self.counts.pulled += inputs;
    }

    /// Inputs have returned `Ok`.
    pub(super) fn ok(&mut self, inputs: u64, now: Time) {
        self.counts.ok += inputs;
        self.completed = now;
    }

    /// An input has returned `Err`, and whether it waits for its retry.
    pub(super) fn failed(&mut self, is_retried: bool, now: Time) {
        *(if is_retried { &mut self.counts.retried } else { &mut self.counts.failed }) += 1;
        self.completed = now;
    }

    pub(super) fn ended(&mut self, how: Unrun, inputs: u64) {
        match how {
            Unrun::Cancelled => self.counts.cancelled += inputs,
            Unrun::GivenUp => self.counts.given_up += inputs,
        }
    }

    /// A container has died, and that becomes of inputs that were executing.
    pub(super) fn after_crash(&mut self, inputs: &[AfterCrash]) {
        for input in inputs {
            match input {
                AfterCrash::Pending { .. } => self.counts.replayed += 1,
                AfterCrash::Poisoned { .. } => self.counts.poisoned += 1,
                AfterCrash::Lost { .. } => self.counts.cancelled += 1,
            }
        }
    }

    /// A container has come back from so many executions.
    pub(super) fn executed(&mut self, inputs: u64, took: Duration) {
        self.executing.add(inputs, took);
    }
}

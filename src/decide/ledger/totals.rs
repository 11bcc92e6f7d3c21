//! What has happened to a function's inputs since its start. The totals outlive the maps and calls of the
//! inputs.
//!
//! The ledger adds whole ranges of completed inputs to the totals, and not each input by itself.

use std::time::Duration;

use crate::decide::job::Counts;
use crate::decide::ledger::{AfterCrash, CutBy, Unrun};
use crate::decide::time::Time;
use crate::values::histogram::Histogram;

/// The totals of a function's inputs since its start.
#[derive(Debug, Default)]
pub(crate) struct LedgerTotals {
    /// The counts of all jobs. A retry and a replay are counted when the input begins to wait, so that no
    /// number ever decreases.
    pub(crate) counts: Counts,
    /// The durations of executions.
    pub(crate) executing: Histogram,
    /// The number of batches that were executed.
    pub(crate) batches: u64,
    /// The number of inputs that were executed in them.
    pub(crate) batched: u64,
    /// The attempts that have timed out. Not an ending.
    pub(crate) timed_out: u64,
    /// The inputs whose deadlines have passed. They are counted as failed as well.
    pub(crate) past_deadline: u64,
    /// The time at which the first attempt was cut at a limit since an input was last completed.
    pub(crate) first_cut: Option<Time>,
    /// The time at which the last completed input was committed, whether `Ok` or `Err`.
    pub(crate) completed: Time,
}

impl LedgerTotals {
    /// Records that inputs were accepted.
    pub(super) fn accepted(&mut self, inputs: u64) {
        self.counts.pulled += inputs;
    }

    /// Records that inputs returned `Ok`.
    pub(super) fn ok(&mut self, inputs: u64, now: Time) {
        self.counts.ok += inputs;
        self.completed = now;
        self.first_cut = None;
    }

    /// Records that an input returned `Err`. `is_retried` says whether the input now waits for its retry.
    pub(super) fn failed(&mut self, is_retried: bool, now: Time) {
        *(if is_retried { &mut self.counts.retried } else { &mut self.counts.failed }) += 1;
        self.completed = now;
        self.first_cut = None;
    }

    /// Records that an attempt was cut at a limit. That completes nothing. `is_retried` says whether the
    /// input waits for its retry.
    pub(super) fn cut(&mut self, cut: CutBy, is_retried: bool, now: Time) {
        self.first_cut.get_or_insert(now);
        match cut {
            CutBy::Timeout(_) => self.timed_out += 1,
            CutBy::Deadline(_) => self.past_deadline += 1,
        }
        *(if is_retried { &mut self.counts.retried } else { &mut self.counts.failed }) += 1;
    }

    /// Records that inputs ended although no execution decided their outcomes.
    pub(super) fn ended(&mut self, how: Unrun, inputs: u64) {
        match how {
            Unrun::Cancelled => self.counts.cancelled += inputs,
            Unrun::GivenUp => self.counts.given_up += inputs,
            Unrun::Expired => {
                self.counts.failed += inputs;
                self.past_deadline += inputs;
            }
        }
    }

    /// Records what a death did to the inputs that were executing.
    pub(super) fn after_crash(&mut self, inputs: &[AfterCrash]) {
        for input in inputs {
            match input {
                AfterCrash::Pending { .. } => self.counts.replayed += 1,
                AfterCrash::Poisoned { .. } => self.counts.poisoned += 1,
                AfterCrash::Lost { .. } => self.counts.cancelled += 1,
                // It was counted as retried when it timed out, and is not.
                AfterCrash::TimedOut { .. } => self.counts.failed += 1,
            }
        }
    }

    /// Records that a part of a batch, or several whole batches, came back from `inputs` executions in
    /// `took`. Each input of a batch takes as long as the batch. The batches are counted by their first
    /// parts.
    pub(super) fn executed_in_batches(&mut self, inputs: u64, batches: u64, took: Duration, is_first: bool) {
        self.batched += inputs;
        self.batches += if is_first { batches } else { 0 };
        self.executing.add(inputs, took.mul_f64(inputs as f64 / batches.max(1) as f64));
    }

    /// Records that a container came back from `inputs` executions, which took `took` together.
    pub(super) fn executed(&mut self, inputs: u64, took: Duration) {
        self.executing.add(inputs, took);
    }
}

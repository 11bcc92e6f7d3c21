//! The last error of each input that has a deadline and is executed again, because the outcome shows it if
//! the deadline passes first.

use std::collections::BTreeMap;

use crate::base::ids::{InputId, JobId};
use crate::data::erased::ErasedValue;
use crate::data::failure::Reason;
use crate::data::shape::Why;
use crate::engine::dispatch::State;

/// The last errors, and those that are not needed any more.
#[derive(Default)]
pub(super) struct LastErrors {
    kept: BTreeMap<InputId, ErasedValue>,
    /// Errors that are dropped once the lock is released, because their drop is the user's code.
    unused: Vec<ErasedValue>,
}

impl LastErrors {
    pub(super) fn has_none_to_drop(&self) -> bool {
        self.unused.is_empty()
    }

    pub(super) fn take_unused(&mut self) -> Vec<ErasedValue> {
        std::mem::take(&mut self.unused)
    }

    /// An input has an outcome that does not show its last error.
    pub(super) fn forget(&mut self, input: InputId) {
        if !self.kept.is_empty() {
            self.unused.extend(self.kept.remove(&input));
        }
    }

    /// A job is closed.
    pub(super) fn forget_job(&mut self, job: JobId) {
        if self.kept.is_empty() {
            return;
        }
        let of_job = InputId { job, index: 0 }..=InputId { job, index: u64::MAX };
        let indices: Vec<InputId> = self.kept.range(of_job).map(|(input, _)| *input).collect();
        indices.into_iter().for_each(|input| self.forget(input));
    }
}

impl State {
    /// Keeps the error of an input that is executed again, if the input has a deadline. Returns the error
    /// that is not needed.
    pub(super) fn keep_error(&mut self, input: InputId, error: ErasedValue) -> Option<ErasedValue> {
        if self.ledger.has_deadline(input.job) {
            self.last_errors.kept.insert(input, error)
        } else {
            Some(error)
        }
    }

    /// The reason for an outcome, with the last error of the input if the outcome shows it.
    pub(super) fn with_last_error(&mut self, input: InputId, why: Why) -> Why {
        if let Why::Reason(Reason::DeadlineExceeded { limit }) = why {
            return Why::Deadline { limit, last: self.last_errors.kept.remove(&input) };
        }
        self.last_errors.forget(input);
        why
    }
}

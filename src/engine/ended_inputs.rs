//! The inputs of a map that have ended without an outcome of their own, and whose failures are not made
//! yet.

use std::collections::BTreeMap;

use crate::data::failure::Reason;
use crate::decide::job::Span;

/// A range of inputs that have ended without an outcome of their own. Their failures are made when their
/// consumer reaches them. To make millions of failures at once when a function ends would hold its lock for
/// too long.
struct Ended {
    len: u64,
    /// How many inputs at the beginning of the range were executing.
    begun: u64,
    reason: Reason,
}

/// The ranges of inputs that have ended, by their first index.
#[derive(Default)]
pub(super) struct EndedInputs {
    ranges: BTreeMap<u64, Ended>,
}

impl EndedInputs {
    /// Records that the inputs of `span` have ended. The first `begun` of them were executing.
    pub(super) fn add(&mut self, span: Span, begun: u64, reason: Reason) {
        self.ranges.insert(span.first, Ended { len: span.len, begun, reason });
    }

    /// Removes up to `most` inputs that have ended, the earliest first. Returns their range, how many of the
    /// first were executing, and why they have ended.
    pub(super) fn take(&mut self, most: u64) -> Option<(Span, u64, Reason)> {
        let (first, Ended { len, begun, reason }) = self.ranges.pop_first()?;
        if len > most {
            let rest = Ended { len: len - most, begun: begun.saturating_sub(most), reason: reason.clone() };
            self.ranges.insert(first + most, rest);
        }
        Some((Span { first, len: len.min(most) }, begun, reason))
    }

    /// Whether the input at `index` has ended.
    pub(super) fn contains(&self, index: u64) -> bool {
        let before = self.ranges.range(..=index).next_back();
        before.is_some_and(|(first, ended)| index - first < ended.len)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

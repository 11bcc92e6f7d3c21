//! The inputs that were leased and had not begun, and that wait to be leased again.
//!
//! Most of the time the oldest range is leased first. The share of the maps is leased from the ranges of
//! maps alone, so these have an order of their own. Without it a lease of the share would look at every
//! call that waits, and a container that dies may leave thousands of calls that had not begun.

use std::collections::BTreeSet;

use super::queue::{Queue, Ticket};
use crate::base::ids::JobId;
use crate::decide::job::{JobKind, Span};
use crate::decide::steps;

/// A range of inputs of one job.
pub(super) type Range = (JobId, Span);

/// The ranges in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Requeued {
    ranges: Queue<Range>,
    /// The ranges whose job is a map.
    of_maps: BTreeSet<Ticket>,
}

impl Requeued {
    /// Adds a range at the end.
    pub(super) fn push(&mut self, kind: JobKind, range: Range) -> Ticket {
        let ticket = self.ranges.push_back(range);
        if kind == JobKind::Map {
            self.of_maps.insert(ticket);
        }
        ticket
    }

    /// The range that has its turn.
    pub(super) fn first(&self) -> Option<(Ticket, Range)> {
        self.ranges.first().map(steps::each).map(|(ticket, range)| (ticket, *range))
    }

    /// The range that has its turn among the ranges of maps.
    pub(super) fn first_of_maps(&self) -> Option<(Ticket, Range)> {
        let ticket = self.of_maps.first().map(steps::each)?;
        self.ranges.get(*ticket).map(|range| (*ticket, *range))
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Range> {
        self.ranges.get_mut(ticket)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Range> {
        self.of_maps.remove(&ticket);
        self.ranges.remove(ticket)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Questions of the simulator.
#[cfg(test)]
impl Requeued {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range> {
        self.ranges.iter().map(|(_, range)| range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::steps::tests::taken;

    fn range(job: u64) -> Range {
        (JobId(job), Span { first: 0, len: 1 })
    }

    #[test]
    fn the_oldest_range_comes_first_and_that_of_a_map_is_found_behind_any_number_of_calls() {
        let mut requeued = Requeued::default();
        let calls: Vec<Ticket> = (0..1_000).map(|job| requeued.push(JobKind::Call, range(job))).collect();
        let first = requeued.push(JobKind::Map, range(1_000));
        let second = requeued.push(JobKind::Map, range(1_001));
        let before = taken();
        assert_eq!(requeued.first(), Some((calls[0], range(0))));
        assert_eq!(requeued.first_of_maps(), Some((first, range(1_000))));
        assert_eq!(taken() - before, 2, "no call was passed");
        assert_eq!(requeued.remove(first), Some(range(1_000)));
        assert_eq!(requeued.first_of_maps(), Some((second, range(1_001))));
        assert_eq!(requeued.remove(second), Some(range(1_001)));
        assert_eq!(requeued.first_of_maps(), None);
        assert_eq!(requeued.iter().count(), calls.len());
    }
}

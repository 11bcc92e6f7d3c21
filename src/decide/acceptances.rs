//! When the inputs of a map with a deadline were accepted, and when their deadlines pass.
//!
//! Inputs are accepted in order and in ranges, and the deadline is as far from each acceptance. So the
//! ranges are due in their order, and only the first one has to be watched.

use std::collections::VecDeque;
use std::time::Duration;

use crate::decide::job::Span;
use crate::decide::time::Time;

/// Inputs that were accepted at the same time.
#[derive(Debug)]
struct Accepted {
    first: u64,
    /// The index after the last of them.
    end: u64,
    /// The moment of their deadline. `None` until [`Acceptances::run_from`].
    due: Option<Time>,
    /// The number of them that have no outcome.
    pending: u64,
}

/// The accepted inputs of one map that have no outcome, in the order of their deadlines.
#[derive(Debug)]
pub(crate) struct Acceptances {
    pub(crate) limit: Duration,
    ranges: VecDeque<Accepted>,
    /// The moment at which the engine looks at this map, if it will.
    pub(crate) watched: Option<Time>,
}

impl Acceptances {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, ranges: VecDeque::new(), watched: None }
    }

    /// Records that the inputs of `span` were accepted. Their deadline runs from the next
    /// [`run_from`](Self::run_from).
    pub(super) fn accept(&mut self, span: Span) {
        self.forget_done();
        self.ranges.push_back(Accepted { first: span.first, end: span.end(), due: None, pending: span.len });
    }

    /// The deadlines of the inputs that were accepted since the last call run from now.
    pub(crate) fn run_from(&mut self, now: Time) {
        let due = now + self.limit;
        for range in self.ranges.iter_mut().rev().take_while(|range| range.due.is_none()) {
            range.due = Some(due);
        }
    }

    /// Records that the inputs of `span`, which were accepted together, have their outcomes.
    pub(super) fn ended(&mut self, span: Span) {
        let at = self.ranges.partition_point(|range| range.end <= span.first);
        // The range of inputs that end at their deadline was taken before.
        if let Some(range) = self.ranges.get_mut(at).filter(|range| range.first <= span.first) {
            range.pending = range.pending.saturating_sub(span.len);
        }
        self.forget_done();
    }

    /// The moment at which the deadline of an input passes.
    pub(crate) fn due_of(&self, index: u64) -> Option<Time> {
        let at = self.ranges.partition_point(|range| range.end <= index);
        self.ranges.get(at)?.due
    }

    /// The moment at which the next deadline passes.
    pub(crate) fn first_due(&self) -> Option<Time> {
        self.ranges.front()?.due
    }

    /// Removes the ranges whose deadlines have passed. Returns the index after their last input.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<u64> {
        let mut end = None;
        while let Some(range) = self.ranges.front().filter(|range| range.due.is_some_and(|due| due <= now)) {
            end = Some(range.end);
            self.ranges.pop_front();
        }
        end
    }

    fn forget_done(&mut self) {
        while self.ranges.front().is_some_and(|range| range.pending == 0) {
            self.ranges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn span(first: u64, len: u64) -> Span {
        Span { first, len }
    }

    #[test]
    fn ranges_are_due_in_the_order_of_their_acceptance() {
        let mut accepted = Acceptances::new(Duration::from_millis(10));
        accepted.accept(span(0, 3));
        accepted.accept(span(3, 2));
        assert_eq!(accepted.first_due(), None, "the moment of acceptance is not known yet");
        accepted.run_from(at(1));
        accepted.accept(span(5, 1));
        accepted.run_from(at(4));
        assert_eq!(
            [0, 4, 5, 6].map(|index| accepted.due_of(index)),
            [Some(at(11)), Some(at(11)), Some(at(14)), None]
        );
        assert_eq!((accepted.take_due(at(10)), accepted.take_due(at(11))), (None, Some(5)));
        assert_eq!((accepted.first_due(), accepted.take_due(at(20))), (Some(at(14)), Some(6)));
    }

    #[test]
    fn the_end_of_an_input_past_its_deadline_does_not_concern_the_inputs_behind_it() {
        let mut accepted = Acceptances::new(Duration::from_millis(10));
        accepted.accept(span(0, 1));
        accepted.run_from(at(0));
        accepted.accept(span(1, 1));
        accepted.run_from(at(5));
        assert_eq!(accepted.take_due(at(10)), Some(1));
        accepted.ended(span(0, 1));
        assert_eq!(accepted.first_due(), Some(at(15)));
    }

    #[test]
    fn ranges_whose_inputs_have_all_ended_are_forgotten() {
        let mut accepted = Acceptances::new(Duration::from_millis(10));
        for first in 0..1_000 {
            accepted.accept(span(2 * first, 2));
            accepted.run_from(at(first));
            accepted.ended(span(2 * first + 1, 1));
            assert_eq!(accepted.first_due(), Some(at(first + 10)));
            accepted.ended(span(2 * first, 1));
            assert_eq!(accepted.ranges.len(), 0);
        }
    }
}

//! [`Storm`]: many events of one kind in a short time. It decides when their number is reported, and when
//! they are over.
//!
//! The first event is reported by itself. Later ones are counted, and their number is reported once in
//! [`PERIOD`]. The storm is over once there was no further event for [`QUIET`].

use std::time::Duration;

use crate::decide::time::Time;

/// How long events are counted before their number is reported.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// The time without an event after which a storm is over. It is longer than [`PERIOD`], so that a storm with
/// short pauses has one beginning and one end.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// A storm, from its first event on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storm {
    /// The moment of the first event.
    begun: Time,
    /// The moment of the last event.
    last: Time,
    /// The moment of the last report.
    reported: Time,
    /// The number of events since the last report.
    unreported: u64,
    /// The number of all events.
    events: u64,
    /// Whether there was anything after the first report.
    goes_on: bool,
}

/// A report on a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StormReport {
    /// The storm goes on.
    GoesOn {
        /// The number of events since the last report.
        repeats: u64,
        /// The number of events since the first one, which counts as well.
        events: u64,
        /// The time since the first event.
        since: Duration,
    },
    /// There was no event for [`QUIET`].
    Over {
        /// The number of all events.
        events: u64,
        /// The time from the first event to the last one.
        lasted: Duration,
    },
}

impl Storm {
    /// A storm that begins with `events` events at `at`, which are reported by themselves.
    pub(crate) fn begins(events: u64, at: Time) -> Self {
        Self { begun: at, last: at, reported: at, unreported: 0, events, goes_on: false }
    }

    /// Counts `events` more events.
    pub(crate) fn again(&mut self, events: u64, at: Time) {
        self.last = at;
        self.unreported += events;
        self.events += events;
        self.goes_on = true;
    }

    /// Whether an event at `at` belongs to another storm, because this one is over.
    pub(crate) fn is_over(&self, at: Time) -> bool {
        at.since(self.last) >= QUIET
    }

    /// Whether there was nothing after the first report.
    pub(crate) fn is_single(&self) -> bool {
        !self.goes_on
    }

    /// The report that is due at `at`, if any. After [`StormReport::Over`] the storm is to be forgotten.
    pub(crate) fn review(&mut self, at: Time) -> Option<StormReport> {
        if self.unreported > 0 && at.since(self.reported) >= PERIOD {
            return Some(self.report(at));
        }
        (self.unreported == 0 && self.is_over(at)).then(|| self.end())
    }

    /// The report on the events that have not been reported, if there are any.
    pub(crate) fn take_unreported(&mut self, at: Time) -> Option<StormReport> {
        (self.unreported > 0).then(|| self.report(at))
    }

    /// The report on the end of the storm.
    pub(crate) fn end(&self) -> StormReport {
        StormReport::Over { events: self.events, lasted: self.last.since(self.begun) }
    }

    fn report(&mut self, at: Time) -> StormReport {
        self.reported = at;
        let repeats = std::mem::take(&mut self.unreported);
        StormReport::GoesOn { repeats, events: self.events, since: at.since(self.begun) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn events_are_counted_and_their_number_is_reported_once_in_a_period() {
        let mut storm = Storm::begins(1, at(0));
        (1..=3000).for_each(|_| storm.again(1, at(500)));
        assert_eq!(storm.review(at(999)), None);
        let report = StormReport::GoesOn { repeats: 3000, events: 3001, since: ms(1000) };
        assert_eq!(storm.review(at(1000)), Some(report));
        assert_eq!(storm.review(at(2000)), None, "there was no event since");
        storm.again(1, at(2500));
        let report = StormReport::GoesOn { repeats: 1, events: 3002, since: ms(2500) };
        assert_eq!(storm.review(at(2500)), Some(report));
    }

    #[test]
    fn a_storm_is_over_once_it_was_quiet_for_long_enough() {
        let mut storm = Storm::begins(1, at(0));
        storm.again(1, at(600));
        assert!(storm.review(at(1000)).is_some());
        assert_eq!(storm.review(at(10_599)), None);
        assert!(!storm.is_over(at(10_599)));
        assert!(storm.is_over(at(10_600)));
        assert_eq!(storm.review(at(10_600)), Some(StormReport::Over { events: 2, lasted: ms(600) }));
    }

    #[test]
    fn the_last_events_are_reported_before_the_end() {
        let mut storm = Storm::begins(1, at(0));
        storm.again(1, at(1));
        let report = StormReport::GoesOn { repeats: 1, events: 2, since: ms(20_000) };
        assert_eq!(storm.review(at(20_000)), Some(report), "the review came late");
        assert_eq!(storm.review(at(20_000)), Some(StormReport::Over { events: 2, lasted: ms(1) }));
    }

    #[test]
    fn a_single_event_is_no_storm() {
        let mut storm = Storm::begins(7, at(0));
        assert!(storm.is_single(), "its events were reported together");
        assert_eq!(storm.take_unreported(at(1)), None);
        storm.again(1, at(1));
        assert!(!storm.is_single());
        assert!(storm.take_unreported(at(1)).is_some());
    }
}

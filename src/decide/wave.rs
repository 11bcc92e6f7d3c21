//! [`Wave`]: something that comes and goes, such as an overload. It decides which of its beginnings and ends
//! are reported by themselves.
//!
//! ```text
//!  first coming       second, within AGAIN    further ones              nothing for AGAIN
//!  begins … ends ───▶ begins ───────────────▶ only counted ───────────▶ over
//!  each reported      reported, but no end    one report in REVIEWED    reported, with all numbers
//! ```
//!
//! A report is never contradicted by what is left out: after the second beginning the last report says that
//! it comes and goes, until the report that it is over.

use std::time::Duration;

use crate::decide::time::Time;

/// An overload that begins within this time after the end of another belongs to the same wave. It is several
/// times as long as the quiet after which a [storm](crate::decide::storm) is over, because an overload has no
/// end before that.
pub(crate) const AGAIN: Duration = Duration::from_secs(60);

/// How often the numbers of a wave are reported at most. A wave may last for days.
pub(crate) const REVIEWED: Duration = Duration::from_secs(60);

/// Something that comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wave {
    /// How often it has come.
    comings: u64,
    /// Whether it is there now.
    is_there: bool,
    /// The number of events of the earlier comings.
    before: u64,
    /// The number of events of the last coming.
    events: u64,
    /// When it came first.
    begun: Time,
    /// When it went last.
    ended: Time,
    /// The moment of the last report, and the number of events that it had.
    reported: (Time, u64),
}

/// The meaning of an event in its wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    /// It comes for the first time. If a wave before has ended without a report, that report is due first.
    First { before: Option<WaveReport> },
    /// It has gone, and comes again.
    Again,
    /// It is there already.
    GoesOn,
}

/// A report on a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaveReport {
    /// It comes and goes.
    GoesOn {
        comings: u64,
        events: u64,
        /// The time since it came first.
        since: Duration,
    },
    /// It has not come for [`AGAIN`].
    Over {
        comings: u64,
        events: u64,
        /// The time from its first beginning to its last end.
        lasted: Duration,
    },
}

impl Default for Wave {
    fn default() -> Self {
        Self::NEVER
    }
}

impl Wave {
    /// It has never come.
    pub(crate) const NEVER: Self = Self {
        comings: 0,
        is_there: false,
        before: 0,
        events: 0,
        begun: Time(Duration::ZERO),
        ended: Time(Duration::ZERO),
        reported: (Time(Duration::ZERO), 0),
    };

    /// It is there at `at`, and has had this number of events since it came last.
    pub(crate) fn is_there(&mut self, events: u64, at: Time) -> Coming {
        let is_again = !self.is_there && !self.is_over(at);
        let coming = match (self.is_there, is_again) {
            (true, _) => Coming::GoesOn,
            (false, true) => Coming::Again,
            (false, false) => Coming::First { before: self.end() },
        };
        match coming {
            Coming::First { .. } => *self = Self { comings: 1, begun: at, ..Self::NEVER },
            Coming::Again => {
                self.comings += 1;
                self.before += std::mem::take(&mut self.events);
            }
            Coming::GoesOn => {}
        }
        (self.is_there, self.events) = (true, events);
        if self.comings <= 2 && coming != Coming::GoesOn {
            self.reported = (at, self.events()); // by itself
        }
        coming
    }

    /// It has gone, and has had this number of events since it came last.
    pub(crate) fn is_gone(&mut self, events: u64, at: Time) {
        (self.is_there, self.events, self.ended) = (false, events, at);
    }

    /// How often it has come.
    pub(crate) fn comings(&self) -> u64 {
        self.comings
    }

    /// The number of events of all comings.
    pub(crate) fn events(&self) -> u64 {
        self.before + self.events
    }

    /// Whether it comes and goes, so that its events are only counted.
    pub(crate) fn is_folded(&self) -> bool {
        self.comings > 1
    }

    /// Whether the event that it has come is reported by itself.
    pub(crate) fn reports(&self, coming: Coming) -> bool {
        !self.is_folded() || coming == Coming::Again && self.comings == 2
    }

    /// Whether what comes at `at` belongs to another wave.
    fn is_over(&self, at: Time) -> bool {
        self.comings == 0 || !self.is_there && at.since(self.ended) >= AGAIN
    }

    /// The report that is due at `at`, if any. After [`WaveReport::Over`] the wave is forgotten.
    pub(crate) fn review(&mut self, at: Time) -> Option<WaveReport> {
        if !self.is_folded() {
            return None;
        }
        if self.is_over(at) {
            return std::mem::replace(self, Self::NEVER).end();
        }
        let (reported, had) = self.reported;
        if at.since(reported) < REVIEWED || self.events() == had {
            return None;
        }
        self.reported = (at, self.events());
        let (comings, events, since) = (self.comings, self.events(), at.since(self.begun));
        Some(WaveReport::GoesOn { comings, events, since })
    }

    /// The report on the end of the wave, unless its last end was reported by itself.
    pub(crate) fn end(&self) -> Option<WaveReport> {
        let (comings, events, lasted) = (self.comings, self.events(), self.ended.since(self.begun));
        self.is_folded().then_some(WaveReport::Over { comings, events, lasted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Coming = Coming::First { before: None };

    fn at(secs: u64) -> Time {
        Time(Duration::from_secs(secs))
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// It comes with one event, has `events` of them, and goes after ten seconds.
    fn comes(wave: &mut Wave, events: u64, from: u64) -> (Coming, bool) {
        let coming = wave.is_there(1, at(from));
        let is_reported = wave.reports(coming);
        assert_eq!(wave.is_there(events, at(from + 1)), Coming::GoesOn);
        wave.is_gone(events, at(from + 10));
        (coming, is_reported)
    }

    #[test]
    fn a_wave_is_as_long_as_from_its_own_first_beginning() {
        let mut wave = Wave::NEVER;
        comes(&mut wave, 5, 1_000);
        comes(&mut wave, 5, 1_020);
        assert_eq!(wave.end(), Some(WaveReport::Over { comings: 2, events: 10, lasted: secs(30) }));
    }

    #[test]
    fn what_comes_once_is_reported_by_itself_and_needs_no_review() {
        let mut wave = Wave::NEVER;
        assert_eq!(comes(&mut wave, 5, 0), (FIRST, true));
        assert!(wave.reports(Coming::GoesOn) && !wave.is_folded());
        assert_eq!((wave.review(at(69)), wave.review(at(1_000)), wave.end()), (None, None, None));
        assert_eq!(comes(&mut wave, 5, 70), (FIRST, true), "it is another wave after a minute");
    }

    #[test]
    fn what_comes_again_within_a_minute_is_reported_once_more_and_then_counted() {
        let mut wave = Wave::NEVER;
        comes(&mut wave, 5, 0);
        assert_eq!(comes(&mut wave, 7, 69), (Coming::Again, true));
        assert!(wave.is_folded() && !wave.reports(Coming::GoesOn));
        assert_eq!(comes(&mut wave, 9, 100), (Coming::Again, false));
        assert_eq!((wave.comings(), wave.events()), (3, 21));
        assert_eq!(wave.review(at(128)), None, "the last report is not old enough");
        let report = WaveReport::GoesOn { comings: 3, events: 21, since: secs(129) };
        assert_eq!(wave.review(at(129)), Some(report));
        assert_eq!(wave.review(at(169)), None, "there was nothing since, and it may come again");
        let over = WaveReport::Over { comings: 3, events: 21, lasted: secs(110) };
        assert_eq!(wave.review(at(170)), Some(over));
        assert_eq!((wave.review(at(500)), wave), (None, Wave::NEVER));
    }

    #[test]
    fn one_that_stays_is_reported_once_a_minute() {
        let mut wave = Wave::NEVER;
        comes(&mut wave, 5, 0);
        wave.is_there(1, at(20));
        let mut reports = 0;
        for second in 21..=620 {
            assert_eq!(wave.is_there(second - 19, at(second)), Coming::GoesOn);
            reports += u64::from(wave.review(at(second)).is_some());
        }
        assert_eq!(reports, 10);
        assert!(!wave.is_over(at(5_000)), "it has not gone");
    }

    #[test]
    fn a_wave_whose_end_no_review_has_seen_is_reported_before_the_next_one() {
        let mut wave = Wave::NEVER;
        comes(&mut wave, 5, 0);
        comes(&mut wave, 5, 20);
        let over = WaveReport::Over { comings: 2, events: 10, lasted: secs(30) };
        assert_eq!(comes(&mut wave, 1, 90), (Coming::First { before: Some(over) }, true));
    }

    #[test]
    fn a_day_of_coming_and_going_is_a_report_a_minute() {
        let mut wave = Wave::NEVER;
        let mut reports = 0;
        for second in (0..86_400).step_by(15) {
            let (_, is_reported) = comes(&mut wave, 3, second);
            reports += u64::from(is_reported) + u64::from(wave.review(at(second + 10)).is_some());
        }
        assert!((1_430..=1_442).contains(&reports), "{reports} reports of {} comings", wave.comings());
        assert_eq!((wave.comings(), wave.events()), (5_760, 17_280));
    }
}

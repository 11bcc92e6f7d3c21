//! [`TimeFacts`]: the limits of time of one input, and what they allow.

use std::sync::PoisonError;
use std::time::Duration;

use crate::base::ids::JobId;
use crate::decide::ledger::Rules;
use crate::decide::limits::Limits;
use crate::decide::time::Time;
use crate::simulator::events::Heard;
use crate::simulator::takers::Takers;
use crate::values::event::Event;

/// The facts about the limits of an input that a world records by itself.
#[derive(Debug, Default, Clone)]
pub(super) struct TimeFacts {
    /// When it was accepted.
    accepted: Time,
    /// The limit of each of its attempts: its own, or else the function's.
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    /// The earliest moment at which its last execution may have begun.
    pub(super) began: Time,
    /// When its last failure or time-out was known.
    failed: Time,
    /// The error of its last attempt that has returned one.
    error: Option<u64>,
    /// Whether its last attempt was cut for good.
    is_cut_for_good: bool,
}

/// An attempt that was cut, as the event reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) limit: Duration,
    pub(super) is_deadline: bool,
    pub(super) is_retried: bool,
}

/// The event of an attempt that was cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct CutEvent {
    pub(super) input: u64,
    pub(super) attempt: u32,
    pub(super) cut: Cut,
}

impl CutEvent {
    /// Takes the events that were heard, and returns the cuts among them.
    pub(super) fn take_all(heard: &Heard, takers: &Takers) -> Vec<Self> {
        let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        let cut = |(event, _)| {
            let Event::TimedOut { map, call, input, attempt, limit, is_deadline, is_retried } = event else {
                return None;
            };
            let first = match (map, call) {
                (Some(label), _) => label.parse::<u64>().expect("a label is a serial") << 20,
                (None, Some(number)) => takers.input(JobId(number - 1), 0),
                (None, None) => panic!("an event names its map or its call"),
            };
            let (input, attempt) = (first + input, attempt.get());
            Some(Self { input, attempt, cut: Cut { limit, is_deadline, is_retried } })
        };
        heard.into_iter().filter_map(cut).collect()
    }
}

impl TimeFacts {
    /// An input that is accepted now. `own` are the limits of its map or call.
    pub(super) fn of(own: Limits, rules: &Rules, now: Time) -> Self {
        Self {
            accepted: now,
            timeout: own.timeout.or(rules.limits.timeout),
            deadline: own.deadline.or(rules.limits.deadline),
            ..Self::default()
        }
    }

    /// Whether its deadline has passed.
    pub(super) fn is_past_deadline(&self, now: Time) -> bool {
        self.passes().is_some_and(|at| at <= now)
    }

    /// When its deadline passes.
    pub(super) fn passes(&self) -> Option<Time> {
        Some(self.accepted + self.deadline?)
    }

    /// Whether a retry that is due after one of these delays may, and whether it must, be refused because
    /// the deadline passes before it.
    pub(super) fn refuses(&self, (least, most): (Duration, Duration), now: Time) -> (bool, bool) {
        let ends_before = |delay| self.passes().is_some_and(|at| now + delay >= at);
        (ends_before(most), ends_before(least))
    }

    /// The error of the last attempt that has returned one.
    pub(super) fn error(&self) -> Option<u64> {
        self.error
    }

    /// An attempt has returned this error.
    pub(super) fn has_failed(&mut self, error: u64, now: Time) {
        (self.error, self.failed) = (Some(error), now);
    }

    /// An attempt was cut, and has made this number of failures full. Checks that it was to be cut, and what
    /// the event says of its retry. `goes_on` says whether the function retries anything, where that is
    /// known.
    pub(super) fn is_cut(
        &mut self,
        cut: Cut,
        failures: u32,
        rules: &Rules,
        goes_on: Option<bool>,
        now: Time,
    ) {
        let has_budget = rules.limits.retry_timeouts && failures <= rules.retries.retries_max();
        let (may_be_too_late, is_too_late) = self.refuses(delays(rules, failures), now);
        let Cut { limit, is_deadline, is_retried } = cut;
        let is_timeout = self.timeout.is_some_and(|limit| self.began + limit <= now);
        if is_deadline {
            assert_eq!(Some(limit), self.deadline, "the deadline that has passed, of {self:?}");
            let runs_out = is_timeout && has_budget && may_be_too_late;
            assert!(
                self.is_past_deadline(now) || runs_out,
                "{self:?} is cut before its deadline, at {now:?}"
            );
            assert!(!is_retried, "{self:?} is retried after its deadline");
        } else {
            assert_eq!(Some(limit), self.timeout, "the limit of an attempt, of {self:?}");
            assert!(is_timeout, "{self:?} has timed out too early, at {now:?}");
            if let Some(goes_on) = goes_on {
                let retries = has_budget && goes_on;
                assert!(
                    !(retries && is_too_late),
                    "{self:?} has no time for a retry, and the event names none"
                );
                assert_eq!(is_retried, retries, "whether {self:?} is retried, after {failures} failures");
            }
        }
        self.failed = now;
        self.is_cut_for_good = !is_retried;
    }

    /// Checks that an input may end by its timeout. `has_left` says whether the input is not executed again
    /// because of the threads that it has left behind.
    pub(super) fn ends_by_timeout(&self, limit: Duration, has_left: bool) {
        assert_eq!(Some(limit), self.timeout, "the limit of an attempt, of {self:?}");
        assert!(self.is_cut_for_good || has_left, "{self:?} has retries left");
    }

    /// Checks that an input with this number of failures may end by its deadline. `last` is the last error
    /// that its outcome has.
    pub(super) fn ends_by_deadline(
        &self,
        limit: Duration,
        last: Option<u64>,
        failures: u32,
        rules: &Rules,
        now: Time,
    ) {
        assert_eq!(Some(limit), self.deadline, "the deadline of {self:?}");
        let passes = self.accepted + limit;
        let is_refused = (1..=rules.retries.retries_max()).contains(&failures)
            && self.failed + rules.retries.delay(failures) >= passes;
        assert!(passes <= now || is_refused, "{self:?} is ended before its deadline, at {now:?}");
        assert_eq!(last, self.error, "the last error of {self:?}");
    }
}

/// The bounds of the delay before the next attempt of an input that has failed this often.
pub(super) fn delays(rules: &Rules, failures: u32) -> (Duration, Duration) {
    let most = rules.retries.delay(failures);
    (if rules.retries.jitter_source().is_some() { most / 2 } else { most }, most)
}

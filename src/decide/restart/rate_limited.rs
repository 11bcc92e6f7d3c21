//! The policy that gives up: too many crashes, and too large a share of the work.

use std::time::Duration;

use crate::decide::restart::crash_loop::{CrashLoop, Delays};
use crate::decide::restart::history::Tally;
use crate::values::error::ConfigError;

/// The default window.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The longest window, because crashes are kept one by one over its length.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Delays after loop crashes, so that a dependency that is down for a second does not burn the
/// budget in a millisecond.
const DELAYS: Delays = Delays { initial: Duration::from_millis(10), max: Duration::from_secs(1) };

/// The default limit, because a dependency that is away for 5 s makes 12 rounds of failed starts,
/// and the containers that it takes with it in the middle of their work may make some more.
const MAX_CRASHES: u32 = 16;

/// How long a container must stay up to end a crash loop, as for the backoff policy.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// Restarts until crashes are too many **and** too large a share, then gives up.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `window` | 60 s, sliding | above zero, up to 24 h |
/// | `max_crashes` | 16 | any that delays leave reachable within the window: up to 66 in 60 s |
/// | `max_failure_rate` | 0.5 | 0.0 .. 1.0 |
///
/// | crashes in the window, by rounds | all crashes / (all crashes + completed) | |
/// |---|---|---|
/// | ≤ `max_crashes` | any | restart |
/// | > `max_crashes` | ≤ `max_failure_rate` | restart |
/// | > `max_crashes` | > `max_failure_rate` | give up |
///
/// A rate of 0 is Erlang's restart intensity: the number alone decides. The rule is judged at
/// crashes only, and an `Err` counts as completed.
///
/// What counts as one crash does not depend on the number of containers. Of these deaths the first
/// alone counts towards `max_crashes`:
///
/// | deaths | towards `max_crashes` | towards the rate |
/// |---|---|---|
/// | of containers whose start began before the restart of the last one counted, which had completed nothing, or come within 1 s of it: one *round* | one | all |
/// | of one input, within a window | one | one |
/// | failed starts while another container is live or recycling | none | none |
///
/// After the n-th loop crash in a row a restart waits 0 for n = 1, else 10 ms × 2^(n−2), at most
/// 1 s. So with the defaults a dependency that `enter` needs may be away for 5 s at any moment, the
/// start included, whatever the number of containers. While a delay runs no other container is
/// created, but for one that had made progress or died of an input that had crashed one before.
///
/// ```
/// use longshore::RateLimited;
/// use std::time::Duration;
///
/// let strict = RateLimited::new().max_crashes(3).max_failure_rate(0.0).window(Duration::from_secs(5));
/// assert!(strict != RateLimited::never());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimited {
    window: Duration,
    max_crashes: u32,
    max_failure_rate: f64,
    limit: Limit,
}

/// Whether the limit is judged at all.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    Judged,
    Never,
}

impl Default for RateLimited {
    fn default() -> Self {
        Self::new()
    }
}

impl RateLimited {
    /// The policy with its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: WINDOW, max_crashes: MAX_CRASHES, max_failure_rate: 0.5, limit: Limit::Judged }
    }

    /// A limit that never trips.
    #[must_use]
    pub const fn never() -> Self {
        Self { limit: Limit::Never, ..Self::new() }
    }

    /// The length of the sliding window.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many crashes within the window are borne, counted by rounds.
    #[must_use]
    pub const fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = crashes;
        self
    }

    /// Which share crashes / (crashes + completed inputs) is borne.
    #[must_use]
    pub const fn max_failure_rate(mut self, rate: f64) -> Self {
        self.max_failure_rate = rate;
        self
    }

    /// `window`, `max_crashes`, `max_failure_rate` and whether the limit is judged.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Duration, u32, f64, bool) {
        (self.window, self.max_crashes, self.max_failure_rate, self.limit == Limit::Judged)
    }

    /// Above how many crashes and which share of them it gives up, if it ever does.
    pub(crate) fn limits(&self) -> Option<(u32, f64)> {
        self.may_trip().then_some((self.max_crashes, self.max_failure_rate))
    }

    pub(crate) const fn window_length(&self) -> Duration {
        self.window
    }

    pub(crate) fn crash_loop(&self) -> CrashLoop {
        CrashLoop::new(DELAYS, RESET_AFTER, None)
    }

    /// Whether any crashes could break the limit.
    pub(crate) fn may_trip(&self) -> bool {
        self.limit == Limit::Judged
    }

    /// Whether one more crash than that may break the limit.
    pub(crate) fn may_trip_after(&self, rounds: u64) -> bool {
        self.may_trip() && rounds >= u64::from(self.max_crashes)
    }

    /// Whether that many crashes and completions break the limit.
    pub(crate) fn trips(&self, tally: Tally) -> bool {
        if self.limit == Limit::Never {
            return false;
        }
        let too_many = tally.rounds > u64::from(self.max_crashes);
        let rate = tally.crashes as f64 / (tally.crashes as f64 + tally.completed as f64);
        too_many && rate > self.max_failure_rate
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.window.is_zero() || self.window > WINDOW_MAX {
            return Err(ConfigError::CrashWindow { window: self.window, limit: WINDOW_MAX });
        }
        if !(0.0..1.0).contains(&self.max_failure_rate) {
            return Err(ConfigError::FailureRate { max_failure_rate: self.max_failure_rate });
        }
        let max_crashes = self.max_crashes;
        let delays = delays_to_trip(max_crashes, self.window);
        if self.limit == Limit::Judged && delays > self.window {
            return Err(ConfigError::LimitUnreachable { max_crashes, delays, window: self.window });
        }
        Ok(())
    }
}

/// The delays that pass before `max_crashes + 1` rounds, when containers do nothing but fail to
/// start; summed until they exceed `window`. All containers fail in each round, however many.
fn delays_to_trip(max_crashes: u32, window: Duration) -> Duration {
    let rounds = u64::from(max_crashes) + 1;
    let mut sum = Duration::ZERO;
    for round in 1..rounds {
        let step = DELAYS.after(u32::try_from(round).unwrap_or(u32::MAX));
        if step == DELAYS.max {
            let rest = u32::try_from(rounds - round).unwrap_or(u32::MAX);
            return sum.saturating_add(step.saturating_mul(rest));
        }
        sum += step;
        if sum > window {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_window_is_allowed_and_no_longer_one() {
        assert_eq!(RateLimited::new().window(WINDOW_MAX).validate(), Ok(()));
        let longer = RateLimited::new().window(WINDOW_MAX + Duration::from_nanos(1)).validate();
        assert!(matches!(longer, Err(ConfigError::CrashWindow { limit: WINDOW_MAX, .. })));
    }

    fn tally(rounds: u64, completed: u64) -> Tally {
        Tally { crashes: rounds, rounds, completed }
    }

    #[test]
    fn it_trips_only_past_both_thresholds() {
        let policy = RateLimited::new();
        assert!(!policy.trips(tally(16, 0)), "exactly at the number");
        assert!(policy.trips(tally(17, 0)));
        assert!(!policy.trips(tally(17, 17)), "exactly at the rate");
        assert!(policy.trips(tally(17, 16)));
        assert!(!RateLimited::never().trips(tally(1 << 40, 0)));
        assert!(policy.max_failure_rate(0.0).trips(tally(17, 1 << 40)));
    }

    #[test]
    fn the_number_is_of_rounds_and_the_rate_of_all_crashes() {
        let policy = RateLimited::new();
        assert!(!policy.trips(Tally { crashes: 1_000, rounds: 16, completed: 0 }));
        assert!(!policy.trips(Tally { crashes: 40, rounds: 17, completed: 40 }));
        assert!(policy.trips(Tally { crashes: 41, rounds: 17, completed: 40 }));
    }

    #[test]
    fn settings_that_could_never_trip_are_refused() {
        for rate in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
            let refused = RateLimited::new().max_failure_rate(rate).validate();
            assert!(matches!(refused, Err(ConfigError::FailureRate { .. })), "{rate}");
        }
        let zero = RateLimited::new().window(Duration::ZERO).validate();
        assert!(matches!(zero, Err(ConfigError::CrashWindow { .. })));
        assert_eq!(RateLimited::new().validate(), Ok(()), "the defaults");
        // The 67th failed start comes after 59.27 s, the 68th after 60.27 s.
        assert_eq!(RateLimited::new().max_crashes(66).validate(), Ok(()));
        let unreachable = RateLimited::new().max_crashes(67).validate().expect_err("takes 60.27 s");
        assert!(unreachable.to_string().contains("67") && unreachable.to_string().contains("60.27s"));
        let longer = RateLimited::new().max_crashes(67).window(Duration::from_millis(60_270));
        assert_eq!(longer.validate(), Ok(()));
        assert_eq!(RateLimited::never().max_crashes(u32::MAX).validate(), Ok(()));
        assert!(RateLimited::new().max_crashes(u32::MAX).validate().is_err());
    }
}

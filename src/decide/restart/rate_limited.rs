//! The policy that gives up when crashes are too many and too large a share of the work.

use std::time::Duration;

use crate::decide::restart::crash_loop::{CrashLoop, Delays};
use crate::decide::restart::history::WindowCounts;
use crate::values::error::ConfigError;

/// The default window.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The longest window, because the crashes within a window are kept one by one.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The delays after loop crashes. They keep a dependency that is down for a second from spending the
/// budget in a millisecond.
const DELAYS: Delays = Delays { initial: Duration::from_millis(10), max: Duration::from_secs(1) };

/// The default limit. A dependency that is away for 5 s causes 12 rounds of failed starts, and the containers
/// that were working when it went away may add some more.
const MAX_CRASHES: u32 = 16;

/// The time that a container must stay up to end a crash loop. The backoff policy has the same default.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// Restarts until crashes are too many **and** too large a share of the work, and then gives up.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `window` | 60 s, sliding | above zero, up to 24 h |
/// | `max_crashes` | 16 | any that failed starts alone can exceed within the window: up to 66 in 60 s |
/// | `max_failure_rate` | 0.5 | 0.0 .. 1.0 |
///
/// | crashes in the window, by rounds | all crashes / (all crashes + completed) | |
/// |---|---|---|
/// | ≤ `max_crashes` | any | restart |
/// | > `max_crashes` | ≤ `max_failure_rate` | restart |
/// | > `max_crashes` | > `max_failure_rate` | give up |
///
/// A rate of 0 is Erlang's restart intensity: only the number decides. The rule is judged only at crashes,
/// and an `Err` counts as completed.
///
/// The number of containers does not affect what counts as one crash, because some deaths count together:
///
/// | deaths | towards `max_crashes` | towards the rate |
/// |---|---|---|
/// | deaths of containers whose start began before the restart of the last counted one, and which had completed nothing or died within 1 s of it: one *round* | one | all |
/// | deaths by one input, within a window | one | one |
/// | failed starts while another container is live or recycling | none | none |
///
/// After the first loop crash in a row, the container restarts at once. After the n-th, the restart waits for
/// 10 ms × 2^(n−2), at most 1 s. With the defaults a dependency that `enter` needs may therefore be away for
/// 5 s at any moment, including the start, with any number of containers. While a delay runs no other
/// container is created, except one that had made progress, or that died of an input that had crashed a
/// container before.
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

    /// Sets the length of the sliding window.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets the number of crashes within the window that are tolerated, counted in rounds.
    #[must_use]
    pub const fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = crashes;
        self
    }

    /// Sets the share crashes / (crashes + completed inputs) that is tolerated.
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

    /// The number of crashes and their share above which the policy gives up. `None` if it never does.
    pub(crate) fn limits(&self) -> Option<(u32, f64)> {
        self.may_trip().then_some((self.max_crashes, self.max_failure_rate))
    }

    pub(super) const fn window_length(&self) -> Duration {
        self.window
    }

    pub(crate) fn crash_loop(&self) -> CrashLoop {
        CrashLoop::new(DELAYS, RESET_AFTER, None)
    }

    /// Whether the limit can be exceeded at all.
    pub(super) fn may_trip(&self) -> bool {
        self.limit == Limit::Judged
    }

    /// Whether one more crash after `rounds` may exceed the limit.
    pub(crate) fn may_trip_after(&self, rounds: u64) -> bool {
        self.may_trip() && rounds >= u64::from(self.max_crashes)
    }

    /// Whether the given crashes and completions exceed the limit.
    pub(crate) fn trips(&self, tally: WindowCounts) -> bool {
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
        let delays = delays_to_trip(max_crashes);
        if self.limit == Limit::Judged && delays > self.window {
            return Err(ConfigError::LimitUnreachable { max_crashes, delays, window: self.window });
        }
        Ok(())
    }
}

/// The sum of the delays before `max_crashes + 1` rounds in which every container fails to start. It does
/// not depend on the number of containers.
fn delays_to_trip(max_crashes: u32) -> Duration {
    let rounds = u64::from(max_crashes) + 1;
    let mut sum = Duration::ZERO;
    for round in 1..rounds {
        let step = DELAYS.after(u32::try_from(round).unwrap_or(u32::MAX));
        if step == DELAYS.max {
            let rest = u32::try_from(rounds - round).unwrap_or(u32::MAX);
            return sum.saturating_add(step.saturating_mul(rest));
        }
        sum += step;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_a_day_is_accepted_and_a_longer_one_is_refused() {
        let day = Duration::from_secs(86_400);
        assert_eq!(RateLimited::new().window(day).validate(), Ok(()));
        let longer = RateLimited::new().window(day + Duration::from_nanos(1)).validate();
        assert!(matches!(longer, Err(ConfigError::CrashWindow { limit, .. }) if limit == day));
    }

    fn tally(rounds: u64, completed: u64) -> WindowCounts {
        WindowCounts { crashes: rounds, rounds, completed }
    }

    #[test]
    fn it_trips_only_past_both_thresholds() {
        let policy = RateLimited::new();
        assert!(!policy.trips(tally(16, 0)), "exactly the allowed number");
        assert!(policy.trips(tally(17, 0)));
        assert!(!policy.trips(tally(17, 17)), "exactly the allowed rate");
        assert!(policy.trips(tally(17, 16)));
        assert!(!RateLimited::never().trips(tally(1 << 40, 0)));
        assert!(policy.max_failure_rate(0.0).trips(tally(17, 1 << 40)));
    }

    #[test]
    fn the_number_counts_rounds_and_the_rate_counts_all_crashes() {
        let policy = RateLimited::new();
        assert!(!policy.trips(WindowCounts { crashes: 1_000, rounds: 16, completed: 0 }));
        assert!(!policy.trips(WindowCounts { crashes: 40, rounds: 17, completed: 40 }));
        assert!(policy.trips(WindowCounts { crashes: 41, rounds: 17, completed: 40 }));
    }

    #[test]
    fn settings_that_could_never_trip_are_refused() {
        for rate in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
            let refused = RateLimited::new().max_failure_rate(rate).validate();
            assert!(matches!(refused, Err(ConfigError::FailureRate { .. })), "{rate}");
        }
        let zero = RateLimited::new().window(Duration::ZERO).validate();
        assert!(matches!(zero, Err(ConfigError::CrashWindow { .. })));
        assert_eq!(RateLimited::new().validate(), Ok(()), "the defaults are valid");
        // The 67th failed start comes after 59.27 s, the 68th after 60.27 s.
        assert_eq!(RateLimited::new().max_crashes(66).validate(), Ok(()));
        let unreachable =
            RateLimited::new().max_crashes(67).validate().expect_err("the delays add up to 60.27 s");
        let text = unreachable.to_string();
        assert!(text.contains("67"), "{text}");
        assert!(text.contains("60.27s"), "{text}");
        let longer = RateLimited::new().max_crashes(67).window(Duration::from_millis(60_270));
        assert_eq!(longer.validate(), Ok(()));
        assert_eq!(RateLimited::never().max_crashes(u32::MAX).validate(), Ok(()));
        assert!(RateLimited::new().max_crashes(u32::MAX).validate().is_err());
    }

    #[test]
    fn a_limit_that_is_unreachable_shows_all_of_the_delays_that_stand_before_it() {
        for (max_crashes, millis) in [(2, 10), (3, 30), (4, 70), (8, 1_270), (66, 59_270), (67, 60_270)] {
            let window = Duration::from_millis(millis);
            let policy = RateLimited::new().max_crashes(max_crashes);
            assert_eq!(policy.clone().window(window).validate(), Ok(()));
            for shorter in [window - Duration::from_nanos(1), Duration::from_millis(1)] {
                let refused = ConfigError::LimitUnreachable { max_crashes, delays: window, window: shorter };
                assert_eq!(policy.clone().window(shorter).validate(), Err(refused));
            }
        }
    }
}

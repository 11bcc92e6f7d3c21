//! The policy that gives up: too many crashes, and too large a share of the work.

use std::time::Duration;

use crate::decide::restart::crash_loop::{CrashLoop, Delays};
use crate::decide::restart::history::Tally;
use crate::error::ConfigError;

/// The default window.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The longest window, because crashes are kept one by one over its length.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Delays after loop crashes, so that a dependency that is down for a second does not burn the
/// budget in a millisecond.
const DELAYS: Delays = Delays { initial: Duration::from_millis(10), max: Duration::from_secs(1) };

/// How long a container must stay up to end a crash loop, as for the backoff policy.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// Restarts until crashes are too many **and** too large a share, then gives up.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `window` | 60 s, sliding | above zero, up to 24 h |
/// | `max_crashes` | max(10, 2 × containers) | any that delays leave reachable within the window |
/// | `max_failure_rate` | 0.5 | 0.0 .. 1.0 |
///
/// | crashes in the window | crashes / (crashes + completed) | |
/// |---|---|---|
/// | ≤ `max_crashes` | any | restart |
/// | > `max_crashes` | ≤ `max_failure_rate` | restart |
/// | > `max_crashes` | > `max_failure_rate` | give up |
///
/// A rate of 0 is Erlang's restart intensity: the number alone decides. The rule is judged at
/// crashes only, an input counts at most one crash within a window, and an `Err` counts as
/// completed. After the n-th loop crash in a row a restart waits 0 for n = 1, else
/// 10 ms × 2^(n−2), at most 1 s.
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
    max_crashes: Option<u32>,
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
        Self { window: WINDOW, max_crashes: None, max_failure_rate: 0.5, limit: Limit::Judged }
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

    /// How many crashes within the window are borne.
    #[must_use]
    pub const fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = Some(crashes);
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
    pub(crate) fn settings(&self) -> (Duration, Option<u32>, f64, bool) {
        (self.window, self.max_crashes, self.max_failure_rate, self.limit == Limit::Judged)
    }

    pub(crate) const fn window_length(&self) -> Duration {
        self.window
    }

    pub(crate) fn max_crashes_of(&self, containers: usize) -> u32 {
        let doubled = u32::try_from(containers).unwrap_or(u32::MAX).saturating_mul(2);
        self.max_crashes.unwrap_or(doubled.max(10))
    }

    pub(crate) fn crash_loop(&self) -> CrashLoop {
        CrashLoop::new(DELAYS, RESET_AFTER, None)
    }

    /// Whether any crashes could break the limit.
    pub(crate) fn may_trip(&self) -> bool {
        self.limit == Limit::Judged
    }

    /// Whether that many crashes and completions break the limit.
    pub(crate) fn trips(&self, tally: Tally, containers: usize) -> bool {
        if self.limit == Limit::Never {
            return false;
        }
        let too_many = tally.crashes > u64::from(self.max_crashes_of(containers));
        let rate = tally.crashes as f64 / (tally.crashes as f64 + tally.completed as f64);
        too_many && rate > self.max_failure_rate
    }

    pub(crate) fn validate(&self, containers: usize) -> Result<(), ConfigError> {
        if self.window.is_zero() || self.window > WINDOW_MAX {
            return Err(ConfigError::CrashWindow { window: self.window, limit: WINDOW_MAX });
        }
        if !(0.0..1.0).contains(&self.max_failure_rate) {
            return Err(ConfigError::FailureRate { max_failure_rate: self.max_failure_rate });
        }
        let max_crashes = self.max_crashes_of(containers);
        let delays = delays_to_trip(max_crashes, containers, self.window);
        if self.limit == Limit::Judged && delays > self.window {
            return Err(ConfigError::LimitUnreachable { max_crashes, delays, window: self.window });
        }
        Ok(())
    }
}

/// The delays that pass before `max_crashes + 1` crashes, when every container does nothing but
/// crash; summed until they exceed `window`.
fn delays_to_trip(max_crashes: u32, containers: usize, window: Duration) -> Duration {
    // Each loop crash takes all containers with it, so a round is worth as many crashes.
    let rounds = (u64::from(max_crashes) + 1).div_ceil(containers as u64);
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

    fn tally(crashes: u64, completed: u64) -> Tally {
        Tally { crashes, completed }
    }

    #[test]
    fn it_trips_only_past_both_thresholds() {
        let policy = RateLimited::new();
        assert!(!policy.trips(tally(10, 0), 2), "exactly at the number");
        assert!(policy.trips(tally(11, 0), 2));
        assert!(!policy.trips(tally(11, 11), 2), "exactly at the rate");
        assert!(policy.trips(tally(11, 10), 2));
        assert!(!policy.trips(tally(32, 0), 16), "2 × containers");
        assert!(policy.trips(tally(33, 0), 16));
        assert!(!RateLimited::never().trips(tally(1 << 40, 0), 1));
        assert!(policy.clone().max_failure_rate(0.0).trips(tally(11, 1 << 40), 2));
    }

    #[test]
    fn settings_that_could_never_trip_are_refused() {
        for rate in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
            let refused = RateLimited::new().max_failure_rate(rate).validate(1);
            assert!(matches!(refused, Err(ConfigError::FailureRate { .. })), "{rate}");
        }
        let zero = RateLimited::new().window(Duration::ZERO).validate(1);
        assert!(matches!(zero, Err(ConfigError::CrashWindow { .. })));
        let unreachable = RateLimited::new().max_crashes(100).validate(1).expect_err("takes 94 s");
        assert!(unreachable.to_string().contains("100") && unreachable.to_string().contains("60s"));
        assert_eq!(RateLimited::new().max_crashes(100).validate(4), Ok(()));
        assert_eq!(RateLimited::never().max_crashes(u32::MAX).validate(1), Ok(()));
        assert!(RateLimited::new().max_crashes(u32::MAX).validate(1).is_err());
        for containers in [1, 2, 8, 1024] {
            assert_eq!(RateLimited::new().validate(containers), Ok(()), "the default with {containers}");
        }
    }
}

//! The retry policy of inputs whose function failed: how often they are retried, and after which delay.
//!
//! The policy does not concern crashes: a container's death never spends a retry.

use std::time::Duration;

use crate::decide::jitter::{Jitter, from_nanos};
use crate::values::error::ConfigError;

/// How often a failed input is retried, and how long it waits each time.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `max_retries` | 0 | any |
/// | `initial_delay` | 1 s | up to `max_delay`; zero is legal |
/// | `backoff_coefficient` | 2.0 | 1.0 ..= 10.0 |
/// | `max_delay` | 60 s | above zero, up to 24 h |
/// | `jitter` | off | a seed |
///
/// The delay before retry *k* is `initial_delay × coefficient^(k−1)`, at most `max_delay`. A plain
/// integer means that many retries with a fixed delay of one second. The settings are validated when
/// the function is started.
///
/// ```
/// use longshore::Retries;
/// use std::time::Duration;
///
/// let retries = Retries::new(8).max_delay(Duration::from_secs(30));
/// let delays: Vec<u64> = (1..=7).map(|k| retries.delay(k).as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
/// assert_eq!(Retries::from(3).delay(3), Duration::from_secs(1)); // an integer means a fixed delay
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    max_retries: u32,
    initial_delay: Duration,
    backoff_coefficient: f64,
    max_delay: Duration,
    jitter_seed: Option<u64>,
}

/// The largest `max_delay`. An input that waits keeps its place in the window, so a wait of more than a day
/// is probably a mistake.
pub(super) const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Retries {
    /// No retries.
    fn default() -> Self {
        Self::new(0)
    }
}

impl From<u32> for Retries {
    fn from(max_retries: u32) -> Self {
        Self::new(max_retries).backoff_coefficient(1.0)
    }
}

impl Retries {
    /// Allows `max_retries` retries with exponentially growing delays: 1 s, doubled each time, at most 60 s.
    #[must_use]
    pub const fn new(max_retries: u32) -> Self {
        Self {
            max_retries,
            initial_delay: Duration::from_secs(1),
            backoff_coefficient: 2.0,
            max_delay: Duration::from_secs(60),
            jitter_seed: None,
        }
    }

    /// Sets the delay before the first retry.
    #[must_use]
    pub const fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// Sets the factor from each delay to the next.
    #[must_use]
    pub const fn backoff_coefficient(mut self, coefficient: f64) -> Self {
        self.backoff_coefficient = coefficient;
        self
    }

    /// Sets the longest delay.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Draws each delay uniformly between its half and its whole, with a generator seeded by `seed`.
    #[must_use]
    pub const fn jitter(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    /// The number of retries that an input has.
    #[must_use]
    pub const fn retries_max(&self) -> u32 {
        self.max_retries
    }

    /// The delay before retry `k`, counted from 1, before jitter.
    #[must_use]
    pub fn delay(&self, k: u32) -> Duration {
        let exponent = i32::try_from(k.saturating_sub(1)).unwrap_or(i32::MAX);
        let factor = self.backoff_coefficient.powi(exponent);
        if factor == 1.0 {
            return self.initial_delay.min(self.max_delay);
        }
        let nanos = self.initial_delay.as_nanos() as f64 * factor;
        // Zero times infinity is not a number, so a zero delay is handled first.
        if self.initial_delay.is_zero() {
            Duration::ZERO
        } else if nanos.is_finite() && nanos < self.max_delay.as_nanos() as f64 {
            from_nanos(nanos.round() as u128)
        } else {
            self.max_delay
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let coefficient = self.backoff_coefficient;
        if !(1.0..=10.0).contains(&coefficient) {
            return Err(ConfigError::BackoffCoefficient { coefficient });
        }
        if self.max_delay.is_zero() || self.max_delay > RETRY_DELAY_MAX {
            return Err(ConfigError::RetryMaxDelay { max_delay: self.max_delay, limit: RETRY_DELAY_MAX });
        }
        if self.initial_delay > self.max_delay {
            return Err(ConfigError::RetryInitialDelay {
                initial_delay: self.initial_delay,
                max_delay: self.max_delay,
            });
        }
        Ok(())
    }

    /// `initial_delay`, `backoff_coefficient` and `max_delay`.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Duration, f64, Duration) {
        (self.initial_delay, self.backoff_coefficient, self.max_delay)
    }

    pub(crate) fn jitter_source(&self) -> Option<Jitter> {
        self.jitter_seed.map(Jitter::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn zero_retries_and_a_zero_initial_delay_are_legal() {
        let retries = Retries::new(0).initial_delay(Duration::ZERO);
        assert_eq!(retries.validate(), Ok(()));
        assert_eq!(retries.delay(5_000), Duration::ZERO);
    }

    #[test]
    fn each_bound_is_refused_just_outside_and_accepted_just_inside() {
        for ok in [1.0, 10.0] {
            assert_eq!(Retries::new(1).backoff_coefficient(ok).validate(), Ok(()));
        }
        for bad in [0.999, 10.001, f64::NAN, f64::INFINITY, -2.0] {
            let refused = Retries::new(1).backoff_coefficient(bad).validate();
            assert!(matches!(refused, Err(ConfigError::BackoffCoefficient { .. })));
        }
        let day = Duration::from_secs(86_400);
        assert_eq!(Retries::new(1).max_delay(day).validate(), Ok(()));
        let nano = Duration::from_nanos(1);
        for bad in [Duration::ZERO, day + nano] {
            let refused = Retries::new(1).max_delay(bad).validate();
            assert!(matches!(refused, Err(ConfigError::RetryMaxDelay { .. })));
        }
        let equal = Retries::new(1).initial_delay(SECOND).max_delay(SECOND);
        assert_eq!(equal.validate(), Ok(()));
        let above = Retries::new(1).initial_delay(SECOND + nano).max_delay(SECOND);
        assert!(matches!(above.validate(), Err(ConfigError::RetryInitialDelay { .. })));
    }

    #[test]
    fn each_setting_is_kept_beside_the_others() {
        let (first, longest) = (Duration::from_millis(2), Duration::from_millis(50));
        let retries =
            Retries::new(5).initial_delay(first).backoff_coefficient(3.0).max_delay(longest).jitter(9);
        assert_eq!((retries.retries_max(), retries.settings()), (5, (first, 3.0, longest)));
        let drawn = retries.jitter_source().map(|mut jitter| jitter.equal(SECOND));
        assert_eq!(drawn, Some(Jitter::new(9).equal(SECOND)));
        assert!(Retries::new(5).jitter_source().is_none(), "jitter is off unless it is seeded");
    }

    #[test]
    fn an_integer_is_that_many_retries_a_second_apart() {
        let retries = Retries::from(3);
        assert_eq!(retries.retries_max(), 3);
        assert!([1, 2, 100].iter().all(|k| retries.delay(*k) == SECOND));
    }

    #[test]
    fn each_delay_is_the_one_before_times_the_coefficient_up_to_the_longest() {
        let retries = Retries::new(8).max_delay(30 * SECOND);
        let seconds: Vec<u64> = (1..=7).map(|k| retries.delay(k).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        let rounded = Retries::new(1).initial_delay(Duration::from_nanos(3)).backoff_coefficient(1.5);
        assert_eq!(rounded.delay(2), Duration::from_nanos(5), "4.5 ns");
        assert_eq!(retries.delay(u32::MAX), 30 * SECOND);
        assert_eq!(retries.initial_delay(Duration::ZERO).delay(u32::MAX), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn delays_grow_up_to_the_cap_and_never_overflow(
            initial in 0u64..100_000_000_000, coefficient in 1.0f64..=10.0, k in 1u32..10_000,
        ) {
            let max = Duration::from_secs(100);
            let retries = Retries::new(9)
                .initial_delay(Duration::from_nanos(initial))
                .backoff_coefficient(coefficient)
                .max_delay(max);
            prop_assert!(retries.delay(k) <= retries.delay(k + 1));
            prop_assert!(retries.delay(k) <= max);
            prop_assert_eq!(retries.delay(1), Duration::from_nanos(initial));
        }
    }
}

//! The policy that never gives up, but slows a crash loop down.

use std::time::Duration;

use crate::decide::jitter::Jitter;
use crate::decide::restart::crash_loop::{CrashLoop, Delays};
use crate::values::error::ConfigError;

/// Restarts for ever. A crash loop is restarted more and more slowly.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `initial` | 100 ms | above zero |
/// | `max` | 60 s | from `initial` |
/// | `reset_after` | 10 s | from 2 × `initial` |
/// | `seed` | fixed | any |
///
/// After the first loop crash in a row, the container restarts at once. After the n-th, the restart waits for
/// a delay of `initial × 2^(n−2)`, at most `max`. The actual delay is drawn between the half and the whole of
/// it (equal jitter). While the delay runs no other container is created, except one that had made progress,
/// or that died of an input that had crashed a container before. Healthy containers go on working. The loop
/// ends when a container that was started after its last crash completes an input, or stays up for
/// `reset_after` from the end of its `enter`.
///
/// ```
/// use longshore::CrashLoopBackoff;
/// use std::time::Duration;
///
/// let patient = CrashLoopBackoff::new().initial(Duration::from_secs(1)).max(Duration::from_secs(300));
/// assert!(patient != CrashLoopBackoff::default());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CrashLoopBackoff {
    initial: Duration,
    max: Duration,
    reset_after: Duration,
    seed: u64,
}

impl Default for CrashLoopBackoff {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashLoopBackoff {
    /// The policy with its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
            reset_after: Duration::from_secs(10),
            seed: 0,
        }
    }

    /// Sets the delay after the second loop crash in a row.
    #[must_use]
    pub const fn initial(mut self, delay: Duration) -> Self {
        self.initial = delay;
        self
    }

    /// Sets the longest delay.
    #[must_use]
    pub const fn max(mut self, delay: Duration) -> Self {
        self.max = delay;
        self
    }

    /// Sets how long a container must stay up to end the loop.
    #[must_use]
    pub const fn reset_after(mut self, up: Duration) -> Self {
        self.reset_after = up;
        self
    }

    /// Seeds the jitter, so that a run can be repeated.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// `initial`, `max` and `reset_after`.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Duration, Duration, Duration) {
        (self.initial, self.max, self.reset_after)
    }

    pub(crate) fn crash_loop(&self) -> CrashLoop {
        let delays = Delays { initial: self.initial, max: self.max };
        CrashLoop::new(delays, self.reset_after, Some(Jitter::new(self.seed)))
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.initial.is_zero() {
            return Err(ConfigError::ZeroBackoff);
        }
        if self.max < self.initial {
            return Err(ConfigError::BackoffMax { initial: self.initial, max: self.max });
        }
        let least = self.initial.saturating_mul(2);
        if self.reset_after < least {
            return Err(ConfigError::ResetAfter { reset_after: self.reset_after, least });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn settings_that_would_spin_or_contradict_each_other_are_refused() {
        let policy = CrashLoopBackoff::new();
        assert_eq!(policy.validate(), Ok(()));
        assert_eq!(policy.clone().initial(Duration::ZERO).validate(), Err(ConfigError::ZeroBackoff));
        let inverted = policy.clone().initial(2 * SECOND).max(SECOND).validate();
        assert_eq!(inverted, Err(ConfigError::BackoffMax { initial: 2 * SECOND, max: SECOND }));
        let hasty = policy.clone().initial(SECOND).reset_after(SECOND).validate();
        assert_eq!(hasty, Err(ConfigError::ResetAfter { reset_after: SECOND, least: 2 * SECOND }));
        assert_eq!(policy.initial(SECOND).reset_after(2 * SECOND).validate(), Ok(()));
    }

    #[test]
    fn each_setting_is_kept_beside_the_others() {
        let policy = CrashLoopBackoff::new().initial(SECOND).max(3 * SECOND).reset_after(2 * SECOND).seed(9);
        assert_eq!(policy.settings(), (SECOND, 3 * SECOND, 2 * SECOND));
        assert_ne!(policy, policy.clone().seed(8));
        assert_eq!(policy.clone().seed(8).settings(), policy.settings());
    }

    #[test]
    fn delays_may_all_be_the_same() {
        let policy = CrashLoopBackoff::new();
        assert_eq!(policy.initial(SECOND).max(SECOND).validate(), Ok(()));
    }
}

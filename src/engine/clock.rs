//! The one place that reads the clock.

use std::time::{Duration, Instant};

use crate::decide::time::Time;

/// A function's clock: time since it was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time(self.0.elapsed())
    }

    /// The instant of `time`, for a timed wait. Far ahead where the platform cannot say it.
    pub(crate) fn instant(self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.0.checked_add(time.0).unwrap_or_else(|| self.0 + FAR)
    }
}

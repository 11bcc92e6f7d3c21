//! Moments as the deciding code sees them: the time since the function was started.

use std::ops::Add;
use std::time::Duration;

/// A moment, counted from the start of the function. The engine reads the clock and passes the moment in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    /// The time that has passed since `earlier`. It is zero if `earlier` lies ahead.
    pub(crate) fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(delay))
    }
}

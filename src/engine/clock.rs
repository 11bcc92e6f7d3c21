//! The one place that reads the clock.

use std::time::{Duration, Instant};

use crate::decide::time::Time;

/// A function's clock: time since it was started.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// The machine's, from that moment on.
    System(Instant),
    /// One that a test moves on, in nanoseconds.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
    /// That of a rehearsal's runtime, from that moment on. It is read on the runtime's thread.
    #[cfg(feature = "testkit")]
    Virtual(tokio::time::Instant),
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn start() -> Self {
        Self::System(Instant::now())
    }

    /// That of the rehearsal whose runtime this is called in.
    #[cfg(feature = "testkit")]
    pub(crate) fn virtual_from_now() -> Self {
        Self::Virtual(tokio::time::Instant::now())
    }

    pub(crate) fn now(&self) -> Time {
        match self {
            Self::System(start) => Time(start.elapsed()),
            #[cfg(test)]
            Self::Manual(nanos) => {
                Time(Duration::from_nanos(nanos.load(std::sync::atomic::Ordering::Relaxed)))
            }
            #[cfg(feature = "testkit")]
            Self::Virtual(start) => Time(start.elapsed()),
        }
    }

    /// The instant of `time`, for a timed wait. Far ahead where the platform cannot say it.
    ///
    /// # Panics
    ///
    /// By a test's clock, on which nobody waits.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        match self {
            Self::System(start) => start.checked_add(time.0).unwrap_or_else(|| *start + FAR),
            #[cfg(feature = "testkit")]
            Self::Virtual(start) => start.checked_add(time.0).unwrap_or_else(|| *start + FAR).into_std(),
            #[cfg(test)]
            Self::Manual(_) => panic!("nobody waits by a test's clock"),
        }
    }
}

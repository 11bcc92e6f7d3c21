//! The one place that reads the clock.

use std::time::{Duration, Instant};

use crate::decide::time::Time;
use crate::engine::anchor::Anchor;

/// A function's clock: time since it was started.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// The machine's, from that moment on.
    System(Instant),
    /// One that a test moves on, in nanoseconds.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
    /// That of a rehearsal.
    #[cfg(feature = "testkit")]
    Virtual(VirtualClock),
}

/// The time of a rehearsal's runtime, from that moment on.
#[cfg(feature = "testkit")]
#[derive(Debug, Clone)]
pub(crate) struct VirtualClock {
    start: tokio::time::Instant,
    /// In nanoseconds, as it was last seen on the runtime's thread: others cannot read it.
    seen: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

#[cfg(feature = "testkit")]
impl VirtualClock {
    fn now(&self) -> Duration {
        use std::sync::atomic::Ordering;
        if !crate::engine::system::on_engine_thread() {
            return Duration::from_nanos(self.seen.load(Ordering::Relaxed));
        }
        let now = self.start.elapsed();
        self.seen.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        now
    }
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn start() -> Self {
        Self::System(Instant::now())
    }

    /// That of the rehearsal whose runtime this is called in.
    #[cfg(feature = "testkit")]
    pub(crate) fn virtual_from_now() -> Self {
        Self::Virtual(VirtualClock { start: tokio::time::Instant::now(), seen: std::sync::Arc::default() })
    }

    /// When it was started, on the clock of snapshots. Where time is not the machine's, that clock begins with it.
    pub(crate) fn started(&self) -> Duration {
        match self {
            Self::System(start) => Anchor::get().to(*start),
            #[cfg(any(test, feature = "testkit"))]
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn now(&self) -> Time {
        match self {
            Self::System(start) => Time(start.elapsed()),
            #[cfg(test)]
            Self::Manual(nanos) => {
                Time(Duration::from_nanos(nanos.load(std::sync::atomic::Ordering::Relaxed)))
            }
            #[cfg(feature = "testkit")]
            Self::Virtual(clock) => Time(clock.now()),
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
            Self::Virtual(VirtualClock { start, .. }) => {
                start.checked_add(time.0).unwrap_or_else(|| *start + FAR).into_std()
            }
            #[cfg(test)]
            Self::Manual(_) => panic!("nobody waits by a test's clock"),
        }
    }
}

//! The clock of snapshots: time since the engine was first used in this process, and the time of day of that.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The moment at which the engine was first used in this process, by both clocks.
#[derive(Debug)]
pub(crate) struct Anchor {
    instant: Instant,
    day: SystemTime,
}

impl Anchor {
    /// That of this process.
    #[expect(clippy::disallowed_methods, reason = "nothing is decided by it")]
    pub(crate) fn get() -> &'static Self {
        static ANCHOR: OnceLock<Anchor> = OnceLock::new();
        ANCHOR.get_or_init(|| Self { instant: Instant::now(), day: SystemTime::now() })
    }

    /// How long after it that was; zero if it was before.
    pub(crate) fn to(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.instant)
    }

    /// How long ago it was.
    pub(crate) fn age(&self) -> Duration {
        self.instant.elapsed()
    }

    /// The time of day of it.
    pub(crate) fn unix_ms(&self) -> u64 {
        unix_ms(self.day)
    }

    /// The time of day of now.
    #[expect(clippy::disallowed_methods, reason = "nothing is decided by it")]
    pub(crate) fn now_unix_ms() -> u64 {
        unix_ms(SystemTime::now())
    }
}

/// Milliseconds since 1970; 0 where the clock says that it is earlier.
fn unix_ms(day: SystemTime) -> u64 {
    let since = day.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

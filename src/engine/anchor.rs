//! The clock of snapshots: the time since the engine was first used in this process.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The moment at which the engine was first used in this process, on the monotonic clock and as a time of
/// day.
#[derive(Debug)]
pub(crate) struct Anchor {
    instant: Instant,
    day: SystemTime,
}

impl Anchor {
    /// The anchor of this process.
    #[expect(clippy::disallowed_methods, reason = "nothing is decided by it")]
    pub(crate) fn get() -> &'static Self {
        static ANCHOR: OnceLock<Anchor> = OnceLock::new();
        ANCHOR.get_or_init(|| Self { instant: Instant::now(), day: SystemTime::now() })
    }

    /// The time from the anchor to `instant`. It is zero if `instant` was earlier.
    pub(super) fn to(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.instant)
    }

    /// The time since the anchor.
    pub(crate) fn age(&self) -> Duration {
        self.instant.elapsed()
    }

    /// The time of day of the anchor.
    pub(crate) fn unix_ms(&self) -> u64 {
        unix_ms(self.day)
    }

    /// The time of day now.
    #[expect(clippy::disallowed_methods, reason = "nothing is decided by it")]
    pub(crate) fn now_unix_ms() -> u64 {
        unix_ms(SystemTime::now())
    }
}

/// Milliseconds since 1970. It is 0 if the clock shows an earlier time.
fn unix_ms(day: SystemTime) -> u64 {
    let since = day.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

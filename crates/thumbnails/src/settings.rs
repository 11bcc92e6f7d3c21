//! [`settings`]: the limits of the function, each with its reason.

use std::time::Duration;

use longshore::{App, Builder, CrashLoopBackoff};

use crate::picture::{NotMade, Picture, Thumbnail};

/// The memory limit of a container in bytes. A photograph of 30 megapixels fits, with its thumbnail.
pub const MEMORY_BYTES_MAX: u64 = 128 << 20;

/// The number of containers. The decoder computes, so there is one for each core of a small machine.
const CONTAINERS: usize = 2;

/// The largest number of calls without an outcome. With some tens of milliseconds for each picture, the last
/// one waits for about a second.
pub const CALLS_MAX: u64 = 64;

/// The longest time that one picture may keep a container. It is shorter than the limit of a request, so that
/// a picture on which the decoder hangs takes no time from the requests behind it for long.
pub const DECODE_LIMIT: Duration = Duration::from_secs(10);

/// The longest delay of a crash loop. A crash of the decoder is the fault of a picture, and not of something
/// that has to recover. So a client who sends bombs one after another must not keep the containers away for
/// long.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The settings of the function that makes thumbnails.
pub fn settings(app: &App) -> Builder<Picture, Thumbnail, NotMade> {
    app.function("thumbnail", Picture::thumbnail)
        .containers(CONTAINERS)
        .memory_limit(MEMORY_BYTES_MAX)
        .calls_max(CALLS_MAX)
        .timeout(DECODE_LIMIT)
        // The decoder has no state, so a second attempt at the same picture would end in the same way.
        .crash_retries(0)
        .restart(CrashLoopBackoff::new().initial(BACKOFF_MAX / 100).max(BACKOFF_MAX))
}

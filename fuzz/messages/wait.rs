//! Waiting, with a bound: for values and threads to end, and for a story to be told at all.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is meant to take milliseconds.
pub(crate) const HUNG: Duration = Duration::from_secs(10);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < HUNG, "{what} did not come about");
        thread::park_timeout(Duration::from_micros(50));
    }
}

/// The threads of this process, where the system tells.
pub(crate) fn threads() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

static STORIES_BEGUN: AtomicU64 = AtomicU64::new(0);
static STORIES_TOLD: AtomicU64 = AtomicU64::new(0);

/// Tells a story, which is watched meanwhile.
pub(crate) fn watched(tell: impl FnOnce()) {
    STORIES_BEGUN.fetch_add(1, Ordering::SeqCst);
    tell();
    STORIES_TOLD.fetch_add(1, Ordering::SeqCst);
}

/// Ends the process, with its story as the finding, if one is not told in time.
pub(crate) fn watch() {
    thread::spawn(|| {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            thread::park_timeout(Duration::from_secs(1));
            let begun = STORIES_BEGUN.load(Ordering::SeqCst);
            if begun != before || begun == STORIES_TOLD.load(Ordering::SeqCst) {
                (before, since) = (begun, Instant::now());
            }
            assert!(since.elapsed() < 3 * HUNG, "hung: a story does not end");
        }
    });
}

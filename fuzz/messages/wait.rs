//! Waits with a bound: for values and threads to end, and for a story to end.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Anything that takes longer than this counts as hung. It should take milliseconds.
pub(crate) const HUNG: Duration = Duration::from_secs(10);

/// The least number of looks at a condition before it counts as one that never comes true. While a virtual
/// machine stands still, the time passes without any.
const LOOKS_MIN: u32 = 10_000;

/// Waits until a condition holds. `what` is the condition as a sentence.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let (begun, mut looks) = (Instant::now(), 0);
    while !holds() {
        looks += 1;
        assert!(begun.elapsed() < HUNG || looks < LOOKS_MIN, "this never came true: {what}");
        thread::park_timeout(Duration::from_micros(50));
    }
}

/// The number of threads of this process, on systems that have `/proc`.
pub(crate) fn threads() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

static STORIES_BEGUN: AtomicU64 = AtomicU64::new(0);
static STORIES_TOLD: AtomicU64 = AtomicU64::new(0);

/// Runs a story while [`watch`] watches it.
pub(crate) fn watched(tell: impl FnOnce()) {
    STORIES_BEGUN.fetch_add(1, Ordering::SeqCst);
    tell();
    STORIES_TOLD.fetch_add(1, Ordering::SeqCst);
}

/// Aborts the process if a story takes too long, so that the fuzzer reports that story as its finding.
pub(crate) fn watch() {
    thread::spawn(|| {
        // It counts its own looks, one a second, and not the time, which passes while a virtual machine
        // stands still.
        let (mut before, mut looks) = (0, 0);
        loop {
            thread::park_timeout(Duration::from_secs(1));
            let begun = STORIES_BEGUN.load(Ordering::SeqCst);
            looks += 1;
            if begun != before || begun == STORIES_TOLD.load(Ordering::SeqCst) {
                (before, looks) = (begun, 0);
            }
            assert!(looks < 3 * HUNG.as_secs(), "hung: a story does not end");
        }
    });
}

//! [`Footprint`]: the threads, file handles and bytes of this process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The system's allocator, with a count of the bytes that are alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted;

static LIVE: AtomicI64 = AtomicI64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: every block is allocated and freed by the system's allocator, with the caller's layout.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) };
    }
}

/// The bytes on the heap, and the threads and file handles on systems that report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) threads: u64,
    pub(crate) handles: u64,
    pub(crate) bytes: i64,
}

/// The time in which threads must end that are about to.
const ENDS: Duration = Duration::from_secs(10);

impl Footprint {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let handles = fs::read_dir("/proc/self/fd").map_or(0, |handles| handles.count() as u64);
        Self { threads: field("Threads:"), handles, bytes: LIVE.load(Ordering::Relaxed) }
    }

    /// Waits until there are at most this many threads and handles, for a limited time, and returns the
    /// footprint then.
    pub(crate) fn once_at_most(threads: u64, handles: u64) -> Self {
        let begun = Instant::now();
        loop {
            let now = Self::now();
            if (now.threads <= threads && now.handles <= handles) || begun.elapsed() > ENDS {
                return now;
            }
            thread::park_timeout(Duration::from_millis(2));
        }
    }
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { threads, handles, bytes } = self;
        write!(f, "{threads:>14}  threads, {handles} file handles, {bytes} bytes on the heap")
    }
}

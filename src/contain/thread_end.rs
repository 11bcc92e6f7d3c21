//! Whether a thread is at its very end, where it drops what it has kept for itself in thread-locals.
//!
//! A user may keep a call, a map or an app there. To let go of one sends messages to actors and wakes tasks, for which
//! tokio needs a thread-local of its own: once that is gone, it panics, in a drop, and the process ends. So what lets
//! go of them does so on another thread then.

use std::cell::Cell;

use tokio::task::LocalSet;

use crate::contain::unwind::contain;

/// Is dropped before tokio's thread-local, because it is begun to be used after that.
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {}
}

thread_local! {
    /// Whether the sentinel is in its place. Without a drop, so that it can be asked to the last.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static SENTINEL: Sentinel = const { Sentinel };
}

/// Whether this thread can wake tasks no more.
pub(crate) fn is_at_its_end() -> bool {
    if GUARDED.get() {
        return SENTINEL.try_with(|_| ()).is_err();
    }
    // Others may have used tokio's on this thread before: it is asked for once, and from then on there in any case.
    if contain(|| drop(LocalSet::new().enter())).is_err() {
        return true;
    }
    GUARDED.set(SENTINEL.try_with(|_| ()).is_ok());
    false
}

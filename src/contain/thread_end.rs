//! Whether a thread is at its very end, where its thread-locals are dropped.
//!
//! A user may keep a call, a map or an app in a thread-local. Dropping it sends messages to actors and wakes
//! tasks. Tokio needs a thread-local of its own for that: once it is gone, tokio panics inside the drop, and
//! the process ends. Such values are therefore dropped on another thread then.

use std::cell::Cell;

use tokio::task::LocalSet;

use crate::contain::unwind::contain;

/// Dropped before tokio's thread-local, because this one is initialised after it, and thread-locals are
/// dropped in reverse order.
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {}
}

thread_local! {
    /// Whether the sentinel is initialised. The flag has no destructor, so that it can be
    /// read to the very end.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static SENTINEL: Sentinel = const { Sentinel };
}

/// Whether this thread can no longer wake tasks.
pub(super) fn is_at_its_end() -> bool {
    if GUARDED.get() {
        return SENTINEL.try_with(|_| ()).is_err();
    }
    // Other code may have initialised tokio's thread-local on this thread before. This
    // initialises it in any case.
    if contain(|| drop(LocalSet::new().enter())).is_err() {
        return true;
    }
    GUARDED.set(SENTINEL.try_with(|_| ()).is_ok());
    false
}

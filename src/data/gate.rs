//! The gate between a consumer and whoever pulls its source: how many inputs may be outstanding.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Back-pressure between the consumer and whoever pulls the source.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Outcomes handed to the consumer; written by it, read by feeder and ledger.
    pub(crate) yielded: AtomicU64,
    /// A container has found no input in the pool. Set before it looks once more, cleared by the feeder that brings one.
    pub(crate) awaited: AtomicBool,
    /// Somebody waits for room. Set before the wait is checked once more, cleared by the consumer.
    pub(crate) starved: AtomicBool,
    /// The window as it is now; written under the function's lock, read by the consumer.
    pub(crate) window: AtomicU64,
    /// How much room is worth telling of; likewise.
    pub(crate) refill: AtomicU64,
    /// Inputs pulled from the source, those in the pool included.
    pub(crate) pulled: AtomicU64,
    /// Those of them that are not in the pool any more; written under the function's lock.
    pub(crate) accepted: AtomicU64,
}

impl Gate {
    /// Room for whoever pulls the source.
    pub(crate) fn room(&self) -> u64 {
        let outstanding = self.outstanding();
        self.window.load(Ordering::SeqCst).saturating_sub(outstanding)
    }

    /// Room for somebody: what is in the pool is outstanding already, and waits for room to be executed in
    /// where the window has become narrower since it was pulled.
    pub(crate) fn room_for_any(&self) -> u64 {
        let executed =
            self.accepted.load(Ordering::SeqCst).saturating_sub(self.yielded.load(Ordering::SeqCst));
        self.window.load(Ordering::SeqCst).saturating_sub(executed)
    }

    pub(crate) fn outstanding(&self) -> u64 {
        let pulled = self.pulled.load(Ordering::SeqCst);
        pulled.saturating_sub(self.yielded.load(Ordering::SeqCst))
    }
}

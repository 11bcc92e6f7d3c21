//! The flow control between a consumer and the puller of its source, which is the feeder or the ledger. It
//! limits the outstanding inputs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Back-pressure between the consumer and the puller of the source.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    /// Outcomes handed to the consumer. The consumer writes it, and the feeder and the ledger read it.
    pub(crate) yielded: AtomicU64,
    /// Whether a container has found no input in the prefetch queue. The container sets it before it looks
    /// once more, and the feeder clears it when it brings an input.
    pub(crate) awaited: AtomicBool,
    /// Whether a puller waits for room. The puller sets it before it checks once more, and
    /// the consumer clears it.
    pub(crate) room_wanted: AtomicBool,
    /// The window as it is now. Written under the function's lock, and read by the consumer.
    pub(crate) window: AtomicU64,
    /// The smallest amount of room that the consumer announces. Written under the function's lock, and
    /// read by the consumer.
    pub(crate) room_min: AtomicU64,
    /// Inputs pulled from the source, including those in the prefetch queue.
    pub(crate) pulled: AtomicU64,
    /// Inputs pulled from the source that have left the prefetch queue. Written under the function's lock.
    pub(crate) accepted: AtomicU64,
}

impl FlowControl {
    /// The number of inputs that may be pulled from the source now.
    pub(crate) fn room(&self) -> u64 {
        let outstanding = self.outstanding();
        self.window.load(Ordering::SeqCst).saturating_sub(outstanding)
    }

    /// The number of inputs that may be pulled or executed now. Inputs in the prefetch queue are already
    /// outstanding. If the window has become narrower since they were pulled, they wait for room to be
    /// executed.
    pub(crate) fn room_for_any(&self) -> u64 {
        let executed =
            self.accepted.load(Ordering::SeqCst).saturating_sub(self.yielded.load(Ordering::SeqCst));
        self.window.load(Ordering::SeqCst).saturating_sub(executed)
    }

    /// The number of inputs by which those that may be executed exceed the window, because the window has
    /// become narrower.
    pub(crate) fn excess(&self) -> u64 {
        let executed =
            self.accepted.load(Ordering::SeqCst).saturating_sub(self.yielded.load(Ordering::SeqCst));
        executed.saturating_sub(self.window.load(Ordering::SeqCst))
    }

    pub(crate) fn outstanding(&self) -> u64 {
        let pulled = self.pulled.load(Ordering::SeqCst);
        pulled.saturating_sub(self.yielded.load(Ordering::SeqCst))
    }
}

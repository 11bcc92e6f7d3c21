//! Pausing a function: nothing new is dispatched, and all else goes on.
//!
//! The ledger refuses claims while it is paused. Inputs that a container has leased and not begun go
//! back, so that only the executing ones go on. Feeders pull until their windows are full, as ever,
//! because they do not ask the ledger. A vector or a range is pulled by containers, and so by none during
//! a pause; its inputs count as pulled as soon as the window has room for them.

use std::sync::Arc;

use crate::base::ids::LaneId;
use crate::engine::dispatch::Dispatch;
use crate::values::event::Event;

impl Dispatch {
    /// Pauses the function. From the moment this returns no container moves on to another input. Returns
    /// whether the function is paused now. One that ends is not.
    pub(crate) fn pause(&self) -> bool {
        let mut state = self.lock();
        if state.broken.is_some() {
            return false;
        }
        if !state.ledger.pause() {
            return state.ledger.is_paused();
        }
        let now = self.now();
        let leased: Vec<LaneId> = state.ledger.leased().collect();
        for id in leased {
            let first = Arc::clone(state.run(id).expect("a lease has its run")).chunk.first();
            state.shorten(id, first, None, now);
        }
        state.emit(Event::Paused, now);
        true
    }

    /// Resumes the function. Returns whether it was paused.
    pub(crate) fn unpause(&self) -> bool {
        let mut state = self.lock();
        if !state.ledger.resume() {
            return false;
        }
        let now = self.now();
        state.emit(Event::Resumed, now);
        self.wake_some(&mut state, u64::MAX);
        self.changed.notify_threads(); // some wait for the function to be ready
        true
    }
}

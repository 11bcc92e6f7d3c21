//! What only a rehearsal does under the lock.

use crate::base::ids::{ContainerId, Generation};
use crate::decide::restart::Restart;
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;

impl Dispatch {
    /// What executes in a container becomes the last of its lease: what is behind it goes back, so that between
    /// the two the container can die.
    pub(crate) fn end_lease_behind(&self, id: ContainerId, index: u64) {
        let mut state = self.hold();
        let now = self.now();
        let Some(run) = state.seats[id.index()].run.clone().filter(|run| !run.is_fenced()) else { return };
        let end = run.truncate(index + 1);
        state.book(id, now);
        state.ledger.truncated(id, end, None);
        self.wake_one(&mut state);
    }

    /// What a container has completed is told at once, and not at the end of its lease or now and then: no time
    /// passes for looking.
    pub(crate) fn completed(&self, id: ContainerId) {
        let mut state = self.hold();
        let now = self.now();
        if state.broken.is_none() {
            state.book(id, now);
        }
    }

    /// A container dies between two inputs, as if killed by hand.
    pub(crate) fn dies_between(&self, id: ContainerId, generation: Generation) {
        self.returned(id, generation);
        self.kill(id);
        self.give_up(); // if nobody is left, and nobody can be created
        self.tell(Notice::Fenced { restart: Restart::Now });
    }
}

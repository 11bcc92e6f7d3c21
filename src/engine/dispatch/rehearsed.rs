//! What only a rehearsal does under the lock.

use crate::decide::ids::ContainerId;
use crate::engine::dispatch::Dispatch;

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Dispatch<I, O, E> {
    /// What executes in a container becomes the last of its lease: what is behind it goes back, so that between
    /// the two the container can die.
    pub(crate) fn end_lease_behind(&self, id: ContainerId, index: u64) {
        let mut state = self.hold();
        let now = self.now();
        let Some(run) = state.runs[id.index()].clone().filter(|run| !run.is_fenced()) else { return };
        let end = run.truncate(index + 1);
        state.book(id, now);
        state.ledger.truncated(id, end);
        self.work.notify_one();
    }
}

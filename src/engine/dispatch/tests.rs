//! What the simulator calls in place of what blocks, and what it looks at: it is the test of this folder.

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::base::signal::Signal;
use crate::data::flow_control::FlowControl;
use crate::decide::life::Next;
use crate::engine::dispatch::containers::Work;
use crate::engine::dispatch::{Dispatch, State};

impl Dispatch {
    /// [`Dispatch::next`], which counts as asleep where that would wait. What `look` sees is what the
    /// offer is made by.
    pub(crate) fn try_next<T>(
        &self,
        id: ContainerId,
        generation: Generation,
        look: impl FnOnce(&State) -> T,
    ) -> (Next<Work>, T) {
        let mut state = self.lock();
        self.come_back(&mut state, id, generation, self.now());
        let seen = look(&state);
        let offer = match self.offer(&mut state, id, generation, self.now()) {
            Next::Wait { until } => Next::Wait { until: self.sleeps(&mut state, id, generation, until) },
            next => next,
        };
        (offer, seen)
    }

    /// A container that [`Dispatch::try_next`] sent to sleep wakes.
    pub(crate) fn wake(&self, id: ContainerId, generation: Generation) {
        self.lock().sleepers.has_woken(id, generation);
    }

    /// [`Dispatch::await_room`], which says 0 where that would wait.
    pub(crate) fn try_room(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        self.lock().room(job, flow)
    }

    /// The containers that were signalled since this was last asked.
    pub(crate) fn take_raised(&self) -> Vec<ContainerId> {
        let raised = |(at, signal): (usize, &Signal)| signal.take_raised().then_some(ContainerId(at as u32));
        self.work.iter().enumerate().filter_map(raised).collect()
    }

    /// Whether somebody holds the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.state.is_locked()
    }
}

impl State {
    /// Whether nothing of any job or run is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.open.is_empty()
            && self.seats.iter().all(|seat| seat.run.is_none())
            && self.detached.is_empty()
            && self.sleepers.is_empty()
    }
}

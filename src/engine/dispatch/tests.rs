//! The operations by which the simulator replaces blocking ones and inspects the state. The simulator is the
//! test of this folder.

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::base::signal::Signal;
use crate::data::flow_control::FlowControl;
use crate::decide::life::Next;
use crate::engine::dispatch::containers::Work;
use crate::engine::dispatch::{Dispatch, State};

impl Dispatch {
    /// The same as [`Dispatch::next`], but marks the container as asleep instead of waiting. `look` sees the
    /// state on which the offer is based.
    pub(crate) fn try_next<T>(
        &self,
        id: ContainerId,
        generation: Generation,
        look: impl FnOnce(&State) -> T,
    ) -> (Next<Work>, T) {
        let mut state = self.lock();
        self.come_back(&mut state, id.into(), generation, self.now());
        let seen = look(&state);
        let offer = match self.offer(&mut state, id.into(), generation, self.now()) {
            Next::Wait { until } => Next::Wait { until: self.sleeps(&mut state, id, generation, until) },
            next => next,
        };
        (offer, seen)
    }

    /// The same as [`Dispatch::next_batch`], but marks the container as asleep instead of waiting.
    pub(crate) fn try_next_batch(
        &self,
        id: ContainerId,
        generation: Generation,
        batch: &mut Vec<Work>,
    ) -> Next<()> {
        let now = self.now();
        let mut state = self.lock();
        self.batch_comes_back(&mut state, id, generation, now);
        match self.offer(&mut state, id.into(), generation, now) {
            Next::Work(work) => {
                batch.push(work);
                self.fill(&mut state, id, batch);
                Next::Work(())
            }
            Next::Wait { until } => Next::Wait { until: self.sleeps(&mut state, id, generation, until) },
            Next::Hold { until } => Next::Hold { until },
            Next::Over(served) => Next::Over(served),
        }
    }

    /// Wakes a container that [`Dispatch::try_next`] has sent to sleep.
    pub(crate) fn wake(&self, id: ContainerId, generation: Generation) {
        self.lock().sleepers.has_woken(id, generation);
    }

    /// The same as [`Dispatch::await_room`], but returns 0 instead of waiting.
    pub(crate) fn try_room(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        self.lock().room(job, flow)
    }

    /// The containers that were signalled since the last call.
    pub(crate) fn take_raised(&self) -> Vec<ContainerId> {
        let raised = |(at, signal): (usize, &Signal)| signal.take_raised().then_some(ContainerId(at as u32));
        self.work.iter().enumerate().filter_map(raised).collect()
    }

    /// Whether a thread holds the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.state.is_locked()
    }
}

impl State {
    /// The number of tasks that wait for the function to be ready or idle.
    pub(crate) fn readying_tasks(&self) -> usize {
        self.readying.waiting_tasks()
    }

    /// Whether nothing is left of any job, run or detached thread, and no container sleeps.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.open.is_empty()
            && self.seats.iter().flat_map(|seat| &seat.lanes).all(|lane| lane.run.is_none())
            && self.detached.is_empty()
            && self.sleepers.is_empty()
    }

    /// The number of threads that were left behind in the user's code. To ask for the status would commit
    /// what was published, and so hide whether others do.
    pub(crate) fn left_behind(&self) -> usize {
        self.abandoned
    }
}

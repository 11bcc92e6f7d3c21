//! The batches of containers under the lock: the arrivals that a batch waits for, its parts as they are put
//! together, end and come back, and the input that executes alone.

use crate::base::ids::{ContainerId, Generation, JobId, LaneId};
use crate::base::position::Position;
use crate::decide::ledger::{Assignment, Lease};
use crate::decide::life::Served;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::engine::dispatch::containers::Work;
use crate::engine::dispatch::{Dispatch, State};

impl Dispatch {
    /// Waits for the next batch of a container, which has returned from its last one. Puts its parts into
    /// `batch`, which is empty.
    ///
    /// # Errors
    ///
    /// The reason why there is no more.
    pub(crate) fn next_batch(
        &self,
        id: ContainerId,
        generation: Generation,
        batch: &mut Vec<Work>,
    ) -> Result<(), Served> {
        let returned = self.now();
        let mut state = self.lock();
        self.batch_comes_back(&mut state, id, generation, returned);
        let work = self.next_under_lock(&mut state, id, generation, returned)?;
        batch.push(work);
        self.fill(&mut state, id, batch);
        Ok(())
    }

    /// The parts of a container's last batch give their leases back. A container that executes one input at a
    /// time has one part.
    pub(super) fn batch_comes_back(
        &self,
        state: &mut State,
        id: ContainerId,
        generation: Generation,
        returned: Time,
    ) {
        if state.broken.is_none() && state.ledger.is_current(id, generation) {
            let parts = std::mem::take(&mut state.seats[id.index()].parts).max(1);
            let lanes = (0..parts as u32).map(|lane| LaneId::new(id, lane));
            lanes.for_each(|lane| self.come_back(state, lane, generation, returned));
        }
    }

    /// Adds more parts to a batch that has its first one, as long as it has room and something waits.
    pub(super) fn fill(&self, state: &mut State, id: ContainerId, batch: &mut Vec<Work>) {
        let now = self.now();
        loop {
            let lane = LaneId::new(id, batch.len() as u32);
            let Some(lease) = state.join(lane, now) else { break };
            batch.push(self.lend(state, lane, lease, now));
        }
        state.ledger.note_left(now, &state.buffers);
        let seat = &mut state.seats[id.index()];
        (seat.parts, seat.parts_over) = (batch.len(), 0);
        self.pass_on(state, now); // the event that woke this container may bring work for others too
    }

    /// Inputs may have come, from which a batch may form.
    pub(super) fn notes_arrival(&self, state: &mut State) {
        if state.ledger.awaits_batches() {
            let now = self.now();
            state.ledger.note_arrival(now);
        }
    }

    /// An input has come that no container has leased. Where batches are waited for, a container is woken
    /// only once the batch may run, or if none would look in time.
    pub(super) fn wake_for_arrival(&self, state: &mut State) {
        if state.ledger.awaits_batches() {
            let now = self.now();
            state.ledger.note_arrival(now);
            self.pass_on(state, now);
        } else {
            self.wake_one(state);
        }
    }

    /// The consumer of a job has made room for this number of inputs.
    pub(super) fn wake_for_room(&self, state: &mut State, job: JobId, room: u64) {
        if state.ledger.awaits_batches() {
            self.wake_for_arrival(state);
        } else {
            let wake_count = state.ledger.wake_count(job, room);
            self.wake_some(state, wake_count);
        }
    }

    /// A batch has returned, but its container does not ask for the next one yet.
    pub(crate) fn batch_returned(&self, id: ContainerId, generation: Generation) {
        let now = self.now();
        let mut state = self.lock();
        self.batch_comes_back(&mut state, id, generation, now);
        self.pass_on(&mut state, now);
    }
}

impl State {
    /// The next lease of a batch that a container puts together. Inputs are pulled from sources as needed.
    fn join(&mut self, id: LaneId, now: Time) -> Option<Lease> {
        loop {
            let (job, most, leased) = match self.ledger.join(id, now, &self.buffers)? {
                Assignment::Lease(lease) => return Some(lease),
                Assignment::Pull { job, most, leased } => (job, most, leased),
            };
            let first = self.ledger.job(job).expect("its job is open").counts().pulled;
            let pulled = self.buffers.pull(job, first, most);
            if let Some(lease) = self.ledger.pulled(id, job, (pulled, leased), now) {
                return Some(lease);
            }
        }
    }

    /// The lane of the input that a container executes alone. `None` if it executes several together, because
    /// none of them can be blamed, even if only one of them has no outcome yet. An input whose job has ended
    /// counts while its code executes.
    pub(super) fn executes_alone(&self, id: ContainerId, positions: &[(LaneId, Position)]) -> Option<LaneId> {
        if self.seats[id.index()].parts > 1 {
            return None;
        }
        let lane = LaneId::from(id);
        let position = positions.iter().find(|(at, _)| *at == lane).map(|(_, position)| *position);
        let is_orphan = || self.ledger.orphan(lane).is_some_and(|orphan| orphan.together == 1);
        (self.ledger.executes_one(lane, position) || is_orphan()).then_some(lane)
    }

    /// Records whether the task of a run was waiting when the run was fenced. The parts of a batch have one
    /// task, and the seat of the first lane knows for all of them. The part that is fenced last decides: if
    /// it waits, the task does not go on for any other part.
    pub(super) fn sees_suspension(&mut self, id: LaneId, suspended: bool) {
        let knows = if self.ledger.is_batched() { LaneId::from(id.container) } else { id };
        self.lane_mut(knows).suspended = suspended;
    }

    /// The lease of a lane has ended before its inputs have. The code is interrupted once no input that it
    /// executes is wanted any more, in any part of its batch.
    pub(super) fn ends_part(&mut self, id: LaneId, is_executing: bool) {
        let container = id.container;
        let parts = self.seats[container.index()].parts;
        let is_told = match parts {
            0 | 1 => is_executing,
            _ => {
                // A part that is over stays so until the batch has returned. So each is passed over once,
                // however many parts end one after the other.
                let seat = &mut self.seats[container.index()];
                let is_over = |part| self.ledger.executing_in(LaneId::new(container, part as u32)).is_none();
                while seat.parts_over < parts && is_over(seat.parts_over) {
                    steps::step();
                    seat.parts_over += 1;
                }
                seat.parts_over == parts
            }
        };
        if is_told {
            self.set_unwanted(id, true);
        }
    }
}

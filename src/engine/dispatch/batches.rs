//! The batches of containers under the lock: to put one together, and to know the input that executes alone.

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::base::position::Position;
use crate::decide::ledger::{Assignment, Lease};
use crate::decide::life::Served;
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
            batch.push(self.lend(state, lane, lease));
        }
        state.ledger.note_left(now);
        let seat = &mut state.seats[id.index()];
        (seat.parts, seat.unwanted_parts) = (batch.len(), 0);
        self.pass_on(state, now); // the event that woke this container may bring work for others too
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

    /// The lane of the only input that a container executes. `None` if it executes several together,
    /// because none of them can be blamed. An input whose job has ended counts while its code executes.
    pub(super) fn executes_alone(&self, id: ContainerId, positions: &[(LaneId, Position)]) -> Option<LaneId> {
        let leased = positions.iter().filter_map(|(lane, position)| {
            let executing = self.ledger.executing_at(*lane, Some(*position));
            Some((*lane, executing.end - executing.start)).filter(|(_, inputs)| *inputs > 0)
        });
        let lanes = (0..self.seats[id.index()].lanes.len() as u32).map(|lane| LaneId::new(id, lane));
        let orphans = lanes.filter_map(|lane| Some((lane, self.ledger.orphan(lane)?.together)));
        let mut executing = leased.chain(orphans);
        let (lane, inputs) = executing.next()?;
        (inputs == 1 && executing.next().is_none()).then_some(lane)
    }

    /// Whether a container executes several inputs together that are all wanted.
    pub(super) fn executes_several(&self, id: ContainerId) -> bool {
        let executing = |lane| {
            let inputs = self.ledger.executing_at(lane, Some(self.run(lane)?.look()));
            Some(inputs.end - inputs.start)
        };
        self.ledger.leased_by(id).filter_map(executing).sum::<u64>() > 1
    }

    /// Records that a part of a batch is not wanted any more. Returns whether that is now so for all parts,
    /// so that the code is interrupted.
    pub(super) fn part_is_unwanted(&mut self, id: ContainerId) -> bool {
        let seat = &mut self.seats[id.index()];
        seat.unwanted_parts += 1;
        seat.unwanted_parts >= seat.parts
    }
}

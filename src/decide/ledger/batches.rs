//! Batches: inputs that one container executes together.
//!
//! A batch has one or more leases. The first may be of many inputs of one map, which its container executes a
//! batch after the other, so that a batch of cheap inputs costs no claim of its own. A smaller first lease is
//! filled up with more leases, from whatever waits: calls, maps, replays and retries.
//!
//! Where a batch is waited for ([`Batching::wait`]), it forms in the queues and not in a container. No input
//! is leased before its batch runs, so an idle container never waits beside a half-full one.
//!
//! If several inputs execute together, none can be blamed for a crash. They are replayed in *halves*,
//! each alone in its container, until an input crashes by itself. It is then blamed like any other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, InputId, JobId, LaneId};
use crate::decide::job::{OnFailure, Span, Waits};
use crate::decide::ledger::blame::NextTime;
use crate::decide::ledger::lane::LaneLimit;
use crate::decide::ledger::leavers::{GRACE, Leaver};
use crate::decide::ledger::order::Of;
use crate::decide::ledger::requeue::HadBegun;
use crate::decide::ledger::timeouts::{AfterCut, CutBy};
use crate::decide::ledger::{
    AfterCrash, Assignment, Lease, LeaseKind, Leaving, Ledger, Position, Scene, Sources, Ticket,
};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};

/// How the inputs of a function form batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batching {
    /// The largest number of inputs that execute together.
    pub(crate) size: u64,
    /// How long a batch that is not full waits for more inputs.
    pub(crate) wait: Duration,
}

/// A batch that a container puts together, or has put together last.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// The number of inputs for which it has room.
    room: u64,
    /// The number of inputs that it has.
    taken: u64,
    /// Whether it is a half of a batch that has crashed.
    is_half: bool,
    /// The inputs of the half that are not leased yet.
    rest: BTreeSet<InputId>,
    /// The inputs that are replayed in halves once their code has returned, because it was cut at its
    /// timeout.
    leaving: Half,
    /// The timeout of its inputs, which they share.
    timeout: Option<Duration>,
}

/// Inputs that are replayed together, and alone in their container.
pub(super) type Half = BTreeSet<InputId>;

impl Ledger {
    /// Whether inputs execute in batches.
    pub(crate) fn is_batched(&self) -> bool {
        self.rules.batch.is_some()
    }

    /// The largest number of inputs that execute together.
    pub(crate) fn batch_size(&self) -> u64 {
        self.rules.batch.map_or(1, |batch| batch.size)
    }

    /// The inputs of a lease that execute together with the one at `at`.
    pub(super) fn executing_with(&self, lease: &Lease, at: u64) -> Span {
        let size = self.batch_size();
        let end = lease.span.first + ((at - lease.span.first) / size + 1) * size;
        Span { first: at, len: end.min(lease.span.end()) - at }
    }

    /// Whether the batch that a lane executes at `position` has begun with one input.
    pub(crate) fn executes_one(&self, lane: LaneId, position: Option<Position>) -> bool {
        let Some(lease) = self.lease(lane) else { return false };
        self.executing_span(lane, position).is_some_and(|(_, span)| {
            span.len == 1 && (span.first - lease.span.first).is_multiple_of(self.batch_size())
        })
    }

    /// The first step of a new batch, for a container that executes nothing.
    pub(super) fn begin_batch(
        &mut self,
        batching: Batching,
        id: ContainerId,
        now: Time,
        sources: &impl Sources,
    ) -> Option<Assignment> {
        self.containers[id.index()].filling = Filling { room: batching.size, ..Filling::default() };
        if self.has_formed(now, sources) {
            self.forming.since = None;
            self.next_step(id, now, sources)
        } else {
            self.next_alone(id, Of::All, now).map(Assignment::Lease)
        }
    }

    /// The next part of the batch that a lane's container has begun to put together. `None` if the batch has
    /// no room, or if nothing waits that may go into it.
    pub(crate) fn join(&mut self, lane: LaneId, now: Time, sources: &impl Sources) -> Option<Assignment> {
        let id = lane.container;
        let container = &mut self.containers[id.index()];
        let timeout = container.filling.timeout;
        let step = if container.filling.is_half {
            let input = container.filling.rest.pop_first()?;
            Assignment::Lease(self.single(input, LeaseKind::Replay { suspect: false }))
        } else {
            if container.alone || container.filling.room == 0 {
                return None;
            }
            let step = self.next_step(id, now, sources)?;
            let (Assignment::Lease(Lease { job, .. }) | Assignment::Pull { job, .. }) = step;
            if self.timeout_of(job) != timeout {
                self.containers[id.index()].filling.room = 0; // the batch runs as it is
                if let Assignment::Lease(lease) = step {
                    self.requeue(lease, lease.span, HadBegun::Nothing);
                }
                return None;
            }
            step
        };
        if let Assignment::Lease(lease) = step {
            self.assign(lane, lease, now);
        }
        Some(step)
    }

    /// Records that a container has leased `inputs` inputs of a job for its batch.
    pub(super) fn fills(&mut self, id: ContainerId, job: JobId, inputs: u64) {
        if !self.is_batched() {
            return;
        }
        let timeout = self.timeout_of(job);
        let filling = &mut self.containers[id.index()].filling;
        filling.timeout = timeout;
        filling.room = filling.room.saturating_sub(inputs);
        filling.taken += inputs;
    }

    /// Counts `done` inputs of a lease that has come back after `took`. Returns the part of that time for
    /// which they account: of a batch with several leases, each input takes its share.
    pub(super) fn share_of_batch(&mut self, id: LaneId, leased: u64, done: u64, took: Duration) -> Duration {
        let Some(Batching { size, .. }) = self.rules.batch else {
            self.totals.executed(done, took);
            return took;
        };
        self.totals.executed_in_batches(done, done.div_ceil(size), took, id.index() == 0);
        let taken = self.containers[id.container.index()].filling.taken;
        if leased == taken {
            return took; // it had its batches to itself
        }
        took.mul_f64(done as f64 / taken.max(1) as f64)
    }

    /// Inputs of a container's batch are given back before they have begun, so that they take no part of the
    /// time of the others.
    pub(super) fn unfills(&mut self, id: ContainerId, inputs: u64) {
        let filling = &mut self.containers[id.index()].filling;
        filling.taken = filling.taken.saturating_sub(inputs);
    }

    /// The number of inputs of `job` that go into the batch of a container, if `available` are there. A batch
    /// that has no input yet may be the first of several whole ones.
    pub(super) fn batch_share(&mut self, id: ContainerId, job: JobId, available: u64) -> Option<u64> {
        let Batching { size, .. } = self.rules.batch?;
        let room = self.containers[id.index()].filling.room;
        if self.has_deadline(job) {
            return Some(1); // each input may end by itself while its batch executes
        }
        if room < size {
            return Some(room.min(available));
        }
        let containers = self.rules.containers;
        let by_cost =
            self.jobs.get_mut(&job)?.map_mut().map_or(1, |map| map.sizer.take(available, containers));
        Some((by_cost - by_cost % size).max(size).min(available))
    }

    /// The half of a crashed batch that is replayed next: the lease of its first input. The others join it.
    pub(super) fn next_half(&mut self, id: ContainerId, of: Of) -> Option<Lease> {
        let (ticket, half) = self.halves.first()?;
        let first = *half.first().expect("an empty half is removed");
        if !self.is_of(of, first.job) {
            return None;
        }
        let mut rest = self.halves.remove(ticket).expect("it was just found");
        rest.remove(&first);
        for input in &rest {
            self.record_of(*input).waits = None;
        }
        self.record_of(first).waits = None;
        self.containers[id.index()].filling = Filling { is_half: true, rest, ..Filling::default() };
        Some(self.single(first, LeaseKind::Replay { suspect: false }))
    }

    /// Whether the last batch of a container is a half of one that has crashed.
    pub(super) fn executes_half(&self, id: ContainerId) -> bool {
        self.containers[id.index()].filling.is_half
    }

    /// Several inputs were executing together when their container died, so none of them is blamed. They are
    /// replayed in halves. Those that may not be begun again are lost.
    pub(super) fn halve(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> Vec<AfterCrash> {
        let (decided, whole) = self.set_batch_free(id, scene, crash, leaving);
        self.await_halves(whole);
        decided
    }

    /// A half was interrupted by hand, so it is replayed as it was.
    pub(super) fn replay_half(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> Vec<AfterCrash> {
        let (decided, whole) = self.set_batch_free(id, scene, crash, leaving);
        self.await_half(whole);
        decided
    }

    /// Decides on the inputs of a batch that has died with its container. Returns those that are executed
    /// again as well, which wait in no queue yet.
    fn set_batch_free(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> (Vec<AfterCrash>, Half) {
        let inputs = self.executing_together(scene);
        let decided = self.set_free_together(inputs, crash, leaving);
        self.containers[id.index()].filling.is_half = false;
        let whole = pending(&decided).collect();
        (decided, whole)
    }

    /// Cuts a batch of several inputs at its timeout, `limit`. Its runs are fenced at `positions`. The inputs
    /// are replayed free, in halves, once the code has returned. Where no input that has begun may begin
    /// again, each of them fails by the timeout.
    pub(crate) fn cut_batch(
        &mut self,
        id: ContainerId,
        positions: &[(LaneId, Position)],
        limit: Duration,
        now: Time,
    ) -> Vec<AfterCut> {
        let scene = Scene { culprit: None, positions: positions.to_vec() };
        let inputs = self.executing_together(&scene);
        for (lane, position) in positions {
            let executing = self.executing_span(*lane, Some(*position));
            let orphan = executing.map(|(job, span)| {
                let first = InputId { job, index: span.first };
                self.orphan_of(first, span.len)
            });
            self.give_back(*lane, *position, now);
            self.set_orphan(*lane, orphan);
        }
        let leaver = Leaver { at: now + GRACE, retry: None, extended: false };
        self.look_at(LaneId::from(id), LaneLimit::Leaving(leaver));
        let cut = |input| self.cut_in_batch(id, input, limit, now);
        inputs.into_iter().map(steps::each).map(cut).collect()
    }

    fn cut_in_batch(&mut self, id: ContainerId, input: InputId, limit: Duration, now: Time) -> AfterCut {
        let is_replayed = self.rules.crash_retries > 0 && self.goes_on();
        let cut = CutBy::Timeout(limit);
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        if is_replayed {
            record.kills += 1;
            record.freed += 1;
            record.previous = Some(Previous::TimedOut);
            record.waits = Some(Waits::Leaving);
            self.totals.counts.replayed += 1;
            self.containers[id.index()].filling.leaving.insert(input);
            return AfterCut::Retry { input };
        }
        self.totals.cut(cut, false, now);
        let deaths = job.take_record(input.index).map_or_else(Vec::new, |record| record.deaths);
        let ends_map = job.on_failure() == OnFailure::EndMap;
        self.ends_as_failed(input);
        AfterCut::Final { input, attempts, deaths, cut, ends_map }
    }

    /// The code of a batch that was cut has returned, or its container has ended. Its inputs are replayed.
    pub(super) fn batch_came_out(&mut self, id: ContainerId) {
        let left = std::mem::take(&mut self.containers[id.index()].filling.leaving);
        let waits = |input: &InputId| self.record(*input).is_some_and(|it| it.waits == Some(Waits::Leaving));
        let waiting: Half = left.into_iter().map(steps::each).filter(waits).collect();
        self.await_halves(waiting);
    }

    /// The inputs that were executing at a scene.
    fn executing_together(&self, scene: &Scene) -> Vec<InputId> {
        let mut inputs = Vec::new();
        for (lane, position) in &scene.positions {
            if let Some((job, span)) = self.executing_span(*lane, Some(*position)) {
                inputs.extend(span.indices().map(|index| InputId { job, index }));
            }
        }
        inputs
    }

    /// Decides on inputs that end with their container and are innocent. Those that stay wait in no queue
    /// yet.
    fn set_free_together(
        &mut self,
        inputs: Vec<InputId>,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> Vec<AfterCrash> {
        let innocent = leaving.of_innocent();
        let decide = |input| self.set_input_free(input, NextTime::InHalves, crash, innocent);
        inputs.into_iter().map(steps::each).map(decide).collect()
    }

    /// Puts inputs into the queue of those that are replayed together, in two parts.
    fn await_halves(&mut self, whole: Half) {
        let middle = whole.len().div_ceil(2);
        let mut inputs = whole.into_iter();
        self.await_half(inputs.by_ref().take(middle).collect());
        self.await_half(inputs.collect());
    }

    /// Puts inputs into the queue of those that are replayed together.
    pub(super) fn await_half(&mut self, half: Half) {
        if half.is_empty() {
            return;
        }
        let ticket = self.halves.push_back(half.clone());
        for input in half {
            self.record_of(input).waits = Some(Waits::Half(ticket));
        }
    }

    /// Removes an input from the half in which it waits.
    pub(super) fn leave_half(&mut self, ticket: Ticket, input: InputId) {
        let Some(half) = self.halves.get_mut(ticket) else { return };
        half.remove(&input);
        if half.is_empty() {
            self.halves.remove(ticket);
        }
    }

    /// The number of inputs that wait in halves.
    pub(super) fn waiting_in_halves(&self) -> u64 {
        self.halves.iter().map(|(_, half)| half.len() as u64).sum()
    }
}

/// The inputs that are to be executed again.
fn pending(decided: &[AfterCrash]) -> impl Iterator<Item = InputId> {
    decided.iter().filter_map(|after| match after {
        AfterCrash::Pending { input } => Some(*input),
        AfterCrash::Poisoned { .. } | AfterCrash::Lost { .. } | AfterCrash::TimedOut { .. } => None,
    })
}

/// Questions of the simulator.
#[cfg(test)]
impl Ledger {
    /// A description of what is left of batches. It is empty if nothing is.
    pub(crate) fn left_of_batches(&self) -> String {
        let filling = self.containers.iter().filter(|container| !container.filling.rest.is_empty()).count();
        let left = (self.halves.len(), self.forming.since, self.forming.sources_open.len(), filling);
        if left == (0, None, 0, 0) { String::new() } else { format!("{left:?}") }
    }
}

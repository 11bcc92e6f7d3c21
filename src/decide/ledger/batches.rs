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
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, InputId, JobId, LaneId};
use crate::decide::job::{JobKind, OnFailure, Span, Waits};
use crate::decide::ledger::blame::NextTime;
use crate::decide::ledger::lane::LaneLimit;
use crate::decide::ledger::lease::Of;
use crate::decide::ledger::leavers::{GRACE, Leaver};
use crate::decide::ledger::requeue::HadBegun;
use crate::decide::ledger::timeouts::{AfterCut, CutBy};
use crate::decide::ledger::{
    AfterCrash, Assignment, Lease, LeaseKind, Leaving, Ledger, Mode, Position, Scene, Sources, Ticket,
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
            self.forming_since = None;
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

    /// Whether the batch that forms may run now. It forms from everything that waits and may execute
    /// together. Where no batch is waited for, it may.
    pub(super) fn has_formed(&mut self, now: Time, sources: &impl Sources) -> bool {
        let Some(batching) = self.rules.batch.filter(|batching| !batching.wait.is_zero()) else {
            return true;
        };
        if self.mode != Mode::Running {
            return true; // no more inputs come, so there is no reason to wait
        }
        let Forming { inputs, holds_call } = self.forming(batching.size, now, sources);
        if inputs == 0 {
            self.forming_since = None;
            return false;
        }
        // A retry may have come due while no container was idle.
        let due = self.retries.first().map_or(now, |(due, _)| now.min(*due));
        let since = self.forming_since.map_or(due, |since| since.min(due));
        self.forming_since = Some(since);
        let until = since + batching.wait;
        let may_grow = holds_call || !self.sources_open.is_empty();
        inputs >= batching.size || until <= now || !may_grow
    }

    /// An input begins to wait. A batch that has none yet forms from now on.
    pub(crate) fn note_arrival(&mut self, now: Time) {
        if self.awaits_batches() && self.mode == Mode::Running {
            self.forming_since.get_or_insert(now);
        }
    }

    /// Whether a batch that is not full waits for more inputs.
    pub(crate) fn awaits_batches(&self) -> bool {
        self.rules.batch.is_some_and(|batching| !batching.wait.is_zero())
    }

    /// A container has put its batch together. If it has left something, the next batch forms from now on.
    pub(crate) fn note_left(&mut self, now: Time, sources: &impl Sources) {
        if let Some(batching) = self.rules.batch.filter(|_| self.awaits_batches()) {
            self.forming_since = None;
            if self.mode == Mode::Running && self.forming(batching.size, now, sources).inputs > 0 {
                self.forming_since = Some(now);
            }
        }
    }

    /// The moment at which the batch that forms has waited for long enough.
    pub(super) fn batch_due(&self) -> Option<Time> {
        Some(self.forming_since? + self.rules.batch?.wait)
    }

    /// The next moment at which a retry is due. While a batch forms, the retries that are due are in it, and
    /// only the others are looked for.
    pub(super) fn next_retry_due(&self, now: Time) -> Option<Time> {
        if self.forming_since.is_none() {
            return self.retries.first().map(|(due, _)| *due);
        }
        let last = InputId { job: JobId(u64::MAX), index: u64::MAX };
        self.retries.range((Bound::Excluded((now, last)), Bound::Unbounded)).next().map(|(due, _)| *due)
    }

    /// Counts the inputs of the batch that forms, up to `size`.
    fn forming(&mut self, size: u64, now: Time, sources: &impl Sources) -> Forming {
        let mut inputs = self.calls.len() as u64;
        let mut holds_call = inputs > 0;
        let mut add = |job: &JobId, more: u64, jobs: &Self| {
            holds_call |= jobs.jobs[job].kind() == JobKind::Call;
            inputs += more;
            inputs < size
        };
        let requeued = self.requeued.iter().map(|(_, (job, span))| (*job, span.len));
        let replays = self.replays.iter().map(|(_, input)| (input.job, 1));
        let due = self.retries.iter().take_while(|(due, _)| *due <= now).map(|(_, input)| (input.job, 1));
        for (job, more) in requeued.chain(replays).chain(due).map(steps::each) {
            if !add(&job, more, self) {
                break;
            }
        }
        let awaits_each = self.awaits_batches();
        self.line_up_little_room(now);
        // A map in its turn has inputs, or steps out. So no more maps are looked at than there are inputs.
        let mut last = None;
        while inputs < size
            && let Some((ticket, job)) = self.turns.after(last)
        {
            steps::step();
            last = Some(ticket);
            let job = *job;
            if awaits_each {
                // The feeder announces each input, and the consumer all room, because any of them may
                // complete the batch.
                sources.await_inputs(job, self.mode);
                sources.request_room(job, 1);
            }
            match self.ready(job, now, sources) {
                0 => self.step_out(job),
                ready => inputs += ready,
            }
        }
        Forming { inputs, holds_call }
    }

    /// Records whether the source of a map may bring more inputs than the batch that forms has counted.
    pub(super) fn note_source(&mut self, job: JobId, may_bring_more: bool) {
        if !self.awaits_batches() {
            return;
        }
        if may_bring_more {
            self.sources_open.insert(job);
        } else {
            self.sources_open.remove(&job);
        }
    }
}

/// The batch that forms.
struct Forming {
    inputs: u64,
    /// Whether it has an input of a call. More calls may come at any time.
    holds_call: bool,
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
    /// The inputs that wait and may go into one batch, other than new inputs of maps. The first number counts
    /// the calls that were never leased. The others were leased before, and some of these are calls too.
    pub(crate) fn waiting_together(&self, now: Time) -> (u64, (u64, u64)) {
        let of_call = |job: &JobId| u64::from(self.jobs[job].kind() == JobKind::Call);
        let requeued = self.requeued.iter().map(|(_, (job, span))| (span.len, of_call(job)));
        let replays = self.replays.iter().map(|(_, input)| (1, of_call(&input.job)));
        let due = self.retries.iter().filter(|(due, _)| *due <= now);
        let again = requeued.chain(replays).chain(due.map(|(_, input)| (1, of_call(&input.job))));
        (self.calls.len() as u64, again.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1)))
    }

    /// A description of what is left of batches. It is empty if nothing is.
    pub(crate) fn left_of_batches(&self) -> String {
        let filling = self.containers.iter().filter(|container| !container.filling.rest.is_empty()).count();
        let left = (self.halves.len(), self.forming_since, self.sources_open.len(), filling);
        if left == (0, None, 0, 0) { String::new() } else { format!("{left:?}") }
    }
}

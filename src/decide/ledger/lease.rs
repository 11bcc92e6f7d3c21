//! Dispatch: the inputs that a container takes next.

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId, LaneId};
use crate::decide::job::{InputRecord, Job, JobKind, MapJob, Span};
use crate::decide::ledger::{ContainerStage, Ledger, Mode, Ready};
use crate::decide::life::{Next, Served};
use crate::decide::pacing::ROOM_WAIT;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::decide::window::room_min;
use crate::values::crash::Previous;

/// The sources of the jobs' inputs, as the ledger sees them.
pub(crate) trait Sources {
    /// The number of inputs that are available without waiting.
    fn available(&self, job: JobId, mode: Mode) -> u64;
    /// Whether the source brings no more inputs than are available.
    fn is_over(&self, job: JobId) -> bool;
    /// Called when no input is available: from now on the source informs the ledger of new inputs.
    /// Returns how many came in between, or `None` if the source may not inform the ledger, which must
    /// then look again by itself.
    fn await_inputs(&self, job: JobId, mode: Mode) -> Option<u64>;
    /// The number of inputs that were already yielded to the consumer.
    fn yielded(&self, job: JobId) -> u64;
    /// Called when the room in the window is less than `least`: from now on the source informs the ledger
    /// when there is as much.
    fn request_room(&self, job: JobId, least: u64);
}

/// Inputs that are assigned to one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) job: JobId,
    pub(crate) span: Span,
    pub(crate) kind: LeaseKind,
    /// The attempt at which the inputs are. It is past the first only in a lease of a single input.
    pub(crate) attempt: Attempt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// The inputs are executed for the first time.
    First,
    /// One input is executed again after its container died. It is a suspect if it crashed
    /// that container itself.
    Replay { suspect: bool },
    /// One input is executed again after it failed. `due` is the moment at which its retry was due.
    Retry { due: Time },
}

/// The work that the ledger dispatches to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// The container has this lease from now on.
    Lease(Lease),
    /// The caller pulls at most `most` inputs of this map. [`Ledger::pulled`] makes a lease of the first
    /// `leased` of them.
    Pull { job: JobId, most: u64, leased: u64 },
}

/// How many leases in a row may be of calls while an input of a map waits. Also how many may be of fresh
/// calls while an input waits to be executed again. So an endless stream of calls leaves a quarter of the
/// leases to each.
const CALLS_IN_A_ROW_MAX: u32 = 3;

/// How many inputs are pulled together at least, if they are there, where a container has many in flight. A
/// pull makes a chunk, which costs as much as several claims.
const PULLED_TOGETHER: u64 = 64;

/// The containers that may take an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takers {
    All,
    /// An empty container at once. If there is none, any container, which takes nothing else until it is
    /// empty.
    EmptyFirst,
    /// Only an empty container.
    Empty,
}

/// The kinds of job that a lease may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    All,
    Maps,
}

impl Ledger {
    /// Decides what a lane of the container does next. The order is the one in the contract: calls, inputs
    /// that a dead container had not begun, replays, and then due retries and new inputs of the maps in turn.
    /// Calls leave a share of the leases to what comes behind them.
    pub(crate) fn claim(
        &mut self,
        lane: impl Into<LaneId>,
        generation: Generation,
        now: Time,
        sources: &impl Sources,
    ) -> Next<Assignment> {
        let lane = lane.into();
        let id = lane.container;
        if !self.is_current(id, generation) {
            return Next::Over(Served::Stale);
        }
        self.set_orphan(lane, None);
        assert!(self.lane_mut(lane).lease.is_none(), "lane {lane} claims with a lease");
        let step = match self.mode {
            Mode::Running | Mode::Draining if self.dispatches() => {
                // At the end of a drain a container leaves, whatever has held it.
                let drained = self.mode == Mode::Draining && self.nothing_pending();
                if !drained && let Some(hold) = self.hold(id, now) {
                    return hold;
                }
                match self.rules.batch {
                    None => self.next_step(id, now, sources),
                    Some(batching) => self.begin_batch(batching, id, now, sources),
                }
            }
            Mode::Running => return Next::Wait { until: None },
            Mode::Draining | Mode::Stopping => return self.leave(id, now),
            Mode::Aborted => return Next::Over(Served::Stale),
        };
        if let Some(step) = step {
            if let Assignment::Lease(lease) = step {
                self.assign(lane, lease, now);
            }
            return Next::Work(step);
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            return self.leave(id, now);
        }
        Next::Wait { until: self.next_due(now) }
    }

    /// Makes a lease of the first `leased` of the `inputs` that were pulled for a lane. Returns `None` if
    /// there were none after all. Then the lane claims once more.
    pub(crate) fn pulled(
        &mut self,
        id: impl Into<LaneId>,
        job: JobId,
        (inputs, leased): (u64, u64),
        now: Time,
    ) -> Option<Lease> {
        self.accept(job, inputs);
        let span = self.jobs.get_mut(&job)?.take_fresh(leased)?;
        let lease = Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST };
        self.assign(id.into(), lease, now);
        Some(lease)
    }

    pub(super) fn assign(&mut self, id: LaneId, lease: Lease, now: Time) {
        if lease.kind == (LeaseKind::Replay { suspect: true }) {
            self.suspects.begin(id, now);
        }
        let is_alone = self.executes_alone(&lease);
        self.fills(id.container, lease.job, lease.span.len);
        self.containers[id.container.index()].alone = is_alone;
        self.leases.begins(lease.job, id);
        if lease.span.len > self.batch_size() {
            self.ahead.begins(lease.job, id);
        }
        self.containers[id.container.index()].leases += 1;
        let proof = self.crashes;
        let lane = self.lane_mut(id);
        lane.lease = Some(lease);
        lane.proof = proof;
        lane.taken = now;
        lane.advanced = now;
        lane.committed = lease.span.first;
    }

    /// Records that the lane begins its lease now. The time that finding the lease took is not counted
    /// as a cost of the inputs.
    pub(crate) fn lent(&mut self, id: LaneId, now: Time) {
        let lane = self.lane_mut(id);
        lane.taken = now;
        lane.advanced = now;
        self.begins_under_timeout(id, now);
    }

    /// The next moment at which an input may become ready for dispatch by the passing of time.
    pub(crate) fn next_due(&self, now: Time) -> Option<Time> {
        let retry = self.next_retry_due(now);
        let little_room = self.little_room.first().map(|(at, _)| *at);
        [retry, little_room, self.suspects.due(now), self.batch_due()].into_iter().flatten().min()
    }

    fn leave(&mut self, id: ContainerId, now: Time) -> Next<Assignment> {
        if self.containers[id.index()].leases > 0 {
            return Next::Hold { until: None };
        }
        self.end_loop_if_stable(now);
        self.set_stage(id, ContainerStage::Exiting);
        Next::Over(Served::Leaves)
    }

    pub(super) fn next_step(
        &mut self,
        id: ContainerId,
        now: Time,
        sources: &impl Sources,
    ) -> Option<Assignment> {
        if self.clearing == Some(id) {
            self.clearing = None;
            if let Some(alone) = self.next_alone(id, Of::All, now) {
                return Some(Assignment::Lease(alone));
            }
        }
        let maps_first = self.calls_in_a_row >= CALLS_IN_A_ROW_MAX;
        let of_a_map = if maps_first { self.next_behind_calls(id, Of::Maps, now, sources) } else { None };
        let step = of_a_map.or_else(|| self.next_of_all(id, now, sources))?;
        match &step {
            Assignment::Lease(lease) if self.jobs[&lease.job].kind() == JobKind::Call => {
                self.calls_in_a_row = self.calls_in_a_row.saturating_add(1);
            }
            Assignment::Lease(_) | Assignment::Pull { .. } => self.calls_in_a_row = 0,
        }
        Some(step)
    }

    /// A fresh call, if one waits, and otherwise what comes behind the calls. An input that is to be executed
    /// again, and may be one of a call, gets its turn among the calls.
    fn next_of_all(&mut self, id: ContainerId, now: Time, sources: &impl Sources) -> Option<Assignment> {
        let again_first = self.fresh_calls_in_a_row >= CALLS_IN_A_ROW_MAX && self.again_waits(id, now);
        let fresh = if again_first { None } else { self.next_call() };
        if let Some(lease) = fresh {
            self.fresh_calls_in_a_row = self.fresh_calls_in_a_row.saturating_add(1);
            return Some(Assignment::Lease(lease));
        }
        let step = self.next_behind_calls(id, Of::All, now, sources)?;
        self.fresh_calls_in_a_row = 0;
        Some(step)
    }

    /// Whether an input waits that the container may take, and that was dispatched before.
    fn again_waits(&self, id: ContainerId, now: Time) -> bool {
        let container = &self.containers[id.index()];
        let is_empty = container.leases == 0;
        !self.requeued.is_empty()
            || !self.replays.is_empty()
            || is_empty && !(self.alone.is_empty() && self.halves.is_empty())
            || self.retries.first().is_some_and(|(due, _)| *due <= now)
            || (is_empty || !self.next_suspect_executes_alone())
                && self.suspects.next_for(container.proof, now).is_some()
    }

    fn next_call(&mut self) -> Option<Lease> {
        let job = self.calls.pop_first()?;
        let span = self.jobs.get_mut(&job).and_then(|call| call.take_fresh(1));
        let span = span.expect("a queued call has its input");
        Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST })
    }

    fn next_behind_calls(
        &mut self,
        id: ContainerId,
        of: Of,
        now: Time,
        sources: &impl Sources,
    ) -> Option<Assignment> {
        let first = self.next_requeued(id, of).or_else(|| self.next_replay(id, of, now));
        if let Some(lease) = first {
            return Some(Assignment::Lease(lease));
        }
        let new = if self.new_goes_first { self.next_new(id, now, sources) } else { None };
        if new.is_some() {
            self.new_goes_first = false;
            return new;
        }
        if let Some(retry) = self.next_retry(of, now) {
            self.new_goes_first = true;
            return Some(Assignment::Lease(retry));
        }
        self.next_new(id, now, sources)
    }

    /// Whether a lease may be of `job`.
    pub(super) fn is_of(&self, of: Of, job: JobId) -> bool {
        of == Of::All || self.jobs[&job].kind() == JobKind::Map
    }

    fn next_requeued(&mut self, id: ContainerId, of: Of) -> Option<Lease> {
        let (ticket, (job, span)) = match of {
            Of::All => self.requeued.first()?,
            Of::Maps => self.requeued.first_of_maps()?,
        };
        let most = self.claim_size(id, job, span.len);
        let taken = Span { first: span.first, len: most };
        self.leaves_batch(job, most);
        if most < span.len {
            let rest = self.requeued.get_mut(ticket).expect("it was just found");
            *rest = (job, Span { first: taken.end(), len: span.len - most });
        } else {
            self.requeued.remove(ticket);
            self.jobs.get_mut(&job).expect("queued inputs belong to open jobs").has_left(ticket);
        }
        Some(Lease { job, span: taken, kind: LeaseKind::First, attempt: Attempt::FIRST })
    }

    /// The lease of the next replay. An input that was executing when its container died, and that has
    /// crashed no container, is replayed before the suspects.
    fn next_replay(&mut self, id: ContainerId, of: Of, now: Time) -> Option<Lease> {
        if let Some((_, input)) = self.replays.first()
            && self.is_of(of, input.job)
        {
            return Some(self.single(*input, LeaseKind::Replay { suspect: false }));
        }
        if self.containers[id.index()].leases == 0 {
            return self.next_alone(id, of, now);
        }
        if self.next_suspect_executes_alone() { None } else { self.next_suspect(id, of, now) }
    }

    /// The lease of the next replay for a container that executes nothing else.
    pub(super) fn next_alone(&mut self, id: ContainerId, of: Of, now: Time) -> Option<Lease> {
        if let Some(half) = self.next_half(id, of) {
            return Some(half);
        }
        if let Some((_, input)) = self.alone.first()
            && self.is_of(of, input.job)
        {
            return Some(self.single(*input, LeaseKind::Replay { suspect: false }));
        }
        self.next_suspect(id, of, now)
    }

    fn next_suspect(&mut self, id: ContainerId, of: Of, now: Time) -> Option<Lease> {
        let input = self.suspects.next_for(self.containers[id.index()].proof, now)?;
        if !self.is_of(of, input.job) {
            return None;
        }
        Some(self.single(input, LeaseKind::Replay { suspect: true }))
    }

    fn next_retry(&mut self, of: Of, now: Time) -> Option<Lease> {
        let (due, input) = *self.retries.first().filter(|(due, _)| *due <= now)?;
        if !self.is_of(of, input.job) {
            return None;
        }
        Some(self.single(input, LeaseKind::Retry { due }))
    }

    /// Whether a suspect executes alone in its container, because a crash would cost the other inputs in
    /// flight their common state.
    fn suspects_execute_alone(&self) -> bool {
        self.rules.has_state && self.rules.lanes > 1 || self.rules.batch.is_some()
    }

    /// Whether the suspect that is replayed next executes alone in its container. Where there is no state, it
    /// does if it has crossed the memory limit beside others.
    pub(super) fn next_suspect_executes_alone(&self) -> bool {
        self.suspects_execute_alone()
            || self.suspects.first().and_then(|input| self.record(input)).is_some_and(|record| record.alone)
    }

    /// Whether no other input may execute beside the input of this lease. Inputs that were never executed go
    /// beside others.
    pub(super) fn executes_alone(&self, lease: &Lease) -> bool {
        let input = InputId { job: lease.job, index: lease.span.first };
        let is_alone = || self.rules.lanes > 1 && self.record(input).is_some_and(|record| record.alone);
        match lease.kind {
            LeaseKind::First => false,
            LeaseKind::Replay { suspect: true } => self.suspects_execute_alone() || is_alone(),
            LeaseKind::Replay { suspect: false } | LeaseKind::Retry { .. } => is_alone(),
        }
    }

    /// Decides whether a container takes nothing new for now: one of its inputs executes alone, the policy
    /// delays it, or it is to become empty, because an input waits to execute alone.
    fn hold<W>(&mut self, id: ContainerId, now: Time) -> Option<Next<W>> {
        let container = &mut self.containers[id.index()];
        if container.alone {
            return Some(Next::Hold { until: None });
        }
        if let Some(until) = container.held_until {
            if until > now && self.restarts.held_until(now).is_some() {
                return Some(Next::Hold { until: Some(until) });
            }
            container.held_until = None;
        }
        if container.leases == 0 || self.clearing.is_some_and(|other| other != id) {
            return None;
        }
        // In the order of dispatch these come before an input that executes alone, and they are few.
        if self.clearing.is_none() && !(self.requeued.is_empty() && self.replays.is_empty()) {
            return None;
        }
        let proof = container.proof;
        let suspect = self.next_suspect_executes_alone() && self.suspects.next_for(proof, now).is_some();
        self.clearing = (suspect || !self.alone.is_empty()).then_some(id);
        self.clearing.map(|_| Next::Hold { until: None })
    }

    /// Whether another container could be given an input now, other than a suspect and an input that executes
    /// alone. If a map has no room or no inputs, its source informs the ledger when that changes.
    pub(crate) fn has_more(&mut self, now: Time, sources: &impl Sources) -> bool {
        if self.is_paused() || !self.has_formed(now, sources) {
            return false;
        }
        let retry = self.retries.first().is_some_and(|(due, _)| *due <= now);
        let left = !(self.calls.is_empty() && self.requeued.is_empty() && self.replays.is_empty());
        left || retry || self.next_map(now, sources).is_some()
    }

    /// The containers that may take the input that executes alone next, if one waits that has crashed no
    /// container.
    pub(crate) fn alone_ready(&self) -> Option<Takers> {
        let waits = !(self.alone.is_empty() && self.halves.is_empty());
        (self.dispatches() && waits).then(|| self.takers_alone())
    }

    /// The suspect that may be replayed next, with the crash that its container must have outlived.
    pub(crate) fn suspect_ready(&self, now: Time) -> Option<Ready> {
        if self.dispatches() { self.suspects.ready(now) } else { None }
    }

    /// The containers that may take the suspect that is replayed next.
    pub(crate) fn takers_of_suspect(&self) -> Takers {
        if self.next_suspect_executes_alone() { self.takers_alone() } else { Takers::All }
    }

    /// The containers that may take an input that executes alone. One container at a time becomes empty for
    /// it.
    fn takers_alone(&self) -> Takers {
        if self.clearing.is_none() { Takers::EmptyFirst } else { Takers::Empty }
    }

    /// Whether a map has room for as many inputs as are worth a claim. If not, the source informs
    /// the ledger when it has.
    fn has_room(&self, job: JobId, available: u64, sources: &impl Sources) -> bool {
        let least = self.room_min(job).min(available);
        self.room(job, sources) >= least || {
            sources.request_room(job, least); // look again, because room may have been made in between
            self.room(job, sources) >= least
        }
    }

    /// The number of inputs of a map that may be pulled in addition to the outstanding ones.
    pub(super) fn room(&self, job: JobId, sources: &impl Sources) -> u64 {
        let outstanding = self.jobs[&job].counts().pulled.saturating_sub(sources.yielded(job));
        self.window(job).saturating_sub(outstanding)
    }

    fn next_new(&mut self, id: ContainerId, now: Time, sources: &impl Sources) -> Option<Assignment> {
        let (job, ready) = self.next_map(now, sources)?;
        // The map queues up behind the other maps.
        if self.turns.len() > 1 {
            self.step_out(job);
            self.line_up(job);
        }
        self.recount(job);
        let most = self.claim_size(id, job, ready);
        self.map_in_turn(job).little_room_until = None;
        let fresh = self.jobs.get_mut(&job).and_then(|map| map.take_fresh(most));
        Some(match fresh {
            Some(span) => {
                Assignment::Lease(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST })
            }
            // The other lanes will claim next, so that one chunk serves several of them.
            None if self.rules.lanes > 1 => {
                Assignment::Pull { job, most: ready.min(PULLED_TOGETHER).max(most), leased: most }
            }
            None => Assignment::Pull { job, most, leased: most },
        })
    }

    /// Maps whose little room has had its time to grow get their turns again.
    pub(super) fn line_up_little_room(&mut self, now: Time) {
        while let Some((at, job)) = self.little_room.first().copied().filter(|(at, _)| *at <= now) {
            steps::step();
            self.little_room.remove(&(at, job));
            self.line_up(job);
        }
    }

    /// The map whose turn is next, and the number of its new inputs that are available. Maps without any lose
    /// their turn until that changes, so that a claim does not look at every open map again.
    fn next_map(&mut self, now: Time, sources: &impl Sources) -> Option<(JobId, u64)> {
        self.line_up_little_room(now);
        while let Some((_, job)) = self.turns.first() {
            steps::step();
            let job = *job;
            match self.ready(job, now, sources) {
                0 => self.step_out(job),
                inputs => return Some((job, inputs)),
            }
        }
        None
    }

    /// The number of new inputs of a map that may be leased now. For cheap inputs in a wide window, a small
    /// amount of room is not worth a claim while it may still grow. After a moment it is taken anyway.
    pub(super) fn ready(&mut self, job: JobId, now: Time, sources: &impl Sources) -> u64 {
        let waiting = self.jobs[&job].fresh();
        if waiting > 0 {
            if self.awaits_batches() {
                let may_bring_more = !sources.is_over(job) && self.room(job, sources) > 0;
                self.note_source(job, may_bring_more);
            }
            return waiting;
        }
        let mut available = sources.available(job, self.mode);
        if available == 0 {
            let Some(since) = sources.await_inputs(job, self.mode) else {
                let again = now + ROOM_WAIT;
                self.map_in_turn(job).little_room_until = Some(again);
                self.little_room.insert((again, job));
                return 0;
            };
            available = since;
        }
        let worth_a_claim = available > 0 && self.has_room(job, available, sources);
        let room = self.room(job, sources);
        self.note_source(job, room > available && !sources.is_over(job));
        let map = self.map_in_turn(job);
        if available == 0 || room == 0 {
            map.little_room_until = None;
            return 0;
        }
        if worth_a_claim {
            map.little_room_until = None;
        } else {
            let at = *map.little_room_until.get_or_insert(now + ROOM_WAIT);
            if at > now {
                self.little_room.insert((at, job));
                return 0;
            }
        }
        available.min(room)
    }

    fn map_in_turn(&mut self, job: JobId) -> &mut MapJob {
        self.jobs.get_mut(&job).and_then(Job::map_mut).expect("a map has its turn")
    }

    /// The least free room in a map's window that is worth a notification of the threads that wait for room.
    pub(crate) fn room_min(&self, job: JobId) -> u64 {
        let map = self.jobs.get(&job).and_then(Job::map);
        map.map_or(1, |map| room_min(self.window(job), map.sizer.cost()))
    }

    /// The number of inputs of `job` that a container leases at once, if `available` are available.
    fn claim_size(&mut self, id: ContainerId, job: JobId, available: u64) -> u64 {
        if let Some(share) = self.batch_share(id, job, available) {
            return share;
        }
        let lanes = self.rules.containers * self.rules.lanes as usize;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.map_mut().map_or(1, |map| map.sizer.take(available, lanes))
    }

    /// A lease of one input, which is removed from its queue.
    pub(super) fn single(&mut self, input: InputId, kind: LeaseKind) -> Lease {
        self.leave_queue(input);
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        match kind {
            LeaseKind::Replay { .. } => job.replays(),
            LeaseKind::Retry { .. } => job.retries(),
            LeaseKind::First => {}
        }
        let attempt = job.attempt(input.index);
        Lease { job: input.job, span: Span { first: input.index, len: 1 }, kind, attempt }
    }

    pub(super) fn record(&self, input: InputId) -> Option<&InputRecord> {
        self.jobs.get(&input.job)?.record(input.index)
    }

    /// The moment at which a failed input is due, if it waits for its retry.
    #[cfg(test)]
    pub(crate) fn retry_due(&self, job: JobId, index: u64) -> Option<Time> {
        let waits = |(_, input): &&(Time, InputId)| *input == InputId { job, index };
        self.retries.iter().find(waits).map(|(due, _)| *due)
    }

    /// The reason why the previous attempt of an input ended.
    pub(crate) fn previous(&self, input: InputId) -> Option<Previous> {
        self.record(input)?.previous.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::ContainerId;
    use crate::decide::job::OnFailure;
    use crate::decide::ledger::Retryable;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, at};
    use crate::decide::restart::RateLimited;
    use crate::decide::retries::Retries;
    use crate::decide::window::Window;

    fn rig(containers: usize) -> Rig {
        let retries = Retries::new(1).initial_delay(Duration::ZERO);
        let mut rig = Rig::with(containers, RateLimited::never(), retries, 3);
        for id in rig.ledger.containers() {
            rig.enters(id, START);
        }
        rig
    }

    /// The leases that the first container takes from `now` on, one after the other, each for a millisecond.
    fn taken(rig: &mut Rig, mut now: Time) -> Vec<(JobId, u64, LeaseKind)> {
        let mut taken = Vec::new();
        while let Next::Work(lease) = rig.claims(FIRST, now) {
            assert_eq!(lease.span.len, 1, "dear inputs travel singly");
            taken.push((lease.job, lease.span.first, lease.kind));
            now = now + Duration::from_millis(1);
            rig.completes(FIRST, now);
        }
        taken
    }

    const INNOCENT: LeaseKind = LeaseKind::Replay { suspect: false };
    const SUSPECT: LeaseKind = LeaseKind::Replay { suspect: true };
    const RETRY: LeaseKind = LeaseKind::Retry { due: START };

    #[test]
    fn calls_go_first_and_then_what_a_dead_container_had_not_begun_and_replays_and_retries_and_new_inputs() {
        let mut rig = rig(4);
        let map = rig.map(10, 4);
        for id in rig.ledger.containers() {
            rig.takes(id, START);
        }
        rig.crashes(FIRST, START);
        rig.kills(SECOND, UNCROWDED, START);
        rig.ledger.failed(ContainerId(2), Retryable::Yes, START);
        rig.ledger.released(ContainerId(2), START);
        rig.ledger.released(ContainerId(3), START);
        let other = rig.map(10, 1);
        let call = rig.call();
        rig.enters(FIRST, START);
        let order = [
            (call, 0, LeaseKind::First),
            (map, 3, LeaseKind::First),
            (map, 1, INNOCENT),
            (map, 0, SUSPECT),
            (map, 2, RETRY),
            (other, 0, LeaseKind::First),
        ];
        assert_eq!(taken(&mut rig, START), order);
    }

    #[test]
    fn of_four_leases_one_is_of_a_map_while_calls_wait_and_all_are_of_calls_where_no_map_has_anything() {
        let mut rig = rig(1);
        let map = rig.map(10, 2);
        let calls: Vec<JobId> = (0..8).map(|_| rig.call()).collect();
        let jobs: Vec<JobId> = taken(&mut rig, START).into_iter().map(|(job, ..)| job).collect();
        let quarters = [&calls[..3], &[map], &calls[3..6], &[map], &calls[6..]].concat();
        assert_eq!(jobs, quarters);
        let more: Vec<JobId> = (0..5).map(|_| rig.call()).collect();
        let jobs: Vec<JobId> = taken(&mut rig, START).into_iter().map(|(job, ..)| job).collect();
        assert_eq!(jobs, more);
    }

    #[test]
    fn of_four_leases_one_is_of_an_input_that_is_executed_again_while_calls_wait() {
        let mut rig = rig(4);
        let failing: Vec<JobId> = (0..3).map(|_| rig.call()).collect();
        for id in rig.ledger.containers().skip(1) {
            rig.takes(id, START);
            rig.ledger.failed(id, Retryable::Yes, START);
            rig.ledger.released(id, START);
        }
        let calls: Vec<JobId> = (0..9).map(|_| rig.call()).collect();
        let jobs: Vec<JobId> = taken(&mut rig, START).into_iter().map(|(job, ..)| job).collect();
        let (again, fresh) = (failing.chunks(1), calls.chunks(3));
        let turns: Vec<JobId> = again.zip(fresh).flat_map(|(again, fresh)| [again, fresh].concat()).collect();
        assert_eq!(jobs, turns);
    }

    #[test]
    fn retries_that_are_due_and_new_inputs_take_turns() {
        let mut rig = rig(3);
        let failing = rig.map(10, 3);
        for id in rig.ledger.containers() {
            rig.takes(id, START);
        }
        for id in rig.ledger.containers() {
            rig.ledger.failed(id, Retryable::Yes, START);
            rig.ledger.released(id, at(1));
        }
        let new = rig.map(10, 3);
        let kinds: Vec<_> = taken(&mut rig, START).into_iter().map(|(job, _, kind)| (job, kind)).collect();
        let turn = [(failing, RETRY), (new, LeaseKind::First)];
        assert_eq!(kinds, [turn, turn, turn].concat());
    }

    #[test]
    fn maps_take_turns() {
        let mut rig = rig(1);
        let (one, other) = (rig.map(10, 3), rig.map(10, 2));
        let jobs: Vec<JobId> = taken(&mut rig, START).into_iter().map(|(job, ..)| job).collect();
        assert_eq!(jobs, [one, other, one, other, one]);
    }

    #[test]
    fn a_window_holds_what_was_pulled_and_is_not_yet_yielded() {
        let mut rig = rig(1);
        let map = rig.map(3, 10);
        assert_eq!(taken(&mut rig, START).len(), 3);
        rig.sources.yielded.insert(map, 2);
        assert_eq!(
            rig.claims(FIRST, START),
            Next::Wait { until: None },
            "it hears of room when there is some"
        );
        rig.ledger.requeue_map(map);
        assert!(rig.ledger.has_more(START, &rig.sources));
        assert_eq!(taken(&mut rig, START).len(), 2);
        assert!(!rig.ledger.has_more(START, &rig.sources));
    }

    #[test]
    fn little_room_is_taken_after_a_millisecond_and_more_of_it_at_once() {
        for (room, at_once) in [(61, false), (62, true)] {
            let mut rig = rig(1);
            let map = rig.map(1_000, 5_000);
            // The inputs take 100 ns each. A sixteenth of the window is worth a claim.
            let mut now = START;
            loop {
                match rig.claims(FIRST, now) {
                    Next::Work(lease) => {
                        now = now + Duration::from_nanos(100 * lease.span.len);
                        rig.completes(FIRST, now);
                    }
                    Next::Wait { until: Some(later) } => now = later,
                    _ => break,
                }
            }
            assert_eq!(rig.ledger.job(map).map(|job| job.counts().ok), Some(1_000));
            rig.sources.yielded.insert(map, room);
            rig.ledger.requeue_map(map);
            let later = now + ROOM_WAIT;
            let claimed = rig.claims(FIRST, now);
            if !at_once {
                assert_eq!(claimed, Next::Wait { until: Some(later) });
                assert_eq!(rig.ledger.next_due(now), Some(later));
                let early = Time(later.0 - Duration::from_nanos(1));
                assert!(matches!(rig.claims(FIRST, early), Next::Wait { .. }));
            }
            let lease = if let Next::Work(lease) = claimed { lease } else { rig.takes(FIRST, later) };
            assert_eq!(lease.span.len, room);
        }
    }

    #[test]
    fn one_slow_claim_leaves_the_window_of_cheap_inputs_wide() {
        let mut rig = rig(1);
        let map = rig.ledger.open(OnFailure::GoOn, Window::adaptive(24, 2), None);
        rig.sources.inputs.insert(map, 200_000);
        let mut now = START;
        let mut claim = |rig: &mut Rig, nanos| {
            let lease = rig.takes(FIRST, now);
            now = now + Duration::from_nanos(nanos * lease.span.len);
            rig.completes(FIRST, now);
            rig.sources.yielded.insert(map, lease.span.end());
            lease.span.len
        };
        for _ in 0..20 {
            claim(&mut rig, 20);
        }
        assert_eq!((rig.ledger.window(map), rig.ledger.room_min(map)), (65_536, 4_096));
        assert!(claim(&mut rig, 20_000) > 1_000, "a claim during which the thread was suspended");
        assert_eq!((rig.ledger.window(map), rig.ledger.room_min(map)), (65_536, 5));
        assert_eq!(claim(&mut rig, 20), 25, "claims are small until inputs turn out to be cheap");
        // If inputs go on being expensive, the window follows.
        for _ in 0..20 {
            claim(&mut rig, 20_000);
        }
        assert_eq!((rig.ledger.window(map), rig.ledger.room_min(map)), (1_000, 5));
    }

    #[test]
    fn a_container_without_work_waits_or_leaves_or_ends_as_its_function_does() {
        for (mode, pending, claim) in [
            (Mode::Running, false, Next::Wait { until: None }),
            (Mode::Draining, true, Next::Wait { until: None }),
            (Mode::Draining, false, Next::Over(Served::Leaves)),
            (Mode::Stopping, true, Next::Over(Served::Leaves)),
            (Mode::Aborted, true, Next::Over(Served::Stale)),
        ] {
            let mut rig = rig(2);
            if pending {
                rig.call();
                rig.takes(SECOND, START);
            }
            rig.ledger.advance_mode(mode);
            assert_eq!(rig.claims(FIRST, START), claim, "{mode:?}, {pending}");
        }
    }

    #[test]
    fn a_function_that_gave_up_dispatches_nothing() {
        let mut rig = Rig::new(2, RateLimited::new().max_crashes(0));
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.call();
        assert!(rig.ledger.has_more(START, &rig.sources));
        rig.crashes(SECOND, START);
        assert_eq!(rig.claims(FIRST, START), Next::Wait { until: None });
        let (generation, _) = rig.ledger.stage(SECOND);
        assert_eq!(rig.ledger.claim(SECOND, generation, START, &rig.sources), Next::Over(Served::Stale));
    }

    #[test]
    fn a_suspect_may_be_replayed_only_while_the_function_goes_on() {
        let mut rig = rig(2);
        rig.call();
        rig.takes(FIRST, START);
        rig.crashes(FIRST, START);
        assert_eq!(rig.ledger.suspect_ready(START), Some(Ready { proof: 1 }));
        assert_eq!((rig.ledger.proof(FIRST), rig.ledger.proof(SECOND)), (0, 0));
        assert_eq!(
            rig.claims(SECOND, START),
            Next::Wait { until: Some(at(10_000)) },
            "it has outlived no crash"
        );
        rig.ledger.advance_mode(Mode::Stopping);
        assert_eq!(rig.ledger.suspect_ready(START), None);
    }

    #[test]
    fn what_an_input_costs_is_counted_from_the_moment_at_which_its_container_begins_with_it() {
        let mut rig = rig(1);
        let map = rig.map(10, 2);
        rig.takes(FIRST, at(1));
        rig.ledger.lent(FIRST.into(), at(5));
        assert_eq!(rig.ledger.executing_now().next(), Some((FIRST, 0, at(5))));
        rig.completes(FIRST, at(7));
        let cost = rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost());
        assert_eq!(cost, Some(Duration::from_millis(2)));
    }

    #[test]
    fn what_a_call_left_behind_has_a_turn_among_the_calls_and_leaves_maps_their_quarter() {
        for left in ["not begun", "killed", "crashed", "failed"] {
            let mut rig = rig(2);
            let first = rig.call();
            rig.takes(SECOND, START);
            match left {
                "not begun" => rig.ledger.released(SECOND, at(1)),
                "killed" => _ = rig.kills(SECOND, UNCROWDED, at(1)),
                "crashed" => _ = rig.crashes(SECOND, at(1)),
                _ => {
                    rig.ledger.failed(SECOND, Retryable::Yes, START);
                    rig.ledger.released(SECOND, at(1));
                }
            }
            let calls: Vec<JobId> = (0..4).map(|_| rig.call()).collect();
            let map = rig.map(10, 1);
            let jobs: Vec<JobId> = taken(&mut rig, at(1)).into_iter().map(|(job, ..)| job).collect();
            assert_eq!(jobs, [calls[0], calls[1], map, first, calls[2], calls[3]], "{left}");
        }
    }

    #[test]
    fn there_is_more_for_another_container_if_anything_but_a_suspect_may_be_taken_now() {
        let more = |prepare: fn(&mut Rig)| {
            let mut rig = rig(2);
            prepare(&mut rig);
            rig.ledger.has_more(at(1), &rig.sources)
        };
        assert!(!more(|_| {}));
        assert!(more(|rig| _ = rig.call()));
        assert!(more(|rig| _ = rig.map(10, 1)));
        assert!(!more(|rig| _ = rig.map(10, 0)));
        let leave = |rig: &mut Rig| {
            rig.call();
            rig.takes(SECOND, START);
        };
        for (left, is_more) in [("not begun", true), ("killed", true), ("crashed", false)] {
            let mut rig = rig(2);
            leave(&mut rig);
            match left {
                "not begun" => rig.ledger.released(SECOND, START),
                "killed" => _ = rig.kills(SECOND, UNCROWDED, START),
                _ => _ = rig.crashes(SECOND, START),
            }
            assert_eq!(rig.ledger.has_more(at(1), &rig.sources), is_more, "{left}");
        }
        let mut rig = rig(2);
        leave(&mut rig);
        rig.ledger.failed(SECOND, Retryable::Yes, at(5));
        rig.ledger.released(SECOND, at(5));
        assert!(!rig.ledger.has_more(at(4), &rig.sources), "the retry is not due");
        assert!(rig.ledger.has_more(at(5), &rig.sources));
    }

    #[test]
    fn a_suspect_that_executes_holds_up_the_next_one() {
        let mut rig = rig(4);
        for id in [FIRST, SECOND] {
            rig.call();
            rig.takes(id, START);
        }
        for id in [FIRST, SECOND] {
            rig.crashes(id, START);
            rig.enters(id, START);
        }
        assert_eq!(rig.takes(SECOND, START).kind, SUSPECT);
        assert_eq!(rig.claims(FIRST, at(999)), Next::Wait { until: Some(at(1_000)) });
        rig.completes(SECOND, at(999));
        // The first container began before the second crash, and has proved nothing since.
        assert_eq!(rig.takes(SECOND, at(999)).kind, SUSPECT);
    }

    #[test]
    fn inputs_that_were_pulled_already_need_no_source() {
        let mut rig = rig(1);
        let map = rig.map(10, 0);
        rig.ledger.accept(map, 2);
        assert_eq!(taken(&mut rig, START), [(map, 0, LeaseKind::First), (map, 1, LeaseKind::First)]);
    }

    #[test]
    fn a_source_that_says_nothing_is_looked_at_again_after_a_millisecond() {
        let mut rig = rig(1);
        let map = rig.map(10, 0);
        rig.sources.silent = true;
        assert_eq!(rig.claims(FIRST, START), Next::Wait { until: Some(at(1)) });
        rig.sources.inputs.insert(map, 1);
        assert!(matches!(rig.claims(FIRST, START), Next::Wait { .. }), "it is not looked at each time");
        assert_eq!(rig.takes(FIRST, at(1)).job, map);
    }

    #[test]
    fn room_is_asked_for_only_where_there_is_too_little() {
        let mut rig = rig(1);
        rig.map(2, 5);
        rig.takes(FIRST, START);
        rig.completes(FIRST, at(1));
        assert_eq!(rig.sources.room_wanted.get(), 0);
        rig.takes(FIRST, at(1));
        rig.completes(FIRST, at(2));
        rig.claims(FIRST, at(2));
        assert_eq!(rig.sources.room_wanted.get(), 1, "the window is full");
    }

    #[test]
    fn only_a_lease_of_several_inputs_is_ahead_of_its_container() {
        let mut rig = rig(2);
        rig.map(100, 50);
        rig.takes(FIRST, START);
        assert_eq!(rig.ledger.ahead().count(), 0);
        rig.completes(FIRST, Time(Duration::from_nanos(100)));
        assert!(rig.takes(FIRST, START).span.len > 1);
        assert!(rig.ledger.ahead().eq([FIRST.into()]));
        rig.ledger.released(FIRST, START);
        assert_eq!(rig.ledger.ahead().count(), 0);
    }
}

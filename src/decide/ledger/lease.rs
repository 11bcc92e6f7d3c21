//! Dispatch: the inputs that a container takes next.

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::job::{Job, JobKind, MapJob, Record, Span};
use crate::decide::ledger::{Ledger, Mode, Ready, Stage};
use crate::decide::life::{Next, Served};
use crate::decide::pacing::CRUMBS_WAIT;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::decide::window::refill;
use crate::values::crash::Previous;

/// The sources of the jobs' inputs, as the ledger sees them.
pub(crate) trait Sources {
    /// The number of inputs that are available without waiting.
    fn available(&self, job: JobId, mode: Mode) -> u64;
    /// Called when no input is available: from now on the source informs the ledger of new inputs.
    /// Returns how many came in between, or `None` if the source may not inform the ledger, which must
    /// then look again by itself.
    fn await_inputs(&self, job: JobId, mode: Mode) -> Option<u64>;
    /// The number of inputs that were already yielded to the consumer.
    fn yielded(&self, job: JobId) -> u64;
    /// Called when the room in the window is less than `least`: from now on the source informs the ledger
    /// when there is as much.
    fn starve(&self, job: JobId, least: u64);
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
    /// The caller pulls at most `most` inputs of this map. [`Ledger::pulled`] makes a lease of them.
    Pull { job: JobId, most: u64 },
}

/// How many leases in a row may be of calls while something of a map waits, so that an endless stream of calls leaves
/// a quarter to the maps.
const CALLS_IN_A_ROW_MAX: u32 = 3;

/// The kinds of job that a lease may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Maps,
}

impl Ledger {
    /// Decides what the container does next. The order is that of the contract: calls, inputs that a dead
    /// container had not begun, replays, and then due retries and new inputs of the maps in turn.
    pub(crate) fn claim(
        &mut self,
        id: ContainerId,
        generation: Generation,
        now: Time,
        sources: &impl Sources,
    ) -> Next<Assignment> {
        if !self.is_current(id, generation) {
            return Next::Over(Served::Stale);
        }
        self.berths[id.index()].stray = None;
        assert!(self.berths[id.index()].lease.is_none(), "container {id} claims with a lease");
        let step = match self.mode {
            Mode::Running | Mode::Draining if self.gave_up.is_none() => self.next_step(id, now, sources),
            Mode::Running => return Next::Wait { until: None },
            Mode::Draining | Mode::Stopping => return self.leave(id, now),
            Mode::Aborted => return Next::Over(Served::Stale),
        };
        if let Some(step) = step {
            if let Assignment::Lease(lease) = step {
                self.assign(id, lease, now);
            }
            return Next::Work(step);
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            return self.leave(id, now);
        }
        Next::Wait { until: self.next_due(now) }
    }

    /// Makes a lease of the inputs that were pulled for a container. `None` if there were none after all. Then the
    /// container claims once more.
    pub(crate) fn pulled(&mut self, id: ContainerId, job: JobId, inputs: u64, now: Time) -> Option<Lease> {
        self.accept(job, inputs);
        let span = self.jobs.get_mut(&job)?.take_fresh(inputs)?;
        let lease = Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST };
        self.assign(id, lease, now);
        Some(lease)
    }

    fn assign(&mut self, id: ContainerId, lease: Lease, now: Time) {
        if lease.kind == (LeaseKind::Replay { suspect: true }) {
            self.suspects.begin(id, now);
        }
        self.leases.insert((lease.job, id));
        if lease.span.len > 1 {
            self.ahead.insert(id);
        }
        let lease_proof = self.crashes;
        let berth = &mut self.berths[id.index()];
        berth.lease = Some(lease);
        berth.lease_proof = lease_proof;
        berth.taken = now;
        berth.advanced = now;
        berth.booked = lease.span.first;
    }

    /// Records that the container begins its lease now. The time that finding the lease took is not counted
    /// as a cost of the inputs.
    pub(crate) fn lent(&mut self, id: ContainerId, now: Time) {
        let berth = &mut self.berths[id.index()];
        berth.taken = now;
        berth.advanced = now;
    }

    /// The next moment at which an input may become ready for dispatch by the passing of time.
    pub(crate) fn next_due(&self, now: Time) -> Option<Time> {
        let retry = self.retries.first().map(|(due, _)| *due);
        let crumbs = self.crumbs.first().map(|(at, _)| *at);
        [retry, crumbs, self.suspects.due(now)].into_iter().flatten().min()
    }

    fn leave(&mut self, id: ContainerId, now: Time) -> Next<Assignment> {
        self.settle(now);
        self.turn(id, Stage::Exiting);
        Next::Over(Served::Leaves)
    }

    fn next_step(&mut self, id: ContainerId, now: Time, sources: &impl Sources) -> Option<Assignment> {
        let maps_first = self.calls_in_a_row >= CALLS_IN_A_ROW_MAX;
        let of_a_map = if maps_first { self.next_behind_calls(id, Of::Maps, now, sources) } else { None };
        let step = of_a_map
            .or_else(|| self.next_call().map(Assignment::Lease))
            .or_else(|| self.next_behind_calls(id, Of::All, now, sources))?;
        match &step {
            Assignment::Lease(lease) if self.jobs[&lease.job].kind() == JobKind::Call => {
                self.calls_in_a_row = self.calls_in_a_row.saturating_add(1);
            }
            Assignment::Lease(_) | Assignment::Pull { .. } => self.calls_in_a_row = 0,
        }
        Some(step)
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
        let first = self.next_requeued(of).or_else(|| self.next_replay(id, of, now));
        if let Some(lease) = first {
            return Some(Assignment::Lease(lease));
        }
        let new = if self.new_goes_first { self.next_new(now, sources) } else { None };
        if new.is_some() {
            self.new_goes_first = false;
            return new;
        }
        if let Some(retry) = self.next_retry(of, now) {
            self.new_goes_first = true;
            return Some(Assignment::Lease(retry));
        }
        self.next_new(now, sources)
    }

    /// Whether a lease may be of `job`.
    fn is_of(&self, of: Of, job: JobId) -> bool {
        of == Of::All || self.jobs[&job].kind() == JobKind::Map
    }

    fn next_requeued(&mut self, of: Of) -> Option<Lease> {
        // There are at most as many requeued calls as there are containers.
        let (ticket, (job, span)) =
            self.requeued.iter().map(steps::each).find(|(_, (job, _))| self.is_of(of, *job))?;
        let (job, span) = (*job, *span);
        let most = self.share(job, span.len);
        let taken = Span { first: span.first, len: most };
        if most < span.len {
            let rest = self.requeued.get_mut(ticket).expect("it was just found");
            *rest = (job, Span { first: taken.end(), len: span.len - most });
        } else {
            self.requeued.remove(ticket);
            self.jobs.get_mut(&job).expect("queued inputs belong to open jobs").has_left(ticket);
        }
        Some(Lease { job, span: taken, kind: LeaseKind::First, attempt: Attempt::FIRST })
    }

    /// Inputs that died with a container without having crashed any are replayed before suspects.
    fn next_replay(&mut self, id: ContainerId, of: Of, now: Time) -> Option<Lease> {
        if let Some((_, input)) = self.replays.first()
            && self.is_of(of, input.job)
        {
            return Some(self.single(*input, LeaseKind::Replay { suspect: false }));
        }
        let input = self.suspects.next_for(self.berths[id.index()].proof, now)?;
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

    /// Whether another container could be given an input now, other than a suspect. If a map has no room or
    /// no inputs, its source informs the ledger when that changes.
    pub(crate) fn has_more(&mut self, now: Time, sources: &impl Sources) -> bool {
        let retry = self.retries.first().is_some_and(|(due, _)| *due <= now);
        let left = !(self.calls.is_empty() && self.requeued.is_empty() && self.replays.is_empty());
        left || retry || self.next_map(now, sources).is_some()
    }

    /// The suspect that may be replayed next, with the crash that its container must have outlived.
    pub(crate) fn suspect_ready(&self, now: Time) -> Option<Ready> {
        if self.goes_on() { self.suspects.ready(now) } else { None }
    }

    /// Whether a map has room for as many inputs as are worth a claim. If not, the source informs
    /// the ledger when it has.
    fn has_room(&self, job: JobId, available: u64, sources: &impl Sources) -> bool {
        let least = self.refill(job).min(available);
        self.room(job, sources) >= least || {
            sources.starve(job, least); // look again, because room may have been made in between
            self.room(job, sources) >= least
        }
    }

    /// The number of inputs of a map that may be pulled in addition to the outstanding ones.
    fn room(&self, job: JobId, sources: &impl Sources) -> u64 {
        let outstanding = self.jobs[&job].counts().pulled.saturating_sub(sources.yielded(job));
        self.window(job).saturating_sub(outstanding)
    }

    fn next_new(&mut self, now: Time, sources: &impl Sources) -> Option<Assignment> {
        let (job, ready) = self.next_map(now, sources)?;
        // Behind the other maps.
        self.step_out(job);
        self.line_up(job);
        let most = self.share(job, ready);
        self.map_in_turn(job).crumbs_at = None;
        let fresh = self.jobs.get_mut(&job).and_then(|map| map.take_fresh(most));
        Some(match fresh {
            Some(span) => {
                Assignment::Lease(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST })
            }
            None => Assignment::Pull { job, most },
        })
    }

    /// The map whose turn is next, and the number of its new inputs that are available. Maps without any lose
    /// their turn until that changes, so that a claim does not look at every open map again.
    fn next_map(&mut self, now: Time, sources: &impl Sources) -> Option<(JobId, u64)> {
        while let Some((at, job)) = self.crumbs.first().copied().filter(|(at, _)| *at <= now) {
            steps::step();
            self.crumbs.remove(&(at, job));
            self.line_up(job);
        }
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
    fn ready(&mut self, job: JobId, now: Time, sources: &impl Sources) -> u64 {
        let waiting = self.jobs[&job].fresh();
        if waiting > 0 {
            return waiting;
        }
        let mut available = sources.available(job, self.mode);
        if available == 0 {
            let Some(since) = sources.await_inputs(job, self.mode) else {
                let again = now + CRUMBS_WAIT;
                self.map_in_turn(job).crumbs_at = Some(again);
                self.crumbs.insert((again, job));
                return 0;
            };
            available = since;
        }
        let worth_a_claim = available > 0 && self.has_room(job, available, sources);
        let room = self.room(job, sources);
        let map = self.map_in_turn(job);
        if available == 0 || room == 0 {
            map.crumbs_at = None;
            return 0;
        }
        if worth_a_claim {
            map.crumbs_at = None;
        } else {
            let at = *map.crumbs_at.get_or_insert(now + CRUMBS_WAIT);
            if at > now {
                self.crumbs.insert((at, job));
                return 0;
            }
        }
        available.min(room)
    }

    fn map_in_turn(&mut self, job: JobId) -> &mut MapJob {
        self.jobs.get_mut(&job).and_then(Job::map_mut).expect("a map has its turn")
    }

    /// How much room in a map's window is worth telling of.
    pub(crate) fn refill(&self, job: JobId) -> u64 {
        let map = self.jobs.get(&job).and_then(Job::map);
        map.map_or(1, |map| refill(self.window(job), map.share.cost()))
    }

    pub(super) fn share(&mut self, job: JobId, available: u64) -> u64 {
        let containers = self.rules.containers;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.map_mut().map_or(1, |map| map.share.take(available, containers))
    }

    /// A lease of one input, which is removed from its queue.
    fn single(&mut self, input: InputId, kind: LeaseKind) -> Lease {
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

    pub(super) fn record(&self, input: InputId) -> Option<&Record> {
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

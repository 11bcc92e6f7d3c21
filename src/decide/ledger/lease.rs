//! Dispatch: which inputs a container takes next.

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::job::{Job, JobKind, MapJob, Record, Span};
use crate::decide::ledger::{Ledger, Mode, Ready, Stage};
use crate::decide::life::{Next, Served};
use crate::decide::pacing::CRUMBS_WAIT;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::decide::window::refill;
use crate::values::crash::Previous;

/// Where the inputs of jobs come from, as far as the ledger must know.
pub(crate) trait Sources {
    /// Inputs that can be had without waiting.
    fn available(&self, job: JobId, mode: Mode) -> u64;
    /// There are none: from now on the ledger hears of those that come. Returns how many came in between; `None` if it
    /// may not hear of them, and must look again by itself.
    fn await_inputs(&self, job: JobId, mode: Mode) -> Option<u64>;
    /// Inputs already yielded to the consumer.
    fn yielded(&self, job: JobId) -> u64;
    /// There is less room than that, which would be worth a claim: from now on the ledger hears of it when there is.
    fn starve(&self, job: JobId, least: u64);
}

/// Inputs assigned to one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) job: JobId,
    pub(crate) span: Span,
    pub(crate) kind: LeaseKind,
    /// The attempt at which its inputs are. Only single inputs are past their first.
    pub(crate) attempt: Attempt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// First attempts.
    First,
    /// One input, again, after its container died; a suspect if the input itself crashed it.
    Replay { suspect: bool },
    /// One input, again, after it failed; when it was due.
    Retry { due: Time },
}

/// What is dispatched to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// It has that lease now.
    Lease(Lease),
    /// Up to `most` inputs of that map are to be pulled, of which [`Ledger::pulled`] makes a lease.
    Pull { job: JobId, most: u64 },
}

/// How many leases in a row may be of calls while something of a map waits, so that an endless stream of calls leaves
/// a quarter to the maps.
const CALLS_IN_A_ROW_MAX: u32 = 3;

/// What of the jobs a lease may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Maps,
}

impl Ledger {
    /// What the container does next. In the order of the contract: calls, inputs that a dead
    /// container had not begun, replays, then due retries and new inputs of the maps in turn.
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

    /// So many inputs were pulled for a container, as its step said. `None` if there were none after all: then it claims
    /// once more.
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

    /// The container begins with its lease now. What it took to find it is no cost of the inputs.
    pub(crate) fn lent(&mut self, id: ContainerId, now: Time) {
        let berth = &mut self.berths[id.index()];
        berth.taken = now;
        berth.advanced = now;
    }

    /// The next moment at which something may be dispatched that may not be now.
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

    /// Whether a lease may be of that job.
    fn is_of(&self, of: Of, job: JobId) -> bool {
        of == Of::All || self.jobs[&job].kind() == JobKind::Map
    }

    fn next_requeued(&mut self, of: Of) -> Option<Lease> {
        // Of calls there are at most as many as there are containers.
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

    /// Innocents killed along with a container go ahead of suspects.
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

    /// Whether another container could be given something now, other than a suspect. Where it could not for lack of
    /// room or of inputs, the ledger hears of them when they are there.
    pub(crate) fn has_more(&mut self, now: Time, sources: &impl Sources) -> bool {
        let retry = self.retries.first().is_some_and(|(due, _)| *due <= now);
        let left = !(self.calls.is_empty() && self.requeued.is_empty() && self.replays.is_empty());
        left || retry || self.next_map(now, sources).is_some()
    }

    /// The suspect that may be replayed next, and by whom.
    pub(crate) fn suspect_ready(&self, now: Time) -> Option<Ready> {
        if self.goes_on() { self.suspects.ready(now) } else { None }
    }

    /// Whether a map has room for as many inputs as are worth a claim. Where it has not, the ledger hears of more.
    fn has_room(&self, job: JobId, available: u64, sources: &impl Sources) -> bool {
        let least = self.refill(job).min(available);
        self.room(job, sources) >= least || {
            sources.starve(job, least); // and then look again, for what was made in between
            self.room(job, sources) >= least
        }
    }

    /// How many more inputs of a map may be outstanding.
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

    /// The map whose turn is next, and how many new inputs can be had of it. Maps that have none lose their turn on
    /// the way, until something changes: so a claim does not look at each open map again.
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

    /// How many new inputs of a map can be had now. Little room in a wide window is not worth a claim
    /// of cheap inputs while it may still grow; after a moment it is taken all the same.
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

    /// A lease of one input, which waits no more in its queue.
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

    /// When a failed input is due again, if it waits for its retry.
    #[cfg(test)]
    pub(crate) fn retry_due(&self, job: JobId, index: u64) -> Option<Time> {
        let waits = |(_, input): &&(Time, InputId)| *input == InputId { job, index };
        self.retries.iter().find(waits).map(|(due, _)| *due)
    }

    /// Why the previous attempt of an input ended.
    pub(crate) fn previous(&self, input: InputId) -> Option<Previous> {
        self.record(input)?.previous.clone()
    }
}

//! Dispatch: which inputs a container takes next.

use std::time::Duration;

use crate::crash::Previous;
use crate::decide::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::job::{Record, Span};
use crate::decide::ledger::{Ledger, Mode, Stage};
use crate::decide::time::Time;
use crate::decide::window::refill;

/// Where the inputs of jobs come from, as far as the ledger must know.
pub(crate) trait Sources {
    /// Inputs that can be had without waiting.
    fn available(&self, job: JobId, mode: Mode) -> u64;
    /// Inputs already yielded to the consumer.
    fn yielded(&self, job: JobId) -> u64;
    /// There is too little room: from now on it is told of when there is more.
    fn starve(&self, job: JobId);
    /// Moves up to `most` inputs into a chunk whose first index is `first`; returns how many.
    fn pull(&mut self, job: JobId, first: u64, most: u64) -> u64;
}

/// What a container does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Execute that range, whose first input is at that attempt.
    Take(Lease),
    /// Nothing to do before `until`, or before being woken.
    Idle { until: Option<Time> },
    /// Nothing will come any more: exit gracefully.
    Leave,
    /// This generation is over: end without exit.
    Stale,
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

/// How far a container had come in its lease when it died or was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The input that executes or comes next.
    pub(crate) at: u64,
    /// Whether it executes.
    pub(crate) begun: bool,
}

/// How long little room may wait to become more.
const CRUMBS_WAIT: Duration = Duration::from_millis(1);

impl Ledger {
    /// What the container does next. In the order of the contract: calls, inputs that a dead
    /// container had not begun, replays, due retries, new inputs of the maps in turn.
    pub(crate) fn claim(
        &mut self,
        id: ContainerId,
        generation: Generation,
        now: Time,
        sources: &mut impl Sources,
    ) -> Claim {
        if !self.is_current(id, generation) {
            return Claim::Stale;
        }
        self.berths[id.index()].stray = None;
        assert!(self.berths[id.index()].lease.is_none(), "container {id} claims with a lease");
        let lease = match self.mode {
            Mode::Running | Mode::Draining if self.gave_up.is_none() => self.next_lease(now, sources),
            Mode::Running => return Claim::Idle { until: None },
            Mode::Draining | Mode::Stopping => return self.leave(id, now),
            Mode::Aborted => return Claim::Stale,
        };
        if let Some(lease) = lease {
            if lease.kind == (LeaseKind::Replay { suspect: true }) {
                self.suspect_on = Some(id);
            }
            let berth = &mut self.berths[id.index()];
            berth.lease = Some(lease);
            berth.taken = now;
            berth.booked = lease.span.first;
            return Claim::Take(lease);
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            return self.leave(id, now);
        }
        Claim::Idle { until: self.next_due() }
    }

    /// The next moment at which something may be dispatched that may not be now.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let retry = self.retries.first().map(|(due, _)| *due);
        let crumbs = self.turns.iter().filter_map(|job| self.jobs[job].crumbs_at);
        crumbs.chain(retry).min()
    }

    fn leave(&mut self, id: ContainerId, now: Time) -> Claim {
        self.settle(now);
        self.turn(id, Stage::Exiting);
        Claim::Leave
    }

    fn next_lease(&mut self, now: Time, sources: &mut impl Sources) -> Option<Lease> {
        if let Some(job) = self.calls.pop_front() {
            let span = self.jobs.get_mut(&job).and_then(|call| call.take_fresh(1));
            let span = span.expect("a queued call has its input");
            return Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST });
        }
        if let Some((job, span)) = self.requeued.pop_front() {
            let most = self.share(job, span.len);
            let taken = Span { first: span.first, len: most };
            if most < span.len {
                self.requeued.push_front((job, Span { first: taken.end(), len: span.len - most }));
            }
            return Some(Lease { job, span: taken, kind: LeaseKind::First, attempt: Attempt::FIRST });
        }
        if let Some(lease) = self.next_replay() {
            return Some(lease);
        }
        if self.retries.first().is_some_and(|(due, _)| *due <= now) {
            let (due, input) = self.retries.pop_first().expect("just looked at");
            return Some(self.single(input, LeaseKind::Retry { due }));
        }
        self.next_new(now, sources)
    }

    /// A suspect is replayed by at most one container of the function at a time, so that poison
    /// occupies no more than one; innocents killed along with a container go ahead of it.
    fn next_replay(&mut self) -> Option<Lease> {
        if let Some(input) = self.replays.pop_front() {
            return Some(self.single(input, LeaseKind::Replay { suspect: false }));
        }
        if self.suspect_on.is_some() {
            return None;
        }
        let input = self.suspects.pop_front()?;
        Some(self.single(input, LeaseKind::Replay { suspect: true }))
    }

    /// Whether another container could be given something now. Where it could not for lack of room, the
    /// map is told that somebody waits for it.
    pub(crate) fn has_more(&self, now: Time, sources: &impl Sources) -> bool {
        let suspect = self.suspect_on.is_none() && !self.suspects.is_empty();
        let retry = self.retries.first().is_some_and(|(due, _)| *due <= now);
        let left = !(self.calls.is_empty() && self.requeued.is_empty() && self.replays.is_empty());
        let fresh = |job: &JobId| !self.jobs[job].fresh.is_empty() || self.has_room(*job, sources);
        left || suspect || retry || self.turns.iter().any(fresh)
    }

    /// Whether a map has inputs, and room for as many as are worth a claim.
    fn has_room(&self, job: JobId, sources: &impl Sources) -> bool {
        let available = sources.available(job, self.mode);
        if available == 0 {
            return false;
        }
        let least = self.refill(job).min(available);
        self.room(job, sources) >= least || {
            sources.starve(job); // and then look again, for what was made in between
            self.room(job, sources) >= least
        }
    }

    /// How many more inputs of a map may be outstanding.
    fn room(&self, job: JobId, sources: &impl Sources) -> u64 {
        let outstanding = self.jobs[&job].counts.pulled.saturating_sub(sources.yielded(job));
        self.window(job).saturating_sub(outstanding)
    }

    fn next_new(&mut self, now: Time, sources: &mut impl Sources) -> Option<Lease> {
        for _ in 0..self.turns.len() {
            let job = self.turns.pop_front().expect("one turn for each map");
            self.turns.push_back(job);
            let waiting = self.jobs[&job].fresh.front().map_or(0, |span| span.len);
            let span = if waiting > 0 {
                waiting
            } else {
                let ready = self.ready(job, now, sources);
                if ready == 0 {
                    continue;
                }
                let most = self.share(job, ready);
                let first = self.jobs[&job].counts.pulled;
                let pulled = sources.pull(job, first, most);
                self.accept(job, pulled);
                pulled
            };
            let most = self.share(job, span);
            let map = self.jobs.get_mut(&job).expect("it has its turn");
            if let Some(span) = map.take_fresh(most) {
                return Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST });
            }
        }
        None
    }

    /// How many new inputs of a map can be had now. Little room in a wide window is not worth a claim
    /// of cheap inputs while it may still grow; after a moment it is taken all the same.
    fn ready(&mut self, job: JobId, now: Time, sources: &mut impl Sources) -> u64 {
        let worth_a_claim = self.has_room(job, sources);
        let available = sources.available(job, self.mode);
        let room = self.room(job, sources);
        let map = self.jobs.get_mut(&job).expect("it has its turn");
        let crumbs_at = map.crumbs_at.take();
        if available == 0 || room == 0 {
            return 0;
        }
        if !worth_a_claim && crumbs_at.is_none_or(|at| at > now) {
            map.crumbs_at = crumbs_at.or(Some(now + CRUMBS_WAIT));
            return 0;
        }
        available.min(room)
    }

    /// How much room in a map's window is worth telling of.
    pub(crate) fn refill(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(1, |map| refill(self.window(job), map.share.cost()))
    }

    pub(super) fn share(&mut self, job: JobId, available: u64) -> u64 {
        let containers = self.rules.containers;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.share.take(available, containers)
    }

    pub(super) fn single(&mut self, input: InputId, kind: LeaseKind) -> Lease {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        match kind {
            LeaseKind::Replay { .. } => job.counts.replayed += 1,
            LeaseKind::Retry { .. } => job.counts.retried += 1,
            LeaseKind::First => {}
        }
        let attempt = job.attempt(input.index);
        Lease { job: input.job, span: Span { first: input.index, len: 1 }, kind, attempt }
    }

    pub(super) fn record(&self, input: InputId) -> Option<&Record> {
        self.jobs.get(&input.job)?.records.get(&input.index)
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

//! Dispatch: which inputs a container takes next.

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
    /// One input, again, after it failed.
    Retry,
}

/// How far a container had come in its lease when it died or was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The input that executes or comes next.
    pub(crate) at: u64,
    /// Whether it executes.
    pub(crate) begun: bool,
}

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
        assert!(self.berths[id.index()].lease.is_none(), "container {id} claims with a lease");
        let lease = match self.mode {
            Mode::Running | Mode::Draining if self.gave_up.is_none() => self.next_lease(now, sources),
            Mode::Running => return Claim::Idle { until: None },
            Mode::Draining | Mode::Stopping => return self.leave(id),
            Mode::Aborted => return Claim::Stale,
        };
        if let Some(lease) = lease {
            let berth = &mut self.berths[id.index()];
            berth.lease = Some(lease);
            berth.taken = now;
            berth.booked = lease.span.first;
            return Claim::Take(lease);
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            return self.leave(id);
        }
        Claim::Idle { until: self.retries.first().map(|(due, _)| *due) }
    }

    fn leave(&mut self, id: ContainerId) -> Claim {
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
            let (_, input) = self.retries.pop_first().expect("just looked at");
            return Some(self.single(input, LeaseKind::Retry));
        }
        self.next_new(sources)
    }

    /// A suspect is replayed by at most one container of the function at a time, so that poison
    /// occupies no more than one; innocents killed along with a container go ahead of it.
    fn next_replay(&mut self) -> Option<Lease> {
        let suspect_runs = self.berths.iter().any(|berth| {
            matches!(berth.lease, Some(Lease { kind: LeaseKind::Replay { suspect: true }, .. }))
        });
        let suspect =
            |ledger: &Self, input: &InputId| ledger.record(*input).is_some_and(|record| record.crashes > 0);
        let at = self.replays.iter().position(|input| !suspect_runs || !suspect(self, input))?;
        let input = self.replays.remove(at).expect("just found");
        let suspect = suspect(self, &input);
        Some(self.single(input, LeaseKind::Replay { suspect }))
    }

    fn next_new(&mut self, sources: &mut impl Sources) -> Option<Lease> {
        for _ in 0..self.turns.len() {
            let job = self.turns.pop_front().expect("one turn for each map");
            self.turns.push_back(job);
            let waiting = self.jobs[&job].fresh.front().map_or(0, |span| span.len);
            let span = if waiting > 0 {
                waiting
            } else {
                let map = &self.jobs[&job];
                let outstanding = map.counts.pulled.saturating_sub(sources.yielded(job));
                let window = self.window(job);
                let room = window.saturating_sub(outstanding);
                let ready = sources.available(job, self.mode).min(room);
                if ready == 0 || room < refill(window) {
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

    pub(super) fn share(&mut self, job: JobId, available: u64) -> u64 {
        let containers = self.rules.containers;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.share.take(available, containers)
    }

    pub(super) fn single(&mut self, input: InputId, kind: LeaseKind) -> Lease {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        match kind {
            LeaseKind::Replay { .. } => job.counts.replayed += 1,
            LeaseKind::Retry => job.counts.retried += 1,
            LeaseKind::First => {}
        }
        let attempt = job.attempt(input.index);
        Lease { job: input.job, span: Span { first: input.index, len: 1 }, kind, attempt }
    }

    pub(super) fn record(&self, input: InputId) -> Option<&Record> {
        self.jobs.get(&input.job)?.records.get(&input.index)
    }

    /// Why the previous attempt of an input ended.
    pub(crate) fn previous(&self, input: InputId) -> Option<Previous> {
        self.record(input)?.previous.clone()
    }
}

//! Dispatch: which inputs a container takes next.

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::job::{JobKind, Record, Span};
use crate::decide::ledger::{Ledger, Mode, Ready, Stage};
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
        sources: &mut impl Sources,
    ) -> Claim {
        if !self.is_current(id, generation) {
            return Claim::Stale;
        }
        self.berths[id.index()].stray = None;
        assert!(self.berths[id.index()].lease.is_none(), "container {id} claims with a lease");
        let lease = match self.mode {
            Mode::Running | Mode::Draining if self.gave_up.is_none() => self.next_lease(id, now, sources),
            Mode::Running => return Claim::Idle { until: None },
            Mode::Draining | Mode::Stopping => return self.leave(id, now),
            Mode::Aborted => return Claim::Stale,
        };
        if let Some(lease) = lease {
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
            return Claim::Take(lease);
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            return self.leave(id, now);
        }
        Claim::Idle { until: self.next_due(now) }
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

    fn leave(&mut self, id: ContainerId, now: Time) -> Claim {
        self.settle(now);
        self.turn(id, Stage::Exiting);
        Claim::Leave
    }

    fn next_lease(&mut self, id: ContainerId, now: Time, sources: &mut impl Sources) -> Option<Lease> {
        let maps_first = self.calls_in_a_row >= CALLS_IN_A_ROW_MAX;
        let of_a_map = if maps_first { self.next_behind_calls(id, Of::Maps, now, sources) } else { None };
        let lease = of_a_map
            .or_else(|| self.next_call())
            .or_else(|| self.next_behind_calls(id, Of::All, now, sources))?;
        match self.jobs[&lease.job].kind {
            JobKind::Call => self.calls_in_a_row = self.calls_in_a_row.saturating_add(1),
            JobKind::Map => self.calls_in_a_row = 0,
        }
        Some(lease)
    }

    fn next_call(&mut self) -> Option<Lease> {
        let (_, job) = self.calls.first()?;
        let job = *job;
        self.step_out(job);
        let span = self.jobs.get_mut(&job).and_then(|call| call.take_fresh(1));
        let span = span.expect("a queued call has its input");
        Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST })
    }

    fn next_behind_calls(
        &mut self,
        id: ContainerId,
        of: Of,
        now: Time,
        sources: &mut impl Sources,
    ) -> Option<Lease> {
        let first = self.next_requeued(of).or_else(|| self.next_replay(id, of, now));
        if first.is_some() {
            return first;
        }
        let new = if self.new_goes_first { self.next_new(now, sources) } else { None };
        if new.is_some() {
            self.new_goes_first = false;
            return new;
        }
        if let Some(retry) = self.next_retry(of, now) {
            self.new_goes_first = true;
            return Some(retry);
        }
        self.next_new(now, sources)
    }

    /// Whether a lease may be of that job.
    fn is_of(&self, of: Of, job: JobId) -> bool {
        of == Of::All || self.jobs[&job].kind == JobKind::Map
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
            self.jobs.get_mut(&job).expect("queued inputs belong to open jobs").requeued.remove(&ticket);
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
        let outstanding = self.jobs[&job].counts.pulled.saturating_sub(sources.yielded(job));
        self.window(job).saturating_sub(outstanding)
    }

    fn next_new(&mut self, now: Time, sources: &mut impl Sources) -> Option<Lease> {
        while let Some((job, ready)) = self.next_map(now, sources) {
            // Behind the other maps.
            self.step_out(job);
            self.line_up(job);
            let most = self.share(job, ready);
            if self.jobs[&job].fresh.is_empty() {
                let first = self.jobs[&job].counts.pulled;
                let pulled = sources.pull(job, first, most);
                self.accept(job, pulled);
            }
            let map = self.jobs.get_mut(&job).expect("it has its turn");
            map.crumbs_at = None;
            if let Some(span) = map.take_fresh(most) {
                return Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST });
            }
        }
        None
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
        let waiting = self.jobs[&job].fresh.front().map_or(0, |span| span.len);
        if waiting > 0 {
            return waiting;
        }
        let mut available = sources.available(job, self.mode);
        if available == 0 {
            let Some(since) = sources.await_inputs(job, self.mode) else {
                let map = self.jobs.get_mut(&job).expect("it has its turn");
                let again = now + CRUMBS_WAIT;
                map.crumbs_at = Some(again);
                self.crumbs.insert((again, job));
                return 0;
            };
            available = since;
        }
        let worth_a_claim = available > 0 && self.has_room(job, available, sources);
        let room = self.room(job, sources);
        let map = self.jobs.get_mut(&job).expect("it has its turn");
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

    /// How much room in a map's window is worth telling of.
    pub(crate) fn refill(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(1, |map| refill(self.window(job), map.share.cost()))
    }

    pub(super) fn share(&mut self, job: JobId, available: u64) -> u64 {
        let containers = self.rules.containers;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.share.take(available, containers)
    }

    /// A lease of one input, which waits no more in its queue.
    fn single(&mut self, input: InputId, kind: LeaseKind) -> Lease {
        self.leave_queue(input);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::ContainerId;
    use crate::decide::ledger::Worth;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, at};
    use crate::decide::restart::RateLimited;
    use crate::decide::retries::Retries;

    fn rig(containers: usize) -> Rig {
        let retries = Retries::new(1).initial_delay(Duration::ZERO);
        let mut rig = Rig::with(containers, RateLimited::never(), retries, 3);
        for id in rig.ledger.containers() {
            rig.enters(id, START);
        }
        rig
    }

    /// What the first container takes from then on, one after the other, each for a millisecond.
    fn taken(rig: &mut Rig, mut now: Time) -> Vec<(JobId, u64, LeaseKind)> {
        let mut taken = Vec::new();
        while let Claim::Take(lease) = rig.claims(FIRST, now) {
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
        rig.ledger.failed(ContainerId(2), Worth::Retry, START);
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
    fn retries_that_are_due_and_new_inputs_take_turns() {
        let mut rig = rig(3);
        let failing = rig.map(10, 3);
        for id in rig.ledger.containers() {
            rig.takes(id, START);
        }
        for id in rig.ledger.containers() {
            rig.ledger.failed(id, Worth::Retry, START);
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
            Claim::Idle { until: None },
            "it hears of room when there is some"
        );
        rig.ledger.look_again(map);
        assert!(rig.ledger.has_more(START, &rig.sources));
        assert_eq!(taken(&mut rig, START).len(), 2);
        assert!(!rig.ledger.has_more(START, &rig.sources));
    }

    #[test]
    fn little_room_is_taken_after_a_millisecond_and_more_of_it_at_once() {
        for (room, at_once) in [(61, false), (62, true)] {
            let mut rig = rig(1);
            let map = rig.map(1_000, 5_000);
            // Inputs of 100 ns, of which a sixteenth of the window is worth a claim.
            let mut now = START;
            loop {
                match rig.claims(FIRST, now) {
                    Claim::Take(lease) => {
                        now = now + Duration::from_nanos(100 * lease.span.len);
                        rig.completes(FIRST, now);
                    }
                    Claim::Idle { until: Some(later) } => now = later,
                    _ => break,
                }
            }
            assert_eq!(rig.ledger.job(map).map(|job| job.counts.ok), Some(1_000));
            rig.sources.yielded.insert(map, room);
            rig.ledger.look_again(map);
            let later = now + CRUMBS_WAIT;
            let claimed = rig.claims(FIRST, now);
            if !at_once {
                assert_eq!(claimed, Claim::Idle { until: Some(later) });
                assert_eq!(rig.ledger.next_due(now), Some(later));
                let early = Time(later.0 - Duration::from_nanos(1));
                assert!(matches!(rig.claims(FIRST, early), Claim::Idle { .. }));
            }
            let lease = if let Claim::Take(lease) = claimed { lease } else { rig.takes(FIRST, later) };
            assert_eq!(lease.span.len, room);
        }
    }

    #[test]
    fn a_container_without_work_waits_or_leaves_or_ends_as_its_function_does() {
        for (mode, pending, claim) in [
            (Mode::Running, false, Claim::Idle { until: None }),
            (Mode::Draining, true, Claim::Idle { until: None }),
            (Mode::Draining, false, Claim::Leave),
            (Mode::Stopping, true, Claim::Leave),
            (Mode::Aborted, true, Claim::Stale),
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
        assert_eq!(rig.claims(FIRST, START), Claim::Idle { until: None });
        let (generation, _) = rig.ledger.stage(SECOND);
        assert_eq!(rig.ledger.claim(SECOND, generation, START, &mut rig.sources), Claim::Stale);
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
            Claim::Idle { until: Some(at(10_000)) },
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
        rig.ledger.lent(FIRST, at(5));
        assert_eq!(rig.ledger.executing_now().next(), Some((FIRST, 0, at(5))));
        rig.completes(FIRST, at(7));
        let cost = rig.ledger.job(map).and_then(|job| job.share.cost());
        assert_eq!(cost, Some(Duration::from_millis(2)));
    }

    #[test]
    fn what_a_call_left_behind_is_of_a_call_too_and_leaves_maps_their_quarter() {
        for left in ["not begun", "killed", "crashed", "failed"] {
            let mut rig = rig(2);
            let first = rig.call();
            rig.takes(SECOND, START);
            match left {
                "not begun" => rig.ledger.released(SECOND, at(1)),
                "killed" => _ = rig.kills(SECOND, UNCROWDED, at(1)),
                "crashed" => _ = rig.crashes(SECOND, at(1)),
                _ => {
                    rig.ledger.failed(SECOND, Worth::Retry, START);
                    rig.ledger.released(SECOND, at(1));
                }
            }
            let calls: Vec<JobId> = (0..4).map(|_| rig.call()).collect();
            let map = rig.map(10, 1);
            let jobs: Vec<JobId> = taken(&mut rig, at(1)).into_iter().map(|(job, ..)| job).collect();
            assert_eq!(jobs, [calls[0], calls[1], map, calls[2], calls[3], first], "{left}");
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
        rig.ledger.failed(SECOND, Worth::Retry, at(5));
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
        assert_eq!(rig.claims(FIRST, at(999)), Claim::Idle { until: Some(at(1_000)) });
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
        assert_eq!(rig.claims(FIRST, START), Claim::Idle { until: Some(at(1)) });
        rig.sources.inputs.insert(map, 1);
        assert!(matches!(rig.claims(FIRST, START), Claim::Idle { .. }), "it is not looked at each time");
        assert_eq!(rig.takes(FIRST, at(1)).job, map);
    }

    #[test]
    fn room_is_asked_for_only_where_there_is_too_little() {
        let mut rig = rig(1);
        rig.map(2, 5);
        rig.takes(FIRST, START);
        rig.completes(FIRST, at(1));
        assert_eq!(rig.sources.starved.get(), 0);
        rig.takes(FIRST, at(1));
        rig.completes(FIRST, at(2));
        rig.claims(FIRST, at(2));
        assert_eq!(rig.sources.starved.get(), 1, "the window is full");
    }

    #[test]
    fn only_a_lease_of_several_inputs_is_ahead_of_its_container() {
        let mut rig = rig(2);
        rig.map(100, 50);
        rig.takes(FIRST, START);
        assert_eq!(rig.ledger.ahead().count(), 0);
        rig.completes(FIRST, Time(Duration::from_nanos(100)));
        assert!(rig.takes(FIRST, START).span.len > 1);
        assert!(rig.ledger.ahead().eq([FIRST]));
        rig.ledger.released(FIRST, START);
        assert_eq!(rig.ledger.ahead().count(), 0);
    }
}

//! The order of dispatch, which decides the next input.
//!
//! It is the order in the contract: calls, inputs that a dead container had not begun, replays, and
//! then due retries and new inputs of the maps in turn. Calls leave a share of the leases to what comes
//! behind them. [`new_inputs`](super::new_inputs) decides which new inputs there are, and
//! [`alone`](super::alone) decides which inputs execute alone.

use crate::base::ids::{Attempt, ContainerId, JobId};
use crate::decide::job::{JobKind, Span};
use crate::decide::ledger::{Assignment, Lease, LeaseKind, Ledger, Sources};
use crate::decide::time::Time;

/// How many leases in a row may be of calls while an input of a map waits. Also how many may be of fresh
/// calls while an input waits to be executed again. So an endless stream of calls leaves a quarter of the
/// leases to each.
const CALLS_IN_A_ROW_MAX: u32 = 3;

/// The kinds of job that a lease may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    All,
    Maps,
}

impl Ledger {
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

    fn next_retry(&mut self, of: Of, now: Time) -> Option<Lease> {
        let (due, input) = *self.retries.first().filter(|(due, _)| *due <= now)?;
        if !self.is_of(of, input.job) {
            return None;
        }
        Some(self.single(input, LeaseKind::Retry { due }))
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::Retryable;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, at, live, taken};

    const INNOCENT: LeaseKind = LeaseKind::Replay { suspect: false };
    const SUSPECT: LeaseKind = LeaseKind::Replay { suspect: true };
    const RETRY: LeaseKind = LeaseKind::Retry { due: START };

    #[test]
    fn calls_go_first_and_then_what_a_dead_container_had_not_begun_and_replays_and_retries_and_new_inputs() {
        let mut rig = live(4);
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
        let mut rig = live(1);
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
        let mut rig = live(4);
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
        let mut rig = live(3);
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
    fn what_a_call_left_behind_has_a_turn_among_the_calls_and_leaves_maps_their_quarter() {
        for left in ["not begun", "killed", "crashed", "failed"] {
            let mut rig = live(2);
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
            let mut rig = live(2);
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
            let mut rig = live(2);
            leave(&mut rig);
            match left {
                "not begun" => rig.ledger.released(SECOND, START),
                "killed" => _ = rig.kills(SECOND, UNCROWDED, START),
                _ => _ = rig.crashes(SECOND, START),
            }
            assert_eq!(rig.ledger.has_more(at(1), &rig.sources), is_more, "{left}");
        }
        let mut rig = live(2);
        leave(&mut rig);
        rig.ledger.failed(SECOND, Retryable::Yes, at(5));
        rig.ledger.released(SECOND, at(5));
        assert!(!rig.ledger.has_more(at(4), &rig.sources), "the retry is not due");
        assert!(rig.ledger.has_more(at(5), &rig.sources));
    }
}

//! Inputs that execute alone in their container, with nothing beside them. How a container becomes
//! empty for such an input is decided here as well.
//!
//! The replay of a suspect is here too, because it depends on the function whether a suspect executes
//! alone. [`suspects`](super::suspects) decides when a suspect may be replayed.

use crate::base::ids::{ContainerId, InputId};
use crate::decide::ledger::order::Of;
use crate::decide::ledger::{Lease, LeaseKind, Ledger, Ready};
use crate::decide::life::Next;
use crate::decide::time::Time;

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

impl Ledger {
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

    pub(super) fn next_suspect(&mut self, id: ContainerId, of: Of, now: Time) -> Option<Lease> {
        let input = self.suspects.next_for(self.containers[id.index()].proof, now)?;
        if !self.is_of(of, input.job) {
            return None;
        }
        Some(self.single(input, LeaseKind::Replay { suspect: true }))
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
    pub(super) fn hold<W>(&mut self, id: ContainerId, now: Time) -> Option<Next<W>> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::Mode;
    use crate::decide::ledger::fixture::{FIRST, SECOND, START, at, live};

    const SUSPECT: LeaseKind = LeaseKind::Replay { suspect: true };

    #[test]
    fn a_suspect_may_be_replayed_only_while_the_function_goes_on() {
        let mut rig = live(2);
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
    fn a_suspect_that_executes_holds_up_the_next_one() {
        let mut rig = live(4);
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
}

//! Leases: the inputs that are assigned to a container.
//!
//! A lane claims a lease, begins it, and gives it back. [`order`](super::order) decides which inputs
//! are next.

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId, LaneId};
use crate::decide::job::{InputRecord, Span};
use crate::decide::ledger::{ContainerStage, Ledger, Mode, Sources};
use crate::decide::life::{Next, Served};
use crate::decide::time::Time;
use crate::values::crash::Previous;

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
    use crate::decide::job::Job;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, live};
    use crate::decide::restart::RateLimited;

    #[test]
    fn a_container_without_work_waits_or_leaves_or_ends_as_its_function_does() {
        for (mode, pending, claim) in [
            (Mode::Running, false, Next::Wait { until: None }),
            (Mode::Draining, true, Next::Wait { until: None }),
            (Mode::Draining, false, Next::Over(Served::Leaves)),
            (Mode::Stopping, true, Next::Over(Served::Leaves)),
            (Mode::Aborted, true, Next::Over(Served::Stale)),
        ] {
            let mut rig = live(2);
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
    fn what_an_input_costs_is_counted_from_the_moment_at_which_its_container_begins_with_it() {
        let mut rig = live(1);
        let map = rig.map(10, 2);
        rig.takes(FIRST, at(1));
        rig.ledger.lent(FIRST.into(), at(5));
        assert_eq!(rig.ledger.executing_now().next(), Some((FIRST, 0, at(5))));
        rig.completes(FIRST, at(7));
        let cost = rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost());
        assert_eq!(cost, Some(Duration::from_millis(2)));
    }

    #[test]
    fn only_a_lease_of_several_inputs_is_ahead_of_its_container() {
        let mut rig = live(2);
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

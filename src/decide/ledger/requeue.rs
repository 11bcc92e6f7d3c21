//! The way back into the queues: how a lease ends or is cut short, where its inputs wait to be executed
//! again, and how an input leaves the queue in which it waits.
//!
//! | input | queue |
//! |---|---|
//! | not begun, of a first lease | `requeued` |
//! | not begun, of a replay or a retry | the queue from which it came |
//! | was executing, and has crashed a container | `suspects` |
//! | was executing, and is innocent | `replays`; `alone` if it must execute alone; `halves` if it is of a batch |
//! | has failed | `retries` |

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::ids::{InputId, LaneId};
use crate::decide::claim_sizer::ClaimSizer;
use crate::decide::job::{InputRecord, Job, Span, Waits};
use crate::decide::ledger::{Lease, LeaseKind, Ledger, Position};
use crate::decide::time::Time;
use crate::values::crash::Previous;

/// Whether the first input of a returned lease has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HadBegun {
    Nothing,
    First,
}

/// Where in its queue an input begins to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueEnd {
    Front,
    Back,
}

impl Ledger {
    /// Ends the lease and requeues the rest of it, which has not begun. `returned` is the moment at which the
    /// thread came back from the inputs.
    pub(crate) fn released(&mut self, id: impl Into<LaneId>, returned: Time) {
        self.release(id.into(), HadBegun::Nothing, 0, returned);
    }

    /// Takes the lease back because its job is about to end. An input that executes at
    /// `position` goes on as an orphan.
    pub(crate) fn recalled(&mut self, id: LaneId, position: Option<Position>, now: Time) {
        let executing = self.executing(id, position);
        let together = self.executing_span(id, position).map_or(0, |(_, span)| span.len);
        if let Some(input) = executing {
            let orphan = self.orphan_of(input, together);
            self.set_orphan(id, Some(orphan));
        }
        let begun = if executing.is_some() { HadBegun::First } else { HadBegun::Nothing };
        self.release(id, begun, together, now);
    }

    /// `executing` is the number of inputs that had begun and have not ended.
    fn release(&mut self, id: LaneId, begun: HadBegun, executing: u64, returned: Time) {
        let container = &mut self.containers[id.container.index()];
        let Some(lane) = container.lanes.get_mut(id.index()) else { return };
        let Some(lease) = lane.lease.take() else { return };
        let done = lane.committed - lease.span.first;
        let rest = Span { first: lane.committed, len: lease.span.end() - lane.committed };
        let took = returned.since(lane.taken);
        container.leases -= 1;
        container.alone = false; // a lane that executes alone has the only lease
        let done = done + executing; // the inputs that execute have taken their part of the time
        self.leases.ends(lease.job, id);
        self.ahead.ends(lease.job, id);
        self.suspects.end(id);
        self.ends_under_timeout(id);
        let took = self.share_of_batch(id, lease.span.len, done, took);
        match self.jobs.get_mut(&lease.job) {
            Some(Job::Map(map)) => {
                map.sizer.measured(done, took);
                self.usual_cost = map.sizer.cost();
            }
            Some(Job::Call(_)) => {
                let mut share = ClaimSizer::like(self.usual_cost);
                share.measured(done, took);
                self.usual_cost = share.cost();
            }
            None => {}
        }
        self.requeue(lease, rest, begun);
    }

    /// Shortens the lease so that it ends before `end`, and requeues the rest. `cost` is a lower bound of the
    /// cost of an input, if inputs are more expensive than was assumed.
    pub(crate) fn truncated(&mut self, id: LaneId, end: u64, cost: Option<Duration>) {
        let Some(lease) = self.lease(id) else { return };
        if let (Some(cost), Some(map)) = (cost, self.jobs.get_mut(&lease.job).and_then(Job::map_mut)) {
            map.sizer.costs_at_least(cost);
        }
        let lease = self.lane_mut(id).lease.as_mut().expect("the lane has a lease");
        let cut = Span { first: end, len: lease.span.end() - end };
        lease.span.len = end - lease.span.first;
        let lease = *lease;
        self.unfills(id.container, cut.len);
        self.requeue(lease, cut, HadBegun::Nothing);
    }

    /// Ends the lease of a lane that has died. The executing input was already decided on, and the rest is
    /// requeued.
    pub(super) fn give_back(&mut self, id: LaneId, position: Position, now: Time) {
        if let Some((_, span)) = self.executing_span(id, Some(position)) {
            self.lane_mut(id).committed = span.end();
        }
        self.released(id, now);
    }

    /// Requeues inputs that had not begun in the queue from which they came. Their replays and
    /// retries are not counted.
    pub(super) fn requeue(&mut self, lease: Lease, span: Span, begun: HadBegun) {
        if span.len == 0 {
            return;
        }
        let input = InputId { job: lease.job, index: span.first };
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let not_begun = begun == HadBegun::Nothing;
        match lease.kind {
            LeaseKind::First => {
                job.waits_at(self.requeued.push(job.kind(), (lease.job, span)));
                self.joins_batch(lease.job, span.len);
            }
            LeaseKind::Replay { .. } => {
                if not_begun {
                    job.has_not_replayed();
                }
                self.await_replay(input, QueueEnd::Front);
            }
            LeaseKind::Retry { due } => {
                if not_begun {
                    job.has_not_retried();
                }
                let record = job.record_mut(input.index).expect("it was executed before");
                record.waits = Some(Waits::Retry(due));
                if record.abandoned > 0 && matches!(record.previous, Some(Previous::TimedOut)) {
                    self.left_a_thread.insert(input);
                }
                self.queue_retry(due, input);
            }
        }
    }

    /// Puts an input into the queue of its replays.
    pub(super) fn await_replay(&mut self, input: InputId, place: QueueEnd) {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        let record = job.record_mut(input.index).expect("it was executed before");
        record.waits = Some(match record.crashed {
            Some((crash, at)) => {
                self.suspects.wait(input, crash, at);
                Waits::Suspect(crash)
            }
            None if record.freed > 0 && self.rules.batch.is_some() => {
                Waits::Half(self.halves.push_back(BTreeSet::from([input])))
            }
            None if record.alone => Waits::Alone(self.alone.push_back(input)),
            None if place == QueueEnd::Front => Waits::Replay(self.replays.push_front(input)),
            None => Waits::Replay(self.replays.push_back(input)),
        });
        let may_join = matches!(record.waits, Some(Waits::Replay(_)));
        if record.abandoned > 0 {
            self.left_a_thread.insert(input);
        }
        if may_join {
            self.joins_batch(input.job, 1);
        }
    }

    /// Removes an input from the queue in which it waits after an execution.
    pub(super) fn leave_queue(&mut self, input: InputId) {
        let Some(record) = self.jobs.get_mut(&input.job).and_then(|job| job.record_mut(input.index)) else {
            return;
        };
        if record.abandoned > 0 {
            self.left_a_thread.remove(&input);
        }
        match record.waits.take() {
            Some(Waits::Replay(ticket)) => {
                self.replays.remove(ticket);
                self.leaves_batch(input.job, 1);
            }
            Some(Waits::Alone(ticket)) => {
                self.alone.remove(ticket);
                self.unhold();
            }
            Some(Waits::Half(ticket)) => self.leave_half(ticket, input),
            Some(Waits::Suspect(crash)) => {
                self.suspects.remove(crash);
                self.unhold();
            }
            Some(Waits::Retry(due)) => self.leave_retries(due, input),
            Some(Waits::Leaving) | None => {}
        }
    }

    /// A container that was to become empty claims again, because the input may not wait for it any more.
    pub(super) fn unhold(&mut self) {
        if let Some(id) = self.clearing.take() {
            self.unheld = Some(id);
        }
    }

    /// The record of an input of an open job.
    pub(super) fn record_of(&mut self, input: InputId) -> &mut InputRecord {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        job.record_mut(input.index).expect("it was executed before")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{FIRST, MS, Rig, SECOND, START, UNCROWDED, at, leased_ahead};
    use crate::decide::life::Next;
    use crate::decide::restart::RateLimited;
    use crate::decide::retries::Retries;

    #[test]
    fn a_cut_off_part_of_a_lease_goes_to_the_next_container_and_the_rest_is_what_it_was() {
        let (mut rig, job) = leased_ahead(100, 10);
        let end = 5;
        rig.ledger.truncated(FIRST.into(), end, Some(5 * MS));
        assert_eq!(rig.ledger.lease(FIRST).map(|lease| lease.span.end()), Some(end));
        assert_eq!(rig.ledger.job(job).and_then(Job::map).and_then(|map| map.sizer.cost()), Some(5 * MS));
        assert_eq!(rig.takes(SECOND, START).span, Span { first: end, len: 1 }, "dear ones travel singly");
        rig.completes(SECOND, at(5));
        assert_eq!(rig.takes(SECOND, at(5)).span, Span { first: end + 1, len: 1 });
        rig.completes(SECOND, at(10));
        assert_eq!(rig.takes(SECOND, at(10)).span, Span { first: end + 2, len: 1 }, "a new one");
    }

    #[test]
    fn of_a_lease_that_is_given_back_only_what_had_not_begun_waits_again() {
        let (mut rig, _) = leased_ahead(7, 7);
        assert_eq!(
            rig.ledger.advanced(FIRST, 5, START).map(|(_, span)| span),
            Some(Span { first: 3, len: 2 })
        );
        assert!(rig.ledger.advanced(FIRST, 5, START).is_none(), "that is committed already");
        rig.ledger.released(FIRST, START);
        assert_eq!(rig.takes(SECOND, START).span, Span { first: 5, len: 2 });
        assert_eq!(rig.claims(FIRST, START), Next::Wait { until: None });
    }

    #[test]
    fn a_replay_that_had_not_begun_is_no_replay_and_is_the_next_again() {
        let mut rig = Rig::with(2, RateLimited::never(), Retries::new(0), 3);
        let calls = [rig.call(), rig.call()];
        for id in [FIRST, SECOND] {
            rig.enters(id, START);
            rig.takes(id, START);
        }
        for id in [FIRST, SECOND] {
            rig.kills(id, UNCROWDED, START);
        }
        rig.enters(FIRST, START);
        for _ in 0..2 {
            assert_eq!(rig.takes(FIRST, START).job, calls[0]);
            assert_eq!(rig.ledger.job(calls[0]).map(|job| job.counts().replayed), Some(1));
            rig.ledger.released(FIRST, START);
            assert_eq!(rig.ledger.job(calls[0]).map(|job| job.counts().replayed), Some(0));
        }
        // A call that was executing when its container died is replayed after the calls that were waiting
        // already.
        rig.takes(FIRST, START);
        rig.kills(FIRST, UNCROWDED, START);
        rig.enters(FIRST, START);
        assert_eq!(rig.takes(FIRST, START).job, calls[1]);
    }

    #[test]
    fn an_input_costs_what_its_lease_took_divided_by_those_that_were_done() {
        let mut rig = Rig::new(1, RateLimited::new());
        let map = rig.map(100, 10);
        rig.enters(FIRST, START);
        for _ in 0..2 {
            rig.takes(FIRST, START);
            rig.completes(FIRST, Time(Duration::from_nanos(100)));
        }
        assert_eq!(rig.takes(FIRST, START).span, Span { first: 3, len: 4 });
        rig.completes(FIRST, at(4));
        assert_eq!(rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost()), Some(MS));
    }

    #[test]
    fn an_input_that_executes_at_the_end_of_its_job_bears_its_part_of_the_cost() {
        let mut rig = Rig::new(1, RateLimited::never());
        rig.enters(FIRST, START);
        let map = rig.map(10, 4);
        rig.takes(FIRST, START);
        let soon = Time(Duration::from_micros(10));
        rig.completes(FIRST, soon);
        let lease = rig.takes(FIRST, soon);
        assert_eq!(lease.span.len, 2, "the next claim is twice as large");
        rig.ledger.advanced(FIRST, lease.span.first + 1, soon);
        let executing = Position { at: lease.span.first + 1, begun: true };
        rig.ledger.recalled(FIRST.into(), Some(executing), soon + 20 * MS);
        let cost = rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost());
        assert_eq!(cost, Some(10 * MS), "20 ms for two inputs");
    }
}

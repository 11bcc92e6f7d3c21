//! New inputs of the maps. This file decides the map that has its turn, how many of its inputs are
//! ready, and how many of them a container takes.

use crate::base::ids::{Attempt, ContainerId, JobId};
use crate::decide::job::{Job, MapJob};
use crate::decide::ledger::{Assignment, Lease, LeaseKind, Ledger, Mode};
use crate::decide::pacing::ROOM_WAIT;
use crate::decide::steps;
use crate::decide::time::Time;

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

/// How many inputs are pulled together at least, if they are there, where a container has many in flight. A
/// pull makes a chunk, which costs as much as several claims.
const PULLED_TOGETHER: u64 = 64;

impl Ledger {
    pub(super) fn next_new(
        &mut self,
        id: ContainerId,
        now: Time,
        sources: &impl Sources,
    ) -> Option<Assignment> {
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

    /// The map whose turn is next, and the number of its new inputs that are available. Maps without any lose
    /// their turn until that changes, so that a claim does not look at every open map again.
    pub(super) fn next_map(&mut self, now: Time, sources: &impl Sources) -> Option<(JobId, u64)> {
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

    /// The number of inputs of `job` that a container leases at once, if `available` are available.
    pub(super) fn claim_size(&mut self, id: ContainerId, job: JobId, available: u64) -> u64 {
        if let Some(share) = self.batch_share(id, job, available) {
            return share;
        }
        let lanes = self.rules.containers * self.rules.lanes as usize;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.map_mut().map_or(1, |map| map.sizer.take(available, lanes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{FIRST, START, at, live, taken};
    use crate::decide::life::Next;

    #[test]
    fn maps_take_turns() {
        let mut rig = live(1);
        let (one, other) = (rig.map(10, 3), rig.map(10, 2));
        let jobs: Vec<JobId> = taken(&mut rig, START).into_iter().map(|(job, ..)| job).collect();
        assert_eq!(jobs, [one, other, one, other, one]);
    }

    #[test]
    fn inputs_that_were_pulled_already_need_no_source() {
        let mut rig = live(1);
        let map = rig.map(10, 0);
        rig.ledger.accept(map, 2);
        assert_eq!(taken(&mut rig, START), [(map, 0, LeaseKind::First), (map, 1, LeaseKind::First)]);
    }

    #[test]
    fn a_source_that_says_nothing_is_looked_at_again_after_a_millisecond() {
        let mut rig = live(1);
        let map = rig.map(10, 0);
        rig.sources.silent = true;
        assert_eq!(rig.claims(FIRST, START), Next::Wait { until: Some(at(1)) });
        rig.sources.inputs.insert(map, 1);
        assert!(matches!(rig.claims(FIRST, START), Next::Wait { .. }), "it is not looked at each time");
        assert_eq!(rig.takes(FIRST, at(1)).job, map);
    }
}

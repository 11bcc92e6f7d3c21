//! The room in the windows of maps: the number of inputs that may still be pulled, and how much room is
//! worth a claim.
//!
//! A small amount of room is left to grow for a moment. Its map has no turn until the moment is over.

use crate::base::ids::JobId;
use crate::decide::job::Job;
use crate::decide::ledger::{Ledger, Sources};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::decide::window::room_min;

impl Ledger {
    /// Whether a map has room for as many inputs as are worth a claim. If not, the source informs
    /// the ledger when it has.
    pub(super) fn has_room(&self, job: JobId, available: u64, sources: &impl Sources) -> bool {
        let least = self.room_min(job).min(available);
        self.room(job, sources) >= least || {
            sources.request_room(job, least); // look again, because room may have been made in between
            self.room(job, sources) >= least
        }
    }

    /// The number of inputs of a map that may be pulled in addition to the outstanding ones.
    pub(super) fn room(&self, job: JobId, sources: &impl Sources) -> u64 {
        let outstanding = self.jobs[&job].counts().pulled.saturating_sub(sources.yielded(job));
        self.window(job).saturating_sub(outstanding)
    }

    /// The least free room in a map's window that is worth a notification of the threads that wait for room.
    pub(crate) fn room_min(&self, job: JobId) -> u64 {
        let map = self.jobs.get(&job).and_then(Job::map);
        map.map_or(1, |map| room_min(self.window(job), map.sizer.cost()))
    }

    /// Maps whose little room has had its time to grow get their turns again.
    pub(super) fn line_up_little_room(&mut self, now: Time) {
        while let Some((at, job)) = self.little_room.first().copied().filter(|(at, _)| *at <= now) {
            steps::step();
            self.little_room.remove(&(at, job));
            self.line_up(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decide::job::OnFailure;
    use crate::decide::ledger::fixture::{FIRST, Rig, START, at, live, taken};
    use crate::decide::life::Next;
    use crate::decide::pacing::ROOM_WAIT;
    use crate::decide::window::Window;

    #[test]
    fn a_window_holds_what_was_pulled_and_is_not_yet_yielded() {
        let mut rig = live(1);
        let map = rig.map(3, 10);
        assert_eq!(taken(&mut rig, START).len(), 3);
        rig.sources.yielded.insert(map, 2);
        assert_eq!(
            rig.claims(FIRST, START),
            Next::Wait { until: None },
            "it hears of room when there is some"
        );
        rig.ledger.requeue_map(map);
        assert!(rig.ledger.has_more(START, &rig.sources));
        assert_eq!(taken(&mut rig, START).len(), 2);
        assert!(!rig.ledger.has_more(START, &rig.sources));
    }

    #[test]
    fn little_room_is_taken_after_a_millisecond_and_more_of_it_at_once() {
        for (room, at_once) in [(61, false), (62, true)] {
            let mut rig = live(1);
            let map = rig.map(1_000, 5_000);
            // The inputs take 100 ns each. A sixteenth of the window is worth a claim.
            let mut now = START;
            loop {
                match rig.claims(FIRST, now) {
                    Next::Work(lease) => {
                        now = now + Duration::from_nanos(100 * lease.span.len);
                        rig.completes(FIRST, now);
                    }
                    Next::Wait { until: Some(later) } => now = later,
                    _ => break,
                }
            }
            assert_eq!(rig.ledger.job(map).map(|job| job.counts().ok), Some(1_000));
            rig.sources.yielded.insert(map, room);
            rig.ledger.requeue_map(map);
            let later = now + ROOM_WAIT;
            let claimed = rig.claims(FIRST, now);
            if !at_once {
                assert_eq!(claimed, Next::Wait { until: Some(later) });
                assert_eq!(rig.ledger.next_due(now), Some(later));
                let early = Time(later.0 - Duration::from_nanos(1));
                assert!(matches!(rig.claims(FIRST, early), Next::Wait { .. }));
            }
            let lease = if let Next::Work(lease) = claimed { lease } else { rig.takes(FIRST, later) };
            assert_eq!(lease.span.len, room);
        }
    }

    #[test]
    fn one_slow_claim_leaves_the_window_of_cheap_inputs_wide() {
        let mut rig = live(1);
        let map = rig.ledger.open(OnFailure::GoOn, Window::adaptive(24, 2), None);
        rig.sources.inputs.insert(map, 200_000);
        let mut now = START;
        let mut claim = |rig: &mut Rig, nanos| {
            let lease = rig.takes(FIRST, now);
            now = now + Duration::from_nanos(nanos * lease.span.len);
            rig.completes(FIRST, now);
            rig.sources.yielded.insert(map, lease.span.end());
            lease.span.len
        };
        for _ in 0..20 {
            claim(&mut rig, 20);
        }
        assert_eq!((rig.ledger.window(map), rig.ledger.room_min(map)), (65_536, 4_096));
        assert!(claim(&mut rig, 20_000) > 1_000, "a claim during which the thread was suspended");
        assert_eq!((rig.ledger.window(map), rig.ledger.room_min(map)), (65_536, 5));
        assert_eq!(claim(&mut rig, 20), 25, "claims are small until inputs turn out to be cheap");
        // If inputs go on being expensive, the window follows.
        for _ in 0..20 {
            claim(&mut rig, 20_000);
        }
        assert_eq!((rig.ledger.window(map), rig.ledger.room_min(map)), (1_000, 5));
    }

    #[test]
    fn room_is_asked_for_only_where_there_is_too_little() {
        let mut rig = live(1);
        rig.map(2, 5);
        rig.takes(FIRST, START);
        rig.completes(FIRST, at(1));
        assert_eq!(rig.sources.room_wanted.get(), 0);
        rig.takes(FIRST, at(1));
        rig.completes(FIRST, at(2));
        rig.claims(FIRST, at(2));
        assert_eq!(rig.sources.room_wanted.get(), 1, "the window is full");
    }
}

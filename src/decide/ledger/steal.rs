//! Splitting: an idle container takes over a part of another container's lease that has not begun.

use std::time::Duration;

use crate::base::ids::LaneId;
use crate::decide::job::Job;
use crate::decide::ledger::lane::Lane;
use crate::decide::ledger::{LeaseKind, Ledger};
use crate::decide::pacing::{CLAIM_WORK, STEAL_MIN};
use crate::decide::time::Time;

/// The time after which an idle container looks again for a lease to split. The contract lets an input wait
/// this long beside an idle container, and each look takes time from a working one.
const AGAIN: Duration = Duration::from_millis(1);

/// The work that an idle container finds in the leases of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steal {
    /// The lease of `from` is worth stealing from before input `index`. `cost` is a lower bound of the cost
    /// of one of its inputs, if one input alone is worth a claim.
    Before { from: LaneId, index: u64, cost: Option<Duration> },
    /// A lease may be worth splitting at this moment if it has not advanced, because its inputs are then more
    /// expensive than was assumed.
    NotBefore(Time),
    /// No container has leased inputs that have not begun.
    Nothing,
}

impl Ledger {
    /// The lease that is best to split, judged by the cost of its inputs so far. The caller has committed
    /// all completed inputs.
    pub(crate) fn steal(&self, now: Time) -> Steal {
        if !self.dispatches() {
            return Steal::Nothing;
        }
        let unbegun = self.ahead().filter_map(|id| Some((id, self.unbegun(self.lane(id)?, now)?)));
        let Some((id, unbegun)) = unbegun.max_by_key(|(_, unbegun)| unbegun.work) else {
            return Steal::Nothing;
        };
        let size = self.batch_size();
        if unbegun.here.mul_f64(size as f64) >= CLAIM_WORK {
            // Each of the inputs, or of the batches, may cost as much, so none of them should wait for
            // another while containers are idle.
            return Steal::Before { from: id, index: unbegun.end - unbegun.inputs, cost: Some(unbegun.here) };
        }
        if unbegun.work >= STEAL_MIN {
            let left = unbegun.inputs / 2;
            let left = left - left % size; // a batch that has not begun stays whole
            let index = unbegun.end - unbegun.inputs + left;
            return Steal::Before { from: id, index, cost: None };
        }
        Steal::NotBefore(now + AGAIN)
    }

    fn unbegun(&self, lane: &Lane, now: Time) -> Option<Unbegun> {
        let lease = lane.lease.filter(|lease| lease.kind == LeaseKind::First)?;
        let (end, done) = (lease.span.end(), lane.committed - lease.span.first);
        let executing = self.executing_with(&lease, lane.committed.min(end - 1));
        let inputs = end - executing.end();
        if inputs == 0 {
            return None;
        }
        let usual =
            self.jobs.get(&lease.job).and_then(Job::map).and_then(|map| map.sizer.cost()).unwrap_or_default();
        let average = now.since(lane.taken).div_f64((done + executing.len) as f64);
        // The executing inputs have already taken the time since `advanced`.
        let here = average.max(now.since(lane.advanced).div_f64(executing.len as f64));
        let work = usual.max(here).mul_f64(inputs as f64);
        Some(Unbegun { end, inputs, here, work })
    }
}

/// The part of a lease that has not begun.
struct Unbegun {
    end: u64,
    inputs: u64,
    /// The time per input of the lease so far.
    here: Duration,
    /// The time that the rest is expected to take.
    work: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::job::Span;
    use crate::decide::ledger::Mode;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, leased_ahead};
    use crate::decide::restart::RateLimited;

    const US: Duration = Duration::from_micros(1);

    fn at(us: u32) -> Time {
        Time(us * US)
    }

    fn before(index: u64, cost: Option<Duration>) -> Steal {
        Steal::Before { from: FIRST.into(), index, cost }
    }

    #[test]
    fn the_dearer_the_inputs_turn_out_the_more_of_them_are_taken_over() {
        let (rig, _) = leased_ahead(1_000, 500);
        for (us, split) in [
            (0, Steal::NotBefore(at(1_000))),
            (13, Steal::NotBefore(at(1_013))), // three that take 13 µs each are worth less than 40
            (14, before(5, None)),
            (499, before(5, None)),
            (500, before(4, Some(500 * US))), // each may be worth a claim
            (900, before(4, Some(900 * US))),
        ] {
            assert_eq!(rig.ledger.steal(at(us)), split, "after {us} µs");
        }
    }

    #[test]
    fn inputs_are_as_dear_as_those_before_them_or_as_the_one_that_executes() {
        let (mut rig, _) = leased_ahead(1_000, 500);
        rig.ledger.advanced(FIRST, 5, at(119));
        assert_eq!(rig.ledger.steal(at(119)), Steal::NotBefore(at(1_119)));
        assert_eq!(rig.ledger.steal(at(120)), before(6, None), "three have begun in 120 µs");
        let (mut rig, _) = leased_ahead(1_000, 500);
        rig.ledger.advanced(FIRST, 5, at(60));
        assert_eq!(rig.ledger.steal(at(99)), Steal::NotBefore(at(1_099)));
        assert_eq!(rig.ledger.steal(at(100)), before(6, None), "the third takes 40 µs by now");
        rig.ledger.advanced(FIRST, 6, at(100));
        assert_eq!(rig.ledger.steal(at(100)), Steal::Nothing, "the last one executes");
    }

    #[test]
    fn of_two_leases_the_one_with_most_work_left_is_split() {
        let (mut rig, _) = leased_ahead(1_000, 500);
        rig.takes(SECOND, START);
        rig.completes(SECOND, Time(Duration::from_nanos(100)));
        assert_eq!(rig.takes(SECOND, START).span, Span { first: 15, len: 16 });
        assert!(matches!(rig.ledger.steal(at(100)), Steal::Before { from, .. } if from == SECOND.into()));
    }

    #[test]
    fn there_is_nothing_to_split_in_a_single_input_or_in_a_function_that_does_not_go_on() {
        let mut rig = Rig::new(2, RateLimited::new());
        rig.enters(FIRST, START);
        rig.call();
        rig.takes(FIRST, START);
        assert_eq!(rig.ledger.steal(at(900)), Steal::Nothing);
        let (mut rig, _) = leased_ahead(1_000, 500);
        rig.ledger.advance_mode(Mode::Stopping);
        assert_eq!(rig.ledger.steal(at(900)), Steal::Nothing);
    }
}

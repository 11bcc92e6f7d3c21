//! Splitting: an idle container takes over a part of another container's lease that has not begun.

use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::decide::job::Job;
use crate::decide::ledger::berth::Berth;
use crate::decide::ledger::{LeaseKind, Ledger};
use crate::decide::pacing::{CLAIM_WORK, WORTH};
use crate::decide::time::Time;

/// The time after which an idle container looks again for a lease to split. The contract lets an input wait
/// this long beside an idle container, and each look takes time from a working one.
const AGAIN: Duration = Duration::from_millis(1);

/// The work that an idle container finds in the leases of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// The lease of `from` is worth splitting before input `index`. `cost` is a lower bound of the cost of
    /// one of its inputs, if one input alone is worth a claim.
    Before { from: ContainerId, index: u64, cost: Option<Duration> },
    /// A lease may be worth splitting at this moment if it has not advanced, because its inputs are then more
    /// expensive than was assumed.
    NotBefore(Time),
    /// No container has leased inputs that have not begun.
    Nothing,
}

impl Ledger {
    /// The lease that is best to split, judged by the cost of its inputs so far. The caller has booked
    /// all completed inputs.
    pub(crate) fn split(&self, now: Time) -> Split {
        if !self.goes_on() {
            return Split::Nothing;
        }
        let rests = self.ahead().filter_map(|id| Some((id, self.rest(&self.berths[id.index()], now)?)));
        let Some((id, rest)) = rests.max_by_key(|(_, rest)| rest.work) else { return Split::Nothing };
        if rest.here >= CLAIM_WORK {
            // Each of the inputs may cost as much, so none of them should wait for another
            // while containers are idle.
            return Split::Before { from: id, index: rest.end - rest.inputs, cost: Some(rest.here) };
        }
        if rest.work >= WORTH {
            return Split::Before { from: id, index: rest.end - rest.inputs.div_ceil(2), cost: None };
        }
        Split::NotBefore(now + AGAIN)
    }

    fn rest(&self, berth: &Berth, now: Time) -> Option<Rest> {
        let lease = berth.lease.filter(|lease| lease.kind == LeaseKind::First)?;
        let (end, done) = (lease.span.end(), berth.booked - lease.span.first);
        let inputs = end.saturating_sub(berth.booked + 1);
        if inputs == 0 {
            return None;
        }
        let usual =
            self.jobs.get(&lease.job).and_then(Job::map).and_then(|map| map.share.cost()).unwrap_or_default();
        let average = now.since(berth.taken).div_f64((done + 1) as f64);
        let here = average.max(now.since(berth.advanced)); // the executing input has taken at least this long
        let work = usual.max(here).mul_f64(inputs as f64);
        Some(Rest { end, inputs, here, work })
    }
}

/// The part of a lease that has not begun.
struct Rest {
    end: u64,
    inputs: u64,
    /// The time per input of the lease so far.
    here: Duration,
    /// The time that the rest is expected to take.
    work: Duration,
}

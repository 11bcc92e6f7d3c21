//! Splitting: a container that has nothing to do takes over a part of what another has not begun.

use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::decide::job::Job;
use crate::decide::ledger::berth::Berth;
use crate::decide::ledger::{LeaseKind, Ledger};
use crate::decide::pacing::{CLAIM_WORK, WORTH};
use crate::decide::time::Time;

/// When a container looks again for something to take over: the contract lets an input wait so long beside a container
/// that has nothing, and each look takes the time of one that works.
const AGAIN: Duration = Duration::from_millis(1);

/// What a container without work finds with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// That container's lease is worth splitting, before that input. `cost` is what an input of it was seen to cost at
    /// least, where one of them alone is worth a claim.
    Before { from: ContainerId, index: u64, cost: Option<Duration> },
    /// One may be by then, if it has not come further: its inputs are dearer than was thought.
    NotBefore(Time),
    /// Nobody has anything that has not begun.
    Nothing,
}

impl Ledger {
    /// The lease that is best split, going by what its inputs have cost so far. What was completed is booked.
    pub(crate) fn split(&self, now: Time) -> Split {
        if !self.goes_on() {
            return Split::Nothing;
        }
        let rests = self.ahead().filter_map(|id| Some((id, self.rest(&self.berths[id.index()], now)?)));
        let Some((id, rest)) = rests.max_by_key(|(_, rest)| rest.work) else { return Split::Nothing };
        if rest.here >= CLAIM_WORK {
            // Each of them may be as dear: none is to wait for another while containers have nothing to do.
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
        let here = average.max(now.since(berth.advanced)); // so long at least has the one taken that executes
        let work = usual.max(here).mul_f64(inputs as f64);
        Some(Rest { end, inputs, here, work })
    }
}

/// What has not begun of a lease.
struct Rest {
    end: u64,
    inputs: u64,
    /// How long the inputs of it have taken so far, one by one.
    here: Duration,
    /// How long it will take.
    work: Duration,
}

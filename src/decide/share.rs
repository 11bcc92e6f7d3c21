//! How many inputs one container takes at a time: enough to pay for a wake-up, few enough that
//! the others are not left idle.

use std::time::Duration;

use crate::decide::pacing::{CLAIM_WORK, CRUMB};
/// The most inputs of one claim, because a cost measured at nothing must not take the whole window.
const INPUTS_MAX: u64 = 8_192;

/// How many inputs of that cost are a crumb.
pub(crate) fn crumb(cost: Duration) -> u64 {
    (CRUMB.as_nanos() as u64 / (cost.as_nanos() as u64).max(1)).max(1)
}

/// How many containers such a number of inputs is worth waking: each should have more than a crumb.
pub(crate) fn hands(inputs: u64, cost: Option<Duration>) -> u64 {
    cost.map_or(inputs, |cost| inputs.div_ceil(crumb(cost)))
}

/// Learns what an input costs, and sizes claims by it. One per job.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Nanoseconds per input over the last claims; `None` before the first one ended.
    cost: Option<u64>,
    /// The largest claim so far, and less where inputs have become dear since: the next claim is at most twice as large, so
    /// that one cheap first input does not make a huge claim of dear ones.
    last: u64,
}

impl Share {
    /// Begins with what the inputs of other jobs cost. The first claim is no more than a crumb, or one input:
    /// the first outcome is to come at once, and these inputs may be dearer.
    pub(crate) fn like(cost: Option<Duration>) -> Self {
        let nanos = cost.map(|cost| u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX));
        Self { cost: nanos, last: cost.map_or(0, |cost| crumb(cost) / 2) }
    }

    /// A claim of `inputs` took `elapsed`.
    pub(crate) fn measured(&mut self, inputs: u64, elapsed: Duration) {
        if inputs == 0 {
            return;
        }
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX) / inputs;
        // Dearer at once, cheaper by halves: a claim that is too large blocks, a small one only costs.
        self.cost = Some(match self.cost {
            Some(cost) if cost > now => cost / 2 + now / 2,
            _ => now,
        });
    }

    /// An input was seen to take so long, and has not ended: the next claims are sized by that.
    pub(crate) fn costs_at_least(&mut self, cost: Duration) {
        let nanos = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.cost = Some(self.cost.map_or(nanos, |before| before.max(nanos)));
    }

    /// Measured time per input.
    pub(crate) fn cost(&self) -> Option<Duration> {
        self.cost.map(Duration::from_nanos)
    }

    /// How many of `available` inputs one of `containers` takes.
    pub(crate) fn take(&mut self, available: u64, containers: usize) -> u64 {
        let by_cost = match self.cost {
            None => 1,
            Some(cost) => (CLAIM_WORK.as_nanos() as u64 / cost.max(1)).clamp(1, INPUTS_MAX),
        };
        let crumb = self.cost().map_or(1, crumb);
        let fair = available.div_ceil(2 * containers as u64).max(crumb);
        let size = by_cost.min(fair).min((self.last * 2).max(1)).min(available);
        // Dear inputs make the next claims small. That there were few to be had does not: they say nothing of the cost.
        self.last = if by_cost < self.last / 4 { by_cost } else { self.last.clamp(1, INPUTS_MAX).max(size) };
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_inputs_travel_in_ranges_and_dear_ones_singly() {
        let mut share = Share::default();
        assert_eq!(share.take(100_000, 2), 1);
        for _ in 0..20 {
            share.measured(1, Duration::from_nanos(100));
            share.take(100_000, 2);
        }
        assert_eq!(share.take(100_000, 2), 5_000);
        share.measured(5_000, Duration::from_secs(25));
        assert_eq!(share.take(100_000, 2), 1, "dear at once");
    }

    #[test]
    fn a_claim_leaves_something_for_every_container() {
        let mut share = Share::default();
        for _ in 0..20 {
            share.measured(1, Duration::from_micros(4));
            share.take(1_000_000, 4);
        }
        assert_eq!(share.take(80, 4), 10);
        assert_eq!(share.take(1, 4), 1);
        assert_eq!(share.take(0, 4), 0);
    }

    #[test]
    fn few_that_are_left_over_do_not_make_the_next_claims_small() {
        let mut share = Share::default();
        for _ in 0..20 {
            share.measured(1, Duration::from_micros(1));
            share.take(1_000_000, 2);
        }
        assert_eq!(share.take(7, 2), 7);
        assert_eq!(share.take(1_000_000, 2), 500);
    }

    #[test]
    fn what_is_known_of_other_jobs_counts_from_the_first_claim_on() {
        let dear = Duration::from_millis(5);
        assert_eq!(Share::like(None).take(100_000, 2), 1);
        assert_eq!(Share::like(Some(dear)).take(100_000, 2), 1);
        assert_eq!(Share::like(Some(Duration::from_micros(50))).take(100_000, 2), 1);
        assert_eq!(Share::like(Some(Duration::from_nanos(2))).take(100_000, 2), 8_192);
    }

    #[test]
    fn nobody_is_woken_for_crumbs() {
        assert_eq!(hands(1_000, None), 1_000);
        assert_eq!(hands(1_000, Some(Duration::from_nanos(3))), 1);
        assert_eq!(hands(1_000, Some(Duration::from_micros(1))), 50);
        assert_eq!(hands(1_000, Some(Duration::from_millis(5))), 1_000);
        assert_eq!(hands(0, None), 0);
    }

    #[test]
    fn crumbs_are_not_shared() {
        let mut share = Share::default();
        for _ in 0..20 {
            share.measured(1, Duration::from_nanos(100));
            share.take(1_000_000, 4);
        }
        assert_eq!(share.take(80, 4), 80, "8 µs of work in all");
    }

    #[test]
    fn inputs_become_dearer_at_once_and_cheaper_by_halves() {
        let mut share = Share::default();
        for (inputs, nanos, cost) in
            [(10, 1_000, 100), (10, 500, 75), (0, 9_000, 75), (1, 201, 201), (1, 201, 201), (2, 402, 201)]
        {
            share.measured(inputs, Duration::from_nanos(nanos));
            assert_eq!(share.cost(), Some(Duration::from_nanos(cost)), "{inputs} took {nanos} ns");
        }
    }

    #[test]
    fn an_input_that_goes_on_makes_the_others_as_dear_and_never_cheaper() {
        let mut share = Share::default();
        for (seen, cost) in [(50, 50), (20, 50), (70, 70)] {
            share.costs_at_least(Duration::from_nanos(seen));
            assert_eq!(share.cost(), Some(Duration::from_nanos(cost)));
        }
    }

    #[test]
    fn claims_grow_anew_from_what_is_fewer_than_a_quarter() {
        // As many inputs as 500 µs hold, and the claim from which the next ones grow.
        for (nanos, from) in [(5_000, 400), (5_051, 98), (1_000_000, 1)] {
            let mut share = Share { cost: Some(nanos), last: 400 };
            share.take(1_000_000, 1);
            assert_eq!(share.last, from, "{nanos} ns each");
        }
    }
}

//! The number of inputs that one container takes at a time: large enough to pay for a wake-up, and small
//! enough that other containers do not stay idle.

use std::time::Duration;

use crate::decide::pacing::{CLAIM_WORK, GRAIN};

/// The largest number of inputs of one claim, because a cost that was measured as zero must not
/// take the whole window.
const INPUTS_MAX: u64 = 8_192;

/// The number of inputs in a grain, if each costs `cost`.
pub(super) fn grain(cost: Duration) -> u64 {
    (GRAIN.as_nanos() as u64 / (cost.as_nanos() as u64).max(1)).max(1)
}

/// The number of containers that are worth waking for `inputs` inputs. Each should get more than a grain.
pub(super) fn wake_count(inputs: u64, cost: Option<Duration>) -> u64 {
    cost.map_or(inputs, |cost| inputs.div_ceil(grain(cost)))
}

/// Measures what an input costs, and sizes claims by it. Each job has one.
#[derive(Debug, Default)]
pub(crate) struct ClaimSizer {
    /// Nanoseconds per input over the last claims. `None` before the first claim ended.
    cost: Option<u64>,
    /// The same, but one claim raises it to twice as much at most. The window follows it, because a thread
    /// that the system has suspended during a claim makes cheap inputs look a thousand times as expensive.
    steady_cost: Option<u64>,
    /// The size of the largest claim so far, lowered if inputs have become expensive since. The next claim is
    /// at most twice as large, so that one cheap first input does not lead to a huge claim of expensive ones.
    last: u64,
}

impl ClaimSizer {
    /// Begins with the cost of other jobs' inputs. The first claim is at most a grain, or one input, because
    /// the first outcome should come at once and these inputs may be more expensive.
    pub(super) fn like(cost: Option<Duration>) -> Self {
        let nanos = cost.map(|cost| u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX));
        Self { cost: nanos, steady_cost: nanos, last: cost.map_or(0, |cost| grain(cost) / 2) }
    }

    /// Records that a claim of `inputs` inputs took `elapsed`.
    pub(super) fn measured(&mut self, inputs: u64, elapsed: Duration) {
        if inputs == 0 {
            return;
        }
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX) / inputs;
        // A higher cost counts at once and a lower one by halves, because a claim that is too large blocks
        // inputs, while one that is too small only costs time.
        self.cost = Some(match self.cost {
            Some(cost) if cost > now => cost / 2 + now / 2,
            _ => now,
        });
        self.steady_cost = Some(match self.steady_cost {
            Some(cost) if cost > now => cost / 2 + now / 2,
            Some(cost) => now.min(cost.max(1).saturating_mul(2)),
            None => now,
        });
    }

    /// Records that an input has taken `cost` and has not ended. The next claims are sized by that.
    pub(super) fn costs_at_least(&mut self, cost: Duration) {
        let nanos = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.cost = Some(self.cost.map_or(nanos, |before| before.max(nanos)));
    }

    /// The measured time per input.
    pub(super) fn cost(&self) -> Option<Duration> {
        self.cost.map(Duration::from_nanos)
    }

    /// The measured time per input, without the claims that took far longer than others.
    pub(super) fn steady_cost(&self) -> Option<Duration> {
        self.steady_cost.map(Duration::from_nanos)
    }

    /// The number of inputs that one of `lanes` takes, if `available` are available.
    pub(crate) fn take(&mut self, available: u64, lanes: usize) -> u64 {
        let by_cost = match self.cost {
            None => 1,
            Some(cost) => (CLAIM_WORK.as_nanos() as u64 / cost.max(1)).clamp(1, INPUTS_MAX),
        };
        let grain = self.cost().map_or(1, grain);
        let fair = available.div_ceil(2 * lanes as u64).max(grain);
        let size = by_cost.min(fair).min((self.last * 2).max(1)).min(available);
        // Expensive inputs make the next claims small. A lack of available inputs does not, because it says
        // nothing about their cost.
        self.last = if by_cost < self.last / 4 { by_cost } else { self.last.clamp(1, INPUTS_MAX).max(size) };
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_inputs_are_claimed_in_ranges_and_expensive_ones_singly() {
        let mut sizer = ClaimSizer::default();
        assert_eq!(sizer.take(100_000, 2), 1);
        for _ in 0..20 {
            sizer.measured(1, Duration::from_nanos(100));
            sizer.take(100_000, 2);
        }
        assert_eq!(sizer.take(100_000, 2), 5_000);
        sizer.measured(5_000, Duration::from_secs(25));
        assert_eq!(sizer.take(100_000, 2), 1, "a higher cost counts at once");
    }

    #[test]
    fn a_claim_leaves_something_for_every_container() {
        let mut sizer = ClaimSizer::default();
        for _ in 0..20 {
            sizer.measured(1, Duration::from_micros(4));
            sizer.take(1_000_000, 4);
        }
        assert_eq!(sizer.take(80, 4), 10);
        assert_eq!(sizer.take(1, 4), 1);
        assert_eq!(sizer.take(0, 4), 0);
    }

    #[test]
    fn a_claim_of_few_available_inputs_does_not_make_the_next_claims_small() {
        let mut sizer = ClaimSizer::default();
        for _ in 0..20 {
            sizer.measured(1, Duration::from_micros(1));
            sizer.take(1_000_000, 2);
        }
        assert_eq!(sizer.take(7, 2), 7);
        assert_eq!(sizer.take(1_000_000, 2), 500);
    }

    #[test]
    fn the_cost_of_other_jobs_counts_from_the_first_claim_on() {
        let dear = Duration::from_millis(5);
        assert_eq!(ClaimSizer::like(None).take(100_000, 2), 1);
        assert_eq!(ClaimSizer::like(Some(dear)).take(100_000, 2), 1);
        assert_eq!(ClaimSizer::like(Some(Duration::from_micros(50))).take(100_000, 2), 1);
        assert_eq!(ClaimSizer::like(Some(Duration::from_nanos(2))).take(100_000, 2), 8_192);
    }

    #[test]
    fn one_container_is_woken_for_each_crumb() {
        assert_eq!(wake_count(1_000, None), 1_000);
        assert_eq!(wake_count(1_000, Some(Duration::from_nanos(3))), 1);
        assert_eq!(wake_count(1_000, Some(Duration::from_micros(1))), 50);
        assert_eq!(wake_count(1_000, Some(Duration::from_millis(5))), 1_000);
        assert_eq!(wake_count(0, None), 0);
    }

    #[test]
    fn a_grain_is_not_divided() {
        let mut sizer = ClaimSizer::default();
        for _ in 0..20 {
            sizer.measured(1, Duration::from_nanos(100));
            sizer.take(1_000_000, 4);
        }
        assert_eq!(sizer.take(80, 4), 80, "80 inputs are 8 µs of work");
    }

    #[test]
    fn inputs_become_dearer_at_once_and_cheaper_by_halves() {
        let mut sizer = ClaimSizer::default();
        for (inputs, nanos, cost) in
            [(10, 1_000, 100), (10, 500, 75), (0, 9_000, 75), (1, 201, 201), (1, 201, 201), (2, 402, 201)]
        {
            sizer.measured(inputs, Duration::from_nanos(nanos));
            assert_eq!(sizer.cost(), Some(Duration::from_nanos(cost)), "{inputs} took {nanos} ns");
        }
    }

    #[test]
    fn one_slow_claim_doubles_the_steady_cost_at_most() {
        let nanos = Duration::from_nanos;
        let mut sizer = ClaimSizer::default();
        assert_eq!(sizer.steady_cost(), None);
        sizer.measured(1, nanos(10));
        sizer.costs_at_least(Duration::from_millis(4));
        assert_eq!(sizer.steady_cost(), Some(nanos(10)), "an input that still executes does not count");
        sizer.measured(1_000, Duration::from_millis(4));
        assert_eq!(sizer.steady_cost(), Some(nanos(20)));
        sizer.measured(1_000, Duration::from_micros(10));
        assert_eq!(sizer.steady_cost(), Some(nanos(15)));
        assert!(sizer.cost() > Some(Duration::from_millis(1)), "claims are as small as the last ones say");
        for cost in [30, 60, 120, 200, 200] {
            sizer.measured(1, nanos(200));
            assert_eq!(sizer.steady_cost(), Some(nanos(cost)), "several slow claims are believed");
        }
        let dear = ClaimSizer::like(Some(Duration::from_millis(5)));
        assert_eq!(dear.steady_cost(), Some(Duration::from_millis(5)), "a job begins as the last one");
    }

    #[test]
    fn a_cost_of_nothing_does_not_stay_nothing() {
        let mut sizer = ClaimSizer::default();
        sizer.measured(1_000, Duration::from_nanos(1));
        sizer.measured(1, Duration::from_micros(1));
        assert_eq!(sizer.steady_cost(), Some(Duration::from_nanos(2)));
    }

    #[test]
    fn an_input_that_goes_on_makes_the_others_as_dear_and_never_cheaper() {
        let mut sizer = ClaimSizer::default();
        for (seen, cost) in [(50, 50), (20, 50), (70, 70)] {
            sizer.costs_at_least(Duration::from_nanos(seen));
            assert_eq!(sizer.cost(), Some(Duration::from_nanos(cost)));
        }
    }

    #[test]
    fn claims_grow_anew_from_what_is_fewer_than_a_quarter() {
        // As many inputs as 500 µs hold, and the claim from which the next ones grow.
        for (nanos, from) in [(5_000, 400), (5_051, 98), (1_000_000, 1)] {
            let mut sizer = ClaimSizer { cost: Some(nanos), last: 400, ..ClaimSizer::default() };
            sizer.take(1_000_000, 1);
            assert_eq!(sizer.last, from, "{nanos} ns each");
        }
    }
}

//! Rounds: groups of deaths that count once towards the limit of a policy.
//!
//! When a dependency goes away, all containers die, each a moment earlier or later than the others. A limit
//! that counted these deaths one by one would tolerate less the more containers a function has. A death
//! therefore counts together with the last counted death under two conditions. Its container began before the
//! restart that followed the counted death. And the death is a loop crash, or it comes within a second of the
//! counted death.

use std::time::Duration;

use crate::decide::restart::LifeRecord;
use crate::decide::time::Time;

/// The time after a counted death in which another death counts together with it although it is no loop
/// crash. Containers at work notice an outage only with their next request.
const TOGETHER: Duration = Duration::from_secs(1);

/// The last death that was counted.
#[derive(Debug, Clone, Copy)]
struct CountedDeath {
    at: Time,
    /// The moment from which its container may be created again, which is at once or at the end of its delay.
    /// It does not change if the delay is forgotten early.
    restart: Time,
}

/// Decides which deaths are counted.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The number of deaths counted so far. It only grows, so that an old life never looks young.
    counted: u64,
    /// The last counted death. `None` before the first one and after a reset.
    last: Option<CountedDeath>,
}

impl Rounds {
    /// The number of deaths counted so far. A life that begins now records it.
    pub(super) fn counted(&self) -> u64 {
        self.counted
    }

    /// Whether the death of `life` at `now` counts together with the last counted one.
    pub(crate) fn absorbs(&self, life: &LifeRecord, is_loop_crash: bool, now: Time) -> bool {
        self.last.is_some_and(|last| {
            let began_before = life.round < self.counted || life.began < last.restart;
            began_before && (is_loop_crash || now.since(last.at) <= TOGETHER)
        })
    }

    /// Counts a death at `now`, whose container may be created again at `restart`.
    pub(crate) fn count(&mut self, now: Time, restart: Time) {
        self.counted += 1;
        self.last = Some(CountedDeath { at: now, restart });
    }

    /// Forgets the last counted death.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn life(rounds: &Rounds, began: u64) -> LifeRecord {
        LifeRecord { epoch: 0, round: rounds.counted(), began: at(began), entered: None, completed: 0 }
    }

    #[test]
    fn a_container_that_began_before_the_restart_counts_together() {
        let mut rounds = Rounds::default();
        let old = life(&rounds, 0);
        assert!(!rounds.absorbs(&old, true, at(5)), "no death was counted before");
        rounds.count(at(5), at(105));
        assert!(rounds.absorbs(&old, true, at(70_000)), "a loop crash is absorbed whenever it comes");
        let inside = life(&rounds, 104);
        assert!(rounds.absorbs(&inside, true, at(110)), "the container began inside the delay");
        let after = life(&rounds, 105);
        assert!(!rounds.absorbs(&after, true, at(106)), "the container began with the restart");
    }

    #[test]
    fn the_order_decides_between_events_at_the_same_moment() {
        let mut rounds = Rounds::default();
        let old = life(&rounds, 5);
        rounds.count(at(5), at(5));
        let young = life(&rounds, 5);
        assert!(rounds.absorbs(&old, true, at(5)));
        assert!(!rounds.absorbs(&young, true, at(5)));
    }

    #[test]
    fn a_death_that_is_not_a_loop_crash_counts_together_for_a_second() {
        let mut rounds = Rounds::default();
        let old = life(&rounds, 0);
        rounds.count(at(5), at(5));
        assert!(rounds.absorbs(&old, false, at(1_005)));
        assert!(!rounds.absorbs(&old, false, Time(Duration::from_nanos(1_005_000_001))));
        rounds.reset();
        assert!(!rounds.absorbs(&old, true, at(6)), "a reset forgets the counted death");
    }
}

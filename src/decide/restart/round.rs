//! Rounds: deaths of containers that count once towards the limit of a policy.
//!
//! When a dependency goes away it takes all containers with it, and each of them dies a moment
//! later or earlier. A limit that counted them one by one would bear the less the more containers
//! a function has. So a death counts together with the last counted one if its container had begun
//! before that one's restart, and it is a loop crash or comes within a second of it.

use std::time::Duration;

use crate::decide::restart::Life;
use crate::decide::time::Time;

/// How long after a counted death another one counts together with it although it is no loop
/// crash, because containers at work notice an outage only with their next request.
const TOGETHER: Duration = Duration::from_secs(1);

/// The last death that was counted.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Time,
    /// The moment from which its container may be created again: at once, or at the end of its
    /// delay. A delay that is forgotten before its end does not change it.
    restart: Time,
}

/// Decides which deaths are counted.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Deaths counted so far. It only grows, so that an old life never looks young.
    counted: u64,
    /// `None` before the first one and after a reset.
    last: Option<Counted>,
}

impl Rounds {
    /// Deaths counted so far, as a life that begins now bears it.
    pub(crate) fn counted(&self) -> u64 {
        self.counted
    }

    /// Whether the death of `life` at `now` counts together with the last counted one.
    pub(crate) fn absorbs(&self, life: &Life, is_loop_crash: bool, now: Time) -> bool {
        self.last.is_some_and(|last| {
            let began_before = life.round < self.counted || life.began < last.restart;
            began_before && (is_loop_crash || now.since(last.at) <= TOGETHER)
        })
    }

    /// A death is counted at `now`, whose container may be created again at `restart`.
    pub(crate) fn count(&mut self, now: Time, restart: Time) {
        self.counted += 1;
        self.last = Some(Counted { at: now, restart });
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

    fn life(rounds: &Rounds, began: u64) -> Life {
        Life { epoch: 0, round: rounds.counted(), began: at(began), entered: None, completed: 0 }
    }

    #[test]
    fn a_container_that_began_before_the_restart_counts_together() {
        let mut rounds = Rounds::default();
        let old = life(&rounds, 0);
        assert!(!rounds.absorbs(&old, true, at(5)), "nothing was counted before");
        rounds.count(at(5), at(105));
        assert!(rounds.absorbs(&old, true, at(70_000)), "a loop crash, whenever it comes");
        let inside = life(&rounds, 104);
        assert!(rounds.absorbs(&inside, true, at(110)), "it began inside the delay");
        let after = life(&rounds, 105);
        assert!(!rounds.absorbs(&after, true, at(106)), "it began with the restart");
    }

    #[test]
    fn of_two_moments_that_are_one_the_order_decides() {
        let mut rounds = Rounds::default();
        let old = life(&rounds, 5);
        rounds.count(at(5), at(5));
        let young = life(&rounds, 5);
        assert!(rounds.absorbs(&old, true, at(5)));
        assert!(!rounds.absorbs(&young, true, at(5)));
    }

    #[test]
    fn a_death_that_is_no_loop_crash_counts_together_for_a_second() {
        let mut rounds = Rounds::default();
        let old = life(&rounds, 0);
        rounds.count(at(5), at(5));
        assert!(rounds.absorbs(&old, false, at(1_005)));
        assert!(!rounds.absorbs(&old, false, Time(Duration::from_nanos(1_005_000_001))));
        rounds.reset();
        assert!(!rounds.absorbs(&old, true, at(6)), "a reset forgets it");
    }
}

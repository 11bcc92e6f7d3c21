//! The first crashes of the window, kept so that a function that gives up can report them.
//!
//! The window slides, so each crash in it may become the first one. At most [`KEPT_MAX`] crashes are kept
//! here. The restart policy has their exact number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::decide::time::Time;
use crate::values::crash::Crash;

/// The number of crashes that are shown beside the one that exceeded the limit, because three are enough to
/// separate a cause from its first consequences.
const SHOWN: usize = 3;

/// The largest number of crashes that are kept, because a window of a day may contain a million. Once this
/// many are kept, new crashes are left out until the oldest of these are older than the window.
const KEPT_MAX: usize = 1024;

/// The crashes of a function that may give up.
#[derive(Debug)]
pub(super) struct Causes {
    window: Duration,
    /// The crashes, the oldest first, at most [`KEPT_MAX`].
    kept: VecDeque<(Time, Arc<Crash>)>,
}

impl Causes {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, kept: VecDeque::new() }
    }

    /// Keeps a crash. Crashes that are older than the window are moved to `discarded`, because they may hold
    /// errors of the user's.
    pub(super) fn add(&mut self, crash: &Arc<Crash>, now: Time, discarded: &mut Vec<Arc<Crash>>) {
        while self.kept.front().is_some_and(|(at, _)| now.since(*at) > self.window) {
            discarded.extend(self.kept.pop_front().map(|(_, crash)| crash));
        }
        if self.kept.len() < KEPT_MAX {
            self.kept.push_back((now, Arc::clone(crash)));
        }
    }

    /// The first crashes of the window.
    pub(super) fn first(&self) -> Vec<Arc<Crash>> {
        self.kept.iter().take(SHOWN).map(|(_, crash)| Arc::clone(crash)).collect()
    }

    /// Forgets all crashes.
    pub(super) fn reset(&mut self, discarded: &mut Vec<Arc<Crash>>) {
        discarded.extend(self.kept.drain(..).map(|(_, crash)| crash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ContainerId, Generation};
    use crate::values::crash::Death;

    fn crash(n: u64) -> Arc<Crash> {
        let container = ContainerId::new(0);
        let (executing, peak_bytes, death) = (None, None, Death::Killed);
        Arc::new(Crash {
            container,
            generation: Generation(n),
            executing,
            map: None,
            call: None,
            peak_bytes,
            death,
        })
    }

    fn generations(crashes: &[Arc<Crash>]) -> Vec<u64> {
        crashes.iter().map(|crash| crash.generation.get()).collect()
    }

    #[test]
    fn the_first_three_crashes_of_the_window_are_shown_and_older_ones_are_discarded() {
        let mut causes = Causes::new(Duration::from_secs(60));
        let mut discarded = Vec::new();
        let at = |second| Time(Duration::from_secs(second));
        for n in 0..5 {
            causes.add(&crash(n), at(n), &mut discarded);
        }
        assert_eq!(generations(&causes.first()), [0, 1, 2]);
        causes.add(&crash(5), at(60), &mut discarded);
        assert_eq!(generations(&causes.first()), [0, 1, 2], "a crash exactly one window old counts");
        causes.add(&crash(6), at(62), &mut discarded);
        assert_eq!(generations(&causes.first()), vec![2, 3, 4]);
        assert_eq!(generations(&discarded), vec![0, 1]);
        causes.reset(&mut discarded);
        assert_eq!(causes.first().len(), 0);
        assert_eq!(discarded.len(), 7);
    }

    #[test]
    fn at_most_the_bound_of_crashes_is_kept() {
        let mut causes = Causes::new(Duration::from_secs(60));
        let mut discarded = Vec::new();
        for n in 0..3 * KEPT_MAX as u64 {
            causes.add(&crash(n), Time::default(), &mut discarded);
        }
        assert_eq!(causes.kept.len(), KEPT_MAX);
        assert_eq!(discarded.len(), 0);
    }
}

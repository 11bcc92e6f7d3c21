//! Crashes and completions within a sliding window.
//!
//! Crashes are kept exactly, because the limit is judged to the crash; completions in sixty
//! buckets, because they come by the million. A bucket counts while any part of it lies in the
//! window; a crash exactly one window old still counts.

use std::collections::VecDeque;
use std::time::Duration;

use crate::decide::time::Time;

/// How finely completions are kept.
const BUCKETS: u32 = 60;

/// The most crashes kept, because a policy that never gives up may see hundreds of thousands of
/// them in a window. Past it the oldest are forgotten early.
const CRASHES_MAX: usize = 1 << 20;

/// Crashes and completed inputs at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) crashes: u64,
    pub(crate) completed: u64,
}

#[derive(Debug)]
pub(crate) struct History {
    window: Duration,
    /// Oldest first, at most [`CRASHES_MAX`].
    crashes: VecDeque<Time>,
    /// Bucket number and completions, oldest first; at most `BUCKETS + 2` of them.
    completed: VecDeque<(u64, u64)>,
}

impl History {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, crashes: VecDeque::new(), completed: VecDeque::new() }
    }

    fn width(&self) -> u128 {
        (self.window.as_nanos() / u128::from(BUCKETS)).max(1)
    }

    pub(crate) fn completed(&mut self, inputs: u64, now: Time) {
        let bucket = u64::try_from(now.0.as_nanos() / self.width()).unwrap_or(u64::MAX);
        match self.completed.back_mut() {
            // A clock read before another container took the lock may lie one bucket back.
            Some((last, count)) if *last >= bucket => *count = count.saturating_add(inputs),
            _ => self.completed.push_back((bucket, inputs)),
        }
        self.forget(now);
    }

    pub(crate) fn crashed(&mut self, now: Time) {
        self.crashes.push_back(now);
        if self.crashes.len() > CRASHES_MAX {
            self.crashes.pop_front();
        }
        self.forget(now);
    }

    pub(crate) fn tally(&mut self, now: Time) -> Tally {
        self.forget(now);
        Tally {
            crashes: self.crashes.len() as u64,
            completed: self.completed.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count)),
        }
    }

    fn forget(&mut self, now: Time) {
        while self.crashes.front().is_some_and(|at| now.since(*at) > self.window) {
            self.crashes.pop_front();
        }
        let width = self.width();
        let begin = now.0.as_nanos().saturating_sub(self.window.as_nanos());
        // The bucket covers [number × width, (number + 1) × width): gone once its end is not past `begin`.
        let gone = |bucket: u64| (u128::from(bucket) + 1) * width <= begin;
        while self.completed.front().is_some_and(|(bucket, _)| gone(*bucket)) {
            self.completed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn a_crash_exactly_one_window_old_still_counts() {
        let mut history = History::new(Duration::from_secs(60));
        history.crashed(at(0));
        assert_eq!(history.tally(at(60_000)).crashes, 1);
        assert_eq!(history.tally(Time(Duration::from_nanos(60_000_000_001))).crashes, 0);
    }

    #[test]
    fn a_bucket_counts_while_any_part_of_it_lies_in_the_window() {
        let mut history = History::new(Duration::from_secs(60));
        history.completed(5, at(0));
        assert_eq!(history.tally(at(60_999)).completed, 5);
        assert_eq!(history.tally(at(61_000)).completed, 0);
    }

    proptest! {
        #[test]
        fn agrees_with_keeping_everything(
            steps in prop::collection::vec((0u64..9_000, 0u64..4), 1..200),
        ) {
            let window = Duration::from_secs(6);
            let mut history = History::new(window);
            let (mut now, mut crashes, mut completed) = (0u64, Vec::new(), Vec::new());
            for (advance, what) in steps {
                now += advance / 4;
                if what == 0 {
                    history.crashed(at(now));
                    crashes.push(now);
                } else {
                    history.completed(what, at(now));
                    completed.push((now, what));
                }
                let begin = now.saturating_sub(6_000);
                let tally = history.tally(at(now));
                prop_assert_eq!(tally.crashes, crashes.iter().filter(|t| **t >= begin).count() as u64);
                let in_part = |t: u64| (t / 100 + 1) * 100 > begin;
                let kept: u64 = completed.iter().filter(|(t, _)| in_part(*t)).map(|(_, n)| n).sum();
                prop_assert_eq!(tally.completed, kept);
            }
        }
    }
}

//! Crashes and completions within a sliding window.
//!
//! Crashes are kept exactly (of a policy that never gives up the last 1024), because the limit is judged to the crash; completions in sixty
//! buckets, because they come by the million. A bucket counts while any part of it lies in the
//! window; a crash exactly one window old still counts.

use std::collections::VecDeque;
use std::time::Duration;

use crate::decide::time::Time;

/// How finely completions are kept.
const BUCKETS: u32 = 60;

/// How long before the end of a bucket completions are counted.
const LEAD: Duration = Duration::from_millis(2);

/// The most crashes kept. A function that completes many more inputs may have hundreds of thousands of crashes in a window
/// without giving up. Past this number the oldest are forgotten early.
const CRASHES_MAX: usize = 1 << 20;

/// The same of a policy that never gives up, which only shows how many there were.
const CRASHES_SHOWN: usize = 1 << 10;

/// What a crash counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// The failure rate and the limit.
    Both,
    /// The failure rate alone, because the limit has counted it together with another crash.
    Rate,
}

/// Crashes and completed inputs at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// All of them, which is what the failure rate is of.
    pub(crate) crashes: u64,
    /// Those of them that count for the limit.
    pub(crate) rounds: u64,
    pub(crate) completed: u64,
}

#[derive(Debug)]
pub(crate) struct History {
    window: Duration,
    /// The most crashes kept.
    crashes_max: usize,
    /// Oldest first.
    crashes: VecDeque<(Time, Counts)>,
    /// How many of them count for the limit. Kept beside them, because each crash asks for it.
    rounds: u64,
    /// Bucket number and completions, oldest first; at most `BUCKETS + 2` of them.
    completed: VecDeque<(u64, u64)>,
}

impl History {
    /// `judged` says whether a limit is judged by it.
    pub(crate) fn new(window: Duration, judged: bool) -> Self {
        let crashes_max = if judged { CRASHES_MAX } else { CRASHES_SHOWN };
        Self { window, crashes_max, crashes: VecDeque::new(), rounds: 0, completed: VecDeque::new() }
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

    pub(crate) fn crashed(&mut self, counts: Counts, now: Time) {
        self.crashes.push_back((now, counts));
        self.rounds += u64::from(counts == Counts::Both);
        if self.crashes.len() > self.crashes_max {
            self.forget_crash();
        }
        self.forget(now);
    }

    fn forget_crash(&mut self) {
        if let Some((_, counts)) = self.crashes.pop_front() {
            self.rounds -= u64::from(counts == Counts::Both);
        }
    }

    /// When unbooked completions are to be booked next, so that each falls into the bucket in which it happened: just before
    /// the bucket ends, because booking takes a moment. `None` while the window holds no crash.
    pub(crate) fn next_count(&mut self, now: Time) -> Option<Time> {
        self.forget(now);
        if self.crashes.is_empty() {
            return None;
        }
        let width = u64::try_from(self.width()).unwrap_or(u64::MAX);
        let lead = LEAD.as_nanos().min(u128::from(width / 8)) as u64;
        let now = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        let end = (now / width).saturating_add(1).saturating_mul(width);
        let at = end.saturating_sub(lead);
        Some(Time(Duration::from_nanos(if at > now { at } else { at.saturating_add(width) })))
    }

    /// How many crashes count for the limit.
    pub(crate) fn rounds(&mut self, now: Time) -> u64 {
        self.forget(now);
        self.rounds
    }

    pub(crate) fn tally(&mut self, now: Time) -> Tally {
        self.forget(now);
        Tally {
            crashes: self.crashes.len() as u64,
            rounds: self.rounds,
            completed: self.completed.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count)),
        }
    }

    fn forget(&mut self, now: Time) {
        while self.crashes.front().is_some_and(|(at, _)| now.since(*at) > self.window) {
            self.forget_crash();
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

    #[test]
    fn the_last_crashes_are_kept_up_to_the_bound() {
        let mut history = History::new(Duration::from_secs(60), false);
        for crashes in 1..=2 * CRASHES_SHOWN as u64 {
            let counts = if crashes % 2 == 0 { Counts::Both } else { Counts::Rate };
            history.crashed(counts, Time::default());
            let kept = crashes.min(CRASHES_SHOWN as u64);
            assert_eq!(history.tally(Time::default()).crashes, kept);
            assert_eq!(history.rounds(Time::default()), kept / 2);
        }
    }

    #[test]
    fn completions_are_counted_before_the_end_of_narrow_buckets_too() {
        let mut history = History::new(Duration::from_millis(60), true);
        history.crashed(Counts::Both, Time::default());
        assert_eq!(history.next_count(Time::default()), Some(Time(Duration::from_micros(875))));
    }

    #[test]
    fn completions_take_no_more_room_than_there_are_buckets() {
        let mut history = History::new(Duration::from_secs(60), true);
        for ms in (0..200_000).step_by(100) {
            history.completed(1, Time(Duration::from_millis(ms)));
        }
        assert!(history.completed.len() <= BUCKETS as usize + 2, "{}", history.completed.len());
    }

    #[test]
    fn completions_are_counted_a_little_before_the_end_of_each_bucket_while_a_crash_counts() {
        let at = |ms| Time(Duration::from_millis(ms));
        let mut history = History::new(Duration::from_secs(60), true);
        assert_eq!(history.next_count(at(100)), None, "there is no crash to be judged by them");
        history.crashed(Counts::Both, at(100));
        assert_eq!(history.next_count(at(100)), Some(at(998)));
        assert_eq!(
            history.next_count(at(998)),
            Some(at(1998)),
            "in a later bucket, if it is too late for this one"
        );
        assert_eq!(history.next_count(at(61_000)), None);
    }

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn a_crash_exactly_one_window_old_still_counts() {
        let mut history = History::new(Duration::from_secs(60), true);
        history.crashed(Counts::Both, at(0));
        assert_eq!(history.tally(at(60_000)).crashes, 1);
        assert_eq!(history.tally(Time(Duration::from_nanos(60_000_000_001))).crashes, 0);
    }

    #[test]
    fn a_bucket_counts_while_any_part_of_it_lies_in_the_window() {
        let mut history = History::new(Duration::from_secs(60), true);
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
            let mut history = History::new(window, true);
            let (mut now, mut crashes, mut completed) = (0u64, Vec::new(), Vec::new());
            for (advance, what) in steps {
                now += advance / 4;
                if what == 0 {
                    let counts = if advance % 3 == 0 { Counts::Rate } else { Counts::Both };
                    history.crashed(counts, at(now));
                    crashes.push((now, counts));
                } else {
                    history.completed(what, at(now));
                    completed.push((now, what));
                }
                let begin = now.saturating_sub(6_000);
                let tally = history.tally(at(now));
                let within = |counts: &[Counts]| {
                    let counted = |(t, c): &&(u64, Counts)| *t >= begin && counts.contains(c);
                    crashes.iter().filter(counted).count() as u64
                };
                prop_assert_eq!(tally.crashes, within(&[Counts::Both, Counts::Rate]));
                prop_assert_eq!(tally.rounds, within(&[Counts::Both]));
                let in_part = |t: u64| (t / 100 + 1) * 100 > begin;
                let kept: u64 = completed.iter().filter(|(t, _)| in_part(*t)).map(|(_, n)| n).sum();
                prop_assert_eq!(tally.completed, kept);
            }
        }
    }
}

//! Crashes and completions within a sliding window.
//!
//! Crashes are kept exactly, because the limit is exact to one crash. For a policy that never gives
//! up only the last 1024 are kept. Completions are kept in sixty buckets, because there are millions
//! of them. A bucket counts while any part of it lies in the window. A crash that is exactly one
//! window old still counts.

use std::collections::VecDeque;
use std::time::Duration;

use crate::decide::time::Time;

/// The number of buckets of a window.
const BUCKETS: u32 = 60;

/// Completions are counted this long before the end of their bucket.
const LEAD: Duration = Duration::from_millis(2);

/// The largest number of crashes that are kept. A function that completes many more inputs than it crashes
/// may have hundreds of thousands of crashes in a window without giving up. Beyond this number the oldest
/// crashes are forgotten early.
const CRASHES_MAX: usize = 1 << 20;

/// The same for a policy that never gives up, which only displays the number.
const CRASHES_SHOWN: usize = 1 << 10;

/// The rules towards which a crash counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountsTowards {
    /// The crash counts towards the failure rate and the limit.
    Both,
    /// The crash counts towards the failure rate only, because the limit has counted it
    /// together with another crash.
    Rate,
}

/// The crashes and the completed inputs within the window at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowCounts {
    /// All crashes, from which the failure rate is computed.
    pub(crate) crashes: u64,
    /// The crashes that count towards the limit.
    pub(crate) rounds: u64,
    pub(crate) completed: u64,
}

#[derive(Debug)]
pub(super) struct CrashHistory {
    window: Duration,
    /// The length of a bucket in nanoseconds.
    width: u64,
    /// The largest number of crashes that are kept.
    crashes_max: usize,
    /// The crashes, the oldest first.
    crashes: VecDeque<(Time, CountsTowards)>,
    /// The number of crashes that count towards the limit. It is kept separately because each crash needs it.
    rounds: u64,
    /// Bucket numbers and completions, the oldest first. There are at most `BUCKETS + 2` of them.
    completed: VecDeque<(u64, u64)>,
}

impl CrashHistory {
    /// `judged` is whether a limit is judged by this history.
    pub(crate) fn new(window: Duration, judged: bool) -> Self {
        let crashes_max = if judged { CRASHES_MAX } else { CRASHES_SHOWN };
        let width = u64::try_from(window.as_nanos() / u128::from(BUCKETS)).unwrap_or(u64::MAX).max(1);
        Self { window, width, crashes_max, crashes: VecDeque::new(), rounds: 0, completed: VecDeque::new() }
    }

    /// The number of the bucket that a moment lies in.
    fn bucket(&self, now: Time) -> u64 {
        u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX) / self.width
    }

    pub(crate) fn completed(&mut self, inputs: u64, now: Time) {
        let bucket = self.bucket(now);
        match self.completed.back_mut() {
            // A container may have read the clock before another one took the lock. Its completions may then
            // belong to the previous bucket.
            Some((last, count)) if *last >= bucket => *count = count.saturating_add(inputs),
            // Only a new bucket can be one too many, so nothing is forgotten for each completion.
            _ => {
                self.completed.push_back((bucket, inputs));
                self.forget(now);
            }
        }
    }

    pub(crate) fn crashed(&mut self, counts: CountsTowards, now: Time) {
        self.crashes.push_back((now, counts));
        self.rounds += u64::from(counts == CountsTowards::Both);
        if self.crashes.len() > self.crashes_max {
            self.forget_crash();
        }
        self.forget(now);
    }

    fn forget_crash(&mut self) {
        if let Some((_, counts)) = self.crashes.pop_front() {
            self.rounds -= u64::from(counts == CountsTowards::Both);
        }
    }

    /// The next moment at which uncommitted completions should be committed, so that each falls into the
    /// bucket in which it happened. It is just before the bucket ends, because a commit takes a moment.
    /// `None` while the window holds no crash.
    pub(crate) fn next_count(&mut self, now: Time) -> Option<Time> {
        self.forget(now);
        if self.crashes.is_empty() {
            return None;
        }
        let width = self.width;
        let lead = LEAD.as_nanos().min(u128::from(width / 8)) as u64;
        let now = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        let end = (now / width).saturating_add(1).saturating_mul(width);
        let at = end.saturating_sub(lead);
        Some(Time(Duration::from_nanos(if at > now { at } else { at.saturating_add(width) })))
    }

    /// The number of crashes that count towards the limit.
    pub(crate) fn rounds(&mut self, now: Time) -> u64 {
        self.forget(now);
        self.rounds
    }

    pub(crate) fn tally(&mut self, now: Time) -> WindowCounts {
        self.forget(now);
        WindowCounts {
            crashes: self.crashes.len() as u64,
            rounds: self.rounds,
            completed: self.completed.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count)),
        }
    }

    fn forget(&mut self, now: Time) {
        while self.crashes.front().is_some_and(|(at, _)| now.since(*at) > self.window) {
            self.forget_crash();
        }
        let width = u128::from(self.width);
        let begin = now.0.as_nanos().saturating_sub(self.window.as_nanos());
        // The bucket covers [number × width, (number + 1) × width). It is gone once its end is
        // at or before `begin`.
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
        let mut history = CrashHistory::new(Duration::from_secs(60), false);
        for crashes in 1..=2 * CRASHES_SHOWN as u64 {
            let counts = if crashes % 2 == 0 { CountsTowards::Both } else { CountsTowards::Rate };
            history.crashed(counts, Time::default());
            let kept = crashes.min(CRASHES_SHOWN as u64);
            assert_eq!(history.tally(Time::default()).crashes, kept);
            assert_eq!(history.rounds(Time::default()), kept / 2);
        }
    }

    #[test]
    fn completions_are_counted_before_the_end_of_narrow_buckets_too() {
        let mut history = CrashHistory::new(Duration::from_millis(60), true);
        history.crashed(CountsTowards::Both, Time::default());
        assert_eq!(history.next_count(Time::default()), Some(Time(Duration::from_micros(875))));
    }

    #[test]
    fn completions_take_no_more_room_than_there_are_buckets() {
        let mut history = CrashHistory::new(Duration::from_secs(60), true);
        for ms in (0..200_000).step_by(100) {
            history.completed(1, Time(Duration::from_millis(ms)));
        }
        assert!(history.completed.len() <= BUCKETS as usize + 2, "{}", history.completed.len());
    }

    #[test]
    fn completions_are_counted_just_before_the_end_of_each_bucket_while_the_window_holds_a_crash() {
        let at = |ms| Time(Duration::from_millis(ms));
        let mut history = CrashHistory::new(Duration::from_secs(60), true);
        assert_eq!(history.next_count(at(100)), None, "completions matter only beside a crash");
        history.crashed(CountsTowards::Both, at(100));
        assert_eq!(history.next_count(at(100)), Some(at(998)));
        assert_eq!(
            history.next_count(at(998)),
            Some(at(1998)),
            "it is too late for this bucket, so the next one is used"
        );
        assert_eq!(history.next_count(at(61_000)), None);
    }

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn a_crash_exactly_one_window_old_still_counts() {
        let mut history = CrashHistory::new(Duration::from_secs(60), true);
        history.crashed(CountsTowards::Both, at(0));
        assert_eq!(history.tally(at(60_000)).crashes, 1);
        assert_eq!(history.tally(Time(Duration::from_nanos(60_000_000_001))).crashes, 0);
    }

    #[test]
    fn a_bucket_counts_while_any_part_of_it_lies_in_the_window() {
        let mut history = CrashHistory::new(Duration::from_secs(60), true);
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
            let mut history = CrashHistory::new(window, true);
            let (mut now, mut crashes, mut completed) = (0u64, Vec::new(), Vec::new());
            for (advance, what) in steps {
                now += advance / 4;
                if what == 0 {
                    let counts = if advance % 3 == 0 { CountsTowards::Rate } else { CountsTowards::Both };
                    history.crashed(counts, at(now));
                    crashes.push((now, counts));
                } else {
                    history.completed(what, at(now));
                    completed.push((now, what));
                }
                let begin = now.saturating_sub(6_000);
                let tally = history.tally(at(now));
                let within = |counts: &[CountsTowards]| {
                    let counted = |(t, c): &&(u64, CountsTowards)| *t >= begin && counts.contains(c);
                    crashes.iter().filter(counted).count() as u64
                };
                prop_assert_eq!(tally.crashes, within(&[CountsTowards::Both, CountsTowards::Rate]));
                prop_assert_eq!(tally.rounds, within(&[CountsTowards::Both]));
                let in_part = |t: u64| (t / 100 + 1) * 100 > begin;
                let kept: u64 = completed.iter().filter(|(t, _)| in_part(*t)).map(|(_, n)| n).sum();
                prop_assert_eq!(tally.completed, kept);
            }
        }
    }
}

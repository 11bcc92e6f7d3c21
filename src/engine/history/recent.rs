//! The crashes of the last minute, and their share of all executions that ended.

use std::collections::VecDeque;

use crate::decide::time::Time;
use crate::values::health::CRASHING_OVER;
use crate::values::snapshot::trouble::RecentCrashes;

/// Crashes by the second, over the last minute.
#[derive(Debug, Default)]
pub(super) struct Recent(pub(super) VecDeque<Second>);

/// A second with crashes.
#[derive(Debug)]
pub(super) struct Second {
    number: u64,
    crashes: u64,
    /// The number of inputs that had been completed since the start, before the first of these crashes.
    completed: u64,
}

impl Recent {
    fn forget(&mut self, now: Time) {
        while self.0.front().is_some_and(|second| second.number + CRASHING_OVER.as_secs() <= now.0.as_secs())
        {
            self.0.pop_front();
        }
    }

    pub(super) fn add(&mut self, completed: u64, at: Time) {
        let number = at.0.as_secs();
        match self.0.back_mut() {
            // A thread reads the time before it takes the lock. So this crash may be of an earlier second
            // than the last one.
            Some(last) if last.number >= number => last.crashes += 1,
            _ => self.0.push_back(Second { number, crashes: 1, completed }),
        }
        self.forget(at);
    }

    /// The number of crashes, and their share of all executions that ended since the first of them.
    pub(super) fn look(&mut self, completed: u64, now: Time) -> RecentCrashes {
        self.forget(now);
        let crashes = self.0.iter().map(|second| second.crashes).sum::<u64>();
        let since = self.0.front().map(|first| completed.saturating_sub(first.completed));
        let share = since.map(|completed| crashes as f64 / (crashes + completed) as f64);
        RecentCrashes { crashes, over: CRASHING_OVER, share }
    }
}

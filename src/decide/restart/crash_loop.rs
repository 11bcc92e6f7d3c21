//! Loop crashes in a row, and the delay that follows each.
//!
//! A *loop crash* is the death of a container that completed nothing since it started, while no
//! input executed or one that had never crashed a container before. Containers that were started
//! before the current delay or restart began share in its loop crash: eight containers killed by
//! one dependency are one loop crash. An *epoch* counts those events; each life bears the epoch
//! in which it began.

use std::time::Duration;

use crate::decide::jitter::Jitter;
use crate::decide::time::Time;

/// What the policies know of one generation of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// How many loop crashes had been counted when it began.
    pub(crate) epoch: u64,
    /// How many deaths had been counted towards the limit when it began.
    pub(crate) round: u64,
    /// When its start began.
    pub(crate) began: Time,
    /// When its `enter` ended; `None` while it starts.
    pub(crate) entered: Option<Time>,
    /// Inputs completed since it started.
    pub(crate) completed: u64,
}

/// How long the n-th loop crash in a row delays the restart. The first never does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delays {
    /// The delay after the second loop crash.
    pub(crate) initial: Duration,
    /// The longest delay.
    pub(crate) max: Duration,
}

impl Delays {
    /// The delay after loop crash `n` in a row: 0 for the first, then `initial × 2^(n−2)` up to `max`.
    pub(crate) fn after(self, n: u32) -> Duration {
        if n < 2 {
            return Duration::ZERO;
        }
        let doublings = n - 2;
        let factor = 1u32.checked_shl(doublings);
        factor.and_then(|factor| self.initial.checked_mul(factor)).map_or(self.max, |d| d.min(self.max))
    }
}

/// Counts loop crashes in a row.
#[derive(Debug)]
pub(crate) struct CrashLoop {
    delays: Delays,
    reset_after: Duration,
    jitter: Option<Jitter>,
    /// Loop crashes in a row; 0 when there is no loop.
    n: u32,
    /// Loop crashes ever counted. Only grows, so that old lives never look young.
    epoch: u64,
    /// When containers may be created again, after the last loop crash.
    due: Option<Time>,
    /// When the first loop crash in a row was.
    since: Option<Time>,
    /// No live container will have stayed up long enough before that; `None` if none is in sight that may.
    stable_at: Option<Time>,
    /// A loop that has ended, and was not told of: its loop crashes, and when the first was.
    ended: Option<(u32, Time)>,
}

impl CrashLoop {
    pub(crate) fn new(delays: Delays, reset_after: Duration, jitter: Option<Jitter>) -> Self {
        Self {
            delays,
            reset_after,
            jitter,
            n: 0,
            epoch: 0,
            due: None,
            since: None,
            stable_at: None,
            ended: None,
        }
    }

    /// Loop crashes counted so far, as a life that begins now bears it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A container of that life completed an input.
    pub(crate) fn progress(&mut self, life: &Life) {
        if life.epoch == self.epoch {
            self.end();
        }
    }

    /// A container of that life has entered.
    pub(crate) fn entered(&mut self, life: &Life, now: Time) {
        if self.n > 0 && life.epoch == self.epoch {
            let stable = now + self.reset_after;
            self.stable_at = Some(self.stable_at.map_or(stable, |at| at.min(stable)));
        }
    }

    /// Forgets the loop if one of `lives`, begun after the last loop crash, stayed up long enough. They are looked at only
    /// where one may have.
    pub(crate) fn settle(&mut self, lives: impl IntoIterator<Item = Life>, now: Time) {
        if self.stable_at.is_none_or(|at| at > now) {
            return;
        }
        let young = lives.into_iter().filter(|life| life.epoch == self.epoch);
        self.stable_at = young.filter_map(|life| Some(life.entered? + self.reset_after)).min();
        if self.stable_at.is_some_and(|at| at <= now) {
            self.end();
        }
    }

    /// When one of the lives may have stayed up long enough.
    pub(crate) fn stable_at(&self) -> Option<Time> {
        self.stable_at
    }

    /// A loop that has ended since this was last asked: how many loop crashes it had, and when the first was.
    pub(crate) fn take_ended(&mut self) -> Option<(u32, Time)> {
        self.ended.take()
    }

    /// A loop crash ended that life. Counted unless it belongs to one already counted.
    pub(crate) fn crashed(&mut self, life: &Life, now: Time) {
        if life.epoch < self.epoch && self.n > 0 {
            return;
        }
        self.n = self.n.saturating_add(1);
        self.epoch += 1;
        self.stable_at = None; // nothing has begun since
        self.since = self.since.or(Some(now));
        let delay = self.delays.after(self.n);
        let delay = match &mut self.jitter {
            Some(jitter) if !delay.is_zero() => jitter.equal(delay),
            _ => delay,
        };
        self.due = Some(now + delay);
    }

    /// When containers may be created again; may lie in the past.
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }

    pub(crate) fn since(&self) -> Option<Time> {
        self.since
    }

    pub(crate) fn in_a_row(&self) -> u32 {
        self.n
    }

    /// Forgets the loop by hand. Lives that go on keep their epoch, which stays behind.
    pub(crate) fn reset(&mut self) {
        self.forget();
    }

    /// It has ended by itself. A single loop crash was never told of as a loop.
    fn end(&mut self) {
        self.ended = self.since.filter(|_| self.n > 1).map(|since| (self.n, since)).or(self.ended);
        self.forget();
    }

    fn forget(&mut self) {
        self.n = 0;
        self.due = None;
        self.since = None;
        self.stable_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn crash_loop() -> CrashLoop {
        CrashLoop::new(Delays { initial: 100 * MS, max: 60_000 * MS }, 10_000 * MS, None)
    }

    fn life(crash_loop: &CrashLoop) -> Life {
        Life { epoch: crash_loop.epoch(), round: 0, began: at(0), entered: None, completed: 0 }
    }

    #[test]
    fn delays_double_from_the_second_loop_crash_up_to_the_cap() {
        let delays = Delays { initial: 100 * MS, max: 60_000 * MS };
        let seen: Vec<u128> = (1..=13).map(|n| delays.after(n).as_millis()).collect();
        assert_eq!(
            seen,
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000]
        );
        assert_eq!(delays.after(u32::MAX), 60_000 * MS);
    }

    #[test]
    fn containers_started_before_the_restart_share_in_its_loop_crash() {
        let mut crash_loop = crash_loop();
        let eight = [life(&crash_loop); 8];
        for life in &eight {
            crash_loop.crashed(life, at(0));
        }
        assert_eq!(crash_loop.in_a_row(), 1);
        let second = [life(&crash_loop); 8];
        for life in &second {
            crash_loop.crashed(life, at(5));
        }
        assert_eq!((crash_loop.in_a_row(), crash_loop.due()), (2, Some(at(105))));
    }

    #[test]
    fn progress_of_an_old_life_does_not_end_the_loop() {
        let mut crash_loop = crash_loop();
        let old = life(&crash_loop);
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(0));
        crash_loop.progress(&old);
        assert_eq!(crash_loop.in_a_row(), 1);
        let young = life(&crash_loop);
        crash_loop.progress(&young);
        assert_eq!((crash_loop.in_a_row(), crash_loop.due()), (0, None));
    }

    #[test]
    fn staying_up_counts_from_the_end_of_enter_to_the_nanosecond() {
        let mut crash_loop = crash_loop();
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(0));
        let mut up = life(&crash_loop);
        crash_loop.settle([up], at(50_000));
        assert_eq!(crash_loop.in_a_row(), 1, "it has not even entered");
        up.entered = Some(at(50_000));
        crash_loop.entered(&up, at(50_000));
        assert_eq!(crash_loop.stable_at(), Some(at(60_000)));
        crash_loop.settle([up], Time(Duration::from_nanos(59_999_999_999)));
        assert_eq!(crash_loop.in_a_row(), 1);
        crash_loop.settle([up], at(60_000));
        assert_eq!(crash_loop.in_a_row(), 0);
    }

    #[test]
    fn lives_are_looked_at_only_where_one_may_have_stayed_up_long_enough() {
        let mut crash_loop = crash_loop();
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(0));
        let mut up = life(&crash_loop);
        up.entered = Some(at(1000));
        crash_loop.entered(&up, at(1000));
        crash_loop.settle(std::iter::from_fn(|| panic!("none may have")), at(10_999));
        // That one dies of its input, which is no loop crash. Another enters.
        let mut other = life(&crash_loop);
        other.entered = Some(at(5000));
        crash_loop.entered(&other, at(5000));
        crash_loop.settle([other], at(11_000));
        assert_eq!((crash_loop.in_a_row(), crash_loop.stable_at()), (1, Some(at(15_000))));
        crash_loop.settle([other], at(15_000));
        assert_eq!((crash_loop.in_a_row(), crash_loop.stable_at()), (0, None));
    }

    #[test]
    fn the_end_of_a_loop_is_told_once_and_not_that_of_a_single_crash() {
        let mut crash_loop = crash_loop();
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(0));
        let second = life(&crash_loop);
        crash_loop.progress(&second);
        assert_eq!(crash_loop.take_ended(), None);
        for ms in [10, 20] {
            let next = life(&crash_loop);
            crash_loop.crashed(&next, at(ms));
        }
        let last = life(&crash_loop);
        crash_loop.progress(&last);
        assert_eq!((crash_loop.take_ended(), crash_loop.take_ended()), (Some((2, at(10))), None));
        for ms in [30, 40] {
            let next = life(&crash_loop);
            crash_loop.crashed(&next, at(ms));
        }
        crash_loop.reset();
        assert_eq!(crash_loop.take_ended(), None, "a reset is told by itself");
    }

    #[test]
    fn without_a_loop_or_of_a_life_before_it_staying_up_is_of_no_interest() {
        let mut crash_loop = crash_loop();
        let old = life(&crash_loop);
        crash_loop.entered(&old, at(1));
        assert_eq!(crash_loop.stable_at(), None, "there is no loop");
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(2));
        crash_loop.entered(&old, at(3));
        assert_eq!(crash_loop.stable_at(), None, "it began before the loop crash");
    }

    #[test]
    fn an_old_life_begins_a_loop_once_the_one_that_it_shared_in_is_over() {
        let mut crash_loop = crash_loop();
        let old = life(&crash_loop);
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(0));
        let young = life(&crash_loop);
        crash_loop.progress(&young);
        crash_loop.crashed(&old, at(5));
        assert_eq!((crash_loop.in_a_row(), crash_loop.since()), (1, Some(at(5))));
    }

    #[test]
    fn each_delay_but_that_of_zero_is_drawn_from_the_seed() {
        let delays = Delays { initial: 100 * MS, max: 60_000 * MS };
        let mut crash_loop = CrashLoop::new(delays, 10_000 * MS, Some(Jitter::new(5)));
        let mut jitter = Jitter::new(5);
        for n in 1..8 {
            let next = life(&crash_loop);
            crash_loop.crashed(&next, at(0));
            let drawn = if n == 1 { Duration::ZERO } else { jitter.equal(delays.after(n)) };
            assert_eq!(crash_loop.due(), Some(Time(drawn)));
        }
    }
}

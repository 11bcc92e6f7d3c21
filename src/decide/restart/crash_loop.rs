//! Loop crashes in a row, and the delay that follows each.
//!
//! A *loop crash* is a death that meets two conditions. The container had completed nothing since it started.
//! And it was executing no input, or an input that had never crashed a container before. Containers that were
//! started before the current delay or restart began belong to its loop crash: eight containers killed by one
//! dependency are one loop crash. An *epoch* is the number of loop crashes so far. Each life records the
//! epoch in which it began.

use std::time::Duration;

use crate::decide::jitter::Jitter;
use crate::decide::time::Time;

/// The state of one generation of a container that the policies use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LifeRecord {
    /// The number of loop crashes that had been counted when the life began.
    pub(crate) epoch: u64,
    /// The number of deaths that had been counted towards the limit when the life began.
    pub(super) round: u64,
    /// The moment at which the container's start began.
    pub(crate) began: Time,
    /// The moment at which its `enter` ended. `None` while it starts.
    pub(crate) entered: Option<Time>,
    /// The number of inputs that it has completed since it started.
    pub(crate) completed: u64,
}

/// The delay of the restart after the n-th loop crash in a row. The first one is not delayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delays {
    /// The delay after the second loop crash.
    pub(super) initial: Duration,
    /// The longest delay.
    pub(super) max: Duration,
}

impl Delays {
    /// The delay after loop crash `n` in a row: 0 for the first, then `initial × 2^(n−2)` up to `max`.
    pub(super) fn after(self, n: u32) -> Duration {
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
    /// The number of loop crashes in a row. 0 when there is no loop.
    n: u32,
    /// The number of loop crashes ever counted. It only grows, so that old lives never look young.
    epoch: u64,
    /// The moment from which containers may be created again, after the last loop crash.
    due: Option<Time>,
    /// The moment of the first loop crash in a row.
    since: Option<Time>,
    /// The earliest moment at which a live container may have stayed up long enough. `None` if no
    /// container is a candidate.
    stable_at: Option<Time>,
    /// A loop that has ended and was not reported yet: the number of its loop crashes, and
    /// the moment of the first.
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

    /// The number of loop crashes counted so far. A life that begins now records it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Records that the container of `life` completed an input.
    pub(crate) fn progress(&mut self, life: &LifeRecord) {
        if life.epoch == self.epoch {
            self.end();
        }
    }

    /// Records that the container of `life` has entered.
    pub(crate) fn entered(&mut self, life: &LifeRecord, now: Time) {
        if self.n > 0 && life.epoch == self.epoch {
            let stable = now + self.reset_after;
            self.stable_at = Some(self.stable_at.map_or(stable, |at| at.min(stable)));
        }
    }

    /// Ends the loop if one of `lives`, begun after the last loop crash, has stayed up long enough. The lives
    /// are looked at only if one of them may have.
    pub(crate) fn end_loop_if_stable(&mut self, lives: impl IntoIterator<Item = LifeRecord>, now: Time) {
        if self.stable_at.is_none_or(|at| at > now) {
            return;
        }
        let young = lives.into_iter().filter(|life| life.epoch == self.epoch);
        self.stable_at = young.filter_map(|life| Some(life.entered? + self.reset_after)).min();
        if self.stable_at.is_some_and(|at| at <= now) {
            self.end();
        }
    }

    /// The earliest moment at which a life may have stayed up long enough.
    pub(crate) fn stable_at(&self) -> Option<Time> {
        self.stable_at
    }

    /// Takes the loop that has ended since the last call: the number of its loop crashes, and
    /// the moment of the first.
    pub(crate) fn take_ended(&mut self) -> Option<(u32, Time)> {
        self.ended.take()
    }

    /// Records that a crash ended `life`. It is counted unless it belongs to a loop crash
    /// that was counted already.
    pub(crate) fn crashed(&mut self, life: &LifeRecord, now: Time) {
        if life.epoch < self.epoch && self.n > 0 {
            return;
        }
        self.n = self.n.saturating_add(1);
        self.epoch += 1;
        self.stable_at = None; // no container has begun since
        self.since = self.since.or(Some(now));
        let delay = self.delays.after(self.n);
        let delay = match &mut self.jitter {
            Some(jitter) if !delay.is_zero() => jitter.equal(delay),
            _ => delay,
        };
        // With jitter a later delay may be the shorter one. It does not end the earlier delay, because
        // containers wait for the end of that one by a timer.
        self.due = self.due.max(Some(now + delay));
    }

    /// The moment from which containers may be created again. It may lie in the past.
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }

    pub(crate) fn since(&self) -> Option<Time> {
        self.since
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.n
    }

    /// Forgets the loop by hand. Lives that go on keep their epoch, which stays behind.
    pub(crate) fn reset(&mut self) {
        self.forget();
    }

    /// Ends the loop by itself. A single loop crash was never reported as a loop, so its end
    /// is not reported either.
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

    fn life(crash_loop: &CrashLoop) -> LifeRecord {
        LifeRecord { epoch: crash_loop.epoch(), round: 0, began: at(0), entered: None, completed: 0 }
    }

    #[test]
    fn a_later_crash_does_not_end_the_delay_of_an_earlier_one() {
        for seed in 0..20 {
            let delays = Delays { initial: 100 * MS, max: 100 * MS };
            let mut crash_loop = CrashLoop::new(delays, 10_000 * MS, Some(Jitter::new(seed)));
            let mut due = None;
            for crash in 0..10 {
                let life = life(&crash_loop);
                crash_loop.crashed(&life, at(crash));
                assert!(crash_loop.due() >= due, "seed {seed}: {:?} after {due:?}", crash_loop.due());
                assert!(crash_loop.due() <= Some(at(crash) + 100 * MS));
                due = crash_loop.due();
            }
        }
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
        assert_eq!(crash_loop.in_a_row(), 2);
        assert_eq!(crash_loop.due(), Some(at(105)));
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
        assert_eq!(crash_loop.in_a_row(), 0);
        assert_eq!(crash_loop.due(), None);
    }

    #[test]
    fn staying_up_counts_from_the_end_of_enter_to_the_nanosecond() {
        let mut crash_loop = crash_loop();
        let first = life(&crash_loop);
        crash_loop.crashed(&first, at(0));
        let mut up = life(&crash_loop);
        crash_loop.end_loop_if_stable([up], at(50_000));
        assert_eq!(crash_loop.in_a_row(), 1, "the container has not entered yet");
        up.entered = Some(at(50_000));
        crash_loop.entered(&up, at(50_000));
        assert_eq!(crash_loop.stable_at(), Some(at(60_000)));
        crash_loop.end_loop_if_stable([up], Time(Duration::from_nanos(59_999_999_999)));
        assert_eq!(crash_loop.in_a_row(), 1);
        crash_loop.end_loop_if_stable([up], at(60_000));
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
        crash_loop.end_loop_if_stable(
            std::iter::from_fn(|| panic!("no life may have stayed up long enough")),
            at(10_999),
        );
        // The container of `up` dies of its input, which is no loop crash. Another container enters.
        let mut other = life(&crash_loop);
        other.entered = Some(at(5000));
        crash_loop.entered(&other, at(5000));
        crash_loop.end_loop_if_stable([other], at(11_000));
        assert_eq!(crash_loop.in_a_row(), 1);
        assert_eq!(crash_loop.stable_at(), Some(at(15_000)));
        crash_loop.end_loop_if_stable([other], at(15_000));
        assert_eq!(crash_loop.in_a_row(), 0);
        assert_eq!(crash_loop.stable_at(), None);
    }

    #[test]
    fn the_end_of_a_loop_is_reported_once_and_the_end_of_a_single_crash_is_not() {
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
        assert_eq!(crash_loop.take_ended(), Some((2, at(10))));
        assert_eq!(crash_loop.take_ended(), None);
        for ms in [30, 40] {
            let next = life(&crash_loop);
            crash_loop.crashed(&next, at(ms));
        }
        crash_loop.reset();
        assert_eq!(crash_loop.take_ended(), None, "a reset has its own event");
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

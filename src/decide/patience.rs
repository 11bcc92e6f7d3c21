//! Whether a thread that waits for an answer yields its core once before it sleeps.
//!
//! Often the thread that answers is runnable on the same core. A thread that yields then gets its answer for
//! the price of one switch each way, and neither thread has to put the other to sleep or to wake it. That
//! saves about 2 µs. But the core may go to another thread instead, for milliseconds, or the yield may return
//! at once because the answer is made on another core.
//!
//! So a yield that does not pay is a *debt* of the waiting thread, and each sleep pays a part of it off. The
//! time that is lost is then at most [`PRICE`] for each sleep, beside the last loss, whatever else the cores
//! do.

use std::time::Duration;

/// The time for which an answer that comes by a yield is worth it: an answer of code that does little, on the
/// same core, takes 5 µs. Code that takes longer gains nothing that would be noticed.
const SOON: Duration = Duration::from_micros(50);

/// The mean time that yields may lose for each sleep. It is about a hundredth of what a sleep costs.
const PRICE: Duration = Duration::from_nanos(64);

/// The most that is owed, which is paid off after 100 000 sleeps. No single loss is remembered for ever. It
/// is more than the slice for which a scheduler may give the core away.
const DEBT_MAX: Duration = Duration::from_micros(6400);

/// The experience of one thread with its yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The time that yields have lost, less what sleeps have paid off. There is no yield before it is zero.
    debt: Duration,
}

impl Patience {
    /// The experience of a new thread. It yields only once it has slept a thousand times, because a thread
    /// that ends before that would gain less than a single loss costs.
    pub(crate) const NEW: Self = Self { debt: Duration::from_micros(64) };

    /// Whether the thread yields before it sleeps now.
    pub(crate) fn yields(&mut self) -> bool {
        let yields = self.debt.is_zero();
        self.debt = self.debt.saturating_sub(PRICE);
        yields
    }

    /// A yield has returned after `took`. `answered` says whether the answer was there then.
    pub(crate) fn has_yielded(&mut self, answered: bool, took: Duration) {
        if !answered || took > SOON {
            self.debt = (self.debt + took).min(DEBT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The experience of a thread that owes nothing.
    const FREE: Patience = Patience { debt: Duration::ZERO };

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// The number of sleeps until the next yield.
    fn sleeps(patience: &mut Patience) -> u64 {
        (0..200_000).find(|_| patience.yields()).expect("a debt is paid off")
    }

    #[test]
    fn a_thread_yields_before_each_sleep_while_that_pays() {
        let mut patience = FREE;
        for _ in 0..10 {
            assert!(patience.yields());
            patience.has_yielded(true, SOON);
        }
    }

    #[test]
    fn a_new_thread_sleeps_a_thousand_times_before_it_yields() {
        assert_eq!(sleeps(&mut { Patience::NEW }), 1000);
    }

    #[test]
    fn a_yield_without_an_answer_is_paid_off_by_sleeps() {
        let mut patience = FREE;
        assert!(patience.yields());
        patience.has_yielded(false, Duration::from_nanos(640));
        assert_eq!(sleeps(&mut patience), 10);
    }

    #[test]
    fn an_answer_behind_other_threads_is_no_gain() {
        let mut patience = FREE;
        patience.has_yielded(true, micros(64));
        assert_eq!(sleeps(&mut patience), 1000);
        patience.has_yielded(true, micros(3000));
        assert_eq!(sleeps(&mut patience), 46_875);
    }

    #[test]
    fn the_time_that_is_lost_is_bounded_for_each_sleep_however_the_yields_end() {
        let mut patience = FREE;
        let (mut lost, mut sleeps) = (Duration::ZERO, 0);
        for turn in 0..1_000_000u64 {
            sleeps += 1;
            if patience.yields() {
                let took = Duration::from_nanos(300 + turn * turn % 4_000_000);
                patience.has_yielded(turn % 3 == 0, took);
                lost += took;
            }
        }
        assert!(lost <= PRICE * sleeps + 2 * micros(4000), "{lost:?}");
        assert!(lost >= PRICE * sleeps / 2, "it goes on trying: {lost:?}");
    }

    #[test]
    fn a_single_loss_is_not_remembered_for_ever() {
        let mut patience = FREE;
        patience.has_yielded(false, Duration::from_secs(60));
        assert_eq!(sleeps(&mut patience), 100_000);
    }
}

//! The table of all accounts of the process, and who has which.
//!
//! It is static, so that the allocator finds an account without a lock and without ever allocating. A place is
//! given away again only when nothing is charged to it: until then blocks bear its mark.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use parking_lot::Mutex;

use crate::memory::account::{Account, Epoch};
use crate::memory::till::Inside;

/// The place of an account in the table; never 0.
pub(crate) type Place = NonZeroU16;

/// Places of the table. The pages of those that were never used are never touched.
pub(crate) const PLACES: usize = 1 << 16;

#[expect(unsafe_code, reason = "a table of zeros that takes no room in the binary")]
// SAFETY: an account is atomics alone, of integers and a bool, and all zeros is a value of each.
static TABLE: [Account; PLACES] = unsafe { std::mem::zeroed() };

/// Places that are not in use.
static UNUSED: Mutex<Unused> = Mutex::new(Unused { next: 1, free: Vec::new(), retired: VecDeque::new() });

/// Retired places that are looked at before a new one is taken.
const LOOKS: usize = 8;

#[derive(Debug)]
struct Unused {
    /// The first that was never in use.
    next: u32,
    /// Nothing is charged to them.
    free: Vec<Place>,
    /// Nobody charges them any more, and something was alive when that was seen last.
    retired: VecDeque<Place>,
}

impl Unused {
    fn take(&mut self) -> Option<Place> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        if let Some(place) = self.take_retired(LOOKS) {
            return Some(place);
        }
        if let Some(place) = u16::try_from(self.next).ok().and_then(Place::new) {
            self.next += 1;
            return Some(place);
        }
        self.take_retired(self.retired.len())
    }

    /// A retired place that is free by now.
    fn take_retired(&mut self, looks: usize) -> Option<Place> {
        for _ in 0..looks.min(self.retired.len()) {
            let place = self.retired.pop_front()?;
            if at(place).live() == 0 {
                return Some(place);
            }
            self.retired.push_back(place);
        }
        None
    }
}

/// The account at a place.
#[inline]
pub(crate) fn at(place: Place) -> &'static Account {
    &TABLE[usize::from(place.get())]
}

/// An account in use. When it is dropped nobody charges it any more.
#[derive(Debug)]
pub(crate) struct Open {
    place: Place,
}

impl Open {
    /// Opens an account with that limit in bytes. `None` if every place of the table holds memory.
    pub(crate) fn new(limit: Option<u64>) -> Option<Self> {
        let place = UNUSED.lock().take()?;
        at(place).open(limit);
        Some(Self { place })
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn counters(&self) -> &'static Account {
        at(self.place)
    }

    /// What this thread allocates is charged to the account, until that is dropped.
    pub(crate) fn enter(&self) -> Inside {
        Inside::account(self.place)
    }

    /// This thread, which is inside, ends the epoch.
    pub(crate) fn end_epoch(&self) -> Epoch {
        Inside::end_epoch(self.place)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _outside = Inside::process(); // the lists are nobody's
        let mut unused = UNUSED.lock();
        if self.counters().live() == 0 {
            unused.free.push(self.place);
        } else {
            unused.retired.push_back(self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::account::ENTER;

    fn open(limit: u64) -> Account {
        let account = Account::new();
        account.open(Some(limit));
        account
    }

    #[test]
    fn the_limit_is_of_the_state_and_of_the_attempt_that_runs() {
        let account = open(100);
        assert!(!account.charge(ENTER, 60, 60));
        account.end_epoch();
        let first = account.epoch();
        assert!(!account.charge(first, 40, 40), "just as much as is allowed");
        assert_eq!(account.end_epoch(), Epoch { peak: 100, left: 40 });
        assert_eq!((account.used(), account.retained(), account.live()), (60, 40, 100));
        assert!(!account.charge(account.epoch(), 30, 40), "what the first has left does not count");
        account.credit(first, 40);
        assert_eq!((account.used(), account.retained(), account.live()), (90, 0, 90));
        assert!(account.charge(account.epoch(), 0, 11), "more in between is more");
        assert!(!account.charge(account.epoch(), 100, 100), "told once");
        assert!(account.is_overdrawn());
        assert_eq!((account.peak(), account.highest()), (190, 190));
    }

    #[test]
    fn a_block_that_outlives_its_epoch_is_not_taken_for_another_s() {
        let account = open(1000);
        account.end_epoch();
        let old = account.epoch();
        account.charge(old, 500, 500);
        account.end_epoch();
        account.charge(account.epoch(), 7, 7);
        account.credit(old, 500);
        assert_eq!((account.used(), account.live()), (7, 7));
        account.charge(old, 3, 3); // of a helper that has outlived the attempt
        assert_eq!((account.used(), account.retained(), account.live()), (7, 3, 10));
    }

    #[test]
    fn sums_below_zero_and_the_end_of_the_epochs_are_counted_right() {
        let account = open(1000);
        account.end_epoch();
        account.credit(1, 5); // freed before the thread that made it has booked
        assert_eq!((account.used(), account.retained()), (-5, 0));
        account.charge(1, 5, 5);
        assert_eq!((account.used(), account.live()), (0, 0));
        (1..u16::MAX).for_each(|_| _ = account.end_epoch());
        assert_eq!(account.epoch(), u16::MAX);
        account.end_epoch();
        assert_eq!(account.epoch(), 1, "0 is the epoch of `enter`");
    }
}

//! The table of all accounts of the process, and who has which.
//!
//! It is static, so that the allocator finds an account without a lock and without ever allocating. A place is
//! given away again as soon as its account is closed, though blocks that bear its mark may live for as long as the
//! process does: [`Account`] tells them from its own. So the table bounds how many accounts there are at a time, and
//! not how many there have ever been.

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
static UNUSED: Mutex<Unused> = Mutex::new(Unused { next: 1, free: VecDeque::new() });

#[derive(Debug)]
struct Unused {
    /// The first that was never in use.
    next: u32,
    /// Places whose accounts are closed. The one that is at the back is taken first, because its memory has been
    /// touched last.
    free: VecDeque<Place>,
}

impl Unused {
    /// Takes a place at which `open` can open an account. It cannot where a thread is about to look whether a block
    /// that it frees belongs to the account: one look at such a place is enough, as there are others.
    fn take(&mut self, mut open: impl FnMut(Place) -> bool) -> Option<Place> {
        if let Some(place) = self.take_free(&mut open) {
            return Some(place);
        }
        if let Some(place) = u16::try_from(self.next).ok().and_then(Place::new) {
            self.next += 1;
            assert!(open(place), "no block bears the mark of a place that was never in use");
            return Some(place);
        }
        (0..self.free.len()).find_map(|_| self.take_free(&mut open))
    }

    /// Takes the place that was given back last, if an account can be opened there.
    fn take_free(&mut self, open: &mut impl FnMut(Place) -> bool) -> Option<Place> {
        let place = self.free.pop_back()?;
        if open(place) {
            return Some(place);
        }
        self.free.push_front(place);
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
    /// Opens an account with that limit in bytes. `None` if every place of the table is in use.
    pub(crate) fn new(limit: Option<u64>) -> Option<Self> {
        let place = UNUSED.lock().take(|place| at(place).open(limit))?;
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
        let _outside = Inside::process(); // the list is nobody's
        self.counters().close();
        UNUSED.lock().free.push_back(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(limit: u64) -> Account {
        let account = Account::new();
        assert!(account.open(Some(limit)));
        account
    }

    #[test]
    fn the_limit_is_of_the_state_and_of_the_attempt_that_runs() {
        let account = open(100);
        assert!(!account.charge(account.enter_epoch(), 60, 60));
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
    fn a_block_that_a_container_keeps_is_its_own_however_many_attempts_later_it_is_freed() {
        let account = open(u64::MAX);
        account.charge(account.enter_epoch(), 100, 100);
        account.end_epoch();
        let kept = account.epoch();
        account.charge(kept, 500, 500);
        // The word of the attempt has room for 16 bits of its epoch: they come round several times.
        for n in 0..200_000 {
            account.end_epoch();
            if n % 65_536 == 65_535 {
                account.charge(account.epoch(), 7, 7);
                account.charge(kept, 1, 1); // by a helper that has outlived the attempt
                account.credit(kept, 1);
                account.credit(account.enter_epoch(), 1);
                account.charge(account.enter_epoch(), 1, 1);
                assert_eq!((account.used(), account.retained()), (107, 500 + n / 65_536 * 7));
            }
        }
        account.credit(kept, 500);
        assert_eq!((account.used(), account.retained(), account.live()), (100, 21, 121));
    }

    #[test]
    fn sums_below_zero_and_the_end_of_the_epochs_are_counted_right() {
        // Two epochs before their numbers begin again with 0.
        let account = Account::after_epochs((1 << 48) - 2);
        assert!(account.open(Some(1000)));
        let (enter, old) = (account.enter_epoch(), account.enter_epoch() - 1);
        account.charge(enter, 50, 50);
        account.end_epoch();
        let last = account.epoch();
        account.credit(last, 5); // freed before the thread that made it has booked
        assert_eq!((account.used(), account.retained()), (45, 0));
        account.charge(last, 5, 5);
        assert_eq!((account.used(), account.live()), (50, 50));
        account.charge(last, 20, 20);
        account.end_epoch();
        assert_eq!((account.epoch(), account.used(), account.retained()), (0, 50, 20));
        account.charge(0, 3, 3);
        account.end_epoch();
        account.charge(account.epoch(), 4, 4);
        account.credit(old, 1000); // of the account before
        assert_eq!((account.used(), account.retained()), (54, 23));
        [(enter, 50), (last, 20), (0, 3), (1, 4)]
            .iter()
            .for_each(|(epoch, bytes)| account.credit(*epoch, *bytes));
        assert_eq!((account.used(), account.retained(), account.live()), (0, 0, 0));
        account.close();
        assert!(account.open(None));
        [enter, last, 0, 1].iter().for_each(|epoch| account.credit(*epoch, 10));
        assert_eq!((account.enter_epoch(), account.live()), (2, 0));
    }

    #[test]
    fn opening_an_account_takes_two_looks_at_most_whatever_was_opened_and_closed_before() {
        let mut unused = Unused { next: 1, free: VecDeque::new() };
        let mut occupied = Vec::new(); // each of them has a guest
        let mut most = 0;
        for round in 0..200_000u32 {
            let mut looks = 0;
            let place = unused.take(|place| {
                looks += 1;
                !occupied.contains(&place)
            });
            let place = place.expect("the guests are few");
            most = most.max(looks);
            if round % 1_000 == 0 && occupied.len() < 20 {
                occupied.push(place);
            }
            unused.free.push_back(place);
        }
        assert_eq!(most, 2, "one at a place with a guest");
        assert_eq!(unused.next, 1 + 21, "a place is given away again and again");
    }

    #[test]
    fn a_table_in_which_all_places_are_in_use_gives_none_and_goes_on_once_one_is_given_back() {
        let mut unused = Unused { next: 1, free: VecDeque::new() };
        let places = (1..PLACES).filter(|_| unused.take(|_| true).is_some()).count();
        assert_eq!((places, unused.take(|_| true)), (PLACES - 1, None));
        let back = [3, 5].map(|place| Place::new(place).expect("not 0"));
        unused.free.extend(back);
        assert_eq!(unused.take(|place| place == back[0]), Some(back[0]), "the other has a guest");
        assert_eq!(unused.take(|place| place == back[0]), None);
        assert_eq!(unused.take(|_| true), Some(back[1]));
    }
}

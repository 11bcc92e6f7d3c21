//! The table of all accounts of the process, and the places of it that are in use.
//!
//! The table is static, so that the allocator finds an account without a lock and without ever allocating. A
//! place is given away again as soon as its account is closed, although blocks that bear its mark may live as
//! long as the process: [`Account`] distinguishes them from its own. The table therefore limits how many
//! accounts exist at a time, and not how many have ever existed.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use parking_lot::Mutex;

use crate::memory::account::{Account, Epoch};
use crate::memory::local_charge::ChargeGuard;

/// The place of an account in the table. It is never 0.
pub(super) type AccountIndex = NonZeroU16;

/// The number of places. The pages of places that were never used are never touched.
pub(super) const ACCOUNTS_MAX: usize = 1 << 16;

#[expect(unsafe_code, reason = "a table of zeros that takes no room in the binary")]
// SAFETY: an account consists of atomic integers and atomic bools, and all zeros is a valid value of each.
static TABLE: [Account; ACCOUNTS_MAX] = unsafe { std::mem::zeroed() };

/// The places that are not in use.
static UNUSED: Mutex<Unused> = Mutex::new(Unused { next: 1, free: VecDeque::new() });

#[derive(Debug)]
struct Unused {
    /// The first place that was never in use.
    next: u32,
    /// Places whose accounts are closed. The place at the back is taken first, because its
    /// memory was touched last.
    free: VecDeque<AccountIndex>,
}

impl Unused {
    /// Takes a place at which `open` can open an account. `open` fails where a thread is just checking
    /// whether a block that it frees belongs to the account. One attempt at such a place is enough, because
    /// there are other places.
    fn take(&mut self, mut open: impl FnMut(AccountIndex) -> bool) -> Option<AccountIndex> {
        if let Some(index) = self.take_free(&mut open) {
            return Some(index);
        }
        if let Some(index) = u16::try_from(self.next).ok().and_then(AccountIndex::new) {
            self.next += 1;
            assert!(open(index), "no block bears the mark of a place that was never in use");
            return Some(index);
        }
        (0..self.free.len()).find_map(|_| self.take_free(&mut open))
    }

    /// Takes the place that was given back last, if an account can be opened there.
    fn take_free(&mut self, open: &mut impl FnMut(AccountIndex) -> bool) -> Option<AccountIndex> {
        let index = self.free.pop_back()?;
        if open(index) {
            return Some(index);
        }
        self.free.push_front(index);
        None
    }
}

/// The account at `index`.
#[inline]
pub(crate) fn at(index: AccountIndex) -> &'static Account {
    &TABLE[usize::from(index.get())]
}

/// An account in use. Once it is dropped, its container charges it no more.
#[derive(Debug)]
pub(crate) struct Open {
    index: AccountIndex,
}

impl Open {
    /// Opens an account with a limit in bytes. Returns `None` if every place of the table is in use.
    pub(crate) fn new(limit: Option<u64>) -> Option<Self> {
        let index = UNUSED.lock().take(|index| at(index).open(limit))?;
        Some(Self { index })
    }

    pub(crate) fn index(&self) -> AccountIndex {
        self.index
    }

    pub(crate) fn counters(&self) -> &'static Account {
        at(self.index)
    }

    /// Charges the account for what this thread allocates, until the returned value is dropped.
    pub(crate) fn enter(&self) -> ChargeGuard {
        ChargeGuard::account(self.index)
    }

    /// Ends the epoch of the account. This thread must be inside.
    pub(crate) fn end_epoch(&self) -> Epoch {
        ChargeGuard::end_epoch(self.index)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _outside = ChargeGuard::process(); // the list of free places belongs to no container
        self.counters().close();
        UNUSED.lock().free.push_back(self.index);
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
    fn the_limit_applies_to_the_state_and_the_running_attempt() {
        let account = open(100);
        assert!(!account.charge(account.enter_epoch(), 60, 60));
        account.end_epoch();
        let first = account.epoch();
        assert!(!account.charge(first, 40, 40), "exactly the limit is allowed");
        assert_eq!(account.end_epoch(), Epoch { peak: 100, left: 40 });
        assert_eq!(account.used(), 60);
        assert_eq!(account.retained(), 40);
        assert_eq!(account.live(), 100);
        assert!(!account.charge(account.epoch(), 30, 40), "bytes that the first attempt left do not count");
        account.credit(first, 40);
        assert_eq!(account.used(), 90);
        assert_eq!(account.retained(), 0);
        assert_eq!(account.live(), 90);
        assert!(account.charge(account.epoch(), 0, 11), "the highest sum in between counts");
        assert!(!account.charge(account.epoch(), 100, 100), "the crossing is reported once");
        assert!(account.is_over_limit());
        assert_eq!(account.peak(), 190);
        assert_eq!(account.highest(), 190);
    }

    #[test]
    fn a_block_that_outlives_its_epoch_is_not_mistaken_for_one_of_another_epoch() {
        let account = open(1000);
        account.end_epoch();
        let old = account.epoch();
        account.charge(old, 500, 500);
        account.end_epoch();
        account.charge(account.epoch(), 7, 7);
        account.credit(old, 500);
        assert_eq!(account.used(), 7);
        assert_eq!(account.live(), 7);
        account.charge(old, 3, 3); // a helper thread has outlived the attempt
        assert_eq!(account.used(), 7);
        assert_eq!(account.retained(), 3);
        assert_eq!(account.live(), 10);
    }

    #[test]
    fn a_block_that_a_container_keeps_is_credited_to_it_after_any_number_of_attempts() {
        let account = open(u64::MAX);
        account.charge(account.enter_epoch(), 100, 100);
        account.end_epoch();
        let kept = account.epoch();
        account.charge(kept, 500, 500);
        // The word of the attempt holds only 16 bits of the epoch, so its bits repeat several times here.
        for n in 0..200_000 {
            account.end_epoch();
            if n % 65_536 == 65_535 {
                account.charge(account.epoch(), 7, 7);
                account.charge(kept, 1, 1); // a helper thread has outlived the attempt
                account.credit(kept, 1);
                account.credit(account.enter_epoch(), 1);
                account.charge(account.enter_epoch(), 1, 1);
                assert_eq!(account.used(), 107);
                assert_eq!(account.retained(), 500 + n / 65_536 * 7);
            }
        }
        account.credit(kept, 500);
        assert_eq!(account.used(), 100);
        assert_eq!(account.retained(), 21);
        assert_eq!(account.live(), 121);
    }

    #[test]
    fn negative_sums_and_the_wrap_around_of_epochs_are_counted_correctly() {
        // Two epochs before the numbers wrap around to 0.
        let account = Account::after_epochs((1 << 48) - 2);
        assert!(account.open(Some(1000)));
        let (enter, old) = (account.enter_epoch(), account.enter_epoch() - 1);
        account.charge(enter, 50, 50);
        account.end_epoch();
        let last = account.epoch();
        account.credit(last, 5); // freed before the thread that allocated it has flushed
        assert_eq!(account.used(), 45);
        assert_eq!(account.retained(), 0);
        account.charge(last, 5, 5);
        assert_eq!(account.used(), 50);
        assert_eq!(account.live(), 50);
        account.charge(last, 20, 20);
        account.end_epoch();
        assert_eq!(account.epoch(), 0);
        assert_eq!(account.used(), 50);
        assert_eq!(account.retained(), 20);
        account.charge(0, 3, 3);
        account.end_epoch();
        account.charge(account.epoch(), 4, 4);
        account.credit(old, 1000); // a block of the previous account
        assert_eq!(account.used(), 54);
        assert_eq!(account.retained(), 23);
        [(enter, 50), (last, 20), (0, 3), (1, 4)]
            .iter()
            .for_each(|(epoch, bytes)| account.credit(*epoch, *bytes));
        assert_eq!(account.used(), 0);
        assert_eq!(account.retained(), 0);
        assert_eq!(account.live(), 0);
        account.close();
        assert!(account.open(None));
        [enter, last, 0, 1].iter().for_each(|epoch| account.credit(*epoch, 10));
        assert_eq!(account.enter_epoch(), 2);
        assert_eq!(account.live(), 0);
    }

    #[test]
    fn opening_an_account_tries_at_most_two_places_whatever_was_opened_and_closed_before() {
        let mut unused = Unused { next: 1, free: VecDeque::new() };
        let mut occupied = Vec::new(); // each of these places has a guest
        let mut most = 0;
        for round in 0..200_000u32 {
            let mut looks = 0;
            let index = unused.take(|index| {
                looks += 1;
                !occupied.contains(&index)
            });
            let index = index.expect("the guests are few");
            most = most.max(looks);
            if round % 1_000 == 0 && occupied.len() < 20 {
                occupied.push(index);
            }
            unused.free.push_back(index);
        }
        assert_eq!(most, 2, "one try at a place with a guest, one at the next place");
        assert_eq!(unused.next, 1 + 21, "places are reused");
    }

    #[test]
    fn a_full_table_gives_no_place_until_one_is_given_back() {
        let mut unused = Unused { next: 1, free: VecDeque::new() };
        let places = (1..ACCOUNTS_MAX).filter(|_| unused.take(|_| true).is_some()).count();
        assert_eq!(places, ACCOUNTS_MAX - 1);
        assert_eq!(unused.take(|_| true), None);
        let back = [3, 5].map(|index| AccountIndex::new(index).expect("3 and 5 are not 0"));
        unused.free.extend(back);
        assert_eq!(unused.take(|index| index == back[0]), Some(back[0]), "the place at the back has a guest");
        assert_eq!(unused.take(|index| index == back[0]), None);
        assert_eq!(unused.take(|_| true), Some(back[1]));
    }
}

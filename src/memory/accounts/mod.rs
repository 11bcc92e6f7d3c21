//! The table of all accounts of the process, and the places of it that are in use.
//!
//! The table is static, so that the allocator finds an account without a lock and without ever allocating. A
//! place is given away again as soon as its account is closed, although blocks that bear its mark may live as
//! long as the process: [`Account`] distinguishes them from its own. The table therefore limits how many
//! accounts exist at a time, and not how many have ever existed.
//!
//! The cells of accounts with several open attempts are never freed, so that a late thread can do no more
//! harm than a wrong sum. They are kept for later accounts whose number of attempts rounds up to the same
//! power of two. There are as many cells of each such size as accounts have needed at the same time.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroU16;

use parking_lot::Mutex;

use crate::memory::account::{Account, Epoch};
use crate::memory::attempts::{ATTEMPTS_MAX, Attempts, OpenAttempt};
use crate::memory::local_charge::{ChargeGuard, batch};

/// The place of an account in the table. It is never 0.
pub(super) type AccountIndex = NonZeroU16;

/// The number of places. The pages of places that were never used are never touched.
pub(super) const ACCOUNTS_MAX: usize = 1 << 16;

#[expect(unsafe_code, reason = "a table of zeros that takes no room in the binary")]
// SAFETY: an account consists of atomic integers, bools and pointers, and all zeros is a valid value of each.
static TABLE: [Account; ACCOUNTS_MAX] = unsafe { std::mem::zeroed() };

/// The places that are not in use.
static UNUSED: Mutex<Unused> = Mutex::new(Unused { next: 1, free: VecDeque::new() });

/// The cells that no account uses.
static SPARE: Mutex<SpareAttempts> = Mutex::new(SpareAttempts([const { Vec::new() }; SIZES]));

/// The number of sizes of cells: for 1, 2, 4 and up to `ATTEMPTS_MAX` attempts.
const SIZES: usize = ATTEMPTS_MAX.ilog2() as usize + 1;

/// Cells that no account uses, by the binary logarithm of the number of attempts that they are for.
#[derive(Debug)]
struct SpareAttempts([Vec<&'static Attempts>; SIZES]);

impl SpareAttempts {
    /// Takes or makes cells for at least `attempts` open attempts.
    fn take(&mut self, attempts: usize) -> &'static Attempts {
        let size = attempts.next_power_of_two();
        self.0[size.ilog2() as usize].pop().unwrap_or_else(|| Box::leak(Box::new(Attempts::new(size))))
    }

    fn give_back(&mut self, attempts: &'static Attempts) {
        self.0[attempts.most().ilog2() as usize].push(attempts);
    }
}

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
    /// The batch of the threads that charge an attempt.
    batch: i64,
}

impl Open {
    /// Opens an account with a limit in bytes, for one attempt at a time. Returns `None` if every place of
    /// the table is in use.
    pub(crate) fn new(limit: Option<u64>) -> Option<Self> {
        let index = UNUSED.lock().take(|index| at(index).open(limit))?;
        let account = at(index);
        if let Some(attempts) = account.take_attempts() {
            Self::give_back(attempts); // the last account in this place had guests when it was closed
        }
        Some(Self { index, batch: batch(account.limit()) })
    }

    fn give_back(attempts: &'static Attempts) {
        let _outside = ChargeGuard::process(); // the list of spare cells belongs to no container
        SPARE.lock().give_back(attempts);
    }

    pub(crate) fn index(&self) -> AccountIndex {
        self.index
    }

    pub(crate) fn counters(&self) -> &'static Account {
        at(self.index)
    }

    /// Charges the account for what this thread allocates, until the returned value is dropped. An account
    /// for several open attempts is charged in the epoch of `enter`.
    pub(crate) fn enter(&self) -> ChargeGuard {
        ChargeGuard::account(self.index)
    }

    /// Ends the epoch of the account, which has one attempt at a time. This thread must be inside.
    pub(crate) fn end_epoch(&self) -> Epoch {
        ChargeGuard::end_epoch(self.index)
    }
}

/// The face of an account for several open attempts.
impl Open {
    /// Opens an account with a limit in bytes, for up to `attempts` open attempts. Returns `None` if every
    /// place of the table is in use.
    pub(crate) fn for_attempts(limit: Option<u64>, attempts: usize) -> Option<Self> {
        assert!(
            (1..=ATTEMPTS_MAX).contains(&attempts),
            "memory: 1 to {ATTEMPTS_MAX} attempts, not {attempts}"
        );
        let open = Self::new(limit)?;
        let cells = {
            let _outside = ChargeGuard::process(); // the cells outlive every account
            SPARE.lock().take(attempts)
        };
        open.counters().set_attempts(cells, attempts);
        Some(open)
    }

    /// Whether the account is for several open attempts.
    pub(crate) fn has_attempts(&self) -> bool {
        self.counters().has_attempts()
    }

    /// Begins an attempt beside those that are open. Called on the container's thread.
    pub(crate) fn begin_attempt(&self) -> OpenAttempt {
        self.counters().begin_attempt()
    }

    /// Charges an open attempt for what this thread allocates, until the returned value is dropped. Any
    /// thread may call this. After the end of the attempt, the bytes count among those that it has left.
    #[inline]
    pub(crate) fn enter_attempt(&self, attempt: OpenAttempt) -> ChargeGuard {
        ChargeGuard::attempt(self.index, attempt, self.batch)
    }

    /// Ends an attempt. Called on the container's thread.
    pub(crate) fn end_attempt(&self, attempt: OpenAttempt) -> Epoch {
        ChargeGuard::flush_attempt(self.index, attempt);
        self.counters().end_attempt(attempt)
    }

    /// The attempt that has crossed the limit. `None` if none has, or if the bytes were charged to `enter`.
    pub(crate) fn crossed_by(&self) -> Option<OpenAttempt> {
        self.counters().crossed_by()
    }

    /// Forgets that the limit was crossed. See [`Account::clear_over_limit`].
    pub(crate) fn clear_over_limit(&self) -> bool {
        self.counters().clear_over_limit()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _outside = ChargeGuard::process(); // the list of free places belongs to no container
        if let Some(attempts) = self.counters().close() {
            Self::give_back(attempts);
        }
        UNUSED.lock().free.push_back(self.index);
    }
}

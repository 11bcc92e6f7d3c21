//! One account: the bytes of one generation of a container.
//!
//! Every block belongs to an *epoch* of its account. The first epoch is the container's `enter`, and each
//! attempt that allocates has an epoch of its own. The account can therefore keep three sums apart: the bytes
//! of `enter`, the bytes of the attempt that runs now, and the bytes that earlier attempts have left.
//! [`Account::used`] adds the first two, and [`Account::retained`] is the third.
//!
//! # Blocks that outlive their account
//!
//! An account has a place in a table, and the next account gets that place as soon as this one is closed,
//! however many of its blocks are still alive. The epochs of the next account therefore continue where those
//! of the previous one stopped. A block whose epoch is earlier than the first epoch of the account belongs to
//! a closed account, and freeing it changes nothing.
//!
//! Epochs are numbers of 48 bits on a circle, and one counts as earlier than another if it is less than half
//! of the circle behind it. A block can be mistaken for a block of another account only if the containers in
//! its place have made 2^47 allocating attempts before it is freed. At a million such attempts a second, that
//! takes four years.
//!
//! A thread that frees a block first looks at the epoch and then changes a sum. The account may be closed and
//! its place given away in between. The thread is therefore a *guest* of the account meanwhile, and
//! [`Account::open`] refuses a place that has guests.
//!
//! # Synchronization
//!
//! Several threads update an account at once, without a lock. The thread of the container flushes sums. A
//! thread that frees another container's block updates the account at once. The guests and `left` share one
//! word because most blocks that are freed elsewhere are outputs whose attempt is over: arriving is then one
//! atomic step, and taking the block off the sum and leaving is another.
//!
//! # Many open attempts
//!
//! The sum of the running attempt is in the account itself where only one attempt runs at a time. An account
//! for several open attempts has [`Attempts`] beside it: a cell for each attempt, which is found by the
//! epoch. The word `attempt` then holds the sum of all cells, and the epoch that the account itself charges
//! is the one of `enter` for ever. So a thread that is inside such an account but in no attempt charges
//! `enter`, and a sum whose epoch is not found in the account is looked for in the cells. An account without
//! cells pays one comparison for that, and only for blocks whose attempt is over.
//!
//! The cells may be taken off the account only when it is closed and has no guests, for the same reason for
//! which its place may be given away only then. Their memory is never freed, but given to later accounts.
//!
//! An account whose attempt has crossed the limit may live on. It forgets the crossing after the attempt has
//! ended, and the next crossing is reported again.

use std::ptr;

use super::attempts::{Attempts, OpenAttempt, raise};
use super::sync::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering, fence};

/// The number of bits in an epoch.
pub(super) const EPOCH_BITS: u32 = 48;
pub(super) const EPOCH: u64 = (1 << EPOCH_BITS) - 1;

/// In `attempt`, the low bits hold the bytes, and the bits above hold the lowest bits of the epoch.
const BYTES_BITS: u32 = 48;

/// In `left`, the low bits hold the number of guests, and the bits above hold the bytes. To overflow the
/// guests, 65 536 threads would have to stand between two instructions of [`Account::credit`] in one account.
const GUESTS_BITS: u32 = 16;
const GUESTS: u64 = (1 << GUESTS_BITS) - 1;
const GUEST: u64 = 1;

/// In `crossed`, the value of an account that is within its limit.
const NOT_CROSSED: u64 = 0;

/// The counters of one account.
#[derive(Debug)]
#[repr(align(128))] // two cache lines, because the processor prefetches lines in pairs
pub(crate) struct Account {
    /// The epoch of `enter`. Written when the previous account in this place is closed, without a lock. Read
    /// by every thread that frees a block of this account or of an earlier one.
    first: AtomicU64,
    /// The epoch that is charged now. The container's thread writes it before `attempt`. In an account with
    /// cells it is always the epoch of `enter`.
    epoch: AtomicU64,
    /// Bytes alive that were charged in the epoch of `enter`.
    state: AtomicI64,
    /// The lowest bits of the current epoch, and the bytes alive that it has charged. They share one word so
    /// that a charge that comes too late for its epoch is not added to the next epoch. In an account with
    /// cells, the bytes are the sum of all cells, and the bits above mean nothing.
    attempt: AtomicU64,
    /// Bytes alive of all epochs between `enter` and the current one, and the number of guests. In an account
    /// with cells, the bytes of all attempts that have ended.
    left: AtomicU64,
    /// The most bytes that were used in the current epoch. In an account with cells, the most that were used
    /// since it was opened or last forgot a crossing.
    peak: AtomicI64,
    /// The most bytes that were used in any epoch.
    highest: AtomicI64,
    /// The most bytes that may be used.
    limit: AtomicI64,
    /// One more than the epoch that was charged when more than `limit` was used, or `NOT_CROSSED`.
    crossed: AtomicU64,
    /// The cells, or null where one attempt runs at a time. Written when the account is opened, and after it
    /// was closed, while it has no guests.
    attempts: AtomicPtr<Attempts>,
    /// Whether other threads than the container's charge this account as well.
    shared: AtomicBool,
}

/// The figures of an epoch that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// The most bytes that were used in the epoch.
    pub(crate) peak: u64,
    /// Bytes that have outlived the epoch.
    pub(crate) left: i64,
}

/// Packs the word of an attempt. The bits of the epoch that do not fit are cut off.
pub(super) const fn pack(epoch: u64, bytes: i64) -> u64 {
    (epoch << BYTES_BITS) | (bytes as u64 & ((1 << BYTES_BITS) - 1))
}

/// Whether `word` belongs to `epoch`, or to an epoch with the same lowest bits.
pub(super) const fn is_of(word: u64, epoch: u64) -> bool {
    word >> BYTES_BITS == (epoch << BYTES_BITS) >> BYTES_BITS
}

pub(super) const fn after(epoch: u64) -> u64 {
    (epoch + 1) & EPOCH
}

/// The bytes in `word`. They are negative for a moment if a block is freed before its allocation is flushed.
pub(super) const fn bytes_of(word: u64) -> i64 {
    ((word << (64 - BYTES_BITS)) as i64) >> (64 - BYTES_BITS)
}

impl Account {
    /// An account without bytes. Accounts in use are in a static table, which is all zeros at first.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            first: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            state: AtomicI64::new(0),
            attempt: AtomicU64::new(0),
            left: AtomicU64::new(0),
            peak: AtomicI64::new(0),
            highest: AtomicI64::new(0),
            limit: AtomicI64::new(0),
            crossed: AtomicU64::new(NOT_CROSSED),
            attempts: AtomicPtr::new(ptr::null_mut()),
            shared: AtomicBool::new(false),
        }
    }

    /// An account without bytes whose place has already been in use for `epochs` epochs.
    #[cfg(test)]
    pub(super) fn after_epochs(epochs: u64) -> Self {
        let account = Self::new();
        account.first.store(epochs & EPOCH, Ordering::Relaxed);
        account.epoch.store(epochs & EPOCH, Ordering::Relaxed);
        account
    }

    /// Opens the account for another container, whose threads do not charge it yet. The previous account
    /// must have been closed. Returns `false` and changes nothing if the place has guests. The caller
    /// then takes another place.
    pub(crate) fn open(&self, limit: Option<u64>) -> bool {
        if !self.is_left_by_guests() {
            return false;
        }
        let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.state.store(0, Ordering::Relaxed);
        self.attempt.store(pack(self.epoch(), 0), Ordering::Relaxed);
        self.peak.store(0, Ordering::Relaxed);
        self.highest.store(0, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        self.shared.store(false, Ordering::Relaxed);
        self.crossed.store(NOT_CROSSED, Ordering::Release);
        true
    }

    /// Forgets what a closed account has left. Returns `false` and changes nothing if it has guests.
    fn is_left_by_guests(&self) -> bool {
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            if left & GUESTS != 0 {
                return false;
            }
            // A thread that becomes a guest after this step sees that the previous account is closed.
            match self.left.compare_exchange_weak(left, 0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => left = other,
            }
        }
    }

    /// Gives an account that was just opened its cells, for up to `most` open attempts.
    pub(crate) fn set_attempts(&self, attempts: &'static Attempts, most: usize) {
        attempts.reset(self.enter_epoch(), most);
        self.attempts.store(ptr::from_ref(attempts).cast_mut(), Ordering::Release);
    }

    /// Takes the cells off an account that was closed and has had no guests since, or that was just opened.
    pub(crate) fn take_attempts(&self) -> Option<&'static Attempts> {
        let attempts = self.attempts()?;
        self.attempts.store(ptr::null_mut(), Ordering::Relaxed);
        Some(attempts)
    }

    /// Whether the account is for several open attempts.
    pub(super) fn has_attempts(&self) -> bool {
        self.attempts().is_some()
    }

    /// The cells, if the account is for several open attempts.
    #[expect(unsafe_code, reason = "a static reference in an atomic")]
    fn attempts(&self) -> Option<&'static Attempts> {
        // SAFETY: the pointer is null or was made from a static reference in `set_attempts`.
        unsafe { self.attempts.load(Ordering::Acquire).as_ref() }
    }

    /// Closes the account. Its container charges it no more, and its sums are no longer read. Blocks of it
    /// may still be alive; from now on they belong to no account. Returns its cells, unless a guest may touch
    /// them. In that case they are taken when the next account has been opened in this place.
    pub(crate) fn close(&self) -> Option<&'static Attempts> {
        let next = self.attempts().map_or_else(|| after(self.epoch()), Attempts::next);
        self.epoch.store(next, Ordering::Relaxed);
        self.first.store(next, Ordering::Release);
        if self.attempts().is_some() && self.is_left_by_guests() { self.take_attempts() } else { None }
    }

    /// The epoch of `enter`.
    pub(super) fn enter_epoch(&self) -> u64 {
        self.first.load(Ordering::Relaxed)
    }

    /// Whether a block of `epoch` belongs to this account. Once it does not, it never does again.
    fn is_own(&self, epoch: u64) -> bool {
        let age = epoch.wrapping_sub(self.enter_epoch()) << (u64::BITS - EPOCH_BITS);
        (age as i64) >= 0
    }

    /// Adds the sum of a thread in `epoch`: `bytes` is its value, and `high` its highest value since the
    /// thread last flushed. Returns whether the limit has just been crossed.
    pub(crate) fn charge(&self, epoch: u64, bytes: i64, high: i64) -> bool {
        let used = if epoch == self.enter_epoch() {
            let state = self.state.fetch_add(bytes, Ordering::Relaxed);
            let attempt = self.attempt.load(Ordering::Relaxed);
            state + bytes_of(attempt)
        } else if let Some(attempt) = self.add(epoch, bytes) {
            attempt + self.state.load(Ordering::Relaxed)
        } else if let Some(attempts) = self.attempts() {
            return self.charge_attempt(attempts, epoch, bytes, high);
        } else {
            self.leave(bytes); // charged by a helper thread that has outlived its attempt
            return false;
        };
        let peak = used + high;
        self.peak.fetch_max(peak, Ordering::Relaxed);
        peak > self.limit.load(Ordering::Relaxed) && self.cross(epoch)
    }

    /// As [`Self::charge`], for an attempt that has a cell.
    fn charge_attempt(&self, attempts: &Attempts, epoch: u64, bytes: i64, high: i64) -> bool {
        let Some(attempt) = attempts.add(epoch, bytes) else {
            self.leave(bytes); // as in `charge`
            return false;
        };
        let state = self.state.load(Ordering::Relaxed);
        attempts.raise_peak(epoch, state + attempt + high);
        let peak = state + self.add_to_all(bytes) + high;
        raise(&self.peak, peak);
        peak > self.limit.load(Ordering::Relaxed) && self.cross(epoch)
    }

    /// Notes that the limit was crossed in `epoch`. Returns `false` if it was crossed already.
    #[cold]
    fn cross(&self, epoch: u64) -> bool {
        // Either `clear_over_limit` sees the bytes that this thread has charged, or this thread sees that the
        // last crossing was forgotten.
        fence(Ordering::SeqCst);
        self.crossed.compare_exchange(NOT_CROSSED, epoch + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Forgets that the limit was crossed, because the attempt that crossed it has ended. The next crossing
    /// is reported again. Returns whether more than the limit is used even now. In that case the limit counts
    /// as crossed again as soon as any thread charges the account.
    pub(crate) fn clear_over_limit(&self) -> bool {
        // As in `end_epoch`, a reader in between does not see a smaller highest value.
        self.highest.fetch_max(self.peak.load(Ordering::Relaxed), Ordering::Relaxed);
        let peak = self.peak.swap(self.used(), Ordering::Relaxed);
        self.highest.fetch_max(peak, Ordering::Relaxed);
        self.crossed.store(NOT_CROSSED, Ordering::SeqCst);
        fence(Ordering::SeqCst); // see `cross`
        self.used() > self.limit.load(Ordering::Relaxed)
    }

    /// Takes a freed block of `epoch` off its sum. The block may belong to an earlier account in this place.
    pub(crate) fn credit(&self, epoch: u64, bytes: i64) {
        if !self.is_own(epoch) {
            return;
        }
        self.left.fetch_add(GUEST, Ordering::Acquire);
        let mut leaving = GUEST;
        // The account may have been closed before this thread became its guest. From now on its
        // place cannot be reopened.
        if self.is_own(epoch) {
            if epoch == self.enter_epoch() {
                self.state.fetch_sub(bytes, Ordering::Relaxed);
            } else if self.add(epoch, -bytes).is_none() && !self.credit_attempt(epoch, bytes) {
                leaving = leaving.wrapping_add((bytes as u64) << GUESTS_BITS);
            }
        }
        self.left.fetch_sub(leaving, Ordering::Release);
    }

    /// Takes a freed block off the attempt with `epoch`. Returns `false` if no such attempt has a cell.
    fn credit_attempt(&self, epoch: u64, bytes: i64) -> bool {
        let credited = self.attempts().is_some_and(|attempts| attempts.add(epoch, -bytes).is_some());
        if credited {
            self.add_to_all(-bytes);
        }
        credited
    }

    /// Adds to the sum of all cells and returns the sum before.
    fn add_to_all(&self, bytes: i64) -> i64 {
        bytes_of(match bytes {
            0 => self.attempt.load(Ordering::Relaxed),
            // A carry out of the bytes changes only the bits that mean nothing.
            _ => self.attempt.fetch_add(bytes as u64, Ordering::Relaxed),
        })
    }

    /// Adds to the bytes that earlier epochs have left.
    fn leave(&self, bytes: i64) {
        self.left.fetch_add((bytes as u64) << GUESTS_BITS, Ordering::Relaxed);
    }

    /// Adds to the bytes of `epoch` and returns their number before. Returns `None` if the epoch is over.
    ///
    /// A thread may be suspended between the two checks while a multiple of 65 536 epochs passes. It
    /// then adds to the attempt that runs by that time. When that attempt ends, the bytes move into
    /// `left`, where they belong.
    fn add(&self, epoch: u64, bytes: i64) -> Option<i64> {
        if self.epoch() != epoch {
            return None;
        }
        let mut word = self.attempt.load(Ordering::Relaxed);
        loop {
            if !is_of(word, epoch) {
                return None;
            }
            let sum = pack(epoch, bytes_of(word) + bytes);
            match self.attempt.compare_exchange_weak(word, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(bytes_of(word)),
                Err(other) => word = other,
            }
        }
    }

    /// Begins an attempt beside those that are open. Called by the container's thread.
    pub(crate) fn begin_attempt(&self) -> OpenAttempt {
        self.cells().begin(self.state.load(Ordering::Relaxed))
    }

    /// Ends an attempt. Called by the container's thread. The bytes that it leaves belong to no attempt.
    pub(crate) fn end_attempt(&self, attempt: OpenAttempt) -> Epoch {
        let (peak, left) = self.cells().end(attempt);
        if left != 0 {
            self.add_to_all(-left);
            self.leave(left);
        }
        let state = self.state.load(Ordering::Relaxed);
        Epoch { peak: bytes(peak.max(state).max(state + left)), left }
    }

    fn cells(&self) -> &'static Attempts {
        self.attempts().expect("memory: the account is for several open attempts")
    }

    /// The attempt that was charged when the limit was crossed, if there are several and it was one of them.
    pub(crate) fn crossed_by(&self) -> Option<OpenAttempt> {
        let epoch = self.crossed.load(Ordering::Relaxed).checked_sub(1)?;
        let is_attempt = epoch != self.enter_epoch() && self.attempts().is_some();
        is_attempt.then_some(OpenAttempt { epoch })
    }

    /// Ends the current epoch and begins the next one, where one attempt runs at a time.
    pub(crate) fn end_epoch(&self) -> Epoch {
        debug_assert!(self.attempts().is_none(), "memory: open attempts end one by one");
        let next = after(self.epoch());
        self.epoch.store(next, Ordering::Relaxed);
        let left = bytes_of(self.attempt.swap(pack(next, 0), Ordering::Relaxed));
        self.leave(left);
        let state = self.state.load(Ordering::Relaxed);
        // `highest` is raised before `peak` is lowered, so that a reader in between does
        // not see a smaller value.
        self.highest.fetch_max(self.peak.load(Ordering::Relaxed), Ordering::Relaxed);
        let peak = self.peak.swap(state, Ordering::Relaxed).max(state);
        self.highest.fetch_max(peak, Ordering::Relaxed);
        Epoch { peak: bytes(peak), left }
    }

    /// The epoch that is charged now.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Bytes alive, of all epochs.
    pub(crate) fn live(&self) -> i64 {
        self.used() + self.left()
    }

    fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed) as i64 >> GUESTS_BITS
    }

    /// Bytes alive that `enter` and the current epoch, or all open attempts, have charged.
    pub(crate) fn used(&self) -> i64 {
        self.state.load(Ordering::Relaxed) + bytes_of(self.attempt.load(Ordering::Relaxed))
    }

    /// Bytes alive that earlier epochs have left.
    pub(crate) fn retained(&self) -> u64 {
        bytes(self.left())
    }

    /// The most bytes that were used in this epoch, or in the epoch that crossed the limit. With several open
    /// attempts, the most that were used since the account last forgot a crossing.
    pub(crate) fn peak(&self) -> u64 {
        if self.is_over_limit() && self.attempts().is_none() {
            // The epoch may have ended since the crossing, and no earlier epoch used as much.
            return self.highest();
        }
        bytes(self.peak.load(Ordering::Relaxed).max(self.used()))
    }

    /// The most bytes that were ever used.
    pub(crate) fn highest(&self) -> u64 {
        let peak = self.peak.load(Ordering::Relaxed).max(self.used());
        bytes(self.highest.load(Ordering::Relaxed).max(peak))
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != i64::MAX).then(|| bytes(limit))
    }

    /// Allows other threads to charge the account as well.
    pub(crate) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.crossed.load(Ordering::Relaxed) != NOT_CROSSED
    }
}

/// Clamps a sum to 0. A sum is negative only while some thread has not flushed.
fn bytes(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or(0)
}

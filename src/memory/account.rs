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
//! # Room for many open attempts
//!
//! The sum of the running attempt is in the account itself, because only one attempt runs at a time. For
//! several attempts at a time, each would need a cell with a sum. The cell would be found by the epoch modulo
//! the number of cells, and an attempt would begin with the next epoch whose cell is free. 48 bits are enough
//! for 4096 cells and 2^36 epochs of each.

use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The number of bits in an epoch.
pub(super) const EPOCH_BITS: u32 = 48;
const EPOCH: u64 = (1 << EPOCH_BITS) - 1;

/// In `attempt`, the low bits hold the bytes, and the bits above hold the lowest bits of the epoch.
const BYTES_BITS: u32 = 48;

/// In `left`, the low bits hold the number of guests, and the bits above hold the bytes. To overflow the
/// guests, 65 536 threads would have to stand between two instructions of [`Account::credit`] in one account.
const GUESTS_BITS: u32 = 16;
const GUESTS: u64 = (1 << GUESTS_BITS) - 1;
const GUEST: u64 = 1;

/// The counters of one account.
#[derive(Debug)]
#[repr(align(128))] // two cache lines, because the processor prefetches lines in pairs
pub(crate) struct Account {
    /// The epoch of `enter`. Written when the previous account in this place is closed, without a lock. Read
    /// by every thread that frees a block of this account or of an earlier one.
    first: AtomicU64,
    /// The epoch that is charged now. The container's thread writes it before `attempt`.
    epoch: AtomicU64,
    /// Bytes alive that were charged in the epoch of `enter`.
    state: AtomicI64,
    /// The lowest bits of the current epoch, and the bytes alive that it has charged. They share one word so
    /// that a charge that comes too late for its epoch is not added to the next epoch.
    attempt: AtomicU64,
    /// Bytes alive of all epochs between `enter` and the current one, and the number of guests.
    left: AtomicU64,
    /// The most bytes that were used in the current epoch.
    peak: AtomicI64,
    /// The most bytes that were used in any epoch.
    highest: AtomicI64,
    /// The most bytes that may be used.
    limit: AtomicI64,
    /// Whether more than `limit` was used.
    over_limit: AtomicBool,
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
const fn pack(epoch: u64, bytes: i64) -> u64 {
    (epoch << BYTES_BITS) | (bytes as u64 & ((1 << BYTES_BITS) - 1))
}

/// Whether `word` belongs to `epoch`, or to an epoch with the same lowest bits.
const fn is_of(word: u64, epoch: u64) -> bool {
    word >> BYTES_BITS == (epoch << BYTES_BITS) >> BYTES_BITS
}

const fn after(epoch: u64) -> u64 {
    (epoch + 1) & EPOCH
}

/// The bytes in `word`. They are negative for a moment if a block is freed before its allocation is flushed.
const fn bytes_of(word: u64) -> i64 {
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
            over_limit: AtomicBool::new(false),
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
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            if left & GUESTS != 0 {
                return false;
            }
            // A thread that becomes a guest after this step sees that the previous account is closed.
            match self.left.compare_exchange_weak(left, 0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => left = other,
            }
        }
        let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.state.store(0, Ordering::Relaxed);
        self.attempt.store(pack(self.epoch(), 0), Ordering::Relaxed);
        self.peak.store(0, Ordering::Relaxed);
        self.highest.store(0, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        self.shared.store(false, Ordering::Relaxed);
        self.over_limit.store(false, Ordering::Release);
        true
    }

    /// Closes the account. Its container charges it no more, and its sums are no longer read. Blocks of it
    /// may still be alive; from now on they belong to no account.
    pub(crate) fn close(&self) {
        let next = after(self.epoch());
        self.epoch.store(next, Ordering::Relaxed);
        self.first.store(next, Ordering::Release);
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
    /// thread last flushed. Returns whether the limit has just been crossed for the first time.
    pub(crate) fn charge(&self, epoch: u64, bytes: i64, high: i64) -> bool {
        let used = if epoch == self.enter_epoch() {
            let state = self.state.fetch_add(bytes, Ordering::Relaxed);
            let attempt = self.attempt.load(Ordering::Relaxed);
            state + bytes_of(attempt)
        } else if let Some(attempt) = self.add(epoch, bytes) {
            attempt + self.state.load(Ordering::Relaxed)
        } else {
            self.leave(bytes); // charged by a helper thread that has outlived its attempt
            return false;
        };
        let peak = used + high;
        self.peak.fetch_max(peak, Ordering::Relaxed);
        peak > self.limit.load(Ordering::Relaxed) && !self.over_limit.swap(true, Ordering::SeqCst)
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
            } else if self.add(epoch, -bytes).is_none() {
                leaving = leaving.wrapping_add((bytes as u64) << GUESTS_BITS);
            }
        }
        self.left.fetch_sub(leaving, Ordering::Release);
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

    /// Ends the current epoch and begins the next one.
    pub(crate) fn end_epoch(&self) -> Epoch {
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

    /// Bytes alive that `enter` and the current epoch have charged.
    pub(crate) fn used(&self) -> i64 {
        self.state.load(Ordering::Relaxed) + bytes_of(self.attempt.load(Ordering::Relaxed))
    }

    /// Bytes alive that earlier epochs have left.
    pub(crate) fn retained(&self) -> u64 {
        bytes(self.left())
    }

    /// The most bytes that were used in this epoch, or in the epoch that crossed the limit.
    pub(crate) fn peak(&self) -> u64 {
        if self.is_over_limit() {
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
        self.over_limit.load(Ordering::Relaxed)
    }
}

/// Clamps a sum to 0. A sum is negative only while some thread has not flushed.
fn bytes(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or(0)
}

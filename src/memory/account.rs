//! One account: the bytes of one generation of a container.
//!
//! Every block belongs to an *epoch* of its account: the first is the container's `enter`, and each attempt that
//! allocates has one of its own. So it can be told apart what the container was built of, what the attempt
//! that runs now holds, and what earlier attempts have left: [`Account::used`] is of the first two,
//! [`Account::retained`] of the third. Each block is in one of the three sums.
//!
//! # Blocks that outlive their account
//!
//! An account has a place in a table, and the next account gets that place as soon as this one is closed, however
//! many of its blocks are still alive. Its epochs therefore go on where those of the account before have stopped: a
//! block whose epoch is earlier than the first of the account belongs to an account that is closed, and to free it
//! changes nothing. The epochs are numbers of 48 bits on a circle, and one of two counts as the earlier if it is
//! less than half of the circle behind the other. A block is taken for one of another account only if 2^47 attempts
//! of containers that have had its place, each of which has allocated, pass before it is freed: four years at a
//! million in each second.
//!
//! A thread that frees a block looks at the epoch first and changes a sum after that. The account may be closed
//! and the place given away in between. So the thread is a *guest* of the account meanwhile, and
//! [`Account::open`] refuses a place that has guests.
//!
//! # Synchronization
//!
//! Several threads book at once, without a lock: the thread of the container in sums, and a thread that frees a
//! block of another's at once. The guests and `left` share one word, because most blocks that are freed elsewhere
//! are outputs whose attempt is over: to come, and to leave with the block taken off the sum, are two steps.
//!
//! # Room for many open attempts
//!
//! The sum of the attempt that runs is in the account itself, because there is one such attempt. For several at a
//! time, each needs a cell with a sum: the cell is found by the epoch modulo the number of cells, and an attempt
//! begins with the next epoch whose cell is free. 48 bits are enough for 4096 cells and 2^36 epochs of each.

use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Bits of an epoch.
pub(crate) const EPOCH_BITS: u32 = 48;
const EPOCH: u64 = (1 << EPOCH_BITS) - 1;

/// In `attempt`: the lowest bits of the epoch are above these bits, and the bytes in them.
const BYTES_BITS: u32 = 48;

/// In `left`: the bytes are above these bits, and the number of guests in them. More guests than that would be
/// 65 536 threads that all stand between two instructions of [`Account::credit`], in one account.
const GUESTS_BITS: u32 = 16;
const GUESTS: u64 = (1 << GUESTS_BITS) - 1;
const GUEST: u64 = 1;

/// The counters of one account.
#[derive(Debug)]
#[repr(align(128))] // a line for itself, with the one that is fetched along
pub(crate) struct Account {
    /// The epoch of `enter`. Written when the account before is closed, under no lock; read by every thread that
    /// frees one of its blocks or of an earlier account's.
    first: AtomicU64,
    /// The epoch that is charged now. Written by the container's thread, before `attempt` is.
    epoch: AtomicU64,
    /// Bytes alive that `enter` has charged.
    state: AtomicI64,
    /// The lowest bits of the epoch that is charged now, and the bytes alive of it, in one word: bytes that come
    /// too late for their epoch must not be taken for the next one's.
    attempt: AtomicU64,
    /// Bytes alive of the epochs between, and the threads that are about to change a sum.
    left: AtomicU64,
    /// The most that was used in this epoch.
    peak: AtomicI64,
    /// The most that was used in any.
    highest: AtomicI64,
    /// More must not be used.
    limit: AtomicI64,
    /// More was.
    overdrawn: AtomicBool,
    /// Other threads than the container's charge it as well.
    shared: AtomicBool,
}

/// An epoch that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// The most that was used in it.
    pub(crate) peak: u64,
    /// Bytes that have outlived it.
    pub(crate) left: i64,
}

/// The word of an attempt. What does not fit of the epoch is cut off.
const fn pack(epoch: u64, bytes: i64) -> u64 {
    (epoch << BYTES_BITS) | (bytes as u64 & ((1 << BYTES_BITS) - 1))
}

/// Whether the word is of an attempt in that epoch, or in one that ends in the same bits.
const fn is_of(word: u64, epoch: u64) -> bool {
    word >> BYTES_BITS == (epoch << BYTES_BITS) >> BYTES_BITS
}

const fn after(epoch: u64) -> u64 {
    (epoch + 1) & EPOCH
}

/// The bytes of the word; they may be negative for a moment, while a block is freed before it is booked.
const fn bytes_of(word: u64) -> i64 {
    ((word << (64 - BYTES_BITS)) as i64) >> (64 - BYTES_BITS)
}

impl Account {
    /// An account of nothing. Those in use are in a table, which is all zeros at first.
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
            overdrawn: AtomicBool::new(false),
            shared: AtomicBool::new(false),
        }
    }

    /// An account of nothing whose place has been in use for so many epochs.
    #[cfg(test)]
    pub(crate) fn after_epochs(epochs: u64) -> Self {
        let account = Self::new();
        account.first.store(epochs & EPOCH, Ordering::Relaxed);
        account.epoch.store(epochs & EPOCH, Ordering::Relaxed);
        account
    }

    /// Begins anew, as the account of another container, which nobody charges yet. The one before must have been
    /// closed. `false` if the place has guests: then nothing is changed, and another place is to be taken.
    pub(crate) fn open(&self, limit: Option<u64>) -> bool {
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            if left & GUESTS != 0 {
                return false;
            }
            // A thread that becomes a guest behind this step sees that the last account is closed.
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
        self.overdrawn.store(false, Ordering::Release);
        true
    }

    /// Nobody charges the account any more, and nobody asks for its sums. Blocks of it may be alive: from now on
    /// they belong to nobody.
    pub(crate) fn close(&self) {
        let next = after(self.epoch());
        self.epoch.store(next, Ordering::Relaxed);
        self.first.store(next, Ordering::Release);
    }

    /// The epoch of `enter`.
    pub(crate) fn enter_epoch(&self) -> u64 {
        self.first.load(Ordering::Relaxed)
    }

    /// Whether a block of that epoch is this account's. Once it is not, it never is again.
    fn is_own(&self, epoch: u64) -> bool {
        let age = epoch.wrapping_sub(self.enter_epoch()) << (u64::BITS - EPOCH_BITS);
        (age as i64) >= 0
    }

    /// Charges the sum of a thread: `bytes` more than before, of that epoch, and `high` more in between.
    /// Whether the limit has been crossed for the first time.
    pub(crate) fn charge(&self, epoch: u64, bytes: i64, high: i64) -> bool {
        let used = if epoch == self.enter_epoch() {
            let state = self.state.fetch_add(bytes, Ordering::Relaxed);
            let attempt = self.attempt.load(Ordering::Relaxed);
            state + bytes_of(attempt)
        } else if let Some(attempt) = self.add(epoch, bytes) {
            attempt + self.state.load(Ordering::Relaxed)
        } else {
            self.leave(bytes); // by a helper that has outlived its attempt
            return false;
        };
        let peak = used + high;
        self.peak.fetch_max(peak, Ordering::Relaxed);
        peak > self.limit.load(Ordering::Relaxed) && !self.overdrawn.swap(true, Ordering::SeqCst)
    }

    /// Frees a block of that epoch, which may be of an account that had the place before.
    pub(crate) fn credit(&self, epoch: u64, bytes: i64) {
        if !self.is_own(epoch) {
            return;
        }
        self.left.fetch_add(GUEST, Ordering::Acquire);
        let mut leaving = GUEST;
        // The account may have been closed before this thread became its guest, and not since.
        if self.is_own(epoch) {
            if epoch == self.enter_epoch() {
                self.state.fetch_sub(bytes, Ordering::Relaxed);
            } else if self.add(epoch, -bytes).is_none() {
                leaving = leaving.wrapping_add((bytes as u64) << GUESTS_BITS);
            }
        }
        self.left.fetch_sub(leaving, Ordering::Release);
    }

    /// Adds to what earlier epochs have left.
    fn leave(&self, bytes: i64) {
        self.left.fetch_add((bytes as u64) << GUESTS_BITS, Ordering::Relaxed);
    }

    /// Adds to the bytes of the epoch, and gives what they were before; `None` if it is over.
    ///
    /// A thread that is stopped between the two looks, for just so long that a multiple of 65 536 epochs passes, adds
    /// to the attempt that runs by then. When that attempt ends, its sum goes where the bytes belong.
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

    /// The epoch is over, and the next one begins.
    pub(crate) fn end_epoch(&self) -> Epoch {
        let next = after(self.epoch());
        self.epoch.store(next, Ordering::Relaxed);
        let left = bytes_of(self.attempt.swap(pack(next, 0), Ordering::Relaxed));
        self.leave(left);
        let state = self.state.load(Ordering::Relaxed);
        // Before it is taken back: whoever looks in between is told of no less.
        self.highest.fetch_max(self.peak.load(Ordering::Relaxed), Ordering::Relaxed);
        let peak = self.peak.swap(state, Ordering::Relaxed).max(state);
        self.highest.fetch_max(peak, Ordering::Relaxed);
        Epoch { peak: bytes(peak), left }
    }

    /// The epoch that is charged now.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Bytes alive, of whatever epoch.
    pub(crate) fn live(&self) -> i64 {
        self.used() + self.left()
    }

    fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed) as i64 >> GUESTS_BITS
    }

    /// Bytes alive of what `enter` has charged, and of the epoch.
    pub(crate) fn used(&self) -> i64 {
        self.state.load(Ordering::Relaxed) + bytes_of(self.attempt.load(Ordering::Relaxed))
    }

    /// Bytes alive that earlier epochs have left.
    pub(crate) fn retained(&self) -> u64 {
        bytes(self.left())
    }

    /// The most that was used in this epoch, or when the limit was crossed.
    pub(crate) fn peak(&self) -> u64 {
        if self.is_overdrawn() {
            return self.highest(); // the epoch may have ended since; none before used as much
        }
        bytes(self.peak.load(Ordering::Relaxed).max(self.used()))
    }

    /// The most that was ever used.
    pub(crate) fn highest(&self) -> u64 {
        let peak = self.peak.load(Ordering::Relaxed).max(self.used());
        bytes(self.highest.load(Ordering::Relaxed).max(peak))
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != i64::MAX).then(|| bytes(limit))
    }

    /// From now on other threads may charge it as well.
    pub(crate) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    pub(crate) fn is_overdrawn(&self) -> bool {
        self.overdrawn.load(Ordering::Relaxed)
    }
}

/// What can be told: less than nothing is there only until every thread has booked.
fn bytes(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or(0)
}

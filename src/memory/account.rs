//! One account: the bytes of one generation of a container.
//!
//! Every block belongs to an *epoch* of its account: 0 is the container's `enter`, and each attempt that
//! allocates has one of its own. So it can be told apart what the container was built of, what the attempt
//! that runs now holds, and what earlier attempts have left: [`Account::used`] is of the first two,
//! [`Account::retained`] of the third. Each block is in one of the three sums.
//!
//! Several threads book at once, without a lock: the thread of the container in sums, whoever frees a block
//! elsewhere at once, in one step. Once nobody charges an account any more its sums only fall, and when all are
//! zero nobody touches it.

use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// In `attempt`: the epoch is above these bits, the bytes in them.
const BYTES_BITS: u32 = 48;
/// The epoch of `enter`.
pub(crate) const ENTER: u16 = 0;

/// The counters of one account.
#[derive(Debug)]
#[repr(align(128))] // a line for itself, with the one that is fetched along
pub(crate) struct Account {
    /// Bytes alive that `enter` has charged.
    state: AtomicI64,
    /// The epoch that is charged now, and the bytes alive of it, in one word: bytes that come too late for
    /// their epoch must not be taken for the next one's.
    attempt: AtomicU64,
    /// Bytes alive of the epochs between.
    left: AtomicI64,
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

const fn pack(epoch: u16, bytes: i64) -> u64 {
    ((epoch as u64) << BYTES_BITS) | (bytes as u64 & ((1 << BYTES_BITS) - 1))
}

const fn epoch_of(word: u64) -> u16 {
    (word >> BYTES_BITS) as u16
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
            state: AtomicI64::new(0),
            attempt: AtomicU64::new(0),
            left: AtomicI64::new(0),
            peak: AtomicI64::new(0),
            highest: AtomicI64::new(0),
            limit: AtomicI64::new(0),
            overdrawn: AtomicBool::new(false),
            shared: AtomicBool::new(false),
        }
    }

    /// Begins anew. Nothing is charged to the account, and nobody charges it.
    pub(crate) fn open(&self, limit: Option<u64>) {
        let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.state.store(0, Ordering::Relaxed);
        self.attempt.store(pack(ENTER, 0), Ordering::Relaxed);
        self.left.store(0, Ordering::Relaxed);
        self.peak.store(0, Ordering::Relaxed);
        self.highest.store(0, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        self.shared.store(false, Ordering::Relaxed);
        self.overdrawn.store(false, Ordering::Release);
    }

    /// Charges the sum of a thread: `bytes` more than before, of that epoch, and `high` more in between.
    /// Whether the limit has been crossed for the first time.
    pub(crate) fn charge(&self, epoch: u16, bytes: i64, high: i64) -> bool {
        let used = if epoch == ENTER {
            let state = self.state.fetch_add(bytes, Ordering::Relaxed);
            let attempt = self.attempt.load(Ordering::Relaxed);
            state + bytes_of(attempt)
        } else if let Some(attempt) = self.add(epoch, bytes) {
            attempt + self.state.load(Ordering::Relaxed)
        } else {
            self.left.fetch_add(bytes, Ordering::Relaxed); // by a helper that has outlived its attempt
            return false;
        };
        let peak = used + high;
        self.peak.fetch_max(peak, Ordering::Relaxed);
        peak > self.limit.load(Ordering::Relaxed) && !self.overdrawn.swap(true, Ordering::SeqCst)
    }

    /// Frees a block of that epoch.
    pub(crate) fn credit(&self, epoch: u16, bytes: i64) {
        if epoch == ENTER {
            self.state.fetch_sub(bytes, Ordering::Release);
        } else if self.add(epoch, -bytes).is_none() {
            self.left.fetch_sub(bytes, Ordering::Release);
        }
    }

    /// Adds to the bytes of the epoch, and gives what they were before; `None` if it is over.
    fn add(&self, epoch: u16, bytes: i64) -> Option<i64> {
        let mut word = self.attempt.load(Ordering::Relaxed);
        loop {
            if epoch_of(word) != epoch {
                return None;
            }
            let sum = pack(epoch, bytes_of(word) + bytes);
            match self.attempt.compare_exchange_weak(word, sum, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Some(bytes_of(word)),
                Err(other) => word = other,
            }
        }
    }

    /// The epoch is over, and the next one begins.
    pub(crate) fn end_epoch(&self) -> Epoch {
        let word = self.attempt.load(Ordering::Relaxed);
        let next = match epoch_of(word) {
            u16::MAX => 1, // a block may be as old as that; then it is taken for one of the attempt that frees it
            epoch => epoch + 1,
        };
        let left = bytes_of(self.attempt.swap(pack(next, 0), Ordering::Relaxed));
        self.left.fetch_add(left, Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        // Before it is taken back: whoever looks in between is told of no less.
        self.highest.fetch_max(self.peak.load(Ordering::Relaxed), Ordering::Relaxed);
        let peak = self.peak.swap(state, Ordering::Relaxed).max(state);
        self.highest.fetch_max(peak, Ordering::Relaxed);
        Epoch { peak: bytes(peak), left }
    }

    /// The epoch that is charged now.
    pub(crate) fn epoch(&self) -> u16 {
        epoch_of(self.attempt.load(Ordering::Relaxed))
    }

    /// Bytes alive, of whatever epoch.
    pub(crate) fn live(&self) -> i64 {
        let attempt = bytes_of(self.attempt.load(Ordering::Acquire));
        self.state.load(Ordering::Acquire) + attempt + self.left.load(Ordering::Acquire)
    }

    /// Bytes alive of what `enter` has charged, and of the epoch.
    pub(crate) fn used(&self) -> i64 {
        self.state.load(Ordering::Relaxed) + bytes_of(self.attempt.load(Ordering::Relaxed))
    }

    /// Bytes alive that earlier epochs have left.
    pub(crate) fn retained(&self) -> u64 {
        bytes(self.left.load(Ordering::Relaxed))
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

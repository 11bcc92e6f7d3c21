//! The local charge of a thread: the bytes that it has allocated and freed for an account and has
//! not yet flushed there.
//!
//! A local charge costs an addition and a comparison for each block. It is flushed when its sum has moved by
//! a *batch*, and when the thread leaves the scope. An account is therefore behind by at most a batch for
//! each thread inside, and exact when no thread is inside. A block of another account is flushed in that
//! account at once.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::memory::account::{EPOCH_BITS, Epoch};
use crate::memory::accounts::{self, AccountIndex};
use crate::memory::watch;

/// The largest step, in bytes.
const BATCH_MAX: i64 = 64 * 1024;
/// A step is at most this part of the limit, so that a small limit is as exact as a large one.
const BATCHES_IN_LIMIT: i64 = 32;

/// The owner of a block: the place of its account, or none, and the epoch. The mark goes behind each block.
///
/// A mark has 64 bits because blocks may outlive their account for ever. A mark of 32 bits would have 16 bits
/// for the epoch, and a container can go through 65 536 attempts within a second. A block that it kept would
/// then be mistaken for one of the running attempt, or for one of another container. The four bytes more cost
/// nothing where sizes are multiples of 8, as most are: an allocator rounds sizes up to 8 or 16, and a round
/// size grows by the same amount for a mark of 4 bytes as for one of 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// The mark of blocks that are charged to no container.
    pub(super) const PROCESS: Self = Self(0);

    fn new(index: AccountIndex, epoch: u64) -> Self {
        Self(u64::from(index.get()) << EPOCH_BITS | epoch)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    fn index(self) -> Option<AccountIndex> {
        AccountIndex::new((self.0 >> EPOCH_BITS) as u16)
    }

    fn epoch(self) -> u64 {
        self.0 & ((1 << EPOCH_BITS) - 1)
    }
}

/// The bytes that this thread has charged since it last flushed, and where they will be flushed.
#[derive(Debug)]
pub(super) struct LocalCharge {
    mark: Cell<Mark>,
    /// Bytes allocated and not yet flushed, less the bytes freed.
    sum: Cell<i64>,
    /// The highest `sum` since the last flush. `i64::MAX` where nothing is charged, so
    /// that no sum is higher.
    high: Cell<i64>,
    /// The local charge is flushed when `sum` exceeds this, or falls below its negative.
    batch: Cell<i64>,
    /// Whether something was flushed in this epoch, or may have been flushed by another thread.
    flushed: Cell<bool>,
}

thread_local! {
    // It has no destructor, so that it still exists for the last allocation of the thread
    // and needs none itself.
    static LOCAL: LocalCharge = const { LocalCharge::closed() };
}

impl LocalCharge {
    /// The local charge of a thread outside all scopes.
    const fn closed() -> Self {
        Self {
            mark: Cell::new(Mark::PROCESS),
            sum: Cell::new(0),
            high: Cell::new(i64::MAX),
            batch: Cell::new(i64::MAX),
            flushed: Cell::new(false),
        }
    }

    fn open(index: AccountIndex) -> Self {
        let account = accounts::at(index);
        let limit = account.limit().and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX);
        Self {
            mark: Cell::new(Mark::new(index, account.epoch())),
            sum: Cell::new(0),
            high: Cell::new(0),
            batch: Cell::new((limit / BATCHES_IN_LIMIT).clamp(1, BATCH_MAX)),
            flushed: Cell::new(account.is_shared()),
        }
    }

    fn replace(&self, other: &Self) -> Self {
        Self {
            mark: Cell::new(self.mark.replace(other.mark.get())),
            sum: Cell::new(self.sum.replace(other.sum.get())),
            high: Cell::new(self.high.replace(other.high.get())),
            batch: Cell::new(self.batch.replace(other.batch.get())),
            flushed: Cell::new(self.flushed.replace(other.flushed.get())),
        }
    }

    /// Charges an allocated block. Returns its mark.
    #[inline]
    fn charge(&self, bytes: i64) -> Mark {
        let sum = self.sum.get().wrapping_add(bytes);
        self.sum.set(sum);
        if sum > self.high.get() {
            self.high.set(sum);
            if sum > self.batch.get() {
                self.flush();
            }
        }
        self.mark.get()
    }

    /// Credits a freed block that bears `mark`.
    #[inline]
    fn credit(&self, mark: Mark, bytes: i64) {
        if mark == self.mark.get() {
            let sum = self.sum.get().wrapping_sub(bytes);
            self.sum.set(sum);
            if sum < -self.batch.get() {
                self.flush();
            }
        } else if let Some(index) = mark.index() {
            accounts::at(index).credit(mark.epoch(), bytes);
        }
    }

    #[cold]
    fn flush(&self) {
        let mark = self.mark.get();
        let Some(index) = mark.index() else { return };
        let (sum, high) = (self.sum.replace(0), self.high.replace(0));
        if sum == 0 && high == 0 {
            return;
        }
        self.flushed.set(true);
        if accounts::at(index).charge(mark.epoch(), sum, high) {
            watch::raise(index);
        }
    }

    /// Whether anything was charged in this epoch.
    #[inline]
    fn is_used(&self) -> bool {
        self.flushed.get() || self.high.get() != 0
    }
}

/// Charges a block that this thread has allocated. Returns its mark.
#[inline]
pub(crate) fn charge(bytes: usize) -> Mark {
    LOCAL.with(|local| local.charge(bytes as i64)) // a layout has at most `isize::MAX` bytes
}

/// Credits a block that this thread frees.
#[inline]
pub(crate) fn credit(mark: Mark, bytes: usize) {
    LOCAL.with(|local| local.credit(mark, bytes as i64));
}

/// While it exists, the thread charges the account that it was made for. The bytes charged
/// before are flushed first.
#[derive(Debug)]
#[must_use = "it ends where it is dropped"]
pub(crate) struct ChargeGuard {
    outer: LocalCharge,
    /// Not `Send`, because it must end on the thread on which it began.
    _here: PhantomData<*mut ()>,
}

impl ChargeGuard {
    /// Charges the account at `index`, in its current epoch.
    pub(crate) fn account(index: AccountIndex) -> Self {
        Self::with(&LocalCharge::open(index))
    }

    /// Charges no account.
    pub(crate) fn process() -> Self {
        Self::with(&LocalCharge::closed())
    }

    fn with(inner: &LocalCharge) -> Self {
        LOCAL.with(|local| {
            local.flush();
            Self { outer: local.replace(inner), _here: PhantomData }
        })
    }

    /// Whether the thread has charged anything in this epoch.
    #[inline]
    pub(crate) fn is_used() -> bool {
        LOCAL.with(LocalCharge::is_used)
    }

    /// Ends the epoch of the account that this thread charges. Later allocations belong to the next epoch.
    pub(crate) fn end_epoch(index: AccountIndex) -> Epoch {
        LOCAL.with(|local| {
            debug_assert_eq!(local.mark.get().index(), Some(index), "a thread ends the epoch it charges");
            local.flush();
            let account = accounts::at(index);
            let over = account.end_epoch();
            local.mark.set(Mark::new(index, account.epoch()));
            local.flushed.set(account.is_shared());
            over
        })
    }

    /// Allows other threads to charge the account as well.
    pub(crate) fn share(index: AccountIndex) {
        accounts::at(index).share();
        LOCAL.with(|local| local.flushed.set(true));
    }

    /// Bytes that this thread has charged to the account and not yet flushed.
    pub(crate) fn unflushed(index: AccountIndex) -> i64 {
        LOCAL.with(|local| if local.mark.get().index() == Some(index) { local.sum.get() } else { 0 })
    }
}

impl Drop for ChargeGuard {
    fn drop(&mut self) {
        LOCAL.with(|local| {
            local.flush();
            local.replace(&self.outer);
        });
    }
}

/// Whether an [`Accountant`](crate::Accountant) sees the allocations of this thread.
pub(crate) fn is_installed() -> bool {
    let charged = || LOCAL.with(|local| local.sum.get());
    let _inside = ChargeGuard::process();
    let before = charged();
    let block = std::hint::black_box(Box::new(std::hint::black_box(0u64)));
    let installed = charged() != before;
    drop(block);
    installed
}

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
use crate::memory::attempts::OpenAttempt;
use crate::memory::watch;

/// The largest step, in bytes.
const BATCH_MAX: i64 = 64 * 1024;
/// A step is at most this part of the limit, so that a small limit is as exact as a large one.
const BATCHES_IN_LIMIT: i64 = 32;

/// The batch of an account with this limit.
pub(super) fn batch(limit: Option<u64>) -> i64 {
    let limit = limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX);
    (limit / BATCHES_IN_LIMIT).clamp(1, BATCH_MAX)
}

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

/// The account and the epoch that a thread charges, or none.
#[derive(Debug, Clone, Copy)]
struct Target {
    mark: Mark,
    /// `i64::MAX` where nothing is charged.
    batch: i64,
    flushed: bool,
}

impl Target {
    /// No account.
    const NONE: Self = Self { mark: Mark::PROCESS, batch: i64::MAX, flushed: false };

    /// The account at `index`, in its current epoch.
    fn account(index: AccountIndex) -> Self {
        let account = accounts::at(index);
        Self {
            mark: Mark::new(index, account.epoch()),
            batch: batch(account.limit()),
            flushed: account.is_shared(),
        }
    }

    /// An open attempt. Nothing is read of its account, because a future is polled often.
    #[inline]
    fn attempt(index: AccountIndex, attempt: OpenAttempt, batch: i64) -> Self {
        // The attempt may have charged something when it was polled before.
        Self { mark: Mark::new(index, attempt.epoch), batch, flushed: true }
    }
}

impl LocalCharge {
    /// The local charge of a thread outside all scopes.
    const fn closed() -> Self {
        Self {
            mark: Cell::new(Target::NONE.mark),
            sum: Cell::new(0),
            high: Cell::new(i64::MAX),
            batch: Cell::new(Target::NONE.batch),
            flushed: Cell::new(Target::NONE.flushed),
        }
    }

    /// Flushes, and charges another target from now on. Returns the target before.
    #[inline]
    fn charge_to(&self, target: Target) -> Target {
        let high = self.high.get();
        if (high != 0 || self.sum.get() != 0) && high != i64::MAX {
            self.flush();
        }
        self.sum.set(0);
        self.high.set(if target.batch == i64::MAX { i64::MAX } else { 0 });
        Target {
            mark: self.mark.replace(target.mark),
            batch: self.batch.replace(target.batch),
            flushed: self.flushed.replace(target.flushed),
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
    outer: Target,
    /// Not `Send`, because it must end on the thread on which it began.
    _here: PhantomData<*mut ()>,
}

impl ChargeGuard {
    /// Charges the account at `index`, in its current epoch.
    pub(crate) fn account(index: AccountIndex) -> Self {
        Self::with(Target::account(index))
    }

    /// Charges an open attempt of the account at `index`. If nothing is allocated meanwhile, this costs no
    /// atomic step, neither now nor at the end.
    #[inline]
    pub(super) fn attempt(index: AccountIndex, attempt: OpenAttempt, batch: i64) -> Self {
        Self::with(Target::attempt(index, attempt, batch))
    }

    /// Flushes what this thread has charged to an attempt, if the thread is in that attempt.
    pub(super) fn flush_attempt(index: AccountIndex, attempt: OpenAttempt) {
        LOCAL.with(|local| {
            if local.mark.get() == Mark::new(index, attempt.epoch) {
                local.flush();
            }
        });
    }

    /// Charges no account.
    pub(crate) fn process() -> Self {
        Self::with(Target::NONE)
    }

    #[inline]
    fn with(inner: Target) -> Self {
        Self { outer: LOCAL.with(|local| local.charge_to(inner)), _here: PhantomData }
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
    #[inline]
    fn drop(&mut self) {
        LOCAL.with(|local| local.charge_to(self.outer));
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

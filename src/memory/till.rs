//! The till of a thread: what it has allocated and freed for an account, before that is booked.
//!
//! A till costs an addition and a comparison for each block. It is booked when it has moved by a *step*, and
//! when the thread leaves the scope: so an account lags behind by a step for each thread inside, and by
//! nothing when nobody is. What belongs to another account is booked there at once.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::memory::account::{EPOCH_BITS, Epoch};
use crate::memory::accounts::{self, Place};
use crate::memory::alarm;

/// The longest step.
const STEP_MAX: i64 = 64 * 1024;
/// Of a limit, the part that a step may be, so that a small limit is as exact as a large one.
const STEPS_IN_LIMIT: i64 = 32;

/// Whose a block is: the place of an account, or none, and the epoch. It goes behind each block.
///
/// A mark has 64 bits, because blocks may outlive their account for ever: of 32 bits 16 would be left for the epoch,
/// and a container goes through 65 536 attempts within a second, after which a block that it has kept would be
/// taken for one of the attempt that runs, or of another container's. The four bytes more cost nothing where sizes
/// are multiples of 8, as most are: an allocator rounds sizes up to 8 or 16, and a size that is already round is
/// rounded up by the same for a mark of 4 bytes as for one of 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Of the process: charged to nobody.
    pub(crate) const PROCESS: Self = Self(0);

    fn new(place: Place, epoch: u64) -> Self {
        Self(u64::from(place.get()) << EPOCH_BITS | epoch)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    fn place(self) -> Option<Place> {
        Place::new((self.0 >> EPOCH_BITS) as u16)
    }

    fn epoch(self) -> u64 {
        self.0 & ((1 << EPOCH_BITS) - 1)
    }
}

/// What the thread that allocates now is charged with.
#[derive(Debug)]
pub(crate) struct Till {
    mark: Cell<Mark>,
    /// Allocated and not yet booked, less what was freed.
    sum: Cell<i64>,
    /// The most that `sum` was since the last booking. Above every sum where nothing is charged.
    high: Cell<i64>,
    /// Booked when the sum is more than that, or less than its negative.
    step: Cell<i64>,
    /// Something was booked in this epoch, or may have been by another thread.
    booked: Cell<bool>,
}

thread_local! {
    // Without a destructor: it is there for the last allocation of the thread, and costs none itself.
    static TILL: Till = const { Till::closed() };
}

impl Till {
    /// The till of a thread in no scope.
    const fn closed() -> Self {
        Self {
            mark: Cell::new(Mark::PROCESS),
            sum: Cell::new(0),
            high: Cell::new(i64::MAX),
            step: Cell::new(i64::MAX),
            booked: Cell::new(false),
        }
    }

    fn open(place: Place) -> Self {
        let account = accounts::at(place);
        let limit = account.limit().and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX);
        Self {
            mark: Cell::new(Mark::new(place, account.epoch())),
            sum: Cell::new(0),
            high: Cell::new(0),
            step: Cell::new((limit / STEPS_IN_LIMIT).clamp(1, STEP_MAX)),
            booked: Cell::new(account.is_shared()),
        }
    }

    fn replace(&self, other: &Self) -> Self {
        Self {
            mark: Cell::new(self.mark.replace(other.mark.get())),
            sum: Cell::new(self.sum.replace(other.sum.get())),
            high: Cell::new(self.high.replace(other.high.get())),
            step: Cell::new(self.step.replace(other.step.get())),
            booked: Cell::new(self.booked.replace(other.booked.get())),
        }
    }

    /// A block is there now. Returns its mark.
    #[inline]
    fn charge(&self, bytes: i64) -> Mark {
        let sum = self.sum.get().wrapping_add(bytes);
        self.sum.set(sum);
        if sum > self.high.get() {
            self.high.set(sum);
            if sum > self.step.get() {
                self.book();
            }
        }
        self.mark.get()
    }

    /// A block with that mark is gone.
    #[inline]
    fn credit(&self, mark: Mark, bytes: i64) {
        if mark == self.mark.get() {
            let sum = self.sum.get().wrapping_sub(bytes);
            self.sum.set(sum);
            if sum < -self.step.get() {
                self.book();
            }
        } else if let Some(place) = mark.place() {
            accounts::at(place).credit(mark.epoch(), bytes);
        }
    }

    #[cold]
    fn book(&self) {
        let mark = self.mark.get();
        let Some(place) = mark.place() else { return };
        let (sum, high) = (self.sum.replace(0), self.high.replace(0));
        if sum == 0 && high == 0 {
            return;
        }
        self.booked.set(true);
        if accounts::at(place).charge(mark.epoch(), sum, high) {
            alarm::raise(place);
        }
    }

    /// Whether anything was charged in this epoch.
    #[inline]
    fn is_used(&self) -> bool {
        self.booked.get() || self.high.get() != 0
    }
}

/// A block of that size was allocated by this thread. Returns its mark.
#[inline]
pub(crate) fn charge(bytes: usize) -> Mark {
    TILL.with(|till| till.charge(bytes as i64)) // at most `isize::MAX`, as every layout
}

/// A block with that mark is freed by this thread.
#[inline]
pub(crate) fn credit(mark: Mark, bytes: usize) {
    TILL.with(|till| till.credit(mark, bytes as i64));
}

/// While it is there, the thread charges what it was made for. What was charged before is booked first.
#[derive(Debug)]
#[must_use = "it ends where it is dropped"]
pub(crate) struct Inside {
    outer: Till,
    /// It ends on the thread on which it began.
    _here: PhantomData<*mut ()>,
}

impl Inside {
    /// Charges the account at `place`, in its epoch.
    pub(crate) fn account(place: Place) -> Self {
        Self::with(&Till::open(place))
    }

    /// Charges nobody.
    pub(crate) fn process() -> Self {
        Self::with(&Till::closed())
    }

    fn with(inner: &Till) -> Self {
        TILL.with(|till| {
            till.book();
            Self { outer: till.replace(inner), _here: PhantomData }
        })
    }

    /// Whether the thread has charged anything in this epoch.
    #[inline]
    pub(crate) fn is_used() -> bool {
        TILL.with(Till::is_used)
    }

    /// The epoch of the account this thread charges is over. What it charges from now on belongs to the next.
    pub(crate) fn end_epoch(place: Place) -> Epoch {
        TILL.with(|till| {
            debug_assert_eq!(till.mark.get().place(), Some(place), "a thread ends the epoch it charges");
            till.book();
            let account = accounts::at(place);
            let over = account.end_epoch();
            till.mark.set(Mark::new(place, account.epoch()));
            till.booked.set(account.is_shared());
            over
        })
    }

    /// Others charge the account as well from now on.
    pub(crate) fn share(place: Place) {
        accounts::at(place).share();
        TILL.with(|till| till.booked.set(true));
    }

    /// Bytes that this thread has charged and not yet booked.
    pub(crate) fn unbooked(place: Place) -> i64 {
        TILL.with(|till| if till.mark.get().place() == Some(place) { till.sum.get() } else { 0 })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        TILL.with(|till| {
            till.book();
            till.replace(&self.outer);
        });
    }
}

/// Whether what this thread allocates passes an [`Accountant`](crate::Accountant).
pub(crate) fn is_installed() -> bool {
    let charged = || TILL.with(|till| till.sum.get());
    let _inside = Inside::process();
    let before = charged();
    let block = std::hint::black_box(Box::new(std::hint::black_box(0u64)));
    let installed = charged() != before;
    drop(block);
    installed
}

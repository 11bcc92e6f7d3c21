//! The attempts of an account that are open at the same time, each with a cell for its sums.
//!
//! The cell of an attempt is found by its epoch modulo the number of cells. An attempt begins with the next
//! epoch whose cell is free. There are at least twice as many cells as attempts may be open. In one round
//! over the cells, at most half of them are therefore passed over: an attempt passes over one cell on
//! average, and the epochs are used up at most twice as fast as by an account with one attempt at a time.
//!
//! # Synchronization
//!
//! The container's thread begins and ends the attempts. Any thread adds to the cell of an attempt, as it adds
//! to the attempt of an account that has one at a time. The cell holds the whole epoch, and a word with the
//! bytes and the lowest bits of the round, so that bytes that come too late are not added to the next
//! attempt.
//!
//! A cell is prepared for its next attempt when the last one ends. The epoch of a free cell is therefore the
//! one with which the cell is looked at next. No block bears that epoch yet.

use super::account::{EPOCH, after, bytes_of, is_of, pack};
use super::sync::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// The most attempts that an account can have open.
pub(crate) const ATTEMPTS_MAX: usize = 4096;

/// An attempt that was begun in an account and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OpenAttempt {
    pub(super) epoch: u64,
}

/// The sums of one attempt.
#[derive(Debug)]
struct Cell {
    /// The epoch of the attempt, or of the next attempt if the cell is free. The container's thread writes it
    /// before `bytes`.
    epoch: AtomicU64,
    /// The lowest bits of the round, and the bytes alive that the attempt has charged.
    bytes: AtomicU64,
    /// The most bytes that `enter` and the attempt have used together.
    peak: AtomicI64,
}

/// The cells of one account.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// The length is a power of two.
    cells: Box<[Cell]>,
    /// The next epoch whose cell is looked at. Only the container's thread uses this and the next two fields.
    next: AtomicU64,
    /// The number of open attempts.
    open: AtomicUsize,
    /// The most attempts that may be open.
    most: AtomicUsize,
}

impl Attempts {
    /// The cells for an account with up to `attempts` open attempts.
    pub(crate) fn new(attempts: usize) -> Self {
        let cell = || Cell { epoch: AtomicU64::new(0), bytes: AtomicU64::new(0), peak: AtomicI64::new(0) };
        Self {
            cells: (0..2 * attempts.next_power_of_two()).map(|_| cell()).collect(),
            next: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    /// The most attempts for which there are cells. It is a power of two.
    pub(crate) fn most(&self) -> usize {
        self.cells.len() / 2
    }

    /// Prepares the cells for an account whose epoch of `enter` is `enter`. No thread uses them yet.
    pub(super) fn reset(&self, enter: u64, attempts: usize) {
        assert!(attempts <= self.most(), "memory: at least half of the cells are always free");
        self.next.store(after(enter), Ordering::Relaxed);
        self.open.store(0, Ordering::Relaxed);
        self.most.store(attempts, Ordering::Relaxed);
        for (place, cell) in (0..).zip(&self.cells) {
            let epoch = self.next_epoch(place);
            cell.epoch.store(epoch, Ordering::Relaxed);
            cell.bytes.store(pack(self.round(epoch), 0), Ordering::Relaxed);
        }
    }

    /// The epoch after the last one with which an attempt was begun.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The next epoch that has the same cell as `epoch` and was not looked at yet.
    fn next_epoch(&self, epoch: u64) -> u64 {
        let next = self.next();
        (next + (epoch.wrapping_sub(next) & self.last_place())) & EPOCH
    }

    fn last_place(&self) -> u64 {
        self.cells.len() as u64 - 1
    }

    fn cell(&self, epoch: u64) -> &Cell {
        &self.cells[(epoch & self.last_place()) as usize]
    }

    /// The number of times that the cells were gone through before `epoch`.
    fn round(&self, epoch: u64) -> u64 {
        epoch >> self.cells.len().trailing_zeros()
    }

    /// Begins an attempt while the container's `enter` has `state` bytes alive.
    pub(super) fn begin(&self, state: i64) -> OpenAttempt {
        let open = self.open.load(Ordering::Relaxed);
        let most = self.most.load(Ordering::Relaxed);
        assert!(open < most, "memory: at most {most} attempts are open");
        self.open.store(open + 1, Ordering::Relaxed);
        let mut epoch = self.next();
        while self.cell(epoch).epoch.load(Ordering::Relaxed) != epoch {
            epoch = after(epoch);
        }
        self.next.store(after(epoch), Ordering::Relaxed);
        self.cell(epoch).peak.store(state, Ordering::Relaxed);
        OpenAttempt { epoch }
    }

    /// Ends an attempt. Returns the most bytes that `enter` and the attempt used together, and the bytes that
    /// the attempt leaves.
    pub(super) fn end(&self, attempt: OpenAttempt) -> (i64, i64) {
        let OpenAttempt { epoch } = attempt;
        let cell = self.cell(epoch);
        assert_eq!(cell.epoch.load(Ordering::Relaxed), epoch, "memory: the attempt is open");
        self.open.store(self.open.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        let next = self.next_epoch(epoch);
        cell.epoch.store(next, Ordering::Relaxed);
        let left = bytes_of(cell.bytes.swap(pack(self.round(next), 0), Ordering::Relaxed));
        (cell.peak.load(Ordering::Relaxed), left)
    }

    /// Adds to the bytes of the attempt with `epoch` and returns their number before. Returns `None` if the
    /// attempt is over.
    ///
    /// A thread may be suspended between the two checks while a multiple of 65 536 rounds passes. It then
    /// adds to the attempt that has the cell by that time, or to the next one. When that attempt ends, the
    /// bytes are left behind, as they should be.
    pub(super) fn add(&self, epoch: u64, bytes: i64) -> Option<i64> {
        let (cell, round) = (self.cell(epoch), self.round(epoch));
        if cell.epoch.load(Ordering::Relaxed) != epoch {
            return None;
        }
        let mut word = cell.bytes.load(Ordering::Relaxed);
        loop {
            if !is_of(word, round) {
                return None;
            }
            if bytes == 0 {
                return Some(bytes_of(word));
            }
            let sum = pack(round, bytes_of(word) + bytes);
            match cell.bytes.compare_exchange_weak(word, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(bytes_of(word)),
                Err(other) => word = other,
            }
        }
    }

    /// Notes that `enter` and the attempt with `epoch` have used `peak` bytes together.
    pub(super) fn raise_peak(&self, epoch: u64, peak: i64) {
        raise(&self.cell(epoch).peak, peak);
    }
}

/// Raises `most` to `value`, in one atomic step only if it is lower.
pub(super) fn raise(most: &AtomicI64, value: i64) {
    if most.load(Ordering::Relaxed) < value {
        most.fetch_max(value, Ordering::Relaxed);
    }
}

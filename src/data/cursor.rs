//! A cursor: the position of a thread in its range, and the orders with which other threads end
//! or shorten the range.
//!
//! The thread moves on before it publishes an outcome. Exactly one of two things is therefore true of every
//! input: either the thread has the right to publish it, or the thread that fenced the cursor knows that it
//! was executing. Moving on costs the thread a store and a load. A thread that interferes pays for both
//! sides, with [`heavy`](crate::base::sync::heavy):
//!
//! ```text
//! thread                          interferer
//! at ← place + 1                  orders: locked
//! light                           control ← HALT
//! control halts?                  heavy
//!   no: the right is its own      where ← at
//!   yes: waits for the orders,    decides by that, and records it
//!        and obeys them           control ← end, or FENCED; orders: unlocked
//! ```
//!
//! If the thread does not see the halt, the interferer sees the thread's position after its step. If the
//! interferer does not see the thread's last step, the thread sees the halt. The thread then learns from the
//! orders whether its step or the halt came first.
//!
//! If the system refuses the heavy half, neither holds. A range then keeps its length, and a fence reports
//! that the thread's position is not known. The thread may have moved on unseen, and may then publish one
//! more outcome. So no other thread may publish that outcome.

use super::sync::{AtomicU64, Light, Mutex, Ordering, heavy};

/// Set while another thread interferes, and once the cursor is fenced.
const HALT: u64 = 1 << 63;
/// Set once the cursor is fenced: the thread publishes only the outcomes that it had the
/// right to publish before.
const FENCED: u64 = 1 << 62;
/// In `at`: the first place has not begun.
const WAITING: u64 = 1 << 61;
const PLACE: u64 = (1 << 31) - 1;

/// The result of a thread's step from one place to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The outcome of the place may be published. The next place has begun.
    Next,
    /// The outcome of the place may be published. The range is over.
    Last,
    /// The outcome of the place is refused. The range is over.
    Fenced,
}

/// The position of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CursorPosition {
    /// The place that executes or comes next.
    pub(crate) at: u64,
    /// Whether the place at `at` executes.
    pub(crate) begun: bool,
}

/// The decisions of other threads about a cursor.
#[derive(Debug)]
struct Orders {
    /// The end of the range: the place after the last one.
    end: u64,
    /// The position at which the thread was fenced.
    fenced: Option<CursorPosition>,
}

/// The places `at .. end`.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The place that executes or comes next. Only the thread writes it.
    at: AtomicU64,
    /// The end, with [`HALT`] while another thread interferes. Written under `orders`,
    /// and read by the thread.
    control: AtomicU64,
    orders: Mutex<Orders>,
    /// The light half that the thread passes with.
    light: Light,
    /// The first place.
    from: u64,
    /// The number of places that execute together. Only the last batch may be smaller.
    batch: u64,
}

impl Cursor {
    /// A cursor for a thread that passes with `light` in each step.
    pub(crate) fn new(from: u64, end: u64, light: Light) -> Self {
        Self::in_batches(from, end, light, 1)
    }

    /// A cursor for a thread that executes `batch` places together, and then steps over them one by one.
    pub(super) fn in_batches(from: u64, end: u64, light: Light, batch: u64) -> Self {
        assert!(from <= end && end <= PLACE, "a chunk holds fewer than 2^31 inputs");
        Self {
            from,
            batch,
            at: AtomicU64::new(from | WAITING),
            control: AtomicU64::new(end),
            orders: Mutex::new(Orders { end, fenced: None }),
            light,
        }
    }

    /// The light half that the thread passes with. The thread looks it up once for many steps.
    pub(crate) fn light(&self) -> Light {
        self.light
    }

    /// Begins the first place. Returns `None` if the range is empty or the cursor is fenced.
    pub(crate) fn begin(&self) -> Option<u64> {
        let from = self.at.load(Ordering::Relaxed) & PLACE;
        if from == self.control.load(Ordering::Acquire) & PLACE {
            return None;
        }
        self.at.store(from, Ordering::Release);
        self.light.pass();
        let control = self.control.load(Ordering::Acquire);
        if control & HALT == 0 {
            return (from < control).then_some(from);
        }
        let orders = self.orders.lock();
        (orders.fenced.is_none() && from < orders.end).then_some(from)
    }

    /// Ends `place` and begins the next place, if there is one. `light` is the cursor's.
    #[inline]
    pub(crate) fn step(&self, place: u64, light: Light) -> Advance {
        let next = place + 1;
        self.at.store(next, Ordering::Release);
        light.pass();
        let control = self.control.load(Ordering::Acquire);
        if control & HALT != 0 {
            return self.obey(next);
        }
        if next == control { Advance::Last } else { Advance::Next }
    }

    /// Another thread interferes. The orders say whether this step came before its decision.
    #[cold]
    fn obey(&self, next: u64) -> Advance {
        let orders = self.orders.lock();
        match orders.fenced {
            Some(position) if position.at < next => Advance::Fenced,
            Some(_) => Advance::Last,
            None if next == orders.end => Advance::Last,
            None => Advance::Next,
        }
    }

    /// Ends the range from another thread. Outcomes that the thread has no right to publish yet are refused.
    /// `stands_still` says whether the thread is kept from any further step, so that no barrier is needed.
    ///
    /// # Errors
    ///
    /// The system refuses the barrier. The position is where the thread was seen. It may have moved on
    /// unseen, and then it publishes one more outcome.
    pub(super) fn fence(
        &self,
        stands_still: impl FnOnce() -> bool,
    ) -> Result<CursorPosition, CursorPosition> {
        let mut orders = self.orders.lock();
        let is_known = self.halt(stands_still);
        let position = self.seal(&mut orders);
        if is_known { Ok(position) } else { Err(position) }
    }

    /// Ends the range on the thread itself, between two of its steps. This needs no barrier.
    pub(super) fn fence_here(&self) -> CursorPosition {
        let mut orders = self.orders.lock();
        self.seal(&mut orders)
    }

    fn seal(&self, orders: &mut Orders) -> CursorPosition {
        if let Some(position) = orders.fenced {
            return position;
        }
        let position = self.position(orders.end);
        orders.fenced = Some(position);
        self.control.store(orders.end | HALT | FENCED, Ordering::SeqCst);
        position
    }

    /// Shortens the range so that it ends at `wanted`, or after the places that execute or have already been
    /// passed. Returns the end. It is unchanged if the system refuses the barrier.
    pub(crate) fn truncate(&self, wanted: u64) -> u64 {
        let mut orders = self.orders.lock();
        if wanted >= orders.end || orders.fenced.is_some() {
            return orders.end;
        }
        if self.halt(|| false) {
            let position = self.position(orders.end);
            let reached = if position.begun { self.batch_end(position.at) } else { position.at };
            orders.end = reached.max(wanted).min(orders.end);
        }
        self.control.store(orders.end, Ordering::SeqCst);
        orders.end
    }

    /// From now on the thread cannot move on unseen. Returns `false` if it can, because the system refuses
    /// the barrier. A thread that stands still, and goes on later, sees the halt.
    fn halt(&self, stands_still: impl FnOnce() -> bool) -> bool {
        self.control.fetch_or(HALT, Ordering::SeqCst);
        stands_still() || heavy(self.light)
    }

    /// The end of the batch to which a place belongs, if the range is long enough.
    fn batch_end(&self, place: u64) -> u64 {
        let batches = (place - self.from) / self.batch + 1;
        self.from + batches * self.batch
    }

    /// The end of the places that execute together with `place`, for the thread that executes it and for
    /// the one that has fenced it. No thread shortens the range within them.
    pub(super) fn executing_to(&self, place: u64) -> u64 {
        let control = self.control.load(Ordering::Acquire);
        // While another thread interferes, its decision is waited for.
        let end = if control & HALT == 0 { control } else { self.orders.lock().end };
        self.batch_end(place).min(end)
    }

    fn position(&self, end: u64) -> CursorPosition {
        let at = self.at.load(Ordering::Acquire);
        CursorPosition { at: at & PLACE, begun: at & WAITING == 0 && at < end }
    }

    /// The thread's position, read without stopping the thread. It is exact on the thread itself.
    pub(super) fn look(&self) -> CursorPosition {
        self.position(self.orders.lock().end)
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.control.load(Ordering::SeqCst) & FENCED != 0
    }

    /// A lower bound of the thread's position. Do not use it on a fenced cursor: use the position that
    /// `fence` returned. The thread advances once more before it sees the fence.
    pub(crate) fn at(&self) -> u64 {
        self.at.load(Ordering::Acquire) & PLACE
    }
}

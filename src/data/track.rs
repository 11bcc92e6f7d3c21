//! A track: how far a thread is in its range, and how others end or shorten the range meanwhile.
//!
//! The thread moves on before it publishes an outcome, so that exactly one of two things is true of every
//! input: the thread has the right to publish it, or whoever fenced the track knows that it was executing.
//! Moving on costs the thread a store and a load; whoever interferes pays for both sides, with
//! [`heavy`](crate::base::sync::heavy):
//!
//! ```text
//! thread                          interferer
//! at ← place + 1                  orders: locked
//! light                           control ← HALT
//! control halts?                  heavy
//!   no: the right is its own      where ← at
//!   yes: waits for the orders,    decides by that, and writes it down
//!        and obeys them           control ← end, or FENCED; orders: unlocked
//! ```
//!
//! A thread that did not see the halt was seen where it is; one that was not seen there sees the halt, and
//! learns from the orders which of the two it is.
//!
//! Where the heavy half is refused, neither is known. A range then keeps its length, and a fence says that it does not
//! know where the thread is: of the place before the thread may still publish the outcome, once, and so nobody else may.

use super::sync::{AtomicU64, Light, Mutex, Ordering, heavy};

/// Somebody interferes, or has fenced the track.
const HALT: u64 = 1 << 63;
/// Nothing is published any more but what the thread had the right to when it was fenced.
const FENCED: u64 = 1 << 62;
/// In `at`: the first place has not begun.
const WAITING: u64 = 1 << 61;
const PLACE: u64 = (1 << 31) - 1;

/// What the thread does after a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Its outcome may be published; the next one has begun.
    Next,
    /// Its outcome may be published; the range is over.
    Last,
    /// Its outcome is refused, the range is over.
    Fenced,
}

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The place that executes or comes next.
    pub(crate) at: u64,
    /// Whether it executes.
    pub(crate) begun: bool,
}

/// What was decided about a track from outside.
#[derive(Debug)]
struct Orders {
    /// Behind the last place of the range.
    end: u64,
    /// Where the thread was when it was fenced.
    fenced: Option<Standing>,
}

/// Places `at .. end`.
#[derive(Debug)]
pub(crate) struct Track {
    /// The place that executes or comes next. Written by the thread alone.
    at: AtomicU64,
    /// The end, with [`HALT`] while somebody interferes. Written under `orders`, read by the thread.
    control: AtomicU64,
    orders: Mutex<Orders>,
    /// What the thread passes with.
    light: Light,
}

impl Track {
    /// For a thread that passes with that light half in each step.
    pub(crate) fn new(from: u64, end: u64, light: Light) -> Self {
        assert!(from <= end && end <= PLACE, "a chunk holds fewer than 2^31 inputs");
        Self {
            at: AtomicU64::new(from | WAITING),
            control: AtomicU64::new(end),
            orders: Mutex::new(Orders { end, fenced: None }),
            light,
        }
    }

    /// What the thread passes with, to be looked up once for many steps.
    pub(crate) fn light(&self) -> Light {
        self.light
    }

    /// The thread begins the first place. `None` if there is none, or it may not any more.
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

    /// The thread has come to the end of `place`; the next one begins, if there is one. `light` is the track's.
    #[inline]
    pub(crate) fn step(&self, place: u64, light: Light) -> Pace {
        let next = place + 1;
        self.at.store(next, Ordering::Release);
        light.pass();
        let control = self.control.load(Ordering::Acquire);
        if control & HALT != 0 {
            return self.obey(next);
        }
        if next == control { Pace::Last } else { Pace::Next }
    }

    /// Somebody interferes: what was decided tells whether this step came before it.
    #[cold]
    fn obey(&self, next: u64) -> Pace {
        let orders = self.orders.lock();
        match orders.fenced {
            Some(standing) if standing.at < next => Pace::Fenced,
            Some(_) => Pace::Last,
            None if next == orders.end => Pace::Last,
            None => Pace::Next,
        }
    }

    /// Ends the range from another thread. What the thread has no right to publish yet is refused.
    ///
    /// # Errors
    ///
    /// The system refuses a barrier. The thread was seen there, but may have moved on unseen, and then it publishes
    /// one outcome more.
    pub(crate) fn fence(&self) -> Result<Standing, Standing> {
        let mut orders = self.orders.lock();
        let is_known = self.halt();
        let standing = self.seal(&mut orders);
        if is_known { Ok(standing) } else { Err(standing) }
    }

    /// The same on the thread itself, between two of its steps, which takes no barrier.
    pub(crate) fn fence_here(&self) -> Standing {
        let mut orders = self.orders.lock();
        self.seal(&mut orders)
    }

    fn seal(&self, orders: &mut Orders) -> Standing {
        if let Some(standing) = orders.fenced {
            return standing;
        }
        let standing = self.standing(orders.end);
        orders.fenced = Some(standing);
        self.control.store(orders.end | HALT | FENCED, Ordering::SeqCst);
        standing
    }

    /// Shortens the range so that it ends at `wanted`, or behind what executes or has been passed by then.
    /// Returns where it ends now, which is where it ended before if the system refuses a barrier.
    pub(crate) fn truncate(&self, wanted: u64) -> u64 {
        let mut orders = self.orders.lock();
        if wanted >= orders.end || orders.fenced.is_some() {
            return orders.end;
        }
        if self.halt() {
            let standing = self.standing(orders.end);
            let reached = standing.at + u64::from(standing.begun);
            orders.end = reached.max(wanted);
        }
        self.control.store(orders.end, Ordering::SeqCst);
        orders.end
    }

    /// From now on the thread does not move on without being seen; `false` if it may.
    fn halt(&self) -> bool {
        self.control.fetch_or(HALT, Ordering::SeqCst);
        heavy(self.light)
    }

    fn standing(&self, end: u64) -> Standing {
        let at = self.at.load(Ordering::Acquire);
        Standing { at: at & PLACE, begun: at & WAITING == 0 && at < end }
    }

    /// Where the thread is, as it is seen without stopping it. On the thread itself that is exact.
    pub(crate) fn look(&self) -> Standing {
        self.standing(self.orders.lock().end)
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.control.load(Ordering::SeqCst) & FENCED != 0
    }

    /// Where the thread is, or has come further by now. Of a fenced track its standing tells, and not this: the
    /// thread moves on once more before it learns that it was in vain.
    pub(crate) fn at(&self) -> u64 {
        self.at.load(Ordering::Acquire) & PLACE
    }
}

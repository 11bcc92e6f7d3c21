//! Places among the calls of a function: to reserve one, to wait for one, and to give one back.
//!
//! The ledger's [`Admission`](crate::decide::admission::Admission) decides who has a place. Here are the
//! wakers of those who wait.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::contain::outlined::outline;
use crate::data::failure::Reason;
use crate::decide::admission::{Overloaded, Waiter};
use crate::engine::dispatch::{Dispatch, State};
use crate::values::error::ReserveError;

/// A place that was reserved and is not used. It goes to the next waiter when it is dropped.
pub(crate) struct ReservedPlace {
    dispatch: Arc<Dispatch>,
    /// Whether a call has it.
    used: bool,
}

outline!(ReservedPlace);

impl ReservedPlace {
    /// Records that a call has the place.
    pub(crate) fn is_used(&mut self) {
        self.used = true;
    }
}

impl Drop for ReservedPlace {
    fn drop(&mut self) {
        if !self.used {
            self.dispatch.lock().ledger.admission_mut().release();
        }
    }
}

impl Dispatch {
    /// Reserves a place without waiting.
    pub(crate) fn try_reserve(self: &Arc<Self>) -> Result<ReservedPlace, ReserveError> {
        let mut state = self.lock();
        if let Some(refusal) = state.refusal() {
            return Err(not_reserved(refusal));
        }
        let reserved = state.ledger.admission_mut().try_reserve();
        drop(state); // a place is given back under the lock
        match reserved {
            Ok(()) => Ok(ReservedPlace { dispatch: Arc::clone(self), used: false }),
            Err(Overloaded { calls, max }) => Err(ReserveError::Overloaded { calls, max }),
        }
    }
}

/// Why a function that takes no work gives no place.
fn not_reserved(refusal: Reason) -> ReserveError {
    match refusal {
        Reason::GaveUp(gave_up) => ReserveError::GaveUp(gave_up),
        Reason::ShutDown => ReserveError::ShutDown,
        Reason::Engine(bug) => ReserveError::Engine(bug),
        other => unreachable!("a function does not refuse all work for {other:?}"),
    }
}

/// The wakers of those who wait for a place.
pub(super) type PlaceWakers = BTreeMap<Waiter, Waker>;

impl State {
    /// Whether someone who waits for a place is to be woken when the lock is released.
    pub(super) fn has_places(&self) -> bool {
        self.ledger.admission().has_unwoken() || (!self.place_wakers.is_empty() && self.refusal().is_some())
    }

    /// Collects the wakers of those who were granted a place. If the function takes no work any more, they
    /// are the wakers of all who wait. They are the user's code, so they are woken once the lock is released.
    pub(super) fn wake_for_places(&mut self) {
        for waiter in self.ledger.admission_mut().take_unwoken() {
            self.wakers.woken.extend(self.place_wakers.remove(&waiter));
        }
        if !self.place_wakers.is_empty() && self.refusal().is_some() {
            self.wakers.woken.extend(std::mem::take(&mut self.place_wakers).into_values());
        }
    }
}

/// A future that waits for a place. If it is dropped, a place that it was granted goes to the next waiter.
pub(crate) struct Reserving {
    dispatch: Arc<Dispatch>,
    /// Its number among the waiters, while it waits.
    waiter: Option<Waiter>,
}

impl Reserving {
    pub(crate) fn new(dispatch: &Arc<Dispatch>) -> Self {
        Self { dispatch: Arc::clone(dispatch), waiter: None }
    }
}

impl Future for Reserving {
    type Output = Result<ReservedPlace, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let waker = cx.waker().clone(); // a waker is the user's code, so the lock is not held
        let mut state = this.dispatch.lock();
        if let Some(refusal) = state.refusal() {
            this.waiter.take().into_iter().for_each(|waiter| state.leave_line(waiter));
            return Poll::Ready(Err(not_reserved(refusal)));
        }
        let waiter = *this.waiter.get_or_insert_with(|| state.ledger.admission_mut().wait());
        let granted = state.ledger.admission_mut().collect(waiter);
        let unused = if granted {
            this.waiter = None;
            state.place_wakers.remove(&waiter)
        } else {
            state.place_wakers.insert(waiter, waker)
        };
        state.wakers.unused.extend(unused);
        drop(state); // a place is given back under the lock
        if !granted {
            return Poll::Pending;
        }
        Poll::Ready(Ok(ReservedPlace { dispatch: Arc::clone(&this.dispatch), used: false }))
    }
}

impl State {
    /// A waiter goes away.
    fn leave_line(&mut self, waiter: Waiter) {
        self.ledger.admission_mut().leave(waiter);
        let waker = self.place_wakers.remove(&waiter);
        self.wakers.unused.extend(waker);
    }
}

impl Drop for Reserving {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.dispatch.lock().leave_line(waiter);
        }
    }
}

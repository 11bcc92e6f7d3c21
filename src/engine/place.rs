//! [`Place`]: a place among the calls of a function, as a message gives it.
//!
//! It is the twin of [`Permit`](crate::Permit), which a program without an actor gets. It knows no types, so
//! it is the same for all functions.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::engine::dispatch::{Dispatch, ReservedPlace, Reserving};
use crate::engine::messages::Reply;
use crate::engine::running::Running;
use crate::values::error::ReserveError;

/// A place among the calls of a function, reserved with [`Reserve`](crate::actor::Reserve) or
/// [`TryReserve`](crate::actor::TryReserve). A call with it
/// ([`CallInput::in_place`](crate::actor::CallInput::in_place)) cannot be
/// [overloaded](crate::Cause::Overloaded).
///
/// It counts as a call of [`Builder::calls_max`](crate::Builder::calls_max), keeps the function alive, and
/// gives its place back when it is dropped unused. A [`Permit`](crate::Permit) is the same for a program
/// without an actor.
#[must_use = "a place comes back when it is dropped"]
pub struct Place {
    place: ReservedPlace,
    running: Arc<Running>,
}

impl Place {
    /// The place, if it is one of the function of `dispatch`. A place of another function goes back there.
    pub(super) fn of_function(self, dispatch: &Arc<Dispatch>) -> Option<ReservedPlace> {
        Arc::ptr_eq(&self.running.dispatch, dispatch).then_some(self.place)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("function", &self.running.dispatch.settings.function)
            .finish_non_exhaustive()
    }
}

/// The answer to a request for a place.
pub(crate) type Reserved = Result<Place, ReserveError>;

/// Whether the sender of a request waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    ForRoom,
    Never,
}

/// Reserves a place and sends it as the reply. The sender may go away before that. Then it leaves the line of
/// those who wait, and a place that it was granted goes back.
pub(super) fn reserve(running: Option<Arc<Running>>, waits: Waits, reply: Reply<Reserved>) {
    let Some(mut reply) = reply else { return }; // a place without an owner would go back at once
    let Some(running) = running else {
        drop(reply.send(Err(ReserveError::ShutDown))); // fails if the sender no longer waits
        return;
    };
    let of = |place, running| Place { place, running };
    if waits == Waits::Never {
        let place = running.dispatch.try_reserve();
        drop(reply.send(place.map(|place| of(place, running)))); // an unread place goes back
        return;
    }
    actix::spawn(async move {
        let mut reserving = Reserving::new(&running.dispatch);
        let reserved = poll_fn(|cx| {
            if reply.poll_closed(cx).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut reserving).poll(cx).map(Some)
        });
        if let Some(place) = reserved.await {
            drop(reserving);
            drop(reply.send(place.map(|place| of(place, running)))); // an unread place goes back
        }
    });
}

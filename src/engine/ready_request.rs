//! The requests, by message, that wait until a function is ready or idle.
//!
//! The supervisor begins such a wait and goes on. A task of its own waits and replies, so no other message
//! is held up.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::engine::dispatch::{Dispatch, Readiness, Wanted};
use crate::engine::messages::Reply;
use crate::values::error::NotReady;

/// The answer to a request that waits for a function to be ready or idle.
pub(crate) type Waited = Result<(), NotReady>;

/// Replies once the condition holds, or can never hold. The sender may go away before that, which ends the
/// wait. The wait does not keep the function alive: the end of the function ends the wait as well.
pub(crate) fn reply_when(dispatch: &Arc<Dispatch>, wanted: Wanted, reply: Reply<Waited>) {
    let Some(mut reply) = reply else { return }; // without a reply there is nothing to wait for
    let mut readiness = Readiness::new(dispatch, wanted);
    // The wait begins now, and not when its task first runs. The function may be idle in between, and then
    // take on new work.
    let begun = Pin::new(&mut readiness).poll(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(waited) = begun {
        drop(reply.send(waited)); // fails if the sender no longer waits
        return;
    }
    actix::spawn(async move {
        let waited = poll_fn(|cx| {
            if reply.poll_closed(cx).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut readiness).poll(cx).map(Some)
        });
        if let Some(waited) = waited.await {
            drop(readiness); // before the reply, so that its receiver finds nothing of the wait
            drop(reply.send(waited)); // fails if the sender no longer waits
        }
    });
}

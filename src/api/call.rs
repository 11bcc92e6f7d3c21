//! [`Call`]: one execution of a function, outside any map.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::contain::drops::DeferDrop;
use crate::contain::outlined::Outlined;
use crate::data::failure::{Failure, Reason};
use crate::engine::abort::AbortHandle;
use crate::engine::caller::Caller;
use crate::engine::consumer::outcome_of_call;
use crate::engine::dispatch::Wait;
use crate::engine::open_call::OpenCall;
use crate::engine::running::Running;

/// One execution that has begun. Await it, or [wait](Call::wait) for it. Dropping it cancels it.
#[must_use = "dropping a call cancels it"]
pub struct Call<I, O, E> {
    running: Outlined<Arc<Running>>,
    state: CallState<I, E>,
    output: PhantomData<fn() -> O>,
}

enum CallState<I, E> {
    /// The function accepted it.
    Begun(OpenCall),
    /// The function refused it at once.
    Refused(Box<DeferDrop<Failure<I, E>>>),
    /// The outcome was given to the caller.
    Over,
}

impl<I, O, E> Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(running: Outlined<Arc<Running>>, input: I) -> Self {
        let state = match OpenCall::begin(&running.dispatch, input, Caller::here(None)) {
            Ok(call) => CallState::Begun(call),
            Err(failure) => {
                let stack = running.dispatch.settings.stack();
                CallState::Refused(Box::new(DeferDrop::new(failure, stack, true)))
            }
        };
        Self { running, state, output: PhantomData }
    }

    /// A handle that cancels the call from another place.
    pub fn abort_handle(&self) -> AbortHandle {
        if let CallState::Begun(call) = &self.state { call.abort_handle() } else { AbortHandle::new() }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// The [`Failure`] says why the input has no output, and gives the input back. Inside a container of the
    /// same function, and on the engine's thread, a call whose outcome is not there yet fails with
    /// [`Cause::WouldDeadlock`](crate::Cause::WouldDeadlock).
    pub fn wait(mut self) -> Result<O, Failure<I, E>> {
        match std::mem::replace(&mut self.state, CallState::Over) {
            CallState::Begun(mut call) => {
                let mut polled = call.poll(Wait::Try);
                if matches!(polled, Poll::Pending) {
                    if self.running.would_deadlock() {
                        call.end_as(&Reason::WouldDeadlock);
                    }
                    polled = call.wait();
                }
                outcome_of_call(polled)
            }
            CallState::Refused(failure) => Err(failure.into_inner()),
            CallState::Over => unreachable!("a call is waited for by value"),
        }
    }
}

/// Awaits the outcome.
///
/// # Cancel safety
///
/// A call that is awaited by reference goes on when that future is dropped. Dropping the call itself cancels
/// it.
///
/// # Panics
///
/// If the call is polled again after it has given its outcome.
impl<I, O, E> Future for Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<O, Failure<I, E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.state {
            CallState::Begun(call) => call.poll(Wait::Register(cx.waker())),
            CallState::Refused(_) => Poll::Ready(None),
            CallState::Over => panic!("a call is polled after its outcome was given"),
        };
        if matches!(polled, Poll::Pending) {
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut self.state, CallState::Over) {
            CallState::Refused(failure) => Err(failure.into_inner()),
            CallState::Begun(_) | CallState::Over => outcome_of_call(polled),
        })
    }
}

impl<I, O, E> Unpin for Call<I, O, E> {}

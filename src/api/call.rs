//! [`Call`]: one execution of a function, outside any map.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::contain::drops::Elsewhere;
use crate::contain::outlined::Outlined;
use crate::data::failure::{Failure, Reason};
use crate::engine::abort::AbortHandle;
use crate::engine::caller::Caller;
use crate::engine::consumer::Sight;
use crate::engine::dispatch::Patience;
use crate::engine::open_call::OpenCall;
use crate::engine::running::Running;

/// One execution that has begun. Await it, or [wait](Call::wait) for it. Dropping it cancels it.
#[must_use = "dropping a call cancels it"]
pub struct Call<I, O, E> {
    running: Outlined<Arc<Running>>,
    state: State<I, E>,
    output: PhantomData<fn() -> O>,
}

enum State<I, E> {
    /// The function accepted it.
    Begun(OpenCall),
    /// The function refused it at once.
    Refused(Box<Elsewhere<Failure<I, E>>>),
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
            Ok(call) => State::Begun(call),
            Err(failure) => {
                let stack = running.dispatch.settings.stack();
                State::Refused(Box::new(Elsewhere::new(failure, stack, true)))
            }
        };
        Self { running, state, output: PhantomData }
    }

    /// A handle that cancels the call from another place.
    pub fn abort_handle(&self) -> AbortHandle {
        if let State::Begun(call) = &self.state { call.abort_handle() } else { AbortHandle::new() }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// The [`Failure`] says why the input has no output, and gives the input back. Inside a container of the
    /// same function, and on the engine's thread, a call whose outcome is not there yet fails with
    /// [`Cause::WouldDeadlock`](crate::Cause::WouldDeadlock).
    pub fn wait(mut self) -> Result<O, Failure<I, E>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begun(mut call) => {
                let mut sight = call.look(Patience::Look);
                if matches!(sight, Sight::NotYet) {
                    if self.running.would_deadlock() {
                        call.end_as(&Reason::WouldDeadlock);
                    }
                    sight = call.wait();
                }
                sight.into_outcome()
            }
            State::Refused(failure) => Err(failure.into_inner()),
            State::Over => unreachable!("a call is waited for by value"),
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
        let sight = match &mut self.state {
            State::Begun(call) => call.look(Patience::Task(cx.waker())),
            State::Refused(_) => Sight::End,
            State::Over => panic!("a call is polled after its outcome was given"),
        };
        if matches!(sight, Sight::NotYet) {
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut self.state, State::Over) {
            State::Refused(failure) => Err(failure.into_inner()),
            State::Begun(_) | State::Over => sight.into_outcome(),
        })
    }
}

impl<I, O, E> Unpin for Call<I, O, E> {}

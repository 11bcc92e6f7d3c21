//! One execution of a function, outside of any map.

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

/// One execution, begun: await it, or [wait](Call::wait) for it. Dropping it cancels it.
#[must_use = "dropping a call cancels it"]
pub struct Call<I, O, E> {
    running: Outlined<Arc<Running>>,
    state: State<I, E>,
    output: PhantomData<fn() -> O>,
}

enum State<I, E> {
    /// Accepted by the function.
    Begun(OpenCall),
    /// Refused at once.
    Refused(Box<Elsewhere<Failure<I, E>>>),
    /// Its outcome has been given.
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

    /// A handle that ends the call from elsewhere.
    pub fn abort_handle(&self) -> AbortHandle {
        if let State::Begun(call) = &self.state { call.abort_handle() } else { AbortHandle::new() }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// Why the input has no output; the failure gives it back. On a container of the same function, or
    /// on the engine, an outcome that is not there yet is [`Cause::WouldDeadlock`](crate::Cause::WouldDeadlock).
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
/// A borrowed call that is awaited and dropped half-way goes on. Dropping the call itself cancels it.
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

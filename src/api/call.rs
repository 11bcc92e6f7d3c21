//! [`Call`]: one execution of a function, outside any map.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::contain::drops::Elsewhere;
use crate::contain::outlined::Outlined;
use crate::data::failure::{Failure, Reason};
use crate::engine::abort::AbortHandle;
use crate::engine::caller::Caller;
use crate::engine::consumer::{Consumer, Sight};
use crate::engine::dispatch::Patience;
use crate::engine::running::Running;

/// One execution that has begun. Await it, or [wait](Call::wait) for it. Dropping it cancels it.
#[must_use = "dropping a call cancels it"]
pub struct Call<I, O, E> {
    running: Outlined<Arc<Running>>,
    state: State<I, O, E>,
    abort: AbortHandle,
}

enum State<I, O, E> {
    /// The function accepted it.
    Begun(Consumer<I, O, E>),
    /// The function refused it at once.
    Refused(Elsewhere<Failure<I, E>>),
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
        let abort = AbortHandle::new();
        let state = match Consumer::of_call(&running.dispatch, input, Caller::here(None)) {
            Ok(consumer) => {
                consumer.ends_by(&abort);
                State::Begun(consumer)
            }
            Err(failure) => {
                let stack = running.dispatch.settings.stack();
                State::Refused(Elsewhere::new(failure, stack, true))
            }
        };
        Self { running, state, abort }
    }

    /// A handle that cancels the call from another place.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
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
            State::Begun(mut consumer) => {
                let mut sight = consumer.look(Patience::Look);
                if matches!(sight, Sight::NotYet) {
                    if self.running.would_deadlock() {
                        consumer.end_as(&Reason::WouldDeadlock);
                    }
                    sight = consumer.look(Patience::Wait);
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
            State::Begun(consumer) => consumer.look(Patience::Task(cx.waker())),
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

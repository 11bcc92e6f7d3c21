//! One execution of a function, outside of any map.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::consumer::{Consumer, Sight};
use crate::engine::dispatch::Patience;
use crate::failure::{Bug, Cause, Failure};
use crate::function::{Running, close_elsewhere};

/// One execution, begun: await it, or [wait](Call::wait) for it. Dropping it cancels it.
#[must_use = "dropping a call cancels it"]
pub struct Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    running: Arc<Running<I, O, E>>,
    state: State<I, O, E>,
}

enum State<I, O, E> {
    /// Accepted by the function.
    Begun(Consumer<I, O, E>),
    /// Refused at once.
    Refused(Failure<I, E>),
    /// Its outcome has been given.
    Over,
}

impl<I, O, E> Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(running: Arc<Running<I, O, E>>, input: I) -> Self {
        let state = match Consumer::of_call(&running.dispatch, input) {
            Ok(consumer) => State::Begun(consumer),
            Err(failure) => State::Refused(failure),
        };
        Self { running, state }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// Why the input has no output; the failure gives it back. On a container of the same function, or
    /// on the engine, an outcome that is not there yet is [`Cause::WouldDeadlock`].
    pub fn wait(mut self) -> Result<O, Failure<I, E>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begun(mut consumer) => {
                let mut sight = consumer.look(Patience::Look);
                if matches!(sight, Sight::NotYet) {
                    if self.running.would_deadlock() {
                        consumer.end_as(|| Cause::WouldDeadlock);
                    }
                    sight = consumer.look(Patience::Wait);
                }
                drop(consumer.close());
                outcome(sight)
            }
            State::Refused(failure) => Err(failure),
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
            State::Begun(consumer) => consumer.look(Patience::Task(cx.waker())),
            State::Refused(_) => Sight::End,
            State::Over => panic!("a call is polled after its outcome was given"),
        };
        if matches!(sight, Sight::NotYet) {
            return Poll::Pending;
        }
        Poll::Ready(match (std::mem::replace(&mut self.state, State::Over), sight) {
            (State::Refused(failure), _) => Err(failure),
            (State::Begun(consumer), sight) => {
                drop(consumer.close());
                outcome(sight)
            }
            (State::Over, _) => unreachable!("looked at above"),
        })
    }
}

/// The one outcome of a call.
fn outcome<I, O, E>(sight: Sight<I, O, E>) -> Result<O, Failure<I, E>> {
    match sight {
        Sight::Outcome(outcome) => outcome,
        Sight::NotYet | Sight::End => {
            Err(Failure::of_map(Cause::Engine(Bug("a call ended without an outcome".into()))))
        }
    }
}

impl<I, O, E> Unpin for Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
}

impl<I, O, E> Drop for Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if let State::Begun(consumer) = std::mem::replace(&mut self.state, State::Over) {
            close_elsewhere(consumer);
        }
    }
}

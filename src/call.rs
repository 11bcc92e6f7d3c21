//! One execution of a function, outside of any map.

use std::sync::Arc;

use crate::engine::consumer::{Consumer, Sight};
use crate::engine::dispatch::Patience;
use crate::failure::{Bug, Cause, Failure};
use crate::function::{Running, close_elsewhere};

/// One execution, begun. Dropping it cancels it.
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
                match sight {
                    Sight::Outcome(outcome) => outcome,
                    Sight::NotYet | Sight::End => {
                        Err(Failure::of_map(Cause::Engine(Bug("a call ended without an outcome".into()))))
                    }
                }
            }
            State::Refused(failure) => Err(failure),
            State::Over => unreachable!("a call is waited for by value"),
        }
    }
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

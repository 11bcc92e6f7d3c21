//! One execution of a function, outside of any map.

use std::sync::Arc;

use crate::decide::ids::JobId;
use crate::engine::dispatch::Found;
use crate::engine::lane::Outcome;
use crate::failure::{Bug, Cause, Failure};
use crate::function::{Running, drop_elsewhere};

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
    Begun(JobId),
    /// Refused at once.
    Refused(Failure<I, E>),
    /// Its outcome has been given.
    Over,
    #[expect(dead_code, reason = "binds the output type")]
    Never(O),
}

impl<I, O, E> Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(running: Arc<Running<I, O, E>>, input: I) -> Self {
        let state = if running.would_deadlock() {
            State::Refused(Failure::of_refused(input, Cause::WouldDeadlock))
        } else {
            match running.dispatch.open_call(input) {
                Ok(job) => State::Begun(job),
                Err(failure) => State::Refused(failure),
            }
        };
        Self { running, state }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// Why the input has no output; the failure gives it back.
    pub fn wait(mut self) -> Result<O, Failure<I, E>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begun(job) => {
                let outcome = self.outcome(job);
                drop(self.running.dispatch.close(job));
                outcome
            }
            State::Refused(failure) => Err(failure),
            State::Over | State::Never(_) => unreachable!("a call is waited for by value"),
        }
    }

    fn outcome(&self, job: JobId) -> Outcome<I, O, E> {
        let nothing = || Failure::of_map(Cause::Engine(Bug("a call ended without an outcome".into())));
        match self.running.dispatch.find(job, 0) {
            Found::Chunk(chunk) => chunk.take(0).unwrap_or_else(|| Err(nothing())),
            Found::End(failure) => Err(failure.unwrap_or_else(nothing)),
            Found::Ready(_) => Err(nothing()),
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
        if let State::Begun(job) = self.state
            && let Some(lane) = self.running.dispatch.close(job)
        {
            drop_elsewhere(lane);
        }
    }
}

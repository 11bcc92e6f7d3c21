//! Runs: executions of many inputs whose outcomes are wanted together, or not at all. Each of them is a
//! map, or a [`bulk`] where that is cheaper.

use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream;

use crate::api::bulk::{self, Bulk, outcomes, outputs};
use crate::api::function::Function;
use crate::contain::drops::{Gathered, drop_in_turn};
use crate::data::failure::Failure;
use crate::engine::reader::Failures;
use crate::values::progress::Progress;

impl<I, O, E> Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Executes all inputs, and returns all outputs in order or the first failure. If the function sets no
    /// window and the inputs have no drop, all inputs are accepted at once, which is cheaper than a map.
    ///
    /// # Errors
    ///
    /// The failure of the first input that fails for good, as soon as it fails; the other inputs are
    /// cancelled. A failure without an index if the function gave up or is shut down, or if the caller would
    /// wait for itself ([`Cause::WouldDeadlock`](crate::Cause::WouldDeadlock)).
    pub fn run(&self, inputs: Vec<I>) -> Result<Vec<O>, Failure<I, E>> {
        if !self.would_deadlock() && bulk::suits(&self.running, &inputs) {
            let all = Bulk::begin(&self.running, inputs, Failures::EndMap).wait();
            return outputs(all, self.stack());
        }
        let mut outputs = Gathered::new(Vec::with_capacity(inputs.len()), self.stack());
        for outcome in self.map(inputs) {
            outputs.push(outcome?);
        }
        Ok(outputs.into_inner())
    }

    /// Executes all inputs, and returns a result for each in order. It is as cheap as [`Function::run`]. If
    /// the run as a whole ends early, because the function gave up or is shut down, the accepted inputs have
    /// their outcomes, and one failure without an index comes last.
    pub fn run_all(&self, inputs: Vec<I>) -> Vec<Result<O, Failure<I, E>>> {
        if !self.would_deadlock() && bulk::suits(&self.running, &inputs) {
            return outcomes(Bulk::begin(&self.running, inputs, Failures::Yield).wait());
        }
        self.map(inputs).return_exceptions().into_iter().collect()
    }

    /// [`Function::run`] for async code.
    ///
    /// # Errors
    ///
    /// The failure of the first input that fails for good, as soon as it fails; the other inputs are
    /// cancelled. A failure without an index if the function gave up or is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the inputs that have no outcome yet, and loses the outputs.
    pub async fn run_async(&self, inputs: Vec<I>) -> Result<Vec<O>, Failure<I, E>> {
        if bulk::suits(&self.running, &inputs) {
            let all = Bulk::begin(&self.running, inputs, Failures::EndMap).outcome().await;
            return outputs(all, self.stack());
        }
        let mut outputs = Gathered::new(Vec::with_capacity(inputs.len()), self.stack());
        let mut map = self.map(inputs);
        while let Some(outcome) = next(&mut map).await {
            outputs.push(outcome?);
        }
        Ok(outputs.into_inner())
    }

    /// [`Function::run_all`] for async code.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the inputs that have no outcome yet, and loses the outcomes.
    pub async fn run_all_async(&self, inputs: Vec<I>) -> Vec<Result<O, Failure<I, E>>> {
        if bulk::suits(&self.running, &inputs) {
            return outcomes(Bulk::begin(&self.running, inputs, Failures::Yield).outcome().await);
        }
        let mut outcomes = Gathered::new(Vec::with_capacity(inputs.len()), self.stack());
        let mut map = self.map(inputs).return_exceptions();
        while let Some(outcome) = next(&mut map).await {
            outcomes.push(outcome);
        }
        outcomes.into_inner()
    }

    /// Executes every input, drops the outputs and errors, and counts how the inputs ended.
    ///
    /// # Errors
    ///
    /// A failure without an index if the map as a whole ended early: the function gave up or was shut down,
    /// the source panicked, or the caller would wait for itself.
    pub fn for_each<S>(&self, inputs: S) -> Result<Progress, Failure<I, E>>
    where
        S: IntoIterator<Item = I>,
        S::IntoIter: Send + 'static,
    {
        let mut outcomes = self.map(inputs).return_exceptions().unordered().into_iter();
        for outcome in outcomes.by_ref() {
            match outcome {
                Err(failure) if failure.index().is_none() => return Err(failure),
                outcome => drop_in_turn(self.stack(), outcome),
            }
        }
        Ok(outcomes.progress())
    }

    /// [`Function::for_each`] for async code, over a stream.
    ///
    /// # Errors
    ///
    /// A failure without an index if the map as a whole ended early: the function gave up or was shut down,
    /// or the source panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the inputs that have no outcome yet.
    pub async fn for_each_async<S>(&self, inputs: S) -> Result<Progress, Failure<I, E>>
    where
        S: Stream<Item = I> + Send + 'static,
    {
        let mut map = self.map_stream(inputs).return_exceptions().unordered();
        while let Some(outcome) = next(&mut map).await {
            match outcome {
                Err(failure) if failure.index().is_none() => return Err(failure),
                outcome => drop_in_turn(self.stack(), outcome),
            }
        }
        Ok(map.progress())
    }
}

/// The next item of a stream.
///
/// It is a type and no `async fn`, because the compiler cannot prove that a future is `Send` if it holds
/// another future whose locals are named by `S::Item`, for items with a lifetime.
pub(crate) fn next<S: Stream + Unpin>(stream: &mut S) -> NextItem<'_, S> {
    NextItem(stream)
}

/// See [`next`].
pub(crate) struct NextItem<'a, S>(&'a mut S);

impl<S: Stream + Unpin> Future for NextItem<'_, S> {
    type Output = Option<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

//! The user's code behind one face: what a container enters, works with and exits from.
//!
//! The closure is erased once per run of inputs, not per input: [`Task::drive`] is compiled into
//! each kind of body.

use std::sync::Arc;

use tracing::Level;

use crate::context::Context;
use crate::crash::BoxError;
use crate::decide::ids::{Attempt, ContainerId};
use crate::decide::ledger::{Lease, Worth};
use crate::engine::dispatch::{Dispatch, RunOf};
use crate::engine::run::Step;
use crate::engine::unwind::{contain, drop_contained, tell};
use crate::worker::Worker;

/// The user's code, shared by all containers of a function.
pub(crate) trait Body<I, O, E>: Send + Sync {
    fn enter(&self, context: &Context) -> Result<Box<dyn Instance<I, O, E> + '_>, BoxError>;
}

/// The user's code in one generation of a container. It lives on the container's thread.
pub(crate) trait Instance<I, O, E> {
    fn work(&mut self, task: &Task<'_, I, O, E>);
    fn exit(self: Box<Self>, context: &Context);
}

/// A run of inputs, about to be executed.
pub(crate) struct Task<'a, I, O, E> {
    pub(crate) dispatch: &'a Dispatch<I, O, E>,
    pub(crate) run: Arc<RunOf<I, O, E>>,
    pub(crate) lease: Lease,
    pub(crate) container: ContainerId,
    pub(crate) context: &'a Context,
}

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Task<'_, I, O, E> {
    /// Executes the inputs one by one. A panic passes through: the run knows how far it is.
    pub(crate) fn drive(&self, mut call: impl FnMut(&I) -> Result<O, E>) {
        let Some(mut place) = self.run.begin() else { return };
        let _span = self.span();
        loop {
            self.context.begin_input(self.run.chunk.first() + place as u64);
            match call(self.run.chunk.input(place)) {
                Ok(output) => match self.run.step(place) {
                    Step::Next => self.run.chunk.publish(place, Ok(output)),
                    Step::Last => return self.run.chunk.publish(place, Ok(output)),
                    Step::Fenced => {
                        self.dispatch.count_late();
                        return drop_contained(output);
                    }
                },
                Err(error) => {
                    let worth = self.worth(&error);
                    self.speak_of_failure(place, worth);
                    if !self.dispatch.failed(self.container, &self.run, place, error, worth) {
                        return;
                    }
                }
            }
            place += 1;
        }
    }

    /// Whether the error is worth a retry. If the user's predicate panics, it is not.
    fn worth(&self, error: &E) -> Worth {
        let settings = &self.dispatch.settings;
        match settings.retry_if.as_ref().map(|retry_if| contain(|| retry_if.get()(error))) {
            None | Some(Ok(true)) => Worth::Retry,
            Some(Ok(false)) => Worth::Surface,
            Some(Err(panic)) => {
                let (app, function) = (&settings.app, &settings.function);
                tell(|| tracing::warn!(%app, %function, %panic, "retry_if panicked"));
                Worth::Surface
            }
        }
    }

    /// A span around inputs of a second or later attempt, or around all where `TRACE` is on.
    fn span(&self) -> Option<tracing::span::EnteredSpan> {
        // A subscriber that panics here is no crash of the container's.
        contain(|| self.entered_span()).ok().flatten()
    }

    fn entered_span(&self) -> Option<tracing::span::EnteredSpan> {
        let index = self.lease.span.first;
        let attempt = self.lease.attempt.get();
        let settings = &self.dispatch.settings;
        if self.lease.attempt > Attempt::FIRST {
            let span = tracing::info_span!("input", app = %settings.app, function = %settings.function, index, attempt);
            return Some(span.entered());
        }
        if tracing::enabled!(Level::TRACE) {
            let inputs = self.lease.span.len;
            let span = tracing::trace_span!("input", app = %settings.app, function = %settings.function, index, inputs, attempt);
            return Some(span.entered());
        }
        None
    }

    fn speak_of_failure(&self, place: usize, worth: Worth) {
        let settings = &self.dispatch.settings;
        let index = self.run.chunk.first() + place as u64;
        let attempt = self.lease.attempt.get();
        let (app, function) = (&settings.app, &settings.function);
        tell(|| {
            let _span = tracing::info_span!("input", %app, %function, index, attempt).entered();
            let worth_a_retry = worth == Worth::Retry;
            tracing::info!(%app, %function, input = index, attempt, worth_a_retry, "input failed");
        });
    }
}

/// A plain function.
pub(crate) struct Plain<F>(pub(crate) F);

impl<I, O, E, F> Body<I, O, E> for Plain<F>
where
    F: Fn(&I) -> Result<O, E> + Send + Sync,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn enter(&self, _context: &Context) -> Result<Box<dyn Instance<I, O, E> + '_>, BoxError> {
        Ok(Box::new(PlainInstance(&self.0)))
    }
}

struct PlainInstance<'a, F>(&'a F);

impl<I, O, E, F> Instance<I, O, E> for PlainInstance<'_, F>
where
    F: Fn(&I) -> Result<O, E>,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn work(&mut self, task: &Task<'_, I, O, E>) {
        task.drive(self.0);
    }

    fn exit(self: Box<Self>, _context: &Context) {}
}

/// A worker, made anew by its `enter` for each generation.
pub(crate) struct Entered<N>(pub(crate) N);

impl<W, N> Body<W::Input, W::Output, W::Error> for Entered<N>
where
    W: Worker,
    N: Fn(&Context) -> Result<W, BoxError> + Send + Sync,
{
    fn enter(
        &self,
        context: &Context,
    ) -> Result<Box<dyn Instance<W::Input, W::Output, W::Error> + '_>, BoxError> {
        Ok(Box::new(WorkerInstance((self.0)(context)?)))
    }
}

struct WorkerInstance<W>(W);

impl<W: Worker> Instance<W::Input, W::Output, W::Error> for WorkerInstance<W> {
    fn work(&mut self, task: &Task<'_, W::Input, W::Output, W::Error>) {
        task.drive(|input| self.0.call(input, task.context));
    }

    fn exit(self: Box<Self>, context: &Context) {
        self.0.exit(context);
    }
}

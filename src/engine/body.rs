//! The user's code behind one face: what a container enters, serves with and exits from.
//!
//! The closure is erased once per generation, not per input: the loop over inputs is compiled into
//! each kind of body. [`Plain`] and [`Entered`] are the synchronous kinds; the asynchronous ones are
//! in [`async_body`](crate::engine::async_body).

use std::sync::Arc;

use tracing::{Level, Span};

use crate::context::Context;
use crate::crash::BoxError;
use crate::decide::ids::{Attempt, ContainerId, Generation};
use crate::decide::ledger::{Lease, Worth};
use crate::engine::dispatch::{Dispatch, LapOf, Next, RunOf};
use crate::engine::lane::Outcome;
use crate::engine::track::Pace;
use crate::engine::unwind::{contain, drop_contained, tell};
use crate::worker::Worker;

/// The user's code, shared by all containers of a function.
pub(crate) trait Body<I, O, E>: Send + Sync {
    /// What it returns counts only if the generation of the post is not over.
    fn enter(&self, post: &Post<'_, I, O, E>) -> Result<Box<dyn Instance<I, O, E> + '_>, BoxError>;
}

/// The user's code in one generation of a container. It lives on the container's thread.
pub(crate) trait Instance<I, O, E> {
    /// Executes inputs until the generation is over. A panic passes through: the run that executes
    /// knows how far it is.
    fn serve(&mut self, post: &Post<'_, I, O, E>) -> Served;
    fn exit(self: Box<Self>, post: &Post<'_, I, O, E>);
}

/// Why a generation serves no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// Nothing will come any more: it exits gracefully.
    Leaves,
    /// It is over already.
    Stale,
}

/// Where an instance serves: one generation of one container.
pub(crate) struct Post<'a, I, O, E> {
    pub(crate) dispatch: &'a Dispatch<I, O, E>,
    pub(crate) container: ContainerId,
    pub(crate) generation: Generation,
    pub(crate) context: &'a Context,
}

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Post<'_, I, O, E> {
    /// Waits for work and executes it, again and again.
    fn serve(&self, mut call: impl FnMut(&I) -> Result<O, E>) -> Served {
        loop {
            match self.dispatch.next(self.container, self.generation) {
                Next::Work { run, lease, previous, label } => {
                    self.context.begin_run(lease.attempt, previous);
                    Task { post: self, run, lease, label }.drive(&mut call);
                    self.context.end_run();
                }
                Next::Leave => return Served::Leaves,
                Next::Stale => return Served::Stale,
            }
        }
    }
}

/// A run of inputs in the hands of an instance.
pub(crate) struct Task<'a, I, O, E> {
    pub(crate) post: &'a Post<'a, I, O, E>,
    pub(crate) run: Arc<RunOf<I, O, E>>,
    pub(crate) lease: Lease,
    /// What its map is called.
    pub(crate) label: Option<Arc<str>>,
}

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Task<'_, I, O, E> {
    fn drive(&self, call: &mut impl FnMut(&I) -> Result<O, E>) {
        let Some(mut lap) = self.run.begin() else { return };
        let span = self.span();
        let _in_span = span.as_ref().map(Span::enter);
        loop {
            self.post.context.begin_input(lap.index());
            let result = call(lap.input());
            if !self.returned(&mut lap, result) {
                return;
            }
        }
    }

    /// The function has returned for the input that executes. Whether the next one has begun.
    #[inline]
    pub(crate) fn returned(&self, lap: &mut LapOf<'_, I, O, E>, result: Result<O, E>) -> bool {
        match result {
            Ok(output) => match lap.publish(Ok(output)) {
                Ok(pace) => pace == Pace::Next,
                Err(refused) => self.refused(refused),
            },
            Err(error) => self.failed(lap, error),
        }
    }

    #[cold]
    fn refused(&self, outcome: Outcome<I, O, E>) -> bool {
        self.post.dispatch.count_late();
        drop_contained(outcome);
        false
    }

    #[cold]
    fn failed(&self, lap: &mut LapOf<'_, I, O, E>, error: E) -> bool {
        let worth = self.worth(&error);
        self.speak_of_failure(lap.index(), worth);
        self.post.dispatch.failed(self.post.container, &self.run, lap, error, worth)
    }

    /// Whether the error is worth a retry. If the user's predicate panics, it is not.
    fn worth(&self, error: &E) -> Worth {
        let settings = &self.post.dispatch.settings;
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
    pub(crate) fn span(&self) -> Option<Span> {
        let index = self.lease.span.first;
        let attempt = self.lease.attempt.get();
        let map = self.label.as_deref();
        let (app, function) = (&self.post.dispatch.settings.app, &self.post.dispatch.settings.function);
        // A subscriber that panics here is no crash of the container's.
        let span = contain(|| {
            if self.lease.attempt > Attempt::FIRST {
                return Some(tracing::info_span!("input", %app, %function, map, index, attempt));
            }
            let inputs = self.lease.span.len;
            let traced = tracing::enabled!(Level::TRACE);
            traced.then(|| tracing::trace_span!("input", %app, %function, map, index, inputs, attempt))
        });
        span.ok().flatten()
    }

    fn speak_of_failure(&self, index: u64, worth: Worth) {
        let settings = &self.post.dispatch.settings;
        let attempt = self.lease.attempt.get();
        let (app, function, map) = (&settings.app, &settings.function, self.label.as_deref());
        tell(|| {
            let _span = tracing::info_span!("input", %app, %function, map, index, attempt).entered();
            let worth_a_retry = worth == Worth::Retry;
            tracing::info!(%app, %function, map, input = index, attempt, worth_a_retry, "input failed");
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
    fn enter(&self, _: &Post<'_, I, O, E>) -> Result<Box<dyn Instance<I, O, E> + '_>, BoxError> {
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
    fn serve(&mut self, post: &Post<'_, I, O, E>) -> Served {
        post.serve(self.0)
    }

    fn exit(self: Box<Self>, _: &Post<'_, I, O, E>) {}
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
        post: &Post<'_, W::Input, W::Output, W::Error>,
    ) -> Result<Box<dyn Instance<W::Input, W::Output, W::Error> + '_>, BoxError> {
        Ok(Box::new(WorkerInstance((self.0)(post.context)?)))
    }
}

struct WorkerInstance<W>(W);

impl<W: Worker> Instance<W::Input, W::Output, W::Error> for WorkerInstance<W> {
    fn serve(&mut self, post: &Post<'_, W::Input, W::Output, W::Error>) -> Served {
        post.serve(|input| self.0.call(input, post.context))
    }

    fn exit(self: Box<Self>, post: &Post<'_, W::Input, W::Output, W::Error>) {
        self.0.exit(post.context);
    }
}

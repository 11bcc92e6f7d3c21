//! The user's code behind one face: what a container enters, serves with and exits from.
//!
//! The closure is erased once per generation, not per input: the loop over inputs is compiled into
//! each kind of body. [`Plain`] and [`Entered`] are the synchronous kinds; the asynchronous ones are
//! in [`async_body`](crate::engine::async_body).

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::context::Context;
use crate::crash::BoxError;
use crate::decide::ids::{Attempt, ContainerId, Generation};
use crate::decide::ledger::{Lease, Worth};
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, LapOf, Next, RunOf};
use crate::engine::lane::Outcome;
use crate::engine::leash::{Leash, at_no_checkpoint, come_out, outside};
use crate::engine::retained::Retained;
use crate::engine::span::SafeSpan;
use crate::engine::speech::{Speech, TARGET};
use crate::engine::track::Pace;
use crate::engine::unwind::{contain, tell};
use crate::memory::account::Epoch;
use crate::settings::ShowError;
use crate::worker::Worker;

/// The user's code, shared by all containers of a function.
pub(crate) trait Body<I, O, E>: Rehearsable<I, O, E> + Send + Sync {
    /// What it returns counts only if the generation of the post is not over.
    fn enter(&self, post: &Post<'_, I, O, E>) -> Result<Box<dyn Instance<I, O, E> + '_>, BoxError>;

    /// Whether it has a state, which an execution that is left at a checkpoint may leave torn.
    fn has_state(&self) -> bool;
}

#[cfg(feature = "testkit")]
use crate::testkit::code::Rehearsable;

/// Without the test kit nothing is asked of a body for its sake.
#[cfg(not(feature = "testkit"))]
pub(crate) trait Rehearsable<I, O, E> {}

#[cfg(not(feature = "testkit"))]
impl<B, I, O, E> Rehearsable<I, O, E> for B {}

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
    /// It exits gracefully, to begin anew.
    Recycles,
    /// It is over already.
    Stale,
}

/// What attempts of one function leave behind.
type RetainedOf<I, O, E> = Retained<I, Outcome<I, O, E>>;

/// Where an instance serves: one generation of one container.
pub(crate) struct Post<'a, I, O, E> {
    pub(crate) dispatch: &'a Dispatch<I, O, E>,
    pub(crate) container: ContainerId,
    pub(crate) generation: Generation,
    pub(crate) context: &'a Context,
    pub(crate) leash: &'a Leash,
    /// What the attempts of this generation leave behind, if it is to be recycled for it.
    retained: RefCell<Option<RetainedOf<I, O, E>>>,
}

impl<'a, I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Post<'a, I, O, E> {
    pub(crate) fn new(
        dispatch: &'a Dispatch<I, O, E>,
        (container, generation): (ContainerId, Generation),
        context: &'a Context,
        leash: &'a Leash,
    ) -> Self {
        let above = dispatch.settings.memory.recycle_above;
        let account = leash.account().zip(above);
        let retained = account.map(|(account, above)| Retained::new(account.counters(), above));
        Self { dispatch, container, generation, context, leash, retained: RefCell::new(retained) }
    }

    /// Whether the container exits now, to begin anew, after that run.
    pub(crate) fn recycles(&self, run: &RunOf<I, O, E>, left: i64) -> bool {
        let is_too_much = |retained: &mut RetainedOf<I, O, E>| retained.is_too_much_after(run, left);
        self.retained.borrow_mut().as_mut().is_some_and(is_too_much)
            && self.dispatch.recycle(self.container, self.generation)
    }

    /// Waits for work and executes it, again and again.
    fn serve(&self, mut call: impl FnMut(&I) -> Result<O, E>) -> Served {
        loop {
            match self.dispatch.next(self.container, self.generation) {
                Next::Work { run, lease, previous, caller } => {
                    self.context.begin_run(lease.attempt, previous);
                    let task = Task { post: self, run, lease, caller };
                    let left = task.drive(&mut call);
                    self.context.end_run();
                    if self.recycles(&task.run, left) {
                        return Served::Recycles;
                    }
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
    /// Who asked for it.
    pub(crate) caller: Caller,
}

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Task<'_, I, O, E> {
    /// Returns how many bytes the attempts have left.
    fn drive(&self, call: &mut impl FnMut(&I) -> Result<O, E>) -> i64 {
        let Some(mut lap) = self.run.begin() else { return 0 };
        let span = self.span();
        let _in_span = span.as_ref().map(SafeSpan::enter);
        let _inside = self.post.leash.enter();
        self.post.leash.begin_attempt();
        let mut left = 0;
        loop {
            self.post.context.begin_input(lap.index());
            let result = call(lap.input());
            let used = self.post.leash.end_attempt();
            if let Some(used) = used {
                left += used.left;
                if self.post.leash.is_overdrawn() {
                    self.too_late(result);
                    come_out();
                }
            }
            if !self.returned(&mut lap, result, used, span.as_ref()) {
                return left;
            }
        }
    }

    /// The function has returned for the input that executes. Whether the next one has begun.
    #[inline]
    pub(crate) fn returned(
        &self,
        lap: &mut LapOf<'_, I, O, E>,
        result: Result<O, E>,
        used: Option<Epoch>,
        span: Option<&SafeSpan>,
    ) -> bool {
        match result {
            Ok(output) => match lap.publish(Ok(output)) {
                Ok(pace) => {
                    if std::mem::needs_drop::<I>() {
                        at_no_checkpoint(|| outside(|| lap.drop_input()));
                    }
                    pace == Pace::Next
                }
                Err(refused) => self.refused(refused),
            },
            Err(error) => at_no_checkpoint(|| outside(|| self.failed(lap, error, used, span))),
        }
    }

    /// The account was overdrawn before the function returned: if the container was killed for it, the answer is late.
    #[cold]
    pub(crate) fn too_late<T>(&self, answer: T) {
        if self.run.is_fenced() {
            self.post.dispatch.count_late();
        }
        self.post.leash.drop_inside(answer);
    }

    #[cold]
    fn refused(&self, outcome: Outcome<I, O, E>) -> bool {
        self.post.dispatch.count_late();
        self.post.leash.drop_inside(outcome);
        false
    }

    #[cold]
    fn failed(
        &self,
        lap: &mut LapOf<'_, I, O, E>,
        error: E,
        used: Option<Epoch>,
        span: Option<&SafeSpan>,
    ) -> bool {
        let worth = self.worth(&error);
        // Where the attempt has allocated nothing, there is what `enter` has built.
        let peak_bytes = used.map(|used| used.peak).or_else(|| self.post.leash.peak());
        self.speak_of_failure(lap.index(), &error, worth, peak_bytes, span);
        self.post.dispatch.failed(self.post.container, &self.run, lap, error, (worth, peak_bytes))
    }

    /// Whether the error is worth a retry. If the user's predicate panics, it is not.
    fn worth(&self, error: &E) -> Worth {
        let settings = &self.post.dispatch.settings;
        match settings.retry_if.as_ref().map(|retry_if| contain(|| retry_if.get()(error))) {
            None | Some(Ok(true)) => Worth::Retry,
            Some(Ok(false)) => Worth::Surface,
            Some(Err(panic)) => {
                let (app, function) = (&settings.app, &settings.function);
                tell(|| tracing::warn!(target: TARGET, %app, %function, %panic, "retry_if panicked"));
                Worth::Surface
            }
        }
    }

    /// A span around inputs of a second or later attempt, or around all where `TRACE` is on.
    pub(crate) fn span(&self) -> Option<SafeSpan> {
        let index = self.lease.span.first;
        if self.lease.attempt > Attempt::FIRST {
            return self.speech().span(&self.caller, index, self.lease.attempt);
        }
        self.speech().trace_span(&self.caller, index, self.lease.span.len)
    }

    fn speech(&self) -> Speech<'_> {
        let settings = &self.post.dispatch.settings;
        Speech { app: &settings.app, function: &settings.function }
    }

    /// Logs a failure in the span of its input. Makes that span, unless `span` is of this input alone.
    fn speak_of_failure(
        &self,
        index: u64,
        error: &E,
        worth: Worth,
        peak_bytes: Option<u64>,
        span: Option<&SafeSpan>,
    ) {
        let own = span.filter(|_| self.lease.span.len == 1);
        let made =
            if own.is_none() { self.speech().span(&self.caller, index, self.lease.attempt) } else { None };
        let Some(span) = own.or(made.as_ref()) else { return };
        let (show, worth_a_retry) = (self.post.dispatch.settings.show_error, worth == Worth::Retry);
        span.tell_inside(|| {
            let error = Shown(error, show);
            tracing::info!(target: TARGET, %error, worth_a_retry, peak_bytes, "input failed");
        });
    }
}

/// An error, as the log shows it.
struct Shown<'a, E>(&'a E, ShowError<E>);

impl<E> fmt::Display for Shown<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.1)(self.0, f)
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

    fn has_state(&self) -> bool {
        false
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

    fn has_state(&self) -> bool {
        true
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

//! The user's code behind one interface: a container enters it, serves inputs with it, and exits from it.
//!
//! The engine knows the code as [`Code`] and [`Instance`], without types. The loop over the inputs of a
//! run is compiled for each function, because an input costs only nanoseconds if the compiler can
//! inline the call. The [kinds](crate::code::kinds) of code are in
//! [`sync_body`](crate::engine::sync_body), [`async_body`](crate::engine::async_body),
//! [`concurrent_body`](crate::engine::concurrent_body) and [`batch_body`](crate::engine::batch_body).

use std::any::type_name;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, LaneId};
use crate::code::context::Context;
use crate::code::kinds::Rehearsable;
use crate::code::token::{Token, at_no_checkpoint, outside, unwind_to_boundary};
use crate::contain::TARGET;
use crate::contain::drops::{DeferDrop, STACK_BYTES, Stack};
use crate::contain::unwind::{contain, ignore_panic};
use crate::data::chunk::ChunkInputs;
use crate::data::cursor::Advance;
use crate::data::erased::ErasedValue;
use crate::data::failure::Reason;
use crate::data::retained::Retained;
use crate::data::run::{ActiveRun, Run, RunCursor};
use crate::data::shape::Why;
use crate::decide::ledger::{Lease, Retryable};
use crate::decide::life::Served;
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, Work};
use crate::engine::span::SafeSpan;
use crate::engine::telemetry::Telemetry;
use crate::memory::account::Epoch;
use crate::values::crash::{BoxError, Panic};

/// The user's code, shared by all containers of a function.
pub(crate) trait Code: Send + Sync {
    /// Enters the code. The result counts only if the generation of `env` is not over.
    fn enter<'a>(&'a self, env: &GenerationEnv<'_>) -> Result<Box<dyn Instance + 'a>, BoxError>;

    /// Whether the code has a state. An execution that unwinds from a checkpoint may leave the state torn.
    fn has_state(&self) -> bool;

    /// Whether the code can have several inputs in flight at a time.
    fn in_flight(&self) -> InFlight;

    /// Whether the code describes inputs. If it does not, [`Code::describe`] is never called.
    fn describes(&self) -> bool {
        false
    }

    /// The description of an input. It is never called under the function's lock.
    ///
    /// # Safety
    ///
    /// The input is at `place`, and is neither moved out nor dropped during the call.
    #[expect(unsafe_code, reason = "reads an input whose type only the user's code knows")]
    unsafe fn describe(&self, _inputs: &ChunkInputs, _place: usize) -> Option<String> {
        None
    }
}

/// The number of inputs that code can have in flight at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InFlight {
    Many,
    /// Only one. The text says which code can have many.
    One(&'static str),
    /// The inputs of a batch, in one call.
    Batch,
}

/// The user's code in one generation of a container. It lives on the container's thread.
pub(crate) trait Instance {
    /// Executes inputs until the generation is over. A panic passes through, because the run that is
    /// executing knows its own position. Code that executes several inputs at a time returns it.
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic>;
    fn exit(self: Box<Self>, env: &GenerationEnv<'_>);
}

/// The code of a function and its settings for errors, with their types.
pub(crate) struct CodeOf<I, O, E> {
    pub(crate) body: DeferDrop<Box<dyn Body<I, O, E>>>,
    pub(crate) errors: Errors<E>,
    /// Describes an input. The user may leave it out.
    pub(crate) describe: Option<DeferDrop<Describe<I>>>,
}

/// The user's code of one kind.
pub(crate) trait Body<I, O, E>: Rehearsable<I, O, E> + Send + Sync {
    /// The same as [`Code::enter`].
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<E>,
        env: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError>;

    /// The same as [`Code::has_state`].
    fn has_state(&self) -> bool;

    /// The same as [`Code::in_flight`].
    fn in_flight(&self) -> InFlight;
}

impl<I, O, E> Code for CodeOf<I, O, E>
where
    I: 'static,
    O: 'static,
    E: Send + 'static,
{
    fn enter<'a>(&'a self, env: &GenerationEnv<'_>) -> Result<Box<dyn Instance + 'a>, BoxError> {
        self.body.get().enter(&self.errors, env)
    }

    fn has_state(&self) -> bool {
        self.body.get().has_state()
    }

    fn in_flight(&self) -> InFlight {
        self.body.get().in_flight()
    }

    fn describes(&self) -> bool {
        self.describe.is_some()
    }

    #[expect(unsafe_code, reason = "reads an input whose type only the user's code knows")]
    unsafe fn describe(&self, inputs: &ChunkInputs, place: usize) -> Option<String> {
        let describe = self.describe.as_ref()?.get();
        // SAFETY: the caller guarantees that the input is there and stays during the call.
        let input = unsafe { inputs.read::<I>(place) };
        let said = at_no_checkpoint(|| contain(|| describe(input)));
        Some(said.unwrap_or_else(|panic| format!("describe {panic}")))
    }
}

impl<I, O, E> CodeOf<I, O, E> {
    /// `holds_values` says whether the body captures anything that has a drop. `show` shows an error in the
    /// log.
    pub(crate) fn new(body: Box<dyn Body<I, O, E>>, holds_values: bool, show: ShowError<E>) -> Self
    where
        I: 'static,
        O: 'static,
        E: 'static,
    {
        let body = DeferDrop::new(body, Stack::of(STACK_BYTES), holds_values);
        Self { body, errors: Errors { retry_if: None, retry_after: None, show }, describe: None }
    }

    /// Sets the stack that the drops of captured values may need.
    pub(crate) fn set_stack(&mut self, stack: Stack) {
        self.body.set_stack(stack);
        if let Some(retry_if) = &mut self.errors.retry_if {
            retry_if.set_stack(stack);
        }
        if let Some(retry_after) = &mut self.errors.retry_after {
            retry_after.set_stack(stack);
        }
        if let Some(describe) = &mut self.describe {
            describe.set_stack(stack);
        }
    }
}

impl<I, O, E> fmt::Debug for CodeOf<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeOf<{}, {}, {}>", type_name::<I>(), type_name::<O>(), type_name::<E>())
    }
}

/// Decides whether an error is worth a retry.
pub(crate) type RetryIf<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// The least delay before the next attempt, which the error asks for.
pub(crate) type RetryAfter<E> = Box<dyn Fn(&E) -> Option<Duration> + Send + Sync>;

/// Describes an input.
pub(crate) type Describe<I> = Box<dyn Fn(&I) -> String + Send + Sync>;

/// Shows an error with its `Debug` implementation.
pub(super) type ShowError<E> = fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result;

/// The settings of a function for its errors.
pub(crate) struct Errors<E> {
    pub(crate) retry_if: Option<DeferDrop<RetryIf<E>>>,
    pub(crate) retry_after: Option<DeferDrop<RetryAfter<E>>>,
    /// Shows an error in the log.
    show: ShowError<E>,
}

impl<E> Errors<E> {
    /// Whether the error is worth a retry, and when. If the user's code for that panics, the error is not
    /// worth one.
    fn retryable(&self, error: &E, task: &LeasedRun<'_>) -> Retryable {
        let panicked = |what: &str, panic: Panic| {
            let telemetry = task.telemetry();
            let (app, function) = (telemetry.app, telemetry.function);
            ignore_panic(|| tracing::warn!(target: TARGET, %app, %function, %panic, "{what} panicked"));
            Retryable::No
        };
        match self.retry_if.as_ref().map(|retry_if| contain(|| retry_if.get()(error))) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return Retryable::No,
            Some(Err(panic)) => return panicked("retry_if", panic),
        }
        match self.retry_after.as_ref().map(|retry_after| contain(|| retry_after.get()(error))) {
            None | Some(Ok(None)) => Retryable::Yes,
            Some(Ok(Some(least))) => Retryable::After(least),
            Some(Err(panic)) => panicked("retry_after", panic),
        }
    }
}

/// Displays an error in the log.
struct Shown<'a, E>(&'a E, ShowError<E>);

impl<E> fmt::Display for Shown<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.1)(self.0, f)
    }
}

/// The environment of an instance: one generation of one container.
pub(crate) struct GenerationEnv<'a> {
    pub(crate) dispatch: &'a Dispatch,
    pub(crate) container: ContainerId,
    pub(crate) generation: Generation,
    pub(crate) context: &'a Context,
    pub(crate) token: Arc<Token>,
    /// The bytes that the attempts of this generation have retained, if the generation is recycled for too
    /// many.
    retained: RefCell<Option<Retained>>,
}

impl<'a> GenerationEnv<'a> {
    pub(crate) fn new(
        dispatch: &'a Dispatch,
        (container, generation): (ContainerId, Generation),
        context: &'a Context,
        token: &Arc<Token>,
    ) -> Self {
        let above = dispatch.settings.memory.recycle_above;
        let account = token.account().zip(above);
        let retained = account.map(|(account, above)| Retained::new(account.counters(), above));
        let token = Arc::clone(token);
        Self { dispatch, container, generation, context, token, retained: RefCell::new(retained) }
    }

    /// Whether the container has several inputs in flight at a time.
    pub(crate) fn executes_many(&self) -> bool {
        self.dispatch.settings.rules.lanes > 1
    }

    /// Whether the container exits after `run` to begin a new generation, because too many bytes are
    /// retained. `left` is the number of bytes that the attempts of the run have left.
    pub(crate) fn recycles(&self, run: &Run, left: i64) -> bool {
        self.retains_too_much(run, left) && self.dispatch.recycle(self.container, self.generation)
    }

    /// Whether the attempts have left more bytes than the container may retain.
    pub(super) fn retains_too_much(&self, run: &Run, left: i64) -> bool {
        let is_too_much = |retained: &mut Retained| retained.is_too_much_after(run, left);
        self.retained.borrow_mut().as_mut().is_some_and(is_too_much)
    }

    /// Begins to execute the work on this container, which executes one input at a time.
    pub(crate) fn begin(&self, work: Work) -> LeasedRun<'_> {
        self.begin_in(self.context, &self.token, work)
    }

    /// Begins to execute the work in a lane, which has a context and a token of its own.
    pub(super) fn begin_in<'b>(&'b self, context: &Context, token: &Arc<Token>, work: Work) -> LeasedRun<'b> {
        let Work { lane, run, lease, previous, caller } = work;
        context.begin_run(lease.attempt, previous);
        let (context, token) = (context.clone(), Arc::clone(token));
        LeasedRun { env: self, context, token, lane, run, lease, caller }
    }

    /// Repeatedly waits for work and has `drive` execute it. `drive` returns the number of bytes that the
    /// attempts have left.
    pub(super) fn serve(&self, drive: &mut dyn FnMut(&LeasedRun<'_>) -> i64) -> Served {
        loop {
            let task = match self.dispatch.next(self.container, self.generation) {
                Ok(work) => self.begin(work),
                Err(served) => return served,
            };
            let left = drive(&task);
            self.context.end_run();
            if self.recycles(&task.run, left) {
                return Served::Recycles;
            }
        }
    }
}

/// A run of inputs that an instance executes.
pub(crate) struct LeasedRun<'a> {
    pub(crate) env: &'a GenerationEnv<'a>,
    /// The context of the lane's code.
    pub(crate) context: Context,
    /// The token of the lane's code.
    pub(super) token: Arc<Token>,
    pub(crate) lane: LaneId,
    pub(crate) run: Arc<Run>,
    pub(crate) lease: Lease,
    /// The caller that asked for the execution.
    pub(crate) caller: Caller,
}

impl LeasedRun<'_> {
    /// Executes the inputs of the run. Returns the number of bytes that the attempts have left.
    pub(super) fn drive<I, O, E>(&self, errors: &Errors<E>, call: &mut impl FnMut(&I) -> Result<O, E>) -> i64
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let Some(mut active) = self.run.begin::<I, O, E>() else { return 0 };
        let span = self.span();
        let _in_span = span.as_ref().map(SafeSpan::enter);
        let _inside = self.env.token.enter();
        self.env.token.begin_attempt();
        let mut left = 0;
        loop {
            self.env.context.begin_input(active.index());
            let result = call(active.input());
            let used = self.env.token.end_attempt();
            if let Some(used) = used {
                left += used.left;
                if self.env.token.is_over_limit() {
                    self.too_late(result);
                    unwind_to_boundary();
                }
            }
            if !self.returned(&mut active, result, used, span.as_ref(), errors) {
                return left;
            }
        }
    }

    /// The function has returned for the input that is executing. Returns whether the next input has begun.
    #[inline]
    pub(crate) fn returned<I, O, E>(
        &self,
        active: &mut ActiveRun<'_, I, O, E>,
        result: Result<O, E>,
        used: Option<Epoch>,
        span: Option<&SafeSpan>,
        errors: &Errors<E>,
    ) -> bool
    where
        E: Send + 'static,
    {
        match result {
            Ok(output) => match active.publish(output) {
                Ok(advance) => {
                    if std::mem::needs_drop::<I>() {
                        at_no_checkpoint(|| outside(|| active.drop_input()));
                    }
                    advance == Advance::Next
                }
                Err(refused) => {
                    self.env.dispatch.count_late();
                    self.env.token.drop_inside(refused);
                    false
                }
            },
            Err(error) => {
                at_no_checkpoint(|| outside(|| self.failed(&mut active.at, error, used, span, errors)))
            }
        }
    }

    /// The account was over its limit before the function returned. The answer is late if the container was
    /// killed for that.
    #[cold]
    pub(super) fn too_late<T>(&self, answer: T) {
        if self.run.is_fenced() {
            self.env.dispatch.count_late();
        }
        self.env.token.drop_inside(answer);
    }

    /// The batch of the executing input has returned a vector of the wrong length. Returns whether the run
    /// goes on with the next input.
    pub(super) fn fails_by_length(&self, at: &mut RunCursor<'_>, inputs: usize, outcomes: usize) -> bool {
        let why = Why::Reason(Reason::BatchLength { inputs, outcomes });
        self.env.dispatch.failed(self.lane, &self.run, at, why, (Retryable::No, None))
    }

    #[cold]
    fn failed<E: Send + 'static>(
        &self,
        at: &mut RunCursor<'_>,
        error: E,
        used: Option<Epoch>,
        span: Option<&SafeSpan>,
        errors: &Errors<E>,
    ) -> bool {
        let retryable = errors.retryable(&error, self);
        // If the attempt has allocated nothing, the peak is the memory that `enter` has allocated.
        let peak_bytes = used.map(|used| used.peak).or_else(|| self.env.token.peak());
        self.log_failure(at.index(), &Shown(&error, errors.show), retryable, peak_bytes, span);
        let error: ErasedValue = Box::new(error);
        self.env.dispatch.failed(self.lane, &self.run, at, Why::Error(error), (retryable, peak_bytes))
    }

    /// A span around the inputs of a second or later attempt, or around all inputs if `TRACE` is on.
    pub(crate) fn span(&self) -> Option<SafeSpan> {
        let index = self.lease.span.first;
        if self.lease.attempt > Attempt::FIRST {
            return self.telemetry().span(&self.caller, index, self.lease.attempt);
        }
        self.telemetry().trace_span(&self.caller, index, self.lease.span.len)
    }

    fn telemetry(&self) -> Telemetry<'_> {
        let settings = &self.env.dispatch.settings;
        Telemetry { app: &settings.app, function: &settings.function }
    }

    /// Logs a failure in the span of its input. Makes that span, unless `span` belongs to this input alone.
    fn log_failure(
        &self,
        index: u64,
        error: &dyn fmt::Display,
        retryable: Retryable,
        peak_bytes: Option<u64>,
        span: Option<&SafeSpan>,
    ) {
        let own = span.filter(|_| self.lease.span.len == 1);
        let made =
            if own.is_none() { self.telemetry().span(&self.caller, index, self.lease.attempt) } else { None };
        let Some(span) = own.or(made.as_ref()) else { return };
        let worth_a_retry = retryable != Retryable::No;
        span.emit_inside(|| {
            tracing::info!(target: TARGET, %error, worth_a_retry, peak_bytes, "input failed");
        });
    }
}

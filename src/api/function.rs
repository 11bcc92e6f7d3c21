//! [`Function`]: the handle to a running function, which the application holds and calls.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::Addr;
use futures_core::Stream;

use crate::api::any_function::AnyFunction;
use crate::api::app::SHUTDOWN_LIMIT;
use crate::api::bulk::{self, Bulk, outcomes, outputs};
use crate::api::call::Call;
use crate::api::map::Map;
use crate::api::permit::Permit;
#[cfg(feature = "tower")]
use crate::api::service::FunctionService;
use crate::base::ids::ContainerId;
use crate::contain::drops::{Gathered, Stack, drop_in_turn};
use crate::contain::outlined::Outlined;
use crate::data::failure::Failure;
use crate::data::shape::Types;
use crate::data::source::Source;
use crate::decide::limits::Limits;
use crate::engine::actor::{Ending, Supervisor};
use crate::engine::consumer::Failures;
use crate::engine::dispatch::{Readiness, Reserving, Wanted};
use crate::engine::events::Events;
use crate::engine::planned::Planned;
use crate::engine::registry::Ends;
use crate::engine::running::Running;
use crate::engine::wait::wait;
use crate::values::error::{NotReady, ReserveError};
use crate::values::progress::Progress;
use crate::values::snapshot::FunctionSnapshot;
use crate::values::status::Status;

/// A handle to a running function. It is cheap to clone. When the app and the last handle are dropped, the
/// function is aborted.
pub struct Function<I, O, E> {
    pub(crate) running: Outlined<Arc<Running>>,
    types: Types<I, O, E>,
}

impl<I, O, E> Clone for Function<I, O, E> {
    fn clone(&self) -> Self {
        Self { running: self.running.clone(), types: Types::default() }
    }
}

impl<I, O, E> Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// A handle with these types, or `None` if the function has others.
    pub(crate) fn of(running: Arc<Running>) -> Option<Self> {
        let its_own = running.dispatch.settings.shape.is::<I, O, E>();
        its_own.then(|| Self { running: Outlined::new(running), types: Types::default() })
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.running.dispatch.settings.function
    }

    /// A handle without the function's types. It does not keep the function alive.
    #[must_use]
    pub fn untyped(&self) -> AnyFunction {
        AnyFunction::of(&self.running)
    }

    /// Waits until a container is live, and the function is not [paused](Function::pause).
    ///
    /// # Errors
    ///
    /// A [`NotReady`] if the function has given up, is shut down, or its engine is broken. It is also
    /// returned if the caller is a container of the function or the engine's thread, and so would wait for
    /// itself.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.wait_until(Wanted::One)
    }

    /// Waits until all containers are live at once, so that the whole capacity is there. If the `enter` of a
    /// container fails, this goes on waiting as long as the engine tries it again.
    ///
    /// # Errors
    ///
    /// The same as for [`Function::ready`].
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.infallible("f", |n: &u64| n + 1).containers(4).start()?;
    /// f.ready_all().unwrap();
    /// assert_eq!(f.status().containers.live, 4);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn ready_all(&self) -> Result<(), NotReady> {
        self.wait_until(Wanted::All)
    }

    /// [`Function::ready`] for async code.
    ///
    /// # Errors
    ///
    /// A [`NotReady`] if the function has given up or is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and has no other effect.
    pub async fn ready_async(&self) -> Result<(), NotReady> {
        Readiness::new(&self.running.dispatch, Wanted::One).await
    }

    /// [`Function::ready_all`] for async code.
    ///
    /// # Errors
    ///
    /// A [`NotReady`] if the function has given up or is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and has no other effect.
    pub async fn ready_all_async(&self) -> Result<(), NotReady> {
        Readiness::new(&self.running.dispatch, Wanted::All).await
    }

    /// Waits until every accepted input has its outcome, whether or not the caller has taken that outcome. A
    /// map whose outcomes are not taken delays this until its window is full at most.
    ///
    /// # Errors
    ///
    /// [`NotReady::WouldDeadlock`] if the caller is a container of the function or the engine's thread, and
    /// [`NotReady::Engine`] if the engine is broken. A function that gives up or ends becomes idle, and this
    /// returns `Ok`.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.infallible("f", |n: &u64| n + 1).start()?;
    /// let calls: Vec<_> = (0..100).map(|n| f.call(n)).collect();
    /// f.idle().unwrap();
    /// assert_eq!(f.status().inputs_waiting + f.status().executing, 0);
    /// # drop(calls);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn idle(&self) -> Result<(), NotReady> {
        self.wait_until(Wanted::Idle)
    }

    /// [`Function::idle`] for async code. Inside a container of the function it waits for itself for ever.
    ///
    /// # Errors
    ///
    /// [`NotReady::Engine`] if the engine is broken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and has no other effect.
    pub async fn idle_async(&self) -> Result<(), NotReady> {
        Readiness::new(&self.running.dispatch, Wanted::Idle).await
    }

    fn wait_until(&self, wanted: Wanted) -> Result<(), NotReady> {
        if self.would_deadlock() {
            return Err(NotReady::WouldDeadlock);
        }
        self.running.dispatch.await_ready(wanted)
    }

    /// Fans the items of any iterator out to the containers, lazily: nothing is pulled before the first
    /// outcome is asked for.
    ///
    /// The items are owned, so pass `vec`, or `slice.iter().copied()` of a `'static` slice, but no borrow of
    /// a local. Containers pull directly from a vector or a range of integers. Any other source may block, so
    /// a thread of the map pulls from it.
    pub fn map<S>(&self, inputs: S) -> Map<I, O, E>
    where
        S: IntoIterator<Item = I>,
        S::IntoIter: Send + 'static,
    {
        Map::new(self.running.clone(), Planned::over(Source::of(inputs.into_iter()), self.stack()))
    }

    /// Fans the items of a stream out to the containers, lazily. A thread of the map polls the stream. If
    /// this method is called inside a tokio runtime, the stream is polled inside that runtime.
    pub fn map_stream<S>(&self, inputs: S) -> Map<I, O, E>
    where
        S: Stream<Item = I> + Send + 'static,
    {
        Map::new(self.running.clone(), Planned::over(Source::of_stream(inputs), self.stack()))
    }

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

    /// Begins one execution, which goes ahead of all maps. [`Call::wait`] gives its outcome. Dropping the
    /// call cancels it.
    ///
    /// If as many calls are without an outcome as [`Builder::calls_max`](crate::Builder::calls_max)
    /// allows, the call fails at once with [`Cause::Overloaded`](crate::Cause::Overloaded), and gives its
    /// input back.
    pub fn call(&self, input: I) -> Call<I, O, E> {
        self.call_within(input, Limits::new())
    }

    /// The same as [`Function::call`], with limits of time of its own in place of the function's.
    ///
    /// ```
    /// use longshore::{App, Limits};
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let sleep = app
    ///     .function_async("sleep", async |ms: &u64| {
    ///         tokio::time::sleep(Duration::from_millis(*ms)).await;
    ///         Ok::<_, std::convert::Infallible>(())
    ///     })
    ///     .start()?;
    /// let limits = Limits::new().timeout(Duration::from_millis(20));
    /// assert!(sleep.call_within(1, limits).wait().is_ok());
    /// assert!(sleep.call_within(60_000, limits).wait().unwrap_err().is_timed_out());
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn call_within(&self, input: I, limits: Limits) -> Call<I, O, E> {
        Call::new(self.running.clone(), input, None, limits)
    }

    /// Waits for room among the calls of the function, and reserves a place for one. Those who wait are
    /// served in the order in which they began to.
    ///
    /// A server that reserves before it reads a request accepts no more than it can work on.
    ///
    /// # Errors
    ///
    /// A [`ReserveError`] if the function has given up, is shut down, or its engine is broken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the turn. A place that it was granted goes to the next one.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let app = App::ephemeral("docs");
    /// let double = app.infallible("double", |n: &u64| 2 * n).calls_max(8).start()?;
    /// for n in 0..100 {
    ///     let permit = double.reserve().await.unwrap();
    ///     permit.call(n).detach().unwrap();
    /// }
    /// double.idle_async().await.unwrap();
    /// assert_eq!(double.snapshot().totals.ok, 100);
    /// # Ok::<(), longshore::StartError>(())
    /// # }).unwrap();
    /// ```
    pub async fn reserve(&self) -> Result<Permit<I, O, E>, ReserveError> {
        let place = Reserving::new(&self.running.dispatch).await?;
        Ok(Permit::of(place, self.running.clone()))
    }

    /// [`Function::reserve`] for a thread, which blocks.
    ///
    /// # Errors
    ///
    /// The same as for [`Function::reserve`], and [`ReserveError::WouldDeadlock`] if the caller is a
    /// container of the function or the engine's thread.
    pub fn reserve_blocking(&self) -> Result<Permit<I, O, E>, ReserveError> {
        if self.would_deadlock() {
            return Err(ReserveError::WouldDeadlock);
        }
        wait(self.reserve())
    }

    /// Reserves a place for a call if there is room now. Those who wait for room go first.
    ///
    /// # Errors
    ///
    /// [`ReserveError::Overloaded`] if there is no room, and otherwise the same as for
    /// [`Function::reserve`].
    pub fn try_reserve(&self) -> Result<Permit<I, O, E>, ReserveError> {
        let place = self.running.dispatch.try_reserve()?;
        Ok(Permit::of(place, self.running.clone()))
    }

    /// The function as a tower service, which is ready while there is room for one more call. It needs
    /// the feature `tower`.
    #[cfg(feature = "tower")]
    #[must_use]
    pub fn service(&self) -> FunctionService<I, O, E> {
        FunctionService::of(self.clone())
    }

    /// A snapshot of the function as text and numbers, for a page, an exporter or a post-mortem.
    ///
    /// It contains more than the [`Function::status`]. It holds no value of the user's, and keeps nothing
    /// alive. Taking it waits only for the function's lock. See [`snapshot`](crate::snapshot).
    ///
    /// ```
    /// use longshore::{App, Health};
    ///
    /// let app = App::ephemeral("docs");
    /// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
    /// assert_eq!(double.run((0..100).collect()).unwrap().len(), 100);
    /// let snapshot = double.snapshot();
    /// assert_eq!((snapshot.health, snapshot.totals.ok), (Health::Serving, 100));
    /// assert_eq!(snapshot.inputs.pending(), 0);
    /// assert!(snapshot.crashes.is_empty() && snapshot.log.is_empty());
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> FunctionSnapshot {
        self.running.dispatch.snapshot()
    }

    /// A stream of the function's events from now on, for code without an actor that
    /// [subscribes](crate::actor::Subscribe).
    pub fn events(&self) -> Events {
        self.running.dispatch.outbox.subscribers.stream()
    }

    /// A snapshot of the function's containers, inputs and crashes.
    #[must_use]
    pub fn status(&self) -> Status {
        self.running.status()
    }

    /// Clears the crash history, revives the function if it had given up, and resumes it if it was
    /// paused. Returns whether it had given up and takes work again now. If no container is left because
    /// [too many threads are abandoned](crate::Builder::abandoned_max), it takes work only once one of
    /// these threads has returned. An aborted function never does.
    pub fn reset(&self) -> bool {
        self.running.reset()
    }

    /// Pauses the function. From the moment this returns no container moves on to another input, until
    /// [`Function::resume`]. Executing inputs go on, and inputs that were leased and not begun wait
    /// again. Returns whether the function is paused now: a function that ends is not.
    ///
    /// | during a pause | |
    /// |---|---|
    /// | calls and maps | are accepted and wait, up to [`Builder::calls_max`](crate::Builder::calls_max) and the window |
    /// | sources | are pulled until the window is full |
    /// | retries, replays | wait |
    /// | containers | enter, crash and restart as ever |
    /// | [`Function::ready`] | waits |
    /// | [`Function::reset`] | resumes |
    /// | drain | ends the pause, and finishes what was accepted |
    /// | stop, abort, giving up | work as ever |
    ///
    /// ```
    /// use longshore::App;
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.infallible("f", |n: &u64| n + 1).start()?;
    /// assert!(f.pause());
    /// let waits = f.call(1).wait_timeout(Duration::from_millis(5)).unwrap_err();
    /// assert!(f.status().paused && f.status().executing == 0);
    /// assert!(f.resume());
    /// assert_eq!(waits.wait().unwrap(), 2);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn pause(&self) -> bool {
        self.running.dispatch.pause()
    }

    /// Ends a [pause](Function::pause). Returns whether the function was paused.
    pub fn resume(&self) -> bool {
        self.running.dispatch.unpause()
    }

    /// Kills a container by hand, and returns whether the container lived. No input is blamed, no budget is
    /// charged, and a fresh generation is entered.
    ///
    /// An input that was executing is replayed beside the abandoned attempt, whose answer is refused. The
    /// abandoned thread ends when its code returns or comes to a checkpoint. If too many threads are
    /// [abandoned](crate::Builder::abandoned_max) already, there is neither a fresh generation nor a replay.
    pub fn kill_container(&self, container: ContainerId) -> bool {
        self.running.kill_container(container)
    }

    /// Begins to drain the function, and does not wait for the end. From the moment this returns, new calls
    /// and maps are refused. The accepted inputs of live maps finish, no source is pulled any more, and
    /// workers exit.
    ///
    /// After 30 s executing inputs are cut off, every input without an outcome comes back inside its error,
    /// and idle containers exit. To wait for the end, send a [`Shutdown`](crate::actor::Shutdown) or end the
    /// app.
    pub fn drain(&self) {
        drop(self.running.end(Ending::Drain, SHUTDOWN_LIMIT));
    }

    /// Begins to stop the function, and does not wait for the end. From the moment this returns, new calls
    /// and maps are refused. Executing inputs may finish within 30 s and are cut off then. Every other input
    /// comes back inside its error.
    pub fn stop(&self) {
        drop(self.running.end(Ending::Stop, SHUTDOWN_LIMIT));
    }

    /// Aborts the function, and does not wait. From the moment this returns, new calls and maps are refused,
    /// and every input without an outcome comes back inside its error.
    pub fn abort(&self) {
        drop(self.running.end(Ending::Abort, Duration::ZERO));
    }

    fn would_deadlock(&self) -> bool {
        self.running.would_deadlock()
    }

    fn stack(&self) -> Stack {
        self.running.stack()
    }

    /// The address of the supervisor, which takes the messages of [`actor`](crate::actor). The first call
    /// starts an actor that knows the types of these messages. A request by a method of this handle is
    /// handled after the messages that the same thread has sent before.
    #[must_use]
    pub fn supervisor(&self) -> &Addr<Supervisor<I, O, E>> {
        self.running.supervisor()
    }
}

impl<I, O, E> std::fmt::Debug for Function<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.running.dispatch.settings.function)
            .finish_non_exhaustive()
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

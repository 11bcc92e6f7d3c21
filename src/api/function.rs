//! A running function: what the application holds and calls.

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
use crate::base::ids::ContainerId;
use crate::contain::drops::{Gathered, Stack, drop_in_turn};
use crate::contain::outlined::Outlined;
use crate::data::failure::Failure;
use crate::data::shape::Types;
use crate::data::source::Source;
use crate::engine::actor::{Ending, Supervisor};
use crate::engine::consumer::Failures;
use crate::engine::dispatch::{Readiness, Wanted};
use crate::engine::events::Events;
use crate::engine::planned::Planned;
use crate::engine::registry::Ends;
use crate::engine::running::Running;
use crate::values::error::NotReady;
use crate::values::progress::Progress;
use crate::values::snapshot::FunctionSnapshot;
use crate::values::status::Status;

/// A running function; a cheap clone. When its app and the last handle are dropped, it is aborted.
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
    /// A handle with these types, if they are the function's.
    pub(crate) fn of(running: Arc<Running>) -> Option<Self> {
        let its_own = running.dispatch.settings.shape.is::<I, O, E>();
        its_own.then(|| Self { running: Outlined::new(running), types: Types::default() })
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.running.dispatch.settings.function
    }

    /// The function without its types. It does not keep the function.
    #[must_use]
    pub fn untyped(&self) -> AnyFunction {
        AnyFunction::of(&self.running)
    }

    /// Waits until a container is live.
    ///
    /// # Errors
    ///
    /// The function gave up before, is shut down, or the call would wait for itself.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.wait_until(Wanted::One)
    }

    /// Waits until all containers are live at once, so that what comes next finds the whole capacity. One that
    /// cannot enter is waited for as long as it is tried again.
    ///
    /// # Errors
    ///
    /// The function gave up before, is shut down, or the call would wait for itself.
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
    /// The function gave up before, or is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub async fn ready_async(&self) -> Result<(), NotReady> {
        Readiness::new(&self.running.dispatch, Wanted::One).await
    }

    /// [`Function::ready_all`] for async code.
    ///
    /// # Errors
    ///
    /// The function gave up before, or is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub async fn ready_all_async(&self) -> Result<(), NotReady> {
        Readiness::new(&self.running.dispatch, Wanted::All).await
    }

    /// Waits until every accepted input has its outcome, whether or not that outcome has been taken. A map whose outcomes are
    /// not taken delays this at most until its window is full.
    ///
    /// # Errors
    ///
    /// [`NotReady::WouldDeadlock`] on a container of the function or on the engine, and [`NotReady::Engine`] if the engine
    /// broke. A function that gives up or comes to its end becomes idle by that.
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

    /// [`Function::idle`] for async code.
    ///
    /// # Errors
    ///
    /// [`NotReady::Engine`] if the engine broke. In a container of the function it would wait for itself, and does so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub async fn idle_async(&self) -> Result<(), NotReady> {
        Readiness::new(&self.running.dispatch, Wanted::Idle).await
    }

    fn wait_until(&self, wanted: Wanted) -> Result<(), NotReady> {
        if self.would_deadlock() {
            return Err(NotReady::WouldDeadlock);
        }
        self.running.dispatch.await_ready(wanted)
    }

    /// Fans the items of any iterator out to the containers, lazily. Nothing is pulled before the
    /// first outcome is asked for.
    ///
    /// The items are owned: `map(vec)` or `map(vec.iter().copied())` with a `'static` borrow, not a
    /// borrow of a local. Sources of a known kind (vectors, integer ranges) are pulled by the
    /// containers; any other may block, and is pulled by a thread of the map.
    pub fn map<S>(&self, inputs: S) -> Map<I, O, E>
    where
        S: IntoIterator<Item = I>,
        S::IntoIter: Send + 'static,
    {
        Map::new(self.running.clone(), Planned::over(Source::of(inputs.into_iter()), self.stack()))
    }

    /// Fans the items of a stream out to the containers, lazily. The stream is polled by a thread of the
    /// map, inside the tokio runtime that this is called in, if it is called in one.
    pub fn map_stream<S>(&self, inputs: S) -> Map<I, O, E>
    where
        S: Stream<Item = I> + Send + 'static,
    {
        Map::new(self.running.clone(), Planned::over(Source::of_stream(inputs), self.stack()))
    }

    /// All outputs in order, or the first failure. Without a window of the user's, inputs that need no drop
    /// are all accepted at once, which is cheaper than a map.
    ///
    /// # Errors
    ///
    /// The first input that failed for good, when it failed; the others are cancelled.
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

    /// A result for each input, in order; as cheap as [`Function::run`]. Where the map as a whole ends early (given up, shut
    /// down), the inputs it had accepted have their outcomes, followed by one failure without an index.
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
    /// The first input that failed for good, when it failed; the others are cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the inputs without an outcome, and loses the outputs.
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
    /// Dropping the future cancels the inputs without an outcome, and loses the outcomes.
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
    /// The map as a whole ended early: the function gave up or was shut down, the source panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the inputs without an outcome.
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

    /// Runs every input, drops the outputs, and counts how the inputs ended.
    ///
    /// # Errors
    ///
    /// The map as a whole ended early: the function gave up or was shut down, the source panicked.
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

    /// Begins one execution, ahead of all maps. [`Call::wait`] gives its outcome; dropping the call
    /// cancels it.
    pub fn call(&self, input: I) -> Call<I, O, E> {
        Call::new(self.running.clone(), input)
    }

    /// Everything that is to be seen of the function, as text and numbers: what a page, an exporter and a post-mortem need.
    /// It is more than the [`Function::status`], holds no value of the user's, keeps nothing alive, and waits for nobody but
    /// the function's lock. See [`snapshot`](crate::snapshot).
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

    /// The events of the function from now on, for those who have no actor that [subscribes](crate::actor::Subscribe).
    pub fn events(&self) -> Events {
        self.running.dispatch.outbox.audience.stream()
    }

    /// A snapshot of the function.
    #[must_use]
    pub fn status(&self) -> Status {
        self.running.status()
    }

    /// Forgets the crash history, and takes work again if the function had given up. Returns whether
    /// it had, and takes work now: where nobody is left because [too many threads are
    /// abandoned](crate::Builder::abandoned_max), it does so only once one of them has returned, and after an
    /// abort it never does.
    pub fn reset(&self) -> bool {
        self.running.reset()
    }

    /// Kills a container by hand: nobody is blamed, no budget is charged, and a fresh generation is
    /// entered. An input that was executing is replayed beside the abandoned attempt, whose answer
    /// is refused; synchronous code comes out at its next checkpoint, or when it returns. Where too many threads
    /// are [abandoned](crate::Builder::abandoned_max) already, there is no fresh generation and no replay. Returns whether the container lived.
    pub fn kill_container(&self, container: ContainerId) -> bool {
        self.running.kill_container(container)
    }

    /// Begins to drain: accepted inputs of live maps finish, sources are not pulled, new calls and maps are
    /// refused from the moment this returns, workers exit. Does not wait for that.
    ///
    /// After 30 s what executes is cut off, every input without an outcome comes back inside its error, and containers that have
    /// nothing to do exit. To wait for the end send a [`Shutdown`](crate::actor::Shutdown), or end the app.
    pub fn drain(&self) {
        drop(self.running.end(Ending::Drain, SHUTDOWN_LIMIT));
    }

    /// Begins to stop: only what executes finishes; every other input comes back inside its error, and new calls and
    /// maps are refused, from the moment this returns. After 30 s what executes is cut off. Does not wait.
    pub fn stop(&self) {
        drop(self.running.end(Ending::Stop, SHUTDOWN_LIMIT));
    }

    /// Aborts: every input without an outcome comes back inside its error, and new calls and maps are refused, from the
    /// moment this returns.
    pub fn abort(&self) {
        drop(self.running.end(Ending::Abort, Duration::ZERO));
    }

    fn would_deadlock(&self) -> bool {
        self.running.would_deadlock()
    }

    fn stack(&self) -> Stack {
        self.running.stack()
    }

    /// The address of the supervisor, which takes the messages of [`actor`](crate::actor). The first call starts the actor that
    /// knows the types of these messages. What the methods of this handle ask for comes behind the messages that the same thread
    /// has sent before.
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
/// A type of its own and no `async fn`, because the compiler cannot tell whether a future is `Send` that holds another
/// one whose locals are named by `S::Item`, for items with a lifetime.
pub(crate) fn next<S: Stream + Unpin>(stream: &mut S) -> Next<'_, S> {
    Next(stream)
}

/// See [`next`].
pub(crate) struct Next<'a, S>(&'a mut S);

impl<S: Stream + Unpin> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

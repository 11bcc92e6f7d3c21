//! A running function: what the application holds and calls.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, Addr, Handler, Message};
use futures_core::Stream;
use tokio::sync::oneshot;

use crate::actor::{Ending, GetStatus, KillContainer, Reset, Shutdown};
use crate::app::SHUTDOWN_LIMIT;
use crate::bulk::{Bulk, outcomes, outputs};
use crate::call::Call;
use crate::context::Context;
use crate::decide::ids::ContainerId;
use crate::decide::window::Window;
use crate::engine::clock::Clock;
use crate::engine::consumer::Failures;
use crate::engine::dispatch::{Dispatch, Readiness, Wanted};
use crate::engine::drops::{Gathered, Stack, drop_in_turn, let_go};
use crate::engine::messages::{Attach, End};
use crate::engine::supervisor::Supervisor;
use crate::engine::system::{Engine, on_engine_thread};
use crate::engine::wait::wait;
use crate::error::{NotReady, StartError};
use crate::failure::Failure;
use crate::map::Map;
use crate::progress::Progress;
use crate::registry::{EndingReport, Ends, Latest, Registration};
use crate::report::FunctionReport;
use crate::settings::Settings;
use crate::source::Source;
use crate::status::Status;

/// A running function; a cheap clone. When its app and the last handle are dropped, it is aborted.
pub struct Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) running: Arc<Running<I, O, E>>,
}

/// What handles, maps and calls of one function share. Its end aborts the function.
pub(crate) struct Running<I, O, E>(Option<Parts<I, O, E>>)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static;

/// What it consists of.
pub(crate) struct Parts<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) dispatch: Arc<Dispatch>,
    /// Behind a trait object, because an `Addr` in here would make the compiler ask of every future that holds a
    /// `Function` over an `await` whether `Supervisor<I, O, E>` is an actor, and it cannot tell that inside a future
    /// for types with a lifetime, such as an error of `&'static str`.
    supervisor: Box<dyn Supervised<I, O, E>>,
    pub(crate) default_window: Window,
    /// Its name in its app; given free by the drop. `None` in a rehearsal.
    registration: Option<Registration>,
    /// Keeps the engine's thread.
    _engine: Arc<Engine>,
}

/// Knows the address of a supervisor.
trait Supervised<I, O, E>: Send + Sync
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn address(&self) -> &Addr<Supervisor<I, O, E>>;
}

impl<I, O, E> Supervised<I, O, E> for Addr<Supervisor<I, O, E>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn address(&self) -> &Self {
        self
    }
}

impl<I, O, E> Drop for Running<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        let Some(parts) = self.0.take() else { return };
        // By value and as a whole: what a closure does not use of it would be dropped here.
        let_go(parts.dispatch.settings.stack(), move || parts.end());
    }
}

impl<I, O, E> Parts<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn end(self) {
        // The engine may end with this handle, before it reads its mail: abort here, at once.
        self.dispatch.over();
        self.dispatch.abort();
        self.supervisor.address().do_send(Shutdown { ending: Ending::Abort, limit: Duration::ZERO });
    }
}

impl<I, O, E> Deref for Running<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Target = Parts<I, O, E>;

    fn deref(&self) -> &Parts<I, O, E> {
        self.0.as_ref().expect("taken by drop only")
    }
}

impl<I, O, E> Clone for Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn clone(&self) -> Self {
        Self { running: Arc::clone(&self.running) }
    }
}

impl<I, O, E> Ends for Arc<Running<I, O, E>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn end(&self, ending: Ending, limit: Duration) -> EndingReport {
        self.dispatch.begin_end(ending); // at once: the supervisor may be busy
        let (report, reported) = oneshot::channel();
        self.supervisor().do_send(End { how: Shutdown { ending, limit }, running: Arc::clone(self), report });
        let (name, latest) = (Arc::clone(&self.dispatch.settings.function), self.latest());
        // One that has ended before tells what became of it, and what still runs.
        let before = move || latest().unwrap_or_else(|| FunctionReport::unknown(&name));
        Box::pin(async move { reported.await.unwrap_or_else(|_| before()) })
    }

    fn report(&self) -> FunctionReport {
        self.dispatch.report()
    }

    fn is_in_a_container(&self) -> bool {
        Context::is_container_of(self.dispatch.settings.id)
    }
}

impl<I, O, E> Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn start(
        engine: Arc<Engine>,
        settings: Settings,
        default_window: Window,
        registration: Registration,
    ) -> Result<(Self, Box<dyn Ends>), StartError> {
        let dispatch = Arc::new(Dispatch::new(settings, Clock::start()));
        let supervisor = engine.start(Supervisor::new(Arc::clone(&dispatch), default_window))?;
        let function = Self::of(dispatch, supervisor, default_window, Some(registration), engine);
        let ends = Box::new(Arc::clone(&function.running));
        Ok((function, ends))
    }

    fn of(
        dispatch: Arc<Dispatch>,
        supervisor: Addr<Supervisor<I, O, E>>,
        default_window: Window,
        registration: Option<Registration>,
        engine: Arc<Engine>,
    ) -> Self {
        let supervisor = Box::new(supervisor);
        let parts = Parts { dispatch, supervisor, default_window, registration, _engine: engine };
        let running = Arc::new(Running(Some(parts)));
        running.supervisor().do_send(Attach(Arc::downgrade(&running)));
        Self { running }
    }

    /// One that is only rehearsed, in the actix system and the virtual time of this thread.
    #[cfg(feature = "testkit")]
    pub(crate) fn rehearsed(settings: Settings, default_window: Window) -> Self {
        let rehearsed = settings.rehearsed.clone();
        let dispatch = Arc::new(Dispatch::new(settings, Clock::virtual_from_now()));
        dispatch
            .outbox
            .listen(move |event, at| rehearsed.iter().for_each(|rehearsed| rehearsed.hears(event, at)));
        let supervisor = Supervisor::new(Arc::clone(&dispatch), default_window).start();
        Self::of(dispatch, supervisor, default_window, None, Engine::of_this_thread())
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.running.dispatch.settings.function
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
        Map::new(Arc::clone(&self.running), Source::of(inputs.into_iter(), self.stack()))
    }

    /// Fans the items of a stream out to the containers, lazily. The stream is polled by a thread of the
    /// map, inside the tokio runtime that this is called in, if it is called in one.
    pub fn map_stream<S>(&self, inputs: S) -> Map<I, O, E>
    where
        S: Stream<Item = I> + Send + 'static,
    {
        Map::new(Arc::clone(&self.running), Source::of_stream(inputs, self.stack()))
    }

    /// All outputs in order, or the first failure. Without a window of the user's, inputs that need no drop
    /// are all accepted at once, which is cheaper than a map.
    ///
    /// # Errors
    ///
    /// The first input that failed for good, when it failed; the others are cancelled.
    pub fn run(&self, inputs: Vec<I>) -> Result<Vec<O>, Failure<I, E>> {
        if !self.would_deadlock() && Bulk::suits(&self.running, &inputs) {
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
        if !self.would_deadlock() && Bulk::suits(&self.running, &inputs) {
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
        if Bulk::suits(&self.running, &inputs) {
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
        if Bulk::suits(&self.running, &inputs) {
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
        Call::new(Arc::clone(&self.running), input)
    }

    /// A snapshot of the function.
    #[must_use]
    pub fn status(&self) -> Status {
        if on_engine_thread() {
            return self.running.dispatch.status();
        }
        // A supervisor that has ended does not answer; what it left behind still can be read.
        let status = wait(self.running.supervisor().send(GetStatus));
        status.unwrap_or_else(|_| self.running.dispatch.status())
    }

    /// Forgets the crash history, and takes work again if the function had given up. Returns whether
    /// it had, and takes work now: where nobody is left because [too many threads are
    /// abandoned](crate::Builder::abandoned_max), it does so only once one of them has returned, and after an
    /// abort it never does.
    pub fn reset(&self) -> bool {
        self.ask(Reset)
    }

    /// Kills a container by hand: nobody is blamed, no budget is charged, and a fresh generation is
    /// entered. An input that was executing is replayed beside the abandoned attempt, whose answer
    /// is refused; synchronous code comes out at its next checkpoint, or when it returns. Where too many threads
    /// are [abandoned](crate::Builder::abandoned_max) already, there is no fresh generation and no replay. Returns whether the container lived.
    pub fn kill_container(&self, container: ContainerId) -> bool {
        self.ask(KillContainer { container })
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

    /// The supervisor's answer. The engine's own thread does not wait for it.
    fn ask<M>(&self, message: M) -> bool
    where
        M: Message<Result = bool> + Send + 'static,
        Supervisor<I, O, E>: Actor<Context = actix::Context<Supervisor<I, O, E>>> + Handler<M>,
    {
        if on_engine_thread() {
            self.running.supervisor().do_send(message);
            return false;
        }
        wait(self.running.supervisor().send(message)).unwrap_or(false)
    }

    fn would_deadlock(&self) -> bool {
        self.running.would_deadlock()
    }

    fn stack(&self) -> Stack {
        self.running.dispatch.settings.stack()
    }

    /// The address of the supervisor, which takes the messages of [`actor`](crate::actor).
    #[must_use]
    pub fn supervisor(&self) -> &Addr<Supervisor<I, O, E>> {
        self.running.supervisor()
    }
}

impl<I, O, E> Running<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn supervisor(&self) -> &Addr<Supervisor<I, O, E>> {
        self.supervisor.address()
    }

    /// The function has ended, and that became of it: its app lets go of it.
    pub(crate) fn ended(&self, report: &FunctionReport) {
        if let Some(registration) = &self.registration {
            registration.ended(report, self.latest());
        }
    }

    /// Its report by now, and after its end, as long as a thread of it is left.
    fn latest(&self) -> Latest {
        let dispatch = Arc::downgrade(&self.dispatch);
        Box::new(move || Some(dispatch.upgrade()?.report()))
    }

    /// Whether a blocking call on this thread would wait for itself.
    pub(crate) fn would_deadlock(&self) -> bool {
        on_engine_thread() || Context::is_container_of(self.dispatch.settings.id)
    }
}

impl<I, O, E> std::fmt::Debug for Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name()).finish_non_exhaustive()
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

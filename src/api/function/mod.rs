//! [`Function`]: the handle to a running function, which the application holds and calls. Its [`calls`]
//! and its [`runs`] are beside it.

mod calls;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures_core::Stream;

use crate::api::any_function::AnyFunction;
use crate::api::app::SHUTDOWN_LIMIT;
use crate::api::map::Map;
use crate::base::ids::ContainerId;
use crate::contain::drops::Stack;
use crate::contain::outlined::Outlined;
use crate::data::shape::Types;
use crate::data::source::Source;
use crate::engine::actor::{Ending, Supervisor};
use crate::engine::dispatch::{Readiness, Wanted};
use crate::engine::events::Events;
use crate::engine::planned::Planned;
use crate::engine::registry::Ends;
use crate::engine::running::Running;
use crate::values::error::NotReady;
use crate::values::snapshot::FunctionSnapshot;
use crate::values::status::Status;

#[cfg(feature = "testkit")]
pub(crate) use runs::next;

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

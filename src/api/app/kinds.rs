//! The kinds of code that an app describes functions of: plain, with state, async, concurrent and in
//! batches.

use std::fmt;
use std::sync::Arc;

use crate::api::app::App;
use crate::api::builder::Builder;
use crate::code::async_worker::AsyncWorker;
use crate::code::batch_worker::BatchWorker;
use crate::code::concurrent_worker::ConcurrentWorker;
use crate::code::context::Context;
use crate::code::kinds::{
    AsyncBatch, AsyncPlain, AsyncWorkerCode, BatchWorkerCode, ConcurrentCode, Plain, PlainBatch, WorkerCode,
};
use crate::code::worker::Worker;
use crate::values::crash::BoxError;

impl App {
    /// Describes a function that may fail. All containers share its closure.
    ///
    /// A closure that never names its error type must spell it: `Ok::<_, MyError>(…)`. For a closure that
    /// cannot fail there is [`App::infallible`].
    pub fn function<I, O, E, F>(&self, name: &str, function: F) -> Builder<I, O, E>
    where
        F: Fn(&I) -> Result<O, E> + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        let holds_values = std::mem::needs_drop::<F>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(Plain(function)), holds_values)
    }

    /// Describes a function that cannot fail and can only crash. All containers share its closure.
    pub fn infallible<I, O, F>(&self, name: &str, function: F) -> Builder<I, O, std::convert::Infallible>
    where
        F: Fn(&I) -> O + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
    {
        self.function(name, move |input| Ok(function(input)))
    }

    /// Describes a function with state. `enter` builds the [`Worker`] of each generation of each container.
    pub fn worker<W, N>(&self, name: &str, enter: N) -> Builder<W::Input, W::Output, W::Error>
    where
        W: Worker,
        N: Fn(&Context) -> Result<W, BoxError> + Send + Sync + 'static,
    {
        let holds_values = std::mem::needs_drop::<N>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(WorkerCode(enter)), holds_values)
    }

    /// Describes an async function that may fail. All containers share its closure.
    ///
    /// Each container is a thread with a tokio runtime of its own. The timers, sockets and `spawn_local` of
    /// tokio work inside it, and futures need not be `Send`. A task that is spawned there shares the thread
    /// with the inputs, and goes on while the container is idle. So it must not block.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let app = longshore::App::ephemeral("docs");
    /// let echo = app
    ///     .function_async("echo", async |text: &String| {
    ///         tokio::time::sleep(Duration::from_millis(1)).await;
    ///         if text.is_empty() { Err("nothing to say") } else { Ok(text.clone()) }
    ///     })
    ///     .start()?;
    /// assert_eq!(echo.call("hello".to_owned()).wait().unwrap(), "hello");
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn function_async<I, O, E, F>(&self, name: &str, function: F) -> Builder<I, O, E>
    where
        F: AsyncFn(&I) -> Result<O, E> + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        let holds_values = std::mem::needs_drop::<F>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(AsyncPlain(function)), holds_values)
    }

    /// Describes an async function with state. `enter` builds the [`AsyncWorker`] of each generation of each
    /// container.
    pub fn worker_async<W, N>(&self, name: &str, enter: N) -> Builder<W::Input, W::Output, W::Error>
    where
        W: AsyncWorker,
        N: AsyncFn(&Context) -> Result<W, BoxError> + Send + Sync + 'static,
    {
        let holds_values = std::mem::needs_drop::<N>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(AsyncWorkerCode(enter)), holds_values)
    }

    /// Describes an async function whose inputs in flight share a state. `enter` builds the
    /// [`ConcurrentWorker`] of each generation of each container, and
    /// [`Builder::concurrent_inputs`] says how many inputs it has in flight.
    pub fn worker_concurrent<W, N>(&self, name: &str, enter: N) -> Builder<W::Input, W::Output, W::Error>
    where
        W: ConcurrentWorker,
        N: AsyncFn(&Context) -> Result<W, BoxError> + Send + Sync + 'static,
    {
        let holds_values = std::mem::needs_drop::<N>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(ConcurrentCode(enter)), holds_values)
    }

    /// Describes a function of batches, which executes many inputs in one call. It returns the outcome of
    /// each input, in their order. All containers share its closure. [`Builder::batch_size`] must be set.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let embed = |texts: &[&String]| -> Vec<Result<usize, String>> {
    ///     let length = |text: &&String| if text.is_empty() { Err("empty".into()) } else { Ok(text.len()) };
    ///     texts.iter().map(length).collect()
    /// };
    /// let embed = app.batch("embed", embed).batch_size(64).start()?;
    /// let texts: Vec<String> = (0..1000).map(|n| format!("text {n}")).collect();
    /// assert_eq!(embed.run(texts).unwrap()[999], 8);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn batch<I, O, E, F>(&self, name: &str, function: F) -> Builder<I, O, E>
    where
        F: Fn(&[&I]) -> Vec<Result<O, E>> + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        let holds_values = std::mem::needs_drop::<F>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(PlainBatch(function)), holds_values)
    }

    /// Describes an async function of batches: see [`App::batch`] and [`App::function_async`].
    ///
    /// ```
    /// use longshore::App;
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let insert = async |rows: &[&u64]| -> Vec<Result<u64, String>> {
    ///     tokio::time::sleep(Duration::from_millis(1)).await; // one round trip for all of them
    ///     rows.iter().map(|row| Ok(**row + 1)).collect()
    /// };
    /// let insert = app.batch_async("insert", insert).batch_size(256).start()?;
    /// assert_eq!(insert.run((0..1000).collect()).unwrap()[999], 1000);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn batch_async<I, O, E, F>(&self, name: &str, function: F) -> Builder<I, O, E>
    where
        F: AsyncFn(&[&I]) -> Vec<Result<O, E>> + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        let holds_values = std::mem::needs_drop::<F>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(AsyncBatch(function)), holds_values)
    }

    /// Describes a function of batches with state. `enter` builds the [`BatchWorker`] of each generation of
    /// each container. [`Builder::batch_size`] must be set.
    pub fn batch_worker<W, N>(&self, name: &str, enter: N) -> Builder<W::Input, W::Output, W::Error>
    where
        W: BatchWorker,
        N: Fn(&Context) -> Result<W, BoxError> + Send + Sync + 'static,
    {
        let holds_values = std::mem::needs_drop::<N>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(BatchWorkerCode(enter)), holds_values)
    }
}

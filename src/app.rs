//! An app: a named set of functions, and the scope they live in.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::actor::Ending;
use crate::async_worker::AsyncWorker;
use crate::builder::Builder;
use crate::context::Context;
use crate::crash::BoxError;
use crate::decide::restart::{CrashLoopBackoff, RateLimited, RestartPolicy};
use crate::engine::async_body::{AsyncEntered, AsyncPlain};
use crate::engine::body::{Entered, Plain};
use crate::engine::system::{Engine, on_engine_thread};
use crate::engine::wait::wait;
use crate::error::StartError;
use crate::report::{FunctionReport, Report};
use crate::worker::Worker;

/// The limit of a shutdown, unless another is given.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// A named set of functions.
///
/// An *ephemeral* app lives with one run: its functions give up when crashes are too many and too
/// large a share ([`RateLimited`]). A *deployed* app is a service that must not stop: its functions
/// restart for ever, a crash loop ever more slowly ([`CrashLoopBackoff`]). Only that default
/// differs. Functions share nothing: one that gives up is not felt by the others.
///
/// Dropping the app does not block. Its functions are aborted once no handle to them is left.
///
/// # The panic hook
///
/// The first function of the process that is started puts a hook of the engine's in front of the
/// [panic hook](std::panic::set_hook) that the application has by then. It keeps the panics of containers from the
/// application's hook (see [`Builder::panic_hook`]) and lets all others through: those of the application's own threads,
/// and those of tasks that were spawned inside a container, which tokio would otherwise keep to itself. So set a hook
/// **before the first start**. One that is set later replaces the engine's: it hears of containers' panics as well, and
/// causes and events then have no [location](crate::Panic::location).
///
/// The panic of a spawned task is a `tracing` event of level `warn`, "task panicked", with the field `panics`: repeats
/// from one place are counted, and told once a second. It is no crash of the container.
pub struct App {
    shared: Arc<Shared>,
}

/// What the app and its builders share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) policy: RestartPolicy,
    functions: Mutex<Functions>,
}

#[derive(Default)]
struct Functions {
    started: Vec<(Arc<str>, Box<dyn Ends>)>,
    closed: bool,
}

/// A function, as its app ends it.
pub(crate) trait Ends: Send + Sync {
    /// Begins the end, at once.
    fn end(&self, ending: Ending, limit: Duration) -> EndingReport;
}

/// The report of a function that comes to its end.
pub(crate) type EndingReport = Pin<Box<dyn Future<Output = FunctionReport> + Send>>;

impl Shared {
    /// Reserves the name and starts the function, unless the app has ended.
    pub(crate) fn register<F>(
        &self,
        name: &Arc<str>,
        start: impl FnOnce(Arc<Engine>) -> Result<(F, Box<dyn Ends>), StartError>,
    ) -> Result<F, StartError> {
        let mut functions = self.functions.lock();
        if functions.closed {
            return Err(StartError::ShutDown);
        }
        if functions.started.iter().any(|(taken, _)| taken == name) {
            return Err(StartError::NameTaken(name.to_string()));
        }
        let (function, ends) = start(Engine::get()?)?;
        functions.started.push((Arc::clone(name), ends));
        Ok(function)
    }
}

impl App {
    /// An app that lives with one run.
    #[must_use]
    pub fn ephemeral(name: &str) -> Self {
        Self::new(name, RateLimited::default().into())
    }

    /// A service that must not stop.
    #[must_use]
    pub fn deployed(name: &str) -> Self {
        Self::new(name, CrashLoopBackoff::default().into())
    }

    fn new(name: &str, policy: RestartPolicy) -> Self {
        Self { shared: Arc::new(Shared { name: name.into(), policy, functions: Mutex::default() }) }
    }

    /// Runs `scope` with an ephemeral app, drains the app, and returns the report with the result.
    ///
    /// ```
    /// let (sum, report) = longshore::App::run_blocking("docs", |app| {
    ///     let double = app.infallible("double", |n: &u64| 2 * n).start().unwrap();
    ///     double.run(vec![1, 2, 3]).unwrap().into_iter().sum::<u64>()
    /// });
    /// assert_eq!(sum, 12);
    /// assert!(report.is_clean());
    /// ```
    pub fn run_blocking<T>(name: &str, scope: impl FnOnce(&Self) -> T) -> (T, Report) {
        let app = Self::ephemeral(name);
        let result = scope(&app);
        (result, app.shutdown_blocking())
    }

    /// [`App::run_blocking`] for async code.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the app: its functions are aborted once no handle to them is left.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sum, report) = longshore::App::run("docs", async |app| {
    ///     let double = app.infallible("double", |n: &u64| 2 * n).start().unwrap();
    ///     double.run_async(vec![1, 2, 3]).await.unwrap().into_iter().sum::<u64>()
    /// })
    /// .await;
    /// assert_eq!(sum, 12);
    /// assert!(report.is_clean());
    /// # });
    /// ```
    pub async fn run<T>(name: &str, scope: impl AsyncFnOnce(&Self) -> T) -> (T, Report) {
        let app = Self::ephemeral(name);
        let result = scope(&app).await;
        (result, app.shutdown().await)
    }

    /// The app's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// A function that may fail. Its closure is shared by all containers.
    ///
    /// A closure that never names its error needs it spelled: `Ok::<_, MyError>(…)`. One that
    /// cannot fail is [`App::infallible`].
    pub fn function<I, O, E, F>(&self, name: &str, function: F) -> Builder<I, O, E>
    where
        F: Fn(&I) -> Result<O, E> + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let holds_values = std::mem::needs_drop::<F>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(Plain(function)), holds_values)
    }

    /// A function that cannot fail, only crash.
    pub fn infallible<I, O, F>(&self, name: &str, function: F) -> Builder<I, O, std::convert::Infallible>
    where
        F: Fn(&I) -> O + Send + Sync + 'static,
        I: Send + Sync + 'static,
        O: Send + 'static,
    {
        self.function(name, move |input| Ok(function(input)))
    }

    /// A function with state: `enter` builds the worker of each generation of each container.
    pub fn worker<W, N>(&self, name: &str, enter: N) -> Builder<W::Input, W::Output, W::Error>
    where
        W: Worker,
        N: Fn(&Context) -> Result<W, BoxError> + Send + Sync + 'static,
    {
        let holds_values = std::mem::needs_drop::<N>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(Entered(enter)), holds_values)
    }

    /// An async function that may fail. Its closure is shared by all containers.
    ///
    /// Each container is a thread with a runtime of its own: `tokio`'s timers, sockets and
    /// `spawn_local` work inside, and futures need not be `Send`. What is spawned there shares the thread
    /// with the inputs, also while the container waits for them: it must not block.
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
        E: Send + 'static,
    {
        let holds_values = std::mem::needs_drop::<F>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(AsyncPlain(function)), holds_values)
    }

    /// An async function with state: `enter` builds the worker of each generation of each container.
    pub fn worker_async<W, N>(&self, name: &str, enter: N) -> Builder<W::Input, W::Output, W::Error>
    where
        W: AsyncWorker,
        N: AsyncFn(&Context) -> Result<W, BoxError> + Send + Sync + 'static,
    {
        let holds_values = std::mem::needs_drop::<N>();
        Builder::new(Arc::clone(&self.shared), name, Box::new(AsyncEntered(enter)), holds_values)
    }

    /// Drains every function within 30 s, and reports. See [`App::shutdown_within`].
    pub fn shutdown_blocking(self) -> Report {
        self.shutdown_within(SHUTDOWN_LIMIT)
    }

    /// Drains every function: accepted inputs of live maps finish, sources are not pulled, new calls
    /// are refused, workers exit. What has not ended after `limit` is aborted, and the report
    /// names it.
    pub fn shutdown_within(self, limit: Duration) -> Report {
        self.end(Ending::Drain, limit)
    }

    /// [`App::shutdown_blocking`] for async code.
    ///
    /// # Cancel safety
    ///
    /// Once polled the shutdown goes on to its end, also if the future is dropped and no handle to a
    /// function is left; only the report is lost.
    pub async fn shutdown(self) -> Report {
        let functions = self.take_functions();
        let app = self.shared.name.to_string();
        let begin = |(_, function): &(_, Box<dyn Ends>)| function.end(Ending::Drain, SHUTDOWN_LIMIT);
        let ending: Vec<EndingReport> = functions.iter().map(begin).collect();
        let mut reports = Vec::new();
        for report in ending {
            reports.push(report.await);
        }
        Report { app, functions: reports }
    }

    /// Stops every function: only what executes finishes, within `limit`.
    pub fn stop_within(self, limit: Duration) -> Report {
        self.end(Ending::Stop, limit)
    }

    /// Aborts every function: nothing waits. Containers in user code are reported as still running.
    pub fn abort(self) -> Report {
        self.end(Ending::Abort, Duration::ZERO)
    }

    /// Takes every function of the app, which takes no more.
    fn take_functions(&self) -> Vec<(Arc<str>, Box<dyn Ends>)> {
        let mut functions = self.shared.functions.lock();
        functions.closed = true;
        std::mem::take(&mut functions.started)
    }

    fn end(self, ending: Ending, limit: Duration) -> Report {
        let functions = self.take_functions();
        let begin = |(_, function): &(_, Box<dyn Ends>)| function.end(ending, limit);
        let ending: Vec<EndingReport> = functions.iter().map(begin).collect();
        let app = self.shared.name.to_string();
        if on_engine_thread() {
            return Report { app, functions: Vec::new() };
        }
        let reports = ending.into_iter().map(wait);
        Report { app, functions: reports.collect() }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let mut functions = self.shared.functions.lock();
        functions.closed = true;
        functions.started.clear();
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

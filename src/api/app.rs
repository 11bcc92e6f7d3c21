//! An app: a named set of functions, and the scope they live in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::api::any_function::AnyFunction;
use crate::api::builder::Builder;
use crate::code::async_worker::AsyncWorker;
use crate::code::context::Context;
use crate::code::worker::Worker;
use crate::decide::restart::{CrashLoopBackoff, RateLimited, RestartPolicy};
use crate::decide::window::Window;
use crate::engine::actor::Ending;
use crate::engine::anchor::Anchor;
use crate::engine::async_body::{AsyncEntered, AsyncPlain};
use crate::engine::body::{Entered, Plain};
use crate::engine::registry::Registry;
use crate::engine::running::Running;
use crate::engine::settings::Settings;
use crate::engine::system::{Engine, on_engine_thread};
use crate::engine::wait::wait;
use crate::values::crash::BoxError;
use crate::values::error::StartError;
use crate::values::report::Report;
use crate::values::snapshot::{AppKind, AppSnapshot, Snapshot, VERSION};

/// The limit of a shutdown, unless another is given.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// A named set of functions.
///
/// An *ephemeral* app lives with one run: its functions give up when crashes are too many and too
/// large a share ([`RateLimited`]). A *deployed* app is a service that must not stop: its functions
/// restart for ever, a crash loop ever more slowly ([`CrashLoopBackoff`]). Only that default
/// differs. Functions share nothing: one that gives up is not felt by the others.
///
/// The app keeps a function whose handle was dropped, until it has ended: drained, stopped or aborted. What has ended
/// is forgotten. Once its last handle is dropped, what its closure has captured is dropped and its name is free; a clean
/// end becomes a count in the app's [`Report`], and the last 64 others are kept whole.
///
/// Dropping the app does not block. Its functions are aborted once no handle to them is left.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{Ending, Shutdown};
/// use std::time::Duration;
///
/// let app = App::deployed("docs");
/// for _ in 0..3 {
///     let f = app.infallible("tenant", |n: &u64| n + 1).containers(1).start()?; // the name is free again
///     assert_eq!(f.call(1).wait().unwrap(), 2);
///     let drain = Shutdown { ending: Ending::Drain, limit: Duration::from_secs(30) };
///     let report = futures::executor::block_on(f.supervisor().send(drain));
///     assert!(report.is_ok_and(|report| report.is_clean()));
/// }
/// let report = app.shutdown_blocking();
/// assert_eq!((report.functions.len(), report.ended_cleanly), (0, 3));
/// # Ok::<(), longshore::StartError>(())
/// ```
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
    registry: Arc<Registry<Arc<Running>>>,
}

impl Shared {
    /// Reserves the name and starts the function, unless the app has ended.
    pub(crate) fn start(
        &self,
        settings: Settings,
        default_window: Window,
    ) -> Result<Arc<Running>, StartError> {
        let name = &Arc::clone(&settings.function);
        let registration = self.registry.reserve(name)?;
        let number = registration.number();
        let running = Running::start(Engine::get()?, settings, default_window, registration)?;
        self.registry.keep(name, number, Arc::clone(&running)).map_err(|_| StartError::ShutDown)?;
        Ok(running)
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

    /// The functions that have been started and have not ended, in the order of their start.
    #[must_use]
    pub fn functions(&self) -> Vec<AnyFunction> {
        self.shared.registry.running().iter().map(AnyFunction::of).collect()
    }

    fn new(name: &str, policy: RestartPolicy) -> Self {
        let registry = Arc::default();
        Self { shared: Arc::new(Shared { name: name.into(), policy, registry }) }
    }

    /// Everything that is to be seen of the app and of those of its functions that have not ended. A viewer that is to
    /// outlive the app's own use of it holds [`App::functions`] instead, which keep nothing alive.
    ///
    /// ```
    /// let app = longshore::App::ephemeral("docs");
    /// let double = app.infallible("double", |n: &u64| 2 * n).containers(2).start()?;
    /// let snapshot = app.snapshot();
    /// assert_eq!((snapshot.app.name.as_str(), snapshot.functions.len()), ("docs", 1));
    /// let function = &snapshot.functions[0];
    /// assert_eq!((function.name.as_str(), function.containers.configured()), ("double", 2));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Shared { name, policy, registry } = &*self.shared;
        let (ended_cleanly, reports, reports_dropped) = registry.ended();
        let kind = match policy {
            RestartPolicy::RateLimited(_) => AppKind::Ephemeral,
            RestartPolicy::CrashLoopBackoff(_) => AppKind::Deployed,
        };
        let functions = registry.running().iter().map(|running| running.dispatch.snapshot()).collect();
        let anchor = Anchor::get();
        Snapshot {
            v: VERSION,
            longshore: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
            started_unix_ms: anchor.unix_ms(),
            now_unix_ms: Anchor::now_unix_ms(),
            now: anchor.age(),
            app: AppSnapshot { name: name.to_string(), kind, ended_cleanly, reports, reports_dropped },
            functions,
        }
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
        E: fmt::Debug + Send + 'static,
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
        E: fmt::Debug + Send + 'static,
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
    /// are refused, workers exit.
    ///
    /// What has not ended after `limit` is cut off: what executes is aborted, every input without an outcome comes back,
    /// and containers that have nothing to do exit. For all that there is a second more. The report says what became
    /// of each container, how many inputs came back and what still runs.
    ///
    /// In a container of one of the app's own functions, and on the engine's thread, this would wait for itself. There
    /// the end begins and is not waited for: the report comes at once, and says so
    /// ([`Report::would_deadlock`]).
    ///
    /// ```
    /// use longshore::{App, Fate};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let app = App::ephemeral("docs");
    /// let place = Arc::new(Mutex::new(None::<App>));
    /// let its = Arc::clone(&place);
    /// let end = app.infallible("end", move |_: &()| its.lock().unwrap().take().unwrap().shutdown_blocking());
    /// let end = end.containers(1).start()?;
    /// *place.lock().unwrap() = Some(app);
    /// let report = end.call(()).wait().unwrap();
    /// assert!(report.would_deadlock && !report.is_clean());
    /// assert_eq!(report.functions[0].containers[0].1, Fate::StillRunning);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn shutdown_within(self, limit: Duration) -> Report {
        self.end(Ending::Drain, limit)
    }

    /// [`App::shutdown_blocking`] for async code. Awaited in a container of one of the app's own functions it would wait
    /// for itself as well, and does not.
    ///
    /// # Cancel safety
    ///
    /// Once polled the shutdown goes on to its end, also if the future is dropped and no handle to a
    /// function is left; only the report is lost.
    pub async fn shutdown(self) -> Report {
        let app = self.shared.name.to_string();
        let closed = self.shared.registry.close();
        let ending = closed.end(Ending::Drain, SHUTDOWN_LIMIT);
        if closed.is_in_a_container() {
            let reports = closed.reports();
            return closed.report(app, reports, true);
        }
        let mut reports = Vec::new();
        for report in ending {
            reports.push(report.await);
        }
        closed.report(app, reports, false)
    }

    /// Stops every function: only what executes finishes, within `limit`. Otherwise as [`App::shutdown_within`].
    pub fn stop_within(self, limit: Duration) -> Report {
        self.end(Ending::Stop, limit)
    }

    /// Aborts every function: nothing waits, there is no `exit`. Containers in user code that does not come out at once
    /// are reported as still running.
    pub fn abort(self) -> Report {
        self.end(Ending::Abort, Duration::ZERO)
    }

    fn end(self, ending: Ending, limit: Duration) -> Report {
        let app = self.shared.name.to_string();
        let closed = self.shared.registry.close();
        let begun = closed.end(ending, limit);
        // An abort does not wait for what executes.
        let for_itself = ending != Ending::Abort && closed.is_in_a_container();
        if for_itself || (on_engine_thread() && closed.has_any()) {
            let reports = closed.reports();
            return closed.report(app, reports, true);
        }
        let reports = begun.into_iter().map(wait).collect();
        closed.report(app, reports, false)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.shared.registry.close());
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

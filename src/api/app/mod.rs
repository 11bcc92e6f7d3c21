//! [`App`]: a named set of functions, and the scope in which they live. The kinds of functions that it
//! describes are in `kinds`.

mod kinds;

use std::sync::Arc;
use std::time::Duration;

use crate::api::any_function::AnyFunction;
#[cfg(feature = "signal")]
use crate::api::signal_shutdown::SignalShutdown;
use crate::api::weak_app::WeakApp;
use crate::decide::restart::{CrashLoopBackoff, RateLimited, RestartPolicy};
use crate::decide::window::Window;
use crate::engine::actor::Ending;
use crate::engine::anchor::Anchor;
use crate::engine::registry::Registry;
use crate::engine::running::Running;
use crate::engine::settings::Settings;
#[cfg(feature = "signal")]
use crate::engine::signals::end_on_signal;
use crate::engine::system::{Engine, on_engine_thread};
use crate::engine::viewers::Viewers;
use crate::engine::wait::wait;
#[cfg(feature = "signal")]
use crate::values::error::SignalError;
use crate::values::error::StartError;
use crate::values::report::Report;
use crate::values::snapshot::{AppKind, AppSnapshot, Snapshot, VERSION};

/// The limit of an end for which the caller gives none.
pub(super) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// A named set of functions.
///
/// An *ephemeral* app lives with one run: a function gives up when its crashes are too many and too large a
/// share of its executions ([`RateLimited`]). A *deployed* app is a service that must not stop: a function
/// restarts for ever, and ever more slowly while it is in a crash loop ([`CrashLoopBackoff`]). The two kinds
/// differ only in that default policy. Functions share nothing, so a function that gives up does not affect
/// the others.
///
/// The app keeps a function whose handles were dropped until the function has ended: drained, stopped or
/// aborted. Then the app forgets it. Once the last handle is dropped as well, the captured values of its
/// closure are dropped and its name is free. A clean end becomes a count in the app's [`Report`]. The reports
/// of the last 64 ends that were not clean are kept whole.
///
/// Dropping the app does not block. A function of a dropped app is aborted once no handle to it is left.
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
/// assert!(report.functions.is_empty());
/// assert_eq!(report.ended_cleanly, 3);
/// # Ok::<(), longshore::StartError>(())
/// ```
///
/// # The panic hook
///
/// The first start of a function in the process puts a hook of the engine in front of the [panic
/// hook](std::panic::set_hook) that the application has set by then. The engine's hook keeps the panics
/// of containers from the application's hook (see [`Builder::panic_hook`](crate::Builder::panic_hook))
/// and passes all others on: panics of the application's own threads, and panics of tasks that were
/// spawned inside a container, which tokio would otherwise hide. So set your hook **before the first
/// start**. A hook that is set later replaces the engine's. It is then called for the panics of
/// containers as well, and causes and events have no [location](crate::Panic::location).
///
/// The panic of a spawned task is a `tracing` event of level `warn`, "task panicked". Repeats from one place
/// are counted in its field `panics`, and reported once a second. Such a panic is no crash of the container.
pub struct App {
    shared: Arc<AppInner>,
}

/// The part of an app that its builders share.
pub(crate) struct AppInner {
    pub(super) name: Arc<str>,
    pub(super) policy: RestartPolicy,
    registry: Arc<Registry<Arc<Running>>>,
    pub(super) viewers: Arc<Viewers>,
}

impl AppInner {
    /// Reserves the function's name and starts it, unless the app has ended.
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

    /// See [`App::functions`].
    pub(super) fn functions(&self) -> Vec<AnyFunction> {
        self.registry.running().iter().map(AnyFunction::of).collect()
    }

    /// See [`App::snapshot`].
    pub(super) fn snapshot(&self) -> Snapshot {
        let Self { name, policy, registry, .. } = self;
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
}

impl App {
    /// An app that lives with one run. Its default restart policy is [`RateLimited`].
    #[must_use]
    pub fn ephemeral(name: &str) -> Self {
        Self::new(name, RateLimited::default().into())
    }

    /// A service that must not stop. Its default restart policy is [`CrashLoopBackoff`].
    #[must_use]
    pub fn deployed(name: &str) -> Self {
        Self::new(name, CrashLoopBackoff::default().into())
    }

    /// The functions that have been started and have not ended, in the order of their start.
    #[must_use]
    pub fn functions(&self) -> Vec<AnyFunction> {
        self.shared.functions()
    }

    fn new(name: &str, policy: RestartPolicy) -> Self {
        let (registry, viewers) = (Arc::default(), Arc::default());
        Self { shared: Arc::new(AppInner { name: name.into(), policy, registry, viewers }) }
    }

    /// A snapshot of the app and of each of its functions that has not ended. A viewer that must not keep the
    /// app alive holds a [`WeakApp`] instead.
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
        self.shared.snapshot()
    }

    /// A handle to the app that does not keep it alive, for a viewer.
    #[must_use]
    pub fn downgrade(&self) -> WeakApp {
        WeakApp::of(&self.shared)
    }

    /// Runs `scope` with an ephemeral app, drains the app, and returns the result together with the report.
    ///
    /// # Panics
    ///
    /// If `scope` panics. The app is dropped then.
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

    /// Awaits `scope` with an ephemeral app, drains the app, and returns the result together with the report.
    /// It is [`App::run_blocking`] for async code.
    ///
    /// # Panics
    ///
    /// If `scope` panics. The app is dropped then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the app. A function of the app is aborted once no handle to it is left.
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

    /// Drains every function within 30 s, and reports. See [`App::shutdown_within`].
    pub fn shutdown_blocking(self) -> Report {
        self.shutdown_within(SHUTDOWN_LIMIT)
    }

    /// Drains every function, and waits for the end. The accepted inputs of live maps finish, no source is
    /// pulled any more, new calls are refused, and workers exit.
    ///
    /// A function that has not ended after `limit` is cut off: its executing inputs are aborted, every input
    /// without an outcome comes back inside its error, and idle containers exit. This takes up to a second
    /// more. The report says what became of each container, how many inputs came back, and what still runs.
    ///
    /// On the engine's thread, and inside a container of one of the app's own functions, this would wait for
    /// itself. There it only begins the end, and returns a report at once that says so
    /// ([`Report::would_deadlock`]).
    ///
    /// ```
    /// use longshore::{App, Fate};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let app = App::ephemeral("docs");
    /// let place = Arc::new(Mutex::new(None::<App>));
    /// let its = Arc::clone(&place);
    /// let end = app.infallible("end", move |_: &()| {
    ///     its.lock().unwrap().take().unwrap().shutdown_blocking()
    /// });
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

    /// Drains every function within 30 s, and reports: [`App::shutdown_blocking`] for async code. Inside a
    /// container of one of the app's own functions it would wait for itself. There it only begins the end,
    /// and the report says so ([`Report::would_deadlock`]).
    ///
    /// # Cancel safety
    ///
    /// A shutdown that was polled once goes on to its end, even if its future is dropped and no handle to a
    /// function is left. Only the report is lost. Dropping a future that was never polled only drops the app.
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

    /// Stops every function, and waits for the end: executing inputs may finish within `limit`, and all
    /// others come back inside their errors. Otherwise it is like [`App::shutdown_within`].
    pub fn stop_within(self, limit: Duration) -> Report {
        self.end(Ending::Stop, limit)
    }

    /// Aborts every function, and reports at once. It waits for no input, and no worker exits. A container is
    /// reported as still running if its thread is still in the user's code.
    pub fn abort(self) -> Report {
        self.end(Ending::Abort, Duration::ZERO)
    }

    /// Lets the app end on a signal. The first Ctrl-C or SIGTERM drains every function within 30 s, as
    /// [`App::shutdown_blocking`] does, and the app takes no further function. The second one aborts
    /// them. On Windows it is Ctrl-C only. It needs the feature `signal`.
    ///
    /// This returns at once, and one line is enough: a program whose maps and calls end because of the
    /// drain then comes to its own end. A service that only waits for the signal waits for the report,
    /// with [`SignalShutdown::wait`] or in a task.
    ///
    /// | signal | while the app is there | after it is gone |
    /// |---|---|---|
    /// | the first | drains | ends the process |
    /// | the second | aborts | ends the process |
    /// | the third | ends the process, unless another app has had fewer | ends the process |
    ///
    /// A process that is ended so has the exit code 130 (Ctrl-C) or 143 (SIGTERM). The handlers stay
    /// installed until the end of the process, because they cannot be taken back. Other handlers of the
    /// program, for example of `tokio::signal`, are called as well.
    ///
    /// # Errors
    ///
    /// A [`SignalError`] if the handlers cannot be installed or their thread cannot be made.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// app.shutdown_on_signal().unwrap();
    /// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
    /// let outputs: Vec<_> = double.map(0..1000).return_exceptions().into_iter().collect();
    /// assert_eq!(outputs.len(), 1000); // after a signal, those that were accepted before it, and an error
    /// assert!(app.shutdown_blocking().is_clean());
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    #[cfg(feature = "signal")]
    pub fn shutdown_on_signal(&self) -> Result<SignalShutdown, SignalError> {
        let AppInner { name, registry, .. } = &*self.shared;
        let reported = end_on_signal(name, registry, SHUTDOWN_LIMIT)?;
        Ok(SignalShutdown::new(reported, registry))
    }

    fn end(self, ending: Ending, limit: Duration) -> Report {
        let app = self.shared.name.to_string();
        let closed = self.shared.registry.close();
        let begun = closed.end(ending, limit);
        // An abort does not wait for executing inputs, so it cannot wait for itself.
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

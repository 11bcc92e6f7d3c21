//! [`Builder`]: the settings of a function before it is started. The settings of memory are in `memory`.
//! `draft` holds the settings without the function's types, and validates them.

mod draft;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::api::app::AppInner;
use crate::api::function::Function;
use crate::contain::drops::{DeferDrop, Stack};
use crate::contain::outlined::Outlined;
use crate::contain::unwind::PanicHook;
use crate::data::shape::Shape;
use crate::decide::restart::RestartPolicy;
use crate::decide::retries::Retries;
#[cfg(feature = "testkit")]
use crate::decide::window::Window;
use crate::engine::body::{Body, CodeOf, Describe, RetryAfter, RetryIf};
#[cfg(feature = "testkit")]
use crate::engine::settings::Settings;
use crate::values::error::StartError;
use draft::Draft;

/// The settings of a function. [`Builder::start`] validates them all.
///
/// | setting | default |
/// |---|---|
/// | `containers` | available parallelism |
/// | `concurrent_inputs` | 1 |
/// | `batch_size`, `batch_wait` | for functions of batches: required; 0: whatever is there |
/// | `retries` | 0 |
/// | `retry_if` | every error |
/// | `retry_after` | the delay of `retries` |
/// | `describe` | none: a snapshot names inputs by their index only |
/// | `crash_retries` | 3 |
/// | `timeout`, `deadline`, `enter_timeout` | none |
/// | `retry_timeouts` | true |
/// | `keep_interrupted` | no: an interrupted worker is entered again |
/// | `restart` | the policy of the app |
/// | `window` | adaptive: 4 ms of measured work for each container, 1000 ..= 65 536 inputs, at most 2 MiB; 8 × the inputs in flight if that is more |
/// | `calls_max` | 2^20 |
/// | `exit_timeout` | 5 s |
/// | `stack_size` | 8 MiB |
/// | `panic_hook` | silent |
/// | `memory_limit` | none |
/// | `recycle_above` | never |
/// | `abandoned_max` | max(8, 2 × containers) |
/// | `abandoned_bytes_max` | 2 × `memory_limit` × containers |
#[must_use = "a function does nothing before it is started"]
pub struct Builder<I, O, E> {
    draft: Outlined<Draft>,
    code: CodeOf<I, O, E>,
}

impl<I, O, E> Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// `holds_values` says whether the body captures anything with a drop.
    pub(crate) fn new(
        app: Arc<AppInner>,
        name: &str,
        body: Box<dyn Body<I, O, E>>,
        holds_values: bool,
    ) -> Self
    where
        E: fmt::Debug,
    {
        let code = CodeOf::new(body, holds_values, <E as fmt::Debug>::fmt);
        Self { draft: Draft::new(app, name), code }
    }

    /// The number of containers, 1 ..= 1024.
    pub fn containers(mut self, containers: usize) -> Self {
        self.draft.containers = Some(containers);
        self
    }

    /// The number of inputs that each container has in flight at the same time: 1 ..= 65 536, by default 1.
    /// All containers together have at most 2^20 in flight. With a [memory limit](Builder::memory_limit) a
    /// container has at most 4096.
    ///
    /// Only async code that shares its state by reference can have more than one: [`App::function_async`] and
    /// [`App::worker_concurrent`]. The inputs of a container share its thread, and one of them is polled at a
    /// time. They suit work that waits, such as requests. Work that computes needs more
    /// [containers](Builder::containers) instead. The default [window](Builder::window) is eight times as
    /// large as the number of inputs in flight, as far as 2 MiB go, and at least twice as large.
    ///
    /// | the work | use |
    /// |---|---|
    /// | computes, or blocks its thread | as many containers as cores, one input at a time |
    /// | waits for timers or sockets | one or two containers, hundreds of concurrent inputs |
    ///
    /// The guilty input of a panic is known, and only that one is blamed. The code decides the fate of the
    /// others in flight:
    ///
    /// | code | at a panic | a known suspect |
    /// |---|---|---|
    /// | [`App::function_async`] | the others go on, and so does the container | is replayed beside others |
    /// | [`App::worker_concurrent`] | the others are replayed with a new worker, which costs them nothing | is replayed alone in its container |
    ///
    /// [`App::function_async`]: crate::App::function_async
    /// [`App::worker_concurrent`]: crate::App::worker_concurrent
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let app = longshore::App::ephemeral("docs");
    /// let wait = app
    ///     .function_async("wait", async |n: &u64| {
    ///         tokio::time::sleep(Duration::from_millis(10)).await;
    ///         Ok::<_, std::convert::Infallible>(*n)
    ///     })
    ///     .containers(1)
    ///     .concurrent_inputs(100)
    ///     .start()?;
    /// let begun = Instant::now();
    /// assert_eq!(wait.run((0..200).collect()).unwrap().len(), 200);
    /// assert!(begun.elapsed() < Duration::from_secs(1), "one after the other they take two seconds");
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn concurrent_inputs(mut self, inputs: usize) -> Self {
        self.draft.concurrent_inputs = inputs;
        self
    }

    /// The largest number of inputs that a call of batch code gets, 1 ..= 65 536. A function of batches
    /// ([`App::batch`], [`App::batch_async`], [`App::batch_worker`]) must set it, and other functions must
    /// not. All containers together have at most 2^20 inputs in their batches.
    ///
    /// A batch is filled from everything that waits: maps, calls and retries. It may hold fewer inputs, and
    /// has at least one. The default [window](Builder::window) is eight times as large as the batches of all
    /// containers, as far as 2 MiB go, and at least twice as large.
    ///
    /// Each input has an outcome of its own, and is retried by itself. If a batch of several inputs crashes,
    /// it is not known which of them is guilty, so none of them pays. The batch is replayed in halves, each
    /// by itself in its container, until one input crashes alone. One guilty input in a batch of `n` costs
    /// log2(n) + 1 crashes at most, and [`crash_retries`](Builder::crash_retries) more. With
    /// `crash_retries(0)` all inputs of the batch are lost.
    ///
    /// [`App::batch`]: crate::App::batch
    /// [`App::batch_async`]: crate::App::batch_async
    /// [`App::batch_worker`]: crate::App::batch_worker
    pub fn batch_size(mut self, inputs: usize) -> Self {
        self.draft.batch_size = Some(inputs);
        self
    }

    /// How long a batch that is not full waits for more inputs, 0 ..= 10 min. By default it does not wait,
    /// and takes what is there. A function of batches only.
    ///
    /// The time counts from the first input that the batch could have. A batch does not wait if no more
    /// inputs can come: it holds no call, and each open map is at its end or has its window full. Retries
    /// that are not yet due are not waited for. No container holds inputs while a batch forms.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let app = longshore::App::ephemeral("docs");
    /// let insert = app
    ///     .batch("insert", |rows: &[&u64]| vec![Ok::<_, String>(rows.len()); rows.len()])
    ///     .containers(1)
    ///     .batch_size(3)
    ///     .batch_wait(Duration::from_secs(60))
    ///     .start()?;
    /// let calls = [1, 2, 3].map(|row| insert.call(row));
    /// for call in calls {
    ///     assert_eq!(call.wait().unwrap(), 3, "the three calls share a batch");
    /// }
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn batch_wait(mut self, wait: Duration) -> Self {
        self.draft.batch_wait = Some(wait);
        self
    }

    /// Sets the number of containers unless it is set already.
    #[cfg(feature = "testkit")]
    pub(crate) fn containers_or(&mut self, containers: usize) {
        self.draft.containers.get_or_insert(containers);
    }

    /// How often a failed input is executed again, and after which delays. An integer is that number of
    /// retries with a fixed delay of 1 s.
    pub fn retries(mut self, retries: impl Into<Retries>) -> Self {
        self.draft.retries = retries.into();
        self
    }

    /// Decides which errors are retried. The others surface at once. If the closure panics, the input is not
    /// retried and its own error surfaces.
    pub fn retry_if<P>(mut self, worth: P) -> Self
    where
        P: Fn(&E) -> bool + Send + Sync + 'static,
    {
        let worth: RetryIf<E> = Box::new(worth);
        let stack = Stack::of(self.draft.stack_bytes);
        self.code.errors.retry_if = Some(DeferDrop::new(worth, stack, std::mem::needs_drop::<P>()));
        self
    }

    /// Sets the least delay before the next attempt, which an error may know: a server's `Retry-After`.
    /// The larger of it and the delay of [`Builder::retries`] counts, up to 24 h, whatever
    /// [`max_delay`](crate::Retries::max_delay) says. It is asked about each error that
    /// [`Builder::retry_if`] finds worth a retry, and grants no further retry. If the closure panics, the
    /// input is not retried and its own error surfaces.
    ///
    /// ```
    /// use longshore::{App, Context, Retries};
    /// use std::time::{Duration, Instant};
    ///
    /// let app = App::ephemeral("docs");
    /// let busy_once = |_: &u8| {
    ///     let attempt = Context::current().expect("in a container").attempt();
    ///     if attempt.get() == 1 { Err(Duration::from_millis(30)) } else { Ok("done") }
    /// };
    /// let f = app.function("f", busy_once).retries(Retries::new(1).initial_delay(Duration::ZERO));
    /// let f = f.retry_after(|busy_for| Some(*busy_for)).start()?;
    /// let begun = Instant::now();
    /// assert_eq!(f.call(1).wait().unwrap(), "done");
    /// assert!(begun.elapsed() >= Duration::from_millis(30));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn retry_after<P>(mut self, least: P) -> Self
    where
        P: Fn(&E) -> Option<Duration> + Send + Sync + 'static,
    {
        let least: RetryAfter<E> = Box::new(least);
        let stack = Stack::of(self.draft.stack_bytes);
        self.code.errors.retry_after = Some(DeferDrop::new(least, stack, std::mem::needs_drop::<P>()));
        self
    }

    /// Sets the function that describes a poisoned input in [snapshots](crate::Function::snapshot). A
    /// description is cut at 200 characters. Without such a function a snapshot names an input by its index
    /// only, because an input may contain secrets.
    ///
    /// The function is called once for each poisoned input, on the thread that the input crashed or on a
    /// thread of the engine. If it panics, the panic's message is the description.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let parse = app
    ///     .infallible("parse", |path: &String| assert!(!path.ends_with(".bad")))
    ///     .describe(|path| format!("the file {path}"))
    ///     .start()?;
    /// assert!(parse.call("a.bad".to_owned()).wait().is_err());
    /// let poisoned = &parse.snapshot().poisoned[0];
    /// assert_eq!(poisoned.description.as_deref(), Some("the file a.bad"));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn describe<D>(mut self, describe: D) -> Self
    where
        D: Fn(&I) -> String + Send + Sync + 'static,
    {
        let describe: Describe<I> = Box::new(describe);
        let stack = Stack::of(self.draft.stack_bytes);
        self.code.describe = Some(DeferDrop::new(describe, stack, std::mem::needs_drop::<D>()));
        self
    }

    /// The number of crashes that an input survives, 0 ..= 1000. With 0, an input that was executing in a
    /// container that died is never begun again. It is still retried after a failure, if [`Builder::retries`]
    /// is set.
    pub fn crash_retries(mut self, crash_retries: u32) -> Self {
        self.draft.crash_retries = crash_retries;
        self
    }

    /// The time that one attempt at an input may take, 1 ms ..= 24 h. The clock starts when the function gets
    /// the input, again for each attempt. [`Map::timeout`](crate::Map::timeout) and
    /// [`Limits::timeout`](crate::Limits::timeout) override it for one map or call.
    ///
    /// An attempt that times out is a failure: it spends [`Builder::retries`] and waits their delay.
    /// [`Builder::retry_if`] is not asked. The next attempt sees [`Previous::TimedOut`](crate::Previous), and
    /// the outcome is [`Cause::TimedOut`](crate::Cause::TimedOut). An attempt that ends before the engine has
    /// noticed the limit, within about 2 ms, is in time.
    ///
    /// | the code | at the limit | its container |
    /// |---|---|---|
    /// | async, waits | its future is dropped | lives on, and so do the other inputs that it has in flight |
    /// | synchronous, passes [checkpoints](crate::Context::checkpoint) | it unwinds at the next one | lives on |
    /// | does not wait or pass a checkpoint for 50 ms | its thread is left behind | crashes: [`Death::Unresponsive`](crate::Death::Unresponsive). The others in flight are innocent |
    ///
    /// A [`Worker`](crate::Worker) or [`AsyncWorker`](crate::AsyncWorker) may be half-updated after the first
    /// two, so it is dropped without an `exit`, and entered again: see [`Builder::keep_interrupted`]. The
    /// crash counts for the restart policy, and never against the input. The next attempt begins when the
    /// code of the last one has returned or is left behind. An input that has left two threads behind ends.
    ///
    /// At the bound on [abandoned threads](Builder::abandoned_max) a container that hangs is kept, and not
    /// replaced. If all containers hang like that, a function with limited restarts gives up, and another one
    /// waits for a thread to return.
    ///
    /// ```
    /// use longshore::{App, Retries};
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let fetch = app
    ///     .function_async("fetch", async |n: &u64| {
    ///         if *n == 13 {
    ///             std::future::pending::<()>().await;
    ///         }
    ///         Ok::<_, std::convert::Infallible>(*n)
    ///     })
    ///     .containers(1)
    ///     .concurrent_inputs(8)
    ///     .timeout(Duration::from_millis(50))
    ///     .retries(Retries::new(1).initial_delay(Duration::ZERO))
    ///     .start()?;
    /// let outcomes = fetch.run_all((10..20).collect());
    /// let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    /// assert!(failed.len() == 1 && failed[0].is_timed_out());
    /// assert_eq!((failed[0].input(), failed[0].attempts()), (Some(&13), 2));
    /// assert_eq!(fetch.status().crashes, 0);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.draft.limits.timeout = Some(limit);
        self
    }

    /// Whether an attempt that [timed out](Builder::timeout) spends a retry. If not, the input fails at once.
    pub fn retry_timeouts(mut self, retry: bool) -> Self {
        self.draft.limits.retry_timeouts = retry;
        self
    }

    /// The time from the acceptance of an input to its outcome, 1 ms ..= 365 days, with all that it waits
    /// for: in queues, for retries and replays, during a pause or a crash loop. An input of a map is accepted
    /// when it is pulled. [`Map::deadline`](crate::Map::deadline) and
    /// [`Limits::deadline`](crate::Limits::deadline) override it for one map or call.
    ///
    /// When it passes, an input that waits ends at once, and one that executes is ended as by a
    /// [timeout](Builder::timeout), but for good. The outcome is
    /// [`Cause::DeadlineExceeded`](crate::Cause::DeadlineExceeded), with the error of the last attempt that
    /// has failed. A retry that would be due at or after the deadline is not waited for.
    ///
    /// ```
    /// use longshore::{App, Cause, Retries};
    /// use std::time::{Duration, Instant};
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app
    ///     .function("f", |_: &u64| Err::<(), _>("down"))
    ///     .retries(Retries::new(5).initial_delay(Duration::from_secs(30)))
    ///     .deadline(Duration::from_secs(10))
    ///     .start()?;
    /// let begun = Instant::now();
    /// let failure = f.call(1).wait().unwrap_err();
    /// assert!(begun.elapsed() < Duration::from_secs(5), "the retry is not waited for");
    /// assert!(matches!(failure.cause(), Cause::DeadlineExceeded { last: Some("down"), .. }));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.draft.limits.deadline = Some(limit);
        self
    }

    /// The time that an `enter` may take, 1 ms ..= 24 h. A longer one is a failed start:
    /// [`Death::EnterTimedOut`](crate::Death::EnterTimedOut). Async code is dropped where it waits. The
    /// thread of other code is left behind until it returns or comes to a checkpoint.
    pub fn enter_timeout(mut self, limit: Duration) -> Self {
        self.draft.limits.enter_timeout = Some(limit);
        self
    }

    /// Keeps a worker whose `call` was interrupted, by a [timeout](Builder::timeout), a
    /// [deadline](Builder::deadline) or a cancellation. Without this, the worker is dropped without an `exit`
    /// and entered again, because the interruption may have left it half-updated. Clients that leave in
    /// masses then cost an `enter` each.
    ///
    /// It asks of the code that its state is whole at each
    /// [`Context::checkpoint`](crate::Context::checkpoint) of a [`Worker`](crate::Worker), and at each
    /// `await` of an [`AsyncWorker`](crate::AsyncWorker): no value is taken out, and no invariant broken,
    /// across one of them. Locks that the call holds are released by the unwind, and a `std::sync::Mutex`
    /// is poisoned by it.
    pub fn keep_interrupted(mut self) -> Self {
        self.draft.keep_interrupted = true;
        self
    }

    /// The policy that decides when a crashed container comes back, and when the function gives up.
    pub fn restart(mut self, policy: impl Into<RestartPolicy>) -> Self {
        self.draft.restart = Some(policy.into());
        self
    }

    /// The number of inputs of a map that may be outstanding, 1 ..= 2^24. [`Map::window`](crate::Map::window)
    /// overrides it for one map.
    pub fn window(mut self, inputs: u64) -> Self {
        self.draft.window = Some(inputs);
        self
    }

    /// The number of calls that may be without an outcome, 1 ..= 2^24. [Permits](crate::Permit) count as
    /// calls. One call more fails at once with [`Cause::Overloaded`](crate::Cause::Overloaded), which
    /// gives its input back, so that an outage cannot queue calls without bound. [`Function::reserve`]
    /// waits for room.
    ///
    /// ```
    /// use longshore::{App, Cause};
    ///
    /// let app = App::ephemeral("docs");
    /// let (open, gate) = std::sync::mpsc::channel::<()>();
    /// let gate = std::sync::Mutex::new(gate);
    /// let f = app.infallible("f", move |n: &u64| (*n, gate.lock().unwrap().recv())).calls_max(2).start()?;
    /// let calls = [f.call(1), f.call(2)];
    /// let refused = f.call(3).wait().unwrap_err();
    /// assert!(matches!(refused.cause(), Cause::Overloaded { calls: 2, max: 2 }));
    /// assert_eq!(refused.input(), Some(&3));
    /// drop(open); // the calls return
    /// assert!(calls.into_iter().all(|call| call.wait().is_ok()));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn calls_max(mut self, calls: u64) -> Self {
        self.draft.calls_max = calls;
        self
    }

    /// The time that a worker's `exit` may take before its thread is abandoned.
    pub fn exit_timeout(mut self, limit: Duration) -> Self {
        self.draft.exit_timeout = limit;
        self
    }

    /// The stack size of each container's thread in bytes, at least 64 KiB. Every other thread on which the
    /// engine runs the user's code has a stack of this size too, but of at least 2 MiB: a thread that pulls a
    /// source, a blocking thread of an async container's runtime, a helper that a [`Scope`](crate::Scope)
    /// spawns, and a thread that drops values of the user.
    ///
    /// An executed input is dropped by the thread that is the last to hold its chunk. This is a container's
    /// thread, or the thread that takes the outcomes. If the stack size is above the default, no thread of
    /// the application drops an input, because the stack of such a thread may be smaller.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.draft.stack_bytes = bytes;
        self.code.set_stack(Stack::of(bytes));
        self
    }

    /// Whether the application's panic hook is called for panics in containers.
    pub fn panic_hook(mut self, hook: PanicHook) -> Self {
        self.draft.panic_hook = hook;
        self
    }

    /// Validates the settings and begins the `enter` of all containers. It does not wait for them.
    ///
    /// # Errors
    ///
    /// A [`StartError`] if a setting is out of its range, the name is taken, the app has ended, or a memory
    /// setting has no [`Accountant`](crate::Accountant). It is also returned if the program is built with
    /// `panic = "abort"`, a thread cannot be made, or the caller is the engine's own thread or a panicking
    /// thread.
    pub fn start(self) -> Result<Function<I, O, E>, StartError> {
        let Self { draft, code } = self;
        let running = Draft::start(draft, Shape::of::<I, O, E>(), Arc::new(code))?;
        Ok(Function::of(running).expect("it was started with these types"))
    }

    /// Validates the settings of a function that is only rehearsed.
    #[cfg(feature = "testkit")]
    pub(crate) fn validate(self) -> Result<Valid<I, O, E>, StartError> {
        let Self { draft, code } = self;
        let code = Arc::new(code);
        let (settings, window) = draft.validate(Shape::of::<I, O, E>(), Arc::clone(&code) as _, false)?;
        Ok((settings, window, code))
    }
}

/// The settings of a function, the window of maps that set none, and its code with its types.
#[cfg(feature = "testkit")]
pub(crate) type Valid<I, O, E> = (Settings, Window, Arc<CodeOf<I, O, E>>);

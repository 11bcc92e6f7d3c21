//! The settings of a function, before it is started.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::api::app::Shared;
use crate::api::function::Function;
use crate::code::context::Context;
use crate::contain::drops::{self, Elsewhere, Stack};
use crate::contain::outlined::{Outlined, outline};
use crate::contain::unwind::{PanicHook, install_hook};
use crate::data::shape::Shape;
use crate::decide::ledger::Rules;
use crate::decide::restart::RestartPolicy;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::body::{Body, Code, CodeOf, Describe, RetryIf};
use crate::engine::running::Running;
use crate::engine::settings::{MemoryRules, Settings, next_function_id};
use crate::memory::alarm::start_watch;
use crate::memory::till::is_installed;
use crate::values::error::{CONTAINERS_MAX, ConfigError, StartError, containers_in_range, name_in_range};

/// The most crash retries of an input.
const CRASH_RETRIES_MAX: u32 = 1000;
/// The smallest stack, because a panic needs some to be told.
const STACK_BYTES_MIN: usize = 64 * 1024;

/// A function's settings. [`Builder::start`] validates them all.
///
/// | setting | default |
/// |---|---|
/// | `containers` | available parallelism |
/// | `retries` | 0 |
/// | `retry_if` | every error |
/// | `describe` | nothing is said of inputs |
/// | `crash_retries` | 3 |
/// | `restart` | that of the app |
/// | `window` | adaptive: 4 ms of measured work for each container, 1000 ..= 65 536 inputs, at most 2 MiB |
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

/// What was asked for that does not depend on the types.
struct Draft {
    app: Arc<Shared>,
    name: Arc<str>,
    containers: Option<usize>,
    retries: Retries,
    crash_retries: u32,
    restart: Option<RestartPolicy>,
    window: Option<u64>,
    exit_timeout: Duration,
    stack_bytes: usize,
    panic_hook: PanicHook,
    memory_limit: Option<u64>,
    recycle_above: Option<u64>,
    abandoned_max: Option<usize>,
    abandoned_bytes_max: Option<u64>,
}

outline!(Draft);

impl<I, O, E> Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// `holds_values` says whether the body captures anything that is to be dropped.
    pub(crate) fn new(app: Arc<Shared>, name: &str, body: Box<dyn Body<I, O, E>>, holds_values: bool) -> Self
    where
        E: fmt::Debug,
    {
        let code = CodeOf::new(body, holds_values, <E as fmt::Debug>::fmt);
        Self { draft: Draft::new(app, name), code }
    }

    /// How many containers: 1 ..= 1024.
    pub fn containers(mut self, containers: usize) -> Self {
        self.draft.containers = Some(containers);
        self
    }

    /// The same, unless something was said.
    #[cfg(feature = "testkit")]
    pub(crate) fn containers_or(&mut self, containers: usize) {
        self.draft.containers.get_or_insert(containers);
    }

    /// How often a failed input is run again, and after which delays. An integer is that many
    /// retries with a fixed delay of 1 s.
    pub fn retries(mut self, retries: impl Into<Retries>) -> Self {
        self.draft.retries = retries.into();
        self
    }

    /// Which errors are worth a retry; the others surface at once. If it panics, there is no retry.
    pub fn retry_if<P>(mut self, worth: P) -> Self
    where
        P: Fn(&E) -> bool + Send + Sync + 'static,
    {
        let worth: RetryIf<E> = Box::new(worth);
        let stack = Stack::of(self.draft.stack_bytes);
        self.code.errors.retry_if = Some(Elsewhere::new(worth, stack, std::mem::needs_drop::<P>()));
        self
    }

    /// What [snapshots](crate::Function::snapshot) say of a poisoned input, cut at 200 characters. Without it they name the
    /// input by its index, because what it holds may be a secret.
    ///
    /// It is called once for each poisoned input, on the thread that it crashed or on one of the engine's; if it panics, that
    /// is what is said.
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
        self.code.describe = Some(Elsewhere::new(describe, stack, std::mem::needs_drop::<D>()));
        self
    }

    /// How many crashes of its containers an input survives: 0 ..= 1000. With 0 an input that has
    /// begun in a container that then dies is never begun again; failures are still retried, if
    /// [`Builder::retries`] asks for it.
    pub fn crash_retries(mut self, crash_retries: u32) -> Self {
        self.draft.crash_retries = crash_retries;
        self
    }

    /// When crashed containers come back.
    pub fn restart(mut self, policy: impl Into<RestartPolicy>) -> Self {
        self.draft.restart = Some(policy.into());
        self
    }

    /// How many inputs of a map may be outstanding, 1 ..= 2^24, unless the map says otherwise.
    pub fn window(mut self, inputs: u64) -> Self {
        self.draft.window = Some(inputs);
        self
    }

    /// How long a worker's `exit` may take before it is abandoned.
    pub fn exit_timeout(mut self, limit: Duration) -> Self {
        self.draft.exit_timeout = limit;
        self
    }

    /// The stack of each container's thread in bytes, at least 64 KiB. Each other thread on which the engine runs the
    /// user's code has it too, but at least 2 MiB: those that pull a source, the blocking ones of an async container's
    /// runtime, helpers that a [`Scope`](crate::Scope) spawns, and those that drop what the engine holds of the user's values.
    ///
    /// Inputs that were executed are dropped by whichever thread is last to hold their chunk, a container's or the
    /// one that takes the outcomes. If more than the default is asked for here, that is never the application's, which
    /// may have a smaller stack.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.draft.stack_bytes = bytes;
        self.code.set_stack(Stack::of(bytes));
        self
    }

    /// Whether the application's panic hook hears of panics in containers.
    pub fn panic_hook(mut self, hook: PanicHook) -> Self {
        self.draft.panic_hook = hook;
        self
    }

    /// How many bytes a container may use, at least 1: what its `enter` has built and is alive, and what the
    /// attempt that executes has allocated and not freed. What earlier attempts have left (outputs, caches) does not
    /// count. It needs an [`Accountant`](crate::Accountant) as the program's global allocator.
    ///
    /// A container that uses more is killed, when it is noticed: within [a little lag](crate::Memory), at the
    /// end of the attempt at the latest. Its input is replayed, and charged for it, as by a panic, and the cause is
    /// [`Death::MemoryLimit`](crate::Death::MemoryLimit). What it is to be killed depends on the code:
    ///
    /// | code | is dropped | until then |
    /// |---|---|---|
    /// | async | at its next return from `poll`; within 4 ms if it waits | abandoned, after 4 ms |
    /// | with checkpoints | unwinds at its next [`Context::checkpoint`](crate::Context::checkpoint) | abandoned, after 4 ms if it has come by one before |
    /// | other | when it returns; what it returns is refused | abandoned |
    ///
    /// *Abandoned* is a thread that another has replaced: it is still charged for its memory, has the lowest
    /// priority where the platform knows one (Linux; after 50 ms more, if it was expected to come out), and [`Builder::abandoned_max`] bounds how many there may
    /// be. An input that has left two threads behind is not replayed again. `exit` is bounded by
    /// [`Builder::exit_timeout`] alone. Async code counts as coming out at once if its call waits, whatever a
    /// task that it has spawned does. Nothing can be done about code that overflows its stack, aborts, or really
    /// exhausts the machine's memory: it takes the process with it. So does a single allocation that the system
    /// refuses (say of 70 GB, because a damaged file claims to need it): keep a decoder's own limit as well, and set it
    /// large.
    ///
    /// ```
    /// use longshore::{App, StartError};
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.infallible("f", |n: &u64| *n).memory_limit(64 << 20).start();
    /// // This example has no accountant, and a limit that cannot be kept is refused.
    /// assert!(matches!(f, Err(StartError::NoAccountant)));
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.draft.memory_limit = Some(bytes);
        self
    }

    /// Above how many bytes left behind by its attempts a container exits between two inputs, and is entered
    /// anew: for state that grows. What the engine holds of its outputs does not count, what callers keep of
    /// them does. It needs an [`Accountant`](crate::Accountant).
    pub fn recycle_above(mut self, bytes: u64) -> Self {
        self.draft.recycle_above = Some(bytes);
        self
    }

    /// How many threads may be abandoned, at least 1: those whose generation is over (killed, or in an `exit`
    /// that took too long) and that have not returned from the user's code.
    ///
    /// When so many are, no container is created until one of them returns; those that are live go on, and may
    /// leave theirs behind as well. An input that might leave one more behind is not replayed: it ends with its
    /// crashes. If no container is left that could go on, a function whose restarts are limited gives up; one that
    /// never does waits.
    pub fn abandoned_max(mut self, threads: usize) -> Self {
        self.draft.abandoned_max = Some(threads);
        self
    }

    /// How many bytes abandoned threads may use, by the measure of [`Builder::memory_limit`]. It needs an
    /// [`Accountant`](crate::Accountant). While it is as much, inputs that might leave one more behind are not
    /// replayed, as with [`Builder::abandoned_max`]; containers are still created.
    pub fn abandoned_bytes_max(mut self, bytes: u64) -> Self {
        self.draft.abandoned_bytes_max = Some(bytes);
        self
    }

    /// Validates the settings and begins the `enter` of all containers, without waiting for them.
    ///
    /// # Errors
    ///
    /// A setting out of its range, a name that is taken, an app that has ended, a setting for memory without an
    /// [`Accountant`](crate::Accountant), a program built with `panic = "abort"`, or a call from a panicking thread or the engine's own.
    pub fn start(self) -> Result<Function<I, O, E>, StartError> {
        let Self { draft, code } = self;
        let running = Draft::start(draft, Shape::of::<I, O, E>(), Arc::new(code))?;
        Ok(Function::of(running).expect("it was started with these types"))
    }

    /// What a function that is only rehearsed is made of.
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

impl Draft {
    fn new(app: Arc<Shared>, name: &str) -> Outlined<Self> {
        Outlined::new(Self {
            app,
            name: name.into(),
            containers: None,
            retries: Retries::default(),
            crash_retries: 3,
            restart: None,
            window: None,
            exit_timeout: Duration::from_secs(5),
            stack_bytes: drops::STACK_BYTES,
            panic_hook: PanicHook::Silent,
            memory_limit: None,
            recycle_above: None,
            abandoned_max: None,
            abandoned_bytes_max: None,
        })
    }

    fn start(
        this: Outlined<Self>,
        shape: &'static Shape,
        code: Arc<dyn Code>,
    ) -> Result<Arc<Running>, StartError> {
        let accounted = is_installed();
        let asked = [this.memory_limit, this.recycle_above, this.abandoned_bytes_max];
        let (settings, default_window) = this.validate(shape, code, accounted)?;
        if !accounted && asked.iter().any(Option::is_some) {
            return Err(StartError::NoAccountant);
        }
        settings.stack().begins();
        if settings.memory.limit.is_some() {
            start_watch().map_err(StartError::Thread)?;
        }
        this.app.start(settings, default_window)
    }

    /// What the settings come to, and the window of maps that set none. `accounted` says whether what containers allocate
    /// passes an accountant.
    fn validate(
        &self,
        shape: &'static Shape,
        code: Arc<dyn Code>,
        accounted: bool,
    ) -> Result<(Settings, Window), StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        if std::thread::panicking() {
            return Err(StartError::Panicking);
        }
        let rules = self.rules()?;
        let memory = self.memory_rules(rules.containers, accounted)?;
        let default_window = match self.window {
            Some(inputs) => Window::fixed(inputs)?,
            None => Window::adaptive(shape.input.size() + shape.outcome.size()),
        };
        install_hook(Context::moment);
        let settings = Settings {
            app: Arc::clone(&self.app.name),
            function: Arc::clone(&self.name),
            id: next_function_id(),
            rules,
            shape,
            code,
            exit_timeout: self.exit_timeout,
            stack_bytes: self.stack_bytes,
            panic_hook: self.panic_hook,
            memory,
            #[cfg(feature = "testkit")]
            rehearsed: None,
        };
        Ok((settings, default_window))
    }

    fn memory_rules(&self, containers: usize, accounted: bool) -> Result<MemoryRules, ConfigError> {
        for bytes in [self.memory_limit, self.abandoned_bytes_max].into_iter().flatten() {
            if bytes == 0 {
                return Err(ConfigError::NoMemory);
            }
        }
        if self.abandoned_max == Some(0) {
            return Err(ConfigError::NoneAbandoned);
        }
        let bytes_max = |limit: u64| limit.saturating_mul(2).saturating_mul(containers as u64);
        Ok(MemoryRules {
            accounted,
            limit: self.memory_limit,
            recycle_above: self.recycle_above,
            abandoned_max: self.abandoned_max.unwrap_or(8.max(2 * containers)),
            abandoned_bytes_max: self.abandoned_bytes_max.or(self.memory_limit.map(bytes_max)),
        })
    }

    fn rules(&self) -> Result<Rules, ConfigError> {
        name_in_range(&self.app.name)?;
        name_in_range(&self.name)?;
        let parallelism = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let containers = self.containers.unwrap_or_else(|| parallelism().min(CONTAINERS_MAX));
        containers_in_range(containers)?;
        if self.crash_retries > CRASH_RETRIES_MAX {
            let crash_retries = self.crash_retries;
            return Err(ConfigError::CrashRetries { crash_retries, max: CRASH_RETRIES_MAX });
        }
        if self.stack_bytes < STACK_BYTES_MIN {
            return Err(ConfigError::StackSize { bytes: self.stack_bytes, least: STACK_BYTES_MIN });
        }
        self.retries.validate()?;
        let restart = self.restart.clone().unwrap_or_else(|| self.app.policy.clone());
        restart.validate()?;
        let (retries, crash_retries) = (self.retries.clone(), self.crash_retries);
        Ok(Rules { containers, retries, crash_retries, restart })
    }
}

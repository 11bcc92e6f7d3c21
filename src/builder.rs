//! The settings of a function, before it is started.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::app::Shared;
use crate::decide::ledger::Rules;
use crate::decide::restart::RestartPolicy;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::body::Body;
use crate::engine::unwind::{Elsewhere, PanicHook, install_hook};
use crate::error::{CONTAINERS_MAX, ConfigError, StartError, containers_in_range, name_in_range};
use crate::function::Function;
use crate::settings::{RetryIf, Settings, next_function_id};

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
/// | `crash_retries` | 3 |
/// | `restart` | that of the app |
/// | `window` | adaptive: 4 ms of measured work for each container, 1000 ..= 65 536 inputs, at most 2 MiB |
/// | `exit_timeout` | 5 s |
/// | `stack_size` | 8 MiB |
/// | `panic_hook` | silent |
#[must_use = "a function does nothing before it is started"]
pub struct Builder<I, O, E> {
    app: Arc<Shared>,
    name: Arc<str>,
    body: Elsewhere<Box<dyn Body<I, O, E>>>,
    containers: Option<usize>,
    retries: Retries,
    retry_if: Option<Elsewhere<RetryIf<E>>>,
    crash_retries: u32,
    restart: Option<RestartPolicy>,
    window: Option<u64>,
    exit_timeout: Duration,
    stack_bytes: usize,
    panic_hook: PanicHook,
}

impl<I, O, E> Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// `holds_values` says whether the body captures anything that is to be dropped.
    pub(crate) fn new(
        app: Arc<Shared>,
        name: &str,
        body: Box<dyn Body<I, O, E>>,
        holds_values: bool,
    ) -> Self {
        Self {
            app,
            name: name.into(),
            body: Elsewhere::new(body, holds_values),
            containers: None,
            retries: Retries::default(),
            retry_if: None,
            crash_retries: 3,
            restart: None,
            window: None,
            exit_timeout: Duration::from_secs(5),
            stack_bytes: 8 << 20,
            panic_hook: PanicHook::Silent,
        }
    }

    /// How many containers: 1 ..= 1024.
    pub fn containers(mut self, containers: usize) -> Self {
        self.containers = Some(containers);
        self
    }

    /// How often a failed input is run again, and after which delays. An integer is that many
    /// retries with a fixed delay of 1 s.
    pub fn retries(mut self, retries: impl Into<Retries>) -> Self {
        self.retries = retries.into();
        self
    }

    /// Which errors are worth a retry; the others surface at once. If it panics, there is no retry.
    pub fn retry_if<P>(mut self, worth: P) -> Self
    where
        P: Fn(&E) -> bool + Send + Sync + 'static,
    {
        let worth: RetryIf<E> = Box::new(worth);
        self.retry_if = Some(Elsewhere::new(worth, std::mem::needs_drop::<P>()));
        self
    }

    /// How many crashes of its containers an input survives: 0 ..= 1000. With 0 an input that has
    /// begun in a container that then dies is never begun again; failures are still retried, if
    /// [`Builder::retries`] asks for it.
    pub fn crash_retries(mut self, crash_retries: u32) -> Self {
        self.crash_retries = crash_retries;
        self
    }

    /// When crashed containers come back.
    pub fn restart(mut self, policy: impl Into<RestartPolicy>) -> Self {
        self.restart = Some(policy.into());
        self
    }

    /// How many inputs of a map may be outstanding, 1 ..= 2^24, unless the map says otherwise.
    pub fn window(mut self, inputs: u64) -> Self {
        self.window = Some(inputs);
        self
    }

    /// How long a worker's `exit` may take before it is abandoned.
    pub fn exit_timeout(mut self, limit: Duration) -> Self {
        self.exit_timeout = limit;
        self
    }

    /// The stack of each container's thread in bytes, at least 64 KiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// Whether the application's panic hook hears of panics in containers.
    pub fn panic_hook(mut self, hook: PanicHook) -> Self {
        self.panic_hook = hook;
        self
    }

    /// Validates the settings and begins the `enter` of all containers, without waiting for them.
    ///
    /// # Errors
    ///
    /// A setting out of its range, a name that is taken, an app that has ended, a program built with
    /// `panic = "abort"`, or a call from a panicking thread or the engine's own.
    pub fn start(self) -> Result<Function<I, O, E>, StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        if std::thread::panicking() {
            return Err(StartError::Panicking);
        }
        let rules = self.rules()?;
        let default_window = match self.window {
            Some(inputs) => Window::fixed(inputs)?,
            None => Window::adaptive(size_of::<I>() + size_of::<Result<O, Box<()>>>()),
        };
        install_hook();
        let settings = Settings {
            app: Arc::clone(&self.app.name),
            function: Arc::clone(&self.name),
            id: next_function_id(),
            rules,
            retry_if: self.retry_if,
            body: self.body,
            exit_timeout: self.exit_timeout,
            stack_bytes: self.stack_bytes,
            panic_hook: self.panic_hook,
        };
        self.app.register(&self.name, |engine| Function::start(engine, settings, default_window))
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
        restart.validate(containers)?;
        let (retries, crash_retries) = (self.retries.clone(), self.crash_retries);
        Ok(Rules { containers, retries, crash_retries, restart })
    }
}

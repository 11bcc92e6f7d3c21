//! The settings of a function as the user gave them, and their validation into plain data.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::api::app::AppInner;
use crate::code::context::Context;
use crate::contain::drops;
use crate::contain::outlined::{Outlined, outline};
use crate::contain::unwind::{PanicHook, install_hook};
use crate::data::shape::Shape;
use crate::decide::admission::{CALLS_MAX, CALLS_MAX_DEFAULT};
use crate::decide::ledger::{Batching, Rules};
use crate::decide::limits::LimitRules;
use crate::decide::restart::RestartPolicy;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::body::{Code, InFlight};
use crate::engine::running::Running;
use crate::engine::settings::{Settings, next_function_id};
use crate::memory::local_charge::is_installed;
use crate::memory::watch::start_watch;
use crate::values::error::{
    ACCOUNTED_INPUTS_MAX, BATCH_WAIT_MAX, CONCURRENT_INPUTS_MAX, CONTAINERS_MAX, ConfigError, IN_FLIGHT_MAX,
    StartError, containers_in_range, name_in_range,
};

/// The largest number of crash retries.
const CRASH_RETRIES_MAX: u32 = 1000;
/// The smallest stack in bytes, because formatting the message of a panic needs a few pages.
const STACK_BYTES_MIN: usize = 64 * 1024;

/// The settings as the user gave them. They do not depend on the function's types.
pub(super) struct Draft {
    pub(super) app: Arc<AppInner>,
    pub(super) name: Arc<str>,
    pub(super) containers: Option<usize>,
    pub(super) concurrent_inputs: usize,
    pub(super) batch_size: Option<usize>,
    pub(super) batch_wait: Option<Duration>,
    pub(super) retries: Retries,
    pub(super) crash_retries: u32,
    pub(super) limits: LimitRules,
    pub(super) keep_interrupted: bool,
    pub(super) restart: Option<RestartPolicy>,
    pub(super) window: Option<u64>,
    pub(super) calls_max: u64,
    pub(super) exit_timeout: Duration,
    pub(super) stack_bytes: usize,
    pub(super) panic_hook: PanicHook,
    pub(super) memory_limit: Option<u64>,
    pub(super) recycle_above: Option<u64>,
    pub(super) abandoned_max: Option<usize>,
    pub(super) abandoned_bytes_max: Option<u64>,
}

outline!(Draft);

impl Draft {
    pub(super) fn new(app: Arc<AppInner>, name: &str) -> Outlined<Self> {
        Outlined::new(Self {
            app,
            name: name.into(),
            containers: None,
            concurrent_inputs: 1,
            batch_size: None,
            batch_wait: None,
            retries: Retries::default(),
            crash_retries: 3,
            limits: LimitRules::default(),
            keep_interrupted: false,
            restart: None,
            window: None,
            calls_max: CALLS_MAX_DEFAULT,
            exit_timeout: Duration::from_secs(5),
            stack_bytes: drops::STACK_BYTES,
            panic_hook: PanicHook::Silent,
            memory_limit: None,
            recycle_above: None,
            abandoned_max: None,
            abandoned_bytes_max: None,
        })
    }

    pub(super) fn start(
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

    /// Turns the settings into plain data, with the window of maps that set none. `accounted` says whether
    /// the allocations of containers pass through an accountant.
    pub(super) fn validate(
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
        let rules = self.rules(&*code)?;
        let memory = self.memory_rules(rules.containers, accounted)?;
        let default_window = match self.window {
            Some(inputs) => Window::fixed(inputs)?,
            None => {
                let bytes = shape.input.size() + shape.outcome.size();
                Window::adaptive(bytes, rules.containers as u64 * rules.in_flight())
            }
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
            keep_interrupted: self.keep_interrupted,
            stack_bytes: self.stack_bytes,
            panic_hook: self.panic_hook,
            memory,
            viewers: Arc::clone(&self.app.viewers),
        };
        Ok((settings, default_window))
    }

    fn rules(&self, code: &dyn Code) -> Result<Rules, ConfigError> {
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
        if !(1..=CALLS_MAX).contains(&self.calls_max) {
            return Err(ConfigError::CallsMax { calls_max: self.calls_max, max: CALLS_MAX });
        }
        self.retries.validate()?;
        self.limits.validate()?;
        let restart = self.restart.clone().unwrap_or_else(|| self.app.policy.clone());
        restart.validate()?;
        let (retries, crash_retries) = (self.retries.clone(), self.crash_retries);
        let (lanes, has_state) = (self.lanes(containers, code)?, code.has_state());
        let (batch, calls_max) = (self.batching(containers, code)?, self.calls_max);
        let limits = self.limits;
        Ok(Rules { containers, lanes, has_state, batch, retries, crash_retries, restart, calls_max, limits })
    }

    /// The number of inputs that each of `containers` containers has in flight.
    fn lanes(&self, containers: usize, code: &dyn Code) -> Result<u32, ConfigError> {
        let inputs = self.concurrent_inputs;
        let max = if self.memory_limit.is_some() { ACCOUNTED_INPUTS_MAX } else { CONCURRENT_INPUTS_MAX };
        if !(1..=max).contains(&inputs) {
            return Err(ConfigError::ConcurrentInputs { inputs, max });
        }
        if inputs > 1
            && let Some(instead) = match code.in_flight() {
                InFlight::Many => None,
                InFlight::One(instead) => Some(instead),
                InFlight::Batch => Some("code of batches executes one batch at a time; use batch_size"),
            }
        {
            return Err(ConfigError::OneAtATime { inputs, instead });
        }
        if containers * inputs > IN_FLIGHT_MAX {
            return Err(ConfigError::InFlight { containers, inputs, max: IN_FLIGHT_MAX });
        }
        Ok(u32::try_from(inputs).expect("it is at most 65 536"))
    }

    /// How the inputs of batch code form batches. `None` for other code.
    fn batching(&self, containers: usize, code: &dyn Code) -> Result<Option<Batching>, ConfigError> {
        if code.in_flight() != InFlight::Batch {
            let described = self.batch_size.is_some() || self.batch_wait.is_some();
            return if described { Err(ConfigError::NotBatched) } else { Ok(None) };
        }
        let size = self.batch_size.ok_or(ConfigError::NoBatchSize)?;
        if !(1..=CONCURRENT_INPUTS_MAX).contains(&size) {
            return Err(ConfigError::BatchSize { size, max: CONCURRENT_INPUTS_MAX });
        }
        if containers * size > IN_FLIGHT_MAX {
            return Err(ConfigError::InFlight { containers, inputs: size, max: IN_FLIGHT_MAX });
        }
        let wait = self.batch_wait.unwrap_or_default();
        if wait > BATCH_WAIT_MAX {
            return Err(ConfigError::BatchWait { wait, limit: BATCH_WAIT_MAX });
        }
        Ok(Some(Batching { size: size as u64, wait }))
    }
}

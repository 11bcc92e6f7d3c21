//! The errors with which a configuration or the start of a function is refused.

use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use crate::values::gave_up::GaveUp;

/// A fault of the engine itself. Please report it: no use of this crate should cause one.
#[derive(Debug, Clone)]
pub struct Bug(pub(crate) Arc<str>);

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A setting that is out of its range. The text names the value and the bound.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The backoff coefficient of the retries is not a number from 1 to 10.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    BackoffCoefficient { coefficient: f64 },
    /// The longest retry delay is zero or above the limit.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    RetryMaxDelay { max_delay: Duration, limit: Duration },
    /// The first retry delay is longer than the longest retry delay.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    RetryInitialDelay { initial_delay: Duration, max_delay: Duration },
    /// The number of containers is outside 1 ..= `max`.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    Containers { containers: usize, max: usize },
    /// The number of inputs that a container has in flight is outside 1 ..= `max`. With a memory limit `max`
    /// is lower, because each input in flight has an account of its own.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    ConcurrentInputs { inputs: usize, max: usize },
    /// The containers of the function would have more than `max` inputs in flight together.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    InFlight { containers: usize, inputs: usize, max: usize },
    /// The code of the function executes one input at a time. `instead` says which code can have several in
    /// flight.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    OneAtATime { inputs: usize, instead: &'static str },
    /// The function executes batches, and [`Builder::batch_size`](crate::Builder::batch_size) was not set.
    NoBatchSize,
    /// The function does not execute batches, and a batch was described. [`App::batch`](crate::App::batch)
    /// and [`App::batch_worker`](crate::App::batch_worker) make functions that do.
    NotBatched,
    /// The largest number of inputs of a batch is outside 1 ..= `max`.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    BatchSize { size: usize, max: usize },
    /// A batch would wait for longer than the limit.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    BatchWait { wait: Duration, limit: Duration },
    /// The window of a map is outside 1 ..= `max`.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    Window { window: u64, max: u64 },
    /// The crash retries are above `max`.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    CrashRetries { crash_retries: u32, max: u32 },
    /// The failure rate is not a number from 0 to below 1. A rate of 1 or more could never be exceeded.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    FailureRate { max_failure_rate: f64 },
    /// The sliding window of the rate limit is zero or above a day.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    CrashWindow { window: Duration, limit: Duration },
    /// The delays between rounds of failed starts add up to more than the window. Failed starts alone would
    /// then never exceed `max_crashes`, however many containers fail.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    LimitUnreachable { max_crashes: u32, delays: Duration, window: Duration },
    /// The first backoff delay is zero. Containers would restart without a pause.
    ZeroBackoff,
    /// The longest backoff delay is shorter than the first.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    BackoffMax { initial: Duration, max: Duration },
    /// The time after which the backoff is reset is shorter than twice the first delay.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    ResetAfter { reset_after: Duration, least: Duration },
    /// The stack of a container is smaller than `least` bytes.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    StackSize { bytes: usize, least: usize },
    /// A memory setting is zero bytes. Nothing could be allocated.
    NoMemory,
    /// The number of threads that may be abandoned is zero. No container could be created.
    NoneAbandoned,
    /// The number of calls without an outcome is outside 1 ..= `max`.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    CallsMax { calls_max: u64, max: u64 },
    /// The limit of time named `setting` is outside `min` ..= `max`.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    TimeLimit { setting: &'static str, limit: Duration, min: Duration, max: Duration },
    /// A name is empty, is longer than `max` bytes, or holds a NUL.
    #[expect(missing_docs, reason = "the variant's sentence names its numbers")]
    Name { name: String, max: usize },
}

/// The largest number of containers of a function.
pub(crate) const CONTAINERS_MAX: usize = 1024;

/// The largest number of inputs that a container has in flight.
pub(crate) const CONCURRENT_INPUTS_MAX: usize = 65_536;

/// The same, if the memory of each of them is limited.
pub(crate) const ACCOUNTED_INPUTS_MAX: usize = 4_096;

/// The longest time that a batch may wait for more inputs.
pub(crate) const BATCH_WAIT_MAX: Duration = Duration::from_secs(600);

/// The largest number of inputs that a function has in flight.
pub(crate) const IN_FLIGHT_MAX: usize = 1 << 20;

/// Refuses a number of containers that is out of its range.
pub(crate) fn containers_in_range(containers: usize) -> Result<(), ConfigError> {
    if (1..=CONTAINERS_MAX).contains(&containers) {
        return Ok(());
    }
    Err(ConfigError::Containers { containers, max: CONTAINERS_MAX })
}

/// The length of the longest name, which is limited because names become parts of thread names.
const NAME_BYTES_MAX: usize = 255;

/// Refuses a name that an app, a function or a map must not have.
pub(crate) fn name_in_range(name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(ConfigError::Name { name: name.to_owned(), max: NAME_BYTES_MAX });
    }
    Ok(())
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackoffCoefficient { coefficient } => {
                write!(f, "backoff coefficient {coefficient} is outside 1.0..=10.0")
            }
            Self::RetryMaxDelay { max_delay, limit } => {
                write!(f, "max_delay of {max_delay:?} is outside 1ns..={limit:?}")
            }
            Self::RetryInitialDelay { initial_delay, max_delay } => {
                write!(f, "initial_delay of {initial_delay:?} exceeds max_delay of {max_delay:?}")
            }
            Self::Containers { containers, max } => {
                write!(f, "{containers} containers are outside 1..={max}")
            }
            Self::ConcurrentInputs { inputs, max } => {
                write!(f, "{inputs} concurrent inputs are outside 1..={max}")
            }
            Self::InFlight { containers, inputs, max } => write!(
                f,
                "{containers} containers with {inputs} inputs at once each would have more than {max} in flight"
            ),
            Self::OneAtATime { inputs, instead } => {
                write!(f, "{inputs} concurrent inputs are not possible: {instead}")
            }
            Self::NoBatchSize => write!(f, "a function of batches needs a batch_size"),
            Self::NotBatched => {
                write!(
                    f,
                    "the function executes no batches; use App::batch, App::batch_async or App::batch_worker"
                )
            }
            Self::BatchSize { size, max } => write!(f, "batch_size of {size} is outside 1..={max}"),
            Self::BatchWait { wait, limit } => write!(f, "batch_wait of {wait:?} is above {limit:?}"),
            Self::Window { window, max } => write!(f, "window of {window} is outside 1..={max}"),
            Self::CrashRetries { crash_retries, max } => {
                write!(f, "{crash_retries} crash retries are above {max}")
            }
            Self::FailureRate { max_failure_rate } => {
                write!(f, "max_failure_rate of {max_failure_rate} is outside 0.0..1.0")
            }
            Self::CrashWindow { window, limit } => {
                write!(f, "crash window of {window:?} is outside 1ns..={limit:?}")
            }
            Self::LimitUnreachable { max_crashes, delays, window } => write!(
                f,
                "the delays between more than {max_crashes} rounds of failed starts add up to {delays:?}, which \
                 exceeds the window of {window:?}, so failed starts alone could never exceed the limit"
            ),
            Self::ZeroBackoff => write!(f, "initial backoff of 0ns would restart without pause"),
            Self::BackoffMax { initial, max } => {
                write!(f, "max backoff of {max:?} is below the initial {initial:?}")
            }
            Self::ResetAfter { reset_after, least } => {
                write!(f, "reset_after of {reset_after:?} is below {least:?}, twice the initial backoff")
            }
            Self::StackSize { bytes, least } => {
                write!(f, "stack of {bytes} bytes is below {least}")
            }
            Self::NoMemory => write!(f, "a memory setting of 0 bytes allows no allocation"),
            Self::NoneAbandoned => write!(f, "abandoned_max of 0 is below 1"),
            Self::CallsMax { calls_max, max } => write!(f, "calls_max of {calls_max} is outside 1..={max}"),
            Self::TimeLimit { setting, limit, min, max } => {
                write!(f, "{setting} of {limit:?} is outside {min:?}..={max:?}")
            }
            Self::Name { name, max } => {
                let len = name.len();
                write!(f, "name {name:?} has {len} bytes, but must have 1..={max} bytes and no NUL")
            }
        }
    }
}

impl error::Error for ConfigError {}

/// The reason why a function was not started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its range. This error shows the text of the setting's error.
    Config(ConfigError),
    /// The program is built with `panic = "abort"`. No container could survive a panic.
    PanicAbort,
    /// The calling thread is panicking.
    Panicking,
    /// A memory setting needs `longshore::Accountant` as the program's global allocator, and it is not.
    NoAccountant,
    /// The app already has a function with this name.
    NameTaken(String),
    /// The app was shut down.
    ShutDown,
    /// The call was made on the engine's own thread, and would wait for itself.
    WouldDeadlock,
    /// A thread could not be made.
    Thread(std::io::Error),
    /// The engine did not answer.
    Engine,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::PanicAbort => {
                write!(f, "built with panic = \"abort\", under which no container survives a panic")
            }
            Self::Panicking => write!(f, "the calling thread is panicking"),
            Self::NoAccountant => {
                write!(f, "a memory setting needs longshore::Accountant as the #[global_allocator]")
            }
            Self::NameTaken(name) => write!(f, "the app already has a function named {name:?}"),
            Self::ShutDown => write!(f, "the app is shut down"),
            Self::WouldDeadlock => write!(f, "called on the engine's own thread"),
            Self::Thread(_) => write!(f, "a thread could not be made"),
            Self::Engine => write!(f, "the engine did not answer"),
        }
    }
}

impl error::Error for StartError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Thread(error) => Some(error),
            // This error already shows the text of the setting's error.
            Self::Config(_) => None,
            Self::PanicAbort
            | Self::Panicking
            | Self::NoAccountant
            | Self::NameTaken(_)
            | Self::ShutDown
            | Self::WouldDeadlock
            | Self::Engine => None,
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The reason why a function has no live container.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NotReady {
    /// The function gave up. The value holds the first crashes and the crash that exceeded the limit.
    GaveUp(GaveUp),
    /// The function is being drained, stopped or aborted.
    ShutDown,
    /// The call would wait for itself, because it was made on the engine's thread or in a container
    /// of the same function.
    WouldDeadlock,
    /// The engine is broken.
    Engine(Bug),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp(_) => write!(f, "the function gave up"),
            Self::ShutDown => write!(f, "the function is shut down"),
            Self::WouldDeadlock => write!(f, "the call would wait for itself"),
            Self::Engine(bug) => write!(f, "a fault of the engine: {bug}"),
        }
    }
}

impl error::Error for NotReady {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::GaveUp(gave_up) => Some(gave_up),
            Self::ShutDown | Self::WouldDeadlock | Self::Engine(_) => None,
        }
    }
}

/// The reason why an app does not end on a signal. It needs the feature `signal`.
#[cfg(feature = "signal")]
#[derive(Debug)]
#[non_exhaustive]
pub enum SignalError {
    /// The handlers could not be installed.
    Install(std::io::Error),
    /// The thread that waits for the signals could not be made.
    Thread(std::io::Error),
}

#[cfg(feature = "signal")]
impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install(_) => write!(f, "the handlers of signals could not be installed"),
            Self::Thread(_) => write!(f, "a thread could not be made"),
        }
    }
}

#[cfg(feature = "signal")]
impl error::Error for SignalError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Install(error) | Self::Thread(error) => Some(error),
        }
    }
}

/// The reason why a function gives no [`Permit`](crate::Permit).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReserveError {
    /// There is no room now. Only [`try_reserve`](crate::Function::try_reserve) fails so.
    Overloaded {
        /// The number of calls without an outcome, with the permits that are not used.
        calls: u64,
        /// The largest number of them.
        max: u64,
    },
    /// The function gave up. The value holds the first crashes and the crash that exceeded the limit.
    GaveUp(GaveUp),
    /// The function is being drained, stopped or aborted, or has ended.
    ShutDown,
    /// The wait would be for itself, because it was begun on the engine's thread or in a container of the
    /// same function.
    WouldDeadlock,
    /// The engine is broken.
    Engine(Bug),
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded { calls, max } => {
                write!(f, "{calls} of at most {max} calls are without an outcome")
            }
            Self::GaveUp(_) => write!(f, "the function gave up"),
            Self::ShutDown => write!(f, "the function is shut down"),
            Self::WouldDeadlock => write!(f, "the call would wait for itself"),
            Self::Engine(bug) => write!(f, "a fault of the engine: {bug}"),
        }
    }
}

impl error::Error for ReserveError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::GaveUp(gave_up) => Some(gave_up),
            Self::Overloaded { .. } | Self::ShutDown | Self::WouldDeadlock | Self::Engine(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ContainerId, Generation};
    use crate::values::crash::{Crash, Death};
    use std::error::Error;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_refused_setting_shows_its_numbers() {
        let (limit, least) = (2 * SECOND, 4 * SECOND);
        let texts = [
            (
                ConfigError::BackoffCoefficient { coefficient: 0.5 },
                "backoff coefficient 0.5 is outside 1.0..=10.0",
            ),
            (
                ConfigError::RetryMaxDelay { max_delay: Duration::ZERO, limit },
                "max_delay of 0ns is outside 1ns..=2s",
            ),
            (
                ConfigError::RetryInitialDelay { initial_delay: 3 * SECOND, max_delay: SECOND },
                "initial_delay of 3s exceeds max_delay of 1s",
            ),
            (ConfigError::Containers { containers: 0, max: 1024 }, "0 containers are outside 1..=1024"),
            (ConfigError::Window { window: 0, max: 8 }, "window of 0 is outside 1..=8"),
            (
                ConfigError::CrashRetries { crash_retries: 1001, max: 1000 },
                "1001 crash retries are above 1000",
            ),
            (
                ConfigError::FailureRate { max_failure_rate: 1.5 },
                "max_failure_rate of 1.5 is outside 0.0..1.0",
            ),
            (
                ConfigError::CrashWindow { window: 3 * SECOND, limit },
                "crash window of 3s is outside 1ns..=2s",
            ),
            (
                ConfigError::LimitUnreachable { max_crashes: 67, delays: 61 * SECOND, window: 60 * SECOND },
                "the delays between more than 67 rounds of failed starts add up to 61s, which exceeds the window of \
                 60s, so failed starts alone could never exceed the limit",
            ),
            (ConfigError::ZeroBackoff, "initial backoff of 0ns would restart without pause"),
            (
                ConfigError::BackoffMax { initial: 2 * SECOND, max: SECOND },
                "max backoff of 1s is below the initial 2s",
            ),
            (
                ConfigError::ResetAfter { reset_after: SECOND, least },
                "reset_after of 1s is below 4s, twice the initial backoff",
            ),
            (ConfigError::StackSize { bytes: 1, least: 4096 }, "stack of 1 bytes is below 4096"),
            (ConfigError::NoMemory, "a memory setting of 0 bytes allows no allocation"),
            (ConfigError::NoneAbandoned, "abandoned_max of 0 is below 1"),
            (ConfigError::CallsMax { calls_max: 0, max: 8 }, "calls_max of 0 is outside 1..=8"),
            (
                ConfigError::TimeLimit {
                    setting: "timeout",
                    limit: Duration::ZERO,
                    min: Duration::from_millis(1),
                    max: Duration::from_secs(9),
                },
                "timeout of 0ns is outside 1ms..=9s",
            ),
            (
                ConfigError::Name { name: "a\0".to_owned(), max: 255 },
                r#"name "a\0" has 2 bytes, but must have 1..=255 bytes and no NUL"#,
            ),
        ];
        for (refused, text) in texts {
            assert_eq!(refused.to_string(), text);
            let start = StartError::from(refused);
            assert_eq!((start.to_string().as_str(), start.source().is_none()), (text, true), "its own words");
        }
    }

    #[test]
    fn each_refused_start_has_its_words_and_a_thread_that_was_not_made_its_source() {
        let texts = [
            (StartError::PanicAbort, "panic = \"abort\""),
            (StartError::Panicking, "the calling thread is panicking"),
            (StartError::NoAccountant, "longshore::Accountant"),
            (StartError::NameTaken("f".to_owned()), "a function named \"f\""),
            (StartError::ShutDown, "the app is shut down"),
            (StartError::WouldDeadlock, "the engine's own thread"),
            (StartError::Thread(std::io::Error::other("too many")), "a thread could not be made"),
            (StartError::Engine, "the engine did not answer"),
        ];
        for (refused, words) in texts {
            assert!(refused.to_string().contains(words), "{refused} without {words}");
            let source = refused.source().map(ToString::to_string);
            let known = matches!(refused, StartError::Thread(_)).then(|| "too many".to_owned());
            assert_eq!(source, known, "{refused}");
        }
    }

    #[test]
    fn each_reason_not_to_be_ready_has_its_words() {
        let texts = [
            (NotReady::ShutDown, "the function is shut down"),
            (NotReady::WouldDeadlock, "the call would wait for itself"),
            (NotReady::Engine(Bug("lost".into())), "a fault of the engine: lost"),
        ];
        for (reason, text) in texts {
            assert_eq!((reason.to_string().as_str(), reason.source().is_none()), (text, true));
        }
        let crash = Crash {
            container: ContainerId(0),
            generation: Generation(1),
            executing: None,
            map: None,
            call: None,
            peak_bytes: None,
            death: Death::Killed,
        };
        let gave_up = GaveUp::new(Vec::new(), Arc::new(crash));
        let reason = NotReady::GaveUp(gave_up.clone());
        assert_eq!(reason.to_string(), "the function gave up");
        assert_eq!(reason.source().map(ToString::to_string), Some(gave_up.to_string()));
    }

    #[test]
    fn each_reason_why_there_is_no_permit_has_its_words() {
        let texts = [
            (ReserveError::Overloaded { calls: 3, max: 4 }, "3 of at most 4 calls are without an outcome"),
            (ReserveError::ShutDown, "the function is shut down"),
            (ReserveError::WouldDeadlock, "the call would wait for itself"),
            (ReserveError::Engine(Bug("a bug".into())), "a fault of the engine: a bug"),
        ];
        for (reason, text) in texts {
            assert_eq!(reason.to_string(), text);
            assert!(reason.source().is_none());
        }
    }

    #[cfg(feature = "signal")]
    #[test]
    fn each_reason_why_there_is_no_end_on_a_signal_has_its_words() {
        let io = || std::io::Error::other("too many");
        let texts = [
            (SignalError::Install(io()), "the handlers of signals could not be installed"),
            (SignalError::Thread(io()), "a thread could not be made"),
        ];
        for (reason, text) in texts {
            assert_eq!(reason.to_string(), text);
            assert_eq!(reason.source().map(ToString::to_string), Some("too many".to_owned()));
        }
    }

    #[test]
    fn the_bounds_of_containers_and_names_are_taken_and_what_is_outside_is_refused() {
        for (containers, taken) in [(0, false), (1, true), (1024, true), (1025, false)] {
            assert_eq!(containers_in_range(containers).is_ok(), taken, "{containers}");
        }
        let (longest, longer) = ("n".repeat(255), "n".repeat(256));
        for (name, taken) in [("", false), ("n", true), (&longest, true), (&longer, false), ("n\0", false)] {
            assert_eq!(name_in_range(name).is_ok(), taken, "{name:?}");
        }
    }
}

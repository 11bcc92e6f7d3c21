//! An outcome that is an error. It holds the index of the input, the input itself, and the cause.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::contain::unwind::Contained;
use crate::data::chunk::{Reclaimed, SharedInput};
use crate::values::crash::{Crash, Panic};
use crate::values::error::ConfigError;
use crate::values::gave_up::GaveUp;

pub use crate::values::error::Bug;

/// The cause of the failure of an input or of a whole map.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause<E> {
    /// The function returned this error in the last attempt.
    Failed(E),
    /// The input crashed its containers too often. Holds the deaths, oldest first, at most 8 of them.
    Poisoned(Vec<Arc<Crash>>),
    /// The container was killed by hand while the input executed, and the input is not begun again. This
    /// happens to every such input with `crash_retries(0)`, and otherwise to an input that has left two
    /// threads behind or would leave one too many.
    Lost(Arc<Crash>),
    /// The function gave up. The value holds the first crashes and the crash that exceeded the limit.
    GaveUp(GaveUp),
    /// The source of the map panicked. Such a failure has no input.
    Source(Panic),
    /// The last attempt took longer than the [timeout](crate::Builder::timeout) of the function, map or call.
    TimedOut {
        /// The timeout.
        limit: Duration,
    },
    /// The [deadline](crate::Builder::deadline) of the input has passed, or would have passed before its next
    /// attempt.
    DeadlineExceeded {
        /// The time from the acceptance of the input to its deadline.
        limit: Duration,
        /// The error of the last attempt that has failed with one.
        last: Option<E>,
    },
    /// The map was cancelled before the input had an outcome.
    Cancelled,
    /// The function is being drained, stopped or aborted.
    ShutDown,
    /// A blocking call was made on the engine's thread, or in a container of the same function.
    WouldDeadlock,
    /// The code of the input's batch returned a vector whose length is not the number of inputs, so that it
    /// is not known which outcome belongs to which input. This happens to every input of the batch, and none
    /// is retried.
    BatchLength {
        /// The number of inputs of the batch.
        inputs: usize,
        /// The number of outcomes that the code returned.
        outcomes: usize,
    },
    /// The call was refused, because the function had as many calls without an outcome as it may have: see
    /// [`Builder::calls_max`](crate::Builder::calls_max).
    Overloaded {
        /// The number of calls without an outcome, with the [permits](crate::Permit) that were not used.
        calls: u64,
        /// The largest number of them.
        max: u64,
    },
    /// The map's window is out of its range.
    Config(ConfigError),
    /// The engine is broken.
    Engine(Bug),
}

/// The cause of a failure that is no error of the function: a [`Cause`] without the type of
/// the function's errors.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    Poisoned(Vec<Arc<Crash>>),
    Lost(Arc<Crash>),
    GaveUp(GaveUp),
    Source(Panic),
    TimedOut { limit: Duration },
    DeadlineExceeded { limit: Duration },
    Cancelled,
    ShutDown,
    WouldDeadlock,
    BatchLength { inputs: usize, outcomes: usize },
    Overloaded { calls: u64, max: u64 },
    Config(ConfigError),
    Engine(Bug),
}

impl<E> From<Reason> for Cause<E> {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Poisoned(deaths) => Self::Poisoned(deaths),
            Reason::Lost(crash) => Self::Lost(crash),
            Reason::GaveUp(gave_up) => Self::GaveUp(gave_up),
            Reason::Source(panic) => Self::Source(panic),
            Reason::TimedOut { limit } => Self::TimedOut { limit },
            Reason::DeadlineExceeded { limit } => Self::DeadlineExceeded { limit, last: None },
            Reason::Cancelled => Self::Cancelled,
            Reason::ShutDown => Self::ShutDown,
            Reason::WouldDeadlock => Self::WouldDeadlock,
            Reason::BatchLength { inputs, outcomes } => Self::BatchLength { inputs, outcomes },
            Reason::Overloaded { calls, max } => Self::Overloaded { calls, max },
            Reason::Config(error) => Self::Config(error),
            Reason::Engine(bug) => Self::Engine(bug),
        }
    }
}

/// An outcome that is an error.
///
/// A failure is one pointer wide, so that `Result<u64, Failure<..>>` takes 16 bytes. It gives the input back,
/// so that dead letters need no bookkeeping. A panic in the `Drop` of the input or of the error is contained.
///
/// ```
/// use longshore::{App, Failure};
///
/// let app = App::ephemeral("docs");
/// let halve = app.function("halve", |n: &u32| if n % 2 == 0 { Ok(n / 2) } else { Err("odd") }).start()?;
/// let failure: Failure<u32, &str> = halve.run(vec![2, 3]).unwrap_err();
/// assert_eq!(failure.index(), Some(1));
/// assert_eq!(failure.input(), Some(&3));
/// assert_eq!(failure.error(), Some(&"odd"));
/// # Ok::<(), longshore::StartError>(())
/// ```
pub struct Failure<I, E>(Box<FailureInner<I, E>>);

/// The user's values are dropped separately, because two panics in their `Drop` would end the process.
struct FailureInner<I, E> {
    /// The index and the input. `None` if the map as a whole failed.
    input: Option<(u64, Contained<Reclaimed<I>>)>,
    tried: Tried,
    cause: Contained<Cause<E>>,
}

/// The attempts at an input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried {
    pub(crate) attempts: u32,
    /// The deaths that the input caused, oldest first. Empty if the cause itself holds them.
    pub(crate) deaths: Vec<Arc<Crash>>,
    /// The most bytes that the last attempt used, if it failed and its memory is accounted for.
    pub(crate) peak_bytes: Option<u64>,
}

impl From<u32> for Tried {
    fn from(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }
}

/// The input of a failure, returned to the caller.
#[derive(Debug)]
#[non_exhaustive]
pub enum Returned<I> {
    /// The input itself.
    Owned(I),
    /// A shared handle, because an abandoned attempt may still read the input.
    Shared(SharedInput<I>),
}

impl<I> Returned<I> {
    /// The input itself, or `None` if an abandoned attempt may still read it.
    pub fn owned(self) -> Option<I> {
        match self {
            Self::Owned(input) => Some(input),
            Self::Shared(_) => None,
        }
    }
}

impl<I, E> Failure<I, E> {
    pub(crate) fn of_input(index: u64, input: Reclaimed<I>, tried: Tried, cause: Cause<E>) -> Self {
        Self(Box::new(FailureInner {
            input: Some((index, Contained::new(input))),
            tried,
            cause: Contained::new(cause),
        }))
    }

    /// The failure of an input that was refused before it began.
    pub(crate) fn of_refused(input: I, reason: Reason) -> Self {
        Self::of_input(0, Reclaimed::Owned(input), 0.into(), reason.into())
    }

    pub(crate) fn of_map(reason: Reason) -> Self {
        Self(Box::new(FailureInner { input: None, tried: 0.into(), cause: Contained::new(reason.into()) }))
    }

    /// The index of the input in its map, from 0. `None` if the map as a whole failed.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.0.input.as_ref().map(|(index, _)| *index)
    }

    /// The input that failed.
    #[must_use]
    pub fn input(&self) -> Option<&I> {
        match self.0.input.as_ref()?.1.get() {
            Reclaimed::Owned(input) => Some(input),
            Reclaimed::Shared(input) => Some(input),
        }
    }

    /// Returns the input that failed.
    #[must_use]
    pub fn into_input(self) -> Option<Returned<I>> {
        match self.0.input?.1.into_inner() {
            Reclaimed::Owned(input) => Some(Returned::Owned(input)),
            Reclaimed::Shared(input) => Some(Returned::Shared(input)),
        }
    }

    /// The number of times that the input was executed. 0 if it never began.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.tried.attempts
    }

    /// Peak memory, in bytes, of the last attempt (the one that failed, or the last that crashed), including
    /// what `enter` had allocated. `None` unless an [`Accountant`](crate::Accountant) is installed.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        match self.cause() {
            Cause::Poisoned(deaths) => deaths.last()?.peak_bytes,
            Cause::Lost(crash) => crash.peak_bytes,
            _ => self.0.tried.peak_bytes,
        }
    }

    /// The cause of the failure.
    #[must_use]
    pub fn cause(&self) -> &Cause<E> {
        self.0.cause.get()
    }

    /// Returns the cause of the failure.
    #[must_use]
    pub fn into_cause(self) -> Cause<E> {
        self.0.cause.into_inner()
    }

    /// The user's error, if the function returned one: in the last attempt, or before the deadline passed.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        match self.cause() {
            Cause::Failed(error) => Some(error),
            Cause::DeadlineExceeded { last, .. } => last.as_ref(),
            _ => None,
        }
    }

    /// All deaths of containers that led to this failure, each once, whatever its cause. The deaths that the
    /// input itself caused come first, oldest first and at most 8 of them. The death with which the input was
    /// lost, or the deaths for which the function gave up, come after them.
    pub fn deaths(&self) -> impl Iterator<Item = &Arc<Crash>> {
        let (own, others): (&[_], Vec<_>) = match self.cause() {
            Cause::Poisoned(deaths) => (deaths, Vec::new()),
            Cause::Lost(crash) => (&self.0.tried.deaths, vec![crash]),
            Cause::GaveUp(gave_up) => (&self.0.tried.deaths, gave_up.deaths().collect()),
            _ => (&self.0.tried.deaths, Vec::new()),
        };
        let is_own = |crash: &Arc<Crash>| own.iter().any(|known| Arc::ptr_eq(known, crash));
        own.iter().chain(others.into_iter().filter(move |crash| !is_own(crash)))
    }

    /// Whether the input crashed its containers too often.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self.cause(), Cause::Poisoned(_))
    }

    /// Whether the last attempt took longer than its [timeout](crate::Builder::timeout).
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self.cause(), Cause::TimedOut { .. })
    }

    /// Whether the [deadline](crate::Builder::deadline) of the input has passed, or would have passed before
    /// its next attempt.
    #[must_use]
    pub fn is_past_deadline(&self) -> bool {
        matches!(self.cause(), Cause::DeadlineExceeded { .. })
    }

    /// Whether the function gave up.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(self.cause(), Cause::GaveUp(_))
    }

    /// Whether the call was refused because too many calls were without an outcome.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        matches!(self.cause(), Cause::Overloaded { .. })
    }

    /// Whether the function is being drained, stopped or aborted.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(self.cause(), Cause::ShutDown)
    }
}

impl<I, E: fmt::Debug> fmt::Debug for Failure<I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("index", &self.index())
            .field("attempts", &self.attempts())
            .field("cause", self.cause())
            .finish_non_exhaustive()
    }
}

/// A number of attempts, written out.
struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => write!(f, "1 attempt"),
            n => write!(f, "{n} attempts"),
        }
    }
}

/// One line that names the input or the map, what happened to it, and the cause: the returned error, the last
/// death, or the panic of the source. A returned error is shown by its alternate form (`{:#}`), which shows
/// the whole chain of an `anyhow::Error`.
///
/// ```
/// use longshore::App;
///
/// let app = App::ephemeral("docs");
/// let small = |n: &u32| if *n < 9 { Ok(*n) } else { Err(format!("{n} is too large")) };
/// let f = app.function("small", small).start()?;
/// let failure = f.run(vec![8, 9]).unwrap_err();
/// assert_eq!(failure.to_string(), "input 1 failed after 1 attempt: 9 is too large");
/// # Ok::<(), longshore::StartError>(())
/// ```
impl<I, E: fmt::Display> fmt::Display for Failure<I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            Some(index) => write!(f, "input {index} ")?,
            None => write!(f, "the map ")?,
        }
        let attempts = Attempts(self.attempts());
        match self.cause() {
            Cause::Failed(error) => write!(f, "failed after {attempts}: {}", OneLine(format!("{error:#}"))),
            Cause::Poisoned(deaths) => match deaths.last() {
                Some(crash) => write!(f, "is poisoned after {attempts}: {}", OneLine::of_crash(crash)),
                None => write!(f, "is poisoned after {attempts}"),
            },
            Cause::Lost(crash) => write!(f, "was lost with its container: {}", OneLine::of_crash(crash)),
            Cause::GaveUp(gave_up) => {
                write!(f, "failed because the function gave up: {}", OneLine(gave_up.in_full().to_string()))
            }
            Cause::Source(panic) => write!(f, "ended because its source {}", OneLine(panic.to_string())),
            Cause::TimedOut { limit } => write!(f, "timed out after {attempts}: the limit is {limit:?}"),
            Cause::DeadlineExceeded { limit, last: None } => {
                write!(f, "has no outcome {limit:?} after it was accepted, after {attempts}")
            }
            Cause::DeadlineExceeded { limit, last: Some(error) } => {
                write!(f, "has no outcome {limit:?} after it was accepted, after {attempts}: ")?;
                write!(f, "{}", OneLine(format!("{error:#}")))
            }
            Cause::Cancelled => write!(f, "was cancelled"),
            Cause::ShutDown => write!(f, "ended because the function is shut down"),
            Cause::WouldDeadlock => write!(f, "would deadlock: called on the engine or the same function"),
            Cause::BatchLength { inputs, outcomes } => {
                write!(f, "failed because its batch of {inputs} inputs returned {outcomes} outcomes")
            }
            Cause::Overloaded { calls, max } => {
                write!(f, "was refused because {calls} of at most {max} calls are without an outcome")
            }
            Cause::Config(error) => write!(f, "was refused for a setting: {error}"),
            Cause::Engine(bug) => write!(f, "failed because of a fault of the engine: {bug}"),
        }
    }
}

/// Shows a text in one line. The texts of the user's code may have several.
struct OneLine(String);

impl OneLine {
    /// The text of a crash, followed by the error of `enter` or of the system. The crash's own text leaves
    /// that error to `source`.
    fn of_crash(crash: &Crash) -> Self {
        match crash.source() {
            Some(error) => Self(format!("{crash}: {error}")),
            None => Self(crash.to_string()),
        }
    }
}

impl fmt::Display for OneLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
        for (at, line) in lines.enumerate() {
            write!(f, "{}{line}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Implemented for every error that can be shown, which need not be an [`Error`] itself: `?` works with
/// `String`, `&str` and `anyhow::Error` as well.
///
/// The text of a failure contains the cause, so `source` omits it, because a printed chain would repeat it.
/// (The other errors of this crate do the opposite.) A returned error is not a source, because it need not be
/// an [`Error`]. It is available as [`Failure::error`]. The source of a death is the error behind its text:
/// the source of the error that `enter` returned.
impl<I, E> Error for Failure<I, E>
where
    E: fmt::Debug + fmt::Display + 'static,
{
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.cause() {
            Cause::Poisoned(deaths) => deaths.last()?.source()?.source(),
            Cause::Lost(crash) => crash.source()?.source(),
            // If the input crashed a container itself, its first death may be what began the crashes.
            Cause::GaveUp(gave_up) => match self.0.tried.deaths.first() {
                Some(own) => Some(own.as_ref()),
                None => gave_up.source()?.source(),
            },
            Cause::Config(error) => error.source(),
            Cause::Failed(_)
            | Cause::Source(_)
            | Cause::TimedOut { .. }
            | Cause::DeadlineExceeded { .. }
            | Cause::Cancelled
            | Cause::ShutDown
            | Cause::WouldDeadlock
            | Cause::BatchLength { .. }
            | Cause::Overloaded { .. }
            | Cause::Engine(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_with_a_failure_stays_small() {
        assert!(size_of::<Result<u64, Failure<[u64; 100], String>>>() <= 16);
    }
}

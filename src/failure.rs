//! An outcome that is an error: which input, the input itself, and why.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::crash::{Crash, Panic};
use crate::engine::chunk::{Reclaimed, SharedInput};
use crate::engine::unwind::Contained;
use crate::gave_up::GaveUp;

/// A fault of the engine itself. Please report it; nothing a user does should cause one.
#[derive(Debug, Clone)]
pub struct Bug(pub(crate) Arc<str>);

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why an input, or a whole map, failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause<E> {
    /// The function returned that error; of several attempts, the last one's.
    Failed(E),
    /// The input crashed its containers too often. The deaths, oldest first, at most 8 of them.
    Poisoned(Vec<Arc<Crash>>),
    /// The container was killed by hand while the input executed, and it is not begun again: with
    /// `crash_retries(0)` nothing is, nor what has left two threads behind, or would leave one too many.
    Lost(Arc<Crash>),
    /// The function gave up: how it began, and the crash that broke its limit.
    GaveUp(GaveUp),
    /// The source of the map panicked. Never bound to an input.
    Source(Panic),
    /// The map was cancelled before the input had an outcome.
    Cancelled,
    /// The function is being drained, stopped or aborted.
    ShutDown,
    /// A blocking call on the engine's thread, or on a container of the same function.
    WouldDeadlock,
    /// The map's window is out of its range.
    Config(crate::ConfigError),
    /// The engine is broken.
    Engine(Bug),
}

/// An outcome that is an error.
///
/// It is one pointer wide, so that `Result<u64, Failure<..>>` takes 16 bytes. The input comes back
/// with it: dead letters need no bookkeeping. A panic in the `Drop` of the input or the error it
/// holds is contained.
///
/// ```
/// use longshore::{App, Failure};
///
/// let app = App::ephemeral("docs");
/// let halve = app.function("halve", |n: &u32| if n % 2 == 0 { Ok(n / 2) } else { Err("odd") }).start()?;
/// let failure: Failure<u32, &str> = halve.run(vec![2, 3]).unwrap_err();
/// assert_eq!((failure.index(), failure.input()), (Some(1), Some(&3)));
/// assert_eq!(failure.error(), Some(&"odd"));
/// # Ok::<(), longshore::StartError>(())
/// ```
pub struct Failure<I, E>(Box<Inner<I, E>>);

/// The user's values are dropped apart from each other, because two that panic in their `Drop` would
/// take the process with them.
struct Inner<I, E> {
    /// Index and input; `None` where the map as a whole failed.
    input: Option<(u64, Contained<Reclaimed<I>>)>,
    tried: Tried,
    cause: Contained<Cause<E>>,
}

/// How an input was tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried {
    pub(crate) attempts: u32,
    /// The deaths that it caused, oldest first, unless the cause itself holds them.
    pub(crate) deaths: Vec<Arc<Crash>>,
    /// The most memory that the last attempt used, if it failed and that is known.
    pub(crate) peak_bytes: Option<u64>,
}

impl From<u32> for Tried {
    fn from(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }
}

/// The input of a failure, given back.
#[derive(Debug)]
pub enum Returned<I> {
    /// By value.
    Owned(I),
    /// A shared handle, because an abandoned attempt may still be reading it.
    Shared(SharedInput<I>),
}

impl<I> Returned<I> {
    /// The value, if nothing else reads it.
    pub fn owned(self) -> Option<I> {
        match self {
            Self::Owned(input) => Some(input),
            Self::Shared(_) => None,
        }
    }
}

impl<I, E> Failure<I, E> {
    pub(crate) fn of_input(index: u64, input: Reclaimed<I>, tried: Tried, cause: Cause<E>) -> Self {
        Self(Box::new(Inner {
            input: Some((index, Contained::new(input))),
            tried,
            cause: Contained::new(cause),
        }))
    }

    /// An input that was refused before it began.
    pub(crate) fn of_refused(input: I, cause: Cause<E>) -> Self {
        Self::of_input(0, Reclaimed::Owned(input), 0.into(), cause)
    }

    pub(crate) fn of_map(cause: Cause<E>) -> Self {
        Self(Box::new(Inner { input: None, tried: 0.into(), cause: Contained::new(cause) }))
    }

    /// The place of the input in its map, from 0; `None` where the map as a whole failed.
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

    /// The input that failed, given back.
    #[must_use]
    pub fn into_input(self) -> Option<Returned<I>> {
        match self.0.input?.1.into_inner() {
            Reclaimed::Owned(input) => Some(Returned::Owned(input)),
            Reclaimed::Shared(input) => Some(Returned::Shared(input)),
        }
    }

    /// How often the input was executed; 0 where it never began.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.tried.attempts
    }

    /// The most memory in bytes that the attempt used which is told of last, with what `enter` had built: the one
    /// that failed, or the last of the deaths. Where an [`Accountant`](crate::Accountant) is installed.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        match self.cause() {
            Cause::Poisoned(deaths) => deaths.last()?.peak_bytes,
            Cause::Lost(crash) => crash.peak_bytes,
            _ => self.0.tried.peak_bytes,
        }
    }

    /// Why.
    #[must_use]
    pub fn cause(&self) -> &Cause<E> {
        self.0.cause.get()
    }

    /// Why, by value.
    #[must_use]
    pub fn into_cause(self) -> Cause<E> {
        self.0.cause.into_inner()
    }

    /// The user's error, where the function returned one.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        match self.cause() {
            Cause::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The deaths of containers that led to this failure, whatever its cause, each once. Those that the input itself
    /// caused come first, oldest first and at most 8 of them; then the one it was lost with, or those for which the
    /// function gave up.
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

    /// The input crashed its containers too often.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self.cause(), Cause::Poisoned(_))
    }

    /// The function gave up.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(self.cause(), Cause::GaveUp(_))
    }

    /// The function is being drained, stopped or aborted.
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

/// A number of attempts in words.
struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => write!(f, "1 attempt"),
            n => write!(f, "{n} attempts"),
        }
    }
}

impl<I, E> fmt::Display for Failure<I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.index() {
            write!(f, "input {index} ")?;
        } else {
            write!(f, "the map ")?;
        }
        match self.cause() {
            Cause::Failed(_) => write!(f, "failed after {}", Attempts(self.attempts())),
            Cause::Poisoned(_) => write!(f, "is poisoned after {}", Attempts(self.attempts())),
            Cause::Lost(_) => write!(f, "was lost with its container"),
            Cause::GaveUp(_) => write!(f, "failed because the function gave up"),
            Cause::Source(_) => write!(f, "ended because its source panicked"),
            Cause::Cancelled => write!(f, "was cancelled"),
            Cause::ShutDown => write!(f, "ended because the function is shut down"),
            Cause::WouldDeadlock => write!(f, "would deadlock: called on the engine or the same function"),
            Cause::Config(_) => write!(f, "was refused for a setting"),
            Cause::Engine(bug) => write!(f, "failed by a fault of the engine: {bug}"),
        }
    }
}

impl<I, E: Error + 'static> Error for Failure<I, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.cause() {
            Cause::Failed(error) => Some(error),
            Cause::Poisoned(deaths) => deaths.last().map(|crash| crash.as_ref() as _),
            Cause::Lost(crash) => Some(crash.as_ref()),
            // An input that crashed a container itself may be the one that began it.
            Cause::GaveUp(gave_up) => match self.0.tried.deaths.first() {
                Some(own) => Some(own.as_ref()),
                None => Some(gave_up),
            },
            Cause::Source(panic) => Some(panic),
            Cause::Config(error) => Some(error),
            Cause::Cancelled | Cause::ShutDown | Cause::WouldDeadlock | Cause::Engine(_) => None,
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

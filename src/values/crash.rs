//! How a container died, in words and as types.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::contain::drops::{Elsewhere, Stack};
use crate::contain::unwind::contain;

pub use crate::contain::panic::Panic;

/// Any error, as `enter` may return it.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// The error that `enter` returned, as it was.
///
/// What it says is kept as a text from the start, so that showing it runs no code of the user's.
pub struct EnterError {
    text: String,
    error: Elsewhere<BoxError>,
}

impl EnterError {
    /// Wherever it is dropped, that is done with that stack.
    pub(crate) fn new(error: BoxError, stack: Stack) -> Self {
        let text = contain(|| error.to_string());
        let text = text.unwrap_or_else(|panic| format!("an error that {panic} when it was shown"));
        Self { text, error: Elsewhere::new(error, stack, true) }
    }

    /// The error itself, to be downcast.
    #[must_use]
    pub fn get(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.error.get().as_ref()
    }
}

impl fmt::Debug for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnterError").field(&self.text).finish()
    }
}

impl fmt::Display for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for EnterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.get().source()
    }
}

/// The cause of a container's death.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Death {
    /// The function panicked.
    Panicked(Panic),
    /// `enter` panicked.
    EnterPanicked(Panic),
    /// `enter` returned an error.
    EnterFailed(Arc<EnterError>),
    /// The container's thread could not be made.
    NoThread(Arc<std::io::Error>),
    /// Its memory could not be accounted for, because all 65 535 accounts of the process hold memory.
    NoAccount,
    /// It used more memory than [`Builder::memory_limit`](crate::Builder::memory_limit) allows.
    MemoryLimit {
        /// The limit in bytes.
        limit: u64,
        /// The most that was used, in bytes: what `enter` had built, and what the attempt held.
        used: u64,
        /// Whether the code has come out, or is about to, and frees what it holds. Otherwise its thread is
        /// abandoned in it, and holds its memory until it returns.
        reclaimed: bool,
    },
    /// Killed by hand; nobody's fault.
    Killed,
}

impl Death {
    /// Of what kind it is, without more.
    #[must_use]
    pub const fn kind(&self) -> CrashKind {
        match self {
            Self::Panicked(_) => CrashKind::Panic,
            Self::EnterPanicked(_) => CrashKind::EnterPanic,
            Self::EnterFailed(_) => CrashKind::EnterError,
            Self::NoThread(_) => CrashKind::NoThread,
            Self::NoAccount => CrashKind::NoAccount,
            Self::MemoryLimit { .. } => CrashKind::MemoryLimit,
            Self::Killed => CrashKind::Killed,
        }
    }

    /// The message of the panic or of the error, or what there is to say of another death.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Panicked(panic) | Self::EnterPanicked(panic) => panic.message().to_owned(),
            Self::EnterFailed(error) => error.to_string(),
            Self::NoThread(error) => error.to_string(),
            Self::NoAccount | Self::MemoryLimit { .. } | Self::Killed => self.to_string(),
        }
    }

    /// Where in the code it panicked.
    pub(crate) fn location(&self) -> Option<&str> {
        match self {
            Self::Panicked(panic) | Self::EnterPanicked(panic) => panic.location(),
            _ => None,
        }
    }
}

/// The kind of a container's death. The words of [`CrashKind::as_str`] are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CrashKind {
    /// The function panicked.
    Panic,
    /// `enter` panicked.
    EnterPanic,
    /// `enter` returned an error.
    EnterError,
    /// The container used more memory than its limit.
    MemoryLimit,
    /// The container's thread could not be made.
    NoThread,
    /// The container's memory could not be accounted for.
    NoAccount,
    /// Killed by hand; nobody's fault.
    Killed,
}

impl CrashKind {
    /// The word for it, as it is serialized.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::EnterPanic => "enter_panic",
            Self::EnterError => "enter_error",
            Self::MemoryLimit => "memory_limit",
            Self::NoThread => "no_thread",
            Self::NoAccount => "no_account",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for CrashKind {
    /// The word for a person: without underscores.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().replace('_', " "))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => write!(f, "{panic}"),
            Self::EnterPanicked(panic) => write!(f, "enter {panic}"),
            Self::EnterFailed(_) => write!(f, "enter failed"),
            Self::NoThread(_) => write!(f, "no thread could be made"),
            Self::NoAccount => write!(f, "no memory account was free"),
            Self::MemoryLimit { limit, used, reclaimed } => {
                write!(f, "used {used} bytes of memory, over the limit of {limit}")?;
                if *reclaimed { Ok(()) } else { write!(f, ", and its thread was abandoned") }
            }
            Self::Killed => write!(f, "killed by hand"),
        }
    }
}

/// One death of a container.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Crash {
    /// Which container died.
    pub container: ContainerId,
    /// In which of its generations.
    pub generation: Generation,
    /// The input that was executing (its index in its map) and its attempt, if one was.
    pub executing: Option<(u64, Attempt)>,
    /// The label of the map that the input is of, if it has one.
    pub map: Option<Arc<str>>,
    /// The number of the call that was executing, counted from 1 over the maps and calls of the function.
    pub call: Option<u64>,
    /// The most memory in bytes that the attempt (or `enter`) used, with what `enter` had built; where an
    /// [`Accountant`](crate::Accountant) is installed.
    pub peak_bytes: Option<u64>,
    /// The cause.
    pub death: Death,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {}#{}", self.container, self.generation)?;
        match (self.executing, self.call, &self.map) {
            (None, _, _) => {}
            (Some((_, attempt)), Some(call), _) => write!(f, " (call {call}, attempt {attempt})")?,
            (Some((input, attempt)), None, None) => write!(f, " (input {input}, attempt {attempt})")?,
            (Some((input, attempt)), None, Some(map)) => {
                write!(f, " (input {input} of {map}, attempt {attempt})")?;
            }
        }
        write!(f, " {}", self.death)
    }
}

impl Error for Crash {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.death {
            Death::EnterFailed(error) => Some(error.as_ref()),
            Death::NoThread(error) => Some(error.as_ref()),
            Death::Panicked(_)
            | Death::EnterPanicked(_)
            | Death::NoAccount
            | Death::MemoryLimit { .. }
            | Death::Killed => None,
        }
    }
}

/// Why the previous attempt of an input ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Previous {
    /// The function returned an error that was worth a retry.
    Failed,
    /// It crashed its container, or its container was killed.
    Crashed(Arc<Crash>),
}

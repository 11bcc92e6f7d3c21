//! The causes of a container's death, as types and in words.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::contain::drops::{DeferDrop, Stack};
use crate::contain::unwind::contain;

pub use crate::contain::panic::Panic;

/// Any error that `enter` may return.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// The error that `enter` returned.
///
/// Its text is taken once, when the error is returned, so that showing it later runs no code of the user's.
pub struct EnterError {
    text: String,
    error: DeferDrop<BoxError>,
}

impl EnterError {
    /// Wherever the error is dropped, its drop runs on a thread with the given stack.
    pub(crate) fn new(error: BoxError, stack: Stack) -> Self {
        let text = contain(|| error.to_string());
        let text = text
            .unwrap_or_else(|panic| format!("an error whose text is not known, because showing it {panic}"));
        Self { text, error: DeferDrop::new(error, stack, true) }
    }

    /// The error itself, which can be downcast.
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
    /// No thread could be made for the container.
    NoThread(Arc<std::io::Error>),
    /// The container got no memory account, because all 65 535 accounts of the process are in use.
    NoAccount,
    /// The container used more memory than [`Builder::memory_limit`](crate::Builder::memory_limit) allows.
    #[non_exhaustive]
    MemoryLimit {
        /// The limit in bytes.
        limit: u64,
        /// The most memory that was used, in bytes, by `enter` and by the attempt together.
        used: u64,
        /// Whether the code has unwound, or is about to, and frees its memory. Otherwise its thread is
        /// abandoned, and its memory stays allocated until the code returns.
        reclaimed: bool,
    },
    /// The `enter` took longer than [`Builder::enter_timeout`](crate::Builder::enter_timeout) allows.
    #[non_exhaustive]
    EnterTimedOut {
        /// The limit.
        limit: Duration,
    },
    /// An attempt had come to its [timeout](crate::Builder::timeout) or
    /// [deadline](crate::Builder::deadline), and its code had not returned, waited or reached a checkpoint
    /// 50 ms later. The thread was abandoned.
    Unresponsive,
    /// The container was killed by hand, which is not counted as a crash.
    Killed,
}

impl Death {
    /// The kind of the death.
    #[must_use]
    pub const fn kind(&self) -> CrashKind {
        match self {
            Self::Panicked(_) => CrashKind::Panic,
            Self::EnterPanicked(_) => CrashKind::EnterPanic,
            Self::EnterFailed(_) => CrashKind::EnterError,
            Self::NoThread(_) => CrashKind::NoThread,
            Self::NoAccount => CrashKind::NoAccount,
            Self::MemoryLimit { .. } => CrashKind::MemoryLimit,
            Self::EnterTimedOut { .. } => CrashKind::EnterTimeout,
            Self::Unresponsive => CrashKind::Unresponsive,
            Self::Killed => CrashKind::Killed,
        }
    }

    /// The message of the panic or of the error. Another death has a fixed text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Panicked(panic) | Self::EnterPanicked(panic) => panic.message().to_owned(),
            Self::EnterFailed(error) => error.to_string(),
            Self::NoThread(error) => error.to_string(),
            Self::NoAccount
            | Self::MemoryLimit { .. }
            | Self::EnterTimedOut { .. }
            | Self::Unresponsive
            | Self::Killed => self.to_string(),
        }
    }

    /// The place in the code of the panic.
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
    /// `enter` took longer than its limit.
    EnterTimeout,
    /// The code did not end at the limit of its attempt.
    Unresponsive,
    /// The container was killed by hand, which is no crash.
    Killed,
}

impl CrashKind {
    /// The word for the kind, as it is serialized.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::EnterPanic => "enter_panic",
            Self::EnterError => "enter_error",
            Self::MemoryLimit => "memory_limit",
            Self::NoThread => "no_thread",
            Self::NoAccount => "no_account",
            Self::EnterTimeout => "enter_timeout",
            Self::Unresponsive => "unresponsive",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for CrashKind {
    /// Writes the word without underscores.
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
            Self::EnterTimedOut { limit } => write!(f, "enter took longer than {limit:?}"),
            Self::Unresponsive => {
                write!(f, "did not leave its code at the limit of an attempt, and its thread was abandoned")
            }
            Self::Killed => write!(f, "killed by hand"),
        }
    }
}

/// One death of a container.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Crash {
    /// The container that died.
    pub container: ContainerId,
    /// The generation that died.
    pub generation: Generation,
    /// The index of the input that was executing in its map, and its attempt. `None` if
    /// no input was executing.
    pub executing: Option<(u64, Attempt)>,
    /// The label of the input's map, if the map has one.
    pub map: Option<Arc<str>>,
    /// The number of the call that was executing, counted from 1 over the maps and calls of the function.
    pub call: Option<u64>,
    /// The most memory, in bytes, that the attempt (or `enter`) used, including what `enter` had allocated.
    /// `None` unless an [`Accountant`](crate::Accountant) is installed.
    pub peak_bytes: Option<u64>,
    /// The cause of the death.
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
            | Death::EnterTimedOut { .. }
            | Death::Unresponsive
            | Death::Killed => None,
        }
    }
}

/// The reason why the previous attempt of an input ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Previous {
    /// The function returned an error that was worth a retry.
    Failed,
    /// The attempt took longer than its [timeout](crate::Builder::timeout).
    TimedOut,
    /// The input crashed its container, or its container was killed.
    Crashed(Arc<Crash>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic(location: Option<&str>) -> Panic {
        Panic { message: "no threes".to_owned(), location: location.map(str::to_owned) }
    }

    /// An error with a source of its own.
    #[derive(Debug)]
    struct NoDatabase(std::io::Error);

    impl fmt::Display for NoDatabase {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "no database")
        }
    }

    impl Error for NoDatabase {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn enter_error() -> EnterError {
        EnterError::new(NoDatabase(std::io::Error::other("refused")).into(), Stack::of_any())
    }

    fn crash(death: Death) -> Crash {
        Crash {
            container: ContainerId(2),
            generation: Generation(5),
            executing: None,
            map: None,
            call: None,
            peak_bytes: None,
            death,
        }
    }

    fn sourced(error: &dyn Error) -> Option<String> {
        error.source().map(ToString::to_string)
    }

    #[test]
    fn each_cause_of_death_has_its_words_and_shows_its_source_apart_from_them() {
        let memory = |reclaimed| Death::MemoryLimit { limit: 10, used: 12, reclaimed };
        let no_thread = Death::NoThread(Arc::new(std::io::Error::other("too many")));
        let deaths = [
            (Death::Panicked(panic(Some("src/a.rs:1:2"))), "panicked at src/a.rs:1:2: no threes", None),
            (Death::EnterPanicked(panic(None)), "enter panicked: no threes", None),
            (Death::EnterFailed(Arc::new(enter_error())), "enter failed", Some("no database")),
            (no_thread, "no thread could be made", Some("too many")),
            (Death::NoAccount, "no memory account was free", None),
            (memory(true), "used 12 bytes of memory, over the limit of 10", None),
            (
                memory(false),
                "used 12 bytes of memory, over the limit of 10, and its thread was abandoned",
                None,
            ),
            (
                Death::EnterTimedOut { limit: Duration::from_millis(1500) },
                "enter took longer than 1.5s",
                None,
            ),
            (
                Death::Unresponsive,
                "did not leave its code at the limit of an attempt, and its thread was abandoned",
                None,
            ),
            (Death::Killed, "killed by hand", None),
        ];
        for (death, words, source) in deaths {
            let crash = crash(death);
            assert_eq!((crash.death.to_string(), sourced(&crash).as_deref()), (words.to_owned(), source));
        }
    }

    #[test]
    fn a_crash_names_the_container_and_what_it_was_executing() {
        let executing = Some((7, Attempt(3)));
        let map: Option<Arc<str>> = Some("urls".into());
        let names = [
            (None, None, None, ""),
            (executing, None, None, " (input 7, attempt 3)"),
            (executing, map.clone(), None, " (input 7 of urls, attempt 3)"),
            (executing, None, Some(9), " (call 9, attempt 3)"),
            (None, map, Some(9), ""),
        ];
        for (executing, map, call, name) in names {
            let crash = Crash { executing, map, call, ..crash(Death::Killed) };
            assert_eq!(crash.to_string(), format!("container 2#5{name} killed by hand"));
        }
    }

    #[test]
    fn an_error_of_enter_is_shown_as_it_was_and_can_be_downcast() {
        let error = enter_error();
        assert_eq!(error.to_string(), "no database");
        assert_eq!(format!("{error:?}"), r#"EnterError("no database")"#);
        assert_eq!(sourced(&error).as_deref(), Some("refused"));
        assert!(error.get().is::<NoDatabase>());
    }

    #[test]
    fn an_error_of_enter_that_panics_when_it_is_shown_is_shown_as_that_panic() {
        #[derive(Debug)]
        struct Shy;
        impl fmt::Display for Shy {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("not now")
            }
        }
        impl Error for Shy {}
        let error = EnterError::new(Shy.into(), Stack::of_any());
        let text = error.to_string();
        assert!(text.contains("panicked") && text.contains("not now"), "{text}");
    }
}

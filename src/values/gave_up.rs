//! Why a function gave up: how it began, and the crash that broke its limit.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::values::crash::Crash;

/// Why a function gave up.
///
/// The crash that broke the limit is often a consequence: a panic poisons a lock, and what is seen
/// last is one of a hundred `PoisonError`s. So this also holds the first three crashes of the
/// window. Shown (`{gave_up}`), it names the first and the last. All failures of one giving up
/// share it, and a clone of it is a pointer.
///
/// ```
/// use longshore::{App, Cause, RateLimited};
/// use std::sync::Mutex;
///
/// let app = App::ephemeral("docs");
/// let shared = Mutex::new(0);
/// let sum = app
///     .infallible("sum", move |n: &u32| {
///         let mut sum = shared.lock().unwrap();
///         assert!(*n != 3, "no threes");
///         *sum += n;
///     })
///     .containers(1)
///     .restart(RateLimited::new().max_crashes(2).max_failure_rate(0.0))
///     .start()?;
/// let outcomes = sum.run_all((0..100).collect());
/// let failure = outcomes.last().unwrap().as_ref().unwrap_err();
/// let Cause::GaveUp(gave_up) = failure.cause() else { unreachable!() };
/// assert!(gave_up.last().to_string().contains("PoisonError"));
/// assert!(gave_up.first()[0].to_string().contains("no threes"));
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GaveUp(Arc<Deaths>);

#[derive(Debug)]
struct Deaths {
    first: Vec<Arc<Crash>>,
    last: Arc<Crash>,
}

impl GaveUp {
    /// `first` are the first crashes of the window, which may end with `last`.
    pub(crate) fn new(first: Vec<Arc<Crash>>, last: Arc<Crash>) -> Self {
        Self(Arc::new(Deaths { first, last }))
    }

    /// The crash that broke the limit.
    #[must_use]
    pub fn last(&self) -> &Arc<Crash> {
        &self.0.last
    }

    /// The first crashes of the policy's window, oldest first, at most three. The last one is among them if there were no
    /// more than these. Empty where no crash led to it: a container was killed by hand, and no other could
    /// be created.
    #[must_use]
    pub fn first(&self) -> &[Arc<Crash>] {
        &self.0.first
    }

    /// All of them, each once, oldest first.
    pub fn deaths(&self) -> impl Iterator<Item = &Arc<Crash>> {
        let last =
            Some(self.last()).filter(|last| !self.first().iter().any(|crash| Arc::ptr_eq(crash, last)));
        self.first().iter().chain(last)
    }

    /// The crash with which it began.
    fn root(&self) -> &Arc<Crash> {
        self.first().first().unwrap_or_else(|| self.last())
    }

    /// The same text with what lies under the crashes: for logs and pages, which have no chain of sources.
    pub(crate) fn in_full(&self) -> impl fmt::Display + '_ {
        InFull(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, say: fn(&Crash) -> String) -> fmt::Result {
        let (root, last) = (self.root(), self.last());
        if Arc::ptr_eq(root, last) {
            return write!(f, "{}", say(last));
        }
        write!(f, "it began when {}, and the limit was broken when {}", say(root), say(last))
    }
}

/// Shows what lies under the crashes too.
struct InFull<'a>(&'a GaveUp);

impl fmt::Display for InFull<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, |crash| match crash.source() {
            Some(source) => format!("{crash}: {source}"),
            None => crash.to_string(),
        })
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Crash::to_string)
    }
}

impl Error for GaveUp {
    /// What lies under the first crash, whose own text is in this error's text.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.root().source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ContainerId, Generation};
    use crate::values::crash::{Death, EnterError, Panic};

    fn crash(death: Death) -> Arc<Crash> {
        let (container, generation) = (ContainerId::new(0), Generation(1));
        Arc::new(Crash {
            container,
            generation,
            executing: None,
            map: None,
            call: None,
            peak_bytes: None,
            death,
        })
    }

    fn panic(message: &str) -> Arc<Crash> {
        crash(Death::Panicked(Panic { message: message.to_owned(), location: None }))
    }

    #[test]
    fn it_names_the_first_and_the_last_and_shows_each_once() {
        let (root, second, last) = (panic("root"), panic("second"), panic("last"));
        let many = GaveUp::new(vec![Arc::clone(&root), second], Arc::clone(&last));
        let text = many.to_string();
        assert!(text.contains("root") && text.contains("last") && !text.contains("second"), "{text}");
        assert_eq!(many.deaths().count(), 3);
        let one = GaveUp::new(vec![Arc::clone(&last)], Arc::clone(&last));
        assert_eq!((one.to_string(), one.deaths().count()), (last.to_string(), 1));
        let none = GaveUp::new(Vec::new(), Arc::clone(&last));
        assert_eq!((none.to_string(), none.deaths().count()), (last.to_string(), 1));
    }

    #[test]
    fn its_source_is_what_lies_under_the_first_crash() {
        let root = crash(Death::EnterFailed(Arc::new(EnterError::new(
            "no database".into(),
            crate::contain::drops::Stack::of_any(),
        ))));
        let gave_up = GaveUp::new(vec![root], panic("last"));
        assert!(!gave_up.to_string().contains("no database"), "sources are in the chain: {gave_up}");
        let source = gave_up.source().expect("the error of `enter`").to_string();
        assert_eq!(source, "no database");
        assert!(gave_up.in_full().to_string().contains("enter failed: no database"));
    }
}

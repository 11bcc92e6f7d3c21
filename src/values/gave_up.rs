//! The reason why a function gave up: its first crashes and the crash that exceeded the limit.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::values::crash::Crash;

/// The reason why a function gave up.
///
/// The crash that exceeded the limit is often only a consequence: a panic poisons a lock, and the last crash
/// is one of a hundred `PoisonError`s. This value therefore also holds the first three crashes of the window.
/// Its text (`{gave_up}`) names the first crash and the last one. All failures that result from giving up
/// share one value, and a clone is a pointer.
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
    /// `first` holds the first crashes of the window. Its last element may be `last`.
    pub(crate) fn new(first: Vec<Arc<Crash>>, last: Arc<Crash>) -> Self {
        Self(Arc::new(Deaths { first, last }))
    }

    /// The crash that exceeded the limit.
    #[must_use]
    pub fn last(&self) -> &Arc<Crash> {
        &self.0.last
    }

    /// The first crashes of the policy's window, at most three, oldest first. They include the last crash if
    /// there were no more than three. The slice is empty if no crash led to giving up: a container was killed
    /// by hand, and no other container could be created.
    #[must_use]
    pub fn first(&self) -> &[Arc<Crash>] {
        &self.0.first
    }

    /// All of these crashes, each once, oldest first.
    pub fn deaths(&self) -> impl Iterator<Item = &Arc<Crash>> {
        let last =
            Some(self.last()).filter(|last| !self.first().iter().any(|crash| Arc::ptr_eq(crash, last)));
        self.first().iter().chain(last)
    }

    /// The first crash of the window.
    fn root(&self) -> &Arc<Crash> {
        self.first().first().unwrap_or_else(|| self.last())
    }

    /// The text with the sources of both crashes. Logs and pages need it because they do not
    /// show a chain of sources.
    pub(crate) fn in_full(&self) -> impl fmt::Display + '_ {
        InFull(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, say: fn(&Crash) -> String) -> fmt::Result {
        let (root, last) = (self.root(), self.last());
        if Arc::ptr_eq(root, last) {
            return write!(f, "{}", say(last));
        }
        write!(f, "it began when {}, and the limit was exceeded when {}", say(root), say(last))
    }
}

/// Shows the crashes with their sources.
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
    /// The source of the first crash. The text of that crash is already part of this error's text.
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
    fn its_text_names_the_first_and_the_last_crash_and_deaths_yields_each_once() {
        let (root, second, last) = (panic("root"), panic("second"), panic("last"));
        let many = GaveUp::new(vec![Arc::clone(&root), second], Arc::clone(&last));
        let text = many.to_string();
        assert!(text.contains("root"), "{text}");
        assert!(text.contains("last"), "{text}");
        assert!(!text.contains("second"), "{text}");
        assert_eq!(many.deaths().count(), 3);
        let one = GaveUp::new(vec![Arc::clone(&last)], Arc::clone(&last));
        assert_eq!(one.to_string(), last.to_string());
        assert_eq!(one.deaths().count(), 1);
        let none = GaveUp::new(Vec::new(), Arc::clone(&last));
        assert_eq!(none.to_string(), last.to_string());
        assert_eq!(none.deaths().count(), 1);
    }

    #[test]
    fn its_source_is_the_source_of_the_first_crash() {
        let root = crash(Death::EnterFailed(Arc::new(EnterError::new(
            "no database".into(),
            crate::contain::drops::Stack::of_any(),
        ))));
        let gave_up = GaveUp::new(vec![root], panic("last"));
        assert!(
            !gave_up.to_string().contains("no database"),
            "a source belongs in the chain only: {gave_up}"
        );
        let source = gave_up.source().expect("the error of `enter` is the source").to_string();
        assert_eq!(source, "no database");
        assert!(gave_up.in_full().to_string().contains("enter failed: no database"));
    }
}

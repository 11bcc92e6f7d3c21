//! What a function was started with: validated, plain, and never changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crash::{Crash, Death};
use crate::decide::ids::Attempt;
use crate::decide::ledger::Rules;
use crate::engine::body::Body;
use crate::engine::unwind::{Contained, PanicHook};

/// Decides whether an error is worth a retry.
pub(crate) type RetryIf<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// The settings of one running function.
pub(crate) struct Settings<I, O, E> {
    pub(crate) app: Arc<str>,
    pub(crate) function: Arc<str>,
    /// Distinguishes functions of the process.
    pub(crate) id: u64,
    pub(crate) rules: Rules,
    pub(crate) retry_if: Option<Contained<RetryIf<E>>>,
    pub(crate) body: Contained<Box<dyn Body<I, O, E>>>,
    pub(crate) exit_timeout: Duration,
    pub(crate) stack_bytes: usize,
    pub(crate) panic_hook: PanicHook,
}

/// A number no other function of the process has.
pub(crate) fn next_function_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<I, O, E> Settings<I, O, E> {
    /// One event for each death: `warn`, save where it was asked for.
    pub(crate) fn speak_of(&self, crash: &Crash) {
        let (input, attempt) =
            crash.executing.map_or((None, None), |(input, attempt)| (Some(input), Some(attempt.get())));
        let (message, location) = match &crash.death {
            Death::Panicked(panic) | Death::EnterPanicked(panic) => {
                (panic.message().to_owned(), panic.location().map(str::to_owned))
            }
            Death::EnterFailed(error) => (error.to_string(), None),
            Death::NoThread(error) => (error.to_string(), None),
            Death::Killed => (String::new(), None),
        };
        let span =
            tracing::warn_span!("input", app = %self.app, function = %self.function, index = input, attempt);
        let _in_input = input.is_some().then(|| span.enter());
        tracing::warn!(
            app = %self.app,
            function = %self.function,
            container = crash.container.index(),
            generation = crash.generation.get(),
            input,
            attempt,
            message,
            location,
            "container crashed"
        );
    }

    pub(crate) fn speak_of_poison(&self, input: u64, attempts: Attempt) {
        let attempts = attempts.get();
        tracing::warn!(app = %self.app, function = %self.function, input, attempts, "input poisoned");
    }
}

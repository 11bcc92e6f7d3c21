//! The engine's voice: one `tracing` event for each thing worth telling. It prints nothing itself.
//!
//! Events are collected under the function's lock and spoken after its release, because
//! subscribers are the user's code.

use std::sync::Arc;
use std::time::Duration;

use crate::crash::{Crash, Death};
use crate::decide::ids::{Attempt, ContainerId};
use crate::decide::ledger::{Change, Stage};
use crate::decide::time::Time;
use crate::engine::unwind::tell;

/// Something worth telling.
#[derive(Debug)]
pub(crate) enum Speech {
    /// A container is in another stage.
    Changed(Change),
    /// A container died by its own fault or its input's.
    Crashed(Arc<Crash>),
    /// A container was killed by hand.
    Killed(Arc<Crash>),
    /// An input's crash budget is spent.
    Poisoned { input: u64, attempts: Attempt },
    /// A container was left behind in its `exit`.
    ExitTimedOut(ContainerId, Duration),
    /// The crash limit is broken.
    GaveUp(Arc<Crash>),
    /// Work is taken again.
    Reset,
}

impl Speech {
    /// Emits the event of one function.
    pub(crate) fn speak(&self, app: &str, function: &str, now: Time) {
        tell(|| self.event(app, function, now));
    }

    fn event(&self, app: &str, function: &str, now: Time) {
        match self {
            Self::Changed(change) => speak_of_change(app, function, change, now),
            Self::Crashed(crash) => speak_of_crash(app, function, crash),
            Self::Killed(crash) => {
                let (container, generation) = (crash.container.index(), crash.generation.get());
                tracing::info!(app, function, container, generation, "container killed");
            }
            Self::Poisoned { input, attempts } => {
                tracing::warn!(app, function, input, attempts = attempts.get(), "input poisoned");
            }
            Self::ExitTimedOut(container, limit) => {
                tracing::warn!(app, function, container = container.index(), ?limit, "exit timed out");
            }
            Self::GaveUp(crash) => tracing::error!(app, function, %crash, "function gave up"),
            Self::Reset => tracing::info!(app, function, "function reset"),
        }
    }
}

fn speak_of_change(app: &str, function: &str, change: &Change, now: Time) {
    let (container, generation) = (change.container.index(), change.generation.get());
    match change.stage {
        Stage::Starting => tracing::debug!(app, function, container, generation, "container starting"),
        Stage::Live => tracing::debug!(app, function, container, generation, "container live"),
        Stage::Exiting => tracing::debug!(app, function, container, generation, "container exiting"),
        Stage::Absent => tracing::debug!(app, function, container, generation, "container stopped"),
        Stage::BackingOff { until } => {
            let delay = until.since(now);
            tracing::info!(app, function, container, generation, ?delay, "container backing off");
        }
    }
}

/// One `warn` for each crash, inside the span of the input that was executing.
fn speak_of_crash(app: &str, function: &str, crash: &Crash) {
    let (input, attempt) =
        crash.executing.map_or((None, None), |(input, attempt)| (Some(input), Some(attempt.get())));
    let (cause, location) = match &crash.death {
        Death::Panicked(panic) | Death::EnterPanicked(panic) => {
            (Some(panic.message().to_owned()), panic.location())
        }
        Death::EnterFailed(error) => (Some(error.to_string()), None),
        Death::NoThread(error) => (Some(error.to_string()), None),
        Death::Killed => (None, None),
    };
    let span = tracing::warn_span!("input", app, function, index = input, attempt);
    let _in_input = input.is_some().then(|| span.enter());
    tracing::warn!(
        app,
        function,
        container = crash.container.index(),
        generation = crash.generation.get(),
        input,
        attempt,
        cause,
        location,
        "container crashed"
    );
}

//! The engine's voice: one `tracing` event for each thing worth telling, and the same for
//! subscribed actors. It prints nothing itself.
//!
//! Events are collected under the function's lock and told after its release, because subscribers
//! are the user's code.

use actix::Recipient;
use actix::prelude::SendError;
use parking_lot::Mutex;

use crate::actor::Happened;
use crate::crash::{Crash, Death};
use crate::decide::ledger::{Change, Stage};
use crate::decide::time::Time;
use crate::engine::span::SafeSpan;
use crate::engine::unwind::tell;
use crate::event::{ContainerState, Event};

impl Event {
    /// A container's stage has changed.
    pub(crate) fn of_change(change: &Change, now: Time) -> Self {
        let state = match change.stage {
            Stage::Starting => ContainerState::Starting,
            Stage::Live => ContainerState::Live,
            Stage::Exiting => ContainerState::Exiting,
            Stage::Absent => ContainerState::Stopped,
            Stage::BackingOff { until } => ContainerState::BackingOff { delay: until.since(now) },
        };
        Self::Container { container: change.container, generation: change.generation, state }
    }

    /// Emits the `tracing` event.
    pub(crate) fn speak(&self, app: &str, function: &str) {
        tell(|| self.emit(app, function));
    }

    fn emit(&self, app: &str, function: &str) {
        match self {
            Self::Container { container, generation, state } => {
                let (container, generation) = (container.index(), generation.get());
                match state {
                    ContainerState::Starting => {
                        tracing::debug!(app, function, container, generation, "container starting");
                    }
                    ContainerState::Live => {
                        tracing::debug!(app, function, container, generation, "container live");
                    }
                    ContainerState::Exiting => {
                        tracing::debug!(app, function, container, generation, "container exiting");
                    }
                    ContainerState::Stopped => {
                        tracing::debug!(app, function, container, generation, "container stopped");
                    }
                    ContainerState::BackingOff { delay } => {
                        tracing::info!(app, function, container, generation, ?delay, "container backing off");
                    }
                }
            }
            Self::Crashed(crash) => emit_crash(app, function, crash),
            Self::Killed(crash) => {
                let (container, generation) = (crash.container.index(), crash.generation.get());
                tracing::info!(app, function, container, generation, "container killed");
            }
            Self::CrashLoop { crashes, next_restart } => {
                tracing::info!(app, function, crashes, ?next_restart, "crash loop");
            }
            Self::Poisoned { map, input, attempts } => {
                let (map, attempts) = (map.as_deref(), attempts.get());
                tracing::warn!(app, function, map, input, attempts, "input poisoned");
            }
            Self::ExitTimedOut(container, limit) => {
                tracing::warn!(app, function, container = container.index(), ?limit, "exit timed out");
            }
            Self::GaveUp(gave_up) => {
                let crash = gave_up.in_full();
                tracing::error!(app, function, %crash, "function gave up");
            }
            Self::Reset => tracing::info!(app, function, "function reset"),
            Self::Ended(report) => {
                let threads = report.threads_running;
                tracing::debug!(app, function, threads_still_running = threads, "function ended");
            }
            Self::Missed(_) => {} // said to one subscriber only
        }
    }
}

/// One `warn` for each crash, inside the span of the input that was executing.
fn emit_crash(app: &str, function: &str, crash: &Crash) {
    let (input, attempt) =
        crash.executing.map_or((None, None), |(input, attempt)| (Some(input), Some(attempt.get())));
    let (cause, location) = match &crash.death {
        Death::Panicked(panic) | Death::EnterPanicked(panic) => {
            (Some(panic.message().to_owned()), panic.location())
        }
        Death::EnterFailed(error) => (Some(error.to_string()), None),
        Death::NoThread(error) => (Some(error.to_string()), None),
        death @ (Death::NoAccount | Death::MemoryLimit { .. }) => (Some(death.to_string()), None),
        Death::Killed => (None, None),
    };
    let span =
        || input.is_some().then(|| tracing::warn_span!("input", app, function, index = input, attempt));
    SafeSpan::tell_inside(span, || {
        tracing::warn!(
            app,
            function,
            container = crash.container.index(),
            generation = crash.generation.get(),
            input,
            attempt,
            cause,
            location,
            peak_bytes = crash.peak_bytes,
            "container crashed"
        );
    });
}

/// The actors that are told of events.
#[derive(Default)]
pub(crate) struct Audience(Mutex<Vec<Subscriber>>);

struct Subscriber {
    to: Recipient<Happened>,
    /// Events that found its mailbox full, not yet told.
    missed: u64,
}

impl Audience {
    pub(crate) fn add(&self, to: Recipient<Happened>) {
        self.0.lock().push(Subscriber { to, missed: 0 });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Nobody waits for a subscriber: what its mailbox does not take it misses, and is told so. One that
    /// has ended is forgotten.
    pub(crate) fn tell(&self, event: &Event) {
        self.0.lock().retain_mut(|subscriber| {
            if subscriber.missed > 0 {
                match subscriber.to.try_send(Happened(Event::Missed(subscriber.missed))) {
                    Ok(()) => subscriber.missed = 0,
                    Err(SendError::Full(_)) => {}
                    Err(SendError::Closed(_)) => return false,
                }
            }
            match subscriber.to.try_send(Happened(event.clone())) {
                Ok(()) => {}
                Err(SendError::Full(_)) => subscriber.missed += 1,
                Err(SendError::Closed(_)) => return false,
            }
            true
        });
    }
}

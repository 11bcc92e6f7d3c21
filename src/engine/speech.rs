//! The engine's voice: one `tracing` event for each thing worth telling, and the same for
//! subscribed actors. It prints nothing itself.
//!
//! Events are collected under the function's lock and told after its release, because subscribers
//! are the user's code.

use std::sync::{Arc, Weak};
use std::task::Waker;

use actix::Recipient;
use actix::prelude::SendError;
use parking_lot::Mutex;
use tracing::Level;

use crate::base::ids::Attempt;
use crate::contain::TARGET;
use crate::contain::unwind::tell;
use crate::decide::ledger::{Change, Stage};
use crate::decide::time::Time;
use crate::engine::actor::Happened;
use crate::engine::caller::Caller;
use crate::engine::events::{Events, Queue};
use crate::engine::span::SafeSpan;
use crate::engine::story::Telling;
use crate::values::crash::{Crash, Death};
use crate::values::event::{ContainerState, Event};

impl Event {
    /// What a change is told as.
    pub(crate) fn of_change(change: &Change, now: Time) -> Self {
        let (container, generation, stage) = match *change {
            Change::Stage { container, generation, stage } => (container, generation, stage),
            Change::Recovered { crashes, since } => {
                return Self::Recovered { crashes, after: now.since(since) };
            }
        };
        let state = match stage {
            Stage::Starting => ContainerState::Starting,
            Stage::Live => ContainerState::Live,
            Stage::Exiting => ContainerState::Exiting,
            Stage::Absent => ContainerState::Stopped,
            Stage::BackingOff { until } => ContainerState::BackingOff { delay: until.since(now) },
        };
        Self::Container { container, generation, state }
    }
}

/// The voice of one function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speech<'a> {
    pub(crate) app: &'a str,
    pub(crate) function: &'a str,
}

impl Speech<'_> {
    /// Emits the `tracing` event.
    pub(crate) fn speak(self, event: &Event, caller: &Caller, telling: Telling) {
        match event {
            Event::Crashed(crash) => self.crashed(crash, caller, telling),
            Event::Poisoned { input, attempts, .. } => self.poisoned(caller, *input, *attempts),
            _ => tell(|| self.emit(event, telling)),
        }
    }

    fn emit(self, event: &Event, telling: Telling) {
        let Self { app, function } = self;
        let repeats = if let Telling::InFull { repeats } = telling { repeats } else { 0 };
        match event {
            Event::Container { container, generation, state } => {
                let (container, generation) = (container.index(), generation.get());
                match state {
                    ContainerState::Starting => {
                        tracing::debug!(target: TARGET, app, function, container, generation, "container starting");
                    }
                    ContainerState::Live => {
                        tracing::debug!(target: TARGET, app, function, container, generation, "container live");
                    }
                    ContainerState::Exiting => {
                        tracing::debug!(target: TARGET, app, function, container, generation, "container exiting");
                    }
                    ContainerState::Stopped => {
                        tracing::debug!(target: TARGET, app, function, container, generation, "container stopped");
                    }
                    ContainerState::BackingOff { delay } => {
                        tracing::debug!(
                            target: TARGET, app, function, container, generation, ?delay, "container backing off"
                        );
                    }
                }
            }
            Event::Killed(crash) => {
                let (container, generation) = (crash.container.index(), crash.generation.get());
                tracing::info!(target: TARGET, app, function, container, generation, "container killed");
            }
            Event::CrashLoop { crashes, since, next_restart, crash } => {
                let (cause, location) = cause(crash);
                tracing::warn!(
                    target: TARGET, app, function, crashes, ?since, ?next_restart, cause, location, repeats,
                    "crash loop"
                );
            }
            Event::Recovered { crashes, after } => {
                tracing::info!(target: TARGET, app, function, crashes, ?after, repeats, "recovered from a crash loop");
            }
            Event::ExitTimedOut(container, limit) => {
                let container = container.index();
                tracing::warn!(target: TARGET, app, function, container, ?limit, "exit timed out");
            }
            Event::GaveUp(gave_up) => {
                let crash = gave_up.in_full();
                tracing::error!(target: TARGET, app, function, %crash, repeats, "function gave up");
            }
            Event::Reset => tracing::info!(target: TARGET, app, function, "function reset"),
            Event::Ended(report) => {
                let threads = report.threads_running;
                tracing::debug!(target: TARGET, app, function, threads_still_running = threads, "function ended");
            }
            Event::Missed(events) => {
                tracing::warn!(target: TARGET, app, function, events, "events were missed");
            }
            Event::Crashed(_) | Event::Poisoned { .. } => unreachable!("they are told in a span"),
        }
    }

    /// A crash, inside a span of the input that was executing. A repeat is a detail, and has no span.
    fn crashed(self, crash: &Crash, caller: &Caller, telling: Telling) {
        let (container, generation) = (crash.container.index(), crash.generation.get());
        let ((cause, location), peak_bytes) = (cause(crash), crash.peak_bytes);
        let attempt = crash.executing.map(|(_, attempt)| attempt.get());
        let input = crash.executing.and_then(|(index, _)| caller.input(index));
        let (map, call) = (caller.label().map(|label| &**label), caller.call);
        let Self { app, function } = self;
        let Telling::InFull { repeats } = telling else {
            return tell(|| {
                tracing::debug!(
                    target: TARGET, app, function, map, call, input, attempt, container, generation, cause, location,
                    peak_bytes, "container crashed again"
                );
            });
        };
        // Of the level of the event, so that whoever sees that also sees which input it was.
        let span = SafeSpan::new(|| {
            caller.in_its_subscriber(|parent| {
                Some(tracing::warn_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, attempt
                ))
            })
        });
        match span.filter(|_| crash.executing.is_some()) {
            Some(span) => span.tell_inside(|| {
                tracing::warn!(
                    target: TARGET, container, generation, cause, location, peak_bytes, repeats, "container crashed"
                );
            }),
            None => tell(|| {
                tracing::warn!(
                    target: TARGET, app, function, container, generation, cause, location, peak_bytes, repeats,
                    "container crashed"
                );
            }),
        }
    }

    /// Crashes that were only counted, and that nothing has told of since.
    pub(crate) fn repeats(self, crash: &Crash, repeats: u64) {
        let Self { app, function } = self;
        let (cause, location) = cause(crash);
        tell(
            || tracing::warn!(target: TARGET, app, function, cause, location, repeats, "containers crashed again"),
        );
    }

    fn poisoned(self, caller: &Caller, index: u64, attempts: Attempt) {
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call, caller.input(index));
        let attempts = attempts.get();
        tell(|| tracing::warn!(target: TARGET, app, function, map, call, input, attempts, "input poisoned"));
    }

    /// The span of one input, or of several from that one on, whose parent is the caller's.
    pub(crate) fn span(self, caller: &Caller, index: u64, attempt: Attempt) -> Option<SafeSpan> {
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call, caller.input(index));
        let attempt = attempt.get();
        SafeSpan::new(|| {
            caller.in_its_subscriber(|parent| {
                Some(tracing::info_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, attempt
                ))
            })
        })
    }

    /// The span of a lease of first attempts, where `TRACE` is on.
    pub(crate) fn trace_span(self, caller: &Caller, index: u64, inputs: u64) -> Option<SafeSpan> {
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call, caller.input(index));
        SafeSpan::new(|| {
            let traced = tracing::enabled!(target: TARGET, Level::TRACE);
            let span = |parent| {
                tracing::trace_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, inputs, attempt = 1
                )
            };
            traced.then(|| caller.in_its_subscriber(span))
        })
    }
}

/// Why a container crashed, and where in the user's code.
fn cause(crash: &Crash) -> (Option<String>, Option<&str>) {
    match &crash.death {
        Death::Panicked(panic) | Death::EnterPanicked(panic) => {
            (Some(panic.message().to_owned()), panic.location())
        }
        Death::EnterFailed(error) => (Some(error.to_string()), None),
        Death::NoThread(error) => (Some(error.to_string()), None),
        death @ (Death::NoAccount | Death::MemoryLimit { .. }) => (Some(death.to_string()), None),
        Death::Killed => (None, None),
    }
}

/// Those who are told of events.
#[derive(Default)]
pub(crate) struct Audience(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    actors: Vec<Subscriber>,
    /// Streams of events. Whoever reads one holds it, and nothing else does.
    streams: Vec<Weak<Queue>>,
    /// The end was told: nothing comes after it.
    over: bool,
}

struct Subscriber {
    to: Recipient<Happened>,
    /// Events that found its mailbox full, not yet told.
    missed: u64,
}

impl Subscriber {
    /// Whether it is still there. What its mailbox does not take it misses, and is told so.
    fn hears(&mut self, event: &Event) -> bool {
        if self.missed > 0 {
            match self.to.try_send(Happened(Event::Missed(self.missed))) {
                Ok(()) => self.missed = 0,
                Err(SendError::Full(_)) => {}
                Err(SendError::Closed(_)) => return false,
            }
        }
        match self.to.try_send(Happened(event.clone())) {
            Ok(()) => true,
            Err(SendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(SendError::Closed(_)) => false,
        }
    }
}

impl Audience {
    pub(crate) fn add(&self, to: Recipient<Happened>) {
        self.0.lock().actors.push(Subscriber { to, missed: 0 });
    }

    /// A stream of the events from now on.
    pub(crate) fn stream(&self) -> Events {
        let (events, queue) = Events::new();
        let mut seats = self.0.lock();
        if seats.over {
            drop(queue.close()); // nobody waits for it yet
        } else {
            seats.streams.push(Arc::downgrade(&queue));
        }
        events
    }

    pub(crate) fn is_empty(&self) -> bool {
        let seats = self.0.lock();
        seats.actors.is_empty() && seats.streams.is_empty()
    }

    /// Tells all, and waits for none of them. One that has ended is forgotten.
    pub(crate) fn tell(&self, event: &Event) {
        let (mut readers, mut told) = (Vec::new(), Vec::new()); // the last handle of a stream is dropped with no lock held
        {
            let mut seats = self.0.lock();
            seats.actors.retain_mut(|subscriber| subscriber.hears(event));
            seats.streams.retain(|stream| {
                let Some(stream) = stream.upgrade() else { return false };
                readers.extend(stream.add(event));
                told.push(stream);
                true
            });
            if matches!(event, Event::Ended(_)) {
                seats.over = true;
                seats.streams.clear();
            }
        }
        wake(readers);
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        let streams = std::mem::take(&mut self.0.get_mut().streams);
        let streams = streams.iter().filter_map(Weak::upgrade);
        wake(streams.filter_map(|stream| stream.close()).collect());
    }
}

/// Wakes readers of streams, with no lock held.
fn wake(readers: Vec<Waker>) {
    for reader in readers {
        tell(|| reader.wake());
    }
}

//! The telemetry of the engine: one `tracing` event for each notable event, and the same events as messages
//! for subscribed actors. It prints nothing itself.
//!
//! Events are collected under the function's lock and delivered after its release, because subscribers are
//! the user's code.

use std::sync::{Arc, Weak};
use std::task::Waker;

use actix::Recipient;
use actix::prelude::SendError;
use parking_lot::Mutex;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::base::ids::Attempt;
use crate::contain::TARGET;
use crate::contain::unwind::ignore_panic;
use crate::decide::ledger::{Change, ContainerStage};
use crate::decide::storm::StormReport;
use crate::decide::time::Time;
use crate::decide::wave::WaveReport;
use crate::engine::actor::Happened;
use crate::engine::caller::Caller;
use crate::engine::events::{EventQueue, Events};
use crate::engine::log_throttle::Detail;
use crate::engine::span::SafeSpan;
use crate::values::crash::{Crash, Death};
use crate::values::event::{ContainerState, Event};

impl Event {
    /// The event that reports a change of the ledger.
    pub(crate) fn of_change(change: &Change, now: Time) -> Self {
        let (container, generation, stage) = match *change {
            Change::Stage { container, generation, stage } => (container, generation, stage),
            Change::Recovered { crashes, since } => {
                return Self::Recovered { crashes, after: now.since(since) };
            }
            Change::HangEnded { container, generation, since } => {
                return Self::HangEnded { container, generation, after: now.since(since) };
            }
        };
        let state = match stage {
            ContainerStage::Starting => ContainerState::Starting,
            ContainerStage::Live => ContainerState::Live,
            ContainerStage::Exiting => ContainerState::Exiting,
            ContainerStage::Absent => ContainerState::Stopped,
            ContainerStage::BackingOff { until } => ContainerState::BackingOff { delay: until.since(now) },
        };
        Self::Container { container, generation, state }
    }
}

/// Why a container that hangs is kept.
const HUNG: &str = "its code does not return at its limit, and abandoned_max threads are left behind already";

/// Why a function takes no inputs.
const EXHAUSTED: &str = "every container hangs or is gone, and abandoned_max threads are left behind already";

/// The advice on threads that do not return.
const FREE_THREADS: &str =
    "find out what the code waits for, have it pass checkpoints, or restart the process";

/// The advice on attempts that take too long.
const TAKE_LONG: &str = "find out what the code waits for, or set a longer limit";

/// The advice on inputs that wait too long.
const WAIT_LONG: &str = "give the function more containers, or bound its calls with calls_max";

/// The advice on calls that are refused.
const CALL_LESS: &str = "call less often, give the function more containers, or wait for room with reserve";

/// The telemetry of one function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telemetry<'a> {
    pub(crate) app: &'a str,
    pub(crate) function: &'a str,
}

impl Telemetry<'_> {
    /// Emits the `tracing` event.
    pub(crate) fn log(self, event: &Event, caller: &Caller, mut detail: Detail) {
        if let Detail::NextStorm { before } = detail {
            self.storm(event, before); // an end names no input, so the event need not be one of that storm
            detail = Detail::InFull { repeats: 0 };
        }
        if let Detail::NextWave { before } = detail {
            self.overloads(before);
            detail = Detail::InFull { repeats: 0 };
        }
        match event {
            Event::Crashed(crash) => self.crashed(crash, caller, detail),
            Event::Poisoned { input, attempts, .. } => self.poisoned(caller, *input, *attempts),
            Event::TimedOut { .. } => self.timed_out(event, caller, detail),
            Event::Expired { .. } => self.expired(event, caller, detail),
            Event::Hung { .. } => self.hung(event, caller),
            _ => ignore_panic(|| self.emit(event, detail)),
        }
    }

    fn emit(self, event: &Event, detail: Detail) {
        let Self { app, function } = self;
        let repeats = if let Detail::InFull { repeats } = detail { repeats } else { 0 };
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
            Event::Paused => tracing::info!(target: TARGET, app, function, "function paused"),
            Event::Resumed => tracing::info!(target: TARGET, app, function, "function resumed"),
            Event::Ended(report) => {
                let threads = report.threads_running;
                tracing::debug!(target: TARGET, app, function, threads_still_running = threads, "function ended");
            }
            Event::Missed(events) => {
                tracing::warn!(target: TARGET, app, function, events, "events were missed");
            }
            Event::HangEnded { container, generation, after } => {
                let (container, generation) = (container.index(), generation.get());
                tracing::info!(target: TARGET, app, function, container, generation, ?after, "container has returned");
            }
            Event::Exhausted { hung, abandoned } => {
                tracing::error!(
                    target: TARGET, app, function, hung, abandoned, why = EXHAUSTED, advice = FREE_THREADS,
                    "function exhausted"
                );
            }
            Event::ExhaustionEnded { after } => {
                tracing::info!(target: TARGET, app, function, ?after, "function no longer exhausted");
            }
            Event::Overloaded { max, refused, since } if detail == Detail::Folded => {
                tracing::debug!(target: TARGET, app, function, calls_max = max, refused, ?since, "calls refused again");
            }
            Event::OverloadEnded { refused, lasted } if detail == Detail::Folded => {
                tracing::debug!(target: TARGET, app, function, refused, ?lasted, "not overloaded for now");
            }
            Event::Overloaded { max, refused, since } => {
                tracing::warn!(
                    target: TARGET, app, function, calls_max = max, refused, ?since, advice = CALL_LESS, "calls refused"
                );
            }
            Event::OverloadEnded { refused, lasted } => {
                tracing::info!(target: TARGET, app, function, refused, ?lasted, "no longer overloaded");
            }
            Event::Crashed(_)
            | Event::Poisoned { .. }
            | Event::TimedOut { .. }
            | Event::Expired { .. }
            | Event::Hung { .. } => {
                unreachable!("`log` handles these events")
            }
        }
    }

    /// Logs a crash, inside a span of the input that was executing. A repeat is logged at the debug level,
    /// without a span.
    fn crashed(self, crash: &Crash, caller: &Caller, detail: Detail) {
        let (container, generation) = (crash.container.index(), crash.generation.get());
        let ((cause, location), peak_bytes) = (cause(crash), crash.peak_bytes);
        let attempt = crash.executing.map(|(_, attempt)| attempt.get());
        let input = crash.executing.and_then(|(index, _)| caller.input(index));
        let (map, call) = (caller.label().map(|label| &**label), caller.call());
        let Self { app, function } = self;
        let Detail::InFull { repeats } = detail else {
            return ignore_panic(|| {
                tracing::debug!(
                    target: TARGET, app, function, map, call, input, attempt, container, generation, cause, location,
                    peak_bytes, "container crashed again"
                );
            });
        };
        // The span has the level of the event, so that a subscriber that takes the event also takes the span
        // with its input.
        let span = SafeSpan::new(|| {
            caller.in_its_subscriber(|parent| {
                Some(tracing::warn_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, attempt
                ))
            })
        });
        match span.filter(|_| crash.executing.is_some()) {
            Some(span) => span.emit_inside(|| {
                tracing::warn!(
                    target: TARGET, container, generation, cause, location, peak_bytes, repeats, "container crashed"
                );
            }),
            None => ignore_panic(|| {
                tracing::warn!(
                    target: TARGET, app, function, container, generation, cause, location, peak_bytes, repeats,
                    "container crashed"
                );
            }),
        }
    }

    /// Logs the number of crashes that were only counted, with the last of them.
    pub(super) fn repeats(self, crash: &Crash, repeats: u64) {
        let Self { app, function } = self;
        let (cause, location) = cause(crash);
        ignore_panic(
            || tracing::warn!(target: TARGET, app, function, cause, location, repeats, "containers crashed again"),
        );
    }

    /// Logs overloads that come and go and were only counted, or that they are over.
    pub(super) fn overloads(self, report: WaveReport) {
        let Self { app, function } = self;
        ignore_panic(|| match report {
            WaveReport::GoesOn { comings, events, since } => tracing::warn!(
                target: TARGET, app, function, overloads = comings, refused = events, ?since, advice = CALL_LESS,
                "calls refused again and again"
            ),
            WaveReport::Over { comings, events, lasted } => tracing::info!(
                target: TARGET, app, function, overloads = comings, refused = events, ?lasted, "no longer overloaded"
            ),
        });
    }

    fn poisoned(self, caller: &Caller, index: u64, attempts: Attempt) {
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(index));
        let attempts = attempts.get();
        ignore_panic(
            || tracing::warn!(target: TARGET, app, function, map, call, input, attempts, "input poisoned"),
        );
    }

    /// Logs the number of time-outs that were only counted, or that they are over. `last` is the last one.
    pub(super) fn storm(self, last: &Event, report: StormReport) {
        let Self { app, function } = self;
        let (map, limit) = match last {
            Event::TimedOut { map, limit, .. } | Event::Expired { map, limit, .. } => {
                (map.as_deref(), *limit)
            }
            _ => return,
        };
        let is_timeout = matches!(last, Event::TimedOut { is_deadline: false, .. });
        let waited = matches!(last, Event::Expired { .. });
        ignore_panic(|| match report {
            StormReport::GoesOn { repeats, events, since } if is_timeout => tracing::warn!(
                target: TARGET, app, function, map, ?limit, repeats, timeouts = events, ?since, advice = TAKE_LONG,
                "attempts timed out again"
            ),
            StormReport::GoesOn { repeats, events, since } if waited => tracing::warn!(
                target: TARGET, app, function, map, ?limit, repeats, deadlines = events, ?since, advice = WAIT_LONG,
                "deadlines exceeded again by inputs that waited"
            ),
            StormReport::GoesOn { repeats, events, since } => tracing::warn!(
                target: TARGET, app, function, map, ?limit, repeats, deadlines = events, ?since, advice = TAKE_LONG,
                "deadlines exceeded again"
            ),
            StormReport::Over { events, lasted } if is_timeout => tracing::info!(
                target: TARGET, app, function, timeouts = events, ?lasted, "attempts no longer time out"
            ),
            StormReport::Over { events, lasted } => tracing::info!(
                target: TARGET, app, function, deadlines = events, ?lasted, waited, "deadlines are no longer exceeded"
            ),
        });
    }

    fn expired(self, event: &Event, caller: &Caller, detail: Detail) {
        let Self { app, function } = self;
        let Event::Expired { input, inputs, limit, .. } = event else { return };
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(*input));
        ignore_panic(|| match detail {
            Detail::InFull { .. } | Detail::NextStorm { .. } | Detail::NextWave { .. } => tracing::info!(
                target: TARGET, app, function, map, call, input, inputs, ?limit, "deadline exceeded by inputs that waited"
            ),
            Detail::Folded => tracing::debug!(
                target: TARGET, app, function, map, call, input, inputs, ?limit,
                "deadline exceeded again by inputs that waited"
            ),
        });
    }

    fn hung(self, event: &Event, caller: &Caller) {
        let Self { app, function } = self;
        let Event::Hung { container, generation, input, attempt, abandoned, .. } = event else { return };
        let (container, generation) = (container.index(), generation.get());
        let (map, call) = (caller.label().map(|label| &**label), caller.call());
        let input = input.and_then(|input| caller.input(input));
        let attempt = attempt.map(Attempt::get);
        ignore_panic(|| {
            tracing::warn!(
                target: TARGET, app, function, map, call, input, attempt, container, generation, abandoned, why = HUNG,
                advice = FREE_THREADS, "container hangs"
            );
        });
    }

    fn timed_out(self, event: &Event, caller: &Caller, detail: Detail) {
        let Self { app, function } = self;
        let Event::TimedOut { input, attempt, limit, is_deadline, is_retried, .. } = event else { return };
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(*input));
        let attempt = attempt.get();
        ignore_panic(|| match (detail, *is_deadline) {
            (Detail::InFull { .. } | Detail::NextStorm { .. } | Detail::NextWave { .. }, true) => {
                tracing::info!(target: TARGET, app, function, map, call, input, attempt, ?limit, "deadline exceeded");
            }
            (Detail::InFull { .. } | Detail::NextStorm { .. } | Detail::NextWave { .. }, false) => {
                tracing::info!(
                    target: TARGET, app, function, map, call, input, attempt, ?limit, is_retried, "attempt timed out"
                )
            }
            (Detail::Folded, true) => tracing::debug!(
                target: TARGET, app, function, map, call, input, attempt, ?limit, "deadline exceeded again"
            ),
            (Detail::Folded, false) => tracing::debug!(
                target: TARGET, app, function, map, call, input, attempt, ?limit, is_retried, "attempt timed out again"
            ),
        });
    }

    /// The span of one input, or of several inputs from `index` on. It is a child of the caller's span.
    pub(crate) fn span(self, caller: &Caller, index: u64, attempt: Attempt) -> Option<SafeSpan> {
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(index));
        let attempt = attempt.get();
        SafeSpan::new(|| {
            caller.in_its_subscriber(|parent| {
                Some(tracing::info_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, attempt
                ))
            })
        })
    }

    /// The span of a lease of first attempts, if a subscriber takes the `TRACE` level.
    pub(crate) fn trace_span(self, caller: &Caller, index: u64, inputs: u64) -> Option<SafeSpan> {
        if LevelFilter::current() < LevelFilter::TRACE {
            return None; // no subscriber takes it, and this is asked for each lease
        }
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(index));
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

/// Why a container crashed, and the place in the user's code if there is one.
fn cause(crash: &Crash) -> (Option<String>, Option<&str>) {
    match &crash.death {
        Death::Panicked(panic) | Death::EnterPanicked(panic) => {
            (Some(panic.message().to_owned()), panic.location())
        }
        Death::EnterFailed(error) => (Some(error.to_string()), None),
        Death::NoThread(error) => (Some(error.to_string()), None),
        death @ (Death::NoAccount
        | Death::MemoryLimit { .. }
        | Death::EnterTimedOut { .. }
        | Death::Unresponsive) => (Some(death.to_string()), None),
        Death::Killed => (None, None),
    }
}

/// The subscribers to events: actors and streams.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    actors: Vec<Subscriber>,
    /// Streams of events. Only the reader of a stream keeps it alive.
    streams: Vec<Weak<EventQueue>>,
    /// The last event was sent.
    over: bool,
}

struct Subscriber {
    to: Recipient<Happened>,
    /// The number of events that found the mailbox full, and that no [`Event::Missed`] has reported yet.
    missed: u64,
}

impl Subscriber {
    /// Sends the event, and returns whether the actor still exists. An event that does not fit into its
    /// mailbox is missed, and counted.
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

impl Subscribers {
    pub(crate) fn add(&self, to: Recipient<Happened>) {
        self.0.lock().actors.push(Subscriber { to, missed: 0 });
    }

    /// A stream of the events from now on.
    pub(crate) fn stream(&self) -> Events {
        let (events, queue) = Events::new();
        let mut seats = self.0.lock();
        if seats.over {
            drop(queue.close()); // it has no reader yet
        } else {
            // The next event forgets dead streams, but there may be no next event for days.
            if seats.streams.len() == seats.streams.capacity() {
                seats.streams.retain(|stream| stream.strong_count() > 0);
            }
            seats.streams.push(Arc::downgrade(&queue));
        }
        events
    }

    pub(super) fn is_empty(&self) -> bool {
        let seats = self.0.lock();
        seats.actors.is_empty() && seats.streams.is_empty()
    }

    /// Sends an event to all subscribers without waiting for any. A subscriber misses the events that do not
    /// fit into its mailbox, and receives their number before the next event that does. A subscriber that has
    /// ended is removed.
    pub(super) fn send(&self, event: &Event) {
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

impl Drop for Subscribers {
    fn drop(&mut self) {
        let streams = std::mem::take(&mut self.0.get_mut().streams);
        let streams = streams.iter().filter_map(Weak::upgrade);
        wake(streams.filter_map(|stream| stream.close()).collect());
    }
}

/// Wakes readers of streams, with no lock held.
fn wake(readers: Vec<Waker>) {
    for reader in readers {
        ignore_panic(|| reader.wake());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::sync::{Arc, LazyLock};
    use std::time::Duration;

    use tracing::Subscriber;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
    use tracing_subscriber::registry::LookupSpan;

    use super::*;
    use crate::base::ids::{ContainerId, Generation};
    use crate::contain::drops::Stack;
    use crate::values::crash::{EnterError, Panic};
    use crate::values::gave_up::GaveUp;
    use crate::values::report::FunctionReport;

    const SECOND: Duration = Duration::from_secs(1);
    const TELEMETRY: Telemetry<'_> = Telemetry { app: "a", function: "f" };
    const IN_FULL: Detail = Detail::InFull { repeats: 0 };

    #[derive(Default)]
    struct Fields(BTreeMap<&'static str, String>);

    impl Visit for Fields {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.insert(field.name(), value.to_owned());
        }

        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.insert(field.name(), format!("{value:?}"));
        }
    }

    impl Fields {
        /// The line of all fields except the app and the function. Both must be named, unless the event is in
        /// a span.
        fn line(mut self, outer: Option<String>) -> String {
            let named = (self.0.remove("app"), self.0.remove("function"));
            if outer.is_none() {
                assert!(named.0.is_some() && named.1.is_some());
            }
            let message = self.0.remove("message").unwrap_or_default();
            let fields: String = self.0.into_iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{message}{fields}{}", outer.unwrap_or_default())
        }
    }

    /// Keeps each event as a line: its level, its message, its fields by name, and the span that it is in.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            let level = attributes.metadata().level();
            let span = context.span(id).expect("the span was just made");
            span.extensions_mut().insert(format!("{level}{}", fields.line(None)));
        }

        fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let span = context.event_span(event);
            let span =
                span.and_then(|span| span.extensions().get::<String>().map(|span| format!(" in {span}")));
            let line = format!("{} {}", event.metadata().level(), fields.line(span));
            self.0.lock().push(line);
        }
    }

    /// The lines that `log` logs.
    pub(crate) fn said(log: impl FnOnce()) -> Vec<String> {
        // While a process has one subscriber, the thread that comes to a line first decides for all threads
        // whether the line is wanted. Two subscribers that stay, and hear nothing, keep `tracing` from that.
        static KEPT: LazyLock<[tracing::Dispatch; 2]> = LazyLock::new(|| {
            [(); 2].map(|()| tracing::Dispatch::new(tracing_subscriber::registry().with(Lines::default())))
        });
        LazyLock::force(&KEPT);
        let lines = Lines::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.clone()), log);
        lines.0.lock().clone()
    }

    fn crash(death: Death) -> Crash {
        let (executing, peak_bytes) = (Some((7, Attempt(3))), Some(64));
        let (container, generation) = (ContainerId(2), Generation(5));
        Crash { container, generation, executing, map: None, call: None, peak_bytes, death }
    }

    fn panic() -> Death {
        Death::Panicked(Panic { message: "gone".to_owned(), location: Some("a.rs:1:2".to_owned()) })
    }

    #[test]
    fn each_stage_has_an_event_of_its_own() {
        let (container, generation) = (ContainerId(2), Generation(5));
        let until = Time(3 * SECOND);
        for (stage, state) in [
            (ContainerStage::Starting, ContainerState::Starting),
            (ContainerStage::Live, ContainerState::Live),
            (ContainerStage::Exiting, ContainerState::Exiting),
            (ContainerStage::Absent, ContainerState::Stopped),
            (ContainerStage::BackingOff { until }, ContainerState::BackingOff { delay: 2 * SECOND }),
        ] {
            let event = Event::of_change(&Change::Stage { container, generation, stage }, Time(SECOND));
            let Event::Container { container: of, generation: life, state: told } = event else {
                panic!("{event:?}")
            };
            assert_eq!((of, life, told), (container, generation, state));
        }
        let over = Change::Recovered { crashes: 4, since: Time(SECOND) };
        let event = Event::of_change(&over, Time(3 * SECOND));
        assert!(matches!(event, Event::Recovered { crashes: 4, after } if after == 2 * SECOND), "{event:?}");
    }

    #[test]
    fn each_event_is_one_line_with_its_numbers() {
        let state = |state| Event::Container { container: ContainerId(2), generation: Generation(5), state };
        let killed = || Arc::new(crash(Death::Killed));
        let gave_up = GaveUp::new(Vec::new(), killed());
        let report = FunctionReport { threads_running: 3, ..FunctionReport::unknown("f") };
        let crash_loop = Event::CrashLoop {
            crashes: 4,
            since: SECOND,
            next_restart: 2 * SECOND,
            crash: Arc::new(crash(panic())),
        };
        for (event, line) in [
            (state(ContainerState::Starting), "DEBUG container starting container=2 generation=5"),
            (state(ContainerState::Live), "DEBUG container live container=2 generation=5"),
            (state(ContainerState::Exiting), "DEBUG container exiting container=2 generation=5"),
            (state(ContainerState::Stopped), "DEBUG container stopped container=2 generation=5"),
            (
                state(ContainerState::BackingOff { delay: SECOND }),
                "DEBUG container backing off container=2 delay=1s generation=5",
            ),
            (Event::Killed(killed()), "INFO container killed container=2 generation=5"),
            (
                crash_loop,
                "WARN crash loop cause=gone crashes=4 location=a.rs:1:2 next_restart=2s repeats=9 since=1s",
            ),
            (
                Event::Recovered { crashes: 4, after: SECOND },
                "INFO recovered from a crash loop after=1s crashes=4 repeats=9",
            ),
            (
                Event::Poisoned { map: None, call: None, input: 7, attempts: Attempt(4) },
                "WARN input poisoned attempts=4 input=7",
            ),
            (Event::ExitTimedOut(ContainerId(2), SECOND), "WARN exit timed out container=2 limit=1s"),
            (
                Event::GaveUp(gave_up),
                "ERROR function gave up crash=container 2#5 (input 7, attempt 3) killed by hand repeats=9",
            ),
            (timed_out(false), "INFO attempt timed out attempt=2 input=7 is_retried=true limit=1s"),
            (timed_out(true), "INFO deadline exceeded attempt=2 input=7 limit=1s"),
            (
                Event::Expired { map: None, call: None, input: 7, inputs: 3, limit: SECOND },
                "INFO deadline exceeded by inputs that waited input=7 inputs=3 limit=1s",
            ),
            (
                Event::Hung {
                    container: ContainerId(2),
                    generation: Generation(5),
                    map: None,
                    call: None,
                    input: Some(7),
                    attempt: Some(Attempt(3)),
                    abandoned: 8,
                },
                "WARN container hangs abandoned=8 advice=find out what the code waits for, have it pass checkpoints, \
                 or restart the process attempt=3 container=2 generation=5 input=7 why=its code does not return at its \
                 limit, and abandoned_max threads are left behind already",
            ),
            (
                Event::HangEnded { container: ContainerId(2), generation: Generation(5), after: SECOND },
                "INFO container has returned after=1s container=2 generation=5",
            ),
            (
                Event::Exhausted { hung: 4, abandoned: 8 },
                "ERROR function exhausted abandoned=8 advice=find out what the code waits for, have it pass \
                 checkpoints, or restart the process hung=4 why=every container hangs or is gone, and abandoned_max \
                 threads are left behind already",
            ),
            (Event::ExhaustionEnded { after: SECOND }, "INFO function no longer exhausted after=1s"),
            (
                Event::Overloaded { max: 16, refused: 300, since: SECOND },
                "WARN calls refused advice=call less often, give the function more containers, or wait for room with \
                 reserve calls_max=16 refused=300 since=1s",
            ),
            (
                Event::OverloadEnded { refused: 300, lasted: SECOND },
                "INFO no longer overloaded lasted=1s refused=300",
            ),
            (Event::Reset, "INFO function reset"),
            (Event::Paused, "INFO function paused"),
            (Event::Resumed, "INFO function resumed"),
            (Event::Ended(report), "DEBUG function ended threads_still_running=3"),
            (Event::Missed(8), "WARN events were missed events=8"),
        ] {
            let detail = Detail::InFull { repeats: 9 };
            assert_eq!(said(|| TELEMETRY.log(&event, &Caller::default(), detail)), [line]);
        }
    }

    #[test]
    fn a_crash_is_logged_in_the_span_of_its_input_and_a_repeat_at_the_debug_level() {
        let labelled = Caller::within(None, Some("urls".into()));
        let call = Caller::default().of_call(9);
        let event = Event::Crashed(Arc::new(crash(panic())));
        let cause = "cause=gone container=2 generation=5 location=a.rs:1:2 peak_bytes=64";
        let in_full = format!("WARN container crashed {cause} repeats=0");
        for (caller, input) in [
            (&Caller::default(), "attempt=3 input=7"),
            (&labelled, "attempt=3 input=7 map=urls"),
            (&call, "attempt=3 call=9"),
        ] {
            assert_eq!(
                said(|| TELEMETRY.log(&event, caller, IN_FULL)),
                [format!("{in_full} in WARN {input}")]
            );
        }
        let folded = "DEBUG container crashed again attempt=3 cause=gone container=2 generation=5 input=7 \
                      location=a.rs:1:2 peak_bytes=64";
        assert_eq!(said(|| TELEMETRY.log(&event, &Caller::default(), Detail::Folded)), [folded]);
        let idle = Event::Crashed(Arc::new(Crash { executing: None, ..crash(panic()) }));
        assert_eq!(said(|| TELEMETRY.log(&idle, &Caller::default(), IN_FULL)), [in_full]);
        let repeats = "WARN containers crashed again cause=gone location=a.rs:1:2 repeats=6";
        assert_eq!(said(|| TELEMETRY.repeats(&crash(panic()), 6)), [repeats]);
    }

    fn timed_out(is_deadline: bool) -> Event {
        let (attempt, limit, is_retried) = (Attempt(2), SECOND, !is_deadline);
        Event::TimedOut { map: None, call: None, input: 7, attempt, limit, is_deadline, is_retried }
    }

    #[test]
    fn a_storm_of_time_outs_is_logged_with_its_numbers_and_its_repeats_at_the_debug_level() {
        let expired =
            Event::Expired { map: Some("urls".into()), call: None, input: 7, inputs: 3, limit: SECOND };
        let goes_on = StormReport::GoesOn { repeats: 40, events: 90, since: 3 * SECOND };
        let over = StormReport::Over { events: 90, lasted: 2 * SECOND };
        for (event, folded, sum, end) in [
            (
                timed_out(false),
                "DEBUG attempt timed out again attempt=2 input=7 is_retried=true limit=1s",
                "WARN attempts timed out again advice=find out what the code waits for, or set a longer limit limit=1s \
                 repeats=40 since=3s timeouts=90",
                "INFO attempts no longer time out lasted=2s timeouts=90",
            ),
            (
                timed_out(true),
                "DEBUG deadline exceeded again attempt=2 input=7 limit=1s",
                "WARN deadlines exceeded again advice=find out what the code waits for, or set a longer limit \
                 deadlines=90 limit=1s repeats=40 since=3s",
                "INFO deadlines are no longer exceeded deadlines=90 lasted=2s waited=false",
            ),
            (
                expired,
                "DEBUG deadline exceeded again by inputs that waited input=7 inputs=3 limit=1s",
                "WARN deadlines exceeded again by inputs that waited advice=give the function more containers, or bound \
                 its calls with calls_max deadlines=90 limit=1s map=urls repeats=40 since=3s",
                "INFO deadlines are no longer exceeded deadlines=90 lasted=2s waited=true",
            ),
        ] {
            assert_eq!(said(|| TELEMETRY.log(&event, &Caller::default(), Detail::Folded)), [folded]);
            assert_eq!(said(|| TELEMETRY.storm(&event, goes_on)), [sum]);
            assert_eq!(said(|| TELEMETRY.storm(&event, over)), [end]);
            let first = said(|| TELEMETRY.log(&event, &Caller::default(), IN_FULL));
            let next = said(|| TELEMETRY.log(&event, &Caller::default(), Detail::NextStorm { before: over }));
            assert_eq!(next, [end, &first[0]], "the end of the storm before comes first");
        }
    }

    #[test]
    fn overloads_that_come_and_go_are_logged_with_their_numbers_and_each_at_the_debug_level() {
        let begins = Event::Overloaded { max: 16, refused: 1, since: Duration::ZERO };
        let ends = Event::OverloadEnded { refused: 3, lasted: SECOND };
        let folded = |event| said(|| TELEMETRY.log(event, &Caller::default(), Detail::Folded));
        assert_eq!(folded(&begins), ["DEBUG calls refused again calls_max=16 refused=1 since=0ns"]);
        assert_eq!(folded(&ends), ["DEBUG not overloaded for now lasted=1s refused=3"]);
        let goes_on = WaveReport::GoesOn { comings: 5, events: 90, since: 60 * SECOND };
        let sum = "WARN calls refused again and again advice=call less often, give the function more containers, or \
                   wait for room with reserve overloads=5 refused=90 since=60s";
        assert_eq!(said(|| TELEMETRY.overloads(goes_on)), [sum]);
        let over = WaveReport::Over { comings: 5, events: 90, lasted: 60 * SECOND };
        let end = "INFO no longer overloaded lasted=60s overloads=5 refused=90";
        assert_eq!(said(|| TELEMETRY.overloads(over)), [end]);
        let first = said(|| TELEMETRY.log(&begins, &Caller::default(), IN_FULL));
        let next = said(|| TELEMETRY.log(&begins, &Caller::default(), Detail::NextWave { before: over }));
        assert_eq!(next, [end, &first[0]], "the end of the wave before comes first");
    }

    #[test]
    fn an_execution_has_a_span_that_names_its_inputs() {
        let within = |span: Option<SafeSpan>| {
            let span = span.expect("a subscriber listens");
            span.emit_inside(|| tracing::info!(target: TARGET, "inside"));
        };
        let caller = Caller::within(None, Some("urls".into()));
        let one = said(|| within(TELEMETRY.span(&caller, 7, Attempt(3))));
        assert_eq!(one, ["INFO inside in INFO attempt=3 input=7 map=urls"]);
        let several = said(|| within(TELEMETRY.trace_span(&caller, 7, 5)));
        assert_eq!(several, ["INFO inside in TRACE attempt=1 input=7 inputs=5 map=urls"]);
    }

    #[test]
    fn each_cause_of_a_crash_is_logged_with_its_message_and_its_place() {
        let enter_panic = Panic { message: "no".to_owned(), location: None };
        let enter_error = EnterError::new("no database".into(), Stack::of_any());
        let no_thread = std::io::Error::other("too many");
        let memory = Death::MemoryLimit { limit: 1, used: 2, reclaimed: true };
        for (death, text, location) in [
            (panic(), Some("gone"), Some("a.rs:1:2")),
            (Death::EnterPanicked(enter_panic), Some("no"), None),
            (Death::EnterFailed(Arc::new(enter_error)), Some("no database"), None),
            (Death::NoThread(Arc::new(no_thread)), Some("too many"), None),
            (Death::NoAccount, Some("no memory account was free"), None),
            (memory, Some("used 2 bytes of memory, over the limit of 1"), None),
            (Death::Killed, None, None),
        ] {
            let crash = crash(death);
            let (told, place) = cause(&crash);
            assert_eq!((told.as_deref(), place), (text, location));
        }
    }

    /// Keeps the events that it receives. Its mailbox holds two.
    struct Listener(Arc<Mutex<Vec<Event>>>);

    impl actix::Actor for Listener {
        type Context = actix::Context<Self>;

        fn started(&mut self, context: &mut Self::Context) {
            context.set_mailbox_capacity(2);
        }
    }

    impl actix::Handler<Happened> for Listener {
        type Result = ();

        fn handle(&mut self, Happened(event): Happened, _: &mut Self::Context) {
            self.0.lock().push(event);
        }
    }

    #[test]
    fn a_subscriber_receives_each_event_in_order_or_the_number_of_missed_events() {
        use actix::Actor;

        let heard = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&heard);
        actix::System::new().block_on(async move {
            let subscribers = Subscribers::default();
            assert!(subscribers.is_empty());
            let listener = Listener(keeps).start();
            subscribers.add(listener.clone().recipient());
            assert!(!subscribers.is_empty());
            let mut happened = 0;
            // The listener empties its mailbox between two bursts. The mailbox holds a whole burst of 1, but
            // not one of 20 or 30.
            for burst in [1, 1, 20, 1, 30, 1] {
                for _ in 0..burst {
                    subscribers.send(&Event::ExitTimedOut(ContainerId(happened), SECOND));
                    happened += 1;
                }
                listener.send(Happened(Event::Reset)).await.expect("the listener runs");
            }
            assert_eq!(happened, 54);
        });
        let (mut next, mut missed) = (0, Vec::new());
        for event in heard.lock().iter() {
            match event {
                Event::ExitTimedOut(number, _) => {
                    assert_eq!(number.0, next);
                    next += 1;
                }
                Event::Missed(events) => {
                    missed.push(*events);
                    next += *events as u32;
                }
                _ => {}
            }
        }
        assert_eq!(next, 54);
        assert!(missed.len() == 2 && !missed.contains(&0), "{missed:?}");
    }

    #[test]
    fn streams_whose_readers_are_gone_are_forgotten_while_no_event_is_sent() {
        let subscribers = Subscribers::default();
        for _ in 0..1000 {
            drop(subscribers.stream());
        }
        let kept = subscribers.0.lock().streams.len();
        assert!(kept <= 4, "{kept} streams are kept");
    }
}

//! The telemetry of the engine: one `tracing` event for each notable event. It prints nothing itself.
//! The same events are messages for the [`subscribers`](crate::engine::subscribers).
//!
//! Events are collected under the function's lock and delivered after its release, because subscribers
//! are the user's code.

use crate::base::ids::Attempt;
use crate::contain::TARGET;
use crate::contain::unwind::ignore_panic;
use crate::decide::ledger::{Change, ContainerStage};
use crate::decide::storm::StormReport;
use crate::decide::time::Time;
use crate::decide::wave::WaveReport;
use crate::engine::caller::Caller;
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
            Event::Overloaded { max, refused, since } if detail == Detail::Again => tracing::warn!(
                target: TARGET, app, function, calls_max = max, refused, ?since, advice = CALL_LESS, "calls refused again"
            ),
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
            Detail::InFull { .. } | Detail::NextStorm { .. } | Detail::NextWave { .. } | Detail::Again => {
                tracing::info!(
                    target: TARGET, app, function, map, call, input, inputs, ?limit, "deadline exceeded by inputs that waited"
                )
            }
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
            (
                Detail::InFull { .. } | Detail::NextStorm { .. } | Detail::NextWave { .. } | Detail::Again,
                true,
            ) => {
                tracing::info!(target: TARGET, app, function, map, call, input, attempt, ?limit, "deadline exceeded");
            }
            (
                Detail::InFull { .. } | Detail::NextStorm { .. } | Detail::NextWave { .. } | Detail::Again,
                false,
            ) => {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::base::ids::{ContainerId, Generation};
    use crate::contain::drops::Stack;
    use crate::values::crash::{EnterError, Panic};

    const SECOND: Duration = Duration::from_secs(1);

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
    fn each_cause_of_a_crash_is_logged_with_its_message_and_its_place() {
        let panic = Panic { message: "gone".to_owned(), location: Some("a.rs:1:2".to_owned()) };
        let enter_panic = Panic { message: "no".to_owned(), location: None };
        let enter_error = EnterError::new("no database".into(), Stack::of_any());
        let no_thread = std::io::Error::other("too many");
        let memory = Death::MemoryLimit { limit: 1, used: 2, reclaimed: true };
        for (death, text, location) in [
            (Death::Panicked(panic), Some("gone"), Some("a.rs:1:2")),
            (Death::EnterPanicked(enter_panic), Some("no"), None),
            (Death::EnterFailed(Arc::new(enter_error)), Some("no database"), None),
            (Death::NoThread(Arc::new(no_thread)), Some("too many"), None),
            (Death::NoAccount, Some("no memory account was free"), None),
            (memory, Some("used 2 bytes of memory, over the limit of 1"), None),
            (Death::Killed, None, None),
        ] {
            let (container, generation) = (ContainerId(2), Generation(5));
            let crash = Crash {
                container,
                generation,
                executing: None,
                map: None,
                call: None,
                peak_bytes: None,
                death,
            };
            let (told, place) = cause(&crash);
            assert_eq!((told.as_deref(), place), (text, location));
        }
    }
}

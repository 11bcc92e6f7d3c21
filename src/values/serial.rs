//! The serialized form of the values that users read: durations are whole milliseconds, values of the user's
//! are text.
//!
//! Names are stable: they may be added, but are neither changed nor removed. `tests/it/serialized.rs` checks
//! them.

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::values::crash::Crash;
use crate::values::event::{ContainerState, Event};
use crate::values::gave_up::GaveUp;
use crate::values::report::{Fate, FunctionReport};

/// A duration in whole milliseconds.
pub(super) fn ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// An optional duration in whole milliseconds. A field without a value should be skipped.
pub(super) fn maybe_ms<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => ms(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// A duration in whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Serialize for Crash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Plain<'a> {
            container: usize,
            generation: u64,
            kind: &'static str,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            location: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            map: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            call: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            input: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            attempt: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            peak_bytes: Option<u64>,
        }

        let plain = Plain {
            container: self.container.index(),
            generation: self.generation.get(),
            kind: self.death.kind().as_str(),
            message: self.death.text(),
            location: self.death.location(),
            map: self.map.as_deref(),
            call: self.call,
            input: self.executing.map(|(input, _)| input).filter(|_| self.call.is_none()),
            attempt: self.executing.map(|(_, attempt)| attempt.get()),
            peak_bytes: self.peak_bytes,
        };
        plain.serialize(serializer)
    }
}

impl Serialize for GaveUp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut gave_up = serializer.serialize_struct("GaveUp", 3)?;
        gave_up.serialize_field("message", &self.in_full().to_string())?;
        gave_up.serialize_field("first", &Crashes(self.first()))?;
        gave_up.serialize_field("last", &**self.last())?;
        gave_up.end()
    }
}

/// Crashes behind pointers, serialized as crashes.
struct Crashes<'a>(&'a [std::sync::Arc<Crash>]);

impl Serialize for Crashes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|crash| &**crash))
    }
}

/// The last crash of a function, with its age.
pub(super) fn last_crash<S: Serializer>(
    crash: &Option<(Duration, std::sync::Arc<Crash>)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Aged<'a> {
        #[serde(serialize_with = "ms")]
        ago_ms: Duration,
        crash: &'a Crash,
    }

    match crash {
        Some((ago, crash)) => Aged { ago_ms: *ago, crash }.serialize(serializer),
        None => serializer.serialize_none(),
    }
}

/// How each container ended, with its number.
pub(crate) fn fates<S: Serializer>(fates: &[(ContainerId, Fate)], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Of<'a> {
        container: ContainerId,
        #[serde(flatten)]
        fate: &'a Fate,
    }

    serializer.collect_seq(fates.iter().map(|(container, fate)| Of { container: *container, fate }))
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// A form of the value with a name for each field.
        #[derive(serde::Serialize)]
        #[serde(tag = "event", rename_all = "snake_case")]
        enum Named<'a> {
            Container {
                container: ContainerId,
                generation: Generation,
                #[serde(flatten)]
                state: ContainerState,
            },
            Crashed(&'a Crash),
            Killed(&'a Crash),
            CrashLoop {
                crashes: u32,
                #[serde(serialize_with = "ms")]
                since_ms: Duration,
                #[serde(serialize_with = "ms")]
                next_restart_ms: Duration,
                crash: &'a Crash,
            },
            Recovered {
                crashes: u32,
                #[serde(serialize_with = "ms")]
                after_ms: Duration,
            },
            Poisoned {
                #[serde(skip_serializing_if = "Option::is_none")]
                map: Option<&'a str>,
                #[serde(skip_serializing_if = "Option::is_none")]
                call: Option<u64>,
                input: u64,
                attempts: Attempt,
            },
            TimedOut {
                #[serde(skip_serializing_if = "Option::is_none")]
                map: Option<&'a str>,
                #[serde(skip_serializing_if = "Option::is_none")]
                call: Option<u64>,
                input: u64,
                attempt: Attempt,
                #[serde(serialize_with = "ms")]
                limit_ms: Duration,
                is_deadline: bool,
                is_retried: bool,
            },
            Expired {
                #[serde(skip_serializing_if = "Option::is_none")]
                map: Option<&'a str>,
                #[serde(skip_serializing_if = "Option::is_none")]
                call: Option<u64>,
                input: u64,
                inputs: u64,
                #[serde(serialize_with = "ms")]
                limit_ms: Duration,
            },
            Hung {
                container: ContainerId,
                generation: Generation,
                #[serde(skip_serializing_if = "Option::is_none")]
                map: Option<&'a str>,
                #[serde(skip_serializing_if = "Option::is_none")]
                call: Option<u64>,
                #[serde(skip_serializing_if = "Option::is_none")]
                input: Option<u64>,
                #[serde(skip_serializing_if = "Option::is_none")]
                attempt: Option<Attempt>,
                abandoned: usize,
            },
            HangEnded {
                container: ContainerId,
                generation: Generation,
                #[serde(serialize_with = "ms")]
                after_ms: Duration,
            },
            Exhausted {
                hung: usize,
                abandoned: usize,
            },
            ExhaustionEnded {
                #[serde(serialize_with = "ms")]
                after_ms: Duration,
            },
            Overloaded {
                max: u64,
                refused: u64,
                #[serde(serialize_with = "ms")]
                since_ms: Duration,
            },
            OverloadEnded {
                refused: u64,
                #[serde(serialize_with = "ms")]
                lasted_ms: Duration,
            },
            ExitTimedOut {
                container: ContainerId,
                #[serde(serialize_with = "ms")]
                limit_ms: Duration,
            },
            GaveUp(&'a GaveUp),
            Reset,
            Paused,
            Resumed,
            Ended(&'a FunctionReport),
            Missed {
                events: u64,
            },
        }

        let named = match self {
            Self::Container { container, generation, state } => {
                Named::Container { container: *container, generation: *generation, state: *state }
            }
            Self::Crashed(crash) => Named::Crashed(crash),
            Self::Killed(crash) => Named::Killed(crash),
            Self::CrashLoop { crashes, since, next_restart, crash } => Named::CrashLoop {
                crashes: *crashes,
                since_ms: *since,
                next_restart_ms: *next_restart,
                crash,
            },
            Self::Recovered { crashes, after } => Named::Recovered { crashes: *crashes, after_ms: *after },
            Self::Poisoned { map, call, input, attempts } => {
                Named::Poisoned { map: map.as_deref(), call: *call, input: *input, attempts: *attempts }
            }
            Self::TimedOut { map, call, input, attempt, limit, is_deadline, is_retried } => Named::TimedOut {
                map: map.as_deref(),
                call: *call,
                input: *input,
                attempt: *attempt,
                limit_ms: *limit,
                is_deadline: *is_deadline,
                is_retried: *is_retried,
            },
            Self::Expired { map, call, input, inputs, limit } => Named::Expired {
                map: map.as_deref(),
                call: *call,
                input: *input,
                inputs: *inputs,
                limit_ms: *limit,
            },
            Self::Hung { container, generation, map, call, input, attempt, abandoned } => Named::Hung {
                container: *container,
                generation: *generation,
                map: map.as_deref(),
                call: *call,
                input: *input,
                attempt: *attempt,
                abandoned: *abandoned,
            },
            Self::HangEnded { container, generation, after } => {
                Named::HangEnded { container: *container, generation: *generation, after_ms: *after }
            }
            Self::Exhausted { hung, abandoned } => Named::Exhausted { hung: *hung, abandoned: *abandoned },
            Self::ExhaustionEnded { after } => Named::ExhaustionEnded { after_ms: *after },
            Self::Overloaded { max, refused, since } => {
                Named::Overloaded { max: *max, refused: *refused, since_ms: *since }
            }
            Self::OverloadEnded { refused, lasted } => {
                Named::OverloadEnded { refused: *refused, lasted_ms: *lasted }
            }
            Self::ExitTimedOut(container, limit) => {
                Named::ExitTimedOut { container: *container, limit_ms: *limit }
            }
            Self::GaveUp(gave_up) => Named::GaveUp(gave_up),
            Self::Reset => Named::Reset,
            Self::Paused => Named::Paused,
            Self::Resumed => Named::Resumed,
            Self::Ended(report) => Named::Ended(report),
            Self::Missed(events) => Named::Missed { events: *events },
        };
        named.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn the_events_about_limits_have_stable_names() {
        let second = Duration::from_secs(1);
        let (container, generation) = (ContainerId(2), Generation(5));
        let map = || Some("urls".into());
        for (event, named) in [
            (
                Event::Expired { map: map(), call: None, input: 7, inputs: 3, limit: second },
                json!({"event": "expired", "map": "urls", "input": 7, "inputs": 3, "limit_ms": 1000}),
            ),
            (
                Event::Hung {
                    container,
                    generation,
                    map: None,
                    call: Some(9),
                    input: Some(0),
                    attempt: Some(Attempt(3)),
                    abandoned: 8,
                },
                json!({
                    "event": "hung", "container": 2, "generation": 5, "call": 9, "input": 0, "attempt": 3,
                    "abandoned": 8
                }),
            ),
            (
                Event::HangEnded { container, generation, after: second },
                json!({"event": "hang_ended", "container": 2, "generation": 5, "after_ms": 1000}),
            ),
            (
                Event::Exhausted { hung: 1, abandoned: 8 },
                json!({"event": "exhausted", "hung": 1, "abandoned": 8}),
            ),
            (
                Event::ExhaustionEnded { after: second },
                json!({"event": "exhaustion_ended", "after_ms": 1000}),
            ),
            (
                Event::Overloaded { max: 4, refused: 9, since: second },
                json!({"event": "overloaded", "max": 4, "refused": 9, "since_ms": 1000}),
            ),
            (
                Event::OverloadEnded { refused: 9, lasted: second },
                json!({"event": "overload_ended", "refused": 9, "lasted_ms": 1000}),
            ),
        ] {
            assert_eq!(to_value(&event).expect("it has no maps"), named);
        }
    }
}

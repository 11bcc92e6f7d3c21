//! Facts: what a history hears, one after the other.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId};
use crate::decide::time::Time;
use crate::values::crash::Crash;
use crate::values::event::Event;
use crate::values::snapshot::rows::InputName;

/// Something that happened to a function and that its snapshots show.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// A container died. `completed` inputs of the function had been completed by then.
    Died {
        crash: Arc<Crash>,
        job: Option<u64>,
        completed: u64,
    },
    /// An input was poisoned. The sender numbers these inputs, and may send the description later.
    Poisoned {
        number: u64,
        input: InputName,
        attempts: Attempt,
        last: Option<Arc<Crash>>,
        description: Option<String>,
    },
    /// The description of the poisoned input with this number.
    Described {
        number: u64,
        description: String,
    },
    /// A crash loop reached its next delay.
    CrashLoop {
        crashes: u32,
        since: Time,
        next_restart: Time,
    },
    /// A crash loop ended.
    Recovered {
        crashes: u32,
        since: Time,
    },
    ExitTimedOut(ContainerId),
    Hung(ContainerId),
    HangEnded(ContainerId),
    Exhausted,
    ExhaustionEnded,
    /// Calls are refused, or were refused and no more are.
    Overloaded {
        refused: u64,
        ended: bool,
    },
    GaveUp,
    Reset,
    Paused,
    Resumed,
    Ended,
}

impl Fact {
    /// The fact of an event. Deaths and poisoned inputs are not made here, because their senders know more
    /// than the event.
    pub(crate) fn of(event: &Event, now: Time) -> Option<Self> {
        let before = |age: Duration| Time(now.0.saturating_sub(age));
        match event {
            Event::CrashLoop { crashes, since, next_restart, .. } => Some(Self::CrashLoop {
                crashes: *crashes,
                since: before(*since),
                next_restart: now + *next_restart,
            }),
            Event::Recovered { crashes, after } => {
                Some(Self::Recovered { crashes: *crashes, since: before(*after) })
            }
            Event::ExitTimedOut(container, _) => Some(Self::ExitTimedOut(*container)),
            Event::Hung { container, .. } => Some(Self::Hung(*container)),
            Event::HangEnded { container, .. } => Some(Self::HangEnded(*container)),
            Event::Exhausted { .. } => Some(Self::Exhausted),
            Event::ExhaustionEnded { .. } => Some(Self::ExhaustionEnded),
            Event::Overloaded { refused, .. } => Some(Self::Overloaded { refused: *refused, ended: false }),
            Event::OverloadEnded { refused, .. } => Some(Self::Overloaded { refused: *refused, ended: true }),
            Event::GaveUp(_) => Some(Self::GaveUp),
            Event::Reset => Some(Self::Reset),
            Event::Paused => Some(Self::Paused),
            Event::Resumed => Some(Self::Resumed),
            Event::Ended(_) => Some(Self::Ended),
            Event::Container { .. }
            | Event::Crashed(_)
            | Event::Killed(_)
            | Event::Poisoned { .. }
            | Event::TimedOut { .. }
            | Event::Expired { .. }
            | Event::Missed(_) => None,
        }
    }
}

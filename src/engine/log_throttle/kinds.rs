//! The kinds of events that repeat. Events of one kind are counted together.

use crate::values::crash::{Crash, Death};
use crate::values::event::Event;

/// The kind of a crash. Crashes of one kind are repeats of each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RepeatedCrash {
    Panic {
        place: String,
    },
    EnterPanic {
        place: String,
    },
    EnterError {
        text: String,
    },
    NoThread,
    NoAccount,
    Memory,
    EnterTimedOut,
    Unresponsive,
    Killed,
    /// Any further kind, once there are [`KINDS_MAX`](super::KINDS_MAX) kinds.
    Other,
}

impl RepeatedCrash {
    pub(super) fn of(crash: &Crash) -> Self {
        // The message is no part of the kind, because the same place may panic with another message for each
        // input.
        let place =
            |panic: &crate::values::crash::Panic| panic.location().unwrap_or(panic.message()).to_owned();
        match &crash.death {
            Death::Panicked(panic) => Self::Panic { place: place(panic) },
            Death::EnterPanicked(panic) => Self::EnterPanic { place: place(panic) },
            Death::EnterFailed(error) => Self::EnterError { text: error.to_string() },
            Death::NoThread(_) => Self::NoThread,
            Death::NoAccount => Self::NoAccount,
            Death::MemoryLimit { .. } => Self::Memory,
            Death::EnterTimedOut { .. } => Self::EnterTimedOut,
            Death::Unresponsive => Self::Unresponsive,
            Death::Killed => Self::Killed,
        }
    }
}

/// The kind of a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StormKind {
    /// Attempts time out.
    Timeouts,
    /// Deadlines pass while inputs execute.
    Deadlines,
    /// Deadlines pass while inputs wait.
    Expiries,
}

impl StormKind {
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::TimedOut { is_deadline: false, .. } => Some(Self::Timeouts),
            Event::TimedOut { is_deadline: true, .. } => Some(Self::Deadlines),
            Event::Expired { .. } => Some(Self::Expiries),
            _ => None,
        }
    }
}

//! What a function tells of itself: the same things as its `tracing` events, typed.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;
use crate::values::report::FunctionReport;
#[cfg(feature = "serde")]
use crate::values::serial;

/// Something that happened to a function. [`Subscribe`](crate::actor::Subscribe) delivers them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A container is in another state.
    Container {
        /// Which.
        container: ContainerId,
        /// In which of its generations; 0 before the first.
        generation: Generation,
        /// What it does now.
        state: ContainerState,
    },
    /// A container died by its own fault or its input's.
    Crashed(Arc<Crash>),
    /// A container was killed by hand.
    Killed(Arc<Crash>),
    /// Containers die before they complete anything: told once for each delay.
    CrashLoop {
        /// Loop crashes in a row.
        crashes: u32,
        /// How long ago the first of them was.
        since: Duration,
        /// In how long containers are created again.
        next_restart: Duration,
        /// The crash that began the delay.
        crash: Arc<Crash>,
    },
    /// A crash loop of at least two crashes is over: a container that was started after the last of them has completed an
    /// input, or has stayed up for `reset_after`.
    Recovered {
        /// Loop crashes in a row that there were.
        crashes: u32,
        /// How long ago the first of them was.
        after: Duration,
    },
    /// An input has crashed its containers too often.
    Poisoned {
        /// The label of its map, if it has one.
        map: Option<Arc<str>>,
        /// The number of the call, if it is that of a call.
        call: Option<u64>,
        /// Its index in its map; 0 for a call.
        input: u64,
        /// How often it was executed.
        attempts: Attempt,
    },
    /// A container was left behind in its `exit`, which took longer than that.
    ExitTimedOut(ContainerId, Duration),
    /// The crash limit is broken: how it began, and by which crash.
    GaveUp(GaveUp),
    /// The function had given up or was in a crash loop, and its crashes were forgotten by hand: it takes work again.
    Reset,
    /// The function has ended: drained, stopped or aborted.
    Ended(FunctionReport),
    /// So many events before this one were lost: they did not fit into the subscriber's mailbox, or 65 536 waited already
    /// because a subscriber blocks.
    Missed(u64),
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "state", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ContainerState {
    /// It is in `enter`.
    Starting,
    /// It is at work, or ready for it.
    Live,
    /// It is in `exit`.
    Exiting,
    /// It waits to be created again.
    BackingOff {
        /// For how long.
        #[cfg_attr(feature = "serde", serde(rename = "delay_ms", serialize_with = "serial::ms"))]
        delay: Duration,
    },
    /// It is not there.
    Stopped,
}

//! What a snapshot says of containers, inputs, maps, calls and memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::values::progress::Progress;
use crate::values::snapshot::trouble::{CrashCounts, LastDeath};

#[cfg(feature = "serde")]
use crate::values::serial;

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ContainerSnapshot {
    /// Which.
    pub container: ContainerId,
    /// How often it has been started; 0 before the first time.
    pub generation: Generation,
    /// What it does.
    pub state: ContainerStateName,
    /// Since when.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// Until when, if it waits to be created again.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "until_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub until: Option<Duration>,
    /// What it executes, or is about to.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub executing: Option<Execution>,
    /// How often it crashed, kills by hand not counted.
    pub crashes: u64,
    /// Its last death, kills by hand included.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub last_death: Option<LastDeath>,
    /// What it holds in memory, where an [`Accountant`](crate::Accountant) is installed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory: Option<ContainerBytes>,
}

/// What a container does, without more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ContainerStateName {
    /// It waits to be created again.
    BackingOff,
    /// It is not there.
    Stopped,
    /// It is in `exit`.
    Exiting,
    /// It is in `enter`.
    Starting,
    /// It is at work, or ready for it.
    Live,
}

/// The memory of one container, in bytes: while it is not there, zeros but for the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ContainerBytes {
    /// Alive: allocated by this generation, and not yet freed, by whomever.
    #[cfg_attr(feature = "serde", serde(rename = "live_bytes"))]
    pub live: u64,
    /// Of it, what earlier attempts have left: outputs, caches, leaks.
    #[cfg_attr(feature = "serde", serde(rename = "retained_bytes"))]
    pub retained: u64,
    /// The most that was used of the limit, in any of its generations.
    #[cfg_attr(feature = "serde", serde(rename = "peak_bytes"))]
    pub peak: u64,
    /// The limit.
    #[cfg_attr(feature = "serde", serde(rename = "limit_bytes", skip_serializing_if = "Option::is_none"))]
    pub limit: Option<u64>,
}

/// The memory of a function, in bytes. See [`Memory`](crate::Memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemorySnapshot {
    /// Alive, what abandoned threads use included.
    #[cfg_attr(feature = "serde", serde(rename = "live_bytes"))]
    pub live: u64,
    /// Of it, what earlier attempts have left.
    #[cfg_attr(feature = "serde", serde(rename = "retained_bytes"))]
    pub retained: u64,
    /// The most that one container ever used of its limit.
    #[cfg_attr(feature = "serde", serde(rename = "peak_bytes"))]
    pub peak: u64,
    /// The limit of each container.
    #[cfg_attr(feature = "serde", serde(rename = "limit_bytes", skip_serializing_if = "Option::is_none"))]
    pub limit: Option<u64>,
    /// What abandoned threads use.
    #[cfg_attr(feature = "serde", serde(rename = "abandoned_bytes"))]
    pub abandoned: u64,
}

/// A thread that was left behind in the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Abandoned {
    /// The container whose thread it was.
    pub container: ContainerId,
    /// In which of its generations.
    pub generation: Generation,
    /// Since when it is abandoned.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// The memory that it still uses; 0 where no [`Accountant`](crate::Accountant) is installed.
    pub bytes: u64,
}

/// An input by name: its map or call, and its index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InputName {
    /// The label of the map, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub map: Option<Arc<str>>,
    /// The number of the map or call, counted from 1 over the maps and calls of the function. `None` of a map that had
    /// ended before.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub job: Option<u64>,
    /// The index of the input in its map. `None` for a call, which has one input.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub input: Option<u64>,
}

impl fmt::Display for InputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.input, &self.map, self.job) {
            (None, _, Some(job)) => write!(f, "call {job}"),
            (None, _, None) => write!(f, "a call"),
            (Some(input), Some(map), _) => write!(f, "input {input} of {map}"),
            (Some(input), None, Some(job)) => write!(f, "input {input} of map {job}"),
            (Some(input), None, None) => write!(f, "input {input} of a map"),
        }
    }
}

/// An execution that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Execution {
    /// The container that executes.
    pub container: ContainerId,
    /// In which of its generations.
    pub generation: Generation,
    /// What it executes.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub input: InputName,
    /// Which execution of the input it is.
    pub attempt: Attempt,
    /// Since when, at least: of inputs that are leased together it is known only since they were last looked at.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
}

/// Accepted inputs without an outcome. Together they are what is pending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InputCounts {
    /// They wait for a container: those that were never begun, and those that a container has taken and not come to.
    pub queued: u64,
    /// Of the queued, those that no container has been offered: inputs for which the window of a map has room, or that a
    /// feeder has pulled ahead. They are not among [`Totals::accepted`] yet.
    pub in_windows: u64,
    /// They have failed, and wait for their retry.
    pub retry: u64,
    /// When the next of those is due.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "next_retry_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub next_retry: Option<Duration>,
    /// They were executing when their container died, and wait for their replay.
    pub replay: u64,
    /// Of those, the ones that have crashed a container themselves.
    pub suspects: u64,
    /// A container executes them, or is about to.
    pub executing: u64,
}

impl InputCounts {
    /// All of them.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.queued + self.retry + self.replay + self.executing
    }
}

/// What has happened to a function since its start. No number ever goes back.
///
/// `accepted = ok + failed + poisoned + cancelled + given_up + pending − in_windows`, by [`InputCounts`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Inputs that were accepted.
    pub accepted: u64,
    /// Inputs that ended with `Ok`.
    pub ok: u64,
    /// Inputs that ended with the user's error.
    pub failed: u64,
    /// Inputs that crashed their containers too often.
    pub poisoned: u64,
    /// Inputs cancelled, refused by a shutdown or lost with a killed container.
    pub cancelled: u64,
    /// Inputs failed because the function gave up.
    pub given_up: u64,
    /// Failures that were worth a retry: a delay, and then another execution.
    pub retried: u64,
    /// Inputs that were executing when their container died, and were put back to be replayed.
    pub replayed: u64,
    /// Deaths of containers by cause.
    pub crashes: CrashCounts,
    /// Restarts of containers.
    pub restarts: u64,
    /// Graceful exits of containers that were to begin anew.
    pub recycled: u64,
    /// Answers of fenced attempts, refused.
    pub late_answers: u64,
    /// Exits that took too long and were abandoned.
    pub exit_timeouts: u64,
    /// Crash loops, of two loop crashes in a row or more.
    pub crash_loops: u64,
    /// How often the function gave up.
    pub give_ups: u64,
}

/// Calls that have not been closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CallCounts {
    /// Calls of which someone holds the handle, or that wait or execute.
    pub open: u64,
    /// Calls whose input was never begun.
    pub queued: u64,
}

/// A map that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MapSnapshot {
    /// Its number among the maps and calls of the function, from 1.
    pub number: u64,
    /// Its label, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub label: Option<Arc<str>>,
    /// When it was begun.
    #[cfg_attr(feature = "serde", serde(rename = "began_ms", serialize_with = "serial::ms"))]
    pub began: Duration,
    /// How far it is, with its total where that is known.
    pub progress: Progress,
    /// How many of its inputs may be outstanding.
    pub window: u64,
}

/// A map that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EndedMap {
    /// Its number among the maps and calls of the function, from 1.
    pub number: u64,
    /// Its label, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub label: Option<Arc<str>>,
    /// When it was begun.
    #[cfg_attr(feature = "serde", serde(rename = "began_ms", serialize_with = "serial::ms"))]
    pub began: Duration,
    /// When it was closed: its handle was dropped, or its last outcome taken.
    #[cfg_attr(feature = "serde", serde(rename = "ended_ms", serialize_with = "serial::ms"))]
    pub ended: Duration,
    /// What became of its inputs.
    pub progress: Progress,
}

//! The parts of a snapshot for containers, inputs, maps, calls and memory.

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
    /// The container.
    pub container: ContainerId,
    /// The number of starts of the container. It is 0 before the first.
    pub generation: Generation,
    /// The state of the container.
    pub state: ContainerStateName,
    /// The moment at which this state began.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// The moment until which the container waits to be created again, if it does.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "until_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub until: Option<Duration>,
    /// The execution in the container, or the one that is about to begin. If several are in flight, this is
    /// the one that has gone on for longest.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub executing: Option<CurrentExecution>,
    /// The number of inputs that the container has in flight. They are the ones that it executes, or is about
    /// to.
    pub in_flight: usize,
    /// The number of inputs that the container may have in flight now. It is 1 while an input executes alone,
    /// and otherwise [`FunctionSnapshot::concurrent_inputs`](crate::FunctionSnapshot::concurrent_inputs).
    pub concurrent_inputs: usize,
    /// The number of crashes of the container. Kills by hand are not counted.
    pub crashes: u64,
    /// The last death of the container. Kills by hand are included.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub last_death: Option<LastDeath>,
    /// The memory that the container holds. `None` unless an [`Accountant`](crate::Accountant) is installed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory: Option<ContainerBytes>,
}

/// The batches of a function. `inputs / executed` is the average size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BatchCounts {
    /// The largest number of inputs of a batch.
    pub size: u64,
    /// How long a batch that is not full waits for more inputs.
    #[cfg_attr(feature = "serde", serde(rename = "wait_ms", serialize_with = "serial::ms"))]
    pub wait: Duration,
    /// The number of batches that were executed.
    pub executed: u64,
    /// The number of inputs that were executed in them. An input counts once for each of its executions.
    pub inputs: u64,
}

/// The state of a container, without details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ContainerStateName {
    /// The container waits to be created again.
    BackingOff,
    /// The container does not exist.
    Stopped,
    /// The container is in `exit`.
    Exiting,
    /// The container is in `enter`.
    Starting,
    /// The container executes inputs, or is ready to.
    Live,
}

/// The memory of one container, in bytes. While the container does not exist, all but the peak is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ContainerBytes {
    /// The bytes that this generation allocated and that are not freed.
    #[cfg_attr(feature = "serde", serde(rename = "live_bytes"))]
    pub live: u64,
    /// The part of `live` that earlier attempts left behind: outputs, caches, leaks.
    #[cfg_attr(feature = "serde", serde(rename = "retained_bytes"))]
    pub retained: u64,
    /// The largest use of the limit in any generation of the container.
    #[cfg_attr(feature = "serde", serde(rename = "peak_bytes"))]
    pub peak: u64,
    /// The limit of the container, if there is one.
    #[cfg_attr(feature = "serde", serde(rename = "limit_bytes", skip_serializing_if = "Option::is_none"))]
    pub limit: Option<u64>,
}

/// The memory of a function, in bytes. See [`Memory`](crate::Memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemorySnapshot {
    /// The bytes that are not freed. Those of abandoned threads are included.
    #[cfg_attr(feature = "serde", serde(rename = "live_bytes"))]
    pub live: u64,
    /// The part of `live` that earlier attempts left behind.
    #[cfg_attr(feature = "serde", serde(rename = "retained_bytes"))]
    pub retained: u64,
    /// The largest use of the limit by one container.
    #[cfg_attr(feature = "serde", serde(rename = "peak_bytes"))]
    pub peak: u64,
    /// The limit of each container, if there is one.
    #[cfg_attr(feature = "serde", serde(rename = "limit_bytes", skip_serializing_if = "Option::is_none"))]
    pub limit: Option<u64>,
    /// The bytes that abandoned threads use.
    #[cfg_attr(feature = "serde", serde(rename = "abandoned_bytes"))]
    pub abandoned: u64,
}

/// A thread that was left behind in the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Abandoned {
    /// The container to which the thread belonged.
    pub container: ContainerId,
    /// The generation of the container.
    pub generation: Generation,
    /// The moment since which the thread is abandoned.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// The bytes that the thread still uses. It is 0 unless an [`Accountant`](crate::Accountant) is
    /// installed.
    pub bytes: u64,
}

/// The name of an input: its map or call, and its index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InputName {
    /// The label of the map, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub map: Option<Arc<str>>,
    /// The number of the map or call, counted from 1 over the maps and calls of the function. `None` for a
    /// map that had ended before.
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

/// A current execution.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CurrentExecution {
    /// The container that executes.
    pub container: ContainerId,
    /// The generation of the container.
    pub generation: Generation,
    /// The input.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub input: InputName,
    /// The number of this execution among those of the input.
    pub attempt: Attempt,
    /// The latest moment at which the execution can have begun. For inputs that were leased together it is
    /// the moment at which the engine last looked at the lease.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
}

/// The numbers of inputs without an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InputCounts {
    /// Inputs that wait for a container. Inputs that a container has taken and not begun are included.
    pub queued: u64,
    /// The part of `queued` that the ledger does not know: inputs for which the window of a map has room, and
    /// inputs that a feeder has pulled ahead. They are not yet in [`Totals::accepted`].
    pub in_windows: u64,
    /// Inputs that have failed and wait for their retry.
    pub retry: u64,
    /// The moment at which the next retry is due.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "next_retry_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub next_retry: Option<Duration>,
    /// Inputs that were executing when their container died, and that wait for their replay.
    pub replay: u64,
    /// The part of `replay` that has crashed a container.
    pub suspects: u64,
    /// Inputs that a container executes, or is about to execute.
    pub executing: u64,
}

impl InputCounts {
    /// The number of all inputs without an outcome.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.queued + self.retry + self.replay + self.executing
    }
}

/// The totals of a function since its start. They never decrease.
///
/// `accepted = ok + failed + poisoned + cancelled + given_up + pending − in_windows`, where the last two are
/// those of [`InputCounts`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Inputs that were accepted.
    pub accepted: u64,
    /// Inputs that ended with `Ok`.
    pub ok: u64,
    /// Inputs that ended with the user's error, or at a limit of time.
    pub failed: u64,
    /// Inputs that crashed their containers too often.
    pub poisoned: u64,
    /// Inputs cancelled, refused by a shutdown or lost with a killed container.
    pub cancelled: u64,
    /// Inputs failed because the function gave up.
    pub given_up: u64,
    /// Failures that led to a retry.
    pub retried: u64,
    /// Inputs that were executing when their container died, and were put back to be replayed.
    pub replayed: u64,
    /// Attempts that took longer than their [timeout](crate::Builder::timeout).
    pub timed_out: u64,
    /// Inputs whose [deadline](crate::Builder::deadline) has passed. They are counted as failed as well.
    pub past_deadline: u64,
    /// Deaths of containers by cause.
    pub crashes: CrashCounts,
    /// Restarts of containers.
    pub restarts: u64,
    /// Graceful exits of containers that were then started again.
    pub recycled: u64,
    /// Answers of fenced attempts, which were refused.
    pub late_answers: u64,
    /// Executions of `exit` that took too long and were abandoned.
    pub exit_timeouts: u64,
    /// Crash loops: two or more loop crashes in a row.
    pub crash_loops: u64,
    /// The number of times that the function gave up.
    pub give_ups: u64,
}

/// Calls that have not been closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CallCounts {
    /// Calls that are waiting or executing, or whose handle still exists.
    pub open: u64,
    /// Calls whose input was never assigned to a container.
    pub queued: u64,
    /// Calls without an outcome.
    pub pending: u64,
    /// [Permits](crate::Permit) that are not used.
    pub permits: u64,
    /// The number of those who wait for a permit.
    pub reserving: u64,
    /// The largest number of calls without an outcome and permits together: see
    /// [`Builder::calls_max`](crate::Builder::calls_max).
    pub max: u64,
    /// The number of calls that were refused so far because there was no room for them.
    pub overloaded: u64,
}

/// An open map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MapSnapshot {
    /// The number of the map among the maps and calls of the function, from 1.
    pub number: u64,
    /// The label of the map, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub label: Option<Arc<str>>,
    /// The moment at which the map began.
    #[cfg_attr(feature = "serde", serde(rename = "began_ms", serialize_with = "serial::ms"))]
    pub began: Duration,
    /// The progress of the map. It has the total where that is known.
    pub progress: Progress,
    /// The window of the map as it is now.
    pub window: u64,
}

/// A closed map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EndedMap {
    /// The number of the map among the maps and calls of the function, from 1.
    pub number: u64,
    /// The label of the map, if it has one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub label: Option<Arc<str>>,
    /// The moment at which the map began.
    #[cfg_attr(feature = "serde", serde(rename = "began_ms", serialize_with = "serial::ms"))]
    pub began: Duration,
    /// The moment at which the map was closed: its handle was dropped, or its last outcome was taken.
    #[cfg_attr(feature = "serde", serde(rename = "ended_ms", serialize_with = "serial::ms"))]
    pub ended: Duration,
    /// How its inputs ended.
    pub progress: Progress,
}

//! What a function looks like at one moment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;
#[cfg(feature = "serde")]
use crate::values::serial;

/// Containers by what they are doing. Capacity is `live`, never what was configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Containers {
    /// In `enter`.
    pub starting: usize,
    /// At work, or ready for it.
    pub live: usize,
    /// In `exit`.
    pub exiting: usize,
    /// Waiting to be created again.
    pub backing_off: usize,
    /// Not there: the function gave up, is stopped, or the container is between two lives.
    pub stopped: usize,
    /// Threads whose generation is over and that have not returned from the user's code, unless that waits in a
    /// task. Not among the containers: those have been replaced, or will be if anything is.
    pub abandoned: usize,
}

impl Containers {
    /// How many were configured: all but the abandoned, whatever they do.
    #[must_use]
    pub const fn configured(&self) -> usize {
        self.starting + self.live + self.exiting + self.backing_off + self.stopped
    }
}

/// The memory of a function, in bytes. It lags behind by at most 64 KiB for each thread that executes, or by
/// a 32nd of the limit if that is less.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Memory {
    /// Alive: allocated by the containers' present generations and not yet freed, by whomever; and what abandoned
    /// threads use.
    pub live: u64,
    /// Of it, what earlier attempts have left: outputs, caches, leaks.
    pub retained: u64,
    /// The most that one container ever used of its limit.
    pub peak: u64,
    /// The limit of each container.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub limit: Option<u64>,
    /// What abandoned threads use.
    pub abandoned: u64,
    /// Each container.
    pub containers: Vec<ContainerMemory>,
}

/// The memory of one container, in bytes: while it is not there, zeros but for the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ContainerMemory {
    /// Which.
    pub container: ContainerId,
    /// Alive: allocated by this generation, and not yet freed, by whomever.
    pub live: u64,
    /// Of it, what earlier attempts have left: outputs, caches, leaks.
    pub retained: u64,
    /// The most that was used of the limit, in any of its generations.
    pub peak: u64,
}

/// A crash loop: containers that die before they complete anything.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashLoopStatus {
    /// Loop crashes in a row.
    pub crashes: u32,
    /// How long ago the first of them was.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// In how long containers are created again; `None` once they may be.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "next_restart_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub next_restart: Option<Duration>,
}

/// An execution that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OldestExecution {
    /// The container that executes.
    pub container: ContainerId,
    /// The index of the input in its map; 0 for a call.
    pub input: u64,
    /// How long it has gone on, at least: of inputs that travel together it is known only since they were last looked
    /// at.
    #[cfg_attr(feature = "serde", serde(rename = "executing_for_ms", serialize_with = "serial::ms"))]
    pub executing_for: Duration,
}

/// A snapshot of one function.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// Containers by state.
    pub containers: Containers,
    /// The crash loop, if there is one. It is over when a container that was started after its last crash has
    /// completed an input, or has stayed up for `reset_after`: while nothing is to be done that may be a while after
    /// all are live. Whether inputs are served now is what [`Containers::live`] says.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub crash_loop: Option<CrashLoopStatus>,
    /// The last crash, and how long ago it was.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "serial::last_crash", skip_serializing_if = "Option::is_none")
    )]
    pub last_crash: Option<(Duration, Arc<Crash>)>,
    /// How it began and the crash that broke the limit, while the function is given up.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub gave_up: Option<GaveUp>,
    /// Inputs that are pulled and that no container is executing, those waiting for a retry included. Of a source that
    /// neither blocks nor panics (a vector, a range) the inputs for which the window has room count as pulled.
    pub inputs_waiting: u64,
    /// Inputs that containers are executing, or are about to.
    pub executing: u64,
    /// The execution that has gone on for longest: a function whose containers all hang shows it here, though all of
    /// them are live.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub oldest_execution: Option<OldestExecution>,
    /// Crashes of containers so far.
    pub crashes: u64,
    /// Restarts of containers so far.
    pub restarts: u64,
    /// Graceful exits of containers that were to begin anew, because of
    /// [`Builder::recycle_above`](crate::Builder::recycle_above).
    pub recycled: u64,
    /// What is held in memory, where an [`Accountant`](crate::Accountant) is installed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory: Option<Memory>,
    /// Answers of fenced attempts, refused so far.
    pub late_answers: u64,
    /// Feeders that pull a source, or are stuck in one.
    pub feeders: usize,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Containers { starting, live, exiting, backing_off, stopped, abandoned } = self.containers;
        write!(
            f,
            "{live} live, {starting} starting, {exiting} exiting, {backing_off} backing off, {stopped} stopped, \
             {abandoned} abandoned; {} inputs executing, {} waiting; {} crashes, {} restarts",
            self.executing, self.inputs_waiting, self.crashes, self.restarts
        )?;
        if let Some(OldestExecution { container, input, executing_for }) = self.oldest_execution {
            write!(f, "; input {input} executes for {executing_for:?} in container {container}")?;
        }
        if let Some(memory) = &self.memory {
            write!(f, "; {} bytes live, {} retained, peak {}", memory.live, memory.retained, memory.peak)?;
        }
        if let Some(crash_loop) = &self.crash_loop {
            write!(f, "; crash loop of {} for {:?}", crash_loop.crashes, crash_loop.since)?;
            if let Some(next) = crash_loop.next_restart {
                write!(f, ", next restart in {next:?}")?;
            }
        }
        if let Some(gave_up) = &self.gave_up {
            write!(f, "; gave up: {}", gave_up.in_full())?;
        }
        Ok(())
    }
}

//! A snapshot of a function.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;
#[cfg(feature = "serde")]
use crate::values::serial;
use crate::values::snapshot::EachUpTo;
use crate::values::snapshot::rows::CallCounts;

/// The number of containers in each state. The capacity of the function is `live`, and not
/// the configured number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Containers {
    /// Containers in `enter`.
    pub starting: usize,
    /// Containers that execute inputs or are ready to.
    pub live: usize,
    /// Containers in `exit`.
    pub exiting: usize,
    /// Containers that wait to be created again.
    pub backing_off: usize,
    /// Containers that do not exist, because the function gave up or is stopped, or because they are
    /// between two generations.
    pub stopped: usize,
    /// Threads whose generation is over and that have not returned from the user's code. Threads whose code
    /// waits in a task do not count. They are not containers any more: another thread replaces each of them,
    /// unless the function creates no more containers.
    pub abandoned: usize,
    /// Live containers whose code has not ended at a limit of time, and that are kept because as many threads
    /// are abandoned as [may be](crate::Builder::abandoned_max). They are counted as live as well.
    pub hung: usize,
}

impl Containers {
    /// The configured number of containers: the sum of all states, without the abandoned threads.
    #[must_use]
    pub const fn configured(&self) -> usize {
        self.starting + self.live + self.exiting + self.backing_off + self.stopped
    }
}

/// The memory of a function, in bytes. It lags behind by at most 64 KiB for each executing thread, or by a
/// 32nd of the limit if that is less.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Memory {
    /// Bytes alive: those that the present generations of the containers allocated and no thread has freed
    /// yet, and those that abandoned threads use.
    pub live: u64,
    /// The part of `live` that earlier attempts left: outputs, caches, leaks.
    pub retained: u64,
    /// The most bytes that one container ever used of its limit.
    pub peak: u64,
    /// The limit of each container, if there is one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub limit: Option<u64>,
    /// Bytes that abandoned threads use.
    pub abandoned: u64,
    /// The memory of each container.
    pub containers: Vec<ContainerMemory>,
}

/// The memory of one container, in bytes. While the container does not exist, everything
/// but the peak is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ContainerMemory {
    /// The container.
    pub container: ContainerId,
    /// Bytes alive: those that this generation allocated and no thread has freed yet.
    pub live: u64,
    /// The part of `live` that earlier attempts left: outputs, caches, leaks.
    pub retained: u64,
    /// The most bytes that were used of the limit, in any generation of the container.
    pub peak: u64,
}

/// A crash loop: containers die before they complete any input.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashLoopStatus {
    /// The number of loop crashes in a row.
    pub crashes: u32,
    /// How long ago the first of these crashes was.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// The time until containers are created again. `None` once they may be.
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

/// An execution that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OldestExecution {
    /// The container that executes.
    pub container: ContainerId,
    /// The index of the input in its map, or 0 for a call.
    pub input: u64,
    /// How long the execution has gone on, at least. For an input that was leased together with others, only
    /// the time since the engine last looked at the lease is known.
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
    /// The crash loop, if there is one. It ends when a container that was started after its last crash has
    /// completed an input, or has stayed up for `reset_after`. If there is no work, it can outlast the moment
    /// at which every container is live. Whether inputs are served now is shown by [`Containers::live`].
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub crash_loop: Option<CrashLoopStatus>,
    /// The last crash, and how long ago it happened.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "serial::last_crash", skip_serializing_if = "Option::is_none")
    )]
    pub last_crash: Option<(Duration, Arc<Crash>)>,
    /// Why the function has given up, if it has.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub gave_up: Option<GaveUp>,
    /// Inputs that are pulled and that no container is executing, including those that wait for a retry.
    /// Inputs of a source that neither blocks nor panics (a vector, a range) count as pulled as soon as the
    /// window has room for them.
    pub inputs_waiting: u64,
    /// Inputs that containers execute, or are about to.
    pub executing: u64,
    /// The number of inputs that each container may execute at the same time. See
    /// [`Builder::concurrent_inputs`](crate::Builder::concurrent_inputs), or as many as
    /// [`Builder::batch_size`](crate::Builder::batch_size) says.
    pub concurrent_inputs: usize,
    /// The execution that has gone on for longest. It shows a function whose containers all hang, although
    /// all of them are live.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub oldest_execution: Option<OldestExecution>,
    /// Whether the function is [paused](crate::Function::pause).
    pub paused: bool,
    /// The calls, and the bound on them.
    pub calls: CallCounts,
    /// The number of crashes of containers so far.
    pub crashes: u64,
    /// The number of restarts of containers so far.
    pub restarts: u64,
    /// The number of graceful exits of containers that were renewed because of
    /// [`Builder::recycle_above`](crate::Builder::recycle_above).
    pub recycled: u64,
    /// The memory that the function holds. `None` unless an [`Accountant`](crate::Accountant) is installed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory: Option<Memory>,
    /// The number of answers of fenced attempts that were refused so far.
    pub late_answers: u64,
    /// The number of feeders that pull a source, or are stuck in one.
    pub feeders: usize,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Containers { starting, live, exiting, backing_off, stopped, abandoned, hung } = self.containers;
        write!(
            f,
            "{live} live, {starting} starting, {exiting} exiting, {backing_off} backing off, {stopped} stopped, \
             {abandoned} abandoned; {} inputs executing{}, {} waiting; {} crashes, {} restarts",
            self.executing,
            EachUpTo(self.concurrent_inputs),
            self.inputs_waiting,
            self.crashes,
            self.restarts
        )?;
        if hung > 0 {
            write!(f, "; {hung} of the live ones hang")?;
        }
        if self.paused {
            write!(f, "; paused")?;
        }
        if self.calls.overloaded > 0 {
            let CallCounts { pending, permits, max, overloaded, .. } = self.calls;
            let calls = pending + permits;
            write!(f, "; {calls} of at most {max} calls without an outcome, {overloaded} refused")?;
        }
        if let Some(OldestExecution { container, input, executing_for }) = self.oldest_execution {
            write!(f, "; input {input} has been executing for {executing_for:?} in container {container}")?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Generation;
    use crate::values::crash::Death;

    const CONTAINERS: Containers =
        Containers { starting: 1, live: 2, exiting: 4, backing_off: 8, stopped: 16, abandoned: 32, hung: 0 };

    fn status() -> Status {
        Status {
            containers: CONTAINERS,
            crash_loop: None,
            last_crash: None,
            gave_up: None,
            inputs_waiting: 5,
            executing: 6,
            concurrent_inputs: 1,
            oldest_execution: None,
            paused: false,
            calls: CallCounts::default(),
            crashes: 7,
            restarts: 9,
            recycled: 0,
            memory: None,
            late_answers: 0,
            feeders: 0,
        }
    }

    #[test]
    fn abandoned_threads_are_not_among_the_configured_containers() {
        assert_eq!(CONTAINERS.configured(), 31);
    }

    #[test]
    fn it_shows_each_number_and_what_there_is_beside_them() {
        let numbers = "2 live, 1 starting, 4 exiting, 8 backing off, 16 stopped, 32 abandoned; 6 inputs executing, \
                       5 waiting; 7 crashes, 9 restarts";
        assert_eq!(status().to_string(), numbers);
        let second = Duration::from_secs(1);
        let crash_loop = |next_restart| CrashLoopStatus { crashes: 3, since: 4 * second, next_restart };
        let crash = Arc::new(Crash {
            container: ContainerId(1),
            generation: Generation(2),
            executing: None,
            map: None,
            call: None,
            peak_bytes: None,
            death: Death::Killed,
        });
        let oldest = OldestExecution { container: ContainerId(3), input: 11, executing_for: 2 * second };
        let memory =
            Memory { live: 13, retained: 14, peak: 15, limit: None, abandoned: 0, containers: Vec::new() };
        let gave_up = GaveUp::new(Vec::new(), crash);
        let calls = CallCounts { pending: 2, permits: 1, max: 3, overloaded: 4, ..CallCounts::default() };
        let more = [
            (
                Status { containers: Containers { hung: 2, ..CONTAINERS }, ..status() },
                "; 2 of the live ones hang",
            ),
            (Status { paused: true, ..status() }, "; paused"),
            (Status { calls, ..status() }, "; 3 of at most 3 calls without an outcome, 4 refused"),
            (
                Status { oldest_execution: Some(oldest), ..status() },
                "; input 11 has been executing for 2s in container 3",
            ),
            (Status { memory: Some(memory), ..status() }, "; 13 bytes live, 14 retained, peak 15"),
            (Status { crash_loop: Some(crash_loop(None)), ..status() }, "; crash loop of 3 for 4s"),
            (
                Status { crash_loop: Some(crash_loop(Some(second))), ..status() },
                "; crash loop of 3 for 4s, next restart in 1s",
            ),
            (Status { gave_up: Some(gave_up), ..status() }, "; gave up: container 1#2 killed by hand"),
        ];
        for (status, text) in more {
            assert_eq!(status.to_string(), format!("{numbers}{text}"));
        }
    }

    #[test]
    fn it_says_how_many_inputs_a_container_may_execute_if_these_are_several() {
        let text = Status { concurrent_inputs: 64, ..status() }.to_string();
        assert!(text.contains("; 6 inputs executing (up to 64 in each container), 5 waiting; "), "{text}");
    }
}

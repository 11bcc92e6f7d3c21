//! Snapshots: an app and its functions at one moment, as numbers and text.
//!
//! [`App::snapshot`](crate::App::snapshot), [`AnyFunction::snapshot`](crate::AnyFunction::snapshot) and
//! [`Function::snapshot`](crate::Function::snapshot) take them. A snapshot holds no value of the user's and
//! keeps nothing alive, so a page, an exporter or a post-mortem may keep it for any time. Each list has a
//! named bound, and entries that were left out are counted. With the feature `serde` snapshots can be
//! serialized. Durations and moments become whole milliseconds under names that end in `_ms`, and absent
//! values are left out. Within one [version](Snapshot::v) names and words are only added.
//!
//! Totals never decrease, so a viewer can compute a rate from two snapshots.
//!
//! ```
//! use longshore::{App, CrashKind, CrashLoopBackoff, Health};
//! use std::time::Duration;
//!
//! let app = App::deployed("docs");
//! let minute = Duration::from_secs(60);
//! let policy = CrashLoopBackoff::new().initial(minute).max(minute).reset_after(2 * minute);
//! let sick = app.infallible("sick", |n: &u32| assert!(*n > 9, "too small"));
//! let sick = sick.containers(1).crash_retries(0).restart(policy).start()?;
//! assert!(sick.call(1).wait().is_err());
//! assert!(sick.call(2).wait().is_err());
//!
//! let snapshot = sick.snapshot();
//! assert_eq!(snapshot.health, Health::CrashLoop);
//! let cause = &snapshot.causes[0];
//! assert_eq!((cause.kind, cause.message.as_str(), cause.count), (CrashKind::Panic, "too small", 2));
//! let crash_loop = snapshot.crash_loop.unwrap();
//! assert!(crash_loop.crashes == 2 && crash_loop.next_restart.unwrap() > snapshot.now);
//! # Ok::<(), longshore::StartError>(())
//! ```

pub(crate) mod rows;
pub(crate) mod trouble;

pub use crate::values::crash::CrashKind;
pub use crate::values::health::Health;
pub use crate::values::histogram::Histogram;
pub use rows::{
    Abandoned, BatchCounts, CallCounts, ContainerBytes, ContainerSnapshot, ContainerStateName,
    CurrentExecution, EndedMap, InputCounts, InputName, MapSnapshot, MemorySnapshot, Totals,
};
pub use trouble::{
    CrashCause, CrashCounts, CrashLoopSnapshot, CrashSnapshot, GaveUpSnapshot, Happening, LastDeath,
    LogEntry, Poisoned, PolicyName, RecentCrashes, Tally,
};

use std::fmt;
use std::time::Duration;

use crate::values::report::FunctionReport;
use crate::values::status::Containers;

#[cfg(feature = "serde")]
use crate::values::serial;

/// The version of the serialized form. Within a version fields and words are only added.
pub(crate) const VERSION: u32 = 1;

/// An app and its functions at one moment. See [`App::snapshot`](crate::App::snapshot).
///
/// Moments (`now`, and every `at`, `since`, `began`) are durations since the engine was first used in this
/// process, on a monotonic clock. The difference of two moments is a duration. A moment added to
/// [`started_unix_ms`](Self::started_unix_ms) is a time of day.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The version of the serialized form: 1.
    pub v: u32,
    /// The version of this library.
    pub longshore: &'static str,
    /// The process identifier of the operating system.
    pub process: u32,
    /// The time of day at which the engine was first used in this process, in milliseconds since 1970.
    /// Together with `process` it shows whether the process was restarted.
    pub started_unix_ms: u64,
    /// The time of day of this snapshot, in milliseconds since 1970.
    pub now_unix_ms: u64,
    /// The moment of this snapshot.
    #[cfg_attr(feature = "serde", serde(rename = "now_ms", serialize_with = "serial::ms"))]
    pub now: Duration,
    /// The app.
    pub app: AppSnapshot,
    /// The functions that have been started and have not ended, in the order of their start.
    pub functions: Vec<FunctionSnapshot>,
}

/// An app, without its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AppSnapshot {
    /// The name of the app.
    pub name: String,
    /// The kind of the app.
    pub kind: AppKind,
    /// The number of functions that ended cleanly.
    pub ended_cleanly: u64,
    /// The reports of the last 64 functions that did not end cleanly, oldest first.
    pub reports: Vec<FunctionReport>,
    /// The number of such functions before them.
    pub reports_dropped: u64,
}

/// The kind of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum AppKind {
    /// One run: see [`App::ephemeral`](crate::App::ephemeral).
    Ephemeral,
    /// A service: see [`App::deployed`](crate::App::deployed).
    Deployed,
}

/// How far a function is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ModeName {
    /// The function takes inputs.
    Running,
    /// Accepted inputs finish, and no new inputs are taken.
    Draining,
    /// Only the inputs that are executing finish.
    Stopping,
    /// The function waits for nothing.
    Aborted,
}

/// A function at one moment. See [`Function::snapshot`](crate::Function::snapshot).
///
/// Taking a snapshot costs some tens of microseconds. Between two snapshots the function pays nothing for
/// them. The numbers lag by at most the inputs that are executing. The lists are bounded:
///
/// | list | at most |
/// |---|---|
/// | `rows` | 256, containers that do not serve first |
/// | `abandoned` | 64 |
/// | `oldest` | 4 |
/// | `crashes`, `poisoned` | the last 64 of each |
/// | `causes` | 32 |
/// | `maps` | 64, the oldest |
/// | `maps_ended` | the last 32 |
/// | `log` | the last 256 lines, in which repeats are counted |
///
/// The text of a snapshot (`{snapshot}`) has several lines, and the first ones say what is wrong.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FunctionSnapshot {
    /// The name of the function.
    pub name: String,
    /// The moment of this snapshot. [`Snapshot`] explains moments. In a rehearsal they are virtual time.
    #[cfg_attr(feature = "serde", serde(rename = "now_ms", serialize_with = "serial::ms"))]
    pub now: Duration,
    /// The moment at which the function was started.
    #[cfg_attr(feature = "serde", serde(rename = "started_ms", serialize_with = "serial::ms"))]
    pub started: Duration,
    /// The health of the function in one word.
    pub health: Health,
    /// How far the function is from its end.
    pub mode: ModeName,
    /// Whether the function is [paused](crate::Function::pause).
    pub paused: bool,
    /// The fault of the engine that has ended the function, if there was one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub broken: Option<String>,
    /// The containers by state.
    pub containers: Containers,
    /// The number of inputs that each container may have in flight: what
    /// [`Builder::concurrent_inputs`](crate::Builder::concurrent_inputs) or
    /// [`Builder::batch_size`](crate::Builder::batch_size) has set. The number that all of them have in
    /// flight is [`InputCounts::executing`].
    pub concurrent_inputs: usize,
    /// The batches of the function. `None` for code that executes one input in a call.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub batches: Option<BatchCounts>,
    /// The containers one by one, in the order of their numbers.
    pub rows: Vec<ContainerSnapshot>,
    /// The number of containers that `rows` leaves out.
    pub rows_omitted: usize,
    /// The threads whose generation is over and that have not returned from the user's code.
    pub abandoned: Vec<Abandoned>,
    /// The executions that have gone on for longest, the oldest first.
    pub oldest: Vec<CurrentExecution>,
    /// The numbers of inputs without an outcome, by what the inputs wait for.
    pub inputs: InputCounts,
    /// The totals since the start.
    pub totals: Totals,
    /// The calls that are not closed.
    pub calls: CallCounts,
    /// The open maps.
    pub maps: Vec<MapSnapshot>,
    /// The number of maps that `maps` leaves out.
    pub maps_omitted: usize,
    /// The last maps that were closed, oldest first.
    pub maps_ended: Vec<EndedMap>,
    /// The current crash loop, or else the last one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub crash_loop: Option<CrashLoopSnapshot>,
    /// The crashes of the last minute.
    pub recent: RecentCrashes,
    /// The counts of the restart policy, with its limits.
    pub tally: Tally,
    /// The crashes by kind and place, the most recent first.
    pub causes: Vec<CrashCause>,
    /// The number of crashes of further kinds and places.
    pub causes_other: u64,
    /// The last crashes and kills, oldest first.
    pub crashes: Vec<CrashSnapshot>,
    /// The last poisoned inputs, oldest first.
    pub poisoned: Vec<Poisoned>,
    /// Why the function gave up. `None` if it did not, or was reset.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub gave_up: Option<GaveUpSnapshot>,
    /// The report of the function, once it has ended.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub report: Option<FunctionReport>,
    /// The memory that the function holds. `None` unless an [`Accountant`](crate::Accountant) is installed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory: Option<MemorySnapshot>,
    /// The number of feeders that pull a source, or are stuck in one.
    pub feeders: usize,
    /// The durations of executions. Inputs that were leased together count with their average, so the
    /// histogram is exact above half a millisecond, the length of a lease.
    pub executing: Histogram,
    /// The time that calls waited for a container. One call in sixteen is measured.
    pub queueing: Histogram,
    /// The durations of `enter` where it succeeded.
    pub entering: Histogram,
    /// The log, oldest line first. It has no lines about the states of containers. Repeats within ten seconds
    /// are counted in one line.
    pub log: Vec<LogEntry>,
    /// The number of changes of the log so far. A viewer that remembers it finds the new lines by a larger
    /// [`changed`](LogEntry::changed).
    pub seq: u64,
}

/// The largest number of causes, and of poisoned inputs, in the text.
const SHOWN: usize = 5;

impl fmt::Display for FunctionSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.health)?;
        if self.mode != ModeName::Running && self.health != Health::Ended {
            write!(f, ", {}", format!("{:?}", self.mode).to_lowercase())?;
        }
        if self.paused {
            write!(f, ", paused")?;
        }
        if let Some(broken) = &self.broken {
            write!(f, "\n  a fault of the engine: {broken}")?;
        }
        if let Some(gave_up) = &self.gave_up {
            write!(f, "\n  gave up {} ago: {}", Span(self.now, gave_up.at), gave_up.message)?;
        }
        if let Some(crash_loop) = &self.crash_loop {
            crash_loop.write(f, self.now)?;
        }
        if self.recent.crashes > 0 {
            write!(f, "\n  {} in the last minute", Crashes(self.recent.crashes))?;
            if let Some(share) = self.recent.share {
                write!(f, ", {:.0} % of what was executed", 100.0 * share)?;
            }
        }
        if let Some((crashes, most)) =
            self.tally.crashes_max.map(|most| (self.tally.crashes, most)).filter(|(n, _)| *n > 0)
        {
            write!(f, "\n  gives up above {most} crashes by rounds, of which {crashes} count now")?;
            if let Some(share) = self.tally.share_max {
                write!(
                    f,
                    ", and above {:.0} % of what is executed ({:.0} %)",
                    100.0 * share,
                    100.0 * self.tally.share
                )?;
            }
        }
        for cause in self.causes.iter().take(SHOWN) {
            cause.write(f, self.now)?;
        }
        for poisoned in self.poisoned.iter().rev().take(SHOWN) {
            poisoned.write(f)?;
        }
        let Containers { starting, live, exiting, backing_off, stopped, abandoned, hung } = self.containers;
        write!(
            f,
            "\n  containers: {live} live, {starting} starting, {exiting} exiting, {backing_off} backing off, \
             {stopped} stopped, {abandoned} abandoned"
        )?;
        if hung > 0 {
            write!(f, "; {hung} of the live ones hang")?;
        }
        let InputCounts { queued, retry, replay, executing, .. } = self.inputs;
        write!(
            f,
            "\n  inputs: {queued} queued, {retry} to retry, {replay} to replay, {executing} executing{}",
            EachUpTo(self.concurrent_inputs)
        )?;
        let Totals { ok, failed, poisoned, cancelled, given_up, timed_out, past_deadline, .. } = self.totals;
        write!(
            f,
            "\n  ended: {ok} ok, {failed} failed, {poisoned} poisoned, {cancelled} cancelled, {given_up} given up"
        )?;
        if timed_out + past_deadline > 0 {
            write!(
                f,
                "\n  limits: {timed_out} attempts timed out, {past_deadline} inputs past their deadline"
            )?;
        }
        if let Some(oldest) = self.oldest.first() {
            write!(f, "\n  oldest execution: {} for {}", oldest.input, Span(self.now, oldest.since))?;
        }
        Ok(())
    }
}

/// The number of inputs that each container may have in flight, as text. It says nothing if that is 1.
pub(crate) struct EachUpTo(pub(crate) usize);

impl fmt::Display for EachUpTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => Ok(()),
            inputs => write!(f, " (up to {inputs} in each container)"),
        }
    }
}

/// A number of crashes as text.
struct Crashes(u64);

impl fmt::Display for Crashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "crash" } else { "crashes" })
    }
}

/// The time from the second moment to the first, as text in whole milliseconds.
pub(crate) struct Span(pub(crate) Duration, pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.saturating_sub(self.1).as_millis();
        write!(f, "{:?}", Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

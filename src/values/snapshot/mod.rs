//! Snapshots: what an app and its functions look like at one moment, as numbers and text.
//!
//! [`App::snapshot`](crate::App::snapshot), [`AnyFunction::snapshot`](crate::AnyFunction::snapshot) and
//! [`Function::snapshot`](crate::Function::snapshot) take them. They hold nothing of the user's values and keep nothing alive,
//! so that a page, an exporter or a post-mortem may hold them for as long as it likes. Each list has a named bound, and what
//! was left out is counted. With the feature `serde` they can be serialized: durations and moments as whole milliseconds with
//! `_ms` at the end of their names, what is absent left out. Within one [version](Snapshot::v) names and words are only added.
//!
//! Totals only grow: a viewer that takes two snapshots makes a rate of them.
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
    Abandoned, CallCounts, ContainerBytes, ContainerSnapshot, ContainerStateName, EndedMap, Execution,
    InputCounts, InputName, MapSnapshot, MemorySnapshot, Totals,
};
pub use trouble::{
    Cause, CrashCounts, CrashLoopSnapshot, CrashSnapshot, GaveUpSnapshot, Happening, LastDeath, LogEntry,
    Poisoned, PolicyName, RecentCrashes, Tally,
};

use std::fmt;
use std::time::Duration;

use crate::values::report::FunctionReport;
use crate::values::status::Containers;

#[cfg(feature = "serde")]
use crate::values::serial;

/// The version of the serialized form. Within it fields and words are only added.
pub(crate) const VERSION: u32 = 1;

/// Everything that is to be seen of an app at one moment. See [`App::snapshot`](crate::App::snapshot).
///
/// Moments (`now`, and every `at`, `since`, `began`) are durations since the engine was first used in this process, on one
/// clock that never goes back. The difference of two is how long something took or has gone on; added to
/// [`started_unix_ms`](Self::started_unix_ms) it is the time of day.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The version of the serialized form: 1.
    pub v: u32,
    /// The version of this library.
    pub longshore: &'static str,
    /// The number of the process, by which the system knows it.
    pub process: u32,
    /// The time of day at which the engine was first used in this process, in milliseconds since 1970. Together with the
    /// number of the process it tells one that was restarted.
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

/// What is to be seen of an app beside its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AppSnapshot {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: AppKind,
    /// Functions that have come to a clean end: they are only counted.
    pub ended_cleanly: u64,
    /// The reports of the last 64 functions that have come to another end, oldest first.
    pub reports: Vec<FunctionReport>,
    /// Such functions before them, which are only counted.
    pub reports_dropped: u64,
}

/// What an app is for.
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
pub enum Mode {
    /// It takes inputs.
    Running,
    /// Accepted inputs finish, and nothing new is taken.
    Draining,
    /// Only what executes finishes.
    Stopping,
    /// Nothing is waited for.
    Aborted,
}

/// Everything that is to be seen of a function at one moment. See [`Function::snapshot`](crate::Function::snapshot).
///
/// It is taken in some tens of microseconds and costs the function nothing between two. Numbers lag by at most the inputs that
/// containers execute. Its lists are bounded:
///
/// | list | at most |
/// |---|---|
/// | `rows` | 256, those that do not serve first |
/// | `abandoned` | 64 |
/// | `oldest` | 4 |
/// | `crashes`, `poisoned` | the last 64 of each |
/// | `causes` | 32 |
/// | `maps` | 64, the oldest |
/// | `maps_ended` | the last 32 |
/// | `log` | the last 256 lines, in which repeats are counted |
///
/// Shown (`{snapshot}`) it is some lines of plain text, the trouble first.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FunctionSnapshot {
    /// Its name.
    pub name: String,
    /// The moment of this snapshot. See [`Snapshot`] for what moments are. In a rehearsal they are virtual time.
    #[cfg_attr(feature = "serde", serde(rename = "now_ms", serialize_with = "serial::ms"))]
    pub now: Duration,
    /// When the function was started.
    #[cfg_attr(feature = "serde", serde(rename = "started_ms", serialize_with = "serial::ms"))]
    pub started: Duration,
    /// How it is, in one word.
    pub health: Health,
    /// How far it is from its end.
    pub mode: Mode,
    /// A fault of the engine that has ended it.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub broken: Option<String>,
    /// Its containers by state.
    pub containers: Containers,
    /// Its containers one by one, in the order of their numbers.
    pub rows: Vec<ContainerSnapshot>,
    /// Containers that `rows` leaves out.
    pub rows_omitted: usize,
    /// Threads whose generation is over and that have not returned from the user's code.
    pub abandoned: Vec<Abandoned>,
    /// The executions that have gone on for longest, the oldest first.
    pub oldest: Vec<Execution>,
    /// Inputs without an outcome, by what they wait for.
    pub inputs: InputCounts,
    /// What has happened since the start.
    pub totals: Totals,
    /// Calls without an outcome.
    pub calls: CallCounts,
    /// Maps that are open.
    pub maps: Vec<MapSnapshot>,
    /// Maps that `maps` leaves out.
    pub maps_omitted: usize,
    /// The last maps that were closed, oldest first.
    pub maps_ended: Vec<EndedMap>,
    /// The crash loop of now, or the last one that is over.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub crash_loop: Option<CrashLoopSnapshot>,
    /// Crashes of the last minute, in a loop or not.
    pub recent: RecentCrashes,
    /// What the restart policy has counted, and how far it is from giving up.
    pub tally: Tally,
    /// Crashes by kind and place, the most recent first.
    pub causes: Vec<Cause>,
    /// Crashes of further kinds and places, which are only counted.
    pub causes_other: u64,
    /// The last crashes and kills, oldest first.
    pub crashes: Vec<CrashSnapshot>,
    /// The last poisoned inputs, oldest first.
    pub poisoned: Vec<Poisoned>,
    /// Why the function gave up, while it is given up.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub gave_up: Option<GaveUpSnapshot>,
    /// What has become of it, once it has ended.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub report: Option<FunctionReport>,
    /// What is held in memory, where an [`Accountant`](crate::Accountant) is installed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub memory: Option<MemorySnapshot>,
    /// Feeders that pull a source, or are stuck in one.
    pub feeders: usize,
    /// How long executions took. Inputs that were leased together count with their average: so it is exact above half
    /// a millisecond, which is what a lease is worth.
    pub executing: Histogram,
    /// How long calls waited for a container. Of one call in sixteen, the first included.
    pub queueing: Histogram,
    /// How long `enter` took, where it ended well.
    pub entering: Histogram,
    /// What has happened, without the changes of containers, oldest first. Repeats of one thing within ten seconds are one
    /// line.
    pub log: Vec<LogEntry>,
    /// How many changes the log has seen. A viewer that remembers it asks for lines whose
    /// [`changed`](LogEntry::changed) is larger.
    pub seq: u64,
}

/// How many lines of the log, causes and the like are shown as text.
const SHOWN: usize = 5;

impl fmt::Display for FunctionSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.health)?;
        if self.mode != Mode::Running && self.health != Health::Ended {
            write!(f, ", {}", format!("{:?}", self.mode).to_lowercase())?;
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
        let Containers { starting, live, exiting, backing_off, stopped, abandoned } = self.containers;
        write!(
            f,
            "\n  containers: {live} live, {starting} starting, {exiting} exiting, {backing_off} backing off, \
             {stopped} stopped, {abandoned} abandoned"
        )?;
        let InputCounts { queued, retry, replay, executing, .. } = self.inputs;
        write!(
            f,
            "\n  inputs: {queued} queued, {retry} to retry, {replay} to replay, {executing} executing"
        )?;
        let Totals { ok, failed, poisoned, cancelled, given_up, .. } = self.totals;
        write!(
            f,
            "\n  ended: {ok} ok, {failed} failed, {poisoned} poisoned, {cancelled} cancelled, {given_up} given up"
        )?;
        if let Some(oldest) = self.oldest.first() {
            write!(f, "\n  oldest execution: {} for {}", oldest.input, Span(self.now, oldest.since))?;
        }
        Ok(())
    }
}

/// A number of crashes in words.
struct Crashes(u64);

impl fmt::Display for Crashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "crash" } else { "crashes" })
    }
}

/// The time from the second moment to the first, to the millisecond.
pub(crate) struct Span(pub(crate) Duration, pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.saturating_sub(self.1).as_millis();
        write!(f, "{:?}", Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

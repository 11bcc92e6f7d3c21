//! The parts of a snapshot for crashes, crash loops, poisoned inputs and giving up, and the log.

use std::fmt;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::values::crash::CrashKind;
use crate::values::snapshot::Span;
use crate::values::snapshot::rows::InputName;

#[cfg(feature = "serde")]
use crate::values::serial;

/// Deaths of containers by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashCounts {
    /// The function panicked.
    pub panic: u64,
    /// `enter` panicked.
    pub enter_panic: u64,
    /// `enter` returned an error.
    pub enter_error: u64,
    /// The container used too much memory.
    pub memory_limit: u64,
    /// The thread of the container could not be made.
    pub no_thread: u64,
    /// The memory of the container could not be accounted for.
    pub no_account: u64,
    /// `enter` took longer than its limit.
    pub enter_timeout: u64,
    /// The code did not end at the limit of its attempt.
    pub unresponsive: u64,
    /// The container was killed by hand, which is no crash.
    pub killed: u64,
}

impl CrashCounts {
    pub(crate) fn add(&mut self, kind: CrashKind) {
        let count = match kind {
            CrashKind::Panic => &mut self.panic,
            CrashKind::EnterPanic => &mut self.enter_panic,
            CrashKind::EnterError => &mut self.enter_error,
            CrashKind::MemoryLimit => &mut self.memory_limit,
            CrashKind::NoThread => &mut self.no_thread,
            CrashKind::NoAccount => &mut self.no_account,
            CrashKind::EnterTimeout => &mut self.enter_timeout,
            CrashKind::Unresponsive => &mut self.unresponsive,
            CrashKind::Killed => &mut self.killed,
        };
        *count += 1;
    }

    /// The number of crashes. Kills by hand are not counted.
    #[must_use]
    pub const fn crashes(&self) -> u64 {
        let Self {
            panic,
            enter_panic,
            enter_error,
            memory_limit,
            no_thread,
            no_account,
            enter_timeout,
            unresponsive,
            killed: _,
        } = *self;
        panic
            + enter_panic
            + enter_error
            + memory_limit
            + no_thread
            + no_account
            + enter_timeout
            + unresponsive
    }
}

/// One death of a container, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashSnapshot {
    /// The number of this death among the deaths of the function, from 1. Kills by hand are included.
    pub number: u64,
    /// The moment of the death.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// The container that died.
    pub container: ContainerId,
    /// The generation that ended.
    pub generation: Generation,
    /// The kind of the death.
    pub kind: CrashKind,
    /// The message of the panic or of the error, or a fixed text, cut at 512 bytes.
    pub message: String,
    /// The place in the code of the panic: `file:line:column`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub location: Option<String>,
    /// The input that was executing, if there was one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub executing: Option<InputName>,
    /// The number of that execution among those of the input.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub attempt: Option<Attempt>,
    /// The most memory in bytes that the attempt, or `enter`, used.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub peak_bytes: Option<u64>,
}

/// The last death of a container, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LastDeath {
    /// The number of the death. [`FunctionSnapshot::crashes`](crate::snapshot::FunctionSnapshot::crashes) has
    /// the details, unless 64 deaths have come since.
    pub number: u64,
    /// The moment of the death.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// The kind of the death.
    pub kind: CrashKind,
}

/// Crashes of one kind at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashCause {
    /// The kind of the deaths.
    pub kind: CrashKind,
    /// The place in the code, for a panic whose place is known. Without a place crashes with the same message
    /// are one cause.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub location: Option<String>,
    /// The message of the last of these crashes, cut at 256 bytes.
    pub message: String,
    /// The number of these crashes.
    pub count: u64,
    /// The moment of the first of these crashes.
    #[cfg_attr(feature = "serde", serde(rename = "first_ms", serialize_with = "serial::ms"))]
    pub first: Duration,
    /// The moment of the last of these crashes.
    #[cfg_attr(feature = "serde", serde(rename = "last_ms", serialize_with = "serial::ms"))]
    pub last: Duration,
    /// The container that died in the last of these crashes.
    pub container: ContainerId,
    /// The input that was executing in the last of these crashes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub executing: Option<InputName>,
}

impl CrashCause {
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, now: Duration) -> fmt::Result {
        write!(f, "\n  {} × {}", self.count, self.kind)?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        let (first, last) = (Span(now, self.first), Span(now, self.last));
        write!(f, ": {} (first {first} ago, last {last} ago", self.message)?;
        match &self.executing {
            Some(input) => write!(f, ", {input})"),
            None => write!(f, ")"),
        }
    }
}

/// An input that crashed its containers too often.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Poisoned {
    /// The number of the input among the poisoned inputs of the function, from 1.
    pub number: u64,
    /// The moment at which the input was poisoned.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// The input.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub input: InputName,
    /// The number of executions of the input.
    pub attempts: Attempt,
    /// The kind of the last death that the input caused.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub kind: Option<CrashKind>,
    /// The message of that death, cut at 256 bytes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub message: Option<String>,
    /// The place in the code of that death, if it is known.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub location: Option<String>,
    /// The description of the input by [`Builder::describe`](crate::Builder::describe), cut at 200
    /// characters.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub description: Option<String>,
}

impl Poisoned {
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  poisoned: {} after {} executions", self.input, self.attempts)?;
        match &self.description {
            Some(description) => write!(f, ": {description}"),
            None => Ok(()),
        }
    }
}

/// A crash loop: containers that die before they complete anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashLoopSnapshot {
    /// The number of loop crashes in a row. It is at least two.
    pub crashes: u32,
    /// The moment of the first of these crashes.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// The moment at which containers are created again. `None` once they may be, or if none will be.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "next_restart_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub next_restart: Option<Duration>,
    /// The moment at which the crash loop ended. `None` while it goes on.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "ended_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub ended: Option<Duration>,
}

impl CrashLoopSnapshot {
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, now: Duration) -> fmt::Result {
        let Self { crashes, since, .. } = *self;
        match (self.ended, self.next_restart) {
            (Some(ended), _) => {
                let (lasted, ago) = (Span(ended, since), Span(now, ended));
                write!(
                    f,
                    "\n  a crash loop of {crashes} in a row was over {ago} ago, and had lasted {lasted}"
                )
            }
            (None, Some(next)) => {
                let (age, next) = (Span(now, since), Span(next, now));
                write!(f, "\n  {crashes} crashes in a row for {age}, next restart in {next}")
            }
            (None, None) => write!(f, "\n  {crashes} crashes in a row for {}", Span(now, since)),
        }
    }
}

/// The crashes of the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecentCrashes {
    /// The number of crashes. The minute is counted in whole seconds.
    pub crashes: u64,
    /// The time over which they are counted: a minute.
    #[cfg_attr(feature = "serde", serde(rename = "over_ms", serialize_with = "serial::ms"))]
    pub over: Duration,
    /// The share of these crashes in all executions that ended since the first of them: 0 to 1. `None` if
    /// there was no crash.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub share: Option<f64>,
}

/// The counts of the restart policy within its window, with its limits if it has any.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Tally {
    /// The policy.
    pub policy: PolicyName,
    /// The window of the policy.
    #[cfg_attr(feature = "serde", serde(rename = "window_ms", serialize_with = "serial::ms"))]
    pub window: Duration,
    /// The crashes that count for the limit: one for each round.
    pub crashes: u64,
    /// The limit: the function gives up at the first crash above it, if the share is above its own limit as
    /// well.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub crashes_max: Option<u32>,
    /// Crashes as a share of crashes and completed inputs, as the policy counts them: 0 to 1.
    pub share: f64,
    /// The limit of the share.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub share_max: Option<f64>,
}

impl Tally {
    /// How near the function is to giving up, from 0 to 1. It must exceed two limits, and the limit that is
    /// farther away counts. `None` for a policy that never gives up.
    #[must_use]
    pub fn used(&self) -> Option<f64> {
        let (crashes_max, share_max) = (self.crashes_max?, self.share_max?);
        let crashes = self.crashes as f64 / (f64::from(crashes_max) + 1.0);
        let share = if share_max > 0.0 { self.share / share_max } else { 1.0 };
        Some(crashes.min(share).clamp(0.0, 1.0))
    }
}

/// The restart policy of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PolicyName {
    /// [`RateLimited`](crate::RateLimited).
    RateLimited,
    /// [`CrashLoopBackoff`](crate::CrashLoopBackoff).
    CrashLoopBackoff,
}

/// Why a function gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GaveUpSnapshot {
    /// The moment at which the function gave up.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// The first crashes of the window and the crash that broke the limit, as text, cut at 1024 bytes.
    pub message: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogEntry {
    /// The number of the line, from 1. It stays the same when repeats are added.
    pub seq: u64,
    /// The number of the last change of the line, counted over all lines.
    pub changed: u64,
    /// The moment at which it first happened.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// The moment at which it last happened.
    #[cfg_attr(feature = "serde", serde(rename = "last_ms", serialize_with = "serial::ms"))]
    pub last: Duration,
    /// The number of times that it happened.
    pub count: u64,
    /// What happened.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub what: Happening,
}

/// What a line of the log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "what", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Happening {
    /// Containers crashed with one cause.
    Crashed {
        /// The number of the last of these crashes.
        number: u64,
    },
    /// Containers were killed by hand.
    Killed {
        /// The number of the last of these deaths.
        number: u64,
    },
    /// Inputs were poisoned.
    Poisoned {
        /// The number of the last of them among the poisoned inputs.
        number: u64,
    },
    /// A crash loop reached its next delay.
    CrashLoop {
        /// The number of loop crashes in a row.
        crashes: u32,
        /// The moment at which containers are created again.
        #[cfg_attr(feature = "serde", serde(rename = "next_restart_ms", serialize_with = "serial::ms"))]
        next_restart: Duration,
    },
    /// A crash loop ended.
    Recovered {
        /// The number of its loop crashes in a row.
        crashes: u32,
    },
    /// A container was left behind in its `exit`.
    ExitTimedOut {
        /// The container.
        container: ContainerId,
    },
    /// A container hangs, and is kept because no further thread may be left behind.
    Hung {
        /// The container.
        container: ContainerId,
    },
    /// The code of a container that hung has returned.
    HangEnded {
        /// The container.
        container: ContainerId,
    },
    /// No container is left that takes inputs, and none can be created.
    Exhausted,
    /// The function was exhausted, and is no more.
    ExhaustionEnded,
    /// Calls are refused because the function is overloaded. An overload has one line, which is rewritten
    /// while the overload goes on. If the function is overloaded again within a minute after the end, the
    /// line of that end is rewritten, and [`LogEntry::count`] says how many overloads there were. So
    /// overloads that come and go are two lines.
    Overloaded {
        /// The number of calls that were refused since the first of these overloads began.
        refused: u64,
    },
    /// The function was overloaded, once or several times in a row, and is no more.
    OverloadEnded {
        /// The number of calls that were refused, in all of these overloads.
        refused: u64,
    },
    /// The function gave up.
    GaveUp,
    /// The crashes of the function were forgotten by hand.
    Reset,
    /// The function was paused.
    Paused,
    /// The function was resumed.
    Resumed,
    /// The function has ended.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(crashes: u64, share: f64) -> Tally {
        let (crashes_max, share_max) = (Some(15), Some(0.5));
        let (policy, window) = (PolicyName::RateLimited, Duration::from_secs(60));
        Tally { policy, window, crashes, crashes_max, share, share_max }
    }

    #[test]
    fn the_limit_that_is_farther_says_how_far_it_is_to_giving_up() {
        assert_eq!(tally(0, 0.0).used(), Some(0.0));
        assert_eq!(tally(8, 0.5).used(), Some(0.5));
        assert_eq!(tally(16, 0.125).used(), Some(0.25));
        assert_eq!(tally(99, 0.9).used(), Some(1.0));
        assert_eq!(Tally { share_max: Some(0.0), ..tally(4, 0.1) }.used(), Some(0.25));
        assert_eq!(Tally { crashes_max: None, ..tally(4, 0.1) }.used(), None);
    }
}

//! What a snapshot says of crashes, loops, poison and giving up, and its log.

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
    /// Its thread could not be made.
    pub no_thread: u64,
    /// Its memory could not be accounted for.
    pub no_account: u64,
    /// It was killed by hand, which is no crash.
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
            CrashKind::Killed => &mut self.killed,
        };
        *count += 1;
    }

    /// All crashes. Kills by hand are none.
    #[must_use]
    pub const fn crashes(&self) -> u64 {
        let Self { panic, enter_panic, enter_error, memory_limit, no_thread, no_account, killed: _ } = *self;
        panic + enter_panic + enter_error + memory_limit + no_thread + no_account
    }
}

/// One death of a container, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CrashSnapshot {
    /// Its number among the deaths of the function, kills by hand included, from 1.
    pub number: u64,
    /// When it was.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// Which container died.
    pub container: ContainerId,
    /// In which of its generations.
    pub generation: Generation,
    /// Of what.
    pub kind: CrashKind,
    /// The message of the panic or of the error, or what there is to say, cut at 512 bytes.
    pub message: String,
    /// Where in the code the panic was: `file:line:column`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub location: Option<String>,
    /// The input that was executing, if one was.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub executing: Option<InputName>,
    /// Which execution of it that was.
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
    /// Its number, by which [`FunctionSnapshot::crashes`](crate::snapshot::FunctionSnapshot::crashes) has it in full, unless
    /// 64 have come since.
    pub number: u64,
    /// When it was.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// Of what.
    pub kind: CrashKind,
}

/// Crashes of one kind at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Cause {
    /// Of what the containers died.
    pub kind: CrashKind,
    /// Where in the code, if it was a panic and the place is known. Otherwise crashes with the same message are one cause.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub location: Option<String>,
    /// The message of the last of them, cut at 256 bytes.
    pub message: String,
    /// How many there were.
    pub count: u64,
    /// When the first of them was.
    #[cfg_attr(feature = "serde", serde(rename = "first_ms", serialize_with = "serial::ms"))]
    pub first: Duration,
    /// When the last of them was.
    #[cfg_attr(feature = "serde", serde(rename = "last_ms", serialize_with = "serial::ms"))]
    pub last: Duration,
    /// The container that the last of them killed.
    pub container: ContainerId,
    /// The input that was executing then.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub executing: Option<InputName>,
}

impl Cause {
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
    /// Its number among the poisoned inputs of the function, from 1.
    pub number: u64,
    /// When it was given up.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// Which input.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub input: InputName,
    /// How often it was executed.
    pub attempts: Attempt,
    /// Of what the last container died that it crashed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub kind: Option<CrashKind>,
    /// The message of that death, cut at 256 bytes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub message: Option<String>,
    /// Where in the code that was, if it is known.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub location: Option<String>,
    /// What [`Builder::describe`](crate::Builder::describe) says of the input, cut at 200 characters.
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
    /// Loop crashes in a row, at least two.
    pub crashes: u32,
    /// When the first of them was.
    #[cfg_attr(feature = "serde", serde(rename = "since_ms", serialize_with = "serial::ms"))]
    pub since: Duration,
    /// When containers are created again. `None` once they may be, and where none will be.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "next_restart_ms",
            serialize_with = "serial::maybe_ms",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub next_restart: Option<Duration>,
    /// When it was over. `None` while it goes on.
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

/// Crashes of the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecentCrashes {
    /// How many there were, to the second.
    pub crashes: u64,
    /// Over how long: a minute.
    #[cfg_attr(feature = "serde", serde(rename = "over_ms", serialize_with = "serial::ms"))]
    pub over: Duration,
    /// Which share they are of all executions that ended since the first of them: 0 to 1. `None` where there was no crash.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub share: Option<f64>,
}

/// What the restart policy has counted within its window, and its limits if it has any.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Tally {
    /// Which policy it is.
    pub policy: PolicyName,
    /// Its window.
    #[cfg_attr(feature = "serde", serde(rename = "window_ms", serialize_with = "serial::ms"))]
    pub window: Duration,
    /// Crashes that count for the limit, by rounds.
    pub crashes: u64,
    /// The limit: the function gives up at the first crash above it, if the share is above its own limit as well.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub crashes_max: Option<u32>,
    /// Crashes as a share of crashes and completed inputs, as the policy counts them: 0 to 1.
    pub share: f64,
    /// The limit of the share.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub share_max: Option<f64>,
}

impl Tally {
    /// How much of the way to giving up is gone, by the limit that is farther: 0 to 1. `None` of a policy that never does.
    #[must_use]
    pub fn used(&self) -> Option<f64> {
        let (crashes_max, share_max) = (self.crashes_max?, self.share_max?);
        let crashes = self.crashes as f64 / (f64::from(crashes_max) + 1.0);
        let share = if share_max > 0.0 { self.share / share_max } else { 1.0 };
        Some(crashes.min(share).clamp(0.0, 1.0))
    }
}

/// Which restart policy a function has.
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
    /// When it gave up.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// How it began and which crash broke the limit, cut at 1024 bytes.
    pub message: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogEntry {
    /// Its number, from 1. It stays when repeats are added.
    pub seq: u64,
    /// The number of its last change, counted over all lines and repeats.
    pub changed: u64,
    /// When it happened, the first time.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", serialize_with = "serial::ms"))]
    pub at: Duration,
    /// When it happened last.
    #[cfg_attr(feature = "serde", serde(rename = "last_ms", serialize_with = "serial::ms"))]
    pub last: Duration,
    /// How often.
    pub count: u64,
    /// What.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub what: Happening,
}

/// What a line of the log tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "what", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Happening {
    /// Containers crashed of one cause.
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
        /// The number of the last of them among the poisoned.
        number: u64,
    },
    /// A crash loop came to its next delay.
    CrashLoop {
        /// Loop crashes in a row.
        crashes: u32,
        /// When containers are created again.
        #[cfg_attr(feature = "serde", serde(rename = "next_restart_ms", serialize_with = "serial::ms"))]
        next_restart: Duration,
    },
    /// A crash loop was over.
    Recovered {
        /// Loop crashes in a row that it had.
        crashes: u32,
    },
    /// A container was left behind in its `exit`.
    ExitTimedOut {
        /// Which.
        container: ContainerId,
    },
    /// The function gave up.
    GaveUp,
    /// The crashes of the function were forgotten by hand.
    Reset,
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

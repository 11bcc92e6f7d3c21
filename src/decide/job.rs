//! One map or call as the ledger keeps it: its counts, its fresh ranges, and a record of each input that
//! failed or crashed. An input that completes without either only changes a number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::ids::Attempt;
use crate::decide::jitter::Jitter;
use crate::decide::ledger::{CrashNumber, Ticket};
use crate::decide::retries::Retries;
use crate::decide::share::Share;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::values::crash::{Crash, Previous};

/// The largest number of deaths that are kept of one input, because a budget of 1000 crashes must
/// not keep 1000 messages.
pub(crate) const DEATHS_MAX: usize = 8;

/// The inputs `first .. first + len` of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) len: u64,
}

impl Span {
    pub(crate) fn end(self) -> u64 {
        self.first + self.len
    }

    pub(crate) fn indices(self) -> std::ops::Range<u64> {
        self.first..self.end()
    }
}

/// The kind of a job, which decides its place in the order of dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// A job of one input, dispatched before all maps.
    Call,
    /// A job with a source of inputs, in turn with the other maps.
    Map,
}

/// The effect of the first final failure on a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The failure ends the map when it happens.
    EndMap,
    /// The failure is one outcome among others.
    GoOn,
}

/// How many inputs ended in each way. At the end of a job `pulled` is the sum of the endings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pulled: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) poisoned: u64,
    pub(crate) cancelled: u64,
    pub(crate) given_up: u64,
    /// Executions that were repeated because a container died. Not an ending.
    pub(crate) replayed: u64,
    /// Executions that were repeated because the function failed. Not an ending.
    pub(crate) retried: u64,
}

impl Counts {
    pub(crate) fn ended(self) -> u64 {
        self.ok + self.failed + self.poisoned + self.cancelled + self.given_up
    }

    /// The number of accepted inputs without an outcome.
    pub(crate) fn pending(self) -> u64 {
        self.pulled - self.ended()
    }
}

/// The queue in which an input waits to be executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The input waits for its replay, and has crashed no container.
    Replay(Ticket),
    /// The input waits for its replay as a suspect, in the order of its last crash.
    Suspect(CrashNumber),
    /// The input waits for its retry, which is due at this time.
    Retry(Time),
}

/// The history of an input that has failed or crashed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    /// Executions that ended with their container and cost nothing, because the container was killed by hand
    /// or had not proved itself.
    pub(crate) kills: u32,
    /// The number and the time of the input's last crash.
    pub(crate) crashed: Option<(CrashNumber, Time)>,
    /// The queue in which the input waits, if it does.
    pub(crate) waits: Option<Waits>,
    /// The number of the input's crashes and kills that left a thread behind.
    pub(crate) abandoned: u32,
    /// The last time at which the input counted a crash towards the restart policy.
    pub(crate) counted: Option<Time>,
    /// The first [`DEATHS_MAX`] of the input's crashes.
    pub(crate) deaths: Vec<Arc<Crash>>,
    pub(crate) previous: Option<Previous>,
}

impl Record {
    /// Whether the input has crashed a container.
    pub(crate) fn is_suspect(&self) -> bool {
        self.crashed.is_some()
    }

    /// The number of the input's next execution.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt(1 + self.failures + self.crashes + self.kills)
    }
}

/// A map or a call.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) kind: JobKind,
    pub(crate) on_failure: OnFailure,
    pub(crate) window: Window,
    /// The retries of this job, in place of the function's, with the generator of their jitter.
    pub(crate) retries: Option<(Retries, Option<Jitter>)>,
    pub(crate) counts: Counts,
    pub(crate) share: Share,
    /// The job's ticket among the calls, or among the maps in turn.
    pub(crate) turn: Option<Ticket>,
    /// Inputs that were pulled and never assigned.
    pub(crate) fresh: VecDeque<Span>,
    /// The job's tickets among the requeued inputs.
    pub(crate) requeued: BTreeSet<Ticket>,
    pub(crate) records: BTreeMap<u64, Record>,
    /// The time at which a small amount of room in the window is taken although it has not grown.
    pub(crate) crumbs_at: Option<Time>,
}

impl Job {
    pub(crate) fn new(
        kind: JobKind,
        on_failure: OnFailure,
        window: Window,
        retries: Option<Retries>,
        share: Share,
    ) -> Self {
        Self {
            kind,
            on_failure,
            window,
            retries: retries.map(|retries| {
                let jitter = retries.jitter_source();
                (retries, jitter)
            }),
            counts: Counts::default(),
            share,
            turn: None,
            fresh: VecDeque::new(),
            requeued: BTreeSet::new(),
            records: BTreeMap::new(),
            crumbs_at: None,
        }
    }

    /// Takes at most `most` of the fresh inputs, from one range.
    pub(crate) fn take_fresh(&mut self, most: u64) -> Option<Span> {
        let span = self.fresh.front_mut()?;
        let taken = Span { first: span.first, len: span.len.min(most) };
        span.first += taken.len;
        span.len -= taken.len;
        if span.len == 0 {
            self.fresh.pop_front();
        }
        Some(taken)
    }

    pub(crate) fn attempt(&self, index: u64) -> Attempt {
        self.records.get(&index).map_or(Attempt::FIRST, Record::attempt)
    }
}

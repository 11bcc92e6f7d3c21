//! One map or call as the ledger keeps it: its counts, its fresh ranges, and a record of each
//! input that failed or crashed. Inputs that simply complete leave no trace but a number.

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

/// The most deaths kept of one input, because a budget of 1000 must not keep 1000 messages.
pub(crate) const DEATHS_MAX: usize = 8;

/// Inputs `first .. first + len` of a job.
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

/// What a job is, which decides its place in the order of dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// One input, ahead of all maps.
    Call,
    /// Inputs from a source, in turn with the other maps.
    Map,
}

/// What the first final failure does to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It ends the map when it happens.
    EndMap,
    /// It is one outcome among others.
    GoOn,
}

/// How many inputs ended how. At the end of a job `pulled` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pulled: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) poisoned: u64,
    pub(crate) cancelled: u64,
    pub(crate) given_up: u64,
    /// Executions begun again after a container died. Not an ending.
    pub(crate) replayed: u64,
    /// Executions begun again after a failure. Not an ending.
    pub(crate) retried: u64,
}

impl Counts {
    pub(crate) fn ended(self) -> u64 {
        self.ok + self.failed + self.poisoned + self.cancelled + self.given_up
    }

    /// Accepted inputs without an outcome.
    pub(crate) fn pending(self) -> u64 {
        self.pulled - self.ended()
    }
}

/// The queue in which an input waits that was executed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// For its replay. It has crashed no container.
    Replay(Ticket),
    /// For its replay, as a suspect. By its last crash.
    Suspect(CrashNumber),
    /// For its retry, which is due then.
    Retry(Time),
}

/// The history of one input that did not simply complete.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    /// Executions that ended with their container and cost nothing: it was killed by hand, or had not proved itself.
    pub(crate) kills: u32,
    /// Its last crash, and when that was.
    pub(crate) crashed: Option<(CrashNumber, Time)>,
    /// Where it waits, if it does.
    pub(crate) waits: Option<Waits>,
    /// Of its crashes and kills, those that left a thread behind in it.
    pub(crate) abandoned: u32,
    /// When it last counted a crash towards the restart policy.
    pub(crate) counted: Option<Time>,
    /// The first [`DEATHS_MAX`] of its crashes.
    pub(crate) deaths: Vec<Arc<Crash>>,
    pub(crate) previous: Option<Previous>,
}

impl Record {
    /// Whether the input has crashed a container.
    pub(crate) fn is_suspect(&self) -> bool {
        self.crashed.is_some()
    }

    /// The number of the execution that begins next.
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
    /// Its own, in place of the function's, with the generator of their jitter.
    pub(crate) retries: Option<(Retries, Option<Jitter>)>,
    pub(crate) counts: Counts,
    pub(crate) share: Share,
    /// Its place among the calls, or among the maps in turn.
    pub(crate) turn: Option<Ticket>,
    /// Pulled and never assigned.
    pub(crate) fresh: VecDeque<Span>,
    /// Its places among the requeued.
    pub(crate) requeued: BTreeSet<Ticket>,
    pub(crate) records: BTreeMap<u64, Record>,
    /// When little room in its window is taken though it did not become more.
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

    /// Takes up to `most` of the fresh inputs, from one range.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_ending_ends_an_input_and_the_others_are_pending() {
        // Powers of two, so that no two sums are the same.
        let counts = Counts {
            pulled: 100,
            ok: 1,
            failed: 2,
            poisoned: 4,
            cancelled: 8,
            given_up: 16,
            replayed: 32,
            retried: 64,
        };
        assert_eq!(counts.ended(), 31);
        assert_eq!(counts.pending(), 69);
    }

    #[test]
    fn each_execution_is_an_attempt_however_it_ended() {
        let record = Record { failures: 2, crashes: 4, kills: 8, ..Record::default() };
        assert_eq!(record.attempt(), Attempt(15));
        let mut job = Job::new(JobKind::Map, OnFailure::GoOn, Window::Fixed(1), None, Share::default());
        assert_eq!(job.attempt(7), Attempt::FIRST);
        job.records.insert(7, record);
        assert_eq!((job.attempt(7), job.attempt(8)), (Attempt(15), Attempt::FIRST));
    }

    #[test]
    fn an_input_is_a_suspect_once_it_has_crashed_a_container() {
        let killed = Record { kills: 1, ..Record::default() };
        assert!(!killed.is_suspect());
        assert!(Record { crashed: Some((1, Time::default())), ..killed }.is_suspect());
    }

    proptest! {
        #[test]
        fn fresh_inputs_are_taken_in_order_each_once_and_from_one_range(
            lens in proptest::collection::vec(1u64..9, 0..6),
            takes in proptest::collection::vec(1u64..9, 0..60),
        ) {
            let mut job = Job::new(JobKind::Map, OnFailure::GoOn, Window::Fixed(1), None, Share::default());
            let mut first = 0;
            // Between the ranges there are gaps.
            for len in &lens {
                job.fresh.push_back(Span { first, len: *len });
                first += len + 1;
            }
            let all: Vec<u64> = job.fresh.iter().flat_map(|span| span.indices()).collect();
            let mut taken = Vec::new();
            for most in takes {
                let Some(span) = job.take_fresh(most) else { break };
                prop_assert!((1..=most).contains(&span.len));
                taken.extend(span.indices());
            }
            prop_assert_eq!(&taken, &all[..taken.len()]);
            let left: u64 = job.fresh.iter().map(|span| span.len).sum();
            prop_assert_eq!(left, (all.len() - taken.len()) as u64);
        }
    }
}

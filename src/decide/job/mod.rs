//! One map or call as the ledger keeps it: its [`Counts`], its fresh ranges, and an [`InputRecord`] of
//! each input that failed or crashed. An input that completes without either only changes a number.

mod counts;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::ids::Attempt;
use crate::decide::acceptances::Acceptances;
use crate::decide::admission::Admission;
use crate::decide::claim_sizer::ClaimSizer;
use crate::decide::jitter::Jitter;
use crate::decide::ledger::Ticket;
use crate::decide::retries::Retries;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::decide::window::Window;

pub(crate) use counts::Counts;
pub(super) use counts::InputEnd;
pub(super) use record::Waits;
pub(crate) use record::{DEATHS_MAX, InputRecord};

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

impl JobKind {
    /// Records that `inputs` inputs of a job of this kind have their outcomes. The outcome of a call makes
    /// room for another call.
    pub(super) fn ended(self, inputs: u64, admission: &mut Admission) {
        if self == Self::Call && inputs > 0 {
            admission.call_ended();
        }
    }
}

/// The effect of the first final failure on a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The failure ends the map when it happens.
    EndMap,
    /// The failure is one outcome among others.
    GoOn,
}

/// A map or a call.
///
/// A function may have a hundred thousand queued calls, so a call holds only the data of one input.
#[derive(Debug)]
pub(crate) enum Job {
    Call(CallJob),
    Map(Box<MapJob>),
}

/// A call: one input, which goes ahead of all maps.
#[derive(Debug, Default)]
pub(crate) struct CallJob {
    stage: CallStage,
    /// Executions that began again after a container died.
    replayed: u32,
    /// Executions that began again after a failure.
    retried: u32,
    /// The call's ticket among the requeued inputs.
    requeued: Option<Ticket>,
    record: Option<Box<InputRecord>>,
}

/// The stage of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum CallStage {
    /// The call has no input yet.
    #[default]
    Opened,
    /// The input was never assigned.
    Fresh,
    /// The input was assigned, and has no outcome yet.
    Assigned,
    /// The input has its outcome.
    Ended(InputEnd),
}

/// A map: inputs from a source.
#[derive(Debug)]
pub(crate) struct MapJob {
    pub(crate) on_failure: OnFailure,
    pub(crate) window: Window,
    /// The retries of this job, in place of the function's, with the generator of their jitter.
    pub(crate) retries: Option<(Retries, Option<Jitter>)>,
    counts: Counts,
    pub(super) sizer: ClaimSizer,
    /// The map's ticket among the maps in turn.
    pub(crate) turn: Option<Ticket>,
    /// Inputs that were pulled and never assigned, in the order in which they are assigned. Those that were
    /// pulled together are one range, and no lease goes beyond it, because they lie in one chunk.
    fresh: VecDeque<Span>,
    /// The map's tickets among the requeued inputs.
    requeued: BTreeSet<Ticket>,
    records: BTreeMap<u64, InputRecord>,
    /// The time that an attempt may take.
    pub(crate) timeout: Option<Duration>,
    /// When its inputs were accepted, if they have a deadline.
    pub(crate) acceptances: Option<Box<Acceptances>>,
    /// The time at which a small amount of room in the window is taken although it has not grown.
    pub(crate) little_room_until: Option<Time>,
}

impl MapJob {
    pub(crate) fn new(
        on_failure: OnFailure,
        window: Window,
        retries: Option<Retries>,
        sizer: ClaimSizer,
    ) -> Self {
        Self {
            on_failure,
            window,
            retries: retries.map(|retries| {
                let jitter = retries.jitter_source();
                (retries, jitter)
            }),
            counts: Counts::default(),
            sizer,
            turn: None,
            fresh: VecDeque::new(),
            requeued: BTreeSet::new(),
            records: BTreeMap::new(),
            timeout: None,
            acceptances: None,
            little_room_until: None,
        }
    }
}

impl Job {
    pub(crate) fn kind(&self) -> JobKind {
        match self {
            Self::Call(_) => JobKind::Call,
            Self::Map(_) => JobKind::Map,
        }
    }

    pub(crate) fn map(&self) -> Option<&MapJob> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    pub(crate) fn map_mut(&mut self) -> Option<&mut MapJob> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The effect of the first final failure. A call has one input, and ends with it in any case.
    pub(crate) fn on_failure(&self) -> OnFailure {
        self.map().map_or(OnFailure::GoOn, |map| map.on_failure)
    }

    pub(crate) fn counts(&self) -> Counts {
        match self {
            Self::Map(map) => map.counts,
            Self::Call(call) => {
                let (retried, replayed) = (u64::from(call.retried), u64::from(call.replayed));
                let mut counts = Counts { retried, replayed, ..Counts::default() };
                counts.pulled = u64::from(call.stage != CallStage::Opened);
                if let CallStage::Ended(how) = call.stage {
                    *counts.of(how) = 1;
                }
                counts
            }
        }
    }

    /// Records that `inputs` more inputs were pulled. Returns the index of the first.
    ///
    /// # Panics
    ///
    /// If a call gets more than its one input.
    pub(super) fn accept(&mut self, inputs: u64) -> u64 {
        match self {
            Self::Map(map) => {
                let first = map.counts.pulled;
                map.counts.pulled += inputs;
                if inputs > 0 {
                    let before = map.fresh.back().map_or(first, |span| span.end());
                    assert_eq!(before, first, "inputs are pulled in order");
                    map.fresh.push_back(Span { first, len: inputs });
                }
                first
            }
            Self::Call(call) => {
                assert!(inputs == 1 && call.stage == CallStage::Opened, "a call has one input");
                call.stage = CallStage::Fresh;
                0
            }
        }
    }

    /// Records that one more input was pulled of a map whose source is over, and that it ended at once.
    pub(super) fn accept_ended(&mut self, how: InputEnd) {
        if let Self::Map(map) = self {
            map.counts.pulled += 1;
        }
        self.count(how, 1);
    }

    /// Records that `inputs` more inputs ended in this way.
    pub(super) fn count(&mut self, how: InputEnd, inputs: u64) {
        match self {
            Self::Map(map) => {
                *map.counts.of(how) += inputs;
                map.counts.pending(); // panics in debug builds if more ended than were pulled
            }
            Self::Call(call) if inputs > 0 => {
                let pending = matches!(call.stage, CallStage::Fresh | CallStage::Assigned);
                assert!(inputs == 1 && pending, "a call ends once, and is {:?}", call.stage);
                call.stage = CallStage::Ended(how);
            }
            Self::Call(_) => {}
        }
    }

    /// Records that the inputs of `span`, which were accepted together, ended in this way.
    pub(super) fn ends(&mut self, how: InputEnd, span: Span) {
        self.leaves_acceptances(span);
        self.count(how, span.len);
    }

    /// The inputs of `span`, which were accepted together, have their outcomes. The deadline does not concern
    /// them any more.
    pub(super) fn leaves_acceptances(&mut self, span: Span) {
        if let Self::Map(map) = self
            && let Some(acceptances) = &mut map.acceptances
        {
            acceptances.ended(span);
        }
    }

    /// Records that an execution begins again after a container died.
    pub(super) fn replays(&mut self) {
        match self {
            Self::Map(map) => map.counts.replayed += 1,
            Self::Call(call) => call.replayed += 1,
        }
    }

    /// Records that an execution begins again after a failure.
    pub(crate) fn retries(&mut self) {
        match self {
            Self::Map(map) => map.counts.retried += 1,
            Self::Call(call) => call.retried += 1,
        }
    }

    /// Takes back [`Job::replays`], because the execution did not begin.
    pub(super) fn has_not_replayed(&mut self) {
        match self {
            Self::Map(map) => map.counts.replayed -= 1,
            Self::Call(call) => call.replayed -= 1,
        }
    }

    /// Takes back [`Job::retries`], because the execution did not begin.
    pub(super) fn has_not_retried(&mut self) {
        match self {
            Self::Map(map) => map.counts.retried -= 1,
            Self::Call(call) => call.retried -= 1,
        }
    }

    /// The number of inputs that were pulled and never assigned.
    pub(crate) fn fresh(&self) -> u64 {
        match self {
            Self::Map(map) => map.fresh.iter().map(|span| span.len).sum(),
            Self::Call(call) => u64::from(call.stage == CallStage::Fresh),
        }
    }

    /// Takes at most `most` of the inputs that were never assigned, and that were pulled together.
    pub(crate) fn take_fresh(&mut self, most: u64) -> Option<Span> {
        match self {
            Self::Map(map) => {
                let span = map.fresh.front_mut()?;
                let taken = Span { first: span.first, len: span.len.min(most) };
                *span = Span { first: taken.end(), len: span.len - taken.len };
                if span.len == 0 {
                    map.fresh.pop_front();
                }
                (taken.len > 0).then_some(taken)
            }
            Self::Call(call) => {
                let is_taken = most > 0 && call.stage == CallStage::Fresh;
                is_taken.then(|| {
                    call.stage = CallStage::Assigned;
                    Span { first: 0, len: 1 }
                })
            }
        }
    }

    /// Records the ticket of inputs that wait among the requeued inputs.
    pub(crate) fn waits_at(&mut self, ticket: Ticket) {
        match self {
            Self::Map(map) => _ = map.requeued.insert(ticket),
            Self::Call(call) => call.requeued = Some(ticket),
        }
    }

    /// Forgets the ticket of inputs that left the requeued inputs.
    pub(crate) fn has_left(&mut self, ticket: Ticket) {
        match self {
            Self::Map(map) => _ = map.requeued.remove(&ticket),
            Self::Call(call) => _ = call.requeued.take_if(|at| *at == ticket),
        }
    }

    /// Takes all tickets among the requeued inputs.
    pub(crate) fn take_requeued(&mut self) -> Vec<Ticket> {
        match self {
            Self::Map(map) => std::mem::take(&mut map.requeued).into_iter().collect(),
            Self::Call(call) => call.requeued.take().into_iter().collect(),
        }
    }

    pub(crate) fn record(&self, index: u64) -> Option<&InputRecord> {
        match self {
            Self::Map(map) => map.records.get(&index),
            Self::Call(call) => call.record.as_deref(),
        }
    }

    /// The record of an input that was executed before.
    pub(crate) fn record_mut(&mut self, index: u64) -> Option<&mut InputRecord> {
        match self {
            Self::Map(map) => map.records.get_mut(&index),
            Self::Call(call) => call.record.as_deref_mut(),
        }
    }

    /// The record of an input. A record is made if there is none.
    pub(crate) fn record_or_new(&mut self, index: u64) -> &mut InputRecord {
        match self {
            Self::Map(map) => map.records.entry(index).or_default(),
            Self::Call(call) => call.record.get_or_insert_default(),
        }
    }

    /// Removes the record of an input that has ended.
    pub(crate) fn take_record(&mut self, index: u64) -> Option<InputRecord> {
        match self {
            Self::Map(map) => map.records.remove(&index),
            Self::Call(call) => call.record.take().map(|record| *record),
        }
    }

    /// The tickets of this job among the requeued inputs.
    pub(crate) fn requeued(&self) -> Vec<Ticket> {
        match self {
            Self::Map(map) => map.requeued.iter().copied().map(steps::each).collect(),
            Self::Call(call) => call.requeued.into_iter().collect(),
        }
    }

    /// The first input that was never assigned.
    pub(crate) fn first_fresh(&self) -> Option<u64> {
        match self {
            Self::Map(map) => map.fresh.front().map(|span| span.first),
            Self::Call(call) => (call.stage == CallStage::Fresh).then_some(0),
        }
    }

    /// The inputs before `end` that wait to be executed again.
    pub(crate) fn waiting_before(&self, end: u64) -> Vec<u64> {
        match self {
            Self::Map(map) => {
                let records = map.records.range(..end).map(steps::each);
                records.filter_map(|(index, record)| record.waits.map(|_| *index)).collect()
            }
            Self::Call(_) => self.waiting(),
        }
    }

    /// The inputs that wait to be executed again.
    pub(crate) fn waiting(&self) -> Vec<u64> {
        let waits = |(index, record): (u64, &InputRecord)| record.waits.map(|_| index);
        match self {
            Self::Map(map) => {
                let records = map.records.iter().map(steps::each);
                records.filter_map(|(index, record)| waits((*index, record))).collect()
            }
            Self::Call(call) => {
                call.record.as_deref().and_then(|record| waits((0, record))).into_iter().collect()
            }
        }
    }

    /// The inputs that have a record.
    #[cfg(test)]
    pub(crate) fn recorded(&self) -> Vec<u64> {
        match self {
            Self::Map(map) => map.records.keys().copied().collect(),
            Self::Call(call) => call.record.iter().map(|_| 0).collect(),
        }
    }

    pub(crate) fn attempt(&self, index: u64) -> Attempt {
        self.record(index).map_or(Attempt::FIRST, InputRecord::attempt)
    }
}

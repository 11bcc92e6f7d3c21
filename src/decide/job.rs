//! One map or call as the ledger keeps it: its counts, its fresh ranges, and a record of each input that
//! failed or crashed. An input that completes without either only changes a number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::Attempt;
use crate::decide::acceptances::Acceptances;
use crate::decide::admission::Admission;
use crate::decide::claim_sizer::ClaimSizer;
use crate::decide::jitter::Jitter;
use crate::decide::ledger::{CrashNumber, Ticket};
use crate::decide::retries::Retries;
use crate::decide::steps;
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
    /// The count of the inputs that ended in the way `how`.
    fn of(&mut self, how: InputEnd) -> &mut u64 {
        match how {
            InputEnd::Ok => &mut self.ok,
            InputEnd::Failed => &mut self.failed,
            InputEnd::Poisoned => &mut self.poisoned,
            InputEnd::Cancelled => &mut self.cancelled,
            InputEnd::GivenUp => &mut self.given_up,
        }
    }

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
pub(super) enum Waits {
    /// The input waits for its replay, and has crashed no container.
    Replay(Ticket),
    /// The input waits for its replay, and will execute alone.
    Alone(Ticket),
    /// The input waits for its replay together with others of a batch that has crashed.
    Half(Ticket),
    /// The input waits for its replay as a suspect, in the order of its last crash.
    Suspect(CrashNumber),
    /// The input waits for its retry, which is due at this time.
    Retry(Time),
    /// The input waits for the code of its last attempt, which was cut at a limit, to return.
    Leaving,
}

/// The history of an input that has failed or crashed.
#[derive(Debug, Default, Clone)]
pub(crate) struct InputRecord {
    pub(super) failures: u32,
    pub(crate) crashes: u32,
    /// Executions that ended with their container and cost nothing, because the container was killed by hand
    /// or had not proved itself.
    pub(super) kills: u32,
    /// Executions that ended because another input of the same container crashed it, or because the input has
    /// crossed the memory limit beside others. They are also counted as kills.
    pub(super) freed: u32,
    /// Whether the input executes alone in its container, until it returns.
    pub(super) alone: bool,
    /// The number and the time of the input's last crash.
    pub(crate) crashed: Option<(CrashNumber, Time)>,
    /// The queue in which the input waits, if it does.
    pub(super) waits: Option<Waits>,
    /// The number of the input's crashes and kills that left a thread behind.
    pub(crate) abandoned: u32,
    /// The last time at which the input counted a crash towards the restart policy.
    pub(crate) counted: Option<Time>,
    /// The first [`DEATHS_MAX`] of the input's crashes.
    pub(crate) deaths: Vec<Arc<Crash>>,
    pub(crate) previous: Option<Previous>,
}

impl InputRecord {
    /// Whether the input has crashed a container.
    pub(super) fn is_suspect(&self) -> bool {
        self.crashed.is_some()
    }

    /// The number of the input's next execution.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt(1 + self.failures + self.crashes + self.kills)
    }
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

/// How an input ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    Ok,
    Failed,
    Poisoned,
    Cancelled,
    GivenUp,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decide::ledger::Queue;

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
        let record = InputRecord { failures: 2, crashes: 4, kills: 8, ..InputRecord::default() };
        assert_eq!(record.attempt(), Attempt(15));
        for mut job in [a_map(), a_call()] {
            assert_eq!(job.attempt(0), Attempt::FIRST);
            *job.record_or_new(0) = record.clone();
            assert_eq!(job.attempt(0), Attempt(15));
        }
    }

    #[test]
    fn an_input_is_a_suspect_once_it_has_crashed_a_container() {
        let killed = InputRecord { kills: 1, ..InputRecord::default() };
        assert!(!killed.is_suspect());
        assert!(InputRecord { crashed: Some((1, Time::default())), ..killed }.is_suspect());
    }

    fn a_map() -> Job {
        let sizer = ClaimSizer::default();
        Job::Map(Box::new(MapJob::new(OnFailure::GoOn, Window::Fixed(1), None, sizer)))
    }

    fn a_call() -> Job {
        Job::Call(CallJob::default())
    }

    #[test]
    fn a_call_counts_as_a_map_of_one_input_does() {
        let endings =
            [InputEnd::Ok, InputEnd::Failed, InputEnd::Poisoned, InputEnd::Cancelled, InputEnd::GivenUp];
        for how in endings {
            let mut jobs = [a_map(), a_call()];
            for job in &mut jobs {
                assert_eq!(job.accept(1), 0);
                assert_eq!(job.fresh(), 1);
                assert_eq!(job.take_fresh(8), Some(Span { first: 0, len: 1 }));
                assert_eq!(job.take_fresh(8), None);
                job.retries();
                job.replays();
                job.replays();
                job.has_not_replayed();
                assert_eq!(job.counts().pending(), 1);
                job.count(how, 0);
                assert_eq!(job.counts().pending(), 1, "nothing has ended yet");
                job.count(how, 1);
            }
            let [map, call] = jobs.map(|job| job.counts());
            assert_eq!(call, map, "{how:?}");
            assert_eq!(call.ended(), 1);
        }
    }

    #[test]
    fn a_call_waits_in_queues_as_a_map_of_one_input_does() {
        for mut job in [a_map(), a_call()] {
            let mut queue = Queue::default();
            let (left, kept) = (queue.push_back(()), queue.push_back(()));
            job.waits_at(left);
            job.has_left(left);
            assert_eq!(job.take_requeued(), []);
            job.waits_at(kept);
            job.has_left(left);
            assert_eq!(job.take_requeued(), [kept]);
            assert_eq!(job.take_requeued(), []);
            assert!(job.record(0).is_none());
            assert_eq!(job.waiting(), [0; 0], "an input without a record does not wait");
            job.record_or_new(0).waits = Some(Waits::Retry(Time::default()));
            assert_eq!(job.waiting(), [0]);
            assert!(job.record_mut(0).is_some_and(|record| record.waits.take().is_some()));
            assert_eq!(job.waiting(), [0; 0]);
            assert!(job.take_record(0).is_some());
            assert!(job.take_record(0).is_none());
        }
    }

    #[test]
    #[should_panic(expected = "a call has one input")]
    fn a_second_input_of_a_call_is_refused() {
        let mut call = a_call();
        call.accept(1);
        call.accept(1);
    }

    #[test]
    #[should_panic(expected = "a call ends once")]
    fn a_second_ending_of_a_call_is_refused() {
        let mut call = a_call();
        call.accept(1);
        call.count(InputEnd::Ok, 1);
        call.count(InputEnd::Cancelled, 1);
    }

    #[test]
    fn a_queued_call_is_small() {
        assert!(size_of::<Job>() <= 40, "{}", size_of::<Job>());
    }

    proptest! {
        #[test]
        fn fresh_inputs_are_taken_in_order_and_each_once(
            lens in proptest::collection::vec(1u64..9, 0..6),
            takes in proptest::collection::vec(1u64..9, 0..60),
        ) {
            let mut job = a_map();
            let all: u64 = lens.iter().sum();
            for len in lens {
                job.accept(len);
            }
            let mut taken = Vec::new();
            for most in takes {
                let Some(span) = job.take_fresh(most) else { break };
                prop_assert!((1..=most).contains(&span.len));
                taken.extend(span.indices());
            }
            prop_assert!(taken.iter().copied().eq(0..taken.len() as u64));
            prop_assert_eq!(job.fresh(), all - taken.len() as u64);
        }
    }
}

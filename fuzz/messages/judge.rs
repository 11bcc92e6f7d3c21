//! Holds the outcomes of maps and calls against the promises.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use longshore::{Cause, Failure, Progress, Report, Status};

use crate::code::crashes;
use crate::story::{Deed, Failures, Limits, MapSpec, Policy, SourceKind};
use crate::values::{Outcome, Record, Ticket, World, Wrong, hold};

/// The records of the inputs that a source has given, in order.
pub(crate) type Records = Arc<Mutex<Vec<Arc<Record>>>>;

/// The course of a map: what it has yielded so far, and what it may still yield.
#[derive(Debug)]
pub(crate) struct Course {
    world: Arc<World>,
    spec: MapSpec,
    records: Records,
    seen: Vec<u64>,
    /// Whether a failure has ended the map, or may have.
    failed: bool,
    /// Whether its user has ended it.
    pub(crate) disturbed: bool,
}

impl Course {
    pub(crate) fn new(world: &Arc<World>, spec: MapSpec, records: Records) -> Self {
        Self { world: Arc::clone(world), spec, records, seen: Vec::new(), failed: false, disturbed: false }
    }

    /// Judges the next outcome.
    pub(crate) fn give(&mut self, outcome: &Outcome) {
        let yields = self.spec.failures == Failures::Yield;
        assert!(!self.failed, "an outcome after the last: {outcome:?}");
        let retries = self.spec.retries.map(|retries| u32::from(retries % 4));
        let number = match outcome {
            Ok(output) => {
                judge_output(&self.world, &output.record, retries);
                Some(output.record.number)
            }
            Err(failure) => {
                let number = judge_failure(&self.world, failure, retries, self.spec.limits);
                self.judge_cause(failure);
                self.failed = number.is_none() || !yields;
                number
            }
        };
        let Some(number) = number else { return };
        assert!(!self.seen.contains(&number), "input {number} has two outcomes: {self:?}");
        // A failure that ends the map comes before its place in the order.
        let at_its_place = outcome.is_ok() || self.spec.failures != Failures::EndMap;
        if !self.spec.unordered && at_its_place {
            assert_eq!(number, self.seen.len() as u64, "out of order: {self:?}");
        }
        self.seen.push(number);
    }

    /// Judges the outputs of a salvage, which must be finished and not yielded.
    pub(crate) fn salvage(&mut self, saved: &[(u64, crate::values::Output)]) {
        assert!(saved.is_sorted_by_key(|(index, _)| *index), "salvaged out of order");
        for (index, output) in saved {
            assert_eq!(*index, output.record.number);
            assert!(!self.seen.contains(index), "salvaged though it was yielded: {index}, {self:?}");
            judge_output(
                &self.world,
                &output.record,
                self.spec.retries.map(|retries| u32::from(retries % 4)),
            );
        }
    }

    /// Judges a map that has ended by itself.
    pub(crate) fn end(&self, progress: Progress) {
        if is_refused(self.spec) {
            return assert!(self.failed && self.seen.is_empty(), "the settings are refused: {self:?}");
        }
        assert_eq!(progress.pulled, progress.completed(), "{self:?}");
        let answered = self.seen.len() as u64;
        let all = self.spec.failures == Failures::Yield || !self.failed;
        if all && !self.disturbed {
            assert_eq!(answered, progress.pulled, "inputs without an outcome: {progress:?}, {self:?}");
        }
        let known = matches!(
            self.spec.source,
            SourceKind::Vector | SourceKind::Iterator | SourceKind::Liar(..) | SourceKind::Stream
        );
        if all && known && !self.disturbed && !self.failed {
            assert_eq!(answered, inputs(self.spec), "the map has ended early: {progress:?}, {self:?}");
        }
        let given = hold(&self.records).len() as u64;
        assert!(progress.pulled <= given, "{progress:?} of {given}");
    }

    /// Checks that the cause of a failure can have happened.
    fn judge_cause(&self, failure: &Failure<Ticket, Wrong>) {
        match failure.cause() {
            Cause::Cancelled => assert!(self.disturbed, "the map was not cancelled: {failure:?}, {self:?}"),
            Cause::Source(_) => {
                assert!(failure.index().is_none());
                // A chained source drops outputs, and an output may be a bomb.
                let may_panic = matches!(self.spec.source, SourceKind::Panics | SourceKind::Chained);
                assert!(may_panic, "{failure:?}");
            }
            Cause::Config(_) => assert!(is_refused(self.spec), "{failure:?}"),
            Cause::Overloaded { .. } => panic!("a map is never overloaded: {failure:?}"),
            _ => {}
        }
    }
}

/// Whether a map with this spec must be refused.
pub(crate) fn is_refused(spec: MapSpec) -> bool {
    spec.window == Some(0) || spec.limits.is_refused()
}

/// The number of inputs of a source, unless it is endless.
pub(crate) fn inputs(spec: MapSpec) -> u64 {
    u64::from(spec.inputs % 40)
}

/// Judges an output. One of the input's attempts must have returned, and the input must have no other
/// outcome.
pub(crate) fn judge_output(world: &World, record: &Record, retries: Option<u32>) {
    judge_record(world, record, retries);
    let returned = |deed: &Deed| !matches!(deed, Deed::Fail | Deed::FailBomb | Deed::Panic | Deed::PanicBomb);
    assert!(hold(&record.deeds).iter().any(returned), "an output of nothing: {record:?}");
}

/// Judges a failure. Its map or call has set `limits`. Returns the place of its input in the map.
pub(crate) fn judge_failure(
    world: &World,
    failure: &Failure<Ticket, Wrong>,
    retries: Option<u32>,
    limits: Limits,
) -> Option<u64> {
    let settings = &world.story.settings;
    match failure.cause() {
        Cause::Engine(bug) => panic!("{bug}"),
        Cause::GaveUp(_) => assert!(matches!(settings.policy, Policy::GivesUpAfter(_)), "{failure:?}"),
        Cause::ShutDown => assert!(world.has_ended(), "the function was not ended: {failure:?}"),
        Cause::WouldDeadlock => panic!("the user's thread is no container: {failure:?}"),
        Cause::TimedOut { limit } => {
            let own = limits.timeout.length().or(settings.limits.timeout.length());
            assert_eq!(own, Some(*limit), "{failure:?}");
        }
        Cause::DeadlineExceeded { limit, .. } => {
            let own = limits.deadline.length().or(settings.limits.deadline.length());
            assert_eq!(own, Some(*limit), "{failure:?}");
        }
        Cause::Overloaded { calls, max } => {
            assert_eq!((calls, settings.calls_max.map(u64::from)), (max, Some(*max)), "{failure:?}");
        }
        Cause::Poisoned(deaths) => assert!((1..=8).contains(&deaths.len()), "{deaths:?}"),
        _ => {}
    }
    // The error panics when it is shown, and here it would be the judge who shows it.
    assert!(failure.error().is_some() || !failure.to_string().is_empty());
    let Some(index) = failure.index() else {
        assert!(failure.input().is_none(), "an input without an index");
        return None;
    };
    let record = &failure.input().expect("it has an index").record;
    assert_eq!(record.number, index, "another's input");
    judge_record(world, record, retries);
    let deeds = hold(&record.deeds);
    assert!(deeds.len() <= failure.attempts() as usize, "{failure:?}, {deeds:?}");
    match failure.cause() {
        Cause::Failed(_) => {
            let failed = |deed: &Deed| matches!(deed, Deed::Fail | Deed::FailBomb);
            assert!(deeds.iter().any(failed), "{failure:?}, {deeds:?}");
        }
        Cause::Poisoned(_) => {
            let crashed = deeds.iter().filter(|deed| crashes(**deed) || **deed == Deed::CallItself).count();
            assert!(crashed > 0, "{failure:?}, {deeds:?}");
        }
        _ => {}
    }
    Some(index)
}

/// Checks that an input has one outcome, and that its executions are within the budgets.
fn judge_record(world: &World, record: &Record, retries: Option<u32>) {
    assert_eq!(record.outcomes.fetch_add(1, Ordering::SeqCst), 0, "two outcomes: {record:?}");
    let settings = &world.story.settings;
    let retries = retries.unwrap_or(u32::from(settings.retries % 4));
    let crash_retries = u32::from(settings.crash_retries % 4);
    // Without crash retries, an input that has begun in a container that was killed is not begun again.
    let kills = if crash_retries == 0 { 0 } else { world.kills.load(Ordering::SeqCst) };
    // An input is replayed free beside others three times at most, and once more after each failure. From
    // then on it executes alone.
    let free = match settings.kind {
        _ if crash_retries == 0 => 0,
        kind if kind.is_concurrent() => 3 + retries,
        // A batch is halved until an input is alone, and again after each failure.
        kind if kind.is_batched() => {
            settings.batch_size().next_power_of_two().trailing_zeros() * (1 + retries)
        }
        _ => 0,
    };
    let most = 1 + retries + crash_retries + kills + free;
    let executed = hold(&record.deeds).len();
    assert!(executed <= most as usize, "{executed} executions of at most {most}: {record:?}");
}

/// Judges why a map that was begun by message was refused.
pub(crate) fn judge_refusal(world: &World, spec: MapSpec, cause: &Cause<Wrong>) {
    match cause {
        Cause::Config(_) => assert!(is_refused(spec)),
        Cause::ShutDown => assert!(world.has_ended(), "the function was not ended"),
        Cause::GaveUp(_) => assert!(matches!(world.story.settings.policy, Policy::GivesUpAfter(_))),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn judge_status(world: &World, status: &Status) {
    let all = status.containers;
    let sum = all.starting + all.live + all.exiting + all.backing_off + all.stopped;
    assert_eq!(sum, containers(world), "{status}");
    let abandoned_max = 1 + usize::from(world.story.settings.abandoned_max % 4);
    // Containers that are alive when the limit is reached go on, and may leave their threads behind as well.
    assert!(all.abandoned <= abandoned_max + containers(world), "{status}");
    assert!(!status.to_string().is_empty());
}

pub(crate) fn judge_report(report: &Report) {
    // A function that had ended before, and cleanly, is only counted.
    assert_eq!(report.functions.len() as u64 + report.ended_cleanly, 1, "{report}");
    assert!(report.functions.is_empty() || report.to_string().contains("f:"), "{report}");
}

fn containers(world: &World) -> usize {
    1 + usize::from(world.story.settings.containers % 3)
}

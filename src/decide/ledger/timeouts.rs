//! Timeouts of attempts: when an attempt has come to its limit, and what then becomes of its input.
//!
//! ```text
//!          begins             at its limit             its code returns
//! leased ──────────▶ Running ──────────────▶ Leaving ─────────────────────▶ the retry waits until it is due
//!                                               │
//!                                               └─ 50 ms later: the container dies, or is kept as hung
//! ```
//!
//! The clock is not read for each input. A lease of several inputs is looked at after [`SAMPLE`]: if an input
//! has executed since the look before, the inputs behind it are given back, so that its own limit can be
//! measured. Its clock then starts when it was first seen, which is at most one look late.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, InputId, LaneId};
use crate::decide::job::{InputEnd, Job, OnFailure, Span, Waits};
use crate::decide::ledger::lane::LaneLimit;
use crate::decide::ledger::leavers::{GRACE, Leaver};
use crate::decide::ledger::{Ledger, Position};
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};

/// The time after which a lease of several inputs is looked at again. It is as long as the work of a claim,
/// so that most leases are over before their first look. It is at most half of any timeout.
const SAMPLE: Duration = Duration::from_micros(500);

/// The limit at which an attempt is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutBy {
    Timeout(Duration),
    Deadline(Duration),
}

/// The next step with a lane whose moment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneStep {
    /// Nothing. Another look is due later.
    Wait,
    /// Give the inputs behind this one back, and then look again.
    Shorten(u64),
    /// The attempt at this input has come to its limit.
    Cut(u64, Duration),
    /// The code has not returned in time.
    Overstays { extended: bool },
}

/// The decision on an attempt that was cut.
#[derive(Debug, Clone)]
pub(crate) enum AfterCut {
    /// The input is executed again after its delay, once its code has returned.
    Retry { input: InputId },
    /// The input has its outcome.
    Final { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, cut: CutBy, ends_map: bool },
}

impl Ledger {
    /// A lane begins its lease. Its attempt may have a timeout.
    pub(super) fn begins_under_timeout(&mut self, id: LaneId, now: Time) {
        if !self.limits.is_used {
            return;
        }
        let Some(lease) = self.lease(id) else { return };
        let Some(limit) = self.timeout_of(lease.job) else { return };
        let at = now + if lease.span.len > self.batch_size() { SAMPLE } else { limit };
        self.look_at(id, LaneLimit::Running { at, limit, index: lease.span.first, since: now });
    }

    pub(super) fn look_at(&mut self, id: LaneId, limit: LaneLimit) {
        if let Some(at) = self.set_limit(id, limit).at() {
            self.limits.lanes.remove(&(at, id));
        }
        if let Some(at) = limit.at() {
            self.limits.lanes.insert((at, id));
        }
    }

    /// The lease of a lane is over, and so is the timeout of its attempt.
    pub(super) fn ends_under_timeout(&mut self, id: LaneId) {
        if let LaneLimit::Running { at, .. } = self.limit_of(id) {
            self.set_limit(id, LaneLimit::None);
            self.limits.lanes.remove(&(at, id));
        }
    }

    /// Decides what is done with a lane whose moment has come. `executing` is the input that it executes, and
    /// the inputs that it has completed are committed.
    pub(crate) fn lane_step(&mut self, id: LaneId, executing: Option<u64>, now: Time) -> LaneStep {
        match self.limit_of(id) {
            LaneLimit::None => LaneStep::Wait,
            LaneLimit::Leaving(leaver) => LaneStep::Overstays { extended: leaver.extended },
            LaneLimit::Running { limit, index, since, .. } => {
                let lease = self.lease(id);
                let end = lease.map_or(0, |lease| lease.span.end());
                let executes_to: Option<u64> =
                    lease.zip(executing).map(|(lease, at)| self.executing_with(&lease, at).end());
                let has_more = executes_to.is_some_and(|executes_to| executes_to < end);
                let running = |at, index, since| LaneLimit::Running { at, limit, index, since };
                match executing {
                    Some(at) if at == index && has_more => {
                        self.look_at(id, running((since + limit).max(now), index, since));
                        LaneStep::Shorten(at)
                    }
                    Some(at) if at == index && since + limit <= now => {
                        self.set_limit(id, LaneLimit::None); // its moment was taken from the set
                        LaneStep::Cut(at, limit)
                    }
                    Some(at) if at == index => {
                        self.look_at(id, running(since + limit, index, since));
                        LaneStep::Wait
                    }
                    // It was not seen before, and has executed for less than the time since the last look.
                    Some(at) => {
                        let next = if has_more { SAMPLE } else { limit };
                        self.look_at(id, running(now + next, at, now));
                        LaneStep::Wait
                    }
                    // Its thread is about to begin the input, or to come back.
                    None => {
                        let at = self.lane(id).map_or(index, |lane| lane.committed);
                        self.look_at(id, running(now + SAMPLE, at, now));
                        LaneStep::Wait
                    }
                }
            }
        }
    }

    /// Cuts the attempt that a lane executes at `position`. The inputs that it has completed are committed,
    /// and its run is fenced. The attempt counts as a failure.
    pub(crate) fn cut(&mut self, id: LaneId, position: Position, cut: CutBy, now: Time) -> AfterCut {
        let input = self.executing(id, Some(position)).expect("an attempt that is cut executes");
        let orphan = self.orphan_of(input, 1);
        let goes_on = self.goes_on();
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        record.failures += 1;
        record.alone = false; // a retry is executed beside others, and this attempt has crashed nothing
        record.previous = Some(Previous::TimedOut);
        let failures = record.failures;
        let (cut, due) = match cut {
            CutBy::Timeout(_) if self.rules.limits.retry_timeouts && goes_on => {
                match self.due_of_retry(input, failures, now) {
                    Some(due) => match self.deadline_of(input) {
                        Some((limit, passes)) if due >= passes => (CutBy::Deadline(limit), None),
                        _ => (cut, Some(due)),
                    },
                    None => (cut, None),
                }
            }
            CutBy::Timeout(_) | CutBy::Deadline(_) => (cut, None),
        };
        self.totals.cut(cut, due.is_some(), now);
        self.give_back(id, position, now);
        self.set_orphan(id, Some(orphan));
        // Code of a batch goes on for its other inputs.
        if !self.is_batched() || self.is_container_empty(id.container) {
            let leaver = Leaver { at: now + GRACE, retry: due.map(|due| (input, due)), extended: false };
            self.look_at(id, LaneLimit::Leaving(leaver));
        }
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        if due.is_some() {
            job.record_mut(input.index).expect("it was just made").waits = Some(Waits::Leaving);
            return AfterCut::Retry { input };
        }
        let deaths = job.take_record(input.index).map_or_else(Vec::new, |record| record.deaths);
        let ends_map = job.on_failure() == OnFailure::EndMap;
        self.ends_as_failed(input);
        AfterCut::Final { input, attempts, deaths, cut, ends_map }
    }

    /// Counts an input as failed, because of a limit.
    pub(super) fn ends_as_failed(&mut self, input: InputId) {
        let job = self.jobs.get_mut(&input.job).expect("an input without outcome is of an open job");
        job.ends(InputEnd::Failed, Span { first: input.index, len: 1 });
        job.kind().ended(1, &mut self.admission);
        self.pending -= 1;
    }

    /// The moment at which the next attempt of an input is due that has failed this often. `None` if its
    /// retries are spent.
    fn due_of_retry(&mut self, input: InputId, failures: u32, now: Time) -> Option<Time> {
        let map = self.jobs.get_mut(&input.job).and_then(Job::map_mut);
        let (retries, jitter) = match map.and_then(|map| map.retries.as_mut()) {
            Some((retries, jitter)) => (&*retries, jitter),
            None => (&self.rules.retries, &mut self.jitter),
        };
        if failures > retries.retries_max() {
            return None;
        }
        let delay = retries.delay(failures);
        Some(now + jitter.as_mut().map_or(delay, |jitter| jitter.equal(delay)))
    }
}

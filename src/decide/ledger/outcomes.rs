//! Inputs whose code has returned: they are committed as completed, wait for a retry, or have failed
//! for good. Also what the restart policy must know of completions, and when.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, InputId, JobId, LaneId};
use crate::decide::job::{InputEnd, OnFailure, Span, Waits};
use crate::decide::ledger::{LeaseKind, Ledger};
use crate::decide::retries::RETRY_DELAY_MAX;
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};

/// The answer of `retry_if` and `retry_after` to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retryable {
    Yes,
    /// The error is worth a retry, but not before this time has passed.
    After(Duration),
    No,
}

impl Retryable {
    /// The delay of the retry, where the policy says `delay`.
    fn delay(self, delay: Duration) -> Duration {
        match self {
            Self::After(least) => delay.max(least.min(RETRY_DELAY_MAX)),
            Self::Yes | Self::No => delay,
        }
    }
}

/// The decision on a failed input.
#[derive(Debug, Clone)]
pub(crate) enum AfterFailure {
    /// The input is executed again, after its delay.
    Retry,
    /// The failure surfaces. `deaths` are the deaths that the input caused before.
    Final { attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
    /// The deadline of the input passes before its next attempt is due. `limit` is its length.
    PastDeadline { attempts: Attempt, deaths: Vec<Arc<Crash>>, limit: Duration, ends_map: bool },
}

impl Ledger {
    /// Commits the inputs of the lane's lease before `upto` as completed with `Ok`. Returns the range that
    /// was newly committed.
    pub(crate) fn advanced(&mut self, id: impl Into<LaneId>, upto: u64, now: Time) -> Option<(JobId, Span)> {
        let id = id.into();
        let container = &mut self.containers[id.container.index()];
        let lane = container.lanes.get_mut(id.index())?;
        let lease = lane.lease?;
        assert!(upto <= lease.span.end(), "lane {id} came past the end of its lease");
        let span = Span { first: lane.committed, len: upto.saturating_sub(lane.committed) };
        if span.len == 0 {
            return None;
        }
        lane.committed = upto;
        lane.advanced = now;
        container.proof = container.proof.max(lane.proof);
        container.done_proof = container.done_proof.max(lane.proof);
        self.recovered |= self.restarts.completed(&mut container.life, span.len, now);
        self.note_recovery();
        self.pending -= span.len;
        self.totals.ok(span.len, now);
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        job.ends(InputEnd::Ok, span);
        job.kind().ended(span.len, &mut self.admission);
        if lease.kind != LeaseKind::First {
            job.take_record(lease.span.first);
        }
        Some((lease.job, span))
    }

    /// Commits the input at the committed position as failed. `retryable` is the answer of `retry_if` and
    /// `retry_after`.
    pub(crate) fn failed(&mut self, id: impl Into<LaneId>, retryable: Retryable, now: Time) -> AfterFailure {
        let id = id.into();
        let container = &mut self.containers[id.container.index()];
        let lane = &mut container.lanes[id.index()];
        let lease = lane.lease.expect("a failure comes from a lease");
        let index = lane.committed;
        assert!(index < lease.span.end(), "a failure past the end of the lease");
        lane.committed += 1;
        lane.advanced = now;
        container.done_proof = container.done_proof.max(lane.proof);
        self.recovered |= self.restarts.completed(&mut container.life, 1, now);
        self.note_recovery();
        let goes_on = self.goes_on();
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(index);
        let attempts = record.attempt();
        record.failures += 1;
        record.previous = Some(Previous::Failed);
        let failures = record.failures;
        let (retries, jitter) = match job.map_mut().and_then(|map| map.retries.as_mut()) {
            Some((retries, jitter)) => (&*retries, jitter),
            None => (&self.rules.retries, &mut self.jitter),
        };
        let again = retryable != Retryable::No && failures <= retries.retries_max() && goes_on;
        let mut past_deadline = None;
        if again {
            let delay = retries.delay(failures);
            let delay = jitter.as_mut().map_or(delay, |jitter| jitter.equal(delay));
            let due = now + retryable.delay(delay);
            let deadline = self.deadline_of(InputId { job: lease.job, index });
            past_deadline = deadline.filter(|(_, passes)| due >= *passes).map(|(limit, _)| limit);
            if past_deadline.is_none() {
                return self.retries_at(due, InputId { job: lease.job, index }, now);
            }
        }
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let deaths = job.take_record(index).map_or_else(Vec::new, |record| record.deaths);
        job.ends(InputEnd::Failed, Span { first: index, len: 1 });
        job.kind().ended(1, &mut self.admission);
        self.pending -= 1;
        self.totals.failed(false, now);
        let ends_map = job.on_failure() == OnFailure::EndMap;
        match past_deadline {
            Some(limit) => {
                self.totals.past_deadline += 1;
                AfterFailure::PastDeadline { attempts, deaths, limit, ends_map }
            }
            None => AfterFailure::Final { attempts, deaths, ends_map },
        }
    }

    /// A failed input waits for its retry, which is due at this moment.
    fn retries_at(&mut self, due: Time, input: InputId, now: Time) -> AfterFailure {
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        record.alone = false; // the input has returned, and has crashed nothing
        record.waits = Some(Waits::Retry(due));
        self.queue_retry(due, input);
        self.totals.failed(true, now);
        AfterFailure::Retry
    }

    /// Whether the verdict on a crash depends on the inputs that other containers have completed.
    pub(crate) fn verdict_depends_on_others(&mut self, now: Time) -> bool {
        self.restarts.depends_on_completions(now)
    }

    /// The next moment at which completed inputs should be committed, if a later verdict may depend on
    /// when they were completed.
    pub(crate) fn next_commit(&mut self, now: Time) -> Option<Time> {
        if self.goes_on() && !self.nothing_pending() { self.restarts.next_count(now) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::Mode;
    use crate::decide::ledger::fixture::{FIRST, MS, Rig, SECOND, START, at, endings, one};
    use crate::decide::life::Next;
    use crate::decide::restart::RateLimited;
    use crate::decide::retries::Retries;
    use crate::decide::window::Window;

    #[test]
    fn a_failed_input_is_tried_again_as_often_as_it_may_be_if_its_error_is_worth_it() {
        for (retries_max, retryable, executions) in
            [(0, Retryable::Yes, 1), (2, Retryable::No, 1), (1, Retryable::Yes, 2), (2, Retryable::Yes, 3)]
        {
            let (mut rig, input) = one(Retries::new(retries_max).initial_delay(Duration::ZERO), 3);
            for execution in 1..=executions {
                assert_eq!(rig.takes(FIRST, START).attempt, Attempt(execution));
                assert!(!rig.ledger.nothing_pending());
                let after = rig.ledger.failed(FIRST, retryable, START);
                rig.ledger.released(FIRST, START);
                match after {
                    AfterFailure::Retry => assert!(execution < executions),
                    AfterFailure::Final { attempts, deaths, ends_map } => {
                        assert_eq!((attempts, deaths.len(), ends_map), (Attempt(executions), 0, false));
                        assert_eq!(execution, executions);
                    }
                    AfterFailure::PastDeadline { .. } => unreachable!("it has no deadline"),
                }
            }
            assert_eq!(endings(&rig, input.job), [0, 1, 0, 0, 0]);
            assert!(rig.ledger.nothing_pending());
            assert_eq!(rig.claims(FIRST, START), Next::Wait { until: None });
        }
    }

    #[test]
    fn a_retry_waits_its_delay_and_is_given_back_to_wait_as_before() {
        let (mut rig, input) = one(Retries::new(2).initial_delay(10 * MS), 3);
        rig.takes(FIRST, START);
        rig.ledger.failed(FIRST, Retryable::Yes, at(5));
        rig.ledger.released(FIRST, at(5));
        assert_eq!(rig.claims(FIRST, at(14)), Next::Wait { until: Some(at(15)) });
        let lease = rig.takes(FIRST, at(15));
        assert_eq!((lease.kind, lease.attempt), (LeaseKind::Retry { due: at(15) }, Attempt(2)));
        assert_eq!(rig.ledger.job(input.job).map(|job| job.counts().retried), Some(1));
        rig.ledger.released(FIRST, at(16));
        assert_eq!(rig.ledger.job(input.job).map(|job| job.counts().retried), Some(0), "it had not begun");
        assert_eq!(rig.takes(FIRST, at(16)).kind, LeaseKind::Retry { due: at(15) });
    }

    #[test]
    fn the_larger_of_the_two_delays_counts_up_to_a_day() {
        let hour = 3600 * Duration::from_secs(1);
        for (least, due) in [(9 * MS, at(10)), (10 * MS, at(10)), (11 * MS, at(11)), (hour, START + hour)] {
            let (mut rig, input) = one(Retries::new(1).initial_delay(10 * MS).max_delay(10 * MS), 3);
            rig.takes(FIRST, START);
            assert!(matches!(rig.ledger.failed(FIRST, Retryable::After(least), START), AfterFailure::Retry));
            assert_eq!(rig.ledger.retry_due(input.job, 0), Some(due), "{least:?}");
        }
        let (mut rig, input) = one(Retries::new(1), 3);
        rig.takes(FIRST, START);
        rig.ledger.failed(FIRST, Retryable::After(Duration::MAX), START);
        assert_eq!(rig.ledger.retry_due(input.job, 0), Some(START + 24 * hour));
    }

    #[test]
    fn the_least_delay_grants_no_further_retry() {
        let (mut rig, _) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        let after = rig.ledger.failed(FIRST, Retryable::After(MS), START);
        assert!(matches!(after, AfterFailure::Final { .. }));
    }

    #[test]
    fn a_function_that_stops_tries_nothing_again() {
        let (mut rig, _) = one(Retries::new(2), 3);
        rig.takes(FIRST, START);
        rig.ledger.advance_mode(Mode::Stopping);
        assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, START), AfterFailure::Final { .. }));
    }

    #[test]
    fn retries_of_a_map_take_the_place_of_those_of_the_function() {
        let (mut rig, call) = one(Retries::new(0), 3);
        let retries = Some(Retries::new(1).initial_delay(7 * MS));
        let map = rig.ledger.open(OnFailure::EndMap, Window::Fixed(1), retries);
        rig.sources.inputs.insert(map, 1);
        assert_eq!(rig.takes(FIRST, START).job, call.job);
        assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, START), AfterFailure::Final { .. }));
        rig.ledger.released(FIRST, START);
        assert_eq!(rig.takes(FIRST, START).job, map);
        assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, START), AfterFailure::Retry));
        assert_eq!(rig.ledger.retry_due(map, 0), Some(at(7)));
        rig.ledger.released(FIRST, START);
        rig.takes(FIRST, at(7));
        let after = rig.ledger.failed(FIRST, Retryable::Yes, at(7));
        assert!(matches!(after, AfterFailure::Final { ends_map: true, .. }));
    }

    #[test]
    fn nothing_is_remembered_of_an_input_that_has_completed() {
        let (mut rig, input) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        rig.crashes(FIRST, START);
        rig.enters(FIRST, START);
        rig.takes(FIRST, START);
        assert!(rig.ledger.previous(input).is_some());
        rig.completes(FIRST, START);
        assert!(rig.ledger.job(input.job).expect("it is open").recorded().is_empty());
    }

    #[test]
    fn whatever_completes_frees_those_that_wait_for_the_delay_of_a_crash_loop() {
        for returns_ok in [true, false] {
            let mut rig = Rig::new(2, RateLimited::new());
            rig.enters(SECOND, START);
            rig.call();
            rig.takes(SECOND, START);
            rig.completes(SECOND, START);
            rig.fails_to_start(FIRST, START);
            rig.fails_to_start(FIRST, at(1));
            // It has completed something, so it comes back though a delay runs.
            rig.crashes(SECOND, at(2));
            rig.enters(SECOND, at(3));
            rig.call();
            rig.takes(SECOND, at(3));
            assert!(!rig.ledger.take_recovered());
            if returns_ok {
                rig.completes(SECOND, at(4));
            } else {
                rig.ledger.failed(SECOND, Retryable::No, at(4));
                rig.ledger.released(SECOND, at(4));
            }
            assert!(rig.ledger.take_recovered(), "returned Ok: {returns_ok}");
            assert!(!rig.ledger.take_recovered());
            assert_eq!(rig.ledger.next_creation(at(4)), Some(at(4)));
        }
    }

    #[test]
    fn completions_are_booked_in_time_for_a_verdict_while_something_is_to_be_done() {
        for (crashed, pending, mode, committed) in [
            (true, true, Mode::Running, true),
            (false, true, Mode::Running, false),
            (true, false, Mode::Running, false),
            (true, true, Mode::Stopping, false),
        ] {
            let mut rig = Rig::new(1, RateLimited::new());
            if crashed {
                rig.fails_to_start(FIRST, at(1));
            }
            if pending {
                rig.call();
            }
            rig.ledger.advance_mode(mode);
            let next = rig.ledger.next_commit(at(2));
            assert_eq!(next.is_some(), committed, "{crashed} {pending} {mode:?}");
            assert!(next.is_none_or(|next| next > at(2)));
            assert_eq!(rig.ledger.verdict_depends_on_others(at(2)), crashed, "there is a crash loop");
        }
    }
}

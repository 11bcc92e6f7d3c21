//! The jobs of the ledger: how they are opened, get their inputs, end inputs that did
//! not run, and are closed.

use crate::base::ids::{InputId, JobId};
use crate::decide::admission::{Admission, Overloaded, Place};
use crate::decide::claim_sizer::{ClaimSizer, wake_count};
use crate::decide::job::{CallJob, Counts, InputEnd, Job, MapJob, OnFailure, Span};
use crate::decide::ledger::Ledger;
use crate::decide::retries::Retries;
use crate::decide::steps;
use crate::decide::window::Window;

/// How an input ends if no execution decides its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrun {
    Cancelled,
    GivenUp,
    /// Its deadline has passed.
    Expired,
}

impl From<Unrun> for InputEnd {
    fn from(how: Unrun) -> Self {
        match how {
            Unrun::Cancelled => Self::Cancelled,
            Unrun::GivenUp => Self::GivenUp,
            Unrun::Expired => Self::Failed,
        }
    }
}

impl Ledger {
    /// Opens a new map. `retries` replaces the function's retries for this map.
    pub(crate) fn open(&mut self, on_failure: OnFailure, window: Window, retries: Option<Retries>) -> JobId {
        let sizer = ClaimSizer::like(self.usual_cost);
        let id = self.number(Job::Map(Box::new(MapJob::new(on_failure, window, retries, sizer))));
        self.line_up(id);
        id
    }

    /// Opens a new call, which has its input already, in this place among the calls.
    ///
    /// # Errors
    ///
    /// There is no free place.
    pub(crate) fn open_call(&mut self, place: Place) -> Result<JobId, Overloaded> {
        self.admission.admit(place)?;
        let id = self.number(Job::Call(CallJob::default()));
        self.accept(id, 1);
        self.calls.insert(id);
        Ok(id)
    }

    /// The bound on the calls that have no outcome.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn admission_mut(&mut self) -> &mut Admission {
        &mut self.admission
    }

    fn number(&mut self, job: Job) -> JobId {
        let id = JobId(self.jobs_opened);
        self.jobs_opened += 1;
        self.jobs.insert(id, job);
        id
    }

    /// Gives a map its turn again, unless it has one.
    pub(super) fn line_up(&mut self, id: JobId) {
        let map = self.jobs.get_mut(&id).and_then(Job::map_mut);
        let Some(map) = map.filter(|map| map.turn.is_none()) else { return };
        map.turn = Some(self.turns.push_back(id));
        self.recount(id);
    }

    /// Takes its turn from a map that has no input that was never assigned.
    pub(super) fn step_out(&mut self, id: JobId) {
        let turn = self.jobs.get_mut(&id).and_then(Job::map_mut).and_then(|map| map.turn.take());
        if let Some(ticket) = turn {
            self.turns.remove(ticket);
            self.leaves_turns(id);
        }
    }

    /// Something has changed, so that a map may have new inputs, or room for them.
    pub(crate) fn requeue_map(&mut self, id: JobId) {
        let Some(map) = self.jobs.get(&id).and_then(Job::map) else { return };
        if let Some(at) = map.little_room_until {
            self.little_room.remove(&(at, id));
        }
        self.line_up(id);
        self.recount(id);
    }

    /// Whether a map has its turn, or is looked at again soon. Otherwise its source informs the ledger once
    /// there is as much room as is worth a claim, or once its consumer has no outcomes left.
    #[cfg(test)]
    pub(crate) fn is_in_sight(&self, id: JobId) -> bool {
        let map = self.jobs.get(&id).and_then(Job::map);
        map.is_some_and(|map| map.turn.is_some() || map.little_room_until.is_some())
    }

    /// Forgets a job whose inputs have all ended.
    pub(crate) fn close(&mut self, id: JobId) -> Option<Counts> {
        self.step_out(id);
        self.forming.sources_open.remove(&id);
        let job = self.jobs.remove(&id)?;
        let counts = job.counts();
        assert_eq!(counts.pending(), 0, "job {id:?} is closed with inputs pending");
        if let Some(at) = job.map().and_then(|map| map.little_room_until) {
            self.little_room.remove(&(at, id));
        }
        self.forget_limits(id, &job);
        Some(counts)
    }

    /// Records that `inputs` more inputs were pulled for a job. Returns the index of the first.
    pub(crate) fn accept(&mut self, id: JobId, inputs: u64) -> u64 {
        let job = self.jobs.get_mut(&id).expect("only open jobs are pulled for");
        let first = job.accept(inputs);
        self.pending += inputs;
        self.totals.accepted(inputs);
        if inputs > 0 {
            self.requeue_map(id);
            self.accepted_under_deadline(id, Span { first, len: inputs });
        }
        first
    }

    /// Records that one more input was pulled for a job whose source is over. It is
    /// accepted and ended at once.
    pub(crate) fn accept_ended(&mut self, id: JobId, how: Unrun) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.accept_ended(how.into());
            self.totals.accepted(1);
            self.totals.ended(how, 1);
        }
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        self.jobs.keys().copied().map(steps::each).collect()
    }

    /// The window of a job as it is now.
    pub(crate) fn window(&self, id: JobId) -> u64 {
        let containers = self.rules.containers;
        let map = self.jobs.get(&id).and_then(Job::map);
        map.map_or(0, |map| map.window.inputs(map.sizer.steady_cost(), containers))
    }

    /// The number of containers that are worth waking for `inputs` inputs of a job.
    pub(crate) fn wake_count(&self, id: JobId, inputs: u64) -> u64 {
        let map = self.jobs.get(&id).and_then(Job::map);
        wake_count(inputs, map.and_then(|map| map.sizer.cost()))
    }

    /// Removes from the queues every accepted input of a job that has no outcome and is in no lease. The
    /// caller gives each its outcome and reports that with [`Ledger::ended`]. The cost grows with the ranges
    /// and records of this job, and not with the queues of other jobs.
    pub(crate) fn take_pending(&mut self, id: JobId) -> Vec<Span> {
        let mut taken = Vec::new();
        self.forming.sources_open.remove(&id); // the job ends, so its source brings nothing more
        self.recount(id);
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.counts().pending() > 0) else { return taken };
        taken.extend(std::iter::from_fn(|| job.take_fresh(u64::MAX)));
        let waiting = job.waiting();
        for ticket in job.take_requeued() {
            let Some((_, span)) = self.requeued.remove(ticket) else { continue };
            self.leaves_batch(id, span.len);
            taken.push(span);
        }
        for index in waiting {
            self.leave_queue(InputId { job: id, index });
            taken.push(Span { first: index, len: 1 });
        }
        self.calls.remove(&id);
        if let Some(job) = self.jobs.get_mut(&id) {
            taken.iter().for_each(|span| job.leaves_acceptances(*span));
        }
        taken
    }

    /// Records that `inputs` inputs of a job ended although no execution decided their outcomes.
    pub(crate) fn ended(&mut self, id: JobId, how: Unrun, inputs: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.count(how.into(), inputs);
        job.kind().ended(inputs, &mut self.admission);
        self.pending -= inputs;
        self.totals.ended(how, inputs);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::ContainerId;
    use crate::decide::ledger::Retryable;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, at};
    use crate::decide::life::Next;
    use crate::decide::restart::RateLimited;

    /// A map that has inputs in every queue of the ledger, and one input that is executing.
    fn waiting_everywhere() -> (Rig, JobId) {
        let mut rig = Rig::with(5, RateLimited::never(), Retries::new(1), 3);
        let map = rig.map(10, 5);
        for id in rig.ledger.containers() {
            rig.enters(id, START);
            rig.takes(id, START);
        }
        rig.crashes(FIRST, START);
        rig.kills(SECOND, UNCROWDED, START);
        rig.ledger.failed(ContainerId(2), Retryable::Yes, START);
        rig.ledger.released(ContainerId(2), START);
        rig.ledger.released(ContainerId(3), START);
        rig.ledger.accept(map, 3);
        (rig, map)
    }

    #[test]
    fn what_waits_is_taken_out_of_every_queue_and_what_executes_is_left() {
        let (mut rig, map) = waiting_everywhere();
        let other = rig.map(10, 1);
        let mut taken: Vec<u64> = rig.ledger.take_pending(map).into_iter().flat_map(Span::indices).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3, 5, 6, 7], "the fifth input executes");
        assert!(rig.ledger.take_pending(map).is_empty());
        rig.ledger.ended(map, Unrun::Cancelled, 7);
        assert_eq!(rig.takes(ContainerId(3), at(60_000)).job, other, "nothing of it waits any more");
        assert!(matches!(rig.claims(ContainerId(2), at(60_000)), Next::Wait { .. }));
        rig.completes(ContainerId(4), START);
        rig.completes(ContainerId(3), START);
        assert!(rig.ledger.nothing_pending());
        let counts = rig.ledger.close(map).expect("it is open");
        assert_eq!((counts.pulled, counts.ok, counts.cancelled, counts.given_up), (8, 1, 7, 0));
        assert!(rig.ledger.job(map).is_none());
    }

    #[test]
    fn inputs_that_did_not_run_are_counted_as_what_they_ended_as() {
        for (how, cancelled, given_up) in [(Unrun::Cancelled, 3, 0), (Unrun::GivenUp, 0, 3)] {
            let mut rig = Rig::new(1, RateLimited::new());
            let map = rig.map(10, 0);
            rig.ledger.accept(map, 2);
            rig.ledger.take_pending(map);
            rig.ledger.ended(map, how, 2);
            rig.ledger.accept_ended(map, how);
            let counts = rig.ledger.job(map).expect("it is open").counts();
            assert_eq!((counts.pulled, counts.cancelled, counts.given_up), (3, cancelled, given_up));
            assert!(rig.ledger.nothing_pending());
        }
    }

    #[test]
    fn a_job_begins_with_what_inputs_have_cost_of_late() {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.enters(FIRST, START);
        rig.call();
        rig.takes(FIRST, START);
        rig.completes(FIRST, at(3));
        let map = rig.map(10, 0);
        assert_eq!(
            rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost()),
            Some(Duration::from_millis(3))
        );
        assert_eq!((rig.ledger.wake_count(map, 7), rig.ledger.wake_count(JobId(99), 7)), (7, 7));
    }

    #[test]
    fn a_map_keeps_its_turn_when_what_waits_of_it_is_taken() {
        let mut rig = Rig::new(1, RateLimited::new());
        let map = rig.map(10, 0);
        rig.ledger.accept(map, 1);
        rig.ledger.take_pending(map);
        assert!(rig.ledger.is_in_sight(map));
    }

    #[test]
    fn that_nothing_was_pulled_leaves_nothing_to_be_leased() {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.enters(FIRST, START);
        let map = rig.map(10, 0);
        assert_eq!(
            (rig.ledger.accept(map, 2), rig.ledger.accept(map, 0), rig.ledger.accept(map, 1)),
            (0, 2, 2)
        );
        assert_eq!(rig.ledger.job(map).expect("it is open").fresh(), 3);
    }

    #[test]
    fn the_window_is_that_of_the_job_and_its_containers() {
        let mut rig = Rig::new(2, RateLimited::new());
        let fixed = rig.map(10, 0);
        let adaptive = rig.ledger.open(OnFailure::GoOn, Window::adaptive(8, 2), None);
        assert_eq!((rig.ledger.window(fixed), rig.ledger.window(adaptive)), (10, 1_000));
        assert_eq!(rig.ledger.window(JobId(99)), 0, "there is no such job");
    }

    #[test]
    fn a_cancelled_call_is_not_dispatched() {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.enters(FIRST, START);
        let (cancelled, other) = (rig.call(), rig.call());
        assert_eq!(rig.ledger.job_ids(), [cancelled, other]);
        assert_eq!(rig.ledger.take_pending(cancelled), [Span { first: 0, len: 1 }]);
        rig.ledger.ended(cancelled, Unrun::Cancelled, 1);
        assert_eq!(rig.takes(FIRST, START).job, other, "though the first one is not yet closed");
    }

    #[test]
    #[should_panic(expected = "closed with inputs pending")]
    fn a_job_with_inputs_pending_is_not_closed() {
        let mut rig = Rig::new(1, RateLimited::new());
        let call = rig.call();
        rig.ledger.close(call);
    }
}

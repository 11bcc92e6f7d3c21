//! Jobs in the books: opened, pulled for, ended without a run, closed.

use crate::base::ids::{InputId, JobId};
use crate::decide::job::{CallJob, Counts, Ending, Job, MapJob, OnFailure, Span};
use crate::decide::ledger::Ledger;
use crate::decide::retries::Retries;
use crate::decide::share::{Share, hands};
use crate::decide::steps;
use crate::decide::window::Window;

/// How an input ends that did not run to an end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrun {
    Cancelled,
    GivenUp,
}

impl From<Unrun> for Ending {
    fn from(how: Unrun) -> Self {
        match how {
            Unrun::Cancelled => Self::Cancelled,
            Unrun::GivenUp => Self::GivenUp,
        }
    }
}

impl Ledger {
    /// A new map. `retries` are its own, in place of the function's.
    pub(crate) fn open(&mut self, on_failure: OnFailure, window: Window, retries: Option<Retries>) -> JobId {
        let share = Share::like(self.usual_cost);
        let id = self.number(Job::Map(Box::new(MapJob::new(on_failure, window, retries, share))));
        self.line_up(id);
        id
    }

    /// A new call, with its input.
    pub(crate) fn open_call(&mut self) -> JobId {
        let id = self.number(Job::Call(CallJob::default()));
        self.accept(id, 1);
        self.calls.insert(id);
        id
    }

    fn number(&mut self, job: Job) -> JobId {
        let id = JobId(self.jobs_opened);
        self.jobs_opened += 1;
        self.jobs.insert(id, job);
        id
    }

    /// A map takes its turn again, if it has none.
    pub(super) fn line_up(&mut self, id: JobId) {
        let map = self.jobs.get_mut(&id).and_then(Job::map_mut);
        let Some(map) = map.filter(|map| map.turn.is_none()) else { return };
        map.turn = Some(self.turns.push_back(id));
    }

    /// A map has no turn, because it has nothing that was never assigned.
    pub(super) fn step_out(&mut self, id: JobId) {
        let turn = self.jobs.get_mut(&id).and_then(Job::map_mut).and_then(|map| map.turn.take());
        if let Some(ticket) = turn {
            self.turns.remove(ticket);
        }
    }

    /// Something has changed by which a map may have new inputs, or room for them.
    pub(crate) fn look_again(&mut self, id: JobId) {
        let Some(map) = self.jobs.get(&id).and_then(Job::map) else { return };
        if let Some(at) = map.crumbs_at {
            self.crumbs.remove(&(at, id));
        }
        self.line_up(id);
    }

    /// Whether a map has its turn, or is looked at again soon. Of another the ledger hears once there is as much room as
    /// is worth a claim, or its consumer has nothing left.
    #[cfg(test)]
    pub(crate) fn is_in_sight(&self, id: JobId) -> bool {
        let map = self.jobs.get(&id).and_then(Job::map);
        map.is_some_and(|map| map.turn.is_some() || map.crumbs_at.is_some())
    }

    /// Forgets a job whose inputs have all ended.
    pub(crate) fn close(&mut self, id: JobId) -> Option<Counts> {
        self.step_out(id);
        let job = self.jobs.remove(&id)?;
        let counts = job.counts();
        assert_eq!(counts.pending(), 0, "job {id:?} is closed with inputs pending");
        if let Some(at) = job.map().and_then(|map| map.crumbs_at) {
            self.crumbs.remove(&(at, id));
        }
        Some(counts)
    }

    /// `inputs` more were pulled for a job; returns the index of the first.
    pub(crate) fn accept(&mut self, id: JobId, inputs: u64) -> u64 {
        let job = self.jobs.get_mut(&id).expect("only open jobs are pulled for");
        let first = job.accept(inputs);
        self.pending += inputs;
        if inputs > 0 {
            self.look_again(id);
        }
        first
    }

    /// One more input was pulled for a job whose source is over: accepted, and ended at once.
    pub(crate) fn accept_ended(&mut self, id: JobId, how: Unrun) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.accept_ended(how.into());
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
        map.map_or(0, |map| map.window.inputs(map.share.cost(), containers))
    }

    /// How many containers that many inputs of a job are worth waking.
    pub(crate) fn hands(&self, id: JobId, inputs: u64) -> u64 {
        let map = self.jobs.get(&id).and_then(Job::map);
        hands(inputs, map.and_then(|map| map.share.cost()))
    }

    /// Takes every accepted input of a job that has no outcome and is in no lease out of the queues.
    /// The caller gives each its outcome and says so with [`Ledger::ended`]. It costs as much as the job has ranges and
    /// records, and not what other jobs have in the queues.
    pub(crate) fn take_pending(&mut self, id: JobId) -> Vec<Span> {
        let mut taken = Vec::new();
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.counts().pending() > 0) else { return taken };
        taken.extend(job.take_fresh(u64::MAX));
        let waiting = job.waiting();
        for ticket in job.take_requeued() {
            taken.extend(self.requeued.remove(ticket).map(|(_, span)| span));
        }
        for index in waiting {
            self.leave_queue(InputId { job: id, index });
            taken.push(Span { first: index, len: 1 });
        }
        self.calls.remove(&id);
        taken
    }

    /// `inputs` of a job ended without having run to an end of their own.
    pub(crate) fn ended(&mut self, id: JobId, how: Unrun, inputs: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.count(how.into(), inputs);
        self.pending -= inputs;
    }
}

//! Jobs in the books: opened, pulled for, ended without a run, closed.

use crate::base::ids::{InputId, JobId};
use crate::decide::job::{Counts, Job, JobKind, OnFailure, Record, Span};
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

impl Ledger {
    /// A new job. `retries` are its own, in place of the function's.
    pub(crate) fn open(
        &mut self,
        kind: JobKind,
        on_failure: OnFailure,
        window: Window,
        retries: Option<Retries>,
    ) -> JobId {
        let id = JobId(self.jobs_opened);
        self.jobs_opened += 1;
        self.jobs.insert(id, Job::new(kind, on_failure, window, retries, Share::like(self.usual_cost)));
        self.line_up(id);
        id
    }

    /// A job takes its turn again, if it has none: a call among the calls, a map among the maps.
    pub(super) fn line_up(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.turn.is_none()) else { return };
        job.turn = Some(match job.kind {
            JobKind::Call => self.calls.push_back(id),
            JobKind::Map => self.turns.push_back(id),
        });
    }

    /// A job has no turn, because it has nothing that was never assigned.
    pub(super) fn step_out(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(ticket) = job.turn.take() else { return };
        match job.kind {
            JobKind::Call => self.calls.remove(ticket),
            JobKind::Map => self.turns.remove(ticket),
        };
    }

    /// Something has changed by which a map may have new inputs, or room for them.
    pub(crate) fn look_again(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.kind == JobKind::Map) else { return };
        if let Some(at) = job.crumbs_at {
            self.crumbs.remove(&(at, id));
        }
        self.line_up(id);
    }

    /// Whether a map has its turn, or is looked at again soon. Of another the ledger hears once there is as much room as
    /// is worth a claim, or its consumer has nothing left.
    #[cfg(test)]
    pub(crate) fn is_in_sight(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.turn.is_some() || job.crumbs_at.is_some())
    }

    /// Forgets a job whose inputs have all ended.
    pub(crate) fn close(&mut self, id: JobId) -> Option<Counts> {
        self.step_out(id);
        let job = self.jobs.remove(&id)?;
        assert_eq!(job.counts.pending(), 0, "job {id:?} is closed with inputs pending");
        if let Some(at) = job.crumbs_at {
            self.crumbs.remove(&(at, id));
        }
        Some(job.counts)
    }

    /// `inputs` more were pulled for a job; returns the index of the first.
    pub(crate) fn accept(&mut self, id: JobId, inputs: u64) -> u64 {
        let job = self.jobs.get_mut(&id).expect("only open jobs are pulled for");
        let first = job.counts.pulled;
        job.counts.pulled += inputs;
        self.pending += inputs;
        self.totals.accepted(inputs);
        if inputs > 0 {
            job.fresh.push_back(Span { first, len: inputs });
            self.look_again(id);
        }
        first
    }

    /// One more input was pulled for a job whose source is over: accepted, and ended at once.
    pub(crate) fn accept_ended(&mut self, id: JobId, how: Unrun) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.counts.pulled += 1;
            self.pending += 1;
            self.totals.accepted(1);
            self.ended(id, how, 1);
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
        self.jobs.get(&id).map_or(0, |job| job.window.inputs(job.share.cost(), containers))
    }

    /// How many containers that many inputs of a job are worth waking.
    pub(crate) fn hands(&self, id: JobId, inputs: u64) -> u64 {
        hands(inputs, self.jobs.get(&id).and_then(|job| job.share.cost()))
    }

    /// Takes every accepted input of a job that has no outcome and is in no lease out of the queues.
    /// The caller gives each its outcome and says so with [`Ledger::ended`]. It costs as much as the job has ranges and
    /// records, and not what other jobs have in the queues.
    pub(crate) fn take_pending(&mut self, id: JobId) -> Vec<Span> {
        let mut taken = Vec::new();
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.counts.pending() > 0) else { return taken };
        taken.extend(job.fresh.drain(..));
        for ticket in std::mem::take(&mut job.requeued) {
            taken.extend(self.requeued.remove(ticket).map(|(_, span)| span));
        }
        let is_call = job.kind == JobKind::Call;
        let waits = |(index, record): (&u64, &Record)| record.waits.map(|_| *index);
        let waiting: Vec<u64> = job.records.iter().map(steps::each).filter_map(waits).collect();
        for index in waiting {
            self.leave_queue(InputId { job: id, index });
            taken.push(Span { first: index, len: 1 });
        }
        if is_call {
            self.step_out(id);
        }
        taken
    }

    /// `inputs` of a job ended without having run to an end of their own.
    pub(crate) fn ended(&mut self, id: JobId, how: Unrun, inputs: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match how {
            Unrun::Cancelled => job.counts.cancelled += inputs,
            Unrun::GivenUp => job.counts.given_up += inputs,
        }
        self.pending -= inputs;
        self.totals.ended(how, inputs);
        job.counts.pending(); // panics in debug builds if more ended than were pulled
    }
}

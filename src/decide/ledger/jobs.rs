//! Jobs in the books: opened, pulled for, ended without a run, closed.

use crate::decide::ids::{InputId, JobId};
use crate::decide::job::{Counts, Job, JobKind, OnFailure, Span};
use crate::decide::ledger::Ledger;
use crate::decide::retries::Retries;
use crate::decide::share::{Share, hands};
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
        match kind {
            JobKind::Call => self.calls.push_back(id),
            JobKind::Map => self.turns.push_back(id),
        }
        id
    }

    /// Forgets a job whose inputs have all ended.
    pub(crate) fn close(&mut self, id: JobId) -> Option<Counts> {
        let job = self.jobs.remove(&id)?;
        assert_eq!(job.counts.pending(), 0, "job {id:?} is closed with inputs pending");
        self.calls.retain(|call| *call != id);
        self.turns.retain(|map| *map != id);
        Some(job.counts)
    }

    /// `inputs` more were pulled for a job; returns the index of the first.
    pub(crate) fn accept(&mut self, id: JobId, inputs: u64) -> u64 {
        let job = self.jobs.get_mut(&id).expect("only open jobs are pulled for");
        let first = job.counts.pulled;
        job.counts.pulled += inputs;
        if inputs > 0 {
            job.fresh.push_back(Span { first, len: inputs });
        }
        first
    }

    /// One more input was pulled for a job whose source is over: accepted, and ended at once.
    pub(crate) fn accept_ended(&mut self, id: JobId, how: Unrun) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.counts.pulled += 1;
            self.ended(id, how, 1);
        }
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
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
    /// The caller gives each its outcome and says so with [`Ledger::ended`].
    pub(crate) fn take_pending(&mut self, id: JobId) -> Vec<Span> {
        let mut taken = Vec::new();
        match self.jobs.get_mut(&id) {
            Some(job) if job.counts.pending() > 0 => taken.extend(job.fresh.drain(..)),
            Some(_) | None => return taken, // the queues are shared: they are not searched in vain
        }
        self.calls.retain(|call| *call != id);
        self.requeued.retain(|(job, span)| {
            *job != id || {
                taken.push(*span);
                false
            }
        });
        let single = |input: &InputId| Span { first: input.index, len: 1 };
        for queue in [&mut self.replays, &mut self.suspects] {
            queue.retain(|input| {
                input.job != id || {
                    taken.push(single(input));
                    false
                }
            });
        }
        self.retries.retain(|(_, input)| {
            input.job != id || {
                taken.push(single(input));
                false
            }
        });
        taken
    }

    /// `inputs` of a job ended without having run to an end of their own.
    pub(crate) fn ended(&mut self, id: JobId, how: Unrun, inputs: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match how {
            Unrun::Cancelled => job.counts.cancelled += inputs,
            Unrun::GivenUp => job.counts.given_up += inputs,
        }
        job.counts.pending(); // panics in debug builds if more ended than were pulled
    }
}

//! Deadlines: the inputs whose time from acceptance to outcome is over.

use std::time::Duration;

use crate::base::ids::{InputId, JobId};
use crate::decide::job::{Job, Span};
use crate::decide::ledger::Ledger;
use crate::decide::time::Time;

impl Ledger {
    /// Watches for the next deadline of a map.
    pub(crate) fn watch_job(&mut self, id: JobId) {
        let map = self.jobs.get_mut(&id).and_then(Job::map_mut);
        let Some(acceptances) = map.and_then(|map| map.acceptances.as_mut()) else { return };
        if acceptances.watched.is_none()
            && let Some(at) = acceptances.first_due()
        {
            acceptances.watched = Some(at);
            self.limits.jobs.insert((at, id));
        }
    }

    /// The inputs of a job whose deadlines have passed: those before the returned index, with the length of
    /// the deadline.
    pub(crate) fn take_expired(&mut self, id: JobId, now: Time) -> Option<(u64, Duration)> {
        match self.jobs.get_mut(&id)? {
            Job::Map(map) => {
                let acceptances = map.acceptances.as_mut()?;
                Some((acceptances.take_due(now)?, acceptances.limit))
            }
            Job::Call(_) => {
                let call = self.limits.calls.get(&id)?;
                Some((1, call.deadline?))
            }
        }
    }

    /// Removes from the queues every input of a job before `end` that has no outcome and is in no lease. The
    /// caller gives each its outcome and reports that with [`Ledger::ended`].
    pub(crate) fn take_waiting(&mut self, id: JobId, end: u64) -> Vec<Span> {
        let mut taken = Vec::new();
        self.recount(id);
        let Some(job) = self.jobs.get_mut(&id) else { return taken };
        while job.first_fresh().is_some_and(|first| first < end) {
            taken.extend(job.take_fresh(u64::MAX));
        }
        let waiting = job.waiting_before(end);
        for ticket in job.requeued() {
            let is_due = self.requeued.get_mut(ticket).is_some_and(|(_, span)| span.first < end);
            if is_due {
                self.jobs.get_mut(&id).expect("it was just there").has_left(ticket);
                let Some((_, span)) = self.requeued.remove(ticket) else { continue };
                self.leaves_batch(id, span.len);
                taken.push(span);
            }
        }
        for index in waiting {
            self.leave_queue(InputId { job: id, index });
            taken.push(Span { first: index, len: 1 });
        }
        self.calls.remove(&id);
        taken
    }

    /// Forgets the history of an input that has its outcome.
    pub(crate) fn forget_record(&mut self, input: InputId) {
        if let Some(job) = self.jobs.get_mut(&input.job) {
            job.take_record(input.index);
        }
    }
}

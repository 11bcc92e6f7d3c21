//! What snapshots read in the books. Nothing here changes them.

use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, InputId, JobId};
use crate::decide::ledger::Ledger;
use crate::decide::ledger::totals::Totals;
use crate::decide::restart::{RestartPolicy, Tally};
use crate::decide::time::Time;

/// Inputs that wait to be executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) retry: u64,
    /// When the next of those is due.
    pub(crate) next_retry: Option<Time>,
    /// Suspects included.
    pub(crate) replay: u64,
    pub(crate) suspects: u64,
}

/// What a container executes, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Executing {
    pub(crate) input: InputId,
    pub(crate) attempt: Attempt,
    /// Since when that is known.
    pub(crate) since: Time,
}

impl Ledger {
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Accepted inputs of all jobs without an outcome.
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// Inputs that wait to be executed again.
    pub(crate) fn again(&self) -> Again {
        let suspects = self.suspects.waiting();
        Again {
            retry: self.retries.len() as u64,
            next_retry: self.retries.first().map(|(due, _)| *due),
            replay: self.replays.len() + suspects,
            suspects,
        }
    }

    /// Calls whose input was never assigned.
    pub(crate) fn calls_queued(&self) -> u64 {
        self.calls.len()
    }

    /// What a container executes, or is about to.
    pub(crate) fn executing_in(&self, id: ContainerId) -> Option<Executing> {
        let berth = &self.berths[id.index()];
        let lease = berth.lease.filter(|lease| berth.booked < lease.span.end())?;
        let index = berth.booked.max(lease.span.first);
        let attempt = self.jobs.get(&lease.job).map_or(lease.attempt, |job| job.attempt(index));
        Some(Executing { input: InputId { job: lease.job, index }, attempt, since: berth.advanced })
    }

    /// What an input costs of late, of whatever job.
    pub(crate) fn usual_cost(&self) -> Option<Duration> {
        self.usual_cost
    }

    /// What the restart policy has counted within its window.
    pub(crate) fn tally(&mut self, now: Time) -> Tally {
        self.restarts.tally(now)
    }

    pub(crate) fn policy(&self) -> &RestartPolicy {
        &self.rules.restart
    }

    /// Whether the input that a container executes would be poisoned if the container crashed now, by what the books know.
    pub(crate) fn is_at_its_last(&self, id: ContainerId, job: JobId, index: u64) -> bool {
        let berth = &self.berths[id.index()];
        let outlived = berth.proof.max(berth.done_proof);
        let record = self.record(InputId { job, index });
        let crashes = record.map_or(0, |record| record.crashes);
        let is_charged = record.and_then(|record| record.crashed).is_none_or(|(last, _)| outlived >= last);
        is_charged && crashes >= self.rules.crash_retries
    }
}

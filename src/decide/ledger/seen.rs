//! The reads of the ledger that snapshots need. They count nothing, and no input changes its place by them.

use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, InputId, JobId, LaneId};
use crate::decide::ledger::Ledger;
use crate::decide::ledger::totals::LedgerTotals;
use crate::decide::restart::{RestartPolicy, WindowCounts};
use crate::decide::time::Time;

/// Inputs that wait to be executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) retry: u64,
    /// The time at which the next retry is due.
    pub(crate) next_retry: Option<Time>,
    /// The inputs that wait for a replay, suspects included.
    pub(crate) replay: u64,
    pub(crate) suspects: u64,
}

/// The input that a container executes, or is about to execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExecutingInput {
    pub(crate) input: InputId,
    pub(crate) attempt: Attempt,
    /// The time since which the ledger knows of the execution.
    pub(crate) since: Time,
}

impl Ledger {
    pub(crate) fn totals(&self) -> &LedgerTotals {
        &self.totals
    }

    /// The number of accepted inputs of all jobs that have no outcome.
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// The inputs that wait to be executed again.
    pub(crate) fn again(&self) -> Again {
        let suspects = self.suspects.waiting();
        Again {
            retry: self.retries.len() as u64,
            next_retry: self.retries.first().map(|(due, _)| *due),
            replay: self.replays.len() + self.alone.len() + self.waiting_in_halves() + suspects,
            suspects,
        }
    }

    /// The number of calls whose input was never assigned.
    pub(crate) fn calls_queued(&self) -> u64 {
        self.calls.len() as u64
    }

    /// The input that a lane executes, or is about to execute.
    pub(crate) fn executing_in(&self, id: impl Into<LaneId>) -> Option<ExecutingInput> {
        let lane = self.lane(id.into())?;
        let (lease, index) = lane.executing()?;
        let attempt = self.jobs.get(&lease.job).map_or(lease.attempt, |job| job.attempt(index));
        Some(ExecutingInput { input: InputId { job: lease.job, index }, attempt, since: lane.advanced })
    }

    /// The lanes that execute an input, or are about to, each with the moment since which that is known.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (Time, LaneId)> {
        self.leased().filter_map(|id| {
            let lane = self.lane(id)?;
            lane.executing()?;
            Some((lane.advanced, id))
        })
    }

    /// The number of inputs that a container may have in flight now.
    pub(crate) fn in_flight_max(&self, id: ContainerId) -> u32 {
        if self.containers[id.index()].alone { 1 } else { self.rules.in_flight() as u32 }
    }

    /// The recent cost of an input, over all jobs.
    pub(crate) fn usual_cost(&self) -> Option<Duration> {
        self.usual_cost
    }

    /// The counts of the restart policy within its window.
    pub(crate) fn tally(&mut self, now: Time) -> WindowCounts {
        self.restarts.tally(now)
    }

    pub(crate) fn policy(&self) -> &RestartPolicy {
        &self.rules.restart
    }

    /// Whether a crash of the container now would poison the input that it executes, as far as the ledger
    /// knows.
    pub(crate) fn is_at_its_last(&self, id: ContainerId, job: JobId, index: u64) -> bool {
        let container = &self.containers[id.index()];
        let outlived = container.proof.max(container.done_proof);
        let record = self.record(InputId { job, index });
        let crashes = record.map_or(0, |record| record.crashes);
        let is_charged = record.and_then(|record| record.crashed).is_none_or(|(last, _)| outlived >= last);
        is_charged && crashes >= self.rules.crash_retries
    }
}

//! A lane of a container: the lease that it executes, and the limit of time that runs for its code.

use std::time::Duration;

use crate::base::ids::{ContainerId, JobId, LaneId};
use crate::decide::ledger::leavers::Leaver;
use crate::decide::ledger::{CrashNumber, Lease, Ledger};
use crate::decide::steps;
use crate::decide::time::Time;

/// A lane of a container: the lease that it executes.
#[derive(Debug, Default, Clone)]
pub(super) struct Lane {
    pub(super) lease: Option<Lease>,
    /// When the lease was taken. The time since then shows what its inputs cost.
    pub(super) taken: Time,
    /// When an input of the lease was last seen to have ended. At first, when the lease was taken.
    pub(super) advanced: Time,
    /// The first input of the lease that is not yet committed.
    pub(super) committed: u64,
    /// The last crash before the lease was taken.
    pub(super) proof: CrashNumber,
}

impl Lane {
    /// The input that executes, or is about to.
    pub(super) fn executing(&self) -> Option<(Lease, u64)> {
        let lease = self.lease.filter(|lease| self.committed < lease.span.end())?;
        Some((lease, self.committed.max(lease.span.first)))
    }
}

/// The limit of time that runs for the code in a lane.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneLimit {
    /// None runs.
    #[default]
    None,
    /// The input at `index` was seen to execute, or to be about to, at `since`. `at` is the moment of the
    /// next look.
    Running { at: Time, limit: Duration, index: u64, since: Time },
    /// The attempt was cut, and its code has not returned.
    Leaving(Leaver),
}

impl LaneLimit {
    /// The moment of the next look.
    pub(super) fn at(self) -> Option<Time> {
        match self {
            Self::None => None,
            Self::Running { at, .. } => Some(at),
            Self::Leaving(leaver) => Some(leaver.at),
        }
    }
}

impl Ledger {
    pub(super) fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.containers[id.container.index()].lanes.get(id.index())
    }

    /// A lane, which exists from now on.
    pub(super) fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        let lanes = &mut self.containers[id.container.index()].lanes;
        if lanes.len() <= id.index() {
            lanes.resize(id.index() + 1, Lane::default());
        }
        &mut lanes[id.index()]
    }

    pub(crate) fn lease(&self, id: impl Into<LaneId>) -> Option<Lease> {
        self.lane(id.into())?.lease
    }

    /// The lanes that have a lease.
    pub(crate) fn leased(&self) -> impl Iterator<Item = LaneId> {
        self.leases.all()
    }

    /// The lanes that have a lease of `job`.
    pub(crate) fn leases_of(&self, job: JobId) -> impl Iterator<Item = LaneId> {
        self.leases.of(job)
    }

    /// The lanes of a container that have a lease.
    pub(crate) fn leased_by(&self, id: ContainerId) -> impl Iterator<Item = LaneId> {
        let lanes = self.containers[id.index()].lanes.iter().enumerate();
        let leased = lanes.filter(|(_, lane)| lane.lease.is_some()).map(steps::each);
        leased.map(move |(lane, _)| LaneId::new(id, lane as u32))
    }

    /// The lanes that have leased several inputs, or several batches. Some of these may not have begun.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = LaneId> {
        self.ahead.all()
    }

    /// The lanes of a container that have leased several inputs, or several batches.
    pub(crate) fn ahead_in(&self, id: ContainerId) -> impl Iterator<Item = LaneId> {
        self.ahead.of_container(id)
    }

    /// The lanes that have leased several inputs of `job`, or several batches.
    pub(crate) fn ahead_of(&self, job: JobId) -> impl Iterator<Item = LaneId> {
        self.ahead.of(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START};
    use crate::decide::restart::RateLimited;

    #[test]
    fn leases_are_found_by_their_job_and_by_what_they_hold() {
        let mut rig = Rig::new(3, RateLimited::new());
        let third = ContainerId(2);
        for id in [FIRST, SECOND, third] {
            rig.enters(id, START);
        }
        let other = rig.call();
        rig.takes(SECOND, START);
        let map = rig.map(10, 9);
        rig.takes(FIRST, START);
        rig.takes(third, START);
        let of = |job| rig.ledger.leases_of(job).map(|lane| lane.container).collect::<Vec<_>>();
        assert_eq!(of(map), [FIRST, third]);
        assert_eq!(of(other), [SECOND]);
        assert_eq!(rig.ledger.leased().count(), 3);
        assert_eq!(rig.ledger.ahead().count(), 0, "none has leased several inputs");
    }
}

//! The lanes that have leased several inputs, or several batches. Some of these inputs may not have begun.
//!
//! A consumer looks at the lanes of its job, and a crash in one lane at the lanes of its container. Neither
//! look costs more because other jobs and containers have such leases.

use std::collections::BTreeSet;

use super::leased::Leased;
use crate::base::ids::{ContainerId, JobId, LaneId};
use crate::decide::steps;

/// The lanes, by the jobs of their leases and by their containers.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    by_job: Leased,
    by_container: BTreeSet<LaneId>,
}

impl Ahead {
    pub(super) fn begins(&mut self, job: JobId, lane: LaneId) {
        self.by_job.begins(job, lane);
        self.by_container.insert(lane);
    }

    /// Ends a lease. It may be of one input only, and then nothing changes.
    pub(super) fn ends(&mut self, job: JobId, lane: LaneId) {
        if self.by_container.remove(&lane) {
            self.by_job.ends(job, lane);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_container.is_empty() && self.by_job.is_empty()
    }

    /// All lanes, in the order of their containers and numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = LaneId> {
        self.by_container.iter().copied().map(steps::each)
    }

    /// The lanes whose lease is of `job`.
    pub(super) fn of(&self, job: JobId) -> impl Iterator<Item = LaneId> {
        self.by_job.of(job)
    }

    /// The lanes of a container.
    pub(super) fn of_container(&self, id: ContainerId) -> impl Iterator<Item = LaneId> {
        self.by_container.range(LaneId::new(id, 0)..=LaneId::new(id, u32::MAX)).copied().map(steps::each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::steps::tests::taken;

    #[test]
    fn the_lanes_of_a_job_and_of_a_container_are_found_beside_a_thousand_others() {
        let mut ahead = Ahead::default();
        for container in 0..1_000 {
            let lane = LaneId::new(ContainerId(container), container % 3);
            ahead.begins(JobId(u64::from(container / 2)), lane);
        }
        let second = LaneId::new(ContainerId(7), 2);
        ahead.begins(JobId(900), second);

        let before = taken();
        assert!(ahead.of_container(ContainerId(7)).eq([LaneId::new(ContainerId(7), 1), second]));
        assert!(ahead.of(JobId(900)).eq([second]));
        assert_eq!(taken() - before, 3, "only these were looked at");

        ahead.ends(JobId(900), second);
        ahead.ends(JobId(5), LaneId::new(ContainerId(2), 0)); // a lease of one input
        assert!(ahead.of_container(ContainerId(7)).eq([LaneId::new(ContainerId(7), 1)]));
        assert_eq!((ahead.of(JobId(900)).count(), ahead.all().count()), (0, 1_000));
    }
}

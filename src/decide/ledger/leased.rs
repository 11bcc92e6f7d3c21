//! The lanes that have a lease of each job.
//!
//! A container may have thousands of lanes with leases of one map, and each lease begins and ends here. So 64
//! lanes share an entry.

use std::collections::BTreeMap;

use crate::base::ids::{ContainerId, JobId, LaneId};
use crate::decide::steps;

/// Lanes of one container with consecutive numbers. Some of them have a lease of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    job: JobId,
    container: ContainerId,
    /// The number of the first lane, divided by 64.
    number: u32,
}

impl Group {
    /// The group of a lane, and the lane's bit in it.
    fn of(job: JobId, lane: LaneId) -> (Self, u64) {
        let at = lane.index() as u32;
        (Self { job, container: lane.container, number: at / u64::BITS }, 1 << (at % u64::BITS))
    }

    /// The lanes of the bits in `members`, in the order of their numbers.
    fn lanes(self, mut members: u64) -> impl Iterator<Item = LaneId> {
        std::iter::from_fn(move || {
            let bit = (members != 0).then(|| members.trailing_zeros())?;
            members &= members - 1;
            Some(LaneId::new(self.container, self.number * u64::BITS + bit))
        })
    }
}

/// The lanes that have a lease, by the jobs of their leases.
#[derive(Debug, Default)]
pub(super) struct Leased {
    /// Each group of lanes with at least one lease, with a bit for each lane.
    groups: BTreeMap<Group, u64>,
}

impl Leased {
    pub(super) fn begins(&mut self, job: JobId, lane: LaneId) {
        let (group, bit) = Group::of(job, lane);
        *self.groups.entry(group).or_default() |= bit;
    }

    pub(super) fn ends(&mut self, job: JobId, lane: LaneId) {
        let (group, bit) = Group::of(job, lane);
        let Some(members) = self.groups.get_mut(&group) else { return };
        *members &= !bit;
        if *members == 0 {
            self.groups.remove(&group);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All lanes, in the order of their jobs.
    pub(super) fn all(&self) -> impl Iterator<Item = LaneId> {
        self.groups.iter().flat_map(|(group, members)| group.lanes(*members)).map(steps::each)
    }

    /// The lanes that have a lease of `job`, in the order of their containers and numbers.
    pub(super) fn of(&self, job: JobId) -> impl Iterator<Item = LaneId> {
        let first = Group { job, container: ContainerId(0), number: 0 };
        let last = Group { job, container: ContainerId(u32::MAX), number: u32::MAX };
        self.groups.range(first..=last).flat_map(|(group, members)| group.lanes(*members)).map(steps::each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_found_by_their_job_in_the_order_of_their_numbers() {
        let mut leased = Leased::default();
        let lanes = [(0, 0), (0, 63), (0, 64), (0, 200), (1, 5), (7, 1)];
        let lanes = lanes.map(|(container, lane)| LaneId::new(ContainerId(container), lane));
        for lane in lanes.into_iter().rev() {
            leased.begins(JobId(2), lane);
        }
        let other = LaneId::new(ContainerId(3), 64);
        leased.begins(JobId(1), other);
        leased.begins(JobId(3), other);
        assert_eq!(leased.of(JobId(2)).collect::<Vec<_>>(), lanes);
        assert_eq!(leased.of(JobId(4)).count(), 0);
        let all = [other].into_iter().chain(lanes).chain([other]);
        assert!(leased.all().eq(all), "{leased:?}");

        leased.ends(JobId(2), lanes[1]);
        leased.ends(JobId(4), lanes[0]);
        assert!(leased.of(JobId(2)).eq([0, 2, 3, 4, 5].map(|at: usize| lanes[at])));
        leased.ends(JobId(1), other);
        leased.ends(JobId(3), other);
        lanes.into_iter().for_each(|lane| leased.ends(JobId(2), lane));
        assert!(leased.is_empty(), "an empty group is forgotten: {leased:?}");
    }

    #[test]
    fn five_hundred_lanes_of_a_job_share_eight_entries() {
        let mut leased = Leased::default();
        (0..500).for_each(|lane| leased.begins(JobId(1), LaneId::new(ContainerId(0), lane)));
        assert_eq!((leased.groups.len(), leased.of(JobId(1)).count()), (8, 500));
    }
}

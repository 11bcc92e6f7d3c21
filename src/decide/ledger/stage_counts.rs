//! The containers by their stages: how many there are in each, and which may have to be created. The
//! numbers are updated with each change of an entry, so the functions that change a stage are here.

use std::collections::BTreeSet;

use crate::base::ids::ContainerId;
use crate::decide::ledger::containers::ContainerEntry;
use crate::decide::ledger::{Change, ContainerStage, Ledger, Mode};
use crate::decide::time::Time;

/// The number of containers in each stage, and the containers that may have to be created. Updated with each
/// change of an entry, because otherwise each crash would have to look through all containers.
#[derive(Debug)]
pub(super) struct StageCounts {
    /// The containers that are absent and may have to be created.
    absent: BTreeSet<ContainerId>,
    /// The containers that wait to be created again.
    backing_off: BTreeSet<(Time, ContainerId)>,
    starting: usize,
    live: usize,
    exiting: usize,
    /// The containers that live, or are about to, and do not hang: see [`ContainerEntry::serves`].
    serving: usize,
}

impl StageCounts {
    pub(super) fn new(containers: usize) -> Self {
        let absent = (0..containers as u32).map(ContainerId).collect();
        Self { absent, backing_off: BTreeSet::new(), starting: 0, live: 0, exiting: 0, serving: 0 }
    }

    pub(super) fn first_backing_off(&self) -> Option<(Time, ContainerId)> {
        self.backing_off.first().copied()
    }

    fn changed(&mut self, id: ContainerId, from: ContainerStage, to: ContainerStage) {
        match from {
            ContainerStage::Absent => _ = self.absent.remove(&id),
            ContainerStage::BackingOff { until } => _ = self.backing_off.remove(&(until, id)),
            ContainerStage::Starting => self.starting -= 1,
            ContainerStage::Live => self.live -= 1,
            ContainerStage::Exiting => self.exiting -= 1,
        }
        match to {
            ContainerStage::Absent => _ = self.absent.insert(id),
            ContainerStage::BackingOff { until } => _ = self.backing_off.insert((until, id)),
            ContainerStage::Starting => self.starting += 1,
            ContainerStage::Live => self.live += 1,
            ContainerStage::Exiting => self.exiting += 1,
        }
    }
}

impl Ledger {
    /// Changes the stage of a container. No other function does.
    pub(super) fn set_stage(&mut self, id: ContainerId, stage: ContainerStage) {
        let container = &mut self.containers[id.index()];
        if container.stage != stage {
            if self.clearing == Some(id) {
                self.clearing = None;
            }
            let generation = container.generation;
            self.stages.changed(id, container.stage, stage);
            self.change(id, |container| container.stage = stage);
            self.changes.push(Change::Stage { container: id, generation, stage });
            if stage != ContainerStage::Starting {
                self.all_came_out(id);
            }
        }
    }

    /// Changes the entry of a container in what decides whether it serves.
    pub(super) fn change<T>(&mut self, id: ContainerId, change: impl FnOnce(&mut ContainerEntry) -> T) -> T {
        let container = &mut self.containers[id.index()];
        let served = container.serves();
        let changed = change(container);
        self.stages.serving += usize::from(container.serves());
        self.stages.serving -= usize::from(served);
        changed
    }

    /// The number of containers that are in their `exit`.
    pub(crate) fn exiting(&self) -> usize {
        self.stages.exiting
    }

    /// The number of containers that live, or are about to on the thread that they have, and do not hang.
    pub(super) fn serving(&self) -> usize {
        self.stages.serving
    }

    /// Whether a container other than `id`, which is starting, is live or recycling.
    pub(super) fn others_serve(&self, id: ContainerId) -> bool {
        self.stages.live > 0 || self.recycling.iter().any(|other| *other != id)
    }

    /// Whether any container is live.
    pub(crate) fn is_ready(&self) -> bool {
        self.stages.live > 0
    }

    /// Whether all containers are live.
    pub(crate) fn all_are_live(&self) -> bool {
        self.stages.live == self.rules.containers
    }

    /// Whether no container exists or will. A container that backs off counts only while
    /// there is work for it.
    pub(crate) fn is_empty(&self) -> bool {
        let there = self.stages.starting + self.stages.live + self.stages.exiting;
        there == 0 && (self.stages.backing_off.is_empty() || self.pending == 0)
    }

    /// A container that does not exist and may have to be created now. The caller begins it, or stops asking.
    pub(crate) fn next_to_create(&mut self, now: Time) -> Option<ContainerId> {
        if !self.goes_on() {
            return None;
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            self.stand_down();
            return None;
        }
        if let Some(id) = self.stages.absent.first() {
            return Some(*id);
        }
        self.end_loop_if_stable(now);
        let (until, id) = self.stages.first_backing_off()?;
        (until <= now || self.restarts.held_until(now).is_none()).then_some(id)
    }

    /// The moment at which the next container that is backing off may be created.
    pub(crate) fn next_creation(&self, now: Time) -> Option<Time> {
        let (until, _) = self.stages.first_backing_off()?;
        Some(if self.restarts.held_until(now).is_none() { now } else { until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Generation;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, backing_off, enters, ledger};
    use crate::decide::restart::RateLimited;

    #[test]
    fn containers_are_counted_from_stage_to_stage() {
        let mut ledger = ledger(RateLimited::new().into());
        assert!(ledger.is_empty());
        assert!(!ledger.is_ready());
        let first = ledger.begin(FIRST, START).expect("the container may begin");
        assert!(!ledger.is_empty(), "one container starts");
        assert!(!ledger.is_ready());
        assert!(ledger.entered(FIRST, first, START));
        assert!(ledger.is_ready());
        assert!(!ledger.all_are_live(), "only one of two is live");
        let second = enters(&mut ledger, SECOND);
        assert!(ledger.all_are_live());
        assert_eq!(ledger.exiting(), 0);
        assert!(ledger.recycle(SECOND, second, START));
        assert_eq!(ledger.exiting(), 1);
        assert!(!ledger.all_are_live());
        assert!(ledger.is_ready(), "the other is live");
        ledger.left(SECOND, second);
        assert_eq!(ledger.exiting(), 0);
        ledger.left(FIRST, first);
        assert!(!ledger.is_ready());
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_container_is_there_in_whatever_stage_of_its_life_it_is() {
        let mut rig = Rig::new(2, RateLimited::new());
        let first = rig.enters(FIRST, START);
        let second = rig.ledger.begin(SECOND, START).expect("it may begin");
        assert!(!rig.ledger.is_empty(), "one is live, and one starts");
        assert!(rig.ledger.recycle(FIRST, first, START));
        rig.ledger.entered(SECOND, second, START);
        assert!(!rig.ledger.is_empty(), "one is live, and one exits");
        rig.ledger.left(FIRST, first);
        assert!(!rig.ledger.is_empty(), "one is live");
    }

    #[test]
    fn one_that_backs_off_is_awaited_while_there_is_work_for_it() {
        let mut rig = backing_off();
        assert!(rig.ledger.is_empty());
        rig.call();
        assert!(!rig.ledger.is_empty());
    }

    #[test]
    fn a_container_is_created_when_its_delay_is_over_or_forgotten() {
        let mut rig = Rig::new(1, RateLimited::new());
        assert_eq!(rig.ledger.next_to_create(START), Some(FIRST), "it is not there");
        let mut rig = backing_off();
        assert_eq!(
            (rig.ledger.next_to_create(at(10)), rig.ledger.next_creation(at(10))),
            (None, Some(at(11)))
        );
        assert_eq!(rig.ledger.begin(FIRST, at(10)), None);
        assert_eq!(
            (rig.ledger.next_to_create(at(11)), rig.ledger.next_creation(at(11))),
            (Some(FIRST), Some(at(11)))
        );
        assert_eq!(rig.ledger.begin(FIRST, at(11)), Some(Generation(3)));
        assert_eq!(rig.ledger.next_creation(at(11)), None, "nothing waits");
        assert_eq!(rig.ledger.lives().restarts, 2);
    }

    #[test]
    fn a_delay_that_ends_early_holds_no_container_back() {
        let mut rig = Rig::new(2, RateLimited::new());
        rig.enters(SECOND, START);
        let lone = rig.fails_to_start(FIRST, at(0));
        assert_eq!(lone.restart, crate::decide::restart::Restart::Now, "the first delays nothing");
        rig.fails_to_start(FIRST, at(1));
        // The second container dies of its work, comes back at once, and completes something.
        let proof = |rig: &mut Rig| {
            rig.call();
            rig.takes(SECOND, at(2));
            rig.completes(SECOND, at(3));
        };
        proof(&mut rig);
        assert_eq!(rig.ledger.next_to_create(at(3)), None, "it began before the crash");
        rig.crashes(SECOND, at(4));
        rig.enters(SECOND, at(5));
        proof(&mut rig);
        assert_eq!(rig.ledger.next_creation(at(6)), Some(at(6)));
        assert_eq!(rig.ledger.next_to_create(at(6)), Some(FIRST));
        assert!(rig.ledger.begin(FIRST, at(6)).is_some());
    }

    #[test]
    fn nothing_is_created_for_a_function_that_has_nothing_left_to_do() {
        for (mode, pending, created) in [
            (Mode::Running, false, true),
            (Mode::Draining, true, true),
            (Mode::Draining, false, false),
            (Mode::Stopping, true, false),
        ] {
            let mut rig = Rig::new(1, RateLimited::new());
            if pending {
                rig.call();
            }
            rig.ledger.advance_mode(mode);
            assert_eq!(rig.ledger.next_to_create(START).is_some(), created, "{mode:?}, {pending}");
            assert_eq!(rig.ledger.begin(FIRST, START).is_some(), created, "{mode:?}, {pending}");
        }
    }
}

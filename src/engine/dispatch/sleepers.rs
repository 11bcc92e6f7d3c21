//! The containers that sleep because they have no work, and the choice between them for a wake-up.
//!
//! A wake-up costs some tens of µs, and each container that wakes has to look for work under the lock. An
//! event therefore wakes only as many containers as it has work for. The container that fell asleep last
//! wakes first, because its data is still in the caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::base::ready::ReadyLanes;
use crate::decide::ledger::CrashNumber;
use crate::decide::steps;
use crate::decide::time::Time;

/// A container that sleeps and has not been woken.
#[derive(Debug, Clone, Copy)]
struct Sleeper {
    generation: Generation,
    /// The number of this sleep among all sleeps.
    turn: u64,
    /// The last crash that the container has outlived.
    proof: CrashNumber,
    /// The moment at which the container wakes by itself.
    until: Option<Time>,
    /// Whether the container has no lease.
    is_empty: bool,
}

/// All sleeping containers of a function.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    all: BTreeMap<ContainerId, Sleeper>,
    by_turn: BTreeMap<u64, ContainerId>,
    by_proof: BTreeSet<(CrashNumber, ContainerId)>,
    by_moment: BTreeSet<(Time, ContainerId)>,
    turns: u64,
}

impl Sleepers {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// A container falls asleep.
    pub(super) fn add(
        &mut self,
        id: ContainerId,
        generation: Generation,
        proof: CrashNumber,
        until: Option<Time>,
        is_empty: bool,
    ) {
        self.remove(id);
        let turn = self.turns;
        self.turns += 1;
        self.all.insert(id, Sleeper { generation, turn, proof, until, is_empty });
        self.by_turn.insert(turn, id);
        self.by_proof.insert((proof, id));
        self.by_moment.extend(until.map(|until| (until, id)));
    }

    /// A container has outlived the crash `proof` and those before it. Returns whether it sleeps and this is
    /// new.
    pub(super) fn has_outlived(&mut self, id: ContainerId, proof: CrashNumber) -> bool {
        let Some(sleeper) = self.all.get_mut(&id).filter(|sleeper| sleeper.proof < proof) else {
            return false;
        };
        self.by_proof.remove(&(sleeper.proof, id));
        self.by_proof.insert((proof, id));
        sleeper.proof = proof;
        true
    }

    /// A container wakes, or is about to wake.
    pub(super) fn remove(&mut self, id: ContainerId) {
        if let Some(Sleeper { turn, proof, until, .. }) = self.all.remove(&id) {
            self.by_turn.remove(&turn);
            self.by_proof.remove(&(proof, id));
            until.map(|until| self.by_moment.remove(&(until, id)));
        }
    }

    /// The given generation of a container has woken. A later generation may sleep in its place.
    pub(super) fn has_woken(&mut self, id: ContainerId, generation: Generation) {
        if self.all.get(&id).is_some_and(|sleeper| sleeper.generation == generation) {
            self.remove(id);
        }
    }

    /// Removes the container that fell asleep last.
    pub(super) fn pop(&mut self) -> Option<ContainerId> {
        let (_, id) = self.by_turn.last_key_value()?;
        let id = *id;
        self.remove(id);
        Some(id)
    }

    /// Removes a container that has no lease and has outlived `crash`.
    pub(super) fn pop_empty(&mut self, crash: CrashNumber) -> Option<ContainerId> {
        let proven = self.by_proof.range((crash, ContainerId(0))..).rev().map(steps::each);
        let (_, id) = *proven.into_iter().find(|(_, id)| self.all[id].is_empty)?;
        self.remove(id);
        Some(id)
    }

    /// Removes a container that has outlived `crash`.
    pub(super) fn pop_proven(&mut self, crash: CrashNumber) -> Option<ContainerId> {
        let (_, id) = *self.by_proof.last().filter(|(proof, _)| *proof >= crash)?;
        self.remove(id);
        Some(id)
    }

    /// Whether a container wakes by itself at `by` or before.
    pub(crate) fn is_watched(&self, by: Time) -> bool {
        self.by_moment.first().is_some_and(|(until, _)| *until <= by)
    }
}

/// The containers that an event wakes, until the lock is released.
///
/// They are woken after the release, because the first thing that a woken thread needs is the lock.
#[derive(Debug, Default)]
pub(super) struct Called {
    /// The first of them. An event rarely wakes more than one.
    first: Option<CalledContainer>,
    more: Vec<CalledContainer>,
}

impl Called {
    pub(super) fn add(&mut self, container: CalledContainer) {
        if self.first.is_none() {
            self.first = Some(container);
        } else {
            self.more.push(container);
        }
    }

    pub(super) fn into_each(self) -> impl Iterator<Item = CalledContainer> {
        self.first.into_iter().chain(self.more)
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// A container that is woken.
#[derive(Debug)]
pub(super) struct CalledContainer {
    pub(super) id: ContainerId,
    /// The driver of its lanes, if it has several.
    pub(super) driver: Option<Arc<ReadyLanes>>,
}

impl CalledContainer {
    /// Whether its thread may be in user code. A container with a free lane counts as asleep, although its
    /// thread may be in the code of another lane, and look for work only much later.
    pub(super) fn is_busy(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| !driver.is_asleep())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn the_last_that_fell_asleep_wakes_first_and_each_wakes_once() {
        let mut sleepers = Sleepers::default();
        for id in 0..3 {
            sleepers.add(ContainerId(id), Generation(1), 0, None, true);
        }
        assert_eq!(sleepers.pop(), Some(ContainerId(2)));
        sleepers.has_woken(ContainerId(1), Generation(1));
        assert_eq!(sleepers.pop(), Some(ContainerId(0)));
        assert_eq!(sleepers.pop(), None);
    }

    #[test]
    fn a_thread_whose_generation_is_over_does_not_wake_its_successor() {
        let mut sleepers = Sleepers::default();
        sleepers.add(ContainerId(0), Generation(2), 0, None, true);
        sleepers.has_woken(ContainerId(0), Generation(1));
        assert_eq!(sleepers.pop(), Some(ContainerId(0)));
    }

    #[test]
    fn a_container_may_outlive_crashes_while_it_sleeps() {
        let mut sleepers = Sleepers::default();
        sleepers.add(ContainerId(0), Generation(1), 3, None, false);
        assert!(!sleepers.has_outlived(ContainerId(1), 9), "it does not sleep");
        assert!(!sleepers.has_outlived(ContainerId(0), 3), "that is known");
        assert!(sleepers.has_outlived(ContainerId(0), 5));
        assert_eq!(sleepers.pop_proven(6), None);
        assert_eq!(sleepers.pop_proven(5), Some(ContainerId(0)));
        assert_eq!(sleepers.pop_proven(0), None, "it is not kept by its earlier proof");
    }

    #[test]
    fn only_containers_that_sleep_count_as_proven_or_as_watching() {
        let mut sleepers = Sleepers::default();
        sleepers.add(ContainerId(0), Generation(1), 5, Some(at(7)), true);
        sleepers.add(ContainerId(1), Generation(1), 3, Some(at(9)), true);
        assert!(!sleepers.is_watched(at(6)));
        assert!(sleepers.is_watched(at(7)));
        assert_eq!(sleepers.pop_proven(6), None);
        assert_eq!(sleepers.pop_proven(4), Some(ContainerId(0)));
        assert!(!sleepers.is_watched(at(8)));
    }
}

//! Changes that the engine learns of after it has called the ledger: the stages of containers, the ends
//! of crash loops and hangs, and a container that claims again. Also the moment at which a crash loop ends.

use crate::base::ids::{ContainerId, Generation};
use crate::decide::ledger::{ContainerStage, Ledger};
use crate::decide::steps;
use crate::decide::time::Time;

/// A change that the function reports to its subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A container is in another stage.
    Stage { container: ContainerId, generation: Generation, stage: ContainerStage },
    /// A crash loop is over. It had `crashes` loop crashes in a row, the first of them at `since`.
    Recovered { crashes: u32, since: Time },
    /// The code of a container has returned that hung since the moment `since`.
    HangEnded { container: ContainerId, generation: Generation, since: Time },
}

impl Ledger {
    /// Whether there are changes to report or crashes to drop outside of the lock.
    pub(crate) fn has_news(&self) -> bool {
        !self.changes.is_empty() || !self.discarded.is_empty() || self.recovered || self.unheld.is_some()
    }

    /// Takes the changes since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes the container that was to become empty, and now need not.
    pub(crate) fn take_unheld(&mut self) -> Option<ContainerId> {
        self.unheld.take()
    }

    /// Whether a crash loop has ended since the last call, so that containers that wait for
    /// its delay may come back.
    pub(crate) fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.recovered)
    }

    /// Lets the policy know which containers have stayed up.
    pub(crate) fn end_loop_if_stable(&mut self, now: Time) {
        let lives = self
            .containers
            .iter()
            .map(steps::each)
            .filter(|container| container.stage == ContainerStage::Live)
            .map(|container| container.life);
        let held = self.restarts.held_until(now).is_some();
        self.restarts.end_loop_if_stable(lives, now);
        self.recovered |= held && self.restarts.held_until(now).is_none();
        self.note_recovery();
    }

    /// Reports the end of a crash loop before the changes that follow from it.
    pub(super) fn note_recovery(&mut self) {
        let ended = self.restarts.take_loop_ended();
        self.changes.extend(ended.map(|(crashes, since)| Change::Recovered { crashes, since }));
    }

    /// The earliest moment at which a container may have stayed up long enough to end a crash loop.
    pub(crate) fn stable_at(&self) -> Option<Time> {
        self.restarts.stable_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{FIRST, at, backing_off, enters, ledger};
    use crate::decide::restart::RateLimited;

    #[test]
    fn the_ledger_has_news_until_its_changes_are_taken() {
        let mut ledger = ledger(RateLimited::new().into());
        assert!(!ledger.has_news());
        enters(&mut ledger, FIRST);
        assert!(ledger.has_news());
        assert_eq!(ledger.take_changes().len(), 2, "starting and live are two changes");
        assert!(!ledger.has_news());
    }

    #[test]
    fn the_end_of_a_crash_loop_is_a_change_of_its_own() {
        let mut rig = backing_off();
        rig.enters(FIRST, at(11));
        assert_eq!(rig.ledger.stable_at(), Some(at(10_011)));
        rig.ledger.take_changes();
        rig.ledger.end_loop_if_stable(at(10_011));
        assert_eq!(rig.ledger.take_changes(), [Change::Recovered { crashes: 2, since: at(0) }]);
        assert_eq!(rig.ledger.stable_at(), None);
    }
}

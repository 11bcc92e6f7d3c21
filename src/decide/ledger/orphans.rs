//! Orphans: executions that go on although the jobs of their inputs have ended.

use crate::base::ids::{Attempt, InputId, LaneId};
use crate::decide::job::InputRecord;
use crate::decide::ledger::Ledger;
use crate::decide::time::Time;

/// An execution whose input's job ended while it went on. No consumer waits for its answer. But its container
/// may still crash because of it, and the verdict then needs these facts about the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) index: u64,
    pub(crate) attempt: Attempt,
    /// How many inputs of the job execute together with it, itself included.
    pub(crate) together: u64,
    /// Whether the input had crashed a container before.
    pub(super) suspect: bool,
    /// When the input last counted a crash towards the restart policy.
    pub(crate) counted: Option<Time>,
}

impl Ledger {
    /// The facts about the execution of an input that goes on as an orphan.
    pub(super) fn orphan_of(&self, input: InputId, together: u64) -> Orphan {
        let record = self.record(input);
        Orphan {
            index: input.index,
            attempt: record.map_or(Attempt::FIRST, InputRecord::attempt),
            together,
            suspect: record.is_some_and(InputRecord::is_suspect),
            counted: record.and_then(|record| record.counted),
        }
    }

    /// The execution in a lane that goes on although its input's job is over.
    pub(crate) fn orphan(&self, id: impl Into<LaneId>) -> Option<Orphan> {
        let id = id.into();
        self.containers[id.container.index()].orphans.get(&id.lane).copied()
    }

    /// Sets the execution in a lane that goes on, or forgets it.
    pub(crate) fn set_orphan(&mut self, id: LaneId, orphan: Option<Orphan>) {
        let orphans = &mut self.containers[id.container.index()].orphans;
        match orphan {
            Some(orphan) => _ = orphans.insert(id.lane, orphan),
            None => _ = orphans.remove(&id.lane),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::Position;
    use crate::decide::ledger::fixture::{FIRST, START, at, one};
    use crate::decide::life::Next;
    use crate::decide::retries::Retries;

    #[test]
    fn what_executes_as_its_job_ends_is_known_until_the_container_claims_again() {
        let (mut rig, input) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        rig.crashes(FIRST, at(1));
        rig.enters(FIRST, at(1));
        rig.takes(FIRST, at(2));
        rig.ledger.recalled(FIRST.into(), Some(Position { at: 0, begun: true }), at(3));
        let known =
            Orphan { index: 0, attempt: Attempt(2), together: 1, suspect: true, counted: Some(at(1)) };
        assert_eq!(rig.ledger.orphan(FIRST), Some(known));
        assert_eq!(rig.ledger.job(input.job).map(|job| job.counts().replayed), Some(1), "it has begun");
        rig.ledger.take_pending(input.job);
        rig.claims(FIRST, at(4));
        assert_eq!(rig.ledger.orphan(FIRST), None);
    }

    #[test]
    fn what_had_not_begun_as_its_job_ends_is_no_stray() {
        let (mut rig, _) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        rig.ledger.recalled(FIRST.into(), Some(Position { at: 0, begun: false }), at(3));
        assert_eq!(rig.ledger.orphan(FIRST), None);
        assert!(matches!(rig.claims(FIRST, at(3)), Next::Work(_)), "it waits as before");
    }
}

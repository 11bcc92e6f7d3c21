//! Whether a function gives up because no container is left that does its work, and none can be
//! created. The restart policy decides on the other reason, which is too many crashes.

use std::sync::Arc;

use crate::base::ids::ContainerId;
use crate::decide::ledger::{Leaving, Ledger, Mode, Pressure};
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;

impl Ledger {
    /// Whether no container is left to do the work and none can be created. A function that
    /// may give up then does.
    pub(super) fn is_hopeless(&self, id: ContainerId, leaving: Leaving) -> bool {
        leaving.pressure == Pressure::Threads && self.restarts.may_give_up() && self.is_last(id)
    }

    /// Whether no other container lives, or is about to on the thread that it has. One that hangs does not
    /// count.
    fn is_last(&self, id: ContainerId) -> bool {
        self.serving() == usize::from(self.containers[id.index()].serves())
    }

    /// Whether no container lives or is about to, in a function that may give up because of that.
    pub(crate) fn is_deserted(&self) -> bool {
        self.restarts.may_give_up() && !self.has_server()
    }

    /// Gives up if the function may, and no container is left that does the work or is about to. The caller
    /// knows that none can be created. Returns whether the function gave up.
    ///
    /// A container that was to restart in place counts as left at the deaths of the others. It does not come
    /// back if a crash loop holds it back meanwhile, because it then needs a new thread.
    pub(crate) fn give_up_if_deserted(&mut self) -> bool {
        if self.mode != Mode::Running || self.gave_up.is_some() || !self.is_deserted() {
            return false;
        }
        let Some((_, crash)) = self.last_crash() else { return false };
        self.give_up(crash);
        true
    }

    pub(super) fn give_up(&mut self, last: Arc<Crash>) {
        self.gave_up = Some(GaveUp::new(self.causes.first(), last));
        self.stand_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{
        FIRST, Rig, SECOND, START, UNCROWDED, abandoned, at, enters, ledger,
    };
    use crate::decide::restart::{CrashLoopBackoff, RateLimited, Restart};

    #[test]
    fn a_function_gives_up_with_its_last_container_if_no_other_can_be_created() {
        // Each case: whether another container lives, whether the function may give up, the pressure on the
        // abandoned threads, and whether the function gives up.
        for (beside, may_give_up, pressure, gives_up) in [
            (false, true, Pressure::Threads, true),
            (true, true, Pressure::Threads, false),
            (false, false, Pressure::Threads, false),
            (false, true, Pressure::Bytes, false),
        ] {
            for by_a_kill in [false, true] {
                let mut rig = if may_give_up {
                    Rig::new(2, RateLimited::new())
                } else {
                    Rig::new(2, CrashLoopBackoff::new())
                };
                rig.enters(FIRST, START);
                if beside {
                    rig.enters(SECOND, START);
                }
                if by_a_kill {
                    rig.kills(FIRST, abandoned(pressure), START);
                } else {
                    let restart = rig.crashes_leaving(FIRST, abandoned(pressure), START).restart;
                    assert_eq!(restart == Restart::GiveUp, gives_up);
                }
                assert_eq!(
                    rig.ledger.gave_up().is_some(),
                    gives_up,
                    "{beside} {may_give_up} {pressure:?} {by_a_kill}"
                );
            }
        }
    }

    #[test]
    fn a_container_that_comes_back_on_its_own_thread_is_not_missed() {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.enters(FIRST, START);
        let restart = rig
            .crashes_leaving(FIRST, Leaving { abandoned: false, pressure: Pressure::Threads }, START)
            .restart;
        assert_eq!(restart, Restart::Now);
        assert!(!rig.ledger.is_deserted(), "its thread begins the next generation");
        let (generation, _) = rig.ledger.stage(FIRST);
        rig.ledger.thread_ended(FIRST, generation);
        assert!(rig.ledger.is_deserted());
        rig.enters(FIRST, START);
        rig.crashes_leaving(FIRST, abandoned(Pressure::None), at(1));
        assert!(rig.ledger.is_deserted(), "its thread was left behind");
    }

    #[test]
    fn a_function_that_may_give_up_does_once_no_container_is_left_or_about_to_come_back() {
        let mut rig = Rig::new(2, RateLimited::new());
        assert!(!rig.ledger.give_up_if_deserted(), "it has not crashed");
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.crashes(FIRST, START);
        assert!(!rig.ledger.give_up_if_deserted(), "the second lives");
        rig.kills(SECOND, UNCROWDED, START);
        assert!(!rig.ledger.give_up_if_deserted(), "the first is about to restart in place");
        let (generation, _) = rig.ledger.stage(FIRST);
        rig.ledger.thread_ended(FIRST, generation);
        assert!(rig.ledger.give_up_if_deserted());
        assert!(rig.ledger.gave_up().is_some());
        assert!(!rig.ledger.give_up_if_deserted(), "it gives up once");
    }

    #[test]
    fn a_function_is_deserted_only_where_it_may_give_up() {
        for (policy, may_give_up) in
            [(RateLimited::new().into(), true), (CrashLoopBackoff::new().into(), false)]
        {
            let mut ledger = ledger(policy);
            let first = enters(&mut ledger, FIRST);
            assert!(!ledger.is_deserted(), "a container is live");
            ledger.thread_ended(FIRST, first);
            ledger.left(FIRST, first);
            assert_eq!(ledger.is_deserted(), may_give_up, "no container exists");
        }
    }
}

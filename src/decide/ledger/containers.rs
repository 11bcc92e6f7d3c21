//! The entry of each container in the ledger, and the life of its current generation.

use std::collections::BTreeMap;

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::decide::ledger::batches::Filling;
use crate::decide::ledger::lane::{Lane, LaneLimit};
use crate::decide::ledger::orphans::Orphan;
use crate::decide::ledger::{CrashNumber, Ledger, Mode};
use crate::decide::restart::LifeRecord;
use crate::decide::steps;
use crate::decide::time::Time;

/// The stage of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContainerStage {
    /// The container was not created, or has ended.
    Absent,
    /// The container is in `enter`.
    Starting,
    /// The container executes inputs or is ready to.
    Live,
    /// The container is in `exit`.
    Exiting,
    /// The container waits to be created again.
    BackingOff { until: Time },
}

/// The entry of one container.
#[derive(Debug)]
pub(super) struct ContainerEntry {
    pub(super) generation: Generation,
    /// Changed by [`Ledger::set_stage`] only.
    pub(super) stage: ContainerStage,
    pub(super) life: LifeRecord,
    /// The lanes that were ever used, in the order of their numbers.
    pub(super) lanes: Vec<Lane>,
    /// The executions that go on although their inputs' jobs are over, by the numbers of their lanes.
    pub(super) orphans: BTreeMap<u32, Orphan>,
    /// The limits of time that run for the code in its lanes. Empty in a function without limits.
    limits: Vec<LaneLimit>,
    /// The number of lanes that have a lease.
    pub(super) leases: u32,
    /// Whether the lease is of an input that executes alone, so that no lane takes another.
    pub(super) alone: bool,
    /// The batch that the container puts together, or has put together last.
    pub(super) filling: Filling,
    /// Until this moment the container takes nothing new, because its code has crashed and the policy delays
    /// restarts. Only a container that lives on after a crash has such a moment.
    pub(super) held_until: Option<Time>,
    /// Whether the container restarts at once, even during a delay. It does if it had made progress or
    /// executed a known suspect when it crashed, or if it was recycled or interrupted.
    pub(super) at_once: bool,
    /// Whether the container's thread is about to begin its next generation. Changed within
    /// [`Ledger::change`] only.
    pub(super) returning: bool,
    /// The moment at which its code was found not to return at a limit, while no thread may be left behind
    /// any more. Written by `stays`, and cleared by `came_out`, within [`Ledger::change`].
    pub(super) hung: Option<Time>,
    /// The moment at which its `enter` has taken too long, if the engine looks at it.
    pub(super) enter_due: Option<Time>,
    /// The last crash of the function that this life has outlived: it was begun after that crash, or has
    /// completed (`Ok`) an input of a lease that it took after it.
    pub(super) proof: CrashNumber,
    /// The last crash before the most recent lease in which the container has completed an input, with `Ok`
    /// or `Err`.
    pub(super) done_proof: CrashNumber,
}

impl ContainerEntry {
    pub(super) fn new(life: LifeRecord) -> Self {
        Self {
            generation: Generation(0),
            stage: ContainerStage::Absent,
            life,
            lanes: vec![Lane::default()],
            orphans: BTreeMap::new(),
            limits: Vec::new(),
            leases: 0,
            alone: false,
            filling: Filling::default(),
            held_until: None,
            at_once: false,
            returning: false,
            hung: None,
            enter_due: None,
            proof: 0,
            done_proof: 0,
        }
    }
}

impl ContainerEntry {
    /// Whether the container lives, or is about to, and does not hang.
    pub(super) fn serves(&self) -> bool {
        self.goes_on() && self.hung.is_none()
    }

    /// Whether the container lives, or is about to on the thread that it has.
    pub(super) fn goes_on(&self) -> bool {
        self.returning
            || matches!(self.stage, ContainerStage::Starting | ContainerStage::Live | ContainerStage::Exiting)
    }
}

impl Ledger {
    pub(crate) fn containers(&self) -> impl Iterator<Item = ContainerId> + use<> {
        (0..self.rules.containers as u32).map(ContainerId).map(steps::each)
    }

    pub(crate) fn is_current(&self, id: ContainerId, generation: Generation) -> bool {
        let container = &self.containers[id.index()];
        container.generation == generation
            && matches!(container.stage, ContainerStage::Live | ContainerStage::Starting)
    }

    pub(crate) fn stage(&self, id: ContainerId) -> (Generation, ContainerStage) {
        let container = &self.containers[id.index()];
        (container.generation, container.stage)
    }

    /// Whether no lane of the container has a lease.
    pub(crate) fn is_container_empty(&self, id: ContainerId) -> bool {
        self.containers[id.index()].leases == 0
    }

    /// The last crash that a container has outlived, which decides which suspects it may replay.
    pub(crate) fn proof(&self, id: ContainerId) -> CrashNumber {
        self.containers[id.index()].proof
    }

    /// The limit of time that runs for the code in a lane.
    pub(super) fn limit_of(&self, id: LaneId) -> LaneLimit {
        let limits = &self.containers[id.container.index()].limits;
        limits.get(id.index()).copied().unwrap_or_default()
    }

    /// Returns the limit that ran before.
    pub(super) fn set_limit(&mut self, id: LaneId, limit: LaneLimit) -> LaneLimit {
        let limits = &mut self.containers[id.container.index()].limits;
        if limits.len() <= id.index() {
            limits.resize(id.index() + 1, LaneLimit::None);
        }
        std::mem::replace(&mut limits[id.index()], limit)
    }

    /// Begins the `enter` of a new generation of a container. Returns `None` if none may be created now.
    pub(crate) fn begin(&mut self, id: ContainerId, now: Time) -> Option<Generation> {
        if !self.goes_on() {
            return None;
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            self.stand_down();
            return None;
        }
        self.end_loop_if_stable(now);
        let life = self.restarts.started(now);
        let held = self.restarts.held_until(now);
        let container = &mut self.containers[id.index()];
        match container.stage {
            ContainerStage::Absent | ContainerStage::BackingOff { .. } => {}
            ContainerStage::Starting | ContainerStage::Live | ContainerStage::Exiting => return None,
        }
        if let Some(until) = held
            && !container.at_once
        {
            self.set_stage(id, ContainerStage::BackingOff { until });
            return None;
        }
        assert!(container.leases == 0, "container {id} begins with a lease");
        if container.generation.0 > 0 {
            self.restarted += 1;
        }
        container.generation.0 += 1;
        container.life = life;
        container.at_once = false;
        container.held_until = None;
        container.filling = Filling::default(); // the last batch was one of another generation
        container.orphans.clear();
        container.proof = self.crashes;
        container.done_proof = 0;
        let generation = container.generation;
        self.change(id, |container| container.returning = false);
        self.set_stage(id, ContainerStage::Starting);
        Some(generation)
    }

    /// Records that the container's `enter` succeeded. Returns `false` for an old generation.
    pub(crate) fn entered(&mut self, id: ContainerId, generation: Generation, now: Time) -> bool {
        let container = &mut self.containers[id.index()];
        if container.generation != generation || container.stage != ContainerStage::Starting {
            return false;
        }
        self.restarts.entered(&mut container.life, now);
        self.recycling.remove(&id);
        self.suspects.entered(now);
        self.unhold(); // the suspect for which a container becomes empty may now wait for this one
        self.set_stage(id, ContainerStage::Live);
        true
    }

    /// Lets a live container exit between two leases and begin a new generation. Returns `false` if no new
    /// generation may follow.
    pub(crate) fn recycle(&mut self, id: ContainerId, generation: Generation, now: Time) -> bool {
        let container = &mut self.containers[id.index()];
        let live = container.generation == generation && container.stage == ContainerStage::Live;
        if !live || self.mode != Mode::Running || self.gave_up.is_some() {
            return false;
        }
        self.recycled += 1;
        self.containers[id.index()].at_once = true;
        self.change(id, |container| container.returning = true);
        self.recycling.insert(id);
        self.end_loop_if_stable(now);
        self.set_stage(id, ContainerStage::Exiting);
        true
    }

    /// Records that the worker of a live container was interrupted after its lease had been recalled.
    /// This is neither a crash nor an exit, so the container restarts even during a delay. Returns
    /// `false` for an old generation.
    pub(crate) fn interrupted(&mut self, id: ContainerId, generation: Generation, now: Time) -> bool {
        let container = &mut self.containers[id.index()];
        if container.generation != generation || container.stage != ContainerStage::Live {
            return false;
        }
        assert!(container.leases == 0, "container {id} begins anew with a lease");
        container.at_once = true;
        container.orphans.clear();
        self.end_loop_if_stable(now);
        self.set_stage(id, ContainerStage::Absent);
        true
    }

    /// Records that the container ended without a crash: it exited, or was stopped before it had entered.
    pub(crate) fn left(&mut self, id: ContainerId, generation: Generation) {
        let container = &mut self.containers[id.index()];
        let lives = matches!(
            container.stage,
            ContainerStage::Starting | ContainerStage::Live | ContainerStage::Exiting
        );
        if container.generation == generation && lives {
            assert!(container.leases == 0, "container {id} leaves with a lease");
            self.set_stage(id, ContainerStage::Absent);
        }
    }

    /// Records that the thread of `generation` has ended or was left behind, so that it does not begin
    /// another generation. The thread of an older generation may end after a newer generation has
    /// crashed, and is ignored.
    pub(crate) fn thread_ended(&mut self, id: ContainerId, generation: Generation) {
        if self.containers[id.index()].generation == generation {
            self.change(id, |container| container.returning = false);
            self.recycling.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, ledger};
    use crate::decide::restart::RateLimited;

    #[test]
    fn a_later_mode_does_not_go_back() {
        let mut ledger = ledger(RateLimited::new().into());
        ledger.advance_mode(Mode::Stopping);
        ledger.advance_mode(Mode::Draining);
        assert_eq!(ledger.mode(), Mode::Stopping);
        assert!(!ledger.goes_on());
        assert!(ledger.begin(FIRST, START).is_none(), "no container is created any more");
    }

    #[test]
    fn an_interruption_ends_the_generation_of_a_live_container_only() {
        let mut ledger = ledger(RateLimited::new().into());
        let first = ledger.begin(FIRST, START).expect("the container may begin");
        assert!(!ledger.interrupted(FIRST, first, START), "the container has not entered");
        assert!(ledger.entered(FIRST, first, START));
        assert!(
            !ledger.interrupted(FIRST, Generation(first.0 + 1), START),
            "the generation is not the current one"
        );
        assert!(ledger.interrupted(FIRST, first, START));
        assert!(!ledger.is_current(FIRST, first));
    }

    #[test]
    fn only_a_first_life_is_no_restart() {
        let mut rig = Rig::new(2, RateLimited::new());
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        assert_eq!(rig.ledger.lives().restarts, 0);
        rig.crashes(FIRST, at(1));
        rig.enters(FIRST, at(2));
        assert_eq!((rig.ledger.lives().crashes, rig.ledger.lives().restarts), (1, 1));
    }

    #[test]
    fn what_an_old_generation_says_changes_nothing() {
        let mut rig = Rig::new(1, RateLimited::new());
        let old = rig.enters(FIRST, START);
        rig.crashes(FIRST, START);
        let young = rig.ledger.begin(FIRST, START).expect("it may begin");
        assert!(!rig.ledger.entered(FIRST, old, START));
        rig.ledger.left(FIRST, old);
        assert_eq!(rig.ledger.stage(FIRST), (young, ContainerStage::Starting));
        assert!(rig.ledger.entered(FIRST, young, START));
        assert!(!rig.ledger.entered(FIRST, young, START), "it has entered already");
        assert!(!rig.ledger.recycle(FIRST, old, START));
        assert!(rig.ledger.recycle(FIRST, young, START));
        rig.ledger.left(FIRST, young);
        rig.ledger.thread_ended(FIRST, old);
        assert!(!rig.ledger.is_deserted(), "the thread of the young one begins anew");
        rig.ledger.left(FIRST, young);
        assert_eq!(rig.ledger.stage(FIRST), (young, ContainerStage::Absent));
    }

    #[test]
    fn a_live_container_of_a_function_that_goes_on_is_recycled_and_no_other() {
        for (live, mode, gave_up, recycled) in [
            (true, Mode::Running, false, true),
            (false, Mode::Running, false, false),
            (true, Mode::Draining, false, false),
            (true, Mode::Running, true, false),
        ] {
            let mut rig = Rig::new(2, RateLimited::new().max_crashes(0));
            let first = rig.ledger.begin(FIRST, START).expect("it may begin");
            let second = rig.enters(SECOND, START);
            if live {
                rig.ledger.entered(FIRST, first, START);
            }
            if gave_up {
                rig.crashes(SECOND, START);
            } else {
                rig.ledger.left(SECOND, second);
            }
            rig.ledger.advance_mode(mode);
            assert_eq!(rig.ledger.recycle(FIRST, first, START), recycled, "{live} {mode:?} {gave_up}");
            assert_eq!(rig.ledger.lives().recycled, u64::from(recycled));
        }
    }
}

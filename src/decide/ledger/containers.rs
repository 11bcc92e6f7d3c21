//! The entry of each container in the ledger, and the state of its current generation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, JobId, LaneId};
use crate::decide::ledger::batches::Filling;
use crate::decide::ledger::leavers::Leaver;
use crate::decide::ledger::{CrashNumber, Lease, Ledger, Mode};
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

impl Lane {
    /// The input that executes, or is about to.
    pub(super) fn executing(&self) -> Option<(Lease, u64)> {
        let lease = self.lease.filter(|lease| self.committed < lease.span.end())?;
        Some((lease, self.committed.max(lease.span.first)))
    }
}

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

    /// The lanes that have leased several inputs. Some of these may not have begun.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = LaneId> {
        self.ahead.all()
    }

    /// The lanes that have leased several inputs of `job`.
    pub(crate) fn ahead_of(&self, job: JobId) -> impl Iterator<Item = LaneId> {
        self.ahead.of(job)
    }

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

    /// The number of containers that are in their `exit`.
    pub(crate) fn exiting(&self) -> usize {
        self.stages.exiting
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

    /// The number of containers that live, or are about to on the thread that they have, and do not hang.
    pub(super) fn serving(&self) -> usize {
        self.stages.serving
    }

    /// Whether there are changes to report or crashes to drop outside of the lock.
    pub(crate) fn has_news(&self) -> bool {
        !self.changes.is_empty() || !self.discarded.is_empty() || self.recovered || self.unheld.is_some()
    }

    /// Takes the container that was to become empty, and now need not.
    pub(crate) fn take_unheld(&mut self) -> Option<ContainerId> {
        self.unheld.take()
    }

    /// Takes the changes since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
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

    pub(crate) fn lease(&self, id: impl Into<LaneId>) -> Option<Lease> {
        self.lane(id.into())?.lease
    }

    /// The moment at which the next container that is backing off may be created.
    pub(crate) fn next_creation(&self, now: Time) -> Option<Time> {
        let (until, _) = self.stages.first_backing_off()?;
        Some(if self.restarts.held_until(now).is_none() { now } else { until })
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

    /// The last crash that a container has outlived, which decides which suspects it may replay.
    pub(crate) fn proof(&self, id: ContainerId) -> CrashNumber {
        self.containers[id.index()].proof
    }

    /// The execution in a lane that goes on although its input's job is over.
    pub(crate) fn orphan(&self, id: impl Into<LaneId>) -> Option<Orphan> {
        let id = id.into();
        self.containers[id.container.index()].orphans.get(&id.lane).copied()
    }

    /// Sets the execution in a lane that goes on, or forgets it.
    pub(super) fn set_orphan(&mut self, id: LaneId, orphan: Option<Orphan>) {
        let orphans = &mut self.containers[id.container.index()].orphans;
        match orphan {
            Some(orphan) => _ = orphans.insert(id.lane, orphan),
            None => _ = orphans.remove(&id.lane),
        }
    }

    /// Whether a crash loop has ended since the last call, so that containers that wait for
    /// its delay may come back.
    pub(crate) fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, rules};
    use crate::decide::restart::{CrashLoopBackoff, RateLimited, RestartPolicy};

    fn ledger(restart: RestartPolicy) -> Ledger {
        let mut rig = Rig::new(2, restart);
        std::mem::replace(&mut rig.ledger, Ledger::new(rules(2)))
    }

    fn enters(ledger: &mut Ledger, id: ContainerId) -> Generation {
        let generation = ledger.begin(id, START).expect("the container may begin");
        assert!(ledger.entered(id, generation, START));
        generation
    }

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
    fn the_ledger_has_news_until_its_changes_are_taken() {
        let mut ledger = ledger(RateLimited::new().into());
        assert!(!ledger.has_news());
        enters(&mut ledger, FIRST);
        assert!(ledger.has_news());
        assert_eq!(ledger.take_changes().len(), 2, "starting and live are two changes");
        assert!(!ledger.has_news());
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

    /// A container that backs off until 11 ms.
    fn backing_off() -> Rig {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.fails_to_start(FIRST, at(0));
        rig.fails_to_start(FIRST, at(1));
        assert_eq!(rig.ledger.stage(FIRST), (Generation(2), ContainerStage::BackingOff { until: at(11) }));
        rig
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

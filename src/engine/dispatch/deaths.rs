//! How a container dies: by a crash, by hand, or for too much memory.
//!
//! All three share `Dispatch::die`. A crash is reported by the container's own thread, which has unwound out
//! of the user's code. The other two deaths come from outside: the run is fenced, and the thread may have to
//! be left behind.

use std::sync::Arc;

use crate::base::ids::{Attempt, ContainerId, Generation, JobId, LaneId};
use crate::base::position::Position;
use crate::contain::drops::defer;
use crate::data::failure::{Reason, Tried};
use crate::data::shape::Why;
use crate::decide::ledger::{AfterCrash, ContainerStage, Mode, Scene, Verdict};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::seats::LaneSeat;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::messages::Notice;
use crate::values::crash::{Crash, Death};
use crate::values::event::Event;

impl Dispatch {
    /// A container has crashed. Returns `None` if its generation was over already.
    pub(crate) fn crashed(&self, id: ContainerId, generation: Generation, death: Death) -> Option<Restart> {
        let described = self.describe_executing(id, generation);
        let mut state = self.lock();
        let now = self.now();
        if !state.ledger.is_current(id, generation) || state.broken.is_some() {
            return None;
        }
        state.observed.describes(described);
        state.commit_for_verdict(id, now);
        let mut scene = Scene { culprit: self.culprit(&state, id), positions: Vec::new() };
        let leased: Vec<LaneId> = state.ledger.leased_by(id).collect();
        for lane in leased {
            let run = state.lane_mut(lane).run.take();
            scene.positions.extend(run.as_ref().map(|run| (lane, run.fence_here())));
            state.spent.extend(run);
        }
        state.seats[id.index()].lanes.iter_mut().for_each(|lane| lane.at_work = false);
        let dying = Dying { death, abandoned: false, lives_on: false };
        self.dies_by_itself(&mut state, id, &scene, dying, now)
    }

    /// Kills a container by hand. Returns the generation that ended, or `None` if the container did not live.
    pub(crate) fn kill(&self, id: ContainerId) -> Option<Generation> {
        let mut state = self.lock();
        let (generation, stage) = state.ledger.stage(id);
        let aborted = state.ledger.mode() == Mode::Aborted; // an aborted container ends by itself
        if !matches!(stage, ContainerStage::Live | ContainerStage::Starting)
            || aborted
            || state.broken.is_some()
        {
            return None;
        }
        self.die_from_outside(&mut state, id, |_| Death::Killed)?;
        Some(generation)
    }

    /// The account of a container is over its limit, and the container's thread has not unwound by itself.
    pub(crate) fn over_limit(self: &Arc<Self>, id: ContainerId, generation: Generation) {
        let mut state = self.lock();
        if !state.ledger.is_current(id, generation) || state.broken.is_some() {
            return; // the thread has unwound meanwhile
        }
        if state.ledger.mode() == Mode::Aborted {
            return; // the abort has detached the thread already
        }
        let Some((limit, used)) = state.limit_and_use(id, generation) else { return };
        let death = |abandoned: bool| Death::MemoryLimit { limit, used, reclaimed: !abandoned };
        if let Some(restart) = self.die_from_outside(&mut state, id, death) {
            self.notify(Notice::Fenced { restart });
        }
        // Users' wakers and subscribers may block, and the thread of the memory watch must not, so they run
        // on another thread. The outbox keeps the events in order.
        let deferred = state.release();
        let told = Arc::clone(self);
        defer(self.settings.stack(), move || told.run_deferred(deferred));
    }

    /// A container dies while its thread is in the user's code. The run is fenced, and the thread is left
    /// behind unless its code waits in a task. `death` gets whether the thread is left behind. Returns `None`
    /// if the function is broken.
    pub(super) fn die_from_outside(
        &self,
        state: &mut State,
        id: ContainerId,
        death: impl FnOnce(bool) -> Death,
    ) -> Option<Restart> {
        self.die_off(state, id, Stuck::Perhaps, death)
    }

    /// A container dies whose thread is known to be stuck in code of the user's. It is left behind there.
    pub(super) fn dies_stuck(
        &self,
        state: &mut State,
        id: ContainerId,
        death: impl FnOnce(bool) -> Death,
    ) -> Option<Restart> {
        self.die_off(state, id, Stuck::Surely, death)
    }

    fn die_off(
        &self,
        state: &mut State,
        id: ContainerId,
        stuck: Stuck,
        death: impl FnOnce(bool) -> Death,
    ) -> Option<Restart> {
        let now = self.now();
        let (generation, _) = state.ledger.stage(id);
        state.commit_for_verdict(id, now);
        let mut scene = Scene::default();
        let leased: Vec<LaneId> = state.ledger.leased_by(id).collect();
        for lane in leased {
            scene.positions.extend(state.fence(lane, now).map(|position| (lane, position)));
            if state.broken.is_some() {
                return None;
            }
        }
        let abandoned = match stuck {
            Stuck::Perhaps => {
                scene.culprit = match state.ledger.is_batched() {
                    true => state.executes_alone(id, &scene.positions),
                    false => state.lane_in_code(id, &scene).or_else(|| scene.only_executing()),
                };
                state.would_be_abandoned(id, &scene)
            }
            Stuck::Surely => {
                scene.culprit = state.stuck_lane(id, &scene);
                state.seats[id.index()].suspended = false;
                true
            }
        };
        let dying = Dying { death: death(abandoned), abandoned, lives_on: false };
        let restart = self.die(state, id, &scene, dying, now)?;
        state.detach(id, generation, now);
        self.rouse(state, id, generation);
        self.after_death(state, now);
        Some(restart)
    }

    /// Records the death of a container whose run is fenced, and carries out the verdict on its inputs.
    fn die(
        &self,
        state: &mut State,
        id: ContainerId,
        scene: &Scene,
        Dying { death, abandoned, lives_on }: Dying,
        now: Time,
    ) -> Option<Restart> {
        state.ledger.end_loop_if_stable(now); // this is reported before the death
        let (generation, _) = state.ledger.stage(id);
        let leaving = state.leaving(id, abandoned, &self.settings);
        let mut jobs: Vec<JobId> =
            scene.positions.iter().filter_map(|(lane, _)| Some(state.ledger.lease(*lane)?.job)).collect();
        jobs.sort_unstable(); // each job is refreshed and swept once
        jobs.dedup();
        let by_hand = matches!(death, Death::Killed);
        let job = scene.culprit.and_then(|lane| state.ledger.lease(lane)).map(|lease| lease.job);
        let (executing, caller) = state.blamed(scene, by_hand);
        let peak_bytes = state.peak(id, generation);
        let (map, call) = (caller.label().cloned(), caller.call());
        let crash = Arc::new(Crash { container: id, generation, executing, map, call, peak_bytes, death });
        state.sees_death(&crash, job, now);
        let event: fn(Arc<Crash>) -> Event = if by_hand { Event::Killed } else { Event::Crashed };
        state.emit_for(event(Arc::clone(&crash)), caller, now);
        let (restart, inputs) = if by_hand {
            // A kill is no crash. No restart policy decides about it, and the supervisor restarts the
            // container at once.
            (Restart::Now, state.ledger.killed(id, scene, &crash, leaving, now))
        } else {
            let Verdict { restart, inputs } = match scene.culprit.filter(|_| lives_on) {
                Some(lane) => state.ledger.crashed_in_lane(lane, generation, scene, &crash, now)?,
                None => state.ledger.crashed(id, generation, scene, &crash, leaving, now)?,
            };
            (restart, inputs)
        };
        state.emit_if_given_up(&crash, now);
        state.emit_delay(restart, &crash, now);
        jobs.iter().for_each(|job| state.refresh_window(*job));
        for after in inputs {
            state.after_crash(after, now);
        }
        jobs.iter().for_each(|job| state.sweep_job(*job, now));
        Some(restart)
    }

    /// Records a crash that the container's own thread reports.
    fn dies_by_itself(
        &self,
        state: &mut State,
        id: ContainerId,
        scene: &Scene,
        dying: Dying,
        now: Time,
    ) -> Option<Restart> {
        let restart = self.die(state, id, scene, dying, now);
        state.observed.describes(None); // it was for the input of this crash, and for no other
        let restart = restart?;
        self.after_death(state, now);
        // The lock is still held, so that no consequence of the verdict overtakes this notice.
        self.notify(Notice::Crashed { restart });
        Some(restart)
    }

    /// Wakes only the containers that have something to do after a death.
    fn after_death(&self, state: &mut State, now: Time) {
        self.pass_on(state, now);
        self.wake_if_drained(state);
        self.changed.notify_threads();
    }
}

/// Whether the thread of a container that dies is stuck in the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// The engine knows only whether the code waits in a task.
    Perhaps,
    /// The thread has not returned, although its attempt was cut.
    Surely,
}

/// How a container dies.
struct Dying {
    death: Death,
    /// Whether its thread is left behind in the user's code.
    abandoned: bool,
    /// Whether only the lane of the culprit ends, because the others have no state to lose.
    lives_on: bool,
}

impl Dispatch {
    /// The lane whose code the container's own thread has just left by a panic. `None` if it was in no lane.
    pub(super) fn culprit(&self, state: &State, id: ContainerId) -> Option<LaneId> {
        if self.settings.rules.batch.is_some() {
            let at = |lane| Some((lane, state.run(lane)?.look()));
            let positions: Vec<(LaneId, Position)> = state.ledger.leased_by(id).filter_map(at).collect();
            return state.executes_alone(id, &positions);
        }
        if self.settings.rules.lanes == 1 {
            return Some(id.into());
        }
        let (_, token) = state.seats[id.index()].token.as_ref()?;
        token.culprit().map(|lane| LaneId::new(id, lane))
    }

    /// Code in a lane has crashed, and the container lives on, because its code has no state that the others
    /// could lose. Returns `None` if the generation was over already.
    pub(crate) fn crashed_in_lane(
        &self,
        lane: LaneId,
        generation: Generation,
        death: Death,
    ) -> Option<Restart> {
        let id = lane.container;
        let described = self.describe_executing(id, generation);
        let mut state = self.lock();
        let now = self.now();
        if !state.ledger.is_current(id, generation) || state.broken.is_some() {
            return None;
        }
        state.observed.describes(described);
        state.commit_for_lane(lane, now);
        let run = state.lane_mut(lane).run.take();
        let position = run.as_ref().map(|run| (lane, run.fence_here()));
        state.spent.extend(run);
        state.lane_mut(lane).at_work = false;
        let scene = Scene { culprit: Some(lane), positions: position.into_iter().collect() };
        let dying = Dying { death, abandoned: false, lives_on: true };
        self.dies_by_itself(&mut state, id, &scene, dying, now)
    }
}

impl State {
    /// The lane in whose code a container's thread is. `None` if all its code waits. Among several lanes, one
    /// that has not begun or has come back is in no code.
    pub(super) fn lane_in_code(&self, id: ContainerId, scene: &Scene) -> Option<LaneId> {
        let lanes = &self.seats[id.index()].lanes;
        if lanes.len() == 1 {
            return Some(id.into());
        }
        self.lane_at_work(id, scene)
    }

    /// The lane in whose code the thread of a container is stuck. `None` if it is in no attempt, or if the
    /// attempt is not known.
    fn stuck_lane(&self, id: ContainerId, scene: &Scene) -> Option<LaneId> {
        match self.ledger.is_batched() {
            true => self.executes_alone(id, &scene.positions),
            false => self.lane_at_work(id, scene),
        }
    }

    /// The scene of a container that hangs and is kept. Its runs go on, so they are not fenced. While the
    /// thread is stuck their positions stand still.
    pub(super) fn scene_of_hang(&self, id: ContainerId) -> Scene {
        let at = |lane| Some((lane, self.run(lane)?.look()));
        let positions = self.ledger.leased_by(id).filter_map(at).collect();
        let scene = Scene { culprit: None, positions };
        Scene { culprit: self.stuck_lane(id, &scene), ..scene }
    }

    /// The input that is blamed for a scene, with its attempt and its caller. A kill by hand names no input
    /// whose job is over.
    pub(super) fn blamed(&self, scene: &Scene, by_hand: bool) -> (Option<(u64, Attempt)>, Caller) {
        let Some((lane, position)) = scene.culprit() else { return (None, Caller::default()) };
        let orphan = self.ledger.orphan(lane).filter(|_| !by_hand);
        let executing = self.executing(lane, position);
        let executing = executing.or(orphan.map(|orphan| (orphan.index, orphan.attempt)));
        (executing, if executing.is_some() { self.caller(lane) } else { Caller::default() })
    }

    /// The lane whose code does not wait in a task. `None` if all of it waits, so that the thread is in no
    /// attempt.
    fn lane_at_work(&self, id: ContainerId, scene: &Scene) -> Option<LaneId> {
        let lanes = &self.seats[id.index()].lanes;
        let is_batched = self.ledger.is_batched();
        if is_batched && lanes.first().is_some_and(|first| first.suspended) {
            return None; // the parts of a batch have one task
        }
        // A run knows whether its task waits, until it is fenced.
        let waits = |lane: &LaneSeat| lane.run.as_ref().map_or(lane.suspended, |run| run.is_suspended());
        let runs = |lane: &LaneSeat| lane.at_work && (is_batched || !waits(lane));
        let mut at_work = lanes.iter().enumerate().filter(|(_, lane)| runs(lane));
        at_work.find_map(|(lane, _)| {
            Some(LaneId::new(id, lane as u32)).filter(|lane| self.is_in_code(*lane, scene))
        })
    }

    fn is_in_code(&self, lane: LaneId, scene: &Scene) -> bool {
        scene.has_begun(lane) || self.ledger.orphan(lane).is_some()
    }

    /// The input that was executing at `position` of a lane's lease, with its attempt.
    pub(super) fn executing(&self, id: LaneId, position: Option<Position>) -> Option<(u64, Attempt)> {
        let at = position.filter(|position| position.begun)?.at;
        let lease = self.ledger.lease(id)?;
        let attempt = self.ledger.job(lease.job).map_or(lease.attempt, |job| job.attempt(at));
        Some((at, attempt))
    }

    /// Carries out the decision about an input that was executing.
    pub(super) fn after_crash(&mut self, after: AfterCrash, now: Time) {
        match after {
            AfterCrash::Pending { input } => self.move_out(input),
            AfterCrash::Poisoned { input, attempts, deaths, ends_map } => {
                let caller = self
                    .buffers
                    .get(input.job)
                    .map_or_else(Caller::default, |buffers| buffers.caller().clone());
                let (map, call) = (caller.label().cloned(), caller.call());
                self.sees_poisoned(input, attempts, deaths.last(), &caller, now);
                self.emit_for(Event::Poisoned { map, call, input: input.index, attempts }, caller, now);
                let why = Why::Reason(Reason::Poisoned(deaths));
                self.fail(input, attempts.get().into(), why, ends_map, now);
            }
            AfterCrash::Lost { input, attempts, deaths, crash, ends_map } => {
                let tried = Tried { attempts: attempts.get(), deaths, peak_bytes: None };
                self.fail(input, tried, Why::Reason(Reason::Lost(crash)), ends_map, now);
            }
            AfterCrash::TimedOut { input, attempts, deaths, limit, ends_map } => {
                let tried = Tried { attempts: attempts.get(), deaths, peak_bytes: None };
                self.fail(input, tried, Why::Reason(Reason::TimedOut { limit }), ends_map, now);
            }
        }
    }

    /// Emits the delay that a crash loop has reached. Deaths that are followed by the same delay emit it
    /// once.
    fn emit_delay(&mut self, restart: Restart, crash: &Arc<Crash>, now: Time) {
        if let (Restart::At(due), Some((crashes, since))) = (restart, self.ledger.crash_loop(now))
            && self.delay_emitted != Some(due)
        {
            self.delay_emitted = Some(due);
            let (since, next_restart) = (now.since(since), due.since(now));
            self.emit(Event::CrashLoop { crashes, since, next_restart, crash: Arc::clone(crash) }, now);
        }
    }

    /// Emits that the function gave up after a thread had ended, and not at a crash.
    pub(super) fn emit_gave_up(&mut self, now: Time) {
        if let Some(gave_up) = self.ledger.gave_up().cloned() {
            self.emit(Event::GaveUp(gave_up), now);
        }
    }

    /// Emits that the function gave up, if `crash` was the reason.
    fn emit_if_given_up(&mut self, crash: &Arc<Crash>, now: Time) {
        let gave_up = self.ledger.gave_up().filter(|gave_up| Arc::ptr_eq(gave_up.last(), crash));
        if let Some(gave_up) = gave_up.cloned() {
            self.emit(Event::GaveUp(gave_up), now);
        }
    }
}

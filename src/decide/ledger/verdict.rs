//! The verdict on a container that has crashed, or was killed by hand: whether it comes back, and what
//! becomes of its leases. The inputs that were executing are decided on in `blame`, and where they wait
//! in `requeue`.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation, InputId, LaneId};
use crate::decide::job::InputRecord;
use crate::decide::ledger::blame::NextTime;
use crate::decide::ledger::{AfterCrash, ContainerStage, Leaving, Ledger, Pressure, Scene};
use crate::decide::restart::{DeathFacts, Restart};
use crate::decide::time::Time;
use crate::values::crash::{Crash, CrashKind};

/// The decision on a crash.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) restart: Restart,
    /// The decisions on the input that was executing, and on inputs that must not be replayed any more.
    pub(crate) inputs: Vec<AfterCrash>,
}

/// The parts of a verdict that do not depend on whether the container lives on.
struct Judged {
    death: DeathFacts,
    restart: Restart,
    /// The decision on the input whose code ended the container.
    culprit: Option<AfterCrash>,
}

impl Ledger {
    /// Decides on the crash of a container. `scene` is how far the container was in its leases. The inputs
    /// that it completed before are committed already. Returns `None` for an old generation.
    pub(crate) fn crashed(
        &mut self,
        id: ContainerId,
        generation: Generation,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Option<Verdict> {
        if !self.is_current(id, generation) {
            return None;
        }
        let Judged { death, mut restart, culprit } = self.judge(id, scene, crash, leaving, now);
        let mut inputs: Vec<AfterCrash> = culprit.into_iter().collect();
        let together = self.rules.batch.is_some() && scene.culprit.is_none();
        if together {
            inputs = self.halve(id, scene, crash, leaving);
        }
        // If no input is known to have crossed the memory limit, it may have been any of them.
        let unknown = scene.culprit.is_none() && crash.death.kind() == CrashKind::MemoryLimit;
        let next_time = if unknown { NextTime::Alone } else { NextTime::AsItComes };
        for (lane, position) in &scene.positions {
            if scene.culprit != Some(*lane) && !together {
                inputs.extend(self.set_free(*lane, *position, next_time, crash, leaving.of_innocent()));
            }
            self.give_back(*lane, *position, now);
        }
        inputs.extend(self.is_left_behind(scene, leaving));
        self.containers[id.index()].at_once = !death.is_loop_crash();
        self.recycling.remove(&id);
        let restarts_in_place = restart == Restart::Now && !leaving.abandoned;
        self.change(id, |container| container.returning = restarts_in_place);
        if !restarts_in_place && self.is_hopeless(id, leaving) {
            restart = Restart::GiveUp;
        }
        if restart == Restart::GiveUp && self.goes_on() {
            self.give_up(Arc::clone(crash));
        }
        self.set_stage(
            id,
            match restart {
                Restart::At(until) if self.goes_on() => ContainerStage::BackingOff { until },
                Restart::Now | Restart::At(_) | Restart::GiveUp => ContainerStage::Absent,
            },
        );
        self.end_under_pressure(leaving, &mut inputs);
        self.totals.after_crash(&inputs);
        self.note_arrival(now); // something may wait again
        Some(Verdict { restart, inputs })
    }

    /// Decides on a crash in one lane of a container whose code has no state. The other lanes have nothing to
    /// lose, so the container lives on. It counts as entered after the crash, and takes nothing new inside a
    /// delay of the policy. Returns `None` for an old generation.
    pub(crate) fn crashed_in_lane(
        &mut self,
        lane: LaneId,
        generation: Generation,
        scene: &Scene,
        crash: &Arc<Crash>,
        now: Time,
    ) -> Option<Verdict> {
        let id = lane.container;
        if !self.is_current(id, generation) {
            return None;
        }
        let stays = Leaving { abandoned: false, pressure: Pressure::None };
        let Judged { restart, culprit, .. } = self.judge(id, scene, crash, stays, now);
        if let Some((_, Some(position))) = scene.culprit() {
            self.give_back(lane, position, now);
        }
        if restart == Restart::GiveUp && self.goes_on() {
            self.give_up(Arc::clone(crash));
        }
        let held_until = if let Restart::At(until) = restart { Some(until) } else { None };
        let mut life = self.restarts.started(now);
        self.restarts.entered(&mut life, held_until.unwrap_or(now)); // it does not stay up while it is held
        self.suspects.entered(now);
        if self.clearing == Some(id) && held_until.is_some() {
            self.clearing = None; // another container may execute the input sooner
        }
        let container = &mut self.containers[id.index()];
        container.life = life;
        container.proof = self.crashes;
        container.done_proof = 0;
        container.held_until = held_until;
        let inputs: Vec<AfterCrash> = culprit.into_iter().collect();
        self.totals.after_crash(&inputs);
        Some(Verdict { restart, inputs })
    }

    /// Counts a crash, and decides on the restart and on the input that is to blame.
    fn judge(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Judged {
        self.crashes += 1;
        let before = self.last_crash.replace((now, Arc::clone(crash)));
        self.discarded.extend(before.map(|(_, crash)| crash));
        self.end_loop_if_stable(now);
        let culprit = scene.culprit();
        let executing = culprit.and_then(|(lane, position)| self.executing(lane, position));
        let record = executing.and_then(|input| self.record(input));
        let orphan = culprit.and_then(|(lane, _)| self.orphan(lane));
        let life = self.containers[id.index()].life;
        let death = DeathFacts {
            life,
            spare: life.entered.is_none() && self.others_serve(id),
            suspect: self.executes_half(id)
                || record.is_some_and(InputRecord::is_suspect)
                || orphan.is_some_and(|orphan| orphan.suspect),
            input_counted: record.map_or(orphan.and_then(|orphan| orphan.counted), |record| record.counted),
        };
        let (restart, counted) = self.restarts.crashed(death, now);
        if self.restarts.may_give_up() {
            self.causes.add(crash, now, &mut self.discarded);
        }
        let container = &self.containers[id.index()];
        let outlived = container.proof.max(container.done_proof);
        // It is not known which of several inputs has filled the memory. The one that crossed the limit shows
        // that when it executes alone.
        let others_go_on = self.containers[id.index()].leases as usize > scene.positions.len();
        let is_crowded = scene.is_crowded() || others_go_on;
        let is_known = crash.death.kind() != CrashKind::MemoryLimit || !is_crowded;
        let is_innocent = crash.death.kind() == CrashKind::Unresponsive;
        self.leaver_counts(scene, counted, now);
        let culprit = executing.map(|input| {
            if is_innocent {
                self.set_input_free(input, NextTime::AsItComes, crash, leaving)
            } else if is_known {
                self.blame(input, outlived, crash, counted, leaving, now)
            } else {
                self.set_input_free(input, NextTime::Alone, crash, leaving)
            }
        });
        Judged { death, restart, culprit }
    }

    /// Decides on a container that was killed by hand. It is not blamed, spends no budget, and is no crash
    /// in the policy's count.
    pub(crate) fn killed(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Vec<AfterCrash> {
        self.end_loop_if_stable(now);
        let mut inputs = Vec::new();
        let is_half = self.executes_half(id);
        if is_half {
            inputs = self.replay_half(id, scene, crash, leaving);
        }
        for (lane, position) in &scene.positions {
            let executing = self.executing_span(*lane, Some(*position)).filter(|_| !is_half);
            let is_in_code = scene.culprit == Some(*lane);
            let leaving = if is_in_code { leaving } else { leaving.of_innocent() };
            for (job, index) in
                executing.into_iter().flat_map(|(job, span)| span.indices().map(move |at| (job, at)))
            {
                inputs.push(self.interrupt_by_hand(InputId { job, index }, crash, leaving));
            }
            self.give_back(*lane, *position, now);
        }
        inputs.extend(self.is_left_behind(scene, leaving));
        self.set_stage(id, ContainerStage::Absent);
        self.recycling.remove(&id);
        if self.is_hopeless(id, leaving) && self.goes_on() {
            self.give_up(Arc::clone(crash));
        }
        self.end_under_pressure(leaving, &mut inputs);
        self.totals.after_crash(&inputs);
        self.note_arrival(now); // something may wait again
        inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::Mode;
    use crate::decide::ledger::fixture::{FIRST, Rig, START, UNCROWDED, at};
    use crate::decide::restart::RateLimited;

    #[test]
    fn an_old_generation_has_no_verdict() {
        let mut rig = Rig::new(1, RateLimited::new());
        let old = rig.enters(FIRST, START);
        rig.crashes(FIRST, START);
        rig.enters(FIRST, START);
        let crash = crate::decide::ledger::fixture::crash(FIRST, old);
        assert!(rig.ledger.crashed(FIRST, old, &Scene::default(), &crash, UNCROWDED, START).is_none());
        assert_eq!(rig.ledger.lives().crashes, 1);
    }

    #[test]
    fn no_container_of_a_function_that_stops_waits_to_be_created_again() {
        for (mode, waits) in [(Mode::Running, true), (Mode::Stopping, false)] {
            let mut rig = Rig::new(1, RateLimited::new());
            rig.fails_to_start(FIRST, START);
            rig.ledger.begin(FIRST, START).expect("it may begin");
            rig.ledger.advance_mode(mode);
            assert_eq!(rig.crashes(FIRST, START).restart, Restart::At(at(10)));
            let (_, stage) = rig.ledger.stage(FIRST);
            assert_eq!(stage == ContainerStage::BackingOff { until: at(10) }, waits, "{stage:?}");
        }
    }
}

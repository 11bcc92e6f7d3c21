//! A naive model: the state that every input must be in, worked out from the events of the world.
//!
//! The model knows no ranges, queues or leases, but only single inputs. It judges each event of a world by
//! the contract. The checks name the numbers of the invariants in `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::job::{DEATHS_MAX, JobKind};
use crate::decide::ledger::Mode;
use crate::decide::limits::Limits;
use crate::decide::time::Time;
use crate::simulator::containers::Dying;
use crate::simulator::ends::EndModel;
use crate::simulator::events::EventModel;
pub(super) use crate::simulator::inputs::{
    EndReason, ExpectedEnd, InputModel, InputState, JobModel, OrphanModel, WaitsFor,
};
use crate::simulator::little_room::LittleRoom;
use crate::simulator::plan::WorldPlan;
use crate::simulator::policy::NaivePolicy;
use crate::simulator::suspects::NaiveSuspects;
use crate::simulator::time_facts::TimeFacts;
use crate::simulator::time_model::LeaverModel;

/// The model of one world.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) plan: WorldPlan,
    pub(super) policy: NaivePolicy,
    pub(super) jobs: BTreeMap<JobId, JobModel>,
    pub(super) mode: Mode,
    pub(super) gave_up: bool,
    pub(super) paused: bool,
    /// The answers that were refused.
    pub(super) late: u64,
    pub(super) crashes: u64,
    pub(super) restarts: u64,
    /// The current generation of each container.
    pub(super) current: BTreeMap<ContainerId, Generation>,
    /// The containers that replay known suspects, and those that may.
    pub(super) suspects: NaiveSuspects,
    /// The number of leases of calls since the last lease of a map.
    pub(super) calls_in_a_row: usize,
    pub(super) fresh_calls_in_a_row: usize,
    /// Whether a retry, and not a new input, was dispatched last of these two kinds.
    pub(super) retried_last: bool,
    /// The largest number of maps that were open at once.
    pub(super) maps_most: usize,
    pub(super) little_room: LittleRoom,
    /// The executions that go on although their job is over, by container.
    pub(super) orphans: BTreeMap<ContainerId, OrphanModel>,
    /// Whether a container may restart at once, because it last died after progress or of a known suspect.
    pub(super) at_once: BTreeMap<ContainerId, bool>,
    /// The containers that are recycled and have not begun their next generation.
    pub(super) recycling: BTreeSet<ContainerId>,
    /// The containers that have not entered, or have not come back from their last lease.
    pub(super) busy: BTreeSet<ContainerId>,
    /// The threads that were left behind in the user's code, with the bytes that they hold.
    pub(super) left_behind: BTreeMap<(ContainerId, Generation), u64>,
    /// The containers whose code was cut at a limit and has not returned.
    pub(super) leavers: BTreeMap<ContainerId, LeaverModel>,
    /// The containers that hang and are kept.
    pub(super) hung: BTreeSet<ContainerId>,
    /// When the engine looks whether the `enter` of a container has taken too long.
    pub(super) enters: BTreeMap<(ContainerId, Generation), Time>,
    /// The containers in their `exit`.
    pub(super) exiting: BTreeSet<ContainerId>,
    /// The containers that are not alive, but whose threads are about to begin the next generation.
    pub(super) returning: BTreeSet<ContainerId>,
    /// How the container dies that is dying now.
    pub(super) dying: Dying,
    /// The events that subscribers have still to receive.
    pub(super) hearing: EventModel,
    /// The report that is expected of the function's end.
    pub(super) ends: EndModel,
    /// The number of inputs of forgotten jobs that ended in each way: ok, failed, poisoned, cancelled, given
    /// up.
    pub(super) closed: [u64; 5],
}

impl Model {
    pub(super) fn new(plan: &WorldPlan) -> Self {
        Self {
            plan: plan.clone(),
            policy: NaivePolicy::new(plan),
            jobs: BTreeMap::new(),
            mode: Mode::Running,
            gave_up: false,
            paused: false,
            late: 0,
            crashes: 0,
            restarts: 0,
            current: BTreeMap::new(),
            suspects: NaiveSuspects::default(),
            calls_in_a_row: 0,
            fresh_calls_in_a_row: 0,
            retried_last: false,
            maps_most: 0,
            little_room: LittleRoom::default(),
            orphans: BTreeMap::new(),
            hearing: EventModel::default(),
            at_once: BTreeMap::new(),
            recycling: BTreeSet::new(),
            busy: BTreeSet::new(),
            left_behind: BTreeMap::new(),
            leavers: BTreeMap::new(),
            hung: BTreeSet::new(),
            enters: BTreeMap::new(),
            exiting: BTreeSet::new(),
            returning: BTreeSet::new(),
            dying: Dying::default(),
            ends: EndModel::default(),
            closed: [0; 5],
        }
    }

    /// The end of the function goes on to `mode`, and ends a pause.
    pub(super) fn advance_mode(&mut self, mode: Mode) {
        self.mode = self.mode.max(mode);
        self.paused &= self.mode == Mode::Running;
    }

    /// Whether inputs are dispatched now.
    pub(super) fn dispatches(&self) -> bool {
        self.goes_on() && !self.paused
    }

    /// Whether inputs are still dispatched, unless the function is paused, and containers created.
    pub(super) fn goes_on(&self) -> bool {
        self.mode <= Mode::Draining && !self.gave_up
    }

    pub(super) fn opened(&mut self, job: JobId, tag: u64, kind: JobKind, goes_on: bool, window: Option<u64>) {
        assert!(self.mode == Mode::Running && !self.gave_up, "a function that takes nothing took a job");
        let inputs = Vec::new();
        let entry = JobModel {
            tag,
            kind,
            goes_on,
            window,
            limits: Limits::default(),
            inputs,
            ended: None,
            fed: None,
            replayed: 0,
            retried: 0,
            passed_over: 0,
        };
        self.jobs.insert(job, entry);
    }

    /// The job has pulled this number of inputs by now.
    pub(super) fn pulled(&mut self, job: JobId, inputs: u64, now: Time) {
        let before = self.jobs.get(&job).map_or(inputs, |job| job.inputs.len() as u64);
        assert!(
            inputs == before || self.mode == Mode::Running,
            "a source is pulled though the function drains"
        );
        self.accepted(job, inputs, now);
    }

    fn accepted(&mut self, job: JobId, inputs: u64, now: Time) {
        let rules = &self.plan.rules;
        let Some(job) = self.jobs.get_mut(&job) else { return };
        assert!(inputs >= job.inputs.len() as u64, "invariant 1: inputs were unpulled");
        while (job.inputs.len() as u64) < inputs {
            let state = job
                .ended
                .map_or(InputState::Waits(WaitsFor::New), |why| InputState::Done(ExpectedEnd::Unrun(why)));
            job.inputs.push(InputModel {
                state,
                failures: 0,
                crashes: 0,
                kills: 0,
                crashed: None,
                begun_after: 0,
                abandoned: 0,
                deaths: Vec::new(),
                counted: None,
                previous_crashed: false,
                cuts: 0,
                previous_cut: false,
                time: TimeFacts::of(job.limits, rules, now),
                begun: Time::default(),
                seen: None,
                yielded: false,
                executions: 0,
            });
        }
    }

    /// An input was pulled that the job does not accept any more, so it ends at once.
    pub(super) fn refused(&mut self, job: JobId, now: Time) {
        let why = if self.gave_up {
            EndReason::GaveUp
        } else if self.mode > Mode::Running {
            EndReason::ShutDown
        } else {
            EndReason::Cancelled
        };
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let ended = entry.ended.replace(why);
        entry.fed = entry.fed.map(|inputs| inputs + 1);
        let inputs = entry.inputs.len() as u64 + 1;
        self.ends.unrun(1, why, entry.goes_on);
        self.accepted(job, inputs, now);
        self.jobs.get_mut(&job).expect("it is open").ended = ended;
    }

    /// The source of a map panicked.
    pub(super) fn source_panicked(&mut self, job: JobId) {
        if self.jobs.get(&job).is_some_and(|job| !job.goes_on) {
            self.end_job(job, EndReason::Cancelled);
        }
    }

    /// The input that a container executes.
    pub(super) fn executing(&self, id: ContainerId) -> Option<(JobId, u64)> {
        let on = |input: &InputModel| input.state == InputState::Executes { on: id };
        self.jobs.iter().find_map(|(job, entry)| Some((*job, entry.inputs.iter().position(on)? as u64)))
    }

    pub(super) fn input(&mut self, job: JobId, index: u64) -> &mut InputModel {
        let entry = self.jobs.get_mut(&job).expect("the job is open");
        &mut entry.inputs[index as usize]
    }

    /// An input has failed for good, which ends a map that does not go on after that.
    pub(super) fn ends_for_good(&mut self, job: JobId, index: u64, end: ExpectedEnd) {
        self.input(job, index).state = InputState::Done(end);
        if !self.jobs[&job].goes_on {
            self.end_job(job, EndReason::Cancelled);
        }
    }

    // ---- endings ----

    /// Every input of a job without an outcome ends, and executing inputs are fenced.
    pub(super) fn end_job(&mut self, job: JobId, why: EndReason) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        entry.ended.get_or_insert(why);
        let pending = entry.inputs.iter().filter(|input| input.is_pending()).count();
        self.ends.unrun(pending, why, entry.goes_on);
        for (index, input) in entry.inputs.iter_mut().enumerate() {
            if let InputState::Executes { on } | InputState::Leased { to: on, .. } = input.state {
                self.suspects.ended(on);
            }
            if let InputState::Executes { on } = input.state {
                self.orphans.insert(on, OrphanModel::of(index as u64, input));
            }
            if input.is_pending() {
                input.state = InputState::Done(ExpectedEnd::Unrun(why));
            }
        }
    }

    pub(super) fn end_all(&mut self, why: EndReason, is_over: impl Fn(JobId) -> bool) {
        for job in self.jobs.keys().copied().collect::<Vec<_>>() {
            if self.jobs[&job].inputs.iter().any(InputModel::is_pending) || !is_over(job) {
                self.end_job(job, why);
            }
        }
    }

    /// While the function stops, only executing inputs go on.
    pub(super) fn sweep(&mut self) {
        if self.mode != Mode::Stopping {
            return;
        }
        for job in self.jobs.values_mut() {
            for input in &mut job.inputs {
                if matches!(input.state, InputState::Waits(_) | InputState::Leased { .. }) {
                    self.ends.unrun(1, EndReason::ShutDown, job.goes_on);
                    input.state = InputState::Done(ExpectedEnd::Unrun(EndReason::ShutDown));
                }
            }
            job.ended.get_or_insert(EndReason::ShutDown);
        }
    }

    /// No container lives any more.
    pub(super) fn all_dead(&mut self, now: Time) {
        for (id, generation) in self.current.clone() {
            if self.policy.is_alive(id, generation) {
                self.policy.ended(id, generation, now);
            }
        }
    }

    // ---- outcomes ----

    /// The deaths that the failure of a poisoned input must list.
    pub(super) fn deaths_told(&self, job: JobId, index: u64) -> &[u32] {
        let deaths = &self.jobs[&job].inputs[index as usize].deaths;
        &deaths[..deaths.len().min(DEATHS_MAX)]
    }
}

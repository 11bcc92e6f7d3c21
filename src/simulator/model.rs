//! A naive model: the state that every input must be in, worked out from the events of the world.
//!
//! The model knows no ranges, queues or leases, but only single inputs. It judges each event of a world by
//! the contract. The checks name the numbers of the invariants in `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::job::{DEATHS_MAX, JobKind};
use crate::decide::ledger::Mode;
use crate::decide::limits::Limits;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::simulator::containers::Dying;
use crate::simulator::ends::EndModel;
use crate::simulator::events::{Dead, Due, EventModel};
pub(super) use crate::simulator::inputs::{
    EndReason, ExpectedEnd, InputModel, InputState, JobModel, OrphanModel, WaitsFor,
};
use crate::simulator::little_room::LittleRoom;
use crate::simulator::plan::WorldPlan;
use crate::simulator::policy::{ExpectedRestart, NaivePolicy};
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

/// The consequences of a crash, for the tally.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ExpectedAfterCrash {
    /// The crash counted together with an earlier one.
    pub(super) together: bool,
    /// It was a failed start beside a container that serves.
    pub(super) spare: bool,
    /// It was a crash of a known suspect, and came while a delay ran.
    pub(super) at_once: bool,
    pub(super) gave_up: bool,
    pub(super) poisoned: bool,
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

    // ---- executions ----

    /// An execution begins. `is_first` says whether the input is the first of its lease. The time of its
    /// attempt then runs since the container was given the lease.
    pub(super) fn begun(&mut self, id: ContainerId, job: JobId, index: u64, is_first: bool, now: Time) {
        let (retries, crash_retries) = (self.plan.rules.retries.retries_max(), self.plan.rules.crash_retries);
        assert!(!self.paused, "an input is begun during a pause");
        let crashes = self.crashes;
        let entry = self.jobs.get_mut(&job).expect("the job is open");
        let input = &mut entry.inputs[index as usize];
        input.begun_after = crashes;
        let InputState::Leased { to, from } = input.state else {
            panic!("invariant 3: input {index} begins while {:?}", input.state)
        };
        assert_eq!(to, id, "invariant 3: input {index} begins on another container");
        match from {
            WaitsFor::Replay => entry.replayed += 1,
            WaitsFor::Retry { .. } => entry.retried += 1,
            WaitsFor::New | WaitsFor::Requeued => {}
            WaitsFor::Leaving => panic!("input {index} begins although its last attempt has not returned"),
        }
        input.begins(is_first, now);
        input.executions += 1;
        let most = 1 + retries + crash_retries + input.kills;
        assert!(input.executions <= most, "invariant 4: execution {} of at most {most}", input.executions);
        assert!(
            input.failures <= retries && input.crashes <= crash_retries,
            "invariant 4: no budget is left"
        );
        if crash_retries == 0 {
            assert_eq!(input.crashes + input.kills, 0, "invariant 5: begun again after a crash");
        }
        input.state = InputState::Executes { on: id };
    }

    /// An execution returned `Ok`. Returns whether its answer must be accepted.
    pub(super) fn returned_ok(
        &mut self,
        id: ContainerId,
        generation: Generation,
        job: JobId,
        index: u64,
        now: Time,
    ) -> bool {
        if !self.executes(id, generation, job, index) {
            self.late += 1;
            return false;
        }
        self.policy.completed(id, generation, now);
        let input = self.input(job, index);
        input.state = InputState::Done(ExpectedEnd::Ok { attempt: input.attempt() });
        let begun_after = input.begun_after;
        self.suspects.completed_ok(id, begun_after);
        true
    }

    fn executes(&self, id: ContainerId, generation: Generation, job: JobId, index: u64) -> bool {
        self.is_alive(id, generation)
            && self
                .jobs
                .get(&job)
                .and_then(|job| job.inputs.get(index as usize))
                .is_some_and(|input| input.state == InputState::Executes { on: id })
    }

    /// An execution returned `Err`. `due` is the moment that the engine chose for the retry, because delays
    /// with jitter are random. `after` is the least delay that the error asks for. Returns how the input
    /// ends, if it does.
    pub(super) fn returned_err(
        &mut self,
        id: ContainerId,
        generation: Generation,
        (job, index): (JobId, u64),
        (worth, after): (bool, Option<Duration>),
        due: Option<Time>,
        now: Time,
    ) -> Option<ExpectedEnd> {
        if !self.executes(id, generation, job, index) {
            self.late += 1;
            return None;
        }
        self.policy.completed(id, generation, now);
        self.suspects.completed_err(id);
        let goes_on = self.goes_on();
        let retries = self.plan.rules.retries.clone();
        let input = self.input(job, index);
        input.failures += 1;
        (input.previous_crashed, input.previous_cut) = (false, false);
        input.time.has_failed(u64::from(input.attempt() - 1), now);
        let again = worth && goes_on && input.failures <= retries.retries_max();
        let delay = naive_delay(&self.plan, self.jobs[&job].inputs[index as usize].failures);
        let least = if retries.jitter_source().is_some() { delay / 2 } else { delay };
        let after = after.unwrap_or_default();
        let delays = (least.max(after), delay.max(after));
        let (may_be_refused, must_be_refused) = self.input(job, index).time.refuses(delays, now);
        if again && due.is_none() && may_be_refused {
            self.ends_for_good(job, index, ExpectedEnd::Expired);
            return Some(ExpectedEnd::Expired);
        }
        if again {
            let due = due.expect("an error worth a retry within the budget is retried");
            assert!(!must_be_refused, "a retry is due at {due:?}, after the deadline of its input");
            assert!(
                (now + least.max(after)..=now + delay.max(after)).contains(&due),
                "delays: due at {due:?}, not {delay:?} after {now:?}"
            );
            self.input(job, index).state = InputState::Waits(WaitsFor::Retry { due });
            return None;
        }
        assert_eq!(due, None, "a retry beyond the budget, of an error not worth it, or of an ended function");
        self.ends_for_good(job, index, ExpectedEnd::Failed);
        Some(ExpectedEnd::Failed)
    }

    /// An input has failed for good, which ends a map that does not go on after that.
    pub(super) fn ends_for_good(&mut self, job: JobId, index: u64, end: ExpectedEnd) {
        self.input(job, index).state = InputState::Done(end);
        if !self.jobs[&job].goes_on {
            self.end_job(job, EndReason::Cancelled);
        }
    }

    /// A container crashed, and `said` is the engine's verdict.
    pub(super) fn crashed(
        &mut self,
        id: ContainerId,
        generation: Generation,
        said: Option<Restart>,
        now: Time,
    ) -> ExpectedAfterCrash {
        if !self.is_alive(id, generation) {
            assert!(said.is_none(), "invariant 12: a generation that was over crashed");
            return ExpectedAfterCrash::default();
        }
        let said = said.expect("a living generation has a verdict");
        self.crashes += 1;
        let executing = self.executing(id);
        let of_input = executing.map(|(job, index)| {
            let input = self.input(job, index);
            (u32::from(input.crashed.is_some()), input.counted)
        });
        let orphan = self.orphans.remove(&id);
        let of_input = of_input.or_else(|| orphan.map(|orphan| (orphan.crashes, orphan.counted)));
        let executes = executing.map(|(job, index)| (index, self.input(job, index).attempt()));
        let executes = executes.or_else(|| orphan.map(|orphan| (orphan.index, orphan.attempt)));
        self.note_recoveries(now);
        self.hearing.is_due(Due::Crashed(Dead { container: id, generation, executing: executes }));
        let others_recycle = self.recycling.iter().any(|other| *other != id);
        let expected = self.policy.crashed(id, generation, of_input, others_recycle, now);
        let gave_up = said == Restart::GiveUp;
        let in_place = !self.dying.leaves_a_thread && expected.restart == ExpectedRestart::Now;
        let nobody_left = !in_place && self.is_hopeless(id);
        let may_give_up = expected.may_give_up || nobody_left;
        assert!(!gave_up || may_give_up, "invariant 9: gave up, expected {expected:?}");
        assert!(
            gave_up || !(expected.must_give_up || nobody_left),
            "invariant 9: {said:?} where it must give up"
        );
        match (said, &expected.restart) {
            (Restart::GiveUp, _) | (Restart::Now, ExpectedRestart::Now) => {}
            (Restart::At(due), ExpectedRestart::Within(least, most)) if (*least..=*most).contains(&due) => {}
            _ => panic!("invariant 9: the verdict is {said:?}, expected {:?}", expected.restart),
        }
        self.policy.drawn(said);
        let gives_up = gave_up && self.mode <= Mode::Draining && !self.gave_up;
        if gives_up {
            self.hearing.is_due(Due::GaveUp);
        }
        if let Restart::At(until) = said {
            self.hearing.delayed(self.policy.in_a_row(now), until);
        }
        if said == Restart::Now && !self.dying.leaves_a_thread {
            self.returning.insert(id);
        }
        let of_a_suspect = of_input.is_some_and(|(crashes, _)| crashes > 0);
        let at_once = of_a_suspect && self.policy.held_until(now).is_some();
        self.at_once.insert(id, of_a_suspect || self.policy.has_progressed(id, generation));
        let ended = self.container_dies(id, executing, expected.counted, now);
        self.gave_up |= gave_up && self.mode <= Mode::Draining;
        ExpectedAfterCrash {
            together: expected.together,
            spare: expected.spare,
            at_once,
            gave_up,
            poisoned: ended,
        }
    }

    fn container_dies(
        &mut self,
        id: ContainerId,
        executing: Option<(JobId, u64)>,
        counted: bool,
        now: Time,
    ) -> bool {
        let crash_retries = self.plan.rules.crash_retries;
        let dying = self.dying;
        let mut poisoned = false;
        if let Some((job, index)) = executing {
            let crash = self.crashes;
            let last = self.input(job, index).crashed.map(|(crash, _)| crash);
            let is_charged = self.suspects.is_charged(id, last);
            let input = self.input(job, index);
            input.deaths.push(input.attempt());
            input.crashes += u32::from(is_charged);
            input.kills += u32::from(!is_charged);
            input.crashed = Some((crash, now));
            (input.previous_crashed, input.previous_cut) = (true, false);
            if counted {
                input.counted = Some(now);
            }
            input.state = InputState::Waits(WaitsFor::Replay);
            input.abandoned += u32::from(dying.leaves_a_thread);
            let for_good = dying.crowded || (dying.leaves_a_thread && input.abandoned >= 2);
            if input.crashes > crash_retries || for_good {
                input.state = InputState::Done(ExpectedEnd::Poisoned);
                poisoned = true;
                let attempts = input.attempt() - 1;
                self.hearing.is_due(Due::Poisoned { input: index, attempts });
            }
            self.container_ended(id, now);
            self.end_under_pressure();
            if poisoned && !self.jobs[&job].goes_on {
                self.end_job(job, EndReason::Cancelled);
            }
        } else {
            let ended = self.leaver_dies(id, counted, now);
            self.container_ended(id, now);
            self.end_under_pressure();
            if let Some(job) = ended.filter(|job| self.jobs.get(job).is_some_and(|job| !job.goes_on)) {
                self.end_job(job, EndReason::Cancelled);
            }
        }
        self.sweep();
        poisoned
    }

    /// A container was killed by hand. Returns whether an input was lost by that.
    pub(super) fn killed(&mut self, id: ContainerId, generation: Generation, now: Time) -> bool {
        let executing = self.executing(id);
        let executes = executing.map(|(job, index)| (index, self.input(job, index).attempt()));
        self.note_recoveries(now);
        self.hearing.is_due(Due::Killed(Dead { container: id, generation, executing: executes }));
        if self.is_hopeless(id) && self.mode <= Mode::Draining && !self.gave_up {
            self.gave_up = true;
            self.hearing.is_due(Due::GaveUp);
        }
        let mut lost = None;
        if let Some((job, index)) = executing {
            let at_most_once = self.plan.rules.crash_retries == 0;
            let dying = self.dying;
            let input = self.input(job, index);
            input.kills += 1;
            input.abandoned += u32::from(dying.leaves_a_thread);
            let for_good = dying.crowded || (dying.leaves_a_thread && input.abandoned >= 2);
            (input.previous_crashed, input.previous_cut) = (true, false);
            input.state = InputState::Waits(WaitsFor::Replay);
            if at_most_once || for_good {
                input.state = InputState::Done(ExpectedEnd::Lost);
                lost = Some(job);
            }
        }
        let ended = self.leaver_dies(id, false, now);
        self.container_ended(id, now);
        self.end_under_pressure();
        let ends_with = |job: &JobId| self.jobs.get(job).is_some_and(|job| !job.goes_on);
        if let Some(job) = lost.or(ended).filter(ends_with) {
            self.end_job(job, EndReason::Cancelled);
        }
        self.sweep();
        lost.is_some()
    }

    /// No more threads may be left behind, so inputs that wait for a replay and have left a thread behind
    /// end.
    fn end_under_pressure(&mut self) {
        if !self.dying.crowded {
            return;
        }
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            for (index, input) in job.inputs.iter_mut().enumerate() {
                let waits = match input.state {
                    InputState::Waits(WaitsFor::Replay) => true,
                    InputState::Waits(WaitsFor::Retry { .. }) => input.previous_cut,
                    _ => false,
                };
                if waits && input.abandoned > 0 {
                    let end = match input.crashed {
                        _ if input.previous_cut => ExpectedEnd::TimedOut,
                        Some(_) => ExpectedEnd::Poisoned,
                        None => ExpectedEnd::Lost,
                    };
                    input.state = InputState::Done(end);
                    if end == ExpectedEnd::Poisoned {
                        let attempts = input.attempt() - 1;
                        self.hearing.is_due(Due::Poisoned { input: index as u64, attempts });
                    }
                    ended.extend((!job.goes_on).then_some(*id));
                }
            }
        }
        ended.into_iter().for_each(|job| self.end_job(job, EndReason::Cancelled));
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

/// The delay before retry `k`, by plain multiplication.
fn naive_delay(plan: &WorldPlan, k: u32) -> Duration {
    let (initial, coefficient, max) = plan.rules.retries.settings();
    let mut nanos = initial.as_nanos() as f64;
    for _ in 1..k {
        nanos *= coefficient;
    }
    let nanos = nanos.min(max.as_nanos() as f64).round();
    Duration::from_nanos(nanos as u64)
}

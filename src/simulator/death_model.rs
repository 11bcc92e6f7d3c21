//! The model of deaths: a container crashes or is killed, and its inputs are charged, replayed or
//! ended.

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::ledger::Mode;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::simulator::events::{Dead, Due};
use crate::simulator::model::{EndReason, ExpectedEnd, InputState, Model, WaitsFor};
use crate::simulator::policy::ExpectedRestart;

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
        let none_left = !in_place && self.is_hopeless(id);
        let may_give_up = expected.may_give_up || none_left;
        assert!(!gave_up || may_give_up, "invariant 9: gave up, expected {expected:?}");
        assert!(
            gave_up || !(expected.must_give_up || none_left),
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
}

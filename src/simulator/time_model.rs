//! The model of limits of time: attempts that are cut, inputs whose deadlines pass, code that does not
//! return, and what the engine must have done after a look at the limits.

use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::ledger::Mode;
use crate::decide::limits::Limits;
use crate::decide::time::Time;
use crate::simulator::course::TIMER_MIN;
use crate::simulator::events::Due;
use crate::simulator::model::{ExpectedEnd, InputModel, InputState, Model, OrphanModel, WaitsFor};
use crate::simulator::time_facts::{Cut, delays};

/// The time that code has to return after its limit. The contract names it.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// The time after which the engine looks at a lease of several inputs again.
const SAMPLE: Duration = Duration::from_micros(500);

/// The code of an attempt that was cut at a limit and has not returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaverModel {
    /// The moment of the next look at the code. The container may die or be kept then.
    pub(super) due: Time,
    /// Whether the code was given more time, because it was seen to unwind.
    extended: bool,
    /// The input that is executed again once the code has returned.
    pub(super) retry: Option<AwaitedRetry>,
}

/// A retry that waits until the code of the attempt before it has returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct AwaitedRetry {
    pub(super) job: JobId,
    pub(super) index: u64,
    /// The bounds of the moment at which it is due.
    within: (Time, Time),
    /// The moment that the engine has drawn within them, once it is known.
    pub(super) due: Option<Time>,
}

impl InputModel {
    /// The input is leased together with others, `inputs` in all. Its attempt may run from now on.
    pub(super) fn is_leased(&mut self, inputs: u64, now: Time) {
        self.time.began = now;
        self.seen = (inputs == 1).then_some(now);
    }

    /// The execution of the input begins.
    pub(super) fn begins(&mut self, is_first: bool, now: Time) {
        self.begun = now;
        if !is_first {
            self.time.began = now;
        }
        // The engine knows of an input that is leased alone from its lease on. It may have looked meanwhile
        // and found that the input had not begun.
        self.seen = self.seen.map(|_| now).filter(|_| is_first);
    }

    fn executes(&self) -> bool {
        matches!(self.state, InputState::Executes { .. })
    }

    /// When its attempt has come to its limit, as far as the engine must know.
    fn runs_out(&self) -> Option<Time> {
        Some(self.seen.filter(|_| self.executes())? + self.time.timeout?)
    }

    /// The latest moment at which the engine looks at its attempt for the limit, if nothing delays it. The
    /// engine sees an input in a lease of several at the next sample, and measures its limit from then on.
    fn cut_is_due(&self) -> Option<Time> {
        let sampled = || Some(self.begun + SAMPLE + TIMER_MIN + self.time.timeout?);
        self.runs_out().or_else(|| sampled().filter(|_| self.executes()))
    }
}

impl Model {
    /// A map or a call that was just opened has these limits of its own.
    pub(super) fn limited(&mut self, job: JobId, limits: Limits) {
        self.jobs.get_mut(&job).expect("it was just opened").limits = limits;
    }

    /// The container that executes an input.
    pub(super) fn executes_on(&self, job: JobId, index: u64) -> Option<ContainerId> {
        match self.jobs.get(&job)?.inputs.get(index as usize)?.state {
            InputState::Executes { on } => Some(on),
            _ => None,
        }
    }

    /// The attempt at an input was cut at a limit. Returns the container whose code it is.
    pub(super) fn cut(
        &mut self,
        (job, index): (JobId, u64),
        attempt: u32,
        cut: Cut,
        now: Time,
    ) -> ContainerId {
        let on = self.executes_on(job, index);
        let on = on.unwrap_or_else(|| panic!("input {index} of {job:?} is cut, and does not execute"));
        let (goes_on, rules) = (self.goes_on(), self.plan.rules.clone());
        let input = self.input(job, index);
        assert_eq!(attempt, input.attempt(), "the attempt at input {index} that is cut");
        let orphan = OrphanModel::of(index, input);
        input.failures += 1;
        input.cuts += 1;
        (input.previous_crashed, input.previous_cut) = (false, true);
        input.time.is_cut(cut, input.failures, &rules, Some(goes_on), now);
        let retry = cut.is_retried.then(|| {
            input.state = InputState::Waits(WaitsFor::Leaving);
            let (least, most) = delays(&rules, input.failures);
            AwaitedRetry { job, index, within: (now + least, now + most), due: None }
        });
        let Cut { limit, is_deadline, is_retried } = cut;
        self.hearing.is_due(Due::TimedOut { input: index, attempt, limit, is_deadline, is_retried });
        self.orphans.insert(on, orphan);
        self.leavers.insert(on, LeaverModel { due: now + GRACE, extended: false, retry });
        if !is_retried {
            let end = if is_deadline { ExpectedEnd::Expired } else { ExpectedEnd::TimedOut };
            self.input(job, index).state = InputState::Done(end);
        }
        self.give_back(on);
        if !is_retried {
            self.ends_for_good(job, index, self.end_of(job, index));
        }
        on
    }

    fn end_of(&self, job: JobId, index: u64) -> ExpectedEnd {
        match self.jobs[&job].inputs[index as usize].state {
            InputState::Done(end) => end,
            state => panic!("input {index} has no outcome, and is {state:?}"),
        }
    }

    /// The deadlines of inputs of a job have passed while they waited: `inputs` of them, from `first` on.
    pub(super) fn expired(&mut self, job: JobId, (first, inputs): (u64, u64), limit: Duration, now: Time) {
        let entry = self.jobs.get_mut(&job).expect("the job of inputs that expire is open");
        let is_late = |input: &InputModel| {
            let waits = matches!(input.state, InputState::Waits(_) | InputState::Leased { .. });
            waits && input.time.is_past_deadline(now)
        };
        let late: Vec<u64> =
            (0..entry.inputs.len() as u64).filter(|index| is_late(&entry.inputs[*index as usize])).collect();
        assert_eq!(
            (late.first().copied(), late.len() as u64),
            (Some(first), inputs),
            "the inputs of {job:?} whose deadlines have passed: {late:?}"
        );
        let goes_on = entry.goes_on;
        for index in late.into_iter().take(if goes_on { usize::MAX } else { 1 }) {
            let input = &mut entry.inputs[index as usize];
            assert_eq!(input.time.deadline, Some(limit), "the deadline of input {index}");
            if let InputState::Leased { to, .. } = input.state {
                self.suspects.ended(to);
            }
            input.state = InputState::Done(ExpectedEnd::Expired);
        }
        self.hearing.is_due(Due::Expired { input: first, inputs, limit });
        if !goes_on {
            self.ends_for_good(job, first, ExpectedEnd::Expired);
        }
    }

    /// The code of a container has returned, if it was cut. An input that waited for that now waits for its
    /// retry. `lives` says whether the container serves on.
    pub(super) fn comes_out(&mut self, id: ContainerId, lives: bool) {
        let Some(leaver) = self.leavers.remove(&id) else { return };
        if self.hung.remove(&id) && lives {
            self.hearing.is_due(Due::HangEnded { container: id, generation: self.current[&id] });
        }
        let Some(AwaitedRetry { job, index, within: (least, most), due }) = leaver.retry else { return };
        let Some(input) = self.jobs.get_mut(&job).map(|job| &mut job.inputs[index as usize]) else { return };
        if input.state == InputState::Waits(WaitsFor::Leaving) {
            // A later death at the same look may have ended the input meanwhile.
            let due = due.unwrap_or(most);
            assert!((least..=most).contains(&due), "the retry of input {index} is due at {due:?}");
            input.state = InputState::Waits(WaitsFor::Retry { due });
        }
    }

    /// A container dies. If its code was cut before, the input of that code may have left a thread behind.
    /// Returns the job of the input if the input ends by that.
    pub(super) fn leaver_dies(&mut self, id: ContainerId, counted: bool, now: Time) -> Option<JobId> {
        let AwaitedRetry { job, index, .. } = self.leavers.get(&id)?.retry?;
        let dying = self.dying;
        let input = self.jobs.get_mut(&job)?.inputs.get_mut(index as usize)?;
        if input.state != InputState::Waits(WaitsFor::Leaving) {
            return None;
        }
        if counted {
            input.counted = Some(now);
        }
        input.abandoned += u32::from(dying.leaves_a_thread);
        let for_good = dying.crowded || input.abandoned >= 2;
        if !dying.leaves_a_thread || !for_good {
            return None;
        }
        input.state = InputState::Done(ExpectedEnd::TimedOut);
        Some(job)
    }

    /// A container hangs and is kept, because no more threads may be left behind.
    pub(super) fn hangs(&mut self, id: ContainerId, generation: Generation, executing: Option<(u64, u32)>) {
        assert!(self.is_full(0), "{id} is kept although its thread may be left behind");
        assert!(self.hung.insert(id), "{id} hangs, and has hung before");
        let orphan = self.orphans.get(&id).map(|orphan| (orphan.index, orphan.attempt));
        assert_eq!(executing, orphan, "the input in whose code {id} hangs");
        let abandoned = self.left_behind().0;
        self.hearing.is_due(Due::Hung { container: id, generation, executing, abandoned });
        self.gives_up_hanging();
    }

    /// Whether a function gives up because every container that is left hangs, which it then does.
    pub(super) fn gives_up_hanging(&mut self) -> bool {
        let gives_up = self.goes_on() && self.is_deserted();
        if gives_up {
            self.gave_up = true;
            self.hearing.is_due(Due::GaveUp);
        }
        gives_up
    }

    /// The code of a container is found not to have returned in time, so the container dies.
    pub(super) fn is_unresponsive(&self, id: ContainerId, now: Time) {
        let leaver = self.leavers.get(&id).unwrap_or_else(|| panic!("{id} dies, and was not cut"));
        assert!(leaver.due <= now, "{id} has time to return until {:?}, and dies at {now:?}", leaver.due);
        assert!(!self.is_full(0), "{id} is left behind although there are {:?}", self.left_behind);
    }

    /// The `enter` of a container is found to have taken too long, so the container dies.
    pub(super) fn has_overstayed(&self, id: ContainerId, generation: Generation, limit: Duration, now: Time) {
        assert_eq!(Some(limit), self.plan.rules.limits.enter_timeout, "the limit of an enter");
        let due = self.enters.get(&(id, generation));
        assert!(due.is_some_and(|due| *due <= now), "{id} may enter until {due:?}, and dies at {now:?}");
        assert!(!self.is_full(0), "{id} is left behind although there are {:?}", self.left_behind);
    }

    /// The engine has looked at the limits. `unwinding` are the containers whose code has unwound and which
    /// have not asked for work since. They may have been given more time.
    pub(super) fn looked(&mut self, unwinding: &[ContainerId], now: Time) {
        if self.mode == Mode::Aborted {
            return;
        }
        for input in self.jobs.values_mut().flat_map(|job| &mut job.inputs) {
            assert!(
                !(input.is_pending() && input.time.is_past_deadline(now)),
                "past its deadline: {input:?}"
            );
            let out = input.runs_out();
            assert!(out.is_none_or(|at| at > now), "past its limit, at {now:?}: {input:?}");
            if input.executes() && input.seen.is_none() && input.begun + SAMPLE <= now {
                input.seen = Some(now);
            }
        }
        let mut sees_a_hang = false;
        for (id, leaver) in &mut self.leavers {
            if leaver.due <= now {
                sees_a_hang |= self.hung.contains(id);
                let unwinds = unwinding.contains(id) && !leaver.extended;
                assert!(
                    unwinds || self.hung.contains(id),
                    "{id} lives, and its code has not returned by {:?}",
                    leaver.due
                );
                (leaver.due, leaver.extended) = (now + GRACE, true);
            }
        }
        // The last container that serves may end as it drains. The engine sees that at the next look at one
        // that hangs, and a look before it may have had another reason.
        assert!(!(sees_a_hang && self.goes_on() && self.is_deserted()), "all hang");
        let is_full = self.is_full(0);
        for (container, due) in self.enters.iter_mut().filter(|(_, due)| **due <= now) {
            assert!(is_full, "the enter of {container:?} goes on at {now:?}");
            *due = now + GRACE; // no thread may be left behind now
        }
    }

    /// The `enter` of a container begins.
    pub(super) fn begins_to_enter(&mut self, id: ContainerId, generation: Generation, now: Time) {
        let limit = self.plan.rules.limits.enter_timeout;
        self.enters.extend(limit.map(|limit| ((id, generation), now + limit)));
    }

    /// The first moment at which the engine must have looked at the limits, if nothing delays it.
    pub(super) fn look_is_due(&self) -> Option<Time> {
        let limited = self.plan.is_limited.then(|| self.inputs()); // in the other worlds no input has a limit
        let inputs = limited.into_iter().flatten().filter(|input| input.is_pending());
        let inputs = inputs.flat_map(|input| [input.cut_is_due(), input.time.passes()]);
        let leavers = self.leavers.values().map(|leaver| leaver.due);
        let enters = self.enters.values().copied();
        inputs.flatten().chain(leavers).chain(enters).min().map(|at| at + TIMER_MIN)
    }
}

//! The supervisor's looks at the limits of time, held against the model. The events of a look say what the
//! engine did, and the model judges each of them in its order.

use std::sync::PoisonError;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::ledger::{Lease, LeaseKind, Mode};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::messages::Notice;
use crate::simulator::course::{Course, TIMER_MIN};
use crate::simulator::model::InputModel;
use crate::simulator::threads::{SimThread, ThreadPhase};
use crate::simulator::time_facts::Cut;
use crate::simulator::world::{WIDE, World};
use crate::values::crash::{Crash, Death};
use crate::values::event::Event;

impl World {
    /// The supervisor looks at the limits of time.
    pub(super) fn look_at_limits(&mut self) {
        let now = self.now();
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).len();
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner).len();
        let next = self.engine.look_at_limits();
        self.look = next.map(|delay| now + delay.max(TIMER_MIN));
        self.sync_pulled();
        let events: Vec<Event> = {
            let all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            all[heard..].iter().map(|(event, _)| event.clone()).collect()
        };
        let mut verdicts = self.verdicts_since(notices).into_iter();
        for event in events {
            self.hear_of_limits(event, &mut verdicts, now);
        }
        assert_eq!(verdicts.next(), None, "each verdict is that of a death");
        self.shorten_leases();
        // A look passes work on, so it may be the first to see that a map has little room.
        let eligible = self.engine.under_lock(|state| self.eligible(state));
        self.model.asked(&eligible, now);
        let unwinds = |thread: &&SimThread| matches!(thread.phase, ThreadPhase::Asking);
        let unwinding: Vec<ContainerId> =
            self.threads.iter().filter(unwinds).map(|thread| thread.id).collect();
        self.model.looked(&unwinding, now);
    }

    /// The verdicts in the notices after the first `before` ones.
    fn verdicts_since(&self, before: usize) -> Vec<Restart> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = |notice: &Notice| match notice {
            Notice::Fenced { restart } => Some(*restart),
            _ => None,
        };
        notices[before..].iter().filter_map(verdict).collect()
    }

    /// Enters an event of a look into the model.
    fn hear_of_limits(&mut self, event: Event, verdicts: &mut impl Iterator<Item = Restart>, now: Time) {
        match event {
            Event::TimedOut { map, call, input, attempt, limit, is_deadline, is_retried } => {
                let job = self.job_of(map.as_deref(), call);
                let cut = Cut { limit, is_deadline, is_retried };
                self.log(|| format!("input {input} of {job:?} is cut: {cut:?}"));
                self.tally.timed_out += u64::from(!is_deadline);
                self.tally.cut_at_deadlines += u64::from(is_deadline);
                let id = self.model.cut((job, input), attempt.get(), cut, now);
                self.reaches_a_checkpoint(id, now);
            }
            Event::Expired { map, call, input, inputs, limit } => {
                let job = self.job_of(map.as_deref(), call);
                self.log(|| format!("{inputs} inputs of {job:?} expire, from {input} on"));
                self.tally.expired += inputs;
                self.model.expired(job, (input, inputs), limit, now);
            }
            Event::Hung { container, generation, input, attempt, .. } => {
                self.log(|| format!("{container}#{generation} hangs"));
                self.tally.hung += 1;
                let executing = input.zip(attempt.map(|attempt| attempt.get()));
                let gave_up = self.model.gave_up;
                self.model.hangs(container, generation, executing);
                self.tally.give_ups_because_all_hang += u64::from(self.model.gave_up && !gave_up);
            }
            Event::Crashed(crash) => {
                let verdict = verdicts.next().expect("the supervisor receives a notice of each death");
                self.dies_at_a_limit(&crash, verdict, now);
            }
            Event::Recovered { .. } => self.model.note_recoveries(now),
            // Each other container has ended since the last one began to hang.
            Event::GaveUp(_) if !self.model.gave_up => {
                self.tally.give_ups_because_all_hang += 1;
                assert!(self.model.gives_up_hanging(), "it gives up at a look, and not all containers hang");
            }
            _ => {}
        }
    }

    /// A container died at a limit of time.
    fn dies_at_a_limit(&mut self, crash: &Crash, verdict: Restart, now: Time) {
        let (id, generation) = (crash.container, crash.generation);
        match crash.death {
            Death::Unresponsive => {
                self.tally.unresponsive += 1;
                self.model.is_unresponsive(id, now);
            }
            Death::EnterTimedOut { limit } => {
                self.tally.starts_timed_out += 1;
                self.model.has_overstayed(id, generation, limit, now);
            }
            _ => panic!("a look at the limits ends in {crash:?}"),
        }
        self.dies(id, generation);
        self.account_for(id, generation, Some(verdict));
    }

    /// The job of an event.
    fn job_of(&self, label: Option<&str>, call: Option<u64>) -> JobId {
        if let Some(call) = call {
            return JobId(call - 1);
        }
        let tag: u64 = label.and_then(|label| label.parse().ok()).expect("a map is labelled with its tag");
        let job = self.model.jobs.iter().find(|(_, job)| job.tag == tag);
        *job.unwrap_or_else(|| panic!("no map {tag} is open")).0
    }

    /// Code that passes checkpoints is at its next one.
    fn reaches_a_checkpoint(&mut self, id: ContainerId, now: Time) {
        let generation = self.model.current[&id];
        let plan = &self.plan;
        let thread =
            self.threads.iter_mut().find(|thread| (thread.id, thread.generation()) == (id, generation));
        if let ThreadPhase::Executing { task, place, until, .. } = &mut thread.expect("it executes").phase
            && plan.passes_checkpoints(task.index(*place), task.attempt())
        {
            *until = Some(until.map_or(now, |until| until.min(now)));
        }
    }

    /// Takes the moment at which the retry is due that waits for the code of a container. `lease` is the
    /// lease that the container was just given.
    pub(super) fn note_retry(&mut self, id: ContainerId, lease: Option<&Lease>) {
        let Some(retry) = self.model.leavers.get_mut(&id).and_then(|leaver| leaver.retry.as_mut()) else {
            return;
        };
        let of_lease = lease.filter(|lease| (lease.job, lease.span.first) == (retry.job, retry.index));
        retry.due = match of_lease.map(|lease| lease.kind) {
            Some(LeaseKind::Retry { due }) => Some(due),
            _ => self.engine.under_lock(|state| state.ledger.retry_due(retry.job, retry.index)),
        };
    }

    /// The code of a container has returned, as the engine has just seen.
    pub(super) fn comes_out(&mut self, id: ContainerId, generation: Generation, lease: Option<&Lease>) {
        if self.model.is_alive(id, generation) {
            self.note_retry(id, lease);
            self.model.comes_out(id, true);
        }
    }

    /// Checks that the supervisor looks at the limits in time.
    pub(super) fn check_looks(&self) {
        let Some(due) = self.model.look_is_due() else { return };
        let looks = self.look.is_some_and(|at| at <= due);
        let is_asked = || {
            let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            notices.iter().any(|notice| matches!(notice, Notice::Limited))
        };
        assert!(
            looks || is_asked() || self.engine.has_ended(),
            "a limit passes at {due:?}, and the supervisor looks at {:?}",
            self.look
        );
    }

    /// Checks that the deadlines of all inputs run for which the window of their map has room, whether or not
    /// a container takes them. A window that the engine chooses may have just grown, and a wide one has room
    /// that is not worth a claim.
    pub(super) fn check_deadlines_run(&self) {
        if self.model.mode > Mode::Running {
            return; // sources are not pulled any more
        }
        self.engine.under_lock(|state| {
            let is_narrow = |job: &JobId| {
                let window = self.model.jobs.get(job).and_then(|job| job.window);
                window.is_some_and(|window| window < WIDE)
            };
            let with_deadline = state.buffers.open.keys().filter(|job| state.ledger.has_deadline(**job));
            let with_deadline = with_deadline.filter(|job| is_narrow(job));
            for job in with_deadline {
                let Some(buffers) = state.buffers.map(*job).filter(|buffers| !buffers.source_over) else {
                    continue;
                };
                let held = buffers.held_by_window();
                assert!(held == 0, "{held} inputs of {job:?} are in its window, and were not accepted");
            }
        });
    }

    /// Checks that a function that has given up is about to end its inputs, because the supervisor has been
    /// asked to.
    pub(super) fn check_giving_up(&self) {
        if !self.model.gave_up || !self.model.inputs().any(InputModel::is_pending) {
            return;
        }
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let gives_up = |notice: &Notice| {
            let (Notice::Crashed { restart } | Notice::Fenced { restart }) = notice else { return false };
            *restart == Restart::GiveUp
        };
        assert!(
            notices.iter().any(gives_up),
            "the function gave up, and the supervisor does not learn of it"
        );
    }
}

//! The model of executions: an input begins, and returns `Ok` or `Err`.

use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::time::Time;
use crate::simulator::model::{ExpectedEnd, InputState, Model, WaitsFor};
use crate::simulator::plan::WorldPlan;

impl Model {
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

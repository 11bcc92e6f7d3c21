//! The status, the progress of a map and its records, held against the model.

use std::collections::BTreeSet;

use crate::base::ids::{ContainerId, JobId};
use crate::decide::ledger::Mode;
use crate::simulator::course::Course;
use crate::simulator::model::{EndReason, ExpectedEnd, InputModel, InputState, WaitsFor};
use crate::simulator::world::World;

impl World {
    /// Checks the status against the model.
    pub(super) fn check_status(&mut self) {
        let told = self.engine.status();
        self.sync_pulled();
        let now = self.now();
        let busy: BTreeSet<_> = self.model.inputs().filter_map(container_of).collect();
        let pending = self.model.inputs().filter(|input| input.is_pending()).count();
        let known = |job| self.model.jobs[job].inputs.len() as u64;
        let held: u64 = self.full_windows().iter().map(|(job, full)| full - known(job)).sum();
        let ahead = held + self.in_prefetch_queues();
        let all = [
            ("crashes", told.crashes, self.model.crashes),
            ("restarts", told.restarts, self.model.restarts),
            ("late answers", told.late_answers, self.model.late),
            ("inputs waiting", told.inputs_waiting, (pending - busy.len()) as u64 + ahead),
            ("inputs executing", told.executing, busy.len() as u64),
            (
                "idle",
                u64::from(self.engine.under_lock(|state| state.is_idle())),
                u64::from(pending as u64 + ahead == 0),
            ),
            ("given up", u64::from(told.gave_up.is_some()), u64::from(self.model.gave_up)),
        ];
        for (what, told, is) in all {
            assert_eq!(told, is, "status: {what}");
        }
        self.check_snapshot(pending as u64, ahead);
        self.check_calls();
        if self.model.mode < Mode::Aborted {
            let containers = told.containers;
            let live = containers.starting + containers.live + containers.exiting;
            assert_eq!(live, self.model.policy.alive(), "status: containers alive of {containers:?}");
            assert_eq!(containers.hung, self.model.hung.len(), "status: hung");
            let memory = told.memory.expect("it is accounted for");
            assert_eq!(
                (containers.abandoned, memory.abandoned),
                self.model.left_behind(),
                "status: abandoned"
            );
            let loop_crashes = told.crash_loop.map_or(0, |crash_loop| crash_loop.crashes);
            assert_eq!(loop_crashes, self.model.policy.in_a_row(now), "status: loop crashes");
        }
    }

    /// Takes a snapshot, and checks that its numbers are those of the model and that they add up.
    fn check_snapshot(&mut self, pending: u64, ahead: u64) {
        let told = self.engine.snapshot();
        let waits = |which: fn(&WaitsFor) -> bool| {
            let waits =
                |input: &&InputModel| matches!(&input.state, InputState::Waits(queue) if which(queue));
            self.model.inputs().filter(waits).count() as u64
        };
        let totals = told.totals;
        let ended = [totals.ok, totals.failed, totals.poisoned, totals.cancelled, totals.given_up];
        assert_eq!(ended, self.model.ended(), "snapshot: totals");
        let inputs = told.inputs;
        assert_eq!(inputs.pending(), pending + ahead, "snapshot: {inputs:?}");
        assert_eq!(inputs.replay, waits(|queue| *queue == WaitsFor::Replay), "snapshot: {inputs:?}");
        assert_eq!(
            inputs.retry,
            waits(|queue| matches!(queue, WaitsFor::Retry { .. })),
            "snapshot: {inputs:?}"
        );
        let accounted = ended.iter().sum::<u64>() + inputs.pending();
        assert_eq!(totals.accepted + inputs.in_windows, accounted, "snapshot: {told:?}");
        assert_eq!(told.containers.configured(), self.model.plan.rules.containers);
        assert_eq!(totals.crashes.crashes(), self.model.crashes, "snapshot: crashes");
        let causes = told.causes.iter().map(|cause| cause.count).sum::<u64>() + told.causes_other;
        assert_eq!(causes, self.model.crashes, "snapshot: every crash has its cause");
        if self.model.mode < Mode::Aborted {
            let goes_on = told.crash_loop.is_some_and(|crash_loop| crash_loop.ended.is_none());
            assert_eq!(goes_on, self.model.policy.in_a_row(self.now()) > 1, "snapshot: crash loop");
        }
    }

    /// Checks invariant 1, and each count of a job's progress.
    pub(super) fn check_counts(&mut self, job: JobId) {
        let told = self.engine.progress(job);
        self.sync_pulled();
        let entry = &self.model.jobs[&job];
        let count = |end: fn(&ExpectedEnd) -> bool| {
            let ended = |state: InputState| matches!(state, InputState::Done(how) if end(&how));
            entry.inputs.iter().filter(|input| ended(input.state)).count() as u64
        };
        // The engine counts a replay or retry when it is leased, and the model when it begins.
        let assigned = |which: fn(&WaitsFor) -> bool| {
            let leased = |state: InputState| matches!(state, InputState::Leased { from, .. } if which(&from));
            entry.inputs.iter().filter(|input| leased(input.state)).count() as u64
        };
        let replays = assigned(|from| *from == WaitsFor::Replay);
        let retries = assigned(|from| matches!(from, WaitsFor::Retry { .. }));
        let all = [
            ("ok", told.ok, count(|end| matches!(end, ExpectedEnd::Ok { .. }))),
            (
                "failed",
                told.failed,
                count(|end| {
                    matches!(end, ExpectedEnd::Failed | ExpectedEnd::TimedOut | ExpectedEnd::Expired)
                }),
            ),
            ("poisoned", told.poisoned, count(|end| *end == ExpectedEnd::Poisoned)),
            ("given up", told.given_up, count(|end| *end == ExpectedEnd::Unrun(EndReason::GaveUp))),
            (
                "cancelled",
                told.cancelled,
                count(|end| {
                    matches!(
                        end,
                        ExpectedEnd::Lost | ExpectedEnd::Unrun(EndReason::Cancelled | EndReason::ShutDown)
                    )
                }),
            ),
            ("replayed", told.replayed, entry.replayed + replays),
            ("retried", told.retried, entry.retried + retries),
        ];
        for (what, told, is) in all {
            assert_eq!(told, is, "invariant 1: {what} of {told:?} is told, {is} is so");
        }
        let recorded: Vec<u64> = self.engine.under_lock(|state| {
            let known = state.ledger.job(job).expect("its consumer keeps it open");
            known.recorded()
        });
        // The failures of inputs that wait at their deadlines are made when they are taken.
        let ran_to_its_end = |index: &u64| {
            let input = &entry.inputs[*index as usize];
            let waits =
                |end| matches!(end, ExpectedEnd::Unrun(_)) || (end == ExpectedEnd::Expired && !input.yielded);
            matches!(input.state, InputState::Done(end) if !waits(end))
        };
        let kept = recorded.iter().find(|index| ran_to_its_end(index));
        assert_eq!(kept, None, "memory: an input that ended still has a record");
    }

    /// Checks the record of an input that crashed its container. The record may decide something much later.
    pub(super) fn check_record(&mut self, job: JobId, index: u64) {
        let kept = self.engine.under_lock(|state| Some(state.ledger.job(job)?.record(index)?.counted));
        let input = self.model.input(job, index);
        if let Some(kept) = kept.filter(|_| input.is_pending()) {
            assert_eq!(kept, input.counted, "when input {index} last counted a crash");
        }
    }
}

/// The container that an input is assigned to.
fn container_of(input: &InputModel) -> Option<ContainerId> {
    match input.state {
        InputState::Leased { to, .. } => Some(to),
        InputState::Executes { on } => Some(on),
        InputState::Waits(_) | InputState::Done(_) => None,
    }
}

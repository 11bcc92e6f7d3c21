//! The model of dispatch: which input may be given to which container, in which order, and which container
//! must not sleep.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::ids::{ContainerId, JobId};
use crate::decide::job::JobKind;
use crate::decide::ledger::{Lease, LeaseKind, Mode};
use crate::decide::time::Time;
use crate::simulator::eligible::Eligible;
use crate::simulator::model::{InputModel, InputState, Model, WaitsFor};
use crate::values::crash::Previous;

const CALL: usize = 0;
const REQUEUED: usize = 1;
const REPLAY: usize = 2;
const RETRY: usize = 3;
const NEW: usize = 4;

/// The longest time for which an input that is leased ahead waits beside an idle container.
const STEAL_PAUSE: Duration = Duration::from_millis(1);

/// A map is served after this many leases of calls in a row, if one waits. An input is executed again after
/// as many fresh calls.
const CALLS_IN_A_ROW: usize = 3;

impl Model {
    /// A container asks for work. `eligible` has the maps that could be pulled from, here and below.
    pub(super) fn asked(&mut self, eligible: &Eligible, now: Time) {
        self.little_room.asked(eligible, now);
    }

    /// A container was given a lease.
    pub(super) fn claimed(
        &mut self,
        id: ContainerId,
        lease: &Lease,
        previous: Option<&Previous>,
        eligible: &Eligible,
        now: Time,
    ) {
        assert!(
            self.dispatches(),
            "nothing is dispatched during a pause, or once the function gave up or stops"
        );
        self.busy.insert(id);
        let class = self.class(lease, now);
        self.check_order(id, lease, class, eligible, now);
        let suspect = self.is_suspect(lease.job, lease.span.first);
        if class == REPLAY && suspect {
            let crashed = self.input(lease.job, lease.span.first).crashed.expect("a suspect has crashed");
            self.suspects.replays(id, crashed, now, self.plan.rules.containers);
        }
        self.suspects.leased(id, self.crashes);
        self.check_kind(lease, suspect);
        let input = self.input(lease.job, lease.span.first);
        assert_eq!(lease.attempt.get(), input.attempt(), "attempts are numbered over failures and crashes");
        match previous {
            None => assert_eq!(input.attempt(), 1, "a later attempt knows why the one before ended"),
            Some(Previous::Failed) => {
                assert!(!input.previous_crashed && !input.previous_cut && input.failures > 0);
            }
            Some(Previous::TimedOut) => assert!(!input.previous_crashed && input.previous_cut),
            Some(Previous::Crashed(crash)) => {
                assert!(input.previous_crashed);
                let executed = crash.executing.map(|(index, attempt)| (index, attempt.get()));
                assert_eq!(executed, Some((lease.span.first, input.attempt() - 1)), "previous attempt");
            }
        }
        if class == NEW {
            self.take_turn(lease, &eligible.now);
            self.little_room.claimed(lease.job, eligible, now);
        }
        for index in lease.span.indices() {
            let input = self.input(lease.job, index);
            let InputState::Waits(from) = input.state else {
                panic!("invariant 3: input {index} is leased while {:?}", input.state)
            };
            assert!(lease.span.len == 1 || input.executions == 0, "only first attempts travel in ranges");
            input.is_leased(lease.span.len, now);
            input.state = InputState::Leased { to: id, from };
        }
    }

    /// Checks the order of dispatch: calls go before maps, but maps get a quarter, and so do the inputs that
    /// are executed again; due retries and new inputs take turns.
    fn check_order(&mut self, id: ContainerId, lease: &Lease, class: usize, eligible: &Eligible, now: Time) {
        let of_a_map = self.jobs[&lease.job].kind == JobKind::Map;
        let maps_turn = self.calls_in_a_row >= CALLS_IN_A_ROW;
        if of_a_map && maps_turn {
            // The contract does not say which input of a map comes first here, because the inputs of maps and
            // calls wait in the same queues.
        } else {
            let best_behind_calls = self.classes(id, now).filter(|class| *class > CALL).min();
            let again_first = self.fresh_calls_in_a_row >= CALLS_IN_A_ROW
                && best_behind_calls.is_some_and(|class| class < NEW);
            assert!(
                !(again_first && class == CALL),
                "a fourth fresh call went before class {best_behind_calls:?}"
            );
            let best = if again_first { best_behind_calls } else { self.best_class(id, now) }.unwrap_or(NEW);
            self.fresh_calls_in_a_row = if class == CALL { self.fresh_calls_in_a_row + 1 } else { 0 };
            let new_in_turn = class == NEW && best == RETRY && self.retried_last;
            assert!(class <= best || new_in_turn, "dispatch order: class {class} went before class {best}");
            let new_waits = class == RETRY && !eligible.told.is_empty();
            assert!(!(new_waits && self.retried_last), "a retry went before a new input twice in a row");
        }
        if !of_a_map && maps_turn {
            assert_eq!(eligible.told, [], "calls were served for the {}th time", self.calls_in_a_row);
        }
        self.calls_in_a_row = if of_a_map { 0 } else { self.calls_in_a_row + 1 };
        match class {
            RETRY => self.retried_last = true,
            NEW => self.retried_last = false,
            _ => {}
        }
    }

    /// The inputs behind the end of a lease were given back. Returns whether the lease has ever had any.
    pub(super) fn shortened(&mut self, id: ContainerId, lease: &Lease) -> bool {
        let Some(entry) = self.jobs.get_mut(&lease.job) else { return false };
        let mut shorter = false;
        for input in entry.inputs.iter_mut().skip(lease.span.end() as usize) {
            if let InputState::Leased { to, from } = input.state
                && to == id
            {
                input.state =
                    InputState::Waits(if from == WaitsFor::New { WaitsFor::Requeued } else { from });
                shorter = true;
            }
        }
        shorter
    }

    fn check_kind(&mut self, lease: &Lease, suspect: bool) {
        let from = match self.input(lease.job, lease.span.first).state {
            InputState::Waits(from) => from,
            state => panic!("invariant 3: a leased input is {state:?}"),
        };
        let right = match from {
            WaitsFor::New | WaitsFor::Requeued => lease.kind == LeaseKind::First,
            WaitsFor::Replay => lease.kind == LeaseKind::Replay { suspect },
            WaitsFor::Retry { due } => lease.kind == LeaseKind::Retry { due },
            WaitsFor::Leaving => false,
        };
        assert!(right, "an input that waits as {from:?} was leased as {:?}", lease.kind);
    }

    /// Checks that maps take turns: a map that could be served is not passed over more often than there are
    /// other maps.
    fn take_turn(&mut self, lease: &Lease, eligible: &[JobId]) {
        let maps = self.jobs.values().filter(|job| job.kind == JobKind::Map).count();
        self.maps_most = self.maps_most.max(maps);
        let most = self.maps_most;
        for (id, job) in &mut self.jobs {
            if *id == lease.job || !eligible.contains(id) {
                job.passed_over = 0;
            } else {
                job.passed_over += 1;
                assert!(job.passed_over < most, "fairness: a map was passed over {} times", job.passed_over);
            }
        }
    }

    /// These containers sleep, and no other is about to ask for work. So no input may wait that one of them
    /// could take.
    /// `watched` is when the first of them wakes by itself.
    pub(super) fn all_rest(
        &self,
        asleep: &[ContainerId],
        eligible: &Eligible,
        watched: Option<Time>,
        now: Time,
    ) {
        let drained = self.mode == Mode::Draining && !self.inputs().any(InputModel::is_pending);
        assert!(
            !drained && self.mode < Mode::Stopping,
            "a wake-up was lost: containers sleep, and nothing is left that they wait for"
        );
        if self.dispatches() {
            for id in asleep {
                let best = self.best_class(*id, now).filter(|class| *class < NEW);
                assert_eq!(best, None, "work is conserved: {id} sleeps and an input waits");
            }
            assert_eq!(eligible.told, [], "a wake-up was lost: containers sleep, and maps have room");
            self.check_looks_ahead(watched, now);
        }
    }

    /// Checks that a sleeping container wakes within a millisecond while another has inputs that it has not
    /// begun.
    fn check_looks_ahead(&self, watched: Option<Time>, now: Time) {
        let mut in_hand = BTreeSet::new();
        let mut holders = self.inputs().filter_map(|input| match input.state {
            InputState::Leased { to, .. } => Some(to),
            InputState::Executes { on } => Some(on),
            InputState::Waits(_) | InputState::Done(_) => None,
        });
        let ahead = holders.any(|id| !in_hand.insert(id));
        let soon = now + STEAL_PAUSE;
        assert!(
            !ahead || watched.is_some_and(|at| at <= soon),
            "work is conserved: beside inputs that are leased ahead no container looks before {watched:?}"
        );
    }

    /// A container went to sleep, so only new inputs may wait. `watched` is when the first of the sleeping
    /// containers wakes by itself.
    pub(super) fn idle(&mut self, id: ContainerId, eligible: &Eligible, watched: Option<Time>, now: Time) {
        if !self.dispatches() {
            return;
        }
        let best = self.best_class(id, now).filter(|class| *class < NEW);
        assert_eq!(best, None, "an input that may be dispatched was left waiting");
        let maps = &eligible.told;
        assert!(maps.is_empty(), "maps {maps:?} have room and inputs, and a container sleeps");
        let dues = self.waiting().flat_map(|(_, input, queue)| {
            let retry = if let WaitsFor::Retry { due } = queue { Some(due) } else { None };
            let crashed = input.crashed.filter(|_| queue == WaitsFor::Replay);
            let suspect = crashed.map(|(_, at)| self.suspects.dues(at, now, self.plan.rules.containers));
            retry.into_iter().chain(suspect.into_iter().flatten())
        });
        let first_due = dues.min();
        self.check_looks_ahead(watched, now);
        self.little_room.slept(eligible, watched, first_due, now);
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &InputModel> {
        self.jobs.values().flat_map(|job| &job.inputs)
    }

    fn waiting(&self) -> impl Iterator<Item = (JobId, &InputModel, WaitsFor)> {
        self.jobs.iter().flat_map(|(id, job)| job.inputs.iter().map(|input| (*id, input))).filter_map(
            |(job, input)| match input.state {
                InputState::Waits(queue) => Some((job, input, queue)),
                _ => None,
            },
        )
    }

    /// The best class of the waiting inputs that the container must be able to take.
    fn best_class(&self, id: ContainerId, now: Time) -> Option<usize> {
        self.classes(id, now).min()
    }

    /// The classes of the waiting inputs that the container must be able to take.
    fn classes(&self, id: ContainerId, now: Time) -> impl Iterator<Item = usize> {
        let may_replay = move |input: &InputModel| {
            let replays = |crashed| self.suspects.may_replay(id, crashed, now, self.plan.rules.containers);
            input.crashed.is_none_or(replays)
        };
        let class = move |(job, input, queue): (JobId, &InputModel, WaitsFor)| match queue {
            WaitsFor::New if self.jobs[&job].kind == JobKind::Call => Some(CALL),
            WaitsFor::New => Some(NEW),
            WaitsFor::Requeued => Some(REQUEUED),
            WaitsFor::Replay => may_replay(input).then_some(REPLAY),
            WaitsFor::Retry { due } => (due <= now).then_some(RETRY),
            WaitsFor::Leaving => None,
        };
        self.waiting().filter_map(class)
    }

    fn class(&self, lease: &Lease, now: Time) -> usize {
        let job = &self.jobs[&lease.job];
        match job.inputs[lease.span.first as usize].state {
            InputState::Waits(WaitsFor::New) if job.kind == JobKind::Call => CALL,
            InputState::Waits(WaitsFor::New) => NEW,
            InputState::Waits(WaitsFor::Requeued) => REQUEUED,
            InputState::Waits(WaitsFor::Replay) => REPLAY,
            InputState::Waits(WaitsFor::Retry { due }) => {
                assert!(due <= now, "invariant 8: a retry due at {due:?} was dispatched at {now:?}");
                RETRY
            }
            state => panic!("invariant 3: input {} is leased while {state:?}", lease.span.first),
        }
    }

    fn is_suspect(&self, job: JobId, index: u64) -> bool {
        self.jobs[&job].inputs[index as usize].crashed.is_some()
    }

    /// The job whose suspect is being replayed, if a suspect of another job waits for that.
    pub(super) fn awaited_suspect(&self) -> Option<JobId> {
        let (replayed, _) = self.executing(self.suspects.executing().next()?)?;
        let waits = |(job, input, queue): (JobId, &InputModel, WaitsFor)| {
            job != replayed && queue == WaitsFor::Replay && input.crashed.is_some()
        };
        self.waiting().any(waits).then_some(replayed)
    }
}

//! The books of dispatch: which input may be given to whom, in which order, and who must not sleep.

use crate::crash::Previous;
use crate::decide::ids::{ContainerId, JobId};
use crate::decide::job::JobKind;
use crate::decide::ledger::{Lease, LeaseKind, Mode};
use crate::decide::time::Time;
use crate::simulator::books::{Books, InputBook, Queue, State};
use crate::simulator::crumbs::Eligible;

const CALL: usize = 0;
const REQUEUED: usize = 1;
const REPLAY: usize = 2;
const RETRY: usize = 3;
const NEW: usize = 4;

impl Books {
    /// A container asks for work. `eligible` are the maps that could be pulled for, here and below.
    pub(super) fn asked(&mut self, eligible: &Eligible, now: Time) {
        self.crumbs.asked(eligible, now);
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
        assert!(self.goes_on(), "nothing is dispatched once the function gave up or stops");
        self.busy.insert(id);
        let best = self.best_class(now);
        let class = self.class(lease, now);
        assert!(class <= best.unwrap_or(NEW), "dispatch order: class {class} went before class {best:?}");
        let suspect = self.is_suspect(lease.job, lease.span.first);
        if class == REPLAY && suspect {
            assert!(!self.suspect_runs(), "invariant 6: two suspects are replayed at once");
            self.suspect_on = Some(id);
        }
        self.check_kind(lease, suspect);
        let input = self.input(lease.job, lease.span.first);
        assert_eq!(lease.attempt.get(), input.attempt(), "attempts are numbered over failures and crashes");
        match previous {
            None => assert_eq!(input.attempt(), 1, "a later attempt knows why the one before ended"),
            Some(Previous::Failed) => assert!(!input.previous_crashed && input.failures > 0),
            Some(Previous::Crashed(crash)) => {
                assert!(input.previous_crashed);
                let executed = crash.executing.map(|(index, attempt)| (index, attempt.get()));
                assert_eq!(executed, Some((lease.span.first, input.attempt() - 1)), "previous attempt");
            }
        }
        if class == NEW {
            self.take_turn(lease, &eligible.now);
            self.crumbs.claimed(lease.job, eligible, now);
        }
        for index in lease.span.indices() {
            let input = self.input(lease.job, index);
            let State::Waits(from) = input.state else {
                panic!("invariant 3: input {index} is leased while {:?}", input.state)
            };
            assert!(lease.span.len == 1 || input.executions == 0, "only first attempts travel in ranges");
            input.state = State::Leased { to: id, from };
        }
    }

    /// What lies behind the end of a lease was given back, if it ever was a part of it.
    pub(super) fn shortened(&mut self, id: ContainerId, lease: &Lease) -> bool {
        let Some(book) = self.jobs.get_mut(&lease.job) else { return false };
        let mut shorter = false;
        for input in book.inputs.iter_mut().skip(lease.span.end() as usize) {
            if matches!(input.state, State::Leased { to, .. } if to == id) {
                input.state = State::Waits(Queue::Requeued);
                shorter = true;
            }
        }
        shorter
    }

    fn check_kind(&mut self, lease: &Lease, suspect: bool) {
        let from = match self.input(lease.job, lease.span.first).state {
            State::Waits(from) => from,
            state => panic!("invariant 3: a leased input is {state:?}"),
        };
        let right = match from {
            Queue::New | Queue::Requeued => lease.kind == LeaseKind::First,
            Queue::Replay => lease.kind == LeaseKind::Replay { suspect },
            Queue::Retry { due } => lease.kind == LeaseKind::Retry { due },
        };
        assert!(right, "an input that waits as {from:?} was leased as {:?}", lease.kind);
    }

    /// Maps take turns: none that could be served is passed over more often than there are others.
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

    /// Containers sleep, and no other is about to ask: nothing may be waiting that one could do.
    pub(super) fn all_rest(&self, eligible: &Eligible, now: Time) {
        let drained = self.mode == Mode::Draining && !self.inputs().any(InputBook::is_pending);
        assert!(
            !drained && self.mode < Mode::Stopping,
            "a wake-up was lost: containers sleep, and nothing is left that they wait for"
        );
        if self.goes_on() {
            let best = self.best_class(now).filter(|class| *class < NEW);
            assert_eq!(best, None, "a wake-up was lost: containers sleep and an input waits");
            assert_eq!(eligible.told, [], "a wake-up was lost: containers sleep, and maps have room");
        }
    }

    /// A container was sent to sleep: nothing that is not new may be waiting.
    pub(super) fn idle(&mut self, eligible: &Eligible, until: Option<Time>, now: Time) {
        if !self.goes_on() {
            return;
        }
        let best = self.best_class(now).filter(|class| *class < NEW);
        assert_eq!(best, None, "an input that may be dispatched was left waiting");
        let maps = &eligible.now;
        assert!(maps.is_empty(), "maps {maps:?} have room and inputs, and a container sleeps");
        let first_due = self.waiting().filter_map(|(_, _, queue)| match queue {
            Queue::Retry { due } => Some(due),
            _ => None,
        });
        let first_due = first_due.min();
        let beside = self.containers().any(|id| self.in_hand(id) > 1);
        assert!(until.is_some() || !beside, "who sleeps beside what may be split looks again");
        self.crumbs.slept(eligible, until, first_due, now, beside);
    }

    /// Inputs that a container has and that are without an outcome.
    fn in_hand(&self, id: ContainerId) -> usize {
        let in_hand = |input: &&InputBook| match input.state {
            State::Leased { to, .. } => to == id,
            State::Executes { on } => on == id,
            State::Waits(_) | State::Done(_) => false,
        };
        self.inputs().filter(in_hand).count()
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &InputBook> {
        self.jobs.values().flat_map(|job| &job.inputs)
    }

    fn waiting(&self) -> impl Iterator<Item = (JobId, &InputBook, Queue)> {
        self.jobs.iter().flat_map(|(id, job)| job.inputs.iter().map(|input| (*id, input))).filter_map(
            |(job, input)| match input.state {
                State::Waits(queue) => Some((job, input, queue)),
                _ => None,
            },
        )
    }

    fn best_class(&self, now: Time) -> Option<usize> {
        let suspect_runs = self.suspect_on.is_some();
        let class = |(job, input, queue): (JobId, &InputBook, Queue)| match queue {
            Queue::New if self.jobs[&job].kind == JobKind::Call => Some(CALL),
            Queue::New => Some(NEW),
            Queue::Requeued => Some(REQUEUED),
            Queue::Replay if input.crashes > 0 && suspect_runs => None,
            Queue::Replay => Some(REPLAY),
            Queue::Retry { due } => (due <= now).then_some(RETRY),
        };
        self.waiting().filter_map(class).min()
    }

    fn class(&self, lease: &Lease, now: Time) -> usize {
        let job = &self.jobs[&lease.job];
        match job.inputs[lease.span.first as usize].state {
            State::Waits(Queue::New) if job.kind == JobKind::Call => CALL,
            State::Waits(Queue::New) => NEW,
            State::Waits(Queue::Requeued) => REQUEUED,
            State::Waits(Queue::Replay) => REPLAY,
            State::Waits(Queue::Retry { due }) => {
                assert!(due <= now, "invariant 8: a retry due at {due:?} was dispatched at {now:?}");
                RETRY
            }
            state => panic!("invariant 3: input {} is leased while {state:?}", lease.span.first),
        }
    }

    fn is_suspect(&self, job: JobId, index: u64) -> bool {
        self.jobs[&job].inputs[index as usize].crashes > 0
    }

    /// The job whose suspect is being replayed, if a suspect of another waits for it.
    pub(super) fn awaited_suspect(&self) -> Option<JobId> {
        let (replayed, _) = self.executing(self.suspect_on?)?;
        let waits = |(job, input, queue): (JobId, &InputBook, Queue)| {
            job != replayed && queue == Queue::Replay && input.crashes > 0
        };
        self.waiting().any(waits).then_some(replayed)
    }

    /// Whether a known suspect is being replayed.
    fn suspect_runs(&self) -> bool {
        self.jobs.values().flat_map(|job| &job.inputs).any(|input| {
            let replayed = match input.state {
                State::Leased { from, .. } => from == Queue::Replay,
                State::Executes { .. } => input.previous_crashed,
                State::Waits(_) | State::Done(_) => false,
            };
            replayed && input.crashes > 0
        })
    }
}

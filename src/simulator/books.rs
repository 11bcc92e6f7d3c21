//! The naive books: what every input must be, worked out from what has happened to it.
//!
//! They know no ranges, queues or leases, only inputs one by one, and judge each event of a world
//! by the contract. Checks bear the numbers of the invariants in `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::crash::Previous;
use crate::decide::ids::{ContainerId, Generation, JobId};
use crate::decide::job::{DEATHS_MAX, JobKind};
use crate::decide::ledger::{Lease, LeaseKind, Mode};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::simulator::crumbs::{Crumbs, Eligible};
use crate::simulator::plan::Plan;
use crate::simulator::policy::{ExpectedRestart, NaivePolicy};

/// What an input waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    /// Its first execution; it was never assigned.
    New,
    /// Its first execution; it was assigned to a container that died.
    Requeued,
    Replay,
    Retry {
        due: Time,
    },
}

/// How an input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Ok { attempt: u32 },
    Failed,
    Poisoned,
    Lost,
    Unrun(Why),
}

/// Why inputs end that did not run to an end of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Cancelled,
    ShutDown,
    GaveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waits(Queue),
    /// Assigned to a container, where it waits for its turn.
    Leased {
        to: ContainerId,
        from: Queue,
    },
    Executes {
        on: ContainerId,
    },
    Done(End),
}

#[derive(Debug)]
pub(super) struct InputBook {
    pub(super) state: State,
    pub(super) failures: u32,
    pub(super) crashes: u32,
    pub(super) kills: u32,
    /// Threads that it has left behind.
    abandoned: u32,
    /// The attempts in which it crashed its containers.
    pub(super) deaths: Vec<u32>,
    /// When it last counted a crash towards the restart policy.
    pub(super) counted: Option<Time>,
    /// Whether the previous attempt ended with its container.
    previous_crashed: bool,
    pub(super) yielded: bool,
    /// Executions begun, of all kinds.
    pub(super) executions: u32,
}

impl InputBook {
    pub(super) fn attempt(&self) -> u32 {
        1 + self.failures + self.crashes + self.kills
    }

    pub(super) fn is_pending(&self) -> bool {
        !matches!(self.state, State::Done(_))
    }
}

#[derive(Debug)]
pub(super) struct JobBook {
    pub(super) tag: u64,
    pub(super) kind: JobKind,
    /// Whether it goes on after a failure.
    pub(super) goes_on: bool,
    /// A window set by the user.
    pub(super) window: Option<u64>,
    pub(super) inputs: Vec<InputBook>,
    /// Why it ended before its inputs did; what was pulled later ends so too.
    pub(super) ended: Option<Why>,
    pub(super) replayed: u64,
    pub(super) retried: u64,
    /// How often another map was served while this one could have been.
    passed_over: usize,
}

/// The books of one world.
#[derive(Debug)]
pub(super) struct Books {
    plan: Plan,
    pub(super) policy: NaivePolicy,
    pub(super) jobs: BTreeMap<JobId, JobBook>,
    pub(super) mode: Mode,
    pub(super) gave_up: bool,
    /// Answers that were refused.
    pub(super) late: u64,
    pub(super) crashes: u64,
    pub(super) restarts: u64,
    /// The current generation of each container.
    current: BTreeMap<ContainerId, Generation>,
    /// The container that replays a known suspect, until it asks for work again.
    suspect_on: Option<ContainerId>,
    /// The most maps that were open at once.
    maps_most: usize,
    crumbs: Crumbs,
    /// What containers execute though its job is over: how often it crashed a container before, and
    /// when that last counted.
    strays: BTreeMap<ContainerId, (u32, Option<Time>)>,
    /// Whether the last crash of a container came after progress, so that it may restart at once.
    progressed: BTreeMap<ContainerId, bool>,
    /// Containers that have not entered, or not come back from their last lease.
    busy: BTreeSet<ContainerId>,
    /// Threads that were left behind in the user's code, and what they hold.
    left_behind: BTreeMap<(ContainerId, Generation), u64>,
    /// Containers in their `exit`.
    exiting: BTreeSet<ContainerId>,
    /// Containers that are not there, but whose threads are about to begin anew.
    returning: BTreeSet<ContainerId>,
    /// How the container dies that dies now.
    dying: Dying,
}

/// How a container dies.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dying {
    /// In the user's code, and is replaced under it.
    pub(super) leaves_a_thread: bool,
    /// And with it there are as many of those as there may be, or they hold as much as they may.
    pub(super) crowded: bool,
    /// As many.
    full: bool,
}

/// What a crash came to, for the tally.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct AfterCrash {
    pub(super) gave_up: bool,
    pub(super) poisoned: bool,
}

impl Books {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            policy: NaivePolicy::new(plan),
            jobs: BTreeMap::new(),
            mode: Mode::Running,
            gave_up: false,
            late: 0,
            crashes: 0,
            restarts: 0,
            current: BTreeMap::new(),
            suspect_on: None,
            maps_most: 0,
            crumbs: Crumbs::default(),
            strays: BTreeMap::new(),
            progressed: BTreeMap::new(),
            busy: BTreeSet::new(),
            left_behind: BTreeMap::new(),
            exiting: BTreeSet::new(),
            returning: BTreeSet::new(),
            dying: Dying::default(),
        }
    }

    /// Whether inputs are still dispatched and containers created.
    pub(super) fn goes_on(&self) -> bool {
        self.mode <= Mode::Draining && !self.gave_up
    }

    pub(super) fn opened(&mut self, job: JobId, tag: u64, kind: JobKind, goes_on: bool, window: Option<u64>) {
        assert!(self.mode == Mode::Running && !self.gave_up, "a function that takes nothing took a job");
        let inputs = Vec::new();
        let book = JobBook {
            tag,
            kind,
            goes_on,
            window,
            inputs,
            ended: None,
            replayed: 0,
            retried: 0,
            passed_over: 0,
        };
        self.jobs.insert(job, book);
    }

    /// So many inputs of a job were pulled by now.
    pub(super) fn pulled(&mut self, job: JobId, inputs: u64) {
        let before = self.jobs.get(&job).map_or(inputs, |job| job.inputs.len() as u64);
        assert!(
            inputs == before || self.mode == Mode::Running,
            "a source is pulled though the function drains"
        );
        self.accepted(job, inputs);
    }

    fn accepted(&mut self, job: JobId, inputs: u64) {
        let Some(job) = self.jobs.get_mut(&job) else { return };
        assert!(inputs >= job.inputs.len() as u64, "invariant 1: inputs were unpulled");
        while (job.inputs.len() as u64) < inputs {
            let state = job.ended.map_or(State::Waits(Queue::New), |why| State::Done(End::Unrun(why)));
            job.inputs.push(InputBook {
                state,
                failures: 0,
                crashes: 0,
                kills: 0,
                abandoned: 0,
                deaths: Vec::new(),
                counted: None,
                previous_crashed: false,
                yielded: false,
                executions: 0,
            });
        }
    }

    /// An input was pulled that is not taken any more: it ends at once.
    pub(super) fn refused(&mut self, job: JobId) {
        let why = if self.gave_up {
            Why::GaveUp
        } else if self.mode > Mode::Running {
            Why::ShutDown
        } else {
            Why::Cancelled
        };
        let Some(book) = self.jobs.get_mut(&job) else { return };
        let ended = book.ended.replace(why);
        let inputs = book.inputs.len() as u64 + 1;
        self.accepted(job, inputs);
        self.jobs.get_mut(&job).expect("it is open").ended = ended;
    }

    /// The source of a map panicked.
    pub(super) fn source_panicked(&mut self, job: JobId) {
        if self.jobs.get(&job).is_some_and(|job| !job.goes_on) {
            self.end_job(job, Why::Cancelled);
        }
    }

    // ---- containers ----

    pub(super) fn container_begun(&mut self, id: ContainerId, generation: Generation, now: Time) {
        assert!(self.goes_on(), "invariant 8: {id} was created though the function does not go on");
        if let Some(before) = self.current.get(&id) {
            assert!(!self.policy.is_alive(id, *before), "invariant 12: {id}#{before} lives and was replaced");
            assert!(generation > *before, "invariant 12: generations grow");
        }
        let progressed = self.progressed.get(&id).copied().unwrap_or(false);
        if let Some(due) = self.policy.held_until(now) {
            assert!(progressed, "invariant 8: {id} was created at {now:?}, inside the delay until {due:?}");
        }
        self.returning.remove(&id);
        self.restarts += u64::from(generation.get() > 1);
        self.progressed.insert(id, false);
        self.came_back(id);
        self.busy.insert(id);
        self.current.insert(id, generation);
        self.policy.begun(id, generation);
    }

    /// A container was created on a thread of its own.
    pub(super) fn container_created(&self, id: ContainerId) {
        assert!(!self.is_full(0), "{id} was created though there are {:?}", self.left_behind);
    }

    /// A container was looked for and not created.
    pub(super) fn container_not_created(&mut self, id: ContainerId, all_booked: bool, now: Time) {
        if !self.is_full(0) {
            self.container_not_begun(id, all_booked, now);
        }
    }

    /// Whether so many threads more are as many as may be left behind.
    fn is_full(&self, threads: usize) -> bool {
        self.left_behind.len() + threads >= self.plan.memory.abandoned_max
    }

    /// Whether they hold as much as they may, with so many bytes more.
    fn is_large(&self, bytes: u64) -> bool {
        let held = self.left_behind.values().sum::<u64>() + bytes;
        self.plan.memory.abandoned_bytes_max.is_some_and(|most| held >= most)
    }

    /// A container is about to be killed, by hand or for its memory; its thread holds so many bytes.
    pub(super) fn dies_from_outside(&mut self, id: ContainerId, generation: Generation, bytes: u64) -> Dying {
        let leaves_a_thread = self.busy.contains(&id);
        let full = self.is_full(usize::from(leaves_a_thread));
        let crowded = leaves_a_thread && (full || self.is_large(bytes));
        if leaves_a_thread {
            self.left_behind.insert((id, generation), bytes);
        }
        self.dying = Dying { leaves_a_thread, crowded, full };
        self.dying
    }

    /// A container dies in its own thread, which comes out.
    pub(super) fn dies_by_itself(&mut self) {
        self.dying = Dying { full: self.is_full(0), ..Dying::default() };
    }

    /// Whether nobody is left once a container has died, and nobody can be created: a limited function gives up.
    fn is_hopeless(&self) -> bool {
        self.dying.full && self.policy.is_limited() && self.policy.alive() == 1 && self.returning.is_empty()
    }

    /// Whether a container that asks for work may exit to begin anew.
    pub(super) fn may_recycle(&self, id: ContainerId, generation: Generation) -> bool {
        let going_on = self.mode == Mode::Running && !self.gave_up;
        let room = !self.is_full(1 + self.exiting.len()) && !self.is_large(0);
        self.is_alive(id, generation) && going_on && room
    }

    /// It does.
    pub(super) fn recycled(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.came_back(id);
        self.progressed.insert(id, true);
        self.policy.leaves(id, generation, now);
    }

    /// A recycled container has exited, and is about to begin anew.
    pub(super) fn returns(&mut self, id: ContainerId) {
        self.returning.insert(id);
    }

    /// Whether that thread was left behind.
    pub(super) fn is_left_behind(&self, id: ContainerId, generation: Generation) -> bool {
        self.left_behind.contains_key(&(id, generation))
    }

    /// A thread was left behind in its `exit`.
    pub(super) fn exit_left_behind(&mut self, id: ContainerId, generation: Generation) {
        self.left_behind.insert((id, generation), 0);
    }

    /// What a thread holds that was left behind.
    pub(super) fn left_behind_holds(&mut self, id: ContainerId, generation: Generation, bytes: u64) {
        if let Some(held) = self.left_behind.get_mut(&(id, generation)) {
            *held = bytes;
        }
    }

    /// A container is at work, or ready for it.
    pub(super) fn has_entered(&mut self, id: ContainerId) {
        self.busy.remove(&id);
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&mut self, id: ContainerId, generation: Generation) {
        self.left_behind.remove(&(id, generation));
        if self.current.get(&id) == Some(&generation) {
            self.returning.remove(&id);
        }
    }

    /// Threads left behind, and what they hold.
    pub(super) fn left_behind(&self) -> (usize, u64) {
        (self.left_behind.len(), self.left_behind.values().sum())
    }

    /// A container was looked for and not begun: then something holds it back. `all_booked` says
    /// whether the engine can know of every completion, and so that a loop has ended.
    pub(super) fn container_not_begun(&mut self, id: ContainerId, all_booked: bool, now: Time) {
        let may_begin = self.may_begin(id, all_booked, now);
        assert!(!may_begin, "{id} was held back at {now:?} though no delay is for it");
    }

    fn may_begin(&mut self, id: ContainerId, all_booked: bool, now: Time) -> bool {
        let lives = self.current.get(&id).is_some_and(|generation| self.policy.is_alive(id, *generation));
        let progressed = self.progressed.get(&id).copied().unwrap_or(false);
        let wanted = self.mode == Mode::Running && !self.gave_up && !lives;
        wanted && (progressed || (all_booked && self.policy.held_until(now).is_none()))
    }

    /// Nothing is about to happen: if a loop has ended, the containers that its delay held were looked for.
    pub(super) fn nobody_is_held(&mut self, now: Time) {
        if self.policy.recovered {
            let held = (!self.is_full(0)).then(|| self.containers()).into_iter().flatten();
            let held = held.into_iter().find(|id| self.may_begin(*id, true, now));
            assert_eq!(held, None, "held back though its crash loop has ended");
        }
    }

    fn containers(&self) -> impl Iterator<Item = ContainerId> + use<> {
        (0..self.plan.rules.containers as u32).map(ContainerId)
    }

    pub(super) fn is_alive(&self, id: ContainerId, generation: Generation) -> bool {
        self.policy.is_alive(id, generation)
    }

    /// A container begins its `exit`.
    pub(super) fn exits(&mut self, id: ContainerId) {
        self.exiting.insert(id);
    }

    /// A container asks for work: whatever it executed, it does so no more.
    pub(super) fn came_back(&mut self, id: ContainerId) {
        self.busy.remove(&id);
        self.strays.remove(&id);
        self.suspect_on.take_if(|on| *on == id);
    }

    /// A job is forgotten.
    pub(super) fn closed(&mut self, job: JobId) {
        self.end_job(job, Why::Cancelled);
        self.jobs.remove(&job);
    }

    /// A container ended gracefully or was killed: the inputs it had not begun wait again.
    pub(super) fn container_ended(&mut self, id: ContainerId, now: Time) {
        let generation = self.current[&id];
        self.exiting.remove(&id);
        if self.policy.is_alive(id, generation) {
            self.policy.ended(id, generation, now);
        }
        self.give_back(id);
    }

    /// The inputs that a container was assigned and has not begun wait again.
    fn give_back(&mut self, id: ContainerId) {
        self.suspect_on.take_if(|on| *on == id);
        for input in self.jobs.values_mut().flat_map(|job| &mut job.inputs) {
            if let State::Leased { to, from } = input.state
                && to == id
            {
                input.state = State::Waits(if from == Queue::New { Queue::Requeued } else { from });
            }
        }
    }

    /// The input a container executes.
    pub(super) fn executing(&self, id: ContainerId) -> Option<(JobId, u64)> {
        let on = |input: &InputBook| input.state == State::Executes { on: id };
        self.jobs.iter().find_map(|(job, book)| Some((*job, book.inputs.iter().position(on)? as u64)))
    }

    pub(super) fn input(&mut self, job: JobId, index: u64) -> &mut InputBook {
        let book = self.jobs.get_mut(&job).expect("the job is open");
        &mut book.inputs[index as usize]
    }

    // ---- dispatch ----

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
        assert!(!drained, "a wake-up was lost: containers sleep, and nothing is left that they wait for");
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

    // ---- executions ----

    pub(super) fn begun(&mut self, id: ContainerId, job: JobId, index: u64) {
        let (retries, crash_retries) = (self.plan.rules.retries.retries_max(), self.plan.rules.crash_retries);
        let book = self.jobs.get_mut(&job).expect("the job is open");
        let input = &mut book.inputs[index as usize];
        let State::Leased { to, from } = input.state else {
            panic!("invariant 3: input {index} begins while {:?}", input.state)
        };
        assert_eq!(to, id, "invariant 3: input {index} begins on another container");
        match from {
            Queue::Replay => book.replayed += 1,
            Queue::Retry { .. } => book.retried += 1,
            Queue::New | Queue::Requeued => {}
        }
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
        input.state = State::Executes { on: id };
    }

    /// An execution returned `Ok`; whether its answer is to be accepted.
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
        input.state = State::Done(End::Ok { attempt: input.attempt() });
        true
    }

    fn executes(&self, id: ContainerId, generation: Generation, job: JobId, index: u64) -> bool {
        self.is_alive(id, generation)
            && self
                .jobs
                .get(&job)
                .and_then(|job| job.inputs.get(index as usize))
                .is_some_and(|input| input.state == State::Executes { on: id })
    }

    /// An execution returned `Err`; whether it was accepted, and whether the map goes on. `seeded`
    /// retries are drawn, so `due` is what the engine said.
    pub(super) fn returned_err(
        &mut self,
        id: ContainerId,
        generation: Generation,
        (job, index): (JobId, u64),
        worth: bool,
        due: Option<Time>,
        now: Time,
    ) {
        if !self.executes(id, generation, job, index) {
            self.late += 1;
            return;
        }
        self.policy.completed(id, generation, now);
        let goes_on = self.goes_on();
        let retries = self.plan.rules.retries.clone();
        let input = self.input(job, index);
        input.failures += 1;
        input.previous_crashed = false;
        if worth && goes_on && input.failures <= retries.retries_max() {
            let delay = naive_delay(&self.plan, self.jobs[&job].inputs[index as usize].failures);
            let due = due.expect("an error worth a retry within the budget is retried");
            let least = if retries.jitter_source().is_some() { delay / 2 } else { delay };
            assert!(
                (now + least..=now + delay).contains(&due),
                "delays: due at {due:?}, not {delay:?} after {now:?}"
            );
            self.input(job, index).state = State::Waits(Queue::Retry { due });
            return;
        }
        assert_eq!(due, None, "a retry beyond the budget, of an error not worth it, or of an ended function");
        input.state = State::Done(End::Failed);
        if !self.jobs[&job].goes_on {
            self.end_job(job, Why::Cancelled);
        }
    }

    /// A container crashed, and that is the verdict.
    pub(super) fn crashed(
        &mut self,
        id: ContainerId,
        generation: Generation,
        said: Option<Restart>,
        now: Time,
    ) -> AfterCrash {
        if !self.is_alive(id, generation) {
            assert!(said.is_none(), "invariant 12: a generation that was over crashed");
            return AfterCrash::default();
        }
        let said = said.expect("a living generation has a verdict");
        self.crashes += 1;
        let executing = self.executing(id);
        let of_input = executing.map(|(job, index)| {
            let input = self.input(job, index);
            (input.crashes, input.counted)
        });
        let of_input = of_input.or_else(|| self.strays.remove(&id));
        let expected = self.policy.crashed(id, generation, of_input, now);
        let gave_up = said == Restart::GiveUp;
        let in_place = !self.dying.leaves_a_thread && expected.restart == ExpectedRestart::Now;
        let nobody_left = !in_place && self.is_hopeless();
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
        if said == Restart::Now && !self.dying.leaves_a_thread {
            self.returning.insert(id);
        }
        let progressed = self.policy.has_progressed(id, generation);
        self.progressed.insert(id, progressed);
        let ended = self.container_dies(id, executing, expected.counted, now);
        self.gave_up |= gave_up && self.mode <= Mode::Draining;
        AfterCrash { gave_up, poisoned: ended }
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
            let input = self.input(job, index);
            input.deaths.push(input.attempt());
            input.crashes += 1;
            input.previous_crashed = true;
            if counted {
                input.counted = Some(now);
            }
            input.state = State::Waits(Queue::Replay);
            input.abandoned += u32::from(dying.leaves_a_thread);
            let for_good = dying.crowded || (dying.leaves_a_thread && input.abandoned >= 2);
            if input.crashes > crash_retries || for_good {
                input.state = State::Done(End::Poisoned);
                poisoned = true;
            }
            self.container_ended(id, now);
            self.end_crowded();
            if poisoned && !self.jobs[&job].goes_on {
                self.end_job(job, Why::Cancelled);
            }
        } else {
            self.container_ended(id, now);
            self.end_crowded();
        }
        self.sweep();
        poisoned
    }

    /// A container was killed by hand. Whether that lost an input.
    pub(super) fn killed(&mut self, id: ContainerId, now: Time) -> bool {
        let executing = self.executing(id);
        self.gave_up |= self.is_hopeless() && self.mode <= Mode::Draining;
        let mut lost = None;
        if let Some((job, index)) = executing {
            let at_most_once = self.plan.rules.crash_retries == 0;
            let dying = self.dying;
            let input = self.input(job, index);
            input.kills += 1;
            input.abandoned += u32::from(dying.leaves_a_thread);
            let for_good = dying.crowded || (dying.leaves_a_thread && input.abandoned >= 2);
            input.previous_crashed = true;
            input.state = State::Waits(Queue::Replay);
            if at_most_once || for_good {
                input.state = State::Done(End::Lost);
                lost = Some(job);
            }
        }
        self.container_ended(id, now);
        self.end_crowded();
        if let Some(job) = lost
            && !self.jobs[&job].goes_on
        {
            self.end_job(job, Why::Cancelled);
        }
        self.sweep();
        lost.is_some()
    }

    /// There may be no more threads left behind: inputs that wait to be replayed, and have left one, end.
    fn end_crowded(&mut self) {
        if !self.dying.crowded {
            return;
        }
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            for input in &mut job.inputs {
                if input.state == State::Waits(Queue::Replay) && input.abandoned > 0 {
                    let end = if input.crashes > 0 { End::Poisoned } else { End::Lost };
                    input.state = State::Done(end);
                    ended.extend((!job.goes_on).then_some(*id));
                }
            }
        }
        ended.into_iter().for_each(|job| self.end_job(job, Why::Cancelled));
    }

    // ---- endings ----

    /// Every input of a job without an outcome ends, and what is executing is fenced.
    pub(super) fn end_job(&mut self, job: JobId, why: Why) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        book.ended.get_or_insert(why);
        for input in &mut book.inputs {
            if let State::Executes { on } | State::Leased { to: on, .. } = input.state {
                self.suspect_on.take_if(|suspect_on| *suspect_on == on);
            }
            if let State::Executes { on } = input.state {
                self.strays.insert(on, (input.crashes, input.counted));
            }
            if input.is_pending() {
                input.state = State::Done(End::Unrun(why));
            }
        }
    }

    pub(super) fn end_all(&mut self, why: Why, is_over: impl Fn(JobId) -> bool) {
        for job in self.jobs.keys().copied().collect::<Vec<_>>() {
            if self.jobs[&job].inputs.iter().any(InputBook::is_pending) || !is_over(job) {
                self.end_job(job, why);
            }
        }
    }

    /// While the function stops, only what executes goes on.
    pub(super) fn sweep(&mut self) {
        if self.mode != Mode::Stopping {
            return;
        }
        for job in self.jobs.values_mut() {
            for input in &mut job.inputs {
                if matches!(input.state, State::Waits(_) | State::Leased { .. }) {
                    input.state = State::Done(End::Unrun(Why::ShutDown));
                }
            }
            job.ended.get_or_insert(Why::ShutDown);
        }
    }

    /// Nothing lives any more.
    pub(super) fn all_dead(&mut self, now: Time) {
        for (id, generation) in self.current.clone() {
            if self.policy.is_alive(id, generation) {
                self.policy.ended(id, generation, now);
            }
        }
    }

    // ---- outcomes ----

    /// The deaths that a poisoned input must tell of.
    pub(super) fn deaths_told(&self, job: JobId, index: u64) -> &[u32] {
        let deaths = &self.jobs[&job].inputs[index as usize].deaths;
        &deaths[..deaths.len().min(DEATHS_MAX)]
    }
}

const CALL: usize = 0;
const REQUEUED: usize = 1;
const REPLAY: usize = 2;
const RETRY: usize = 3;
const NEW: usize = 4;

/// The delay before retry `k`, by plain multiplication.
fn naive_delay(plan: &Plan, k: u32) -> Duration {
    let (initial, coefficient, max) = plan.rules.retries.settings();
    let mut nanos = initial.as_nanos() as f64;
    for _ in 1..k {
        nanos *= coefficient;
    }
    let nanos = nanos.min(max.as_nanos() as f64).round();
    Duration::from_nanos(nanos as u64)
}

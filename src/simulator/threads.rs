//! Simulated threads of containers: each lives the [life](crate::engine::life) of its container in steps, between which
//! anything may happen, and plays the user's code and the loop of `engine/body.rs` around it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::code::token::{self, Token};
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::run::Run;
use crate::decide::ledger::{Lease, Retryable};
use crate::decide::life::{Act, Event, Next, Part, Served};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, Work};
use crate::engine::life::Living;
use crate::memory::account::Account;
use crate::simulator::plan::Act as Deed;
use crate::simulator::values::{Refusal, SimInput, SimOutput};
use crate::simulator::world::World;
use crate::values::crash::{Death, Panic};

/// A thread of a container.
pub(super) struct SimThread {
    pub(super) id: ContainerId,
    living: Living,
    pub(super) phase: ThreadPhase,
    /// How long `enter` takes in the first generation of the thread.
    enter_takes: Duration,
}

/// Where a thread is.
pub(super) enum ThreadPhase {
    /// What its life asks for is the engine's to do, or the drop of its state.
    Between,
    Entering {
        until: Time,
    },
    /// It asks for work.
    Asking,
    Asleep {
        until: Option<Time>,
    },
    /// It has its run and has not looked whether it may begin.
    Beginning {
        task: SimTask,
    },
    Executing {
        task: SimTask,
        place: usize,
        until: Option<Time>,
    },
    /// It has the right to publish and has not yet done so.
    Publishing {
        task: SimTask,
        place: usize,
        answer: SimOutput,
        last: bool,
    },
    Exiting {
        until: Time,
        /// It is to begin anew after it.
        recycles: bool,
    },
    Over,
}

/// A run in a thread's hands.
pub(super) struct SimTask {
    run: Arc<Run>,
    lease: Lease,
}

impl SimTask {
    pub(super) fn job(&self) -> JobId {
        self.lease.job
    }

    #[expect(unsafe_code, reason = "a right to publish that was given is used in a later step")]
    fn publish(&self, place: usize, answer: SimOutput) {
        // SAFETY: the right was given with the step, and dropped unused.
        unsafe { self.run.publish_at::<SimInput, SimOutput, Refusal>(place, answer) };
        // SAFETY: its outcome has just been published.
        unsafe { self.run.chunk.drop_input(place) };
    }

    fn index(&self, place: usize) -> u64 {
        self.run.chunk.first() + place as u64
    }
}

impl std::fmt::Debug for SimThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} ", self.id, self.generation())?;
        match &self.phase {
            ThreadPhase::Between => write!(f, "comes to {:?}", self.living.life.act()),
            ThreadPhase::Entering { .. } => write!(f, "has entered"),
            ThreadPhase::Asking => write!(f, "asks"),
            ThreadPhase::Asleep { .. } => write!(f, "wakes"),
            ThreadPhase::Beginning { task } => write!(f, "begins {:?}", task.lease),
            ThreadPhase::Executing { task, place, .. } => {
                write!(f, "returns from {:?} {}", task.lease.job, task.index(*place))
            }
            ThreadPhase::Publishing { task, place, .. } => {
                write!(f, "publishes {:?} {}", task.lease.job, task.index(*place))
            }
            ThreadPhase::Exiting { .. } => write!(f, "has exited"),
            ThreadPhase::Over => write!(f, "is over"),
        }
    }
}

impl SimThread {
    pub(super) fn new(
        engine: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
        enter_takes: Duration,
    ) -> Self {
        let token = |engine: &Dispatch| Ok(Token::of_no_thread(engine.open_account()?));
        let living = Living::new(engine, id, generation, token);
        Self { id, living, phase: ThreadPhase::Between, enter_takes }
    }

    pub(super) fn generation(&self) -> Generation {
        self.living.generation()
    }

    /// Whether its current generation has come so far as to be tied.
    pub(super) fn is_tied(&self) -> bool {
        !matches!(self.living.life.act(), Act::Tie)
    }

    /// The account of its current generation, once that is tied.
    fn account(&self) -> Option<&'static Account> {
        let token = self.living.token.as_ref()?;
        Some(token.account().expect("there are many").counters())
    }

    /// The user's code allocates. Whether that is more than it may, for the first time.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let account = self.account().expect("it is tied before it runs the user's code");
        account.charge(account.epoch(), bytes as i64, bytes as i64)
    }

    /// What its code holds.
    pub(super) fn holds(&self) -> u64 {
        self.account().map_or(0, |account| account.live() as u64)
    }

    /// It frees that, as it does when its state is dropped.
    fn shrink(&self) {
        if let Some(account) = self.account() {
            account.credit(account.epoch(), account.live());
        }
    }

    fn is_over_limit(&self) -> bool {
        self.account().is_some_and(Account::is_over_limit)
    }

    /// When it can go on; `None` if something must happen before.
    pub(super) fn ready_at(&self) -> Option<Time> {
        match &self.phase {
            ThreadPhase::Entering { until } | ThreadPhase::Exiting { until, .. } => Some(*until),
            ThreadPhase::Asleep { until } | ThreadPhase::Executing { until, .. } => *until,
            ThreadPhase::Over => None,
            ThreadPhase::Between
            | ThreadPhase::Asking
            | ThreadPhase::Beginning { .. }
            | ThreadPhase::Publishing { .. } => Some(Time::default()),
        }
    }

    /// Whether it may have completed something that the engine has not looked at.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(
            self.phase,
            ThreadPhase::Executing { .. } | ThreadPhase::Publishing { .. } | ThreadPhase::Asking
        )
    }

    pub(super) fn is_publishing_anything(&self) -> bool {
        matches!(&self.phase, ThreadPhase::Publishing { .. })
    }

    pub(super) fn is_publishing(&self, job: JobId) -> bool {
        matches!(&self.phase, ThreadPhase::Publishing { task, .. } if task.job() == job)
    }
}

impl World {
    /// One step of one thread.
    pub(super) fn advance(&mut self, at: usize) {
        let thread = &mut self.threads[at];
        let (id, generation) = (thread.id, thread.generation());
        let phase = match std::mem::replace(&mut thread.phase, ThreadPhase::Over) {
            ThreadPhase::Between => self.go_on(at),
            ThreadPhase::Entering { .. } => self.enter(at),
            ThreadPhase::Asleep { .. } => {
                self.engine.wake(id, generation);
                ThreadPhase::Asking
            }
            ThreadPhase::Asking => self.ask(at),
            ThreadPhase::Beginning { task } => self.begin(id, task),
            ThreadPhase::Executing { .. } if thread.is_over_limit() => {
                self.tally.died_of_memory += 1;
                self.unwinds(at)
            }
            ThreadPhase::Executing { task, place, .. } => {
                self.interrupted(at).unwrap_or_else(|| self.finish(at, task, place))
            }
            ThreadPhase::Publishing { task, place, answer, last } => {
                task.publish(place, answer);
                if last { ThreadPhase::Asking } else { self.execute(task, place + 1) }
            }
            ThreadPhase::Exiting { recycles, .. } => {
                thread.living.exited(Ok(()));
                self.leave(at, recycles)
            }
            ThreadPhase::Over => unreachable!("threads that are over are removed"),
        };
        self.threads[at].phase = phase;
    }

    /// The engine does its part of the life of a thread. What comes of it is heard by the thread, and returned.
    fn perform(&mut self, at: usize) -> Event {
        let living = &mut self.threads[at].living;
        let event = living.perform();
        living.hear(event.clone());
        self.sync_pulled();
        event
    }

    /// What the life of a thread asks for between the parts of the user's code: one act, before which its state may be
    /// dropped.
    fn go_on(&mut self, at: usize) -> ThreadPhase {
        let thread = &mut self.threads[at];
        let (id, generation) = (thread.id, thread.generation());
        match thread.living.life.act() {
            Act::Tie => self.tie(at),
            Act::Run(Part::Drop) => {
                thread.shrink();
                thread.living.hear(Event::Dropped);
                self.go_on(at)
            }
            Act::Begin => {
                let begun = self.perform(at);
                let is_left_behind = self.model.is_left_behind(id, generation);
                self.begun(at, begun, is_left_behind)
            }
            Act::EnterAnew => {
                let begun = self.perform(at);
                self.model.interrupted(id, generation, self.now());
                self.begun(at, begun, false)
            }
            Act::End => self.end(at),
            act => unreachable!("{act:?} is done where it comes up"),
        }
    }

    /// A thread begins another generation, or does not.
    fn begun(&mut self, at: usize, begun: Event, is_left_behind: bool) -> ThreadPhase {
        let id = self.threads[at].id;
        match begun {
            Event::Begun(Some(next)) => {
                self.model.container_begun(id, next, self.now());
                self.threads[at].enter_takes = Duration::ZERO;
            }
            _ if is_left_behind => {}
            _ => self.model.container_not_begun(id, self.all_committed(), self.now()),
        }
        ThreadPhase::Between
    }

    fn end(&mut self, at: usize) -> ThreadPhase {
        let thread = &self.threads[at];
        let (id, generation, fate) = (thread.id, thread.generation(), thread.living.life.fate().cloned());
        let lived = self.model.is_alive(id, generation);
        // Of a later generation, on another thread, nothing is said by the end of this one.
        let speaks =
            self.model.current.get(&id) == Some(&generation) && !self.model.is_left_behind(id, generation);
        if let Some(fate) = fate.filter(|_| speaks) {
            self.model.ends.came_to(id, fate);
        }
        self.perform(at);
        self.model.thread_ended(id, generation);
        if lived {
            self.model.container_ended(id, self.now());
        }
        ThreadPhase::Over
    }

    /// The code comes by a checkpoint, if the tape says so, and out there if nobody waits for its outcome any more.
    fn interrupted(&mut self, at: usize) -> Option<ThreadPhase> {
        let thread = &self.threads[at];
        let (id, generation) = (thread.id, thread.generation());
        let unwanted = self.model.is_alive(id, generation) && self.model.orphans.contains_key(&id);
        let token = thread.living.with_current();
        let told = token.is_unwanted();
        assert_eq!(told, unwanted, "what a checkpoint of {id}#{generation} knows of its execution");
        if !unwanted || !self.tape.one_in(2) {
            return None;
        }
        self.tally.interrupted += 1;
        let panic = token::with_current(Some(Arc::clone(token)), || contain(token::checkpoint));
        let panic = panic.expect_err("a checkpoint unwinds out of an execution that is unwanted");
        let living = &mut self.threads[at].living;
        living.served(Err(panic));
        let goes_on = matches!(living.life.act(), Act::Run(Part::Serve));
        assert_eq!(goes_on, !self.plan.has_state, "a state that was interrupted is built anew");
        Some(if goes_on { ThreadPhase::Asking } else { self.go_on(at) })
    }

    /// A thread ties itself to its generation, and begins to enter.
    fn tie(&mut self, at: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        let tied = matches!(self.perform(at), Event::Tied);
        assert_eq!(tied, self.model.is_alive(id, generation), "invariant 12: {id}#{generation} begins");
        if tied {
            ThreadPhase::Entering { until: self.now() + self.threads[at].enter_takes }
        } else {
            ThreadPhase::Between
        }
    }

    /// The user's `enter` returns, or panics.
    fn enter(&mut self, at: usize) -> ThreadPhase {
        let thread = &self.threads[at];
        let (id, generation) = (thread.id, thread.generation());
        let is_over_limit = thread.is_over_limit();
        let fails = self.dependency_down || (!self.healed && self.plan.enter_fails(id, generation));
        let entered = match (fails, generation.get().is_multiple_of(2)) {
            (false, _) => Ok(Ok(())),
            (true, true) => Ok(Err("down".into())),
            (true, false) => Err(panic()),
        };
        self.threads[at].living.entered(entered);
        if is_over_limit {
            self.tally.died_of_memory += 1;
            return self.die(at);
        }
        if fails {
            self.tally.failed_starts += 1;
            return self.die(at);
        }
        let lives = self.model.is_alive(id, generation);
        let admitted = matches!(self.perform(at), Event::Admitted);
        assert_eq!(admitted, lives, "invariant 12: {id}#{generation} entered");
        if !admitted {
            return ThreadPhase::Between;
        }
        self.model.has_entered(id, self.now());
        self.model.policy.entered(id, generation, self.now());
        ThreadPhase::Asking
    }

    /// A container serves no more, for that reason, and begins its `exit`.
    fn exit(&mut self, at: usize, served: Served) -> ThreadPhase {
        self.threads[at].living.served(Ok(served));
        self.perform(at);
        self.model.exits(self.threads[at].id);
        let takes = Duration::from_millis(self.tape.one_of(&[0, 0, 1, 20_000]));
        ThreadPhase::Exiting { until: self.now() + takes, recycles: served == Served::Recycles }
    }

    /// A container has exited.
    fn leave(&mut self, at: usize, recycles: bool) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        self.perform(at);
        if self.model.is_alive(id, generation) {
            self.model.container_ended(id, self.now());
        }
        if recycles && !self.model.is_left_behind(id, generation) {
            self.model.returns(id);
        }
        ThreadPhase::Between
    }

    fn ask(&mut self, at: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        let now = self.now();
        if !self.healed && self.tape.one_in(10) {
            // Its attempts have left too much.
            let recycled = self.engine.recycle(id, generation);
            self.sync_pulled();
            assert_eq!(recycled, self.model.may_recycle(id, generation), "{id}#{generation} is recycled");
            if recycled {
                self.tally.recycled += 1;
                self.model.recycled(id, generation, now);
                return self.exit(at, Served::Recycles);
            }
        }
        let (next, eligible) = self.engine.try_next(id, generation, |state| self.eligible(state));
        self.model.asked(&eligible, now);
        self.sync_pulled();
        let leases: Vec<(ContainerId, Lease)> = self.engine.under_lock(|state| {
            let leases = state.ledger.containers().filter_map(|id| Some((id, state.ledger.lease(id)?)));
            leases.collect()
        });
        for (id, lease) in leases {
            self.tally.leases_split += u64::from(self.model.shortened(id, &lease));
        }
        match next {
            Next::Work(Work { run, lease, previous, .. }) => {
                self.model.came_back(id);
                assert!(
                    self.model.is_alive(id, generation),
                    "invariant 12: a dead generation was given work"
                );
                self.model.claimed(id, &lease, previous.as_ref(), &eligible, now);
                ThreadPhase::Beginning { task: SimTask { run, lease } }
            }
            Next::Over(Served::Stale) => {
                self.threads[at].living.served(Ok(Served::Stale));
                ThreadPhase::Between
            }
            Next::Over(leaves) => {
                assert_eq!(leaves, Served::Leaves, "to recycle is the container's own idea");
                self.model.policy.leaves(id, generation, now);
                self.exit(at, leaves)
            }
            Next::Wait { until } => {
                assert!(
                    self.model.is_alive(id, generation),
                    "invariant 12: a dead generation waits for work"
                );
                self.model.came_back(id);
                let watched = self.watched(until);
                self.model.idle(id, &eligible, watched, now);
                self.tally.little_room += u64::from(!eligible.little_room.is_empty());
                ThreadPhase::Asleep { until }
            }
        }
    }

    fn begin(&mut self, id: ContainerId, task: SimTask) -> ThreadPhase {
        match task.run.begin::<SimInput, SimOutput, Refusal>() {
            None => ThreadPhase::Asking,
            Some(active) => {
                let (place, index) = (active.place(), active.index());
                self.model.begun(id, task.job(), index);
                self.execute(task, place)
            }
        }
    }

    /// The user's function is called.
    fn execute(&mut self, task: SimTask, place: usize) -> ThreadPhase {
        self.tally.executions += 1;
        let ticket = task.run.active_at::<SimInput, SimOutput, Refusal>(place).input();
        let until = match self.plan.act(ticket.tag, ticket.index, task.lease.attempt.get()) {
            Deed::Hang if !self.healed => {
                self.tally.hangs += 1;
                None
            }
            _ => Some(self.now() + self.plan.takes(ticket.tag, ticket.index, task.lease.attempt.get())),
        };
        ThreadPhase::Executing { task, place, until }
    }

    /// The user's function returns, or panics.
    fn finish(&mut self, at: usize, task: SimTask, place: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        let attempt = task.lease.attempt.get();
        let (job, index) = (task.job(), task.index(place));
        let ticket = task.run.active_at::<SimInput, SimOutput, Refusal>(place).input();
        match self.plan.act(ticket.tag, ticket.index, attempt) {
            Deed::Ok | Deed::Hang => {
                let answer = SimOutput::to(ticket, attempt, (id, generation), &self.witness);
                let now = self.now();
                let accepted = self.model.returned_ok(id, generation, job, index, now);
                let last = match task.run.active_at::<SimInput, SimOutput, Refusal>(place).at.skip() {
                    Advance::Fenced => None,
                    Advance::Next => Some(false),
                    Advance::Last => Some(true),
                };
                assert_eq!(last.is_some(), accepted, "invariant 2: a late answer, or one refused");
                let Some(last) = last else {
                    self.engine.count_late();
                    return ThreadPhase::Asking;
                };
                if !last {
                    self.model.begun(id, job, index + 1);
                }
                ThreadPhase::Publishing { task, place, answer, last }
            }
            Deed::Err { worth } => self.fail(id, generation, task, place, worth),
            Deed::Panic => {
                self.tally.panics += 1;
                self.unwinds(at)
            }
        }
    }

    fn fail(
        &mut self,
        id: ContainerId,
        generation: Generation,
        task: SimTask,
        place: usize,
        worth: bool,
    ) -> ThreadPhase {
        self.tally.errors += 1;
        let (job, index) = (task.job(), task.index(place));
        let error = Refusal::new(task.lease.attempt.get(), &self.witness);
        let wanted = if worth { Retryable::Yes } else { Retryable::No };
        let mut active = task.run.active_at::<SimInput, SimOutput, Refusal>(place);
        let goes_on = self.engine.failed(id, &task.run, &mut active.at, Box::new(error), (wanted, None));
        self.sync_pulled();
        let due = self.engine.under_lock(|state| state.ledger.retry_due(job, index));
        let now = self.now();
        self.model.returned_err(id, generation, (job, index), worth, due, now);
        if !goes_on {
            return ThreadPhase::Asking;
        }
        self.model.begun(id, job, index + 1);
        self.execute(task, place + 1)
    }

    /// The user's code panics, or comes out at a checkpoint because its account is over its limit.
    fn unwinds(&mut self, at: usize) -> ThreadPhase {
        self.threads[at].living.served(Err(panic()));
        self.die(at)
    }

    /// A container dies in its own thread.
    fn die(&mut self, at: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        self.model.dies_by_itself();
        let judged = self.perform(at);
        let Event::Judged(restart) = judged else { panic!("a death comes to {judged:?}") };
        self.account_for(id, generation, restart);
        ThreadPhase::Between
    }

    /// The thread of a container could not be made.
    pub(super) fn not_made(&mut self, id: ContainerId, generation: Generation) {
        self.model.dies_by_itself();
        let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let restart = self.engine.crashed(id, generation, Death::NoThread(Arc::new(error)));
        self.sync_pulled();
        self.account_for(id, generation, restart);
        self.engine.ended(id, generation, None);
        self.model.thread_ended(id, generation);
    }

    /// Takes the verdict on a death into the model.
    pub(super) fn account_for(&mut self, id: ContainerId, generation: Generation, restart: Option<Restart>) {
        let now = self.now();
        let executing = self.model.executing(id);
        let after = self.model.crashed(id, generation, restart, now);
        if let Some((job, index)) = executing {
            self.check_record(job, index);
        }
        self.tally.deaths_counted_together += u64::from(after.together);
        self.tally.spare_starts_failed += u64::from(after.spare);
        self.tally.suspects_died_inside_delays += u64::from(after.at_once);
        self.tally.give_ups += u64::from(after.gave_up);
        self.tally.poisoned_inputs += u64::from(after.poisoned);
        self.tally.loop_delays += u64::from(matches!(restart, Some(Restart::At(_))));
    }
}

fn panic() -> Panic {
    Panic { message: "a simulated panic".to_owned(), location: None }
}

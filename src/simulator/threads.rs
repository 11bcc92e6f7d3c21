//! Simulated threads of containers. Each goes through the [life](crate::engine::life) of its container in
//! steps, between which any other part of the simulation may step. It plays the user's code, and the loop of
//! `engine/body.rs` around it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::code::token::{self, Token};
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::run::Run;
use crate::data::shape::Why;
use crate::decide::ledger::{Lease, Retryable};
use crate::decide::life::{Act, LifeEvent, Next, Part, Served};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, Work};
use crate::engine::life::Living;
use crate::memory::account::Account;
use crate::simulator::course::Course;
use crate::simulator::model::ExpectedEnd;
use crate::simulator::plan::SimAct;
use crate::simulator::values::{Refusal, SimInput, SimOutput};
use crate::simulator::world::World;
use crate::values::crash::{Death, Panic};

/// A simulated thread of a container.
pub(super) struct SimThread {
    pub(super) id: ContainerId,
    living: Living,
    pub(super) phase: ThreadPhase,
    /// How long `enter` takes in the first generation of the thread. In its later generations it takes no
    /// time.
    enter_takes: Duration,
}

/// The phase of a thread, between two of its steps.
pub(super) enum ThreadPhase {
    /// The next act is one of the engine's, or the drop of the user's state.
    Between,
    Entering {
        until: Time,
    },
    /// The thread is about to ask for work.
    Asking,
    Asleep {
        until: Option<Time>,
    },
    /// The thread has its run, and has not checked whether it may begin.
    Beginning {
        task: SimTask,
    },
    Executing {
        task: SimTask,
        place: usize,
        until: Option<Time>,
    },
    /// The thread has the right to publish its outcome, and has not yet done so.
    Publishing {
        task: SimTask,
        place: usize,
        answer: SimOutput,
        last: bool,
    },
    Exiting {
        until: Time,
        /// Whether the container is recycled, and enters again after its `exit`.
        recycles: bool,
    },
    Over,
}

/// The run and the lease that a thread works on.
pub(super) struct SimTask {
    run: Arc<Run>,
    lease: Lease,
}

impl SimTask {
    pub(super) fn job(&self) -> JobId {
        self.lease.job
    }

    #[expect(unsafe_code, reason = "the right to publish that one step was given is used in a later step")]
    fn publish(&self, place: usize, answer: SimOutput) {
        // SAFETY: the step that finished the execution obtained the right, and did not use it.
        unsafe { self.run.publish_at::<SimInput, SimOutput, Refusal>(place, answer) };
        // SAFETY: the input's outcome has just been published.
        unsafe { self.run.chunk.drop_input(place) };
    }

    pub(super) fn attempt(&self) -> u32 {
        self.lease.attempt.get()
    }

    pub(super) fn index(&self, place: usize) -> u64 {
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

    /// Whether the current generation of the thread is tied.
    pub(super) fn is_tied(&self) -> bool {
        !matches!(self.living.life.act(), Act::Tie)
    }

    /// The account of the current generation, once the generation is tied.
    fn account(&self) -> Option<&'static Account> {
        let token = self.living.token.as_ref()?;
        Some(token.account().expect("a simulated function counts its memory").counters())
    }

    /// Lets the user's code allocate. Returns whether this exceeds the memory limit for the first time.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let account = self.account().expect("a generation is tied before it runs the user's code");
        account.charge(account.epoch(), bytes as i64, bytes as i64)
    }

    /// The number of bytes that the user's code holds.
    pub(super) fn holds(&self) -> u64 {
        self.account().map_or(0, |account| account.live() as u64)
    }

    /// Lets the user's code free its memory, as it does when its state is dropped.
    fn shrink(&self) {
        if let Some(account) = self.account() {
            account.credit(account.epoch(), account.live());
        }
    }

    fn is_over_limit(&self) -> bool {
        self.account().is_some_and(Account::is_over_limit)
    }

    /// When the thread can take its next step. `None` if another part of the simulation must step first.
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

    /// Whether the thread may have completed an input that the engine has not seen.
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
    /// Takes one step of one thread.
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
                let passes = self.plan.passes_checkpoints(task.index(place), task.attempt());
                self.interrupted(at, passes).unwrap_or_else(|| self.finish(at, task, place))
            }
            ThreadPhase::Publishing { task, place, answer, last } => {
                task.publish(place, answer);
                if last { ThreadPhase::Asking } else { self.execute(task, place + 1) }
            }
            ThreadPhase::Exiting { recycles, .. } => {
                thread.living.exited(Ok(()));
                self.leave(at, recycles)
            }
            ThreadPhase::Over => unreachable!("the world removes threads that are over"),
        };
        self.threads[at].phase = phase;
    }

    /// Performs the engine's next act in the life of a thread. The result is passed on to the life, and
    /// returned.
    fn perform(&mut self, at: usize) -> LifeEvent {
        let living = &mut self.threads[at].living;
        let event = living.perform();
        living.hear(event.clone());
        self.sync_pulled();
        event
    }

    /// Performs one act of the engine's between the parts of the user's code. The user's state may be dropped
    /// before it.
    fn go_on(&mut self, at: usize) -> ThreadPhase {
        let thread = &mut self.threads[at];
        let (id, generation) = (thread.id, thread.generation());
        match thread.living.life.act() {
            Act::Tie => self.tie(at),
            Act::Run(Part::Drop) => {
                thread.shrink();
                thread.living.hear(LifeEvent::Dropped);
                self.go_on(at)
            }
            Act::Begin => {
                let begun = self.perform(at);
                let is_left_behind = self.model.is_left_behind(id, generation);
                self.begun(at, begun, is_left_behind)
            }
            Act::EnterAnew => {
                let begun = self.perform(at);
                self.comes_out(id, generation, None);
                self.model.interrupted(id, generation, self.now());
                self.begun(at, begun, false)
            }
            Act::End => self.end(at),
            act => unreachable!("{act:?} is performed by the step that leads to it"),
        }
    }

    /// Tells the model whether a thread has begun another generation.
    fn begun(&mut self, at: usize, begun: LifeEvent, is_left_behind: bool) -> ThreadPhase {
        let id = self.threads[at].id;
        match begun {
            LifeEvent::Begun(Some(next)) => {
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
        // The end of this thread says nothing about a later generation, which runs on another thread.
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

    /// Lets the user's code pass a checkpoint, if it `passes` them or the tape says so. The code ends there
    /// if its outcome is no longer wanted.
    fn interrupted(&mut self, at: usize, passes: bool) -> Option<ThreadPhase> {
        let thread = &self.threads[at];
        let (id, generation) = (thread.id, thread.generation());
        let unwanted = self.model.is_alive(id, generation) && self.model.orphans.contains_key(&id);
        let token = thread.living.with_current();
        let told = token.is_unwanted();
        assert_eq!(
            told, unwanted,
            "whether a checkpoint of {id}#{generation} sees that its outcome is unwanted"
        );
        if !unwanted || !(self.tape.one_in(2) || passes) {
            return None;
        }
        self.tally.interrupted += 1;
        self.tally.unwound_at_limits += u64::from(self.model.leavers.contains_key(&id));
        let panic = token::with_current(Some(Arc::clone(token)), || contain(token::checkpoint));
        let panic = panic.expect_err("a checkpoint unwinds out of an execution that is unwanted");
        let living = &mut self.threads[at].living;
        living.served(Err(panic));
        let goes_on = matches!(living.life.act(), Act::Run(Part::Serve));
        assert_eq!(goes_on, !self.plan.tears(), "an interrupted state is built again");
        Some(if goes_on { ThreadPhase::Asking } else { self.go_on(at) })
    }

    /// Ties a thread to its generation, whose `enter` begins if the generation is current.
    fn tie(&mut self, at: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        let tied = matches!(self.perform(at), LifeEvent::Tied);
        assert_eq!(tied, self.model.is_alive(id, generation), "invariant 12: {id}#{generation} begins");
        if tied {
            self.model.begins_to_enter(id, generation, self.now());
            ThreadPhase::Entering { until: self.now() + self.threads[at].enter_takes }
        } else {
            ThreadPhase::Between
        }
    }

    /// Lets the user's `enter` return or panic.
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
        let admitted = matches!(self.perform(at), LifeEvent::Admitted);
        assert_eq!(admitted, lives, "invariant 12: {id}#{generation} entered");
        if !admitted {
            return ThreadPhase::Between;
        }
        self.model.has_entered(id, self.now());
        self.model.policy.entered(id, generation, self.now());
        ThreadPhase::Asking
    }

    /// Ends the service of a container for this reason, and begins its `exit`.
    fn exit(&mut self, at: usize, served: Served) -> ThreadPhase {
        self.threads[at].living.served(Ok(served));
        self.perform(at);
        self.model.exits(self.threads[at].id);
        let takes = Duration::from_millis(self.tape.one_of(&[0, 0, 1, 20_000]));
        ThreadPhase::Exiting { until: self.now() + takes, recycles: served == Served::Recycles }
    }

    /// Ends the `exit` of a container.
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
            // The container's attempts have left too many bytes.
            let recycled = self.engine.recycle(id, generation);
            self.sync_pulled();
            self.comes_out(id, generation, None);
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
        self.comes_out(id, generation, if let Next::Work(work) = &next { Some(&work.lease) } else { None });
        self.tally.leases_split += self.shorten_leases();
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
                assert_eq!(leaves, Served::Leaves, "only the container itself decides to recycle");
                self.model.policy.leaves(id, generation, now);
                self.exit(at, leaves)
            }
            Next::Hold { .. } => panic!("a container that executes one input at a time is not held"),
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
                self.model.begun(id, task.job(), index, true, self.now());
                self.execute(task, place)
            }
        }
    }

    /// Calls the user's function.
    fn execute(&mut self, task: SimTask, place: usize) -> ThreadPhase {
        self.tally.executions += 1;
        let ticket = task.run.active_at::<SimInput, SimOutput, Refusal>(place).input();
        let until = match self.plan.act(ticket.tag, ticket.index, task.lease.attempt.get()) {
            SimAct::Hang if !self.healed => {
                self.tally.hangs += 1;
                None
            }
            _ => Some(self.now() + self.plan.takes(ticket.tag, ticket.index, task.lease.attempt.get())),
        };
        ThreadPhase::Executing { task, place, until }
    }

    /// Lets the user's function return or panic.
    fn finish(&mut self, at: usize, task: SimTask, place: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        let attempt = task.lease.attempt.get();
        let (job, index) = (task.job(), task.index(place));
        let ticket = task.run.active_at::<SimInput, SimOutput, Refusal>(place).input();
        match self.plan.act(ticket.tag, ticket.index, attempt) {
            SimAct::Ok | SimAct::Hang => {
                let answer = SimOutput::to(ticket, attempt, (id, generation), &self.witness);
                let now = self.now();
                let accepted = self.model.returned_ok(id, generation, job, index, now);
                let last = match task.run.active_at::<SimInput, SimOutput, Refusal>(place).at.skip() {
                    Advance::Fenced => None,
                    Advance::Next => Some(false),
                    Advance::Last => Some(true),
                };
                assert_eq!(
                    last.is_some(),
                    accepted,
                    "invariant 2: an outcome is refused exactly if it is late"
                );
                let Some(last) = last else {
                    self.engine.count_late();
                    return ThreadPhase::Asking;
                };
                if !last {
                    self.model.begun(id, job, index + 1, false, now);
                }
                ThreadPhase::Publishing { task, place, answer, last }
            }
            SimAct::Err { worth } => self.fail(id, generation, task, place, worth),
            SimAct::Panic => {
                self.tally.panics += 1;
                self.unwinds(at)
            }
        }
    }

    /// Enters the leases that the engine has shortened into the model. Returns their number.
    pub(super) fn shorten_leases(&mut self) -> u64 {
        let leases: Vec<(ContainerId, Lease)> = self.engine.under_lock(|state| {
            let leases = state.ledger.containers().filter_map(|id| Some((id, state.ledger.lease(id)?)));
            leases.collect()
        });
        leases.iter().map(|(id, lease)| u64::from(self.model.shortened(*id, lease))).sum()
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
        let attempt = task.lease.attempt.get();
        let least = self.plan.retry_after(index, attempt);
        let wanted = match least {
            _ if !worth => Retryable::No,
            Some(least) => Retryable::After(least),
            None => Retryable::Yes,
        };
        let mut active = task.run.active_at::<SimInput, SimOutput, Refusal>(place);
        let goes_on = self.engine.failed(
            id.into(),
            &task.run,
            &mut active.at,
            Why::Error(Box::new(error)),
            (wanted, None),
        );
        self.sync_pulled();
        let due = self.engine.under_lock(|state| state.ledger.retry_due(job, index));
        self.tally.retries_put_off += u64::from(worth && least.is_some() && due.is_some());
        let now = self.now();
        let ends = self.model.returned_err(id, generation, (job, index), (worth, least), due, now);
        self.tally.retries_refused += u64::from(ends == Some(ExpectedEnd::Expired));
        if !goes_on {
            return ThreadPhase::Asking;
        }
        self.model.begun(id, job, index + 1, false, now);
        self.execute(task, place + 1)
    }

    /// Unwinds the user's code, because it panics, or because a checkpoint found its account over its limit.
    fn unwinds(&mut self, at: usize) -> ThreadPhase {
        self.threads[at].living.served(Err(panic()));
        self.die(at)
    }

    /// Lets a container die in its own thread.
    fn die(&mut self, at: usize) -> ThreadPhase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation());
        self.model.dies_by_itself();
        let judged = self.perform(at);
        let LifeEvent::Judged(restart) = judged else { panic!("a death comes to {judged:?}") };
        self.account_for(id, generation, restart);
        ThreadPhase::Between
    }

    /// Handles the launch of a container whose thread could not be made.
    pub(super) fn not_made(&mut self, id: ContainerId, generation: Generation) {
        self.model.dies_by_itself();
        let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let restart = self.engine.crashed(id, generation, Death::NoThread(Arc::new(error)));
        self.sync_pulled();
        self.account_for(id, generation, restart);
        self.engine.ended(id, generation, None);
        self.model.thread_ended(id, generation);
    }

    /// Applies the verdict on a death to the model.
    pub(super) fn account_for(&mut self, id: ContainerId, generation: Generation, restart: Option<Restart>) {
        let now = self.now();
        self.note_retry(id, None);
        let executing = self.model.executing(id);
        let retry = self.model.leavers.get(&id).and_then(|leaver| leaver.retry);
        let after = self.model.crashed(id, generation, restart, now);
        let awaited = retry.map(|retry| (retry.job, retry.index));
        if let Some((job, index)) = executing.or(awaited).filter(|(job, _)| self.model.jobs.contains_key(job))
        {
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

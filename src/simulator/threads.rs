//! Simulated threads of containers: what `engine/thread.rs` and `engine/body.rs` do, cut into steps
//! between which anything may happen.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::code::leash::Leash;
use crate::contain::drops::Stack;
use crate::data::run::Run;
use crate::data::track::Pace;
use crate::decide::ledger::{Lease, Worth};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::dispatch::{Next, Offer};
use crate::engine::messages::Notice;
use crate::memory::account::Account;
use crate::simulator::plan::Act;
use crate::simulator::ticket::{Answer, Refusal, Ticket};
use crate::simulator::world::World;
use crate::values::crash::{Death, EnterError, Panic};
use crate::values::report::Fate;

/// A thread of a container.
pub(super) struct Thread {
    pub(super) id: ContainerId,
    pub(super) generation: Generation,
    pub(super) phase: Phase,
    leash: Option<Arc<Leash>>,
}

/// Where a thread is.
pub(super) enum Phase {
    /// It is to be tied to its generation, and then to enter for so long.
    Tying {
        takes: Duration,
    },
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
        task: Task,
    },
    Executing {
        task: Task,
        place: usize,
        until: Option<Time>,
    },
    /// It has the right to publish and has not yet done so.
    Publishing {
        task: Task,
        place: usize,
        answer: Answer,
        last: bool,
    },
    /// The verdict was to restart at once, or it was recycled, and that became of it then.
    Restarting {
        last: Option<Fate>,
    },
    Exiting {
        until: Time,
        /// It is to begin anew after it.
        recycles: bool,
    },
    Ending {
        fate: Option<Fate>,
    },
    Over,
}

/// A run in a thread's hands.
pub(super) struct Task {
    run: Arc<Run>,
    lease: Lease,
}

impl Task {
    pub(super) fn job(&self) -> JobId {
        self.lease.job
    }

    #[expect(unsafe_code, reason = "a right to publish that was given is used in a later step")]
    fn publish(&self, place: usize, answer: Answer) {
        // SAFETY: the right was given with the step, and dropped unused.
        unsafe { self.run.publish_at::<Ticket, Answer, Refusal>(place, answer) };
        // SAFETY: its outcome has just been published.
        unsafe { self.run.chunk.drop_input(place) };
    }

    fn index(&self, place: usize) -> u64 {
        self.run.chunk.first() + place as u64
    }
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} ", self.id, self.generation)?;
        match &self.phase {
            Phase::Tying { .. } => write!(f, "begins"),
            Phase::Entering { .. } => write!(f, "has entered"),
            Phase::Asking => write!(f, "asks"),
            Phase::Asleep { .. } => write!(f, "wakes"),
            Phase::Beginning { task } => write!(f, "begins {:?}", task.lease),
            Phase::Executing { task, place, .. } => {
                write!(f, "returns from {:?} {}", task.lease.job, task.index(*place))
            }
            Phase::Publishing { task, place, .. } => {
                write!(f, "publishes {:?} {}", task.lease.job, task.index(*place))
            }
            Phase::Restarting { .. } => write!(f, "restarts"),
            Phase::Exiting { .. } => write!(f, "has exited"),
            Phase::Ending { .. } => write!(f, "ends"),
            Phase::Over => write!(f, "is over"),
        }
    }
}

impl Thread {
    pub(super) fn new(id: ContainerId, generation: Generation, takes: Duration) -> Self {
        Self { id, generation, phase: Phase::Tying { takes }, leash: None }
    }

    fn account(&self) -> &'static Account {
        let leash = self.leash.as_ref().expect("it is tied before it runs the user's code");
        leash.account().expect("there are many").counters()
    }

    /// The user's code allocates. Whether that is more than it may, for the first time.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let account = self.account();
        account.charge(account.epoch(), bytes as i64, bytes as i64)
    }

    /// What its code holds.
    pub(super) fn holds(&self) -> u64 {
        self.leash.as_ref().map_or(0, |_| self.account().live() as u64)
    }

    /// It frees that, as it does when its state is dropped.
    fn shrink(&self) {
        if self.leash.is_some() {
            let account = self.account();
            account.credit(account.epoch(), account.live());
        }
    }

    /// When it can go on; `None` if something must happen before.
    pub(super) fn ready_at(&self) -> Option<Time> {
        match &self.phase {
            Phase::Entering { until } | Phase::Exiting { until, .. } => Some(*until),
            Phase::Asleep { until } | Phase::Executing { until, .. } => *until,
            Phase::Over => None,
            Phase::Asking
            | Phase::Tying { .. }
            | Phase::Beginning { .. }
            | Phase::Publishing { .. }
            | Phase::Restarting { .. }
            | Phase::Ending { .. } => Some(Time::default()),
        }
    }

    /// Whether it may have completed something that the engine has not looked at.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self.phase, Phase::Executing { .. } | Phase::Publishing { .. } | Phase::Asking)
    }

    pub(super) fn is_publishing_anything(&self) -> bool {
        matches!(&self.phase, Phase::Publishing { .. })
    }

    pub(super) fn is_publishing(&self, job: JobId) -> bool {
        matches!(&self.phase, Phase::Publishing { task, .. } if task.job() == job)
    }
}

impl World {
    /// One step of one thread.
    pub(super) fn advance(&mut self, at: usize) {
        let thread = &mut self.threads[at];
        let (id, generation) = (thread.id, thread.generation);
        let phase = match std::mem::replace(&mut thread.phase, Phase::Over) {
            Phase::Tying { takes } => self.tie(at, takes),
            Phase::Entering { .. } => {
                let overdrawn = thread.account().is_overdrawn();
                self.enter(id, generation, overdrawn)
            }
            Phase::Asleep { .. } => {
                self.engine.wake(id, generation);
                Phase::Asking
            }
            Phase::Asking => self.ask(id, generation),
            Phase::Beginning { task } => self.begin(id, task),
            Phase::Executing { .. } if thread.account().is_overdrawn() => {
                self.tally.died_of_memory += 1;
                self.crash(id, generation, overdrawn())
            }
            Phase::Executing { task, place, .. } => {
                self.interrupted(at).unwrap_or_else(|| self.finish(id, generation, task, place))
            }
            Phase::Publishing { task, place, answer, last } => {
                task.publish(place, answer);
                if last { Phase::Asking } else { self.execute(task, place + 1) }
            }
            Phase::Restarting { last } => {
                thread.shrink();
                self.restart(at, last)
            }
            Phase::Exiting { recycles, .. } => {
                self.engine.left(id, generation);
                if self.books.is_alive(id, generation) {
                    self.books.container_ended(id, self.now());
                }
                if recycles {
                    if !self.books.is_left_behind(id, generation) {
                        self.books.returns(id);
                    }
                    Phase::Restarting { last: Some(Fate::Exited) }
                } else {
                    Phase::Ending { fate: Some(Fate::Exited) }
                }
            }
            Phase::Ending { fate } => {
                let lived = self.books.is_alive(id, generation);
                self.threads[at].shrink();
                // Of a later generation, on another thread, nothing is said by the end of this one.
                let speaks = self.books.current.get(&id) == Some(&generation)
                    && !self.books.is_left_behind(id, generation);
                if let Some(fate) = fate.clone().filter(|_| speaks) {
                    self.books.ends.came_to(id, fate);
                }
                self.engine.ended(id, generation, fate);
                self.books.thread_ended(id, generation);
                if lived {
                    self.books.container_ended(id, self.now());
                }
                Phase::Over
            }
            Phase::Over => unreachable!("threads that are over are removed"),
        };
        self.threads[at].phase = phase;
    }

    /// The code comes by a checkpoint, if the tape says so, and out there if nobody waits for its outcome any more.
    fn interrupted(&mut self, at: usize) -> Option<Phase> {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation);
        let unwanted = self.books.is_alive(id, generation) && self.books.strays.contains_key(&id);
        let told = self.threads[at].leash.as_ref().is_some_and(|leash| leash.is_unwanted());
        assert_eq!(told, unwanted, "what a checkpoint of {id}#{generation} knows of its execution");
        if !unwanted || !self.tape.one_in(2) {
            return None;
        }
        self.tally.interrupted += 1;
        if !self.plan.has_state {
            return Some(Phase::Asking);
        }
        self.threads[at].shrink();
        let next = self.engine.enter_anew(id, generation);
        self.sync_pulled();
        self.books.interrupted(id, generation, self.now());
        let Some(next) = next else {
            self.books.container_not_begun(id, self.all_booked(), self.now());
            return Some(Phase::Ending { fate: None });
        };
        self.books.container_begun(id, next, self.now());
        self.threads[at].generation = next;
        Some(Phase::Tying { takes: Duration::ZERO })
    }

    fn restart(&mut self, at: usize, last: Option<Fate>) -> Phase {
        let (id, before) = (self.threads[at].id, self.threads[at].generation);
        let Some(generation) = self.engine.begin(id, before) else {
            if !self.books.is_left_behind(id, before) {
                self.books.container_not_begun(id, self.all_booked(), self.now());
            }
            return Phase::Ending { fate: last };
        };
        self.books.container_begun(id, generation, self.now());
        self.threads[at].generation = generation;
        Phase::Tying { takes: Duration::ZERO }
    }

    /// A thread ties itself to its generation, and begins to enter.
    fn tie(&mut self, at: usize, takes: Duration) -> Phase {
        let (id, generation) = (self.threads[at].id, self.threads[at].generation);
        let account = self.engine.open_account().expect("there are many");
        let leash = Arc::new(Leash::of_no_thread(account));
        let tied = self.engine.tie(id, generation, &leash);
        assert_eq!(tied, self.books.is_alive(id, generation), "invariant 12: {id}#{generation} begins");
        self.threads[at].leash = Some(leash);
        if tied { Phase::Entering { until: self.now() + takes } } else { Phase::Ending { fate: None } }
    }

    fn enter(&mut self, id: ContainerId, generation: Generation, overdrawn: bool) -> Phase {
        if overdrawn {
            self.tally.died_of_memory += 1;
            return self.crash(id, generation, self::overdrawn());
        }
        if self.dependency_down || (!self.healed && self.plan.enter_fails(id, generation)) {
            self.tally.failed_starts += 1;
            let death = if generation.get().is_multiple_of(2) {
                Death::EnterFailed(Arc::new(EnterError::new("down".into(), Stack::of(0))))
            } else {
                Death::EnterPanicked(panic())
            };
            return self.crash(id, generation, death);
        }
        let lives = self.books.is_alive(id, generation);
        let entered = self.engine.entered(id, generation);
        assert_eq!(entered, lives, "invariant 12: {id}#{generation} entered");
        if !entered {
            return Phase::Ending { fate: None };
        }
        self.books.has_entered(id, self.now());
        self.books.policy.entered(id, generation, self.now());
        Phase::Asking
    }

    fn exit(&mut self, recycles: bool) -> Phase {
        let takes = Duration::from_millis(self.tape.one_of(&[0, 0, 1, 20_000]));
        Phase::Exiting { until: self.now() + takes, recycles }
    }

    fn ask(&mut self, id: ContainerId, generation: Generation) -> Phase {
        let now = self.now();
        if !self.healed && self.tape.one_in(10) {
            // Its attempts have left too much.
            let recycled = self.engine.recycle(id, generation);
            self.sync_pulled();
            assert_eq!(recycled, self.books.may_recycle(id, generation), "{id}#{generation} is recycled");
            if recycled {
                self.tally.recycled += 1;
                self.books.recycled(id, generation, now);
                self.books.exits(id);
                self.engine.tell(Notice::Exiting { container: id, generation });
                return self.exit(true);
            }
        }
        let (offer, eligible) = self.engine.try_next(id, generation, |state| self.eligible(state));
        self.books.asked(&eligible, now);
        self.sync_pulled();
        let leases: Vec<(ContainerId, Lease)> = self.engine.inspect(|state| {
            let leases = state.ledger.containers().filter_map(|id| Some((id, state.ledger.lease(id)?)));
            leases.collect()
        });
        for (id, lease) in leases {
            self.tally.leases_split += u64::from(self.books.shortened(id, &lease));
        }
        match offer {
            Offer::Now(Next::Work { run, lease, previous, .. }) => {
                self.books.came_back(id);
                assert!(
                    self.books.is_alive(id, generation),
                    "invariant 12: a dead generation was given work"
                );
                self.books.claimed(id, &lease, previous.as_ref(), &eligible, now);
                Phase::Beginning { task: Task { run, lease } }
            }
            Offer::Now(Next::Leave) => {
                self.books.policy.leaves(id, generation, now);
                self.engine.tell(Notice::Exiting { container: id, generation });
                self.books.exits(id);
                self.exit(false)
            }
            Offer::Now(Next::Stale) => Phase::Ending { fate: None },
            Offer::Later(until) => {
                assert!(
                    self.books.is_alive(id, generation),
                    "invariant 12: a dead generation waits for work"
                );
                self.books.came_back(id);
                let watched = self.watched(until);
                self.books.idle(id, &eligible, watched, now);
                self.tally.little_room += u64::from(!eligible.crumbs.is_empty());
                Phase::Asleep { until }
            }
        }
    }

    fn begin(&mut self, id: ContainerId, task: Task) -> Phase {
        match task.run.begin::<Ticket, Answer, Refusal>() {
            None => Phase::Asking,
            Some(lap) => {
                let (place, index) = (lap.place(), lap.index());
                self.books.begun(id, task.job(), index);
                self.execute(task, place)
            }
        }
    }

    /// The user's function is called.
    fn execute(&mut self, task: Task, place: usize) -> Phase {
        self.tally.executions += 1;
        let ticket = task.run.lap_at::<Ticket, Answer, Refusal>(place).input();
        let until = match self.plan.act(ticket.tag, ticket.index, task.lease.attempt.get()) {
            Act::Hang if !self.healed => {
                self.tally.hangs += 1;
                None
            }
            _ => Some(self.now() + self.plan.takes(ticket.tag, ticket.index, task.lease.attempt.get())),
        };
        Phase::Executing { task, place, until }
    }

    /// The user's function returns, or panics.
    fn finish(&mut self, id: ContainerId, generation: Generation, task: Task, place: usize) -> Phase {
        let attempt = task.lease.attempt.get();
        let (job, index) = (task.job(), task.index(place));
        let ticket = task.run.lap_at::<Ticket, Answer, Refusal>(place).input();
        match self.plan.act(ticket.tag, ticket.index, attempt) {
            Act::Ok | Act::Hang => {
                let answer = Answer::to(ticket, attempt, (id, generation), &self.witness);
                let now = self.now();
                let accepted = self.books.returned_ok(id, generation, job, index, now);
                let last = match task.run.lap_at::<Ticket, Answer, Refusal>(place).at.skip() {
                    Pace::Fenced => None,
                    Pace::Next => Some(false),
                    Pace::Last => Some(true),
                };
                assert_eq!(last.is_some(), accepted, "invariant 2: a late answer, or one refused");
                let Some(last) = last else {
                    self.engine.count_late();
                    return Phase::Asking;
                };
                if !last {
                    self.books.begun(id, job, index + 1);
                }
                Phase::Publishing { task, place, answer, last }
            }
            Act::Err { worth } => self.fail(id, generation, task, place, worth),
            Act::Panic => {
                self.tally.panics += 1;
                self.crash(id, generation, Death::Panicked(panic()))
            }
        }
    }

    fn fail(
        &mut self,
        id: ContainerId,
        generation: Generation,
        task: Task,
        place: usize,
        worth: bool,
    ) -> Phase {
        self.tally.errors += 1;
        let (job, index) = (task.job(), task.index(place));
        let error = Refusal::new(task.lease.attempt.get(), &self.witness);
        let wanted = if worth { Worth::Retry } else { Worth::Surface };
        let mut lap = task.run.lap_at::<Ticket, Answer, Refusal>(place);
        let goes_on = self.engine.failed(id, &task.run, &mut lap.at, Box::new(error), (wanted, None));
        self.sync_pulled();
        let due = self.engine.inspect(|state| state.ledger.retry_due(job, index));
        let now = self.now();
        self.books.returned_err(id, generation, (job, index), worth, due, now);
        if !goes_on {
            return Phase::Asking;
        }
        self.books.begun(id, job, index + 1);
        self.execute(task, place + 1)
    }

    /// A container dies.
    pub(super) fn crash(&mut self, id: ContainerId, generation: Generation, death: Death) -> Phase {
        self.books.dies_by_itself();
        let restart = self.engine.crashed(id, generation, death);
        self.sync_pulled();
        self.account_for(id, generation, restart);
        match restart {
            Some(Restart::Now) => Phase::Restarting { last: None },
            Some(Restart::At(_) | Restart::GiveUp) | None => Phase::Ending { fate: None },
        }
    }

    /// Takes the verdict on a death into the books.
    pub(super) fn account_for(&mut self, id: ContainerId, generation: Generation, restart: Option<Restart>) {
        let now = self.now();
        let executing = self.books.executing(id);
        let after = self.books.crashed(id, generation, restart, now);
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

fn overdrawn() -> Death {
    Death::MemoryLimit { limit: 0, used: 0, reclaimed: true }
}

fn panic() -> Panic {
    Panic { message: "a simulated panic".to_owned(), location: None }
}

//! The work of a simulated thread: it asks for a lease, executes its inputs and publishes their
//! outcomes.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::token;
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::shape::Why;
use crate::decide::ledger::{Lease, Retryable};
use crate::decide::life::{Act, Next, Part, Served};
use crate::engine::dispatch::Work;
use crate::simulator::course::Course;
use crate::simulator::model::ExpectedEnd;
use crate::simulator::plan::SimAct;
use crate::simulator::threads::{SimTask, ThreadPhase};
use crate::simulator::values::{Refusal, SimInput, SimOutput};
use crate::simulator::world::World;

impl World {
    /// Lets the user's code pass a checkpoint, if it `passes` them or the tape says so. The code ends there
    /// if its outcome is no longer wanted.
    pub(super) fn interrupted(&mut self, at: usize, passes: bool) -> Option<ThreadPhase> {
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

    pub(super) fn ask(&mut self, at: usize) -> ThreadPhase {
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

    pub(super) fn begin(&mut self, id: ContainerId, task: SimTask) -> ThreadPhase {
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
    pub(super) fn execute(&mut self, task: SimTask, place: usize) -> ThreadPhase {
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
    pub(super) fn finish(&mut self, at: usize, task: SimTask, place: usize) -> ThreadPhase {
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
}

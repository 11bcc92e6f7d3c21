//! The steps of a simulated thread through the [life](crate::engine::life) of its container. Between
//! two steps any other part of the simulation may step. The steps play the user's code, and the loop of
//! `engine/body.rs` around it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::decide::life::{Act, LifeEvent, Part, Served};
use crate::decide::restart::Restart;
use crate::simulator::course::Course;
use crate::simulator::threads::ThreadPhase;
use crate::simulator::values::panic;
use crate::simulator::world::World;
use crate::values::crash::Death;

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
    pub(super) fn perform(&mut self, at: usize) -> LifeEvent {
        let living = &mut self.threads[at].living;
        let event = living.perform();
        living.hear(event.clone());
        self.sync_pulled();
        event
    }

    /// Performs one act of the engine's between the parts of the user's code. The user's state may be dropped
    /// before it.
    pub(super) fn go_on(&mut self, at: usize) -> ThreadPhase {
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
                let has_left = self.model.has_left_its_thread(id, generation);
                self.begun(at, begun, has_left)
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

    /// Tells the model whether a thread has begun another generation. A generation that `has_left` its thread
    /// behind is over already for the model.
    fn begun(&mut self, at: usize, begun: LifeEvent, has_left: bool) -> ThreadPhase {
        let id = self.threads[at].id;
        match begun {
            LifeEvent::Begun(Some(next)) => {
                self.model.container_begun(id, next, self.now());
                self.threads[at].enter_takes = Duration::ZERO;
            }
            _ if has_left => {}
            _ => self.model.container_not_begun(id, self.all_committed(), self.now()),
        }
        ThreadPhase::Between
    }

    fn end(&mut self, at: usize) -> ThreadPhase {
        let thread = &self.threads[at];
        let (id, generation, fate) = (thread.id, thread.generation(), thread.living.life.fate().cloned());
        let lived = self.model.is_alive(id, generation);
        // The end of this thread says nothing about a later generation, which runs on another thread.
        let speaks = self.model.current.get(&id) == Some(&generation)
            && !self.model.has_left_its_thread(id, generation);
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
    pub(super) fn exit(&mut self, at: usize, served: Served) -> ThreadPhase {
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
        if recycles && !self.model.has_left_its_thread(id, generation) {
            self.model.returns(id);
        }
        ThreadPhase::Between
    }

    /// Unwinds the user's code, because it panics, or because a checkpoint found its account over its limit.
    pub(super) fn unwinds(&mut self, at: usize) -> ThreadPhase {
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

//! The supervisor, the container actors and the watch of a world. They do the work of `engine/supervisor.rs`,
//! `container.rs` and `memory/watch.rs`, one message or one look at a time.

use std::sync::PoisonError;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::ledger::Mode;
use crate::decide::pacing::POLL_MIN;
use crate::decide::restart::Restart;
use crate::engine::messages::Notice;
use crate::simulator::course::Course;
use crate::simulator::events::Due;
use crate::simulator::model::EndReason;
use crate::simulator::threads::SimThread;
use crate::simulator::world::World;

impl World {
    pub(super) fn create(&mut self) {
        let (now, all_committed) = (self.now(), self.all_committed());
        let created = self.engine.create();
        for (id, generation) in created.iter().copied() {
            self.model.container_created(id);
            self.model.container_begun(id, generation, now);
            self.launches.push((id, generation));
        }
        let created: Vec<ContainerId> = created.into_iter().map(|(id, _)| id).collect();
        for id in self.model.containers().filter(|id| !created.contains(id)) {
            self.model.container_not_created(id, all_committed, now);
        }
        self.model.policy.recovered = false;
        let delay = self.engine.next_creation();
        self.wake = delay.map(|delay| now + delay.max(Duration::from_micros(100)));
    }

    pub(super) fn deliver_notice(&mut self) {
        let (notice, reordered, duplicated) = {
            let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            let at = self.tape.pick(notices.len());
            let duplicated = self.tape.one_in(10);
            let notice = if duplicated { notices[at].clone() } else { notices.remove(at) };
            (notice, at > 0, duplicated)
        };
        self.tally.notices_reordered += u64::from(reordered);
        self.tally.notices_duplicated += u64::from(duplicated);
        match notice {
            Notice::Crashed { restart: Restart::GiveUp } => self.give_up(),
            Notice::Fenced { restart } => {
                if restart == Restart::GiveUp {
                    self.give_up();
                }
                self.create();
            }
            Notice::Crashed { .. } | Notice::FeederEnded | Notice::Folds => {}
            Notice::Limited => self.look_at_limits(),
            Notice::Entered => {
                let now = self.now();
                self.review = Some(self.review.map_or(now, |at| at.min(now)));
            }
            Notice::Awaited => {
                self.tick.get_or_insert((self.now() + POLL_MIN, POLL_MIN));
            }
            Notice::Recovered | Notice::NothingPending => self.create(),
            Notice::Exiting { container, generation } => {
                self.exit_timers.push((container, generation, self.now() + self.plan.exit_timeout));
            }
            Notice::Ended { container, generation } => {
                self.exit_timers.retain(|(id, exiting, _)| (*id, *exiting) != (container, generation));
                self.create();
            }
        }
    }

    /// The supervisor polls for outcomes, and does so again while a task waits for one.
    pub(super) fn tick(&mut self) {
        let (_, pause) = self.tick.take().expect("it is due");
        let next = self.engine.tick().pause(pause);
        self.tick = next.map(|pause| (self.now() + pause, pause));
    }

    /// The supervisor looks whether a crash loop is over, and does so again when one may be.
    pub(super) fn review(&mut self) {
        let next = self.engine.review();
        let now = self.now();
        self.review = next.map(|delay| now + delay.max(Duration::from_micros(100)));
        self.model.policy.reviewed(now);
        self.create();
    }

    /// Carries out a decision to give up, if there is one.
    pub(super) fn give_up(&mut self) {
        let over = self.jobs_over();
        self.engine.give_up();
        self.sync_pulled();
        if self.model.gave_up {
            self.model.end_all(EndReason::GaveUp, |job| over.contains(&job));
        }
    }

    /// The jobs that have no pending input and will get no further one.
    pub(super) fn jobs_over(&self) -> Vec<JobId> {
        self.engine.under_lock(|state| {
            let dry = state.buffers.open.iter().filter(|(_, buffers)| buffers.is_exhausted());
            dry.map(|(id, _)| *id).collect()
        })
    }

    pub(super) fn launch(&mut self, at: usize) {
        let (id, generation) = self.launches.remove(at);
        let lives = self.model.is_alive(id, generation);
        assert_eq!(self.engine.launch(id, generation), lives, "invariant 12: {id}#{generation} is launched");
        if !lives {
            self.model.thread_ended(id, generation);
            self.engine.notify(Notice::Ended { container: id, generation });
            return;
        }
        if self.tape.one_in(100) {
            self.tally.threads_not_made += 1;
            return self.not_made(id, generation);
        }
        let takes = Duration::from_millis(self.tape.one_of(&[0, 1, 100]));
        self.threads.push(SimThread::new(&self.engine, id, generation, takes));
    }

    pub(super) fn exit_times_out(&mut self, at: usize) {
        let (id, generation, _) = self.exit_timers.remove(at);
        if self.engine.abandon_exit(id, generation) {
            self.tally.exits_timed_out += 1;
            self.model.hearing.is_due(Due::ExitTimedOut(id));
            self.model.exit_left_behind(id, generation);
            self.model.container_ended(id, self.now());
            self.engine.notify(Notice::Ended { container: id, generation });
        }
    }

    /// The watch kills a container over its memory limit, unless its code has ended meanwhile.
    pub(super) fn watch(&mut self, at: usize) {
        let (id, generation) = self.over_limit.remove(at);
        let lives = self.model.is_alive(id, generation) && self.model.mode < Mode::Aborted;
        if lives {
            self.dies(id, generation);
        }
        self.engine.over_limit(id, generation);
        self.sync_pulled();
        if !lives {
            return;
        }
        self.tally.killed_for_memory += 1;
        let verdict = {
            let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            notices.iter().rev().find_map(|notice| match notice {
                Notice::Fenced { restart } => Some(*restart),
                _ => None,
            })
        };
        assert!(verdict.is_some(), "the supervisor receives a notice of it");
        self.account_for(id, generation, verdict);
    }

    /// A container is about to be killed from outside.
    pub(super) fn dies(&mut self, id: ContainerId, generation: Generation) {
        let holds = self.threads.iter().find(|thread| (thread.id, thread.generation()) == (id, generation));
        let dying = self.model.dies_from_outside(id, generation, holds.map_or(0, SimThread::holds));
        self.log(|| format!("{id}#{generation} dies, {dying:?}"));
        self.tally.abandoned += u64::from(dying.leaves_a_thread);
        self.tally.crowded += u64::from(dying.crowded);
    }
}

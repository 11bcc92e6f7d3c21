//! The model of containers: which of them live, which may be created, recycled or replaced, and which threads
//! were left behind in the user's code.

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::ledger::Mode;
use crate::decide::time::Time;
use crate::simulator::events::Due;
use crate::simulator::model::{EndReason, InputState, JobModel, Model, WaitsFor};
use crate::values::report::Fate;

/// How a container dies.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dying {
    /// It dies in the user's code, and its thread is left behind.
    pub(super) leaves_a_thread: bool,
    /// Its thread is left behind, and the threads left behind now reach the limit of threads or of bytes.
    pub(super) crowded: bool,
    /// The threads left behind now reach the limit of threads.
    pub(super) full: bool,
}

impl Model {
    pub(super) fn container_begun(&mut self, id: ContainerId, generation: Generation, now: Time) {
        assert!(self.goes_on(), "invariant 8: {id} was created though the function does not go on");
        if let Some(before) = self.current.get(&id) {
            assert!(!self.policy.is_alive(id, *before), "invariant 12: {id}#{before} lives and was replaced");
            assert!(generation > *before, "invariant 12: generations grow");
        }
        let at_once = self.at_once.get(&id).copied().unwrap_or(false);
        if let Some(due) = self.policy.held_until(now) {
            assert!(at_once, "invariant 8: {id} was created at {now:?}, inside the delay until {due:?}");
        }
        self.returning.remove(&id);
        self.ends.begun(id);
        self.restarts += u64::from(generation.get() > 1);
        self.at_once.insert(id, false);
        self.came_back(id);
        self.busy.insert(id);
        self.current.insert(id, generation);
        let recycling = self.recycling.remove(&id);
        self.policy.begun(id, generation, recycling, now);
        self.suspects.begun(id, self.crashes);
    }

    /// A container was created on a thread of its own.
    pub(super) fn container_created(&self, id: ContainerId) {
        assert!(!self.is_full(0), "{id} was created though there are {:?}", self.left_behind);
    }

    /// The engine looked for containers to create, and did not create this one.
    pub(super) fn container_not_created(&mut self, id: ContainerId, all_committed: bool, now: Time) {
        if !self.is_full(0) {
            self.container_not_begun(id, all_committed, now);
        }
    }

    /// Whether the threads left behind, and `threads` more, reach the limit of threads.
    pub(super) fn is_full(&self, threads: usize) -> bool {
        self.left_behind.len() + threads >= self.plan.memory.abandoned_max
    }

    /// Whether the threads left behind, with `bytes` more, reach the limit of bytes.
    fn is_large(&self, bytes: u64) -> bool {
        let held = self.left_behind.values().sum::<u64>() + bytes;
        self.plan.memory.abandoned_bytes_max.is_some_and(|most| held >= most)
    }

    /// A container is about to be killed, by hand or for its memory. Its thread holds `bytes`.
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

    /// A container dies on its own thread, which leaves the user's code.
    pub(super) fn dies_by_itself(&mut self) {
        self.dying = Dying { full: self.is_full(0), ..Dying::default() };
    }

    /// Whether the container that dies is the last one and no other can be created, so that a limited
    /// function gives up.
    pub(super) fn is_hopeless(&self, id: ContainerId) -> bool {
        let serve = |id: &ContainerId| !self.hung.contains(id);
        let others = self.living().filter(|(other, _)| *other != id && serve(other)).count();
        self.dying.full && self.policy.is_limited() && others == 0 && self.returning.is_empty()
    }

    /// Whether no container lives and none can be created, in a function that may give up for that.
    pub(super) fn is_deserted(&self) -> bool {
        self.is_full(0) && self.policy.is_limited() && !self.has_server()
    }

    /// Whether a container lives that does not hang, or is about to on the thread that it has.
    pub(super) fn has_server(&self) -> bool {
        !self.returning.is_empty() || self.living().any(|(id, _)| !self.hung.contains(&id))
    }

    /// The containers that live, with their generations.
    pub(super) fn living(&self) -> impl Iterator<Item = (ContainerId, Generation)> {
        let current = self.current.iter().map(|(id, generation)| (*id, *generation));
        current.filter(|(id, generation)| self.is_alive(*id, *generation))
    }

    /// Whether a container that asks for work may exit to be recycled.
    pub(super) fn may_recycle(&self, id: ContainerId, generation: Generation) -> bool {
        let going_on = self.mode == Mode::Running && !self.gave_up;
        let room = !self.is_full(1 + self.exiting.len()) && !self.is_large(0);
        self.is_alive(id, generation) && going_on && room
    }

    /// The container exits to be recycled.
    pub(super) fn recycled(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.came_back(id);
        self.at_once.insert(id, true);
        self.recycling.insert(id);
        self.policy.leaves(id, generation, now);
    }

    /// The worker of a container was interrupted, and is to enter again.
    pub(super) fn interrupted(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.came_back(id);
        self.policy.ended(id, generation, now);
        self.at_once.insert(id, true);
    }

    /// A recycled container has exited, and is about to begin its next generation.
    pub(super) fn returns(&mut self, id: ContainerId) {
        self.returning.insert(id);
    }

    /// Whether this generation has ended and left its thread behind.
    pub(super) fn has_left_its_thread(&self, id: ContainerId, generation: Generation) -> bool {
        self.left_behind.contains_key(&(id, generation))
    }

    /// A thread was left behind in its `exit`.
    pub(super) fn exit_left_behind(&mut self, id: ContainerId, generation: Generation) {
        self.ends.came_to(id, Fate::ExitTimedOut);
        self.left_behind.insert((id, generation), 0);
        self.recycling.remove(&id);
    }

    /// A thread that was left behind now holds `bytes`.
    pub(super) fn left_behind_holds(&mut self, id: ContainerId, generation: Generation, bytes: u64) {
        if let Some(held) = self.left_behind.get_mut(&(id, generation)) {
            *held = bytes;
        }
    }

    /// A container has entered, or is at work.
    pub(super) fn has_entered(&mut self, id: ContainerId, now: Time) {
        self.busy.remove(&id);
        self.enters.remove(&(id, self.current[&id]));
        self.suspects.entered(now);
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&mut self, id: ContainerId, generation: Generation) {
        self.left_behind.remove(&(id, generation));
        if self.current.get(&id) == Some(&generation) {
            self.returning.remove(&id);
            self.recycling.remove(&id);
        }
        // A container that was to restart on this thread may have been held back by a crash loop.
        if self.mode == Mode::Running && !self.gave_up && self.crashes > 0 && self.is_deserted() {
            self.gave_up = true;
            self.hearing.is_due(Due::GaveUp);
        }
    }

    /// The number of threads left behind, and the bytes that they hold.
    pub(super) fn left_behind(&self) -> (usize, u64) {
        (self.left_behind.len(), self.left_behind.values().sum())
    }

    /// The engine looked for containers to begin, and did not begin this one, so something must hold it back.
    /// `all_committed` says whether the engine can know of every completion, and so of the end of a crash
    /// loop.
    pub(super) fn container_not_begun(&mut self, id: ContainerId, all_committed: bool, now: Time) {
        let may_begin = self.may_begin(id, all_committed, now);
        assert!(!may_begin, "{id} was held back at {now:?} though no delay is for it");
    }

    fn may_begin(&mut self, id: ContainerId, all_committed: bool, now: Time) -> bool {
        let lives = self.current.get(&id).is_some_and(|generation| self.policy.is_alive(id, *generation));
        let at_once = self.at_once.get(&id).copied().unwrap_or(false);
        let wanted = self.mode == Mode::Running && !self.gave_up && !lives;
        wanted && (at_once || (all_committed && self.policy.held_until(now).is_none()))
    }

    /// Nothing is about to happen. If a crash loop has ended, the containers that its delay held back must
    /// have been begun.
    pub(super) fn none_is_held(&mut self, now: Time) {
        if self.policy.recovered {
            let held = (!self.is_full(0)).then(|| self.containers()).into_iter().flatten();
            let held = held.into_iter().find(|id| self.may_begin(*id, true, now));
            assert_eq!(held, None, "held back though its crash loop has ended");
        }
    }

    pub(super) fn containers(&self) -> impl Iterator<Item = ContainerId> + use<> {
        (0..self.plan.rules.containers as u32).map(ContainerId)
    }

    pub(super) fn is_alive(&self, id: ContainerId, generation: Generation) -> bool {
        self.policy.is_alive(id, generation)
    }

    /// A container begins its `exit`.
    pub(super) fn exits(&mut self, id: ContainerId) {
        self.exiting.insert(id);
    }

    /// A container asks for work, so it executes nothing any more.
    pub(super) fn came_back(&mut self, id: ContainerId) {
        self.busy.remove(&id);
        self.orphans.remove(&id);
        self.suspects.ended(id);
    }

    /// A job is forgotten.
    pub(super) fn closed(&mut self, job: JobId) {
        self.end_job(job, EndReason::Cancelled);
        let ended = self.jobs.remove(&job).map_or([0; 5], |job| job.ended());
        self.closed = sum(self.closed, ended);
    }

    /// The number of inputs since the start that ended in each way, in this order: ok, failed, poisoned,
    /// cancelled, given up.
    pub(super) fn ended(&self) -> [u64; 5] {
        self.jobs.values().map(JobModel::ended).fold(self.closed, sum)
    }

    /// A container ended, by an exit or a kill. The inputs that it had not begun wait again.
    pub(super) fn container_ended(&mut self, id: ContainerId, now: Time) {
        let generation = self.current[&id];
        self.exiting.remove(&id);
        self.enters.remove(&(id, generation));
        self.comes_out(id, false);
        if self.policy.is_alive(id, generation) {
            self.policy.ended(id, generation, now);
        }
        self.give_back(id);
    }

    /// The inputs that were assigned to a container and have not begun wait again.
    pub(super) fn give_back(&mut self, id: ContainerId) {
        self.suspects.ended(id);
        for input in self.jobs.values_mut().flat_map(|job| &mut job.inputs) {
            if let InputState::Leased { to, from } = input.state
                && to == id
            {
                input.state =
                    InputState::Waits(if from == WaitsFor::New { WaitsFor::Requeued } else { from });
            }
        }
    }
}

fn sum(one: [u64; 5], other: [u64; 5]) -> [u64; 5] {
    std::array::from_fn(|at| one[at] + other[at])
}

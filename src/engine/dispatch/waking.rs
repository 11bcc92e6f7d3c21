//! Waking: which sleeping containers an event wakes, and the signals that they get once the lock is
//! released.
//!
//! The choice between the sleepers is in [`sleepers`](super::sleepers).

use crate::base::ids::{ContainerId, Generation};
use crate::base::signal::Signal;
use crate::decide::ledger::{CrashNumber, Mode, Takers};
use crate::decide::pacing::STEAL_PAUSE;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::engine::dispatch::sleepers::{Called, CalledContainer};
use crate::engine::dispatch::{Dispatch, State, tasks};

impl Dispatch {
    /// Signals the containers that were called under the lock. Returns whether one of them may not look for
    /// work at once, because its thread is in user code. Another one is then to be called, if there is still
    /// work. It is asked after the signal, so that a container that is not seen to be busy cannot miss the
    /// signal.
    #[must_use]
    pub(super) fn raise(&self, called: Called) -> bool {
        let mut is_busy = false;
        for container in called.into_each() {
            self.work[container.id.index()].notify_all();
            is_busy |= container.is_busy();
        }
        is_busy
    }

    /// Signals the containers that were called, and further ones as long as these may not look at once. The
    /// lock is not held.
    pub(super) fn raise_all(&self, mut called: Called) {
        while self.raise(called) {
            let mut state = self.lock();
            state.call_another();
            called = state.called.take();
        }
    }

    /// Wakes a sleeping container, if there is one.
    pub(crate) fn wake_one(&self, state: &mut State) {
        self.wake_some(state, 1);
    }

    /// Wakes up to `containers` sleeping containers.
    pub(super) fn wake_some(&self, state: &mut State, containers: u64) {
        let some = containers.min(state.sleepers.len() as u64);
        for _ in (0..some).map(steps::each) {
            let Some(id) = state.sleepers.pop() else { break };
            state.call(id);
        }
    }

    /// Wakes a container if there is work for it, or if something will fall due and no sleeping container
    /// wakes for that. `has_more` is called before `needs_a_watch`, because `has_more` may leave the small
    /// room of a map to grow. The map's work then falls due at a later moment.
    pub(super) fn pass_on(&self, state: &mut State, now: Time) {
        if state.sleepers.is_empty() {
            return;
        }
        let more = state.ledger.goes_on() && state.ledger.has_more(now, &state.buffers);
        if more || state.needs_a_watch(now) {
            self.wake_one(state);
        }
        self.wake_for_alone(state, now);
    }

    /// Wakes a sleeping container for an input that executes alone, if one waits, and one for the next
    /// suspect.
    pub(super) fn wake_for_alone(&self, state: &mut State, now: Time) {
        if let Some(takers) = state.ledger.alone_ready() {
            state.call_taker(takers, 0);
        }
        self.wake_for_suspect(state, now);
    }

    /// Wakes a sleeping container that may replay the next suspect, if the suspect may be replayed now.
    pub(super) fn wake_for_suspect(&self, state: &mut State, now: Time) {
        state.call_for_suspect(now);
    }

    /// Wakes all containers of a draining function once nothing is pending or the function has given up,
    /// because they then leave.
    pub(super) fn wake_if_drained(&self, state: &mut State) {
        let over = state.ledger.nothing_pending() || state.ledger.gave_up().is_some();
        if state.ledger.mode() > Mode::Running && over {
            self.wake_some(state, u64::MAX);
            if self.settings.rules.lanes > 1 {
                self.work.iter().for_each(Signal::notify_all); // a container that is held does not sleep
            }
        }
    }

    /// Wakes a container whose generation is over, whether it waits for work or in the user's `enter` or
    /// `exit`.
    pub(super) fn rouse(&self, state: &mut State, id: ContainerId, generation: Generation) {
        state.sleepers.has_woken(id, generation);
        self.work[id.index()].notify_all();
        self.changed.notify_task(tasks::key(id, generation));
    }

    /// Wakes all waiting containers, threads and tasks, because the end of the function concerns them all.
    pub(super) fn wake_all(&self) {
        self.work.iter().for_each(Signal::notify_all);
        self.changed.notify_all();
    }
}

impl State {
    /// Wakes a container once the lock is released.
    pub(super) fn call(&mut self, id: ContainerId) {
        let driver = self.seats[id.index()].driver.clone();
        self.called.add(CalledContainer { id, driver });
    }

    /// A lane has completed inputs, so its container may have outlived further crashes. With a free lane the
    /// container may sleep meanwhile, and a suspect may have waited for its proof.
    pub(super) fn outlives(&mut self, id: ContainerId) {
        self.sleeper_proved |= self.sleepers.has_outlived(id, self.ledger.proof(id));
    }

    /// Takes the containers that are to be woken now that the lock is released. One of them is for the next
    /// suspect, however many sleeping containers have been proved meanwhile.
    pub(super) fn take_called(&mut self, now: impl FnOnce() -> Time) -> Called {
        if std::mem::take(&mut self.sleeper_proved) && self.broken.is_none() {
            self.call_for_suspect(now());
        }
        self.called.take()
    }

    /// Calls a sleeping container that may replay the next suspect, if the suspect may be replayed now.
    fn call_for_suspect(&mut self, now: Time) {
        if let Some(ready) = self.ledger.suspect_ready(now) {
            self.call_taker(self.ledger.takers_of_suspect(), ready.proof);
        }
    }

    /// Calls a sleeping container among `takers` that has outlived the crash `proof`.
    fn call_taker(&mut self, takers: Takers, proof: CrashNumber) {
        let id = match takers {
            Takers::All => self.sleepers.pop_proven(proof),
            Takers::EmptyFirst => self.sleepers.pop_empty(proof).or_else(|| self.sleepers.pop_proven(proof)),
            Takers::Empty => self.sleepers.pop_empty(proof),
        };
        if let Some(id) = id {
            self.call(id);
        }
    }

    /// Whether something will fall due for which no sleeping container wakes.
    pub(crate) fn needs_a_watch(&self, now: Time) -> bool {
        if self.sleepers.is_empty() {
            return false;
        }
        let due = self.ledger.next_due(now).filter(|_| self.ledger.dispatches());
        // A container that was to look again may be woken late, and find other work. Another one looks then.
        let left = self.steal_after.is_some() && self.ledger.dispatches();
        let ahead = (self.polls_to_steal(now) || left).then_some(now + STEAL_PAUSE);
        due.into_iter().chain(ahead).min().is_some_and(|due| !self.sleepers.is_watched(due))
    }
}

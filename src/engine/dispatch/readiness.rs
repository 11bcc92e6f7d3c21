//! Waiting for live containers, and for the end of all work, in a thread and in a task.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::decide::ledger::Mode;
use crate::engine::dispatch::{Dispatch, State};
use crate::values::error::NotReady;

/// The condition that a thread or task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// One live container of a function that is not paused.
    One,
    /// All containers, live at the same time, of a function that is not paused.
    All,
    /// An outcome for every input that was pulled.
    Idle,
}

/// The tasks and threads that wait for the function to be ready or idle.
#[derive(Debug, Default)]
pub(super) struct Readying {
    /// The number of tasks that have ever waited.
    tasks: u64,
    /// The wakers of the waiting tasks, by the condition and the task's number.
    waiting: BTreeMap<Wanted, BTreeMap<u64, Waker>>,
    /// Whether a thread waits for the end of all work. The thread sets it each time before it waits.
    thread_waits_for_idle: bool,
    /// How often the function was idle while a task or thread waited for that. New work may come before the
    /// waiting thread checks again, so it compares this number as well.
    idle_moments: u64,
}

impl Readying {
    /// Whether any task waits, or a thread waits for the end of all work.
    fn is_waited_for(&self) -> bool {
        self.thread_waits_for_idle || !self.waiting.is_empty()
    }

    /// Each condition that a task waits for, and the end of all work if a thread waits for it.
    fn waited_for(&self) -> impl Iterator<Item = Wanted> {
        let by_a_thread = self.thread_waits_for_idle.then_some(Wanted::Idle);
        self.waiting.keys().copied().chain(by_a_thread)
    }

    /// The number of tasks that wait.
    #[cfg(test)]
    pub(super) fn waiting_tasks(&self) -> usize {
        self.waiting.values().map(BTreeMap::len).sum()
    }

    fn forget(&mut self, wanted: Wanted, task: u64) -> Option<Waker> {
        let of_kind = self.waiting.get_mut(&wanted)?;
        let waker = of_kind.remove(&task);
        if of_kind.is_empty() {
            self.waiting.remove(&wanted);
        }
        waker
    }
}

impl Dispatch {
    /// Waits in a thread until the condition holds.
    pub(crate) fn await_ready(&self, wanted: Wanted) -> Result<(), NotReady> {
        let mut state = self.lock();
        let since = state.readying.idle_moments;
        loop {
            if let Some(ready) = state.readiness(wanted, since) {
                return ready;
            }
            state.readying.thread_waits_for_idle |= wanted == Wanted::Idle;
            state.wait(&self.changed, None);
        }
    }

    /// If the function is idle and a task or thread waits for that, counts an idle moment and wakes the
    /// threads. Called before the lock is released.
    pub(super) fn notify_if_idle(&self, state: &mut State) {
        if !state.readying.is_waited_for() {
            return; // this is asked at each release of the lock
        }
        if state.readying.waited_for().any(|wanted| wanted == Wanted::Idle) && state.is_idle() {
            state.readying.idle_moments += 1;
            if std::mem::take(&mut state.readying.thread_waits_for_idle) {
                self.changed.notify_threads();
            }
        }
    }
}

impl State {
    /// Whether every input that was pulled has its outcome.
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.nothing_pending()
            && !self.buffers.open.values().any(|buffers| buffers.held_by_window() > 0)
    }

    /// Whether a task waits for a condition that holds now, so that it is to be woken when the lock is
    /// released.
    pub(super) fn has_readied(&self) -> bool {
        let now = self.readying.idle_moments;
        self.readying.is_waited_for()
            && self.readying.waited_for().any(|wanted| self.readiness(wanted, now).is_some())
    }

    /// Returns `Ok` if the condition holds, or if the function has been idle since the idle moment `since`.
    /// Returns an error if the condition can never hold, and `None` if it may hold later.
    fn readiness(&self, wanted: Wanted, since: u64) -> Option<Result<(), NotReady>> {
        if let Some(bug) = &self.broken {
            return Some(Err(NotReady::Engine(bug.clone())));
        }
        let for_containers = wanted != Wanted::Idle;
        if let Some(gave_up) = self.ledger.gave_up().filter(|_| for_containers) {
            return Some(Err(NotReady::GaveUp(gave_up.clone())));
        }
        if self.ledger.mode() != Mode::Running && for_containers {
            return Some(Err(NotReady::ShutDown));
        }
        let ready = match wanted {
            Wanted::One => self.ledger.is_ready() && !self.ledger.is_paused(),
            Wanted::All => self.ledger.all_are_live() && !self.ledger.is_paused(),
            Wanted::Idle => self.readying.idle_moments > since || self.is_idle(),
        };
        ready.then_some(Ok(()))
    }

    /// Collects the wakers of the tasks whose condition holds now. They are the user's code, so they are
    /// woken once the lock is released.
    pub(super) fn wake_the_ready(&mut self) {
        let now = self.readying.idle_moments;
        let ready = |wanted: &Wanted| self.readiness(*wanted, now).is_some();
        let ready: Vec<Wanted> = self.readying.waiting.keys().copied().filter(ready).collect();
        for wanted in ready {
            let woken = self.readying.waiting.remove(&wanted);
            self.wakers.woken.extend(woken.into_iter().flat_map(BTreeMap::into_values));
        }
    }
}

/// A future that waits until a condition holds.
pub(crate) struct Readiness {
    dispatch: Arc<Dispatch>,
    wanted: Wanted,
    /// The number of the waiting task, once it waits, and the number of idle moments before that.
    task: Option<(u64, u64)>,
}

impl Readiness {
    pub(crate) fn new(dispatch: &Arc<Dispatch>, wanted: Wanted) -> Self {
        Self { dispatch: Arc::clone(dispatch), wanted, task: None }
    }
}

impl Future for Readiness {
    type Output = Result<(), NotReady>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let waker = cx.waker().clone(); // a waker is the user's code, so the lock is not held
        let mut held = this.dispatch.lock();
        let since = this.task.map_or(held.readying.idle_moments, |(_, since)| since);
        if let Some(ready) = held.readiness(this.wanted, since) {
            return Poll::Ready(ready);
        }
        let state = &mut *held;
        let (task, _) = *this.task.get_or_insert_with(|| {
            state.readying.tasks += 1;
            (state.readying.tasks, since)
        });
        let before = state.readying.waiting.entry(this.wanted).or_default().insert(task, waker);
        state.wakers.unused.extend(before);
        Poll::Pending
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        let Some((task, _)) = self.task else { return };
        let mut state = self.dispatch.lock();
        let waker = state.readying.forget(self.wanted, task);
        state.wakers.unused.extend(waker);
    }
}

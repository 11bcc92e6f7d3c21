//! Waiting for live containers, and for the end of all work, in a thread and in a task.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::decide::ledger::Mode;
use crate::engine::dispatch::{Dispatch, State};
use crate::values::error::NotReady;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// A live container.
    One,
    /// All containers, live at once.
    All,
    /// An outcome for every input that was pulled.
    Idle,
}

/// Tasks and threads that wait for the function to get ready, or to be idle.
#[derive(Debug, Default)]
pub(super) struct Readying {
    /// How many tasks there ever were.
    tasks: u64,
    /// The tasks that wait, by what they wait for and their number.
    waiting: BTreeMap<Wanted, BTreeMap<u64, Waker>>,
    /// Whether a thread waits for the end of all work. It sets this each time before it waits.
    thread_waits_for_idle: bool,
    /// How often the function was idle while somebody waited for that. New work may come before they look again, so they
    /// look at this number as well.
    idle_moments: u64,
}

impl Readying {
    /// What is waited for, each once.
    fn waited_for(&self) -> impl Iterator<Item = Wanted> {
        let by_a_thread = self.thread_waits_for_idle.then_some(Wanted::Idle);
        self.waiting.keys().copied().chain(by_a_thread)
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
    /// Waits until that is so.
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

    /// Notes the end of all work, if it has come and somebody waits for it, and tells the threads among them. Called before
    /// the lock is released.
    pub(super) fn notify_if_idle(&self, state: &mut State) {
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

    /// Whether somebody waits for what is so now, and is to be told when the lock is released.
    pub(super) fn has_readied(&self) -> bool {
        let now = self.readying.idle_moments;
        self.readying.waited_for().any(|wanted| self.readiness(wanted, now).is_some())
    }

    /// Whether that is so, or has been since so many idle moments, or will never be; `None` while it may become so.
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
            Wanted::One => self.ledger.is_ready(),
            Wanted::All => self.ledger.all_are_live(),
            Wanted::Idle => self.readying.idle_moments > since || self.is_idle(),
        };
        ready.then_some(Ok(()))
    }

    /// Wakes the tasks that have waited for what is so now. Their wakers are the user's code: they are woken once the lock is
    /// released.
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

/// Waits in a task until that is so.
pub(crate) struct Readiness<'a> {
    dispatch: &'a Dispatch,
    wanted: Wanted,
    /// Its number among the tasks that wait, once it does, and the idle moments that there had been before.
    task: Option<(u64, u64)>,
}

impl<'a> Readiness<'a> {
    pub(crate) fn new(dispatch: &'a Dispatch, wanted: Wanted) -> Self {
        Self { dispatch, wanted, task: None }
    }
}

impl Future for Readiness<'_> {
    type Output = Result<(), NotReady>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone(); // the user's code, and so before the lock is taken
        let mut held = self.dispatch.lock();
        let since = self.task.map_or(held.readying.idle_moments, |(_, since)| since);
        if let Some(ready) = held.readiness(self.wanted, since) {
            return Poll::Ready(ready);
        }
        let state = &mut *held;
        let (task, _) = *self.task.get_or_insert_with(|| {
            state.readying.tasks += 1;
            (state.readying.tasks, since)
        });
        let before = state.readying.waiting.entry(self.wanted).or_default().insert(task, waker);
        state.wakers.unused.extend(before);
        Poll::Pending
    }
}

impl Drop for Readiness<'_> {
    fn drop(&mut self) {
        let Some((task, _)) = self.task else { return };
        let mut state = self.dispatch.lock();
        let waker = state.readying.forget(self.wanted, task);
        state.wakers.unused.extend(waker);
    }
}

//! Waiting for live containers, and for the end of all work, in a thread and in a task.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::decide::ledger::Mode;
use crate::engine::dispatch::{Dispatch, State};
use crate::error::NotReady;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// How many there ever were.
    tasks: u64,
    waiting: Vec<(u64, Wanted, Waker)>,
    /// Whether a thread waits for the end of all work. It sets this each time before it waits.
    thread_waits_for_idle: bool,
}

impl Readying {
    /// What is waited for, by whomever.
    fn waited_for(&self) -> impl Iterator<Item = Wanted> {
        let by_a_thread = self.thread_waits_for_idle.then_some(Wanted::Idle);
        self.waiting.iter().map(|(_, wanted, _)| *wanted).chain(by_a_thread)
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Dispatch<I, O, E> {
    /// Waits until that is so.
    pub(crate) fn await_ready(&self, wanted: Wanted) -> Result<(), NotReady> {
        let mut state = self.hold();
        loop {
            if let Some(ready) = state.readiness(wanted) {
                return ready;
            }
            state.readying.thread_waits_for_idle |= wanted == Wanted::Idle;
            state.wait(&self.changed, None);
        }
    }

    /// Tells threads that wait for the end of all work, if it has come.
    pub(super) fn tell_if_idle(&self, state: &mut State<I, O, E>) {
        if state.readying.thread_waits_for_idle && state.is_idle() {
            state.readying.thread_waits_for_idle = false;
            self.changed.notify_threads();
        }
    }
}

impl<I, O, E> State<I, O, E> {
    /// Whether every input that was pulled has its outcome.
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.nothing_pending() && !self.lanes.0.values().any(|lane| lane.held_by_window() > 0)
    }

    /// Whether somebody waits for what is so now, and is to be told when the lock is released.
    pub(super) fn has_readied(&self) -> bool {
        self.readying.waited_for().any(|wanted| self.readiness(wanted).is_some())
    }

    /// Whether that is so, or will never be; `None` while it may become so.
    fn readiness(&self, wanted: Wanted) -> Option<Result<(), NotReady>> {
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
            Wanted::Idle => self.is_idle(),
        };
        ready.then_some(Ok(()))
    }

    /// Wakes the tasks that have waited for what is so now. Their wakers are the user's code: they are woken once the lock is
    /// released.
    pub(super) fn wake_the_ready(&mut self) {
        if self.readying.waiting.is_empty() {
            return;
        }
        for wanted in [Wanted::One, Wanted::All, Wanted::Idle] {
            if self.readiness(wanted).is_some() {
                let woken = self.readying.waiting.extract_if(.., |(_, waits_for, _)| *waits_for == wanted);
                self.wakers.woken.extend(woken.map(|(_, _, waker)| waker));
            }
        }
    }
}

/// Waits in a task until that is so.
pub(crate) struct Readiness<'a, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    dispatch: &'a Dispatch<I, O, E>,
    wanted: Wanted,
    /// Its number among the tasks that wait, once it does.
    task: Option<u64>,
}

impl<'a, I, O, E> Readiness<'a, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(dispatch: &'a Dispatch<I, O, E>, wanted: Wanted) -> Self {
        Self { dispatch, wanted, task: None }
    }
}

impl<I, O, E> Future for Readiness<'_, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<(), NotReady>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone(); // the user's code, and so before the lock is taken
        let mut held = self.dispatch.hold();
        if let Some(ready) = held.readiness(self.wanted) {
            return Poll::Ready(ready);
        }
        let state = &mut *held;
        let task = *self.task.get_or_insert_with(|| {
            state.readying.tasks += 1;
            state.readying.tasks
        });
        match state.readying.waiting.iter_mut().find(|(of, ..)| *of == task) {
            Some((_, _, before)) => state.wakers.unused.push(std::mem::replace(before, waker)),
            None => state.readying.waiting.push((task, self.wanted, waker)),
        }
        Poll::Pending
    }
}

impl<I, O, E> Drop for Readiness<'_, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        let Some(task) = self.task else { return };
        let mut state = self.dispatch.hold();
        let waiting = &mut state.readying.waiting;
        if let Some(at) = waiting.iter().position(|(of, ..)| *of == task) {
            let (_, _, waker) = waiting.swap_remove(at);
            state.wakers.unused.push(waker);
        }
    }
}

//! A run: one lease as the executing thread and the engine share it, and the word that fences it.
//!
//! The word holds how far the run is, where it ends, whether the input at that place has begun and
//! whether the run is fenced. The thread moves it on by compare-and-swap *before* it publishes an
//! outcome, so that exactly one of two things is true of every input: the thread has the right
//! to publish it, or whoever fenced the run knows that it was executing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::decide::ledger::Position;
use crate::engine::chunk::Chunk;

const FENCED: u64 = 1 << 63;
const BEGUN: u64 = 1 << 62;
const PLACE: u64 = (1 << 31) - 1;

/// What the thread does after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Publish this outcome; the next input has begun.
    Next,
    /// Publish this outcome; the run is over.
    Last,
    /// The outcome is refused, the run is over.
    Fenced,
}

/// Inputs `at .. end` of a chunk, as places in it.
#[derive(Debug)]
pub(crate) struct Run<I, T> {
    pub(crate) chunk: Arc<Chunk<I, T>>,
    word: AtomicU64,
    /// The executing task, to be woken by a fence. Only async containers leave theirs.
    task: Mutex<Option<Waker>>,
    /// Whether that task waits. Written by it, read by whoever has set the fence: a task that waits sees
    /// the fence before it does anything else.
    suspended: AtomicBool,
}

fn pack(at: u64, end: u64) -> u64 {
    assert!(at <= end && end <= PLACE, "a chunk holds fewer than 2^31 inputs");
    (end << 31) | at
}

fn at(word: u64) -> u64 {
    word & PLACE
}

fn end(word: u64) -> u64 {
    (word >> 31) & PLACE
}

impl<I, T> Run<I, T> {
    pub(crate) fn new(chunk: Arc<Chunk<I, T>>, from: u64, to: u64) -> Self {
        Self {
            chunk,
            word: AtomicU64::new(pack(from, to)),
            task: Mutex::new(None),
            suspended: AtomicBool::new(false),
        }
    }

    /// The thread begins the first input; returns its place.
    pub(crate) fn begin(&self) -> Option<usize> {
        let begun = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            (word & FENCED == 0 && at(word) < end(word)).then_some(word | BEGUN)
        });
        begun.ok().map(|word| at(word) as usize)
    }

    /// The input at `place` has returned; the next one begins.
    pub(crate) fn step(&self, place: usize) -> Step {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & FENCED != 0 {
                return Step::Fenced;
            }
            debug_assert_eq!(at(word), place as u64, "only the executing thread moves the run on");
            let last = at(word) + 1 == end(word);
            let next = if last { (word + 1) & !BEGUN } else { word + 1 };
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if last => return Step::Last,
                Ok(_) => return Step::Next,
                Err(now) => word = now,
            }
        }
    }

    /// Refuses whatever the thread has not yet the right to publish.
    pub(crate) fn fence(&self) -> Position {
        let word = self.word.fetch_or(FENCED, Ordering::SeqCst);
        position(word, self.chunk.first())
    }

    /// Whether the task waits that executed when the fence was set.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    /// Tells the executing task of the fence.
    pub(crate) fn wake(&self) {
        // The waker is that of the container's own runtime, so no user code runs here.
        if let Some(task) = self.task.lock().take() {
            task.wake();
        }
    }

    /// The executing task waits, to be woken when the run is fenced. `false` if it is fenced already.
    pub(crate) fn suspend(&self, waker: &Waker) -> bool {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
        drop(task);
        self.suspended.store(true, Ordering::SeqCst);
        !self.is_fenced()
    }

    /// The executing task goes on. `false` if it may not, because the run is fenced.
    pub(crate) fn resume(&self) -> bool {
        // Before the look: of a fence and this, one sees the other.
        self.suspended.store(false, Ordering::SeqCst);
        !self.is_fenced()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.word.load(Ordering::SeqCst) & FENCED != 0
    }

    pub(crate) fn position(&self) -> Position {
        position(self.word.load(Ordering::Acquire), self.chunk.first())
    }

    /// Ends the run behind the input that executes now, if one does; returns the index of its end.
    pub(crate) fn truncate(&self) -> u64 {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let keep = at(word) + u64::from(word & BEGUN != 0);
            let cut = (word & !(PLACE << 31)) | (keep << 31);
            match self.word.compare_exchange_weak(word, cut, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.chunk.first() + keep,
                Err(now) => word = now,
            }
        }
    }
}

fn position(word: u64, first: u64) -> Position {
    Position { at: first + at(word), begun: word & BEGUN != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: u64, to: u64) -> Run<u64, u64> {
        Run::new(Arc::new(Chunk::new(100, (0..10).collect())), from, to)
    }

    #[test]
    fn a_run_walks_its_range() {
        let run = run(2, 4);
        assert_eq!(run.position(), Position { at: 102, begun: false });
        assert_eq!(run.begin(), Some(2));
        assert_eq!(run.position(), Position { at: 102, begun: true });
        assert_eq!(run.step(2), Step::Next);
        assert_eq!(run.step(3), Step::Last);
        assert_eq!(run.position(), Position { at: 104, begun: false });
        assert_eq!(run.begin(), None);
    }

    #[test]
    fn a_fenced_run_refuses_exactly_the_executing_input() {
        let run = run(0, 3);
        run.begin();
        assert_eq!(run.step(0), Step::Next);
        assert_eq!(run.fence(), Position { at: 101, begun: true });
        assert_eq!(run.step(1), Step::Fenced);
        assert_eq!(run.begin(), None);
    }

    #[test]
    fn a_task_that_waits_does_not_go_on_once_its_run_is_fenced() {
        let run = run(0, 3);
        run.begin();
        assert!(run.resume() && run.suspend(Waker::noop()) && run.resume() && !run.is_suspended());
        assert!(run.suspend(Waker::noop()));
        run.fence();
        assert!(run.is_suspended() && !run.resume() && !run.suspend(Waker::noop()));
    }

    #[test]
    fn a_truncated_run_ends_behind_what_executes() {
        let begun = run(0, 5);
        begun.begin();
        assert_eq!(begun.truncate(), 101);
        assert_eq!(begun.step(0), Step::Last);
        let waiting = run(3, 5);
        assert_eq!(waiting.truncate(), 103);
        assert_eq!(waiting.begin(), None);
    }
}

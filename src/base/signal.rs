//! A signal: threads wait for it with a lock of theirs released, and tasks leave their waker.
//!
//! Only wakers of the engine's own runtimes are left here: they are woken under the function's
//! lock, where no user code may run. In tests it remembers that it was raised, because the
//! simulator's threads do not wait: it wakes those that would have been woken, and no others, so
//! that a lost wake-up is a stuck world.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// A condition variable, for threads and tasks.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    condvar: Condvar,
    /// Tasks that wait, each under its key, longest first. At most one for each container.
    tasks: Mutex<VecDeque<(u64, Waker)>>,
    /// How many those are, so that signals to threads do not look.
    waiting: AtomicUsize,
    #[cfg(test)]
    raised: std::sync::atomic::AtomicBool,
}

impl Signal {
    /// Wakes the threads that wait, and no task.
    pub(crate) fn notify_threads(&self) {
        self.condvar.notify_all();
    }

    /// Wakes the task that waits under that key.
    pub(crate) fn notify_task(&self, key: u64) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let at = |tasks: &VecDeque<(u64, Waker)>| tasks.iter().position(|(of, _)| *of == key);
            if let Some((_, waker)) = self.take(|tasks| tasks.remove(at(tasks)?)) {
                waker.wake();
            }
        }
    }

    /// Wakes all that wait.
    pub(crate) fn notify_all(&self) {
        #[cfg(test)]
        self.raised.store(true, Ordering::Relaxed);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            while let Some((_, waker)) = self.take(VecDeque::pop_front) {
                waker.wake();
            }
        }
        self.condvar.notify_all();
    }

    fn take<T>(&self, take: impl FnOnce(&mut VecDeque<(u64, Waker)>) -> Option<T>) -> Option<T> {
        let mut tasks = self.tasks.lock();
        let taken = take(&mut tasks);
        self.waiting.store(tasks.len(), Ordering::SeqCst);
        taken
    }

    /// Waits until it is raised, or until that moment. Whether it was raised before.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, until: Option<Instant>) -> bool {
        match until {
            None => {
                self.condvar.wait(guard);
                true
            }
            Some(until) => !self.condvar.wait_until(guard, until).timed_out(),
        }
    }

    /// A task waits under `key` from now on. Called with the lock held under which it is raised.
    pub(crate) fn register(&self, key: u64, waker: Waker) {
        self.forget(key);
        self.take(|tasks| {
            tasks.push_back((key, waker));
            None::<()>
        });
    }

    /// Whether that task waits under `key`, and has not been signalled.
    pub(crate) fn is_registered(&self, key: u64, waker: &Waker) -> bool {
        self.tasks.lock().iter().any(|(of, task)| *of == key && task.will_wake(waker))
    }

    /// The task under `key` does not wait any more.
    pub(crate) fn forget(&self, key: u64) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let at = |tasks: &VecDeque<(u64, Waker)>| tasks.iter().position(|(of, _)| *of == key);
            drop(self.take(|tasks| tasks.remove(at(tasks)?)));
        }
    }

    /// Whether it was raised since this was last asked.
    #[cfg(test)]
    pub(crate) fn take_raised(&self) -> bool {
        self.raised.swap(false, Ordering::Relaxed)
    }
}

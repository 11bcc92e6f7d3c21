//! A signal that both threads and tasks can wait for. A thread waits with the caller's lock released, and a
//! task leaves its waker.
//!
//! The wakers that are left here belong to the engine's own runtimes, because some are woken under the
//! function's lock, where no user code may run. In tests a signal remembers that it was raised: the
//! simulator's threads do not wait on the condition variable. The simulator wakes exactly the threads that
//! the signal would have woken, so that a lost wake-up leaves its world stuck.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// A condition variable for threads and tasks.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    condvar: Condvar,
    /// The tasks that wait, each under its key. The task that has waited longest comes first. There is at
    /// most one for each container.
    tasks: Mutex<VecDeque<(u64, Waker)>>,
    /// The length of `tasks`, so that a signal to threads need not take the lock.
    waiting: AtomicUsize,
    #[cfg(test)]
    raised: std::sync::atomic::AtomicBool,
}

impl Signal {
    /// Wakes the threads that wait, and leaves the tasks asleep.
    pub(crate) fn notify_threads(&self) {
        self.condvar.notify_all();
    }

    /// Wakes the task that waits under `key`.
    pub(crate) fn notify_task(&self, key: u64) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let at = |tasks: &VecDeque<(u64, Waker)>| tasks.iter().position(|(of, _)| *of == key);
            if let Some((_, waker)) = self.take(|tasks| tasks.remove(at(tasks)?)) {
                waker.wake();
            }
        }
    }

    /// Wakes all threads and tasks that wait.
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

    /// Waits until the signal is raised, or until `until`. Returns whether the signal was raised first.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, until: Option<Instant>) -> bool {
        match until {
            None => {
                self.condvar.wait(guard);
                true
            }
            Some(until) => !self.condvar.wait_until(guard, until).timed_out(),
        }
    }

    /// Registers a task that waits under `key`. The caller holds the lock under which the signal is raised.
    pub(crate) fn register(&self, key: u64, waker: Waker) {
        self.forget(key);
        self.take(|tasks| {
            tasks.push_back((key, waker));
            None::<()>
        });
    }

    /// Whether the task of `waker` waits under `key` and has not been woken yet.
    pub(crate) fn is_registered(&self, key: u64, waker: &Waker) -> bool {
        self.tasks.lock().iter().any(|(of, task)| *of == key && task.will_wake(waker))
    }

    /// Removes the task under `key`, which does not wait any more.
    pub(crate) fn forget(&self, key: u64) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let at = |tasks: &VecDeque<(u64, Waker)>| tasks.iter().position(|(of, _)| *of == key);
            drop(self.take(|tasks| tasks.remove(at(tasks)?)));
        }
    }

    /// Whether the signal was raised since the last call of this function.
    #[cfg(test)]
    pub(crate) fn take_raised(&self) -> bool {
        self.raised.swap(false, Ordering::Relaxed)
    }
}

/// Its waker signals the threads and tasks that wait.
impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.notify_all();
    }
}

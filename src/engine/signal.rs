//! A signal: threads wait for it with a lock of theirs released, and tasks leave their waker.
//!
//! Only wakers of the engine's own runtimes are left here: they are woken under the function's
//! lock, where no user code may run. In tests it counts how often it was raised, because the
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
    raised: raised::Raised,
}

impl Signal {
    /// Wakes one of those that wait.
    pub(crate) fn notify_one(&self) {
        #[cfg(test)]
        self.raised.for_one();
        if self.waiting.load(Ordering::SeqCst) > 0
            && let Some((_, waker)) = self.take(VecDeque::pop_front)
        {
            return waker.wake();
        }
        self.condvar.notify_one();
    }

    /// Wakes all that wait.
    pub(crate) fn notify_all(&self) {
        #[cfg(test)]
        self.raised.for_all();
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

    /// How often it was raised for one and for all since this was last asked.
    #[cfg(test)]
    pub(crate) fn take_raised(&self) -> (u64, u64) {
        self.raised.take()
    }
}

#[cfg(test)]
mod raised {
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    pub(super) struct Raised {
        one: AtomicU64,
        all: AtomicU64,
    }

    impl Raised {
        pub(super) fn for_one(&self) {
            self.one.fetch_add(1, Ordering::Relaxed);
        }

        pub(super) fn for_all(&self) {
            self.all.fetch_add(1, Ordering::Relaxed);
        }

        pub(super) fn take(&self) -> (u64, u64) {
            (self.one.swap(0, Ordering::Relaxed), self.all.swap(0, Ordering::Relaxed))
        }
    }
}

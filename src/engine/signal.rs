//! A signal: threads wait for it with a lock of theirs released.
//!
//! In tests it counts how often it was raised, because the simulator's threads do not wait: it
//! wakes those that would have been woken, and no others, so that a lost wake-up is a stuck world.

use std::time::Instant;

use parking_lot::{Condvar, MutexGuard};

/// A condition variable.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    condvar: Condvar,
    #[cfg(test)]
    raised: raised::Raised,
}

impl Signal {
    /// Wakes one of those that wait.
    pub(crate) fn notify_one(&self) {
        #[cfg(test)]
        self.raised.for_one();
        self.condvar.notify_one();
    }

    /// Wakes all that wait.
    pub(crate) fn notify_all(&self) {
        #[cfg(test)]
        self.raised.for_all();
        self.condvar.notify_all();
    }

    /// Waits until it is raised, or until that moment.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, until: Option<Instant>) {
        match until {
            None => self.condvar.wait(guard),
            Some(until) => drop(self.condvar.wait_until(guard, until)),
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

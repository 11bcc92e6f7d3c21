//! A mutex and a condition variable that never yield the rest of a thread's turn.
//!
//! Both are types of the standard library without their poisoning. A thread that finds the mutex locked looks
//! again for about a microsecond, and then sleeps until the holder releases it. The locks of `parking_lot`
//! yield before they sleep. Where other programs keep the cores busy, a thread that yields loses the rest of
//! its turn to them, some milliseconds, although the holder releases the lock after a microsecond.
//!
//! These locks are not fair: a thread that comes by may take one before a thread that sleeps for it. They
//! are held for a few microseconds, and rarely. Work that takes one again and again asks whether a thread
//! waits for it, and yields only then.
//!
//! The condition variable of the standard library enters the system for each notification, also if no thread
//! waits. Ours counts the threads that wait, because a crash notifies four times, and mostly nothing waits.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, TryLockError, WaitTimeoutResult};
use std::time::Instant;

/// A mutex. A panic of its holder leaves the value as it is.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    mutex: std::sync::Mutex<T>,
    /// The number of threads that have found it locked, and wait for it. A thread that comes back from a
    /// [`Condvar`] is not counted.
    waiting: AtomicUsize,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { mutex: std::sync::Mutex::new(value), waiting: AtomicUsize::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = match self.mutex.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => self.wait(),
        };
        MutexGuard(Some(held))
    }

    #[cold]
    fn wait(&self) -> Held<'_, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let held = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        held
    }

    /// Whether a thread waits for it. The answer may be out of date, so it decides about speed only.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    #[cfg(test)]
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.mutex.try_lock(), Err(TryLockError::WouldBlock))
    }
}

/// The mutex, held.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(
    /// `None` while a [`Condvar`] waits with it.
    Option<Held<'a, T>>,
);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("nothing waits with it")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("nothing waits with it")
    }
}

/// A condition variable.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    condvar: std::sync::Condvar,
    /// The number of threads that wait. A thread joins them while it still holds the mutex. So a thread that
    /// changes the state under the mutex, and notifies after that, sees every thread that has waited for the
    /// change.
    waiting: AtomicUsize,
}

impl Condvar {
    /// Wakes all threads that wait.
    pub(crate) fn notify_all(&self) {
        if self.is_awaited() {
            self.condvar.notify_all();
        }
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Waits for a notification with the mutex released. It may also return without one.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_with(guard, |condvar, held| {
            (condvar.wait(held).unwrap_or_else(PoisonError::into_inner), ())
        });
    }

    /// The same, until `until` at the latest.
    #[expect(clippy::disallowed_methods, reason = "the system waits for a time, and not until a moment")]
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        self.wait_with(guard, |condvar, held| {
            let left = until.saturating_duration_since(Instant::now());
            condvar.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner)
        })
    }

    fn wait_with<'a, T, R>(
        &self,
        guard: &mut MutexGuard<'a, T>,
        wait: impl FnOnce(&std::sync::Condvar, Held<'a, T>) -> (Held<'a, T>, R),
    ) -> R {
        let held = guard.0.take().expect("nothing else waits with it");
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let (held, result) = wait(&self.condvar, held);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        guard.0 = Some(held);
        result
    }
}

/// The guard of the standard library.
type Held<'a, T> = std::sync::MutexGuard<'a, T>;

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::contain::unwind::contain;

    #[test]
    fn a_panic_of_its_holder_leaves_the_mutex_usable() {
        let mutex = Mutex::new(1);
        let panicked = contain(|| {
            let mut held = mutex.lock();
            *held = 2;
            panic!("while it is held");
        });
        assert!(panicked.is_err());
        assert!(!mutex.is_locked());
        assert_eq!(*mutex.lock(), 2);
    }

    #[test]
    fn a_thread_that_waits_for_the_mutex_is_counted_until_it_has_it() {
        let mutex = Mutex::new(0);
        assert!(!mutex.is_awaited());
        thread::scope(|threads| {
            let held = mutex.lock();
            let waits = threads.spawn(|| *mutex.lock() += 1);
            while !mutex.is_awaited() {
                thread::yield_now();
            }
            drop(held);
            waits.join().expect("it only counts");
        });
        assert!(!mutex.is_awaited());
        assert_eq!(*mutex.lock(), 1);
    }

    #[test]
    fn a_wait_releases_the_mutex_and_holds_it_again() {
        let (mutex, changed) = (Mutex::new(false), Condvar::default());
        thread::scope(|threads| {
            let mut held = mutex.lock();
            threads.spawn(|| {
                *mutex.lock() = true;
                changed.notify_all();
            });
            while !*held {
                changed.wait(&mut held);
            }
            assert!(mutex.is_locked());
        });
        assert!(!mutex.is_locked());
        assert!(!changed.is_awaited(), "a notification would enter the system");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment for the system to wait until")]
    fn a_wait_until_a_moment_ends_at_that_moment() {
        let (mutex, changed) = (Mutex::new(()), Condvar::default());
        let until = Instant::now() + Duration::from_millis(2);
        let mut held = mutex.lock();
        while !changed.wait_until(&mut held, until).timed_out() {}
        assert!(Instant::now() >= until);
        assert!(mutex.is_locked());
        assert!(!changed.is_awaited());
    }
}

//! The guard of a function's lock.
//!
//! Before the guard goes, it takes the deferred work out of the state. After the release it signals the
//! containers that were called, and does the deferred work.

use std::time::Instant;

use crate::base::signal::Signal;
use crate::base::sync::MutexGuard;
use crate::engine::dispatch::deferred::Deferred;
use crate::engine::dispatch::{Dispatch, State};
use crate::memory::local_charge::ChargeGuard;

/// The lock, held. A panic while it is held breaks the function. Users' values are dropped after the release.
pub(super) struct StateGuard<'a> {
    dispatch: &'a Dispatch,
    guard: Option<MutexGuard<'a, State>>,
    /// Whether the thread was already panicking when it took the lock, which is no fault of the engine.
    unwinding: bool,
    /// Allocations of the engine are charged to no account, on whatever thread they happen.
    _outside: ChargeGuard,
}

impl std::ops::Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &Self::Target {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl std::ops::DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.guard.as_mut().expect("held until dropped")
    }
}

impl StateGuard<'_> {
    /// If there is deferred work, releases the lock, does the work and takes the lock again. Returns whether
    /// it did so. The state may then have changed, so the caller checks it again.
    pub(super) fn flush(&mut self) -> bool {
        if !self.has_deferred() {
            return false;
        }
        let now = self.dispatch.now();
        let state = self.guard.as_mut().expect("held until dropped");
        self.dispatch.notify_if_idle(state);
        let called = state.take_called(|| now);
        let deferred = state.deferred(&self.dispatch.outbox, now);
        drop(self.guard.take());
        let is_busy = self.dispatch.raise(called);
        self.dispatch.run_deferred(deferred);
        self.guard = Some(self.dispatch.state.lock());
        if is_busy {
            self.call_another();
        }
        true
    }

    /// Waits for a signal, or returns at once if the lock was released for deferred work. The caller checks
    /// the state again in either case. Returns `false` if the moment `until` has passed.
    pub(super) fn wait(&mut self, signal: &Signal, until: Option<Instant>) -> bool {
        if self.flush() {
            return true;
        }
        // This thread releases the lock in a moment. If it is a container's, the containers have no drivers,
        // so that none is busy and this one is not called itself.
        let dispatch = self.dispatch;
        while dispatch.raise(self.take_called(|| dispatch.now())) {
            self.call_another();
        }
        let guard = self.guard.as_mut().expect("held until dropped");
        signal.wait(guard, until)
    }

    /// Calls one more container, if there is work for it.
    pub(super) fn call_another(&mut self) {
        if self.broken.is_none() {
            let dispatch = self.dispatch;
            dispatch.pass_on(self, dispatch.now());
        }
    }

    /// Releases the lock and returns the deferred work to the caller.
    pub(super) fn release(mut self) -> Deferred {
        let mut state = self.guard.take().expect("held until dropped");
        self.dispatch.notify_if_idle(&mut state);
        let called = state.take_called(|| self.dispatch.now());
        let deferred = state.deferred(&self.dispatch.outbox, self.dispatch.now());
        drop(state);
        self.dispatch.raise_all(called);
        deferred
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.guard.take() else { return };
        if std::thread::panicking() && !self.unwinding {
            state.break_down("a thread panicked while it held the function's lock");
        }
        let called = state.take_called(|| self.dispatch.now());
        if !state.has_deferred() {
            drop(state);
            self.dispatch.raise_all(called);
            return;
        }
        self.dispatch.notify_if_idle(&mut state);
        let deferred = state.deferred(&self.dispatch.outbox, self.dispatch.now());
        drop(state);
        self.dispatch.raise_all(called);
        self.dispatch.run_deferred(deferred);
    }
}

impl Dispatch {
    pub(super) fn lock(&self) -> StateGuard<'_> {
        let _outside = ChargeGuard::process();
        StateGuard {
            dispatch: self,
            guard: Some(self.state.lock()),
            unwinding: std::thread::panicking(),
            _outside,
        }
    }

    /// Runs `work` under the lock. The deferred work is done after its release.
    pub(crate) fn under_lock<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.lock())
    }
}

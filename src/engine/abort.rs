//! The handle with which any thread can end one map or call.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::base::ids::JobId;
use crate::contain::outlined::{Outlined, outline};

/// Ends a map or call that another thread or task consumes ([`Map::abort_handle`](crate::Map::abort_handle),
/// [`Call::abort_handle`](crate::Call::abort_handle)). It is cheap to clone, and keeps neither the map nor
/// the function alive.
///
/// ```
/// use longshore::{App, Cause};
///
/// let app = App::ephemeral("docs");
/// let f = app.infallible("f", |n: &u64| *n).start()?;
/// let mut outcomes = f.map(0..).into_iter();
/// let handle = outcomes.abort_handle();
/// assert!(outcomes.next().unwrap().is_ok());
/// handle.abort();
/// let last = outcomes.find_map(Result::err).unwrap();
/// assert!(matches!(last.cause(), Cause::Cancelled));
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Clone)]
pub struct AbortHandle(Outlined<Arc<Mutex<AbortState>>>);

outline!(Arc<Mutex<AbortState>>);

enum AbortState {
    /// The map or call has not begun.
    Waiting,
    Open(Weak<dyn Abort>, JobId),
    Aborted,
}

/// Ends a job. An [`AbortHandle`] reaches the function through this trait.
pub(crate) trait Abort: Send + Sync {
    fn abort_job(&self, job: JobId);
}

impl AbortHandle {
    pub(crate) fn new() -> Self {
        Self(Outlined::new(Arc::new(Mutex::new(AbortState::Waiting))))
    }

    pub(super) fn is_aborted(&self) -> bool {
        matches!(*self.0.lock(), AbortState::Aborted)
    }

    /// Connects the handle to a job that has begun. Returns `false` if the handle was aborted before.
    pub(crate) fn open(&self, engine: Weak<dyn Abort>, job: JobId) -> bool {
        let mut state = self.0.lock();
        if matches!(*state, AbortState::Aborted) {
            return false;
        }
        *state = AbortState::Open(engine, job);
        true
    }

    /// Ends the map or call. Its consumer can still take the outcomes that are ready. Everything else is
    /// cancelled, and the consumer's last outcome is [`Cause::Cancelled`](crate::Cause::Cancelled). If the
    /// map or call has ended already, nothing happens.
    pub fn abort(&self) {
        let before = std::mem::replace(&mut *self.0.lock(), AbortState::Aborted);
        if let AbortState::Open(engine, job) = before
            && let Some(engine) = engine.upgrade()
        {
            engine.abort_job(job);
        }
    }
}

impl std::fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AbortHandle")
    }
}

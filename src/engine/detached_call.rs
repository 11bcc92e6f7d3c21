//! A call that goes on without its handle.
//!
//! Its waker is its only owner. The buffers of the call hold the waker until there is an outcome, so the
//! function that executes the call holds it. The outcome wakes the waker, which closes the call and so drops
//! the outcome.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

use crate::base::ids::JobId;
use crate::engine::dispatch::Dispatch;
use crate::engine::open_call::OpenCall;
use crate::engine::running::Running;

/// A call that goes on without its handle.
struct Detached {
    dispatch: Arc<Dispatch>,
    job: JobId,
    /// `None` once the call has its outcome.
    owned: Mutex<Option<Owned>>,
}

/// The values that the call needs until its outcome. The call is closed before the function may end.
struct Owned {
    _call: OpenCall,
    _running: Arc<Running>,
}

/// Lets a call go on until it has its outcome, which is then dropped. The function is kept alive until then.
pub(crate) fn detach(call: OpenCall, running: Arc<Running>) {
    let (dispatch, job) = (Arc::clone(&running.dispatch), call.0.job);
    let owned = Mutex::new(Some(Owned { _call: call, _running: running }));
    Arc::new(Detached { dispatch, job, owned }).wake();
}

impl Wake for Detached {
    fn wake(self: Arc<Self>) {
        if !self.dispatch.await_outcome(self.job, Waker::from(Arc::clone(&self))) {
            let owned = self.owned.lock().take();
            drop(owned); // it takes the function's lock, and may drop the function
        }
    }
}

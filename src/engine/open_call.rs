//! A call that was accepted, as its caller holds it.
//!
//! It is the reading side of a call, as the [`Consumer`](crate::engine::consumer::Consumer) is of a map: whoever asks, and
//! however they wait. A thread waits as a task does, by a waker.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::base::ids::JobId;
use crate::contain::drops::{defer_drop, let_go};
use crate::contain::outlined::{Outlined, outline};
use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::failure::{Failure, Reason};
use crate::data::shape::Outcome;
use crate::engine::abort::{Abort, AbortHandle};
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, Found, Wait};
use crate::engine::map_buffers::MapEnd;
use crate::engine::wait;

/// A call that was accepted. Dropped, it is cancelled.
pub(crate) struct OpenCall(pub(crate) Outlined<Held>);

/// What of it knows no types.
pub(crate) struct Held {
    dispatch: Arc<Dispatch>,
    pub(crate) job: JobId,
    /// Its outcome has been given.
    pub(crate) over: bool,
}

outline!(Held);

impl OpenCall {
    /// Begins a call. Gives the input back if it is refused.
    pub(crate) fn begin<I, E>(
        dispatch: &Arc<Dispatch>,
        input: I,
        caller: Caller,
    ) -> Result<Self, Failure<I, E>>
    where
        I: Send + Sync + 'static,
        E: 'static,
    {
        Self::of_values(dispatch, Values::of(vec![input]), caller).map_err(|(input, reason)| {
            Failure::of_refused(input.into_vec().pop().expect("it is the one that was given"), reason)
        })
    }

    fn of_values(dispatch: &Arc<Dispatch>, input: Values, caller: Caller) -> Result<Self, (Values, Reason)> {
        let job = dispatch.open_call(input, caller)?;
        Ok(Self(Outlined::new(Held { dispatch: Arc::clone(dispatch), job, over: false })))
    }

    /// A handle that ends it from elsewhere.
    pub(crate) fn abort_handle(&self) -> AbortHandle {
        let engine: Arc<dyn Abort> = Arc::clone(&self.0.dispatch) as _;
        let handle = AbortHandle::new();
        handle.open(Arc::downgrade(&engine), self.0.job);
        handle
    }

    /// Ends the call with that reason, which is then its outcome.
    pub(crate) fn end_as(&self, reason: &Reason) {
        self.0.dispatch.cancel_as(self.0.job, reason);
    }

    /// The outcome, if it is there.
    ///
    /// # Panics
    ///
    /// If the call is of a function with other types.
    #[expect(unsafe_code, reason = "moves an outcome out of its chunk")]
    pub(crate) fn poll<I, O, E>(&mut self, wait: Wait<'_>) -> Poll<Option<Outcome<I, O, E>>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let chunk = match self.0.find(wait) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Poll::Pending,
            Err(None) => return Poll::Ready(None),
            Err(Some(reason)) => return Poll::Ready(Some(Err(Failure::of_map(reason)))),
        };
        assert!(chunk.shape().is::<I, O, E>(), "an outcome is taken as what it is");
        // SAFETY: outcomes of a call are taken one by one, by this one value, and the chunk is kept until then. The types
        // were just checked.
        let outcome: Option<Outcome<I, O, E>> = unsafe { chunk.slots(0..1).take(0) };
        self.0.has_taken(chunk);
        Poll::Ready(Some(outcome.expect("it is there")))
    }

    /// Blocks until the outcome is there.
    pub(crate) fn wait<I, O, E>(&mut self) -> Poll<Option<Outcome<I, O, E>>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        wait::wait(poll_fn(|cx| match self.poll(Wait::Register(cx.waker())) {
            Poll::Pending => Poll::Pending,
            polled => Poll::Ready(polled),
        }))
    }
}

impl Held {
    /// The chunk that holds the outcome, `None` if there is none yet; or that none will come, and why if the function has
    /// broken down.
    fn find(&mut self, wait: Wait<'_>) -> Result<Option<Arc<Chunk>>, Option<Reason>> {
        if self.over {
            return Err(None);
        }
        match self.dispatch.find_outcome(self.job, wait) {
            Found::Chunk(chunk) => {
                self.over = true;
                Ok(Some(chunk))
            }
            Found::End(end) => {
                self.over = true;
                Err(end.and_then(|end| if let MapEnd::OfMap(reason) = end { Some(reason) } else { None }))
            }
            Found::Soon | Found::Pending => Ok(None),
            Found::Ready(_) => unreachable!("a call has no order"),
        }
    }

    /// The outcome was moved out of that chunk. An input is left there if a fenced attempt may still read it.
    fn has_taken(&self, chunk: Arc<Chunk>) {
        chunk.count_taken(1);
        if chunk.is_shared() {
            defer_drop(self.dispatch.settings.stack(), chunk);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (stack, shape) = (self.dispatch.settings.stack(), self.dispatch.settings.shape);
        let (dispatch, job) = (Arc::clone(&self.dispatch), self.job);
        let_go(stack, move || {
            if let Some(closed) = dispatch.close(job)
                && shape.runs_drops()
                && !(closed.0.is_empty() && closed.1.is_empty())
            {
                defer_drop(stack, closed);
            }
        });
    }
}

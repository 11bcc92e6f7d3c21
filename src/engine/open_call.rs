//! A call that was accepted, on the side of its caller.
//!
//! It is the reading side of a call, as the [`Consumer`](crate::engine::consumer::Consumer) is of a map,
//! whether a thread blocks on it or a task polls it. A thread waits by a waker, as a task does.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::base::ids::JobId;
use crate::contain::drops::{defer_drop, let_go};
use crate::contain::outlined::{Outlined, outline};
use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::failure::{Failure, Reason};
use crate::data::shape::Outcome;
use crate::decide::admission::Place;
use crate::decide::limits::Limits;
use crate::decide::time::Time;
use crate::engine::abort::{Abort, AbortHandle};
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, Found, ReservedPlace, Wait};
use crate::engine::map_end::MapEnd;
use crate::engine::wait;

/// A call that was accepted. It is cancelled when it is dropped.
pub(crate) struct OpenCall(pub(crate) Outlined<Held>);

/// The part of an open call that knows no types.
pub(crate) struct Held {
    dispatch: Arc<Dispatch>,
    pub(crate) job: JobId,
    /// Whether the outcome was taken.
    pub(crate) over: bool,
}

outline!(Held);

impl OpenCall {
    /// Begins a call, in the place that was reserved for it if there is one. Gives the input back if it is
    /// refused.
    pub(crate) fn begin<I, E>(
        dispatch: &Arc<Dispatch>,
        input: I,
        caller: Caller,
        place: Option<ReservedPlace>,
        limits: Limits,
    ) -> Result<Self, Failure<I, E>>
    where
        I: Send + Sync + 'static,
        E: 'static,
    {
        Self::of_values(dispatch, Values::of(vec![input]), caller, place, limits).map_err(
            |(input, reason)| {
                Failure::of_refused(input.into_vec().pop().expect("the values hold one input"), reason)
            },
        )
    }

    fn of_values(
        dispatch: &Arc<Dispatch>,
        input: Values,
        caller: Caller,
        reserved: Option<ReservedPlace>,
        limits: Limits,
    ) -> Result<Self, (Values, Reason)> {
        if let Err(refusal) = limits.validate() {
            return Err((input, Reason::Config(refusal)));
        }
        let place = if reserved.is_some() { Place::Reserved } else { Place::Free };
        let job = dispatch.open_call(input, caller, place, limits)?;
        if let Some(mut reserved) = reserved {
            reserved.is_used();
        }
        Ok(Self(Outlined::new(Held { dispatch: Arc::clone(dispatch), job, over: false })))
    }

    /// Makes a handle that ends the call from elsewhere.
    pub(crate) fn abort_handle(&self) -> AbortHandle {
        let engine: Arc<dyn Abort> = Arc::clone(&self.0.dispatch) as _;
        let handle = AbortHandle::new();
        handle.open(Arc::downgrade(&engine), self.0.job);
        handle
    }

    /// Ends the call. `reason` becomes its outcome.
    pub(crate) fn end_as(&self, reason: &Reason) {
        self.0.dispatch.cancel_as(self.0.job, reason);
    }

    /// The outcome, if it is ready.
    ///
    /// # Panics
    ///
    /// If the call belongs to a function with other types.
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
        assert!(chunk.shape().is::<I, O, E>(), "the types are the function's types");
        // SAFETY: only this value takes the outcome of the call, and it keeps the chunk until then. The types
        // were just checked.
        let outcome: Option<Outcome<I, O, E>> = unsafe { chunk.slots(0..1).take(0) };
        self.0.has_taken(chunk);
        Poll::Ready(Some(outcome.expect("the chunk has its outcome")))
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

    /// Blocks until the outcome is there, and returns `Pending` if it is not there after `limit`.
    pub(crate) fn wait_for<I, O, E>(&mut self, limit: Duration) -> Poll<Option<Outcome<I, O, E>>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let dispatch = Arc::clone(&self.0.dispatch);
        let until = Time(dispatch.now().0.saturating_add(limit));
        let polled = poll_fn(|cx| match self.poll(Wait::Register(cx.waker())) {
            Poll::Pending => Poll::Pending,
            polled => Poll::Ready(polled),
        });
        wait::wait_while(polled, || until.since(dispatch.now())).unwrap_or(Poll::Pending)
    }
}

impl Held {
    /// Finds the chunk that holds the outcome, or `None` if there is no outcome yet. Returns an error if
    /// there will be no outcome, with the reason if the function has broken down.
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
            Found::Ready(..) | Found::Again => unreachable!("a call has one outcome, and no order"),
        }
    }

    /// Records that the outcome was moved out of `chunk`. The chunk still holds the input if a fenced attempt
    /// may still read it.
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
                && !closed.is_empty()
            {
                defer_drop(stack, closed);
            }
        });
    }
}

//! The operations of calls under the lock: to open, and to wait for the outcome.

use std::task::Waker;

use crate::base::ids::JobId;
use crate::data::erased::Values;
use crate::data::failure::Reason;
use crate::decide::admission::{Overloaded, Place};
use crate::decide::limits::Limits;
use crate::engine::call_buffers::CallBuffers;
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, Found, State, Wait};
use crate::engine::job_buffers::JobBuffers;
use crate::engine::map_end::MapEnd;

impl Dispatch {
    /// Opens a call, which is a job of one input ahead of all maps, in this place among the calls. If the
    /// function takes no work or has no room, the input is given back.
    pub(crate) fn open_call(
        &self,
        input: Values,
        caller: Caller,
        place: Place,
        limits: Limits,
    ) -> Result<JobId, (Values, Reason)> {
        let mut state = self.lock();
        if let Some(refusal) = state.refusal() {
            return Err((input, refusal));
        }
        let job = match state.ledger.open_call(place) {
            Ok(job) => job,
            Err(Overloaded { calls, max }) => {
                self.is_overloaded(&mut state);
                return Err((input, Reason::Overloaded { calls, max }));
            }
        };
        state.ledger.limit(job, limits);
        let buffers = CallBuffers::new(caller.of_call(job.0 + 1), input);
        state.buffers.open.insert(job, JobBuffers::Call(Box::new(buffers)));
        state.observed.call_began(job, || self.now());
        self.wake_for_arrival(&mut state);
        Ok(job)
    }

    /// Finds the outcome of a call, which is then no longer kept in its buffers. This never blocks the
    /// thread.
    pub(crate) fn find_outcome(&self, job: JobId, wait: Wait<'_>) -> Found {
        // Cloned before the lock is taken, because a waker is the user's code.
        // For the same reason a waker that is not registered is dropped after the lock is released.
        let mut waker = if let Wait::Register(waker) = wait { Some(waker.clone()) } else { None };
        let mut state = self.lock();
        let found = self.outcome_of(&mut state, job);
        match found {
            Found::Pending if waker.is_some() => {
                let call = state.buffers.call_mut(job).expect("its caller keeps it open");
                let before = std::mem::replace(&mut call.waker, waker.take());
                state.wakers.unused.extend(before);
            }
            Found::Soon => {
                drop(state);
                if let Some(waker) = waker.take() {
                    waker.wake(); // the thread publishes the outcome in a moment
                }
            }
            // A call is found neither ready in an order nor again.
            Found::Pending | Found::Chunk(_) | Found::Ready(..) | Found::Again | Found::End(_) => {}
        }
        found
    }

    /// Leaves a waker with a call that has no outcome, to be woken when it may have one. Returns `false`
    /// if it has one, is closed, or will have none because the function has broken down.
    pub(crate) fn await_outcome(&self, job: JobId, waker: Waker) -> bool {
        let mut state = self.lock();
        if state.broken.is_some() {
            return false;
        }
        state.commit_job(job, self.now());
        if state.ledger.job(job).is_none_or(|job| job.counts().pending() == 0) {
            return false;
        }
        let call = state.buffers.call_mut(job).expect("its inputs are pending");
        let before = call.waker.replace(waker);
        state.wakers.unused.extend(before);
        true
    }

    fn outcome_of(&self, state: &mut State, job: JobId) -> Found {
        if let Some(bug) = &state.broken {
            return Found::End(Some(MapEnd::OfMap(Reason::Engine(bug.clone()))));
        }
        if state.ledger.leases_of(job).next().is_some() {
            state.commit_job(job, self.now()); // most calls are polled before or after they execute
        }
        state.publish_ended(job);
        let pending = state.ledger.job(job).expect("its caller keeps it open").counts().pending();
        let call = state.buffers.call_mut(job).expect("its caller keeps it open");
        match call.take_finished() {
            Some(chunk) => Found::Chunk(chunk),
            None if pending == 0 => Found::Soon,
            None => Found::Pending,
        }
    }
}

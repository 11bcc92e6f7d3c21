//! The state of one job outside the ledger, as far as maps and calls can be treated alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::base::ids::{InputId, JobId};
use crate::data::chunk::Chunk;
use crate::data::failure::Reason;
use crate::data::shape::Shape;
use crate::decide::job::Span;
use crate::decide::ledger::{Mode, Sources};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::engine::call_buffers::CallBuffers;
use crate::engine::caller::Caller;
use crate::engine::map_buffers::{JobSource, MapBuffers};
use crate::engine::map_end::MapEnd;

/// The state of one job outside the ledger.
pub(crate) enum JobBuffers {
    Map(Box<MapBuffers>),
    Call(Box<CallBuffers>),
}

impl JobBuffers {
    pub(crate) fn map(&self) -> Option<&MapBuffers> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The caller that asked for the executions.
    pub(crate) fn caller(&self) -> &Caller {
        match self {
            Self::Map(map) => &map.caller,
            Self::Call(call) => &call.caller,
        }
    }

    /// Moves an input that is executed again into a chunk of its own. Returns the chunk that it came in, if
    /// that is used up by now.
    pub(crate) fn move_out(&mut self, index: u64) -> Option<Arc<Chunk>> {
        match self {
            Self::Map(map) => map.move_out(index),
            Self::Call(_) => None, // its chunk holds no other input
        }
    }

    /// Records that the outcome at `index`, the last of a range, was committed. Its thread may not have
    /// published it yet.
    pub(crate) fn committed(&mut self, index: u64) {
        if let Self::Map(map) = self {
            map.committed(index);
        }
    }

    /// Records that the inputs of `span` have their outcomes and that `pending` inputs are left. With `now`,
    /// a consumer that was signalled a moment ago is not signalled again. Returns the waker of a consumer to
    /// wake.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn finished(&mut self, span: Span, pending: u64, now: Option<Time>) -> Option<Waker> {
        match self {
            Self::Map(map) => map.finished(span, pending, now),
            Self::Call(call) => call.waker.take(),
        }
    }

    /// Records that the inputs of `span` have ended. `begun` says whether the first of them was executing.
    pub(crate) fn has_ended(&mut self, span: Span, begun: u64, reason: Reason) {
        match self {
            Self::Map(map) => map.ended.add(span, begun, reason),
            Self::Call(call) => call.has_ended(begun > 0, reason),
        }
    }

    /// Removes up to `most` inputs that have ended, the earliest first. Returns their range, how many of the
    /// first were executing, and why they have ended.
    pub(crate) fn take_ended(&mut self, most: u64) -> Option<(Span, u64, Reason)> {
        match self {
            Self::Map(map) => map.ended.take(most),
            Self::Call(call) => {
                let (begun, reason) = call.take_ended()?;
                Some((Span { first: 0, len: 1 }, u64::from(begun), reason))
            }
        }
    }

    /// Records that the input at `index`, and perhaps later ones, will have no outcome.
    pub(crate) fn gap_at(&mut self, index: u64) {
        match self {
            Self::Map(map) => map.gap_at(index),
            Self::Call(_) => {} // no consumer is left to see the gap
        }
    }

    /// Ends the source. `end` is the error with which a map ends, unless it already has one of the same or a
    /// greater weight. Returns the source, and the end that the consumer will not see.
    pub(crate) fn end_with(&mut self, end: Option<MapEnd>) -> (JobSource, Option<MapEnd>) {
        match self {
            Self::Map(map) => map.end_with(end),
            Self::Call(_) => (JobSource::Exhausted, end),
        }
    }

    /// Whether no more inputs will come from the source or from the feeder's queue.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.map().is_none_or(MapBuffers::is_exhausted)
    }

    /// Whether the source has ended, by itself or because the map ended.
    pub(super) fn is_source_over(&self) -> bool {
        self.map().is_none_or(|map| map.source_over)
    }

    /// The number of inputs that the window holds and that are not in the ledger.
    pub(super) fn held_by_window(&self) -> u64 {
        self.map().map_or(0, MapBuffers::held_by_window)
    }

    /// Whether its drop drops no value of the user's.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            Self::Call(call) => call.is_given(),
        }
    }

    /// Signals the consumer if it waits as a thread. If it waits with a waker, returns the waker, which must
    /// be woken once the lock is released.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        match self {
            Self::Map(map) => map.wake(),
            Self::Call(call) => call.waker.take(),
        }
    }
}

/// The buffers of all jobs of a function. The ledger uses them as its sources.
pub(crate) struct BuffersByJob {
    shape: &'static Shape,
    pub(crate) open: BTreeMap<JobId, JobBuffers>,
}

impl BuffersByJob {
    /// No buffers yet, of a function with the given shape.
    pub(crate) fn of(shape: &'static Shape) -> Self {
        Self { shape, open: BTreeMap::new() }
    }

    pub(crate) fn get(&self, job: JobId) -> Option<&JobBuffers> {
        self.open.get(&job)
    }

    pub(crate) fn get_mut(&mut self, job: JobId) -> Option<&mut JobBuffers> {
        self.open.get_mut(&job)
    }

    /// The chunk that holds an input.
    pub(crate) fn chunk(&mut self, InputId { job, index }: InputId) -> Option<&Arc<Chunk>> {
        match self.open.get_mut(&job)? {
            JobBuffers::Map(map) => map.chunk(index),
            JobBuffers::Call(call) => Some(call.chunk(self.shape)),
        }
    }

    /// The buffers of a map. `None` for a call.
    pub(crate) fn map(&self, job: JobId) -> Option<&MapBuffers> {
        self.get(job).and_then(JobBuffers::map)
    }

    /// The buffers of a map. `None` for a call.
    pub(crate) fn map_mut(&mut self, job: JobId) -> Option<&mut MapBuffers> {
        if let JobBuffers::Map(map) = self.get_mut(job)? { Some(map) } else { None }
    }

    /// The buffers of a call. `None` for a map.
    pub(crate) fn call_mut(&mut self, job: JobId) -> Option<&mut CallBuffers> {
        if let JobBuffers::Call(call) = self.get_mut(job)? { Some(call) } else { None }
    }

    /// Moves up to `most` inputs of a map into a new chunk whose first index is `first`. Returns the number
    /// of inputs.
    pub(crate) fn pull(&mut self, job: JobId, first: u64, most: u64) -> u64 {
        self.map_mut(job).map_or(0, |map| map.pull(first, most))
    }

    /// The number of inputs that windows hold and that are not in the ledger.
    pub(super) fn held_by_windows(&self) -> u64 {
        self.open.values().map(steps::each).map(JobBuffers::held_by_window).sum()
    }
}

impl Sources for BuffersByJob {
    fn available(&self, job: JobId, mode: Mode) -> u64 {
        self.map(job).map_or(0, |map| map.available(mode))
    }

    fn is_over(&self, job: JobId) -> bool {
        self.map(job).is_none_or(MapBuffers::brings_no_more)
    }

    fn await_inputs(&self, job: JobId, mode: Mode) -> Option<u64> {
        self.map(job).map_or(Some(0), |map| map.await_inputs(mode))
    }

    fn yielded(&self, job: JobId) -> u64 {
        self.map(job).map_or(0, |map| map.flow.yielded.load(Ordering::SeqCst))
    }

    fn request_room(&self, job: JobId, least: u64) {
        if let Some(map) = self.map(job) {
            map.request_room(least);
        }
    }
}

//! A lane: what one job has outside the books, where a map and a call can be treated alike.

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
use crate::engine::call_lane::CallLane;
use crate::engine::caller::Caller;
use crate::engine::map_lane::{MapEnd, MapLane, Supply};

/// What one job has outside the books.
pub(crate) enum Lane {
    Map(Box<MapLane>),
    Call(Box<CallLane>),
}

impl Lane {
    pub(crate) fn map(&self) -> Option<&MapLane> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// Who asked for the executions.
    pub(crate) fn caller(&self) -> &Caller {
        match self {
            Self::Map(map) => &map.caller,
            Self::Call(call) => &call.caller,
        }
    }

    /// Moves an input that is executed again into a chunk of its own. Gives the chunk it came in, if that is used up by
    /// now.
    pub(crate) fn set_apart(&mut self, index: u64) -> Option<Arc<Chunk>> {
        match self {
            Self::Map(map) => map.set_apart(index),
            Self::Call(_) => None, // it is alone
        }
    }

    /// The outcome at `index`, the last of several, has been booked; perhaps before its thread has published it.
    pub(crate) fn booked(&mut self, index: u64) {
        if let Self::Map(map) = self {
            map.booked(index);
        }
    }

    /// Those inputs have their outcomes, and so many are pending; at which moment, where several in a moment need not be
    /// told one by one. Returns whom to wake.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn finished(&mut self, span: Span, pending: u64, now: Option<Time>) -> Option<Waker> {
        match self {
            Self::Map(map) => map.finished(span, pending, now),
            Self::Call(call) => call.waker.take(),
        }
    }

    /// Those inputs have ended. `begun` says whether the first of them was executing.
    pub(crate) fn has_ended(&mut self, span: Span, begun: bool, reason: Reason) {
        match self {
            Self::Map(map) => map.has_ended(span, begun, reason),
            Self::Call(call) => call.has_ended(begun, reason),
        }
    }

    /// Takes out up to `most` inputs that have ended, the earliest first: their range, whether the first of them was
    /// executing, and why they have ended.
    pub(crate) fn take_ended(&mut self, most: u64) -> Option<(Span, bool, Reason)> {
        match self {
            Self::Map(map) => map.take_ended(most),
            Self::Call(call) => {
                let (begun, reason) = call.take_ended()?;
                Some((Span { first: 0, len: 1 }, begun, reason))
            }
        }
    }

    /// That input, and perhaps later ones, will have no outcome.
    pub(crate) fn gap_at(&mut self, index: u64) {
        match self {
            Self::Map(map) => map.gap_at(index),
            Self::Call(_) => {} // its caller is gone
        }
    }

    /// Nothing is pulled any more, and `end` is what a map ends with, unless it has a better one. Gives back what was not
    /// pulled, and the end that its consumer will not see.
    pub(crate) fn end_with(&mut self, end: Option<MapEnd>) -> (Supply, Option<MapEnd>) {
        match self {
            Self::Map(map) => map.end_with(end),
            Self::Call(_) => (Supply::Dry, end),
        }
    }

    /// Whether nothing will come from the source any more.
    pub(crate) fn is_dry(&self) -> bool {
        self.map().is_none_or(MapLane::is_dry)
    }

    /// Whether all inputs of its source were taken into the books.
    pub(crate) fn is_source_over(&self) -> bool {
        self.map().is_none_or(|map| map.source_over)
    }

    /// Inputs that the window holds and that are in no book.
    pub(crate) fn held_by_window(&self) -> u64 {
        self.map().map_or(0, MapLane::held_by_window)
    }

    /// Whether dropping it drops no value of the user's.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            Self::Call(call) => call.is_given(),
        }
    }

    /// Signals the consumer if it waits as a thread; its waker, if it waits as a task, is to be woken
    /// once the lock is released.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        match self {
            Self::Map(map) => map.wake(),
            Self::Call(call) => call.waker.take(),
        }
    }
}

/// All lanes of a function, as the ledger sees them.
pub(crate) struct Lanes {
    shape: &'static Shape,
    pub(crate) open: BTreeMap<JobId, Lane>,
}

impl Lanes {
    /// No lanes yet, of a function of that shape.
    pub(crate) fn of(shape: &'static Shape) -> Self {
        Self { shape, open: BTreeMap::new() }
    }

    pub(crate) fn get(&self, job: JobId) -> Option<&Lane> {
        self.open.get(&job)
    }

    pub(crate) fn get_mut(&mut self, job: JobId) -> Option<&mut Lane> {
        self.open.get_mut(&job)
    }

    /// The chunk that holds an input.
    pub(crate) fn chunk(&mut self, InputId { job, index }: InputId) -> Option<&Arc<Chunk>> {
        match self.open.get_mut(&job)? {
            Lane::Map(map) => map.chunk(index),
            Lane::Call(call) => Some(call.chunk(self.shape)),
        }
    }

    /// The lane of a map. `None` for a call.
    pub(crate) fn map(&self, job: JobId) -> Option<&MapLane> {
        self.get(job).and_then(Lane::map)
    }

    /// The lane of a map. `None` for a call.
    pub(crate) fn map_mut(&mut self, job: JobId) -> Option<&mut MapLane> {
        if let Lane::Map(map) = self.get_mut(job)? { Some(map) } else { None }
    }

    /// The lane of a call. `None` for a map.
    pub(crate) fn call_mut(&mut self, job: JobId) -> Option<&mut CallLane> {
        if let Lane::Call(call) = self.get_mut(job)? { Some(call) } else { None }
    }

    /// Moves up to `most` inputs of a map into a chunk whose first index is `first`; returns how many.
    pub(crate) fn pull(&mut self, job: JobId, first: u64, most: u64) -> u64 {
        self.map_mut(job).map_or(0, |map| map.pull(first, most))
    }

    /// Inputs that windows hold and that are in no book.
    pub(crate) fn held_by_windows(&self) -> u64 {
        self.open.values().map(steps::each).map(Lane::held_by_window).sum()
    }
}

impl Sources for Lanes {
    fn available(&self, job: JobId, mode: Mode) -> u64 {
        self.map(job).map_or(0, |map| map.available(mode))
    }

    fn await_inputs(&self, job: JobId, mode: Mode) -> Option<u64> {
        self.map(job).map_or(Some(0), |map| map.await_inputs(mode))
    }

    fn yielded(&self, job: JobId) -> u64 {
        self.map(job).map_or(0, |map| map.gate.yielded.load(Ordering::SeqCst))
    }

    fn starve(&self, job: JobId, least: u64) {
        if let Some(map) = self.map(job) {
            map.starve(least);
        }
    }
}

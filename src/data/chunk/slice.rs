//! A slice of a chunk: the places that a thread executes, or takes outcomes from.

#![expect(unsafe_code, reason = "slots are written and read once, by a state byte each")]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::data::chunk::{EMPTY, FULL, TAKEN};

/// Places of a chunk for the thread that executes them or takes their outcomes. It holds the addresses of all
/// that the thread touches for each place, so that nothing is looked up in between.
#[derive(Debug)]
pub(crate) struct ChunkSlice {
    pub(super) places: Range<usize>,
    /// The addresses of the first input, of the first outcome and of its state.
    pub(super) inputs: NonNull<u8>,
    pub(super) outcomes: NonNull<u8>,
    pub(super) states: *const AtomicU8,
}

// SAFETY: the pointers are into the chunk, and shared as the chunk is.
unsafe impl Sync for ChunkSlice {}
// SAFETY: the same as for `Sync`.
unsafe impl Send for ChunkSlice {}

impl ChunkSlice {
    pub(crate) fn places(&self) -> Range<usize> {
        self.places.clone()
    }

    #[inline]
    fn at(&self, place: usize) -> usize {
        assert!(self.places.contains(&place), "a place is in its slice");
        place - self.places.start
    }

    /// The input at `place` of the chunk.
    ///
    /// # Safety
    ///
    /// The input is an `I`. It has begun through this slice, and if it was fenced it was marked by
    /// [`Chunk::share`] before.
    #[inline]
    pub(crate) unsafe fn input<I>(&self, place: usize) -> &I {
        // SAFETY: the place is within the range and initialised, and the caller of `Chunk::slice`
        // guarantees that the input was not moved out.
        unsafe { self.inputs.cast::<I>().add(self.at(place)).as_ref() }
    }

    /// Moves the outcome at `place` out, if there is one.
    ///
    /// # Safety
    ///
    /// Only the consumer of the map takes outcomes, and they are of type `T`.
    #[inline]
    pub(crate) unsafe fn take<T>(&self, place: usize) -> Option<T> {
        let at = self.at(place);
        // SAFETY: the state is within the range, and it exists for as long as the chunk.
        let state = unsafe { &*self.states.add(at) };
        if state.load(Ordering::Acquire) != FULL {
            return None;
        }
        state.store(TAKEN, Ordering::Relaxed);
        // SAFETY: the outcome was written before its state became FULL. It is moved out once, because
        // only this thread takes.
        Some(unsafe { self.outcomes.cast::<T>().add(at).read() })
    }

    /// Writes the outcome at `place`.
    ///
    /// # Safety
    ///
    /// Outcomes are of type `T`, and the caller has the right to publish this one.
    ///
    /// # Panics
    ///
    /// If the place has an outcome already.
    #[inline]
    pub(in crate::data) unsafe fn publish<T>(&self, place: usize, outcome: T) {
        let at = self.at(place);
        // SAFETY: the state is within the range, and it exists for as long as the chunk.
        let state = unsafe { &*self.states.add(at) };
        assert!(state.load(Ordering::Relaxed) == EMPTY, "an input has an outcome already");
        // SAFETY: the slot is within the range, as its state is. No other thread has this right, none reads
        // before the state is FULL, and the slots exist until every state is.
        unsafe { self.outcomes.cast::<T>().add(at).write(outcome) };
        state.store(FULL, Ordering::Release);
    }
}

//! The input of a failure: moved out of its chunk, or shared with a fenced attempt that may still read
//! it.

#![expect(unsafe_code, reason = "reads an input that stays in its chunk")]

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::data::chunk::ChunkInputs;

/// The place of a failure's input.
pub(crate) enum FailedInput {
    /// The holder of this value moves the input out.
    Owned(NonNull<u8>),
    /// The input stays in its place, because a fenced attempt may still read it.
    Shared(Arc<ChunkInputs>, usize),
}

/// The input of a failure.
pub(crate) enum Reclaimed<I> {
    Owned(I),
    Shared(SharedInput<I>),
}

/// An input that a fenced attempt may still be reading. It is shared, and the last holder drops it.
pub struct SharedInput<I> {
    inputs: Arc<ChunkInputs>,
    place: usize,
    /// A `SharedInput` is sent and shared as the input itself behind an `Arc` is.
    input: PhantomData<Arc<I>>,
}

impl<I> SharedInput<I> {
    /// # Safety
    ///
    /// The place is marked as shared, and holds an `I`.
    pub(crate) unsafe fn new(inputs: Arc<ChunkInputs>, place: usize) -> Self {
        Self { inputs, place, input: PhantomData }
    }
}

impl<I> Clone for SharedInput<I> {
    fn clone(&self) -> Self {
        Self { inputs: Arc::clone(&self.inputs), place: self.place, input: PhantomData }
    }
}

impl<I> Deref for SharedInput<I> {
    type Target = I;

    fn deref(&self) -> &I {
        // SAFETY: a `SharedInput` is made only for a SHARED place. Its input is an `I`, is never moved out,
        // and is initialised until `ChunkInputs` is dropped.
        unsafe { self.inputs.values.at(self.place).cast::<I>().as_ref() }
    }
}

impl<I: std::fmt::Debug> std::fmt::Debug for SharedInput<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedInput").field(&**self).finish()
    }
}

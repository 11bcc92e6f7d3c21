//! A chunk: a range of inputs and the slots of their outcomes, shared by whoever needs it.
//!
//! The map, the executing thread and a fenced one each hold the chunk; whoever is last drops what
//! is left in it, value by value, inside the unwind boundary. A slot is written once, by the
//! attempt that [`Run`](crate::engine::run::Run) gave the right to, and read once, by the consumer.
//! Inputs are apart from slots, because a failed input given back to the caller as a shared handle
//! must not keep outcomes alive.

#![expect(unsafe_code, reason = "slots are written and read once, by a state byte each")]

use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::engine::unwind::drop_contained;

/// A slot without an outcome.
const EMPTY: u8 = 0;
/// An outcome is being written.
const WRITING: u8 = 1;
/// An outcome is there.
const FULL: u8 = 2;
/// The outcome has been taken.
const TAKEN: u8 = 3;

/// The input is there, and read only by attempts whose end the engine sees.
const HERE: u8 = 0;
/// The input is there, and a fenced attempt may still read it.
const SHARED: u8 = 1;
/// The input has been moved out.
const GONE: u8 = 2;

struct Cell<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// The inputs of a chunk.
struct Inputs<I>(Box<[Cell<I>]>);

// SAFETY: an input is only read through `&I` (hence `I: Sync`), and moved out or dropped by one
// thread (hence `I: Send`) when nobody reads it, as `Chunk::reclaim` and `Drop` say.
unsafe impl<I: Send + Sync> Sync for Inputs<I> {}
// SAFETY: as above.
unsafe impl<I: Send + Sync> Send for Inputs<I> {}

impl<I> Drop for Inputs<I> {
    fn drop(&mut self) {
        if !mem::needs_drop::<I>() {
            return;
        }
        for cell in &mut self.0 {
            if *cell.state.get_mut() != GONE {
                // SAFETY: `&mut self` excludes readers, and what is not GONE is initialised.
                drop_contained(unsafe { cell.value.get_mut().assume_init_read() });
            }
        }
    }
}

/// A range of inputs with a slot each for the outcomes.
pub(crate) struct Chunk<I, T> {
    first: u64,
    inputs: Arc<Inputs<I>>,
    slots: Box<[Cell<T>]>,
    /// Outcomes taken out of order; written by the consumer.
    taken: AtomicUsize,
}

// SAFETY: a slot's value is written by the thread that moved its state from EMPTY to WRITING, and
// moved out by the one that moved it from FULL to TAKEN; nobody borrows it. Hence `T: Send`.
unsafe impl<I: Send + Sync, T: Send> Sync for Chunk<I, T> {}
// SAFETY: as above.
unsafe impl<I: Send + Sync, T: Send> Send for Chunk<I, T> {}

impl<I, T> std::fmt::Debug for Chunk<I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({}..{})", self.first, self.first + self.slots.len() as u64)
    }
}

impl<I, T> Chunk<I, T> {
    /// The inputs of a map from index `first` on.
    pub(crate) fn new(first: u64, inputs: Vec<I>) -> Self {
        let slot = |_| Cell { state: AtomicU8::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) };
        let slots = (0..inputs.len()).map(slot).collect();
        let here =
            |input| Cell { state: AtomicU8::new(HERE), value: UnsafeCell::new(MaybeUninit::new(input)) };
        Self {
            first,
            inputs: Arc::new(Inputs(inputs.into_iter().map(here).collect())),
            slots,
            taken: AtomicUsize::new(0),
        }
    }

    /// The index of its first input in the map.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The input at `place`.
    ///
    /// # Panics
    ///
    /// If the input has been moved out: it has its outcome, and nothing executes it again.
    pub(crate) fn input(&self, place: usize) -> &I {
        let cell = &self.inputs.0[place];
        assert_ne!(cell.state.load(Ordering::Acquire), GONE, "an input with an outcome is executed");
        // SAFETY: initialised until GONE; `reclaim` sets that only once no attempt reads it.
        unsafe { (*cell.value.get()).assume_init_ref() }
    }

    /// A fenced attempt may go on reading the input: it can no longer be moved out.
    pub(crate) fn share(&self, place: usize) {
        self.inputs.0[place].state.store(SHARED, Ordering::Release);
    }

    /// The input for its failure: by value, or shared with a fenced attempt.
    ///
    /// # Safety
    ///
    /// No reference from [`Chunk::input`] to this place may be alive or come to life, save in
    /// attempts that were marked by [`Chunk::share`] before; and it is called once for a place.
    pub(crate) unsafe fn reclaim(&self, place: usize) -> Reclaimed<I> {
        let cell = &self.inputs.0[place];
        if cell.state.load(Ordering::Acquire) == SHARED {
            return Reclaimed::Shared(SharedInput { inputs: Arc::clone(&self.inputs), place });
        }
        cell.state.store(GONE, Ordering::Release);
        // SAFETY: initialised and, by the caller's word, neither read nor moved out by anyone else.
        Reclaimed::Owned(unsafe { (*cell.value.get()).assume_init_read() })
    }

    /// Writes the outcome of the input at `place`.
    ///
    /// # Panics
    ///
    /// If it has one: two attempts had the right to publish, which the fence excludes.
    pub(crate) fn publish(&self, place: usize, outcome: T) {
        let slot = &self.slots[place];
        let claimed = slot.state.compare_exchange(EMPTY, WRITING, Ordering::Acquire, Ordering::Relaxed);
        assert!(claimed.is_ok(), "input {} has an outcome already", self.first + place as u64);
        // SAFETY: the state was moved from EMPTY to WRITING here, so no other thread touches the value.
        unsafe { (*slot.value.get()).write(outcome) };
        slot.state.store(FULL, Ordering::Release);
    }

    /// `outcomes` more were taken out of order; whether that is all.
    pub(crate) fn count_taken(&self, outcomes: usize) -> bool {
        self.taken.fetch_add(outcomes, Ordering::Relaxed) + outcomes == self.slots.len()
    }

    /// Whether an outcome is there, or was until it was taken.
    pub(crate) fn is_published(&self, place: usize) -> bool {
        matches!(self.slots[place].state.load(Ordering::Acquire), FULL | TAKEN)
    }

    /// Moves the outcome out, if there is one.
    pub(crate) fn take(&self, place: usize) -> Option<T> {
        let slot = &self.slots[place];
        if slot.state.load(Ordering::Acquire) != FULL {
            return None;
        }
        let taken = slot.state.compare_exchange(FULL, TAKEN, Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: initialised, because FULL was seen; moved out once, because only one thread makes it TAKEN.
        taken.ok().map(|_| unsafe { (*slot.value.get()).assume_init_read() })
    }
}

impl<I, T> Drop for Chunk<I, T> {
    fn drop(&mut self) {
        if !mem::needs_drop::<T>() {
            return;
        }
        for slot in &mut self.slots {
            if *slot.state.get_mut() == FULL {
                // SAFETY: `&mut self` excludes others, and FULL means initialised.
                drop_contained(unsafe { slot.value.get_mut().assume_init_read() });
            }
        }
    }
}

/// The input of a failure.
pub(crate) enum Reclaimed<I> {
    Owned(I),
    Shared(SharedInput<I>),
}

/// An input that a fenced attempt may still be reading: shared, and dropped by whoever is last.
pub struct SharedInput<I> {
    inputs: Arc<Inputs<I>>,
    place: usize,
}

impl<I> Clone for SharedInput<I> {
    fn clone(&self) -> Self {
        Self { inputs: Arc::clone(&self.inputs), place: self.place }
    }
}

impl<I> Deref for SharedInput<I> {
    type Target = I;

    fn deref(&self) -> &I {
        // SAFETY: made only for a SHARED place, which is never moved out; initialised until `Inputs` drops.
        unsafe { (*self.inputs.0[self.place].value.get()).assume_init_ref() }
    }
}

impl<I: std::fmt::Debug> std::fmt::Debug for SharedInput<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedInput").field(&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_dropped_once_whatever_was_taken() {
        let witness = Arc::new(());
        let inputs = (0..4).map(|_| Arc::clone(&witness)).collect();
        let chunk: Chunk<Arc<()>, Arc<()>> = Chunk::new(0, inputs);
        chunk.publish(0, Arc::clone(&witness));
        chunk.publish(1, Arc::clone(&witness));
        assert!(chunk.take(0).is_some() && chunk.take(0).is_none() && chunk.take(3).is_none());
        chunk.share(2);
        // SAFETY: nothing reads the inputs here.
        let (owned, shared) = unsafe { (chunk.reclaim(1), chunk.reclaim(2)) };
        assert!(matches!(owned, Reclaimed::Owned(_)));
        drop((chunk, owned));
        let Reclaimed::Shared(shared) = shared else { panic!("a fenced attempt may read it") };
        assert!(Arc::ptr_eq(&shared, &witness));
        drop(shared);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    #[should_panic(expected = "input 7 has an outcome already")]
    fn a_second_outcome_is_refused() {
        let chunk: Chunk<u8, u8> = Chunk::new(7, vec![0]);
        chunk.publish(0, 1);
        chunk.publish(0, 2);
    }
}

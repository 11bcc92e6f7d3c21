//! A chunk: a range of inputs and the slots of their outcomes, shared by whoever needs it.
//!
//! The map, the executing thread and a fenced one each hold the chunk; whoever is last drops what
//! is left in it, value by value, inside the unwind boundary. A slot is written once, by the
//! attempt that [`Run`](crate::engine::run::Run) gave the right to, and read once, by the consumer.
//! Inputs are apart from slots, because a failed input given back to the caller as a shared handle
//! must not keep outcomes alive. Inputs are as they came: making a chunk of a vector moves nothing.

#![expect(unsafe_code, reason = "slots are written and read once, by a state byte each")]

use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::engine::unwind::drop_contained;

/// A slot without an outcome.
const EMPTY: u8 = 0;
/// An outcome is there.
const FULL: u8 = 1;
/// The outcome has been taken.
const TAKEN: u8 = 2;

/// The input is there, and read only by attempts whose end the engine sees.
const HERE: u8 = 0;
/// The input is there, and a fenced attempt may still read it.
const SHARED: u8 = 1;
/// The input has been moved out.
const GONE: u8 = 2;

type Cell<T> = UnsafeCell<MaybeUninit<T>>;

/// The inputs of a chunk.
struct Inputs<I> {
    values: Box<[Cell<I>]>,
    /// Made when the first of them is not simply [`HERE`].
    marks: OnceLock<Box<[AtomicU8]>>,
    /// Whether one of them was ever [`SHARED`].
    shared: AtomicBool,
}

// SAFETY: an input is only read through `&I` (hence `I: Sync`), and moved out or dropped by one
// thread (hence `I: Send`) when nobody reads it, as `Chunk::reclaim` and `Drop` say.
unsafe impl<I: Send + Sync> Sync for Inputs<I> {}
// SAFETY: as above.
unsafe impl<I: Send + Sync> Send for Inputs<I> {}

impl<I> Inputs<I> {
    fn new(inputs: Vec<I>) -> Self {
        let values = Box::into_raw(inputs.into_boxed_slice()) as *mut [Cell<I>];
        // SAFETY: `UnsafeCell` and `MaybeUninit` have the layout of what they hold.
        Self {
            values: unsafe { Box::from_raw(values) },
            marks: OnceLock::new(),
            shared: AtomicBool::new(false),
        }
    }

    fn mark(&self, place: usize) -> u8 {
        self.marks.get().map_or(HERE, |marks| marks[place].load(Ordering::Acquire))
    }

    fn set_mark(&self, place: usize, mark: u8) {
        let marks = self.marks.get_or_init(|| zeroed(self.values.len()));
        marks[place].store(mark, Ordering::Release);
    }
}

impl<I> Drop for Inputs<I> {
    fn drop(&mut self) {
        if !mem::needs_drop::<I>() {
            return;
        }
        for place in 0..self.values.len() {
            if self.mark(place) != GONE {
                // SAFETY: `&mut self` excludes readers, and what is not GONE is initialised.
                drop_contained(unsafe { self.values[place].get_mut().assume_init_read() });
            }
        }
    }
}

/// A byte for each of `len` places.
fn zeroed(len: usize) -> Box<[AtomicU8]> {
    let bytes = Box::into_raw(vec![0u8; len].into_boxed_slice()) as *mut [AtomicU8];
    // SAFETY: `AtomicU8` has the layout of `u8`, and any byte is one.
    unsafe { Box::from_raw(bytes) }
}

/// A range of inputs with a slot each for the outcomes.
pub(crate) struct Chunk<I, T> {
    first: u64,
    inputs: Arc<Inputs<I>>,
    outcomes: UnsafeCell<Box<[Cell<T>]>>,
    /// Of each slot. A byte each, apart from the outcomes, so that a look for them touches little memory.
    states: Box<[AtomicU8]>,
    /// Outcomes taken; written by the consumer.
    taken: AtomicUsize,
}

// SAFETY: a slot is written by the one who holds its `Slot`, before its state becomes FULL, and moved
// out by the one consumer, after it has seen that. Nobody borrows it. Hence `T: Send`.
unsafe impl<I: Send + Sync, T: Send> Sync for Chunk<I, T> {}
// SAFETY: as above.
unsafe impl<I: Send + Sync, T: Send> Send for Chunk<I, T> {}

impl<I, T> std::fmt::Debug for Chunk<I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({}..{})", self.first, self.first + self.len())
    }
}

impl<I, T> Chunk<I, T> {
    /// The inputs of a map from index `first` on.
    pub(crate) fn new(first: u64, inputs: Vec<I>) -> Self {
        let len = inputs.len();
        let outcomes = Box::into_raw(Box::<[T]>::new_uninit_slice(len)) as *mut [Cell<T>];
        Self {
            first,
            inputs: Arc::new(Inputs::new(inputs)),
            // SAFETY: `UnsafeCell` has the layout of what it holds.
            outcomes: UnsafeCell::new(unsafe { Box::from_raw(outcomes) }),
            states: zeroed(len),
            taken: AtomicUsize::new(0),
        }
    }

    /// The index of its first input in the map.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> u64 {
        self.states.len() as u64
    }

    /// Those places, to be executed.
    ///
    /// # Safety
    ///
    /// Their inputs have no outcome, and get none from elsewhere before the places are fenced: until then
    /// no input is moved out, and the slots are there. The chunk is kept for as long as what is returned.
    ///
    /// # Panics
    ///
    /// If one of the inputs has been moved out: it has its outcome, and nothing executes it again.
    pub(crate) unsafe fn stretch(&self, places: Range<usize>) -> Stretch<I, T> {
        if let Some(marks) = self.inputs.marks.get() {
            let here = marks[places.clone()].iter().all(|mark| mark.load(Ordering::Acquire) != GONE);
            assert!(here, "an input with an outcome is executed");
        }
        // SAFETY: the box is not taken before all its slots are full.
        let outcomes = unsafe { &(&*self.outcomes.get())[places.clone()] };
        Stretch {
            inputs: self.inputs.values[places.clone()].as_ptr(),
            outcomes: outcomes.as_ptr(),
            states: self.states[places.clone()].as_ptr(),
            places,
        }
    }

    /// A fenced attempt may go on reading the input: it can no longer be moved out.
    pub(crate) fn share(&self, place: usize) {
        self.inputs.shared.store(true, Ordering::Relaxed);
        self.inputs.set_mark(place, SHARED);
    }

    /// The input for its failure, by value or shared with a fenced attempt, and the right to publish that.
    ///
    /// # Safety
    ///
    /// No reference from [`Chunk::input`] to this place may be alive or come to life, save in
    /// attempts that were marked by [`Chunk::share`] before; and what [`Chunk::slot`] asks for.
    pub(crate) unsafe fn reclaim(&self, place: usize) -> (Reclaimed<I>, Slot<'_, I, T>) {
        // SAFETY: by the caller's word.
        let slot = unsafe { self.slot(place) };
        if self.inputs.mark(place) == SHARED {
            let shared = SharedInput { inputs: Arc::clone(&self.inputs), place };
            return (Reclaimed::Shared(shared), slot);
        }
        self.inputs.set_mark(place, GONE);
        // SAFETY: initialised and, by the caller's word, neither read nor moved out by anyone else.
        let input = unsafe { (*self.inputs.values[place].get()).assume_init_read() };
        (Reclaimed::Owned(input), slot)
    }

    /// Whether an input is kept here because a fenced attempt may still have read it.
    pub(crate) fn is_shared(&self) -> bool {
        self.inputs.shared.load(Ordering::Relaxed)
    }

    /// Drops the input at `place`, unless a fenced attempt may still read it: so of a chunk that is kept for a few slow
    /// inputs those that are done are not kept.
    ///
    /// # Safety
    ///
    /// The caller has executed the input and has published its outcome, which is no failure: nobody else reads it, and
    /// nobody moves it out.
    #[inline]
    pub(crate) unsafe fn drop_input(&self, place: usize) {
        if mem::needs_drop::<I>() && self.inputs.mark(place) == HERE {
            self.inputs.set_mark(place, GONE);
            // SAFETY: initialised; by the caller's word nobody reads it any more, and an outcome is published once.
            drop_contained(unsafe { (*self.inputs.values[place].get()).assume_init_read() });
        }
    }

    /// Moves the input at `place`, which waits to be executed again, into a chunk of its own: so the chunk it came in is
    /// not kept for it. It then counts as taken here. `None` if it is alone, or if a fenced attempt may still read it.
    ///
    /// # Safety
    ///
    /// The input has no outcome, no attempt at it is in the books, and no other thread moves it out.
    pub(crate) unsafe fn set_apart(&self, place: usize) -> Option<Self> {
        if self.len() == 1 || self.inputs.mark(place) != HERE {
            return None;
        }
        self.inputs.set_mark(place, GONE);
        // SAFETY: initialised and, by the caller's word, neither read nor moved out by anyone else.
        let input = unsafe { (*self.inputs.values[place].get()).assume_init_read() };
        Some(Self::new(self.first + place as u64, vec![input]))
    }

    /// The right to publish the outcome of the input at `place`.
    ///
    /// # Safety
    ///
    /// It is given once for a place.
    #[inline]
    pub(crate) unsafe fn slot(&self, place: usize) -> Slot<'_, I, T> {
        Slot { chunk: self, place }
    }

    #[cfg(test)]
    pub(crate) fn inputs_alive(&self) -> u64 {
        (0..self.inputs.values.len()).filter(|place| self.inputs.mark(*place) != GONE).count() as u64
    }

    /// `outcomes` more were taken; whether that is all.
    pub(crate) fn count_taken(&self, outcomes: usize) -> bool {
        self.taken.fetch_add(outcomes, Ordering::Relaxed) + outcomes == self.states.len()
    }

    /// The first of those places whose outcome the consumer has not taken; their end if it has taken all.
    pub(crate) fn taken_up_to(&self, places: Range<usize>) -> usize {
        // Those that are taken all at once are counted, and stay marked.
        if self.taken.load(Ordering::Relaxed) == self.states.len() {
            return places.end;
        }
        let waits = |state: &AtomicU8| state.load(Ordering::Relaxed) != TAKEN;
        self.states[places.clone()].iter().position(waits).map_or(places.end, |at| places.start + at)
    }

    /// Whether an outcome is there, or was until it was taken.
    pub(crate) fn is_published(&self, place: usize) -> bool {
        self.states[place].load(Ordering::Acquire) != EMPTY
    }

    /// Moves the outcome out, if there is one.
    ///
    /// # Safety
    ///
    /// Only the one consumer of the map takes outcomes.
    #[inline]
    pub(crate) unsafe fn take(&self, place: usize) -> Option<T> {
        let state = &self.states[place];
        if state.load(Ordering::Acquire) != FULL {
            return None;
        }
        state.store(TAKEN, Ordering::Relaxed);
        // SAFETY: written before its state became FULL; moved out once, because only this thread takes.
        Some(unsafe { (*(&*self.outcomes.get())[place].get()).assume_init_read() })
    }

    /// Moves all outcomes out, in order and at once.
    ///
    /// # Safety
    ///
    /// All were published, and this thread knows it; and only the one consumer of the map takes outcomes.
    ///
    /// # Panics
    ///
    /// If some were taken before.
    pub(crate) unsafe fn take_all(&self) -> Vec<T> {
        debug_assert!(self.states.iter().all(|state| state.load(Ordering::Acquire) == FULL));
        let taken = self.taken.swap(self.states.len(), Ordering::Relaxed);
        assert_eq!(taken, 0, "outcomes are taken one by one, or all at once");
        // SAFETY: by the caller's word nobody writes to the slots any more, and only this thread takes.
        let outcomes = mem::take(unsafe { &mut *self.outcomes.get() });
        // SAFETY: all are initialised, and their cells have the layout of what they hold.
        unsafe { Box::from_raw(Box::into_raw(outcomes) as *mut [T]) }.into_vec()
    }
}

impl<I, T> Drop for Chunk<I, T> {
    fn drop(&mut self) {
        if !mem::needs_drop::<T>() || *self.taken.get_mut() == self.states.len() {
            return;
        }
        for (state, outcome) in self.states.iter_mut().zip(self.outcomes.get_mut()) {
            if *state.get_mut() == FULL {
                // SAFETY: `&mut self` excludes others, and FULL means initialised.
                drop_contained(unsafe { outcome.get_mut().assume_init_read() });
            }
        }
    }
}

/// Places of a chunk for the thread that executes them: what it touches for each of them, with nothing to
/// look up between.
#[derive(Debug)]
pub(crate) struct Stretch<I, T> {
    places: Range<usize>,
    inputs: *const Cell<I>,
    outcomes: *const Cell<T>,
    states: *const AtomicU8,
}

// SAFETY: what is pointed to is the chunk's, and shared as the chunk is.
unsafe impl<I: Send + Sync, T: Send> Sync for Stretch<I, T> {}
// SAFETY: as above.
unsafe impl<I: Send + Sync, T: Send> Send for Stretch<I, T> {}

impl<I, T> Stretch<I, T> {
    pub(crate) fn places(&self) -> Range<usize> {
        self.places.clone()
    }

    #[inline]
    fn at(&self, place: usize) -> usize {
        assert!(self.places.contains(&place), "a place is in its stretch");
        place - self.places.start
    }

    /// The input at `place` of the chunk.
    ///
    /// # Safety
    ///
    /// It has begun by this stretch, and if it was fenced it was marked by [`Chunk::share`] before.
    #[inline]
    pub(crate) unsafe fn input(&self, place: usize) -> &I {
        // SAFETY: within the range; initialised, and by the word of whoever made this not moved out.
        unsafe { (*(*self.inputs.add(self.at(place))).get()).assume_init_ref() }
    }

    /// Writes an outcome.
    ///
    /// # Safety
    ///
    /// As of [`Chunk::slot`]: the right to publish is the caller's.
    ///
    /// # Panics
    ///
    /// If there is one.
    #[inline]
    pub(crate) unsafe fn publish(&self, place: usize, outcome: T) {
        let at = self.at(place);
        // SAFETY: within the range, and there for as long as the chunk.
        let state = unsafe { &*self.states.add(at) };
        assert!(state.load(Ordering::Relaxed) == EMPTY, "an input has an outcome already");
        // SAFETY: within the range, as its state is. Nobody else has this right, nobody reads before the state
        // says FULL, and the slots are there until every state does.
        unsafe { (*(*self.outcomes.add(at)).get()).write(outcome) };
        state.store(FULL, Ordering::Release);
    }
}

/// The right to publish one outcome.
pub(crate) struct Slot<'a, I, T> {
    chunk: &'a Chunk<I, T>,
    place: usize,
}

impl<I, T> std::fmt::Debug for Slot<'_, I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({})", self.chunk.first + self.place as u64)
    }
}

impl<I, T> Slot<'_, I, T> {
    /// Writes the outcome.
    ///
    /// # Panics
    ///
    /// If there is one: two attempts had the right to publish, which the fence excludes.
    #[inline]
    pub(crate) fn publish(self, outcome: T) {
        let Self { chunk, place } = self;
        let state = &chunk.states[place];
        let empty = state.load(Ordering::Relaxed) == EMPTY;
        assert!(empty, "input {} has an outcome already", chunk.first + place as u64);
        // SAFETY: nobody else has this right, nobody reads before the state says FULL, and the box is not
        // taken before every state does.
        unsafe { (*(&*chunk.outcomes.get())[place].get()).write(outcome) };
        state.store(FULL, Ordering::Release);
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
        unsafe { (*self.inputs.values[self.place].get()).assume_init_ref() }
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

    fn publish<I, T>(chunk: &Chunk<I, T>, place: usize, outcome: T) {
        // SAFETY: the tests that expect it to panic publish on one thread.
        unsafe { chunk.slot(place) }.publish(outcome);
    }

    #[test]
    fn each_value_is_dropped_once_whatever_was_taken() {
        let witness = Arc::new(());
        let inputs = (0..4).map(|_| Arc::clone(&witness)).collect();
        let chunk: Chunk<Arc<()>, Arc<()>> = Chunk::new(0, inputs);
        publish(&chunk, 0, Arc::clone(&witness));
        publish(&chunk, 1, Arc::clone(&witness));
        // SAFETY: nobody else takes, and nothing reads the inputs here.
        let (owned, shared) = unsafe {
            assert!(chunk.take(0).is_some() && chunk.take(0).is_none() && chunk.take(3).is_none());
            chunk.share(2);
            (chunk.reclaim(3).0, chunk.reclaim(2).0)
        };
        assert!(matches!(owned, Reclaimed::Owned(_)));
        drop((chunk, owned));
        let Reclaimed::Shared(shared) = shared else { panic!("a fenced attempt may read it") };
        assert!(Arc::ptr_eq(&shared, &witness));
        drop(shared);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn all_outcomes_are_taken_at_once() {
        let chunk: Chunk<u8, Arc<u8>> = Chunk::new(0, vec![0, 1]);
        publish(&chunk, 1, Arc::new(11));
        publish(&chunk, 0, Arc::new(10));
        // SAFETY: all were published above, and nobody else takes.
        let all = unsafe { chunk.take_all() };
        assert_eq!(all, [Arc::new(10), Arc::new(11)]);
        drop(chunk);
        assert!(all.iter().all(|outcome| Arc::strong_count(outcome) == 1));
    }

    #[test]
    #[should_panic(expected = "input 7 has an outcome already")]
    fn a_second_outcome_is_refused() {
        let chunk: Chunk<u8, u8> = Chunk::new(7, vec![0]);
        publish(&chunk, 0, 1);
        publish(&chunk, 0, 2);
    }
}

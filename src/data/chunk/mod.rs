//! A chunk: a range of inputs and the slots of their outcomes.
//!
//! The map, the executing thread and a fenced thread each hold the chunk. The last holder drops the values
//! that are left in it, one at a time, inside the unwind boundary. A slot is written once, by the attempt to
//! which [`Run`](crate::data::run::Run) gave the right, and read once, by the consumer. Inputs and slots are
//! separate allocations, because a failed input that is returned to the caller as a shared handle must not
//! keep outcomes alive. Making a chunk of a vector moves no input.

#![expect(unsafe_code, reason = "slots are written and read once, by a state byte each")]

mod shared;
mod slice;

use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::data::erased::{Buffer, ErasedValue, Values};
use crate::data::failure::Tried;
use crate::data::shape::{Failing, Shape, Why};

pub use shared::SharedInput;
pub(crate) use shared::{FailedInput, Reclaimed};
pub(crate) use slice::ChunkSlice;

/// The slot has no outcome yet.
const EMPTY: u8 = 0;
/// The slot holds an outcome.
const FULL: u8 = 1;
/// The outcome has been taken.
const TAKEN: u8 = 2;

/// The input is in its place, and only attempts whose end the engine sees may read it.
const HERE: u8 = 0;
/// The input is in its place, and a fenced attempt may still read it.
const SHARED: u8 = 1;
/// The input has been moved out.
const GONE: u8 = 2;

/// The inputs of a chunk.
pub(crate) struct ChunkInputs {
    values: Buffer,
    /// A mark for each place. Allocated when the first mark other than [`HERE`] is set.
    marks: OnceLock<Box<[AtomicU8]>>,
    /// Whether any input was ever [`SHARED`].
    shared: AtomicBool,
}

impl ChunkInputs {
    fn new(inputs: Values) -> Self {
        Self { values: inputs.into_buffer(), marks: OnceLock::new(), shared: AtomicBool::new(false) }
    }

    fn mark(&self, place: usize) -> u8 {
        self.marks.get().map_or(HERE, |marks| marks[place].load(Ordering::Acquire))
    }

    /// The input at `place`.
    ///
    /// # Safety
    ///
    /// The input is there, and is neither moved out nor dropped while the reference lives.
    ///
    /// # Panics
    ///
    /// If the input has another type.
    pub(crate) unsafe fn read<I: 'static>(&self, place: usize) -> &I {
        assert!(self.values.kind().is::<I>(), "an input is read by its own function");
        // SAFETY: the assert checked the type, and the caller guarantees that the input is there.
        unsafe { self.values.at(place).cast::<I>().as_ref() }
    }

    fn set_mark(&self, place: usize, mark: u8) {
        let marks = self.marks.get_or_init(|| zeroed(self.values.places()));
        marks[place].store(mark, Ordering::Release);
    }
}

impl Drop for ChunkInputs {
    fn drop(&mut self) {
        if !self.values.kind().needs_drop() {
            return;
        }
        for place in 0..self.values.places() {
            if self.mark(place) != GONE {
                // SAFETY: `&mut self` excludes readers, and an input that is not GONE is initialised.
                unsafe { self.values.kind().drop_contained(self.values.at(place)) };
            }
        }
    }
}

/// A zero byte for each of `len` places.
fn zeroed(len: usize) -> Box<[AtomicU8]> {
    let bytes = Box::into_raw(vec![0u8; len].into_boxed_slice()) as *mut [AtomicU8];
    // SAFETY: `AtomicU8` has the layout of `u8`, and every byte is a valid value of it.
    unsafe { Box::from_raw(bytes) }
}

/// A range of inputs with an outcome slot for each.
pub(crate) struct Chunk {
    shape: &'static Shape,
    first: u64,
    inputs: Arc<ChunkInputs>,
    /// The outcomes. `None` once they were all taken at once.
    outcomes: UnsafeCell<Option<Buffer>>,
    /// The state of each slot. The states are apart from the outcomes, so that reading them
    /// touches little memory.
    states: Box<[AtomicU8]>,
    /// The number of outcomes taken. The consumer writes it.
    taken: AtomicUsize,
}

// SAFETY: inputs are shared, and inputs and outcomes are sent to other threads. The bounds of `Shape::of`
// allow both. A slot is written by the thread that has the right to, before its state becomes FULL, and moved
// out by the only consumer, after it has seen that state. No reference to a slot is made. The buffer of
// outcomes is taken only when all slots are full.
unsafe impl Sync for Chunk {}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({}..{})", self.first, self.first + self.len())
    }
}

impl Chunk {
    /// A chunk of the inputs of a map from index `first` on.
    ///
    /// # Panics
    ///
    /// If the inputs do not have that shape.
    pub(crate) fn new(shape: &'static Shape, first: u64, inputs: Values) -> Self {
        assert!(inputs.kind().is_same(shape.input), "the inputs are of another function");
        let len = inputs.len();
        Self {
            shape,
            first,
            inputs: Arc::new(ChunkInputs::new(inputs)),
            outcomes: UnsafeCell::new(Some(Buffer::new(shape.outcome, len))),
            states: zeroed(len),
            taken: AtomicUsize::new(0),
        }
    }

    pub(crate) fn shape(&self) -> &'static Shape {
        self.shape
    }

    /// The chunk's inputs, which may be kept without the outcomes.
    pub(crate) fn inputs(&self) -> &Arc<ChunkInputs> {
        &self.inputs
    }

    /// Whether the input at `place` is never moved out, because a fenced attempt may read it.
    pub(crate) fn stays(&self, place: usize) -> bool {
        self.inputs.mark(place) == SHARED
    }

    /// The index of the chunk's first input in the map.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> u64 {
        self.states.len() as u64
    }

    /// The given places, for a thread that executes them.
    ///
    /// # Safety
    ///
    /// The inputs have no outcome, and get none from another thread before the places are fenced. Until then
    /// no input is moved out, and the slots exist. The chunk is kept for as long as the returned value.
    ///
    /// # Panics
    ///
    /// If one of the inputs has been moved out. Such an input has its outcome and must not be executed again.
    pub(crate) unsafe fn slice(&self, places: Range<usize>) -> ChunkSlice {
        if let Some(marks) = self.inputs.marks.get() {
            let here = marks[places.clone()].iter().all(|mark| mark.load(Ordering::Acquire) != GONE);
            assert!(here, "an input with an outcome is executed");
        }
        // SAFETY: the buffer is not taken before all its slots are full.
        unsafe { self.slots(places) }
    }

    /// The given places, for the consumer to take outcomes from.
    ///
    /// # Safety
    ///
    /// The outcomes were not taken all at once, and will not be while the returned value is used. The
    /// chunk is kept for as long.
    pub(crate) unsafe fn slots(&self, places: Range<usize>) -> ChunkSlice {
        let states = self.states[places.clone()].as_ptr();
        // SAFETY: the caller guarantees that the outcomes were not taken all at once.
        let outcomes = unsafe { self.slot(places.start) };
        ChunkSlice { inputs: self.inputs.values.at(places.start), outcomes, states, places }
    }

    /// The address of the outcome at `place`, whether or not it is written yet.
    ///
    /// # Safety
    ///
    /// The outcomes were not taken all at once.
    unsafe fn slot(&self, place: usize) -> NonNull<u8> {
        // SAFETY: the caller guarantees that no thread writes to the option meanwhile.
        let outcomes = unsafe { &*self.outcomes.get() }.as_ref();
        outcomes.expect("the outcomes are there").at(place)
    }

    /// Marks an input that a fenced attempt may go on reading. It can no longer be moved out.
    pub(crate) fn share(&self, place: usize) {
        self.inputs.shared.store(true, Ordering::Relaxed);
        self.inputs.set_mark(place, SHARED);
    }

    /// Writes a failure as the outcome of the input at `place`.
    ///
    /// # Safety
    ///
    /// The caller has the right to publish the outcome. No reference to the input exists or is created,
    /// except in attempts for which the input was marked by [`Chunk::share`] before.
    ///
    /// # Panics
    ///
    /// If the input has an outcome. Two attempts would have had the right to publish,
    /// which the fence excludes.
    pub(crate) unsafe fn fail(&self, place: usize, tried: Tried, why: Why) {
        let (state, index) = (&self.states[place], self.first + place as u64);
        let empty = state.load(Ordering::Relaxed) == EMPTY;
        assert!(empty, "input {index} has an outcome already");
        // SAFETY: no other thread has this right, none reads before the state is FULL, and the buffer is not
        // taken before every state is. The input is reclaimed once, with the right to publish.
        unsafe { self.shape.fail(self.reclaim(place), Failing { index, tried, why }, self.slot(place)) };
        state.store(FULL, Ordering::Release);
    }

    /// The failure of the input at `place`, which ends the input's map. It is not written as an outcome.
    ///
    /// # Safety
    ///
    /// The same as for [`Chunk::fail`].
    pub(crate) unsafe fn ends_by(&self, place: usize, tried: Tried, why: Why) -> ErasedValue {
        let index = self.first + place as u64;
        // SAFETY: the same as in `fail`, except that no slot is written.
        unsafe { self.shape.failure(self.reclaim(place), Failing { index, tried, why }) }
    }

    /// The place of an input for its failure. The input is then moved out, or shared with a fenced attempt.
    ///
    /// # Safety
    ///
    /// Called once for each input. No reference to the input exists or is created, except in attempts for
    /// which the input was marked by [`Chunk::share`] before.
    unsafe fn reclaim(&self, place: usize) -> FailedInput {
        if self.inputs.mark(place) == SHARED {
            return FailedInput::Shared(Arc::clone(&self.inputs), place);
        }
        self.inputs.set_mark(place, GONE);
        FailedInput::Owned(self.inputs.values.at(place))
    }

    /// Whether any input is kept here because a fenced attempt may still read it.
    pub(crate) fn is_shared(&self) -> bool {
        self.inputs.shared.load(Ordering::Relaxed)
    }

    /// Drops the input at `place`, unless a fenced attempt may still read it. A chunk that is kept for a few
    /// slow inputs then does not keep the finished ones.
    ///
    /// # Safety
    ///
    /// The caller has executed the input and published its output. No other thread reads the
    /// input or moves it out.
    #[inline]
    pub(crate) unsafe fn drop_input(&self, place: usize) {
        let kind = self.inputs.values.kind();
        if kind.needs_drop() && self.inputs.mark(place) == HERE {
            self.inputs.set_mark(place, GONE);
            // SAFETY: the input is initialised, the caller guarantees that no thread reads it any more, and
            // an outcome is published once.
            unsafe { kind.drop_contained(self.inputs.values.at(place)) };
        }
    }

    /// Moves the input at `place`, which waits to be executed again, into a chunk of its own, so that this
    /// chunk is not kept for it. The caller counts the input as taken here. Returns `None` if it is the only
    /// input, or if a fenced attempt may still read it.
    ///
    /// # Safety
    ///
    /// The input has no outcome, no attempt at it is in the ledger, and no other thread moves it out.
    pub(crate) unsafe fn move_out(&self, place: usize) -> Option<Self> {
        if self.len() == 1 || self.inputs.mark(place) != HERE {
            return None;
        }
        self.inputs.set_mark(place, GONE);
        let mut moved_out = Buffer::new(self.shape.input, 1);
        // SAFETY: the input is initialised, and the caller guarantees that no other thread
        // reads it or moves it out.
        let input = unsafe {
            moved_out.move_in(0, &self.inputs.values, place, 1);
            Values::of_buffer(moved_out)
        };
        Some(Self::new(self.shape, self.first + place as u64, input))
    }

    #[cfg(test)]
    pub(crate) fn inputs_alive(&self) -> u64 {
        let is_alive = |mark: &&AtomicU8| mark.load(Ordering::Acquire) != GONE;
        let marked = self.inputs.marks.get().map(|marks| marks.iter().filter(is_alive).count());
        marked.unwrap_or(self.inputs.values.places()) as u64
    }

    /// Records that `outcomes` more outcomes were taken. Returns whether all are taken now.
    pub(crate) fn count_taken(&self, outcomes: usize) -> bool {
        self.taken.fetch_add(outcomes, Ordering::Relaxed) + outcomes == self.states.len()
    }

    /// The first of `places` whose outcome the consumer has not taken, or their end if it has taken all.
    pub(crate) fn taken_up_to(&self, places: Range<usize>) -> usize {
        // Outcomes that are taken all at once are counted in `taken`, but their states stay FULL.
        if self.taken.load(Ordering::Relaxed) == self.states.len() {
            return places.end;
        }
        let waits = |state: &AtomicU8| state.load(Ordering::Relaxed) != TAKEN;
        self.states[places.clone()].iter().position(waits).map_or(places.end, |at| places.start + at)
    }

    /// Whether the slot at `place` holds an outcome, or held one that was taken.
    pub(crate) fn is_published(&self, place: usize) -> bool {
        self.states[place].load(Ordering::Acquire) != EMPTY
    }

    /// Moves all outcomes out, in order and at once.
    ///
    /// # Safety
    ///
    /// All outcomes were published, and this thread has synchronised with that. Only the consumer of the map
    /// takes outcomes. The returned buffer does not drop them.
    ///
    /// # Panics
    ///
    /// If some outcomes were taken before.
    pub(crate) unsafe fn take_all(&self) -> Buffer {
        debug_assert!(self.states.iter().all(|state| state.load(Ordering::Acquire) == FULL));
        let taken = self.taken.swap(self.states.len(), Ordering::Relaxed);
        assert_eq!(taken, 0, "outcomes are taken one by one, or all at once");
        // SAFETY: the caller guarantees that no thread writes to the slots any more, and that
        // only this thread takes.
        let outcomes = unsafe { &mut *self.outcomes.get() }.take();
        outcomes.expect("they were not taken before")
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let Some(outcomes) = self.outcomes.get_mut() else { return };
        if !outcomes.kind().needs_drop() || *self.taken.get_mut() == self.states.len() {
            return;
        }
        for (place, state) in self.states.iter_mut().enumerate() {
            if *state.get_mut() == FULL {
                // SAFETY: `&mut self` excludes other threads, and FULL means initialised.
                unsafe { outcomes.kind().drop_contained(outcomes.at(place)) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::failure::{Cause, Reason};
    use crate::data::shape::Outcome;

    type Answer<I, O> = Outcome<I, O, ()>;

    fn chunk<I: Send + Sync + 'static, O: Send + 'static>(first: u64, inputs: Vec<I>) -> Chunk {
        Chunk::new(Shape::of::<I, O, ()>(), first, Values::of(inputs))
    }

    fn publish<I: Send + Sync + 'static, O: Send + 'static>(chunk: &Chunk, place: usize, output: O) {
        assert!(chunk.shape().is::<I, O, ()>());
        // SAFETY: the types were just checked, and the tests that expect a panic publish on one thread.
        unsafe { chunk.slice(place..place + 1).publish::<Answer<I, O>>(place, Ok(output)) };
    }

    #[test]
    fn each_value_is_dropped_once_whatever_was_taken() {
        type Witness = Arc<()>;
        let witness = Arc::new(());
        let chunk = chunk::<Witness, Witness>(0, (0..4).map(|_| Arc::clone(&witness)).collect());
        publish::<Witness, Witness>(&chunk, 0, Arc::clone(&witness));
        publish::<Witness, Witness>(&chunk, 1, Arc::clone(&witness));
        // SAFETY: no other thread takes outcomes, and nothing reads the inputs here.
        let (owned, shared) = unsafe {
            let slots = chunk.slots(0..4);
            let take = |place| slots.take::<Answer<Witness, Witness>>(place);
            assert!(take(0).is_some() && take(0).is_none() && take(3).is_none());
            chunk.share(2);
            chunk.fail(3, 0.into(), Why::Reason(Reason::Cancelled));
            chunk.fail(2, 0.into(), Why::Reason(Reason::Cancelled));
            (take(3), take(2))
        };
        let Some(Err(owned)) = owned else { panic!("it has failed") };
        assert!(matches!(owned.cause(), Cause::Cancelled) && owned.index() == Some(3));
        assert!(owned.into_input().and_then(|input| input.owned()).is_some());
        let Some(Err(shared)) = shared else { panic!("it has failed") };
        drop(chunk);
        assert!(shared.input().is_some_and(|input| Arc::ptr_eq(input, &witness)));
        assert!(shared.into_input().is_some_and(|input| input.owned().is_none()), "an attempt may read it");
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn a_failure_that_ends_its_map_holds_its_input_and_leaves_its_slot_empty() {
        let chunk = chunk::<String, u8>(5, vec!["a".to_owned(), "b".to_owned()]);
        // SAFETY: nothing reads the inputs here.
        let parcel = unsafe { chunk.ends_by(1, 3.into(), Why::Error(Box::new(()))) };
        let failure = parcel.downcast::<crate::Failure<String, ()>>().expect("it is of that type");
        assert_eq!((failure.index(), failure.attempts(), failure.error()), (Some(6), 3, Some(&())));
        assert_eq!(failure.input().map(String::as_str), Some("b"));
        assert!(!chunk.is_published(1));
    }

    #[test]
    fn all_outcomes_are_taken_at_once() {
        let chunk = chunk::<u8, Arc<u8>>(0, vec![0, 1]);
        publish::<u8, Arc<u8>>(&chunk, 1, Arc::new(11));
        publish::<u8, Arc<u8>>(&chunk, 0, Arc::new(10));
        // SAFETY: all outcomes were published above, and no other thread takes.
        let all = unsafe { chunk.take_all().into_vec::<Answer<u8, Arc<u8>>>() };
        drop(chunk);
        let all: Vec<_> = all.into_iter().flatten().collect();
        assert_eq!(all, [Arc::new(10), Arc::new(11)]);
        assert!(all.iter().all(|outcome| Arc::strong_count(outcome) == 1));
    }

    #[test]
    fn an_input_that_is_set_apart_leaves_its_chunk() {
        let witness = Arc::new(7);
        let chunk = chunk::<Arc<i32>, u8>(10, vec![Arc::new(6), Arc::clone(&witness)]);
        // SAFETY: no thread executes the input.
        let moved_out = unsafe { chunk.move_out(1) }.expect("it is not alone");
        assert_eq!((moved_out.first(), moved_out.len(), chunk.inputs_alive()), (11, 1, 1));
        drop(chunk);
        assert_eq!(Arc::strong_count(&witness), 2);
        // SAFETY: no thread executes the input.
        assert!(unsafe { moved_out.move_out(0) }.is_none(), "it is alone");
        drop(moved_out);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    #[should_panic(expected = "an input has an outcome already")]
    fn a_second_outcome_is_refused() {
        let chunk = chunk::<u8, u8>(7, vec![0]);
        publish::<u8, u8>(&chunk, 0, 1);
        publish::<u8, u8>(&chunk, 0, 2);
    }

    #[test]
    #[should_panic(expected = "input 7 has an outcome already")]
    fn a_failure_behind_an_outcome_is_refused() {
        let chunk = chunk::<u8, u8>(7, vec![0]);
        publish::<u8, u8>(&chunk, 0, 1);
        // SAFETY: nothing reads the input here.
        unsafe { chunk.fail(0, 0.into(), Why::Reason(Reason::Cancelled)) };
    }

    #[test]
    #[should_panic(expected = "of another function")]
    fn inputs_of_another_function_are_refused() {
        drop(Chunk::new(Shape::of::<u8, u8, ()>(), 0, Values::of(vec![0_u16])));
    }
}

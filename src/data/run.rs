//! A run: one lease as the executing thread and the engine share it.
//!
//! The [`Cursor`] records how far the run is and who has the right to publish an outcome. The [`Chunk`] has
//! the slots. A run combines both with the waker of an async container's task, which must learn of a fence.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use crate::base::position::Position;
use crate::base::sync::{Light, Mutex};
use crate::data::chunk::{Chunk, ChunkSlice};
use crate::data::cursor::{Advance, Cursor, CursorPosition};
use crate::data::rest::Rest;
use crate::data::shape::{Outcome, Types};

/// The inputs `at .. end` of a chunk, as places in it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) chunk: Arc<Chunk>,
    /// The places as they were leased. The cursor may have been shortened since. Made together with the
    /// lease, because a fenced thread that is late must not look up slots that the consumer may have taken.
    slice: ChunkSlice,
    cursor: Cursor,
    /// The waker of the executing task, which a fence wakes. Only the task of an async container sets it.
    task: Mutex<Option<Waker>>,
    /// Whether that task waits. A fence keeps it from going on.
    rest: Rest,
}

impl Run {
    /// A lease whose inputs execute one by one.
    #[cfg(test)]
    pub(crate) fn new(chunk: Arc<Chunk>, from: u64, to: u64) -> Self {
        Self::in_batches(chunk, from, to, 1)
    }

    /// A lease of the places `from .. to`, whose inputs have no outcome. `batch` of them execute together.
    #[expect(unsafe_code, reason = "a lease is of inputs without an outcome")]
    pub(crate) fn in_batches(chunk: Arc<Chunk>, from: u64, to: u64, batch: u64) -> Self {
        // SAFETY: the ledger leases an input to one container at a time, and only before it has its outcome.
        // The input gets its outcome through this run, or after the run's fence. The run keeps the chunk.
        let slice = unsafe { chunk.slice(from as usize..to as usize) };
        let cursor = Cursor::in_batches(from, to, Light::get(), batch);
        Self { chunk, slice, cursor, task: Mutex::new(None), rest: Rest::new() }
    }

    /// Begins the first input. Returns `None` if there is none or the run is fenced.
    ///
    /// # Panics
    ///
    /// If the inputs or outcomes are of other types.
    pub(crate) fn begin<I, O, E>(&self) -> Option<ActiveRun<'_, I, O, E>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        assert!(self.chunk.shape().is::<I, O, E>(), "a run is executed by its own function");
        let place = self.cursor.begin()? as usize;
        Some(ActiveRun { at: RunCursor { run: self, place, light: self.cursor.light() }, types: PhantomData })
    }

    /// The places that were leased.
    pub(crate) fn places(&self) -> Range<usize> {
        self.slice.places()
    }

    /// The active run as it is at `place`, for simulated threads, which do not keep their active run.
    #[cfg(test)]
    pub(crate) fn active_at<I, O, E>(&self, place: usize) -> ActiveRun<'_, I, O, E>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        assert!(self.chunk.shape().is::<I, O, E>(), "a run is executed by its own function");
        ActiveRun { at: RunCursor { run: self, place, light: self.cursor.light() }, types: PhantomData }
    }

    /// Publishes the output of an input for which the right to publish was given before. Simulated threads do
    /// this in a later step.
    ///
    /// # Safety
    ///
    /// The cursor gave the right for that place, and it was not used.
    #[cfg(test)]
    #[expect(unsafe_code, reason = "hands its callers' word on")]
    pub(crate) unsafe fn publish_at<I, O, E>(&self, place: usize, output: O)
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        assert!(self.chunk.shape().is::<I, O, E>(), "a run is executed by its own function");
        // SAFETY: the caller guarantees the right to publish.
        unsafe { self.slice.publish::<Outcome<I, O, E>>(place, Ok(output)) };
    }

    /// Refuses all outcomes that the thread has no right to publish yet. Returns `None` if the system refuses
    /// the barrier, so that the position is not known. The thread may then still publish one outcome, and no
    /// other thread may publish or execute an input of the run.
    pub(crate) fn fence(&self) -> Option<Position> {
        self.cursor.fence(|| self.rest.halt()).ok().map(|position| self.position(position))
    }

    /// Fences the run on the executing thread itself, which has left the user's code.
    pub(crate) fn fence_here(&self) -> Position {
        self.position(self.cursor.fence_here())
    }

    /// Whether the executing task was waiting when the fence was set.
    pub(crate) fn is_suspended(&self) -> bool {
        self.rest.is_on()
    }

    /// Wakes the executing task, which then sees the fence.
    pub(crate) fn wake(&self) {
        // The waker belongs to the container's own runtime, so no user code runs here.
        if let Some(task) = self.task.lock().take() {
            task.wake();
        }
    }

    /// Keeps the waker of the executing task, to be woken when the run is fenced.
    pub(crate) fn keep_waker(&self, waker: &Waker) {
        *self.task.lock() = Some(waker.clone());
    }

    /// Records that the executing task waits. Returns `false` if the run is fenced already.
    pub(crate) fn suspend(&self) -> bool {
        self.rest.begins();
        self.cursor.light().pass();
        !self.is_fenced()
    }

    /// Records that the executing task goes on. Returns `false` if it may not, because the run is fenced.
    pub(crate) fn resume(&self) -> bool {
        // A fence that has found the task at rest has halted it. Any other fence knows by its barrier how far
        // the task is.
        self.rest.ends() && !self.is_fenced()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.cursor.is_fenced()
    }

    /// The position of the run. It is exact on the executing thread, as long as the run is not fenced.
    pub(crate) fn look(&self) -> Position {
        self.position(self.cursor.look())
    }

    /// The index of the input that is executing, as long as the run is not fenced.
    pub(crate) fn executing(&self) -> Option<u64> {
        let position = self.cursor.look();
        position.begun.then(|| self.chunk.first() + position.at)
    }

    /// The places of the inputs that execute, as the position of a fence or of the executing thread says.
    pub(crate) fn executing_places(&self, position: Position) -> Range<usize> {
        let at = position.at - self.chunk.first();
        let end = if position.begun { self.cursor.executing_to(at) } else { at };
        at as usize..end as usize
    }

    /// The index before which every input is completed, as long as the run is not fenced.
    pub(crate) fn completed_to(&self) -> u64 {
        self.chunk.first() + self.cursor.at()
    }

    /// Ends the run before `index`, or after the executing input if that is later. Returns the index of its
    /// end. The run keeps its end if the system refuses a barrier.
    pub(crate) fn truncate(&self, index: u64) -> u64 {
        self.chunk.first() + self.cursor.truncate(index - self.chunk.first())
    }

    fn position(&self, position: CursorPosition) -> Position {
        Position { at: self.chunk.first() + position.at, begun: position.begun }
    }
}

/// The position of the thread that executes a run.
pub(crate) struct RunCursor<'a> {
    run: &'a Run,
    /// The place of the executing input.
    place: usize,
    light: Light,
}

impl RunCursor<'_> {
    /// The index of the executing input.
    #[inline]
    pub(crate) fn index(&self) -> u64 {
        self.run.chunk.first() + self.place as u64
    }

    /// Moves on without an outcome for the executing input.
    pub(crate) fn skip(&mut self) -> Advance {
        let advance = self.step();
        self.place += 1;
        advance
    }

    #[inline]
    fn step(&self) -> Advance {
        self.run.cursor.step(self.place as u64, self.light)
    }
}

/// A run in the hands of the thread that executes it, which knows the types.
pub(crate) struct ActiveRun<'a, I, O, E> {
    pub(crate) at: RunCursor<'a>,
    types: Types<I, O, E>,
}

impl<'a, I, O, E> ActiveRun<'a, I, O, E> {
    #[cfg(test)]
    pub(crate) fn place(&self) -> usize {
        self.at.place
    }

    /// The index of the executing input.
    #[inline]
    pub(crate) fn index(&self) -> u64 {
        self.at.index()
    }

    /// The inputs that execute together, beginning with the next one that has no outcome.
    #[expect(unsafe_code, reason = "reads what executes")]
    pub(crate) fn inputs(&self) -> impl ExactSizeIterator<Item = &'a I> + use<'a, I, O, E>
    where
        I: 'static,
    {
        let slice = &self.at.run.slice;
        let places = self.at.place..self.at.run.cursor.executing_to(self.at.place as u64) as usize;
        // SAFETY: the types were checked when the run began. The cursor has let the first of these places
        // begin, and with it the others. A thread that fences the run from then on marks them all as shared.
        places.map(|place| unsafe { slice.input(place) })
    }

    #[inline]
    #[expect(unsafe_code, reason = "reads what executes")]
    pub(crate) fn input(&self) -> &'a I {
        // SAFETY: the types were checked when the run began. The cursor has let this place begin. A thread
        // that fences the run from then on marks the input as shared.
        unsafe { self.at.run.slice.input(self.at.place) }
    }

    /// Publishes the output of the executing input. Returns it if it is refused, because the run is fenced.
    #[inline]
    #[expect(unsafe_code, reason = "the cursor gives each right to publish once")]
    pub(crate) fn publish(&mut self, output: O) -> Result<Advance, O> {
        let advance = self.at.step();
        if advance == Advance::Fenced {
            return Err(output);
        }
        // SAFETY: the types were checked when the run began. The cursor says that this step came before any
        // fence, so a fencing thread sees this place as passed and gives its input to no other thread. An
        // active run passes each place once.
        unsafe { self.at.run.slice.publish::<Outcome<I, O, E>>(self.at.place, Ok(output)) };
        self.at.place += 1;
        Ok(advance)
    }

    /// Drops the input whose outcome was published last, on the thread whose stack its drop may need.
    #[expect(unsafe_code, reason = "drops an input that is done")]
    pub(crate) fn drop_input(&self) {
        // SAFETY: this active run has published the outcome, and `publish` is called only after the
        // function has returned `Ok`.
        unsafe { self.at.run.chunk.drop_input(self.at.place - 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::erased::Values;
    use crate::data::shape::Shape;

    fn run(from: u64, to: u64) -> Run {
        let inputs = Values::of(Vec::from_iter(0..10_u64));
        Run::new(Arc::new(Chunk::new(Shape::of::<u64, u64, ()>(), 100, inputs)), from, to)
    }

    fn begin(run: &Run) -> Option<ActiveRun<'_, u64, u64, ()>> {
        run.begin()
    }

    #[test]
    fn a_run_walks_its_range() {
        let run = run(2, 4);
        assert_eq!(run.completed_to(), 102);
        let mut active = begin(&run).expect("nothing interferes");
        assert_eq!((active.index(), active.input()), (102, &2));
        assert_eq!(active.publish(12), Ok(Advance::Next));
        assert_eq!(run.completed_to(), 103);
        assert_eq!(active.publish(13), Ok(Advance::Last));
        assert_eq!(run.fence_here(), Position { at: 104, begun: false });
        assert!(begin(&run).is_none());
    }

    #[test]
    fn a_fenced_run_refuses_exactly_the_executing_input() {
        let begun = run(0, 3);
        let mut active = begin(&begun).expect("nothing interferes");
        assert_eq!(active.publish(10), Ok(Advance::Next));
        assert_eq!(begun.fence(), Some(Position { at: 101, begun: true }));
        assert_eq!(active.publish(11), Err(11));
        assert_eq!(begun.fence(), Some(Position { at: 101, begun: true }), "the first fence counts");
        assert!(begin(&begun).is_none());
        let waiting = run(0, 3);
        assert_eq!(waiting.fence(), Some(Position { at: 100, begun: false }));
        assert!(begin(&waiting).is_none());
    }

    #[test]
    fn a_task_that_waits_does_not_go_on_once_its_run_is_fenced() {
        let run = run(0, 3);
        assert!(begin(&run).is_some());
        assert!(run.resume() && run.suspend() && run.resume() && !run.is_suspended());
        assert!(run.suspend());
        run.fence();
        assert!(run.is_suspended() && !run.resume() && !run.suspend());
    }

    #[test]
    fn a_truncated_run_ends_where_it_is_told_to_or_behind_what_executes() {
        let begun = run(0, 9);
        let mut active = begin(&begun).expect("nothing interferes");
        assert_eq!(begun.truncate(105), 105);
        assert_eq!(begun.truncate(100), 101);
        assert_eq!(begun.truncate(103), 101, "it is never made longer");
        assert_eq!(active.publish(10), Ok(Advance::Last));
        let waiting = run(3, 5);
        assert_eq!(waiting.truncate(100), 103);
        assert!(begin(&waiting).is_none());
    }
}

//! A consumer: it takes the outcomes of one job, one by one, and makes room for new inputs.
//!
//! It is the reading side of maps and calls alike, whoever asks and however they wait. Ordering, back-pressure and the end
//! are those of the [`Reader`], which knows no types; waiting is the dispatch's. The [`Consumer`] moves outcomes out, and
//! ends the map at a failure.

use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use crate::base::ids::JobId;
use crate::contain::drops::{Stack, defer_drop, drop_in_turn, let_go};
use crate::data::chunk::{Chunk, ChunkSlice};
use crate::data::erased::{Buffer, Values};
use crate::data::failure::{Bug, Failure, Reason};
use crate::data::flow_control::FlowControl;
use crate::data::shape::{Outcome, Types};
use crate::decide::job::OnFailure;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::abort::{Abort, AbortHandle};
use crate::engine::caller::Caller;
use crate::engine::dispatch::{ClosedJob, Dispatch, Found, JobPlan, Wait};
use crate::engine::map_buffers::{JobSource, MapEnd, Order};
use crate::values::progress::Progress;

/// What a map does with failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failures {
    /// The first one ends the map when it happens.
    EndMap,
    /// The first one ends the map at its place.
    EndMapInOrder,
    /// Each is an outcome.
    Yield,
}

impl Failures {
    fn on_failure(self) -> OnFailure {
        match self {
            Self::EndMap => OnFailure::EndMap,
            Self::EndMapInOrder | Self::Yield => OnFailure::GoOn,
        }
    }
}

/// All outcomes in the order of the inputs, or none, and the failure that ended the map as a whole.
pub(crate) type All<I, O, E> = (Vec<Outcome<I, O, E>>, Option<Failure<I, E>>);

/// The one outcome of a call.
pub(crate) fn outcome_of_call<I, O, E>(polled: Poll<Option<Outcome<I, O, E>>>) -> Outcome<I, O, E> {
    match polled {
        Poll::Ready(Some(outcome)) => outcome,
        Poll::Pending | Poll::Ready(None) => {
            Err(Failure::of_map(Reason::Engine(Bug("a call ended without an outcome".into()))))
        }
    }
}

/// What a reader's poll comes to.
enum Reading {
    /// Places, of which the first may have its outcome.
    Places,
    /// Nothing yet; never with [`Wait::Block`].
    Pending,
    /// Nothing more, after that end if there is one.
    End(Option<MapEnd>),
}

/// Takes the outcomes of one job.
pub(crate) struct Reader {
    dispatch: Arc<Dispatch>,
    pub(crate) job: JobId,
    flow: Arc<FlowControl>,
    order: Order,
    failures: Failures,
    /// Whether the end has been seen: the job is cancelled, what finished beside can be salvaged.
    pub(crate) ended: bool,
    /// The index of the next outcome in order.
    next: u64,
    /// Outcomes taken that the flow control has not been told of.
    unsent: u64,
    /// How many of those are worth telling of, as it was when it was last looked at.
    room_min: u64,
    /// Where outcomes are being taken from.
    current: Option<Current>,
    /// Chunks that are used up, if the caller is to drop them.
    used: Option<Vec<Arc<Chunk>>>,
    /// Chunks that are being salvaged.
    kept: Vec<Arc<Chunk>>,
}

/// Places of a chunk being taken.
struct Current {
    chunk: Arc<Chunk>,
    slots: ChunkSlice,
    /// The place that is taken next, and the one behind the last.
    at: usize,
    end: usize,
    /// The first place that was not taken before.
    from: usize,
}

impl Current {
    /// Those places of a chunk, the first of which were perhaps taken before.
    #[expect(unsafe_code, reason = "refers to a chunk that it keeps")]
    fn new(chunk: Arc<Chunk>, from: usize, end: usize) -> Self {
        // SAFETY: outcomes are taken one by one here, and the chunk is kept beside the slice.
        let slots = unsafe { chunk.slots(from..end) };
        Self { chunk, slots, at: from, end, from }
    }
}

/// What a closed job leaves behind: users' values, to be dropped where that may block.
pub(crate) type Undropped = (Vec<Arc<Chunk>>, Option<Box<ClosedJob>>);

impl Reader {
    fn new(
        dispatch: &Arc<Dispatch>,
        job: JobId,
        flow: Arc<FlowControl>,
        order: Order,
        failures: Failures,
    ) -> Self {
        let dispatch = Arc::clone(dispatch);
        Self {
            dispatch,
            job,
            flow,
            order,
            failures,
            ended: false,
            next: 0,
            unsent: 0,
            room_min: 1,
            current: None,
            used: None,
            kept: Vec::new(),
        }
    }

    /// From now on the inputs of outcomes that were taken are for the caller to drop.
    pub(crate) fn keep_used(&mut self) {
        if self.dispatch.settings.shape.input.needs_drop() {
            self.used = Some(Vec::new());
        }
    }

    /// Chunks that were used up since this was last asked.
    pub(crate) fn take_used(&mut self) -> Vec<Arc<Chunk>> {
        self.used.as_mut().map(mem::take).unwrap_or_default()
    }

    /// The stack that drops of the function's values may need.
    pub(crate) fn stack(&self) -> Stack {
        self.dispatch.settings.stack()
    }

    /// How many inputs may be outstanding now.
    pub(crate) fn window(&self) -> u64 {
        self.flow.window.load(Ordering::SeqCst)
    }

    /// Looks for places where outcomes may be. Asked when nothing is at hand.
    fn poll_next(&mut self, wait: Wait<'_>) -> Reading {
        if self.ended {
            return Reading::End(None);
        }
        // In completion order places are committed, and stay current until their outcomes are there.
        if let Some(current) = self.current.take_if(|_| self.order == Order::Input) {
            self.let_go(current);
        }
        if self.current.is_some() {
            // Its thread is about to publish it.
            match wait {
                Wait::Block => std::thread::yield_now(),
                Wait::Try => return Reading::Pending,
                Wait::Register(waker) => {
                    waker.wake_by_ref();
                    return Reading::Pending;
                }
            }
            return Reading::Places;
        }
        self.report_yielded();
        match self.dispatch.find(self.job, self.next, wait) {
            Found::Chunk(chunk) => {
                let (from, end) = ((self.next - chunk.first()) as usize, chunk.len() as usize);
                self.current = Some(Current::new(chunk, from, end));
                Reading::Places
            }
            Found::Ready((chunk, places)) => {
                self.current = Some(Current::new(chunk, places.start, places.end));
                Reading::Places
            }
            Found::Soon | Found::Pending => Reading::Pending,
            Found::End(end) => {
                self.end();
                Reading::End(end)
            }
        }
    }

    /// All outcomes at once, given to `take`, and the end behind them. `None` if they are not there yet.
    #[expect(unsafe_code, reason = "moves outcomes out of their chunk")]
    fn all(&mut self, wait: Wait<'_>, take: &mut dyn FnMut(Buffer)) -> Option<Option<MapEnd>> {
        loop {
            match self.dispatch.find(self.job, 0, wait) {
                Found::Chunk(chunk) => {
                    // SAFETY: only the consumer of a job takes its outcomes. All are committed, and of those
                    // that were committed before their threads had published them the dispatch has seen each
                    // since.
                    let outcomes = unsafe { chunk.take_all() };
                    self.unsent = outcomes.places() as u64;
                    take(outcomes);
                    self.report_yielded();
                    self.dispatch.retire(self.job, &chunk);
                }
                Found::Soon | Found::Pending => return None,
                Found::Ready(_) => unreachable!("nothing is ready before everything is"),
                Found::End(end) => {
                    self.end();
                    return Some(end);
                }
            }
        }
    }

    /// The chunks whose outcomes were not all taken, by their first index. The reader keeps them.
    #[expect(unsafe_code, reason = "refers to chunks that it keeps")]
    fn chunks(&mut self) -> Vec<(u64, ChunkSlice)> {
        let chunks = self.dispatch.chunks(self.job);
        // SAFETY: outcomes that are taken all at once are not salvaged. The chunks are kept here.
        let slots = |chunk: &Arc<Chunk>| (chunk.first(), unsafe { chunk.slots(0..chunk.len() as usize) });
        let slots = chunks.iter().map(slots).collect();
        self.kept.extend(chunks);
        slots
    }

    /// Lets go of chunks that are used up, and tells who waits for room.
    fn after_yield(&mut self) {
        if let Some(used) = self.current.take_if(|current| current.at == current.end) {
            self.let_go(used);
        }
        self.report_yielded();
        self.room_min = self.flow.room_min.load(Ordering::SeqCst);
        let room_wanted = self.flow.room_wanted.load(Ordering::SeqCst);
        if room_wanted && self.flow.room_for_any() >= self.room_min {
            self.dispatch.made_room(self.job);
        }
    }

    /// Takes no more of that chunk for now.
    fn let_go(&mut self, current: Current) {
        let Current { chunk, at, from, .. } = current;
        if at > from && chunk.count_taken(at - from) {
            self.dispatch.retire(self.job, &chunk);
            match &mut self.used {
                Some(kept) => kept.push(chunk),
                // Of inputs it holds those that a fenced attempt may still have read.
                None if chunk.is_shared() => drop_in_turn(self.stack(), chunk),
                None => {}
            }
        }
    }

    /// Says how many outcomes were taken. Not at each, because that is dear: less room than is worth telling
    /// of may be kept back for as long as there are outcomes at hand.
    fn report_yielded(&mut self) {
        self.flow.yielded.fetch_add(mem::take(&mut self.unsent), Ordering::SeqCst);
    }

    /// Cancels what is pending; what finished stays until the consumer is closed.
    pub(crate) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.current = None; // what is left there can be salvaged
            self.dispatch.cancel(self.job);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.dispatch.progress(self.job)
    }

    /// Cancels what is pending and lets go of the job.
    pub(crate) fn close(mut self) -> Undropped {
        let mut chunks = self.take_used();
        chunks.append(&mut self.kept);
        chunks.extend(self.current.take().map(|current| current.chunk));
        (chunks, self.dispatch.close(self.job))
    }
}

/// A reader that lets go of its job when it is dropped. What is left of the user's values is then
/// dropped elsewhere, because a `Drop` of ours must not block and users' drops may.
pub(crate) struct ReaderGuard(ManuallyDrop<Reader>);

impl ReaderGuard {
    /// Begins a map: from now on containers fill its window.
    pub(crate) fn of_map(
        dispatch: &Arc<Dispatch>,
        source: JobSource,
        (order, failures): (Order, Failures),
        window: Window,
        retries: Option<Retries>,
        caller: Caller,
    ) -> Result<Self, Reason> {
        let on_failure = failures.on_failure();
        let plan = JobPlan { order, on_failure, window, retries, caller };
        let (job, flow) = dispatch.open(plan, source)?;
        Ok(Self::new(dispatch, job, flow, order, failures))
    }

    /// Begins a map over inputs that are all there, of which nothing is taken before all outcomes are.
    pub(crate) fn of_all(
        dispatch: &Arc<Dispatch>,
        inputs: Values,
        failures: Failures,
        caller: Caller,
    ) -> Result<Self, Reason> {
        let (job, flow) = dispatch.open_with(inputs, failures.on_failure(), caller)?;
        Ok(Self::new(dispatch, job, flow, Order::AtOnce, failures))
    }

    fn new(
        dispatch: &Arc<Dispatch>,
        job: JobId,
        flow: Arc<FlowControl>,
        order: Order,
        failures: Failures,
    ) -> Self {
        Self(ManuallyDrop::new(Reader::new(dispatch, job, flow, order, failures)))
    }

    pub(crate) fn job(&self) -> JobId {
        self.0.job
    }

    /// From now on that handle ends it. If it was used before, it does so now.
    pub(crate) fn ends_by(&self, handle: &AbortHandle) {
        let engine: Arc<dyn Abort> = Arc::clone(&self.0.dispatch) as _;
        if !handle.open(Arc::downgrade(&engine), self.0.job) {
            engine.abort_job(self.0.job);
        }
    }
}

impl Drop for ReaderGuard {
    #[inline(never)] // so that it is compiled once, and not with each type of consumer
    #[expect(unsafe_code, reason = "the reader is closed by value")]
    fn drop(&mut self) {
        // SAFETY: it is dropped here, and only here.
        let reader = unsafe { ManuallyDrop::take(&mut self.0) };
        let (stack, shape) = (reader.stack(), reader.dispatch.settings.shape);
        let_go(stack, move || {
            let (chunks, closed) = reader.close();
            let holds = closed.as_ref().is_some_and(|closed| !closed.0.is_empty() || !closed.1.is_empty());
            if shape.runs_drops() && (!chunks.is_empty() || holds) {
                defer_drop(stack, (chunks, closed));
            }
        });
    }
}

/// Takes the outcomes of one job. Dropped, it lets go of the job.
pub(crate) struct Consumer<I, O, E> {
    reader: ReaderGuard,
    /// Outcomes taken that were `Ok`.
    oks: u64,
    types: Types<I, O, E>,
}

impl<I, O, E> Deref for Consumer<I, O, E> {
    type Target = Reader;

    #[inline]
    fn deref(&self) -> &Reader {
        &self.reader.0
    }
}

impl<I, O, E> DerefMut for Consumer<I, O, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader.0
    }
}

impl<I, O, E> Consumer<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Takes what that reader comes to.
    ///
    /// # Panics
    ///
    /// If it is the reader of a function with other types.
    pub(crate) fn over(reader: ReaderGuard) -> Self {
        assert!(reader.0.dispatch.settings.shape.is::<I, O, E>(), "outcomes are taken as what they are");
        Self { reader, oks: 0, types: PhantomData }
    }

    /// The next outcome, if it is at hand.
    #[inline]
    #[expect(unsafe_code, reason = "moves an outcome out of its chunk")]
    pub(crate) fn take(&mut self) -> Option<Outcome<I, O, E>> {
        let reader = &mut **self;
        let current = reader.current.as_mut()?;
        // SAFETY: only the consumer of a job takes its outcomes; it is one value, and takes by `&mut self`. The types were
        // checked where it was made.
        let outcome: Outcome<I, O, E> = unsafe { current.slots.take(current.at) }?;
        current.at += 1;
        reader.next += 1;
        reader.unsent += 1;
        if current.at == current.end || reader.unsent >= reader.room_min {
            reader.after_yield();
        }
        if outcome.is_ok() {
            self.oks += 1;
        } else if reader.failures != Failures::Yield {
            reader.end();
        }
        Some(outcome)
    }

    /// The next outcome.
    pub(crate) fn poll_next(&mut self, wait: Wait<'_>) -> Poll<Option<Outcome<I, O, E>>> {
        loop {
            if let Some(outcome) = self.take() {
                return Poll::Ready(Some(outcome));
            }
            match Reader::poll_next(self, wait) {
                Reading::Places => {}
                Reading::Pending => return Poll::Pending,
                Reading::End(None) => return Poll::Ready(None),
                Reading::End(Some(end)) => return Poll::Ready(Some(Err(failure_of(end)))),
            }
        }
    }

    /// All outcomes, once they are there. Asked of a consumer that was made for it.
    #[expect(unsafe_code, reason = "moves outcomes out of their chunk")]
    pub(crate) fn poll_all(&mut self, wait: Wait<'_>) -> Option<All<I, O, E>> {
        let mut all = Vec::new();
        let end = self.all(wait, &mut |outcomes| {
            // SAFETY: all places hold outcomes; the types were checked where this was made.
            all = unsafe { outcomes.into_vec() };
        })?;
        Some((all, end.map(failure_of)))
    }

    /// Ends the job, and takes the outputs that had finished and were not yielded, with their
    /// indices, in the order of the inputs.
    #[expect(unsafe_code, reason = "moves outcomes out of their chunks")]
    pub(crate) fn salvage(&mut self) -> Vec<(u64, O)> {
        self.end();
        let expected = self.progress().ok.saturating_sub(self.oks);
        let chunks = self.chunks();
        let mut saved = Vec::new();
        loop {
            for (first, slots) in &chunks {
                for place in slots.places() {
                    // SAFETY: as in `take`.
                    let outcome: Option<Outcome<I, O, E>> = unsafe { slots.take(place) };
                    match outcome {
                        Some(Ok(output)) => saved.push((first + place as u64, output)),
                        Some(failure @ Err(_)) => drop_in_turn(self.stack(), failure),
                        None => {}
                    }
                }
            }
            if saved.len() as u64 >= expected {
                break;
            }
            // What is committed and not there is about to be published by its thread.
            std::thread::yield_now();
        }
        saved.sort_by_key(|(index, _)| *index);
        saved
    }
}

/// What a map ends with, as the failure that its consumer takes.
fn failure_of<I, E>(end: MapEnd) -> Failure<I, E>
where
    I: 'static,
    E: 'static,
{
    match end {
        MapEnd::OfMap(reason) => Failure::of_map(reason),
        MapEnd::OfInput(failure) => *failure.downcast().expect("a failure is of its function's types"),
    }
}

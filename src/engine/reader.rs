//! A reader takes the outcomes of one job out of its chunks, without knowing their types.
//!
//! It is the reading side of all maps, whether a thread blocks on it or a task polls it. It is
//! responsible for order, back-pressure and the end of the job. The dispatch is responsible for
//! waiting. The [`Consumer`](crate::engine::consumer::Consumer) above it knows the types.

use std::collections::VecDeque;
use std::mem::{self, ManuallyDrop};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::JobId;
use crate::contain::drops::{Stack, defer_drop, drop_in_turn, let_go};
use crate::data::chunk::{Chunk, ChunkSlice};
use crate::data::erased::{Buffer, Values};
use crate::data::failure::Reason;
use crate::data::flow_control::FlowControl;
use crate::decide::job::OnFailure;
use crate::decide::limits::Limits;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::abort::{Abort, AbortHandle};
use crate::engine::caller::Caller;
use crate::engine::dispatch::{ClosedJob, Dispatch, Found, JobPlan, Wait};
use crate::engine::map_buffers::{Finished, JobSource, Order};
use crate::engine::map_end::MapEnd;
use crate::engine::progress_handle::{ProgressHandle, ProgressSource, ReadProgress};
use crate::values::progress::Progress;

/// The largest number of outcomes that are held back because there is no room in any case. The report then
/// costs little for each outcome, and a window that becomes wide again is noticed soon.
const REPORT_MAX: u64 = 1_024;

/// The treatment of failures by a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failures {
    /// The first failure ends the map when it happens.
    EndMap,
    /// The first failure ends the map at its place in the order.
    EndMapInOrder,
    /// Each failure is an outcome.
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

/// The result of a reader's poll.
pub(super) enum Reading {
    /// There are places to take from. The first of them may have its outcome.
    Places,
    /// There is no outcome yet. Never returned with [`Wait::Block`].
    Pending,
    /// There are no more outcomes. The map ends with that error, if there is one.
    End(Option<MapEnd>),
}

/// Takes the outcomes of one job.
pub(crate) struct Reader {
    pub(super) dispatch: Arc<Dispatch>,
    pub(crate) job: JobId,
    flow: Arc<FlowControl>,
    order: Order,
    pub(super) failures: Failures,
    /// Whether the job has ended for this reader. Its inputs are then cancelled, and its finished outcomes
    /// can be salvaged.
    pub(crate) ended: bool,
    /// Shows the last progress once the job is closed, if the caller has such a handle.
    progress_source: Option<ProgressSource>,
    /// The index of the next outcome in order.
    pub(super) next: u64,
    /// The number of outcomes that were taken and not yet counted in `flow.yielded`.
    pub(super) unsent: u64,
    /// This many unsent outcomes are worth an update of `flow.yielded`. See [`Reader::worth_a_report`].
    pub(super) report_min: u64,
    /// The places that outcomes are taken from.
    pub(super) current: Option<Current>,
    /// The places that come behind them, in completion order.
    behind: VecDeque<Finished>,
    /// Chunks that are used up, if the caller wants to drop them.
    used: Option<Vec<Arc<Chunk>>>,
    /// Chunks whose outcomes are being salvaged.
    kept: Vec<Arc<Chunk>>,
}

/// Places of a chunk that outcomes are taken from.
pub(super) struct Current {
    pub(super) chunk: Arc<Chunk>,
    pub(super) slots: ChunkSlice,
    /// The next place to take from. `end` is the place after the last one.
    pub(super) at: usize,
    pub(super) end: usize,
    /// The place at which this reader began to take.
    pub(super) from: usize,
}

impl Current {
    /// The places `from..end` of a chunk. The first of them may have been taken before.
    #[expect(unsafe_code, reason = "refers to a chunk that it keeps")]
    fn new(chunk: Arc<Chunk>, from: usize, end: usize) -> Self {
        // SAFETY: outcomes are taken one by one through this value, which keeps the chunk beside the slice.
        let slots = unsafe { chunk.slots(from..end) };
        Self { chunk, slots, at: from, end, from }
    }

    fn of((chunk, places): Finished) -> Self {
        Self::new(chunk, places.start, places.end)
    }
}

/// The rest of a closed job. It holds users' values, whose drops may block, so they are dropped where that is
/// allowed.
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
            progress_source: None,
            next: 0,
            unsent: 0,
            report_min: 1,
            current: None,
            behind: VecDeque::new(),
            used: None,
            kept: Vec::new(),
        }
    }

    /// From now on the caller drops the inputs whose outcomes were taken.
    pub(super) fn keep_used(&mut self) {
        if self.dispatch.settings.shape.input.needs_drop() {
            self.used = Some(Vec::new());
        }
    }

    /// The chunks that were used up since the last call.
    pub(crate) fn take_used(&mut self) -> Vec<Arc<Chunk>> {
        self.used.as_mut().map(mem::take).unwrap_or_default()
    }

    /// The stack that drops of the function's values may need.
    pub(crate) fn stack(&self) -> Stack {
        self.dispatch.settings.stack()
    }

    /// The number of inputs that may be outstanding now.
    pub(crate) fn window(&self) -> u64 {
        self.flow.window.load(Ordering::SeqCst)
    }

    /// Polls for places that may have outcomes. Called when the current places have none at hand.
    pub(super) fn poll_next(&mut self, wait: Wait<'_>) -> Reading {
        if self.ended {
            return Reading::End(None);
        }
        // In completion order the places are committed, so they stay current until their outcomes are
        // published.
        if let Some(current) = self.current.take_if(|_| self.order == Order::Input) {
            self.let_go(current);
        }
        if self.current.is_some() {
            // The thread of the outcome is about to publish it.
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
        if let Some(next) = self.behind.pop_front() {
            self.current = Some(Current::of(next));
            return Reading::Places;
        }
        self.report_yielded();
        match self.dispatch.find(self.job, self.next, wait) {
            Found::Chunk(chunk) => {
                let (from, end) = ((self.next - chunk.first()) as usize, chunk.len() as usize);
                self.current = Some(Current::new(chunk, from, end));
                Reading::Places
            }
            Found::Ready(first, behind) => {
                self.current = Some(Current::of(first));
                self.behind = behind;
                Reading::Places
            }
            Found::Soon | Found::Again | Found::Pending => Reading::Pending,
            Found::End(end) => {
                self.end();
                Reading::End(end)
            }
        }
    }

    /// Takes all outcomes at once and gives them to `take`. Returns the end of the map, or `None` if the
    /// outcomes are not ready yet.
    #[expect(unsafe_code, reason = "moves outcomes out of their chunk")]
    pub(super) fn all(&mut self, wait: Wait<'_>, take: &mut dyn FnMut(Buffer)) -> Option<Option<MapEnd>> {
        loop {
            match self.dispatch.find(self.job, 0, wait) {
                Found::Chunk(chunk) => {
                    // SAFETY: only the consumer of a job takes its outcomes. All of them are committed. The
                    // dispatch has seen the publication of each that was committed before its thread had
                    // published it.
                    let outcomes = unsafe { chunk.take_all() };
                    self.unsent = outcomes.places() as u64;
                    take(outcomes);
                    self.report_yielded();
                    self.dispatch.retire(self.job, &chunk);
                }
                Found::Soon | Found::Again | Found::Pending => return None,
                Found::Ready(..) => unreachable!("there is no completion order"),
                Found::End(end) => {
                    self.end();
                    return Some(end);
                }
            }
        }
    }

    /// The chunks whose outcomes were not all taken, with the index of each chunk's first input. The reader
    /// keeps the chunks.
    #[expect(unsafe_code, reason = "refers to chunks that it keeps")]
    pub(super) fn chunks(&mut self) -> Vec<(u64, ChunkSlice)> {
        let chunks = self.dispatch.chunks(self.job);
        // SAFETY: a map whose outcomes are taken all at once is not salvaged. The reader keeps the chunks.
        let slots = |chunk: &Arc<Chunk>| (chunk.first(), unsafe { chunk.slots(0..chunk.len() as usize) });
        let slots = chunks.iter().map(slots).collect();
        self.kept.extend(chunks);
        slots
    }

    /// Lets go of the current chunk if it is used up, and announces room if a puller waits for it.
    pub(super) fn after_yield(&mut self) {
        if let Some(used) = self.current.take_if(|current| current.at == current.end) {
            self.let_go(used);
        }
        self.report_yielded();
        let room_min = self.flow.room_min.load(Ordering::SeqCst);
        let room_wanted = self.flow.room_wanted.load(Ordering::SeqCst);
        if room_wanted && self.flow.room_for_any() >= room_min {
            self.dispatch.made_room(self.job);
        }
        self.report_min = self.worth_a_report(room_min);
    }

    /// The number of outcomes after which a report may be of use. If the window has become narrower than what
    /// is outstanding, there is no room before the difference is taken.
    fn worth_a_report(&self, room_min: u64) -> u64 {
        room_min.max(self.flow.excess().min(REPORT_MAX))
    }

    /// Stops taking from the current places of a chunk.
    fn let_go(&mut self, current: Current) {
        let Current { chunk, at, from, .. } = current;
        if at > from && chunk.count_taken(at - from) {
            self.dispatch.retire(self.job, &chunk);
            match &mut self.used {
                Some(kept) => kept.push(chunk),
                // The chunk still holds the inputs that a fenced attempt may have gone on reading.
                None if chunk.is_shared() => drop_in_turn(self.stack(), chunk),
                None => {}
            }
        }
    }

    /// Adds the taken outcomes to `flow.yielded`. This is done in batches, because an atomic addition for
    /// each outcome is expensive. Up to `report_min` outcomes may be held back while more are at hand.
    fn report_yielded(&mut self) {
        self.flow.yielded.fetch_add(mem::take(&mut self.unsent), Ordering::SeqCst);
    }

    /// Cancels the pending inputs of the job. Finished outcomes stay until the consumer is closed.
    pub(crate) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.current = None; // outcomes that are left there can be salvaged
            self.behind.clear();
            self.dispatch.cancel(self.job);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.dispatch.progress(self.job)
    }

    /// A handle that shows the progress of the job.
    pub(crate) fn progress_handle(&mut self) -> ProgressHandle {
        let source = self.progress_source.take().unwrap_or_else(ProgressSource::new);
        let handle = source.handle();
        self.shows_by(source);
        handle
    }

    /// Lets the handles of `source` show the progress of the job from now on.
    fn shows_by(&mut self, source: ProgressSource) {
        let function: Arc<dyn ReadProgress> = Arc::clone(&self.dispatch) as _;
        source.open(Arc::downgrade(&function), self.job);
        self.progress_source = Some(source);
    }

    /// Cancels the pending inputs of the job, and returns the rest of the job.
    pub(crate) fn close(mut self) -> Undropped {
        let mut chunks = self.take_used();
        chunks.append(&mut self.kept);
        chunks.extend(self.current.take().map(|current| current.chunk));
        chunks.extend(self.behind.drain(..).map(|(chunk, _)| chunk));
        let closed = self.dispatch.close(self.job);
        if let Some(source) = self.progress_source.take()
            && let Some(last) = closed.as_ref().and_then(|closed| closed.progress)
        {
            source.end(last);
        }
        (chunks, closed)
    }
}

/// A reader that closes its job when it is dropped. The users' values that are left are dropped on another
/// thread, because a `Drop` of this crate must not block, and users' drops may.
pub(crate) struct ReaderGuard(pub(super) ManuallyDrop<Reader>);

impl ReaderGuard {
    /// Begins a map. From now on containers execute the inputs in its window.
    pub(crate) fn of_map(
        dispatch: &Arc<Dispatch>,
        source: JobSource,
        (order, failures): (Order, Failures),
        window: Window,
        (retries, limits): (Option<Retries>, Limits),
        caller: Caller,
    ) -> Result<Self, Reason> {
        let on_failure = failures.on_failure();
        let plan = JobPlan { order, on_failure, window, retries, limits, caller };
        let (job, flow) = dispatch.open(plan, source)?;
        Ok(Self::of(Reader::new(dispatch, job, flow, order, failures)))
    }

    /// Begins a map whose inputs are all there, and whose outcomes are taken all at once.
    pub(crate) fn of_all(
        dispatch: &Arc<Dispatch>,
        inputs: Values,
        failures: Failures,
        caller: Caller,
    ) -> Result<Self, Reason> {
        let (job, flow) = dispatch.open_with(inputs, failures.on_failure(), caller)?;
        Ok(Self::of(Reader::new(dispatch, job, flow, Order::AtOnce, failures)))
    }

    fn of(reader: Reader) -> Self {
        Self(ManuallyDrop::new(reader))
    }

    pub(crate) fn job(&self) -> JobId {
        self.0.job
    }

    /// Lets `handle` end the job from now on. If the handle was used before, the job ends now.
    pub(super) fn ends_by(&self, handle: &AbortHandle) {
        let engine: Arc<dyn Abort> = Arc::clone(&self.0.dispatch) as _;
        if !handle.open(Arc::downgrade(&engine), self.0.job) {
            engine.abort_job(self.0.job);
        }
    }

    /// Lets the handles of `source` show the progress of the job from now on.
    pub(super) fn shows_by(&mut self, source: ProgressSource) {
        self.0.shows_by(source);
    }
}

impl Drop for ReaderGuard {
    #[inline(never)] // so that it is compiled once, and not for each type of consumer
    #[expect(unsafe_code, reason = "the reader is closed by value")]
    fn drop(&mut self) {
        // SAFETY: the reader is taken only here, and the guard is not used after its drop.
        let reader = unsafe { ManuallyDrop::take(&mut self.0) };
        let (stack, shape) = (reader.stack(), reader.dispatch.settings.shape);
        let_go(stack, move || {
            let (chunks, closed) = reader.close();
            let holds = closed.as_ref().is_some_and(|closed| !closed.is_empty());
            if shape.runs_drops() && (!chunks.is_empty() || holds) {
                defer_drop(stack, (chunks, closed));
            }
        });
    }
}

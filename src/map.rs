//! One fan-out: its options before it runs, and its outcomes as an iterator.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::decide::ids::JobId;
use crate::decide::job::{JobKind, OnFailure};
use crate::decide::window::{Window, refill};
use crate::engine::dispatch::{Found, Plan};
use crate::engine::lane::{ChunkOf, Gate, Order, Outcome, Pool, Supply};
use crate::engine::messages::{StartMap, Undelivered};
use crate::failure::{Cause, Failure};
use crate::function::{Running, drop_elsewhere};
use crate::progress::Progress;
use crate::source::Source;

/// A fan-out, not yet begun. It begins with the first outcome that is asked for.
///
/// | setting | default |
/// |---|---|
/// | order | that of the inputs; [`Map::unordered`] yields as they complete |
/// | a failure | ends the map when it happens; see [`Map::return_exceptions`], [`Map::fail_in_order`] |
/// | window | the function's |
#[must_use = "a map does nothing before its first outcome is asked for"]
pub struct Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    running: Arc<Running<I, O, E>>,
    source: Source<I>,
    order: Order,
    failures: Failures,
    window: Option<u64>,
}

/// What a map does with failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failures {
    /// The first one ends the map when it happens.
    EndMap,
    /// The first one ends the map at its place.
    EndMapInOrder,
    /// Each is an outcome.
    Yield,
}

impl<I, O, E> Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(running: Arc<Running<I, O, E>>, source: Source<I>) -> Self {
        Self { running, source, order: Order::Input, failures: Failures::EndMap, window: None }
    }

    /// Yields outcomes as they complete.
    pub fn unordered(mut self) -> Self {
        self.order = Order::Completion;
        self
    }

    /// Yields the outcome of every input, `Ok` or `Err`, and stops for none.
    pub fn return_exceptions(mut self) -> Self {
        self.failures = Failures::Yield;
        self
    }

    /// Yields the first failure at its place, behind the outcomes of all inputs before it.
    pub fn fail_in_order(mut self) -> Self {
        self.failures = Failures::EndMapInOrder;
        self
    }

    /// How many inputs may be outstanding (pulled and not yet yielded): 1 ..= 2^24, and strict.
    pub fn window(mut self, inputs: u64) -> Self {
        self.window = Some(inputs);
        self
    }

    /// The outcomes, as an iterator that blocks. The same as `into_iter`, for chaining adapters.
    pub fn blocking(self) -> Outcomes<I, O, E> {
        self.into_iter()
    }
}

impl<I, O, E> IntoIterator for Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;
    type IntoIter = Outcomes<I, O, E>;

    fn into_iter(self) -> Outcomes<I, O, E> {
        let on_failure = match self.failures {
            Failures::EndMap => OnFailure::EndMap,
            Failures::EndMapInOrder | Failures::Yield => OnFailure::GoOn,
        };
        Outcomes {
            failures: self.failures,
            order: self.order,
            on_failure,
            stage: Stage::Waiting { source: self.source, window: self.window },
            next: 0,
            oks: 0,
            current: None,
            running: self.running,
        }
    }
}

/// The outcomes of a map. Dropping it cancels the map and does not block.
///
/// # Panics
///
/// Never by itself. `next` blocks the thread until the next outcome is there; on a container of the
/// same function, or on the engine, it yields [`Cause::WouldDeadlock`] instead.
pub struct Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    running: Arc<Running<I, O, E>>,
    failures: Failures,
    order: Order,
    on_failure: OnFailure,
    stage: Stage<I>,
    /// The index of the next outcome in order.
    next: u64,
    /// Outcomes yielded that were `Ok`.
    oks: u64,
    /// Where outcomes are being taken from.
    current: Option<Current<I, O, E>>,
}

/// Places of a chunk being taken.
struct Current<I, O, E> {
    chunk: Arc<ChunkOf<I, O, E>>,
    places: Range<usize>,
    /// How many places there were.
    len: usize,
}

impl<I, O, E> Current<I, O, E> {
    fn new(chunk: Arc<ChunkOf<I, O, E>>, places: Range<usize>) -> Self {
        let len = places.len();
        Self { chunk, places, len }
    }
}

enum Stage<I> {
    /// Nothing is pulled.
    Waiting { source: Source<I>, window: Option<u64> },
    /// Under way.
    Open { job: JobId, gate: Arc<Gate> },
    /// The end has been yielded; what finished beside it can be salvaged.
    Ended { job: JobId },
    /// The function does not know of the map any more.
    Closed,
}

impl<I, O, E> Iterator for Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.stage, Stage::Waiting { .. })
            && let Err(failure) = self.open()
        {
            return Some(Err(failure));
        }
        let Stage::Open { job, gate } = &self.stage else { return None };
        let (job, gate) = (*job, Arc::clone(gate));
        loop {
            if let Some(outcome) = self.take_current() {
                gate.yielded.fetch_add(1, Ordering::SeqCst);
                self.after_yield(job, &gate);
                if outcome.is_err() && self.failures != Failures::Yield {
                    self.end(job);
                }
                return Some(outcome);
            }
            if self.running.would_deadlock() {
                self.end(job);
                return Some(Err(Failure::of_map(Cause::WouldDeadlock)));
            }
            match self.running.dispatch.find(job, self.next) {
                Found::Chunk(chunk) => {
                    let from = (self.next - chunk.first()) as usize;
                    let to = chunk.len() as usize;
                    self.current = Some(Current::new(chunk, from..to));
                }
                Found::Ready((chunk, places)) => self.current = Some(Current::new(chunk, places)),
                Found::End(failure) => {
                    self.end(job);
                    return failure.map(Err);
                }
            }
        }
    }
}

impl<I, O, E> Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Begins: from now on containers fill the window.
    fn open(&mut self) -> Result<(), Failure<I, E>> {
        let Stage::Waiting { source, window } = std::mem::replace(&mut self.stage, Stage::Closed) else {
            return Ok(());
        };
        if self.running.would_deadlock() {
            return Err(Failure::of_map(Cause::WouldDeadlock));
        }
        let window = match window {
            Some(inputs) => Window::fixed(inputs).map_err(|error| Failure::of_map(Cause::Config(error)))?,
            None => self.running.default_window,
        };
        let plan = Plan { kind: JobKind::Map, order: self.order, on_failure: self.on_failure, window };
        let (supply, may_block) = match source {
            Source::Inline(inline) => (Supply::Inline(inline), None),
            Source::MayBlock(source) => (Supply::Fed(Arc::new(Pool::new())), Some(source)),
        };
        let dispatch = &self.running.dispatch;
        let (job, gate) = dispatch.open(plan, supply).map_err(Failure::of_map)?;
        if let Some(source) = may_block {
            let broken = Arc::clone(dispatch);
            let guard = Undelivered::new(move || broken.map_undelivered(job));
            self.running.supervisor.do_send(StartMap { job, source, guard });
        }
        self.stage = Stage::Open { job, gate };
        Ok(())
    }

    fn take_current(&mut self) -> Option<Outcome<I, O, E>> {
        let current = self.current.as_mut()?;
        let outcome = loop {
            match (current.chunk.take(current.places.start), self.order) {
                (Some(outcome), _) => break outcome,
                // It is booked, and its thread is about to publish it.
                (None, Order::Completion) => std::thread::yield_now(),
                (None, Order::Input) => {
                    self.current = None;
                    return None;
                }
            }
        };
        current.places.start += 1;
        self.next += 1;
        self.oks += u64::from(outcome.is_ok());
        Some(outcome)
    }

    /// Lets go of chunks that are used up, and tells who waits for room.
    fn after_yield(&mut self, job: JobId, gate: &Gate) {
        if let Some(used) = self.current.take_if(|current| current.places.is_empty()) {
            let all = match self.order {
                Order::Input => true, // taken from its first place to its last
                Order::Completion => used.chunk.count_taken(used.len),
            };
            if all {
                self.running.dispatch.retire(job, used.chunk.first());
            }
        }
        if gate.starved.load(Ordering::SeqCst) {
            let window = gate.window.load(Ordering::SeqCst);
            if gate.outstanding() + refill(window) <= window {
                self.running.dispatch.made_room(job);
            }
        }
    }

    fn end(&mut self, job: JobId) {
        self.running.dispatch.cancel(job);
        self.stage = Stage::Ended { job };
    }

    /// How far the map is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.stage {
            Stage::Waiting { .. } | Stage::Closed => Progress::default(),
            Stage::Open { job, .. } | Stage::Ended { job } => self.running.dispatch.progress(*job),
        }
    }

    /// Ends the map, and gives the outputs that had finished and were not yielded, with their
    /// indices, in the order of the inputs.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.function("f", |n: &u64| if *n == 500 { Err("no") } else { Ok(*n) }).start()?;
    /// let mut outcomes = f.map(0..1000u64).into_iter();
    /// let yielded = outcomes.by_ref().take_while(Result::is_ok).count();
    /// let saved = outcomes.salvage();
    /// assert!(saved.iter().all(|(index, output)| index == output && *output != 500));
    /// assert!(yielded + saved.len() < 1000);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn salvage(mut self) -> Vec<(u64, O)> {
        let job = match &self.stage {
            Stage::Open { job, .. } | Stage::Ended { job } => *job,
            Stage::Waiting { .. } | Stage::Closed => return Vec::new(),
        };
        self.current = None;
        self.running.dispatch.cancel(job);
        let expected = self.progress().ok - self.oks;
        let chunks = self.running.dispatch.chunks(job);
        let mut saved = Vec::new();
        while (saved.len() as u64) < expected {
            for chunk in &chunks {
                let places = 0..chunk.len() as usize;
                let taken = places.filter_map(|place| Some((place, chunk.take(place)?.ok()?)));
                saved.extend(taken.map(|(place, output)| (chunk.first() + place as u64, output)));
            }
            // What is booked and not there is about to be published by its thread.
            std::thread::yield_now();
        }
        saved.sort_by_key(|(index, _)| *index);
        saved
    }
}

impl<I, O, E> Drop for Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        let current = self.current.take();
        let lane = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Open { job, .. } | Stage::Ended { job } => self.running.dispatch.close(job),
            Stage::Waiting { .. } | Stage::Closed => None,
        };
        let needs_drop =
            std::mem::needs_drop::<I>() || std::mem::needs_drop::<O>() || std::mem::needs_drop::<E>();
        let holds = current.is_some() || lane.as_ref().is_some_and(|lane| !lane.is_empty());
        if needs_drop && holds {
            drop_elsewhere((current, lane));
        }
    }
}

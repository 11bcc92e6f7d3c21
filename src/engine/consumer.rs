//! A consumer: it takes the outcomes of one job, one by one, and makes room for new inputs.
//!
//! It is the reading side of maps and calls alike, whoever asks and however they wait; ordering,
//! back-pressure and the end at a failure are here, waiting is the dispatch's.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::decide::ids::JobId;
use crate::decide::job::{JobKind, OnFailure};
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::chunk::Chunk;
use crate::engine::dispatch::{Closed, Dispatch, Found, Patience, Plan};
use crate::engine::drops::{Stack, drop_elsewhere, drop_in_turn, let_go};
use crate::engine::lane::{Because, ChunkOf, Gate, Order, Outcome, Supply};
use crate::failure::{Bug, Cause, Failure};
use crate::progress::Progress;

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

/// What a consumer sees when it looks for the next outcome.
pub(crate) enum Sight<I, O, E> {
    Outcome(Outcome<I, O, E>),
    /// Nothing yet; never with [`Patience::Wait`].
    NotYet,
    /// Nothing more.
    End,
}

impl<I, O, E> Sight<I, O, E> {
    /// The one outcome of a call.
    pub(crate) fn into_outcome(self) -> Outcome<I, O, E> {
        match self {
            Self::Outcome(outcome) => outcome,
            Self::NotYet | Self::End => {
                Err(Failure::of_map(Cause::Engine(Bug("a call ended without an outcome".into()))))
            }
        }
    }
}

/// Takes the outcomes of one job.
pub(crate) struct Consumer<I, O, E> {
    dispatch: Arc<Dispatch<I, O, E>>,
    job: JobId,
    gate: Arc<Gate>,
    order: Order,
    failures: Failures,
    /// Whether the end has been seen: the job is cancelled, what finished beside can be salvaged.
    ended: bool,
    /// The index of the next outcome in order.
    next: u64,
    /// Outcomes taken that were `Ok`.
    oks: u64,
    /// Outcomes taken that the gate has not been told of.
    unsent: u64,
    /// How many of those are worth telling of, as it was when it was last looked at.
    refill: u64,
    /// Where outcomes are being taken from.
    current: Option<Current<I, O, E>>,
    /// Chunks that are used up, if the caller is to drop them.
    used: Option<Vec<Arc<ChunkOf<I, O, E>>>>,
}

/// Places of a chunk being taken.
struct Current<I, O, E> {
    chunk: Arc<ChunkOf<I, O, E>>,
    places: Range<usize>,
    /// The first place that was not taken before.
    from: usize,
}

/// What a closed job leaves behind: users' values, to be dropped where that may block.
pub(crate) type Leftovers<I, O, E> = (Vec<Arc<ChunkOf<I, O, E>>>, Option<Box<Closed<I, O, E>>>);

impl<I, O, E> Consumer<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Begins a map: from now on containers fill its window.
    pub(crate) fn of_map(
        dispatch: &Arc<Dispatch<I, O, E>>,
        supply: Supply<I>,
        order: Order,
        failures: Failures,
        window: Window,
        retries: Option<Retries>,
        caller: Caller,
    ) -> Result<Self, Cause<E>> {
        let on_failure = failures.on_failure();
        let plan = Plan { kind: JobKind::Map, order, on_failure, window, retries, caller };
        let (job, gate) = dispatch.open(plan, supply)?;
        Ok(Self::new(dispatch, job, gate, order, failures))
    }

    /// Begins a call.
    pub(crate) fn of_call(
        dispatch: &Arc<Dispatch<I, O, E>>,
        input: I,
        caller: Caller,
    ) -> Result<Self, Failure<I, E>> {
        let (job, gate) = dispatch.open_call(input, caller)?;
        Ok(Self::new(dispatch, job, gate, Order::Input, Failures::Yield))
    }

    /// Begins a map over inputs that are all there, of which nothing is taken before all outcomes are.
    pub(crate) fn of_all(
        dispatch: &Arc<Dispatch<I, O, E>>,
        inputs: Vec<I>,
        failures: Failures,
        caller: Caller,
    ) -> Result<Self, Cause<E>> {
        let (job, gate) = dispatch.open_with(inputs, failures.on_failure(), caller)?;
        Ok(Self::new(dispatch, job, gate, Order::AtOnce, failures))
    }

    fn new(
        dispatch: &Arc<Dispatch<I, O, E>>,
        job: JobId,
        gate: Arc<Gate>,
        order: Order,
        failures: Failures,
    ) -> Self {
        let dispatch = Arc::clone(dispatch);
        Self {
            dispatch,
            job,
            gate,
            order,
            failures,
            ended: false,
            next: 0,
            oks: 0,
            unsent: 0,
            refill: 1,
            current: None,
            used: None,
        }
    }

    /// From now on the inputs of outcomes that were taken are for the caller to drop.
    pub(crate) fn keep_used(&mut self) {
        if mem::needs_drop::<I>() {
            self.used = Some(Vec::new());
        }
    }

    /// Chunks that were used up since this was last asked.
    pub(crate) fn take_used(&mut self) -> Vec<Arc<ChunkOf<I, O, E>>> {
        self.used.as_mut().map(mem::take).unwrap_or_default()
    }

    /// The stack that drops of the function's values may need.
    pub(crate) fn stack(&self) -> Stack {
        self.dispatch.settings.stack()
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// How many inputs may be outstanding now.
    pub(crate) fn window(&self) -> u64 {
        self.gate.window.load(Ordering::SeqCst)
    }

    /// Whether it has seen the end, of itself or by a failure.
    #[cfg(test)]
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next outcome, if it is at hand.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Outcome<I, O, E>> {
        let current = self.current.as_mut()?;
        let outcome = take(&current.chunk, current.places.start)?;
        current.places.start += 1;
        self.next += 1;
        self.unsent += 1;
        let used_up = current.places.is_empty();
        if used_up || self.unsent >= self.refill {
            self.after_yield();
        }
        if outcome.is_ok() {
            self.oks += 1;
        } else if self.failures != Failures::Yield {
            self.end();
        }
        Some(outcome)
    }

    /// The next outcome.
    pub(crate) fn look(&mut self, patience: Patience<'_>) -> Sight<I, O, E> {
        loop {
            if let Some(outcome) = self.take() {
                return Sight::Outcome(outcome);
            }
            if self.ended {
                return Sight::End;
            }
            // In completion order places are booked, and stay current until their outcomes are there.
            if let Some(current) = self.current.take_if(|_| self.order == Order::Input) {
                self.let_go(current);
            }
            if self.current.is_some() {
                // Its thread is about to publish it.
                match patience {
                    Patience::Wait => std::thread::yield_now(),
                    Patience::Look => return Sight::NotYet,
                    Patience::Task(waker) => {
                        waker.wake_by_ref();
                        return Sight::NotYet;
                    }
                }
                continue;
            }
            self.tell_yielded();
            match self.dispatch.find(self.job, self.next, patience) {
                Found::Chunk(chunk) => {
                    let (from, len) = ((self.next - chunk.first()) as usize, chunk.len() as usize);
                    self.current = Some(Current { chunk, places: from..len, from });
                }
                Found::Ready((chunk, places)) => {
                    let from = places.start;
                    self.current = Some(Current { chunk, places, from });
                }
                Found::Soon | Found::NotYet => return Sight::NotYet,
                Found::End(failure) => {
                    self.end();
                    return failure.map_or(Sight::End, |failure| Sight::Outcome(Err(failure)));
                }
            }
        }
    }

    /// All outcomes, once they are there. Asked of a consumer that was made for it.
    pub(crate) fn look_for_all(&mut self, patience: Patience<'_>) -> Option<All<I, O, E>> {
        let mut all = Vec::new();
        loop {
            match self.dispatch.find(self.job, 0, patience) {
                Found::Chunk(chunk) => {
                    all = take_all(&chunk);
                    self.unsent = all.len() as u64;
                    self.tell_yielded();
                    self.dispatch.retire(self.job, &chunk);
                }
                Found::Soon | Found::NotYet => return None,
                Found::Ready(_) => unreachable!("nothing is ready before everything is"),
                Found::End(failure) => {
                    self.end();
                    return Some((all, failure));
                }
            }
        }
    }

    /// Lets go of chunks that are used up, and tells who waits for room.
    fn after_yield(&mut self) {
        if let Some(used) = self.current.take_if(|current| current.places.is_empty()) {
            self.let_go(used);
        }
        self.tell_yielded();
        self.refill = self.gate.refill.load(Ordering::SeqCst);
        let starved = self.gate.starved.load(Ordering::SeqCst);
        if starved && self.gate.room_for_any() >= self.refill {
            self.dispatch.made_room(self.job);
        }
    }

    /// Takes no more of that chunk for now.
    fn let_go(&mut self, current: Current<I, O, E>) {
        let Current { chunk, places, from } = current;
        if places.start > from && chunk.count_taken(places.start - from) {
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
    fn tell_yielded(&mut self) {
        self.gate.yielded.fetch_add(std::mem::take(&mut self.unsent), Ordering::SeqCst);
    }

    /// Cancels what is pending; what finished stays until the consumer is closed.
    pub(crate) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.current = None; // what is left there can be salvaged
            self.dispatch.cancel(self.job);
        }
    }

    /// Ends every pending input with that cause, which is then its outcome.
    pub(crate) fn end_as(&mut self, cause: impl Fn() -> Cause<E> + Send + Sync + 'static) {
        let cause: Because<E> = Arc::new(cause);
        self.dispatch.cancel_as(self.job, &cause);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.dispatch.progress(self.job)
    }

    /// Ends the job, and takes the outputs that had finished and were not yielded, with their
    /// indices, in the order of the inputs.
    pub(crate) fn salvage(&mut self) -> Vec<(u64, O)> {
        self.end();
        let expected = self.progress().ok.saturating_sub(self.oks);
        let chunks = self.dispatch.chunks(self.job);
        let mut saved = Vec::new();
        loop {
            for chunk in &chunks {
                let places = 0..chunk.len() as usize;
                for (place, outcome) in places.filter_map(|place| Some((place, take(chunk, place)?))) {
                    match outcome {
                        Ok(output) => saved.push((chunk.first() + place as u64, output)),
                        failure @ Err(_) => drop_in_turn(self.stack(), failure),
                    }
                }
            }
            if saved.len() as u64 >= expected {
                break;
            }
            // What is booked and not there is about to be published by its thread.
            std::thread::yield_now();
        }
        saved.sort_by_key(|(index, _)| *index);
        saved
    }

    /// Cancels what is pending and lets go of the job.
    pub(crate) fn close(mut self) -> Leftovers<I, O, E> {
        let mut chunks = self.take_used();
        chunks.extend(self.current.take().map(|current| current.chunk));
        (chunks, self.dispatch.close(self.job))
    }
}

/// The outcome at `place`, if it is there.
#[inline]
#[expect(unsafe_code, reason = "moves an outcome out of its chunk")]
fn take<I, T>(chunk: &Chunk<I, T>, place: usize) -> Option<T> {
    // SAFETY: only the consumer of a job takes its outcomes; it is one value, and takes by `&mut self`.
    unsafe { chunk.take(place) }
}

/// All outcomes of a chunk of which the dispatch has said that they are there.
#[expect(unsafe_code, reason = "moves outcomes out of their chunk")]
fn take_all<I, T>(chunk: &Chunk<I, T>) -> Vec<T> {
    // SAFETY: only the consumer of a job takes its outcomes. All are booked, and of those that were booked
    // before their threads had published them the dispatch has seen each since.
    unsafe { chunk.take_all() }
}

/// A consumer that lets go of its job when it is dropped. What is left of the user's values is then
/// dropped elsewhere, because a `Drop` of ours must not block and users' drops may.
pub(crate) struct Closing<I, O, E>(Option<Consumer<I, O, E>>)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static;

impl<I, O, E> Closing<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(consumer: Consumer<I, O, E>) -> Self {
        Self(Some(consumer))
    }

    pub(crate) fn get(&self) -> &Consumer<I, O, E> {
        self.0.as_ref().expect("taken by drop only")
    }

    pub(crate) fn get_mut(&mut self) -> &mut Consumer<I, O, E> {
        self.0.as_mut().expect("taken by drop only")
    }
}

impl<I, O, E> Drop for Closing<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        let stack = consumer.stack();
        let_go(stack, move || {
            let (chunks, closed) = consumer.close();
            let needs_drop = mem::needs_drop::<I>() || mem::needs_drop::<O>() || mem::needs_drop::<E>();
            let holds = closed.as_ref().is_some_and(|closed| !closed.0.is_empty() || !closed.1.is_empty());
            if needs_drop && (!chunks.is_empty() || holds) {
                drop_elsewhere(stack, (chunks, closed));
            }
        });
    }
}

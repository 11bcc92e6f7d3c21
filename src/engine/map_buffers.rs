//! The state of one map outside the ledger: the chunks of its inputs and outcomes, the source of new inputs,
//! and the signals that its consumer and its feeder wait for. The ledger makes all decisions.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::base::signal::Signal;
use crate::base::sync::{Light, heavy};
use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::flow_control::FlowControl;
use crate::data::prefetch::PrefetchQueue;
use crate::data::shape::Shape;
use crate::data::source::DirectSource;
use crate::decide::job::Span;
use crate::decide::ledger::Mode;
use crate::decide::pacing::SIGNAL_PAUSE;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::ended_inputs::EndedInputs;
use crate::engine::map_end::MapEnd;

/// Finished places of a chunk, in the order of completion.
pub(crate) type Finished = (Arc<Chunk>, Range<usize>);

/// The order in which outcomes are yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Input,
    Completion,
    /// Input order, delivered all at once when the last outcome is ready.
    AtOnce,
}

/// The source of new inputs.
pub(crate) enum JobSource {
    Direct(DirectSource),
    /// A feeder prefetches the inputs, because the source may block.
    Prefetched(Arc<PrefetchQueue>),
    Exhausted,
}

impl JobSource {
    /// Whether its drop drops values of the user's.
    pub(super) fn holds_values(&self) -> bool {
        match self {
            Self::Direct(inline) => inline.holds_values(),
            Self::Prefetched(queue) => queue.holds_values(),
            Self::Exhausted => false,
        }
    }
}

/// The state of one map outside the ledger.
pub(crate) struct MapBuffers {
    shape: &'static Shape,
    pub(crate) order: Order,
    /// The caller that asked for the executions.
    pub(crate) caller: Caller,
    pub(crate) source: JobSource,
    /// The chunks whose outcomes were not all yielded, by their first index.
    pub(crate) chunks: BTreeMap<u64, Arc<Chunk>>,
    /// The chunks of inputs that are executed again, and were moved out of the chunks they came in.
    pub(crate) moved_out: BTreeMap<u64, Arc<Chunk>>,
    /// Committed outcomes that their threads had not published at that time. Not used in completion order.
    /// There is at most one for each thread.
    unpublished: Vec<u64>,
    /// The inputs that have ended and whose failures are not made yet.
    pub(super) ended: EndedInputs,
    /// The outcomes that were not given to the consumer yet, if they are yielded in completion order.
    ready: VecDeque<Finished>,
    /// The error with which the map ends after its outcomes.
    pub(crate) end: Option<MapEnd>,
    /// Whether the source has ended, by itself or because the map ended.
    pub(crate) source_over: bool,
    /// The number of inputs of the source, if it is known.
    pub(super) total: Option<u64>,
    /// The first index that will have no outcome, because the map has ended.
    pub(super) gap_from: Option<u64>,
    /// Whether the consumer has seen the end.
    pub(crate) over: bool,
    pub(crate) flow: Arc<FlowControl>,
    /// Signals the consumer.
    pub(crate) arrived: Arc<Signal>,
    /// Signals the feeder.
    pub(crate) space: Arc<Signal>,
    /// Whether the consumer waits. Written by the consumer.
    pub(crate) awaited: bool,
    /// When the consumer was last signalled because of outcomes.
    told: Option<Time>,
    /// The waker of the consumer, if it waits in a task.
    pub(super) waker: Option<Waker>,
}

impl MapBuffers {
    pub(crate) fn new(shape: &'static Shape, order: Order, source: JobSource, caller: Caller) -> Self {
        let total = match &source {
            JobSource::Direct(inline) => Some(inline.left()),
            JobSource::Prefetched(_) | JobSource::Exhausted => None,
        };
        let flow = Arc::<FlowControl>::default();
        // No container has found the queue empty yet, but the first input is to wake one.
        flow.awaited.store(matches!(source, JobSource::Prefetched(_)), Ordering::SeqCst);
        Self {
            shape,
            order,
            caller,
            source_over: total == Some(0),
            source,
            chunks: BTreeMap::new(),
            moved_out: BTreeMap::new(),
            unpublished: Vec::new(),
            ended: EndedInputs::default(),
            ready: VecDeque::new(),
            end: None,
            total,
            gap_from: None,
            over: false,
            flow,
            arrived: Arc::default(),
            space: Arc::default(),
            awaited: false,
            told: None,
            waker: None,
        }
    }

    /// Ends the source. `end` is the error with which the map ends, unless it already has one of the same or
    /// a greater weight. Returns the source, and the end that the consumer will not see.
    pub(crate) fn end_with(&mut self, end: Option<MapEnd>) -> (JobSource, Option<MapEnd>) {
        let unseen = self.end_as(end);
        self.source_over = true;
        self.space.notify_all();
        (std::mem::replace(&mut self.source, JobSource::Exhausted), unseen)
    }

    /// Sets the error with which the map ends. The first of several ends with the same weight counts. Returns
    /// the end that the consumer will not see.
    pub(crate) fn end_as(&mut self, end: Option<MapEnd>) -> Option<MapEnd> {
        match (self.end.take(), end) {
            (Some(before), Some(end)) if end.weight() > before.weight() => {
                self.end = Some(end);
                Some(before)
            }
            (Some(before), end) => {
                self.end = Some(before);
                end
            }
            (None, end) => {
                self.end = end;
                None
            }
        }
    }

    /// Whether the consumer has been given all outcomes that were committed, in completion order.
    pub(super) fn has_none_ready(&self) -> bool {
        self.ready.is_empty()
    }

    /// Removes the places that were finished first, and those that were finished after them. Each of many
    /// inputs in flight is a range of its own, and the consumer takes all of them with one look.
    pub(super) fn take_ready(&mut self) -> Option<(Finished, VecDeque<Finished>)> {
        let first = self.ready.pop_front()?;
        if self.ready.is_empty() {
            return Some((first, VecDeque::new())); // it keeps its memory for the next outcome
        }
        Some((first, std::mem::take(&mut self.ready)))
    }

    /// Records that the input at `index`, and perhaps later ones, will have no outcome.
    pub(crate) fn gap_at(&mut self, index: u64) {
        self.gap_from = Some(self.gap_from.map_or(index, |first| first.min(index)));
    }

    /// Whether the source brings no more inputs than are available now. A source that a container pulls by
    /// itself makes all its inputs available.
    pub(crate) fn brings_no_more(&self) -> bool {
        self.source_over || !matches!(self.source, JobSource::Prefetched(_))
    }

    /// Whether no more inputs will come from the source or from the feeder's queue.
    pub(super) fn is_exhausted(&self) -> bool {
        let stocked = matches!(&self.source, JobSource::Prefetched(queue) if queue.len() > 0);
        self.source_over && !stocked
    }

    /// The number of inputs that the window holds and that are not in the ledger. These are the inputs in the
    /// queue of the feeder, or the inputs of a direct source that fit into the window. The user of a direct
    /// source cannot see whether an input was pulled or only may be, so both count as pulled.
    pub(crate) fn held_by_window(&self) -> u64 {
        match &self.source {
            JobSource::Direct(inline) if !self.source_over => self.flow.room().min(inline.left()),
            JobSource::Prefetched(queue) => queue.len(),
            JobSource::Direct(_) | JobSource::Exhausted => 0,
        }
    }

    /// The number of inputs that were pulled, or count as pulled, as far as the source knows. Once the source
    /// is over, the ledger knows all of them: an input that the source returned after the end of its map is
    /// dropped and not counted.
    pub(crate) fn pulled(&self) -> u64 {
        let counted = self.flow.pulled.load(Ordering::SeqCst);
        match self.source {
            JobSource::Direct(_) => counted + self.held_by_window(),
            JobSource::Prefetched(_) => counted,
            JobSource::Exhausted => 0,
        }
    }

    /// Refuses the inputs that the feeder pulls from now on. Returns `false` if the system refuses a barrier,
    /// so that it is not known which inputs the feeder has put in until now.
    #[must_use]
    pub(super) fn close_queue(&self) -> bool {
        match &self.source {
            JobSource::Prefetched(queue) => queue.close(),
            JobSource::Direct(_) | JobSource::Exhausted => true,
        }
    }

    /// The chunk that holds the input at `index`.
    pub(crate) fn chunk(&self, index: u64) -> Option<&Arc<Chunk>> {
        if let Some(moved_out) = self.moved_out.get(&index) {
            return Some(moved_out);
        }
        let holds = |(first, chunk): &(&u64, &Arc<Chunk>)| {
            index.checked_sub(**first).is_some_and(|place| place < chunk.len())
        };
        // New inputs are leased from the last chunk, and the consumer of an ordered map reads the first. To
        // look at the two costs far less than a search.
        let last = self.chunks.last_key_value().filter(holds);
        let at_an_end = last.or_else(|| self.chunks.first_key_value().filter(holds));
        let found = at_an_end.or_else(|| self.chunks.range(..=index).next_back().filter(holds));
        found.map(|(_, chunk)| chunk)
    }

    /// Moves an input that is executed again into a chunk of its own. Returns the chunk that it came in, if
    /// that is used up by now.
    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    pub(crate) fn move_out(&mut self, index: u64) -> Option<Arc<Chunk>> {
        if self.order == Order::AtOnce {
            return None; // there is one chunk, whose outcomes are taken as a whole
        }
        let chunk = Arc::clone(self.chunk(index)?);
        // SAFETY: callers hold the function's lock. The input waits in the ledger, without an outcome and
        // without an attempt. Its last attempt has returned or unwound, or was fenced. If it was fenced, the
        // input is marked as shared.
        let moved_out = unsafe { chunk.move_out((index - chunk.first()) as usize) }?;
        self.moved_out.insert(index, Arc::new(moved_out));
        if chunk.count_taken(1) {
            self.chunks.remove(&chunk.first());
            return Some(chunk);
        }
        None
    }

    /// Lets go of a chunk whose outcomes are all taken.
    pub(crate) fn retire(&mut self, chunk: &Arc<Chunk>) {
        let first = chunk.first();
        let chunks = if self.moved_out.get(&first).is_some_and(|moved_out| Arc::ptr_eq(moved_out, chunk)) {
            &mut self.moved_out
        } else {
            &mut self.chunks
        };
        chunks.remove(&first);
    }

    /// Adds a chunk of inputs behind the present ones.
    pub(crate) fn add(&mut self, first: u64, inputs: Values) {
        let before = self.chunks.insert(first, Arc::new(Chunk::new(self.shape, first, inputs)));
        assert!(before.is_none(), "an index has one chunk");
    }

    /// Adds all inputs of a map whose outcomes are taken all at once.
    pub(crate) fn add_all(&mut self, inputs: Values) {
        let len = inputs.len() as u64;
        self.total = Some(len);
        self.flow.pulled.store(len, Ordering::SeqCst);
        self.source_over = true;
        if len > 0 {
            self.add(0, inputs);
        }
    }

    /// Records that the inputs of `span` have their outcomes and that `pending` inputs are left. With `now`,
    /// a consumer that was signalled a moment ago is not signalled again. Returns the waker of a consumer to
    /// wake.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn finished(&mut self, span: Span, pending: u64, now: Option<Time>) -> Option<Waker> {
        let again = now.zip(self.told).is_some_and(|(now, told)| now.since(told) < SIGNAL_PAUSE);
        match self.order {
            // A thread that was signalled a moment ago polls by itself a moment later. The last outcome is
            // signalled at once.
            Order::Input if again && pending > 0 && self.waker.is_none() => None,
            Order::Input => self.tell(now),
            Order::Completion => {
                let chunk = Arc::clone(self.chunk(span.first).expect("finished inputs have a chunk"));
                let first = (span.first - chunk.first()) as usize;
                self.ready.push_back((chunk, first..first + span.len as usize));
                if again && pending > 0 && self.waker.is_none() { None } else { self.tell(now) }
            }
            Order::AtOnce if pending > 0 => None,
            Order::AtOnce => self.wake(),
        }
    }

    /// Records that the outcome at `index`, the last of a range, was committed. A thread advances its run
    /// before it publishes. A consumer that polls in between must not go to sleep, because the publication
    /// does not wake it.
    pub(crate) fn committed(&mut self, index: u64) {
        if self.order != Order::Completion && !self.is_published(index) {
            self.has_unpublished(); // so that published ones do not accumulate
            self.unpublished.push(index);
        }
    }

    /// Whether a committed outcome was not published by its thread yet.
    pub(super) fn has_unpublished(&mut self) -> bool {
        let mut unpublished = std::mem::take(&mut self.unpublished);
        unpublished.retain(|index| !self.is_published(*index));
        self.unpublished = unpublished;
        !self.unpublished.is_empty()
    }

    /// Whether the outcome at `index` was committed before its thread published it.
    pub(crate) fn is_about_to_publish(&self, index: u64) -> bool {
        self.unpublished.contains(&index)
    }

    fn is_published(&self, index: u64) -> bool {
        self.chunk(index).is_none_or(|chunk| chunk.is_published((index - chunk.first()) as usize))
    }

    /// The number of inputs that can be pulled without waiting.
    pub(crate) fn available(&self, mode: Mode) -> u64 {
        match &self.source {
            JobSource::Direct(inline) if mode == Mode::Running => inline.left(),
            JobSource::Prefetched(queue) => queue.len(),
            JobSource::Direct(_) | JobSource::Exhausted => 0,
        }
    }

    /// Records that a container has found no inputs, so that the feeder announces the next one. Returns the
    /// number of inputs that came in between, or `None` if the system refuses the barrier that this needs.
    pub(crate) fn await_inputs(&self, mode: Mode) -> Option<u64> {
        if !matches!(self.source, JobSource::Prefetched(_)) || self.source_over {
            return Some(self.available(mode));
        }
        // This is set before the queue is checked again. Either this thread sees an input that the feeder
        // adds, or the feeder sees that it is awaited.
        self.flow.awaited.store(true, Ordering::SeqCst);
        heavy(Light::of_any()).then(|| self.available(mode))
    }

    /// Records that there is less room than `least`, which would be worth a claim, so that the consumer
    /// announces more room.
    pub(crate) fn request_room(&self, least: u64) {
        // `least` is less than `room_min` if the source has only a few inputs left.
        self.flow.room_min.fetch_min(least, Ordering::SeqCst);
        self.flow.room_wanted.store(true, Ordering::SeqCst);
    }

    /// Moves up to `most` inputs into a new chunk whose first index is `first`. Returns the number of inputs.
    pub(crate) fn pull(&mut self, first: u64, most: u64) -> u64 {
        let inputs: Values = match &mut self.source {
            JobSource::Direct(inline) => {
                let inputs: Values = inline.pull(most);
                self.flow.pulled.fetch_add(inputs.len() as u64, Ordering::SeqCst);
                self.source_over = inline.left() == 0;
                inputs
            }
            JobSource::Prefetched(queue) => queue.take(most),
            JobSource::Exhausted => return 0,
        };
        let pulled = inputs.len() as u64;
        self.flow.accepted.fetch_add(pulled, Ordering::SeqCst);
        if pulled > 0 {
            self.add(first, inputs);
        }
        pulled
    }

    fn tell(&mut self, now: Option<Time>) -> Option<Waker> {
        if self.awaited {
            self.told = now;
        }
        self.wake()
    }

    /// Whether the consumer waits in a task for outcomes of runs, which announce them only at their end.
    pub(super) fn has_polling_task(&self) -> bool {
        self.waker.is_some() && self.order != Order::AtOnce
    }

    /// Whether its drop drops no value of the user's.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
            && self.moved_out.is_empty()
            && !self.source.holds_values()
            && self.end.is_none()
    }

    /// The waker of the consumer if it waits, in a task or as a thread. It must be woken once the lock is
    /// released: a thread that is woken earlier would wait for the lock next.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        if !self.awaited {
            return None;
        }
        let Some(task) = self.waker.take() else { return Some(Waker::from(Arc::clone(&self.arrived))) };
        self.awaited = false; // until the task waits again
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ContainerId, Generation};
    use crate::data::failure::Reason;
    use crate::values::crash::{Crash, Death};
    use crate::values::gave_up::GaveUp;

    fn given_up() -> Reason {
        let last = Arc::new(Crash {
            container: ContainerId(0),
            generation: Generation(1),
            executing: None,
            map: None,
            call: None,
            peak_bytes: None,
            death: Death::Killed,
        });
        Reason::GaveUp(GaveUp::new(Vec::new(), last))
    }

    /// The end that the consumer of a map gets if the map ends with each of these, one after the other.
    fn told(ends: Vec<MapEnd>) -> Option<MapEnd> {
        let shape = Shape::of::<u64, u64, ()>();
        let mut buffers = MapBuffers::new(shape, Order::Input, JobSource::Exhausted, Caller::default());
        let ended = ends.len();
        let unseen = ends.into_iter().filter_map(|end| buffers.end_as(Some(end))).count();
        assert_eq!(unseen + 1, ended, "the consumer gets one end, and the others are given back");
        buffers.end.take()
    }

    #[test]
    fn a_map_ends_with_the_first_of_its_weightiest_ends() {
        let (cancelled, shut_down) =
            (|| MapEnd::OfMap(Reason::Cancelled), || MapEnd::OfMap(Reason::ShutDown));
        let input = || MapEnd::OfInput(Box::new(()));
        let first = told(vec![cancelled(), shut_down()]);
        assert!(matches!(first, Some(MapEnd::OfMap(Reason::Cancelled))));
        for ends in
            [vec![shut_down(), MapEnd::OfMap(given_up())], vec![MapEnd::OfMap(given_up()), shut_down()]]
        {
            assert!(matches!(told(ends), Some(MapEnd::OfMap(Reason::GaveUp(_)))));
        }
        for ends in [vec![MapEnd::OfMap(given_up()), input()], vec![input(), MapEnd::OfMap(given_up())]] {
            assert!(matches!(told(ends), Some(MapEnd::OfInput(_))));
        }
    }
}

//! What one map has outside the ledger: the chunks of its inputs and outcomes, the supply that new inputs
//! come from, and what its consumer waits for. Deciding is the ledger's.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::base::signal::Signal;
use crate::base::sync::{Light, heavy};
use crate::data::chunk::Chunk;
use crate::data::erased::{ErasedValue, Values};
use crate::data::failure::Reason;
use crate::data::flow_control::FlowControl;
use crate::data::prefetch::PrefetchQueue;
use crate::data::shape::Shape;
use crate::data::source::DirectSource;
use crate::decide::job::Span;
use crate::decide::ledger::Mode;
use crate::decide::pacing::SIGNAL_PAUSE;
use crate::decide::time::Time;
use crate::engine::caller::Caller;

/// Finished places of a chunk, in the order of completion.
pub(crate) type Finished = (Arc<Chunk>, Range<usize>);

/// The order in which outcomes are yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Input,
    Completion,
    /// That of the inputs, all at once when the last is there.
    AtOnce,
}

/// Where new inputs come from.
pub(crate) enum JobSource {
    Direct(DirectSource),
    /// A feeder pulls them ahead, because the source may block.
    Prefetched(Arc<PrefetchQueue>),
    Exhausted,
}

impl JobSource {
    /// Whether dropping it drops values of the user's.
    pub(crate) fn holds_values(&self) -> bool {
        match self {
            Self::Direct(inline) => inline.holds_values(),
            Self::Prefetched(queue) => queue.holds_values(),
            Self::Exhausted => false,
        }
    }
}

/// What a map ends with, behind its outcomes.
pub(crate) enum MapEnd {
    /// It ended as a whole.
    OfMap(Reason),
    /// It ended with the failure of an input.
    OfInput(ErasedValue),
}

impl MapEnd {
    /// Of two the one with the greater weight is told: an input's failure goes before all others, then the function's
    /// giving up.
    fn weight(&self) -> u8 {
        match self {
            Self::OfInput(_) => 2,
            Self::OfMap(Reason::GaveUp(_)) => 1,
            Self::OfMap(_) => 0,
        }
    }
}

/// Inputs that have ended without an outcome of their own. Their failures are made when their consumer comes to them,
/// because to make millions of them where a function ends would hold up everyone who needs its lock.
struct Ended {
    len: u64,
    /// Whether the first of them was executing.
    begun: bool,
    reason: Reason,
}

/// What one map has outside the ledger.
pub(crate) struct MapBuffers {
    shape: &'static Shape,
    pub(crate) order: Order,
    /// Who asked for the executions.
    pub(crate) caller: Caller,
    pub(crate) source: JobSource,
    /// Chunks with outcomes not yet yielded, by their first index.
    pub(crate) chunks: BTreeMap<u64, Arc<Chunk>>,
    /// The chunks of inputs that were moved out of the ones they came in, because they are executed again.
    pub(crate) moved_out: BTreeMap<u64, Arc<Chunk>>,
    /// Outcomes that were committed by others before their threads had published them, unless they are
    /// yielded in completion order. At most one for each thread.
    unpublished: Vec<u64>,
    /// Inputs that have ended and whose failures are not made yet, by the first index of each range.
    ended: BTreeMap<u64, Ended>,
    /// In completion order, what the consumer has not been handed.
    pub(crate) ready: VecDeque<Finished>,
    /// The error without an index that the map ends with.
    pub(crate) end: Option<MapEnd>,
    /// Whether the source has ended, by itself or by the end of the map.
    pub(crate) source_over: bool,
    /// Inputs the source had, where it is known.
    pub(crate) total: Option<u64>,
    /// The first index whose slot will stay without an outcome: the map ended at its first failure.
    pub(crate) gap_from: Option<u64>,
    /// Whether the consumer has been told the end.
    pub(crate) over: bool,
    pub(crate) flow: Arc<FlowControl>,
    /// Signals the consumer.
    pub(crate) arrived: Arc<Signal>,
    /// Signals the feeder.
    pub(crate) space: Arc<Signal>,
    /// Whether the consumer waits; written by it.
    pub(crate) awaited: bool,
    /// When the consumer was last told of outcomes.
    told: Option<Time>,
    /// The consumer's task, if it waits in one.
    pub(crate) waker: Option<Waker>,
}

impl MapBuffers {
    pub(crate) fn new(shape: &'static Shape, order: Order, source: JobSource, caller: Caller) -> Self {
        let total = match &source {
            JobSource::Direct(inline) => Some(inline.left()),
            JobSource::Prefetched(_) | JobSource::Exhausted => None,
        };
        let flow = Arc::<FlowControl>::default();
        // No container has looked yet: the first input is to wake one.
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
            ended: BTreeMap::new(),
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

    /// Nothing is pulled any more, and `end` is what the map ends with, unless it has a better one.
    /// Gives back what was not pulled, and the end that its consumer will not see.
    pub(crate) fn end_with(&mut self, end: Option<MapEnd>) -> (JobSource, Option<MapEnd>) {
        let unseen = self.end_as(end);
        self.source_over = true;
        self.space.notify_all();
        (std::mem::replace(&mut self.source, JobSource::Exhausted), unseen)
    }

    /// The map ends with that, if with anything: of several that weigh the same the first counts. Gives back the one that
    /// its consumer will not see.
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

    /// Those inputs have ended. `begun` says whether the first of them was executing.
    pub(crate) fn has_ended(&mut self, span: Span, begun: bool, reason: Reason) {
        self.ended.insert(span.first, Ended { len: span.len, begun, reason });
    }

    /// Takes out up to `most` inputs that have ended, the earliest first: their range, whether the first of them was
    /// executing, and why they have ended.
    pub(crate) fn take_ended(&mut self, most: u64) -> Option<(Span, bool, Reason)> {
        let (first, Ended { len, begun, reason }) = self.ended.pop_first()?;
        if len > most {
            let rest = Ended { len: len - most, begun: false, reason: reason.clone() };
            self.ended.insert(first + most, rest);
        }
        Some((Span { first, len: len.min(most) }, begun, reason))
    }

    /// Whether that input has ended, and its failure is not made yet.
    pub(crate) fn is_failure_due(&self, index: u64) -> bool {
        let before = self.ended.range(..=index).next_back();
        before.is_some_and(|(first, ended)| index - first < ended.len)
    }

    /// Whether any input has ended whose failure is not made yet.
    pub(crate) fn has_failures_due(&self) -> bool {
        !self.ended.is_empty()
    }

    /// That input, and perhaps later ones, will have no outcome.
    pub(crate) fn gap_at(&mut self, index: u64) {
        self.gap_from = Some(self.gap_from.map_or(index, |first| first.min(index)));
    }

    /// Whether nothing will come from the source any more.
    pub(crate) fn is_exhausted(&self) -> bool {
        let stocked = matches!(&self.source, JobSource::Prefetched(queue) if queue.len() > 0);
        self.source_over && !stocked
    }

    /// Inputs that the window holds and that are not in the ledger: those in the queue of a feeder, and those
    /// of a direct source that fit. That source shows no difference between an input that is pulled and one
    /// that may be, so both count as pulled.
    pub(crate) fn held_by_window(&self) -> u64 {
        match &self.source {
            JobSource::Direct(inline) if !self.source_over => self.flow.room().min(inline.left()),
            JobSource::Prefetched(queue) => queue.len(),
            JobSource::Direct(_) | JobSource::Exhausted => 0,
        }
    }

    /// Inputs that were pulled, or count as pulled.
    pub(crate) fn pulled(&self) -> u64 {
        let counted = self.flow.pulled.load(Ordering::SeqCst);
        if let JobSource::Direct(_) = self.source { counted + self.held_by_window() } else { counted }
    }

    /// Refuses what the feeder pulls from now on. `false` if it is not known what it has pulled until now, because the
    /// system refuses a barrier.
    #[must_use]
    pub(crate) fn close_queue(&self) -> bool {
        match &self.source {
            JobSource::Prefetched(queue) => queue.close(),
            JobSource::Direct(_) | JobSource::Exhausted => true,
        }
    }

    /// The chunk that holds `index`.
    pub(crate) fn chunk(&self, index: u64) -> Option<&Arc<Chunk>> {
        if let Some(moved_out) = self.moved_out.get(&index) {
            return Some(moved_out);
        }
        let (first, chunk) = self.chunks.range(..=index).next_back()?;
        (index - first < chunk.len()).then_some(chunk)
    }

    /// Moves an input that is executed again into a chunk of its own. Gives the chunk it came in, if that is used up by
    /// now.
    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    pub(crate) fn move_out(&mut self, index: u64) -> Option<Arc<Chunk>> {
        if self.order == Order::AtOnce {
            return None; // it is one chunk, whose outcomes are taken as a whole
        }
        let chunk = Arc::clone(self.chunk(index)?);
        // SAFETY: callers hold the function's lock. The input waits in the ledger, without an outcome and
        // without an attempt. Its last attempt has returned or unwound, or was fenced, and then the input is
        // marked as shared.
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

    /// Adds a chunk of inputs behind the ones there are.
    pub(crate) fn add(&mut self, first: u64, inputs: Values) {
        let before = self.chunks.insert(first, Arc::new(Chunk::new(self.shape, first, inputs)));
        assert!(before.is_none(), "an index has one chunk");
    }

    /// All inputs there are, where outcomes are taken all at once.
    pub(crate) fn add_all(&mut self, inputs: Values) {
        let len = inputs.len() as u64;
        self.total = Some(len);
        self.flow.pulled.store(len, Ordering::SeqCst);
        self.source_over = true;
        if len > 0 {
            self.add(0, inputs);
        }
    }

    /// Those inputs have their outcomes, and so many are pending; at which moment, where several in a moment
    /// need not be told one by one. Returns whom to wake.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn finished(&mut self, span: Span, pending: u64, now: Option<Time>) -> Option<Waker> {
        let again = now.zip(self.told).is_some_and(|(now, told)| now.since(told) < SIGNAL_PAUSE);
        match self.order {
            // A thread that was told a moment ago polls by itself a moment later; the last is told at once.
            Order::Input if again && pending > 0 && self.waker.is_none() => None,
            Order::Input => self.tell(now),
            Order::Completion => {
                let chunk = Arc::clone(self.chunk(span.first).expect("its inputs are not all yielded"));
                let first = (span.first - chunk.first()) as usize;
                self.ready.push_back((chunk, first..first + span.len as usize));
                if again && pending > 0 && self.waker.is_none() { None } else { self.tell(now) }
            }
            Order::AtOnce if pending > 0 => None,
            Order::AtOnce => self.wake(),
        }
    }

    /// The outcome at `index`, the last of several, has been committed. A thread moves its run on before it
    /// publishes: a consumer that looks in between must not go to sleep, because nobody wakes it again.
    pub(crate) fn committed(&mut self, index: u64) {
        if self.order != Order::Completion && !self.is_published(index) {
            self.has_unpublished(); // so that those that are no more do not pile up
            self.unpublished.push(index);
        }
    }

    /// Whether a thread has yet to publish an outcome that is committed.
    pub(crate) fn has_unpublished(&mut self) -> bool {
        let mut unpublished = std::mem::take(&mut self.unpublished);
        unpublished.retain(|index| !self.is_published(*index));
        self.unpublished = unpublished;
        !self.unpublished.is_empty()
    }

    /// Whether the thread that has the right to publish the outcome at `index` was about to.
    pub(crate) fn is_about_to_publish(&self, index: u64) -> bool {
        self.unpublished.contains(&index)
    }

    fn is_published(&self, index: u64) -> bool {
        self.chunk(index).is_none_or(|chunk| chunk.is_published((index - chunk.first()) as usize))
    }

    /// Inputs that can be had without waiting.
    pub(crate) fn available(&self, mode: Mode) -> u64 {
        match &self.source {
            JobSource::Direct(inline) if mode == Mode::Running => inline.left(),
            JobSource::Prefetched(queue) => queue.len(),
            JobSource::Direct(_) | JobSource::Exhausted => 0,
        }
    }

    /// There are none: from now on the feeder says when it brings one. Returns how many came in between; `None` if the
    /// system refuses the barrier that this takes.
    pub(crate) fn await_inputs(&self, mode: Mode) -> Option<u64> {
        if !matches!(self.source, JobSource::Prefetched(_)) || self.source_over {
            return Some(self.available(mode));
        }
        // Before the look: of what the feeder adds and this, one sees the other.
        self.flow.awaited.store(true, Ordering::SeqCst);
        heavy(Light::of_any()).then(|| self.available(mode))
    }

    /// There is less room than that, which would be worth a claim: from now on the consumer says when there is.
    pub(crate) fn request_room(&self, least: u64) {
        // The last inputs of a source may be fewer than are worth a claim otherwise.
        self.flow.room_min.fetch_min(least, Ordering::SeqCst);
        self.flow.room_wanted.store(true, Ordering::SeqCst);
    }

    /// Moves up to `most` inputs into a chunk whose first index is `first`; returns how many.
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

    /// Whether its consumer waits in a task, for outcomes that a run tells of at its end only.
    pub(crate) fn has_polling_task(&self) -> bool {
        self.waker.is_some() && self.order != Order::AtOnce
    }

    /// Whether dropping it drops no value of the user's.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
            && self.moved_out.is_empty()
            && !self.source.holds_values()
            && self.end.is_none()
    }

    /// Signals the consumer if it waits as a thread; its waker, if it waits as a task, is to be woken
    /// once the lock is released.
    #[must_use = "the waker is to be woken"]
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        if !self.awaited {
            return None;
        }
        self.arrived.notify_all();
        self.waker.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ContainerId, Generation};
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

    /// What a map is told that ends with each of these, one after the other.
    fn told(ends: Vec<MapEnd>) -> Option<MapEnd> {
        let shape = Shape::of::<u64, u64, ()>();
        let mut buffers = MapBuffers::new(shape, Order::Input, JobSource::Exhausted, Caller::default());
        let ended = ends.len();
        let unseen = ends.into_iter().filter_map(|end| buffers.end_as(Some(end))).count();
        assert_eq!(unseen + 1, ended, "one is told, and each other is given back");
        buffers.end.take()
    }

    #[test]
    fn of_several_ends_the_weightiest_is_told_and_of_equals_the_first() {
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

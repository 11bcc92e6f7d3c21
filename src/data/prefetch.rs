//! The prefetch queue of a map: inputs that a feeder has pulled and no container has taken.
//!
//! The feeder puts inputs into blocks, one at a time. It takes no lock, because all containers may be waiting
//! for it, and it needs none, because a queue has one feeder. Containers take ranges of inputs out, under the
//! function's lock. When the map ends or drains, the queue is closed: inputs that were put in before can
//! still be taken, and inputs that the feeder pulls afterwards are returned to it. An input may be put in at
//! the very moment at which the queue is closed. A [`Cursor`] over the places of the block then decides
//! whether the input can be taken or is returned.

#![expect(unsafe_code, reason = "a block is written by the feeder and read behind it")]

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::base::sync::{Light, Mutex, Ordering};
use crate::data::cursor::{Advance, Cursor, CursorPosition};
use crate::data::erased::{Buffer, TypeInfo, Values};
use crate::data::flow_control::FlowControl;

/// The size of a queue's first block, because most windows are narrow at first.
const BLOCK_MIN: usize = 16;
/// The largest block. It is large enough for the cost of allocating it to be negligible, and small
/// compared with a window.
const BLOCK_MAX: usize = 1_024;

/// Places for inputs. The feeder writes a place before the cursor passes it. After that the input is moved
/// out once, by a thread that holds the queue's lock, or by the feeder if the cursor refuses it.
struct Block {
    places: Buffer,
    /// How far the feeder has filled the places.
    filled: Cursor,
}

impl Block {
    fn new(kind: &'static TypeInfo, len: usize, light: Light) -> Self {
        Self { places: Buffer::new(kind, len), filled: Cursor::new(0, len as u64, light) }
    }
}

/// The state under the queue's lock.
struct QueueState {
    kind: &'static TypeInfo,
    /// The blocks that are not entirely taken, oldest first. The feeder fills the last one.
    blocks: VecDeque<Arc<Block>>,
    /// Number of inputs in all blocks but the last. Cached, because counting thousands of blocks at each
    /// claim, under the lock, stalled every container.
    before_last: usize,
    /// The number of inputs of the first block that were taken.
    taken: usize,
    /// The number of inputs in the last block, once the queue accepts no more.
    closed: Option<usize>,
}

impl QueueState {
    /// Adds a block to be filled. The feeder has filled the previous one.
    fn add(&mut self, block: Arc<Block>) {
        self.before_last += self.blocks.back().map_or(0, |last| last.places.places());
        self.blocks.push_back(block);
    }

    /// The number of inputs of the first block that can be taken or were taken.
    fn filled_of_first(&self) -> usize {
        if self.blocks.len() > 1 { self.blocks[0].places.places() } else { self.filled_of_last() }
    }

    fn filled_of_last(&self) -> usize {
        let filled = || self.blocks.back().map_or(0, |last| last.filled.at() as usize);
        self.closed.unwrap_or_else(filled)
    }

    fn len(&self) -> usize {
        self.before_last + self.filled_of_last() - self.taken
    }

    fn take(&mut self, most: usize) -> Values {
        let most = most.min(self.len());
        let mut inputs = Buffer::new(self.kind, most);
        let mut taken = 0;
        while taken < most {
            let places = self.taken..self.filled_of_first().min(self.taken + most - taken);
            let block = Arc::clone(&self.blocks[0]);
            self.taken = places.end;
            // SAFETY: the places are filled, and the cursor has published the writes. Each is taken once,
            // because `taken` only increases.
            unsafe { inputs.move_in(taken, &block.places, places.start, places.len()) };
            taken += places.len();
            if self.taken == block.places.places() {
                self.drop_first();
            }
        }
        // SAFETY: every place of the buffer was filled above. `TypedProducer::push` requires that the inputs
        // may be sent and shared.
        unsafe { Values::of_buffer(inputs) }
    }

    /// Removes the first block, whose inputs were all taken.
    fn drop_first(&mut self) {
        let first = self.blocks.pop_front().expect("its inputs were taken");
        self.taken = 0;
        if self.blocks.is_empty() {
            self.closed = self.closed.map(|_| 0); // nothing is left, and no input comes any more
        } else {
            self.before_last -= first.places.places();
        }
    }
}

impl Drop for QueueState {
    fn drop(&mut self) {
        if self.kind.needs_drop() {
            drop(self.take(usize::MAX));
        }
    }
}

/// The inputs between their feeder and the containers.
pub(crate) struct PrefetchQueue(Mutex<QueueState>);

impl PrefetchQueue {
    /// A queue for inputs of `kind`.
    pub(crate) fn new(kind: &'static TypeInfo) -> Self {
        Self(Mutex::new(QueueState { kind, blocks: VecDeque::new(), before_last: 0, taken: 0, closed: None }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.lock().len() as u64
    }

    /// Whether dropping the queue drops values of the user's.
    pub(crate) fn holds_values(&self) -> bool {
        let state = self.0.lock();
        state.kind.needs_drop() && state.len() > 0
    }

    /// Closes the queue, so that it accepts no input any more. Returns `false` if the system refuses a
    /// barrier. The feeder may then treat one more input as accepted, which no container will take and
    /// which is not dropped.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        let mut state = self.0.lock();
        if state.closed.is_some() {
            return true;
        }
        let fenced = state.blocks.back().map_or(Ok(0), |block| {
            let filled = |position: CursorPosition| position.at as usize;
            block.filled.fence(|| false).map(filled).map_err(filled)
        });
        let (Ok(filled) | Err(filled)) = fenced;
        state.closed = Some(filled);
        fenced.is_ok()
    }

    pub(crate) fn take(&self, most: u64) -> Values {
        self.0.lock().take(usize::try_from(most).unwrap_or(usize::MAX))
    }
}

/// The result of pulling a source.
pub(crate) enum Pulled {
    /// The source has given as many inputs as were asked for.
    Enough,
    /// A container starves for the last input that the source has given.
    Awaited,
    /// The queue is closed. The value is the last input of the source, which was refused.
    Refused(Values),
    /// The source has no more inputs.
    Exhausted,
}

/// A source that gives several inputs at a time, because a call that is not inlined costs
/// more than most inputs do.
pub(crate) trait PullInto: Send {
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Pushes at most `most` inputs into the producer, and decreases `most` by their number.
    fn pull(&mut self, most: &mut u64, producer: &mut Producer) -> Pulled;
}

/// An iterator as a source.
pub(super) struct Iterated<S>(pub(super) S);

impl<S: Iterator + Send> PullInto for Iterated<S>
where
    S::Item: Send + Sync + 'static,
{
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn pull(&mut self, most: &mut u64, producer: &mut Producer) -> Pulled {
        let mut producer = producer.of_type();
        while *most > 0 {
            let Some(input) = self.0.next() else { return Pulled::Exhausted };
            if let Err(input) = producer.push(input) {
                return Pulled::Refused(input);
            }
            *most -= 1;
            if producer.is_awaited() {
                return Pulled::Awaited;
            }
        }
        Pulled::Enough
    }
}

/// A source that is polled, and gives one input at a time.
pub(crate) trait PollPullInto: Send {
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Pushes one input into the producer, if there is one.
    fn poll_pull(self: Pin<&mut Self>, producer: &mut Producer, cx: &mut Context<'_>) -> Poll<Pulled>;
}

impl<S: Stream + Send> PollPullInto for S
where
    S::Item: Send + Sync + 'static,
{
    fn size_hint(&self) -> (usize, Option<usize>) {
        Stream::size_hint(self)
    }

    fn poll_pull(self: Pin<&mut Self>, producer: &mut Producer, cx: &mut Context<'_>) -> Poll<Pulled> {
        let mut producer = producer.of_type();
        self.poll_next(cx).map(|input| match input.map(|input| producer.push(input)) {
            None => Pulled::Exhausted,
            Some(Err(input)) => Pulled::Refused(input),
            Some(Ok(())) if producer.is_awaited() => Pulled::Awaited,
            Some(Ok(())) => Pulled::Enough,
        })
    }
}

/// The writing end of a queue, for its only feeder.
pub(crate) struct Producer {
    queue: Arc<PrefetchQueue>,
    flow: Arc<FlowControl>,
    kind: &'static TypeInfo,
    /// The block that is being filled, and its next place.
    block: Option<(Arc<Block>, usize)>,
    /// The number of inputs that were accepted.
    pushed: u64,
    light: Light,
}

impl Producer {
    pub(crate) fn new(queue: Arc<PrefetchQueue>, flow: Arc<FlowControl>) -> Self {
        let kind = queue.0.lock().kind;
        Self { queue, flow, kind, block: None, pushed: 0, light: Light::get() }
    }

    pub(crate) fn flow(&self) -> &FlowControl {
        &self.flow
    }

    /// The producer for a source, which knows the type of its inputs.
    ///
    /// # Panics
    ///
    /// If the queue holds inputs of another type.
    pub(crate) fn of_type<I: Send + Sync + 'static>(&mut self) -> TypedProducer<'_, I> {
        assert!(self.kind.is::<I>(), "the source is one of another function");
        TypedProducer { producer: self, inputs: PhantomData }
    }

    /// Begins a block. Returns `false` if the queue is closed.
    #[cold]
    fn begin_block(&mut self) -> bool {
        let len = (self.pushed as usize).clamp(BLOCK_MIN, BLOCK_MAX);
        let block = Arc::new(Block::new(self.kind, len, self.light));
        block.filled.begin().expect("no other thread knows of it yet");
        let mut state = self.queue.0.lock();
        if state.closed.is_some() {
            return false;
        }
        state.add(Arc::clone(&block));
        self.block = Some((block, 0));
        true
    }
}

/// A producer for inputs of a known type.
pub(crate) struct TypedProducer<'a, I> {
    producer: &'a mut Producer,
    inputs: PhantomData<fn(I)>,
}

impl<I: Send + Sync + 'static> TypedProducer<'_, I> {
    /// Whether a container waits that may have looked into the queue before the last push.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        // This load comes after the barrier of that push, and the container's look comes after a barrier too.
        // So at least one of them sees the other's store.
        self.producer.flow.awaited.load(Ordering::Relaxed)
    }

    /// Adds an input, or returns it if the queue is closed. The input counts as pulled once it is accepted.
    #[inline]
    pub(crate) fn push(&mut self, input: I) -> Result<(), Values> {
        let producer = &mut *self.producer;
        if producer.block.is_none() && !producer.begin_block() {
            return Err(Values::of(vec![input]));
        }
        let (block, place) = producer.block.as_mut().expect("it was just begun");
        let target = block.places.at(*place).cast::<I>();
        // SAFETY: the type was checked when this producer was made. The cursor has not passed the place, so
        // no other thread touches it.
        unsafe { target.write(input) };
        match block.filled.step(*place as u64, producer.light) {
            Advance::Next => *place += 1,
            Advance::Last => producer.block = None,
            // SAFETY: the input was just written, and the thread that closed the queue does
            // not count it as filled.
            Advance::Fenced => return Err(Values::of(vec![unsafe { target.read() }])),
        }
        producer.pushed += 1;
        producer.flow.pulled.store(producer.pushed, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Arc<PrefetchQueue>, Producer) {
        let queue = Arc::new(PrefetchQueue::new(TypeInfo::of::<Arc<u64>>()));
        (Arc::clone(&queue), Producer::new(queue, Arc::default()))
    }

    fn push(producer: &mut Producer, input: Arc<u64>) -> Result<(), Values> {
        producer.of_type().push(input)
    }

    fn take(queue: &PrefetchQueue, most: u64) -> Vec<u64> {
        queue.take(most).into_vec::<Arc<u64>>().into_iter().map(|input| *input).collect()
    }

    #[test]
    fn inputs_come_out_in_the_order_in_which_they_went_in() {
        let (queue, mut producer) = queue();
        let (mut pushed, mut taken) = (0, Vec::new());
        for some in [1, 40, 3_000, 7] {
            for _ in 0..some {
                push(&mut producer, Arc::new(pushed)).expect("it is open");
                pushed += 1;
            }
            assert_eq!(queue.len(), pushed - taken.len() as u64);
            taken.extend(take(&queue, some / 2));
        }
        taken.extend(take(&queue, u64::MAX));
        assert_eq!(taken, Vec::from_iter(0..pushed));
        assert_eq!(producer.flow().pulled.load(Ordering::SeqCst), pushed);
    }

    #[test]
    fn inputs_without_a_size_are_counted_as_any() {
        let queue = Arc::new(PrefetchQueue::new(TypeInfo::of::<()>()));
        let mut producer = Producer::new(Arc::clone(&queue), Arc::default());
        (0..40).for_each(|_| producer.of_type().push(()).expect("it is open"));
        assert_eq!((queue.take(3).len(), queue.take(20).len(), queue.len()), (3, 20, 17));
        assert_eq!((queue.take(u64::MAX).len(), queue.len()), (17, 0));
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        for before in [0, 3, 16, 20] {
            let (queue, mut producer) = queue();
            (0..before).for_each(|n| push(&mut producer, Arc::new(n)).expect("it is open"));
            assert!(queue.close() && queue.close());
            let late = Arc::new(99);
            let refused = push(&mut producer, Arc::clone(&late)).expect_err("it is closed");
            assert_eq!(refused.into_vec::<Arc<u64>>(), [Arc::new(99)]);
            assert_eq!(Arc::strong_count(&late), 1);
            assert_eq!((queue.len(), queue.take(u64::MAX).len() as u64, queue.len()), (before, before, 0));
        }
    }

    #[test]
    fn what_is_not_taken_is_dropped_once() {
        let (queue, mut producer) = queue();
        let witness = Arc::new(0);
        (0..50).for_each(|_| push(&mut producer, Arc::clone(&witness)).expect("it is open"));
        drop(queue.take(20));
        drop((producer, queue));
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}

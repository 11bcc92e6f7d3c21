//! A pool: inputs that a feeder has pulled and no container has taken.
//!
//! The feeder puts them into blocks, one by one and without a lock, because it is alone and everybody waits
//! for it; containers take them out in ranges, under the function's lock. When the map ends or drains the
//! pool is closed: what was put in before comes out, and what the feeder pulls after that is its own again.
//! Which of the two an input is, put in at that moment, is told as everywhere by a [`Track`], here over the
//! places of a block.

#![expect(unsafe_code, reason = "a block is written by the feeder and read behind it")]

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::base::sync::{Light, Ordering};
use crate::data::erased::{Buffer, Kind, Values};
use crate::data::gate::Gate;
use crate::data::track::{Pace, Standing, Track};

/// The first block of a pool, because most windows begin narrow.
const BLOCK_MIN: usize = 16;
/// A block of a source that goes on: large enough that making it does not show, and small against a window.
const BLOCK_MAX: usize = 1_024;

/// Places for inputs. A place is written by the feeder before the track passes it, and moved out once after that, by
/// whoever holds the pool's lock, or by the feeder where the track refuses it.
struct Block {
    places: Buffer,
    /// How many are filled, by the feeder.
    filled: Track,
}

impl Block {
    fn new(kind: &'static Kind, len: usize, light: Light) -> Self {
        Self { places: Buffer::new(kind, len), filled: Track::new(0, len as u64, light) }
    }
}

/// What is under the pool's lock.
struct Stock {
    kind: &'static Kind,
    /// Those not wholly taken, oldest first. The feeder fills the last.
    blocks: VecDeque<Arc<Block>>,
    /// How many places all but the last have, and so inputs: for each claim to count thousands of blocks would stop everybody
    /// whose feeder is far ahead.
    before_last: usize,
    /// How many inputs of the first are taken.
    taken: usize,
    /// How many of the last there are, once nothing more is accepted.
    closed: Option<usize>,
}

impl Stock {
    /// Adds a block to be filled. The feeder has filled the one before.
    fn add(&mut self, block: Arc<Block>) {
        self.before_last += self.blocks.back().map_or(0, |last| last.places.places());
        self.blocks.push_back(block);
    }

    /// How many inputs of the first block can be taken or were.
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
            // SAFETY: filled, which the track has told with the writing before it; and taken once, because of
            // the count that only moves on.
            unsafe { inputs.move_in(taken, &block.places, places.start, places.len()) };
            taken += places.len();
            if self.taken == block.places.places() {
                self.drop_first();
            }
        }
        // SAFETY: as many as it has places for were moved in. Whoever pushed them knew that they may be sent and shared.
        unsafe { Values::of_buffer(inputs) }
    }

    /// Lets go of the first block, which is wholly taken.
    fn drop_first(&mut self) {
        let first = self.blocks.pop_front().expect("its inputs were taken");
        self.taken = 0;
        if self.blocks.is_empty() {
            self.closed = self.closed.map(|_| 0); // nothing is left, and nothing comes
        } else {
            self.before_last -= first.places.places();
        }
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        if self.kind.needs_drop() {
            drop(self.take(usize::MAX));
        }
    }
}

/// Inputs between their feeder and the containers.
pub(crate) struct Pool(Mutex<Stock>);

impl Pool {
    /// A pool for inputs of that kind.
    pub(crate) fn new(kind: &'static Kind) -> Self {
        Self(Mutex::new(Stock { kind, blocks: VecDeque::new(), before_last: 0, taken: 0, closed: None }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.lock().len() as u64
    }

    /// Whether dropping it drops values of the user's.
    pub(crate) fn holds_values(&self) -> bool {
        let stock = self.0.lock();
        stock.kind.needs_drop() && stock.len() > 0
    }

    /// Accepts nothing any more. `false` if the system refuses a barrier: then the feeder may take an input for accepted
    /// that nobody will see, and that is not dropped either.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        let mut stock = self.0.lock();
        if stock.closed.is_some() {
            return true;
        }
        let fenced = stock.blocks.back().map_or(Ok(0), |block| {
            let filled = |standing: Standing| standing.at as usize;
            block.filled.fence().map(filled).map_err(filled)
        });
        let (Ok(filled) | Err(filled)) = fenced;
        stock.closed = Some(filled);
        fenced.is_ok()
    }

    pub(crate) fn take(&self, most: u64) -> Values {
        self.0.lock().take(usize::try_from(most).unwrap_or(usize::MAX))
    }
}

/// What a source has come to.
pub(crate) enum Pulled {
    /// It has given as many as were asked for.
    Enough,
    /// Somebody starves for what it has given last.
    ForTheStarving,
    /// The pool is closed, and that is the source's last.
    Refused(Values),
    /// It has no more.
    Exhausted,
}

/// A source that gives several inputs at a time, because a call that is not inlined costs more than most
/// inputs do.
pub(crate) trait Flow: Send {
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Gives up to `most` inputs.
    fn pull(&mut self, most: &mut u64, inlet: &mut Inlet) -> Pulled;
}

/// An iterator.
pub(crate) struct Iterated<S>(pub(crate) S);

impl<S: Iterator + Send> Flow for Iterated<S>
where
    S::Item: Send + Sync + 'static,
{
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn pull(&mut self, most: &mut u64, inlet: &mut Inlet) -> Pulled {
        let mut inlet = inlet.of_type();
        while *most > 0 {
            let Some(input) = self.0.next() else { return Pulled::Exhausted };
            if let Err(input) = inlet.push(input) {
                return Pulled::Refused(input);
            }
            *most -= 1;
            if inlet.feeds_the_starving() {
                return Pulled::ForTheStarving;
            }
        }
        Pulled::Enough
    }
}

/// The same of a source that is polled, one input at a time.
pub(crate) trait PolledFlow: Send {
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Gives an input, if there is one.
    fn poll_pull(self: Pin<&mut Self>, inlet: &mut Inlet, cx: &mut Context<'_>) -> Poll<Pulled>;
}

impl<S: Stream + Send> PolledFlow for S
where
    S::Item: Send + Sync + 'static,
{
    fn size_hint(&self) -> (usize, Option<usize>) {
        Stream::size_hint(self)
    }

    fn poll_pull(self: Pin<&mut Self>, inlet: &mut Inlet, cx: &mut Context<'_>) -> Poll<Pulled> {
        let mut inlet = inlet.of_type();
        self.poll_next(cx).map(|input| match input.map(|input| inlet.push(input)) {
            None => Pulled::Exhausted,
            Some(Err(input)) => Pulled::Refused(input),
            Some(Ok(())) if inlet.feeds_the_starving() => Pulled::ForTheStarving,
            Some(Ok(())) => Pulled::Enough,
        })
    }
}

/// Where the one feeder of a pool puts inputs.
pub(crate) struct Inlet {
    pool: Arc<Pool>,
    gate: Arc<Gate>,
    kind: &'static Kind,
    /// The block that is being filled, and the place that is next.
    block: Option<(Arc<Block>, usize)>,
    /// How many were accepted.
    pushed: u64,
    light: Light,
}

impl Inlet {
    pub(crate) fn new(pool: Arc<Pool>, gate: Arc<Gate>) -> Self {
        let kind = pool.0.lock().kind;
        Self { pool, gate, kind, block: None, pushed: 0, light: Light::get() }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The inlet in the hands of a source, which knows the type.
    ///
    /// # Panics
    ///
    /// If the pool is one for inputs of another type.
    pub(crate) fn of_type<I: Send + Sync + 'static>(&mut self) -> InletOf<'_, I> {
        assert!(self.kind.is::<I>(), "the source is one of another function");
        InletOf { inlet: self, inputs: PhantomData }
    }

    /// Begins a block. `false` if the pool is closed.
    #[cold]
    fn begin_block(&mut self) -> bool {
        let len = (self.pushed as usize).clamp(BLOCK_MIN, BLOCK_MAX);
        let block = Arc::new(Block::new(self.kind, len, self.light));
        block.filled.begin().expect("nobody knows of it yet");
        let mut stock = self.pool.0.lock();
        if stock.closed.is_some() {
            return false;
        }
        stock.add(Arc::clone(&block));
        self.block = Some((block, 0));
        true
    }
}

/// An inlet for inputs of a known type.
pub(crate) struct InletOf<'a, I> {
    inlet: &'a mut Inlet,
    inputs: PhantomData<fn(I)>,
}

impl<I: Send + Sync + 'static> InletOf<'_, I> {
    /// Whether a container starves that may have looked into the pool before the last push.
    #[inline]
    pub(crate) fn feeds_the_starving(&self) -> bool {
        // Behind the barrier of that push, as that look is behind one: of the two, one sees the other.
        self.inlet.gate.awaited.load(Ordering::Relaxed)
    }

    /// Adds an input, or gives it back if the pool is closed. It counts as pulled once it is accepted.
    #[inline]
    pub(crate) fn push(&mut self, input: I) -> Result<(), Values> {
        let inlet = &mut *self.inlet;
        if inlet.block.is_none() && !inlet.begin_block() {
            return Err(Values::of(vec![input]));
        }
        let (block, place) = inlet.block.as_mut().expect("it was just begun");
        let target = block.places.at(*place).cast::<I>();
        // SAFETY: the type was checked where this was made. The track has not passed the place, and so nobody else
        // touches it.
        unsafe { target.write(input) };
        match block.filled.step(*place as u64, inlet.light) {
            Pace::Next => *place += 1,
            Pace::Last => inlet.block = None,
            // SAFETY: just written, and whoever closed the pool knows it as not filled.
            Pace::Fenced => return Err(Values::of(vec![unsafe { target.read() }])),
        }
        inlet.pushed += 1;
        inlet.gate.pulled.store(inlet.pushed, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> (Arc<Pool>, Inlet) {
        let pool = Arc::new(Pool::new(Kind::of::<Arc<u64>>()));
        (Arc::clone(&pool), Inlet::new(pool, Arc::default()))
    }

    fn push(inlet: &mut Inlet, input: Arc<u64>) -> Result<(), Values> {
        inlet.of_type().push(input)
    }

    fn take(pool: &Pool, most: u64) -> Vec<u64> {
        pool.take(most).into_vec::<Arc<u64>>().into_iter().map(|input| *input).collect()
    }

    #[test]
    fn inputs_come_out_in_the_order_in_which_they_went_in() {
        let (pool, mut inlet) = pool();
        let (mut pushed, mut taken) = (0, Vec::new());
        for some in [1, 40, 3_000, 7] {
            for _ in 0..some {
                push(&mut inlet, Arc::new(pushed)).expect("it is open");
                pushed += 1;
            }
            assert_eq!(pool.len(), pushed - taken.len() as u64);
            taken.extend(take(&pool, some / 2));
        }
        taken.extend(take(&pool, u64::MAX));
        assert_eq!(taken, Vec::from_iter(0..pushed));
        assert_eq!(inlet.gate().pulled.load(Ordering::SeqCst), pushed);
    }

    #[test]
    fn inputs_without_a_size_are_counted_as_any() {
        let pool = Arc::new(Pool::new(Kind::of::<()>()));
        let mut inlet = Inlet::new(Arc::clone(&pool), Arc::default());
        (0..40).for_each(|_| inlet.of_type().push(()).expect("it is open"));
        assert_eq!((pool.take(3).len(), pool.take(20).len(), pool.len()), (3, 20, 17));
        assert_eq!((pool.take(u64::MAX).len(), pool.len()), (17, 0));
    }

    #[test]
    fn a_closed_pool_gives_what_it_has_and_takes_nothing() {
        for before in [0, 3, 16, 20] {
            let (pool, mut inlet) = pool();
            (0..before).for_each(|n| push(&mut inlet, Arc::new(n)).expect("it is open"));
            assert!(pool.close() && pool.close());
            let late = Arc::new(99);
            let refused = push(&mut inlet, Arc::clone(&late)).expect_err("it is closed");
            assert_eq!(refused.into_vec::<Arc<u64>>(), [Arc::new(99)]);
            assert_eq!(Arc::strong_count(&late), 1);
            assert_eq!((pool.len(), pool.take(u64::MAX).len() as u64, pool.len()), (before, before, 0));
        }
    }

    #[test]
    fn what_is_not_taken_is_dropped_once() {
        let (pool, mut inlet) = pool();
        let witness = Arc::new(0);
        (0..50).for_each(|_| push(&mut inlet, Arc::clone(&witness)).expect("it is open"));
        drop(pool.take(20));
        drop((inlet, pool));
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}

//! A pool: inputs that a feeder has pulled and no container has taken.
//!
//! The feeder puts them into blocks, one by one and without a lock, because it is alone and everybody waits
//! for it; containers take them out in ranges, under the function's lock. When the map ends or drains the
//! pool is closed: what was put in before comes out, and what the feeder pulls after that is its own again.
//! Which of the two an input is, put in at that moment, is told as everywhere by a [`Track`], here over the
//! places of a block.

#![expect(unsafe_code, reason = "a block is written by the feeder and read behind it")]

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::{self, MaybeUninit};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::lane::Gate;
use crate::engine::sync::{Light, Ordering};
use crate::engine::track::{Pace, Standing, Track};
use crate::engine::unwind::drop_contained;

/// The first block of a pool, because most windows begin narrow.
const BLOCK_MIN: usize = 16;
/// A block of a source that goes on: large enough that making it does not show, and small against a window.
const BLOCK_MAX: usize = 1_024;

/// Places for inputs.
struct Block<I> {
    places: Box<[UnsafeCell<MaybeUninit<I>>]>,
    /// How many are filled, by the feeder.
    filled: Track,
}

// SAFETY: a place is written by the feeder before the track passes it, and moved out once after that, by
// whoever holds the pool's lock, or by the feeder where the track refuses it. Hence `I: Send`.
unsafe impl<I: Send> Sync for Block<I> {}
// SAFETY: as above.
unsafe impl<I: Send> Send for Block<I> {}

impl<I> Block<I> {
    fn new(len: usize, light: Light) -> Self {
        let places = (0..len).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Self { places, filled: Track::new(0, len as u64, light) }
    }

    /// Moves the input at `place` out.
    ///
    /// # Safety
    ///
    /// It is filled, this thread knows it, and nobody else moves it out.
    unsafe fn take(&self, place: usize) -> I {
        // SAFETY: by the caller's word.
        unsafe { (*self.places[place].get()).assume_init_read() }
    }
}

/// What is under the pool's lock.
struct Stock<I> {
    /// Those not wholly taken, oldest first. The feeder fills the last.
    blocks: VecDeque<Arc<Block<I>>>,
    /// How many places all but the last have, and so inputs: for each claim to count thousands of blocks would stop everybody
    /// whose feeder is far ahead.
    before_last: usize,
    /// How many inputs of the first are taken.
    taken: usize,
    /// How many of the last there are, once nothing more is accepted.
    closed: Option<usize>,
}

impl<I> Stock<I> {
    /// Adds a block to be filled. The feeder has filled the one before.
    fn add(&mut self, block: Arc<Block<I>>) {
        self.before_last += self.blocks.back().map_or(0, |last| last.places.len());
        self.blocks.push_back(block);
    }

    /// How many inputs of the first block can be taken or were.
    fn filled_of_first(&self) -> usize {
        if self.blocks.len() > 1 { self.blocks[0].places.len() } else { self.filled_of_last() }
    }

    fn filled_of_last(&self) -> usize {
        let filled = || self.blocks.back().map_or(0, |last| last.filled.at() as usize);
        self.closed.unwrap_or_else(filled)
    }

    fn len(&self) -> usize {
        self.before_last + self.filled_of_last() - self.taken
    }

    fn take(&mut self, most: usize) -> Vec<I> {
        let most = most.min(self.len()); // not the capacity, which is more for inputs without a size
        let mut inputs = Vec::with_capacity(most);
        while inputs.len() < most {
            let places = self.taken..self.filled_of_first().min(self.taken + most - inputs.len());
            let block = &self.blocks[0];
            self.taken = places.end;
            // SAFETY: filled, which the track has told with the writing before it; and taken once, because of
            // the count that only moves on.
            inputs.extend(places.map(|place| unsafe { block.take(place) }));
            if self.taken == block.places.len() {
                self.drop_first();
            }
        }
        inputs
    }

    /// Lets go of the first block, which is wholly taken.
    fn drop_first(&mut self) {
        let first = self.blocks.pop_front().expect("its inputs were taken");
        self.taken = 0;
        if self.blocks.is_empty() {
            self.closed = self.closed.map(|_| 0); // nothing is left, and nothing comes
        } else {
            self.before_last -= first.places.len();
        }
    }
}

impl<I> Drop for Stock<I> {
    fn drop(&mut self) {
        if mem::needs_drop::<I>() {
            self.take(usize::MAX).into_iter().for_each(drop_contained);
        }
    }
}

/// Inputs between their feeder and the containers.
pub(crate) struct Pool<I>(Mutex<Stock<I>>);

impl<I> Pool<I> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Stock { blocks: VecDeque::new(), before_last: 0, taken: 0, closed: None }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.lock().len() as u64
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

    pub(crate) fn take(&self, most: u64) -> Vec<I> {
        self.0.lock().take(usize::try_from(most).unwrap_or(usize::MAX))
    }
}

/// What a source has come to.
pub(crate) enum Pulled<I> {
    /// It has given as many as were asked for.
    Enough,
    /// Somebody starves for what it has given last.
    ForTheStarving,
    /// The pool is closed, and that is the source's last. Boxed, as by value it would be in every frame of a feeder.
    Refused(Box<I>),
    /// It has no more.
    Exhausted,
}

/// A source that gives several inputs at a time, because a call that is not inlined costs more than most
/// inputs do.
pub(crate) trait Flow<I>: Send {
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Gives up to `most` inputs.
    fn pull(&mut self, most: &mut u64, inlet: &mut Inlet<I>) -> Pulled<I>;
}

impl<I, S: Iterator<Item = I> + Send> Flow<I> for S {
    fn size_hint(&self) -> (usize, Option<usize>) {
        Iterator::size_hint(self)
    }

    fn pull(&mut self, most: &mut u64, inlet: &mut Inlet<I>) -> Pulled<I> {
        while *most > 0 {
            let Some(input) = self.next() else { return Pulled::Exhausted };
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

/// Where the one feeder of a pool puts inputs.
pub(crate) struct Inlet<I> {
    pool: Arc<Pool<I>>,
    gate: Arc<Gate>,
    /// The block that is being filled, and the place that is next.
    block: Option<(Arc<Block<I>>, usize)>,
    /// How many were accepted.
    pushed: u64,
    light: Light,
}

impl<I> Inlet<I> {
    pub(crate) fn new(pool: Arc<Pool<I>>, gate: Arc<Gate>) -> Self {
        Self { pool, gate, block: None, pushed: 0, light: Light::get() }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether a container starves that may have looked into the pool before the last push.
    #[inline]
    pub(crate) fn feeds_the_starving(&self) -> bool {
        // Behind the barrier of that push, as that look is behind one: of the two, one sees the other.
        self.gate.awaited.load(Ordering::Relaxed)
    }

    /// Adds an input, or gives it back if the pool is closed. It counts as pulled once it is accepted.
    #[inline]
    pub(crate) fn push(&mut self, input: I) -> Result<(), Box<I>> {
        let Some((block, place)) = &mut self.block else { return self.push_into_new(input) };
        // SAFETY: the track has not passed the place, and so nobody else touches it.
        unsafe { (*block.places[*place].get()).write(input) };
        match block.filled.step(*place as u64, self.light) {
            Pace::Next => *place += 1,
            Pace::Last => self.block = None,
            // SAFETY: just written, and whoever closed the pool knows it as not filled.
            Pace::Fenced => return Err(Box::new(unsafe { block.take(*place) })),
        }
        self.pushed += 1;
        self.gate.pulled.store(self.pushed, Ordering::Release);
        Ok(())
    }

    #[cold]
    fn push_into_new(&mut self, input: I) -> Result<(), Box<I>> {
        let len = (self.pushed as usize).clamp(BLOCK_MIN, BLOCK_MAX);
        let block = Arc::new(Block::new(len, self.light));
        block.filled.begin().expect("nobody knows of it yet");
        {
            let mut stock = self.pool.0.lock();
            if stock.closed.is_some() {
                return Err(Box::new(input));
            }
            stock.add(Arc::clone(&block));
        }
        self.block = Some((block, 0));
        self.push(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> (Arc<Pool<Arc<u64>>>, Inlet<Arc<u64>>) {
        let pool = Arc::new(Pool::new());
        (Arc::clone(&pool), Inlet::new(pool, Arc::default()))
    }

    #[test]
    fn inputs_come_out_in_the_order_in_which_they_went_in() {
        let (pool, mut inlet) = pool();
        let (mut pushed, mut taken) = (0, Vec::new());
        for some in [1, 40, 3_000, 7] {
            for _ in 0..some {
                inlet.push(Arc::new(pushed)).expect("it is open");
                pushed += 1;
            }
            assert_eq!(pool.len(), pushed - taken.len() as u64);
            taken.extend(pool.take(some / 2).into_iter().map(|input| *input));
        }
        taken.extend(pool.take(u64::MAX).into_iter().map(|input| *input));
        assert_eq!(taken, Vec::from_iter(0..pushed));
        assert_eq!(inlet.gate().pulled.load(Ordering::SeqCst), pushed);
    }

    #[test]
    fn inputs_without_a_size_are_counted_as_any() {
        let pool = Arc::new(Pool::new());
        let mut inlet = Inlet::new(Arc::clone(&pool), Arc::default());
        (0..40).for_each(|_| inlet.push(()).expect("it is open"));
        assert_eq!((pool.take(3).len(), pool.take(20).len(), pool.len()), (3, 20, 17));
        assert_eq!((pool.take(u64::MAX).len(), pool.len()), (17, 0));
    }

    #[test]
    fn a_closed_pool_gives_what_it_has_and_takes_nothing() {
        for before in [0, 3, 16, 20] {
            let (pool, mut inlet) = pool();
            (0..before).for_each(|n| inlet.push(Arc::new(n)).expect("it is open"));
            assert!(pool.close() && pool.close());
            let late = Arc::new(99);
            assert_eq!(inlet.push(Arc::clone(&late)), Err(Box::new(Arc::new(99))));
            assert_eq!(Arc::strong_count(&late), 1);
            assert_eq!((pool.len(), pool.take(u64::MAX).len() as u64, pool.len()), (before, before, 0));
        }
    }

    #[test]
    fn what_is_not_taken_is_dropped_once() {
        let (pool, mut inlet) = pool();
        let witness = Arc::new(0);
        (0..50).for_each(|_| inlet.push(Arc::clone(&witness)).expect("it is open"));
        drop(pool.take(20));
        drop((inlet, pool));
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}

//! What the attempts of a container leave behind, without the outputs that still wait for their consumer.
//!
//! An output cannot be told from a cache or a leak: all three outlive their attempt. But of each run it is
//! known how much it left, and whether its outcomes have been taken. What a run left counts once they have:
//! so nothing that the engine holds is held against the container, and what callers keep is.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::data::chunk::Chunk;
use crate::data::run::Run;
use crate::memory::account::Account;

/// Runs that are looked at after each run, to see whether their outcomes have been taken by now. Runs that are over
/// are forgotten so fast that the books hold at most twice as many as really wait: while each is looked at once,
/// only a third as many are added.
const LOOKS: usize = 4;

/// Runs that are looked at where the answer depends on it, because more than too much is retained in all. So an
/// answer is late by at most a 64th of the runs that wait.
const LOOKS_WHERE_IT_MATTERS: usize = 64;

/// The books on what one generation leaves behind.
#[derive(Debug)]
pub(crate) struct Retained {
    account: &'static Account,
    /// More is too much.
    above: u64,
    /// Runs whose outcomes wait, in no order, and some that are over and were not looked at since.
    waiting: Vec<Waiting>,
    /// The one that is looked at next.
    next: usize,
    /// What they left.
    held: u64,
}

/// A run whose outcomes wait.
#[derive(Debug)]
struct Waiting {
    chunk: Weak<Chunk>,
    /// Places whose outcomes were not all taken when that was seen last.
    places: Range<usize>,
    /// What its attempts left in bytes, and not less than nothing: to have freed what others left is not to
    /// hold outputs.
    left: u64,
}

impl Waiting {
    /// Whether no outcome waits any more. A place whose outcome was taken is not looked at again.
    fn is_over(&mut self) -> bool {
        let Some(chunk) = self.chunk.upgrade() else { return true };
        self.places.start = chunk.taken_up_to(self.places.clone());
        self.places.is_empty()
    }
}

impl Retained {
    pub(crate) fn new(account: &'static Account, above: u64) -> Self {
        Self { account, above, waiting: Vec::new(), next: 0, held: 0 }
    }

    /// Whether too much is retained, after a run whose attempts left so many bytes.
    pub(crate) fn is_too_much_after(&mut self, run: &Run, left: i64) -> bool {
        // What `enter` has built is not left behind, and cannot be got rid of by entering again.
        let matters = self.account.retained() > self.above;
        // Before this run is added, whose outcomes cannot have been taken yet.
        self.look(if matters { LOOKS_WHERE_IT_MATTERS } else { LOOKS });
        if let Ok(left @ 1..) = u64::try_from(left) {
            let (chunk, places) = (Arc::downgrade(&run.chunk), run.places());
            self.waiting.push(Waiting { chunk, places, left });
            self.held += left;
        }
        // Behind the looks: of outcomes that were found to be taken the caller may have freed some since before.
        self.account.retained().saturating_sub(self.held) > self.above
    }

    /// Looks at the next runs, and forgets those that are over.
    fn look(&mut self, runs: usize) {
        for _ in 0..runs.min(self.waiting.len()) {
            if self.next >= self.waiting.len() {
                self.next = 0;
            }
            if self.waiting[self.next].is_over() {
                self.held -= self.waiting.swap_remove(self.next).left;
            } else {
                self.next += 1;
            }
        }
        if self.waiting.len() < self.waiting.capacity() / 4 {
            self.waiting.shrink_to(self.waiting.capacity() / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::erased::Values;
    use crate::data::shape::{Outcome, Shape};
    use crate::memory::accounts::Open;

    type Outcomes = Vec<(Arc<Chunk>, usize)>;

    /// A generation under test: its account, its books, and the outcomes that wait.
    struct Generation {
        account: Open,
        retained: Retained,
        waiting: Outcomes,
    }

    impl Generation {
        fn new(above: u64) -> Self {
            let account = Open::new(None).expect("few are open");
            let retained = Retained::new(account.counters(), above);
            Self { account, retained, waiting: Vec::new() }
        }

        /// Executes those places of a chunk, each of which leaves as many bytes. Whether that is too much.
        fn run(&mut self, chunk: &Arc<Chunk>, places: Range<u64>, bytes: u64) -> bool {
            let run = Run::new(Arc::clone(chunk), places.start, places.end);
            let mut lap = run.begin::<u64, u64, ()>().expect("nobody interferes");
            for place in places.clone() {
                assert!(lap.publish(place).is_ok());
                self.waiting.push((Arc::clone(chunk), place as usize));
            }
            let left = bytes * (places.end - places.start);
            let account = self.account.counters();
            account.end_epoch();
            account.charge(account.epoch(), left as i64, left as i64);
            account.end_epoch();
            self.retained.is_too_much_after(&run, left as i64)
        }

        /// The consumer takes the outcome that has that number among those that wait, and lets go of it if it
        /// does not keep it.
        fn take(&mut self, number: usize, lets_go_of: i64) {
            let (chunk, place) = self.waiting.swap_remove(number);
            #[expect(unsafe_code, reason = "the test is the consumer")]
            // SAFETY: only this thread takes, and the types are those of the chunk.
            let outcome = unsafe { chunk.slots(place..place + 1).take::<Outcome<u64, u64, ()>>(place) };
            assert!(outcome.is_some());
            chunk.count_taken(1);
            let account = self.account.counters();
            account.credit(account.epoch() - 1, lets_go_of); // of an attempt that is over
        }
    }

    fn chunk(inputs: u64) -> Arc<Chunk> {
        let inputs = Values::of(Vec::from_iter(0..inputs));
        Arc::new(Chunk::new(Shape::of::<u64, u64, ()>(), 0, inputs))
    }

    #[test]
    fn a_run_that_waits_for_ever_does_not_keep_those_behind_it_in_the_books() {
        let mut generation = Generation::new(1 << 30);
        let paused = chunk(4);
        assert!(!generation.run(&paused, 0..2, 10));
        assert!(!generation.run(&paused, 2..4, 10));
        generation.waiting.clear();
        let mut most = 0;
        for _ in 0..100_000 {
            assert!(!generation.run(&chunk(1), 0..1, 10));
            generation.take(0, 0);
            most = most.max(generation.retained.waiting.len());
        }
        assert!(most <= 2 * LOOKS, "{most} runs were kept");
        assert!(generation.retained.waiting.capacity() <= 8 * LOOKS);
        assert!(generation.retained.held <= 20 + 10 * 2 * LOOKS as u64);
    }

    #[test]
    fn runs_that_are_over_are_at_most_half_of_those_in_the_books_in_whatever_order_outcomes_are_taken() {
        let mut generation = Generation::new(1 << 30);
        let paused = chunk(10_000);
        for place in 0..10_000 {
            generation.run(&paused, place..place + 1, 1);
        }
        let mut random = 1u64;
        let mut most = 0;
        for _ in 0..50_000 {
            generation.run(&chunk(1), 0..1, 1);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // In disorder, and as many as come.
            generation.take((random >> 33) as usize % generation.waiting.len(), 1);
            most = most.max(generation.retained.waiting.len());
        }
        assert!(most <= 2 * 10_001 + LOOKS, "{most} runs, of which 10 001 wait");
        // All are taken: a few runs later all are forgotten.
        while !generation.waiting.is_empty() {
            generation.take(0, 1);
        }
        for _ in 0..most / (LOOKS - 1) + 2 {
            generation.run(&chunk(1), 0..1, 1);
            generation.take(0, 1);
        }
        assert!(generation.retained.waiting.len() <= LOOKS);
        assert!(generation.retained.waiting.capacity() <= 8 * LOOKS);
    }

    #[test]
    fn what_the_engine_holds_is_not_too_much_and_what_callers_keep_is() {
        let mut generation = Generation::new(100);
        let paused = chunk(1_000);
        // A thousand outputs of ten bytes wait: none of them is held against the container.
        for place in 0..1_000 {
            assert!(!generation.run(&paused, place..place + 1, 10));
        }
        // Ten are taken and kept, which is as much as may be, and then one more.
        (0..10).for_each(|_| generation.take(0, 0));
        let looks = 1_010 / LOOKS_WHERE_IT_MATTERS + 1;
        let answers = |generation: &mut Generation| {
            (0..looks).map(|_| generation.run(&chunk(1), 0..1, 0)).collect::<Vec<_>>()
        };
        assert!(!answers(&mut generation).contains(&true));
        generation.waiting.truncate(990);
        generation.take(500, 0);
        assert!(answers(&mut generation).contains(&true), "it is seen after a 64th of the runs that wait");
        // What callers let go of does not count any more.
        let account = generation.account.counters();
        account.credit(account.epoch() - 1, 20);
        assert!(!answers(&mut generation).contains(&true));
    }
}

//! The memory that the attempts of a container leave behind, without the outputs that still
//! wait for their consumer.
//!
//! An output cannot be distinguished from a cache or a leak, because all three outlive their attempt. But for
//! each run it is known how much it left, and whether its outcomes have been taken. What a run left counts
//! once they have. So outputs that the engine still holds do not count against the container, and outputs
//! that callers keep do.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::data::chunk::Chunk;
use crate::data::run::Run;
use crate::memory::account::Account;

/// The number of runs that are looked at after each run, to see whether their outcomes have been
/// taken. At most half of the runs in the ledger are over: while each run is looked at once, only a
/// third as many are added.
const LOOKS: usize = 4;

/// The number of runs that are looked at if the answer depends on it, because more than the limit is retained
/// in all. The answer is late by at most a 64th of the waiting runs.
const LOOKS_WHERE_IT_MATTERS: usize = 64;

/// The record of the memory that one generation leaves behind.
#[derive(Debug)]
pub(crate) struct Retained {
    account: &'static Account,
    /// The limit. More than this is too much.
    above: u64,
    /// Runs whose outcomes wait, in no order, and some runs that are over and were not looked at since.
    waiting: Vec<WaitingRun>,
    /// The index of the run that is looked at next.
    next: usize,
    /// The bytes that the runs in `waiting` left.
    held: u64,
}

/// A run whose outcomes wait.
#[derive(Debug)]
struct WaitingRun {
    chunk: Weak<Chunk>,
    /// The places whose outcomes were not all taken when the run was last looked at.
    places: Range<usize>,
    /// Bytes its attempts left allocated, at least 0. A run that freed more than it
    /// allocated holds no outputs.
    left: u64,
}

impl WaitingRun {
    /// Whether no outcome of the run waits any more. A place whose outcome was taken is not looked at again.
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

    /// Whether too much is retained after a run whose attempts left `left` bytes.
    pub(crate) fn is_too_much_after(&mut self, run: &Run, left: i64) -> bool {
        // The memory of `enter` is not part of this, because entering again would not free it.
        let matters = self.account.retained() > self.above;
        // The looks come before this run is added, because its outcomes cannot have been taken yet.
        self.look(if matters { LOOKS_WHERE_IT_MATTERS } else { LOOKS });
        if let Ok(left @ 1..) = u64::try_from(left) {
            let (chunk, places) = (Arc::downgrade(&run.chunk), run.places());
            self.waiting.push(WaitingRun { chunk, places, left });
            self.held += left;
        }
        // The account is read after the looks, because the caller may have freed outcomes that
        // were found to be taken.
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

    /// The number of runs of a test. Miri is a thousand times as slow.
    const RUNS: u64 = if cfg!(miri) { 400 } else { 100_000 };

    /// The number of outcomes that wait meanwhile.
    const WAITING: u64 = RUNS / 10;

    type Outcomes = Vec<(Arc<Chunk>, usize)>;

    /// A generation under test: its account, its record, and the outcomes that wait.
    struct Generation {
        account: Open,
        retained: Retained,
        waiting: Outcomes,
    }

    impl Generation {
        fn new(above: u64) -> Self {
            let account = Open::new(None).expect("the table has free places");
            let retained = Retained::new(account.counters(), above);
            Self { account, retained, waiting: Vec::new() }
        }

        /// Executes `places` of a chunk, and leaves `bytes` bytes for each. Returns whether
        /// too much is retained.
        fn run(&mut self, chunk: &Arc<Chunk>, places: Range<u64>, bytes: u64) -> bool {
            let run = Run::new(Arc::clone(chunk), places.start, places.end);
            let mut active = run.begin::<u64, u64, ()>().expect("no other thread fences the run");
            for place in places.clone() {
                assert!(active.publish(place).is_ok());
                self.waiting.push((Arc::clone(chunk), place as usize));
            }
            let left = bytes * (places.end - places.start);
            let account = self.account.counters();
            account.end_epoch();
            account.charge(account.epoch(), left as i64, left as i64);
            account.end_epoch();
            self.retained.is_too_much_after(&run, left as i64)
        }

        /// The consumer takes the waiting outcome with the given number, and frees `lets_go_of` bytes of it.
        fn take(&mut self, number: usize, lets_go_of: i64) {
            let (chunk, place) = self.waiting.swap_remove(number);
            #[expect(unsafe_code, reason = "the test is the consumer")]
            // SAFETY: only this thread takes outcomes, and the types are those of the chunk.
            let outcome = unsafe { chunk.slots(place..place + 1).take::<Outcome<u64, u64, ()>>(place) };
            assert!(outcome.is_some());
            chunk.count_taken(1);
            let account = self.account.counters();
            account.credit(account.epoch() - 1, lets_go_of); // the bytes belong to the attempt that is over
        }
    }

    fn chunk(inputs: u64) -> Arc<Chunk> {
        let inputs = Values::of(Vec::from_iter(0..inputs));
        Arc::new(Chunk::new(Shape::of::<u64, u64, ()>(), 0, inputs))
    }

    #[test]
    fn a_run_that_waits_for_ever_does_not_keep_later_runs_in_the_record() {
        let mut generation = Generation::new(1 << 30);
        let paused = chunk(4);
        assert!(!generation.run(&paused, 0..2, 10));
        assert!(!generation.run(&paused, 2..4, 10));
        generation.waiting.clear();
        let mut most = 0;
        for _ in 0..RUNS {
            assert!(!generation.run(&chunk(1), 0..1, 10));
            generation.take(0, 0);
            most = most.max(generation.retained.waiting.len());
        }
        assert!(most <= 2 * LOOKS, "{most} runs were kept");
        assert!(generation.retained.waiting.capacity() <= 8 * LOOKS);
        assert!(generation.retained.held <= 20 + 10 * 2 * LOOKS as u64);
    }

    #[test]
    fn at_most_half_of_the_runs_in_the_record_are_over_whatever_the_order_in_which_outcomes_are_taken() {
        let mut generation = Generation::new(1 << 30);
        let paused = chunk(WAITING);
        for place in 0..WAITING {
            generation.run(&paused, place..place + 1, 1);
        }
        let mut random = 1u64;
        let mut most = 0;
        for _ in 0..RUNS / 2 {
            generation.run(&chunk(1), 0..1, 1);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // One outcome is taken, in random order, for each that is added.
            generation.take((random >> 33) as usize % generation.waiting.len(), 1);
            most = most.max(generation.retained.waiting.len());
        }
        assert!(most <= 2 * (WAITING as usize + 1) + LOOKS, "{most} runs, and {WAITING} and one wait");
        // Once all outcomes are taken, a few more runs make the record forget all runs.
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
    fn outputs_that_the_engine_holds_do_not_count_and_outputs_that_callers_keep_do() {
        let mut generation = Generation::new(100);
        let paused = chunk(1_000);
        // A thousand outputs of ten bytes wait. None of them counts against the container.
        for place in 0..1_000 {
            assert!(!generation.run(&paused, place..place + 1, 10));
        }
        // Ten outputs are taken and kept, which is exactly the limit, and then one more.
        (0..10).for_each(|_| generation.take(0, 0));
        let looks = 1_010 / LOOKS_WHERE_IT_MATTERS + 1;
        let answers = |generation: &mut Generation| {
            (0..looks).map(|_| generation.run(&chunk(1), 0..1, 0)).collect::<Vec<_>>()
        };
        assert!(!answers(&mut generation).contains(&true));
        generation.waiting.truncate(990);
        generation.take(500, 0);
        assert!(answers(&mut generation).contains(&true), "it is noticed within a 64th of the waiting runs");
        // Bytes that callers free do not count any more.
        let account = generation.account.counters();
        account.credit(account.epoch() - 1, 20);
        assert!(!answers(&mut generation).contains(&true));
    }
}

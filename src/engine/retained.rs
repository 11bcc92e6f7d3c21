//! What the attempts of a container leave behind, without the outputs that still wait for their consumer.
//!
//! An output cannot be told from a cache or a leak: all three outlive their attempt. But of each run it is
//! known how much it left, and whether its outcomes have been taken. What a run left counts once they have:
//! so nothing that the engine holds is held against the container, and what callers keep is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::engine::chunk::Chunk;
use crate::engine::run::Run;
use crate::memory::account::Account;

/// All runs that wait are looked through so seldom, because there may be very many.
const LOOK_EVERY: u64 = 64;

/// The books on what one generation leaves behind.
#[derive(Debug)]
pub(crate) struct Retained<I, T> {
    account: &'static Account,
    /// More is too much.
    above: u64,
    /// Runs whose outcomes wait, oldest first. Behind the first there may be some that do so no more.
    waiting: VecDeque<Waiting<I, T>>,
    /// What they left.
    held: u64,
    /// How often it was more than too much, with that.
    looks: u64,
}

/// A run whose outcomes wait.
#[derive(Debug)]
struct Waiting<I, T> {
    chunk: Weak<Chunk<I, T>>,
    places: Range<usize>,
    /// What its attempts left in bytes, and not less than nothing: to have freed what others left is not to
    /// hold outputs.
    left: u64,
}

impl<I, T> Waiting<I, T> {
    fn is_over(&self) -> bool {
        self.chunk.upgrade().is_none_or(|chunk| chunk.are_taken(self.places.clone()))
    }
}

impl<I, T> Retained<I, T> {
    pub(crate) fn new(account: &'static Account, above: u64) -> Self {
        Self { account, above, waiting: VecDeque::new(), held: 0, looks: 0 }
    }

    /// Whether too much is retained, after a run whose attempts left so many bytes.
    pub(crate) fn is_too_much_after(&mut self, run: &Run<I, T>, left: i64) -> bool {
        if let Ok(left @ 1..) = u64::try_from(left) {
            let (chunk, places) = (Arc::downgrade(&run.chunk), run.places());
            self.waiting.push_back(Waiting { chunk, places, left });
            self.held += left;
        }
        while self.waiting.front().is_some_and(Waiting::is_over) {
            self.held -= self.waiting.pop_front().map_or(0, |waiting| waiting.left);
        }
        // What `enter` has built is not left behind, and cannot be got rid of by entering again.
        if self.account.retained() <= self.above {
            return false;
        }
        self.looks += 1;
        if self.looks.is_multiple_of(LOOK_EVERY) {
            self.waiting.retain(|waiting| !waiting.is_over());
            self.held = self.waiting.iter().map(|waiting| waiting.left).sum();
        }
        self.account.retained().saturating_sub(self.held) > self.above
    }
}

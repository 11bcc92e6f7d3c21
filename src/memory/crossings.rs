//! Accounts that have crossed their limits, from the allocators that see it to the one thread that acts.
//!
//! A list through links that lie beside the accounts, because whoever adds to it may neither lock nor
//! allocate. An account is in it once, however often it is added before it is taken.

use super::sync::{AtomicBool, AtomicU32, Ordering};

/// No account.
const NONE: u32 = 0;

/// What an account has to be in the list.
#[derive(Debug)]
pub(crate) struct Link {
    /// The one that was added before.
    next: AtomicU32,
    listed: AtomicBool,
}

impl Link {
    /// Those in use are in a table, which is all zeros at first.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { next: AtomicU32::new(NONE), listed: AtomicBool::new(false) }
    }
}

/// The list: the one added last, as a number that is not 0.
#[derive(Debug)]
pub(crate) struct Crossings {
    last: AtomicU32,
}

impl Crossings {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { last: AtomicU32::new(NONE) }
    }

    /// Adds the account of that number, whose link this is. Whoever takes is to be woken after it.
    pub(crate) fn add(&self, number: u32, link: &Link) {
        if link.listed.swap(true, Ordering::SeqCst) {
            return; // it will be seen, with whatever was written before
        }
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            link.next.store(last, Ordering::Relaxed);
            match self.last.compare_exchange_weak(last, number, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => last = other,
            }
        }
    }

    /// Takes all that were added, the last one first. Only one thread takes.
    pub(crate) fn take<'a>(&self, link: impl Fn(u32) -> &'a Link, mut taken: impl FnMut(u32)) {
        let mut number = self.last.swap(NONE, Ordering::SeqCst);
        while number != NONE {
            let link = link(number);
            let next = link.next.load(Ordering::Relaxed);
            // From here on it may be added again: what is looked at below was there before, or is told anew.
            link.listed.swap(false, Ordering::SeqCst);
            taken(number);
            number = next;
        }
    }
}

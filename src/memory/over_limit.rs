//! The list of accounts that have crossed their limits. Any thread adds to it inside the allocator, and one
//! thread takes from it.
//!
//! The links of the list lie beside the accounts, because a thread inside the allocator may neither lock nor
//! allocate. An account is in the list once, however often it is added before it is taken.

use super::sync::{AtomicBool, AtomicU32, Ordering};

/// The number that stands for no account.
const NONE: u32 = 0;

/// The link of one account.
#[derive(Debug)]
pub(super) struct Link {
    /// The account that was added before this one.
    next: AtomicU32,
    listed: AtomicBool,
}

impl Link {
    /// Links in use are in a static table, which is all zeros at first.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { next: AtomicU32::new(NONE), listed: AtomicBool::new(false) }
    }
}

/// The list. `last` is the account that was added last.
#[derive(Debug)]
pub(super) struct OverLimitList {
    last: AtomicU32,
}

impl OverLimitList {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { last: AtomicU32::new(NONE) }
    }

    /// Adds the account `number` with its link. The caller wakes the taking thread afterwards.
    pub(crate) fn add(&self, number: u32, link: &Link) {
        if link.listed.swap(true, Ordering::SeqCst) {
            return; // the taking thread will see it, and everything that was written before
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

    /// Takes all accounts in the list, the last one first. Only one thread may take.
    pub(crate) fn take<'a>(&self, link: impl Fn(u32) -> &'a Link, mut taken: impl FnMut(u32)) {
        let mut number = self.last.swap(NONE, Ordering::SeqCst);
        while number != NONE {
            let link = link(number);
            let next = link.next.load(Ordering::Relaxed);
            // From here on the account may be added again. `taken` therefore sees everything that was written
            // before, or the account is in the list once more.
            link.listed.swap(false, Ordering::SeqCst);
            taken(number);
            number = next;
        }
    }
}

//! A queue that can give up an entry from its middle.
//!
//! Everything that waits in the ledger may be cancelled while it waits. A plain queue would have to be
//! searched for the entry, which costs as much as there are entries. Here each operation costs the
//! logarithm of their number.

use std::collections::BTreeMap;
use std::num::NonZeroI64;

/// The position of an entry in its [`Queue`]. The smaller ticket has its turn first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(NonZeroI64);

/// Entries in the order of their turns.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<Ticket, T>,
    /// The last ticket that was given at the back. They are positive, and those given at the front negative.
    back: i64,
    /// The last ticket that was given at the front.
    front: i64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), back: 0, front: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push_back(&mut self, entry: T) -> Ticket {
        self.back += 1;
        let ticket = Ticket(NonZeroI64::new(self.back).expect("it is positive"));
        self.entries.insert(ticket, entry);
        ticket
    }

    pub(crate) fn push_front(&mut self, entry: T) -> Ticket {
        self.front -= 1;
        let ticket = Ticket(NonZeroI64::new(self.front).expect("it is negative"));
        self.entries.insert(ticket, entry);
        ticket
    }

    pub(crate) fn first(&self) -> Option<(Ticket, &T)> {
        self.entries.first_key_value().map(|(ticket, entry)| (*ticket, entry))
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&T> {
        self.entries.get(&ticket)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.entries.get_mut(&ticket)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.entries.remove(&ticket)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        self.entries.iter().map(|(ticket, entry)| (*ticket, entry))
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order_when_any_of_them_leaves() {
        let mut queue = Queue::default();
        let tickets: Vec<Ticket> = (0..5).map(|n| queue.push_back(n)).collect();
        let first = queue.push_front(9);
        assert_eq!(queue.remove(tickets[2]), Some(2));
        assert_eq!(queue.remove(tickets[2]), None);
        assert_eq!(queue.first(), Some((first, &9)));
        let left: Vec<i32> = queue.iter().map(|(_, entry)| *entry).collect();
        assert_eq!(left, [9, 0, 1, 3, 4]);
    }
}

//! A place for one ship.

use std::num::NonZeroU32;

/// A place for one ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Berth {
    metres: NonZeroU32,
    taken: bool,
}

impl Berth {
    pub fn take(&mut self) -> bool {
        !std::mem::replace(&mut self.taken, true)
    }

    pub fn leave(&mut self) {
        self.taken = false;
    }
}

impl PartialOrd for Berth {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.metres.partial_cmp(&other.metres)
    }
}

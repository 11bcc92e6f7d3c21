//! The ways in which inputs end, and how many have ended in each.

/// How an input ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum InputEnd {
    Ok,
    Failed,
    Poisoned,
    Cancelled,
    GivenUp,
}

/// How many inputs ended in each way. At the end of a job `pulled` is the sum of the endings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pulled: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) poisoned: u64,
    pub(crate) cancelled: u64,
    pub(crate) given_up: u64,
    /// Executions that were repeated because a container died. Not an ending.
    pub(crate) replayed: u64,
    /// Executions that were repeated because the function failed. Not an ending.
    pub(crate) retried: u64,
}

impl Counts {
    /// The count of the inputs that ended in the way `how`.
    pub(super) fn of(&mut self, how: InputEnd) -> &mut u64 {
        match how {
            InputEnd::Ok => &mut self.ok,
            InputEnd::Failed => &mut self.failed,
            InputEnd::Poisoned => &mut self.poisoned,
            InputEnd::Cancelled => &mut self.cancelled,
            InputEnd::GivenUp => &mut self.given_up,
        }
    }

    pub(crate) fn ended(self) -> u64 {
        self.ok + self.failed + self.poisoned + self.cancelled + self.given_up
    }

    /// The number of accepted inputs without an outcome.
    pub(crate) fn pending(self) -> u64 {
        self.pulled - self.ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_ends_an_input_and_the_others_are_pending() {
        // Powers of two, so that no two sums are the same.
        let counts = Counts {
            pulled: 100,
            ok: 1,
            failed: 2,
            poisoned: 4,
            cancelled: 8,
            given_up: 16,
            replayed: 32,
            retried: 64,
        };
        assert_eq!(counts.ended(), 31);
        assert_eq!(counts.pending(), 69);
    }
}

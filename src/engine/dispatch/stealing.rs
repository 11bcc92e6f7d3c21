//! Stealing: a container without work gets the inputs that another one has leased and not begun.
//!
//! From which lease, and how much of it, is decided in [`decide::ledger`](crate::decide::ledger).

use std::time::Duration;

use crate::base::ids::LaneId;
use crate::decide::ledger::Steal;
use crate::decide::pacing::STEAL_FOR;
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, State};

/// The result of an attempt to steal a part of another container's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stolen {
    /// The stolen inputs can be claimed.
    Done,
    /// A steal may be worth its cost at that moment.
    Later(Time),
    Nothing,
}

impl Dispatch {
    /// Gives back the inputs that another container has not begun, so that an idle container can claim them.
    pub(super) fn steal(&self, state: &mut State, now: Time) -> Stolen {
        if let Some(at) = state.steal_after.filter(|at| *at > now) {
            return Stolen::Later(at);
        }
        state.commit_ahead(now);
        match state.ledger.steal(now) {
            Steal::Before { from, index, cost } => {
                state.shorten(from, index, cost, now);
                Stolen::Done
            }
            Steal::NotBefore(at) => {
                state.steal_after = Some(at);
                Stolen::Later(at)
            }
            Steal::Nothing => {
                state.steal_after = None;
                Stolen::Nothing
            }
        }
    }
}

impl State {
    /// Whether a sleeping container polls for inputs that another container has leased ahead and not begun.
    /// It polls for a while after the last such lease, because to wake it for each lease would cost more.
    pub(super) fn polls_to_steal(&self, now: Time) -> bool {
        self.lent_ahead.is_some_and(|lent| now.since(lent) < STEAL_FOR)
    }

    /// Ends the lease of a lane before the input at `index`, or at the position that it has reached by now.
    /// The inputs after that wait again.
    pub(crate) fn shorten(&mut self, id: LaneId, index: u64, cost: Option<Duration>, now: Time) {
        let end = self.run(id).expect("a lease has its run").truncate(index);
        self.commit(id, now);
        let job = self.ledger.lease(id).map(|lease| lease.job);
        self.ledger.truncated(id, end, cost);
        job.into_iter().for_each(|job| self.refresh_window(job)); // its inputs may cost more than was known
        self.ledger.note_arrival(now); // what the lease has lost waits again
        self.ends_part(id, false);
    }
}

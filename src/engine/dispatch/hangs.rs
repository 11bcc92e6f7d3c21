//! Containers that hang and are kept, and a function that is exhausted because of them: the events that say
//! so.
//!
//! The ledger knows which containers hang. A function is exhausted if no container is left that takes inputs
//! and as many threads are left behind as may be, so that none can be created.

use crate::base::ids::{Attempt, ContainerId};
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::State;
use crate::values::event::Event;

/// The exhaustion of a function, as subscribers know it.
#[derive(Debug)]
pub(super) struct Exhaustion {
    /// The number of threads that may be left behind.
    abandoned_max: usize,
    /// The moment at which the function was found to be exhausted. Written by `note_exhaustion`.
    since: Option<Time>,
    /// Whether a thread was left behind or has ended, or a container has begun to hang, since the last look.
    pub(super) is_to_be_checked: bool,
}

impl Exhaustion {
    pub(super) fn new(abandoned_max: usize) -> Self {
        Self { abandoned_max, since: None, is_to_be_checked: false }
    }
}

impl State {
    /// Whether no container is left that takes inputs, and none can be created.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.abandoned >= self.exhaustion.abandoned_max && !self.ledger.has_server()
    }

    /// Whether the function takes inputs, or finishes those that it has accepted.
    pub(crate) fn goes_on(&self) -> bool {
        self.broken.is_none() && self.ledger.goes_on()
    }

    /// Emits that the function is exhausted, or no longer is. It is called where the lock is released, so
    /// that a function that gives up in the same moment only gives up.
    pub(super) fn note_exhaustion(&mut self, now: Time) {
        self.exhaustion.is_to_be_checked = false;
        if !self.goes_on() {
            self.exhaustion.since = None; // the event of the end says more
            return;
        }
        match (self.exhaustion.since, self.is_exhausted()) {
            (None, true) => {
                self.exhaustion.since = Some(now);
                let (hung, abandoned) = (self.ledger.hung(), self.abandoned);
                self.emit(Event::Exhausted { hung, abandoned }, now);
            }
            (Some(since), false) => {
                self.exhaustion.since = None;
                self.emit(Event::ExhaustionEnded { after: now.since(since) }, now);
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Emits that a container hangs. `executing` is the input in whose code its thread is stuck, if that is
    /// known.
    pub(super) fn emit_hung(
        &mut self,
        container: ContainerId,
        executing: Option<(u64, Attempt)>,
        caller: Caller,
        now: Time,
    ) {
        self.exhaustion.is_to_be_checked = true;
        let (generation, _) = self.ledger.stage(container);
        let (map, call) = (caller.label().cloned(), caller.call());
        let ((input, attempt), abandoned) = (executing.unzip(), self.abandoned);
        let event = Event::Hung { container, generation, map, call, input, attempt, abandoned };
        self.emit_for(event, caller, now);
    }
}

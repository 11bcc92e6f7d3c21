//! The simulated thread of a container that executes batches. [`code`](super::code) has its steps.

use std::sync::Arc;
use std::task::Waker;

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::code::token::Token;
use crate::data::run::{ActiveRun, Run};
use crate::decide::ledger::Lease;
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, WorkSeeker};
use crate::simulator::readers::Woken;

/// A part of a batch.
pub(super) struct SimPart {
    pub(super) lane: LaneId,
    pub(super) run: Arc<Run>,
    pub(super) lease: Lease,
    /// The place at which its next batch begins. `None` until the part has begun, and once it is over.
    pub(super) place: Option<usize>,
    /// Whether it was asked to begin.
    pub(super) asked: bool,
}

impl SimPart {
    pub(super) fn active(&self, place: usize) -> ActiveRun<'_, u64, u64, u64> {
        self.run.active_at(place)
    }

    pub(super) fn next_batch(&self) -> Vec<u64> {
        self.place.map_or_else(Vec::new, |place| self.active(place).inputs().copied().collect())
    }
}

/// An input in the current call of the code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called {
    pub(super) part: usize,
    pub(super) place: usize,
    pub(super) input: u64,
    /// Whether it has its outcome, or was refused one.
    pub(super) is_over: bool,
}

/// The next step of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Entering,
    /// It asks for a batch, and sleeps if there is none.
    Asking,
    Asleep,
    /// It begins the parts of its batch one by one.
    Beginning,
    /// It is in the user's code.
    Calling,
    /// The user's code waits, in a task.
    Suspended,
    /// The code has returned, and the outcomes are published one by one.
    Publishing {
        miscounts: bool,
    },
    Exiting {
        recycles: bool,
    },
    Over,
}

/// The thread of a container.
pub(super) struct Driver<'a> {
    pub(super) id: ContainerId,
    pub(super) generation: Generation,
    pub(super) phase: Phase,
    pub(super) token: Arc<Token>,
    pub(super) parts: Vec<SimPart>,
    pub(super) called: Vec<Called>,
    /// The place for whose outcome the right to publish was given, in the step before.
    pub(super) granted: Option<usize>,
    /// Whether the batch is a half of one that has crashed.
    pub(super) is_half: bool,
    /// When the thread goes on by itself, if it waits for that.
    pub(super) until: Option<Time>,
    /// The number of times that the future still waits.
    pub(super) waits: u32,
    pub(super) seeker: Option<WorkSeeker<'a>>,
    pub(super) bell: Arc<Woken>,
    pub(super) waker: Waker,
}

impl std::fmt::Debug for Driver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} {:?}, until {:?}", self.id, self.generation, self.phase, self.until)
    }
}

impl<'a> Driver<'a> {
    pub(super) fn new(engine: &Arc<Dispatch>, id: ContainerId, generation: Generation) -> Self {
        let bell = Arc::new(Woken::default());
        let account = engine.open_account().expect("there are accounts enough");
        Self {
            id,
            generation,
            phase: Phase::Entering,
            token: Arc::new(Token::of_no_thread(account)),
            parts: Vec::new(),
            called: Vec::new(),
            granted: None,
            is_half: false,
            until: None,
            waits: 0,
            seeker: None,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The thread is signalled. A thread that does not sleep does not hear that.
    pub(super) fn rings(&mut self) {
        if self.phase == Phase::Asleep && self.seeker.is_none() {
            self.until = Some(Time::default());
        }
    }

    /// When the thread has its next step, if nothing wakes it before.
    pub(super) fn wakes_at(&self) -> Option<Time> {
        match self.phase {
            Phase::Asleep | Phase::Suspended | Phase::Calling => self.until,
            Phase::Over => None,
            _ => Some(Time::default()),
        }
    }

    /// Whether the thread has a step to take.
    pub(super) fn runs(&self, now: Time) -> bool {
        let rang = || self.bell.is_set();
        match self.phase {
            Phase::Asleep | Phase::Suspended if rang() => true,
            _ => self.wakes_at().is_some_and(|at| at <= now),
        }
    }

    /// Code that hangs goes on.
    pub(super) fn recovers(&mut self, now: Time) {
        if self.phase == Phase::Calling {
            self.until.get_or_insert(now);
        }
    }

    /// The inputs that execute and have no outcome, of the parts that are not fenced.
    pub(super) fn executing(&self) -> Vec<u64> {
        self.parts.iter().filter(|part| !part.run.is_fenced()).flat_map(SimPart::next_batch).collect()
    }

    /// Whether only one input executes, and none has executed together with it.
    pub(super) fn executes_one_alone(&self) -> bool {
        let left = self.called.iter().filter(|called| !called.is_over).count();
        let of_this_call = left > usize::from(self.granted.is_some());
        let together = if of_this_call { self.called.len() } else { self.executing().len() };
        self.parts.len() == 1 && together == 1 && self.executing().len() == 1
    }

    pub(super) fn inputs(&self) -> Vec<u64> {
        self.called.iter().map(|called| called.input).collect()
    }

    /// The parts that have not begun have lost their leases.
    pub(super) fn begins_nothing_more(&mut self) {
        self.parts.iter_mut().for_each(|part| part.asked = true);
    }

    /// The batch is over.
    pub(super) fn drops_batch(&mut self) {
        self.parts.clear();
        self.called.clear();
        self.granted = None;
        self.is_half = false;
    }

    /// The leases whose inputs no code has begun.
    pub(super) fn unbegun(&self) -> Vec<(LaneId, Lease)> {
        let unbegun = self.parts.iter().filter(|part| !part.asked && !part.run.is_fenced());
        unbegun.map(|part| (part.lane, part.lease)).collect()
    }
}

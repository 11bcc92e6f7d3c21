//! Threads that have not ended although their generation is over.
//!
//! One that the user's code keeps for an unknown time counts as abandoned. How many there may be is
//! decided in [`memory`](super::memory).

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::token::Token;
use crate::decide::ledger::{ContainerStage, Scene};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::engine::dispatch::State;
use crate::engine::dispatch::memory::used;

/// A thread that has not ended although its generation is over.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) returns: Returns,
    /// The time at which the generation was over.
    pub(super) since: Time,
    /// `None` if the thread has no token yet.
    pub(super) token: Option<Arc<Token>>,
}

impl Detached {
    /// The bytes that the thread still uses.
    pub(super) fn bytes(&self) -> u64 {
        self.token.as_ref().map_or(0, |token| used(token))
    }
}

/// The time at which a detached thread returns from the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returns {
    /// The code waited in a task, so the thread returns as soon as it sees that its generation is over.
    AtOnce,
    /// The code executes, so that time is unknown.
    AsItLikes,
}

impl State {
    /// Whether the thread of a container would be left behind in the user's code if the generation ended now.
    pub(super) fn would_be_abandoned(&mut self, id: ContainerId, scene: &Scene) -> bool {
        let (_, stage) = self.ledger.stage(id);
        if stage == ContainerStage::Live {
            // A thread that waits for work returns as soon as it sees that its generation is over.
            let lanes = &self.seats[id.index()].lanes;
            let waits = match &lanes[..] {
                [only] => !only.at_work || only.suspended,
                _ => self.lane_in_code(id, scene).is_none(),
            };
            self.seats[id.index()].suspended = waits;
        }
        !self.seats[id.index()].suspended
    }

    /// Detaches the thread of a generation that is over. The thread may stay in the user's code for as long
    /// as that code runs. Code that waits in a task is dropped at once.
    pub(super) fn detach(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.ledger.thread_ended(id, generation);
        self.ledger.left(id, generation);
        let returns = if self.seats[id.index()].suspended { Returns::AtOnce } else { Returns::AsItLikes };
        let token = self.token(id, generation).cloned();
        match &token {
            Some(token) if returns == Returns::AsItLikes => token.abandon(),
            Some(token) => token.cancel(),
            None => {}
        }
        let lanes = self.seats[id.index()].lanes.iter().filter_map(|lane| lane.token.as_ref());
        for token in lanes.chain(&token) {
            token.cancellations().cancel_all(&mut self.wakers.woken);
        }
        self.abandoned += usize::from(returns == Returns::AsItLikes);
        self.exhaustion.is_to_be_checked = true;
        let before = self.detached.insert((id, generation), Detached { returns, since: now, token });
        assert!(before.is_none(), "a generation is detached once");
        self.seats[id.index()].lanes.iter_mut().for_each(|lane| lane.at_work = false);
    }

    /// Records that a detached thread has ended. Returns whether there was one.
    pub(super) fn returned(&mut self, id: ContainerId, generation: Generation) -> bool {
        let detached = self.detached.remove(&(id, generation));
        let abandoned = detached.as_ref().is_some_and(|detached| detached.returns == Returns::AsItLikes);
        self.abandoned -= usize::from(abandoned);
        self.exhaustion.is_to_be_checked = true;
        detached.is_some()
    }

    /// The threads that were left behind in the user's code.
    pub(super) fn abandoned(&self) -> impl Iterator<Item = &Detached> {
        self.detached.values().map(steps::each).filter(|detached| detached.returns == Returns::AsItLikes)
    }
}

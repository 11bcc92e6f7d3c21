//! The memory of containers: accounts, kills over the limit, threads left behind, and recycling.

use std::sync::{Arc, Weak};

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::code::token::Token;
use crate::contain::unwind::ignore_panic;
use crate::decide::ledger::{ContainerStage, Leaving, Pressure};
use crate::engine::dispatch::{Detached, Dispatch, State, StateGuard};
use crate::engine::settings::Settings;
use crate::memory::accounts::Open;
use crate::memory::watch::Killer;
use crate::values::crash::Death;
use crate::values::error::ACCOUNTED_INPUTS_MAX;
use crate::values::status::{ContainerMemory, Memory};

/// Kills the generation of a container whose account is over its limit.
struct OverLimitKiller {
    dispatch: Weak<Dispatch>,
    token: Weak<Token>,
    container: ContainerId,
    generation: Generation,
}

impl Killer for OverLimitKiller {
    fn kill(&self) {
        if let Some(dispatch) = self.dispatch.upgrade() {
            ignore_panic(|| dispatch.over_limit(self.container, self.generation));
        }
    }

    fn lower_priority(&self) {
        if let Some(dispatch) = self.dispatch.upgrade() {
            ignore_panic(|| dispatch.lower_priority(self.container, self.generation));
        }
    }

    fn may_wait(&self) -> bool {
        self.token.upgrade().is_some_and(|token| token.has_checkpointed())
    }
}

impl Dispatch {
    /// Opens the account of a generation, if containers have accounts. Returns `Err` if none is free but a
    /// limit needs one.
    pub(crate) fn open_account(&self) -> Result<Option<Open>, Death> {
        let rules = &self.settings.memory;
        let lanes = self.settings.rules.lanes as usize;
        let open = || match lanes {
            2..=ACCOUNTED_INPUTS_MAX => Open::for_attempts(rules.limit, lanes),
            _ => Open::new(rules.limit), // with more lanes, only what the whole container uses is counted
        };
        let account = rules.accounted.then(open).flatten();
        if account.is_none() && rules.limit.is_some() { Err(Death::NoAccount) } else { Ok(account) }
    }

    /// Registers the token of the code of a generation. Returns `false` if the generation is over already.
    pub(crate) fn register_token(
        self: &Arc<Self>,
        id: ContainerId,
        generation: Generation,
        token: &Arc<Token>,
    ) -> bool {
        let mut state = self.lock();
        if !state.ledger.is_current(id, generation) || state.broken.is_some() {
            return false;
        }
        state.forget_token(id);
        state.seats[id.index()].token = Some((generation, Arc::clone(token)));
        let now = self.now();
        state.ledger.begins_to_enter(id, now);
        drop(state);
        if self.settings.memory.limit.is_some() {
            let (dispatch, its_token) = (Arc::downgrade(self), Arc::downgrade(token));
            token.watch(Arc::new(OverLimitKiller { dispatch, token: its_token, container: id, generation }));
        }
        true
    }

    /// Registers the token of the code in a lane. Returns `false` if the generation is over already.
    pub(crate) fn register_lane(&self, id: LaneId, generation: Generation, token: &Arc<Token>) -> bool {
        let mut state = self.lock();
        if !state.ledger.is_current(id.container, generation) || state.broken.is_some() {
            return false;
        }
        state.lane_mut(id).token = Some(Arc::clone(token));
        true
    }

    /// Lowers the priority of a detached thread that should have left the user's code by now.
    fn lower_priority(&self, id: ContainerId, generation: Generation) {
        let state = self.lock();
        if let Some(token) =
            state.detached.get(&(id, generation)).and_then(|detached| detached.token.as_ref())
        {
            token.lower_priority();
        }
    }

    /// Decides that a container exits before its next lease, because it has retained more than
    /// `recycle_above`. Returns `false` if the container goes on.
    pub(crate) fn recycle(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.lock();
        if state.broken.is_some() {
            return false;
        }
        let now = self.now();
        self.batch_comes_back(&mut state, id, generation, now);
        let exits = 1 + state.ledger.exiting();
        if state.pressure(exits, 0, &self.settings) > Pressure::None {
            return false; // if all these exits hung, too many threads would be abandoned
        }
        self.wake_one(&mut state); // the event that woke this container may have been meant for another
        state.ledger.recycle(id, generation, now)
    }

    /// The memory that the function holds, if it is accounted.
    pub(super) fn memory(&self, state: &StateGuard<'_>) -> Option<Memory> {
        if !self.settings.memory.accounted {
            return None;
        }
        let containers: Vec<ContainerMemory> =
            state.ledger.containers().map(|id| state.memory_of(id)).collect();
        let abandoned = state.abandoned().map(Detached::bytes).sum();
        Some(Memory {
            live: containers.iter().map(|container| container.live).sum::<u64>() + abandoned,
            retained: containers.iter().map(|container| container.retained).sum(),
            peak: containers.iter().map(|container| container.peak).max().unwrap_or(0),
            limit: self.settings.memory.limit,
            abandoned,
            containers,
        })
    }
}

impl State {
    /// Forgets the token of a container's last generation, but keeps its peak.
    fn forget_token(&mut self, id: ContainerId) {
        if let Some((_, token)) = self.seats[id.index()].token.take() {
            let peak = token.account().map_or(0, |account| account.counters().highest());
            let before = &mut self.seats[id.index()].peak;
            *before = peak.max(*before);
        }
    }

    /// The token of `generation`, if that is the container's last generation with a token.
    pub(super) fn token(&self, id: ContainerId, generation: Generation) -> Option<&Arc<Token>> {
        let (of, token) = self.seats[id.index()].token.as_ref()?;
        (*of == generation).then_some(token)
    }

    /// Sets whether the code of a lane unwinds at its next checkpoint, because the job of its input has
    /// ended.
    pub(super) fn set_unwanted(&mut self, id: LaneId, unwanted: bool) {
        if self.ledger.is_batched() && !unwanted && id.index() > 0 {
            return; // the parts have one token, and the first one says that the next batch is wanted
        }
        let its_own = self.lane(id).and_then(|lane| lane.token.as_ref());
        let seat = || self.seats[id.container.index()].token.as_ref().map(|(_, token)| token);
        if let Some(token) = its_own.or_else(seat).cloned() {
            token.set_unwanted(unwanted);
            if unwanted {
                token.cancellations().cancel(&mut self.wakers.woken);
            }
        }
    }

    /// The limit of a container that is over its limit, and the bytes that it used at most.
    pub(super) fn limit_and_use(&self, id: ContainerId, generation: Generation) -> Option<(u64, u64)> {
        let account = self.token(id, generation)?.account()?.counters();
        // A container that lives on after the death of one of its lanes may be below its limit again.
        let limit = account.limit().filter(|_| account.is_over_limit())?;
        Some((limit, account.peak()))
    }

    /// How a container leaves the user's code if it dies now.
    pub(super) fn leaving(&self, id: ContainerId, abandoned: bool, settings: &Settings) -> Leaving {
        if !abandoned {
            // This death abandons no thread, so only the number of abandoned threads counts, and not the
            // bytes that they hold.
            let full = self.abandoned >= settings.memory.abandoned_max;
            return Leaving { abandoned, pressure: if full { Pressure::Threads } else { Pressure::None } };
        }
        let (generation, _) = self.ledger.stage(id);
        let own = self.token(id, generation).map_or(0, |token| used(token));
        Leaving { abandoned, pressure: self.pressure(1, own, settings) }
    }

    /// The pressure by abandoned threads if there were `more` of them, holding `bytes` in addition.
    pub(super) fn pressure(&self, more: usize, bytes: u64, settings: &Settings) -> Pressure {
        let held = || self.abandoned().map(Detached::bytes).sum::<u64>() + bytes;
        let rules = &settings.memory;
        if self.abandoned + more >= rules.abandoned_max {
            Pressure::Threads
        } else if rules.abandoned_bytes_max.is_some_and(|most| held() >= most) {
            Pressure::Bytes
        } else {
            Pressure::None
        }
    }

    /// The peak memory of the last attempt in `generation`, if that is the container's last generation.
    pub(super) fn peak(&self, id: ContainerId, generation: Generation) -> Option<u64> {
        self.token(id, generation)?.peak()
    }

    fn memory_of(&self, id: ContainerId) -> ContainerMemory {
        let before = self.seats[id.index()].peak;
        let none = ContainerMemory { container: id, live: 0, retained: 0, peak: before };
        let (generation, stage) = self.ledger.stage(id);
        let lives =
            matches!(stage, ContainerStage::Starting | ContainerStage::Live | ContainerStage::Exiting);
        let Some(account) = self.token(id, generation).filter(|_| lives).and_then(|token| token.account())
        else {
            return none;
        };
        let account = account.counters();
        ContainerMemory {
            live: u64::try_from(account.live()).unwrap_or(0),
            retained: account.retained(),
            peak: account.highest().max(before),
            ..none
        }
    }
}

/// The bytes that the code under a token uses, without the bytes that earlier epochs have left.
pub(super) fn used(token: &Token) -> u64 {
    token.account().map_or(0, |account| u64::try_from(account.counters().used()).unwrap_or(0))
}

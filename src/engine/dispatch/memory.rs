//! Containers and their memory: accounts, kills for too much of it, threads left behind, recycling.

use std::sync::{Arc, Weak};

use crate::base::ids::{ContainerId, Generation};
use crate::code::leash::Leash;
use crate::contain::unwind::tell;
use crate::decide::ledger::{Crowd, Leaving, Stage};
use crate::decide::steps;
use crate::engine::dispatch::{Dispatch, Forsaken, Held, Returns, State};
use crate::engine::settings::Settings;
use crate::memory::accounts::Open;
use crate::memory::alarm::Killer;
use crate::values::crash::Death;
use crate::values::status::{ContainerMemory, Memory};

/// Kills the generation of a container whose account is overdrawn.
struct Overdraft {
    dispatch: Weak<Dispatch>,
    leash: Weak<Leash>,
    container: ContainerId,
    generation: Generation,
}

impl Killer for Overdraft {
    fn kill(&self) {
        if let Some(dispatch) = self.dispatch.upgrade() {
            tell(|| dispatch.overdrawn(self.container, self.generation));
        }
    }

    fn lower_priority(&self) {
        if let Some(dispatch) = self.dispatch.upgrade() {
            tell(|| dispatch.lower_priority(self.container, self.generation));
        }
    }

    fn may_wait(&self) -> bool {
        self.leash.upgrade().is_some_and(|leash| leash.heeds())
    }
}

impl Dispatch {
    /// An account for a generation, where containers have any. `Err` if none is free.
    pub(crate) fn open_account(&self) -> Result<Option<Open>, Death> {
        let rules = &self.settings.memory;
        let account = rules.accounted.then(|| Open::new(rules.limit)).flatten();
        if account.is_none() && rules.limit.is_some() { Err(Death::NoAccount) } else { Ok(account) }
    }

    /// Ties the code of that generation to it, by this leash. `false` if it is over already.
    pub(crate) fn tie(self: &Arc<Self>, id: ContainerId, generation: Generation, leash: &Arc<Leash>) -> bool {
        let mut state = self.hold();
        if !state.ledger.is_current(id, generation) || state.broken.is_some() {
            return false;
        }
        state.untie(id);
        state.seats[id.index()].leash = Some((generation, Arc::clone(leash)));
        drop(state);
        if self.settings.memory.limit.is_some() {
            let (dispatch, its_leash) = (Arc::downgrade(self), Arc::downgrade(leash));
            leash.watch(Arc::new(Overdraft { dispatch, leash: its_leash, container: id, generation }));
        }
        true
    }

    /// The thread of that generation should have come out by now.
    fn lower_priority(&self, id: ContainerId, generation: Generation) {
        let state = self.hold();
        if let Some(leash) =
            state.forsaken.get(&(id, generation)).and_then(|forsaken| forsaken.leash.as_ref())
        {
            leash.lower_priority();
        }
    }

    /// A container that has left more than `recycle_above` behind exits before its next lease. `false` if it
    /// goes on.
    pub(crate) fn recycle(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.hold();
        if state.broken.is_some() {
            return false;
        }
        let now = self.now();
        self.come_back(&mut state, id, generation, now);
        let exits = 1 + state.ledger.exiting();
        if state.crowd(exits, 0, &self.settings) > Crowd::Few {
            return false; // exits that hang would leave as many behind as there may be
        }
        self.wake_one(&mut state); // what woke this container may have been meant for another
        state.ledger.recycle(id, generation, now)
    }

    /// What is held in memory, if that is known.
    pub(super) fn memory(&self, state: &Held<'_>) -> Option<Memory> {
        if !self.settings.memory.accounted {
            return None;
        }
        let containers: Vec<ContainerMemory> =
            state.ledger.containers().map(|id| state.memory_of(id)).collect();
        let abandoned = state.abandoned().map(Forsaken::bytes).sum();
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
    /// Forgets the leash of a container's last generation, but for how much it used.
    fn untie(&mut self, id: ContainerId) {
        if let Some((_, leash)) = self.seats[id.index()].leash.take() {
            let peak = leash.account().map_or(0, |account| account.counters().highest());
            let before = &mut self.seats[id.index()].peak;
            *before = peak.max(*before);
        }
    }

    /// The leash of that generation, if it is the container's last.
    pub(super) fn leash(&self, id: ContainerId, generation: Generation) -> Option<&Arc<Leash>> {
        let (of, leash) = self.seats[id.index()].leash.as_ref()?;
        (*of == generation).then_some(leash)
    }

    /// Makes the code of a container come out at its next checkpoint, because the job of its input has ended.
    pub(super) fn interrupt(&self, id: ContainerId) {
        if let Some((_, leash)) = &self.seats[id.index()].leash {
            leash.set_unwanted(true);
        }
    }

    /// A container has come back from what it executed.
    pub(super) fn is_not_interrupted(&self, id: ContainerId) {
        if let Some((_, leash)) = &self.seats[id.index()].leash {
            leash.set_unwanted(false);
        }
    }

    /// The limit that was crossed, and how much was used.
    pub(super) fn overdraft(&self, id: ContainerId, generation: Generation) -> Option<(u64, u64)> {
        let account = self.leash(id, generation)?.account()?.counters();
        Some((account.limit()?, account.peak()))
    }

    /// How a container leaves the user's code when it dies now.
    pub(super) fn leaving(&self, id: ContainerId, abandoned: bool, settings: &Settings) -> Leaving {
        if !abandoned {
            // This death abandons no thread: the number of abandoned ones decides, and not the bytes that they hold.
            let full = self.abandoned >= settings.memory.abandoned_max;
            return Leaving { abandoned, crowd: if full { Crowd::Full } else { Crowd::Few } };
        }
        let (generation, _) = self.ledger.stage(id);
        let own = self.leash(id, generation).map_or(0, |leash| used(leash));
        Leaving { abandoned, crowd: self.crowd(1, own, settings) }
    }

    /// How many threads are left behind, with so many more that hold so many bytes.
    pub(super) fn crowd(&self, more: usize, bytes: u64, settings: &Settings) -> Crowd {
        let held = || self.abandoned().map(Forsaken::bytes).sum::<u64>() + bytes;
        let rules = &settings.memory;
        if self.abandoned + more >= rules.abandoned_max {
            Crowd::Full
        } else if rules.abandoned_bytes_max.is_some_and(|most| held() >= most) {
            Crowd::Large
        } else {
            Crowd::Few
        }
    }

    /// Threads left behind in the user's code.
    pub(super) fn abandoned(&self) -> impl Iterator<Item = &Forsaken> {
        self.forsaken.values().map(steps::each).filter(|forsaken| forsaken.returns == Returns::AsItLikes)
    }

    /// The most memory that the attempt used which that generation made last.
    pub(super) fn peak(&self, id: ContainerId, generation: Generation) -> Option<u64> {
        self.leash(id, generation)?.peak()
    }

    fn memory_of(&self, id: ContainerId) -> ContainerMemory {
        let before = self.seats[id.index()].peak;
        let none = ContainerMemory { container: id, live: 0, retained: 0, peak: before };
        let (generation, stage) = self.ledger.stage(id);
        let lives = matches!(stage, Stage::Starting | Stage::Live | Stage::Exiting);
        let Some(account) = self.leash(id, generation).filter(|_| lives).and_then(|leash| leash.account())
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

/// Bytes that the code on a leash uses: not what it has given away.
pub(super) fn used(leash: &Leash) -> u64 {
    leash.account().map_or(0, |account| u64::try_from(account.counters().used()).unwrap_or(0))
}

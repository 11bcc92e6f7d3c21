//! The model of suspects: which container may replay an input that has crashed one, and when.
//!
//! Crashes are numbered. A container may replay a suspect if it was begun after the suspect's last crash, or
//! if it has completed (`Ok`) an input that began after that crash. The engine knows the second only by whole
//! leases. So the model keeps two numbers for a container: the last crash that it may count as having
//! outlived, and the last that it must.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::decide::time::Time;

/// The time for which a suspect executes before another one may begin.
const HUNG: Duration = Duration::from_secs(1);

/// If no container was entered for this time, any container may replay a suspect.
pub(super) const UNPROVEN: Duration = Duration::from_secs(10);

/// The model's knowledge of one container, as numbers of crashes.
#[derive(Debug, Default, Clone, Copy)]
struct KnownSuspect {
    /// The last crash that it has outlived.
    proof: u64,
    /// The last crash that it has outlived as far as its whole leases show.
    sure: u64,
    /// The last crash before its current lease.
    lease: u64,
    /// The last crash before a lease in which it has completed an input, `Ok` or `Err`.
    done: u64,
}

#[derive(Debug, Default)]
pub(super) struct NaiveSuspects {
    /// The containers that have taken a suspect and not asked for work since, with the moment at which they
    /// took it.
    executing: Vec<(ContainerId, Time)>,
    /// The containers of `executing` whose suspect has returned. The engine may let another suspect begin.
    returned: BTreeSet<ContainerId>,
    containers: BTreeMap<ContainerId, KnownSuspect>,
    entered: Option<Time>,
}

impl NaiveSuspects {
    fn known(&mut self, id: ContainerId) -> &mut KnownSuspect {
        self.containers.entry(id).or_default()
    }

    /// A generation of a container begins after this crash.
    pub(super) fn begun(&mut self, id: ContainerId, crash: u64) {
        self.containers.insert(id, KnownSuspect { proof: crash, sure: crash, ..KnownSuspect::default() });
    }

    pub(super) fn entered(&mut self, now: Time) {
        self.entered = Some(now);
    }

    pub(super) fn leased(&mut self, id: ContainerId, crash: u64) {
        self.known(id).lease = crash;
    }

    /// A container completed an input that began after crash `begun`.
    pub(super) fn completed_ok(&mut self, id: ContainerId, begun: u64) {
        self.returned.insert(id);
        let known = self.known(id);
        known.proof = known.proof.max(begun);
        known.sure = known.sure.max(known.lease);
        known.done = known.lease;
    }

    pub(super) fn completed_err(&mut self, id: ContainerId) {
        self.returned.insert(id);
        let known = self.known(id);
        known.done = known.lease;
    }

    /// Whether a crash of this container is charged to an input whose last crash was `last`.
    pub(super) fn is_charged(&self, id: ContainerId, last: Option<u64>) -> bool {
        last.is_none_or(|last| {
            self.containers.get(&id).is_some_and(|known| known.done.max(known.sure) >= last)
        })
    }

    /// A container replays a suspect with this last crash.
    pub(super) fn replays(&mut self, id: ContainerId, (crash, at): (u64, Time), now: Time, all: usize) {
        let returned = &self.returned;
        let still = || self.executing.iter().filter(|(on, _)| !returned.contains(on));
        assert!(has_room(still(), now, all), "invariant 6: {:?} replay suspects already", self.executing);
        let proof = self.containers.get(&id).map_or(0, |known| known.proof);
        assert!(
            proof >= crash || self.is_long_since(at, now),
            "invariant 6: {id}, which has outlived crash {proof}, replays a suspect of crash {crash}"
        );
        self.returned.remove(&id);
        self.executing.push((id, now));
    }

    /// Whether the container must be able to replay a suspect with this last crash.
    pub(super) fn may_replay(
        &self,
        id: ContainerId,
        (crash, at): (u64, Time),
        now: Time,
        all: usize,
    ) -> bool {
        let sure = self.containers.get(&id).map_or(0, |known| known.sure);
        has_room(self.executing.iter(), now, all) && (sure >= crash || self.is_long_since(at, now))
    }

    fn is_long_since(&self, crashed: Time, now: Time) -> bool {
        now.since(self.entered.map_or(crashed, |entered| entered.max(crashed))) >= UNPROVEN
    }

    /// Later moments at which more suspects may be replayed.
    pub(super) fn dues(&self, crashed: Time, now: Time, all: usize) -> impl Iterator<Item = Time> {
        let full = self.executing.len() >= (all / 2).max(1);
        // The model does not know whether the engine has seen yet that a suspect has returned.
        let seen = !self.executing.iter().any(|(id, _)| self.returned.contains(id));
        let hung = self.executing.iter().map(|(_, since)| *since + HUNG).max().filter(|_| seen);
        let long = self.entered.map_or(crashed, |entered| entered.max(crashed)) + UNPROVEN;
        let dues = if full { [None, None] } else { [hung, Some(long)] };
        dues.into_iter().flatten().filter(move |due| *due > now)
    }

    pub(super) fn executing(&self) -> impl Iterator<Item = ContainerId> {
        self.executing.iter().map(|(id, _)| *id)
    }

    /// The container does not replay a suspect any more.
    pub(super) fn ended(&mut self, id: ContainerId) {
        self.executing.retain(|(on, _)| *on != id);
    }
}

/// Whether another suspect may be replayed beside these.
fn has_room<'a>(
    executing: impl Iterator<Item = &'a (ContainerId, Time)> + Clone,
    now: Time,
    all: usize,
) -> bool {
    let hung = executing.clone().all(|(_, since)| now.since(*since) >= HUNG);
    hung && executing.count() < (all / 2).max(1)
}

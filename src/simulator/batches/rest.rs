//! The checks while containers execute batches, and those when nothing can happen but the passing of time.

use crate::base::ids::{ContainerId, LaneId};
use crate::decide::ledger::{Lease, Mode};
use crate::decide::time::Time;
use crate::engine::dispatch::State;
use crate::simulator::batches::driver::Phase;
use crate::simulator::batches::{BatchWorld, MS};
use crate::simulator::course::Course;

/// A lease with inputs that have not begun, beside an idle container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ahead {
    lane: LaneId,
    lease: Lease,
    committed: u64,
    since: Time,
}

/// The inputs that wait and may go into one batch.
#[derive(Debug, Clone, Copy)]
struct Forming {
    inputs: u64,
    /// Whether more may come before long: a call among them, or a map with room whose source goes on.
    may_grow: bool,
}

impl BatchWorld<'_> {
    pub(super) fn check_leases(&mut self) {
        let share = (self.rules.containers / 2).max(1);
        let engine = self.engine;
        engine.under_lock(|state| {
            for driver in &self.drivers {
                if !state.ledger.is_current(driver.id, driver.generation) {
                    continue;
                }
                let leases = state.ledger.leased_by(driver.id).count();
                let waits = matches!(driver.phase, Phase::Entering | Phase::Asleep);
                assert!(!waits || leases == 0, "{driver:?} has {leases} leases");
                let most = if driver.phase == Phase::Asking { usize::MAX } else { driver.parts.len() };
                assert!(leases <= most, "{driver:?} has {leases} leases");
            }
            state.ledger.check_forming(&state.buffers, false);
            let suspects = state.ledger.suspects_executing();
            assert!(suspects <= share, "{suspects} suspects execute");
            let (executing, pending) = (state.ledger.inputs_executing(), state.ledger.pending());
            assert!(executing <= pending, "{executing} inputs execute, and {pending} are pending");
            if self.forms_since.is_some() && self.forming(state).inputs == 0 {
                self.forms_since = None;
            }
        });
    }

    /// The inputs that wait, by the queues of the ledger and the sources of the maps.
    fn forming(&self, state: &State) -> Forming {
        let now = self.now();
        let (calls, again) = state.ledger.waiting_together(now);
        let mut forming = Forming { inputs: calls + again.0, may_grow: calls + again.1 > 0 };
        for map in &self.takers.maps {
            let job = map.consumer.job;
            let (Some(known), Some(buffers)) = (state.ledger.job(job), state.buffers.map(job)) else {
                continue;
            };
            if buffers.over {
                continue;
            }
            let yielded = buffers.flow.yielded.load(std::sync::atomic::Ordering::SeqCst);
            let room = map.plan.window.saturating_sub(known.counts().pulled.saturating_sub(yielded));
            let available = buffers.available(state.ledger.mode());
            let is_little = room < state.ledger.room_min(job).min(available) && state.ledger.is_in_sight(job);
            forming.inputs += known.fresh() + if is_little { 0 } else { available.min(room) };
            forming.may_grow |= room > available && !buffers.brings_no_more();
        }
        forming
    }

    /// Nothing can happen but the passing of time, so no input may wait that an idle container may take.
    pub(super) fn all_rest(&mut self) {
        self.tally.rests += 1;
        let now = self.now();
        let engine = self.engine;
        let (forms_since, ahead) = engine.under_lock(|state| {
            assert!(
                !state.needs_a_watch(now),
                "{:?} falls due, and no container wakes for it",
                state.ledger.next_due(now)
            );
            state.ledger.check_forming(&state.buffers, true);
            let mode = state.ledger.mode();
            let is_idle = |id: &ContainerId| {
                let asleep =
                    self.drivers.iter().find(|driver| driver.id == *id && driver.phase == Phase::Asleep);
                asleep.is_some_and(|driver| state.ledger.is_current(*id, driver.generation))
            };
            let idle: Vec<ContainerId> = state.ledger.containers().filter(is_idle).collect();
            let drained = mode >= Mode::Draining && state.ledger.nothing_pending();
            assert!(!drained || idle.is_empty(), "{idle:?} stay though nothing is left");
            let forming = self.forming(state);
            let forms_since = (forming.inputs > 0).then(|| self.forms_since.unwrap_or(now));
            if idle.is_empty() || !state.ledger.dispatches() {
                return (forms_since, Vec::new());
            }
            self.check_idle(state, &idle, forming, forms_since);
            (forms_since, self.ahead_of(state, now))
        });
        self.tally.formings += u64::from(forms_since.is_some());
        self.forms_since = forms_since;
        self.ahead = ahead;
    }

    fn check_idle(
        &self,
        state: &mut State,
        idle: &[ContainerId],
        forming: Forming,
        forms_since: Option<Time>,
    ) {
        let now = self.now();
        assert!(state.ledger.alone_ready().is_none(), "{idle:?} are idle, and a half waits");
        if let Some(ready) = state.ledger.suspect_ready(now) {
            let may = idle.iter().any(|id| ready.proof <= state.ledger.proof(*id));
            assert!(!may, "{idle:?} are idle, and a suspect waits");
        }
        let Some(since) = forms_since else { return };
        let size = self.batching.size;
        let why = || format!("{idle:?} are idle beside {forming:?}, since {since:?}: {:?}", self.drivers);
        assert!(!self.batching.wait.is_zero(), "work is conserved: {}", why());
        assert_eq!(state.ledger.mode(), Mode::Running, "nothing more comes: {}", why());
        assert!(forming.inputs < size, "a full batch waits: {}", why());
        assert!(forming.may_grow, "nothing more can come: {}", why());
        assert!(now < since + self.batching.wait + MS, "waited for too long: {}", why());
    }

    /// The leases with inputs that have not begun, beside an idle container. Each is split within a
    /// millisecond.
    fn ahead_of(&self, state: &State, now: Time) -> Vec<Ahead> {
        let mut ahead = Vec::new();
        for lane in state.ledger.ahead() {
            let lease = state.ledger.lease(lane).expect("it is leased");
            let committed = state.ledger.executing_in(lane).map_or(0, |executing| executing.input.index);
            let executing = state
                .ledger
                .executing_at(lane, state.run(lane).map(|run| run.look()).filter(|at| at.at == committed));
            if executing.is_empty() || executing.end >= lease.span.end() {
                continue;
            }
            let is_same =
                |ahead: &&Ahead| ahead.lane == lane && ahead.lease == lease && ahead.committed == committed;
            let since = self.ahead.iter().find(is_same).map_or(now, |ahead| ahead.since);
            assert!(
                now.since(since) <= MS,
                "work is conserved: {lease:?} is ahead since {since:?}: {:?}",
                self.drivers
            );
            ahead.push(Ahead { lane, lease, committed, since });
        }
        let watched = self
            .drivers
            .iter()
            .filter(|driver| driver.phase == Phase::Asleep)
            .filter_map(|driver| driver.wakes_at());
        let watched = watched.min();
        // Little room may grow for a millisecond before it is taken.
        let soon = ahead.is_empty() || watched.is_some_and(|at| at <= now + MS);
        assert!(soon, "work is conserved: beside {ahead:?} no container looks before {watched:?}");
        ahead
    }
}

//! The checks of a world of lanes after each step, and those when nothing can happen but the passing of time.

use std::sync::PoisonError;

use crate::decide::ledger::Mode;
use crate::simulator::course::Course;
use crate::simulator::lanes::LaneWorld;
use crate::simulator::lanes::driver::{Driver, Phase};

impl LaneWorld<'_> {
    /// The leases of each container, and the window of each map, are within their bounds.
    pub(super) fn check_bounds(&mut self) {
        let lanes = self.rules.lanes as usize;
        let share =
            if self.rules.has_state { self.rules.containers / 2 } else { self.rules.containers * lanes / 16 };
        self.engine.under_lock(|state| {
            for id in state.ledger.containers() {
                let leases = state.ledger.leased_by(id).count();
                assert!(leases <= lanes, "container {id} has {leases} leases");
                let alone = state.ledger.executes_one_alone(id);
                assert!(!alone || leases == 1, "{leases} leases beside one that executes alone in {id}");
            }
            let suspects = state.ledger.suspects_executing();
            assert!(suspects <= share.max(1), "{suspects} suspects execute");
        });
        for map in &self.takers.maps {
            // To ask for the progress would commit what was published, and so hide whether others do.
            let job = map.consumer.job;
            let pulled = self.engine.under_lock(|state| state.ledger.job(job).map(|job| job.counts().pulled));
            let pulled = pulled.expect("its consumer keeps it open");
            let most = map.taken + map.plan.window;
            assert!(pulled <= most, "{pulled} are pulled, and {} taken", map.taken);
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Nothing can happen but the passing of time, so no input may wait that a container may take.
    pub(super) fn all_rest(&mut self) {
        self.tally.rests += 1;
        let now = self.now();
        let (engine, lanes) = (self.engine, self.rules.lanes);
        engine.under_lock(|state| {
            // A container that was called, and whose thread is in a poll, looks for work after that poll.
            let is_current = |driver: &&Driver<'_>| state.ledger.is_current(driver.id, driver.generation);
            let any_waits = self.drivers.iter().filter(is_current).any(Driver::still_waits);
            let is_watched = !any_waits || !state.needs_a_watch(now);
            assert!(is_watched, "something falls due, and no container wakes for it: {:?}", self.drivers);
            let (mode, drained) = (state.ledger.mode(), state.ledger.nothing_pending());
            let waiting = state.ledger.waiting(now, &state.buffers);
            let mut clears = Vec::new();
            let mut may_clear = false;
            for driver in &self.drivers {
                let id = driver.id;
                let serves = driver.phase == Phase::Serving && driver.stuck_until.is_none();
                if !serves || !state.ledger.is_current(id, driver.generation) {
                    continue;
                }
                let mut tasks = driver.lanes.iter().filter_map(|lane| lane.task.as_ref());
                assert!(!tasks.any(|task| task.run.is_fenced()), "{driver:?} keeps code that is unwanted");
                let leases = state.ledger.leased_by(id).count();
                assert!(leases > 0 || mode < Mode::Draining || !drained, "{id} stays though nothing is left");
                let keeps = driver.recycles || state.ledger.executes_one_alone(id);
                let is_full = driver.is_full(lanes);
                if is_full || keeps || state.ledger.is_held(id, now) || !state.ledger.dispatches() {
                    continue;
                }
                let proven = waiting.suspect.filter(|(ready, _)| ready.proof <= state.ledger.proof(id));
                let suspect_alone = proven.is_some_and(|(_, alone)| alone);
                let is_for_it = waiting.alone || suspect_alone;
                assert!(
                    leases > 0 || !is_for_it,
                    "{id} is empty, and an input waits to execute alone: {waiting:?}, {:?}, {:?} clears",
                    self.drivers,
                    state.ledger.becomes_empty()
                );
                may_clear |= is_for_it;
                if driver.is_on_hold && is_for_it {
                    clears.push(id);
                    continue;
                }
                assert!(!driver.is_on_hold, "container {id} is held for nothing");
                let again = state.ledger.again();
                let waits = (again.replay, again.retry, state.ledger.calls_queued());
                assert!(
                    !waiting.ordinary,
                    "work is conserved: {id} has a free lane, and an input waits: {waiting:?}, {waits:?} replays, retries and calls, {:?}",
                    self.drivers
                );
                let beside = proven.is_some_and(|(_, alone)| !alone);
                assert!(!beside, "work is conserved: {id} has a free lane, and a suspect waits");
            }
            // A container that becomes empty may also do so in order to be recycled.
            let clearing = state.ledger.becomes_empty();
            assert!(
                clears.iter().all(|id| Some(*id) == clearing),
                "{clears:?} are held, and {clearing:?} clears"
            );
            assert!(
                !may_clear || clearing.is_some(),
                "{waiting:?}, and none becomes empty: {:?}",
                self.drivers
            );
        });
    }
}

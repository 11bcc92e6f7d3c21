//! What feeders do under the lock: wait for room, tell of inputs and of their end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::JobId;
use crate::data::erased::Values;
use crate::data::failure::{Bug, Reason};
use crate::data::gate::Gate;
use crate::data::pool::Inlet;
use crate::data::shape::Why;
use crate::decide::job::OnFailure;
use crate::decide::ledger::{Mode, Unrun};
use crate::engine::dispatch::tasks::FEEDER;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::map_lane::{MapEnd, Supply};
use crate::engine::messages::Notice;
use crate::values::crash::Panic;

/// Why a feeder ended.
#[derive(Debug)]
pub(crate) enum FeederEnd {
    /// The source has no more inputs.
    Exhausted,
    /// The source panicked.
    Panicked(Panic),
    /// No more inputs are wanted.
    Told,
}

impl Dispatch {
    /// The message that was to start a map's feeder was lost with the supervisor.
    pub(crate) fn map_undelivered(&self, job: JobId) {
        let mut state = self.hold();
        let now = self.now();
        let reason = if state.ledger.mode() == Mode::Running {
            Reason::Engine(Bug("the supervisor is gone".into()))
        } else {
            Reason::ShutDown
        };
        if state.broken.is_none() {
            state.end_job(job, Unrun::Cancelled, None, Some(MapEnd::OfMap(reason)), now);
        }
    }

    /// Where the feeder of a job puts its inputs. Asked once.
    pub(crate) fn inlet(&self, job: JobId) -> Option<Inlet> {
        let state = self.hold();
        let lane = state.lanes.map(job)?;
        match &lane.supply {
            Supply::Fed(pool) => Some(Inlet::new(Arc::clone(pool), Arc::clone(&lane.gate))),
            Supply::Inline(_) | Supply::Dry => None,
        }
    }

    /// The source says how many inputs it has.
    pub(crate) fn expect_total(&self, job: JobId, total: u64) {
        if let Some(lane) = self.hold().lanes.map_mut(job) {
            lane.total = Some(total);
        }
    }

    /// Waits until the feeder of a job may pull; returns how many inputs. `None` once it should end.
    pub(crate) fn await_room(&self, job: JobId, gate: &Gate) -> Option<u64> {
        let mut state = self.hold();
        loop {
            match state.room(job, gate) {
                Some(0) => {
                    let space = Arc::clone(&state.lanes.map(job).expect("it has a feeder").space);
                    state.wait(&space, None);
                }
                room => return room,
            }
        }
    }

    /// The feeder has put an input into a pool in which a container had found none: the map has its turn again, and a
    /// container that sleeps is woken. It passes on what it leaves.
    pub(crate) fn feed_the_starving(&self, job: JobId) {
        let mut state = self.hold();
        let waited = state.lanes.map(job).is_some_and(|lane| lane.gate.awaited.swap(false, Ordering::SeqCst));
        if waited {
            state.ledger.look_again(job);
            self.wake_one(&mut state);
        }
    }

    /// An input that was being pulled when its map ended or the function began to drain: it is
    /// accepted, and comes back inside its error.
    pub(crate) fn fed_too_late(&self, job: JobId, input: Values) {
        let mut held = self.hold();
        let state = &mut *held;
        let (Some(lane), Some(known)) = (state.lanes.map_mut(job), state.ledger.job(job)) else {
            drop(held);
            return drop(input);
        };
        if lane.over {
            drop(held); // the end has been told: nothing is accepted any more
            return drop(input);
        }
        let index = known.counts().pulled;
        let publish = known.on_failure() == OnFailure::GoOn;
        let (reason, how) = match (state.ledger.gave_up(), state.ledger.mode()) {
            (Some(gave_up), _) => (Reason::GaveUp(gave_up.clone()), Unrun::GivenUp),
            (None, Mode::Running) => (Reason::Cancelled, Unrun::Cancelled),
            (None, _) => (Reason::ShutDown, Unrun::Cancelled),
        };
        lane.gate.pulled.fetch_add(1, Ordering::SeqCst);
        lane.add(index, input);
        if !publish {
            lane.gap_at(index);
        }
        if matches!(reason, Reason::ShutDown) {
            state.leftovers.add(1, publish);
        }
        state.ledger.accept_ended(job, how);
        if publish {
            state.publish_failure(job, index, 0.into(), Why::Reason(reason));
        }
    }

    /// A feeder begins: it is counted until it [returns](Dispatch::feeder_returns).
    pub(crate) fn feeder_begins(&self) {
        self.under_lock(|state| state.feeders += 1);
    }

    /// A feeder has ended, and nothing is left of its source.
    pub(crate) fn source_over(&self, job: JobId, end: FeederEnd) {
        self.source_ends(job, end);
        self.feeder_returns();
    }

    /// The source of a job has dropped, which may have taken long: its feeder is counted no more.
    pub(crate) fn feeder_returns(&self) {
        self.hold().feeders -= 1;
        self.tell(Notice::FeederEnded);
    }

    /// Nothing comes from the source of a job any more. The source itself may still be there.
    pub(crate) fn source_ends(&self, job: JobId, end: FeederEnd) {
        let mut state = self.hold();
        let now = self.now();
        let goes_on = state.ledger.job(job).is_some_and(|job| job.on_failure() == OnFailure::GoOn);
        if let Some(lane) = state.lanes.map_mut(job) {
            lane.space.forget(FEEDER);
            let end = match end {
                // By whom it was told, the map is ended as well, or will be.
                _ if lane.source_over => None,
                FeederEnd::Told => None,
                FeederEnd::Exhausted => {
                    lane.source_over = true;
                    lane.total = Some(lane.gate.pulled.load(Ordering::SeqCst));
                    None
                }
                FeederEnd::Panicked(panic) => {
                    lane.source_over = true;
                    Some(MapEnd::OfMap(Reason::Source(panic)))
                }
            };
            if goes_on {
                let unseen = lane.end_as(end);
                state.unseen_ends.extend(unseen);
            } else if end.is_some() {
                state.end_job(job, Unrun::Cancelled, None, end, now);
            }
        }
        let woken = state.lanes.map_mut(job).and_then(|lane| lane.wake());
        state.wakers.woken.extend(woken);
        state.ledger.look_again(job); // the rest may be fewer inputs than are worth a claim otherwise
        self.wake_one(&mut state);
        self.wake_if_drained(&mut state);
    }
}

impl State {
    /// How many inputs the feeder of a job may pull now; `None` once it should end.
    pub(super) fn room(&self, job: JobId, gate: &Gate) -> Option<u64> {
        let running =
            self.ledger.mode() == Mode::Running && self.ledger.gave_up().is_none() && self.broken.is_none();
        let open = self.lanes.map(job).is_some_and(|lane| !lane.source_over);
        if !running || !open {
            return None;
        }
        // Before the look, so that room made in between is told of.
        gate.starved.store(true, Ordering::SeqCst);
        Some(gate.room())
    }
}

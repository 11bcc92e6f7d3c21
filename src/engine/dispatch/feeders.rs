//! What feeders do under the lock: wait for room, tell of inputs and of their end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::JobId;
use crate::data::erased::Values;
use crate::data::failure::{Bug, Reason};
use crate::data::flow_control::FlowControl;
use crate::data::prefetch::Producer;
use crate::data::shape::Why;
use crate::decide::job::OnFailure;
use crate::decide::ledger::{Mode, Unrun};
use crate::engine::dispatch::tasks::FEEDER;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::map_buffers::{JobSource, MapEnd};
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
    Stopped,
}

impl Dispatch {
    /// The message that was to start a map's feeder was lost with the supervisor.
    pub(crate) fn map_undelivered(&self, job: JobId) {
        let mut state = self.lock();
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
    pub(crate) fn producer(&self, job: JobId) -> Option<Producer> {
        let state = self.lock();
        let buffers = state.buffers.map(job)?;
        match &buffers.source {
            JobSource::Prefetched(queue) => Some(Producer::new(Arc::clone(queue), Arc::clone(&buffers.flow))),
            JobSource::Direct(_) | JobSource::Exhausted => None,
        }
    }

    /// The source says how many inputs it has.
    pub(crate) fn expect_total(&self, job: JobId, total: u64) {
        if let Some(buffers) = self.lock().buffers.map_mut(job) {
            buffers.total = Some(total);
        }
    }

    /// Waits until the feeder of a job may pull; returns how many inputs. `None` once it should end.
    pub(crate) fn await_room(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        let mut state = self.lock();
        loop {
            match state.room(job, flow) {
                Some(0) => {
                    let space = Arc::clone(&state.buffers.map(job).expect("it has a feeder").space);
                    state.wait(&space, None);
                }
                room => return room,
            }
        }
    }

    /// The feeder has put an input into a queue in which a container had found none: the map has its turn
    /// again, and a container that sleeps is woken. It passes on what it leaves.
    pub(crate) fn wake_for_input(&self, job: JobId) {
        let mut state = self.lock();
        let waited =
            state.buffers.map(job).is_some_and(|buffers| buffers.flow.awaited.swap(false, Ordering::SeqCst));
        if waited {
            state.ledger.requeue_map(job);
            self.wake_one(&mut state);
        }
    }

    /// An input that was being pulled when its map ended or the function began to drain: it is
    /// accepted, and comes back inside its error.
    pub(crate) fn fed_too_late(&self, job: JobId, input: Values) {
        let mut held = self.lock();
        let state = &mut *held;
        let (Some(buffers), Some(known)) = (state.buffers.map_mut(job), state.ledger.job(job)) else {
            drop(held);
            return drop(input);
        };
        if buffers.over {
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
        buffers.flow.pulled.fetch_add(1, Ordering::SeqCst);
        buffers.add(index, input);
        if !publish {
            buffers.gap_at(index);
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
        self.lock().feeders -= 1;
        self.notify(Notice::FeederEnded);
    }

    /// Nothing comes from the source of a job any more. The source itself may still be there.
    pub(crate) fn source_ends(&self, job: JobId, end: FeederEnd) {
        let mut state = self.lock();
        let now = self.now();
        let goes_on = state.ledger.job(job).is_some_and(|job| job.on_failure() == OnFailure::GoOn);
        if let Some(buffers) = state.buffers.map_mut(job) {
            buffers.space.forget(FEEDER);
            let end = match end {
                // By whom it was told, the map is ended as well, or will be.
                _ if buffers.source_over => None,
                FeederEnd::Stopped => None,
                FeederEnd::Exhausted => {
                    buffers.source_over = true;
                    buffers.total = Some(buffers.flow.pulled.load(Ordering::SeqCst));
                    None
                }
                FeederEnd::Panicked(panic) => {
                    buffers.source_over = true;
                    Some(MapEnd::OfMap(Reason::Source(panic)))
                }
            };
            if goes_on {
                let unseen = buffers.end_as(end);
                state.unseen_ends.extend(unseen);
            } else if end.is_some() {
                state.end_job(job, Unrun::Cancelled, None, end, now);
            }
        }
        let woken = state.buffers.map_mut(job).and_then(|buffers| buffers.wake());
        state.wakers.woken.extend(woken);
        state.ledger.requeue_map(job); // the rest may be fewer inputs than are worth a claim otherwise
        self.wake_one(&mut state);
        self.wake_if_drained(&mut state);
    }
}

impl State {
    /// How many inputs the feeder of a job may pull now; `None` once it should end.
    pub(super) fn room(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        let running =
            self.ledger.mode() == Mode::Running && self.ledger.gave_up().is_none() && self.broken.is_none();
        let open = self.buffers.map(job).is_some_and(|buffers| !buffers.source_over);
        if !running || !open {
            return None;
        }
        // Before the look, so that room made in between is told of.
        flow.room_wanted.store(true, Ordering::SeqCst);
        Some(flow.room())
    }
}

//! The operations of feeders under the lock: to wait for room, and to announce inputs and the source's end.

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
use crate::engine::map_buffers::JobSource;
use crate::engine::map_end::MapEnd;
use crate::engine::messages::Notice;
use crate::values::crash::Panic;

/// The reason why a feeder ended.
#[derive(Debug)]
pub(crate) enum FeederEnd {
    /// The source has no more inputs.
    Exhausted,
    /// The source panicked.
    Panicked(Panic),
    /// The function or the map wants no more inputs.
    Stopped,
}

impl Dispatch {
    /// The message that should have started the feeder of a map was lost together with the supervisor.
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

    /// The producer into which the feeder of a job puts its inputs. A feeder asks for it once.
    pub(crate) fn producer(&self, job: JobId) -> Option<Producer> {
        let state = self.lock();
        let buffers = state.buffers.map(job)?;
        match &buffers.source {
            JobSource::Prefetched(queue) => Some(Producer::new(Arc::clone(queue), Arc::clone(&buffers.flow))),
            JobSource::Direct(_) | JobSource::Exhausted => None,
        }
    }

    /// Sets the number of inputs that the source has announced.
    pub(crate) fn expect_total(&self, job: JobId, total: u64) {
        if let Some(buffers) = self.lock().buffers.map_mut(job) {
            buffers.total = Some(total);
        }
    }

    /// Waits until the feeder of a job may pull, and returns the number of inputs. Returns `None` if the
    /// feeder should end.
    pub(crate) fn await_room(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        let mut state = self.lock();
        loop {
            match state.room(job, flow) {
                Some(0) => {
                    let space = Arc::clone(&state.buffers.map(job).expect("its map is open").space);
                    state.wait(&space, None);
                }
                room => return room,
            }
        }
    }

    /// The feeder has put an input into a queue that a container had found empty. The map gets its turn
    /// again, and a sleeping container is woken. That container wakes another one if it leaves inputs.
    pub(crate) fn wake_for_input(&self, job: JobId) {
        let mut state = self.lock();
        let waited =
            state.buffers.map(job).is_some_and(|buffers| buffers.flow.awaited.swap(false, Ordering::SeqCst));
        if waited {
            state.ledger.requeue_map(job);
            state.accept_for_deadline(job);
            self.wake_for_arrival(&mut state);
        }
    }

    /// Takes an input that was being pulled while its map ended or the function began to drain. The input is
    /// accepted and comes back inside its error.
    pub(crate) fn fed_too_late(&self, job: JobId, input: Values) {
        let mut held = self.lock();
        let state = &mut *held;
        let (Some(buffers), Some(known)) = (state.buffers.map_mut(job), state.ledger.job(job)) else {
            drop(held);
            return drop(input);
        };
        if buffers.over {
            drop(held); // the consumer has seen the end, so no input is accepted any more
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

    /// A feeder begins. It is counted until it [returns](Dispatch::feeder_returns).
    pub(crate) fn feeder_begins(&self) {
        self.under_lock(|state| state.feeders += 1);
    }

    /// A feeder has ended, and its source has been dropped.
    pub(crate) fn source_over(&self, job: JobId, end: FeederEnd) {
        self.source_ends(job, end);
        self.feeder_returns();
    }

    /// The source of a job has been dropped, which may have taken long. Its feeder is no longer counted.
    pub(crate) fn feeder_returns(&self) {
        self.lock().feeders -= 1;
        self.notify(Notice::FeederEnded);
    }

    /// The source of a job gives no more inputs. The source itself may not have been dropped yet.
    pub(crate) fn source_ends(&self, job: JobId, end: FeederEnd) {
        let mut state = self.lock();
        let now = self.now();
        let goes_on = state.ledger.job(job).is_some_and(|job| job.on_failure() == OnFailure::GoOn);
        if let Some(buffers) = state.buffers.map_mut(job) {
            buffers.space.forget(FEEDER);
            let end = match end {
                // The code that set `source_over` has also given the map its end.
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
        state.ledger.requeue_map(job); // the last inputs are claimed even if they are few
        self.wake_one(&mut state);
        self.wake_if_drained(&mut state);
    }
}

impl State {
    /// The number of inputs that the feeder of a job may pull now, or `None` if the feeder should end.
    pub(super) fn room(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        let running =
            self.ledger.mode() == Mode::Running && self.ledger.gave_up().is_none() && self.broken.is_none();
        let open = self.buffers.map(job).is_some_and(|buffers| !buffers.source_over);
        if !running || !open {
            return None;
        }
        // This is set before the room is read, so that the consumer announces any room that it makes in
        // between.
        flow.room_wanted.store(true, Ordering::SeqCst);
        Some(flow.room())
    }
}

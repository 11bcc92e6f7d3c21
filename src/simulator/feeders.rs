//! Simulated feeders, which do the work of `engine/feeder.rs` in single steps.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::base::signal::Signal;
use crate::data::prefetch::Producer;
use crate::engine::dispatch::FeederEnd;
use crate::simulator::course::Course;
use crate::simulator::values::SimInput;
use crate::simulator::world::World;
use crate::values::crash::Panic;

/// A source that may block and panic.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimSource {
    /// The number of its inputs; `None` for an endless source.
    pub(super) inputs: Option<u64>,
    pub(super) panics_at: Option<u64>,
    /// The input at which it blocks until the world is healed.
    pub(super) blocks_at: Option<u64>,
}

/// The feeder of one map.
pub(super) struct Feeder {
    pub(super) job: JobId,
    pub(super) tag: u64,
    source: SimSource,
    given: u64,
    /// The number of inputs that it may still pull.
    room: u64,
    producer: Option<Producer>,
    pub(super) phase: FeederPhase,
}

pub(super) enum FeederPhase {
    /// Its start message is on the way to the supervisor.
    DropGuard,
    Starting,
    Pulling,
    Asleep(Arc<Signal>),
    /// Stuck in the source.
    Blocked,
    Over,
}

impl Feeder {
    pub(super) fn new(job: JobId, tag: u64, source: SimSource) -> Self {
        Self { job, tag, source, given: 0, room: 0, producer: None, phase: FeederPhase::DropGuard }
    }

    /// Wakes the feeder if it was signalled.
    pub(super) fn hear(&mut self) {
        if let FeederPhase::Asleep(space) = &self.phase
            && space.take_raised()
        {
            self.phase = FeederPhase::Pulling;
        }
    }

    pub(super) fn is_ready(&self, healed: bool) -> bool {
        match self.phase {
            FeederPhase::DropGuard | FeederPhase::Starting | FeederPhase::Pulling => true,
            FeederPhase::Blocked => healed,
            FeederPhase::Asleep(_) | FeederPhase::Over => false,
        }
    }
}

impl World {
    /// One step of one feeder.
    pub(super) fn feed(&mut self, at: usize) {
        let job = self.feeders[at].job;
        match self.feeders[at].phase {
            FeederPhase::DropGuard => self.deliver_start(at),
            FeederPhase::Starting => {
                self.feeders[at].producer = self.engine.producer(job);
                match (&self.feeders[at].producer, self.feeders[at].source.inputs) {
                    (None, _) => return self.feeder_over(at, FeederEnd::Stopped),
                    (Some(_), Some(inputs)) => self.engine.expect_total(job, inputs),
                    (Some(_), None) => {}
                }
                self.feeders[at].phase = FeederPhase::Pulling;
            }
            FeederPhase::Pulling | FeederPhase::Blocked => self.pull(at),
            FeederPhase::Asleep(_) | FeederPhase::Over => unreachable!("it is not ready"),
        }
    }

    /// The inputs that feeders have pulled and no container has claimed.
    pub(super) fn in_prefetch_queues(&self) -> u64 {
        let open = self.model.jobs.values().filter(|entry| entry.ended.is_none());
        open.filter_map(|entry| Some(entry.fed? - entry.inputs.len() as u64)).sum()
    }

    /// The message that starts a feeder arrives, or is lost with the supervisor.
    fn deliver_start(&mut self, at: usize) {
        if self.tape.one_in(40) {
            self.tally.start_messages_lost += 1;
            let job = self.feeders[at].job;
            self.engine.map_undelivered(job);
            self.sync_pulled();
            self.model.end_job(job, crate::simulator::model::EndReason::Cancelled);
            self.feeders[at].phase = FeederPhase::Over;
        } else {
            self.engine.feeder_begins();
            self.feeders[at].phase = FeederPhase::Starting;
        }
    }

    fn pull(&mut self, at: usize) {
        let feeder = &mut self.feeders[at];
        let producer = feeder.producer.as_mut().expect("it has started");
        if feeder.room == 0 {
            match self.engine.try_room(feeder.job, producer.flow()) {
                None => return self.feeder_over(at, FeederEnd::Stopped),
                Some(0) => {
                    let job = feeder.job;
                    let space = self
                        .engine
                        .under_lock(|state| Arc::clone(&state.buffers.map(job).expect("it is fed").space));
                    space.take_raised();
                    feeder.phase = FeederPhase::Asleep(space);
                    return;
                }
                Some(room) => feeder.room = room,
            }
        }
        let place = feeder.given;
        if feeder.source.blocks_at == Some(place) && !self.healed {
            if !matches!(feeder.phase, FeederPhase::Blocked) {
                self.tally.sources_blocked += 1;
            }
            feeder.phase = FeederPhase::Blocked;
            return;
        }
        feeder.phase = FeederPhase::Pulling;
        if feeder.source.panics_at == Some(place) {
            self.tally.sources_panicked += 1;
            let panic = Panic { message: "a simulated source".to_owned(), location: None };
            return self.feeder_over(at, FeederEnd::Panicked(panic));
        }
        if feeder.source.inputs.is_some_and(|inputs| place >= inputs) {
            return self.feeder_over(at, FeederEnd::Exhausted);
        }
        let input = SimInput::new(feeder.tag, place, &self.witness);
        feeder.given += 1;
        feeder.room -= 1;
        let pushed = producer.of_type().push(input);
        if let Some(entry) = self.model.jobs.get_mut(&feeder.job).filter(|_| pushed.is_ok()) {
            entry.fed = entry.fed.map(|inputs| inputs + 1);
        }
        match pushed {
            Ok(()) if producer.of_type::<SimInput>().is_awaited() => self.engine.wake_for_input(feeder.job),
            Ok(()) => {}
            Err(input) => {
                let job = feeder.job;
                let told =
                    self.engine.under_lock(|state| state.buffers.map(job).is_none_or(|buffers| buffers.over));
                self.engine.fed_too_late(job, input);
                if !told {
                    let now = self.now();
                    self.model.refused(job, now);
                }
                self.sync_pulled();
                self.feeder_over(at, FeederEnd::Stopped);
            }
        }
    }

    fn feeder_over(&mut self, at: usize, end: FeederEnd) {
        let job = self.feeders[at].job;
        let panicked = matches!(end, FeederEnd::Panicked(_));
        let by_itself = self
            .engine
            .under_lock(|state| state.buffers.map(job).is_some_and(|buffers| !buffers.source_over));
        self.engine.source_over(job, end);
        self.sync_pulled();
        if panicked && by_itself {
            self.model.source_panicked(job);
        }
        self.feeders[at].phase = FeederPhase::Over;
    }
}

//! Simulated feeders, which do the work of `engine/feeder.rs` in single steps.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::base::signal::Signal;
use crate::data::pool::Inlet;
use crate::engine::dispatch::FeederEnd;
use crate::simulator::ticket::Ticket;
use crate::simulator::world::World;
use crate::values::crash::Panic;

/// A source that may block and panic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
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
    source: Source,
    given: u64,
    /// The number of inputs that it may still pull.
    room: u64,
    inlet: Option<Inlet>,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// Its start message is on the way to the supervisor.
    Undelivered,
    Starting,
    Pulling,
    Asleep(Arc<Signal>),
    /// Stuck in the source.
    Blocked,
    Over,
}

impl Feeder {
    pub(super) fn new(job: JobId, tag: u64, source: Source) -> Self {
        Self { job, tag, source, given: 0, room: 0, inlet: None, phase: Phase::Undelivered }
    }

    /// Wakes the feeder if it was signalled.
    pub(super) fn hear(&mut self) {
        if let Phase::Asleep(space) = &self.phase
            && space.take_raised()
        {
            self.phase = Phase::Pulling;
        }
    }

    pub(super) fn is_ready(&self, healed: bool) -> bool {
        match self.phase {
            Phase::Undelivered | Phase::Starting | Phase::Pulling => true,
            Phase::Blocked => healed,
            Phase::Asleep(_) | Phase::Over => false,
        }
    }
}

impl World {
    /// One step of one feeder.
    pub(super) fn feed(&mut self, at: usize) {
        let job = self.feeders[at].job;
        match self.feeders[at].phase {
            Phase::Undelivered => self.deliver_start(at),
            Phase::Starting => {
                self.feeders[at].inlet = self.engine.inlet(job);
                match (&self.feeders[at].inlet, self.feeders[at].source.inputs) {
                    (None, _) => return self.feeder_over(at, FeederEnd::Told),
                    (Some(_), Some(inputs)) => self.engine.expect_total(job, inputs),
                    (Some(_), None) => {}
                }
                self.feeders[at].phase = Phase::Pulling;
            }
            Phase::Pulling | Phase::Blocked => self.pull(at),
            Phase::Asleep(_) | Phase::Over => unreachable!("it is not ready"),
        }
    }

    /// The inputs that feeders have pulled and no container has claimed.
    pub(super) fn in_pools(&self) -> u64 {
        let open = self.books.jobs.values().filter(|book| book.ended.is_none());
        open.filter_map(|book| Some(book.fed? - book.inputs.len() as u64)).sum()
    }

    /// The message that starts a feeder arrives, or is lost with the supervisor.
    fn deliver_start(&mut self, at: usize) {
        if self.tape.one_in(40) {
            self.tally.start_messages_lost += 1;
            let job = self.feeders[at].job;
            self.engine.map_undelivered(job);
            self.sync_pulled();
            self.books.end_job(job, crate::simulator::books::Why::Cancelled);
            self.feeders[at].phase = Phase::Over;
        } else {
            self.engine.feeder_begins();
            self.feeders[at].phase = Phase::Starting;
        }
    }

    fn pull(&mut self, at: usize) {
        let feeder = &mut self.feeders[at];
        let inlet = feeder.inlet.as_mut().expect("it has started");
        if feeder.room == 0 {
            match self.engine.try_room(feeder.job, inlet.gate()) {
                None => return self.feeder_over(at, FeederEnd::Told),
                Some(0) => {
                    let job = feeder.job;
                    let space = self
                        .engine
                        .under_lock(|state| Arc::clone(&state.lanes.map(job).expect("it is fed").space));
                    space.take_raised();
                    feeder.phase = Phase::Asleep(space);
                    return;
                }
                Some(room) => feeder.room = room,
            }
        }
        let place = feeder.given;
        if feeder.source.blocks_at == Some(place) && !self.healed {
            if !matches!(feeder.phase, Phase::Blocked) {
                self.tally.sources_blocked += 1;
            }
            feeder.phase = Phase::Blocked;
            return;
        }
        feeder.phase = Phase::Pulling;
        if feeder.source.panics_at == Some(place) {
            self.tally.sources_panicked += 1;
            let panic = Panic { message: "a simulated source".to_owned(), location: None };
            return self.feeder_over(at, FeederEnd::Panicked(panic));
        }
        if feeder.source.inputs.is_some_and(|inputs| place >= inputs) {
            return self.feeder_over(at, FeederEnd::Exhausted);
        }
        let input = Ticket::new(feeder.tag, place, &self.witness);
        feeder.given += 1;
        feeder.room -= 1;
        let pushed = inlet.of_type().push(input);
        if let Some(book) = self.books.jobs.get_mut(&feeder.job).filter(|_| pushed.is_ok()) {
            book.fed = book.fed.map(|inputs| inputs + 1);
        }
        match pushed {
            Ok(()) if inlet.of_type::<Ticket>().feeds_the_starving() => {
                self.engine.feed_the_starving(feeder.job)
            }
            Ok(()) => {}
            Err(input) => {
                let job = feeder.job;
                let told = self.engine.under_lock(|state| state.lanes.map(job).is_none_or(|lane| lane.over));
                self.engine.fed_too_late(job, input);
                if !told {
                    self.books.refused(job);
                }
                self.sync_pulled();
                self.feeder_over(at, FeederEnd::Told);
            }
        }
    }

    fn feeder_over(&mut self, at: usize, end: FeederEnd) {
        let job = self.feeders[at].job;
        let panicked = matches!(end, FeederEnd::Panicked(_));
        let by_itself =
            self.engine.under_lock(|state| state.lanes.map(job).is_some_and(|lane| !lane.source_over));
        self.engine.source_over(job, end);
        self.sync_pulled();
        if panicked && by_itself {
            self.books.source_panicked(job);
        }
        self.feeders[at].phase = Phase::Over;
    }
}

//! Simulated feeders of maps in a world of batches.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::base::signal::Signal;
use crate::data::prefetch::Producer;
use crate::engine::dispatch::FeederEnd;
use crate::simulator::batches::BatchWorld;
use crate::simulator::course::Course;

/// The feeder of one map.
pub(super) struct BatchFeeder {
    job: JobId,
    /// The inputs that the source still has.
    left: std::ops::Range<u64>,
    /// The input before which the source blocks until the world is healed.
    blocks_at: Option<u64>,
    room: u64,
    producer: Option<Producer>,
    asleep: Option<Arc<Signal>>,
    over: bool,
}

impl BatchFeeder {
    pub(super) fn new(job: JobId, left: std::ops::Range<u64>, blocks_at: Option<u64>) -> Self {
        Self { job, left, blocks_at, room: 0, producer: None, asleep: None, over: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the feeder has a step to take.
    pub(super) fn runs(&self, healed: bool) -> bool {
        let is_blocked = !healed && self.blocks_at == Some(self.left.start) && self.room > 0;
        self.asleep.is_none() && !is_blocked
    }

    /// Wakes the feeder if it was signalled.
    pub(super) fn hear(&mut self) {
        if self.asleep.as_ref().is_some_and(|space| space.take_raised()) {
            self.asleep = None;
        }
    }
}

impl BatchWorld<'_> {
    pub(super) fn feed(&mut self, at: usize) {
        let engine = self.engine;
        let feeder = &mut self.feeders[at];
        let job = feeder.job;
        let Some(producer) = &mut feeder.producer else {
            engine.feeder_begins();
            feeder.producer = engine.producer(job);
            if feeder.producer.is_none() {
                feeder.over = true;
                engine.source_over(job, FeederEnd::Stopped);
            }
            return;
        };
        if feeder.room == 0 {
            match engine.try_room(job, producer.flow()) {
                None => {
                    feeder.over = true;
                    return engine.source_over(job, FeederEnd::Stopped);
                }
                Some(0) => {
                    let map = |state: &mut crate::engine::dispatch::State| {
                        Arc::clone(&state.buffers.map(job).expect("it is fed").space)
                    };
                    let space = engine.under_lock(map);
                    space.take_raised();
                    feeder.asleep = Some(space);
                    return;
                }
                Some(room) => feeder.room = room,
            }
            return;
        }
        let Some(input) = feeder.left.next() else {
            feeder.over = true;
            return engine.source_over(job, FeederEnd::Exhausted);
        };
        feeder.room -= 1;
        self.deeds += 1;
        match producer.of_type().push(input) {
            Ok(()) => {
                if producer.of_type::<u64>().is_awaited() {
                    engine.wake_for_input(job);
                }
            }
            Err(input) => {
                feeder.over = true;
                engine.fed_too_late(job, input);
                engine.source_over(job, FeederEnd::Stopped);
            }
        }
        self.log(|| format!("{job:?} is fed {input:x}"));
    }
}

//! [`Takers`]: the open maps and calls of a world over numbers, and their consumers.
//!
//! Each map and call has a number, its serial. The inputs of the one with serial `n` are the numbers from
//! `n << 20` on, so an input shows its origin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use crate::base::ids::JobId;
use crate::data::failure::Failure;
use crate::data::source::DirectSource;
use crate::decide::limits::Limits;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::{Dispatch, Wait};
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::open_call::OpenCall;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::simulator::fates::answer;

/// The outcome of an input.
pub(super) type Outcome = Result<u64, Failure<u64, u64>>;

/// The settings of a map, other than its source.
#[derive(Debug, Clone, Copy)]
pub(super) struct MapPlan {
    /// The number of inputs of its source.
    pub(super) inputs: u64,
    pub(super) window: u64,
    pub(super) order: Order,
    pub(super) failures: Failures,
    pub(super) limits: Limits,
    /// The number of outcomes after which the consumer leaves, if it leaves early.
    pub(super) leaves_after: Option<u64>,
}

/// An open map.
pub(super) struct SimMap {
    pub(super) consumer: Consumer<u64, u64, u64>,
    pub(super) serial: u64,
    pub(super) plan: MapPlan,
    /// The outcomes that were taken.
    pub(super) taken: u64,
    /// The inputs that the world has seen accepted.
    accepted: u64,
}

/// An open call.
pub(super) struct SimCall {
    pub(super) call: OpenCall,
    pub(super) serial: u64,
}

/// The open maps and calls of a world.
#[derive(Default)]
pub(super) struct Takers {
    pub(super) maps: Vec<SimMap>,
    pub(super) calls: Vec<SimCall>,
    /// The serials of all maps and calls, by their places in the engine.
    serials: BTreeMap<JobId, u64>,
}

impl Takers {
    pub(super) fn is_empty(&self) -> bool {
        self.maps.is_empty() && self.calls.is_empty()
    }

    /// The serial of the map or call that is opened next.
    pub(super) fn next_serial(&self) -> u64 {
        self.serials.len() as u64 + 1
    }

    /// The input with this index.
    pub(super) fn input(&self, job: JobId, index: u64) -> u64 {
        (self.serials[&job] << 20) + index
    }

    /// Opens a call of the next serial. Returns its serial, unless the function refuses it.
    pub(super) fn open_call(&mut self, engine: &Arc<Dispatch>, limits: Limits) -> Option<u64> {
        let serial = self.next_serial();
        let call = OpenCall::begin::<u64, u64>(engine, serial << 20, Caller::default(), None, limits).ok()?;
        self.serials.insert(call.0.job, serial);
        self.calls.push(SimCall { call, serial });
        Some(serial)
    }

    /// Opens a map of the next serial over its inputs. Returns its serial, unless the function refuses it.
    pub(super) fn open_map_over_inputs(&mut self, engine: &Arc<Dispatch>, plan: MapPlan) -> Option<u64> {
        let serial = self.next_serial();
        let first = serial << 20;
        let source = JobSource::Direct(DirectSource::new(first..first + plan.inputs));
        self.open_map(engine, source, plan).map(|_| serial)
    }

    /// Opens a map of the next serial, which is also its label. Returns its place in the engine, unless the
    /// function refuses it.
    pub(super) fn open_map(
        &mut self,
        engine: &Arc<Dispatch>,
        source: JobSource,
        plan: MapPlan,
    ) -> Option<JobId> {
        let serial = self.next_serial();
        let opened = ReaderGuard::of_map(
            engine,
            source,
            (plan.order, plan.failures),
            Window::Fixed(plan.window),
            (None, plan.limits),
            Caller::within(None, Some(serial.to_string().into())),
        );
        let consumer = Consumer::over(opened.ok()?);
        let job = consumer.job;
        self.serials.insert(job, serial);
        self.maps.push(SimMap { consumer, serial, plan, taken: 0, accepted: 0 });
        Some(job)
    }

    /// The inputs of maps that were accepted since the last call, with the limits of their maps.
    pub(super) fn newly_accepted(&mut self, engine: &Dispatch) -> Vec<(u64, Limits)> {
        let mut inputs = Vec::new();
        for map in &mut self.maps {
            let job = map.consumer.job;
            let pulled = engine.under_lock(|state| state.ledger.job(job).map(|job| job.counts().pulled));
            let before = map.accepted;
            map.accepted = pulled.unwrap_or(before);
            let first = map.serial << 20;
            inputs.extend((before..map.accepted).map(|index| (first + index, map.plan.limits)));
        }
        inputs
    }

    /// Takes the outcomes that are there, and has `judge` check each of them. Maps and calls that are over
    /// are closed. Returns whether there was any outcome or end.
    pub(super) fn consume(&mut self, mut judge: impl FnMut(u64, &Outcome)) -> bool {
        let mut took = false;
        self.calls.retain_mut(|SimCall { call, serial }| match call.poll::<u64, u64, u64>(Wait::Try) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                took = true;
                judge(*serial << 20, &outcome.expect("an outcome is taken once"));
                false
            }
        });
        self.maps.retain_mut(|map| {
            let before = map.taken;
            let goes_on = map.consume(&mut judge);
            took |= !goes_on || map.taken != before;
            goes_on
        });
        took
    }
}

impl SimMap {
    pub(super) fn first(&self) -> u64 {
        self.serial << 20
    }

    /// Takes the outcomes that are there. Returns whether there may be more.
    fn consume(&mut self, judge: &mut impl FnMut(u64, &Outcome)) -> bool {
        let MapPlan { inputs, order, failures, leaves_after, .. } = self.plan;
        let (first, yields) = (self.first(), failures == Failures::Yield);
        loop {
            if leaves_after.is_some_and(|most| self.taken >= most) {
                return false;
            }
            match self.consumer.poll_next(Wait::Try) {
                Poll::Pending => return true,
                Poll::Ready(None) => break,
                Poll::Ready(Some(outcome)) => {
                    let input = match &outcome {
                        Ok(output) => {
                            // In most maps it is the next one.
                            let (next, end) = (first + self.taken.min(inputs), first + inputs);
                            (next..end).chain(first..next).find(|input| answer(*input) == *output)
                        }
                        Err(failure) => failure.index().map(|index| first + index),
                    };
                    let Some(input) = input else {
                        assert!(outcome.is_err(), "an output of another job");
                        continue; // the failure of the map itself
                    };
                    let in_turn = order != Order::Input || input == first + self.taken || !yields;
                    assert!(in_turn, "input {input:x} comes out of order");
                    self.taken += 1;
                    judge(input, &outcome);
                }
            }
        }
        let progress = self.consumer.progress();
        assert_eq!(progress.pulled, progress.completed(), "the counts of {:x}: {progress:?}", self.serial);
        assert!(!yields || self.taken == progress.pulled, "{} outcomes of {progress:?}", self.taken);
        false
    }
}

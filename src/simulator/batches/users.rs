//! The users and operators of a world of batches.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::data::erased::TypeInfo;
use crate::data::failure::{Cause, Reason};
use crate::data::prefetch::PrefetchQueue;
use crate::data::source::DirectSource;
use crate::decide::ledger::Mode;
use crate::decide::limits::Limits;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::reader::Failures;
use crate::simulator::batches::driver::{Driver, Phase};
use crate::simulator::batches::facts::DeathScene;
use crate::simulator::batches::feeders::BatchFeeder;
use crate::simulator::batches::{BatchWorld, LIMIT};
use crate::simulator::course::Course;
use crate::simulator::fates::answer;
use crate::simulator::host::passes;
use crate::simulator::left_behind::LEFT_MAX;
use crate::simulator::office::Supervised;
use crate::simulator::takers::{MapPlan, Outcome};

impl<'a> BatchWorld<'a> {
    /// Lets a user or an operator do something, if the tape says so.
    pub(super) fn someone_acts(&mut self) -> bool {
        let draw = self.tape.pick(80);
        let draw = if self.habits.is_busy && draw >= 70 { 1 + draw % 6 } else { draw };
        match draw {
            1..=3 => self.open_map(),
            4..=6 => (0..self.tape.one_of(&[1, 2, 7])).for_each(|_| self.open_call()),
            7..=8 => self.kill(),
            9 => self.overdraw_from_outside(),
            10..=11 => self.end_a_call(),
            12..=13 => self.end_a_map(),
            14 => {
                self.log(|| "reset".to_owned());
                self.engine.give_up(); // if that was decided, and its notice has not arrived
                self.engine.reset();
                self.create();
            }
            15 if self.tape.one_in(10) => self.begin_the_end(),
            16..=22 => _ = self.consume(),
            23 => {
                let late = self.tape.one_of(&[1, 1_000_000, 2_500_000, 30_000_000, 11_000_000_000]);
                passes(&self.clock, Duration::from_nanos(late));
            }
            24 => self.pause(),
            25..=26 => _ = self.engine.unpause(),
            _ => return false,
        }
        true
    }

    fn pause(&mut self) {
        if self.engine.pause() {
            self.log(|| "pause".to_owned());
            self.nothing_more_begins();
        }
    }

    fn begin_the_end(&mut self) {
        self.log(|| "the end begins".to_owned());
        match self.tape.pick(4) {
            0 => self.engine.drain(),
            1 => self.engine.stop(),
            2 => self.engine.cut_off(),
            _ => self.engine.abort(),
        }
        self.nothing_more_begins();
        self.forget_orphans();
    }

    fn open_call(&mut self) {
        if let Some(serial) = self.takers.open_call(self.engine, Limits::default()) {
            self.log(|| format!("call {serial:x}"));
        }
    }

    fn open_map(&mut self) {
        let inputs = self.tape.one_of(&[4, 1, 9, 17, 40, 150, 0]).min(self.habits.inputs);
        let window = self.tape.one_of(&[8, 1, 3, 17, 50, 100]);
        let order = self.tape.one_of(&[Order::Input, Order::Completion]);
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap, Failures::EndMapInOrder]);
        let leaves_after = if self.tape.one_in(4) { Some(self.tape.one_of(&[2, 0, 7])) } else { None };
        let is_fed = self.tape.one_in(2);
        let blocks_at = if is_fed && self.tape.one_in(4) { Some(inputs / 2) } else { None };
        self.map_of(inputs, window, (order, failures), is_fed.then_some(blocks_at), leaves_after);
    }

    /// Opens a map. `fed` says whether it has a feeder, and where its source blocks.
    pub(super) fn map_of(
        &mut self,
        inputs: u64,
        window: u64,
        (order, failures): (Order, Failures),
        fed: Option<Option<u64>>,
        leaves_after: Option<u64>,
    ) {
        let first = self.takers.next_serial() << 20;
        let source = match fed {
            None => JobSource::Direct(DirectSource::new(first..first + inputs)),
            Some(_) => JobSource::Prefetched(Arc::new(PrefetchQueue::new(TypeInfo::of::<u64>()))),
        };
        let limits = Limits::default();
        let plan = MapPlan { inputs, window, order, failures, limits, leaves_after };
        let Some(job) = self.takers.open_map(self.engine, source, plan) else { return };
        self.log(|| format!("map {:x} of {plan:?}, fed: {fed:?}", first >> 20));
        if let Some(blocks_at) = fed {
            let blocks_at = blocks_at.map(|at| first + at);
            self.feeders.push(BatchFeeder::new(job, first..first + inputs, blocks_at));
        }
    }

    fn end_a_call(&mut self) {
        if self.takers.calls.is_empty() {
            return;
        }
        let at = self.tape.pick(self.takers.calls.len());
        self.log(|| format!("cancel call {:x}", self.takers.calls[at].serial));
        self.ends_while_publishing(self.takers.calls[at].serial);
        if self.tape.one_in(2) {
            self.takers.calls[at].call.end_as(&Reason::Cancelled);
        } else {
            drop(self.takers.calls.swap_remove(at));
        }
        self.forget_orphans();
    }

    fn end_a_map(&mut self) {
        if self.takers.maps.is_empty() {
            return;
        }
        let at = self.tape.pick(self.takers.maps.len());
        self.log(|| format!("drop map {:x}", self.takers.maps[at].serial));
        self.ends_while_publishing(self.takers.maps[at].serial);
        drop(self.takers.maps.swap_remove(at));
        self.forget_orphans();
    }

    /// Counts the ends of jobs whose outcomes are being published.
    fn ends_while_publishing(&mut self, serial: u64) {
        let publishes = |driver: &Driver<'_>| {
            let of_job = |part: &crate::simulator::batches::driver::SimPart| {
                self.takers.input(part.lease.job, 0) == serial << 20
            };
            matches!(driver.phase, Phase::Publishing { .. }) && driver.parts.iter().any(of_job)
        };
        let publishes = self.drivers.iter().any(publishes);
        self.tally.ends_while_publishing += u64::from(publishes);
    }

    /// Consumers take what there is, and each outcome is checked. Returns whether there was any.
    pub(super) fn consume(&mut self) -> bool {
        let mut takers = std::mem::take(&mut self.takers);
        let took = takers.consume(|input, outcome| self.judge(input, outcome));
        self.takers = takers;
        self.forget_orphans();
        took
    }

    fn judge(&mut self, input: u64, outcome: &Outcome) {
        let crash_retries = self.rules.crash_retries;
        let record = self.record(input);
        record.outcomes += 1;
        assert_eq!(record.outcomes, 1, "input {input:x} has two outcomes");
        let told = match outcome {
            Ok(output) => {
                assert_eq!(*output, answer(input), "the output of another input");
                return;
            }
            Err(failure) => failure,
        };
        assert_eq!(told.input(), Some(&input), "the input that failed comes back");
        match told.cause() {
            Cause::Poisoned(deaths) => {
                let is_spent = record.own > crash_retries || record.left >= LEFT_MAX;
                assert!(is_spent, "{input:x} is poisoned: {record:?}");
                assert!(
                    deaths.len() <= record.own as usize,
                    "{input:x} has {} deaths: {record:?}",
                    deaths.len()
                );
                assert_eq!(told.attempts(), record.executions, "{input:x}: {record:?}");
                self.tally.poisoned += 1;
            }
            Cause::Failed(_) => {
                assert!(record.failures > 0 && !record.miscounted, "{input:x} has failed: {record:?}");
                assert_eq!(told.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::BatchLength { inputs, outcomes } => {
                assert!(record.miscounted && *outcomes == inputs + 1, "{input:x}: {record:?}");
                assert_eq!(told.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::Lost(_) => {
                let is_spent = crash_retries == 0 || record.left >= LEFT_MAX;
                assert!(is_spent, "{input:x} is lost: {record:?}");
                self.tally.lost += 1;
            }
            Cause::GaveUp(_) | Cause::ShutDown | Cause::Cancelled => {}
            other => panic!("{input:x} ends by {other:?}"),
        }
    }

    /// The driver of the current generation of a container, by its place.
    fn current(&self, id: ContainerId) -> Option<usize> {
        let generation = self.engine.under_lock(|state| state.ledger.stage(id).0);
        self.drivers.iter().position(|driver| driver.id == id && driver.generation == generation)
    }

    /// The number of threads that were left behind in the user's code, as the engine sees it.
    fn left_behind(&self) -> usize {
        self.engine.under_lock(|state| state.left_behind())
    }

    fn kill(&mut self) {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let Some(at) = self.current(id) else { return };
        let (scene, before) = (self.scene(at), self.left_behind());
        let Some(generation) = self.engine.kill(id) else { return };
        self.log(|| format!("kill {id}#{generation}"));
        self.tally.kills += 1;
        let phase = self.drivers[at].phase;
        self.tally.kills_while_beginning += u64::from(phase == Phase::Beginning);
        self.tally.kills_while_publishing += u64::from(matches!(phase, Phase::Publishing { .. }));
        self.died_from_outside(at, &scene, before);
        self.was_killed(scene);
        self.engine.give_up(); // if no container is left, and none can be created
        self.create();
    }

    /// Whether a thread is left behind is known where it is in the user's code, and where that waits.
    fn died_from_outside(&mut self, at: usize, scene: &DeathScene, before: usize) {
        let left = self.left_behind() - before;
        let driver = &self.drivers[at];
        match driver.phase {
            Phase::Calling => assert_eq!(left, 1, "{driver:?} is left behind in its code"),
            Phase::Suspended | Phase::Asleep => assert_eq!(left, 0, "{driver:?} waits, and is left behind"),
            _ => {}
        }
        self.tally.left_behind += left as u64;
        if let Some(input) = scene.alone().filter(|_| left > 0) {
            self.record(input).left += 1;
        }
    }

    /// A container crosses its memory limit, and the watch kills it unless its thread sees it first.
    fn overdraw_from_outside(&mut self) {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let Some(at) = self.current(id) else { return };
        let driver = &self.drivers[at];
        let serves = !matches!(driver.phase, Phase::Entering | Phase::Exiting { .. } | Phase::Over);
        if !serves {
            return;
        }
        let generation = driver.generation;
        let account = driver.token.account().expect("memory is counted").counters();
        account.charge(account.epoch(), 2 * LIMIT as i64, 2 * LIMIT as i64);
        if driver.phase == Phase::Calling && self.tape.one_in(2) {
            return; // its thread sees it
        }
        let (scene, before) = (self.scene(at), self.left_behind());
        let lived = self.engine.under_lock(|state| {
            state.ledger.is_current(id, generation) && state.ledger.mode() < Mode::Aborted
        });
        self.engine.over_limit(id, generation);
        if !lived {
            return;
        }
        self.log(|| format!("{id}#{generation} is killed for its memory"));
        self.tally.memory_kills += 1;
        self.died_from_outside(at, &scene, before);
        self.is_to_pay(scene);
    }
}

//! Worlds with limits of time: timeouts, deadlines, and code that does not return, held against a naive
//! record of each input ([`facts`]).
//!
//! A world is smaller than the ones of [`world`](crate::simulator::world): containers execute one input at a
//! time ([`code`]). The engine is the real one. The record knows when each
//! execution began and ended, and says which outcome an input may have, and at which moment.

mod code;
mod facts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::Rules;
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{CrashLoopBackoff, RateLimited};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::map_buffers::Order;
use crate::engine::reader::Failures;
use crate::engine::settings::{MemoryRules, Settings};
use crate::simulator::course::{Course, Parts, nothing_is_left_in};
use crate::simulator::events::Heard;
use crate::simulator::host::Simulation;
use crate::simulator::limits::code::{Driver, Phase};
use crate::simulator::limits::facts::Record;
use crate::simulator::office::{Office, Supervised};
use crate::simulator::rig::{UNCOUNTED, settings};
use crate::simulator::takers::{MapPlan, Takers};
use crate::simulator::tally::tally;
use crate::simulator::tape::Tape;
use crate::simulator::time_facts::TimeFacts;
use crate::simulator::world::Simulated;
use crate::simulator::{Verbosity, every_seed};

const WORLDS: u64 = 3_000;
const MS: Duration = Duration::from_millis(1);

/// The longest time by which the engine may notice a timeout too late, where nothing delays it: a lease of
/// several inputs is sampled.
pub(super) const LAG: Duration = MS;

tally! {
    LimitTally {
        worlds,
        executions,
        outcomes,
        timed_out,
        cut,
        past_deadline,
        deadlines_of_waiting,
        deadlines_with_an_error,
        refused_retries,
        unresponsive,
        kept,
        returned_in_the_grace,
        unwound,
        /// Containers that built their state again after an interruption, and those that kept it.
        entered_anew,
        kept_their_state,
        leases_cut_short,
        given_up,
        poisoned,
        calls,
        maps,
        kills,
        pauses,
    }
}

struct LimitWorld<'a> {
    verbosity: Verbosity,
    engine: &'a Arc<Dispatch>,
    clock: Arc<AtomicU64>,
    /// The events that subscribers received.
    heard: Heard,
    tape: Tape,
    rules: Rules,
    /// Whether an interruption may leave the state of the code torn, so that it is built again.
    enters_anew: bool,
    salt: u64,
    hangs: u64,
    longest: Duration,
    office: Office,
    drivers: Vec<Driver>,
    takers: Takers,
    records: BTreeMap<u64, Record>,
    healed: bool,
    steps: u64,
    abandoned_max: usize,
    /// The last moment at which as many threads were left behind as may be.
    full_at: Option<Time>,
    tally: LimitTally,
}

/// The limits of a function.
pub(super) fn limit_rules(tape: &mut Tape) -> LimitRules {
    LimitRules {
        timeout: tape.one_of(&[None, Some(10 * MS), Some(MS), Some(100 * MS), Some(3 * MS)]),
        deadline: tape.one_of(&[None, None, Some(50 * MS), Some(500 * MS)]),
        retry_timeouts: !tape.one_in(4),
        enter_timeout: None,
    }
}

/// The limits of a map or a call.
pub(super) fn limits(tape: &mut Tape) -> Limits {
    Limits {
        timeout: tape.one_of(&[None, None, Some(2 * MS), Some(20 * MS)]),
        deadline: tape.one_of(&[None, None, Some(30 * MS), Some(5 * MS)]),
    }
}

fn live(choices: Vec<u32>, verbosity: Verbosity) -> LimitTally {
    let mut tape = Tape::new(choices);
    let limits = limit_rules(&mut tape);
    let delay = tape.one_of(&[Duration::ZERO, MS, 30 * MS]);
    let restart = match tape.pick(3) {
        0 => RateLimited::never().into(),
        1 => RateLimited::new().max_crashes(3).max_failure_rate(0.0).into(),
        _ => CrashLoopBackoff::new().initial(MS).max(20 * MS).into(),
    };
    let rules = Rules {
        batch: None,
        containers: tape.one_of(&[1, 2, 3]),
        lanes: 1,
        has_state: tape.one_in(2),
        retries: Retries::new(tape.one_of(&[0, 1, 3])).initial_delay(delay).backoff_coefficient(1.0),
        crash_retries: tape.one_of(&[3, 0, 1]),
        restart,
        calls_max: CALLS_MAX_DEFAULT,
        limits,
    };
    let memory = MemoryRules { abandoned_max: tape.one_of(&[8, 1, 2, 100]), ..UNCOUNTED };
    let simulation = Simulation::default();
    let (clock, heard) = (Arc::clone(&simulation.clock), Arc::clone(&simulation.heard));
    let (has_state, keep_interrupted) = (rules.has_state, tape.one_in(3));
    let code = Arc::new(Simulated { has_state });
    let settings = Settings { code, keep_interrupted, ..settings(rules.clone(), memory) };
    let engine = Arc::new(Dispatch::new(settings, Arc::new(simulation)));
    if verbosity == Verbosity::Steps {
        println!("{rules:#?} {memory:?}");
    }
    let world = LimitWorld {
        verbosity,
        engine: &engine,
        clock,
        heard,
        salt: tape.salt(),
        hangs: tape.one_of(&[0, 50, 300]),
        longest: tape.one_of(&[5 * MS, MS / 100, 200 * MS]),
        tape,
        rules,
        enters_anew: has_state && !keep_interrupted,
        office: Office::of(&engine),
        drivers: Vec::new(),
        takers: Takers::default(),
        records: BTreeMap::new(),
        healed: false,
        steps: 0,
        abandoned_max: memory.abandoned_max,
        full_at: None,
        tally: LimitTally { worlds: 1, ..LimitTally::default() },
    };
    world.live()
}

impl LimitWorld<'_> {
    fn live(mut self) -> LimitTally {
        self.create();
        self.play();
        self.healed = true;
        self.engine.unpause();
        self.run_until("every map and call ends", |world| world.takers.is_empty());
        self.engine.drain();
        self.run_until("every thread ends", |world| world.drivers.is_empty() && world.engine.has_ended());
        let Self { engine, mut tally, records, .. } = self;
        nothing_is_left_in(engine);
        tally.executions = records.values().map(|record| u64::from(record.executions)).sum();
        tally.outcomes = records.values().map(|record| u64::from(record.outcomes)).sum();
        tally
    }

    /// Something that a user does, perhaps.
    fn someone_acts(&mut self) -> bool {
        match self.tape.pick(24) {
            1 | 2 => self.open_call(),
            3 if self.takers.maps.len() < 3 => self.open_map(),
            4 if self.tape.one_in(4) => return self.kill(),
            5 if self.tape.one_in(4) => {
                self.tally.pauses += 1;
                self.engine.pause();
            }
            6 | 7 => _ = self.engine.unpause(),
            _ => return false,
        }
        true
    }

    fn kill(&mut self) -> bool {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let asks = |driver: &Driver| driver.id == id && matches!(driver.phase, Phase::Asking);
        let is_orphan = self.engine.under_lock(|state| state.ledger.orphan(id).is_some());
        if is_orphan && self.drivers.iter().any(asks) {
            return false; // the engine cannot know that its code has just returned
        }
        if let Some(generation) = self.engine.kill(id) {
            self.log(|| format!("kill {id}#{generation}"));
            self.tally.kills += 1;
            self.died(id, generation);
            self.see_threads_left();
        }
        self.engine.give_up(); // if no container is left, and none can be created
        self.create();
        true
    }

    fn open_call(&mut self) {
        let (now, limits) = (self.now(), limits(&mut self.tape));
        if let Some(serial) = self.takers.open_call(self.engine, limits) {
            self.tally.calls += 1;
            let time = TimeFacts::of(limits, &self.rules, now);
            self.records.insert(serial << 20, Record { time, ..Record::default() });
            self.log(|| format!("call {serial:x} within {limits:?}"));
        }
    }

    fn open_map(&mut self) {
        let limits = limits(&mut self.tape);
        let inputs = self.tape.one_of(&[5, 40, 1, 300]);
        let window = self.tape.one_of(&[8, 1, 300]);
        let (order, failures) = (Order::Completion, Failures::Yield);
        let plan = MapPlan { inputs, window, order, failures, limits, leaves_after: None };
        if let Some(serial) = self.takers.open_map_over_inputs(self.engine, plan) {
            self.tally.maps += 1;
            self.log(|| format!("map {serial:x} of {plan:?}"));
        }
    }
}

impl Supervised for LimitWorld<'_> {
    fn desk(&mut self) -> (&mut Office, &Dispatch) {
        (&mut self.office, self.engine)
    }

    fn create(&mut self) {
        for (id, generation) in self.engine.create() {
            if self.engine.launch(id, generation) {
                self.drivers.push(Driver::new(self.engine, id, generation));
            }
        }
        self.office.created(self.engine, self.now());
    }

    fn look(&mut self) {
        self.look_at_limits();
    }

    fn has_given_up(&mut self, _: u64) {}
}

impl Course for LimitWorld<'_> {
    fn parts(&self) -> Parts<'_> {
        Parts { clock: &self.clock, tape: &self.tape, verbosity: self.verbosity }
    }

    fn happen(&mut self) -> bool {
        self.someone_acts()
    }

    fn step(&mut self) -> bool {
        self.steps += 1;
        if self.supervises() {
            return true;
        }
        let now = self.now();
        for id in self.engine.take_raised() {
            for driver in self.drivers.iter_mut().filter(|driver| driver.id == id) {
                if let Phase::Asleep { until } = &mut driver.phase {
                    *until = Some(now);
                }
            }
        }
        let ready_at = |at: &usize| self.drivers[*at].ready_at(self.healed);
        let is_ready = |at: &usize| ready_at(at).is_some_and(|at| at <= now);
        let ready: Vec<usize> = (0..self.drivers.len()).filter(is_ready).collect();
        if !ready.is_empty() {
            let at = ready[self.tape.pick_in_turn(self.steps, ready.len())];
            self.drive(at);
            return true;
        }
        let drivers = (0..self.drivers.len()).filter_map(|at| ready_at(&at));
        let Some(next) = drivers.chain(self.office.next()).min() else { return false };
        self.move_to(next);
        true
    }

    fn after_step(&mut self) {
        self.see_accepted();
        self.hear();
        self.drivers.retain(|driver| !matches!(driver.phase, Phase::Over));
        self.consume();
    }
}

#[test]
fn every_world_with_limits_keeps_every_promise() {
    let (tally, is_whole) = every_seed("simulator::limits", WORLDS, live);
    println!("{tally}");
    assert!(!is_whole || tally.missing().is_empty(), "events that no world had: {:?}", tally.missing());
}

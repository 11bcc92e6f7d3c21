//! Random worlds of containers that have several inputs in flight, in virtual time.
//!
//! The engine is the real one, with its [`WorkSeeker`](crate::engine::dispatch::WorkSeeker) and its
//! [`ReadyLanes`](crate::base::ready::ReadyLanes). Only the futures of the lanes are simulated, and the loop
//! of `engine/concurrent_body.rs` that polls them: a [`driver`] owns the lanes of a container, and polls one
//! at a time ([`code`]). Between the beginning and the end of a poll anything else may happen, and a poll may
//! be stuck for a while. [`users`] and operators do what they like.
//!
//! The record of an input is kept apart from the engine's ([`facts`]): each of its executions ends in one
//! way, and the way decides what it costs. Half of the worlds have timeouts and deadlines ([`limits`]). When
//! no step is possible but the passing of time, no input may wait that a container with a free lane may take
//! ([`rest`]). [`directed`] has tests for faults that the worlds have found, and [`crashes`] has one for the
//! verdict on a crash in a lane.

mod code;
mod crashes;
mod directed;
mod driver;
mod facts;
mod limits;
mod rest;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::contain::drops::set_one_thread_for_all;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::Rules;
use crate::decide::limits::LimitRules;
use crate::decide::restart::{CrashLoopBackoff, RateLimited};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::settings::MemoryRules;
use crate::simulator::course::{Course, Parts, nothing_is_left_in};
use crate::simulator::events::Heard;
use crate::simulator::fates::Fates;
use crate::simulator::host::Simulation;
use crate::simulator::lanes::driver::{Driver, Phase};
use crate::simulator::lanes::facts::Record;
use crate::simulator::lanes::users::STUCK_FOR;
use crate::simulator::limits::limit_rules;
use crate::simulator::office::{Office, Supervised};
use crate::simulator::rig::{UNCOUNTED, settings};
use crate::simulator::takers::Takers;
use crate::simulator::tally::tally;
use crate::simulator::tape::{Tape, mix};
use crate::simulator::{Verbosity, every_seed};

/// The number of worlds in a normal test run.
const WORLDS: u64 = 600;

/// The bytes that a container may use.
const LIMIT: u64 = 1000;

const MS: Duration = Duration::from_millis(1);

/// How the code of a world behaves.
#[derive(Debug, Clone, Copy)]
struct Habits {
    fates: Fates,
    /// How often a future waits at most.
    waits: u32,
    longest: Duration,
    /// The executions of a thousand whose last poll is stuck.
    stuck: u64,
}

impl Habits {
    /// For how long the last poll of an execution is stuck.
    fn is_stuck_for(&self, input: u64, executions: u32) -> Option<Duration> {
        let draw = mix(self.fates.salt, input, u64::from(executions), 9);
        (draw % 1000 < self.stuck).then(|| STUCK_FOR[(draw >> 32) as usize % STUCK_FOR.len()])
    }
}

struct LaneWorld<'a> {
    engine: &'a Arc<Dispatch>,
    clock: Arc<AtomicU64>,
    /// The events that subscribers received in this step.
    heard: Heard,
    rules: Rules,
    abandoned_max: usize,
    habits: Habits,
    /// Whether maps and calls may have limits of their own.
    has_limits: bool,
    tape: Tape,
    verbosity: Verbosity,
    office: Office,
    drivers: Vec<Driver<'a>>,
    takers: Takers,
    records: BTreeMap<u64, Record>,
    healed: bool,
    steps: u64,
    /// When a container was last entered.
    entered_at: Time,
    /// The last moment to which time has jumped.
    late_at: Time,
    /// The last moment at which as many threads were left behind as may be.
    full_at: Option<Time>,
    tally: LaneTally,
}

tally! {
    LaneTally {
        worlds,
        /// Leases of several inputs.
        of_several,
        executions,
        outcomes,
        crashes_in_lanes,
        crashes_of_containers,
        freed,
        alone,
        poisoned,
        lost,
        interrupted,
        kills,
        memory_kills,
        holds,
        recycled,
        give_ups,
        pauses,
        rests,
        /// Polls that did not return for a while.
        stuck,
        /// Moments at which a container had been woken whose thread was stuck.
        cut,
        cut_beside_others,
        timed_out,
        past_deadline,
        past_deadline_after_an_error,
        /// Containers that died because code did not return after its limit.
        unresponsive,
        innocent_beside_stuck,
        /// Steps in which a container hung and was kept.
        kept,
    }
}

fn live(choices: Vec<u32>, verbosity: Verbosity) -> LaneTally {
    set_one_thread_for_all();
    let mut tape = Tape::new(choices);
    let retries = Retries::new(tape.one_of(&[1, 0, 3])).backoff_coefficient(tape.one_of(&[2.0, 1.0]));
    let delay = tape.one_of(&[Duration::ZERO, MS, 50 * MS]);
    let restart = match tape.pick(4) {
        0 => RateLimited::never().into(),
        1 => RateLimited::new().max_crashes(3).max_failure_rate(0.0).into(),
        2 => CrashLoopBackoff::new().into(),
        _ => CrashLoopBackoff::new().initial(MS).max(20 * MS).into(),
    };
    let has_limits = tape.one_in(2);
    let rules = Rules {
        containers: tape.one_of(&[1, 2, 3]),
        lanes: tape.one_of(&[4, 2, 3, 5, 9]),
        batch: None,
        has_state: tape.one_in(2),
        retries: retries.initial_delay(delay),
        crash_retries: tape.one_of(&[3, 0, 1, 2]),
        restart,
        calls_max: CALLS_MAX_DEFAULT,
        limits: if has_limits { limit_rules(&mut tape) } else { LimitRules::default() },
    };
    let fates = Fates {
        salt: tape.salt(),
        fails: tape.one_of(&[0, 50, 300]),
        panics: tape.one_of(&[0, 50, 300]),
        overdraws: tape.one_of(&[0, 50, 300]),
        poison: tape.one_of(&[0, 0, 50, 200]),
    };
    let habits = Habits {
        fates,
        waits: tape.one_of(&[1, 0, 3]),
        longest: tape.one_of(&[5 * MS, Duration::ZERO, 2000 * MS]),
        stuck: tape.one_of(&[0, 0, 30, 150]),
    };
    let simulation = Simulation::default();
    let (clock, heard) = (Arc::clone(&simulation.clock), Arc::clone(&simulation.heard));
    let abandoned_max = tape.one_of(&[100, 100, 8, 1, 2]);
    let memory = MemoryRules { accounted: true, limit: Some(LIMIT), abandoned_max, ..UNCOUNTED };
    let engine = Arc::new(Dispatch::new(settings(rules.clone(), memory), Arc::new(simulation)));
    if verbosity == Verbosity::Steps {
        println!("{rules:#?} {habits:?} {abandoned_max}");
    }
    let world = LaneWorld {
        engine: &engine,
        clock,
        heard,
        rules,
        abandoned_max,
        habits,
        has_limits,
        tape,
        verbosity,
        office: Office::of(&engine),
        drivers: Vec::new(),
        takers: Takers::default(),
        records: BTreeMap::new(),
        healed: false,
        steps: 0,
        entered_at: Time::default(),
        late_at: Time::default(),
        full_at: None,
        tally: LaneTally { worlds: 1, ..LaneTally::default() },
    };
    world.live()
}

impl LaneWorld<'_> {
    fn live(mut self) -> LaneTally {
        self.create();
        self.play();
        self.heal();
        self.run_until("every map and call ends", |world| world.takers.is_empty());
        self.engine.drain();
        self.run_until("every thread ends", |world| world.drivers.is_empty() && world.engine.has_ended());
        let Self { engine, mut tally, records, .. } = self;
        nothing_is_left_in(engine);
        tally.executions = records.values().map(|record| u64::from(record.executions)).sum();
        tally.outcomes = records.values().map(|record| u64::from(record.outcomes)).sum();
        tally
    }

    /// Polls that are stuck end, and the function goes on.
    fn heal(&mut self) {
        self.healed = true;
        self.engine.unpause();
        let now = self.now();
        self.drivers.iter_mut().filter(|driver| driver.stuck_until.is_some()).for_each(|driver| {
            driver.stuck_until = Some(now);
        });
        self.after_step();
    }
}

impl Supervised for LaneWorld<'_> {
    fn desk(&mut self) -> (&mut Office, &Dispatch) {
        (&mut self.office, self.engine)
    }

    fn create(&mut self) {
        for (id, generation) in self.engine.create() {
            if self.engine.launch(id, generation) {
                self.drivers.push(Driver::new(self.engine, id, generation, self.rules.lanes));
            }
        }
        self.office.created(self.engine, self.now());
    }

    fn look(&mut self) {
        self.look_at_limits();
    }

    fn has_given_up(&mut self, times: u64) {
        self.tally.give_ups += times;
    }
}

impl Course for LaneWorld<'_> {
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
        self.drivers.iter_mut().for_each(|driver| driver.time_passes(now));
        let runs: Vec<usize> = (0..self.drivers.len()).filter(|at| self.drivers[*at].runs(now)).collect();
        if !runs.is_empty() {
            let at = runs[self.tape.pick_in_turn(self.steps, runs.len())];
            self.drive(at);
            return true;
        }
        // A consumer that looks commits what was published. That may end a delay, and so wake containers.
        if self.healed && (self.consume() || self.drivers.iter().any(|driver| driver.runs(now))) {
            return true;
        }
        self.all_rest();
        let next = self.drivers.iter().filter_map(Driver::wakes_at).chain(self.office.next()).min();
        let Some(next) = next else { return false };
        self.move_to(next);
        true
    }

    fn after_step(&mut self) {
        self.see_accepted();
        self.hear();
        self.drivers.retain(|driver| driver.phase != Phase::Over);
        if self.abandoned_max < 100 {
            self.see_threads_left();
        }
        self.check_bounds();
    }
}

#[test]
fn every_world_of_containers_with_many_lanes_keeps_every_promise() {
    let (tally, is_whole) = every_seed("simulator::lanes", WORLDS, live);
    println!("{tally}");
    assert!(!is_whole || tally.missing().is_empty(), "events that no world had: {:?}", tally.missing());
}

//! Random worlds of containers that execute batches, in virtual time.
//!
//! The engine is the real one. Only the threads of its containers are simulated, with the user's code on them
//! and the loop of `engine/batch_body.rs` around it: [`code`]. Each step begins one part of a batch, lets the
//! code go on, or publishes one outcome. Between two steps anything else may happen: [`users`] and operators
//! do what they like, and [`feeders`] bring inputs.
//!
//! The record of an input is kept apart from the engine's ([`facts`]): each of its executions ends in one
//! way, and the way decides what it costs. When no step is possible but the passing of time, no input may
//! wait that an idle container may take ([`rest`]). [`quiet`] has worlds in which only one poison input goes
//! wrong, and counts its crashes. [`costs`] counts the steps of a batch beside other work. [`directed`] has a
//! test for each fault that the worlds have found.

mod code;
mod costs;
mod directed;
mod driver;
mod facts;
mod feeders;
mod quiet;
mod rest;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::contain::drops::set_one_thread_for_all;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::{Batching, Rules};
use crate::decide::limits::LimitRules;
use crate::decide::restart::{CrashLoopBackoff, RateLimited, RestartPolicy};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::settings::MemoryRules;
use crate::simulator::batches::driver::Driver;
use crate::simulator::batches::facts::Record;
use crate::simulator::batches::feeders::BatchFeeder;
use crate::simulator::batches::rest::Ahead;
use crate::simulator::course::{Course, Parts, nothing_is_left_in};
use crate::simulator::fates::Fates;
use crate::simulator::host::Simulation;
use crate::simulator::office::{Office, Supervised};
use crate::simulator::rig::{UNCOUNTED, settings};
use crate::simulator::takers::Takers;
use crate::simulator::tally::tally;
use crate::simulator::tape::Tape;
use crate::simulator::{Verbosity, every_seed};

/// The number of worlds in a normal test run.
const WORLDS: u64 = 600;

/// The bytes that a container may use.
const LIMIT: u64 = 1000;

const MS: Duration = Duration::from_millis(1);

/// How the code of a world behaves. Miscounts are in a thousand batches, and failures of `enter` in a
/// thousand containers.
#[derive(Debug, Clone, Copy, Default)]
struct Habits {
    fates: Fates,
    /// Batches that return a vector of the wrong length.
    miscounts: u64,
    enter_fails: u64,
    /// How often a future waits at most.
    waits: u32,
    longest: Duration,
    /// Whether the code is a future, in a task.
    in_task: bool,
    /// Whether the code has a state, which an interruption may leave torn.
    has_state: bool,
    /// The most inputs of a map.
    inputs: u64,
    /// Whether users open calls and maps often, so that much waits.
    is_busy: bool,
}

struct BatchWorld<'a> {
    engine: &'a Arc<Dispatch>,
    clock: Arc<AtomicU64>,
    rules: Rules,
    batching: Batching,
    habits: Habits,
    tape: Tape,
    verbosity: Verbosity,
    office: Office,
    drivers: Vec<Driver<'a>>,
    feeders: Vec<BatchFeeder>,
    takers: Takers,
    records: BTreeMap<u64, Record>,
    /// The crashes of several inputs so far.
    crashes_of_several: u64,
    /// Since when inputs wait that could form a batch, as the last moment of rest saw it.
    forms_since: Option<Time>,
    /// Inputs that were leased ahead beside an idle container when the world last rested.
    ahead: Vec<Ahead>,
    healed: bool,
    steps: u64,
    /// The steps of threads and feeders, other than those that only look for work.
    deeds: u64,
    /// The moment and the number of deeds at which consumers have looked last, once the world is healed.
    looked_at: Option<(Time, u64)>,
    /// When a container was last entered.
    entered_at: Time,
    tally: BatchTally,
}

tally! {
    BatchTally {
        worlds,
        batches,
        full,
        of_several_parts,
        of_several_batches,
        executions,
        outcomes,
        crashes,
        crashes_of_several,
        halves,
        alone,
        poisoned,
        lost,
        interrupted,
        kills,
        kills_of_halves,
        kills_while_beginning,
        kills_while_publishing,
        memory_kills,
        ends_while_publishing,
        miscounted,
        left_behind,
        suspended,
        recycled,
        give_ups,
        rests,
        formings,
    }
}

fn policy(tape: &mut Tape) -> RestartPolicy {
    match tape.pick(4) {
        0 => RateLimited::never().into(),
        1 => RateLimited::new().max_crashes(tape.one_of(&[3, 6, 1])).max_failure_rate(0.0).into(),
        2 => CrashLoopBackoff::new().into(),
        _ => CrashLoopBackoff::new().initial(MS).max(20 * MS).into(),
    }
}

fn drawn(tape: &mut Tape) -> (Rules, Batching, Habits) {
    let retries = Retries::new(tape.one_of(&[1, 0, 3]));
    let delay = tape.one_of(&[Duration::ZERO, MS, 50 * MS]);
    let batching = Batching {
        size: tape.one_of(&[4, 1, 2, 3, 5, 6, 7, 8, 9]),
        wait: tape.one_of(&[Duration::ZERO, 3 * MS, Duration::ZERO, 20 * MS]),
    };
    let rules = Rules {
        containers: tape.one_of(&[1, 2, 3, 4]),
        lanes: 1,
        batch: Some(batching),
        has_state: false,
        retries: retries.initial_delay(delay),
        crash_retries: tape.one_of(&[3, 0, 1, 2]),
        restart: policy(tape),
        calls_max: CALLS_MAX_DEFAULT,
        limits: LimitRules::default(),
    };
    let habits = Habits {
        fates: Fates {
            salt: tape.salt(),
            fails: tape.one_of(&[0, 50, 300]),
            panics: tape.one_of(&[0, 20, 150]),
            overdraws: tape.one_of(&[0, 20, 150]),
            poison: tape.one_of(&[0, 0, 50, 200]),
        },
        miscounts: tape.one_of(&[0, 0, 50]),
        enter_fails: tape.one_of(&[0, 0, 200]),
        waits: tape.one_of(&[1, 0, 3]),
        longest: tape.one_of(&[5 * MS, Duration::ZERO, MS / 100, 2000 * MS]),
        in_task: tape.one_in(2),
        has_state: tape.one_in(2),
        inputs: tape.one_of(&[12, 40, 3, 150]),
        is_busy: tape.one_in(3),
    };
    (Rules { has_state: habits.has_state, ..rules }, batching, habits)
}

/// Makes a function with these rules, and has `play` play a world of it.
fn with_world(
    (rules, batching, habits): (Rules, Batching, Habits),
    tape: Tape,
    verbosity: Verbosity,
    play: impl FnOnce(BatchWorld<'_>) -> BatchTally,
) -> BatchTally {
    set_one_thread_for_all();
    let simulation = Simulation::default();
    let clock = Arc::clone(&simulation.clock);
    let memory = MemoryRules { accounted: true, limit: Some(LIMIT), ..UNCOUNTED };
    let engine = Arc::new(Dispatch::new(settings(rules.clone(), memory), Arc::new(simulation)));
    let office = Office::of(&engine);
    if verbosity == Verbosity::Steps {
        println!("{rules:#?} {habits:#?}");
    }
    play(BatchWorld {
        engine: &engine,
        clock,
        rules,
        batching,
        habits,
        tape,
        verbosity,
        office,
        drivers: Vec::new(),
        feeders: Vec::new(),
        takers: Takers::default(),
        records: BTreeMap::new(),
        crashes_of_several: 0,
        forms_since: None,
        ahead: Vec::new(),
        healed: false,
        steps: 0,
        deeds: 0,
        looked_at: None,
        entered_at: Time::default(),
        tally: BatchTally { worlds: 1, ..BatchTally::default() },
    })
}

fn live(choices: Vec<u32>, verbosity: Verbosity) -> BatchTally {
    let mut tape = Tape::new(choices);
    let drawn = drawn(&mut tape);
    with_world(drawn, tape, verbosity, |world| world.live())
}

impl BatchWorld<'_> {
    fn live(mut self) -> BatchTally {
        self.create();
        self.play();
        self.heal();
        self.run_until("every map and call ends", |world| world.takers.is_empty());
        self.engine.drain();
        self.after_step();
        self.run_until("every thread ends", |world| {
            world.drivers.is_empty() && world.feeders.is_empty() && world.engine.has_ended()
        });
        self.nothing_is_left()
    }

    fn nothing_is_left(self) -> BatchTally {
        let Self { engine, mut tally, records, .. } = self;
        engine.under_lock(|state| {
            assert_eq!(state.ledger.left_of_batches(), "", "something is left of the batches");
        });
        nothing_is_left_in(engine);
        tally.executions = records.values().map(|record| u64::from(record.executions)).sum();
        tally.outcomes = records.values().map(|record| u64::from(record.outcomes)).sum();
        tally
    }

    /// Everything that hangs or is slow recovers. Code may still go wrong.
    fn heal(&mut self) {
        self.healed = true;
        self.engine.unpause();
        let now = self.now();
        self.drivers.iter_mut().for_each(|driver| driver.recovers(now));
        self.after_step();
    }
}

impl Supervised for BatchWorld<'_> {
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
        self.office.looks(self.engine, self.now());
    }

    fn has_given_up(&mut self, times: u64) {
        self.tally.give_ups += times;
    }
}

impl Course for BatchWorld<'_> {
    fn parts(&self) -> Parts<'_> {
        Parts { clock: &self.clock, tape: &self.tape, verbosity: self.verbosity }
    }

    fn happen(&mut self) -> bool {
        self.someone_acts()
    }

    /// Takes one step of any party. Returns whether there was one to take, now or later.
    fn step(&mut self) -> bool {
        self.steps += 1;
        if self.supervises() {
            return true;
        }
        let now = self.now();
        let drivers = (0..self.drivers.len()).filter(|at| self.drivers[*at].runs(now));
        let feeders = (0..self.feeders.len()).filter(|at| self.feeders[*at].runs(self.healed));
        let runs: Vec<usize> = drivers.chain(feeders.map(|at| at + self.drivers.len())).collect();
        if !runs.is_empty() {
            let at = runs[self.tape.pick_in_turn(self.steps, runs.len())];
            match at.checked_sub(self.drivers.len()) {
                None => self.drive(at),
                Some(feeder) => self.feed(feeder),
            }
            return true;
        }
        if self.healed && self.looked_at != Some((now, self.deeds)) {
            let took = self.consume();
            self.looked_at = (!took).then_some((now, self.deeds));
            self.after_step(); // a consumer may have made room, and so woken a container
            let fed = self.feeders.iter().any(|feeder| feeder.runs(true));
            if took || fed || self.drivers.iter().any(|driver| driver.runs(now)) {
                return true;
            }
        }
        self.all_rest();
        let next = self.drivers.iter().filter_map(Driver::wakes_at).chain(self.office.next()).min();
        let Some(next) = next else { return false };
        self.move_to(next);
        true
    }

    /// Lets everyone hear what concerns them, and checks what must hold after each step.
    fn after_step(&mut self) {
        self.hear();
        let woken = self.engine.take_raised();
        self.drivers.iter_mut().filter(|driver| woken.contains(&driver.id)).for_each(Driver::rings);
        self.feeders.iter_mut().for_each(BatchFeeder::hear);
        self.feeders.retain(|feeder| !feeder.is_over());
        self.drivers.retain(|driver| !driver.is_over());
        self.check_leases();
    }
}

#[test]
fn every_world_of_batches_keeps_every_promise() {
    let (tally, is_whole) = every_seed("simulator::batches", WORLDS, live);
    println!("{tally}");
    assert!(!is_whole || tally.missing().is_empty(), "events that no world had: {:?}", tally.missing());
}

//! Random worlds of containers that have several inputs in flight, in virtual time.
//!
//! The engine is the real one, with its [`WorkSeeker`] and its [`ReadyLanes`]. Only the futures of the
//! lanes are simulated, and the loop of `engine/concurrent_body.rs` that polls them: a [`Driver`] owns the
//! lanes of a container and polls one at a time. Between the beginning and the end of a poll anything else
//! may happen.
//!
//! The record of an input is kept apart from the engine's: each of its executions ends in one way, and the
//! way decides what it costs. When no step is possible but the passing of time, no input may wait that a
//! container with a free lane may take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId, LaneId};
use crate::base::ready::{LaneWaker, ReadyGroup, ReadyLanes};
use crate::code::token::{self, Token};
use crate::contain::drops::set_one_thread_for_all;
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::failure::Cause;
use crate::data::failure::{Failure, Reason};
use crate::data::run::Run;
use crate::data::shape::Why;
use crate::data::source::DirectSource;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::{LeaseKind, Mode, Retryable, Rules};
use crate::decide::life::{Next, Served};
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{CrashLoopBackoff, RateLimited, Restart};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::{Consumer, Failures, ReaderGuard};
use crate::engine::dispatch::{Dispatch, Wait, Work, WorkSeeker};
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::messages::Notice;
use crate::engine::open_call::OpenCall;
use crate::engine::settings::MemoryRules;
use crate::simulator::host::Simulation;
use crate::simulator::rig::{UNCOUNTED, settings};
use crate::simulator::tape::{Tape, mix};
use crate::simulator::{Verbosity, every_seed};
use crate::values::crash::{Death, Panic};

/// The number of worlds in a normal test run.
const WORLDS: u64 = 600;

/// The bytes that a container may use.
const LIMIT: u64 = 1000;

/// The largest number of free replays of an input that has not returned in between.
const FREED_MAX: u32 = 3;

/// The number of threads that an input may leave behind.
const LEFT_MAX: u32 = 2;

/// The largest number of steps after the tape has run out.
const STEPS_MAX: u64 = 100_000;

const MS: Duration = Duration::from_millis(1);

type Outcome = Result<u64, Failure<u64, u64>>;

/// The facts about an input that the world records.
#[derive(Debug, Default, Clone)]
struct Record {
    executions: u32,
    failures: u32,
    /// Crashes by which it was to blame.
    own: u32,
    freed: u32,
    kills: u32,
    /// Threads that were left behind in its code.
    left: u32,
    /// Whether it executes alone the next time.
    alone: bool,
    outcomes: u32,
}

/// How a poll ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Ok,
    Err { worth: bool },
    Panic,
    Overdraw,
}

/// The lease of a lane, and its future.
struct Task {
    run: Arc<Run>,
    /// The place that executes. `None` until the future was polled once.
    place: Option<usize>,
    /// The number of times that the future still waits.
    waits: u32,
    /// When its timer wakes it.
    wakes_at: Option<Time>,
}

struct SimLane {
    waker: Waker,
    token: Arc<Token>,
    task: Option<Task>,
}

/// The waker of a driver.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Entering,
    Serving,
    Exiting { recycles: bool },
    Over,
}

/// The thread of a container.
struct Driver<'a> {
    id: ContainerId,
    generation: Generation,
    phase: Phase,
    token: Arc<Token>,
    lanes: Vec<SimLane>,
    free: Vec<u32>,
    back: Vec<(LaneId, Time)>,
    ready: Arc<ReadyLanes>,
    taken: Option<ReadyGroup>,
    seeker: WorkSeeker<'a>,
    timer: Option<Time>,
    /// The lane in whose code the thread is.
    polled: Option<u32>,
    bell: Arc<Bell>,
    waker: Waker,
    sleeps: bool,
    recycles: bool,
    /// Whether the last look for work was answered by a hold.
    is_on_hold: bool,
}

struct SimMap {
    consumer: Consumer<u64, u64, u64>,
    serial: u64,
    inputs: u64,
    window: u64,
    yields: bool,
    ordered: bool,
    taken: u64,
}

struct SimCall {
    call: OpenCall,
    serial: u64,
}

struct Habits {
    salt: u64,
    fails: u64,
    panics: u64,
    overdraws: u64,
    poison: u64,
    waits: u32,
    longest: Duration,
}

struct LaneWorld<'a> {
    engine: &'a Arc<Dispatch>,
    clock: Arc<AtomicU64>,
    notices: Arc<Mutex<Vec<Notice>>>,
    rules: Rules,
    habits: Habits,
    tape: Tape,
    verbosity: Verbosity,
    drivers: Vec<Driver<'a>>,
    calls: Vec<SimCall>,
    maps: Vec<SimMap>,
    records: BTreeMap<u64, Record>,
    /// The number of a job, by its place in the engine.
    serials: BTreeMap<JobId, u64>,
    opened: u64,
    creation_at: Option<Time>,
    review_at: Option<Time>,
    ended: bool,
    healed: bool,
    steps: u64,
    /// Jumps of time past the moment at which any container may replay a suspect.
    long_waits: u32,
    tally: LaneTally,
}

/// The counts of the things that have happened in the worlds.
#[derive(Debug, Default, Clone, Copy)]
struct LaneTally {
    worlds: u64,
    executions: u64,
    outcomes: u64,
    crashes_in_lanes: u64,
    crashes_of_containers: u64,
    freed: u64,
    alone: u64,
    poisoned: u64,
    lost: u64,
    interrupted: u64,
    kills: u64,
    memory_kills: u64,
    holds: u64,
    recycled: u64,
    give_ups: u64,
    rests: u64,
}

impl std::ops::AddAssign for LaneTally {
    fn add_assign(&mut self, other: Self) {
        let Self { worlds, executions, outcomes, crashes_in_lanes, crashes_of_containers, .. } = other;
        self.worlds += worlds;
        self.executions += executions;
        self.outcomes += outcomes;
        self.crashes_in_lanes += crashes_in_lanes;
        self.crashes_of_containers += crashes_of_containers;
        self.freed += other.freed;
        self.alone += other.alone;
        self.poisoned += other.poisoned;
        self.lost += other.lost;
        self.interrupted += other.interrupted;
        self.kills += other.kills;
        self.memory_kills += other.memory_kills;
        self.holds += other.holds;
        self.recycled += other.recycled;
        self.give_ups += other.give_ups;
        self.rests += other.rests;
    }
}

impl LaneTally {
    /// The kinds of events that no world had.
    fn missing(&self) -> Vec<&'static str> {
        let kinds = [
            (self.crashes_in_lanes, "crashes in lanes"),
            (self.crashes_of_containers, "crashes of containers"),
            (self.freed, "free replays"),
            (self.alone, "inputs that executed alone"),
            (self.poisoned, "poisoned inputs"),
            (self.lost, "lost inputs"),
            (self.interrupted, "interruptions"),
            (self.kills, "kills by hand"),
            (self.memory_kills, "kills for memory"),
            (self.holds, "holds"),
            (self.recycled, "recycled containers"),
            (self.give_ups, "functions that gave up"),
        ];
        kinds.into_iter().filter(|(times, _)| *times == 0).map(|(_, kind)| kind).collect()
    }
}

fn panic() -> Death {
    Death::Panicked(Panic { message: "a simulated panic".to_owned(), location: None })
}

fn answer(input: u64) -> u64 {
    mix(7, input, 0, 0)
}

fn live(choices: Vec<u32>, verbosity: Verbosity) -> LaneTally {
    set_one_thread_for_all();
    let mut tape = Tape::new(choices);
    let retries = Retries::new(tape.one_of(&[1, 0, 3]));
    let delay = tape.one_of(&[Duration::ZERO, MS, 50 * MS]);
    let restart = match tape.pick(4) {
        0 => RateLimited::never().into(),
        1 => RateLimited::new().max_crashes(3).max_failure_rate(0.0).into(),
        2 => CrashLoopBackoff::new().into(),
        _ => CrashLoopBackoff::new().initial(MS).max(20 * MS).into(),
    };
    let rules = Rules {
        containers: tape.one_of(&[1, 2, 3]),
        lanes: tape.one_of(&[4, 2, 3, 5, 9]),
        batch: None,
        has_state: tape.one_in(2),
        retries: retries.initial_delay(delay),
        crash_retries: tape.one_of(&[3, 0, 1, 2]),
        restart,
        calls_max: CALLS_MAX_DEFAULT,
        limits: LimitRules::default(),
    };
    let habits = Habits {
        salt: tape.salt(),
        fails: tape.one_of(&[0, 50, 300]),
        panics: tape.one_of(&[0, 50, 300]),
        overdraws: tape.one_of(&[0, 50, 300]),
        poison: tape.one_of(&[0, 0, 50, 200]),
        waits: tape.one_of(&[1, 0, 3]),
        longest: tape.one_of(&[5 * MS, Duration::ZERO, 2000 * MS]),
    };
    let simulation = Simulation::default();
    let clock = Arc::clone(&simulation.clock);
    let memory = MemoryRules { accounted: true, limit: Some(LIMIT), ..UNCOUNTED };
    let engine = Arc::new(Dispatch::new(settings(rules.clone(), memory), Arc::new(simulation)));
    let notices = Arc::new(Mutex::new(Vec::new()));
    let mail = Arc::clone(&notices);
    engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
    if verbosity == Verbosity::Steps {
        println!("{rules:#?}");
    }
    let world = LaneWorld {
        engine: &engine,
        clock,
        notices,
        rules,
        habits,
        tape,
        verbosity,
        drivers: Vec::new(),
        calls: Vec::new(),
        maps: Vec::new(),
        records: BTreeMap::new(),
        serials: BTreeMap::new(),
        opened: 0,
        creation_at: None,
        review_at: None,
        ended: false,
        healed: false,
        steps: 0,
        long_waits: 0,
        tally: LaneTally { worlds: 1, ..LaneTally::default() },
    };
    world.live()
}

impl<'a> LaneWorld<'a> {
    fn live(mut self) -> LaneTally {
        self.create();
        while !self.tape.has_run_out() {
            if !self.happen() {
                self.step();
            }
            self.after_step();
        }
        self.healed = true;
        self.run_until("every map and call ends", |world| world.maps.is_empty() && world.calls.is_empty());
        self.engine.drain();
        self.run_until("every thread ends", |world| world.drivers.is_empty() && world.engine.has_ended());
        let Self { engine, mut tally, records, .. } = self;
        engine.under_lock(|state| {
            assert!(state.is_empty(), "something is left in the engine");
            assert!(state.ledger.is_at_rest(), "something is left in the ledger");
            assert!(state.broken.is_none(), "the engine broke");
        });
        tally.executions = records.values().map(|record| u64::from(record.executions)).sum();
        tally.outcomes = records.values().map(|record| u64::from(record.outcomes)).sum();
        tally
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = self.steps;
        while !is_so(self) {
            assert!(self.steps - begun < STEPS_MAX, "stuck: {what}, but not after {STEPS_MAX} steps");
            let goes_on = self.step();
            self.after_step();
            assert!(goes_on || is_so(self), "stuck: nothing can happen any more before {what}");
        }
    }

    fn now(&self) -> Time {
        Time(Duration::from_nanos(self.clock.load(Ordering::Relaxed)))
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if self.verbosity == Verbosity::Steps {
            println!("{:>12?}  {}", self.now().0, what());
        }
    }

    // ---- users, operators and the supervisor ----

    /// Lets a user or an operator do something, if the tape says so.
    fn happen(&mut self) -> bool {
        match self.tape.pick(60) {
            1..=4 => self.open_map(),
            5..=8 => self.open_call(),
            9 => self.kill(),
            10 => self.overdraw_from_outside(),
            11 if !self.calls.is_empty() => {
                let at = self.tape.pick(self.calls.len());
                self.log(|| "cancel a call".to_owned());
                if self.tape.one_in(2) {
                    self.calls[at].call.end_as(&Reason::Cancelled);
                } else {
                    drop(self.calls.swap_remove(at));
                }
            }
            12 if !self.maps.is_empty() => {
                let at = self.tape.pick(self.maps.len());
                self.log(|| "drop a map".to_owned());
                drop(self.maps.swap_remove(at));
            }
            13 => {
                self.log(|| "reset".to_owned());
                self.engine.reset();
                self.create();
            }
            14 if self.tape.one_in(10) => {
                self.ended = true;
                self.log(|| "the end begins".to_owned());
                match self.tape.pick(4) {
                    0 => self.engine.drain(),
                    1 => self.engine.stop(),
                    2 => self.engine.cut_off(),
                    _ => self.engine.abort(),
                }
            }
            15..=20 => self.consume(),
            21 => {
                let late = self.tape.one_of(&[1, 1_000_000, 30_000_000, 1_000_000_000, 11_000_000_000]);
                self.long_waits += u32::from(late > 10_000_000_000);
                self.clock.fetch_add(late, Ordering::Relaxed);
            }
            _ => return false,
        }
        true
    }

    fn serial(&mut self, job: JobId) -> u64 {
        self.opened += 1;
        self.serials.insert(job, self.opened);
        self.opened
    }

    fn open_call(&mut self) {
        let input = (self.opened + 1) << 20;
        if let Ok(call) =
            OpenCall::begin::<u64, u64>(self.engine, input, Caller::default(), None, Limits::default())
        {
            let serial = self.serial(call.0.job);
            self.calls.push(SimCall { call, serial });
        }
    }

    fn open_map(&mut self) {
        let first = (self.opened + 1) << 20;
        let inputs = self.tape.one_of(&[4, 1, 12, 40]);
        let window = self.tape.one_of(&[8, 1, 3, 50]);
        let order = self.tape.one_of(&[Order::Input, Order::Completion]);
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap, Failures::EndMapInOrder]);
        let source = JobSource::Direct(DirectSource::new(first..first + inputs));
        let opened = ReaderGuard::of_map(
            self.engine,
            source,
            (order, failures),
            Window::Fixed(window),
            Default::default(),
            Caller::default(),
        );
        let Ok(reader) = opened else { return };
        let consumer = Consumer::over(reader);
        let serial = self.serial(consumer.job);
        let (yields, ordered) = (failures == Failures::Yield, order == Order::Input);
        self.maps.push(SimMap { consumer, serial, inputs, window, yields, ordered, taken: 0 });
    }

    /// Consumers take what there is, and each outcome is checked.
    fn consume(&mut self) {
        let mut calls = std::mem::take(&mut self.calls);
        calls.retain_mut(|SimCall { call, serial }| match call.poll::<u64, u64, u64>(Wait::Try) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                let outcome = outcome.expect("an outcome is taken once");
                self.judge(*serial << 20, &outcome);
                false
            }
        });
        self.calls = calls;
        let mut maps = std::mem::take(&mut self.maps);
        maps.retain_mut(|map| self.consume_map(map));
        self.maps = maps;
    }

    /// Takes the outcomes of a map that are there. Returns whether there may be more.
    fn consume_map(&mut self, map: &mut SimMap) -> bool {
        let first = map.serial << 20;
        loop {
            match map.consumer.poll_next(Wait::Try) {
                Poll::Pending => return true,
                Poll::Ready(None) => break,
                Poll::Ready(Some(outcome)) => {
                    let input = match &outcome {
                        Ok(output) => (first..first + map.inputs).find(|input| answer(*input) == *output),
                        Err(failure) => failure.index().map(|index| first + index),
                    };
                    let Some(input) = input else {
                        assert!(outcome.is_err(), "an output of another job");
                        continue; // the failure of the map itself
                    };
                    let in_turn = !map.ordered || input == first + map.taken || !map.yields;
                    assert!(in_turn, "input {input:x} comes out of order");
                    map.taken += 1;
                    self.judge(input, &outcome);
                }
            }
        }
        let pulled = map.consumer.progress().pulled;
        assert!(!map.yields || map.taken == pulled, "{} outcomes of {pulled} inputs", map.taken);
        false
    }

    fn judge(&mut self, input: u64, outcome: &Outcome) {
        let record = self.records.entry(input).or_default();
        record.outcomes += 1;
        assert_eq!(record.outcomes, 1, "input {input:x} has two outcomes");
        let told = match outcome {
            Ok(output) => {
                assert_eq!(*output, answer(input), "the output of another input");
                return;
            }
            Err(failure) => failure,
        };
        match told.cause() {
            Cause::Poisoned(_) => {
                self.tally.poisoned += 1;
                let is_spent = record.own > self.rules.crash_retries || record.left >= LEFT_MAX;
                assert!(is_spent, "{input:x} is poisoned: {record:?}");
                assert_eq!(told.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::Failed(_) => {
                assert!(record.failures > 0, "{input:x} has failed: {record:?}");
                assert_eq!(told.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::Lost(_) => {
                self.tally.lost += 1;
                let is_spent = self.rules.crash_retries == 0 || record.left >= LEFT_MAX;
                assert!(is_spent, "{input:x} is lost: {record:?}");
            }
            Cause::GaveUp(_) | Cause::ShutDown | Cause::Cancelled => {}
            other => panic!("{input:x} ends by {other:?}"),
        }
    }

    fn create(&mut self) {
        for (id, generation) in self.engine.create() {
            if self.engine.launch(id, generation) {
                self.drivers.push(Driver::new(self.engine, id, generation, self.rules.lanes));
            }
        }
        let now = self.now();
        self.creation_at = self.engine.next_creation().map(|delay| now + delay.max(MS / 10));
    }

    /// The driver of the current generation of a container.
    fn current(&self, id: ContainerId) -> Option<&Driver<'a>> {
        let generation = self.engine.under_lock(|state| state.ledger.stage(id).0);
        self.drivers.iter().find(|driver| driver.id == id && driver.generation == generation)
    }

    /// The inputs that a container executes, by their lanes, as the world sees it.
    fn executing(driver: &Driver<'_>) -> Vec<(u32, u64)> {
        let executing = driver.lanes.iter().enumerate().filter_map(|(lane, sim)| {
            let task = sim.task.as_ref()?;
            (!task.run.is_fenced() && task.place.is_some()).then_some((lane as u32, task.input()?))
        });
        executing.collect()
    }

    fn kill(&mut self) {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let polled = self.current(id).and_then(|driver| driver.polled);
        let executing = self.current(id).map(Self::executing).unwrap_or_default();
        if let Some(generation) = self.engine.kill(id) {
            self.log(|| format!("kill {id}#{generation}"));
            self.tally.kills += 1;
            for (lane, input) in executing {
                self.record(input).kills += 1;
                self.record(input).left += u32::from(polled == Some(lane));
            }
        }
        self.create();
    }

    /// A container crosses its memory limit while its thread does not poll, or has not seen it yet, and the
    /// watch kills it.
    fn overdraw_from_outside(&mut self) {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let Some(driver) = self.current(id).filter(|driver| driver.phase == Phase::Serving) else { return };
        let generation = driver.generation;
        let is_orphan =
            |(lane, _): &(LaneId, Time)| self.engine.under_lock(|state| state.ledger.orphan(*lane).is_some());
        if driver.back.iter().any(is_orphan) {
            return; // the engine may only guess whether that lane has come back
        }
        let executing = Self::executing(driver);
        let is_crowded = executing.len() > 1;
        // Code that was recalled may still execute.
        let has_begun = |lane: &u32| {
            let task = driver.lanes[*lane as usize].task.as_ref();
            task.is_some_and(|task| task.place.is_some())
        };
        let in_code = driver.polled.filter(has_begun);
        let account = driver.token.account().expect("memory is counted").counters();
        let bytes = 2 * LIMIT as i64;
        account.charge(account.epoch(), bytes, bytes);
        let lived = self.engine.under_lock(|state| {
            state.ledger.is_current(id, generation) && state.ledger.mode() < Mode::Aborted
        });
        self.engine.over_limit(id, generation);
        if !lived {
            return;
        }
        self.log(|| format!("{id}#{generation} is killed for its memory, in {in_code:?}"));
        self.tally.memory_kills += 1;
        if let Some((_, input)) = executing.iter().find(|(lane, _)| Some(*lane) == in_code) {
            self.record(*input).left += 1;
        }
        let only = if let [(lane, _)] = executing[..] { Some(lane) } else { None };
        let culprit = in_code.or(only);
        for (lane, input) in executing {
            match culprit {
                None => self.free(input, true),
                Some(culprit) if culprit != lane => self.free(input, false),
                Some(_) if is_crowded => self.free(input, true),
                Some(_) => self.record(input).own += 1,
            }
        }
    }

    fn record(&mut self, input: u64) -> &mut Record {
        self.records.entry(input).or_default()
    }

    fn free(&mut self, input: u64, alone: bool) {
        self.tally.freed += 1;
        let record = self.record(input);
        record.freed += 1;
        record.alone |= alone || record.freed >= FREED_MAX;
    }

    /// Does what the supervisor does with its notices.
    fn hear(&mut self) {
        loop {
            let told = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
            if told.is_empty() {
                return;
            }
            for notice in told {
                match notice {
                    Notice::Crashed { restart } | Notice::Fenced { restart } => {
                        if restart == Restart::GiveUp {
                            self.tally.give_ups += 1;
                            self.engine.give_up();
                        }
                        self.review_at = Some(self.now());
                        self.create();
                    }
                    Notice::Recovered | Notice::NothingPending | Notice::Ended { .. } => self.create(),
                    Notice::Entered => self.review_at = Some(self.now()),
                    Notice::Exiting { .. }
                    | Notice::FeederEnded
                    | Notice::Awaited
                    | Notice::Limited
                    | Notice::Folds => {}
                }
            }
        }
    }

    // ---- steps ----

    fn step(&mut self) -> bool {
        self.steps += 1;
        let now = self.now();
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if is_due(self.creation_at) {
            self.create();
            return true;
        }
        if is_due(self.review_at) {
            self.review_at = self.engine.review().map(|delay| now + delay.max(MS / 10));
            self.create();
            return true;
        }
        for driver in &mut self.drivers {
            for lane in &mut driver.lanes {
                let Some(task) = &mut lane.task else { continue };
                if task.wakes_at.is_some_and(|at| at <= now) {
                    task.wakes_at = None;
                    lane.waker.wake_by_ref();
                }
            }
        }
        let runs: Vec<usize> = (0..self.drivers.len()).filter(|at| self.drivers[*at].runs(now)).collect();
        if !runs.is_empty() {
            let at = runs[(self.steps as usize + self.tape.pick(runs.len())) % runs.len()];
            self.drive(at);
            return true;
        }
        if self.healed {
            let left =
                (self.maps.len(), self.calls.len(), self.maps.iter().map(|map| map.taken).sum::<u64>());
            self.consume();
            let takes =
                (self.maps.len(), self.calls.len(), self.maps.iter().map(|map| map.taken).sum::<u64>());
            if left != takes {
                return true;
            }
        }
        self.all_rest();
        let timers = self.drivers.iter().filter(|driver| driver.sleeps).filter_map(|driver| driver.timer);
        let tasks =
            self.drivers.iter().flat_map(|driver| &driver.lanes).filter_map(|lane| lane.task.as_ref());
        let wakes = tasks.filter_map(|task| task.wakes_at);
        let next = timers.chain(wakes).chain(self.creation_at).chain(self.review_at).min();
        let Some(next) = next else { return false };
        self.clock.fetch_max(next.0.as_nanos() as u64, Ordering::Relaxed);
        true
    }

    fn drive(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        match driver.phase {
            Phase::Entering => {
                let tied = self.engine.register_token(id, generation, &driver.token);
                if !tied || !self.engine.entered(id, generation) {
                    return self.end(at);
                }
                driver.phase = Phase::Serving;
                driver.ready.awakes(&driver.waker);
            }
            Phase::Serving => match driver.polled {
                Some(lane) => self.finish_poll(at, lane),
                None => self.turn(at),
            },
            Phase::Exiting { recycles } => {
                self.engine.left(id, generation);
                if recycles { self.begin_again(at) } else { self.end(at) }
            }
            Phase::Over => unreachable!("the world removes drivers that are over"),
        }
    }

    /// The thread begins the next generation, if the function wants one.
    fn begin_again(&mut self, at: usize) {
        let (id, generation) = (self.drivers[at].id, self.drivers[at].generation);
        match self.engine.begin(id, generation) {
            Some(next) => self.drivers[at] = Driver::new(self.engine, id, next, self.rules.lanes),
            None => self.end(at),
        }
    }

    fn end(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        driver.seeker.stops();
        driver.phase = Phase::Over;
        self.engine.ended(driver.id, driver.generation, None);
    }

    /// Looks for work, or begins to poll a lane that is ready.
    fn turn(&mut self, at: usize) {
        let now = self.now();
        let skips = self.drivers[at].taken.is_some() && self.tape.one_in(2);
        let driver = &mut self.drivers[at];
        if driver.sleeps {
            driver.sleeps = false;
            driver.bell.0.store(false, Ordering::Relaxed);
            driver.ready.awakes(&driver.waker);
        }
        if !skips {
            match driver.seek(self.engine, self.rules.lanes, now) {
                Sought::Begun(lane, work) => return self.begin(at, lane, work),
                Sought::Over(Served::Stale) => return self.end(at),
                Sought::Over(served) => {
                    self.tally.recycled += u64::from(served == Served::Recycles);
                    driver.seeker.stops();
                    driver.phase = Phase::Exiting { recycles: served == Served::Recycles };
                    return;
                }
                Sought::Again => return,
                Sought::Nothing => {}
            }
            self.tally.holds += u64::from(driver.is_on_hold);
        }
        loop {
            if driver.taken.is_none() {
                driver.taken = driver.ready.take();
            }
            let Some(group) = &mut driver.taken else { break };
            let Some(lane) = group.next() else {
                driver.taken = None;
                continue;
            };
            let Some(task) = &mut driver.lanes[lane].task else { continue };
            if task.run.resume() {
                driver.polled = Some(lane as u32);
            } else {
                driver.comes_back(lane as u32, now);
            }
            return;
        }
        if !skips && driver.ready.sleeps() {
            driver.sleeps = true;
        }
    }

    /// A lane has a lease.
    fn begin(&mut self, at: usize, lane: u32, work: Work) {
        let Work { run, lease, .. } = work;
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        driver.polled = Some(lane);
        driver.lanes[lane as usize].task = Some(Task { run, place: None, waits: 0, wakes_at: None });
        let input = (self.serials[&lease.job] << 20) + lease.span.first;
        self.log(|| format!("{id}#{generation}.{lane} takes {input:x} {lease:?}"));
        let (own, alone) = (self.record(input).own, self.record(input).alone);
        assert_eq!(
            lease.attempt.get(),
            self.record(input).executions + 1,
            "{input:x}: {:?}",
            self.records[&input]
        );
        let is_suspect = lease.kind == LeaseKind::Replay { suspect: true };
        assert_eq!(is_suspect, own > 0 && matches!(lease.kind, LeaseKind::Replay { .. }), "{input:x}");
        let is_alone = alone || (is_suspect && self.rules.has_state);
        self.tally.alone += u64::from(is_alone);
        let leases = self.engine.under_lock(|state| state.ledger.leased_by(id).count());
        assert!(!is_alone || leases == 1, "{input:x} executes alone, beside {} others", leases - 1);
    }

    /// Ends the poll of a lane, in the way that is laid down for its input.
    fn finish_poll(&mut self, at: usize, lane: u32) {
        let (now, engine) = (self.now(), self.engine);
        let driver = &mut self.drivers[at];
        let id = LaneId::new(driver.id, lane);
        let sim = &mut driver.lanes[lane as usize];
        let task = sim.task.as_mut().expect("a lane that is polled has its task");
        let Some(place) = task.place else {
            match task.run.begin::<u64, u64, u64>().map(|active| active.place()) {
                Some(place) => self.execute(at, lane, place),
                None => driver.comes_back(lane, now),
            }
            return;
        };
        let run = Arc::clone(&task.run);
        let mut active = run.active_at::<u64, u64, u64>(place);
        if task.waits > 0 {
            task.waits -= 1;
            driver.polled = None;
            run.keep_waker(&sim.waker);
            if !run.suspend() {
                return driver.comes_back(lane, now);
            }
            let draw = mix(self.habits.salt, place as u64, u64::from(task.waits), now.0.as_nanos() as u64);
            let takes = self.habits.longest.mul_f64((draw % 100) as f64 / 100.0);
            task.wakes_at = Some(now + takes);
            return;
        }
        let is_unwanted = engine.under_lock(|state| {
            let lives = state.ledger.is_current(id.container, driver.generation);
            lives && state.ledger.mode() < Mode::Aborted && state.ledger.orphan(id).is_some()
        });
        let told = sim.token.is_unwanted();
        assert_eq!(told, is_unwanted, "whether a checkpoint in {id} sees that its outcome is unwanted");
        if is_unwanted && self.tape.one_in(2) {
            let unwound =
                token::with_current(Some(Arc::clone(&sim.token)), || contain(token::checkpoint)).is_err();
            assert!(unwound && sim.token.is_interrupted(), "a checkpoint ends code that is unwanted");
            self.tally.interrupted += 1;
            return driver.comes_back(lane, now);
        }
        let fenced = run.is_fenced();
        let input = *active.input();
        let act = self.act(input);
        self.log(|| format!("{id} ends its poll of {input:x}: {act:?}, fenced {fenced}"));
        match act {
            Act::Ok => match active.publish(answer(input)) {
                Ok(Advance::Next) => self.execute(at, lane, place + 1),
                Ok(_) => self.drivers[at].comes_back(lane, now),
                Err(_) => {
                    engine.count_late();
                    self.drivers[at].comes_back(lane, now);
                }
            },
            Act::Err { worth } => {
                if !fenced {
                    let record = self.record(input);
                    record.failures += 1;
                    record.alone = false;
                }
                let retryable = if worth { Retryable::Yes } else { Retryable::No };
                if engine.failed(id, &run, &mut active.at, Why::Error(Box::new(input)), (retryable, None)) {
                    self.execute(at, lane, place + 1);
                } else {
                    self.drivers[at].comes_back(lane, now);
                }
            }
            Act::Panic | Act::Overdraw => self.crash(at, lane, (!fenced).then_some(input), act),
        }
    }

    fn execute(&mut self, at: usize, lane: u32, place: usize) {
        let waits = self.habits.waits;
        let task = self.drivers[at].lanes[lane as usize].task.as_mut().expect("it executes");
        task.place = Some(place);
        let input = *task.run.active_at::<u64, u64, u64>(place).input();
        task.waits = (mix(self.habits.salt, input, 3, 0) % u64::from(waits + 1)) as u32;
        let record = self.record(input);
        record.executions += 1;
        let Record { executions, failures, own, freed, kills, .. } = record.clone();
        assert_eq!(executions, 1 + failures + own + freed + kills, "{input:x}: {:?}", self.records[&input]);
        let Rules { retries, crash_retries, .. } = &self.rules;
        assert!(failures <= retries.retries_max(), "{input:x} fails {failures} times");
        // A crash is not charged in a container that has proved nothing. A retry may be executed there, and
        // after ten seconds a replay.
        assert!(own <= crash_retries + failures + self.long_waits, "{input:x} crashes {own} times");
        assert!(freed <= FREED_MAX + failures, "{input:x} is freed {freed} times");
        let is_at_most_once = *crash_retries == 0;
        assert!(!is_at_most_once || executions == 1 + failures, "{input:x} has begun {executions} times");
    }

    /// How the current execution of an input ends.
    fn act(&self, input: u64) -> Act {
        let Habits { salt, fails, panics, overdraws, poison, .. } = self.habits;
        let execution = u64::from(self.records[&input].executions);
        if mix(salt, input, 0, 5) % 1000 < poison {
            return if mix(salt, input, 0, 6).is_multiple_of(2) { Act::Panic } else { Act::Overdraw };
        }
        let draw = mix(salt, input, execution, 1);
        match draw % 1000 {
            fate if fate < fails => Act::Err { worth: draw >> 60 != 0 },
            fate if fate < fails + panics => Act::Panic,
            fate if fate < fails + panics + overdraws => Act::Overdraw,
            _ => Act::Ok,
        }
    }

    /// The code in a lane crashes. `input` is what it executes, unless that has ended.
    fn crash(&mut self, at: usize, lane: u32, input: Option<u64>, act: Act) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        let executing = Self::executing(driver);
        let leases = self.engine.under_lock(|state| state.ledger.leased_by(id).count());
        driver.polled = None;
        driver.token.blame(lane);
        let is_too_large = act == Act::Overdraw && self.tape.one_in(4); // even without this attempt
        let in_lane = !self.rules.has_state && !is_too_large;
        let death = match act {
            Act::Overdraw => Death::MemoryLimit { limit: LIMIT, used: 2 * LIMIT, reclaimed: true },
            _ => panic(),
        };
        let is_crowded = if in_lane { leases > usize::from(input.is_some()) } else { executing.len() > 1 };
        let restart = if in_lane {
            self.drivers[at].lanes[lane as usize].task = None;
            self.engine.crashed_in_lane(LaneId::new(id, lane), generation, death)
        } else {
            self.engine.crashed(id, generation, death)
        };
        if restart.is_some() {
            match input {
                Some(input) if act == Act::Overdraw && is_crowded => self.free(input, true),
                Some(input) => self.record(input).own += 1,
                None => {}
            }
            let others = executing.into_iter().filter(|(other, _)| *other != lane && !in_lane);
            others.for_each(|(_, input)| self.free(input, false));
        }
        match restart {
            None => self.end(at),
            Some(_) if in_lane => {
                self.tally.crashes_in_lanes += 1;
                let now = self.now();
                self.drivers[at].comes_back(lane, now);
            }
            Some(restart) => {
                self.tally.crashes_of_containers += 1;
                self.drivers[at].seeker.stops();
                if restart == Restart::Now { self.begin_again(at) } else { self.end(at) }
            }
        }
    }

    // ---- checks ----

    fn after_step(&mut self) {
        self.hear();
        self.drivers.retain(|driver| driver.phase != Phase::Over);
        let lanes = self.rules.lanes as usize;
        let share =
            if self.rules.has_state { self.rules.containers / 2 } else { self.rules.containers * lanes / 16 };
        self.engine.under_lock(|state| {
            for id in state.ledger.containers() {
                let leases = state.ledger.leased_by(id).count();
                assert!(leases <= lanes, "container {id} has {leases} leases");
                let alone = state.ledger.executes_one_alone(id);
                assert!(!alone || leases == 1, "{leases} leases beside one that executes alone in {id}");
            }
            let suspects = state.ledger.suspects_executing();
            assert!(suspects <= share.max(1), "{suspects} suspects execute");
        });
        for map in &mut self.maps {
            let pulled = map.consumer.progress().pulled;
            assert!(pulled <= map.taken + map.window, "{pulled} are pulled, and {} taken", map.taken);
        }
    }

    /// Nothing can happen but the passing of time, so no input may wait that a container may take.
    fn all_rest(&mut self) {
        self.tally.rests += 1;
        let now = self.now();
        let (engine, lanes) = (self.engine, self.rules.lanes as usize);
        engine.under_lock(|state| {
            assert!(!state.needs_a_watch(now), "something falls due, and no container wakes for it");
            let (mode, drained) = (state.ledger.mode(), state.ledger.nothing_pending());
            let waiting = state.ledger.waiting(now, &state.buffers);
            let mut clears = Vec::new();
            let mut may_clear = false;
            for driver in &self.drivers {
                let id = driver.id;
                if driver.phase != Phase::Serving || !state.ledger.is_current(id, driver.generation) {
                    continue;
                }
                let leases = state.ledger.leased_by(id).count();
                assert!(leases > 0 || mode < Mode::Draining || !drained, "{id} stays though nothing is left");
                let is_full = driver.lanes.iter().filter(|lane| lane.task.is_some()).count() == lanes;
                let keeps = driver.recycles || state.ledger.executes_one_alone(id);
                if is_full || keeps || state.ledger.is_held(id, now) || !state.ledger.goes_on() {
                    continue;
                }
                let proven = waiting.suspect.filter(|(ready, _)| ready.proof <= state.ledger.proof(id));
                let suspect_alone = proven.is_some_and(|(_, alone)| alone);
                let is_for_it = waiting.alone || suspect_alone;
                assert!(leases > 0 || !is_for_it, "{id} is empty, and an input waits to execute alone");
                may_clear |= is_for_it;
                if driver.is_on_hold && is_for_it {
                    clears.push(id);
                    continue;
                }
                assert!(!driver.is_on_hold, "container {id} is held for nothing");
                let waits = || (state.ledger.again().replay, state.ledger.again().retry, state.ledger.calls_queued());
                assert!(
                    !waiting.ordinary,
                    "work is conserved: {id} has a free lane, and an input waits: {waiting:?}, {:?} replays, retries and calls, {:?}",
                    waits(),
                    self.drivers
                );
                let beside = proven.is_some_and(|(_, alone)| !alone);
                assert!(!beside, "work is conserved: {id} has a free lane, and a suspect waits");
            }
            // A container that becomes empty may also do so in order to be recycled.
            let clearing = state.ledger.becomes_empty();
            assert!(
                clears.iter().all(|id| Some(*id) == clearing),
                "{clears:?} are held, and {clearing:?} clears"
            );
            assert!(
                !may_clear || clearing.is_some(),
                "{waiting:?}, and none becomes empty: {:?}",
                self.drivers
            );
        });
    }
}

/// The result of a look for new work.
enum Sought {
    Begun(u32, Work),
    Again,
    Nothing,
    Over(Served),
}

impl Task {
    /// The input that executes.
    fn input(&self) -> Option<u64> {
        Some(*self.run.active_at::<u64, u64, u64>(self.place?).input())
    }
}

impl std::fmt::Debug for Driver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} {:?}, {} free", self.id, self.generation, self.phase, self.free.len())?;
        write!(f, ", on hold: {}, sleeps: {}, until {:?}", self.is_on_hold, self.sleeps, self.timer)
    }
}

impl<'a> Driver<'a> {
    fn new(engine: &'a Arc<Dispatch>, id: ContainerId, generation: Generation, lanes: u32) -> Self {
        let bell = Arc::new(Bell::default());
        let account = engine.open_account().expect("there are accounts enough");
        Self {
            id,
            generation,
            phase: Phase::Entering,
            token: Arc::new(Token::of_no_thread(account)),
            lanes: Vec::new(),
            free: Vec::new(),
            back: Vec::new(),
            ready: Arc::new(ReadyLanes::new(lanes as usize)),
            taken: None,
            seeker: WorkSeeker::new(engine, id, generation),
            timer: None,
            polled: None,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            sleeps: false,
            recycles: false,
            is_on_hold: false,
        }
    }

    /// Whether the thread has a step to take.
    fn runs(&self, now: Time) -> bool {
        !self.sleeps || self.bell.0.load(Ordering::Relaxed) || self.timer.is_some_and(|at| at <= now)
    }

    /// The same as the `seek` of `engine/concurrent_body.rs`.
    fn seek(&mut self, engine: &Arc<Dispatch>, lanes: u32, now: Time) -> Sought {
        let is_full = self.free.is_empty() && self.lanes.len() == lanes as usize;
        if self.recycles || is_full {
            self.seeker.stops();
            self.timer = None;
            self.is_on_hold = false;
            self.seeker.returned_all(&mut self.back);
            if self.recycles && self.free.len() == self.lanes.len() {
                self.recycles = false;
                if engine.recycle(self.id, self.generation) {
                    return Sought::Over(Served::Recycles);
                }
                return Sought::Again;
            }
            return Sought::Nothing;
        }
        let lane = self.free.last().copied().unwrap_or_else(|| self.add_lane(engine));
        let due = self.timer.is_some_and(|at| at <= now);
        if !due && self.back.is_empty() && self.seeker.still_waits(&self.waker) {
            return Sought::Nothing;
        }
        self.timer = None;
        self.is_on_hold = false;
        match self.seeker.look(&self.waker, LaneId::new(self.id, lane), &mut self.back) {
            Next::Work(work) => {
                self.free.pop();
                Sought::Begun(lane, work)
            }
            Next::Over(served) => Sought::Over(served),
            Next::Wait { until } => {
                self.timer = until;
                Sought::Nothing
            }
            Next::Hold { until } => {
                self.timer = until;
                self.is_on_hold = true;
                Sought::Nothing
            }
        }
    }

    fn add_lane(&mut self, engine: &Dispatch) -> u32 {
        let lane = self.lanes.len() as u32;
        let token = Arc::new(self.token.of_lane());
        engine.register_lane(LaneId::new(self.id, lane), self.generation, &token);
        self.lanes.push(SimLane { waker: LaneWaker::of(&self.ready, lane as usize), token, task: None });
        self.free.push(lane);
        lane
    }

    /// A lane has no lease any more.
    fn comes_back(&mut self, lane: u32, now: Time) {
        self.polled = None;
        // One return in this number leaves too many bytes.
        let run = self.lanes[lane as usize].task.take().map(|task| task.run);
        self.recycles |=
            run.is_some_and(|run| mix(3, run.chunk.first(), u64::from(lane), 0).is_multiple_of(50));
        self.free.push(lane);
        self.back.push((LaneId::new(self.id, lane), now));
        // One return in this number is the last poll of a turn.
        if mix(4, now.0.as_nanos() as u64, u64::from(lane), 0).is_multiple_of(5) {
            self.seeker.returned_all(&mut self.back);
        }
    }
}

#[test]
fn every_world_of_containers_with_many_lanes_keeps_every_promise() {
    let (tally, is_whole) = every_seed("simulator::lanes", WORLDS, live);
    println!("{tally:#?}");
    assert!(!is_whole || tally.missing().is_empty(), "events that no world had: {:?}", tally.missing());
}

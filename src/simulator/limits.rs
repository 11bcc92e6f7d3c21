//! Worlds with limits of time: timeouts, deadlines, and code that does not return, held against a naive
//! record of each input.
//!
//! A world is smaller than the ones of [`world`](crate::simulator::world): containers execute one input at a
//! time, and their code has no state. The engine is the real one. The record knows when each execution began
//! and ended, and says which outcome an input may have, and at which moment.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::code::token::{self, Token};
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::failure::{Cause, Failure};
use crate::data::run::Run;
use crate::data::shape::Why;
use crate::data::source::DirectSource;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::{Lease, Retryable, Rules};
use crate::decide::life::{LifeEvent, Next, Part};
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{CrashLoopBackoff, RateLimited, Restart};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::{Consumer, Failures, ReaderGuard};
use crate::engine::dispatch::{Dispatch, Wait, Work};
use crate::engine::life::Living;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::messages::Notice;
use crate::engine::open_call::OpenCall;
use crate::engine::settings::MemoryRules;
use crate::simulator::every_seed;
use crate::simulator::host::Simulation;
use crate::simulator::rig::{UNCOUNTED, settings};
use crate::simulator::tape::{Tape, mix};
use crate::simulator::world::Verbosity;
use crate::values::crash::{Panic, Previous};

const WORLDS: u64 = 3_000;
const STEPS_MAX: u64 = 200_000;
const MS: Duration = Duration::from_millis(1);

/// The longest time by which the engine may notice a limit too late, where nothing delays it: a lease of
/// several inputs is sampled.
const LAG: Duration = MS;

type Outcome = Result<u64, Failure<u64, u64>>;

macro_rules! tally {
    ($($name:ident,)*) => {
        /// Counts of what happened in the worlds.
        #[derive(Debug, Default, Clone, Copy)]
        struct LimitTally {
            $($name: u64,)*
        }

        impl AddAssign for LimitTally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl LimitTally {
            /// The names of the counts that are zero.
            fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $(if self.$name == 0 { missing.push(stringify!($name)); })*
                missing
            }
        }
    };
}

tally! {
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
    leases_cut_short,
    given_up,
    poisoned,
    calls,
    maps,
    kills,
    pauses,
}

/// How one execution ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Ok,
    Fail,
    Panic,
    /// The code does not return by itself until the world is healed.
    Hang,
}

/// The history of one input.
#[derive(Debug, Default)]
struct Record {
    accepted: Time,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    executions: u32,
    /// The beginning of its last execution.
    began: Time,
    /// The container and the generation in whose code it is, if it is in any that lives.
    on: Option<(ContainerId, Generation)>,
    /// The error of its last attempt that has returned one.
    error: Option<u64>,
    /// The failures and the time-outs, and when the last of them was known.
    failures: u32,
    failed: Time,
    crashes: u32,
    left: u32,
    outcomes: u32,
}

/// A thread of a container.
struct Driver {
    id: ContainerId,
    living: Living,
    phase: Phase,
}

enum Phase {
    Asking,
    Asleep { until: Option<Time> },
    Executing(Task),
    Over,
}

struct Task {
    run: Arc<Run>,
    lease: Lease,
    place: usize,
    input: u64,
    began: Time,
    ends: Option<Time>,
    act: Act,
    checks: bool,
}

struct SimMap {
    consumer: Consumer<u64, u64, u64>,
    first: u64,
    inputs: u64,
    accepted: u64,
    limits: Limits,
}

struct World<'a> {
    verbosity: Verbosity,
    engine: &'a Arc<Dispatch>,
    clock: Arc<AtomicU64>,
    tape: Tape,
    rules: Rules,
    salt: u64,
    hangs: u64,
    longest: Duration,
    notices: Arc<Mutex<Vec<Notice>>>,
    drivers: Vec<Driver>,
    calls: Vec<(OpenCall, u64)>,
    maps: Vec<SimMap>,
    records: BTreeMap<u64, Record>,
    jobs: u64,
    limits_at: Option<Time>,
    creation_at: Option<Time>,
    healed: bool,
    steps: u64,
    tally: LimitTally,
}

fn answer(input: u64) -> u64 {
    mix(9, input, 0, 0)
}

fn live(choices: Vec<u32>, verbosity: Verbosity) -> LimitTally {
    let mut tape = Tape::new(choices);
    let limit = |tape: &mut Tape| tape.one_of(&[None, Some(10 * MS), Some(MS), Some(100 * MS), Some(3 * MS)]);
    let limits = LimitRules {
        timeout: limit(&mut tape),
        deadline: tape.one_of(&[None, None, Some(50 * MS), Some(500 * MS)]),
        retry_timeouts: !tape.one_in(4),
        enter_timeout: None,
    };
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
        has_state: false,
        retries: Retries::new(tape.one_of(&[0, 1, 3])).initial_delay(delay).backoff_coefficient(1.0),
        crash_retries: tape.one_of(&[3, 0, 1]),
        restart,
        calls_max: CALLS_MAX_DEFAULT,
        limits,
    };
    let memory = MemoryRules { abandoned_max: tape.one_of(&[8, 1, 2, 100]), ..UNCOUNTED };
    let simulation = Simulation::default();
    let clock = Arc::clone(&simulation.clock);
    let engine = Arc::new(Dispatch::new(settings(rules.clone(), memory), Arc::new(simulation)));
    let notices = Arc::new(Mutex::new(Vec::new()));
    let mail = Arc::clone(&notices);
    engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
    if verbosity == Verbosity::Steps {
        println!("{rules:#?} {memory:?}");
    }
    let world = World {
        verbosity,
        engine: &engine,
        clock,
        salt: tape.salt(),
        hangs: tape.one_of(&[0, 50, 300]),
        longest: tape.one_of(&[5 * MS, MS / 100, 200 * MS]),
        tape,
        rules,
        notices,
        drivers: Vec::new(),
        calls: Vec::new(),
        maps: Vec::new(),
        records: BTreeMap::new(),
        jobs: 0,
        limits_at: None,
        creation_at: None,
        healed: false,
        steps: 0,
        tally: LimitTally { worlds: 1, ..LimitTally::default() },
    };
    world.live()
}

impl World<'_> {
    fn live(mut self) -> LimitTally {
        self.create();
        while !self.tape.has_run_out() {
            if !self.happen() {
                self.step();
            }
            self.after_step();
        }
        self.healed = true;
        self.engine.unpause();
        self.run_until("every map and call ends", |world| world.maps.is_empty() && world.calls.is_empty());
        self.engine.drain();
        self.run_until("every thread ends", |world| world.drivers.is_empty() && world.engine.has_ended());
        let Self { engine, mut tally, records, .. } = self;
        engine.under_lock(|state| {
            assert!(state.is_empty(), "something is left in the engine");
            assert!(state.ledger.is_at_rest(), "something is left in the ledger");
            assert_eq!(state.ledger.arm(), None, "a limit is left");
            assert!(state.broken.is_none(), "the engine broke");
        });
        tally.executions = records.values().map(|record| u64::from(record.executions)).sum();
        tally.outcomes = records.values().map(|record| u64::from(record.outcomes)).sum();
        tally
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            assert!(self.steps < STEPS_MAX, "never: {what}: {}", self.engine.status());
            assert!(self.step(), "nothing happens any more, and never: {what}: {}", self.engine.status());
            self.after_step();
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

    /// Something that a user does, perhaps.
    fn happen(&mut self) -> bool {
        match self.tape.pick(24) {
            1 | 2 => self.open_call(),
            3 if self.maps.len() < 3 => self.open_map(),
            4 if self.tape.one_in(4) => {
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
                }
                self.engine.give_up(); // if no container is left, and none can be created
                self.create();
            }
            5 if self.tape.one_in(4) => {
                self.tally.pauses += 1;
                self.engine.pause();
            }
            6 | 7 => _ = self.engine.unpause(),
            _ => return false,
        }
        true
    }

    fn limits(&mut self) -> Limits {
        Limits {
            timeout: self.tape.one_of(&[None, None, Some(2 * MS), Some(20 * MS)]),
            deadline: self.tape.one_of(&[None, None, Some(30 * MS), Some(5 * MS)]),
        }
    }

    fn record(&mut self, input: u64, limits: Limits) {
        let record = Record {
            accepted: self.now(),
            timeout: limits.timeout.or(self.rules.limits.timeout),
            deadline: limits.deadline.or(self.rules.limits.deadline),
            ..Record::default()
        };
        self.records.insert(input, record);
    }

    fn open_call(&mut self) {
        let (input, limits) = (self.jobs << 20, self.limits());
        if let Ok(call) = OpenCall::begin::<u64, u64>(self.engine, input, Caller::default(), None, limits) {
            self.jobs += 1;
            self.tally.calls += 1;
            self.record(input, limits);
            self.log(|| format!("call {input:x} within {limits:?}"));
            self.calls.push((call, input));
        }
    }

    fn open_map(&mut self) {
        let (first, limits) = (self.jobs << 20, self.limits());
        let inputs = self.tape.one_of(&[5, 40, 1, 300]);
        let window = Window::Fixed(self.tape.one_of(&[8, 1, 300]));
        let source = JobSource::Direct(DirectSource::new(first..first + inputs));
        let how = (Order::Completion, Failures::Yield);
        let opened = ReaderGuard::of_map(self.engine, source, how, window, (None, limits), Caller::default());
        let Ok(reader) = opened else { return };
        self.jobs += 1;
        self.tally.maps += 1;
        self.log(|| format!("map {first:x} of {inputs} within {limits:?}"));
        self.maps.push(SimMap { consumer: Consumer::over(reader), first, inputs, accepted: 0, limits });
    }

    /// Enters the inputs that were accepted into the records.
    fn see_accepted(&mut self) {
        let mut maps = std::mem::take(&mut self.maps);
        for map in &mut maps {
            let job = map.consumer.job;
            let pulled = self
                .engine
                .under_lock(|state| state.ledger.job(job).map_or(map.accepted, |job| job.counts().pulled));
            for index in map.accepted..pulled {
                self.record(map.first + index, map.limits);
            }
            map.accepted = pulled;
        }
        self.maps = maps;
    }

    fn consume(&mut self) {
        let mut calls = std::mem::take(&mut self.calls);
        calls.retain_mut(|(call, input)| match call.poll::<u64, u64, u64>(Wait::Try) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                self.judge(*input, &outcome.expect("an outcome is taken once"));
                false
            }
        });
        self.calls = calls;
        let mut maps = std::mem::take(&mut self.maps);
        maps.retain_mut(|map| {
            loop {
                match map.consumer.poll_next(Wait::Try) {
                    Poll::Pending => return true,
                    Poll::Ready(None) => return false,
                    Poll::Ready(Some(outcome)) => {
                        let input = match &outcome {
                            Ok(output) => {
                                (map.first..map.first + map.inputs).find(|input| answer(*input) == *output)
                            }
                            Err(failure) => failure.index().map(|index| map.first + index),
                        };
                        if let Some(input) = input {
                            self.judge(input, &outcome);
                        }
                    }
                }
            }
        });
        self.maps = maps;
    }

    /// Checks the outcome of an input against its history.
    fn judge(&mut self, input: u64, outcome: &Outcome) {
        let (now, rules) = (self.now(), &self.rules);
        self.log(|| format!("{input:x} ends: {outcome:?}"));
        let Some(record) = self.records.get_mut(&input) else {
            // It was accepted and ended in the same step, which only the end of the function does.
            let failure = outcome.as_ref().expect_err("it was never executed");
            assert!(matches!(failure.cause(), Cause::GaveUp(_)), "{input:x} was not accepted: {failure:?}");
            return;
        };
        record.outcomes += 1;
        assert_eq!(record.outcomes, 1, "{input:x} has two outcomes");
        let failure = match outcome {
            Ok(output) => return assert_eq!(*output, answer(input), "the output of another input"),
            Err(failure) => failure,
        };
        let retries = rules.retries.retries_max();
        match failure.cause() {
            Cause::TimedOut { limit } => {
                self.tally.timed_out += 1;
                assert_eq!(Some(*limit), record.timeout, "{input:x}: {record:?}");
                assert!(record.began + *limit <= now, "{input:x} has timed out too early: {record:?}");
                let spent = record.failures > retries || !rules.limits.retry_timeouts || record.left > 0;
                let ends = self.engine.status().gave_up.is_some();
                assert!(spent || ends, "{input:x} has retries left: {record:?}");
                assert_eq!(failure.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::DeadlineExceeded { limit, last } => {
                self.tally.past_deadline += 1;
                assert_eq!(Some(*limit), record.deadline, "{input:x}: {record:?}");
                let due = record.accepted + *limit;
                let refused = record.failures > 0
                    && record.failures <= retries
                    && record.failed + rules.retries.delay(record.failures) >= due;
                assert!(due <= now || refused, "{input:x} is ended before its deadline: {record:?}");
                self.tally.refused_retries += u64::from(due > now);
                self.tally.deadlines_of_waiting += u64::from(record.on.is_none());
                self.tally.deadlines_with_an_error += u64::from(last.is_some());
                assert_eq!(*last, record.error, "{input:x}: the last error of {record:?}");
                assert_eq!(failure.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::Failed(error) => {
                assert_eq!(Some(*error), record.error, "{input:x}: {record:?}");
                assert_eq!(failure.attempts(), record.executions, "{input:x}: {record:?}");
            }
            Cause::Poisoned(_) => {
                self.tally.poisoned += 1;
                assert!(record.crashes > rules.crash_retries || record.left > 0, "{input:x}: {record:?}");
            }
            Cause::Lost(_) => assert!(rules.crash_retries == 0 || record.left > 0, "{input:x}: {record:?}"),
            Cause::GaveUp(_) => self.tally.given_up += 1,
            other => panic!("{input:x} ends by {other:?}"),
        }
    }

    fn create(&mut self) {
        for (id, generation) in self.engine.create() {
            if self.engine.launch(id, generation) {
                let token = |_: &Dispatch| Ok(Token::of_no_thread(None));
                let living = Living::new(self.engine, id, generation, token);
                let mut driver = Driver { id, living, phase: Phase::Over };
                driver.go_on();
                self.drivers.push(driver);
            }
        }
        self.creation_at = self.engine.next_creation().map(|delay| self.now() + delay.max(MS / 10));
    }

    /// A generation has died from outside. The code that it executes goes on without it.
    fn died(&mut self, id: ContainerId, generation: Generation) {
        for record in self.records.values_mut().filter(|record| record.on == Some((id, generation))) {
            record.on = None;
            record.left += 1;
        }
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
                            self.engine.give_up();
                        }
                        self.create();
                    }
                    Notice::Recovered | Notice::NothingPending | Notice::Ended { .. } => self.create(),
                    Notice::Limited => self.look(),
                    Notice::Entered
                    | Notice::Exiting { .. }
                    | Notice::FeederEnded
                    | Notice::Awaited
                    | Notice::Folds => {}
                }
            }
        }
    }

    /// The supervisor looks at the limits.
    fn look(&mut self) {
        let now = self.now();
        let before: Vec<(ContainerId, Generation)> =
            self.drivers.iter().map(|driver| (driver.id, driver.living.generation())).collect();
        let executing: Vec<Option<(u64, bool)>> = self.drivers.iter().map(Driver::executing).collect();
        self.limits_at = self.engine.look_at_limits().map(|delay| now + delay.max(MS / 10));
        // Attempts that were cut now. The look makes no thread and ends none.
        let after: Vec<Option<(u64, bool)>> = self.drivers.iter().map(Driver::executing).collect();
        for pair in executing.into_iter().zip(after) {
            if let (Some((input, false)), Some((_, true))) = pair {
                self.log(|| format!("{input:x} is cut"));
                let record = self.records.get_mut(&input).expect("it executes");
                record.failures += 1;
                record.failed = now;
                self.tally.cut += 1;
            }
        }
        for (id, generation) in before {
            let lives = self.engine.under_lock(|state| state.ledger.is_current(id, generation));
            let was_in = self.records.values().any(|record| record.on == Some((id, generation)));
            if !lives && was_in {
                self.log(|| format!("{id}#{generation} is unresponsive"));
                self.tally.unresponsive += 1;
                self.died(id, generation);
            }
        }
        self.tally.kept += self.engine.under_lock(|state| state.ledger.hung() as u64).min(1);
        self.leases_are_in_time();
    }

    /// After a look no attempt goes on for longer than its limit, and no deadline has passed.
    fn leases_are_in_time(&mut self) {
        self.see_accepted();
        self.consume();
        self.see_accepted();
        let now = self.now();
        for driver in &self.drivers {
            let Phase::Executing(task) = &driver.phase else { continue };
            let record = &self.records[&task.input];
            if task.run.is_fenced() {
                continue;
            }
            if let Some(limit) = record.timeout {
                assert!(
                    now < task.began + limit + LAG,
                    "{:x} goes on past its limit: {record:?}",
                    task.input
                );
            }
        }
        let ends = self.engine.status().gave_up.is_some();
        for (input, record) in self.records.iter().filter(|(_, record)| record.outcomes == 0 && !ends) {
            if let Some(limit) = record.deadline {
                assert!(now < record.accepted + limit + LAG, "{input:x} waits past its deadline: {record:?}");
            }
        }
    }

    /// Takes one step. Returns whether there was one to take, now or later.
    fn step(&mut self) -> bool {
        self.steps += 1;
        let now = self.now();
        if self.limits_at.is_some_and(|at| at <= now) {
            self.look();
            return true;
        }
        if self.creation_at.is_some_and(|at| at <= now) {
            self.create();
            return true;
        }
        for id in self.engine.take_raised() {
            for driver in self.drivers.iter_mut().filter(|driver| driver.id == id) {
                if let Phase::Asleep { until } = &mut driver.phase {
                    *until = Some(now);
                }
            }
        }
        let healed = self.healed;
        let ready: Vec<usize> =
            (0..self.drivers.len()).filter(|at| self.drivers[*at].ready_at(healed) <= Some(now)).collect();
        let ready: Vec<usize> =
            ready.into_iter().filter(|at| self.drivers[*at].ready_at(healed).is_some()).collect();
        if !ready.is_empty() {
            let at = ready[(self.steps as usize + self.tape.pick(ready.len())) % ready.len()];
            self.drive(at);
            return true;
        }
        let drivers = self.drivers.iter().filter_map(|driver| driver.ready_at(healed));
        let next = drivers.chain(self.limits_at).chain(self.creation_at).min();
        let Some(next) = next else { return false };
        self.clock.fetch_max(next.0.as_nanos() as u64, Ordering::Relaxed);
        true
    }

    fn drive(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.living.generation());
        match std::mem::replace(&mut driver.phase, Phase::Over) {
            Phase::Asleep { .. } => {
                self.engine.wake(id, generation);
                driver.phase = Phase::Asking;
            }
            Phase::Asking => match self.engine.try_next(id, generation, |_| ()).0 {
                Next::Work(work) => self.begin(at, work),
                Next::Wait { until } => driver.phase = Phase::Asleep { until },
                Next::Over(served) => {
                    driver.living.served(Ok(served));
                    driver.go_on();
                }
                Next::Hold { .. } => unreachable!("it executes one input at a time"),
            },
            Phase::Executing(task) => self.finish(at, task),
            Phase::Over => unreachable!("it is removed"),
        }
    }

    fn begin(&mut self, at: usize, work: Work) {
        let Work { run, lease, previous, .. } = work;
        let Some(active) = run.begin::<u64, u64, u64>() else {
            self.drivers[at].phase = Phase::Asking;
            return;
        };
        let (place, input) = (active.place(), *active.input());
        self.see_accepted();
        if let Some(Previous::TimedOut) = previous {
            assert!(self.records[&input].failures > 0, "{input:x} has not timed out");
        }
        self.execute(at, run, lease, place, input);
    }

    fn execute(&mut self, at: usize, run: Arc<Run>, lease: Lease, place: usize, input: u64) {
        self.see_accepted();
        let now = self.now();
        let driver = &mut self.drivers[at];
        let on = (driver.id, driver.living.generation());
        let record = self.records.get_mut(&input).expect("it was accepted");
        assert!(record.outcomes == 0 || run.is_fenced(), "{input:x} has its outcome, and executes");
        if !run.is_fenced() {
            assert_eq!(record.on, None, "{input:x} executes although its last attempt has not returned");
            record.executions += 1;
            record.began = now;
            record.on = Some(on);
        }
        let draw = mix(self.salt, input, u64::from(lease.attempt.get()), 1);
        let act = match draw % 1000 {
            fate if fate < self.hangs => Act::Hang,
            fate if fate < self.hangs + 80 => Act::Fail,
            fate if fate < self.hangs + 110 => Act::Panic,
            _ => Act::Ok,
        };
        let longest = self.longest.as_nanos() as u64;
        let ends = (act != Act::Hang).then(|| now + Duration::from_nanos((draw >> 20) % longest));
        let checks = draw >> 62 == 0;
        driver.phase = Phase::Executing(Task { run, lease, place, input, began: now, ends, act, checks });
    }

    /// The code of a thread returns, panics, or unwinds at a checkpoint.
    fn finish(&mut self, at: usize, task: Task) {
        let now = self.now();
        let Task { run, lease, place, input, ends, act, .. } = task;
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.living.generation());
        let on = Some((id, generation));
        let returns = |records: &mut BTreeMap<u64, Record>| {
            if let Some(record) = records.get_mut(&input)
                && record.on == on
            {
                record.on = None;
            }
        };
        let its_own_end = ends.is_some_and(|ends| ends <= now) || self.healed;
        if !its_own_end {
            // A checkpoint unwinds, because the attempt was cut or its generation is over.
            let token = Arc::clone(driver.living.with_current());
            let unwound = token::with_current(Some(token), || contain(token::checkpoint));
            let panic = unwound.expect_err("a checkpoint unwinds out of cut code");
            self.tally.unwound += 1;
            returns(&mut self.records);
            driver.living.served(Err(panic));
            driver.go_on();
            return;
        }
        match act {
            Act::Ok | Act::Hang => {
                returns(&mut self.records);
                let mut active = run.active_at::<u64, u64, u64>(place);
                match active.publish(answer(input)) {
                    Err(_) => {
                        self.engine.count_late();
                        self.tally.returned_in_the_grace += 1;
                        driver.phase = Phase::Asking;
                    }
                    Ok(Advance::Next) => {
                        let next = *run.active_at::<u64, u64, u64>(place + 1).input();
                        self.execute(at, run, lease, place + 1, next);
                    }
                    Ok(_) => {
                        let first = run.places().end;
                        self.tally.leases_cut_short += u64::from(place + 1 < first);
                        driver.phase = Phase::Asking;
                    }
                }
            }
            Act::Fail => {
                let error = mix(5, input, u64::from(lease.attempt.get()), 0);
                let was_fenced = run.is_fenced();
                if !was_fenced {
                    let record = self.records.get_mut(&input).expect("it executes");
                    record.failures += 1;
                    record.failed = now;
                    record.error = Some(error);
                }
                returns(&mut self.records);
                let mut active = run.active_at::<u64, u64, u64>(place);
                let how = (Retryable::Yes, None);
                let goes_on =
                    self.engine.failed(id.into(), &run, &mut active.at, Why::Error(Box::new(error)), how);
                if goes_on {
                    let next = *run.active_at::<u64, u64, u64>(place + 1).input();
                    return self.execute(at, run, lease, place + 1, next);
                }
                self.drivers[at].phase = Phase::Asking;
            }
            Act::Panic => {
                if !run.is_fenced() {
                    self.records.get_mut(&input).expect("it executes").crashes += 1;
                }
                returns(&mut self.records);
                let panic = Panic { message: "a simulated panic".to_owned(), location: None };
                driver.living.served(Err(panic));
                driver.go_on();
            }
        }
    }

    fn after_step(&mut self) {
        self.see_accepted();
        self.hear();
        self.drivers.retain(|driver| !matches!(driver.phase, Phase::Over));
        self.see_accepted();
        self.consume();
        self.see_accepted(); // the outcomes that were taken have made room
    }
}

impl Driver {
    /// Goes through the life of the container up to the next wait.
    fn go_on(&mut self) {
        loop {
            match self.living.next() {
                Some(Part::Enter) => self.living.entered(Ok(Ok(()))),
                Some(Part::Serve) => return self.phase = Phase::Asking,
                Some(Part::Exit) => self.living.exited(Ok(())),
                Some(Part::Drop) => self.living.hear(LifeEvent::Dropped),
                None => {
                    let event = self.living.perform();
                    self.living.hear(event);
                    return self.phase = Phase::Over;
                }
            }
        }
    }

    /// The input that is executing, and whether its run is fenced.
    fn executing(&self) -> Option<(u64, bool)> {
        if let Phase::Executing(task) = &self.phase { Some((task.input, task.run.is_fenced())) } else { None }
    }

    fn ready_at(&self, healed: bool) -> Option<Time> {
        match &self.phase {
            Phase::Asking => Some(Time::default()),
            Phase::Asleep { until } => *until,
            Phase::Executing(task) => {
                let cut = task.checks && self.living.with_current().is_cancelled();
                if cut || healed { Some(Time::default()) } else { task.ends }
            }
            Phase::Over => None,
        }
    }
}

#[test]
fn every_world_with_limits_keeps_every_promise() {
    let (tally, is_whole) = every_seed("simulator::limits", WORLDS, live);
    println!("{tally:#?}");
    assert!(!is_whole || tally.missing().is_empty(), "events that no world had: {:?}", tally.missing());
}

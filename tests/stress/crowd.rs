//! [`Round`]: one function with its users and the operator who disturbs it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use longshore::snapshot::CrashCause;
use longshore::{
    App, Builder, Cause, ContainerId, Context, CrashKind, CrashLoopBackoff, Failure, Function, Limits,
    Progress, RateLimited, RestartPolicy, Retries,
};

use crate::code::{
    Faults, LIMIT, Refused, Shared, Stateful, Ticket, execute, execute_among_others, execute_batch,
    execute_batch_in_task, execute_in_task,
};
use crate::random::{Random, mix};
use crate::tally::Tally;

type Stressed = Function<Ticket, Vec<u64>, Refused>;
type Outcome = Result<Vec<u64>, Failure<Ticket, Refused>>;

/// One function, from its start to its end.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    seed: u64,
    number: u64,
    kind: Kind,
    containers: u64,
    /// The number of inputs that a container has in flight, or in a batch, in the kinds that can have
    /// several.
    lanes: u64,
    crash_retries: u32,
    policy: Policy,
    /// Whether attempts have a timeout, and whether a time-out is retried.
    timeout: Option<Retried>,
    /// Whether the function has a deadline for all inputs.
    deadline: bool,
    /// Whether an interrupted worker is kept.
    keeps_interrupted: bool,
    /// Whether only a few calls may be without an outcome.
    few_calls: bool,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retried {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    NeverGivesUp,
    BacksOff,
    /// Gives up after a few crashes, until an operator resets it.
    GivesUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Worker,
    Async,
    AsyncWorker,
    Concurrent,
    ConcurrentWorker,
    Batch,
    BatchAsync,
    BatchWorker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// When all users have finished.
    Last,
    Drain,
    Stop,
    Abort,
    /// When the last handle is dropped.
    Dropped,
}

/// The number of inputs of a map.
const INPUTS: u64 = 400;

/// The timeout of an attempt. Inputs take microseconds, but share the machine with much else.
const TIMEOUT: Duration = Duration::from_millis(20);

/// The time between two moments at which code that overran its timeout is let through. It is longer than the
/// timeout and the grace after it.
const RELEASE: Duration = Duration::from_millis(100);

/// The number of calls that a function with few calls may have.
const CALLS_MAX: u64 = 1;

impl Round {
    pub(crate) fn drawn(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed);
        let kinds = [
            Kind::Plain,
            Kind::Worker,
            Kind::Async,
            Kind::AsyncWorker,
            Kind::Concurrent,
            Kind::ConcurrentWorker,
            Kind::Batch,
            Kind::BatchAsync,
            Kind::BatchWorker,
        ];
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let endings = [
            Ending::Last,
            Ending::Last,
            Ending::Last,
            Ending::Drain,
            Ending::Stop,
            Ending::Abort,
            Ending::Dropped,
        ];
        let ending = endings[random.below(7) as usize];
        let policy = [Policy::NeverGivesUp, Policy::BacksOff, Policy::GivesUp][random.below(3) as usize];
        let crash_retries = [3, 3, 0, 10][random.below(4) as usize];
        let lanes = [2, 5, 40][random.below(3) as usize];
        let containers = 1 + random.below(4);
        let timeout = [None, None, Some(Retried::Yes), Some(Retried::No)][random.below(4) as usize];
        let (deadline, keeps_interrupted) = (random.one_in(6), random.one_in(2));
        let few_calls = random.one_in(2);
        Self {
            seed,
            number,
            kind,
            containers,
            lanes,
            crash_retries,
            policy,
            timeout,
            deadline,
            keeps_interrupted,
            few_calls,
            ending,
        }
    }

    /// Runs the round, and checks that its counts balance.
    ///
    /// # Panics
    ///
    /// If a check fails, or if the round takes longer than `limit`.
    pub(crate) fn live(self, limit: Duration) -> Tally {
        let (tell, told) = mpsc::channel();
        let round = self.clone();
        let thread = thread::spawn(move || {
            let tally = round.run();
            let _unheard = tell.send(()); // the receiver is gone if the round took too long
            tally
        });
        if told.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            panic!("hung: {self:?} did not end within {limit:?}");
        }
        thread.join().unwrap_or_else(|panic| {
            println!("{self:?} failed");
            resume_unwind(panic)
        })
    }

    fn start(&self, app: &App, faults: &Arc<Faults>) -> Stressed {
        let millisecond = Duration::from_millis(1);
        let policy: RestartPolicy = match self.policy {
            Policy::NeverGivesUp => RateLimited::never().into(),
            Policy::BacksOff => CrashLoopBackoff::new().initial(millisecond).max(4 * millisecond).into(),
            Policy::GivesUp => RateLimited::new().max_crashes(20).max_failure_rate(0.0).into(),
        };
        let entered = Arc::clone(faults);
        match self.kind {
            Kind::Plain => self.with(app.function("f", execute), policy),
            Kind::Worker => self.with(app.worker("f", move |_: &Context| Stateful::enter(&entered)), policy),
            Kind::Async => self
                .with(app.function_async("f", async |ticket: &Ticket| execute_in_task(ticket).await), policy),
            Kind::AsyncWorker => {
                let enter = async move |_: &Context| Stateful::enter(&entered);
                self.with(app.worker_async("f", enter), policy)
            }
            Kind::Concurrent => {
                let f = app.function_async("f", async |ticket: &Ticket| execute_among_others(ticket).await);
                self.with(f.concurrent_inputs(self.lanes as usize), policy)
            }
            Kind::ConcurrentWorker => {
                let enter = async move |_: &Context| Shared::enter(&entered);
                let f = app.worker_concurrent("f", enter);
                self.with(f.concurrent_inputs(self.lanes as usize), policy)
            }
            Kind::Batch => self.with_batches(app.batch("f", execute_batch), policy),
            Kind::BatchAsync => {
                let f =
                    app.batch_async("f", async |tickets: &[&Ticket]| execute_batch_in_task(tickets).await);
                self.with_batches(f, policy)
            }
            Kind::BatchWorker => {
                let f = app.batch_worker("f", move |_: &Context| Stateful::enter(&entered));
                self.with_batches(f, policy)
            }
        }
    }

    fn with_batches(&self, f: Builder<Ticket, Vec<u64>, Refused>, policy: RestartPolicy) -> Stressed {
        let wait = Duration::from_micros([0, 0, 300][(self.seed % 3) as usize]);
        self.with(f.batch_size(self.lanes as usize).batch_wait(wait), policy)
    }

    fn with(&self, f: Builder<Ticket, Vec<u64>, Refused>, policy: RestartPolicy) -> Stressed {
        let f = f.containers(self.containers as usize).crash_retries(self.crash_retries).restart(policy);
        let f = f.retries(Retries::new(RETRIES).initial_delay(Duration::from_micros(300)));
        let f = match self.timeout {
            None => f,
            Some(retried) => f.timeout(TIMEOUT).retry_timeouts(retried == Retried::Yes),
        };
        let f = if self.deadline { f.deadline(10 * TIMEOUT) } else { f };
        let f = if self.keeps_interrupted { f.keep_interrupted() } else { f };
        let f = if self.few_calls { f.calls_max(CALLS_MAX) } else { f };
        // Without a timeout, a function that never gives up would wait for stuck threads until all users have
        // finished. With one, they are let through now and then, so that containers hang for a while.
        let is_tight = self.policy == Policy::GivesUp || self.timeout.is_some();
        let abandoned_max = if is_tight { 2 } else { 64 };
        f.memory_limit(LIMIT)
            .recycle_above(8 << 10)
            .abandoned_max(abandoned_max)
            .start()
            .expect("valid settings")
    }

    fn run(&self) -> Tally {
        let app = App::ephemeral("stress");
        let faults = Arc::new(Faults::of(self.timeout.is_some()));
        let f = self.start(&app, &faults);
        let over = AtomicBool::new(false);
        let mut tally = Tally { rounds: 1, ..Tally::default() };
        thread::scope(|threads| {
            let users: Vec<_> = (0..3)
                .map(|user| {
                    let (f, faults) = (f.clone(), Arc::clone(&faults));
                    threads.spawn(move || self.use_it(user, &f, &faults))
                })
                .collect();
            let operator = threads.spawn(|| self.operate(&f, &faults, &over));
            if matches!(self.ending, Ending::Drain | Ending::Stop | Ending::Abort) {
                thread::park_timeout(Duration::from_micros(mix(self.seed, 9) % 30_000));
                match self.ending {
                    Ending::Drain => f.drain(),
                    Ending::Stop => f.stop(),
                    _ => f.abort(),
                }
                faults.open(); // stuck code would hold the end up until the shutdown's limit
            }
            for user in users {
                tally += user.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
            over.store(true, Ordering::SeqCst);
            tally += operator.join().unwrap_or_else(|panic| resume_unwind(panic));
        });
        faults.open();
        // No code is stuck any more, so all abandoned threads end, and no container hangs.
        let are_stuck = |f: &Stressed| {
            let containers = f.status().containers;
            containers.abandoned + containers.hung > 0
        };
        while are_stuck(&f) {
            thread::park_timeout(Duration::from_millis(1));
        }
        let status = f.status();
        if self.ending == Ending::Last && status.gave_up.is_none() {
            f.idle().expect("its engine is whole"); // detached calls have outcomes
            let calls = f.status().calls;
            assert_eq!((calls.pending, calls.permits, calls.reserving), (0, 0, 0), "calls are left");
        }
        let kind = |crash: &CrashCause| (crash.kind == CrashKind::Unresponsive).then_some(crash.count);
        tally.unresponsive = f.snapshot().causes.iter().filter_map(kind).sum();
        tally.cut = f.snapshot().totals.timed_out;
        tally.crashes = status.crashes;
        tally.restarts = status.restarts;
        tally.recycled = status.recycled;
        tally.late_answers = status.late_answers;
        tally.drains = u64::from(self.ending == Ending::Drain);
        tally.stops = u64::from(self.ending == Ending::Stop);
        tally.aborts = u64::from(self.ending == Ending::Abort);
        if self.ending == Ending::Dropped {
            drop((f, app));
        } else {
            drop(f);
            app.shutdown_blocking(); // the end of the test waits for abandoned threads
        }
        let count = |faults: &AtomicU64| faults.load(Ordering::SeqCst);
        tally.executions = count(&faults.executions);
        tally.errors = count(&faults.errors);
        tally.panics = count(&faults.panics);
        tally.balloons = count(&faults.balloons);
        tally.stuck = count(&faults.stuck);
        tally.overdue = count(&faults.overdue);
        tally.hangs = count(&faults.hangs);
        tally.deep = count(&faults.deep);
        tally.leaks = count(&faults.leaks);
        tally.failed_starts = count(&faults.failed_starts);
        tally
    }

    /// One user, who makes maps and calls one after the other and counts each.
    fn use_it(&self, user: u64, f: &Stressed, faults: &Arc<Faults>) -> Tally {
        let mut random = Random::new(mix(self.seed, user));
        let mut tally = Tally::default();
        for map in 0..2 {
            let number = (self.number << 8) + (user << 4) + map;
            if self.policy == Policy::GivesUp {
                f.reset();
            }
            // The last place is for a call.
            let executions: Arc<Vec<AtomicU32>> = Arc::new((0..=INPUTS).map(|_| AtomicU32::new(0)).collect());
            let ticket = |index| {
                let (executions, faults) = (Arc::clone(&executions), Arc::clone(faults));
                Ticket { map: number, index, executions, faults }
            };
            self.call(number, f, ticket(INPUTS), &mut random, &mut tally);
            tally.maps += 1;
            let tickets: Vec<Ticket> = (0..INPUTS).map(ticket).collect();
            let map = if random.one_in(2) {
                f.map(tickets)
            } else {
                let mut tickets = tickets.into_iter();
                // The length is unknown, and so a feeder pulls this source.
                f.map(std::iter::from_fn(move || tickets.next()))
            };
            let mut map = map.return_exceptions();
            let has_deadline = self.deadline || random.one_in(6);
            if has_deadline {
                map = map.deadline(Duration::from_millis(1 + random.below(40)));
            }
            let ordered = random.one_in(2);
            if !ordered {
                map = map.unordered();
            }
            if random.one_in(3) {
                map = map.window(1 + random.below(50));
            }
            let most = if random.one_in(5) { random.below(INPUTS) as usize } else { usize::MAX };
            let (outcomes, progress) = if random.one_in(2) {
                let mut outcomes = map.into_iter();
                let taken: Vec<Outcome> = outcomes.by_ref().take(most).collect();
                (taken, outcomes.progress())
            } else {
                let taken: Vec<Outcome> = block_on(map.by_ref().take(most).collect());
                (taken, map.progress())
            };
            tally.maps_dropped += u64::from(most != usize::MAX);
            self.judge(
                &Given { map: number, outcomes: &outcomes, ordered, most },
                &executions,
                progress,
                &mut tally,
            );
        }
        tally
    }

    /// One call of a client that may leave at any moment.
    fn call(&self, number: u64, f: &Stressed, ticket: Ticket, random: &mut Random, tally: &mut Tally) {
        tally.calls += 1;
        let moment = Duration::from_micros(random.below(2_000));
        let limits = match random.below(4) {
            0 => Limits::new().deadline(Duration::from_millis(1 + random.below(20))),
            _ => Limits::new(),
        };
        let call = match random.below(4) {
            0 => {
                let permit = match random.below(3) {
                    0 => f.try_reserve(),
                    1 => f.reserve_blocking(),
                    // A client that leaves the line at once, unless there is room.
                    _ => match f.reserve().now_or_never() {
                        Some(permit) => permit,
                        None => return tally.waits_given_up += 1,
                    },
                };
                let Ok(permit) = permit else { return };
                tally.permits += 1;
                if random.one_in(3) {
                    tally.permits_dropped += 1;
                    return drop(permit);
                }
                permit.call_within(ticket, limits)
            }
            _ => f.call_within(ticket, limits),
        };
        match random.below(6) {
            0 => drop(call),
            1 => self.judge_call(number, block_on(call), tally),
            2 => match call.wait_timeout(moment) {
                Ok(outcome) => self.judge_call(number, outcome, tally),
                // The client leaves, perhaps while the call executes.
                Err(call) => {
                    tally.calls_left += 1;
                    drop(call);
                }
            },
            3 => match call.wait_timeout(moment) {
                Ok(outcome) => self.judge_call(number, outcome, tally),
                Err(call) => {
                    tally.waits_given_up += 1;
                    self.judge_call(number, call.wait(), tally);
                }
            },
            4 => drop(call.detach()),
            _ => self.judge_call(number, call.wait(), tally),
        }
    }

    fn judge_call(&self, map: u64, outcome: Outcome, tally: &mut Tally) {
        tally.outcomes += 1;
        match outcome {
            Ok(told) => {
                assert_eq!(told, [map, INPUTS, mix(map, INPUTS)], "the output belongs to this call");
                tally.ok += 1;
            }
            Err(failure) => self.judge_failure(&failure, tally),
        }
    }

    /// Holds the outcomes of a map against its inputs.
    fn judge(&self, given: &Given<'_>, executions: &[AtomicU32], progress: Progress, tally: &mut Tally) {
        let Given { map, outcomes, ordered, most } = *given;
        let mut seen = vec![false; INPUTS as usize];
        for outcome in outcomes {
            let index = match outcome {
                Ok(told) => {
                    tally.ok += 1;
                    assert_eq!(*told, [map, told[1], mix(map, told[1])], "another map's output");
                    let executed = executions[told[1] as usize].load(Ordering::SeqCst);
                    let most = self.executions_most();
                    assert!((1..=most).contains(&executed), "{executed} executions of at most {most}");
                    Some(told[1])
                }
                Err(failure) => {
                    self.judge_failure(failure, tally);
                    failure.index()
                }
            };
            let Some(index) = index else { continue };
            assert!(!ordered || index == seen.iter().filter(|seen| **seen).count() as u64, "out of order");
            tally.outcomes += 1;
            let again = std::mem::replace(&mut seen[index as usize], true);
            tally.duplicated += u64::from(again);
            assert!(!again, "input {index} has two outcomes");
        }
        tally.inputs += progress.pulled;
        tally.cancelled += progress.cancelled;
        tally.replays += progress.replayed;
        tally.retries += progress.retried;
        let whole = outcomes.len() < most;
        let answered = seen.iter().filter(|seen| **seen).count() as u64;
        if whole {
            tally.lost += progress.pulled - answered;
            assert_eq!(answered, progress.pulled, "inputs without an outcome: {progress:?}");
            let first = seen.iter().take_while(|seen| **seen).count() as u64;
            assert_eq!(first, answered, "the pulled inputs are answered, from the first on");
            let ended = self.ending != Ending::Last || self.policy == Policy::GivesUp;
            assert!(answered == INPUTS || ended, "a map has ended by itself before its last input");
        }
    }

    /// The largest number of executions of an input. With `crash_retries(0)` only failures are executed
    /// again.
    fn executions_most(&self) -> u32 {
        let kills = if self.crash_retries == 0 { 0 } else { KILLS_MAX };
        let is_concurrent = matches!(self.kind, Kind::Concurrent | Kind::ConcurrentWorker);
        let is_batched = matches!(self.kind, Kind::Batch | Kind::BatchAsync | Kind::BatchWorker);
        let freed = match self.crash_retries {
            0 => 0,
            // An input is freed three times, and once more after each failure.
            _ if is_concurrent => FREED_MAX + RETRIES,
            // A batch is halved until an input is alone, and again after each failure.
            _ if is_batched => self.lanes.next_power_of_two().trailing_zeros() * (1 + RETRIES),
            _ => 0,
        };
        1 + RETRIES + self.crash_retries + kills + freed
    }

    fn judge_failure(&self, failure: &Failure<Ticket, Refused>, tally: &mut Tally) {
        if let Some(ticket) = failure.input() {
            let executed = ticket.count().load(Ordering::SeqCst);
            // An attempt that was fenced before its first instruction did not count itself.
            assert!(executed <= failure.attempts(), "{executed} executions, {failure:?}");
            assert!(executed <= self.executions_most(), "{executed} executions, {failure:?}");
        }
        match failure.cause() {
            Cause::Failed(Refused) => tally.failed += 1,
            Cause::TimedOut { limit } => {
                assert!(self.timeout.is_some() && *limit == TIMEOUT, "{failure:?}");
                tally.timed_out += 1;
            }
            Cause::DeadlineExceeded { .. } => tally.past_deadline += 1,
            Cause::Overloaded { calls, max } => {
                assert!(self.few_calls && calls == max && *max == CALLS_MAX, "{failure:?}");
                tally.overloaded += 1;
            }
            Cause::Poisoned(deaths) => {
                tally.poisoned += 1;
                assert!(!deaths.is_empty(), "poisoned by nothing");
            }
            Cause::GaveUp(_) => tally.given_up += 1,
            Cause::Lost(_) | Cause::Cancelled | Cause::ShutDown => {}
            other => panic!("{other:?}"),
        }
    }

    /// An operator who kills containers, takes the dependency down, and reads the status.
    fn operate(&self, f: &Stressed, faults: &Faults, over: &AtomicBool) -> Tally {
        let mut random = Random::new(mix(self.seed, 77));
        let mut tally = Tally::default();
        let mut released = Instant::now();
        while !over.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_micros(200 + random.below(3_000)));
            if released.elapsed() >= RELEASE {
                faults.release();
                released = Instant::now();
            }
            match random.below(9) {
                0..=2 if tally.kills < u64::from(KILLS_MAX) => {
                    let id = ContainerId::new(random.below(self.containers) as u32);
                    tally.kills += u64::from(f.kill_container(id));
                }
                3 => faults.down.store(true, Ordering::SeqCst),
                4 | 5 => faults.down.store(false, Ordering::SeqCst),
                6 => tally.resets += u64::from(f.reset()),
                7 if random.one_in(6) => tally.pauses += u64::from(f.pause()),
                7 => _ = f.resume(),
                _ => {
                    let status = f.status();
                    let all = status.containers;
                    let sum = all.starting + all.live + all.exiting + all.backing_off + all.stopped;
                    assert_eq!(sum as u64, self.containers, "{status}");
                    assert!(status.memory.is_some(), "{status}");
                }
            }
        }
        faults.down.store(false, Ordering::SeqCst);
        f.resume();
        tally
    }
}

/// The outcomes of a map.
#[derive(Clone, Copy)]
struct Given<'a> {
    map: u64,
    outcomes: &'a [Outcome],
    ordered: bool,
    /// The number of outcomes after which the map was dropped.
    most: usize,
}

const RETRIES: u32 = 2;

/// The largest number of free replays of an input that does not return in between.
const FREED_MAX: u32 = 3;

/// The largest number of kills in a round, so that each round comes to an end.
const KILLS_MAX: u32 = 40;

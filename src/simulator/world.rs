//! A world: one function with its engine, its threads and everybody who uses it, in virtual time.
//!
//! The engine is the real one (`engine/dispatch`, the ledger under it, consumers, chunks and runs);
//! only what blocks is simulated: threads, actors and clocks. Each step does one thing that a
//! thread or an actor could do next, chosen by the tape. Then the invariants are checked. When the
//! tape has run out the world is healed, everything comes to its end, and nothing may be left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::decide::ids::{ContainerId, Generation, JobId};
use crate::decide::job::JobKind;
use crate::decide::ledger::{Mode, Sources};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::body::Plain;
use crate::engine::clock::Clock;
use crate::engine::consumer::{Consumer, Failures};
use crate::engine::dispatch::{Dispatch, TICK_MIN};
use crate::engine::lane::{Inline, Order, Supply};
use crate::engine::messages::Notice;
use crate::engine::pool::Pool;
use crate::engine::unwind::{Elsewhere, PanicHook};
use crate::settings::Settings;
use crate::simulator::books::{Books, End, Queue, State, Why};
use crate::simulator::crumbs::Eligible;
use crate::simulator::feeders::{self, Feeder, Source};
use crate::simulator::plan::{OVERDRAFT, Plan};
use crate::simulator::readers::{Habit, Reader, Waits};
use crate::simulator::tally::Tally;
use crate::simulator::tape::Tape;
use crate::simulator::threads::{Phase, Thread};
use crate::simulator::ticket::{Answer, Engine, EngineState, Refusal, Ticket, Witness};

/// The most steps after the tape has run out: a world that needs more is stuck in a circle.
const STEPS_MAX: u64 = 300_000;

/// A window in which little room is left to grow, because it is not worth a claim of cheap inputs.
const WIDE: u64 = 520;

/// Whether a world tells what happens in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Nothing,
    /// Each step, on standard output: of a failing world.
    Steps,
}

pub(super) struct World {
    telling: Telling,
    pub(super) engine: Arc<Engine>,
    clock: Arc<AtomicU64>,
    pub(super) plan: Plan,
    pub(super) tape: Tape,
    pub(super) books: Books,
    pub(super) witness: Arc<Witness>,
    pub(super) threads: Vec<Thread>,
    pub(super) feeders: Vec<Feeder>,
    pub(super) readers: Vec<Reader>,
    /// On their way to the supervisor.
    notices: Arc<Mutex<Vec<Notice>>>,
    /// On their way to container actors.
    launches: Vec<(ContainerId, Generation)>,
    /// When the supervisor looks for containers to create.
    wake: Option<Time>,
    /// When container actors abandon an `exit`.
    exit_timers: Vec<(ContainerId, Generation, Time)>,
    /// Containers whose accounts are overdrawn, which the watch is about to be told of.
    pub(super) overdrawn: Vec<(ContainerId, Generation)>,
    /// When a shutdown becomes an abort.
    limit: Option<Time>,
    /// When the supervisor looks for outcomes that tasks wait for, and how long it waits for that.
    tick: Option<(Time, Duration)>,
    pub(super) dependency_down: bool,
    /// Nothing goes wrong any more but what inputs do.
    pub(super) healed: bool,
    tags: u64,
    pub(super) tally: Tally,
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Action {
    Thread(usize),
    Feeder(usize),
    Reader(usize),
    Notice,
    Launch(usize),
    Create,
    ExitTimer(usize),
    Watch(usize),
    Tick,
    Limit,
}

impl World {
    /// Lives a world to its end.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub(super) fn live(choices: Vec<u32>, telling: Telling) -> Tally {
        let mut world = Self::new(Tape::new(choices), telling);
        world.create();
        while !world.tape.has_run_out() {
            if !world.happen() {
                world.step();
            }
            world.after_step();
        }
        world.heal();
        world.come_to_an_end();
        world.nothing_is_left()
    }

    fn new(mut tape: Tape, telling: Telling) -> Self {
        let plan = Plan::drawn(&mut tape);
        if telling == Telling::Steps {
            println!("{plan:#?}");
        }
        let clock = Arc::new(AtomicU64::new(0));
        let settings = Settings {
            app: "simulated".into(),
            function: "world".into(),
            id: 0,
            rules: plan.rules.clone(),
            retry_if: None,
            body: Elsewhere::new(
                Box::new(Plain(|_: &Ticket| -> Result<Answer, Refusal> {
                    unreachable!("simulated threads do not call it")
                })),
                false,
            ),
            exit_timeout: plan.exit_timeout,
            stack_bytes: 0,
            panic_hook: PanicHook::Silent,
            memory: plan.memory,
        };
        let engine = Arc::new(Dispatch::new(settings, Clock::Manual(Arc::clone(&clock))));
        let witness = Arc::new(Witness::default());
        witness.watch(&engine);
        let notices = Arc::new(Mutex::new(Vec::new()));
        let mail = Arc::clone(&notices);
        engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
        Self {
            telling,
            books: Books::new(&plan),
            engine,
            clock,
            plan,
            tape,
            witness,
            threads: Vec::new(),
            feeders: Vec::new(),
            readers: Vec::new(),
            notices,
            launches: Vec::new(),
            wake: None,
            exit_timers: Vec::new(),
            overdrawn: Vec::new(),
            limit: None,
            tick: None,
            dependency_down: false,
            healed: false,
            tags: 0,
            tally: Tally { worlds: 1, ..Tally::default() },
        }
    }

    pub(super) fn now(&self) -> Time {
        Time(Duration::from_nanos(self.clock.load(Ordering::Relaxed)))
    }

    fn move_to(&self, time: Time) {
        let nanos = u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX);
        self.clock.fetch_max(nanos, Ordering::Relaxed);
    }

    // ---- what can happen next ----

    /// Takes one step; whether there was one to take, now or later.
    fn step(&mut self) -> bool {
        self.tally.steps += 1;
        let ready = self.ready();
        let sleeps = |thread: &Thread| matches!(thread.phase, Phase::Asleep { .. });
        if !ready.iter().any(|action| matches!(action, Action::Thread(_))) && self.threads.iter().any(sleeps)
        {
            let eligible = self.engine.inspect(|state| self.eligible(state));
            self.books.all_rest(&eligible, self.now());
            if !self.healed && self.suspect_is_cancelled() {
                return true;
            }
        }
        if ready.is_empty() {
            if self.all_booked() {
                self.books.nobody_is_held(self.now());
            }
            if !self.healed {
                self.room_is_told_of_late();
            }
            let Some(next) = self.next_moment() else { return false };
            self.move_to(next);
            return true;
        }
        if !self.healed && self.tape.one_in(24) {
            // Time passes though something could be done: everything is late now.
            let late = self.tape.one_of(&[1, 1_000, 1_000_000, 300_000_000, 11_000_000_000, 0, 0, 0]);
            let edges = if late == 0 { self.books.policy.edges(self.now()) } else { Vec::new() };
            let edge = edges.get(self.tape.pick(edges.len())).copied();
            self.move_to(edge.unwrap_or(self.now() + Duration::from_nanos(late)));
            return true;
        }
        let turn = self.tally.steps as usize; // so that zeros for ever starve nobody
        let action = ready[(turn + self.tape.pick(ready.len())) % ready.len()];
        self.act(action);
        true
    }

    fn ready(&self) -> Vec<Action> {
        let now = self.now();
        let mut ready = Vec::new();
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        ready.extend(
            (0..self.threads.len()).filter(|at| due(self.threads[*at].ready_at())).map(Action::Thread),
        );
        ready.extend(
            (0..self.feeders.len()).filter(|at| self.feeders[*at].is_ready(self.healed)).map(Action::Feeder),
        );
        let looks = |at: &usize| self.readers[*at].consumer.is_some() && due(self.readers[*at].looks_at);
        ready.extend((0..self.readers.len()).filter(looks).map(Action::Reader));
        if !self.notices.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            ready.push(Action::Notice);
        }
        ready.extend((0..self.launches.len()).map(Action::Launch));
        if due(self.wake) {
            ready.push(Action::Create);
        }
        let over = |at: &usize| self.exit_timers[*at].2 <= now;
        ready.extend((0..self.exit_timers.len()).filter(over).map(Action::ExitTimer));
        ready.extend((0..self.overdrawn.len()).map(Action::Watch));
        if due(self.limit) {
            ready.push(Action::Limit);
        }
        if due(self.tick.map(|(at, _)| at)) {
            ready.push(Action::Tick);
        }
        ready
    }

    /// The next moment at which something can be done.
    fn next_moment(&self) -> Option<Time> {
        let threads = self.threads.iter().filter_map(Thread::ready_at);
        let readers = self.readers.iter().filter(|reader| reader.consumer.is_some());
        let exits = self.exit_timers.iter().map(|(_, _, at)| *at);
        let singles = [self.wake, self.limit].into_iter().flatten();
        // Who looks in vain makes no progress: that counts only beside something that does.
        let real = threads.chain(exits).chain(singles).min();
        let looks = readers.filter_map(|reader| reader.looks_at).chain(self.tick.map(|(at, _)| at)).min();
        match (real, looks) {
            (Some(real), Some(looks)) => Some(real.min(looks)),
            (Some(real), None) => Some(real),
            (None, looks) => looks.filter(|at| *at > self.now()),
        }
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.telling == Telling::Steps {
            println!("{:>12?}  {}", self.now().0, what());
        }
    }

    fn act(&mut self, action: Action) {
        self.tell(|| match action {
            Action::Thread(at) => format!("{:?}", self.threads[at]),
            Action::Feeder(at) => format!("feeder of {:?}", self.feeders[at].job),
            Action::Reader(at) => format!("reader of {:?}", self.readers[at].job),
            _ => format!("{action:?}"),
        });
        match action {
            Action::Thread(at) => self.advance(at),
            Action::Feeder(at) => self.feed(at),
            Action::Reader(at) => self.read(at),
            Action::Notice => self.deliver_notice(),
            Action::Launch(at) => self.launch(at),
            Action::Create => self.create(),
            Action::ExitTimer(at) => self.exit_times_out(at),
            Action::Watch(at) => self.watch(at),
            Action::Tick => self.tick(),
            Action::Limit => {
                self.limit = None;
                self.tally.shutdown_limits += 1;
                self.abort();
            }
        }
    }

    /// Wakes who was signalled, checks what must hold after every step, and clears away.
    fn after_step(&mut self) {
        let (one, all) = self.engine.take_raised();
        let mut asleep: Vec<usize> = (0..self.threads.len())
            .filter(|at| matches!(self.threads[*at].phase, Phase::Asleep { .. }))
            .collect();
        let mut wakes = if all > 0 { asleep.len() as u64 } else { one };
        while wakes > 0 && !asleep.is_empty() {
            let woken = asleep.swap_remove(self.tape.pick(asleep.len()));
            self.threads[woken].phase = Phase::Asleep { until: Some(Time::default()) };
            wakes -= 1;
        }
        self.feeders.iter_mut().for_each(Feeder::hear);
        self.readers.iter_mut().for_each(Reader::hear);
        self.threads.retain(|thread| !matches!(thread.phase, Phase::Over));
        self.feeders.retain(|feeder| !matches!(feeder.phase, feeders::Phase::Over));
        self.readers.retain(|reader| reader.consumer.is_some());
        assert!(!self.witness.dropped_under_lock(), "invariant 10: a value was dropped under the lock");
        self.check_lanes();
    }

    /// Invariant 7: a window set by the user is strict. And whatever is kept of a map is bounded by what is
    /// outstanding.
    fn check_lanes(&self) {
        self.engine.inspect(|state| {
            let map = |job: &JobId| self.books.jobs.get(job).filter(|book| book.kind == JobKind::Map);
            for (book, lane) in state.lanes.0.iter().filter_map(|(job, lane)| Some((map(job)?, lane))) {
                let outstanding = lane.gate.outstanding();
                let chunks = lane.chunks.len() as u64;
                assert!(
                    chunks <= outstanding,
                    "memory: {chunks} chunks for {outstanding} outstanding inputs"
                );
                let Some(window) = book.window else { continue };
                assert!(
                    outstanding <= window,
                    "invariant 7: {outstanding} outstanding in a window of {window}"
                );
            }
        });
    }

    /// Takes what was pulled into the books.
    pub(super) fn sync_pulled(&mut self) {
        let pulled: Vec<(JobId, u64)> = self.engine.inspect(|state| {
            let ids = state.ledger.job_ids();
            ids.into_iter().filter_map(|id| Some((id, state.ledger.job(id)?.counts.pulled))).collect()
        });
        for (job, inputs) in pulled {
            self.books.pulled(job, inputs);
        }
    }

    /// Whether the engine knows of everything that was completed.
    pub(super) fn all_booked(&self) -> bool {
        !self.threads.iter().any(Thread::is_ahead)
    }

    /// The maps from which a container could be given new inputs, now or soon.
    pub(super) fn eligible(&self, state: &EngineState) -> Eligible {
        let mut eligible = Eligible::default();
        if !self.books.goes_on() {
            return eligible;
        }
        for (id, book) in self.books.jobs.iter().filter(|(_, book)| book.kind == JobKind::Map) {
            if book.inputs.iter().any(|input| matches!(input.state, State::Waits(Queue::New))) {
                eligible.now.push(*id);
                eligible.told.push(*id);
                continue;
            }
            let available = state.lanes.available(*id, self.books.mode);
            if available == 0 {
                continue;
            }
            let yielded = book.inputs.iter().filter(|input| input.yielded).count() as u64;
            let told = state.lanes.yielded(*id);
            let narrow = book.window.is_some_and(|window| window < WIDE);
            assert!(told == yielded || (told < yielded && !narrow), "what was yielded is told of");
            let window = book.window.unwrap_or_else(|| state.ledger.window(*id));
            let room = window.saturating_sub(book.inputs.len() as u64 - told);
            if room >= state.ledger.refill(*id).min(available) {
                eligible.now.push(*id);
                let told = state.lanes.0[id].gate.refill.load(Ordering::SeqCst);
                eligible.told.extend((room >= told).then_some(*id));
            } else if room > 0 {
                eligible.crumbs.push(*id);
            }
        }
        eligible
    }

    // ---- the supervisor and the container actors ----

    fn create(&mut self) {
        let (now, all_booked) = (self.now(), self.all_booked());
        for id in (0..self.plan.rules.containers as u32).map(ContainerId) {
            match self.engine.create(id) {
                None => self.books.container_not_created(id, all_booked, now),
                Some(generation) => {
                    self.books.container_created(id);
                    self.books.container_begun(id, generation, now);
                    self.launches.push((id, generation));
                }
            }
        }
        self.books.policy.recovered = false;
        let delay = self.engine.next_creation();
        self.wake = delay.map(|delay| now + delay.max(Duration::from_micros(100)));
    }

    fn deliver_notice(&mut self) {
        let (notice, reordered, duplicated) = {
            let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            let at = self.tape.pick(notices.len());
            let duplicated = self.tape.one_in(10);
            let notice = if duplicated { notices[at].clone() } else { notices.remove(at) };
            (notice, at > 0, duplicated)
        };
        self.tally.notices_reordered += u64::from(reordered);
        self.tally.notices_duplicated += u64::from(duplicated);
        match notice {
            Notice::Crashed { restart: Restart::GiveUp } => self.give_up(),
            Notice::Fenced { restart } => {
                if restart == Restart::GiveUp {
                    self.give_up();
                }
                self.create();
            }
            Notice::Crashed { .. } | Notice::FeederEnded => {}
            Notice::Awaited => {
                self.tick.get_or_insert((self.now() + TICK_MIN, TICK_MIN));
            }
            Notice::Recovered | Notice::NothingPending => self.create(),
            Notice::Exiting { container, generation } => {
                self.exit_timers.push((container, generation, self.now() + self.plan.exit_timeout));
            }
            Notice::Ended { container, generation } => {
                self.exit_timers.retain(|(id, exiting, _)| (*id, *exiting) != (container, generation));
                self.create();
            }
        }
    }

    /// The supervisor looks for outcomes, and again until nobody waits for them in a task.
    fn tick(&mut self) {
        let (_, pause) = self.tick.take().expect("it is due");
        let next = self.engine.tick().pause(pause);
        self.tick = next.map(|pause| (self.now() + pause, pause));
    }

    /// Carries out what was decided, if that was to give up.
    fn give_up(&mut self) {
        let over = self.jobs_over();
        self.engine.give_up();
        self.sync_pulled();
        if self.books.gave_up {
            self.books.end_all(Why::GaveUp, |job| over.contains(&job));
        }
    }

    /// Jobs of which nothing is pending and nothing will come.
    fn jobs_over(&self) -> Vec<JobId> {
        self.engine.inspect(|state| {
            let dry = state.lanes.0.iter().filter(|(_, lane)| lane.is_dry());
            dry.map(|(id, _)| *id).collect()
        })
    }

    fn launch(&mut self, at: usize) {
        let (id, generation) = self.launches.remove(at);
        let lives = self.books.is_alive(id, generation);
        assert_eq!(self.engine.launch(id, generation), lives, "invariant 12: {id}#{generation} is launched");
        if !lives {
            self.books.thread_ended(id, generation);
            self.engine.tell(Notice::Ended { container: id, generation });
            return;
        }
        if self.tape.one_in(100) {
            self.tally.threads_not_made += 1;
            let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
            self.crash(id, generation, crate::crash::Death::NoThread(Arc::new(error)));
            self.engine.ended(id, generation, None);
            self.books.thread_ended(id, generation);
            return;
        }
        let takes = Duration::from_millis(self.tape.one_of(&[0, 1, 100]));
        self.threads.push(Thread::new(id, generation, takes));
    }

    fn exit_times_out(&mut self, at: usize) {
        let (id, generation, _) = self.exit_timers.remove(at);
        if self.engine.abandon_exit(id, generation) {
            self.tally.exits_timed_out += 1;
            self.books.exit_left_behind(id, generation);
            self.books.container_ended(id, self.now());
            self.engine.tell(Notice::Ended { container: id, generation });
        }
    }

    /// The watch kills a container whose account is overdrawn, unless it has come out meanwhile.
    fn watch(&mut self, at: usize) {
        let (id, generation) = self.overdrawn.remove(at);
        let lives = self.books.is_alive(id, generation) && self.books.mode < Mode::Aborted;
        if lives {
            self.dies(id, generation);
        }
        self.engine.overdrawn(id, generation);
        self.sync_pulled();
        if !lives {
            return;
        }
        self.tally.killed_for_memory += 1;
        let verdict = {
            let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            notices.iter().rev().find_map(|notice| match notice {
                Notice::Fenced { restart } => Some(*restart),
                _ => None,
            })
        };
        assert!(verdict.is_some(), "the supervisor is told of it");
        self.account_for(id, generation, verdict);
    }

    /// A container is about to be killed from outside.
    fn dies(&mut self, id: ContainerId, generation: Generation) {
        let holds = self.threads.iter().find(|thread| (thread.id, thread.generation) == (id, generation));
        let dying = self.books.dies_from_outside(id, generation, holds.map_or(0, Thread::holds));
        self.tell(|| format!("{id}#{generation} dies, {dying:?}"));
        self.tally.abandoned += u64::from(dying.leaves_a_thread);
        self.tally.crowded += u64::from(dying.crowded);
    }

    // ---- what users and operators do ----

    /// Something happens from outside, if the tape says so.
    fn happen(&mut self) -> bool {
        match self.tape.pick(160) {
            1..=14 => self.open_map(),
            15..=22 => self.open_call(),
            23..=27 => self.kill(),
            28 => self.dependency_down = true,
            29..=32 => self.dependency_down = false,
            33..=35 => self.reset(),
            36 => match self.tape.pick(12) {
                1..=3 => self.drain(),
                4..=5 => self.stop(),
                6 => self.abort(),
                _ => return false,
            },
            39..=41 => self.someone_goes_away(),
            42..=45 => self.someone_asks_for_progress(),
            46..=47 => self.check_status(),
            48..=50 => self.someone_uses_too_much(),
            _ => return false,
        }
        true
    }

    fn open_map(&mut self) {
        self.tell(|| "open map".to_owned());
        self.tags += 1;
        let tag = self.tags;
        if self.tape.one_in(8) {
            return self.open_with(tag);
        }
        let order = self.tape.one_of(&[Order::Input, Order::Completion]);
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap, Failures::EndMapInOrder]);
        let wide = self.tape.one_in(100);
        let fixed =
            if wide { Some(WIDE) } else { self.tape.one_of(&[Some(8), None, Some(1), Some(3), Some(100)]) };
        let window = fixed.map_or(Window::Adaptive { inputs_min: 3, inputs_max: 64 }, Window::Fixed);
        let habit = match self.tape.pick(7) {
            _ if wide => Habit::Steady,
            0 | 1 => Habit::Greedy,
            2 | 3 => Habit::Slow,
            4 => Habit::Steady,
            5 => Habit::DropsAfter(self.tape.one_of(&[5, 0, 30])),
            _ => Habit::SalvagesAfter(self.tape.one_of(&[5, 0, 30])),
        };
        let size = if wide { WIDE + 60 } else { self.tape.one_of(&[5, 0, 1, 20, 60]) };
        let source = match self.tape.pick(7) {
            0..=2 => None,
            3 => Some(Source { inputs: None, panics_at: None, blocks_at: None }),
            4 => Some(Source { inputs: Some(size), panics_at: Some(size / 2), blocks_at: None }),
            5 => Some(Source { inputs: Some(size), panics_at: None, blocks_at: Some(size / 2) }),
            _ => Some(Source { inputs: Some(size), panics_at: None, blocks_at: None }),
        };
        let supply = match source {
            None => {
                let tickets: Vec<Ticket> =
                    (0..size).map(|index| Ticket::new(tag, index, &self.witness)).collect();
                Supply::Inline(Inline::new(tickets.into_iter()))
            }
            Some(_) => Supply::Fed(Arc::new(Pool::new())),
        };
        // An endless map is never read to its end.
        let total = source.map_or(Some(size), |source| source.inputs);
        let ends = !matches!(habit, Habit::Greedy | Habit::Steady);
        let habit = if total.is_some() || ends { habit } else { Habit::DropsAfter(40) };
        let Ok(consumer) = Consumer::of_map(&self.engine, supply, order, failures, window, None, None) else {
            assert!(self.books.mode > Mode::Running || self.books.gave_up, "a map was refused");
            return;
        };
        self.tally.maps += 1;
        self.tally.endless_maps += u64::from(total.is_none());
        let job = consumer.job();
        let goes_on = failures != Failures::EndMap;
        self.books.opened(job, tag, JobKind::Map, goes_on, fixed);
        let waits = self.waits();
        self.readers.push(Reader::new(consumer, order, failures, habit, total, waits));
        self.feeders.extend(source.map(|source| Feeder::new(job, tag, source)));
    }

    /// A map over inputs that are all there, whose outcomes are taken all at once.
    fn open_with(&mut self, tag: u64) {
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap]);
        let size = self.tape.one_of(&[20, 0, 1, 5, 60, 600]);
        let habit = self.tape.one_of(&[Habit::Greedy, Habit::Slow, Habit::DropsAfter(0)]);
        let tickets = (0..size).map(|index| Ticket::new(tag, index, &self.witness)).collect();
        let Ok(consumer) = Consumer::of_all(&self.engine, tickets, failures) else {
            assert!(self.books.mode > Mode::Running || self.books.gave_up, "a map was refused");
            return;
        };
        self.tally.maps += 1;
        self.books.opened(consumer.job(), tag, JobKind::Map, failures != Failures::EndMap, None);
        self.sync_pulled();
        let waits = self.waits();
        self.readers.push(Reader::new(consumer, Order::AtOnce, failures, habit, Some(size), waits));
    }

    fn waits(&mut self) -> Waits {
        if self.tape.one_in(2) { Waits::InTask(Arc::default()) } else { Waits::InThread }
    }

    fn open_call(&mut self) {
        self.tell(|| "open call".to_owned());
        self.tags += 1;
        let input = Ticket::new(self.tags, 0, &self.witness);
        let habit = if self.tape.one_in(5) { Habit::DropsAfter(0) } else { Habit::Greedy };
        match Consumer::of_call(&self.engine, input) {
            Ok(consumer) => {
                self.tally.calls += 1;
                self.books.opened(consumer.job(), self.tags, JobKind::Call, true, None);
                self.sync_pulled();
                let waits = self.waits();
                let reader = Reader::new(consumer, Order::Input, Failures::Yield, habit, Some(1), waits);
                self.readers.push(reader);
            }
            Err(failure) => {
                assert!(self.books.mode > Mode::Running || self.books.gave_up, "a call was refused");
                assert!(failure.input().is_some_and(|input| input.tag == self.tags), "it comes back");
            }
        }
    }

    fn kill(&mut self) {
        self.tell(|| "kill".to_owned());
        let id = ContainerId(self.tape.pick(self.plan.rules.containers) as u32);
        if let Some(generation) = self.engine.kill(id) {
            self.tally.kills += 1;
            assert!(self.books.is_alive(id, generation), "invariant 12: a dead generation was killed");
            self.sync_pulled();
            self.dies(id, generation);
            let lost = self.books.killed(id, self.now());
            self.tally.inputs_lost += u64::from(lost);
        }
        self.give_up(); // if nobody is left
        self.create();
    }

    /// What a container executes, or its `enter`, uses more memory than it may.
    fn someone_uses_too_much(&mut self) {
        let grows =
            |thread: &Thread| matches!(thread.phase, Phase::Entering { .. } | Phase::Executing { .. });
        let threads: Vec<usize> = (0..self.threads.len()).filter(|at| grows(&self.threads[*at])).collect();
        let Some(thread) = threads.get(self.tape.pick(threads.len())).map(|at| &self.threads[*at]) else {
            return;
        };
        self.tell(|| format!("{}#{} uses too much", thread.id, thread.generation));
        if thread.grow(OVERDRAFT) {
            self.overdrawn.push((thread.id, thread.generation));
        }
        self.books.left_behind_holds(thread.id, thread.generation, thread.holds());
    }

    fn reset(&mut self) {
        self.tell(|| "reset".to_owned());
        self.give_up();
        let given_up = self.engine.reset();
        assert_eq!(given_up, self.books.gave_up, "what reset says");
        self.tally.resets += u64::from(given_up);
        self.books.gave_up = false;
        self.books.policy.reset();
        self.create();
    }

    fn drain(&mut self) {
        self.tell(|| "drain".to_owned());
        self.tally.drains += 1;
        self.engine.drain();
        self.sync_pulled();
        self.books.mode = self.books.mode.max(Mode::Draining);
        self.limit = Some(self.now() + Duration::from_secs(30));
    }

    fn stop(&mut self) {
        self.tell(|| "stop".to_owned());
        self.tally.stops += 1;
        self.engine.stop();
        self.sync_pulled();
        self.books.mode = self.books.mode.max(Mode::Stopping);
        self.books.sweep();
        self.limit = Some(self.now() + Duration::from_secs(30));
    }

    fn abort(&mut self) {
        self.tell(|| "abort".to_owned());
        self.tally.aborts += 1;
        let over = self.jobs_over();
        self.engine.abort();
        self.sync_pulled();
        self.books.mode = Mode::Aborted;
        self.books.end_all(Why::ShutDown, |job| over.contains(&job));
        self.books.all_dead(self.now());
    }

    fn someone_goes_away(&mut self) {
        if !self.readers.is_empty() {
            let at = self.tape.pick(self.readers.len());
            self.drop_reader(at);
        }
    }

    /// A consumer saw that there was room, and only now comes to tell of it.
    fn room_is_told_of_late(&mut self) {
        if self.tape.one_in(2) {
            self.readers.iter().for_each(|reader| self.engine.made_room(reader.job));
        }
    }

    /// The consumer of a suspect that is being replayed may go away while suspects of others wait for it.
    fn suspect_is_cancelled(&mut self) -> bool {
        let Some(job) = self.books.awaited_suspect() else { return false };
        let at = self.readers.iter().position(|reader| reader.job == job);
        let tired = at.filter(|_| self.tape.one_in(2));
        tired.inspect(|at| self.drop_reader(*at)).is_some()
    }

    fn someone_asks_for_progress(&mut self) {
        if !self.readers.is_empty() {
            let job = self.readers[self.tape.pick(self.readers.len())].job;
            self.check_counts(job);
        }
    }

    /// Invariant 1, and that every count is what the books say.
    pub(super) fn check_counts(&mut self, job: JobId) {
        let told = self.engine.progress(job);
        self.sync_pulled();
        let book = &self.books.jobs[&job];
        let count = |end: fn(&End) -> bool| {
            let ended = |state: State| matches!(state, State::Done(how) if end(&how));
            book.inputs.iter().filter(|input| ended(input.state)).count() as u64
        };
        // Assigned inputs count as begun a moment before they are.
        let assigned = |which: fn(&Queue) -> bool| {
            let leased = |state: State| matches!(state, State::Leased { from, .. } if which(&from));
            book.inputs.iter().filter(|input| leased(input.state)).count() as u64
        };
        let replays = assigned(|from| *from == Queue::Replay);
        let retries = assigned(|from| matches!(from, Queue::Retry { .. }));
        let all = [
            ("ok", told.ok, count(|end| matches!(end, End::Ok { .. }))),
            ("failed", told.failed, count(|end| *end == End::Failed)),
            ("poisoned", told.poisoned, count(|end| *end == End::Poisoned)),
            ("given up", told.given_up, count(|end| *end == End::Unrun(Why::GaveUp))),
            (
                "cancelled",
                told.cancelled,
                count(|end| matches!(end, End::Lost | End::Unrun(Why::Cancelled | Why::ShutDown))),
            ),
            ("replayed", told.replayed, book.replayed + replays),
            ("retried", told.retried, book.retried + retries),
        ];
        for (what, told, is) in all {
            assert_eq!(told, is, "invariant 1: {what} of {told:?} is told, {is} is so");
        }
        let recorded: Vec<u64> = self.engine.inspect(|state| {
            let known = state.ledger.job(job).expect("its consumer keeps it open");
            known.records.keys().copied().collect()
        });
        let ran_to_its_end = |index: &u64| {
            let state = book.inputs[*index as usize].state;
            matches!(state, State::Done(end) if !matches!(end, End::Unrun(_)))
        };
        let kept = recorded.iter().find(|index| ran_to_its_end(index));
        assert_eq!(kept, None, "memory: an input that ended still has a record");
    }

    /// What is remembered of an input that crashed its container, and may decide much later.
    pub(super) fn check_record(&mut self, job: JobId, index: u64) {
        let kept = self.engine.inspect(|state| Some(state.ledger.job(job)?.records.get(&index)?.counted));
        let input = self.books.input(job, index);
        if let Some(kept) = kept.filter(|_| input.is_pending()) {
            assert_eq!(kept, input.counted, "when input {index} last counted a crash");
        }
    }

    // ---- the end ----

    /// Whatever was down, stuck or slow is so no more; what would go on for ever goes away.
    fn heal(&mut self) {
        self.healed = true;
        self.dependency_down = false;
        let now = self.now();
        for thread in &mut self.threads {
            if let Phase::Executing { until, .. } = &mut thread.phase {
                until.get_or_insert(now);
            }
        }
        for reader in &mut self.readers {
            // A task is not woken by that.
            reader.looks_at = reader.looks_at.map(|_| now);
            if matches!(reader.habit, Habit::Slow) {
                reader.habit = Habit::Greedy;
            }
        }
        let endless = |feeder: &&Feeder| {
            self.readers.iter().any(|reader| reader.job == feeder.job && reader.is_endless())
        };
        let jobs: Vec<JobId> = self.feeders.iter().filter(endless).map(|feeder| feeder.job).collect();
        for job in jobs {
            if let Some(at) = self.readers.iter().position(|reader| reader.job == job) {
                self.drop_reader(at);
            }
        }
        self.after_step();
    }

    fn come_to_an_end(&mut self) {
        self.run_until("every map ends", |world| world.readers.is_empty());
        if self.books.mode == Mode::Running {
            self.engine.drain();
            self.sync_pulled();
            self.books.mode = Mode::Draining;
        }
        self.give_up(); // as the supervisor does before it finishes
        self.after_step();
        self.run_until("every thread ends", |world| {
            world.threads.is_empty() && world.feeders.is_empty() && world.launches.is_empty()
        });
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = self.tally.steps;
        while !is_so(self) {
            assert!(self.tally.steps - begun < STEPS_MAX, "stuck: {what}, but not after {STEPS_MAX} steps");
            let goes_on = self.step();
            self.after_step();
            assert!(goes_on || is_so(self), "stuck: nothing can happen any more before {what}");
        }
    }

    fn nothing_is_left(self) -> Tally {
        let Self { engine, books, witness, mut tally, feeders, readers, .. } = self;
        drop((feeders, readers));
        assert!(engine.has_ended(), "the function has not ended: {}", engine.status());
        assert_eq!(engine.late(), books.late, "late answers that were counted");
        tally.late_answers += books.late;
        engine.inspect(|state| {
            assert_eq!((state.threads, state.feeders), (0, 0), "threads and feeders are left in the books");
            assert!(state.is_empty(), "memory: something is left in the engine");
            assert_eq!(state.ledger.job_ids(), [], "memory: jobs are left in the books");
            assert!(state.broken.is_none(), "invariant 11: the engine broke");
        });
        drop(engine);
        assert_eq!(witness.alive(), 0, "values that were not dropped, or dropped twice");
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::consumer::Sight;
    use crate::engine::dispatch::Patience;

    #[test]
    fn room_told_of_late_does_not_silence_who_waits_for_the_next() {
        let mut world = World::new(Tape::new(Vec::new()), Telling::Nothing);
        world.create();
        world.launch(0);
        let tickets: Vec<Ticket> = (0..3).map(|index| Ticket::new(0, index, &world.witness)).collect();
        let supply = Supply::Inline(Inline::new(tickets.into_iter()));
        let (order, failures, window) = (Order::Input, Failures::Yield, Window::Fixed(1));
        let opened = Consumer::of_map(&world.engine, supply, order, failures, window, None, None);
        let mut consumer = opened.expect("it takes maps");
        world.books.opened(consumer.job(), 0, JobKind::Map, true, Some(1));
        while !matches!(world.threads[0].phase, Phase::Asleep { .. }) {
            world.advance(0);
        }
        // The window is full. A consumer that saw room before it was taken comes to tell of it now.
        world.engine.take_raised();
        world.engine.made_room(consumer.job());
        assert!(matches!(consumer.look(Patience::Look), Sight::Outcome(Ok(_))));
        assert_ne!(world.engine.take_raised(), (0, 0), "the container is woken for the room that there is");
    }
}

//! [`World`]: one function with its engine, its threads and its users, in virtual time.
//!
//! The engine is the real one (`engine/dispatch`, the ledger under it, consumers, chunks and runs). Only the
//! parts that block are simulated: threads, actors and clocks. Each step does one thing that a thread or an
//! actor could do next, which the tape chooses. Then the invariants are checked. When the tape has run out
//! the world is healed, everything comes to its end, and nothing may be left.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::contain::unwind::PanicHook;
use crate::data::shape::Shape;
use crate::data::source::DirectSource;
use crate::decide::job::JobKind;
use crate::decide::ledger::Mode;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::body::{Code, GenerationEnv, InFlight, Instance};
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::Dispatch;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::messages::Notice;
use crate::engine::reader::Failures;
use crate::engine::settings::Settings;
use crate::simulator::actions::Action;
use crate::simulator::course::{Course, Parts, nothing_is_left_in};
use crate::simulator::events::Heard;
use crate::simulator::feeders::{self, Feeder};
use crate::simulator::host::Simulation;
use crate::simulator::model::Model;
use crate::simulator::permits::Permits;
use crate::simulator::plan::WorldPlan;
use crate::simulator::readers::{Habit, SimReader};
use crate::simulator::tally::Tally;
use crate::simulator::tape::Tape;
use crate::simulator::threads::{SimThread, ThreadPhase};
use crate::simulator::values::{Refusal, SimInput, SimOutput, Witness};
use crate::values::crash::BoxError;

/// A window so wide that little room is left to grow, because a few cheap inputs are not worth a claim.
pub(super) const WIDE: u64 = 520;

/// Whether a world prints its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbosity {
    Nothing,
    /// Each step is printed to standard output. It is used for a failing world.
    Steps,
}

pub(super) struct World {
    pub(super) verbosity: Verbosity,
    pub(super) engine: Arc<Dispatch>,
    pub(super) clock: Arc<AtomicU64>,
    pub(super) plan: WorldPlan,
    pub(super) tape: Tape,
    pub(super) model: Model,
    pub(super) witness: Arc<Witness>,
    pub(super) threads: Vec<SimThread>,
    pub(super) feeders: Vec<Feeder>,
    pub(super) readers: Vec<SimReader>,
    pub(super) permits: Permits,
    /// The events that subscribers received in this step.
    pub(super) heard: Heard,
    /// The notices on their way to the supervisor.
    pub(super) notices: Arc<Mutex<Vec<Notice>>>,
    /// The containers whose launch is on the way to a container actor.
    pub(super) launches: Vec<(ContainerId, Generation)>,
    /// When the supervisor looks for containers to create.
    pub(super) wake: Option<Time>,
    /// When container actors abandon an `exit`.
    pub(super) exit_timers: Vec<(ContainerId, Generation, Time)>,
    /// The containers over their memory limit for which the watch has not been woken yet.
    pub(super) over_limit: Vec<(ContainerId, Generation)>,
    /// When a shutdown becomes an abort.
    pub(super) limit: Option<Time>,
    /// When the supervisor polls for outcomes that tasks wait for, and the pause before that look.
    pub(super) tick: Option<(Time, Duration)>,
    /// When the supervisor looks whether a crash loop is over.
    pub(super) review: Option<Time>,
    /// When the supervisor looks at the limits of time.
    pub(super) look: Option<Time>,
    pub(super) dependency_down: bool,
    /// Whether only inputs go wrong from now on, and nothing else does.
    pub(super) healed: bool,
    pub(super) tags: u64,
    pub(super) tally: Tally,
}

/// The user's code, which simulated threads play.
pub(super) struct Simulated {
    pub(super) has_state: bool,
}

impl Code for Simulated {
    fn enter<'a>(&'a self, _: &GenerationEnv<'_>) -> Result<Box<dyn Instance + 'a>, BoxError> {
        unreachable!("simulated threads play it")
    }

    fn has_state(&self) -> bool {
        self.has_state
    }

    fn in_flight(&self) -> InFlight {
        InFlight::One("a simulated thread executes one input at a time")
    }
}

impl World {
    /// Runs a world to its end.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub(super) fn live(choices: Vec<u32>, verbosity: Verbosity) -> Tally {
        let mut world = Self::new(Tape::new(choices), verbosity);
        world.create();
        world.play();
        world.heal();
        world.come_to_an_end();
        world.nothing_is_left()
    }

    pub(super) fn new(mut tape: Tape, verbosity: Verbosity) -> Self {
        let plan = WorldPlan::drawn(&mut tape);
        if verbosity == Verbosity::Steps {
            println!("{plan:#?}");
        }
        let simulation = Simulation::default();
        let (clock, heard) = (Arc::clone(&simulation.clock), Arc::clone(&simulation.heard));
        let settings = Settings {
            app: "simulated".into(),
            function: "world".into(),
            id: 0,
            rules: plan.rules.clone(),
            shape: Shape::of::<SimInput, SimOutput, Refusal>(),
            code: Arc::new(Simulated { has_state: plan.has_state }),
            exit_timeout: plan.exit_timeout,
            keep_interrupted: plan.keep_interrupted,
            stack_bytes: 0,
            panic_hook: PanicHook::Silent,
            memory: plan.memory,
            viewers: Arc::default(),
        };
        let engine = Arc::new(Dispatch::new(settings, Arc::new(simulation)));
        let witness = Arc::new(Witness::default());
        witness.watch(&engine);
        let notices = Arc::new(Mutex::new(Vec::new()));
        let mail = Arc::clone(&notices);
        engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
        Self {
            verbosity,
            model: Model::new(&plan),
            engine,
            clock,
            plan,
            tape,
            witness,
            threads: Vec::new(),
            feeders: Vec::new(),
            readers: Vec::new(),
            permits: Permits::default(),
            heard,
            notices,
            launches: Vec::new(),
            wake: None,
            exit_timers: Vec::new(),
            over_limit: Vec::new(),
            limit: None,
            tick: None,
            review: None,
            look: None,
            dependency_down: false,
            healed: false,
            tags: 0,
            tally: Tally { worlds: 1, ..Tally::default() },
        }
    }

    /// Enters the inputs that were pulled into the model.
    pub(super) fn sync_pulled(&mut self) {
        let pulled: Vec<(JobId, u64)> = self.engine.under_lock(|state| {
            let ids = state.ledger.job_ids();
            ids.into_iter().filter_map(|id| Some((id, state.ledger.job(id)?.counts().pulled))).collect()
        });
        let now = self.now();
        for (job, inputs) in pulled {
            self.model.pulled(job, inputs, now);
        }
    }

    fn lives(&self, thread: &SimThread) -> bool {
        self.model.is_alive(thread.id, thread.generation())
    }

    /// When the first of the sleeping containers wakes by itself. `until` is that moment for one more
    /// container.
    pub(super) fn watched(&self, until: Option<Time>) -> Option<Time> {
        let sleeps = |thread: &SimThread| match thread.phase {
            ThreadPhase::Asleep { until } => until,
            _ => None,
        };
        self.threads.iter().filter(|thread| self.lives(thread)).filter_map(sleeps).chain(until).min()
    }

    /// Whether the engine knows of every completion.
    pub(super) fn all_committed(&self) -> bool {
        !self.threads.iter().any(SimThread::is_ahead)
    }

    // ---- the end ----

    /// Everything that was down, stuck or slow recovers, and consumers of endless maps are dropped.
    fn heal(&mut self) {
        self.healed = true;
        self.resume();
        self.give_places_back();
        self.dependency_down = false;
        let now = self.now();
        for thread in &mut self.threads {
            if let ThreadPhase::Executing { until, .. } = &mut thread.phase {
                until.get_or_insert(now);
            }
        }
        for reader in &mut self.readers {
            // A waiting task is not woken by this.
            reader.polls_at = reader.polls_at.map(|_| now);
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
        if self.model.mode == Mode::Running {
            self.engine.drain();
            self.sync_pulled();
            self.model.mode = Mode::Draining;
        }
        self.give_up(); // as the supervisor does before it ends
        self.after_step();
        self.run_until("every thread ends", |world| {
            let told = world.notices.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            told && world.threads.is_empty() && world.feeders.is_empty() && world.launches.is_empty()
        });
    }

    fn nothing_is_left(mut self) -> Tally {
        self.check_all_is_told();
        self.check_report();
        let Self { engine, model, witness, mut tally, feeders, readers, .. } = self;
        drop((feeders, readers));
        assert!(engine.has_ended(), "the function has not ended: {}", engine.status());
        assert_eq!(engine.late(), model.late, "late answers that were counted");
        tally.late_answers += model.late;
        nothing_is_left_in(&engine);
        drop(engine);
        assert_eq!(witness.alive(), 0, "values that were not dropped, or dropped twice");
        tally
    }
}

impl Course for World {
    fn parts(&self) -> Parts<'_> {
        Parts { clock: &self.clock, tape: &self.tape, verbosity: self.verbosity }
    }

    fn happen(&mut self) -> bool {
        self.someone_acts()
    }

    /// Takes one step. Returns whether there was one to take, now or later.
    fn step(&mut self) -> bool {
        self.tally.steps += 1;
        let ready = self.ready();
        let sleeps = |thread: &SimThread| matches!(thread.phase, ThreadPhase::Asleep { .. });
        if !ready.iter().any(|action| matches!(action, Action::SimThread(_)))
            && self.threads.iter().any(sleeps)
        {
            let eligible = self.engine.under_lock(|state| self.eligible(state));
            let asleep = self.threads.iter().filter(|thread| sleeps(thread) && self.lives(thread));
            let asleep: Vec<ContainerId> = asleep.map(|thread| thread.id).collect();
            self.model.all_rest(&asleep, &eligible, self.watched(None), self.now());
            let unwatched = self.engine.under_lock(|state| state.needs_a_watch(self.now()));
            assert!(!unwatched, "invariant 15: something falls due, and no container wakes for it");
            if !self.healed && self.suspect_is_cancelled() {
                return true;
            }
        }
        if ready.is_empty() {
            if self.all_committed() {
                self.model.none_is_held(self.now());
            }
            if !self.healed {
                self.room_is_told_of_late();
            }
            let Some(next) = self.next_moment() else { return false };
            self.move_to(next);
            return true;
        }
        if !self.healed && self.tape.one_in(24) {
            // Time passes although a step could be taken, so that everything is late now.
            let late = self.tape.one_of(&[1, 1_000, 1_000_000, 300_000_000, 11_000_000_000, 0, 0, 0]);
            let edges = if late == 0 { self.model.policy.edges(self.now()) } else { Vec::new() };
            let edge = edges.get(self.tape.pick(edges.len())).copied();
            self.move_to(edge.unwrap_or(self.now() + Duration::from_nanos(late)));
            return true;
        }
        let action = ready[self.tape.pick_in_turn(self.tally.steps, ready.len())];
        self.act(action);
        true
    }

    /// Wakes the parties that were signalled, checks what must hold after each step, and removes what is
    /// over.
    fn after_step(&mut self) {
        let woken = self.engine.take_raised();
        for thread in self.threads.iter_mut().filter(|thread| woken.contains(&thread.id)) {
            if let ThreadPhase::Asleep { until } = &mut thread.phase {
                *until = Some(Time::default());
            }
        }
        self.feeders.iter_mut().for_each(Feeder::hear);
        self.readers.iter_mut().for_each(SimReader::hear);
        self.threads.retain(|thread| !matches!(thread.phase, ThreadPhase::Over));
        self.feeders.retain(|feeder| !matches!(feeder.phase, feeders::FeederPhase::Over));
        self.readers.retain(|reader| reader.consumer.is_some());
        assert!(!self.witness.dropped_under_lock(), "invariant 10: a value was dropped under the lock");
        self.sync_pulled();
        self.check_buffers();
        self.check_places();
        self.check_events();
        self.check_looks();
        self.check_deadlines_run();
        self.check_giving_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    use crate::engine::dispatch::Wait;
    use crate::engine::reader::ReaderGuard;

    #[test]
    fn room_told_of_late_does_not_silence_who_waits_for_the_next() {
        let mut world = World::new(Tape::new(Vec::new()), Verbosity::Nothing);
        world.create();
        world.launch(0);
        let tickets: Vec<SimInput> = (0..3).map(|index| SimInput::new(0, index, &world.witness)).collect();
        let source = JobSource::Direct(DirectSource::new(tickets.into_iter()));
        let (order, failures, window) = (Order::Input, Failures::Yield, Window::Fixed(1));
        let opened = ReaderGuard::of_map(
            &world.engine,
            source,
            (order, failures),
            window,
            Default::default(),
            Caller::default(),
        );
        let mut consumer = Consumer::<SimInput, SimOutput, Refusal>::over(opened.expect("it takes maps"));
        world.model.opened(consumer.job, 0, JobKind::Map, true, Some(1));
        while !matches!(world.threads[0].phase, ThreadPhase::Asleep { .. }) {
            world.advance(0);
        }
        // The window is full. A consumer that saw room before a container took it reports that room only now.
        drop(world.engine.take_raised());
        world.engine.made_room(consumer.job);
        assert!(matches!(consumer.poll_next(Wait::Try), Poll::Ready(Some(Ok(_)))));
        assert_ne!(world.engine.take_raised(), [], "the container is woken for the room that there is");
    }
}

//! The events that subscribers receive, held against the model: each event comes once and in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::decide::ledger::Mode;
use crate::decide::time::Time;
use crate::simulator::course::Course;
use crate::simulator::model::Model;
use crate::simulator::world::World;
use crate::values::crash::Crash;
use crate::values::event::{ContainerState, Event};

/// An event that, by the model, subscribers must receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    Crashed(Dead),
    Killed(Dead),
    Poisoned { input: u64, attempts: u32 },
    TimedOut { input: u64, attempt: u32, limit: Duration, is_deadline: bool, is_retried: bool },
    Expired { input: u64, inputs: u64, limit: Duration },
    Hung { container: ContainerId, generation: Generation, executing: Option<(u64, u32)>, abandoned: usize },
    HangEnded { container: ContainerId, generation: Generation },
    CrashLoop { crashes: u32, until: Time },
    Recovered { crashes: u32 },
    GaveUp,
    Reset,
    Paused,
    Resumed,
    ExitTimedOut(ContainerId),
}

/// A container that died, with the input that it was executing and its attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) container: ContainerId,
    pub(super) generation: Generation,
    pub(super) executing: Option<(u64, u32)>,
}

impl Dead {
    pub(super) fn of(crash: &Crash) -> Self {
        let executing = crash.executing.map(|(input, attempt)| (input, attempt.get()));
        Self { container: crash.container, generation: crash.generation, executing }
    }
}

/// The events as the engine emits them.
pub(super) type Heard = Arc<Mutex<Vec<(Event, Time)>>>;

/// The events that are due, and the states of containers by the events so far.
#[derive(Debug, Default)]
pub(super) struct EventModel {
    due: VecDeque<Due>,
    states: BTreeMap<ContainerId, (Generation, ContainerState)>,
    /// The end of the delay that was announced last.
    delay: Option<Time>,
    /// Whether the function is exhausted, by the events so far.
    exhausted: bool,
    /// The number of refused calls by the last event of an overload that goes on.
    overload: Option<u64>,
}

impl EventModel {
    pub(super) fn is_due(&mut self, due: Due) {
        self.due.push_back(due);
    }

    /// A loop crash began a delay, or shares in one that was announced.
    pub(super) fn delayed(&mut self, crashes: u32, until: Time) {
        if self.delay.replace(until) != Some(until) {
            self.is_due(Due::CrashLoop { crashes, until });
        }
    }

    fn hear(&mut self, event: &Event, at: Time) {
        let told = match event {
            Event::Container { container, generation, state } => {
                return self.changes(*container, *generation, *state);
            }
            Event::Crashed(crash) => Due::Crashed(Dead::of(crash)),
            Event::Killed(crash) => Due::Killed(Dead::of(crash)),
            Event::CrashLoop { crashes, next_restart, .. } => {
                Due::CrashLoop { crashes: *crashes, until: at + *next_restart }
            }
            Event::Recovered { crashes, .. } => Due::Recovered { crashes: *crashes },
            Event::Poisoned { input, attempts, .. } => {
                // The events of several inputs that end at one moment may come in any order.
                let (input, attempts) = (*input, attempts.get());
                let of_now = |due: &&Due| matches!(due, Due::Poisoned { .. });
                let now = self.due.iter().take_while(of_now).count();
                let found =
                    self.due.iter().take(now).position(|due| *due == Due::Poisoned { input, attempts });
                let found = found.unwrap_or_else(|| panic!("told: {event:?}, due: {:?}", self.due));
                self.due.remove(found);
                return;
            }
            Event::GaveUp(_) => {
                self.exhausted = false; // no other event says so, also if a reset comes later
                Due::GaveUp
            }
            Event::Reset => Due::Reset,
            Event::Paused => Due::Paused,
            Event::Resumed => Due::Resumed,
            Event::ExitTimedOut(container, _) => Due::ExitTimedOut(*container),
            // `check_events` holds the health of the function against these two.
            Event::Exhausted { .. } => return self.exhausted = true,
            Event::ExhaustionEnded { .. } => return self.exhausted = false,
            Event::TimedOut { input, attempt, limit, is_deadline, is_retried, .. } => {
                let (attempt, limit) = (attempt.get(), *limit);
                let (is_deadline, is_retried) = (*is_deadline, *is_retried);
                Due::TimedOut { input: *input, attempt, limit, is_deadline, is_retried }
            }
            Event::Expired { input, inputs, limit, .. } => {
                Due::Expired { input: *input, inputs: *inputs, limit: *limit }
            }
            Event::Hung { container, generation, input, attempt, abandoned, .. } => {
                let executing = input.zip(attempt.map(|attempt| attempt.get()));
                let (container, generation, abandoned) = (*container, *generation, *abandoned);
                Due::Hung { container, generation, executing, abandoned }
            }
            Event::HangEnded { container, generation, .. } => {
                Due::HangEnded { container: *container, generation: *generation }
            }
            Event::Ended(_) | Event::Missed(_) => panic!("told: {event:?}"),
            Event::Overloaded { refused, .. } => {
                let before = self.overload.replace(*refused);
                assert!(before.unwrap_or(0) < *refused, "told: {event:?} after {before:?}");
                return;
            }
            Event::OverloadEnded { refused, .. } => {
                let before = self.overload.take();
                assert!(before.is_some_and(|before| before <= *refused), "told: {event:?} after {before:?}");
                return;
            }
        };
        let due = self.due.pop_front();
        assert_eq!(Some(told), due, "told, and what is due; due then: {:?}", self.due);
    }

    /// The event says that a container is in another state.
    fn changes(&mut self, id: ContainerId, generation: Generation, state: ContainerState) {
        use ContainerState::{BackingOff, Exiting, Live, Starting, Stopped};
        let (of, before) = self.states.get(&id).copied().unwrap_or((Generation(0), Stopped));
        let follows = match (before, state) {
            (Stopped | BackingOff { .. }, Starting) => return self.begins(id, generation, of),
            (Starting, Live) | (Live, Exiting) => true,
            (Starting | Live | Exiting | BackingOff { .. }, Stopped) => true,
            (_, BackingOff { .. }) => true,
            _ => false,
        };
        assert!(
            follows && generation == of,
            "told: {id}#{of} was {before:?}, {id}#{generation} is {state:?}"
        );
        self.states.insert(id, (generation, state));
    }

    fn begins(&mut self, id: ContainerId, generation: Generation, before: Generation) {
        assert_eq!(generation.get(), before.get() + 1, "told: the generation of {id} that begins");
        self.states.insert(id, (generation, ContainerState::Starting));
    }
}

impl Model {
    /// Makes the event due for each crash loop that is over by now.
    pub(super) fn note_recoveries(&mut self, now: Time) {
        self.policy.reviewed(now);
        self.note_loops_ended();
    }

    /// Makes the event due for each crash loop whose end the model has counted.
    pub(super) fn note_loops_ended(&mut self) {
        for crashes in std::mem::take(&mut self.policy.loops_ended) {
            self.hearing.is_due(Due::Recovered { crashes });
        }
    }
}

impl World {
    /// Holds the events since the last step against the model.
    pub(super) fn check_events(&mut self) {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.now();
        for (event, at) in heard {
            if matches!(event, Event::Recovered { .. }) {
                self.model.note_recoveries(now);
            }
            self.model.hearing.hear(&event, at);
        }
        let exhausted = self.engine.under_lock(|state| state.goes_on() && state.is_exhausted());
        let is_told = self.model.hearing.exhausted;
        assert!(is_told == exhausted || !self.engine.under_lock(|state| state.goes_on()), "told: {is_told}");
        if self.model.mode == Mode::Aborted {
            return; // all containers are dead, and each event comes when the thread ends
        }
        for (id, (generation, state)) in &self.model.hearing.states {
            let told =
                matches!(state, ContainerState::Starting | ContainerState::Live | ContainerState::Exiting);
            let lives = self.model.is_alive(*id, *generation);
            assert_eq!(told, lives, "told: {id}#{generation} is {state:?}");
            if *state == ContainerState::Live {
                assert!(self.model.policy.has_entered(*id, *generation), "told: {id}#{generation} is live");
            }
            let exits = self.model.exiting.contains(id) && lives;
            assert_eq!(*state == ContainerState::Exiting, exits, "told: {id}#{generation} is {state:?}");
        }
    }

    /// Checks that each event that was due has been emitted.
    pub(super) fn check_all_is_told(&mut self) {
        let now = self.now();
        self.model.note_recoveries(now);
        self.check_events();
        let recovered = |due: &Due| matches!(due, Due::Recovered { .. });
        let left: Vec<&Due> = self.model.hearing.due.iter().filter(|due| !recovered(due)).collect();
        assert!(left.is_empty(), "told: {left:?} were never told");
        for (id, (generation, state)) in &self.model.hearing.states {
            assert_eq!(*state, ContainerState::Stopped, "told: how {id}#{generation} ended");
        }
    }
}

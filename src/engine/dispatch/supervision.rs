//! The operations of the supervisor under the lock: to create containers, drain, stop, abort, give up and
//! report.

use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::data::failure::Reason;
use crate::decide::ledger::{ContainerStage, Mode, Pressure, Scene, Unrun};
use crate::decide::steps;
use crate::decide::storm::PERIOD;
use crate::decide::time::Time;
use crate::engine::actor::Ending;
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::history::Fact;
use crate::engine::job_buffers::JobBuffers;
use crate::engine::map_end::MapEnd;
use crate::engine::outbox::QueuedEvent;
use crate::values::event::Event;
use crate::values::report::{Fate, FunctionReport};
use crate::values::status::{Containers, CrashLoopStatus, OldestExecution, Status};

impl Dispatch {
    /// The containers of the function.
    pub(crate) fn containers(&self) -> impl Iterator<Item = ContainerId> + use<> {
        (0..self.settings.rules.containers as u32).map(ContainerId)
    }

    /// Begins new generations of all absent containers that may be created now. Each of them needs a thread
    /// of its own.
    pub(crate) fn create(&self) -> Vec<(ContainerId, Generation)> {
        let mut created = Vec::new();
        let mut state = self.lock();
        if state.pressure(0, 0, &self.settings) == Pressure::Threads {
            return created; // no more until an abandoned thread returns
        }
        let now = self.now();
        while let Some(id) = state.ledger.next_to_create(now) {
            created.extend(self.begin_in(&mut state, id).map(|generation| (id, generation)));
        }
        created
    }

    /// Begins a new generation of a container on the thread of generation `after`. Returns `None` if that
    /// thread was detached meanwhile.
    pub(crate) fn begin(&self, id: ContainerId, after: Generation) -> Option<Generation> {
        let mut state = self.lock();
        if state.detached.contains_key(&(id, after)) {
            return None;
        }
        self.begin_in(&mut state, id)
    }

    pub(super) fn begin_in(&self, state: &mut State, id: ContainerId) -> Option<Generation> {
        let now = self.now();
        if state.ledger.held_until(now).is_some() {
            state.commit_all(now); // an input that has completed may end the crash loop
        }
        let generation = state.ledger.begin(id, now)?;
        let lanes = std::mem::take(&mut state.seats[id.index()].lanes);
        let callers = lanes.into_iter().map(|lane| lane.caller);
        state.unused_callers.extend(callers.filter(Caller::holds_a_span));
        state.seats[id.index()].suspended = false;
        state.seats[id.index()].fate = None;
        self.changed.notify_threads();
        Some(generation)
    }

    /// The time until the next container that is backing off may be created.
    pub(crate) fn next_creation(&self) -> Option<Duration> {
        let state = self.lock();
        let now = self.now();
        if !state.ledger.goes_on() || state.pressure(0, 0, &self.settings) == Pressure::Threads {
            return None;
        }
        state.ledger.next_creation(now).map(|until| until.since(now))
    }

    /// Forgets crashes and takes work again. Returns whether the function had given up and takes work again.
    /// An aborted function takes none. A function without any container takes none either if too many
    /// abandoned threads keep it from creating one, because its inputs would only wait.
    pub(crate) fn reset(&self) -> bool {
        let mut state = self.lock();
        if state.ledger.mode() == Mode::Aborted {
            return false;
        }
        let deserted = state.ledger.gave_up().is_some() && state.ledger.is_deserted();
        if deserted && state.pressure(0, 0, &self.settings) == Pressure::Threads {
            return false;
        }
        let now = self.now();
        state.commit_all(now); // completions until now are part of the history that is forgotten
        let looped = state.ledger.crash_loop(now).is_some_and(|(crashes, _)| crashes > 1);
        let paused = state.ledger.is_paused();
        let given_up = state.ledger.reset();
        if paused {
            state.emit(Event::Resumed, now);
        }
        if given_up || looped {
            state.emit(Event::Reset, now);
        }
        self.wake_all();
        given_up
    }

    /// Does the work that is due by time alone. It ends a crash loop once a container has stayed up, logs the
    /// repeats that were only counted, reports calls that were refused, and commits completions before their
    /// bucket ends. Returns the time until the next review, if any is due.
    pub(crate) fn review(&self) -> Option<Duration> {
        let now = self.now();
        let (stable_at, commit_at, overload) = {
            let mut state = self.lock();
            if state.ledger.mode() == Mode::Aborted {
                return None; // containers that have not seen the abort yet do not count as staying up
            }
            let commit_at = state.ledger.next_commit(now);
            if commit_at.is_some() {
                state.commit_ahead(now);
            }
            state.ledger.end_loop_if_stable(now);
            state.review_overload(now);
            (state.ledger.stable_at(), commit_at, state.overload.map(|_| now + PERIOD))
        };
        self.outbox.log_repeats(now);
        self.empty_outbox();
        let repeats = self.outbox.has_repeats().then_some(now + PERIOD);
        stable_at.into_iter().chain(commit_at).chain(overload).chain(repeats).min().map(|at| at.since(now))
    }

    /// Whether no container lives or will live. Feeders may still run.
    pub(crate) fn has_ended(&self) -> bool {
        let state = self.lock();
        if state.broken.is_some() {
            return true;
        }
        state.ledger.is_empty() && state.ledger.nothing_pending() && state.threads == state.abandoned
    }

    /// Counts the thread that is about to be spawned for `generation`. Returns `false` if the generation is
    /// over already, so that no thread is needed.
    pub(crate) fn launch(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.lock();
        let current = state.ledger.is_current(id, generation) && state.broken.is_none();
        if current {
            state.threads += 1;
        } else {
            state.returned(id, generation);
        }
        current
    }

    /// Whether a feeder has not ended yet.
    pub(crate) fn is_fed(&self) -> bool {
        self.under_lock(|state| state.feeders > 0)
    }

    /// Whether a thread of a container has not ended yet, including those that are detached.
    pub(crate) fn has_threads(&self) -> bool {
        self.under_lock(|state| state.threads > 0)
    }

    /// The fate of each container, the inputs that came back, and the threads that still run.
    pub(crate) fn report(&self) -> FunctionReport {
        let state = self.lock();
        let fate = |id: ContainerId| {
            let running = matches!(
                state.ledger.stage(id).1,
                ContainerStage::Starting | ContainerStage::Live | ContainerStage::Exiting
            );
            let left_behind = (id, Generation(0))..=(id, Generation(u64::MAX));
            let busy = state.detached.range(left_behind).next().is_some();
            match &state.seats[id.index()].fate {
                None | Some(Fate::CutOff) if running || busy => Fate::StillRunning,
                Some(fate) => fate.clone(),
                None => Fate::Stopped,
            }
        };
        FunctionReport {
            function: self.settings.function.to_string(),
            containers: state.ledger.containers().map(|id| (id, fate(id))).collect(),
            threads_running: state.threads + state.feeders,
            limit_passed: state.leftovers.limit_passed,
            inputs_returned: state.leftovers.returned,
            inputs_dropped: state.leftovers.dropped,
        }
    }

    /// Emits that the function has ended with `report`.
    pub(crate) fn ended_with(&self, report: FunctionReport) {
        let now = self.now();
        let mut state = self.lock();
        state.end_overload(now);
        state.emit(Event::Ended(report), now);
    }

    /// A snapshot of the function.
    pub(crate) fn status(&self) -> Status {
        let mut state = self.lock();
        let now = self.now();
        state.commit_all(now);
        let (abandoned, hung) = (state.abandoned, state.ledger.hung());
        let mut containers = Containers { abandoned, hung, ..Containers::default() };
        for id in state.ledger.containers() {
            match state.ledger.stage(id).1 {
                ContainerStage::Absent => containers.stopped += 1,
                ContainerStage::Starting => containers.starting += 1,
                ContainerStage::Live => containers.live += 1,
                ContainerStage::Exiting => containers.exiting += 1,
                ContainerStage::BackingOff { .. } => containers.backing_off += 1,
            }
        }
        let held = state.ledger.held_until(now);
        let crash_loop = state.ledger.crash_loop(now).map(|(crashes, since)| CrashLoopStatus {
            crashes,
            since: now.since(since),
            next_restart: held.map(|until| until.since(now)),
        });
        let oldest = state.ledger.executing_now().max_by_key(|(_, _, since)| now.since(*since));
        let oldest_execution = oldest.map(|(container, input, since)| OldestExecution {
            container,
            input,
            executing_for: now.since(since),
        });
        let lives = state.ledger.lives();
        let memory = self.memory(&state);
        Status {
            containers,
            crash_loop,
            last_crash: state.ledger.last_crash().map(|(at, crash)| (now.since(at), crash)),
            gave_up: state.ledger.gave_up().cloned(),
            inputs_waiting: state.ledger.inputs_waiting() + state.buffers.held_by_windows(),
            executing: state.ledger.inputs_executing(),
            concurrent_inputs: self.settings.rules.in_flight() as usize,
            oldest_execution,
            calls: state.call_counts(),
            paused: state.ledger.is_paused(),
            crashes: lives.crashes,
            restarts: lives.restarts,
            recycled: lives.recycled,
            memory,
            late_answers: self.late(),
            feeders: state.feeders,
        }
    }

    /// Begins the end of the function, in the way that `ending` says.
    pub(crate) fn begin_end(&self, ending: Ending) {
        match ending {
            Ending::Drain => self.drain(),
            Ending::Stop => self.stop(),
            Ending::Abort => self.abort(),
        }
    }

    /// Begins to drain. No source is pulled any more.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        state.ledger.advance_mode(Mode::Draining);
        for job in state.ledger.job_ids() {
            state.fill_window(job);
        }
        let state = &mut *state;
        for buffers in state.buffers.open.values_mut().map(steps::each) {
            let JobBuffers::Map(buffers) = buffers else { continue };
            if !buffers.source_over {
                buffers.source_over = true;
                let unseen = buffers.end_as(Some(MapEnd::OfMap(Reason::ShutDown)));
                assert!(unseen.is_none(), "a map whose source is not over has no end");
            }
            buffers.space.notify_all();
            state.wakers.woken.extend(buffers.wake());
        }
        self.wake_all();
    }

    /// Begins to stop. Only the inputs that are executing finish.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        let now = self.now();
        if state.ledger.mode() == Mode::Aborted {
            return;
        }
        state.ledger.advance_mode(Mode::Stopping);
        state.sweep(now);
        self.wake_all();
    }

    /// Aborts the function without waiting for any code of the user's.
    pub(crate) fn abort(&self) {
        let mut state = self.lock();
        let now = self.now();
        state.ledger.advance_mode(Mode::Aborted);
        state.cut_off(Exits::End, now);
        self.wake_all();
    }

    /// Cuts off a drain or a stop whose limit has passed. The code that executes an input or enters is left
    /// behind, and every input without an outcome comes back. Idle containers leave as they would have at the
    /// end of the drain, and each `exit` goes on.
    pub(crate) fn cut_off(&self) {
        let mut state = self.lock();
        let now = self.now();
        if state.ledger.mode() == Mode::Aborted {
            return;
        }
        state.leftovers.limit_passed = true;
        state.ledger.advance_mode(Mode::Stopping);
        state.cut_off(Exits::GoOn, now);
        self.wake_all();
    }

    /// Fails every pending input, because the function has given up.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        let now = self.now();
        let Some(gave_up) = state.ledger.gave_up().cloned() else { return };
        state.end_all(Unrun::GivenUp, &Reason::GaveUp(gave_up), now);
        self.wake_all();
    }
}

/// Whether containers that are in their `exit` go on when the function is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exits {
    GoOn,
    End,
}

impl State {
    /// Queues an event, after the changes of containers that came before it.
    pub(super) fn emit(&mut self, event: Event, now: Time) {
        self.emit_for(event, Caller::default(), now);
    }

    /// Queues an event about an execution that `caller` asked for.
    pub(super) fn emit_for(&mut self, event: Event, caller: Caller, now: Time) {
        self.emit_changes(now);
        self.observed.remember(Fact::of(&event, now), now);
        self.events.push(QueuedEvent { event, caller });
    }

    /// Queues the changes of containers so far.
    pub(super) fn emit_changes(&mut self, now: Time) {
        let changes = self.ledger.take_changes();
        self.observed.changed(&changes, now);
        self.events.extend(changes.iter().map(|change| Event::of_change(change, now).into()));
    }

    /// The caller that asked for the current or last execution of a lane.
    pub(super) fn caller(&self, id: LaneId) -> Caller {
        self.lane(id).map_or_else(Caller::default, |lane| lane.caller.clone())
    }

    /// Ends every input without an outcome, and detaches the threads that are in the user's code.
    fn cut_off(&mut self, exits: Exits, now: Time) {
        self.end_all(Unrun::Cancelled, &Reason::ShutDown, now);
        // A container that has stayed up long enough ends the crash loop before it is cut off.
        self.ledger.end_loop_if_stable(now);
        for id in self.ledger.containers() {
            let leased: Vec<LaneId> = self.ledger.leased_by(id).collect();
            for lane in leased {
                self.fence(lane, now);
                if self.broken.is_some() {
                    return;
                }
                self.ledger.released(lane, now);
            }
            let (generation, stage) = self.ledger.stage(id);
            let in_user_code = match stage {
                ContainerStage::Starting => true,
                ContainerStage::Exiting => exits == Exits::End,
                // A container is also live if it has not begun its run, or has reached the end of it. Only an
                // orphan is known to execute user code.
                ContainerStage::Live => {
                    let lanes = self.seats[id.index()].lanes.iter().enumerate();
                    let mut at_work = lanes.filter(|(_, lane)| lane.at_work);
                    at_work.any(|(lane, _)| self.ledger.orphan(LaneId::new(id, lane as u32)).is_some())
                }
                ContainerStage::Absent | ContainerStage::BackingOff { .. } => false,
            };
            if in_user_code {
                self.would_be_abandoned(id, &Scene::default());
                let has_begun = self.token(id, generation).is_some();
                self.detach(id, generation, now);
                self.seats[id.index()].fate = has_begun.then_some(Fate::CutOff);
            }
        }
    }
}

//! The operations of containers under the lock: to enter, claim inputs, fail them, return and leave.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation, InputId, LaneId};
use crate::contain::unwind::drop_contained;
use crate::data::cursor::Advance;
use crate::data::failure::Tried;
use crate::data::run::{Run, RunCursor};
use crate::data::shape::Why;
use crate::decide::ledger::{AfterFailure, Assignment, ContainerStage, Lease, Pressure, Retryable};
use crate::decide::life::{Next, Served};
use crate::decide::pacing::STEAL_PAUSE;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::stealing::Stolen;
use crate::engine::dispatch::{Dispatch, State, StateGuard};
use crate::engine::messages::Notice;
use crate::values::crash::Previous;
use crate::values::event::Event;
use crate::values::report::Fate;

/// The next work of a container.
pub(crate) struct Work {
    /// The lane that executes it.
    pub(crate) lane: LaneId,
    pub(crate) run: Arc<Run>,
    pub(crate) lease: Lease,
    /// The reason why the previous attempt ended, if there was one.
    pub(crate) previous: Option<Previous>,
    /// The caller that asked for the execution.
    pub(crate) caller: Caller,
}

impl Dispatch {
    /// Waits for the next work of a container and returns it, or the reason why there is no more.
    pub(crate) fn next(&self, id: ContainerId, generation: Generation) -> Result<Work, Served> {
        // This is read before the lock is taken, because the wait for the lock is no cost of the inputs that
        // were executed.
        let returned = self.now();
        let mut state = self.lock();
        self.next_under_lock(&mut state, id, generation, returned)
    }

    /// The same, with the lock held. `returned` is the moment at which the container came back from its last
    /// inputs.
    pub(super) fn next_under_lock(
        &self,
        state: &mut StateGuard<'_>,
        id: ContainerId,
        generation: Generation,
        returned: Time,
    ) -> Result<Work, Served> {
        loop {
            match self.offer(state, id.into(), generation, returned) {
                Next::Work(work) => return Ok(work),
                Next::Over(served) => return Err(served),
                // Work that needs the lock released is done before the container sleeps, because it may wake
                // the container at once.
                Next::Wait { .. } | Next::Hold { .. } if state.flush() => {}
                Next::Wait { until } => {
                    let until = self.sleeps(state, id, generation, until);
                    state.wait(&self.work[id.index()], until.map(|until| self.host.instant(until)));
                    state.sleepers.has_woken(id, generation);
                }
                Next::Hold { .. } => {
                    unreachable!("a container that executes one input at a time is not held")
                }
            }
        }
    }

    /// Finds the next work of a lane, or the moment at which its container should look again. `returned` is
    /// the moment at which the lane came back from its last inputs.
    pub(super) fn offer(
        &self,
        state: &mut State,
        lane: LaneId,
        generation: Generation,
        returned: Time,
    ) -> Next<Work> {
        if state.broken.is_some() {
            return Next::Over(Served::Stale);
        }
        let now = self.now();
        self.come_back_at(state, lane, generation, (returned, now));
        self.assign(state, lane, generation, now)
    }

    /// Finds the next work of a lane that has come back.
    pub(super) fn assign(
        &self,
        state: &mut State,
        lane: LaneId,
        generation: Generation,
        now: Time,
    ) -> Next<Work> {
        if state.broken.is_some() {
            return Next::Over(Served::Stale);
        }
        let mut claim = state.claim(lane, generation, now);
        if let Next::Wait { .. } = claim {
            let outlived = state.ledger.proof(lane.container);
            let stolen = self.steal(state, now);
            // This look commits what the other lanes of the container have completed. So the container may
            // have outlived a crash, and may take a suspect.
            if stolen == Stolen::Done || state.ledger.proof(lane.container) > outlived {
                claim = state.claim(lane, generation, now);
            }
            if let (Next::Wait { until }, Stolen::Later(at)) = (&mut claim, stolen) {
                *until = Some(until.map_or(at, |until| until.min(at)));
            }
        }
        match claim {
            Next::Work(lease) => {
                if lease.span.len > state.ledger.batch_size() {
                    state.lent_ahead = Some(now);
                    state.steal_after.get_or_insert(now); // until a look has found that nothing is left
                }
                if !state.ledger.is_batched() {
                    // The event that woke this container may bring work for others too.
                    self.pass_on(state, now);
                }
                Next::Work(self.lend(state, lane, lease, now))
            }
            Next::Hold { until } => {
                self.pass_on(state, now); // the event that woke this container may bring work for others
                Next::Hold { until }
            }
            Next::Wait { until } => {
                self.wake_for_alone(state, now);
                let look = state.polls_to_steal(now).then_some(now + STEAL_PAUSE);
                Next::Wait { until: until.into_iter().chain(look).min() }
            }
            Next::Over(served) => {
                self.wake_one(state); // the event that woke this container may have been meant for another
                Next::Over(served)
            }
        }
    }

    /// A lane has returned from its run, but does not ask for the next one yet.
    pub(crate) fn returned(&self, lane: impl Into<LaneId>, generation: Generation) {
        let now = self.now();
        let mut state = self.lock();
        self.come_back(&mut state, lane.into(), generation, now);
        // The return may make work possible for other containers, and this one may ask for work much later.
        self.pass_on(&mut state, now);
    }

    /// Releases the lease of a lane that has returned from its run, if it had one.
    pub(super) fn come_back(&self, state: &mut State, id: LaneId, generation: Generation, returned: Time) {
        self.come_back_at(state, id, generation, (returned, self.now()));
    }

    /// The same, where the clock was read already.
    pub(super) fn come_back_at(
        &self,
        state: &mut State,
        id: LaneId,
        generation: Generation,
        (returned, now): (Time, Time),
    ) {
        if !state.ledger.is_current(id.container, generation) {
            return;
        }
        state.lane_mut(id).at_work = false;
        state.set_unwanted(id, false);
        state.ledger.came_out(id);
        if state.lane_mut(id).run.is_none() {
            return;
        }
        let job = state.ledger.lease(id).map(|lease| lease.job);
        state.commit(id, now);
        state.ledger.released(id, returned);
        let run = state.lane_mut(id).run.take();
        // The container's own thread may still hold the run, and drops it after this. Then the lock need not
        // be released for the drop here.
        state.spent.extend(run.filter(|run| Arc::strong_count(run) == 1));
        if let Some(job) = job {
            state.refresh_window(job);
        }
        self.wake_if_drained(state);
    }

    /// A container begins to wait for work. Returns the moment at which it wakes by itself. Only one sleeping
    /// container needs to watch for a moment, so the others get `None`.
    pub(super) fn sleeps(
        &self,
        state: &mut State,
        id: ContainerId,
        generation: Generation,
        until: Option<Time>,
    ) -> Option<Time> {
        let until = until.filter(|due| !state.sleepers.is_watched(*due));
        let proof = state.ledger.proof(id);
        let is_empty = state.ledger.is_container_empty(id);
        state.sleepers.add(id, generation, proof, until, is_empty);
        until
    }

    /// Makes the run of a lease. `found` is the moment at which the search for the lease began.
    pub(super) fn lend(&self, state: &mut State, id: LaneId, lease: Lease, found: Time) -> Work {
        let caller = state.buffers.get(lease.job).expect("a lease is of an open job").caller().clone();
        let input = InputId { job: lease.job, index: lease.span.first };
        let chunk = state.buffers.chunk(input).expect("a leased input is in its chunk");
        let from = lease.span.first - chunk.first();
        let (to, batch) = (from + lease.span.len, state.ledger.batch_size());
        let run = Arc::new(Run::in_batches(Arc::clone(chunk), from, to, batch));
        state.seats[id.container.index()].suspended = false;
        let seat = state.lane_mut(id);
        seat.run = Some(Arc::clone(&run));
        seat.at_work = true;
        seat.suspended = false;
        let previous = if lease.attempt.get() > 1 { state.ledger.previous(input) } else { None };
        if lease.span.len > batch && !state.ticking && state.has_polling_task(lease.job) {
            state.begin_to_tick(self);
        }
        let before = std::mem::replace(&mut state.lane_mut(id).caller, caller.clone());
        state.unused_callers.extend(before.holds_a_span().then_some(before));
        // A lease at the start of its chunk may have pulled it, and that may have taken long.
        let now = if from == 0 { self.now() } else { found };
        state.ledger.lent(id, now);
        state.observed.lent(&lease, now);
        Work { lane: id, run, lease, previous, caller }
    }

    /// The executing input has failed, by its error or for another reason. Returns whether the run goes on
    /// with the next input.
    pub(crate) fn failed(
        &self,
        id: LaneId,
        run: &Run,
        active: &mut RunCursor<'_>,
        why: Why,
        (retryable, peak_bytes): (Retryable, Option<u64>),
    ) -> bool {
        let mut refused = None;
        let mut goes_on = false;
        {
            let mut state = self.lock();
            let now = self.now();
            if run.is_fenced() || state.broken.is_some() {
                self.count_late();
                refused = Some(why);
            } else {
                let lease = state.ledger.lease(id).expect("a run that is not fenced has its lease");
                state.commit(id, now);
                let index = active.index();
                match state.ledger.failed(id, retryable, now) {
                    AfterFailure::Retry => {
                        let input = InputId { job: lease.job, index };
                        refused = match why {
                            Why::Error(error) => state.keep_error(input, error).map(Why::Error),
                            other => Some(other),
                        };
                        goes_on = active.skip() == Advance::Next;
                        state.move_out(input);
                        if state.needs_a_watch(now) {
                            self.wake_one(&mut state);
                        }
                    }
                    AfterFailure::Final { attempts, deaths, ends_map } => {
                        goes_on = active.skip() == Advance::Next && !ends_map;
                        let input = InputId { job: lease.job, index };
                        let tried = Tried { attempts: attempts.get(), deaths, peak_bytes };
                        state.fail(input, tried, why, ends_map, now);
                        self.wake_for_suspect(&mut state, now);
                        self.wake_if_drained(&mut state);
                    }
                    AfterFailure::PastDeadline { attempts, deaths, limit, ends_map } => {
                        goes_on = active.skip() == Advance::Next && !ends_map;
                        let input = InputId { job: lease.job, index };
                        let tried = Tried { attempts: attempts.get(), deaths, peak_bytes };
                        let last = if let Why::Error(error) = why { Some(error) } else { None };
                        state.fail(input, tried, Why::Deadline { limit, last }, ends_map, now);
                        self.wake_for_suspect(&mut state, now);
                        self.wake_if_drained(&mut state);
                    }
                }
                if !goes_on {
                    // If its map has ended, its lease was taken back as if the next input had begun.
                    state.ledger.code_has_returned(id);
                }
            }
        }
        drop_contained(refused);
        goes_on
    }

    /// The `enter` of a container has succeeded. Returns `false` if its generation is over, or if the
    /// container should leave.
    pub(crate) fn entered(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.lock();
        let now = self.now();
        let entered = state.ledger.entered(id, generation, now);
        self.changed.notify_threads();
        if state.ledger.stable_at().is_some() {
            self.notify(Notice::Entered); // a crash loop ends once this container has stayed up
        }
        entered
    }

    /// Begins a new generation on the thread of a container, after the interrupted worker was dropped.
    /// Returns `None` if the old generation is over already, or if no new one may begin.
    pub(crate) fn enter_anew(&self, id: ContainerId, generation: Generation) -> Option<Generation> {
        let now = self.now();
        let mut state = self.lock();
        self.batch_comes_back(&mut state, id, generation, now);
        let interrupted = state.broken.is_none() && state.ledger.interrupted(id, generation, now);
        // The inputs that have come back may execute elsewhere, and `enter` may take long.
        self.pass_on(&mut state, now);
        self.changed.notify_threads();
        if interrupted { self.begin_in(&mut state, id) } else { None }
    }

    /// The container has exited.
    pub(crate) fn left(&self, id: ContainerId, generation: Generation) {
        self.lock().ledger.left(id, generation);
    }

    /// A thread has ended. `fate` is kept for the report, unless the thread was detached before.
    pub(crate) fn ended(&self, id: ContainerId, generation: Generation, fate: Option<Fate>) {
        let mut state = self.lock();
        state.threads -= 1;
        let detached = state.returned(id, generation);
        // Another thread may have begun a later generation meanwhile, which has a fate of its own.
        let is_last = state.ledger.stage(id).0 == generation;
        if !detached && is_last && state.broken.is_none() {
            state.ledger.thread_ended(id, generation);
            state.ledger.left(id, generation);
            state.seats[id.index()].fate = fate;
        }
        self.changed.notify_threads();
        let none_can_be_created = state.pressure(0, 0, &self.settings) == Pressure::Threads;
        if none_can_be_created && state.broken.is_none() && state.ledger.give_up_if_deserted() {
            let now = self.now();
            state.emit_gave_up(now);
            self.notify(Notice::Crashed { restart: Restart::GiveUp });
        }
        drop(state);
        self.notify(Notice::Ended { container: id, generation });
    }

    /// The `exit` of a container has timed out. Returns `false` if the `exit` has ended meanwhile.
    pub(crate) fn abandon_exit(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.lock();
        let (current, stage) = state.ledger.stage(id);
        if current != generation || stage != ContainerStage::Exiting {
            return false;
        }
        let now = self.now();
        state.detach(id, generation, now);
        state.seats[id.index()].fate = Some(Fate::ExitTimedOut);
        state.emit(Event::ExitTimedOut(id, self.settings.exit_timeout), now);
        // If the `exit` waits in a task, the task wakes and drops it.
        self.rouse(&mut state, id, generation);
        true
    }
}

impl State {
    /// The next lease of a lane, or the reason why it gets none. Inputs are pulled from sources as
    /// needed.
    fn claim(&mut self, id: LaneId, generation: Generation, now: Time) -> Next<Lease> {
        loop {
            let (job, most, leased) = match self.ledger.claim(id, generation, now, &self.buffers) {
                Next::Work(Assignment::Lease(lease)) => return Next::Work(lease),
                Next::Work(Assignment::Pull { job, most, leased }) => (job, most, leased),
                Next::Wait { until } => return Next::Wait { until },
                Next::Hold { until } => return Next::Hold { until },
                Next::Over(served) => return Next::Over(served),
            };
            let first = self.ledger.job(job).expect("its job is open").counts().pulled;
            let pulled = self.buffers.pull(job, first, most);
            if let Some(lease) = self.ledger.pulled(id, job, (pulled, leased), now) {
                return Next::Work(lease);
            }
        }
    }
}

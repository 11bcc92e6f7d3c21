//! What consumers do under the lock: open, wait for outcomes, cancel, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::base::ids::JobId;
use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::failure::Reason;
use crate::data::gate::Gate;
use crate::data::run::Run;
use crate::decide::job::{Counts, JobKind, OnFailure};
use crate::decide::ledger::{Mode, Unrun};
use crate::decide::pacing::{LOOK_MAX, LOOK_MIN};
use crate::decide::retries::Retries;
use crate::decide::window::{WINDOW_MAX, Window};
use crate::engine::abort::Abort;
use crate::engine::caller::Caller;
use crate::engine::dispatch::endings::REFUSED;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::lane::Lane;
use crate::engine::map_lane::{Finished, MapEnd, MapLane, Order, Supply};
use crate::engine::messages::Notice;
use crate::values::progress::Progress;

/// How a map is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) order: Order,
    pub(crate) on_failure: OnFailure,
    pub(crate) window: Window,
    /// In place of the function's.
    pub(crate) retries: Option<Retries>,
    /// Who asked for it.
    pub(crate) caller: Caller,
}

/// What is left of a job: its lane, and runs that are over.
pub(crate) type Closed = (Lane, Vec<Arc<Run>>);

/// What a consumer finds.
pub(crate) enum Found {
    /// The chunk in which the next outcome in order is.
    Chunk(Arc<Chunk>),
    /// Outcomes in completion order.
    Ready(Finished),
    /// The next outcome is booked, and its thread is about to publish it.
    Soon,
    /// Nothing yet.
    NotYet,
    /// Nothing more, after that error if there is one.
    End(Option<MapEnd>),
}

/// How a consumer takes it that there is nothing yet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// Its thread waits; it is never told [`Found::Soon`] or [`Found::NotYet`].
    Wait,
    /// It is told so.
    Look,
    /// It is told so, and woken when it should look again.
    Task(&'a Waker),
}

impl Dispatch {
    /// Opens a job, unless the function takes none.
    pub(crate) fn open(&self, plan: Plan, supply: Supply) -> Result<(JobId, Arc<Gate>), Reason> {
        let mut state = self.hold();
        if let Some(refusal) = state.refusal() {
            state.supplies.push(supply);
            return Err(refusal);
        }
        let job = state.ledger.open(plan.on_failure, plan.window, plan.retries);
        let lane = MapLane::new(self.settings.shape, plan.order, supply, plan.caller);
        let gate = Arc::clone(&lane.gate);
        let known = lane.total;
        state.lanes.open.insert(job, Lane::Map(Box::new(lane)));
        state.observed.map_began(job, self.now());
        state.refresh_window(job);
        // Of a fed map nothing is there yet: its first input wakes a container.
        if let Some(inputs) = known {
            let hands = state.ledger.hands(job, inputs);
            self.wake_some(&mut state, hands);
        }
        Ok((job, gate))
    }

    /// Opens a map over inputs that are all there, and whose outcomes are taken all at once.
    pub(crate) fn open_with(
        &self,
        inputs: Values,
        on_failure: OnFailure,
        caller: Caller,
    ) -> Result<(JobId, Arc<Gate>), Reason> {
        let mut state = self.hold();
        if let Some(refusal) = state.refusal() {
            return Err(refusal);
        }
        let job = state.ledger.open(on_failure, Window::Fixed(WINDOW_MAX), None);
        let mut lane = MapLane::new(self.settings.shape, Order::AtOnce, Supply::Dry, caller);
        let len = inputs.len() as u64;
        lane.add_all(inputs);
        let gate = Arc::clone(&lane.gate);
        state.lanes.open.insert(job, Lane::Map(Box::new(lane)));
        state.observed.map_began(job, self.now());
        state.ledger.accept(job, len);
        let hands = state.ledger.hands(job, len);
        self.wake_some(&mut state, hands);
        Ok((job, gate))
    }

    /// What a job is called.
    pub(crate) fn label(&self, job: JobId) -> Option<Arc<str>> {
        self.hold().lanes.get(job)?.caller().label().cloned()
    }

    /// The outcome at `next` in order, or any.
    pub(crate) fn find(&self, job: JobId, next: u64, patience: Patience<'_>) -> Found {
        // Cloned before the lock is taken, because a waker is the user's code.
        let mut waker = if let Patience::Task(waker) = patience { Some(waker.clone()) } else { None };
        let mut pause = LOOK_MIN;
        let mut state = self.hold();
        loop {
            let found = self.look(&mut state, job, next);
            match (&found, patience) {
                (Found::NotYet, Patience::Task(_)) => {
                    let waker = waker.take().expect("it returns here");
                    state.wait_in_task(self, job, waker);
                    return found;
                }
                (Found::Soon, Patience::Task(waker)) => {
                    drop(state);
                    waker.wake_by_ref(); // in a moment
                    return found;
                }
                (Found::Soon | Found::NotYet, Patience::Look) => return found,
                _ => {}
            }
            match found {
                Found::Soon => {
                    drop(state);
                    std::thread::yield_now();
                    state = self.hold();
                }
                Found::NotYet => {
                    let lane = state.lanes.map_mut(job).expect("its consumer keeps it open");
                    lane.awaited = true;
                    let task = lane.waker.take(); // that waited before this thread did
                    let arrived = Arc::clone(&lane.arrived);
                    state.wakers.unused.extend(task);
                    let until = self.host.instant(self.now() + pause);
                    // Told once, it is not told again for a moment, and must look by itself.
                    let told = state.wait(&arrived, Some(until));
                    pause = if told { LOOK_MIN } else { (pause * 2).min(LOOK_MAX) };
                    if let Some(lane) = state.lanes.map_mut(job) {
                        lane.awaited = false;
                    }
                }
                Found::Chunk(_) | Found::Ready(_) | Found::End(_) => return found,
            }
        }
    }

    fn look(&self, state: &mut State, job: JobId, next: u64) -> Found {
        if let Some(bug) = &state.broken {
            return Found::End(Some(MapEnd::OfMap(Reason::Engine(bug.clone()))));
        }
        state.book_job(job, self.now());
        let counts = state.ledger.job(job).expect("its consumer keeps it open").counts();
        let lane = state.lanes.map(job).expect("its consumer keeps it open");
        match lane.order {
            Order::Completion if lane.ready.is_empty() => state.tell_ended(job),
            Order::Input if lane.is_to_be_told(next) => state.tell_ended(job),
            Order::AtOnce if lane.has_any_to_tell() => {
                state.tell_ended(job);
                return Found::Soon;
            }
            Order::Completion | Order::Input | Order::AtOnce => {}
        }
        let lane = state.lanes.map_mut(job).expect("its consumer keeps it open");
        match lane.order {
            Order::Completion => {
                if let Some(finished) = lane.ready.pop_front() {
                    return Found::Ready(finished);
                }
            }
            Order::AtOnce => {}
            Order::Input => {
                if let Some(chunk) = lane.chunk(next)
                    && chunk.is_published((next - chunk.first()) as usize)
                {
                    return Found::Chunk(Arc::clone(chunk));
                }
                if lane.is_about_to_publish(next) {
                    return Found::Soon;
                }
            }
        }
        if lane.is_dry() && counts.pending() == 0 {
            let order = lane.order;
            match order {
                Order::Input if next < lane.gap_from.unwrap_or(counts.pulled) => return Found::Soon,
                Order::AtOnce if lane.has_unpublished() => return Found::Soon,
                Order::AtOnce if lane.gap_from.is_none() => {
                    if let Some(chunk) = lane.chunks.values().next() {
                        return Found::Chunk(Arc::clone(chunk));
                    }
                }
                Order::Input | Order::Completion | Order::AtOnce => {}
            }
            lane.over = true;
            return Found::End(lane.end.take());
        }
        // Nothing will be yielded before something comes: little room is room now.
        let room = lane.gate.room_for_any();
        if room > 0 && lane.gate.starved.swap(false, Ordering::SeqCst) {
            lane.space.notify_all();
            state.ledger.look_again(job);
            let hands = state.ledger.hands(job, room);
            self.wake_some(state, hands);
        }
        Found::NotYet
    }

    /// The consumer has made room that somebody waits for.
    pub(crate) fn made_room(&self, job: JobId) {
        let mut state = self.hold();
        let Some(lane) = state.lanes.map(job) else { return };
        // By now another may have taken the room: then whoever waits for it must be told of the next.
        let room = lane.gate.room_for_any();
        if room >= lane.gate.refill.load(Ordering::SeqCst) {
            lane.gate.starved.store(false, Ordering::SeqCst);
            lane.space.notify_all();
            state.ledger.look_again(job);
            let hands = state.ledger.hands(job, room);
            self.wake_some(&mut state, hands);
        }
    }

    /// Cancels what is pending of a job; what finished stays until it is closed.
    pub(crate) fn cancel(&self, job: JobId) {
        let mut state = self.hold();
        let now = self.now();
        if state.broken.is_none() && state.ledger.job(job).is_some() {
            state.end_job(job, Unrun::Cancelled, None, None, now);
            self.after_cancel(&mut state);
        }
    }

    /// Ends what is pending of a job with that cause, as the outcome of each input.
    pub(crate) fn cancel_as(&self, job: JobId, reason: &Reason) {
        let mut state = self.hold();
        let now = self.now();
        if state.broken.is_none() && state.ledger.job(job).is_some() {
            state.end_job(job, Unrun::Cancelled, Some(reason), None, now);
            self.after_cancel(&mut state);
        }
    }

    /// What was cancelled may have been what a suspect, or the end of a drain, waited for.
    pub(super) fn after_cancel(&self, state: &mut State) {
        if state.ledger.mode() > Mode::Running && state.ledger.nothing_pending() {
            self.tell(Notice::NothingPending);
        }
        self.wake_if_drained(state);
        let now = self.now();
        self.wake_for_suspect(state, now);
        if state.needs_a_watch(now) {
            self.wake_one(state);
        }
    }

    /// The chunks of a job that are not yet yielded.
    pub(crate) fn chunks(&self, job: JobId) -> Vec<Arc<Chunk>> {
        let state = self.hold();
        let lane = state.lanes.map(job);
        lane.map_or_else(Vec::new, |lane| lane.chunks.values().chain(lane.apart.values()).cloned().collect())
    }

    /// How far a job is.
    pub(crate) fn progress(&self, job: JobId) -> Progress {
        let mut state = self.hold();
        let now = self.now();
        state.book_job(job, now);
        let Some(known) = state.ledger.job(job) else { return Progress::default() };
        let (pulled, total) = state.lanes.map(job).map_or((0, Some(1)), |map| (map.pulled(), map.total));
        progress_of(known.counts(), pulled, total)
    }

    /// The consumer has yielded a whole chunk.
    pub(crate) fn retire(&self, job: JobId, chunk: &Arc<Chunk>) {
        if let Some(lane) = self.hold().lanes.map_mut(job) {
            lane.retire(chunk);
        }
    }

    /// Cancels what is pending of a job and takes what is left of it, for the caller to drop.
    pub(crate) fn close(&self, job: JobId) -> Option<Box<Closed>> {
        let mut state = self.hold();
        let now = self.now();
        // The lane goes first: its values are for the caller to drop, not for the lock's release.
        let lane = state.lanes.open.remove(&job)?;
        if let Lane::Map(map) = &lane {
            if !map.close_pool() {
                state.break_down(REFUSED);
            }
            map.space.notify_all();
        }
        if state.broken.is_none() {
            state.end_job(job, Unrun::Cancelled, None, None, now);
        }
        let counts = if state.broken.is_none() { state.ledger.close(job) } else { None };
        state.observed.closed(job, &lane, counts, now);
        if state.broken.is_none() {
            self.after_cancel(&mut state);
        }
        Some(Box::new((lane, std::mem::take(&mut state.spent))))
    }
}

impl Abort for Dispatch {
    fn abort_job(&self, job: JobId) {
        let mut state = self.hold();
        let now = self.now();
        let Some(known) = state.ledger.job(job).filter(|_| state.broken.is_none()) else { return };
        let publish = known.on_failure() == OnFailure::GoOn;
        let end = (known.kind() == JobKind::Map).then_some(MapEnd::OfMap(Reason::Cancelled));
        state.book_job(job, now);
        let over = state.lanes.get(job).is_none_or(Lane::is_dry);
        if !over || state.ledger.job(job).is_some_and(|job| job.counts().pending() > 0) {
            state.end_job(job, Unrun::Cancelled, publish.then_some(&Reason::Cancelled), end, now);
            self.after_cancel(&mut state);
        }
    }
}

impl State {
    /// Why the function takes nothing new, if it does not.
    pub(super) fn refusal(&self) -> Option<Reason> {
        if let Some(bug) = &self.broken {
            return Some(Reason::Engine(bug.clone()));
        }
        if self.ledger.mode() != Mode::Running {
            return Some(Reason::ShutDown);
        }
        self.ledger.gave_up().cloned().map(Reason::GaveUp)
    }
}

pub(super) fn progress_of(counts: Counts, pulled: u64, total: Option<u64>) -> Progress {
    Progress {
        pulled: counts.pulled.max(pulled),
        ok: counts.ok,
        failed: counts.failed,
        poisoned: counts.poisoned,
        cancelled: counts.cancelled,
        given_up: counts.given_up,
        replayed: counts.replayed,
        retried: counts.retried,
        total,
    }
}

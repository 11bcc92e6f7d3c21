//! The operations of consumers under the lock: to open a job, wait for its outcomes, cancel it and close it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::base::ids::JobId;
use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::failure::Reason;
use crate::data::flow_control::FlowControl;
use crate::data::run::Run;
use crate::decide::job::{Counts, JobKind, OnFailure};
use crate::decide::ledger::{Mode, Unrun};
use crate::decide::limits::Limits;
use crate::decide::pacing::{POLL_MAX, POLL_MIN, YIELD_PAUSE};
use crate::decide::retries::Retries;
use crate::decide::window::{WINDOW_MAX, Window};
use crate::engine::abort::Abort;
use crate::engine::caller::Caller;
use crate::engine::dispatch::endings::REFUSED;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::job_buffers::JobBuffers;
use crate::engine::map_buffers::{Finished, JobSource, MapBuffers, Order};
use crate::engine::map_end::MapEnd;
use crate::engine::messages::Notice;
use crate::engine::progress_handle::ReadProgress;
use crate::values::progress::Progress;

/// How a map is to be run.
#[derive(Debug, Clone)]
pub(crate) struct JobPlan {
    pub(crate) order: Order,
    pub(crate) on_failure: OnFailure,
    pub(crate) window: Window,
    /// Replaces the retries of the function.
    pub(crate) retries: Option<Retries>,
    /// Replace the limits of the function.
    pub(crate) limits: Limits,
    /// The caller that asked for the map.
    pub(crate) caller: Caller,
}

/// The remains of a job.
pub(crate) struct ClosedJob {
    buffers: JobBuffers,
    /// Runs that are over.
    spent: Vec<Arc<Run>>,
    /// The last progress of a map. `None` for a call, and if the engine is broken.
    pub(crate) progress: Option<Progress>,
}

impl ClosedJob {
    /// Whether it has nothing that would be dropped.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.spent.is_empty()
    }
}

/// The result of a consumer's poll.
pub(crate) enum Found {
    /// The chunk that holds the next outcome in input order.
    Chunk(Arc<Chunk>),
    /// Outcomes in completion order, and those that come behind them.
    Ready(Finished, VecDeque<Finished>),
    /// The next outcome is committed, and its thread is about to publish it.
    Soon,
    /// Some failures were made. The consumer looks again at once, because there may be more. The lock is
    /// released in between, because a large job that ends has many.
    Again,
    /// There is no outcome yet.
    Pending,
    /// There are no more outcomes. The map ends with that error, if there is one.
    End(Option<MapEnd>),
}

/// The way in which a consumer waits when no outcome is ready.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait<'a> {
    /// It blocks its thread; it never gets [`Found::Soon`], [`Found::Again`] or [`Found::Pending`].
    Block,
    /// It returns at once.
    Try,
    /// It returns at once, and this waker is woken when it should poll again.
    Register(&'a Waker),
}

impl Dispatch {
    /// Opens a map, unless the function takes no work.
    pub(crate) fn open(&self, plan: JobPlan, source: JobSource) -> Result<(JobId, Arc<FlowControl>), Reason> {
        let mut state = self.lock();
        if let Some(refusal) = state.refusal() {
            state.sources.push(source);
            return Err(refusal);
        }
        let job = state.ledger.open(plan.on_failure, plan.window, plan.retries);
        state.ledger.limit(job, plan.limits);
        let buffers = MapBuffers::new(self.settings.shape, plan.order, source, plan.caller);
        let flow = Arc::clone(&buffers.flow);
        let known = buffers.total;
        state.buffers.open.insert(job, JobBuffers::Map(Box::new(buffers)));
        state.observed.map_began(job, self.now());
        state.refresh_window(job);
        state.accept_for_deadline(job);
        // A map with a feeder has no input yet. Its first input wakes a container.
        if let Some(inputs) = known {
            if inputs > 0 {
                self.notes_arrival(&mut state);
            }
            let wake_count = state.ledger.wake_count(job, inputs);
            self.wake_some(&mut state, wake_count);
        }
        Ok((job, flow))
    }

    /// Opens a map whose inputs are all there, and whose outcomes are taken all at once.
    pub(crate) fn open_with(
        &self,
        inputs: Values,
        on_failure: OnFailure,
        caller: Caller,
    ) -> Result<(JobId, Arc<FlowControl>), Reason> {
        let mut state = self.lock();
        if let Some(refusal) = state.refusal() {
            return Err(refusal);
        }
        let job = state.ledger.open(on_failure, Window::Fixed(WINDOW_MAX), None);
        state.ledger.limit(job, Limits::default());
        let mut buffers = MapBuffers::new(self.settings.shape, Order::AtOnce, JobSource::Exhausted, caller);
        let len = inputs.len() as u64;
        buffers.add_all(inputs);
        let flow = Arc::clone(&buffers.flow);
        state.buffers.open.insert(job, JobBuffers::Map(Box::new(buffers)));
        state.observed.map_began(job, self.now());
        state.ledger.accept(job, len);
        if len > 0 {
            self.notes_arrival(&mut state);
        }
        let wake_count = state.ledger.wake_count(job, len);
        self.wake_some(&mut state, wake_count);
        Ok((job, flow))
    }

    /// The label that the caller has given to a job.
    pub(crate) fn label(&self, job: JobId) -> Option<Arc<str>> {
        self.lock().buffers.get(job)?.caller().label().cloned()
    }

    /// Finds the outcome at index `next`, or any outcome if the map yields them in completion order.
    pub(crate) fn find(&self, job: JobId, next: u64, wait: Wait<'_>) -> Found {
        // Cloned before the lock is taken, because a waker is the user's code.
        let mut waker = if let Wait::Register(waker) = wait { Some(waker.clone()) } else { None };
        let (mut pause, mut yielded) = (POLL_MIN, None);
        let mut state = self.lock();
        loop {
            let found = self.find_now(&mut state, job, next);
            match (&found, wait) {
                (Found::Pending, Wait::Register(_)) => {
                    let waker = waker.take().expect("registered only once");
                    state.wait_in_task(self, job, waker);
                    return found;
                }
                (Found::Soon | Found::Again, Wait::Register(waker)) => {
                    drop(state);
                    waker.wake_by_ref();
                    return found;
                }
                (Found::Soon | Found::Again | Found::Pending, Wait::Try) => return found,
                _ => {}
            }
            match found {
                Found::Soon => {
                    drop(state);
                    std::thread::yield_now();
                    state = self.lock();
                }
                Found::Again => {
                    drop(state);
                    // A yield costs the rest of this thread's turn where other programs keep the cores
                    // busy. So the thread yields if another one waits for the lock, and now and then,
                    // because a thread that a signal has woken is not counted.
                    let now = self.now();
                    let since = *yielded.get_or_insert(now);
                    if self.state.is_awaited() || now.since(since) >= YIELD_PAUSE {
                        std::thread::yield_now();
                        yielded = None;
                    }
                    state = self.lock();
                }
                Found::Pending => {
                    let buffers = state.buffers.map_mut(job).expect("its consumer keeps it open");
                    buffers.awaited = true;
                    let task = buffers.waker.take(); // it waited before this thread did
                    let arrived = Arc::clone(&buffers.arrived);
                    state.wakers.unused.extend(task);
                    let until = self.host.instant(self.now() + pause);
                    // A consumer that was just woken is not woken again for a moment, so it polls by itself.
                    let told = state.wait(&arrived, Some(until));
                    pause = if told { POLL_MIN } else { (pause * 2).min(POLL_MAX) };
                    if let Some(buffers) = state.buffers.map_mut(job) {
                        buffers.awaited = false;
                    }
                }
                Found::Chunk(_) | Found::Ready(..) | Found::End(_) => return found,
            }
        }
    }

    fn find_now(&self, state: &mut State, job: JobId, next: u64) -> Found {
        if let Some(bug) = &state.broken {
            return Found::End(Some(MapEnd::OfMap(Reason::Engine(bug.clone()))));
        }
        // A lane in a container with many comes back as soon as its one input has ended, and a batch does
        // once all of its outcomes are published. So only leases of several inputs, or of several batches,
        // are looked at. The look must not cost more because more inputs are in flight.
        if self.settings.rules.lanes == 1 && self.settings.rules.batch.is_none() {
            state.commit_job(job, self.now());
        } else {
            state.commit_ahead_of(job, self.now());
        }
        let counts = state.ledger.job(job).expect("its consumer keeps it open").counts();
        let buffers = state.buffers.map(job).expect("its consumer keeps it open");
        match buffers.order {
            Order::Completion if buffers.has_none_ready() => state.publish_ended(job),
            Order::Input if buffers.ended.contains(next) => state.publish_ended(job),
            Order::AtOnce if !buffers.ended.is_empty() => {
                state.publish_ended(job);
                return Found::Again;
            }
            Order::Completion | Order::Input | Order::AtOnce => {}
        }
        let buffers = state.buffers.map_mut(job).expect("its consumer keeps it open");
        match buffers.order {
            Order::Completion => {
                if let Some((first, behind)) = buffers.take_ready() {
                    return Found::Ready(first, behind);
                }
            }
            Order::AtOnce => {}
            Order::Input => {
                if let Some(chunk) = buffers.chunk(next)
                    && chunk.is_published((next - chunk.first()) as usize)
                {
                    return Found::Chunk(Arc::clone(chunk));
                }
                if buffers.is_about_to_publish(next) {
                    return Found::Soon;
                }
            }
        }
        if buffers.is_exhausted() && counts.pending() == 0 {
            let order = buffers.order;
            match order {
                Order::Input if next < buffers.gap_from.unwrap_or(counts.pulled) => return Found::Soon,
                Order::AtOnce if buffers.has_unpublished() => return Found::Soon,
                Order::AtOnce if buffers.gap_from.is_none() => {
                    if let Some(chunk) = buffers.chunks.values().next() {
                        return Found::Chunk(Arc::clone(chunk));
                    }
                }
                Order::Input | Order::Completion | Order::AtOnce => {}
            }
            buffers.over = true;
            return Found::End(buffers.end.take());
        }
        // Room does not grow before the next outcome is yielded, so even a little room is announced now.
        let room = buffers.flow.room_for_any();
        if room > 0 && buffers.flow.room_wanted.swap(false, Ordering::SeqCst) {
            buffers.space.notify_all();
            state.ledger.requeue_map(job);
            state.accept_for_deadline(job);
            self.wake_for_room(state, job, room);
        }
        Found::Pending
    }

    /// The consumer has made room that the feeder or the ledger waits for.
    pub(crate) fn made_room(&self, job: JobId) {
        let mut state = self.lock();
        let Some(buffers) = state.buffers.map(job) else { return };
        // Another puller may have taken the room by now. `room_wanted` then stays set, so that the consumer
        // announces the next room.
        let room = buffers.flow.room_for_any();
        if room >= buffers.flow.room_min.load(Ordering::SeqCst) {
            buffers.flow.room_wanted.store(false, Ordering::SeqCst);
            buffers.space.notify_all();
            state.ledger.requeue_map(job);
            state.accept_for_deadline(job);
            self.wake_for_room(&mut state, job, room);
        }
    }

    /// Cancels the pending inputs of a job. Finished outcomes stay until the job is closed.
    pub(crate) fn cancel(&self, job: JobId) {
        let mut state = self.lock();
        let now = self.now();
        if state.broken.is_none() && state.ledger.job(job).is_some() {
            state.end_job(job, Unrun::Cancelled, None, None, now);
            self.after_cancel(&mut state);
        }
    }

    /// Ends the pending inputs of a job. Each gets `reason` as its outcome.
    pub(crate) fn cancel_as(&self, job: JobId, reason: &Reason) {
        let mut state = self.lock();
        let now = self.now();
        if state.broken.is_none() && state.ledger.job(job).is_some() {
            state.end_job(job, Unrun::Cancelled, Some(reason), None, now);
            self.after_cancel(&mut state);
        }
    }

    /// A suspect, or the end of a drain, may have waited for the inputs that were cancelled.
    pub(super) fn after_cancel(&self, state: &mut State) {
        if state.ledger.mode() > Mode::Running && state.ledger.nothing_pending() {
            self.notify(Notice::NothingPending);
        }
        self.wake_if_drained(state);
        let now = self.now();
        self.wake_for_suspect(state, now);
        if state.ledger.awaits_batches() {
            self.pass_on(state, now); // nothing more may come for the batch that forms
        } else if state.needs_a_watch(now) {
            self.wake_one(state);
        }
    }

    /// The chunks of a job whose outcomes have not all been yielded.
    pub(crate) fn chunks(&self, job: JobId) -> Vec<Arc<Chunk>> {
        let state = self.lock();
        let buffers = state.buffers.map(job);
        buffers.map_or_else(Vec::new, |buffers| {
            buffers.chunks.values().chain(buffers.moved_out.values()).cloned().collect()
        })
    }

    /// The progress of a job.
    pub(crate) fn progress(&self, job: JobId) -> Progress {
        self.read_progress(job).unwrap_or_default()
    }

    /// The consumer has yielded all outcomes of a chunk.
    pub(crate) fn retire(&self, job: JobId, chunk: &Arc<Chunk>) {
        if let Some(buffers) = self.lock().buffers.map_mut(job) {
            buffers.retire(chunk);
        }
    }

    /// Cancels the pending inputs of a job, and returns the rest of the job for the caller to drop.
    pub(crate) fn close(&self, job: JobId) -> Option<Box<ClosedJob>> {
        let mut state = self.lock();
        let now = self.now();
        // The buffers go first, because the caller drops their values, and the release of the lock must not.
        let buffers = state.buffers.open.remove(&job)?;
        if let JobBuffers::Map(map) = &buffers {
            if !map.close_queue() {
                state.break_down(REFUSED);
            }
            map.space.notify_all();
        }
        if state.broken.is_none() {
            state.end_job(job, Unrun::Cancelled, None, None, now);
        }
        let counts = if state.broken.is_none() { state.ledger.close(job) } else { None };
        let map = buffers.map().zip(counts);
        // Inputs that the ledger has not accepted by now are dropped with the buffers, and are not counted.
        let progress = map.map(|(map, counts)| progress_of(counts, counts.pulled, map.total));
        state.last_errors.forget_job(job);
        state.observed.closed(job, &buffers, progress, now);
        if state.broken.is_none() {
            self.after_cancel(&mut state);
        }
        Some(Box::new(ClosedJob { buffers, spent: std::mem::take(&mut state.spent), progress }))
    }
}

impl ReadProgress for Dispatch {
    fn read_progress(&self, job: JobId) -> Option<Progress> {
        let mut state = self.lock();
        let now = self.now();
        state.commit_job(job, now);
        let counts = state.ledger.job(job)?.counts();
        let (pulled, total) = state.buffers.map(job).map_or((0, Some(1)), |map| (map.pulled(), map.total));
        Some(progress_of(counts, pulled, total))
    }
}

impl Abort for Dispatch {
    fn abort_job(&self, job: JobId) {
        let mut state = self.lock();
        let now = self.now();
        let Some(known) = state.ledger.job(job).filter(|_| state.broken.is_none()) else { return };
        let publish = known.on_failure() == OnFailure::GoOn;
        let end = (known.kind() == JobKind::Map).then_some(MapEnd::OfMap(Reason::Cancelled));
        state.commit_job(job, now);
        let over = state.buffers.get(job).is_none_or(JobBuffers::is_exhausted);
        if !over || state.ledger.job(job).is_some_and(|job| job.counts().pending() > 0) {
            state.end_job(job, Unrun::Cancelled, publish.then_some(&Reason::Cancelled), end, now);
            self.after_cancel(&mut state);
        }
    }
}

impl State {
    /// The reason for which the function takes no new work, or `None` if it takes work.
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

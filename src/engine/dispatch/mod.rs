//! The one lock of a function, and the work that is done under it.
//!
//! The lock joins the [`Ledger`], which decides, with the buffers, runs and threads that its decisions are
//! about. Containers claim inputs, report failures and crash under it, consumers wait with it, and the
//! supervisor uses it to drain, kill and give up. No user code runs under the lock, and users' values are
//! dropped after its release. A panic under the lock is a fault of the engine. It marks the function broken,
//! and every waiting thread and task gets an error.

mod batches;
mod calls;
mod consumers;
mod containers;
mod deaths;
mod endings;
mod feeders;
mod hangs;
mod last_errors;
mod limits;
mod memory;
mod overload;
mod pausing;
mod places;
mod readiness;
mod sleepers;
mod snapshot;
mod supervision;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::base::ready::ReadyLanes;
use crate::base::signal::Signal;
use crate::base::sync::{self, Mutex, MutexGuard};
use crate::code::context::Context;
use crate::code::token::Token;
use crate::contain::drops::{defer_drop, defer_in_order};
use crate::contain::unwind::{drop_contained, ignore_panic};
use crate::data::chunk::Chunk;
use crate::data::erased::ErasedValue;
use crate::data::failure::{Bug, Reason};
use crate::data::run::Run;
use crate::decide::ledger::{CrashNumber, Ledger, Takers};
use crate::decide::steps;
use crate::decide::storm::Storm;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::sleepers::{Called, CalledContainer, Sleepers};
use crate::engine::history::History;
use crate::engine::host::Host;
use crate::engine::job_buffers::BuffersByJob;
use crate::engine::map_buffers::{JobSource, MapEnd};
use crate::engine::messages::Notice;
use crate::engine::outbox::{OnceAction, Outbox, QueuedEvent};
use crate::engine::settings::Settings;
use crate::memory::local_charge::ChargeGuard;
use crate::values::crash::Crash;
use crate::values::report::Fate;
use hangs::Exhaustion;
use last_errors::LastErrors;
use places::PlaceWakers;
use readiness::Readying;
use snapshot::{Observed, Undescribed};

pub(crate) use consumers::{ClosedJob, Found, JobPlan, Wait};
pub(crate) use containers::Work;
pub(crate) use feeders::FeederEnd;
pub(crate) use places::{ReservedPlace, Reserving};
pub(crate) use readiness::{Readiness, Wanted};
pub(crate) use tasks::WorkSeeker;

/// Everything under the lock.
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) buffers: BuffersByJob,
    /// The containers, in the order of their numbers.
    seats: Vec<Seat>,
    /// Containers that wait for work and have not been woken.
    sleepers: Sleepers,
    /// Containers that are woken once the lock is released.
    called: Called,
    /// The last moment at which a lease of several inputs was lent.
    lent_ahead: Option<Time>,
    /// Before this moment no container looks for a lease to steal from, because that costs CPU time that
    /// working containers need. `None` if the last look found that nothing is leased ahead.
    steal_after: Option<Time>,
    /// The threads of containers that have not ended, including those that are detached.
    pub(crate) threads: usize,
    /// The threads that have not ended although their generation is over.
    detached: BTreeMap<(ContainerId, Generation), Detached>,
    /// The number of detached threads that are in the user's code for an unknown time.
    abandoned: usize,
    /// Whether no container is left that takes inputs.
    exhaustion: Exhaustion,
    /// The calls that are refused because there is no room.
    overload: Option<Storm>,
    /// Whether the supervisor has ended without a fault.
    over: bool,
    /// The feeders that have not ended.
    pub(crate) feeders: usize,
    /// The inputs that the end of the function has left without an outcome of their own.
    leftovers: Leftovers,
    /// Tasks and threads that wait for the function to be ready or idle.
    readying: Readying,
    /// The wakers of those who wait for a place among the calls.
    place_wakers: PlaceWakers,
    pub(crate) broken: Option<Bug>,
    /// Whether the function has broken down and the sleeping threads and tasks have not been woken since. Set
    /// by `break_down`, and cleared where the lock is released.
    breaks: bool,
    /// Sources that are not pulled any more. They are dropped once the lock is released.
    sources: Vec<JobSource>,
    /// Ends of maps that no consumer will see. They are dropped once the lock is released.
    unseen_ends: Vec<MapEnd>,
    /// Runs that are over. This may be their last holder, so they are dropped once the lock is released.
    spent: Vec<Arc<Run>>,
    /// Reasons of failures. They may hold crashes, so they are dropped once the lock is released.
    reasons: Vec<Reason>,
    /// Chunks that are used up. This may be their last holder, so they are dropped once the lock is released.
    used_up: Vec<Arc<Chunk>>,
    /// Replaced callers. Their drop may close a span, which runs a subscriber, so they are dropped once the
    /// lock is released.
    unused_callers: Vec<Caller>,
    /// The last errors of inputs that have a deadline and are executed again.
    last_errors: LastErrors,
    /// Wakers of consumers. They are the user's code, so they are woken and dropped once the lock is
    /// released.
    wakers: Wakers,
    /// Whether the supervisor polls for outcomes now and then.
    ticking: bool,
    /// Events to emit once the lock is released, because subscribers are the user's code.
    events: Vec<QueuedEvent>,
    /// The end of the crash loop's delay that was emitted last.
    delay_emitted: Option<Time>,
    /// What snapshots show besides the ledger.
    observed: Observed,
}

/// The state of a container that is not in the ledger.
#[derive(Default)]
struct Seat {
    /// The lanes of the current generation that were ever used, in the order of their numbers.
    lanes: Vec<LaneSeat>,
    /// The number of leases of its last batch, if inputs execute in batches.
    parts: usize,
    /// The first parts, up to this number, are over: no input that they execute is wanted.
    parts_over: usize,
    /// The driver of its lanes, if it has several. Written when the container falls asleep.
    driver: Option<Arc<ReadyLanes>>,
    /// Whether the user's code waits in a task. Written by `enter` and `exit` where they begin and cease to
    /// wait, and when the container is about to be detached. Read when the container is detached.
    suspended: bool,
    /// The token of the last generation whose code has registered one.
    token: Option<(Generation, Arc<Token>)>,
    /// The peak memory of the generations before that one.
    peak: u64,
    /// The fate of the container at the end of the function.
    fate: Option<Fate>,
}

/// The state of a lane that is not in the ledger.
#[derive(Default)]
struct LaneSeat {
    /// The run that the lane executes. Written by a claim, and cleared by the lane's return or by a fence.
    run: Option<Arc<Run>>,
    /// The caller that asked for the current or last execution. It is kept outside the job's buffers, because
    /// the job may have ended meanwhile.
    caller: Caller,
    /// Whether the lane may be in the user's function.
    at_work: bool,
    /// Whether the user's code waited in a task when the run was fenced.
    suspended: bool,
    /// The token of the lane's code. `None` in a container that executes one input at a time.
    token: Option<Arc<Token>>,
}

impl State {
    /// Wakes a container once the lock is released.
    fn call(&mut self, id: ContainerId) {
        let driver = self.seats[id.index()].driver.clone();
        self.called.add(CalledContainer { id, driver });
    }

    fn lane(&self, id: LaneId) -> Option<&LaneSeat> {
        self.seats[id.container.index()].lanes.get(id.index())
    }

    /// A lane, which exists from now on.
    fn lane_mut(&mut self, id: LaneId) -> &mut LaneSeat {
        let lanes = &mut self.seats[id.container.index()].lanes;
        if lanes.len() <= id.index() {
            lanes.resize_with(id.index() + 1, LaneSeat::default);
        }
        &mut lanes[id.index()]
    }
}

/// The accepted inputs that got no outcome of their own because the function ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leftovers {
    /// The inputs that came back inside their errors.
    pub(crate) returned: u64,
    /// The inputs that were dropped because their map ended.
    pub(super) dropped: u64,
    /// Whether the time limit of the end has passed.
    pub(super) limit_passed: bool,
}

impl Leftovers {
    /// Adds `inputs`, as returned if `come_back` is set and as dropped otherwise.
    fn add(&mut self, inputs: u64, come_back: bool) {
        *(if come_back { &mut self.returned } else { &mut self.dropped }) += inputs;
    }
}

/// A thread that has not ended although its generation is over.
#[derive(Debug)]
struct Detached {
    returns: Returns,
    /// The time at which the generation was over.
    since: Time,
    /// `None` if the thread has no token yet.
    token: Option<Arc<Token>>,
}

impl Detached {
    /// The bytes that the thread still uses.
    fn bytes(&self) -> u64 {
        self.token.as_ref().map_or(0, |token| memory::used(token))
    }
}

/// The time at which a detached thread returns from the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    /// The code waited in a task, so the thread returns as soon as it sees that its generation is over.
    AtOnce,
    /// The code executes, so that time is unknown.
    AsItLikes,
}

/// Wakers of consumers.
#[derive(Debug, Default)]
struct Wakers {
    /// The wakers of consumers that have something to take.
    woken: Vec<Waker>,
    /// The wakers that were replaced by newer ones.
    unused: Vec<Waker>,
}

/// The work that is deferred until the lock is released.
struct Deferred {
    sources: Vec<JobSource>,
    unseen_ends: Vec<MapEnd>,
    spent: Vec<Arc<Run>>,
    reasons: Vec<Reason>,
    used_up: Vec<Arc<Chunk>>,
    callers: Vec<Caller>,
    crashes: Vec<Arc<Crash>>,
    /// Events for which the outbox has no room.
    refused: Vec<QueuedEvent>,
    wakers: Wakers,
    /// Whether containers that were held back may be created now.
    recovered: bool,
    /// A container that may take work again.
    unheld: Option<ContainerId>,
    /// Whether the function has broken down.
    breaks: bool,
    /// Whether the supervisor must look at the limits of time earlier than it would.
    limited: bool,
    /// Errors of the user's that no outcome needs any more.
    errors: Vec<ErasedValue>,
    /// The history has facts to hear.
    remembers: bool,
    /// Poisoned inputs that the user's code may describe.
    undescribed: Vec<Undescribed>,
}

impl State {
    fn has_deferred(&self) -> bool {
        let nothing = self.sources.is_empty()
            && self.unseen_ends.is_empty()
            && self.spent.is_empty()
            && self.reasons.is_empty()
            && self.used_up.is_empty()
            && self.unused_callers.is_empty()
            && self.events.is_empty()
            && self.wakers.woken.is_empty()
            && self.wakers.unused.is_empty()
            && self.last_errors.has_none_to_drop()
            && !self.observed.has_deferred();
        !nothing
            || self.breaks
            || self.ledger.has_news()
            || self.has_readied()
            || self.has_places()
            || self.exhaustion.is_to_be_checked
            || self.ledger.has_limits_news()
    }

    fn deferred(&mut self, outbox: &Outbox, now: Time) -> Deferred {
        self.wake_the_ready();
        self.wake_for_places();
        self.emit_changes(now);
        self.note_exhaustion(now);
        let refused = outbox.add(std::mem::take(&mut self.events), now);
        let (remembers, undescribed) = self.observed.deferred(outbox);
        Deferred {
            limited: self.ledger.take_limits_news(now),
            errors: self.last_errors.take_unused(),
            remembers,
            undescribed,
            sources: std::mem::take(&mut self.sources),
            unseen_ends: std::mem::take(&mut self.unseen_ends),
            spent: std::mem::take(&mut self.spent),
            reasons: std::mem::take(&mut self.reasons),
            used_up: std::mem::take(&mut self.used_up),
            callers: std::mem::take(&mut self.unused_callers),
            crashes: self.ledger.take_discarded(),
            refused,
            wakers: std::mem::take(&mut self.wakers),
            recovered: self.ledger.take_recovered(),
            unheld: self.ledger.take_unheld(),
            breaks: std::mem::take(&mut self.breaks),
        }
    }
}

impl Dispatch {
    /// Does the deferred work, with the lock released: drops users' values, wakes tasks and emits events.
    fn run_deferred(&self, deferred: Deferred) {
        if deferred.remembers {
            self.outbox.write_down();
        }
        if deferred.breaks {
            self.wake_all();
        }
        if deferred.limited {
            self.notify(Notice::Limited);
        }
        if deferred.recovered {
            self.notify(Notice::Recovered);
            if self.settings.rules.lanes > 1 {
                self.work.iter().for_each(Signal::notify_all); // live containers may be held back as well
            }
        }
        if let Some(id) = deferred.unheld {
            self.work[id.index()].notify_all();
        }
        for waker in deferred.wakers.woken {
            ignore_panic(|| waker.wake());
        }
        drop_contained(deferred.wakers.unused);
        if !deferred.undescribed.is_empty() {
            self.describe(deferred.undescribed);
        }
        self.empty_outbox();
        drop(deferred.refused);
        // This may be the last holder of a run that is over, and then of its chunk.
        let last = |run: Arc<Run>| Arc::into_inner(run).and_then(|run| Arc::into_inner(run.chunk));
        let used_up = deferred.used_up.into_iter().filter_map(Arc::into_inner);
        let chunks: Vec<Chunk> = deferred.spent.into_iter().filter_map(last).chain(used_up).collect();
        drop(deferred.callers);
        if !deferred.errors.is_empty() {
            defer_drop(self.settings.stack(), deferred.errors);
        }
        drop((deferred.crashes, deferred.reasons)); // users' values in them are deferred by their own drops
        if chunks.is_empty()
            || !self.settings.shape.runs_drops()
            || Context::is_container_of(self.settings.id)
        {
            drop(chunks); // nothing to drop, or this thread runs the user's code anyway
        } else {
            defer_drop(self.settings.stack(), chunks);
        }
        // The thread that ends a job should not wait for the drops of inputs that were never pulled.
        if deferred.sources.iter().any(JobSource::holds_values) || !deferred.unseen_ends.is_empty() {
            defer_drop(self.settings.stack(), (deferred.sources, deferred.unseen_ends));
        }
    }
}

impl Dispatch {
    /// Runs `then` on the thread that emits the events, after all events so far. The returned handle runs it
    /// earlier, for a caller that stops waiting for subscribers.
    pub(super) fn behind_events(&self, then: impl FnOnce() + Send + 'static) -> Arc<OnceAction> {
        let then = Arc::new(OnceAction::new(then));
        self.outbox.add_action(Arc::clone(&then), self.now());
        self.empty_outbox();
        then
    }

    /// Whether events must be emitted on another thread, because this one must not wait for a subscriber.
    fn delivers_elsewhere(&self) -> bool {
        self.host.must_not_wait() && !self.outbox.is_unheard()
    }

    /// Emits the events in the outbox. If this thread must not wait for a subscriber, another thread emits
    /// them.
    fn empty_outbox(&self) {
        if !self.outbox.is_waiting() {
            return;
        }
        // Events that were added meanwhile are left to another thread, because this one may have inputs to
        // execute.
        if self.delivers_elsewhere() || self.outbox.deliver() {
            let outbox = Arc::clone(&self.outbox);
            defer_in_order(self.settings.id, self.settings.stack(), move || outbox.deliver_all());
        }
    }
}

/// A function's lock, its signals and its settings.
pub(crate) struct Dispatch {
    pub(crate) settings: Settings,
    pub(crate) host: Arc<dyn Host>,
    state: Mutex<State>,
    /// One signal for each container, raised when there may be work or the container should end.
    work: Vec<Signal>,
    /// Signals the threads and tasks that wait for a change of the containers or for the end of the function.
    pub(crate) changed: Signal,
    /// Gets the notices for the supervisor. Set once, before the first container begins.
    supervisor: OnceLock<Box<dyn Fn(Notice) + Send + Sync>>,
    /// The number of answers that fenced attempts returned, and that were refused.
    late: AtomicU64,
    /// Events on their way to subscribers.
    pub(crate) outbox: Arc<Outbox>,
}

/// The lock, held. A panic while it is held breaks the function. Users' values are dropped after the release.
struct StateGuard<'a> {
    dispatch: &'a Dispatch,
    guard: Option<MutexGuard<'a, State>>,
    /// Whether the thread was already panicking when it took the lock, which is no fault of the engine.
    unwinding: bool,
    /// Allocations of the engine are charged to no account, on whatever thread they happen.
    _outside: ChargeGuard,
}

impl std::ops::Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &Self::Target {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl std::ops::DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.guard.as_mut().expect("held until dropped")
    }
}

impl StateGuard<'_> {
    /// If there is deferred work, releases the lock, does the work and takes the lock again. Returns whether
    /// it did so. The state may then have changed, so the caller checks it again.
    fn flush(&mut self) -> bool {
        if !self.has_deferred() {
            return false;
        }
        let now = self.dispatch.now();
        let state = self.guard.as_mut().expect("held until dropped");
        self.dispatch.notify_if_idle(state);
        let called = state.called.take();
        let deferred = state.deferred(&self.dispatch.outbox, now);
        drop(self.guard.take());
        let is_busy = self.dispatch.raise(called);
        self.dispatch.run_deferred(deferred);
        self.guard = Some(self.dispatch.state.lock());
        if is_busy {
            self.call_another();
        }
        true
    }

    /// Waits for a signal, or returns at once if the lock was released for deferred work. The caller checks
    /// the state again in either case. Returns `false` if the moment `until` has passed.
    fn wait(&mut self, signal: &Signal, until: Option<Instant>) -> bool {
        if self.flush() {
            return true;
        }
        // This thread releases the lock in a moment. If it is a container's, the containers have no drivers,
        // so that none is busy and this one is not called itself.
        while self.dispatch.raise(self.called.take()) {
            self.call_another();
        }
        let guard = self.guard.as_mut().expect("held until dropped");
        signal.wait(guard, until)
    }

    /// Calls one more container, if there is work for it.
    fn call_another(&mut self) {
        if self.broken.is_none() {
            let dispatch = self.dispatch;
            dispatch.pass_on(self, dispatch.now());
        }
    }

    /// Releases the lock and returns the deferred work to the caller.
    fn release(mut self) -> Deferred {
        let mut state = self.guard.take().expect("held until dropped");
        self.dispatch.notify_if_idle(&mut state);
        let called = state.called.take();
        let deferred = state.deferred(&self.dispatch.outbox, self.dispatch.now());
        drop(state);
        self.dispatch.raise_all(called);
        deferred
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.guard.take() else { return };
        if std::thread::panicking() && !self.unwinding {
            state.break_down("a thread panicked while it held the function's lock");
        }
        let called = state.called.take();
        if !state.has_deferred() {
            drop(state);
            self.dispatch.raise_all(called);
            return;
        }
        self.dispatch.notify_if_idle(&mut state);
        let deferred = state.deferred(&self.dispatch.outbox, self.dispatch.now());
        drop(state);
        self.dispatch.raise_all(called);
        self.dispatch.run_deferred(deferred);
    }
}

impl Dispatch {
    pub(crate) fn new(settings: Settings, host: Arc<dyn Host>) -> Self {
        sync::prepare();
        let (app, function) = (Arc::clone(&settings.app), Arc::clone(&settings.function));
        let containers = settings.rules.containers;
        let observed = Observed::new(containers, host.started());
        let history = History::new(observed.started());
        let listener = Arc::clone(&host);
        let hear = Box::new(move |event: &_, at| listener.hear(event, at));
        let outbox = Arc::new(Outbox::new(app, function, history, hear));
        let state = State {
            ledger: Ledger::new(settings.rules.clone()),
            buffers: BuffersByJob::of(settings.shape),
            seats: (0..containers).map(|_| Seat::default()).collect(),
            sleepers: Sleepers::default(),
            called: Called::default(),
            lent_ahead: None,
            steal_after: None,
            threads: 0,
            detached: BTreeMap::new(),
            abandoned: 0,
            exhaustion: Exhaustion::new(settings.memory.abandoned_max),
            overload: None,
            over: false,
            feeders: 0,
            leftovers: Leftovers::default(),
            readying: Readying::default(),
            place_wakers: PlaceWakers::new(),
            broken: None,
            breaks: false,
            sources: Vec::new(),
            unseen_ends: Vec::new(),
            spent: Vec::new(),
            reasons: Vec::new(),
            used_up: Vec::new(),
            unused_callers: Vec::new(),
            last_errors: LastErrors::default(),
            wakers: Wakers::default(),
            ticking: false,
            events: Vec::new(),
            delay_emitted: None,
            observed,
        };
        Self {
            settings,
            host,
            state: Mutex::new(state),
            work: (0..containers).map(|_| Signal::default()).collect(),
            changed: Signal::default(),
            supervisor: OnceLock::new(),
            late: AtomicU64::new(0),
            outbox,
        }
    }

    fn lock(&self) -> StateGuard<'_> {
        let _outside = ChargeGuard::process();
        StateGuard {
            dispatch: self,
            guard: Some(self.state.lock()),
            unwinding: std::thread::panicking(),
            _outside,
        }
    }

    /// Runs `work` under the lock. The deferred work is done after its release.
    pub(crate) fn under_lock<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.lock())
    }

    pub(crate) fn now(&self) -> Time {
        self.host.now()
    }

    /// Sets the receiver of notices, which is the supervisor. Called once.
    pub(crate) fn supervise(&self, tell: impl Fn(Notice) + Send + Sync + 'static) {
        let first = self.supervisor.set(Box::new(tell)).is_ok();
        assert!(first, "a function has one supervisor");
    }

    /// Notifies the supervisor. If the supervisor is gone, the notice is dropped: the function is then
    /// broken, and the waiting threads and tasks know it.
    pub(crate) fn notify(&self, notice: Notice) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor(notice);
        }
    }

    /// Marks the function broken. Every caller gets a typed error.
    pub(crate) fn break_down(&self, why: &str) {
        self.lock().break_down(why);
    }

    /// Wakes all waiting containers, threads and tasks, because the end of the function concerns them all.
    pub(super) fn wake_all(&self) {
        self.work.iter().for_each(Signal::notify_all);
        self.changed.notify_all();
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// Signals the containers that were called under the lock. Returns whether one of them may not look for
    /// work at once, because its thread is in user code. Another one is then to be called, if there is still
    /// work. It is asked after the signal, so that a container that is not seen to be busy cannot miss the
    /// signal.
    #[must_use]
    fn raise(&self, called: Called) -> bool {
        let mut is_busy = false;
        for container in called.into_each() {
            self.work[container.id.index()].notify_all();
            is_busy |= container.is_busy();
        }
        is_busy
    }

    /// Signals the containers that were called, and further ones as long as these may not look at once. The
    /// lock is not held.
    fn raise_all(&self, mut called: Called) {
        while self.raise(called) {
            let mut state = self.lock();
            state.call_another();
            called = state.called.take();
        }
    }

    /// Wakes a sleeping container, if there is one.
    pub(crate) fn wake_one(&self, state: &mut State) {
        self.wake_some(state, 1);
    }

    /// Wakes up to `containers` sleeping containers.
    fn wake_some(&self, state: &mut State, containers: u64) {
        let some = containers.min(state.sleepers.len() as u64);
        for _ in (0..some).map(steps::each) {
            let Some(id) = state.sleepers.pop() else { break };
            state.call(id);
        }
    }

    /// Wakes a sleeping container for an input that executes alone, if one waits, and one for the next
    /// suspect.
    fn wake_for_alone(&self, state: &mut State, now: Time) {
        if let Some(takers) = state.ledger.alone_ready() {
            self.wake_taker(state, takers, 0);
        }
        self.wake_for_suspect(state, now);
    }

    /// Wakes a sleeping container that may replay the next suspect, if the suspect may be replayed now.
    fn wake_for_suspect(&self, state: &mut State, now: Time) {
        if let Some(ready) = state.ledger.suspect_ready(now) {
            let takers = state.ledger.takers_of_suspect();
            self.wake_taker(state, takers, ready.proof);
        }
    }

    /// Wakes a sleeping container among `takers` that has outlived the crash `proof`.
    fn wake_taker(&self, state: &mut State, takers: Takers, proof: CrashNumber) {
        let sleepers = &mut state.sleepers;
        let id = match takers {
            Takers::All => sleepers.pop_proven(proof),
            Takers::EmptyFirst => sleepers.pop_empty(proof).or_else(|| sleepers.pop_proven(proof)),
            Takers::Empty => sleepers.pop_empty(proof),
        };
        if let Some(id) = id {
            state.call(id);
        }
    }

    /// Wakes a container whose generation is over, whether it waits for work or in the user's `enter` or
    /// `exit`.
    fn rouse(&self, state: &mut State, id: ContainerId, generation: Generation) {
        state.sleepers.has_woken(id, generation);
        self.work[id.index()].notify_all();
        self.changed.notify_task(tasks::key(id, generation));
    }

    /// The supervisor has done its work, so its end is no fault.
    pub(crate) fn over(&self) {
        self.lock().over = true;
        self.wake_all();
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }
}

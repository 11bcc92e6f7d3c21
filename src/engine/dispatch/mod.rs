//! The one lock of a function, and what is done under it.
//!
//! It joins the [`Ledger`] (who decides) with the buffers, runs and threads (what is decided
//! about). Containers claim, report and crash here; consumers wait here; the supervisor drains,
//! kills and gives up here. No user code runs under the lock, and users' values are dropped after
//! it. A panic under the lock is a fault of the engine: it marks the function broken, and everyone
//! who waits is told.

mod calls;
mod consumers;
mod containers;
mod deaths;
mod endings;
mod feeders;
mod memory;
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

use parking_lot::{Mutex, MutexGuard};

use crate::base::ids::{ContainerId, Generation};
use crate::base::signal::Signal;
use crate::base::sync;
use crate::code::context::Context;
use crate::code::token::Token;
use crate::contain::drops::{defer_drop, defer_in_order};
use crate::contain::unwind::{drop_contained, ignore_panic};
use crate::data::chunk::Chunk;
use crate::data::failure::{Bug, Reason};
use crate::data::run::Run;
use crate::decide::ledger::Ledger;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::sleepers::Sleepers;
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
use readiness::Readying;
use snapshot::{Observed, Undescribed};

pub(crate) use consumers::{ClosedJob, Found, JobPlan, Wait};
pub(crate) use containers::Work;
pub(crate) use feeders::FeederEnd;
pub(crate) use readiness::{Readiness, Wanted};

/// Everything under the lock.
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) buffers: BuffersByJob,
    /// The containers, in the order of their numbers.
    seats: Vec<Seat>,
    /// Containers that wait for work, and were not woken.
    sleepers: Sleepers,
    /// When a lease of several inputs was lent last.
    lent_ahead: Option<Time>,
    /// No container looks for a lease to steal from before this moment, because a look costs CPU time that
    /// working ones need.
    steal_after: Option<Time>,
    /// Threads of containers that have not ended, fenced ones included.
    pub(crate) threads: usize,
    /// Threads whose generation is over and that have not returned, by what they were.
    detached: BTreeMap<(ContainerId, Generation), Detached>,
    /// How many of those are in the user's code, nobody knows for how long.
    abandoned: usize,
    /// The supervisor has ended as it should.
    over: bool,
    /// Feeders that have not ended.
    pub(crate) feeders: usize,
    /// What the end has left over.
    leftovers: Leftovers,
    /// Tasks and threads that wait for the function to get ready, or to be idle.
    readying: Readying,
    pub(crate) broken: Option<Bug>,
    /// It has broken down, and those who sleep have not been woken since. Written where it breaks down, cleared where
    /// the lock is released.
    breaks: bool,
    /// Sources that are not pulled any more, to be dropped once the lock is released.
    sources: Vec<JobSource>,
    /// Ends of maps that their consumers will not see, likewise.
    unseen_ends: Vec<MapEnd>,
    /// Runs that are over, of which this may be the last holder, likewise.
    spent: Vec<Arc<Run>>,
    /// Reasons of failures, which may hold crashes, likewise.
    reasons: Vec<Reason>,
    /// Chunks that are used up, of which this may be the last holder, likewise.
    used_up: Vec<Arc<Chunk>>,
    /// Replaced callers, dropped once the lock is released: the drop may close a span, which runs a subscriber.
    unused_callers: Vec<Caller>,
    /// Consumers' wakers, which are the user's code: woken and dropped once the lock is released.
    wakers: Wakers,
    /// Whether the supervisor polls for outcomes now and then.
    ticking: bool,
    /// What is to be told once the lock is released, because subscribers are the user's code.
    events: Vec<QueuedEvent>,
    /// The end of the delay of a crash loop that was told of last.
    delay_emitted: Option<Time>,
    /// What snapshots show besides the ledger.
    observed: Observed,
}

/// What is known of a container beside the ledger.
#[derive(Default)]
struct Seat {
    /// What it executes; written by its claim, cleared by its next or by a fence.
    run: Option<Arc<Run>>,
    /// Who asked for that, or for what it has executed last: its job may have ended under it.
    caller: Caller,
    /// Whether the thread of its current generation may be in the user's function.
    at_work: bool,
    /// Whether the user's code waits in a task. Written by `enter` and `exit` where they begin and cease to wait, and when
    /// a run is fenced; read when the container is detached.
    suspended: bool,
    /// The token of the code of its last generation.
    token: Option<(Generation, Arc<Token>)>,
    /// The most memory that it used in generations before that.
    peak: u64,
    /// What became of it at the end.
    fate: Option<Fate>,
}

/// Accepted inputs that the end of the function kept from an outcome of their own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// They came back inside their errors.
    pub(crate) returned: u64,
    /// They ended with their map.
    pub(crate) dropped: u64,
    /// Whether the end has passed its limit.
    pub(crate) limit_passed: bool,
}

impl Leftovers {
    /// So many more, which come back or do not.
    fn add(&mut self, inputs: u64, come_back: bool) {
        *(if come_back { &mut self.returned } else { &mut self.dropped }) += inputs;
    }
}

/// A thread whose generation is over.
#[derive(Debug)]
struct Detached {
    returns: Returns,
    /// The time at which the generation was over.
    since: Time,
    /// `None` if its thread has no token yet.
    token: Option<Arc<Token>>,
}

impl Detached {
    /// The memory that it still uses.
    fn bytes(&self) -> u64 {
        self.token.as_ref().map_or(0, |token| memory::used(token))
    }
}

/// When a detached thread returns from the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    /// As soon as it sees that it is over: the code waited in a task.
    AtOnce,
    /// Nobody knows: the code executes.
    AsItLikes,
}

/// Wakers of consumers.
#[derive(Debug, Default)]
struct Wakers {
    /// There is something for them.
    woken: Vec<Waker>,
    /// Replaced by newer ones.
    unused: Vec<Waker>,
}

/// What is deferred until the lock is released: nothing of it may happen under the lock.
struct Deferred {
    sources: Vec<JobSource>,
    unseen_ends: Vec<MapEnd>,
    spent: Vec<Arc<Run>>,
    reasons: Vec<Reason>,
    used_up: Vec<Arc<Chunk>>,
    callers: Vec<Caller>,
    crashes: Vec<Arc<Crash>>,
    /// Events for which the outbox has no place.
    refused: Vec<QueuedEvent>,
    wakers: Wakers,
    /// Containers that were held back may be created.
    recovered: bool,
    /// The function has broken down.
    breaks: bool,
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
            && !self.observed.has_deferred();
        !nothing || self.breaks || self.ledger.has_news() || self.has_readied()
    }

    fn deferred(&mut self, outbox: &Outbox, now: Time) -> Deferred {
        self.wake_the_ready();
        self.emit_changes(now);
        let refused = outbox.add(std::mem::take(&mut self.events), now);
        let (remembers, undescribed) = self.observed.deferred(outbox);
        Deferred {
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
            breaks: std::mem::take(&mut self.breaks),
        }
    }
}

impl Dispatch {
    /// Drops users' values and tells subscribers, with the lock released.
    fn run_deferred(&self, deferred: Deferred) {
        if deferred.remembers {
            self.outbox.write_down();
        }
        if deferred.breaks {
            self.wake_all();
        }
        if deferred.recovered {
            self.notify(Notice::Recovered);
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
        // Of a run that is over this may be the last holder, and with it of its chunk.
        let last = |run: Arc<Run>| Arc::into_inner(run).and_then(|run| Arc::into_inner(run.chunk));
        let used_up = deferred.used_up.into_iter().filter_map(Arc::into_inner);
        let chunks: Vec<Chunk> = deferred.spent.into_iter().filter_map(last).chain(used_up).collect();
        drop(deferred.callers);
        drop((deferred.crashes, deferred.reasons)); // what is the user's in them goes elsewhere by itself
        if chunks.is_empty()
            || !self.settings.shape.runs_drops()
            || Context::is_container_of(self.settings.id)
        {
            drop(chunks); // there is nothing to drop, or this thread is one on which the user's code runs
        } else {
            defer_drop(self.settings.stack(), chunks);
        }
        // Whoever ends a job does not wait for the drops of what was never pulled.
        if deferred.sources.iter().any(JobSource::holds_values) || !deferred.unseen_ends.is_empty() {
            defer_drop(self.settings.stack(), (deferred.sources, deferred.unseen_ends));
        }
    }
}

impl Dispatch {
    /// Runs `then` on the thread that tells the events, once it has told all events so far. The returned handle runs it
    /// earlier, for a caller that stops waiting for subscribers.
    pub(crate) fn behind_events(&self, then: impl FnOnce() + Send + 'static) -> Arc<OnceAction> {
        let then = Arc::new(OnceAction::new(then));
        self.outbox.add_action(Arc::clone(&then), self.now());
        self.empty_outbox();
        then
    }

    /// Whether this thread must not wait for a subscriber.
    fn delivers_elsewhere(&self) -> bool {
        self.host.must_not_wait() && !self.outbox.is_unheard()
    }

    /// Has what waits in the outbox told: here, or on another thread where this one must not wait for a subscriber.
    fn empty_outbox(&self) {
        if !self.outbox.is_waiting() {
            return;
        }
        // Events that were added meanwhile are left to another thread, because this one may have inputs to execute.
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
    /// Signals each container: work, or the end of it.
    work: Vec<Signal>,
    /// Signals whoever waits for the function to get ready or to end.
    pub(crate) changed: Signal,
    /// Told of crashes and endings. Set once, before the first container.
    supervisor: OnceLock<Box<dyn Fn(Notice) + Send + Sync>>,
    /// Answers of fenced attempts, refused.
    late: AtomicU64,
    /// Events on their way to subscribers.
    pub(crate) outbox: Arc<Outbox>,
}

/// The lock, held. A panic meanwhile breaks the function; trash is dropped after the release.
struct StateGuard<'a> {
    dispatch: &'a Dispatch,
    guard: Option<MutexGuard<'a, State>>,
    /// Whether the thread was panicking already, by a fault that is not ours.
    unwinding: bool,
    /// What the engine allocates is nobody's, whoever it does that for.
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
    /// If any pending work must not run under the lock, releases the lock, does that work and takes the lock again. Returns
    /// whether it did: the state may then have changed, so callers look again.
    fn flush(&mut self) -> bool {
        if !self.has_deferred() {
            return false;
        }
        let now = self.dispatch.now();
        let state = self.guard.as_mut().expect("held until dropped");
        self.dispatch.notify_if_idle(state);
        let deferred = state.deferred(&self.dispatch.outbox, now);
        drop(self.guard.take());
        self.dispatch.run_deferred(deferred);
        self.guard = Some(self.dispatch.state.lock());
        true
    }

    /// Waits for a signal, or returns at once if the lock had to be released on the way: callers
    /// look again in either case. Whether that was before the moment given.
    fn wait(&mut self, signal: &Signal, until: Option<Instant>) -> bool {
        if self.flush() {
            return true;
        }
        let guard = self.guard.as_mut().expect("held until dropped");
        signal.wait(guard, until)
    }

    /// Releases the lock, and leaves the rest to the caller.
    fn release(mut self) -> Deferred {
        let mut state = self.guard.take().expect("held until dropped");
        self.dispatch.notify_if_idle(&mut state);
        state.deferred(&self.dispatch.outbox, self.dispatch.now())
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.guard.take() else { return };
        if std::thread::panicking() && !self.unwinding {
            state.break_down("a thread panicked while it held the function's lock");
        }
        if !state.has_deferred() {
            return;
        }
        self.dispatch.notify_if_idle(&mut state);
        let deferred = state.deferred(&self.dispatch.outbox, self.dispatch.now());
        drop(state);
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
            lent_ahead: None,
            steal_after: None,
            threads: 0,
            detached: BTreeMap::new(),
            abandoned: 0,
            over: false,
            feeders: 0,
            leftovers: Leftovers::default(),
            readying: Readying::default(),
            broken: None,
            breaks: false,
            sources: Vec::new(),
            unseen_ends: Vec::new(),
            spent: Vec::new(),
            reasons: Vec::new(),
            used_up: Vec::new(),
            unused_callers: Vec::new(),
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

    /// Looks at the state, or changes it, under the lock. What follows is done behind its release.
    pub(crate) fn under_lock<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.lock())
    }

    pub(crate) fn now(&self) -> Time {
        self.host.now()
    }

    /// Who is told of crashes and endings from now on: the supervisor, once.
    pub(crate) fn supervise(&self, tell: impl Fn(Notice) + Send + Sync + 'static) {
        let first = self.supervisor.set(Box::new(tell)).is_ok();
        assert!(first, "a function has one supervisor");
    }

    /// Tells the supervisor. It may be gone; then the function is broken, and waiters know.
    pub(crate) fn notify(&self, notice: Notice) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor(notice);
        }
    }

    /// Marks the function broken: every caller fails with a typed error.
    pub(crate) fn break_down(&self, why: &str) {
        self.lock().break_down(why);
    }

    /// Wakes everyone, because the end of the function concerns everyone.
    pub(crate) fn wake_all(&self) {
        self.work.iter().for_each(Signal::notify_all);
        self.changed.notify_all();
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes a sleeping container, if there is one.
    pub(crate) fn wake_one(&self, state: &mut State) {
        self.wake_some(state, 1);
    }

    /// Wakes up to that many sleeping containers.
    fn wake_some(&self, state: &mut State, containers: u64) {
        let some = containers.min(state.sleepers.len() as u64);
        for id in (0..some).map(steps::each).filter_map(|_| state.sleepers.pop()) {
            self.work[id.index()].notify_all();
        }
    }

    /// Wakes a sleeping container that may replay the next suspect, if one may be replayed now.
    fn wake_for_suspect(&self, state: &mut State, now: Time) {
        if let Some(ready) = state.ledger.suspect_ready(now)
            && let Some(id) = state.sleepers.pop_proven(ready.proof)
        {
            self.work[id.index()].notify_all();
        }
    }

    /// Wakes a container whose generation is over, wherever it waits.
    fn rouse(&self, state: &mut State, id: ContainerId, generation: Generation) {
        state.sleepers.has_woken(id, generation);
        self.work[id.index()].notify_all();
        self.changed.notify_task(tasks::key(id, generation));
    }

    /// The supervisor has done its work; its end is no fault.
    pub(crate) fn over(&self) {
        self.lock().over = true;
        self.wake_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }
}

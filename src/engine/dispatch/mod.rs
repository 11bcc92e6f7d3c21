//! The one lock of a function, and the work that is done under it.
//!
//! The lock joins the [`Ledger`], which decides, with the buffers, runs and threads that its decisions are
//! about. Containers claim inputs, report failures and crash under it, consumers wait with it, and the
//! supervisor uses it to drain, kill and give up. No user code runs under the lock, and users' values are
//! dropped after its release. A panic under the lock is a fault of the engine. It marks the function broken,
//! and every waiting thread and task gets an error.
//!
//! | files | hold |
//! |---|---|
//! | [`guard`], [`deferred`] | the lock while it is held, and the work after its release |
//! | [`sleepers`], [`waking`] | the containers without work, and which of them an event wakes |
//! | [`seats`], [`detached`], [`leftovers`], [`last_errors`] | state that is not in the ledger |
//! | [`containers`], [`batches`], [`stealing`], [`tasks`] | containers: they enter, take work, return it and leave |
//! | [`consumers`], [`calls`], [`places`], [`feeders`] | those who open jobs, take outcomes and bring inputs |
//! | [`deaths`], [`endings`], [`memory`], [`limits`], [`hangs`] | deaths, and the ends of inputs and jobs |
//! | [`supervision`], [`pausing`], [`readiness`], [`overload`], [`snapshot`] | operators and the supervisor |

mod batches;
mod calls;
mod consumers;
mod containers;
mod deaths;
mod deferred;
mod detached;
mod endings;
mod feeders;
mod guard;
mod hangs;
mod last_errors;
mod leftovers;
mod limits;
mod memory;
mod overload;
mod pausing;
mod places;
mod readiness;
mod seats;
mod sleepers;
mod snapshot;
mod stealing;
mod supervision;
mod tasks;
#[cfg(test)]
mod tests;
mod waking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::{ContainerId, Generation};
use crate::base::signal::Signal;
use crate::base::sync::{self, Mutex};
use crate::data::chunk::Chunk;
use crate::data::failure::{Bug, Reason};
use crate::data::run::Run;
use crate::decide::ledger::Ledger;
use crate::decide::storm::Storm;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::sleepers::{Called, Sleepers};
use crate::engine::history::History;
use crate::engine::host::Host;
use crate::engine::job_buffers::BuffersByJob;
use crate::engine::map_buffers::JobSource;
use crate::engine::map_end::MapEnd;
use crate::engine::messages::Notice;
use crate::engine::outbox::{Outbox, QueuedEvent};
use crate::engine::settings::Settings;
use deferred::Wakers;
use detached::Detached;
use guard::StateGuard;
use hangs::Exhaustion;
use last_errors::LastErrors;
use leftovers::Leftovers;
use places::PlaceWakers;
use readiness::Readying;
use seats::Seat;
use snapshot::Observed;

pub(crate) use consumers::{ClosedJob, Found, JobPlan, Wait};
pub(crate) use containers::Work;
pub(crate) use feeders::FeederEnd;
pub(crate) use places::{ReservedPlace, Reserving};
pub(crate) use readiness::{Readiness, Wanted};
pub(crate) use tasks::WorkSeeker;

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
    /// Whether a sleeping container has outlived a further crash, and no suspect was looked for since.
    sleeper_proved: bool,
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
            sleeper_proved: false,
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

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
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

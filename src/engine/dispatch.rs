//! The one lock of a function, and what is done under it.
//!
//! It joins the [`Ledger`] (who decides) with the lanes, runs and threads (what is decided
//! about). Containers claim, report and crash here; consumers wait here; the supervisor drains,
//! kills and gives up here. No user code runs under the lock, and users' values are dropped after
//! it. A panic under the lock is a fault of the engine: it marks the function broken, and everyone
//! who waits is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::Recipient;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::crash::{Crash, Death, Panic, Previous};
use crate::decide::ids::{ContainerId, Generation, InputId, JobId};
use crate::decide::job::{JobKind, OnFailure, Span};
use crate::decide::ledger::{
    AfterCrash, AfterFailure, Claim, Lease, Ledger, Mode, Position, Sources, Stage, Unrun, Worth,
};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::chunk::{Chunk, Reclaimed};
use crate::engine::clock::Clock;
use crate::engine::lane::{ChunkOf, Finished, Gate, Lane, Lanes, Order, Outcome, Pool, Supply};
use crate::engine::messages::Notice;
use crate::engine::run::{Run, Step};
use crate::engine::unwind::drop_contained;
use crate::error::NotReady;
use crate::failure::{Bug, Cause, Failure};
use crate::progress::Progress;
use crate::report::{Fate, FunctionReport};
use crate::settings::Settings;
use crate::status::{Containers, CrashLoopStatus, Status};

/// A run of one function.
pub(crate) type RunOf<I, O, E> = Run<I, Outcome<I, O, E>>;

/// The longest time a waiting consumer sleeps without looking, because a run tells of its outcomes
/// at its end only, and inputs can turn dear in the middle of one.
const LOOK_MAX: Duration = Duration::from_millis(16);

/// Everything under the lock.
pub(crate) struct State<I, O, E> {
    pub(crate) ledger: Ledger,
    pub(crate) lanes: Lanes<I, O, E>,
    /// What each container executes; written by its claim, cleared by its next or by a fence.
    runs: Vec<Option<Arc<RunOf<I, O, E>>>>,
    /// Containers waiting for work.
    hungry: usize,
    /// Threads of containers that have not ended, fenced ones included.
    pub(crate) threads: usize,
    /// Threads whose generation is over and that have not returned, by what they were. Bounded by kills.
    forsaken: BTreeSet<(ContainerId, Generation)>,
    /// The supervisor has ended as it should.
    over: bool,
    /// Feeders that have not ended.
    pub(crate) feeders: usize,
    /// What became of each container at the end.
    pub(crate) fates: Vec<Option<Fate>>,
    pub(crate) broken: Option<Bug>,
    /// Users' values to be dropped once the lock is released.
    trash: Vec<Supply<I>>,
}

/// A function's lock, its signals and its settings.
pub(crate) struct Dispatch<I, O, E> {
    pub(crate) settings: Settings<I, O, E>,
    pub(crate) clock: Clock,
    state: Mutex<State<I, O, E>>,
    /// Signals containers: work, or the end of it.
    work: Condvar,
    /// Signals whoever waits for the function to get ready or to end.
    pub(crate) changed: Condvar,
    /// Whether a container waits for work; written under the lock, read by feeders.
    starving: AtomicBool,
    /// Told of crashes and endings. Set once, before the first container.
    pub(crate) supervisor: OnceLock<Recipient<Notice>>,
    /// Answers of fenced attempts, refused.
    late: AtomicU64,
}

/// The lock, held. A panic meanwhile breaks the function; trash is dropped after the release.
pub(crate) struct Held<'a, I, O, E> {
    dispatch: &'a Dispatch<I, O, E>,
    guard: Option<MutexGuard<'a, State<I, O, E>>>,
}

impl<I, O, E> std::ops::Deref for Held<'_, I, O, E> {
    type Target = State<I, O, E>;

    fn deref(&self) -> &Self::Target {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl<I, O, E> std::ops::DerefMut for Held<'_, I, O, E> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.guard.as_mut().expect("held until dropped")
    }
}

impl<I, O, E> Held<'_, I, O, E> {
    fn wait(&mut self, signal: &Condvar, until: Option<Instant>) {
        let guard = self.guard.as_mut().expect("held until dropped");
        match until {
            None => signal.wait(guard),
            Some(until) => drop(signal.wait_until(guard, until)),
        }
    }
}

impl<I, O, E> Drop for Held<'_, I, O, E> {
    fn drop(&mut self) {
        let Some(mut state) = self.guard.take() else { return };
        if std::thread::panicking() {
            state.break_down("a thread panicked while it held the function's lock");
            self.dispatch.work.notify_all();
            self.dispatch.changed.notify_all();
        }
        let trash = std::mem::take(&mut state.trash);
        drop(state);
        drop(trash);
    }
}

/// What a container is to do.
pub(crate) enum Next<I, O, E> {
    Work { run: Arc<RunOf<I, O, E>>, lease: Lease, previous: Option<Previous> },
    Leave,
    Stale,
}

/// How a map is to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kind: JobKind,
    pub(crate) order: Order,
    pub(crate) on_failure: OnFailure,
    pub(crate) window: Window,
}

/// What a consumer finds.
pub(crate) enum Found<I, O, E> {
    /// The chunk in which the next outcome in order is.
    Chunk(Arc<ChunkOf<I, O, E>>),
    /// Outcomes in completion order.
    Ready(Finished<I, O, E>),
    /// Nothing more, after that error if there is one.
    End(Option<Failure<I, E>>),
}

impl<I, O, E> State<I, O, E> {
    /// Books what a container has completed, and tells the consumer.
    fn book(&mut self, id: ContainerId, now: Time) {
        let Some(run) = &self.runs[id.index()] else { return };
        let upto = run.position().at;
        if let Some((job, span)) = self.ledger.advanced(id, upto, now)
            && let Some(lane) = self.lanes.0.get_mut(&job)
        {
            lane.finished(span);
        }
    }

    /// Books what all containers have completed, so that a verdict is exact.
    fn book_all(&mut self, now: Time) {
        for id in self.ledger.containers() {
            self.book(id, now);
        }
    }

    /// Ends a container's run from outside. The input that executes may be read on.
    fn fence(&mut self, id: ContainerId, now: Time) -> Option<Position> {
        let run = Arc::clone(self.runs[id.index()].as_ref()?);
        let position = run.fence();
        if position.begun {
            run.chunk.share((position.at - run.chunk.first()) as usize);
        }
        self.book(id, now);
        self.runs[id.index()] = None;
        Some(position)
    }

    /// Publishes the failure of an input that nothing executes any more.
    fn publish_failure(&mut self, job: JobId, index: u64, attempts: u32, cause: Cause<E>) {
        let Some(lane) = self.lanes.0.get_mut(&job) else { return };
        let chunk = Arc::clone(lane.chunk(index).expect("an input without outcome is in its chunk"));
        let place = (index - chunk.first()) as usize;
        let input = reclaim(&chunk, place);
        chunk.publish(place, Err(Failure::of_input(index, input, attempts, cause)));
        lane.finished(Span { first: index, len: 1 });
    }

    /// An input failed for good: its outcome, or the end of its map.
    fn fail(&mut self, input: InputId, attempts: u32, cause: Cause<E>, ends_map: bool, now: Time) {
        if !ends_map {
            return self.publish_failure(input.job, input.index, attempts, cause);
        }
        let Some(lane) = self.lanes.0.get_mut(&input.job) else { return };
        let chunk = lane.chunk(input.index).expect("an input without outcome is in its chunk");
        let given = reclaim(chunk, (input.index - chunk.first()) as usize);
        let failure = Failure::of_input(input.index, given, attempts, cause);
        self.end_job(input.job, Unrun::Cancelled, None, Some(failure), now);
    }

    /// Ends a job: fences its runs, gives each pending input `cause` as its outcome (or none), and
    /// leaves `error` to be yielded behind what there is.
    pub(crate) fn end_job(
        &mut self,
        job: JobId,
        how: Unrun,
        cause: Option<&dyn Fn() -> Cause<E>>,
        error: Option<Failure<I, E>>,
        now: Time,
    ) {
        for id in self.ledger.containers() {
            if self.ledger.lease(id).is_some_and(|lease| lease.job == job) {
                self.fence(id, now);
                self.ledger.released(id, now);
            }
        }
        self.absorb(job);
        let pending = self.ledger.take_pending(job);
        let mut ended = 0;
        for span in pending {
            ended += span.len;
            for index in span.indices() {
                if let Some(cause) = cause {
                    let attempts = self.ledger.job(job).map_or(0, |job| job.attempt(index).get() - 1);
                    self.publish_failure(job, index, attempts, cause());
                }
            }
        }
        self.ledger.ended(job, how, ended);
        if let Some(lane) = self.lanes.0.get_mut(&job) {
            lane.gaps |= cause.is_none();
            lane.end = lane.end.take().or(error);
            lane.source_over = true;
            let supply = std::mem::replace(&mut lane.supply, Supply::Dry);
            lane.space.notify_all();
            lane.wake();
            self.trash.push(supply);
        }
    }

    /// Takes what a feeder has pulled into the books.
    fn absorb(&mut self, job: JobId) {
        let Some(known) = self.ledger.job(job) else { return };
        let first = known.counts.pulled;
        let Some(lane) = self.lanes.0.get(&job) else { return };
        if matches!(lane.supply, Supply::Fed(_)) {
            lane.close_pool();
            let pulled = self.lanes.pull(job, first, u64::MAX);
            self.ledger.accept(job, pulled);
        }
    }

    /// Ends every job with `cause`: outcome by outcome where the map goes on after failures.
    fn end_all(&mut self, how: Unrun, cause: &dyn Fn() -> Cause<E>, now: Time) {
        for job in self.ledger.job_ids() {
            let Some(known) = self.ledger.job(job) else { continue };
            let over = self.lanes.0.get(&job).is_none_or(|lane| lane.source_over);
            let pool = self
                .lanes
                .0
                .get(&job)
                .is_some_and(|lane| matches!(&lane.supply, Supply::Fed(pool) if pool.len() > 0));
            if over && !pool && known.counts.pending() == 0 {
                continue;
            }
            let single = known.kind == JobKind::Call;
            let publish = known.on_failure == OnFailure::GoOn;
            let error = (!single).then(|| Failure::of_map(cause()));
            self.end_job(job, how, publish.then_some(cause), error, now);
        }
    }

    fn break_down(&mut self, why: &str) {
        if self.broken.is_none() {
            self.broken = Some(Bug(why.into()));
        }
        for lane in self.lanes.0.values() {
            lane.arrived.notify_all();
            lane.space.notify_all();
        }
    }

    /// Sets each lane's window anew from what its inputs cost.
    fn refresh_window(&self, job: JobId) {
        if let Some(lane) = self.lanes.0.get(&job) {
            lane.gate.window.store(self.ledger.window(job), Ordering::SeqCst);
        }
    }
}

/// The input of a failure. Callers hold the lock, and no attempt at it is in the books.
#[expect(unsafe_code, reason = "moves an input out of its chunk")]
fn reclaim<I, T>(chunk: &Chunk<I, T>, place: usize) -> Reclaimed<I> {
    // SAFETY: the input's outcome is being decided under the lock, once. Its last attempt has
    // returned or unwound, never began, or was fenced, and then it is marked as shared.
    unsafe { chunk.reclaim(place) }
}

impl<I: Send + Sync + 'static, O: Send + 'static, E: Send + 'static> Dispatch<I, O, E> {
    pub(crate) fn new(settings: Settings<I, O, E>) -> Self {
        let containers = settings.rules.containers;
        let state = State {
            ledger: Ledger::new(settings.rules.clone()),
            lanes: Lanes(BTreeMap::new()),
            runs: (0..containers).map(|_| None).collect(),
            hungry: 0,
            threads: 0,
            forsaken: BTreeSet::new(),
            over: false,
            feeders: 0,
            fates: vec![None; containers],
            broken: None,
            trash: Vec::new(),
        };
        Self {
            settings,
            clock: Clock::start(),
            state: Mutex::new(state),
            work: Condvar::new(),
            changed: Condvar::new(),
            starving: AtomicBool::new(false),
            supervisor: OnceLock::new(),
            late: AtomicU64::new(0),
        }
    }

    pub(crate) fn hold(&self) -> Held<'_, I, O, E> {
        Held { dispatch: self, guard: Some(self.state.lock()) }
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Tells the supervisor. It may be gone; then the function is broken, and waiters know.
    pub(crate) fn tell(&self, notice: Notice) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.do_send(notice);
        }
    }

    /// Marks the function broken: every caller fails with a typed error.
    pub(crate) fn break_down(&self, why: &str) {
        self.hold().break_down(why);
        self.work.notify_all();
        self.changed.notify_all();
    }

    pub(crate) fn wake_all(&self) {
        self.work.notify_all();
        self.changed.notify_all();
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    // ---- containers ----

    /// Gives a container its next lease, waiting for one.
    pub(crate) fn next(&self, id: ContainerId, generation: Generation) -> Next<I, O, E> {
        let mut state = self.hold();
        loop {
            if state.broken.is_some() {
                return Next::Stale;
            }
            let now = self.now();
            let held = &mut *state;
            if held.ledger.is_current(id, generation) && held.runs[id.index()].is_some() {
                let job = held.ledger.lease(id).map(|lease| lease.job);
                held.book(id, now);
                held.ledger.released(id, now);
                held.runs[id.index()] = None;
                if let Some(job) = job {
                    held.refresh_window(job);
                }
                self.wake_if_drained(held);
            }
            let mut claim = held.ledger.claim(id, generation, now, &mut held.lanes);
            if matches!(claim, Claim::Idle { .. }) {
                // The consumer may have made room between the claim and the flag: look once more.
                held.lanes.0.values().for_each(|lane| lane.gate.starved.store(true, Ordering::SeqCst));
                self.starving.store(true, Ordering::SeqCst);
                claim = held.ledger.claim(id, generation, now, &mut held.lanes);
            }
            match claim {
                Claim::Take(lease) => return self.lend(held, id, lease),
                Claim::Leave | Claim::Stale => {
                    self.work.notify_one(); // what woke this container may have been meant for another
                    return if claim == Claim::Leave { Next::Leave } else { Next::Stale };
                }
                Claim::Idle { until } => {
                    state.hungry += 1;
                    state.wait(&self.work, until.map(|until| self.clock.instant(until)));
                    state.hungry -= 1;
                    self.starving.store(state.hungry > 0, Ordering::SeqCst);
                }
            }
        }
    }

    fn lend(&self, state: &mut State<I, O, E>, id: ContainerId, lease: Lease) -> Next<I, O, E> {
        let lane = &state.lanes.0[&lease.job];
        let chunk = lane.chunk(lease.span.first).expect("a leased input is in its chunk");
        let from = lease.span.first - chunk.first();
        let run = Arc::new(Run::new(Arc::clone(chunk), from, from + lease.span.len));
        state.runs[id.index()] = Some(Arc::clone(&run));
        let input = InputId { job: lease.job, index: lease.span.first };
        let previous = if lease.attempt.get() > 1 { state.ledger.previous(input) } else { None };
        state.refresh_window(lease.job);
        Next::Work { run, lease, previous }
    }

    /// The executing input returned `Err`. Returns whether the run goes on.
    pub(crate) fn failed(
        &self,
        id: ContainerId,
        run: &RunOf<I, O, E>,
        place: usize,
        error: E,
        worth: Worth,
    ) -> bool {
        let mut refused = None;
        let mut goes_on = false;
        {
            let mut state = self.hold();
            let now = self.now();
            if run.is_fenced() {
                self.count_late();
                refused = Some(error);
            } else {
                let lease = state.ledger.lease(id).expect("a run that is not fenced has its lease");
                state.book(id, now);
                let index = run.chunk.first() + place as u64;
                match state.ledger.failed(id, worth, now) {
                    AfterFailure::RetryAt(_) => {
                        refused = Some(error);
                        goes_on = run.step(place) == Step::Next;
                        self.work.notify_one();
                    }
                    AfterFailure::Final { attempts, ends_map } => {
                        goes_on = run.step(place) == Step::Next && !ends_map;
                        let input = InputId { job: lease.job, index };
                        state.fail(input, attempts.get(), Cause::Failed(error), ends_map, now);
                        self.wake_if_drained(&mut state);
                    }
                }
            }
        }
        drop_contained(refused);
        goes_on
    }

    /// A container crashed. `None` if its generation was over already.
    pub(crate) fn crashed(&self, id: ContainerId, generation: Generation, death: Death) -> Option<Restart> {
        let mut state = self.hold();
        let now = self.now();
        if !state.ledger.is_current(id, generation) {
            return None;
        }
        state.book_all(now);
        let run = state.runs[id.index()].take();
        let position = run.as_ref().map(|run| run.position());
        if let Some(run) = &run {
            run.fence();
        }
        let lease = state.ledger.lease(id);
        let executing = position.filter(|position| position.begun).zip(lease).map(|(position, lease)| {
            let attempt = state.ledger.job(lease.job).map_or(lease.attempt, |job| job.attempt(position.at));
            (position.at, attempt)
        });
        let crash = Arc::new(Crash { container: id, generation, executing, death });
        self.settings.speak_of(&crash);
        let verdict = state.ledger.crashed(id, generation, position, &crash, now)?;
        if let Some(after) = verdict.input {
            self.after_crash(&mut state, after, now);
        }
        self.sweep(&mut state, now);
        self.wake_all();
        drop(state);
        self.tell(Notice::Crashed { crash, restart: verdict.restart });
        Some(verdict.restart)
    }

    fn after_crash(&self, state: &mut State<I, O, E>, after: AfterCrash, now: Time) {
        match after {
            AfterCrash::Pending => {}
            AfterCrash::Poisoned { input, attempts, deaths, ends_map } => {
                self.settings.speak_of_poison(input.index, attempts);
                state.fail(input, attempts.get(), Cause::Poisoned(deaths), ends_map, now);
            }
            AfterCrash::Lost { input, attempts, crash, ends_map } => {
                state.fail(input, attempts.get(), Cause::Lost(crash), ends_map, now);
            }
        }
    }

    /// While stopping, what is not executing does not begin any more.
    fn sweep(&self, state: &mut State<I, O, E>, now: Time) {
        if state.ledger.mode() != Mode::Stopping {
            return;
        }
        for id in state.ledger.containers() {
            if let Some(run) = state.runs[id.index()].clone() {
                let end = run.truncate();
                state.book(id, now);
                state.ledger.truncated(id, end);
            }
        }
        for job in state.ledger.job_ids() {
            state.absorb(job);
            let publish = state.ledger.job(job).is_some_and(|job| job.on_failure == OnFailure::GoOn);
            let kind = state.ledger.job(job).map(|job| job.kind);
            let mut ended = 0;
            for span in state.ledger.take_pending(job) {
                ended += span.len;
                for index in span.indices().filter(|_| publish) {
                    let attempts = state.ledger.job(job).map_or(0, |job| job.attempt(index).get() - 1);
                    state.publish_failure(job, index, attempts, Cause::ShutDown);
                }
            }
            state.ledger.ended(job, Unrun::Cancelled, ended);
            if let Some(lane) = state.lanes.0.get_mut(&job) {
                let over = lane.source_over && ended == 0;
                if kind == Some(JobKind::Map) && !over && lane.end.is_none() {
                    lane.end = Some(Failure::of_map(Cause::ShutDown));
                }
                lane.gaps |= !publish && ended > 0;
                lane.source_over = true;
                let supply = std::mem::replace(&mut lane.supply, Supply::Dry);
                lane.space.notify_all();
                lane.wake();
                state.trash.push(supply);
            }
        }
    }

    /// While draining, containers leave once nothing is pending.
    fn wake_if_drained(&self, state: &mut State<I, O, E>) {
        if state.ledger.mode() > Mode::Running {
            self.work.notify_all();
        }
    }

    /// The thread that crashed restarts its container at once, if that is allowed.
    pub(crate) fn begin_now(&self, id: ContainerId) -> Option<Generation> {
        self.begin(id)
    }

    /// The container's `enter` ended well. `false` if its generation is over or it is to leave.
    pub(crate) fn entered(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.hold();
        let now = self.now();
        let entered = state.ledger.entered(id, generation, now);
        self.changed.notify_all();
        entered
    }

    /// The container has exited.
    pub(crate) fn left(&self, id: ContainerId, generation: Generation) {
        self.hold().ledger.left(id, generation);
    }

    /// A thread has ended. Returns the fate to be recorded, unless a newer generation lives on.
    pub(crate) fn ended(&self, id: ContainerId, generation: Generation, fate: Option<Fate>) -> Option<Fate> {
        let mut state = self.hold();
        state.threads -= 1;
        let abandoned = state.forsaken.remove(&(id, generation));
        let (current, stage) = state.ledger.stage(id);
        if current == generation && stage != Stage::Absent && state.broken.is_some() {
            state.ledger.left(id, generation);
        }
        self.changed.notify_all();
        fate.filter(|_| !abandoned)
    }

    /// The `exit` of a container has taken too long. `false` if it has ended meanwhile.
    pub(crate) fn abandon_exit(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.hold();
        let (current, stage) = state.ledger.stage(id);
        if current != generation || stage != Stage::Live {
            return false;
        }
        state.ledger.left(id, generation);
        state.forsaken.insert((id, generation));
        true
    }

    // ---- supervisor ----

    /// A new generation of a container, if one may be created now.
    pub(crate) fn begin(&self, id: ContainerId) -> Option<Generation> {
        let mut state = self.hold();
        let now = self.now();
        let generation = state.ledger.begin(id, now);
        self.changed.notify_all();
        generation
    }

    /// In how long a container that is backing off may be created.
    pub(crate) fn next_creation(&self) -> Option<Duration> {
        let state = self.hold();
        let now = self.now();
        state.ledger.next_creation().map(|until| until.since(now))
    }

    /// What became of a container; the last word stays.
    pub(crate) fn record(&self, id: ContainerId, fate: Option<Fate>) {
        if fate.is_some() {
            self.hold().fates[id.index()] = fate;
        }
    }

    /// Forgets crashes and takes work again. Returns whether the function had given up.
    pub(crate) fn reset(&self) -> bool {
        let mut state = self.hold();
        let given_up = state.ledger.reset();
        self.wake_all();
        given_up
    }

    /// Whether the function is ending and no container lives or will live.
    pub(crate) fn has_ended(&self) -> bool {
        let state = self.hold();
        let ended = state.ledger.containers().all(|id| match state.ledger.stage(id).1 {
            Stage::Absent => true,
            // A container that backs off is awaited only while there is work for it.
            Stage::BackingOff { .. } => state.ledger.nothing_pending(),
            Stage::Starting | Stage::Live => false,
        });
        let work_left = state.ledger.mode() == Mode::Draining && !state.ledger.nothing_pending();
        ended && !work_left && state.threads == state.forsaken.len()
    }

    /// What became of the containers, and what still runs.
    pub(crate) fn report(&self) -> FunctionReport {
        let state = self.hold();
        let fate = |id: ContainerId| {
            let running = matches!(state.ledger.stage(id).1, Stage::Starting | Stage::Live);
            let busy = state.forsaken.iter().any(|(forsaken, _)| *forsaken == id);
            match &state.fates[id.index()] {
                Some(fate) => fate.clone(),
                None if running || busy => Fate::StillRunning,
                None => Fate::Stopped,
            }
        };
        FunctionReport {
            function: self.settings.function.to_string(),
            containers: state.ledger.containers().map(|id| (id, fate(id))).collect(),
            threads_running: state.threads + state.feeders,
        }
    }

    /// The supervisor has done its work; its end is no fault.
    pub(crate) fn over(&self) {
        self.hold().over = true;
        self.wake_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.hold().over
    }

    /// A snapshot.
    pub(crate) fn status(&self) -> Status {
        let mut state = self.hold();
        let now = self.now();
        state.book_all(now);
        let mut containers = Containers { abandoned: state.forsaken.len(), ..Containers::default() };
        for id in state.ledger.containers() {
            match state.ledger.stage(id).1 {
                Stage::Absent => containers.stopped += 1,
                Stage::Starting => containers.starting += 1,
                Stage::Live => containers.live += 1,
                Stage::BackingOff { .. } => containers.backing_off += 1,
            }
        }
        let held = state.ledger.held_until(now);
        let crash_loop = state.ledger.crash_loop(now).map(|(crashes, since)| CrashLoopStatus {
            crashes,
            since: now.since(since),
            next_restart: held.map(|until| until.since(now)),
        });
        let counts = state.ledger.crash_counts();
        Status {
            containers,
            crash_loop,
            last_crash: state.ledger.last_crash().map(|(at, crash)| (now.since(at), crash)),
            gave_up: state.ledger.gave_up().cloned(),
            inputs_waiting: state.ledger.inputs_waiting(),
            crashes: counts.crashes,
            restarts: counts.restarts,
            late_answers: self.late(),
            feeders: state.feeders,
        }
    }

    /// Waits for the first live container.
    pub(crate) fn await_ready(&self) -> Result<(), NotReady> {
        let mut state = self.hold();
        loop {
            if let Some(bug) = &state.broken {
                return Err(NotReady::Engine(bug.clone()));
            }
            if let Some(crash) = state.ledger.gave_up() {
                return Err(NotReady::GaveUp(Arc::clone(crash)));
            }
            if state.ledger.mode() != Mode::Running {
                return Err(NotReady::ShutDown);
            }
            if state.ledger.containers().any(|id| state.ledger.stage(id).1 == Stage::Live) {
                return Ok(());
            }
            state.wait(&self.changed, None);
        }
    }

    /// Begins to drain: no source is pulled any more.
    pub(crate) fn drain(&self) {
        let mut state = self.hold();
        state.ledger.advance_mode(Mode::Draining);
        for job in state.ledger.job_ids() {
            state.absorb(job);
        }
        for lane in state.lanes.0.values_mut() {
            if !lane.source_over {
                lane.source_over = true;
                lane.end = lane.end.take().or_else(|| Some(Failure::of_map(Cause::ShutDown)));
            }
            lane.space.notify_all();
            lane.wake();
        }
        self.wake_all();
    }

    /// Only what executes finishes.
    pub(crate) fn stop(&self) {
        let mut state = self.hold();
        let now = self.now();
        if state.ledger.mode() == Mode::Aborted {
            return;
        }
        state.ledger.advance_mode(Mode::Stopping);
        self.sweep(&mut state, now);
        self.wake_all();
    }

    /// Nothing waits.
    pub(crate) fn abort(&self) {
        let mut state = self.hold();
        let now = self.now();
        state.ledger.advance_mode(Mode::Aborted);
        state.end_all(Unrun::Cancelled, &|| Cause::ShutDown, now);
        for id in state.ledger.containers() {
            state.fence(id, now);
        }
        self.wake_all();
    }

    /// Fails every pending input with the crash that broke the limit.
    pub(crate) fn give_up(&self) {
        let mut state = self.hold();
        let now = self.now();
        let Some(crash) = state.ledger.gave_up().cloned() else { return };
        state.end_all(Unrun::GivenUp, &|| Cause::GaveUp(Arc::clone(&crash)), now);
        self.wake_all();
    }

    /// Kills a container by hand. Returns the generation that ended, if it lived.
    pub(crate) fn kill(&self, id: ContainerId) -> Option<Generation> {
        let mut state = self.hold();
        let now = self.now();
        let (generation, stage) = state.ledger.stage(id);
        if !matches!(stage, Stage::Live | Stage::Starting) {
            return None;
        }
        let position = state.fence(id, now);
        let lease = state.ledger.lease(id);
        let executing = position.filter(|position| position.begun).zip(lease).map(|(position, lease)| {
            let attempt = state.ledger.job(lease.job).map_or(lease.attempt, |job| job.attempt(position.at));
            (position.at, attempt)
        });
        let crash = Arc::new(Crash { container: id, generation, executing, death: Death::Killed });
        if let Some(after) = state.ledger.killed(id, position, &crash, now) {
            self.after_crash(&mut state, after, now);
        }
        state.forsaken.insert((id, generation));
        self.sweep(&mut state, now);
        self.wake_all();
        Some(generation)
    }

    // ---- consumers ----

    /// Opens a job, unless the function takes none.
    pub(crate) fn open(&self, plan: Plan, supply: Supply<I>) -> Result<JobId, (Cause<E>, Supply<I>)> {
        let mut state = self.hold();
        if let Some(bug) = &state.broken {
            return Err((Cause::Engine(bug.clone()), supply));
        }
        match state.ledger.mode() {
            Mode::Running => {}
            Mode::GaveUp => {
                let crash = state.ledger.gave_up().cloned().expect("kept while given up");
                return Err((Cause::GaveUp(crash), supply));
            }
            Mode::Draining | Mode::Stopping | Mode::Aborted => return Err((Cause::ShutDown, supply)),
        }
        let job = state.ledger.open(plan.kind, plan.on_failure, plan.window);
        state.lanes.0.insert(job, Lane::new(plan.order, supply));
        state.refresh_window(job);
        self.work.notify_all();
        Ok(job)
    }

    /// Opens a call: a job of one input, ahead of all maps.
    pub(crate) fn open_call(&self, input: I) -> Result<JobId, Failure<I, E>> {
        let plan = Plan {
            kind: JobKind::Call,
            order: Order::Input,
            on_failure: OnFailure::GoOn,
            window: Window::Fixed(1),
        };
        let job = match self.open(plan, Supply::Dry) {
            Ok(job) => job,
            Err((cause, _)) => return Err(Failure::of_input(0, Reclaimed::Owned(input), 0, cause)),
        };
        let mut state = self.hold();
        // Between the two locks the function may have been stopped; then nobody would take it.
        let mode = state.ledger.mode();
        let lane = state.lanes.0.get_mut(&job).expect("just opened");
        lane.add(0, vec![input]);
        lane.source_over = true;
        lane.total = Some(1);
        state.ledger.accept(job, 1);
        let now = self.now();
        match (mode, state.ledger.gave_up().cloned()) {
            (Mode::GaveUp, Some(crash)) => {
                state.end_job(job, Unrun::GivenUp, Some(&|| Cause::GaveUp(Arc::clone(&crash))), None, now);
            }
            (Mode::Stopping | Mode::Aborted, _) => {
                state.end_job(job, Unrun::Cancelled, Some(&|| Cause::ShutDown), None, now);
            }
            _ => {
                self.work.notify_one();
            }
        }
        Ok(job)
    }

    /// Waits for the outcome at `next` in order, or for any.
    pub(crate) fn find(&self, job: JobId, next: u64) -> Found<I, O, E> {
        let mut pause = Duration::from_millis(1);
        let mut state = self.hold();
        loop {
            if let Some(bug) = &state.broken {
                return Found::End(Some(Failure::of_map(Cause::Engine(bug.clone()))));
            }
            state.book_all(self.now());
            let held = &mut *state;
            let counts = held.ledger.job(job).expect("its consumer keeps it open").counts;
            let lane = held.lanes.0.get_mut(&job).expect("its consumer keeps it open");
            match lane.order {
                Order::Completion => {
                    if let Some(finished) = lane.ready.pop_front() {
                        return Found::Ready(finished);
                    }
                }
                Order::Input => {
                    if let Some(chunk) = lane.chunk(next)
                        && chunk.is_full((next - chunk.first()) as usize)
                    {
                        return Found::Chunk(Arc::clone(chunk));
                    }
                }
            }
            let dry = match &lane.supply {
                Supply::Fed(pool) => lane.source_over && pool.len() == 0,
                Supply::Inline(_) | Supply::Dry => lane.source_over,
            };
            if dry && counts.pending() == 0 {
                let coming = lane.order == Order::Input && next < counts.pulled && !lane.gaps;
                if !coming {
                    return Found::End(lane.end.take());
                }
                // Booked, and its thread is about to publish it.
                drop(state);
                std::thread::yield_now();
                state = self.hold();
                continue;
            }
            if lane.gate.starved.swap(false, Ordering::SeqCst) {
                lane.space.notify_all();
                self.work.notify_all();
            }
            lane.awaited = true;
            let arrived = Arc::clone(&lane.arrived);
            let until = self.clock.instant(self.now() + pause);
            state.wait(&arrived, Some(until));
            pause = (pause * 2).min(LOOK_MAX);
            if let Some(lane) = state.lanes.0.get_mut(&job) {
                lane.awaited = false;
            }
        }
    }

    /// The consumer has made room that somebody waits for.
    pub(crate) fn made_room(&self, job: JobId) {
        let state = self.hold();
        if let Some(lane) = state.lanes.0.get(&job) {
            lane.gate.starved.store(false, Ordering::SeqCst);
            lane.space.notify_all();
        }
        self.work.notify_all();
    }

    /// The back-pressure of a job.
    pub(crate) fn gate(&self, job: JobId) -> Arc<Gate> {
        Arc::clone(&self.hold().lanes.0[&job].gate)
    }

    /// Cancels what is pending of a job; what finished stays until it is closed.
    pub(crate) fn cancel(&self, job: JobId) {
        let mut state = self.hold();
        let now = self.now();
        if state.broken.is_none() && state.ledger.job(job).is_some() {
            state.end_job(job, Unrun::Cancelled, None, None, now);
            self.wake_if_drained(&mut state);
        }
    }

    /// The chunks of a job that are not yet yielded.
    pub(crate) fn chunks(&self, job: JobId) -> Vec<Arc<ChunkOf<I, O, E>>> {
        self.hold().lanes.0.get(&job).map_or_else(Vec::new, |lane| lane.chunks.values().cloned().collect())
    }

    /// How far a job is.
    pub(crate) fn progress(&self, job: JobId) -> Progress {
        let mut state = self.hold();
        let now = self.now();
        state.book_all(now);
        match (state.ledger.job(job), state.lanes.0.get(&job)) {
            (Some(known), Some(lane)) => {
                Progress::new(known.counts, lane.gate.pulled.load(Ordering::SeqCst), lane.total)
            }
            _ => Progress::default(),
        }
    }

    /// The message that was to start a map's feeder was lost with the supervisor.
    pub(crate) fn map_undelivered(&self, job: JobId) {
        let mut state = self.hold();
        let now = self.now();
        let cause = if state.ledger.mode() == Mode::Running {
            Cause::Engine(Bug("the supervisor is gone".into()))
        } else {
            Cause::ShutDown
        };
        state.end_job(job, Unrun::Cancelled, None, Some(Failure::of_map(cause)), now);
    }

    /// The consumer has yielded a whole chunk.
    pub(crate) fn retire(&self, job: JobId, first: u64) {
        if let Some(lane) = self.hold().lanes.0.get_mut(&job) {
            lane.chunks.remove(&first);
        }
    }

    /// Cancels what is pending of a job and takes its lane, for the caller to drop.
    pub(crate) fn close(&self, job: JobId) -> Option<Box<Lane<I, O, E>>> {
        let mut state = self.hold();
        let now = self.now();
        state.ledger.job(job)?;
        if state.broken.is_none() {
            state.end_job(job, Unrun::Cancelled, None, None, now);
            state.ledger.close(job);
        }
        let lane = state.lanes.0.remove(&job)?;
        self.wake_all();
        Some(Box::new(lane))
    }

    // ---- feeders ----

    /// The source says how many inputs it has.
    pub(crate) fn expect_total(&self, job: JobId, total: u64) {
        if let Some(lane) = self.hold().lanes.0.get_mut(&job) {
            lane.total = Some(total);
        }
    }

    /// Waits until the feeder of a job may pull; returns how many inputs. `None` once it should end.
    pub(crate) fn await_room(&self, job: JobId, gate: &Gate) -> Option<u64> {
        let mut state = self.hold();
        loop {
            let running = state.ledger.mode() == Mode::Running && state.broken.is_none();
            let open = state.lanes.0.get(&job).is_some_and(|lane| !lane.source_over);
            if !running || !open {
                return None;
            }
            gate.starved.store(true, Ordering::SeqCst);
            match gate.room() {
                0 => {}
                room => return Some(room),
            }
            let space = Arc::clone(&state.lanes.0[&job].space);
            state.wait(&space, None);
        }
    }

    /// An input that was being pulled when its map ended or the function began to drain: it is
    /// accepted, and comes back inside its error.
    pub(crate) fn fed_too_late(&self, job: JobId, input: I) {
        let mut held = self.hold();
        let state = &mut *held;
        let (Some(lane), Some(known)) = (state.lanes.0.get_mut(&job), state.ledger.job(job)) else {
            drop(held);
            return drop_contained(input);
        };
        let index = known.counts.pulled;
        let publish = known.on_failure == OnFailure::GoOn;
        let cause = match (state.ledger.gave_up(), state.ledger.mode()) {
            (Some(crash), _) => Cause::GaveUp(Arc::clone(crash)),
            (None, Mode::Running) => Cause::Cancelled,
            (None, _) => Cause::ShutDown,
        };
        lane.add(index, vec![input]);
        lane.gaps |= !publish;
        state.ledger.accept_ended(job);
        if publish {
            state.publish_failure(job, index, 0, cause);
        }
    }

    /// The feeder has put an input into the pool.
    pub(crate) fn fed(&self) {
        if self.starving.load(Ordering::SeqCst) {
            drop(self.hold());
            self.work.notify_one();
        }
    }

    /// The source has ended, by itself or by a panic.
    pub(crate) fn source_over(&self, job: JobId, broken: Option<Panic>) {
        let mut state = self.hold();
        let now = self.now();
        state.feeders -= 1;
        let goes_on = state.ledger.job(job).is_some_and(|job| job.on_failure == OnFailure::GoOn);
        if let Some(lane) = state.lanes.0.get_mut(&job) {
            let by_itself = !lane.source_over;
            lane.source_over = true;
            if by_itself && broken.is_none() {
                lane.total = Some(lane.gate.pulled.load(Ordering::SeqCst));
            }
            let error = broken.filter(|_| by_itself).map(|panic| Failure::of_map(Cause::Source(panic)));
            if goes_on {
                lane.end = lane.end.take().or(error);
            } else if error.is_some() {
                state.end_job(job, Unrun::Cancelled, None, error, now);
            }
        }
        if let Some(lane) = state.lanes.0.get(&job) {
            lane.wake();
        }
        self.wake_all();
    }

    /// The pool of a fed lane and its gate.
    pub(crate) fn intake(&self, job: JobId) -> Option<(Arc<Pool<I>>, Arc<Gate>)> {
        let state = self.hold();
        let lane = state.lanes.0.get(&job)?;
        match &lane.supply {
            Supply::Fed(pool) => Some((Arc::clone(pool), Arc::clone(&lane.gate))),
            Supply::Inline(_) | Supply::Dry => None,
        }
    }
}

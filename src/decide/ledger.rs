//! The books of one function: where every input is between *pulled* and *outcome*.
//!
//! It owns jobs, leases (which container executes which range), the queues between them and the
//! restart policy, and decides dispatch, retry, replay, blame and poison. It does not hold inputs
//! or outcomes, only their indices; it does not see the inputs that complete one by one, only how
//! far a lease has come. A container's life:
//!
//! ```text
//!           begin            entered           claim / released
//! Absent ──────────▶ Starting ──────▶ Live ◀───────────────▶ Live with a lease
//!    ▲                  │  ╲            │ crashed
//!    │ left             │   ╲ crashed   ▼
//!    └── stop ──────────┘    ╲────▶ BackingOff ──begin──▶ Starting (next generation)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::crash::{Crash, Previous};
use crate::decide::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::jitter::Jitter;
use crate::decide::job::{Counts, DEATHS_MAX, Job, JobKind, OnFailure, Record, Span};
use crate::decide::restart::{Death, Life, Restart, RestartPolicy, Restarts};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::decide::window::Window;

/// What the ledger decides by; validated before.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) containers: usize,
    pub(crate) retries: Retries,
    pub(crate) crash_retries: u32,
    pub(crate) restart: RestartPolicy,
}

/// What the function still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Everything.
    Running,
    /// Accepted inputs finish; nothing is pulled, nothing new is taken.
    Draining,
    /// Only what executes finishes.
    Stopping,
    /// The restart policy gave up: no container is created, nothing is dispatched, until reset.
    GaveUp,
    /// Over.
    Aborted,
}

/// Where the inputs of jobs come from, as far as the ledger must know.
pub(crate) trait Sources {
    /// Inputs that can be had without waiting.
    fn available(&self, job: JobId, mode: Mode) -> u64;
    /// Inputs already yielded to the consumer.
    fn yielded(&self, job: JobId) -> u64;
    /// Moves up to `most` inputs into a chunk whose first index is `first`; returns how many.
    fn pull(&mut self, job: JobId, first: u64, most: u64) -> u64;
}

/// What a container does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Execute that range, whose first input is at that attempt.
    Take(Lease),
    /// Nothing to do before `until`, or before being woken.
    Idle { until: Option<Time> },
    /// Nothing will come any more: exit gracefully.
    Leave,
    /// This generation is over: end without exit.
    Stale,
}

/// Inputs assigned to one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) job: JobId,
    pub(crate) span: Span,
    pub(crate) kind: LeaseKind,
    /// The attempt at which its inputs are. Only single inputs are past their first.
    pub(crate) attempt: Attempt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// First attempts.
    First,
    /// One input, again, after its container died; a suspect if the input itself crashed it.
    Replay { suspect: bool },
    /// One input, again, after it failed.
    Retry,
}

/// How far a container had come in its lease when it died or was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The input that executes or comes next.
    pub(crate) at: u64,
    /// Whether it executes.
    pub(crate) begun: bool,
}

/// What becomes of a failed input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// Again, not before then.
    RetryAt(Time),
    /// The failure surfaces.
    Final { attempts: Attempt, ends_map: bool },
}

/// What becomes of the input that was executing when its container died.
#[derive(Debug, Clone)]
pub(crate) enum AfterCrash {
    /// Run again, or given up with the function.
    Pending,
    /// Its crash budget is spent.
    Poisoned { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
    /// Killed by hand, and it may not be begun twice.
    Lost { input: InputId, attempts: Attempt, crash: Arc<Crash>, ends_map: bool },
}

/// The verdict on a crash.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) restart: Restart,
    pub(crate) input: Option<AfterCrash>,
}

/// Where a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not created, or ended.
    Absent,
    /// In `enter`.
    Starting,
    /// At work, or ready for it.
    Live,
    /// Waiting to be created again.
    BackingOff { until: Time },
}

#[derive(Debug)]
struct Berth {
    generation: Generation,
    stage: Stage,
    life: Life,
    lease: Option<Lease>,
    /// When the lease was taken, to learn what its inputs cost.
    taken: Time,
    /// The first input of the lease that is not yet in the books.
    booked: u64,
}

/// One function's books.
#[derive(Debug)]
pub(crate) struct Ledger {
    rules: Rules,
    mode: Mode,
    restarts: Restarts,
    jitter: Option<Jitter>,
    berths: Vec<Berth>,
    jobs: BTreeMap<JobId, Job>,
    jobs_opened: u64,
    /// Calls whose input was never assigned.
    calls: VecDeque<JobId>,
    /// Maps, the one whose turn is next in front.
    turns: VecDeque<JobId>,
    /// Inputs that a dead container had not begun.
    requeued: VecDeque<(JobId, Span)>,
    /// Inputs that were executing when their container died.
    replays: VecDeque<InputId>,
    /// Failed inputs, by the moment they are due.
    retries: BTreeSet<(Time, InputId)>,
    /// The crash that broke the limit.
    gave_up: Option<Arc<Crash>>,
    crashes: u64,
    restarted: u64,
    last_crash: Option<(Time, Arc<Crash>)>,
}

impl Ledger {
    pub(crate) fn new(rules: Rules) -> Self {
        let restarts = Restarts::new(rules.restart.clone(), rules.containers);
        let life = restarts.started();
        let berth = || Berth {
            generation: Generation(0),
            stage: Stage::Absent,
            life,
            lease: None,
            taken: Time::default(),
            booked: 0,
        };
        Self {
            mode: Mode::Running,
            restarts,
            jitter: rules.retries.jitter_source(),
            berths: (0..rules.containers).map(|_| berth()).collect(),
            jobs: BTreeMap::new(),
            jobs_opened: 0,
            calls: VecDeque::new(),
            turns: VecDeque::new(),
            requeued: VecDeque::new(),
            replays: VecDeque::new(),
            retries: BTreeSet::new(),
            gave_up: None,
            crashes: 0,
            restarted: 0,
            last_crash: None,
            rules,
        }
    }

    // ---- jobs ----

    pub(crate) fn open(&mut self, kind: JobKind, on_failure: OnFailure, window: Window) -> JobId {
        let id = JobId(self.jobs_opened);
        self.jobs_opened += 1;
        self.jobs.insert(id, Job::new(kind, on_failure, window));
        match kind {
            JobKind::Call => self.calls.push_back(id),
            JobKind::Map => self.turns.push_back(id),
        }
        id
    }

    /// Forgets a job whose inputs have all ended.
    pub(crate) fn close(&mut self, id: JobId) -> Option<Counts> {
        let job = self.jobs.remove(&id)?;
        assert_eq!(job.counts.pending(), 0, "job {id:?} is closed with inputs pending");
        self.calls.retain(|call| *call != id);
        self.turns.retain(|map| *map != id);
        Some(job.counts)
    }

    /// `inputs` more were pulled for a job; returns the index of the first.
    pub(crate) fn accept(&mut self, id: JobId, inputs: u64) -> u64 {
        let job = self.jobs.get_mut(&id).expect("only open jobs are pulled for");
        let first = job.counts.pulled;
        job.counts.pulled += inputs;
        if inputs > 0 {
            job.fresh.push_back(Span { first, len: inputs });
        }
        first
    }

    /// One more input was pulled for a job whose source is over: accepted, and cancelled at once.
    pub(crate) fn accept_ended(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.counts.pulled += 1;
            job.counts.cancelled += 1;
        }
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }

    /// The window of a job as it is now.
    pub(crate) fn window(&self, id: JobId) -> u64 {
        let containers = self.rules.containers;
        self.jobs.get(&id).map_or(0, |job| job.window.inputs(job.share.cost(), containers))
    }

    /// Takes every accepted input of a job that has no outcome and is in no lease out of the queues.
    /// The caller gives each its outcome and says so with [`Ledger::ended`].
    pub(crate) fn take_pending(&mut self, id: JobId) -> Vec<Span> {
        let mut taken = Vec::new();
        if let Some(job) = self.jobs.get_mut(&id) {
            taken.extend(job.fresh.drain(..));
        }
        self.calls.retain(|call| *call != id);
        self.requeued.retain(|(job, span)| {
            *job != id || {
                taken.push(*span);
                false
            }
        });
        let single = |input: &InputId| Span { first: input.index, len: 1 };
        self.replays.retain(|input| {
            input.job != id || {
                taken.push(single(input));
                false
            }
        });
        self.retries.retain(|(_, input)| {
            input.job != id || {
                taken.push(single(input));
                false
            }
        });
        taken
    }

    /// `inputs` of a job ended without having run to an end of their own.
    pub(crate) fn ended(&mut self, id: JobId, how: Unrun, inputs: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match how {
            Unrun::Cancelled => job.counts.cancelled += inputs,
            Unrun::GivenUp => job.counts.given_up += inputs,
        }
        job.counts.pending(); // panics in debug builds if more ended than were pulled
    }

    // ---- containers ----

    pub(crate) fn containers(&self) -> impl Iterator<Item = ContainerId> + use<> {
        (0..self.rules.containers as u32).map(ContainerId)
    }

    /// A new generation of a container begins its `enter`. `None` if none may be created now.
    pub(crate) fn begin(&mut self, id: ContainerId, now: Time) -> Option<Generation> {
        if self.mode > Mode::Draining {
            return None;
        }
        let life = self.restarts.started();
        let held = self.restarts.held_until(now);
        let berth = &mut self.berths[id.index()];
        match berth.stage {
            Stage::Absent => {}
            Stage::BackingOff { until } if until <= now => {}
            Stage::BackingOff { .. } | Stage::Starting | Stage::Live => return None,
        }
        if let Some(until) = held {
            berth.stage = Stage::BackingOff { until };
            return None;
        }
        assert!(berth.lease.is_none(), "container {id} begins with a lease");
        if berth.generation.0 > 0 {
            self.restarted += 1;
        }
        berth.generation.0 += 1;
        berth.stage = Stage::Starting;
        berth.life = life;
        Some(berth.generation)
    }

    /// Its `enter` ended well. Refused (`false`) for an old generation.
    pub(crate) fn entered(&mut self, id: ContainerId, generation: Generation, now: Time) -> bool {
        let berth = &mut self.berths[id.index()];
        if berth.generation != generation || berth.stage != Stage::Starting {
            return false;
        }
        berth.stage = Stage::Live;
        berth.life.entered = Some(now);
        true
    }

    /// The container ended without a crash: it left, or was told to before it had entered.
    pub(crate) fn left(&mut self, id: ContainerId, generation: Generation) {
        let berth = &mut self.berths[id.index()];
        if berth.generation == generation {
            assert!(berth.lease.is_none(), "container {id} leaves with a lease");
            berth.stage = Stage::Absent;
        }
    }

    pub(crate) fn is_current(&self, id: ContainerId, generation: Generation) -> bool {
        let berth = &self.berths[id.index()];
        berth.generation == generation && matches!(berth.stage, Stage::Live | Stage::Starting)
    }

    pub(crate) fn stage(&self, id: ContainerId) -> (Generation, Stage) {
        let berth = &self.berths[id.index()];
        (berth.generation, berth.stage)
    }

    pub(crate) fn lease(&self, id: ContainerId) -> Option<Lease> {
        self.berths[id.index()].lease
    }

    // ---- dispatch ----

    /// What the container does next. In the order of the contract: calls, inputs that a dead
    /// container had not begun, replays, due retries, new inputs of the maps in turn.
    pub(crate) fn claim(
        &mut self,
        id: ContainerId,
        generation: Generation,
        now: Time,
        sources: &mut impl Sources,
    ) -> Claim {
        if !self.is_current(id, generation) {
            return Claim::Stale;
        }
        assert!(self.berths[id.index()].lease.is_none(), "container {id} claims with a lease");
        let lease = match self.mode {
            Mode::Running | Mode::Draining => self.next_lease(now, sources),
            Mode::GaveUp => return Claim::Idle { until: None },
            Mode::Stopping | Mode::Aborted => return Claim::Leave,
        };
        if let Some(lease) = lease {
            let berth = &mut self.berths[id.index()];
            berth.lease = Some(lease);
            berth.taken = now;
            berth.booked = lease.span.first;
            return Claim::Take(lease);
        }
        if self.mode == Mode::Draining && self.nothing_pending() {
            return Claim::Leave;
        }
        Claim::Idle { until: self.retries.first().map(|(due, _)| *due) }
    }

    fn next_lease(&mut self, now: Time, sources: &mut impl Sources) -> Option<Lease> {
        if let Some(job) = self.calls.pop_front() {
            let span = self.jobs.get_mut(&job).and_then(|call| call.take_fresh(1));
            let span = span.expect("a queued call has its input");
            return Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST });
        }
        if let Some((job, span)) = self.requeued.pop_front() {
            let most = self.share(job, span.len);
            let taken = Span { first: span.first, len: most };
            if most < span.len {
                self.requeued.push_front((job, Span { first: taken.end(), len: span.len - most }));
            }
            return Some(Lease { job, span: taken, kind: LeaseKind::First, attempt: Attempt::FIRST });
        }
        if let Some(lease) = self.next_replay() {
            return Some(lease);
        }
        if self.retries.first().is_some_and(|(due, _)| *due <= now) {
            let (_, input) = self.retries.pop_first().expect("just looked at");
            return Some(self.single(input, LeaseKind::Retry));
        }
        self.next_new(sources)
    }

    /// A suspect is replayed by at most one container of the function at a time, so that poison
    /// occupies no more than one; innocents killed along with a container go ahead of it.
    fn next_replay(&mut self) -> Option<Lease> {
        let suspect_runs = self.berths.iter().any(|berth| {
            matches!(berth.lease, Some(Lease { kind: LeaseKind::Replay { suspect: true }, .. }))
        });
        let suspect =
            |ledger: &Self, input: &InputId| ledger.record(*input).is_some_and(|record| record.crashes > 0);
        let at = self.replays.iter().position(|input| !suspect_runs || !suspect(self, input))?;
        let input = self.replays.remove(at).expect("just found");
        let suspect = suspect(self, &input);
        Some(self.single(input, LeaseKind::Replay { suspect }))
    }

    fn next_new(&mut self, sources: &mut impl Sources) -> Option<Lease> {
        for _ in 0..self.turns.len() {
            let job = self.turns.pop_front().expect("one turn for each map");
            self.turns.push_back(job);
            let waiting = self.jobs[&job].fresh.front().map_or(0, |span| span.len);
            let span = if waiting > 0 {
                waiting
            } else {
                let map = &self.jobs[&job];
                let outstanding = map.counts.pulled.saturating_sub(sources.yielded(job));
                let room = self.window(job).saturating_sub(outstanding);
                let ready = sources.available(job, self.mode).min(room);
                if ready == 0 {
                    continue;
                }
                let most = self.share(job, ready);
                let first = self.jobs[&job].counts.pulled;
                let pulled = sources.pull(job, first, most);
                self.accept(job, pulled);
                pulled
            };
            let most = self.share(job, span);
            let map = self.jobs.get_mut(&job).expect("it has its turn");
            if let Some(span) = map.take_fresh(most) {
                return Some(Lease { job, span, kind: LeaseKind::First, attempt: Attempt::FIRST });
            }
        }
        None
    }

    fn share(&mut self, job: JobId, available: u64) -> u64 {
        let containers = self.rules.containers;
        let job = self.jobs.get_mut(&job).expect("queued inputs belong to open jobs");
        job.share.take(available, containers)
    }

    fn single(&mut self, input: InputId, kind: LeaseKind) -> Lease {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        match kind {
            LeaseKind::Replay { .. } => job.counts.replayed += 1,
            LeaseKind::Retry => job.counts.retried += 1,
            LeaseKind::First => {}
        }
        let attempt = job.attempt(input.index);
        Lease { job: input.job, span: Span { first: input.index, len: 1 }, kind, attempt }
    }

    fn record(&self, input: InputId) -> Option<&Record> {
        self.jobs.get(&input.job)?.records.get(&input.index)
    }

    /// Why the previous attempt of an input ended.
    pub(crate) fn previous(&self, input: InputId) -> Option<Previous> {
        self.record(input)?.previous.clone()
    }

    // ---- what containers report ----

    /// Books the inputs of the container's lease before `upto` as completed with `Ok`. Returns
    /// the range that is new in the books.
    pub(crate) fn advanced(&mut self, id: ContainerId, upto: u64, now: Time) -> Option<(JobId, Span)> {
        let berth = &mut self.berths[id.index()];
        let lease = berth.lease?;
        assert!(upto <= lease.span.end(), "container {id} came past the end of its lease");
        let span = Span { first: berth.booked, len: upto.saturating_sub(berth.booked) };
        if span.len == 0 {
            return None;
        }
        berth.booked = upto;
        self.restarts.completed(&mut berth.life, span.len, now);
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        job.counts.ok += span.len;
        if lease.kind != LeaseKind::First {
            job.records.remove(&lease.span.first);
        }
        Some((lease.job, span))
    }

    /// The input at the booked position returned `Err`; `worth` is what `retry_if` said.
    pub(crate) fn failed(&mut self, id: ContainerId, worth: Worth, now: Time) -> AfterFailure {
        let berth = &mut self.berths[id.index()];
        let lease = berth.lease.expect("a failure comes from a lease");
        let index = berth.booked;
        assert!(index < lease.span.end(), "a failure past the end of the lease");
        berth.booked += 1;
        self.restarts.completed(&mut berth.life, 1, now);
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let record = job.records.entry(index).or_default();
        let attempts = record.attempt();
        record.failures += 1;
        record.previous = Some(Previous::Failed);
        let retries = &self.rules.retries;
        let again =
            worth == Worth::Retry && record.failures <= retries.retries_max() && self.mode <= Mode::Draining;
        if again {
            let delay = retries.delay(record.failures);
            let delay = self.jitter.as_mut().map_or(delay, |jitter| jitter.equal(delay));
            let due = now + delay;
            self.retries.insert((due, InputId { job: lease.job, index }));
            return AfterFailure::RetryAt(due);
        }
        job.records.remove(&index);
        job.counts.failed += 1;
        AfterFailure::Final { attempts, ends_map: job.on_failure == OnFailure::EndMap }
    }

    /// The lease is done, or its rest is given back: what is not booked goes to the requeued.
    pub(crate) fn released(&mut self, id: ContainerId, now: Time) {
        let berth = &mut self.berths[id.index()];
        let Some(lease) = berth.lease.take() else { return };
        let done = berth.booked - lease.span.first;
        let rest = Span { first: berth.booked, len: lease.span.end() - berth.booked };
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            job.share.measured(done, now.since(berth.taken));
        }
        self.requeue(lease, rest);
    }

    /// Shortens the lease to end before `end`; the rest goes to the requeued.
    pub(crate) fn truncated(&mut self, id: ContainerId, end: u64) {
        let Some(lease) = &mut self.berths[id.index()].lease else { return };
        let cut = Span { first: end, len: lease.span.end() - end };
        lease.span.len = end - lease.span.first;
        let lease = *lease;
        self.requeue(lease, cut);
    }

    fn requeue(&mut self, lease: Lease, span: Span) {
        match lease.kind {
            _ if span.len == 0 => {}
            LeaseKind::First => self.requeued.push_back((lease.job, span)),
            LeaseKind::Replay { .. } | LeaseKind::Retry => {
                self.replays.push_front(InputId { job: lease.job, index: span.first });
            }
        }
    }

    /// A container crashed. `position` is how far it was in its lease; what it completed before
    /// is booked already. `None` for an old generation.
    pub(crate) fn crashed(
        &mut self,
        id: ContainerId,
        generation: Generation,
        position: Option<Position>,
        crash: &Arc<Crash>,
        now: Time,
    ) -> Option<Verdict> {
        if !self.is_current(id, generation) {
            return None;
        }
        self.crashes += 1;
        self.last_crash = Some((now, Arc::clone(crash)));
        let executing = self.executing(id, position);
        let record = executing.and_then(|input| self.record(input));
        let death = Death {
            life: self.berths[id.index()].life,
            suspect: record.is_some_and(|record| record.crashes > 0),
            input_counted: record.and_then(|record| record.counted),
        };
        let others = self.berths.iter().enumerate();
        let others = others.filter(|(at, berth)| *at != id.index() && berth.stage == Stage::Live);
        let (restart, counted) = self.restarts.crashed(death, others.map(|(_, berth)| berth.life), now);
        let input = executing.map(|input| self.blame(input, crash, counted, now));
        self.give_back(id, position, now);
        self.berths[id.index()].stage = match restart {
            Restart::Now | Restart::GiveUp => Stage::Absent,
            Restart::At(until) => Stage::BackingOff { until },
        };
        if restart == Restart::GiveUp && self.mode <= Mode::Draining {
            self.mode = Mode::GaveUp;
            self.gave_up = Some(Arc::clone(crash));
        }
        Some(Verdict { restart, input })
    }

    /// A container is killed by hand: no blame, no budget, no crash in the policy's count.
    pub(crate) fn killed(
        &mut self,
        id: ContainerId,
        position: Option<Position>,
        crash: &Arc<Crash>,
        now: Time,
    ) -> Option<AfterCrash> {
        let executing = self.executing(id, position);
        let after = executing.map(|input| {
            let at_most_once = self.rules.crash_retries == 0;
            let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
            let record = job.records.entry(input.index).or_default();
            let attempts = record.attempt();
            record.kills += 1;
            record.previous = Some(Previous::Crashed(Arc::clone(crash)));
            if at_most_once {
                job.records.remove(&input.index);
                job.counts.cancelled += 1;
                let ends_map = job.on_failure == OnFailure::EndMap;
                return AfterCrash::Lost { input, attempts, crash: Arc::clone(crash), ends_map };
            }
            self.replays.push_back(input);
            AfterCrash::Pending
        });
        self.give_back(id, position, now);
        self.berths[id.index()].stage = Stage::Absent;
        after
    }

    /// The input that was executing at `position`, if one was.
    fn executing(&self, id: ContainerId, position: Option<Position>) -> Option<InputId> {
        let lease = self.berths[id.index()].lease?;
        let position = position.filter(|position| position.begun)?;
        assert_eq!(position.at, self.berths[id.index()].booked, "what came before is booked");
        Some(InputId { job: lease.job, index: position.at })
    }

    fn blame(&mut self, input: InputId, crash: &Arc<Crash>, counted: bool, now: Time) -> AfterCrash {
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.records.entry(input.index).or_default();
        let attempts = record.attempt();
        record.crashes += 1;
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if counted {
            record.counted = Some(now);
        }
        if record.deaths.len() < DEATHS_MAX {
            record.deaths.push(Arc::clone(crash));
        }
        if record.crashes > self.rules.crash_retries {
            let record = job.records.remove(&input.index).expect("just made");
            job.counts.poisoned += 1;
            let ends_map = job.on_failure == OnFailure::EndMap;
            return AfterCrash::Poisoned { input, attempts, deaths: record.deaths, ends_map };
        }
        self.replays.push_back(input);
        AfterCrash::Pending
    }

    /// Ends the lease of a dead container: the executing input has its fate, the rest is requeued.
    fn give_back(&mut self, id: ContainerId, position: Option<Position>, now: Time) {
        if position.is_some_and(|position| position.begun) {
            self.berths[id.index()].booked += 1;
        }
        self.released(id, now);
    }

    // ---- modes ----

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Moves on to a later mode; never back.
    pub(crate) fn advance_mode(&mut self, mode: Mode) {
        if mode > self.mode {
            self.mode = mode;
        }
    }

    /// The crash that broke the limit, while the function is given up.
    pub(crate) fn gave_up(&self) -> Option<&Arc<Crash>> {
        self.gave_up.as_ref()
    }

    /// Forgets the crash history and takes work again. Returns whether it had given up.
    pub(crate) fn reset(&mut self) -> bool {
        self.restarts.reset();
        for berth in &mut self.berths {
            if matches!(berth.stage, Stage::BackingOff { .. }) {
                berth.stage = Stage::Absent;
            }
        }
        let given_up = self.mode == Mode::GaveUp;
        if given_up {
            self.mode = Mode::Running;
            self.gave_up = None;
        }
        given_up
    }

    // ---- what a status shows ----

    /// Whether no accepted input is without its outcome.
    pub(crate) fn nothing_pending(&self) -> bool {
        self.jobs.values().all(|job| job.counts.pending() == 0)
    }

    /// The moment at which the next container that is backing off may be created.
    pub(crate) fn next_creation(&self) -> Option<Time> {
        let until = |berth: &Berth| match berth.stage {
            Stage::BackingOff { until } => Some(until),
            Stage::Absent | Stage::Starting | Stage::Live => None,
        };
        self.berths.iter().filter_map(until).min()
    }

    pub(crate) fn inputs_waiting(&self) -> u64 {
        let leased: u64 = self
            .berths
            .iter()
            .filter_map(|berth| berth.lease.map(|lease| lease.span.end() - berth.booked))
            .sum();
        self.jobs.values().map(|job| job.counts.pending()).sum::<u64>() - leased
    }

    /// Loop crashes in a row and when the first of them was, if there is a crash loop.
    pub(crate) fn crash_loop(&mut self, now: Time) -> Option<(u32, Time)> {
        let lives = self.berths.iter().filter(|berth| berth.stage == Stage::Live);
        self.restarts.crash_loop(lives.map(|berth| berth.life), now)
    }

    pub(crate) fn held_until(&self, now: Time) -> Option<Time> {
        self.restarts.held_until(now)
    }

    pub(crate) fn crash_counts(&self) -> CrashCounts {
        CrashCounts { crashes: self.crashes, restarts: self.restarted }
    }

    pub(crate) fn last_crash(&self) -> Option<(Time, Arc<Crash>)> {
        self.last_crash.clone()
    }
}

/// What `retry_if` said of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    Retry,
    Surface,
}

/// How an input ends that did not run to an end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrun {
    Cancelled,
    GivenUp,
}

/// Totals over the life of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrashCounts {
    pub(crate) crashes: u64,
    pub(crate) restarts: u64,
}

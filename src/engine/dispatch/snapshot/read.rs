//! How a snapshot is taken: what is read under the lock, row by row, and the words that are added after
//! its release.

use std::time::Duration;

use crate::base::ids::{InputId, LaneId};
use crate::decide::ledger::{Batching, ContainerStage, Mode};
use crate::decide::restart::{RestartPolicy, WindowCounts};
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::consumers::progress_of;
use crate::engine::dispatch::detached::Returns;
use crate::engine::dispatch::{Dispatch, State, StateGuard};
use crate::engine::history::name_of;
use crate::engine::job_buffers::JobBuffers;
use crate::engine::map_buffers::MapBuffers;
use crate::engine::settings::Settings;
use crate::values::gave_up::GaveUp;
use crate::values::health::{Health, Signs};
use crate::values::snapshot::rows::{
    Abandoned, BatchCounts, CallCounts, ContainerBytes, ContainerSnapshot, ContainerStateName,
    CurrentExecution, InputCounts, InputName, MapSnapshot, MemorySnapshot, Totals,
};
use crate::values::snapshot::trouble::{CrashLoopSnapshot, GaveUpSnapshot, PolicyName, RecentCrashes, Tally};
use crate::values::snapshot::{FunctionSnapshot, ModeName};
use crate::values::status::{Containers, Memory};

/// The largest number of containers that a snapshot shows one by one.
const ROWS_MAX: usize = 256;
/// The largest number of abandoned threads that a snapshot shows.
const ABANDONED_MAX: usize = 64;
/// The largest number of oldest executions that a snapshot shows.
const OLDEST_MAX: usize = 4;
/// The largest number of open maps that a snapshot shows.
const MAPS_MAX: usize = 64;
/// The largest number of bytes of the text that says why a function gave up or broke down.
const REASON_MAX: usize = 1024;

/// The part of a snapshot that is read under the lock. The words are added after the release of the lock.
struct Read {
    snapshot: FunctionSnapshot,
    signs: Signs,
    completed: u64,
    now: Time,
    gave_up: Option<GaveUp>,
}

impl Dispatch {
    /// A snapshot of the function now.
    pub(crate) fn snapshot(&self) -> FunctionSnapshot {
        let Read { mut snapshot, mut signs, completed, now, gave_up } = self.read();
        {
            let mut history = self.outbox.history();
            history.fill(&mut snapshot);
            snapshot.recent = history.recent(completed, now);
            snapshot.gave_up = gave_up.map(|gave_up| GaveUpSnapshot {
                at: history.gave_up().unwrap_or(snapshot.now),
                message: cut(&gave_up.in_full().to_string()),
            });
        }
        signs.crashes = snapshot.recent.crashes;
        snapshot.health = Health::of(&signs);
        if snapshot.health == Health::Ended {
            snapshot.report = Some(self.report());
        }
        snapshot
    }

    fn read(&self) -> Read {
        let mut state = self.lock();
        let now = self.now();
        if state.broken.is_none() {
            state.commit_all(now);
        }
        let started = state.observed.started;
        let moment = |time: Time| started.saturating_add(time.0);
        let memory = self.memory(&state);
        let crash_loop = state.ledger.crash_loop(now).filter(|(crashes, _)| *crashes > 1);
        let held = state.ledger.held_until(now).filter(|_| state.ledger.goes_on());
        let tally = state.ledger.tally(now);
        let in_flight = InFlight::of(&state);
        let (containers, rows, rows_omitted) = state.rows(memory.as_ref(), &in_flight);
        let oldest: Vec<_> = in_flight.oldest.iter().filter_map(|(_, lane)| state.execution(*lane)).collect();
        let inputs = state.inputs(in_flight.executing);
        let counts = state.ledger.totals().counts;
        let lives = state.ledger.lives();
        let mode = state.ledger.mode();
        let signs = Signs {
            ended: state.over || state.broken.is_some(),
            gave_up: state.ledger.gave_up().is_some(),
            loop_crashes: crash_loop.map_or(0, |(crashes, _)| crashes),
            crashes: 0,
            live: if mode == Mode::Running { containers.live } else { 1 }, // no container needs to be live any more
            // Inputs that wait for the end of a pause are not stuck.
            waiting: if state.ledger.is_paused() { 0 } else { inputs.queued + inputs.replay },
            oldest: oldest.first().map(|oldest| moment(now).saturating_sub(oldest.since)),
            completed: now.since(state.ledger.totals().completed),
            cut: state.ledger.totals().first_cut.map(|at| now.since(at)),
            exhausted: state.is_exhausted(),
            usual_cost: state.ledger.usual_cost(),
        };
        let maps = state.observed.maps.len();
        let snapshot = FunctionSnapshot {
            name: self.settings.function.to_string(),
            now: moment(now),
            started,
            health: Health::Serving,
            mode: match mode {
                Mode::Running => ModeName::Running,
                Mode::Draining => ModeName::Draining,
                Mode::Stopping => ModeName::Stopping,
                Mode::Aborted => ModeName::Aborted,
            },
            paused: state.ledger.is_paused(),
            broken: state.broken.as_ref().map(|bug| cut(&bug.to_string())),
            containers,
            concurrent_inputs: self.settings.rules.in_flight() as usize,
            batches: state.batch_counts(&self.settings),
            rows,
            rows_omitted,
            abandoned: state.abandoned_threads(),
            oldest,
            inputs,
            totals: Totals {
                accepted: counts.pulled,
                ok: counts.ok,
                failed: counts.failed,
                poisoned: counts.poisoned,
                cancelled: counts.cancelled,
                given_up: counts.given_up,
                retried: counts.retried,
                replayed: counts.replayed,
                timed_out: state.ledger.totals().timed_out,
                past_deadline: state.ledger.totals().past_deadline,
                crashes: state.observed.crashes,
                restarts: lives.restarts,
                recycled: lives.recycled,
                late_answers: self.late(),
                exit_timeouts: 0,
                crash_loops: 0,
                give_ups: 0,
            },
            calls: state.call_counts(),
            maps: state.maps(),
            maps_omitted: maps.saturating_sub(MAPS_MAX),
            maps_ended: state.observed.ended.iter().cloned().collect(),
            crash_loop: crash_loop.map(|(crashes, since)| CrashLoopSnapshot {
                crashes,
                since: moment(since),
                next_restart: held.map(moment),
                ended: None,
            }),
            recent: RecentCrashes::default(),
            tally: told(state.ledger.policy(), tally),
            causes: Vec::new(),
            causes_other: 0,
            crashes: Vec::new(),
            poisoned: Vec::new(),
            gave_up: None,
            report: None,
            memory: memory.map(|Memory { live, retained, peak, limit, abandoned, .. }| MemorySnapshot {
                live,
                retained,
                peak,
                limit,
                abandoned,
            }),
            feeders: state.feeders,
            executing: state.ledger.totals().executing.clone(),
            queueing: state.observed.queueing.clone(),
            entering: state.observed.entering.clone(),
            log: Vec::new(),
            seq: 0,
        };
        let (completed, gave_up) = (state.completed(), state.ledger.gave_up().cloned());
        Read { snapshot, signs, completed, now, gave_up }
    }
}

/// The inputs in flight. One walk over the lanes finds all of it, because there may be a million lanes.
struct InFlight {
    executing: u64,
    /// For each container, how many inputs it has in flight, and the lane whose execution is the oldest.
    containers: Vec<(usize, Option<(Time, LaneId)>)>,
    /// The oldest executions of all containers, the oldest first.
    oldest: Vec<(Time, LaneId)>,
}

impl InFlight {
    fn of(state: &State) -> Self {
        let containers = vec![(0, None); state.ledger.containers().count()];
        let mut seen = Self { executing: 0, containers, oldest: Vec::new() };
        for execution in state.ledger.in_flight() {
            let inputs = state.ledger.executing_in_lane(execution.1);
            seen.executing += inputs;
            let (in_flight, oldest) = &mut seen.containers[execution.1.container.index()];
            *in_flight += inputs as usize;
            if oldest.is_none_or(|oldest| execution < oldest) {
                *oldest = Some(execution);
            }
            let at = seen.oldest.partition_point(|older| *older < execution);
            if at < OLDEST_MAX {
                seen.oldest.truncate(OLDEST_MAX - 1);
                seen.oldest.insert(at, execution);
            }
        }
        seen
    }
}

impl State {
    /// The batches of a function, if it executes any.
    fn batch_counts(&self, settings: &Settings) -> Option<BatchCounts> {
        let Batching { size, wait } = settings.rules.batch?;
        let totals = self.ledger.totals();
        Some(BatchCounts { size, wait, executed: totals.batches, inputs: totals.batched })
    }

    /// The calls, and the bound on them.
    pub(crate) fn call_counts(&self) -> CallCounts {
        let admission = self.ledger.admission();
        CallCounts {
            // A function that has broken down may have closed a map by half.
            open: self.buffers.open.len().saturating_sub(self.observed.maps.len()) as u64,
            queued: self.ledger.calls_queued(),
            pending: admission.calls(),
            permits: admission.permits(),
            reserving: admission.waiting(),
            max: admission.max(),
            overloaded: admission.refused(),
        }
    }
}

impl StateGuard<'_> {
    /// The containers by state, the containers one by one, and the number of those that are left out.
    fn rows(&self, memory: Option<&Memory>, seen: &InFlight) -> (Containers, Vec<ContainerSnapshot>, usize) {
        let (abandoned, hung) = (self.abandoned, self.ledger.hung());
        let mut containers = Containers { abandoned, hung, ..Containers::default() };
        let mut rows = Vec::new();
        for id in self.ledger.containers() {
            let (generation, stage) = self.ledger.stage(id);
            let (count, state, until) = match stage {
                ContainerStage::Absent => (&mut containers.stopped, ContainerStateName::Stopped, None),
                ContainerStage::Starting => (&mut containers.starting, ContainerStateName::Starting, None),
                ContainerStage::Live => (&mut containers.live, ContainerStateName::Live, None),
                ContainerStage::Exiting => (&mut containers.exiting, ContainerStateName::Exiting, None),
                ContainerStage::BackingOff { until } => {
                    (&mut containers.backing_off, ContainerStateName::BackingOff, Some(until))
                }
            };
            *count += 1;
            let observed = self.observed.containers[id.index()];
            let (in_flight, oldest) = seen.containers[id.index()];
            rows.push(ContainerSnapshot {
                container: id,
                generation,
                state,
                since: self.moment(observed.since),
                until: until.map(|until| self.moment(until)),
                executing: oldest.and_then(|(_, lane)| self.execution(lane)),
                in_flight,
                concurrent_inputs: self.ledger.in_flight_max(id) as usize,
                crashes: observed.crashes,
                last_death: None,
                memory: memory.map(|memory| {
                    let its_own = &memory.containers[id.index()];
                    let (live, retained, peak) = (its_own.live, its_own.retained, its_own.peak);
                    ContainerBytes { live, retained, peak, limit: memory.limit }
                }),
            });
        }
        let omitted = rows.len().saturating_sub(ROWS_MAX);
        if omitted > 0 {
            rows.sort_by_key(|row| (row.state, row.container)); // containers that do not serve come first
            rows.truncate(ROWS_MAX);
            rows.sort_by_key(|row| row.container);
        }
        (containers, rows, omitted)
    }

    fn moment(&self, time: Time) -> Duration {
        self.observed.started.saturating_add(time.0)
    }

    /// The execution in a lane, if there is one.
    fn execution(&self, lane: LaneId) -> Option<CurrentExecution> {
        let executing = self.ledger.executing_in(lane)?;
        let id = lane.container;
        let (generation, _) = self.ledger.stage(id);
        let since = self.moment(executing.since);
        Some(CurrentExecution {
            container: id,
            generation,
            input: self.name(executing.input),
            attempt: executing.attempt,
            since,
        })
    }

    fn name(&self, input: InputId) -> InputName {
        let caller = self.buffers.get(input.job).map(JobBuffers::caller);
        let (label, call) = (caller.and_then(Caller::label), caller.and_then(Caller::call));
        name_of(label, call, Some(input.job.0 + 1), input.index)
    }

    /// The threads that were left behind in the user's code.
    fn abandoned_threads(&self) -> Vec<Abandoned> {
        let left = self.detached.iter().filter(|(_, detached)| detached.returns == Returns::AsItLikes);
        let told = left.map(|((container, generation), detached)| Abandoned {
            container: *container,
            generation: *generation,
            since: self.moment(detached.since),
            bytes: detached.bytes(),
        });
        told.take(ABANDONED_MAX).collect()
    }

    /// The numbers of inputs without an outcome, by what the inputs wait for.
    fn inputs(&self, executing: u64) -> InputCounts {
        let again = self.ledger.again();
        let maps = self.observed.maps.keys().filter_map(|job| self.buffers.map(*job));
        let in_windows: u64 = maps.map(MapBuffers::held_by_window).sum();
        let elsewhere = again.retry + again.replay + executing;
        InputCounts {
            queued: (self.ledger.pending() + in_windows).saturating_sub(elsewhere),
            in_windows,
            retry: again.retry,
            next_retry: again.next_retry.map(|due| self.moment(due)),
            replay: again.replay,
            suspects: again.suspects,
            executing,
        }
    }

    /// The oldest open maps.
    fn maps(&self) -> Vec<MapSnapshot> {
        let open = self.observed.maps.iter().filter_map(|(job, began)| {
            let (known, buffers) = (self.ledger.job(*job)?, self.buffers.map(*job)?);
            Some(MapSnapshot {
                number: job.0 + 1,
                label: buffers.caller.label().cloned(),
                began: self.moment(*began),
                progress: progress_of(known.counts(), buffers.pulled(), buffers.total),
                window: self.ledger.window(*job),
            })
        });
        open.take(MAPS_MAX).collect()
    }
}

/// The counts of a policy beside its limits.
fn told(policy: &RestartPolicy, tally: WindowCounts) -> Tally {
    let (name, limits) = match policy {
        RestartPolicy::RateLimited(policy) => (PolicyName::RateLimited, policy.limits()),
        RestartPolicy::CrashLoopBackoff(_) => (PolicyName::CrashLoopBackoff, None),
    };
    let all = tally.crashes + tally.completed;
    Tally {
        policy: name,
        window: policy.window(),
        crashes: tally.rounds,
        crashes_max: limits.map(|(crashes, _)| crashes),
        share: if all > 0 { tally.crashes as f64 / all as f64 } else { 0.0 },
        share_max: limits.map(|(_, share)| share),
    }
}

/// The beginning of a reason.
fn cut(reason: &str) -> String {
    let end = (0..=REASON_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason[..end.unwrap_or(0)].to_owned()
}

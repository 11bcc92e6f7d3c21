//! The ledger of one function: where every input is between *pulled* and *outcome*.
//!
//! The ledger owns the jobs, the leases (which container executes which range), the queues between them and
//! the restart policy. It decides dispatch, retry, replay, blame and poison. It holds the indices of inputs,
//! and neither inputs nor outcomes. It does not see each input complete, but only how far a lease has
//! advanced. A container's life:
//!
//! ```text
//!          begin              entered          claim ⇄ released
//! Absent ─────────▶ Starting ─────────▶ Live ─────────────────▶ Live, with a lease
//!    ▲                 │ crashed          │ crashed   │ nothing will come
//!    │ left            ▼                  │           ▼
//!    │            BackingOff ◀────────────┘        Exiting
//!    │                 │ begin, when due              │
//!    └─────────────────┼──────────────────────────────┘ left
//!                      └──▶ Starting, the next generation
//! ```
//!
//! A crash whose verdict is *now* or *give up* leads to Absent, and so does a kill.

mod ahead;
mod alone;
#[cfg(test)]
mod batch_limits_tests;
mod batches;
#[cfg(test)]
mod batches_tests;
mod blame;
mod causes;
mod changes;
mod containers;
mod deadlines;
#[cfg(test)]
mod explained;
#[cfg(test)]
mod fixture;
mod forming;
mod giving_up;
mod jobs;
mod lane;
#[cfg(test)]
mod lanes_tests;
mod lease;
mod leased;
mod leavers;
mod limits;
#[cfg(test)]
mod limits_tests;
mod new_inputs;
mod order;
mod orphans;
mod outcomes;
mod queue;
mod requeue;
mod requeued;
mod room;
mod scene;
mod seen;
mod stage_counts;
mod steal;
mod suspects;
mod timeouts;
mod totals;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, InputId, JobId, LaneId};
use crate::decide::admission::Admission;
use crate::decide::jitter::Jitter;
use crate::decide::job::Job;
use crate::decide::limits::LimitRules;
use crate::decide::restart::{RestartPolicy, Restarts};
use crate::decide::retries::Retries;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;

pub(crate) use crate::base::position::Position;
use ahead::Ahead;
pub(crate) use alone::Takers;
pub(crate) use batches::Batching;
use batches::Half;
pub(crate) use blame::AfterCrash;
use causes::Causes;
pub(crate) use changes::Change;
use containers::ContainerEntry;
pub(crate) use containers::ContainerStage;
use forming::FormingBatch;
pub(crate) use jobs::Unrun;
use lane::Lane;
pub(crate) use lease::{Assignment, Lease, LeaseKind};
use leased::Leased;
pub(crate) use limits::DueLimit;
use limits::RunningLimits;
pub(crate) use new_inputs::Sources;
pub(crate) use outcomes::{AfterFailure, Retryable};
pub(super) use queue::Queue;
pub(crate) use queue::Ticket;
use requeued::Requeued;
pub(crate) use scene::{Leaving, Pressure, Scene};
use stage_counts::StageCounts;
pub(crate) use steal::Steal;
use suspects::Suspects;
pub(crate) use suspects::{CrashNumber, Ready};
pub(crate) use timeouts::{AfterCut, CutBy, LaneStep};
use totals::LedgerTotals;
pub(crate) use verdict::Verdict;

/// The settings of the ledger, which were validated before.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) containers: usize,
    /// The number of inputs that a container has in flight at most.
    pub(crate) lanes: u32,
    /// Whether the inputs that a container has in flight share a state, so that all of them lose it at a
    /// crash.
    pub(crate) has_state: bool,
    /// How inputs form batches. `None` if they execute one by one.
    pub(crate) batch: Option<Batching>,
    pub(crate) retries: Retries,
    pub(crate) crash_retries: u32,
    pub(crate) restart: RestartPolicy,
    /// The largest number of calls without an outcome.
    pub(crate) calls_max: u64,
    /// The limits of time.
    pub(crate) limits: LimitRules,
}

impl Rules {
    /// The number of inputs that a container executes at the same time at most.
    pub(crate) fn in_flight(&self) -> u64 {
        self.batch.map_or(u64::from(self.lanes), |batch| batch.size)
    }
}

/// The activities that a function still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// The function does everything.
    Running,
    /// Accepted inputs finish. No input is pulled, and no call is accepted.
    Draining,
    /// Only executing inputs finish.
    Stopping,
    /// The function has ended.
    Aborted,
}

/// The ledger of one function.
#[derive(Debug)]
pub(crate) struct Ledger {
    rules: Rules,
    mode: Mode,
    /// Whether nothing new is dispatched until further notice. Only a function that runs is paused.
    paused: bool,
    restarts: Restarts,
    jitter: Option<Jitter>,
    containers: Vec<ContainerEntry>,
    /// The number of containers in each stage, and the containers that may have to be created.
    stages: StageCounts,
    /// Containers that exit to begin a new generation, until they have entered again or have died.
    recycling: BTreeSet<ContainerId>,
    jobs: BTreeMap<JobId, Job>,
    jobs_opened: u64,
    /// The number of accepted inputs of all jobs that have no outcome.
    pending: u64,
    leases: Leased,
    /// The lanes that have leased several inputs, or several batches.
    ahead: Ahead,
    /// The recent cost of an input, over all jobs.
    usual_cost: Option<Duration>,
    /// The bound on the calls that have no outcome, and those who wait for room.
    admission: Admission,
    /// Calls whose input was never assigned, in the order in which they were begun.
    calls: BTreeSet<JobId>,
    /// How many leases in a row were of calls.
    calls_in_a_row: u32,
    /// How many fresh calls were leased in a row. The leases that are the share of the maps do not end the
    /// row.
    fresh_calls_in_a_row: u32,
    /// Maps that may have new inputs, in the order of their turns. A map without new inputs, or without room
    /// for them, is not in the queue until that has changed.
    turns: Queue<JobId>,
    /// Maps that are not in `turns`, because their small amount of room is left to grow until this moment.
    little_room: BTreeSet<(Time, JobId)>,
    /// Inputs that a dead container had not begun.
    requeued: Requeued,
    /// Inputs that were executing when their container died, and have crashed no container.
    replays: Queue<InputId>,
    /// Inputs that are replayed alone in their container, and have crashed no container.
    alone: Queue<InputId>,
    /// Inputs that were executing together when their container died. Each entry is replayed in one batch,
    /// alone in its container.
    halves: Queue<Half>,
    /// The batch that forms in the queues.
    forming: FormingBatch,
    /// The container that takes nothing new until it is empty, because an input waits to execute alone.
    clearing: Option<ContainerId>,
    /// A container that was to become empty, and now need not. The engine has not yet learned that.
    unheld: Option<ContainerId>,
    /// Inputs that were executing when their container died, and have crashed a container.
    suspects: Suspects,
    /// Inputs that wait for a replay, or for a retry after a timeout, and have left a thread behind.
    left_a_thread: BTreeSet<InputId>,
    /// Failed inputs, sorted by the moment at which they are due.
    retries: BTreeSet<(Time, InputId)>,
    /// Whether new inputs come before due retries next time. The two take turns.
    new_goes_first: bool,
    /// The limits of time that run.
    limits: RunningLimits,
    /// The reason why the function gave up. No container is created and no input dispatched until a reset.
    gave_up: Option<GaveUp>,
    /// The first crashes of the window, which are reported if the function gives up.
    causes: Causes,
    /// Changes that were not yet reported.
    changes: Vec<Change>,
    /// Whether a crash loop has ended while containers waited for the end of its delay, and the engine has
    /// not yet learned that.
    recovered: bool,
    /// Crashes that are not needed any more. They may hold errors of the user's, which
    /// must not be dropped here.
    discarded: Vec<Arc<Crash>>,
    crashes: u64,
    restarted: u64,
    recycled: u64,
    last_crash: Option<(Time, Arc<Crash>)>,
    /// The totals over all jobs, which snapshots show.
    totals: LedgerTotals,
}

impl Ledger {
    pub(crate) fn new(rules: Rules) -> Self {
        let restarts = Restarts::new(rules.restart.clone());
        let life = restarts.started(Time::default());
        Self {
            mode: Mode::Running,
            paused: false,
            restarts,
            jitter: rules.retries.jitter_source(),
            containers: (0..rules.containers).map(|_| ContainerEntry::new(life)).collect(),
            stages: StageCounts::new(rules.containers),
            recycling: BTreeSet::new(),
            jobs: BTreeMap::new(),
            jobs_opened: 0,
            pending: 0,
            leases: Leased::default(),
            ahead: Ahead::default(),
            usual_cost: None,
            admission: Admission::new(rules.calls_max),
            calls: BTreeSet::new(),
            calls_in_a_row: 0,
            fresh_calls_in_a_row: 0,
            turns: Queue::default(),
            little_room: BTreeSet::new(),
            requeued: Requeued::default(),
            replays: Queue::default(),
            alone: Queue::default(),
            halves: Queue::default(),
            forming: FormingBatch::default(),
            clearing: None,
            unheld: None,
            suspects: Suspects::new(&rules),
            left_a_thread: BTreeSet::new(),
            retries: BTreeSet::new(),
            new_goes_first: false,
            limits: RunningLimits::default(),
            gave_up: None,
            causes: Causes::new(rules.restart.window()),
            changes: Vec::new(),
            recovered: false,
            discarded: Vec::new(),
            crashes: 0,
            restarted: 0,
            recycled: 0,
            last_crash: None,
            totals: LedgerTotals::default(),
            rules,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether inputs are still dispatched and containers created.
    pub(crate) fn goes_on(&self) -> bool {
        self.mode <= Mode::Draining && self.gave_up.is_none()
    }

    /// Whether inputs are dispatched now.
    pub(crate) fn dispatches(&self) -> bool {
        self.goes_on() && !self.paused
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Dispatches nothing new until [`resume`](Self::resume), a reset or the end of the function. Returns
    /// whether it was paused by this: it runs, and was not paused before.
    pub(crate) fn pause(&mut self) -> bool {
        let pauses = self.mode == Mode::Running && !self.paused;
        self.paused |= pauses;
        pauses
    }

    /// Dispatches again. Returns whether it was paused.
    pub(crate) fn resume(&mut self) -> bool {
        std::mem::take(&mut self.paused)
    }

    /// Advances to a later mode. Has no effect if `mode` is an earlier one. The end of a function ends
    /// its pause.
    pub(crate) fn advance_mode(&mut self, mode: Mode) {
        if mode > self.mode {
            self.mode = mode;
            self.paused = false;
            self.forming.since = None; // nothing more comes, so no batch is waited for
            // Sources are not pulled any more, so room that was left to grow may never grow.
            self.job_ids().into_iter().for_each(|job| self.requeue_map(job));
        }
        if !self.goes_on() || (self.mode == Mode::Draining && self.nothing_pending()) {
            self.stand_down();
        }
    }

    /// Cancels the creation of all containers that wait for it.
    fn stand_down(&mut self) {
        while let Some((_, id)) = self.stages.first_backing_off() {
            self.set_stage(id, ContainerStage::Absent);
        }
    }

    /// The reason why the function gave up, until it is reset.
    pub(crate) fn gave_up(&self) -> Option<&GaveUp> {
        self.gave_up.as_ref()
    }

    /// Forgets the crash history, ends a pause, and takes work again. Returns whether the function had
    /// given up.
    pub(crate) fn reset(&mut self) -> bool {
        self.paused = false;
        self.restarts.reset();
        self.containers.iter_mut().map(steps::each).for_each(|container| container.held_until = None);
        self.stand_down();
        let gave_up = self.gave_up.take();
        self.causes.reset(&mut self.discarded);
        self.discarded.extend(gave_up.iter().flat_map(GaveUp::deaths).cloned());
        gave_up.is_some()
    }

    /// Takes the crashes that must be dropped where users' values may be dropped.
    pub(crate) fn take_discarded(&mut self) -> Vec<Arc<Crash>> {
        std::mem::take(&mut self.discarded)
    }

    /// Whether every accepted input has its outcome.
    pub(crate) fn nothing_pending(&self) -> bool {
        self.pending == 0
    }

    /// The number of accepted inputs that have no outcome and are not executing.
    pub(crate) fn inputs_waiting(&self) -> u64 {
        self.pending - self.inputs_executing()
    }

    /// The number of inputs that are executing, or are about to.
    pub(crate) fn inputs_executing(&self) -> u64 {
        self.leased().map(|id| self.executing_in_lane(id)).sum()
    }

    /// The number of inputs that a lane executes, or is about to.
    pub(crate) fn executing_in_lane(&self, id: LaneId) -> u64 {
        let executing = self.lane(id).and_then(Lane::executing);
        executing.map_or(0, |(lease, index)| self.executing_with(&lease, index).len)
    }

    /// The containers that execute an input, or are about to, with its index and the moment
    /// since which that is known.
    pub(crate) fn executing_now(&self) -> impl Iterator<Item = (ContainerId, u64, Time)> {
        self.leased().filter_map(|id| {
            let lane = self.lane(id)?;
            let (_, index) = lane.executing()?;
            Some((id.container, index, lane.advanced))
        })
    }

    /// The number of loop crashes in a row and the moment of the first, if there is a crash loop.
    pub(crate) fn crash_loop(&mut self, now: Time) -> Option<(u32, Time)> {
        self.end_loop_if_stable(now);
        self.restarts.crash_loop()
    }

    pub(crate) fn held_until(&self, now: Time) -> Option<Time> {
        self.restarts.held_until(now)
    }

    pub(crate) fn lives(&self) -> Lives {
        Lives { crashes: self.crashes, restarts: self.restarted, recycled: self.recycled }
    }

    pub(crate) fn last_crash(&self) -> Option<(Time, Arc<Crash>)> {
        self.last_crash.clone()
    }
}

/// How often the containers of a function have crashed, restarted and been recycled since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lives {
    pub(crate) crashes: u64,
    pub(crate) restarts: u64,
    /// The number of exits of containers that then began a new generation.
    pub(crate) recycled: u64,
}

#[cfg(test)]
mod tests {
    use super::fixture::{FIRST, Rig, SECOND, START, at};
    use super::*;
    use crate::base::ids::Generation;
    use crate::decide::life::Next;
    use crate::decide::restart::{CrashLoopBackoff, RateLimited};

    fn generation(crash: &Arc<Crash>) -> Generation {
        crash.generation
    }

    #[test]
    fn a_container_waits_to_be_created_again_while_there_may_be_work_for_it() {
        for (mode, pending, waits) in [
            (Mode::Running, false, true),
            (Mode::Draining, true, true),
            (Mode::Draining, false, false),
            (Mode::Stopping, true, false),
            (Mode::Aborted, true, false),
        ] {
            let mut rig = Rig::new(1, RateLimited::new());
            if pending {
                rig.call();
            }
            rig.fails_to_start(FIRST, at(0));
            rig.fails_to_start(FIRST, at(1));
            rig.ledger.advance_mode(mode);
            let (_, stage) = rig.ledger.stage(FIRST);
            assert_eq!(matches!(stage, ContainerStage::BackingOff { .. }), waits, "{mode:?}, {pending}");
        }
    }

    #[test]
    fn a_mode_that_it_is_in_already_changes_nothing() {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.enters(FIRST, START);
        let map = rig.map(10, 0);
        rig.claims(FIRST, START);
        assert!(!rig.ledger.is_in_sight(map), "it has no inputs");
        rig.ledger.advance_mode(Mode::Running);
        assert!(!rig.ledger.is_in_sight(map));
        rig.ledger.advance_mode(Mode::Draining);
        assert!(rig.ledger.is_in_sight(map), "there may be less to wait for");
    }

    #[test]
    fn the_last_crash_is_kept_with_its_moment_and_the_one_before_is_given_out_to_be_dropped() {
        let mut rig = Rig::new(1, CrashLoopBackoff::new());
        assert!(rig.ledger.last_crash().is_none());
        rig.fails_to_start(FIRST, at(1));
        assert_eq!(rig.ledger.take_discarded().len(), 0);
        rig.fails_to_start(FIRST, at(2));
        let last = rig.ledger.last_crash();
        assert_eq!(last.map(|(moment, crash)| (moment, generation(&crash))), Some((at(2), Generation(2))));
        let discarded: Vec<Generation> = rig.ledger.take_discarded().iter().map(generation).collect();
        assert_eq!(discarded, [Generation(1)]);
        assert!(rig.ledger.take_discarded().is_empty(), "each is given out once");
    }

    #[test]
    fn a_reset_gives_out_the_crashes_by_which_it_gave_up() {
        let mut rig = Rig::new(1, RateLimited::new().max_crashes(0));
        assert!(!rig.ledger.reset(), "it had not given up");
        rig.fails_to_start(FIRST, at(1));
        assert!(rig.ledger.gave_up().is_some());
        assert!(rig.ledger.reset());
        assert!(rig.ledger.gave_up().is_none());
        assert!(!rig.ledger.take_discarded().is_empty());
        assert!(rig.ledger.goes_on());
    }

    #[test]
    fn a_paused_function_dispatches_nothing_of_any_queue_and_resumes_where_it_was() {
        let retries = Retries::new(1).initial_delay(Duration::ZERO);
        let mut rig = Rig::with(2, RateLimited::never(), retries, 3);
        let map = rig.map(10, 5);
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.takes(FIRST, START);
        rig.takes(SECOND, START);
        rig.crashes(FIRST, START);
        rig.ledger.failed(SECOND, Retryable::Yes, START);
        rig.ledger.released(SECOND, START);
        rig.call();
        rig.ledger.accept(map, 1);
        rig.enters(FIRST, at(1));
        assert!(rig.ledger.pause());
        assert!(!rig.ledger.pause(), "it is paused already");
        for id in [FIRST, SECOND] {
            assert_eq!(rig.claims(id, at(60_000)), Next::Wait { until: None });
        }
        assert!(!rig.ledger.has_more(at(60_000), &rig.sources));
        assert!(rig.ledger.suspect_ready(at(60_000)).is_none());
        assert!(!rig.ledger.nothing_pending());
        assert!(rig.ledger.resume());
        assert!(!rig.ledger.resume(), "it was resumed before");
        let kinds: Vec<LeaseKind> = std::iter::from_fn(|| match rig.claims(FIRST, at(60_000)) {
            Next::Work(lease) => {
                rig.completes(FIRST, at(60_000));
                Some(lease.kind)
            }
            _ => None,
        })
        .collect();
        assert!(kinds.contains(&LeaseKind::Replay { suspect: true }), "{kinds:?}");
        assert!(kinds.contains(&LeaseKind::Retry { due: START }), "{kinds:?}");
        assert!(rig.ledger.nothing_pending());
    }

    #[test]
    fn a_pause_ends_with_a_reset_and_with_each_end_of_the_function() {
        for mode in [Mode::Draining, Mode::Stopping, Mode::Aborted] {
            let mut rig = Rig::new(1, RateLimited::new());
            assert!(rig.ledger.pause());
            rig.ledger.advance_mode(mode);
            assert!(!rig.ledger.is_paused(), "{mode:?}");
            assert!(!rig.ledger.pause(), "{mode:?}: it ends, and is not paused any more");
        }
        let mut rig = Rig::new(1, RateLimited::new().max_crashes(0));
        assert!(rig.ledger.pause());
        rig.fails_to_start(FIRST, at(1));
        assert!(
            rig.ledger.is_paused() && rig.ledger.gave_up().is_some(),
            "a pause keeps nothing from giving up"
        );
        assert!(rig.ledger.reset());
        assert!(rig.ledger.dispatches());
    }

    #[test]
    fn a_delay_is_known_to_all_until_it_is_over() {
        let mut rig = Rig::new(2, RateLimited::new());
        rig.fails_to_start(FIRST, at(0));
        assert_eq!(rig.ledger.held_until(at(0)), None, "the first loop crash delays nothing");
        rig.fails_to_start(FIRST, at(1));
        assert_eq!(rig.ledger.held_until(at(10)), Some(at(11)));
        assert_eq!(rig.ledger.held_until(at(11)), None);
        assert_eq!(rig.ledger.crash_loop(at(11)), Some((2, at(0))));
    }

    #[test]
    fn what_executes_is_known_with_its_input_and_the_rest_waits() {
        let mut rig = Rig::new(2, RateLimited::new());
        let map = rig.map(10, 3);
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.ledger.accept(map, 3);
        rig.takes(SECOND, at(5));
        let executing: Vec<_> = rig.ledger.executing_now().collect();
        assert_eq!(executing, [(SECOND, 0, at(5))]);
        assert_eq!(rig.ledger.inputs_waiting(), 2);
        rig.ledger.advanced(SECOND, 1, at(6));
        assert_eq!(rig.ledger.executing_now().count(), 0, "all of the lease is done");
        assert_eq!(rig.ledger.inputs_waiting(), 2);
    }
}

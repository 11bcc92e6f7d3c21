//! The books of one function: where every input is between *pulled* and *outcome*.
//!
//! It owns jobs, leases (which container executes which range), the queues between them and the
//! restart policy, and decides dispatch, retry, replay, blame and poison. It does not hold inputs
//! or outcomes, only their indices; it does not see the inputs that complete one by one, only how
//! far a lease has come. A container's life:
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
//! A crash whose verdict is *now* or *give up*, and a kill, lead to Absent.

mod berth;
mod causes;
#[cfg(test)]
mod explained;
mod jobs;
mod lease;
mod queue;
mod seen;
mod split;
mod suspects;
mod totals;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, InputId, JobId};
use crate::decide::jitter::Jitter;
use crate::decide::job::{Job, Span};
use crate::decide::restart::{RestartPolicy, Restarts};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;

pub(crate) use crate::base::position::Position;
use berth::{Berth, Stages};
pub(crate) use berth::{Change, Stage};
use causes::Causes;
pub(crate) use jobs::Unrun;
pub(crate) use lease::{Claim, Lease, LeaseKind, Sources};
use queue::Queue;
pub(crate) use queue::Ticket;
pub(crate) use split::Split;
use suspects::Suspects;
pub(crate) use suspects::{CrashNumber, Ready};
use totals::Totals;
pub(crate) use verdict::{AfterCrash, AfterFailure, Crowd, Leaving, Worth};

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
    /// Over.
    Aborted,
}

/// One function's books.
#[derive(Debug)]
pub(crate) struct Ledger {
    rules: Rules,
    mode: Mode,
    restarts: Restarts,
    jitter: Option<Jitter>,
    berths: Vec<Berth>,
    /// How many containers are in which stage, and which of them may have to be created.
    stages: Stages,
    /// Containers that exit to begin anew, or do so: until they have entered again, or have died.
    recycling: BTreeSet<ContainerId>,
    jobs: BTreeMap<JobId, Job>,
    jobs_opened: u64,
    /// Accepted inputs of all jobs without an outcome.
    pending: u64,
    /// The containers that have a lease, by the job that it is of.
    leases: BTreeSet<(JobId, ContainerId)>,
    /// The containers that have leased several inputs.
    ahead: BTreeSet<ContainerId>,
    /// What inputs cost of late, of whatever job.
    usual_cost: Option<Duration>,
    /// Calls whose input was never assigned.
    calls: Queue<JobId>,
    /// How many leases in a row were of calls.
    calls_in_a_row: u32,
    /// Maps that may have new inputs, the one whose turn is next in front. A map that was found to have none, or no
    /// room for them, is not here until something of that has changed.
    turns: Queue<JobId>,
    /// Maps that are not in `turns`, because little room is left to grow until then.
    crumbs: BTreeSet<(Time, JobId)>,
    /// Inputs that a dead container had not begun.
    requeued: Queue<(JobId, Span)>,
    /// Inputs that were executing when their container died, and have crashed none.
    replays: Queue<InputId>,
    /// Inputs that were executing when their container died, and have crashed one before.
    suspects: Suspects,
    /// Inputs that wait to be replayed, and have left a thread behind.
    left_a_thread: BTreeSet<InputId>,
    /// Failed inputs, by the moment they are due.
    retries: BTreeSet<(Time, InputId)>,
    /// Whether new inputs go before due retries next time: the two take turns.
    new_goes_first: bool,
    /// Why the function gave up: no container is created and nothing dispatched until reset.
    gave_up: Option<GaveUp>,
    /// How it began, should it give up.
    causes: Causes,
    /// Changes of stages not yet told.
    changes: Vec<Change>,
    /// A crash loop ended while containers waited for the end of its delay; not yet told.
    recovered: bool,
    /// Crashes that nobody needs any more. They may hold errors of the user's, which must not be
    /// dropped here.
    discarded: Vec<Arc<Crash>>,
    crashes: u64,
    restarted: u64,
    recycled: u64,
    last_crash: Option<(Time, Arc<Crash>)>,
    /// For snapshots.
    totals: Totals,
}

impl Ledger {
    pub(crate) fn new(rules: Rules) -> Self {
        let restarts = Restarts::new(rules.restart.clone());
        let life = restarts.started(Time::default());
        Self {
            mode: Mode::Running,
            restarts,
            jitter: rules.retries.jitter_source(),
            berths: (0..rules.containers).map(|_| Berth::new(life)).collect(),
            stages: Stages::new(rules.containers),
            recycling: BTreeSet::new(),
            jobs: BTreeMap::new(),
            jobs_opened: 0,
            pending: 0,
            leases: BTreeSet::new(),
            ahead: BTreeSet::new(),
            usual_cost: None,
            calls: Queue::default(),
            calls_in_a_row: 0,
            turns: Queue::default(),
            crumbs: BTreeSet::new(),
            requeued: Queue::default(),
            replays: Queue::default(),
            suspects: Suspects::new(rules.containers),
            left_a_thread: BTreeSet::new(),
            retries: BTreeSet::new(),
            new_goes_first: false,
            gave_up: None,
            causes: Causes::new(rules.restart.window()),
            changes: Vec::new(),
            recovered: false,
            discarded: Vec::new(),
            crashes: 0,
            restarted: 0,
            recycled: 0,
            last_crash: None,
            totals: Totals::default(),
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

    /// Moves on to a later mode; never back.
    pub(crate) fn advance_mode(&mut self, mode: Mode) {
        if mode > self.mode {
            self.mode = mode;
            // Sources are not pulled any more: what little room waited for may never come.
            self.job_ids().into_iter().for_each(|job| self.look_again(job));
        }
        if !self.goes_on() || (self.mode == Mode::Draining && self.nothing_pending()) {
            self.stand_down();
        }
    }

    /// No container waits to be created any more.
    fn stand_down(&mut self) {
        while let Some((_, id)) = self.stages.first_backing_off() {
            self.turn(id, Stage::Absent);
        }
    }

    /// Why the function gave up, while it is given up.
    pub(crate) fn gave_up(&self) -> Option<&GaveUp> {
        self.gave_up.as_ref()
    }

    /// Forgets the crash history and takes work again. Returns whether it had given up.
    pub(crate) fn reset(&mut self) -> bool {
        self.restarts.reset();
        self.stand_down();
        let gave_up = self.gave_up.take();
        self.causes.reset(&mut self.discarded);
        self.discarded.extend(gave_up.iter().flat_map(GaveUp::deaths).cloned());
        gave_up.is_some()
    }

    /// Crashes that are to be dropped where users' values may be.
    pub(crate) fn take_discarded(&mut self) -> Vec<Arc<Crash>> {
        std::mem::take(&mut self.discarded)
    }

    /// Whether no accepted input is without its outcome.
    pub(crate) fn nothing_pending(&self) -> bool {
        self.pending == 0
    }

    /// Accepted inputs that have no outcome and are not executing.
    pub(crate) fn inputs_waiting(&self) -> u64 {
        self.pending - self.executing_now().count() as u64
    }

    /// The containers that execute, or are about to, with the index of the input and the moment since which that is known.
    pub(crate) fn executing_now(&self) -> impl Iterator<Item = (ContainerId, u64, Time)> {
        self.leased().filter_map(|id| {
            let berth = &self.berths[id.index()];
            let lease = berth.lease.filter(|lease| berth.booked < lease.span.end())?;
            Some((id, berth.booked.max(lease.span.first), berth.advanced))
        })
    }

    /// Loop crashes in a row and when the first of them was, if there is a crash loop.
    pub(crate) fn crash_loop(&mut self, now: Time) -> Option<(u32, Time)> {
        self.settle(now);
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

/// Totals over the life of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lives {
    pub(crate) crashes: u64,
    pub(crate) restarts: u64,
    /// Exits of containers that were to begin anew.
    pub(crate) recycled: u64,
}

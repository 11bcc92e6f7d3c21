//! The data for snapshots that the lock guards besides the ledger, and the descriptions of poisoned
//! inputs. A snapshot is taken in `read`.
//!
//! Under the lock a snapshot reads numbers and copies names. After the release of the lock crashes
//! become text, in the [`History`](crate::engine::history::History), and the user's code describes
//! poisoned inputs.

mod read;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId, LaneId};
use crate::contain::drops::{defer, defer_drop};
use crate::data::chunk::ChunkInputs;
use crate::decide::job::Counts;
use crate::decide::ledger::{Change, ContainerStage, Lease};
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::history::{DESCRIPTION_CHARS_MAX, Fact, name_of};
use crate::engine::job_buffers::JobBuffers;
use crate::engine::outbox::Outbox;
use crate::memory::local_charge::ChargeGuard;
use crate::values::crash::{Crash, CrashKind};
use crate::values::histogram::Histogram;
use crate::values::progress::Progress;
use crate::values::snapshot::rows::EndedMap;
use crate::values::snapshot::trouble::CrashCounts;

/// The largest number of closed maps that are remembered.
const ENDED_MAX: usize = 32;
/// The wait of one call in this many is measured, because reading the clock for each call would cost a
/// fiftieth of the call.
const SAMPLED: u64 = 16;
/// The largest number of calls whose wait is measured at the same time.
const SAMPLES_MAX: usize = 64;

/// The data for snapshots that the lock guards besides the ledger.
pub(super) struct Observed {
    /// The time at which the function was started, on the clock of snapshots.
    started: Duration,
    containers: Vec<SeenContainer>,
    /// The open maps, with the time at which each began.
    maps: BTreeMap<JobId, Time>,
    ended: VecDeque<EndedMap>,
    /// The calls whose wait is measured, with the time since which each waits.
    sampled: BTreeMap<JobId, Time>,
    queueing: Histogram,
    entering: Histogram,
    crashes: CrashCounts,
    /// The number of poisoned inputs.
    poisoned: u64,
    /// The facts that the history has not heard, in order. They are handed on when the lock is released.
    facts: Vec<(Fact, Time)>,
    /// The description of the input whose thread is about to report its crash. It is from the user's code.
    described: Option<String>,
    /// Poisoned inputs without a description, because another thread than their own reported the crash.
    undescribed: Vec<Undescribed>,
}

/// The data for snapshots of one container.
#[derive(Debug, Clone, Copy, Default)]
struct SeenContainer {
    /// The time at which the stage of the container last changed.
    since: Time,
    crashes: u64,
}

/// A poisoned input that is never moved out of its chunk.
pub(super) struct Undescribed {
    number: u64,
    inputs: Arc<ChunkInputs>,
    place: usize,
}

impl Observed {
    pub(super) fn new(containers: usize, started: Duration) -> Self {
        Self {
            started,
            containers: vec![SeenContainer::default(); containers],
            maps: BTreeMap::new(),
            ended: VecDeque::new(),
            sampled: BTreeMap::new(),
            queueing: Histogram::default(),
            entering: Histogram::default(),
            crashes: CrashCounts::default(),
            poisoned: 0,
            facts: Vec::new(),
            described: None,
            undescribed: Vec::new(),
        }
    }

    pub(super) fn started(&self) -> Duration {
        self.started
    }

    /// Sets the description of the input that the next crash may poison.
    pub(super) fn describes(&mut self, description: Option<String>) {
        self.described = description;
    }

    /// Whether something is left to do after the release of the lock.
    pub(super) fn has_deferred(&self) -> bool {
        !self.facts.is_empty() || !self.undescribed.is_empty()
    }

    /// Hands the facts on to the history. Returns whether there were any, and the inputs that should be
    /// described.
    pub(super) fn deferred(&mut self, outbox: &Outbox) -> (bool, Vec<Undescribed>) {
        let has_facts = !self.facts.is_empty();
        if has_facts {
            outbox.remember(&mut self.facts);
        }
        (has_facts, std::mem::take(&mut self.undescribed))
    }

    /// Notes a fact for the history.
    pub(super) fn remember(&mut self, fact: Option<Fact>, now: Time) {
        self.facts.extend(fact.map(|fact| (fact, now)));
    }

    /// Records that containers changed their stages, or that a crash loop ended.
    pub(super) fn changed(&mut self, changes: &[Change], now: Time) {
        for change in changes {
            match *change {
                Change::Stage { container, stage, .. } => {
                    let seen = &mut self.containers[container.index()];
                    if stage == ContainerStage::Live {
                        self.entering.add(1, now.since(seen.since));
                    }
                    seen.since = now;
                }
                Change::Recovered { crashes, since } => {
                    self.remember(Some(Fact::Recovered { crashes, since }), now);
                }
                Change::HangEnded { container, .. } => {
                    self.remember(Some(Fact::HangEnded(container)), now);
                }
            }
        }
    }

    /// Records that a map began.
    pub(super) fn map_began(&mut self, job: JobId, now: Time) {
        self.maps.insert(job, now);
    }

    /// Records that a call began. The clock is read only if the wait of the call is measured.
    pub(super) fn call_began(&mut self, job: JobId, now: impl FnOnce() -> Time) {
        if job.0.is_multiple_of(SAMPLED) && self.sampled.len() < SAMPLES_MAX {
            self.sampled.insert(job, now());
        }
    }

    /// Records that a container begins with a lease.
    pub(super) fn lent(&mut self, lease: &Lease, now: Time) {
        if lease.job.0.is_multiple_of(SAMPLED)
            && let Some(began) = self.sampled.remove(&lease.job)
        {
            self.queueing.add(1, now.since(began));
        }
    }

    /// Records that a job was closed. `counts` is `None` if the function has broken down.
    pub(super) fn closed(&mut self, job: JobId, buffers: &JobBuffers, progress: Option<Progress>, now: Time) {
        self.sampled.remove(&job);
        let Some(map) = buffers.map() else { return };
        let (Some(began), Some(progress)) = (self.maps.remove(&job), progress) else { return };
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(EndedMap {
            number: job.0 + 1,
            label: map.caller.label().cloned(),
            began: self.started.saturating_add(began.0),
            ended: self.started.saturating_add(now.0),
            progress,
        });
    }
}

impl State {
    /// Records the death of a container. `job` is the job of the input that it was executing.
    pub(super) fn sees_death(&mut self, crash: &Arc<Crash>, job: Option<JobId>, now: Time) {
        self.emit_changes(now); // earlier changes are remembered before this death
        let kind = crash.death.kind();
        self.observed.crashes.add(kind);
        if kind != CrashKind::Killed {
            self.observed.containers[crash.container.index()].crashes += 1;
        }
        let (job, completed) = (job.map(|job| job.0 + 1), self.completed());
        self.observed.remember(Some(Fact::Died { crash: Arc::clone(crash), job, completed }), now);
    }

    /// The number of inputs that were completed since the start, whether `Ok` or `Err`.
    fn completed(&self) -> u64 {
        let Counts { ok, failed, retried, .. } = self.ledger.totals().counts;
        ok + failed + retried
    }

    /// Records that an input is poisoned. The input is still in its chunk, and is about to be moved into its
    /// outcome.
    pub(super) fn sees_poisoned(
        &mut self,
        input: InputId,
        attempts: Attempt,
        last: Option<&Arc<Crash>>,
        caller: &Caller,
        now: Time,
    ) {
        self.observed.poisoned += 1;
        let number = self.observed.poisoned;
        let description = self.observed.described.take();
        if description.is_none()
            && let Some(chunk) = self.buffers.chunk(input)
        {
            let place = (input.index - chunk.first()) as usize;
            // An input that does not stay is moved into its outcome. Its own thread described it before.
            if chunk.stays(place) {
                let inputs = Arc::clone(chunk.inputs());
                self.observed.undescribed.push(Undescribed { number, inputs, place });
            }
        }
        let name = name_of(caller.label(), caller.call(), Some(input.job.0 + 1), input.index);
        let last = last.cloned();
        let fact = Fact::Poisoned { number, input: name, attempts, last, description };
        self.observed.remember(Some(fact), now);
    }
}

impl Dispatch {
    /// The description of the input that a container executes, if a crash now would poison the input. It is
    /// called on the container's own thread, which has unwound out of the execution.
    #[expect(unsafe_code, reason = "reads an input whose type only the user's code knows")]
    pub(super) fn describe_executing(&self, id: ContainerId, generation: Generation) -> Option<String> {
        if !self.settings.code.describes() {
            return None;
        }
        let (inputs, place) = {
            let mut state = self.lock();
            if !state.ledger.is_current(id, generation) || state.broken.is_some() {
                return None;
            }
            let leased: Vec<LaneId> = state.ledger.leased_by(id).collect();
            let now = self.now();
            if state.ledger.is_batched() {
                leased.into_iter().for_each(|lane| state.commit(lane, now));
            }
            let lane = self.culprit(&state, id)?;
            state.commit(lane, now); // what the container completed may prove it
            let lease = state.ledger.lease(lane)?;
            let run = state.run(lane)?;
            let index = run.executing()?;
            if !state.ledger.is_at_its_last(id, lease.job, index) {
                return None;
            }
            (Arc::clone(run.chunk.inputs()), (index - run.chunk.first()) as usize)
        };
        let _outside = ChargeGuard::process();
        // SAFETY: the input executes on this thread. Another thread that takes it away first fences the run,
        // sees that the input has begun, and marks it as one that stays in its chunk.
        let text = unsafe { self.settings.code.describe(&inputs, place) };
        text.map(|text| short(&text))
    }

    /// Lets the user's code describe poisoned inputs, and the history hear the descriptions.
    pub(super) fn describe(&self, undescribed: Vec<Undescribed>) {
        if undescribed.is_empty() || !self.settings.code.describes() {
            return defer_drop(self.settings.stack(), undescribed);
        }
        let (code, outbox) = (Arc::clone(&self.settings.code), Arc::clone(&self.outbox));
        let (host, stack) = (Arc::clone(&self.host), self.settings.stack());
        // The code of an abandoned attempt may hold a lock that the description waits for. So the
        // description has a thread of its own, and delays no event. It needs no order, because it bears the
        // number of its input.
        defer(stack, move || {
            let _outside = ChargeGuard::process();
            for Undescribed { number, inputs, place } in undescribed {
                #[expect(unsafe_code, reason = "reads an input whose type only the user's code knows")]
                // SAFETY: the input is marked as one that stays in its chunk.
                let text = unsafe { code.describe(&inputs, place) };
                let fact = text.map(|text| Fact::Described { number, description: short(&text) });
                outbox.remember(&mut fact.map(|fact| (fact, host.now())).into_iter().collect());
                outbox.write_down();
                defer_drop(stack, inputs);
            }
        });
    }
}

/// The beginning of a description.
fn short(text: &str) -> String {
    text.chars().take(DESCRIPTION_CHARS_MAX).collect()
}

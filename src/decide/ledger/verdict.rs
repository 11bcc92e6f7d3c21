//! The ends of inputs and containers: completion, failure, crash and kill, with retry, replay and blame.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId, LaneId};
use crate::decide::claim_sizer::ClaimSizer;
use crate::decide::job::{DEATHS_MAX, InputEnd, InputRecord, Job, OnFailure, Span, Waits};
use crate::decide::ledger::containers::Orphan;
use crate::decide::ledger::{ContainerStage, CrashNumber, Lease, LeaseKind, Ledger, Mode, Position};
use crate::decide::restart::{DeathFacts, Restart};
use crate::decide::retries::RETRY_DELAY_MAX;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::{Crash, CrashKind, Previous};
use crate::values::gave_up::GaveUp;

/// The answer of `retry_if` and `retry_after` to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retryable {
    Yes,
    /// The error is worth a retry, but not before this time has passed.
    After(Duration),
    No,
}

impl Retryable {
    /// The delay of the retry, where the policy says `delay`.
    fn delay(self, delay: Duration) -> Duration {
        match self {
            Self::After(least) => delay.max(least.min(RETRY_DELAY_MAX)),
            Self::Yes | Self::No => delay,
        }
    }
}

/// The decision on a failed input.
#[derive(Debug, Clone)]
pub(crate) enum AfterFailure {
    /// The input is executed again, after its delay.
    Retry,
    /// The failure surfaces. `deaths` are the deaths that the input caused before.
    Final { attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
    /// The deadline of the input passes before its next attempt is due. `limit` is its length.
    PastDeadline { attempts: Attempt, deaths: Vec<Arc<Crash>>, limit: Duration, ends_map: bool },
}

/// The decision on the input that was executing when its container died.
#[derive(Debug, Clone)]
pub(crate) enum AfterCrash {
    /// The input is executed again, or is given up with the function.
    Pending { input: InputId },
    /// The input's crash budget is spent.
    Poisoned { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
    /// The container was killed by hand, and the input may not be begun again. `deaths` are the deaths that
    /// the input caused before.
    Lost { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, crash: Arc<Crash>, ends_map: bool },
    /// The input has left too many threads behind by timeouts.
    TimedOut { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, limit: Duration, ends_map: bool },
}

/// Whether the first input of a returned lease has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HadBegun {
    Nothing,
    First,
}

/// Where in its queue an input begins to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueEnd {
    Front,
    Back,
}

/// How a container leaves the user's code when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Whether its thread is left behind there, for an unknown time. Otherwise the thread has left the
    /// code, or is about to.
    pub(crate) abandoned: bool,
    /// How crowded the abandoned threads are, including this one.
    pub(crate) pressure: Pressure,
}

impl Leaving {
    /// The same for an input in whose code the thread is not, so that it has left no thread behind.
    pub(super) fn of_innocent(self) -> Self {
        Self { abandoned: false, ..self }
    }
}

/// How many threads are abandoned, and how much memory they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// More threads may be abandoned.
    None,
    /// The threads hold as much memory as they may. No input is replayed that might abandon another thread.
    Bytes,
    /// As many threads are abandoned as may be. No container is created either.
    Threads,
}

/// An input that was replayed free this often executes alone from then on, so that a crash shows whether the
/// input is to blame.
const FREED_MAX: u32 = 3;

/// How an input that was set free executes the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextTime {
    AsItComes,
    Alone,
    /// Together with others of its batch. The caller puts it into a queue.
    InHalves,
}

/// The parts of a verdict that do not depend on whether the container lives on.
struct Judged {
    death: DeathFacts,
    restart: Restart,
    /// The decision on the input whose code ended the container.
    culprit: Option<AfterCrash>,
}

/// An input may abandon this many threads. After that it is not replayed, because a replay
/// could abandon another.
const ABANDONED_MAX: u32 = 2;

/// How far a container was in each of its leases when it died.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scene {
    /// The lane whose code ended the container, or in whose code its thread was, if that is known.
    pub(crate) culprit: Option<LaneId>,
    /// The position in the lease of each lane that has one.
    pub(crate) positions: Vec<(LaneId, Position)>,
}

impl Scene {
    /// The scene of a container that executes one input at a time.
    #[cfg(test)]
    pub(crate) fn of(id: ContainerId, position: Option<Position>) -> Self {
        let lane = LaneId::from(id);
        Self {
            culprit: Some(lane),
            positions: position.map(|position| (lane, position)).into_iter().collect(),
        }
    }

    fn position(&self, lane: LaneId) -> Option<Position> {
        self.positions.iter().find(|(at, _)| *at == lane).map(|(_, position)| *position)
    }

    /// The culprit, with its position.
    pub(crate) fn culprit(&self) -> Option<(LaneId, Option<Position>)> {
        self.culprit.map(|lane| (lane, self.position(lane)))
    }

    /// The only lane whose input was executing. `None` if none was, or several were.
    pub(crate) fn only_executing(&self) -> Option<LaneId> {
        let mut executing = self.positions.iter().filter(|(_, position)| position.begun);
        let (lane, _) = executing.next()?;
        executing.next().is_none().then_some(*lane)
    }

    /// Whether an input of this lane was executing.
    pub(crate) fn has_begun(&self, lane: LaneId) -> bool {
        self.position(lane).is_some_and(|position| position.begun)
    }

    /// Whether more than one input was executing.
    fn is_crowded(&self) -> bool {
        self.positions.iter().filter(|(_, position)| position.begun).count() > 1
    }
}

/// The decision on a crash.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) restart: Restart,
    /// The decisions on the input that was executing, and on inputs that must not be replayed any more.
    pub(crate) inputs: Vec<AfterCrash>,
}

impl Ledger {
    /// Commits the inputs of the lane's lease before `upto` as completed with `Ok`. Returns the range that
    /// was newly committed.
    pub(crate) fn advanced(&mut self, id: impl Into<LaneId>, upto: u64, now: Time) -> Option<(JobId, Span)> {
        let id = id.into();
        let container = &mut self.containers[id.container.index()];
        let lane = container.lanes.get_mut(id.index())?;
        let lease = lane.lease?;
        assert!(upto <= lease.span.end(), "lane {id} came past the end of its lease");
        let span = Span { first: lane.committed, len: upto.saturating_sub(lane.committed) };
        if span.len == 0 {
            return None;
        }
        lane.committed = upto;
        lane.advanced = now;
        container.proof = container.proof.max(lane.proof);
        container.done_proof = container.done_proof.max(lane.proof);
        self.recovered |= self.restarts.completed(&mut container.life, span.len, now);
        self.note_recovery();
        self.pending -= span.len;
        self.totals.ok(span.len, now);
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        job.ends(InputEnd::Ok, span);
        job.kind().ended(span.len, &mut self.admission);
        if lease.kind != LeaseKind::First {
            job.take_record(lease.span.first);
        }
        Some((lease.job, span))
    }

    /// Commits the input at the committed position as failed. `retryable` is the answer of `retry_if` and
    /// `retry_after`.
    pub(crate) fn failed(&mut self, id: impl Into<LaneId>, retryable: Retryable, now: Time) -> AfterFailure {
        let id = id.into();
        let container = &mut self.containers[id.container.index()];
        let lane = &mut container.lanes[id.index()];
        let lease = lane.lease.expect("a failure comes from a lease");
        let index = lane.committed;
        assert!(index < lease.span.end(), "a failure past the end of the lease");
        lane.committed += 1;
        lane.advanced = now;
        container.done_proof = container.done_proof.max(lane.proof);
        self.recovered |= self.restarts.completed(&mut container.life, 1, now);
        self.note_recovery();
        let goes_on = self.goes_on();
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(index);
        let attempts = record.attempt();
        record.failures += 1;
        record.previous = Some(Previous::Failed);
        let failures = record.failures;
        let (retries, jitter) = match job.map_mut().and_then(|map| map.retries.as_mut()) {
            Some((retries, jitter)) => (&*retries, jitter),
            None => (&self.rules.retries, &mut self.jitter),
        };
        let again = retryable != Retryable::No && failures <= retries.retries_max() && goes_on;
        let mut past_deadline = None;
        if again {
            let delay = retries.delay(failures);
            let delay = jitter.as_mut().map_or(delay, |jitter| jitter.equal(delay));
            let due = now + retryable.delay(delay);
            let deadline = self.deadline_of(InputId { job: lease.job, index });
            past_deadline = deadline.filter(|(_, passes)| due >= *passes).map(|(limit, _)| limit);
            if past_deadline.is_none() {
                return self.retries_at(due, InputId { job: lease.job, index }, now);
            }
        }
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let deaths = job.take_record(index).map_or_else(Vec::new, |record| record.deaths);
        job.ends(InputEnd::Failed, Span { first: index, len: 1 });
        job.kind().ended(1, &mut self.admission);
        self.pending -= 1;
        self.totals.failed(false, now);
        let ends_map = job.on_failure() == OnFailure::EndMap;
        match past_deadline {
            Some(limit) => {
                self.totals.past_deadline += 1;
                AfterFailure::PastDeadline { attempts, deaths, limit, ends_map }
            }
            None => AfterFailure::Final { attempts, deaths, ends_map },
        }
    }

    /// A failed input waits for its retry, which is due at this moment.
    fn retries_at(&mut self, due: Time, input: InputId, now: Time) -> AfterFailure {
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        record.alone = false; // the input has returned, and has crashed nothing
        record.waits = Some(Waits::Retry(due));
        self.retries.insert((due, input));
        self.totals.failed(true, now);
        AfterFailure::Retry
    }

    /// Ends the lease and requeues the rest of it, which has not begun. `returned` is the moment at which the
    /// thread came back from the inputs.
    pub(crate) fn released(&mut self, id: impl Into<LaneId>, returned: Time) {
        self.release(id.into(), HadBegun::Nothing, 0, returned);
    }

    /// Takes the lease back because its job is about to end. An input that executes at
    /// `position` goes on as an orphan.
    pub(crate) fn recalled(&mut self, id: LaneId, position: Option<Position>, now: Time) {
        let executing = self.executing(id, position);
        let together = self.executing_span(id, position).map_or(0, |(_, span)| span.len);
        if let Some(input) = executing {
            let orphan = self.orphan_of(input, together);
            self.set_orphan(id, Some(orphan));
        }
        let begun = if executing.is_some() { HadBegun::First } else { HadBegun::Nothing };
        self.release(id, begun, together, now);
    }

    /// The facts about the execution of an input that goes on as an orphan.
    pub(super) fn orphan_of(&self, input: InputId, together: u64) -> Orphan {
        let record = self.record(input);
        Orphan {
            index: input.index,
            attempt: record.map_or(Attempt::FIRST, InputRecord::attempt),
            together,
            suspect: record.is_some_and(InputRecord::is_suspect),
            counted: record.and_then(|record| record.counted),
        }
    }

    /// `executing` is the number of inputs that had begun and have not ended.
    fn release(&mut self, id: LaneId, begun: HadBegun, executing: u64, returned: Time) {
        let container = &mut self.containers[id.container.index()];
        let Some(lane) = container.lanes.get_mut(id.index()) else { return };
        let Some(lease) = lane.lease.take() else { return };
        let done = lane.committed - lease.span.first;
        let rest = Span { first: lane.committed, len: lease.span.end() - lane.committed };
        let took = returned.since(lane.taken);
        container.leases -= 1;
        container.alone = false; // a lane that executes alone has the only lease
        let done = done + executing; // the inputs that execute have taken their part of the time
        self.leases.ends(lease.job, id);
        self.ahead.remove(&id);
        self.suspects.end(id);
        self.ends_under_timeout(id);
        let took = self.share_of_batch(id, lease.span.len, done, took);
        match self.jobs.get_mut(&lease.job) {
            Some(Job::Map(map)) => {
                map.sizer.measured(done, took);
                self.usual_cost = map.sizer.cost();
            }
            Some(Job::Call(_)) => {
                let mut share = ClaimSizer::like(self.usual_cost);
                share.measured(done, took);
                self.usual_cost = share.cost();
            }
            None => {}
        }
        self.requeue(lease, rest, begun);
    }

    /// Shortens the lease so that it ends before `end`, and requeues the rest. `cost` is a lower bound of the
    /// cost of an input, if inputs are more expensive than was assumed.
    pub(crate) fn truncated(&mut self, id: LaneId, end: u64, cost: Option<Duration>) {
        let Some(lease) = self.lease(id) else { return };
        if let (Some(cost), Some(map)) = (cost, self.jobs.get_mut(&lease.job).and_then(Job::map_mut)) {
            map.sizer.costs_at_least(cost);
        }
        let lease = self.lane_mut(id).lease.as_mut().expect("the lane has a lease");
        let cut = Span { first: end, len: lease.span.end() - end };
        lease.span.len = end - lease.span.first;
        let lease = *lease;
        self.unfills(id.container, cut.len);
        self.requeue(lease, cut, HadBegun::Nothing);
    }

    /// Requeues inputs that had not begun in the queue from which they came. Their replays and
    /// retries are not counted.
    pub(super) fn requeue(&mut self, lease: Lease, span: Span, begun: HadBegun) {
        if span.len == 0 {
            return;
        }
        let input = InputId { job: lease.job, index: span.first };
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let not_begun = begun == HadBegun::Nothing;
        match lease.kind {
            LeaseKind::First => job.waits_at(self.requeued.push_back((lease.job, span))),
            LeaseKind::Replay { .. } => {
                if not_begun {
                    job.has_not_replayed();
                }
                self.await_replay(input, QueueEnd::Front);
            }
            LeaseKind::Retry { due } => {
                if not_begun {
                    job.has_not_retried();
                }
                let record = job.record_mut(input.index).expect("it was executed before");
                record.waits = Some(Waits::Retry(due));
                self.retries.insert((due, input));
            }
        }
    }

    /// Decides on the crash of a container. `scene` is how far the container was in its leases. The inputs
    /// that it completed before are committed already. Returns `None` for an old generation.
    pub(crate) fn crashed(
        &mut self,
        id: ContainerId,
        generation: Generation,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Option<Verdict> {
        if !self.is_current(id, generation) {
            return None;
        }
        let Judged { death, mut restart, culprit } = self.judge(id, scene, crash, leaving, now);
        let mut inputs: Vec<AfterCrash> = culprit.into_iter().collect();
        let together = self.rules.batch.is_some() && scene.culprit.is_none();
        if together {
            inputs = self.halve(id, scene, crash, leaving);
        }
        // If no input is known to have crossed the memory limit, it may have been any of them.
        let unknown = scene.culprit.is_none() && crash.death.kind() == CrashKind::MemoryLimit;
        let next_time = if unknown { NextTime::Alone } else { NextTime::AsItComes };
        for (lane, position) in &scene.positions {
            if scene.culprit != Some(*lane) && !together {
                inputs.extend(self.set_free(*lane, *position, next_time, crash, leaving.of_innocent()));
            }
            self.give_back(*lane, *position, now);
        }
        inputs.extend(self.is_left_behind(scene, leaving));
        self.containers[id.index()].at_once = !death.is_loop_crash();
        self.recycling.remove(&id);
        let restarts_in_place = restart == Restart::Now && !leaving.abandoned;
        self.change(id, |container| container.returning = restarts_in_place);
        if !restarts_in_place && self.is_hopeless(id, leaving) {
            restart = Restart::GiveUp;
        }
        if restart == Restart::GiveUp && self.goes_on() {
            self.give_up(Arc::clone(crash));
        }
        self.set_stage(
            id,
            match restart {
                Restart::At(until) if self.goes_on() => ContainerStage::BackingOff { until },
                Restart::Now | Restart::At(_) | Restart::GiveUp => ContainerStage::Absent,
            },
        );
        self.end_under_pressure(leaving, &mut inputs);
        self.totals.after_crash(&inputs);
        self.note_arrival(now); // something may wait again
        Some(Verdict { restart, inputs })
    }

    /// Decides on a crash in one lane of a container whose code has no state. The other lanes have nothing to
    /// lose, so the container lives on. It counts as entered after the crash, and takes nothing new inside a
    /// delay of the policy. Returns `None` for an old generation.
    pub(crate) fn crashed_in_lane(
        &mut self,
        lane: LaneId,
        generation: Generation,
        scene: &Scene,
        crash: &Arc<Crash>,
        now: Time,
    ) -> Option<Verdict> {
        let id = lane.container;
        if !self.is_current(id, generation) {
            return None;
        }
        let stays = Leaving { abandoned: false, pressure: Pressure::None };
        let Judged { restart, culprit, .. } = self.judge(id, scene, crash, stays, now);
        if let Some((_, Some(position))) = scene.culprit() {
            self.give_back(lane, position, now);
        }
        if restart == Restart::GiveUp && self.goes_on() {
            self.give_up(Arc::clone(crash));
        }
        let held_until = if let Restart::At(until) = restart { Some(until) } else { None };
        let mut life = self.restarts.started(now);
        self.restarts.entered(&mut life, held_until.unwrap_or(now)); // it does not stay up while it is held
        self.suspects.entered(now);
        if self.clearing == Some(id) && held_until.is_some() {
            self.clearing = None; // another container may execute the input sooner
        }
        let container = &mut self.containers[id.index()];
        container.life = life;
        container.proof = self.crashes;
        container.done_proof = 0;
        container.held_until = held_until;
        let inputs: Vec<AfterCrash> = culprit.into_iter().collect();
        self.totals.after_crash(&inputs);
        Some(Verdict { restart, inputs })
    }

    /// Counts a crash, and decides on the restart and on the input that is to blame.
    fn judge(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Judged {
        self.crashes += 1;
        let before = self.last_crash.replace((now, Arc::clone(crash)));
        self.discarded.extend(before.map(|(_, crash)| crash));
        self.end_loop_if_stable(now);
        let culprit = scene.culprit();
        let executing = culprit.and_then(|(lane, position)| self.executing(lane, position));
        let record = executing.and_then(|input| self.record(input));
        let orphan = culprit.and_then(|(lane, _)| self.orphan(lane));
        let life = self.containers[id.index()].life;
        let death = DeathFacts {
            life,
            spare: life.entered.is_none() && self.others_serve(id),
            suspect: self.executes_half(id)
                || record.is_some_and(InputRecord::is_suspect)
                || orphan.is_some_and(|orphan| orphan.suspect),
            input_counted: record.map_or(orphan.and_then(|orphan| orphan.counted), |record| record.counted),
        };
        let (restart, counted) = self.restarts.crashed(death, now);
        if self.restarts.may_give_up() {
            self.causes.add(crash, now, &mut self.discarded);
        }
        let container = &self.containers[id.index()];
        let outlived = container.proof.max(container.done_proof);
        // It is not known which of several inputs has filled the memory. The one that crossed the limit shows
        // that when it executes alone.
        let others_go_on = self.containers[id.index()].leases as usize > scene.positions.len();
        let is_crowded = scene.is_crowded() || others_go_on;
        let is_known = crash.death.kind() != CrashKind::MemoryLimit || !is_crowded;
        let is_innocent = crash.death.kind() == CrashKind::Unresponsive;
        self.leaver_counts(scene, counted, now);
        let culprit = executing.map(|input| {
            if is_innocent {
                self.set_input_free(input, NextTime::AsItComes, crash, leaving)
            } else if is_known {
                self.blame(input, outlived, crash, counted, leaving, now)
            } else {
                self.set_input_free(input, NextTime::Alone, crash, leaving)
            }
        });
        Judged { death, restart, culprit }
    }

    /// Replays the input of a lane that was executing beside the one that crashed. It is innocent, so this
    /// costs nothing. The input is lost where no input may be begun again.
    fn set_free(
        &mut self,
        lane: LaneId,
        position: Position,
        next_time: NextTime,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> Option<AfterCrash> {
        let input = self.executing(lane, Some(position))?;
        Some(self.set_input_free(input, next_time, crash, leaving))
    }

    pub(super) fn set_input_free(
        &mut self,
        input: InputId,
        next_time: NextTime,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> AfterCrash {
        let at_most_once = self.rules.crash_retries == 0;
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        record.kills += 1;
        record.freed += 1;
        record.alone |= next_time == NextTime::Alone || record.freed >= FREED_MAX;
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if record.is_abandoned_for_good(leaving) || at_most_once {
            self.pending -= 1;
            job.kind().ended(1, &mut self.admission);
            return job.lose(input, attempts, Arc::clone(crash));
        }
        if next_time != NextTime::InHalves {
            self.await_replay(input, QueueEnd::Back);
        }
        AfterCrash::Pending { input }
    }

    /// Whether the verdict on a crash depends on the inputs that other containers have completed.
    pub(crate) fn verdict_depends_on_others(&mut self, now: Time) -> bool {
        self.restarts.depends_on_completions(now)
    }

    /// The next moment at which completed inputs should be committed, if a later verdict may depend on
    /// when they were completed.
    pub(crate) fn next_commit(&mut self, now: Time) -> Option<Time> {
        if self.goes_on() && !self.nothing_pending() { self.restarts.next_count(now) } else { None }
    }

    /// Decides on a container that was killed by hand. It is not blamed, spends no budget, and is no crash
    /// in the policy's count.
    pub(crate) fn killed(
        &mut self,
        id: ContainerId,
        scene: &Scene,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Vec<AfterCrash> {
        self.end_loop_if_stable(now);
        let mut inputs = Vec::new();
        let is_half = self.executes_half(id);
        if is_half {
            inputs = self.replay_half(id, scene, crash, leaving);
        }
        for (lane, position) in &scene.positions {
            let executing = self.executing_span(*lane, Some(*position)).filter(|_| !is_half);
            let is_in_code = scene.culprit == Some(*lane);
            let leaving = if is_in_code { leaving } else { leaving.of_innocent() };
            for (job, index) in
                executing.into_iter().flat_map(|(job, span)| span.indices().map(move |at| (job, at)))
            {
                inputs.push(self.interrupt_by_hand(InputId { job, index }, crash, leaving));
            }
            self.give_back(*lane, *position, now);
        }
        inputs.extend(self.is_left_behind(scene, leaving));
        self.set_stage(id, ContainerStage::Absent);
        self.recycling.remove(&id);
        if self.is_hopeless(id, leaving) && self.goes_on() {
            self.give_up(Arc::clone(crash));
        }
        self.end_under_pressure(leaving, &mut inputs);
        self.totals.after_crash(&inputs);
        self.note_arrival(now); // something may wait again
        inputs
    }

    /// Decides on an input that was executing in a container that was killed by hand.
    fn interrupt_by_hand(&mut self, input: InputId, crash: &Arc<Crash>, leaving: Leaving) -> AfterCrash {
        let at_most_once = self.rules.crash_retries == 0;
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        record.kills += 1;
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if record.is_abandoned_for_good(leaving) || at_most_once {
            self.pending -= 1;
            job.kind().ended(1, &mut self.admission);
            return job.lose(input, attempts, Arc::clone(crash));
        }
        self.await_replay(input, QueueEnd::Back);
        AfterCrash::Pending { input }
    }

    /// Whether no container is left to do the work and none can be created. A function that
    /// may give up then does.
    fn is_hopeless(&self, id: ContainerId, leaving: Leaving) -> bool {
        leaving.pressure == Pressure::Threads && self.restarts.may_give_up() && self.is_last(id)
    }

    /// Whether no other container lives, or is about to on the thread that it has. One that hangs does not
    /// count.
    fn is_last(&self, id: ContainerId) -> bool {
        self.serving() == usize::from(self.containers[id.index()].serves())
    }

    /// Whether no container lives or is about to, in a function that may give up because of that.
    pub(crate) fn is_deserted(&self) -> bool {
        self.restarts.may_give_up() && !self.has_server()
    }

    /// Gives up if the function may, and no container is left that does the work or is about to. The caller
    /// knows that none can be created. Returns whether the function gave up.
    ///
    /// A container that was to restart in place counts as left at the deaths of the others. It does not come
    /// back if a crash loop holds it back meanwhile, because it then needs a new thread.
    pub(crate) fn give_up_if_deserted(&mut self) -> bool {
        if self.mode != Mode::Running || self.gave_up.is_some() || !self.is_deserted() {
            return false;
        }
        let Some((_, crash)) = self.last_crash() else { return false };
        self.give_up(crash);
        true
    }

    pub(super) fn give_up(&mut self, last: Arc<Crash>) {
        self.gave_up = Some(GaveUp::new(self.causes.first(), last));
        self.stand_down();
    }

    /// Ends the inputs that wait to be replayed and have left a thread behind before, because no more
    /// threads may be abandoned.
    fn end_under_pressure(&mut self, leaving: Leaving, ended: &mut Vec<AfterCrash>) {
        if !leaving.abandoned || leaving.pressure == Pressure::None {
            return;
        }
        for input in std::mem::take(&mut self.left_a_thread).into_iter().map(steps::each) {
            self.leave_queue(input);
            let previous = self.record(input).and_then(|record| record.previous.as_ref());
            if matches!(previous, Some(Previous::TimedOut)) {
                ended.push(self.end_timed_out(input));
                continue;
            }
            self.pending -= 1;
            let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
            job.kind().ended(1, &mut self.admission);
            ended.push(job.end_abandoned(input));
        }
    }

    /// Puts an input into the queue of its replays.
    fn await_replay(&mut self, input: InputId, place: QueueEnd) {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        let record = job.record_mut(input.index).expect("it was executed before");
        record.waits = Some(match record.crashed {
            Some((crash, at)) => {
                self.suspects.wait(input, crash, at);
                Waits::Suspect(crash)
            }
            None if record.freed > 0 && self.rules.batch.is_some() => {
                Waits::Half(self.halves.push_back(BTreeSet::from([input])))
            }
            None if record.alone => Waits::Alone(self.alone.push_back(input)),
            None if place == QueueEnd::Front => Waits::Replay(self.replays.push_front(input)),
            None => Waits::Replay(self.replays.push_back(input)),
        });
        if record.abandoned > 0 {
            self.left_a_thread.insert(input);
        }
    }

    /// Removes an input from the queue in which it waits after an execution.
    pub(super) fn leave_queue(&mut self, input: InputId) {
        let Some(record) = self.jobs.get_mut(&input.job).and_then(|job| job.record_mut(input.index)) else {
            return;
        };
        if record.abandoned > 0 {
            self.left_a_thread.remove(&input);
        }
        match record.waits.take() {
            Some(Waits::Replay(ticket)) => _ = self.replays.remove(ticket),
            Some(Waits::Alone(ticket)) => {
                self.alone.remove(ticket);
                self.unhold();
            }
            Some(Waits::Half(ticket)) => self.leave_half(ticket, input),
            Some(Waits::Suspect(crash)) => {
                self.suspects.remove(crash);
                self.unhold();
            }
            Some(Waits::Retry(due)) => _ = self.retries.remove(&(due, input)),
            Some(Waits::Leaving) | None => {}
        }
    }

    /// A container that was to become empty claims again, because the input may not wait for it any more.
    pub(super) fn unhold(&mut self) {
        if let Some(id) = self.clearing.take() {
            self.unheld = Some(id);
        }
    }

    /// The input that was executing at `position`, if there is one. If a batch was executing, it is the
    /// first.
    pub(super) fn executing(&self, id: LaneId, position: Option<Position>) -> Option<InputId> {
        let (job, span) = self.executing_span(id, position)?;
        Some(InputId { job, index: span.first })
    }

    /// The inputs that were executing at `position`, if there are any.
    pub(super) fn executing_span(&self, id: LaneId, position: Option<Position>) -> Option<(JobId, Span)> {
        let lane = self.lane(id)?;
        let lease = lane.lease?;
        let position = position.filter(|position| position.begun)?;
        assert_eq!(position.at, lane.committed, "all inputs before it are committed");
        Some((lease.job, self.executing_with(&lease, position.at)))
    }

    /// The indices of the inputs that were executing at `position`.
    pub(crate) fn executing_at(&self, id: LaneId, position: Option<Position>) -> std::ops::Range<u64> {
        self.executing_span(id, position).map_or(0..0, |(_, span)| span.indices())
    }

    /// The record of an input of an open job.
    pub(super) fn record_of(&mut self, input: InputId) -> &mut InputRecord {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        job.record_mut(input.index).expect("it was executed before")
    }

    /// Blames an input that was executing when its container crashed. `outlived` is the last crash that
    /// the container had outlived: it was begun after that crash, or has completed an input of a lease
    /// that it took after it.
    fn blame(
        &mut self,
        input: InputId,
        outlived: CrashNumber,
        crash: &Arc<Crash>,
        counted: bool,
        leaving: Leaving,
        now: Time,
    ) -> AfterCrash {
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if counted {
            record.counted = Some(now);
        }
        if record.deaths.len() < DEATHS_MAX {
            record.deaths.push(Arc::clone(crash));
        }
        // If the container has not proved itself, the fault may be the container's.
        let is_charged = record.crashed.is_none_or(|(last, _)| outlived >= last);
        if is_charged {
            record.crashes += 1;
        } else {
            record.kills += 1;
        }
        record.crashed = Some((self.crashes, now));
        if record.is_abandoned_for_good(leaving) || record.crashes > self.rules.crash_retries {
            self.pending -= 1;
            job.kind().ended(1, &mut self.admission);
            return job.poison(input, attempts);
        }
        self.await_replay(input, QueueEnd::Back);
        AfterCrash::Pending { input }
    }

    /// Ends the lease of a lane that has died. The executing input was already decided on, and the rest is
    /// requeued.
    pub(super) fn give_back(&mut self, id: LaneId, position: Position, now: Time) {
        if let Some((_, span)) = self.executing_span(id, Some(position)) {
            self.lane_mut(id).committed = span.end();
        }
        self.released(id, now);
    }
}

impl InputRecord {
    /// Counts an abandoned thread of this input. Returns whether the input has abandoned too many, or
    /// there are too many in all.
    pub(super) fn is_abandoned_for_good(&mut self, leaving: Leaving) -> bool {
        if !leaving.abandoned {
            return false;
        }
        self.abandoned += 1;
        leaving.pressure > Pressure::None || self.abandoned >= ABANDONED_MAX
    }
}

impl Job {
    fn poison(&mut self, input: InputId, attempts: Attempt) -> AfterCrash {
        let record = self.take_record(input.index).expect("it has crashed");
        self.ends(InputEnd::Poisoned, Span { first: input.index, len: 1 });
        let ends_map = self.on_failure() == OnFailure::EndMap;
        AfterCrash::Poisoned { input, attempts, deaths: record.deaths, ends_map }
    }

    fn lose(&mut self, input: InputId, attempts: Attempt, crash: Arc<Crash>) -> AfterCrash {
        let deaths = self.take_record(input.index).map_or_else(Vec::new, |record| record.deaths);
        self.ends(InputEnd::Cancelled, Span { first: input.index, len: 1 });
        let ends_map = self.on_failure() == OnFailure::EndMap;
        AfterCrash::Lost { input, attempts, deaths, crash, ends_map }
    }

    /// Ends an input that waits to be replayed and must not be any more.
    fn end_abandoned(&mut self, input: InputId) -> AfterCrash {
        let record = self.record(input.index).expect("it has left a thread behind");
        let attempts = Attempt(record.attempt().0 - 1); // those that were begun
        match &record.previous {
            Some(Previous::Crashed(crash)) if !record.is_suspect() => {
                let crash = Arc::clone(crash);
                self.lose(input, attempts, crash)
            }
            _ => self.poison(input, attempts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ledger::Mode;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, at};
    use crate::decide::life::Next;
    use crate::decide::restart::{CrashLoopBackoff, RateLimited};
    use crate::decide::retries::Retries;
    use crate::decide::window::Window;

    const MS: Duration = Duration::from_millis(1);

    /// A thread is left behind, under this pressure.
    const fn abandoned(pressure: Pressure) -> Leaving {
        Leaving { abandoned: true, pressure }
    }

    /// One container that never gives up, and has a call.
    fn one(retries: Retries, crash_retries: u32) -> (Rig, InputId) {
        let mut rig = Rig::with(1, RateLimited::never(), retries, crash_retries);
        let job = rig.call();
        rig.enters(FIRST, START);
        (rig, InputId { job, index: 0 })
    }

    fn endings(rig: &Rig, job: JobId) -> [u64; 5] {
        let counts = rig.ledger.job(job).expect("it is open").counts();
        [counts.ok, counts.failed, counts.poisoned, counts.cancelled, counts.given_up]
    }

    #[test]
    fn a_failed_input_is_tried_again_as_often_as_it_may_be_if_its_error_is_worth_it() {
        for (retries_max, retryable, executions) in
            [(0, Retryable::Yes, 1), (2, Retryable::No, 1), (1, Retryable::Yes, 2), (2, Retryable::Yes, 3)]
        {
            let (mut rig, input) = one(Retries::new(retries_max).initial_delay(Duration::ZERO), 3);
            for execution in 1..=executions {
                assert_eq!(rig.takes(FIRST, START).attempt, Attempt(execution));
                assert!(!rig.ledger.nothing_pending());
                let after = rig.ledger.failed(FIRST, retryable, START);
                rig.ledger.released(FIRST, START);
                match after {
                    AfterFailure::Retry => assert!(execution < executions),
                    AfterFailure::Final { attempts, deaths, ends_map } => {
                        assert_eq!((attempts, deaths.len(), ends_map), (Attempt(executions), 0, false));
                        assert_eq!(execution, executions);
                    }
                    AfterFailure::PastDeadline { .. } => unreachable!("it has no deadline"),
                }
            }
            assert_eq!(endings(&rig, input.job), [0, 1, 0, 0, 0]);
            assert!(rig.ledger.nothing_pending());
            assert_eq!(rig.claims(FIRST, START), Next::Wait { until: None });
        }
    }

    #[test]
    fn a_retry_waits_its_delay_and_is_given_back_to_wait_as_before() {
        let (mut rig, input) = one(Retries::new(2).initial_delay(10 * MS), 3);
        rig.takes(FIRST, START);
        rig.ledger.failed(FIRST, Retryable::Yes, at(5));
        rig.ledger.released(FIRST, at(5));
        assert_eq!(rig.claims(FIRST, at(14)), Next::Wait { until: Some(at(15)) });
        let lease = rig.takes(FIRST, at(15));
        assert_eq!((lease.kind, lease.attempt), (LeaseKind::Retry { due: at(15) }, Attempt(2)));
        assert_eq!(rig.ledger.job(input.job).map(|job| job.counts().retried), Some(1));
        rig.ledger.released(FIRST, at(16));
        assert_eq!(rig.ledger.job(input.job).map(|job| job.counts().retried), Some(0), "it had not begun");
        assert_eq!(rig.takes(FIRST, at(16)).kind, LeaseKind::Retry { due: at(15) });
    }

    #[test]
    fn the_larger_of_the_two_delays_counts_up_to_a_day() {
        let hour = 3600 * Duration::from_secs(1);
        for (least, due) in [(9 * MS, at(10)), (10 * MS, at(10)), (11 * MS, at(11)), (hour, START + hour)] {
            let (mut rig, input) = one(Retries::new(1).initial_delay(10 * MS).max_delay(10 * MS), 3);
            rig.takes(FIRST, START);
            assert!(matches!(rig.ledger.failed(FIRST, Retryable::After(least), START), AfterFailure::Retry));
            assert_eq!(rig.ledger.retry_due(input.job, 0), Some(due), "{least:?}");
        }
        let (mut rig, input) = one(Retries::new(1), 3);
        rig.takes(FIRST, START);
        rig.ledger.failed(FIRST, Retryable::After(Duration::MAX), START);
        assert_eq!(rig.ledger.retry_due(input.job, 0), Some(START + 24 * hour));
    }

    #[test]
    fn the_least_delay_grants_no_further_retry() {
        let (mut rig, _) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        let after = rig.ledger.failed(FIRST, Retryable::After(MS), START);
        assert!(matches!(after, AfterFailure::Final { .. }));
    }

    #[test]
    fn a_function_that_stops_tries_nothing_again() {
        let (mut rig, _) = one(Retries::new(2), 3);
        rig.takes(FIRST, START);
        rig.ledger.advance_mode(Mode::Stopping);
        assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, START), AfterFailure::Final { .. }));
    }

    #[test]
    fn retries_of_a_map_take_the_place_of_those_of_the_function() {
        let (mut rig, call) = one(Retries::new(0), 3);
        let retries = Some(Retries::new(1).initial_delay(7 * MS));
        let map = rig.ledger.open(OnFailure::EndMap, Window::Fixed(1), retries);
        rig.sources.inputs.insert(map, 1);
        assert_eq!(rig.takes(FIRST, START).job, call.job);
        assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, START), AfterFailure::Final { .. }));
        rig.ledger.released(FIRST, START);
        assert_eq!(rig.takes(FIRST, START).job, map);
        assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, START), AfterFailure::Retry));
        assert_eq!(rig.ledger.retry_due(map, 0), Some(at(7)));
        rig.ledger.released(FIRST, START);
        rig.takes(FIRST, at(7));
        let after = rig.ledger.failed(FIRST, Retryable::Yes, at(7));
        assert!(matches!(after, AfterFailure::Final { ends_map: true, .. }));
    }

    #[test]
    fn an_input_is_poisoned_by_the_crash_past_its_budget_and_shows_each_death() {
        for crash_retries in [0, 1, 3, 20] {
            let (mut rig, input) = one(Retries::new(0), crash_retries);
            for crash in 1..=crash_retries + 1 {
                let lease = rig.takes(FIRST, START);
                assert_eq!((lease.attempt, rig.attempt(input)), (Attempt(crash), Attempt(crash)));
                let is_first = crash == 1;
                let kind = if is_first { LeaseKind::First } else { LeaseKind::Replay { suspect: true } };
                assert_eq!(lease.kind, kind);
                let verdict = rig.crashes(FIRST, START);
                match &verdict.inputs[..] {
                    [AfterCrash::Pending { input: pending }] => {
                        assert_eq!(*pending, input);
                        assert!(crash <= crash_retries && !rig.ledger.nothing_pending());
                    }
                    [AfterCrash::Poisoned { input: poisoned, attempts, deaths, ends_map: false }] => {
                        assert_eq!((*poisoned, *attempts), (input, Attempt(crash_retries + 1)));
                        assert_eq!(deaths.len(), (crash as usize).min(DEATHS_MAX));
                        assert_eq!(crash, crash_retries + 1);
                    }
                    other => panic!("one input was executing: {other:?}"),
                }
                rig.enters(FIRST, START);
            }
            assert_eq!(endings(&rig, input.job), [0, 0, 1, 0, 0]);
            assert_eq!(
                rig.ledger.job(input.job).map(|job| job.counts().replayed),
                Some(u64::from(crash_retries))
            );
            assert!(rig.ledger.nothing_pending());
        }
    }

    #[test]
    fn a_kill_costs_an_input_nothing_unless_it_may_be_begun_only_once() {
        let (mut rig, input) = one(Retries::new(0), 1);
        for kill in 1..=5 {
            assert_eq!(rig.takes(FIRST, START).attempt, Attempt(kill));
            assert!(matches!(rig.kills(FIRST, UNCROWDED, START)[..], [AfterCrash::Pending { .. }]));
            assert!(matches!(rig.ledger.previous(input), Some(Previous::Crashed(_))));
            rig.enters(FIRST, START);
        }
        assert_eq!(rig.ledger.lives().crashes, 0, "a kill is no crash");
        let (mut rig, input) = one(Retries::new(0), 0);
        rig.takes(FIRST, START);
        let after = rig.kills(FIRST, UNCROWDED, START);
        let [AfterCrash::Lost { attempts, ref deaths, ends_map, .. }] = after[..] else {
            panic!("{after:?}")
        };
        assert_eq!((attempts, deaths.len(), ends_map), (Attempt::FIRST, 0, false));
        assert_eq!(endings(&rig, input.job), [0, 0, 0, 1, 0]);
        assert!(rig.ledger.nothing_pending());
    }

    #[test]
    fn an_input_that_has_left_two_threads_behind_is_not_replayed_whatever_its_budget() {
        let (mut rig, input) = one(Retries::new(0), 10);
        rig.takes(FIRST, START);
        let first = rig.crashes_leaving(FIRST, abandoned(Pressure::None), START);
        assert!(matches!(first.inputs[..], [AfterCrash::Pending { .. }]));
        rig.enters(FIRST, START);
        rig.takes(FIRST, START);
        let second = rig.crashes_leaving(FIRST, abandoned(Pressure::None), START);
        assert!(matches!(second.inputs[..], [AfterCrash::Poisoned { attempts: Attempt(2), .. }]));
        assert_eq!(endings(&rig, input.job), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn where_too_many_threads_are_left_behind_what_might_leave_another_is_not_replayed() {
        // Whether the input's container was killed, the pressure on abandoned threads, and how the input ends
        // once a neighbour leaves the last thread behind.
        for (killed, pressure, ends) in [
            (false, Pressure::None, None),
            (false, Pressure::Bytes, Some("poisoned")),
            (true, Pressure::Bytes, Some("lost")),
            (true, Pressure::Threads, Some("lost")),
        ] {
            let mut rig = Rig::with(2, RateLimited::never(), Retries::new(0), 10);
            let input = InputId { job: rig.call(), index: 0 };
            rig.enters(FIRST, START);
            rig.enters(SECOND, START);
            rig.takes(FIRST, START);
            if killed {
                rig.kills(FIRST, abandoned(Pressure::None), START);
            } else {
                rig.crashes_leaving(FIRST, abandoned(Pressure::None), START);
            }
            let innocent = rig.crashes_leaving(SECOND, Leaving { abandoned: false, pressure }, START);
            assert!(innocent.inputs.is_empty(), "its own thread has returned");
            rig.enters(SECOND, START);
            let ended = rig.crashes_leaving(SECOND, abandoned(pressure), START).inputs;
            let how = ended.first().map(|after| match after {
                AfterCrash::Pending { .. } => "pending",
                AfterCrash::Poisoned { attempts, .. } => {
                    assert_eq!(*attempts, Attempt::FIRST);
                    "poisoned"
                }
                AfterCrash::Lost { attempts, .. } => {
                    assert_eq!(*attempts, Attempt::FIRST);
                    "lost"
                }
                AfterCrash::TimedOut { .. } => "timed out",
            });
            assert_eq!(how, ends, "killed: {killed}, {pressure:?}");
            assert_eq!(rig.ledger.nothing_pending(), ends.is_some());
            assert_eq!(endings(&rig, input.job).iter().sum::<u64>(), u64::from(ends.is_some()));
        }
    }

    #[test]
    fn a_function_gives_up_with_its_last_container_if_no_other_can_be_created() {
        // Each case: whether another container lives, whether the function may give up, the pressure on the
        // abandoned threads, and whether the function gives up.
        for (beside, may_give_up, pressure, gives_up) in [
            (false, true, Pressure::Threads, true),
            (true, true, Pressure::Threads, false),
            (false, false, Pressure::Threads, false),
            (false, true, Pressure::Bytes, false),
        ] {
            for by_a_kill in [false, true] {
                let mut rig = if may_give_up {
                    Rig::new(2, RateLimited::new())
                } else {
                    Rig::new(2, CrashLoopBackoff::new())
                };
                rig.enters(FIRST, START);
                if beside {
                    rig.enters(SECOND, START);
                }
                if by_a_kill {
                    rig.kills(FIRST, abandoned(pressure), START);
                } else {
                    let restart = rig.crashes_leaving(FIRST, abandoned(pressure), START).restart;
                    assert_eq!(restart == Restart::GiveUp, gives_up);
                }
                assert_eq!(
                    rig.ledger.gave_up().is_some(),
                    gives_up,
                    "{beside} {may_give_up} {pressure:?} {by_a_kill}"
                );
            }
        }
    }

    #[test]
    fn a_container_that_comes_back_on_its_own_thread_is_not_missed() {
        let mut rig = Rig::new(1, RateLimited::new());
        rig.enters(FIRST, START);
        let restart = rig
            .crashes_leaving(FIRST, Leaving { abandoned: false, pressure: Pressure::Threads }, START)
            .restart;
        assert_eq!(restart, Restart::Now);
        assert!(!rig.ledger.is_deserted(), "its thread begins the next generation");
        let (generation, _) = rig.ledger.stage(FIRST);
        rig.ledger.thread_ended(FIRST, generation);
        assert!(rig.ledger.is_deserted());
        rig.enters(FIRST, START);
        rig.crashes_leaving(FIRST, abandoned(Pressure::None), at(1));
        assert!(rig.ledger.is_deserted(), "its thread was left behind");
    }

    #[test]
    fn what_executes_as_its_job_ends_is_known_until_the_container_claims_again() {
        let (mut rig, input) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        rig.crashes(FIRST, at(1));
        rig.enters(FIRST, at(1));
        rig.takes(FIRST, at(2));
        rig.ledger.recalled(FIRST.into(), Some(Position { at: 0, begun: true }), at(3));
        let known =
            Orphan { index: 0, attempt: Attempt(2), together: 1, suspect: true, counted: Some(at(1)) };
        assert_eq!(rig.ledger.orphan(FIRST), Some(known));
        assert_eq!(rig.ledger.job(input.job).map(|job| job.counts().replayed), Some(1), "it has begun");
        rig.ledger.take_pending(input.job);
        rig.claims(FIRST, at(4));
        assert_eq!(rig.ledger.orphan(FIRST), None);
    }

    #[test]
    fn what_had_not_begun_as_its_job_ends_is_no_stray() {
        let (mut rig, _) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        rig.ledger.recalled(FIRST.into(), Some(Position { at: 0, begun: false }), at(3));
        assert_eq!(rig.ledger.orphan(FIRST), None);
        assert!(matches!(rig.claims(FIRST, at(3)), Next::Work(_)), "it waits as before");
    }

    #[test]
    fn an_old_generation_has_no_verdict() {
        let mut rig = Rig::new(1, RateLimited::new());
        let old = rig.enters(FIRST, START);
        rig.crashes(FIRST, START);
        rig.enters(FIRST, START);
        let crash = crate::decide::ledger::fixture::crash(FIRST, old);
        assert!(rig.ledger.crashed(FIRST, old, &Scene::default(), &crash, UNCROWDED, START).is_none());
        assert_eq!(rig.ledger.lives().crashes, 1);
    }

    #[test]
    fn a_cut_off_part_of_a_lease_goes_to_the_next_container_and_the_rest_is_what_it_was() {
        let mut rig = Rig::new(2, RateLimited::new());
        let job = rig.map(100, 10);
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        // Inputs that are known to be cheap travel together.
        for _ in 0..2 {
            rig.takes(FIRST, START);
            rig.completes(FIRST, Time(Duration::from_nanos(100)));
        }
        let lease = rig.takes(FIRST, START);
        assert_eq!(lease.span, Span { first: 3, len: 4 });
        let end = lease.span.first + 2;
        rig.ledger.truncated(FIRST.into(), end, Some(5 * MS));
        assert_eq!(rig.ledger.lease(FIRST).map(|lease| lease.span.end()), Some(end));
        assert_eq!(rig.ledger.job(job).and_then(Job::map).and_then(|map| map.sizer.cost()), Some(5 * MS));
        assert_eq!(rig.takes(SECOND, START).span, Span { first: end, len: 1 }, "dear ones travel singly");
        rig.completes(SECOND, at(5));
        assert_eq!(rig.takes(SECOND, at(5)).span, Span { first: end + 1, len: 1 });
        rig.completes(SECOND, at(10));
        assert_eq!(rig.takes(SECOND, at(10)).span, Span { first: end + 2, len: 1 }, "a new one");
    }

    #[test]
    fn whatever_completes_frees_those_that_wait_for_the_delay_of_a_crash_loop() {
        for returns_ok in [true, false] {
            let mut rig = Rig::new(2, RateLimited::new());
            rig.enters(SECOND, START);
            rig.call();
            rig.takes(SECOND, START);
            rig.completes(SECOND, START);
            rig.fails_to_start(FIRST, START);
            rig.fails_to_start(FIRST, at(1));
            // It has completed something, so it comes back though a delay runs.
            rig.crashes(SECOND, at(2));
            rig.enters(SECOND, at(3));
            rig.call();
            rig.takes(SECOND, at(3));
            assert!(!rig.ledger.take_recovered());
            if returns_ok {
                rig.completes(SECOND, at(4));
            } else {
                rig.ledger.failed(SECOND, Retryable::No, at(4));
                rig.ledger.released(SECOND, at(4));
            }
            assert!(rig.ledger.take_recovered(), "returned Ok: {returns_ok}");
            assert!(!rig.ledger.take_recovered());
            assert_eq!(rig.ledger.next_creation(at(4)), Some(at(4)));
        }
    }

    #[test]
    fn nothing_is_remembered_of_an_input_that_has_completed() {
        let (mut rig, input) = one(Retries::new(0), 3);
        rig.takes(FIRST, START);
        rig.crashes(FIRST, START);
        rig.enters(FIRST, START);
        rig.takes(FIRST, START);
        assert!(rig.ledger.previous(input).is_some());
        rig.completes(FIRST, START);
        assert!(rig.ledger.job(input.job).expect("it is open").recorded().is_empty());
    }

    #[test]
    fn of_a_lease_that_is_given_back_only_what_had_not_begun_waits_again() {
        let mut rig = Rig::new(2, RateLimited::new());
        rig.map(7, 7);
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        for _ in 0..2 {
            rig.takes(FIRST, START);
            rig.completes(FIRST, Time(Duration::from_nanos(100)));
        }
        assert_eq!(rig.takes(FIRST, START).span, Span { first: 3, len: 4 });
        assert_eq!(
            rig.ledger.advanced(FIRST, 5, START).map(|(_, span)| span),
            Some(Span { first: 3, len: 2 })
        );
        assert!(rig.ledger.advanced(FIRST, 5, START).is_none(), "that is committed already");
        rig.ledger.released(FIRST, START);
        assert_eq!(rig.takes(SECOND, START).span, Span { first: 5, len: 2 });
        assert_eq!(rig.claims(FIRST, START), Next::Wait { until: None });
    }

    #[test]
    fn a_replay_that_had_not_begun_is_no_replay_and_is_the_next_again() {
        let mut rig = Rig::with(2, RateLimited::never(), Retries::new(0), 3);
        let calls = [rig.call(), rig.call()];
        for id in [FIRST, SECOND] {
            rig.enters(id, START);
            rig.takes(id, START);
        }
        for id in [FIRST, SECOND] {
            rig.kills(id, UNCROWDED, START);
        }
        rig.enters(FIRST, START);
        for _ in 0..2 {
            assert_eq!(rig.takes(FIRST, START).job, calls[0]);
            assert_eq!(rig.ledger.job(calls[0]).map(|job| job.counts().replayed), Some(1));
            rig.ledger.released(FIRST, START);
            assert_eq!(rig.ledger.job(calls[0]).map(|job| job.counts().replayed), Some(0));
        }
        // A call that was executing when its container died is replayed after the calls that were waiting
        // already.
        rig.takes(FIRST, START);
        rig.kills(FIRST, UNCROWDED, START);
        rig.enters(FIRST, START);
        assert_eq!(rig.takes(FIRST, START).job, calls[1]);
    }

    #[test]
    fn no_container_of_a_function_that_stops_waits_to_be_created_again() {
        for (mode, waits) in [(Mode::Running, true), (Mode::Stopping, false)] {
            let mut rig = Rig::new(1, RateLimited::new());
            rig.fails_to_start(FIRST, START);
            rig.ledger.begin(FIRST, START).expect("it may begin");
            rig.ledger.advance_mode(mode);
            assert_eq!(rig.crashes(FIRST, START).restart, Restart::At(at(10)));
            let (_, stage) = rig.ledger.stage(FIRST);
            assert_eq!(stage == ContainerStage::BackingOff { until: at(10) }, waits, "{stage:?}");
        }
    }

    #[test]
    fn completions_are_booked_in_time_for_a_verdict_while_something_is_to_be_done() {
        for (crashed, pending, mode, committed) in [
            (true, true, Mode::Running, true),
            (false, true, Mode::Running, false),
            (true, false, Mode::Running, false),
            (true, true, Mode::Stopping, false),
        ] {
            let mut rig = Rig::new(1, RateLimited::new());
            if crashed {
                rig.fails_to_start(FIRST, at(1));
            }
            if pending {
                rig.call();
            }
            rig.ledger.advance_mode(mode);
            let next = rig.ledger.next_commit(at(2));
            assert_eq!(next.is_some(), committed, "{crashed} {pending} {mode:?}");
            assert!(next.is_none_or(|next| next > at(2)));
            assert_eq!(rig.ledger.verdict_depends_on_others(at(2)), crashed, "there is a crash loop");
        }
    }

    #[test]
    fn of_those_that_wait_only_what_has_left_a_thread_behind_ends_where_there_are_too_many() {
        let mut rig = Rig::with(4, RateLimited::never(), Retries::new(0), 10);
        let [innocent, executing, guilty] = [FIRST, SECOND, ContainerId(2)].map(|id| {
            let call = rig.call();
            rig.enters(id, START);
            rig.takes(id, START);
            call
        });
        rig.kills(FIRST, UNCROWDED, START);
        rig.kills(SECOND, abandoned(Pressure::None), START);
        let last = ContainerId(3);
        rig.enters(last, START);
        assert_eq!(rig.takes(last, START).job, innocent);
        rig.enters(FIRST, START);
        assert_eq!(
            rig.takes(FIRST, START).job,
            executing,
            "it has left a thread behind, and does not wait any more"
        );
        rig.kills(last, UNCROWDED, START);
        let ended = rig.crashes_leaving(ContainerId(2), abandoned(Pressure::Bytes), START).inputs;
        let [AfterCrash::Poisoned { input, .. }] = &ended[..] else { panic!("only one ends: {ended:?}") };
        assert_eq!(input.job, guilty);
        rig.completes(FIRST, START);
        rig.enters(last, START);
        assert_eq!(rig.takes(last, START).job, innocent);
    }

    #[test]
    fn a_crash_in_a_container_that_has_proved_nothing_costs_an_attempt_and_no_budget() {
        let mut rig = Rig::with(2, RateLimited::never(), Retries::new(0), 1);
        let input = InputId { job: rig.call(), index: 0 };
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.takes(FIRST, START);
        rig.crashes(FIRST, START);
        // No container was entered for so long that any live container may replay the suspect.
        assert_eq!(rig.takes(SECOND, at(10_000)).attempt, Attempt(2));
        let unproven = rig.crashes(SECOND, at(10_000));
        assert!(matches!(unproven.inputs[..], [AfterCrash::Pending { .. }]));
        assert_eq!(rig.attempt(input), Attempt(3));
        rig.enters(FIRST, at(10_000));
        rig.takes(FIRST, at(10_000));
        let proven = rig.crashes(FIRST, at(10_000));
        assert!(matches!(proven.inputs[..], [AfterCrash::Poisoned { attempts: Attempt(3), .. }]));
    }

    #[test]
    fn an_input_costs_what_its_lease_took_divided_by_those_that_were_done() {
        let mut rig = Rig::new(1, RateLimited::new());
        let map = rig.map(100, 10);
        rig.enters(FIRST, START);
        for _ in 0..2 {
            rig.takes(FIRST, START);
            rig.completes(FIRST, Time(Duration::from_nanos(100)));
        }
        assert_eq!(rig.takes(FIRST, START).span, Span { first: 3, len: 4 });
        rig.completes(FIRST, at(4));
        assert_eq!(rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost()), Some(MS));
    }

    #[test]
    fn an_input_that_executes_at_the_end_of_its_job_bears_its_part_of_the_cost() {
        let mut rig = Rig::new(1, RateLimited::never());
        rig.enters(FIRST, START);
        let map = rig.map(10, 4);
        rig.takes(FIRST, START);
        let soon = Time(Duration::from_micros(10));
        rig.completes(FIRST, soon);
        let lease = rig.takes(FIRST, soon);
        assert_eq!(lease.span.len, 2, "the next claim is twice as large");
        rig.ledger.advanced(FIRST, lease.span.first + 1, soon);
        let executing = Position { at: lease.span.first + 1, begun: true };
        rig.ledger.recalled(FIRST.into(), Some(executing), soon + 20 * MS);
        let cost = rig.ledger.job(map).and_then(Job::map).and_then(|map| map.sizer.cost());
        assert_eq!(cost, Some(10 * MS), "20 ms for two inputs");
    }

    #[test]
    fn a_function_that_may_give_up_does_once_no_container_is_left_or_about_to_come_back() {
        let mut rig = Rig::new(2, RateLimited::new());
        assert!(!rig.ledger.give_up_if_deserted(), "it has not crashed");
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.crashes(FIRST, START);
        assert!(!rig.ledger.give_up_if_deserted(), "the second lives");
        rig.kills(SECOND, UNCROWDED, START);
        assert!(!rig.ledger.give_up_if_deserted(), "the first is about to restart in place");
        let (generation, _) = rig.ledger.stage(FIRST);
        rig.ledger.thread_ended(FIRST, generation);
        assert!(rig.ledger.give_up_if_deserted());
        assert!(rig.ledger.gave_up().is_some());
        assert!(!rig.ledger.give_up_if_deserted(), "it gives up once");
    }
}

//! What becomes of inputs and containers: completion, failure, crash, kill; retry, replay, blame.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::job::{DEATHS_MAX, Job, OnFailure, Record, Span, Waits};
use crate::decide::ledger::berth::{Berth, Stray};
use crate::decide::ledger::{CrashNumber, Lease, LeaseKind, Ledger, Position, Stage};
use crate::decide::restart::{Death, Restart};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};
use crate::values::gave_up::GaveUp;

/// What `retry_if` said of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    Retry,
    Surface,
}

/// What becomes of a failed input.
#[derive(Debug, Clone)]
pub(crate) enum AfterFailure {
    /// Again, after its delay.
    Retry,
    /// The failure surfaces; `deaths` are those that the input caused before.
    Final { attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
}

/// What becomes of the input that was executing when its container died.
#[derive(Debug, Clone)]
pub(crate) enum AfterCrash {
    /// Run again, or given up with the function.
    Pending { input: InputId },
    /// Its crash budget is spent.
    Poisoned { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
    /// Killed by hand, and it may not be begun again; `deaths` are those that it caused before.
    Lost { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, crash: Arc<Crash>, ends_map: bool },
}

/// What had begun of inputs that are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nothing,
    First,
}

/// Where an input begins to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Front,
    Back,
}

/// How a container leaves the user's code when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Whether its thread is left behind there, nobody knows for how long. Otherwise it has come out, or is about to.
    pub(crate) abandoned: bool,
    /// How many are left behind, with it.
    pub(crate) crowd: Crowd,
}

/// How many threads are left behind, and how much they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Crowd {
    /// There may be more.
    Few,
    /// They hold as much as they may: nothing is replayed that might leave another one.
    Large,
    /// There are as many as may be: no container is created either.
    Full,
}

/// How often an input may be executed on a thread that is then abandoned. A replay of it would take one more.
const ABANDONED_MAX: u32 = 2;

/// The verdict on a crash.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) restart: Restart,
    /// What becomes of the input that was executing, and of those that may not be replayed now.
    pub(crate) inputs: Vec<AfterCrash>,
}

impl Ledger {
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
        berth.advanced = now;
        berth.proof = berth.proof.max(berth.lease_proof);
        berth.done_proof = berth.lease_proof;
        self.recovered |= self.restarts.completed(&mut berth.life, span.len, now);
        self.note_recovery();
        self.pending -= span.len;
        self.totals.ok(span.len, now);
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
        berth.advanced = now;
        berth.done_proof = berth.lease_proof;
        self.recovered |= self.restarts.completed(&mut berth.life, 1, now);
        self.note_recovery();
        let goes_on = self.goes_on();
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let record = job.records.entry(index).or_default();
        let attempts = record.attempt();
        record.failures += 1;
        record.previous = Some(Previous::Failed);
        let (retries, jitter) = match &mut job.retries {
            Some((retries, jitter)) => (&*retries, jitter),
            None => (&self.rules.retries, &mut self.jitter),
        };
        let again = worth == Worth::Retry && record.failures <= retries.retries_max() && goes_on;
        if again {
            let delay = retries.delay(record.failures);
            let delay = jitter.as_mut().map_or(delay, |jitter| jitter.equal(delay));
            let due = now + delay;
            record.waits = Some(Waits::Retry(due));
            self.retries.insert((due, InputId { job: lease.job, index }));
            self.totals.failed(true, now);
            return AfterFailure::Retry;
        }
        let deaths = job.records.remove(&index).map_or_else(Vec::new, |record| record.deaths);
        job.counts.failed += 1;
        self.pending -= 1;
        self.totals.failed(false, now);
        AfterFailure::Final { attempts, deaths, ends_map: job.on_failure == OnFailure::EndMap }
    }

    /// The lease is done, or its rest, which has not begun, is given back. `returned` is the moment at which the thread
    /// came back from the inputs.
    pub(crate) fn released(&mut self, id: ContainerId, returned: Time) {
        self.release(id, Begun::Nothing, returned);
    }

    /// The lease is taken back because its job is about to end. What executes at `position` may go on,
    /// as a stray.
    pub(crate) fn recalled(&mut self, id: ContainerId, position: Option<Position>, now: Time) {
        let executing = self.executing(id, position);
        if let Some(input) = executing {
            let record = self.record(input);
            let stray = Stray {
                index: input.index,
                attempt: record.map_or(Attempt::FIRST, Record::attempt),
                suspect: record.is_some_and(Record::is_suspect),
                counted: record.and_then(|record| record.counted),
            };
            self.berths[id.index()].stray = Some(stray);
        }
        let begun = if executing.is_some() { Begun::First } else { Begun::Nothing };
        self.release(id, begun, now);
    }

    fn release(&mut self, id: ContainerId, begun: Begun, returned: Time) {
        let berth = &mut self.berths[id.index()];
        let Some(lease) = berth.lease.take() else { return };
        let done = berth.booked - lease.span.first;
        let rest = Span { first: berth.booked, len: lease.span.end() - berth.booked };
        let took = returned.since(berth.taken);
        self.leases.remove(&(lease.job, id));
        self.ahead.remove(&id);
        self.suspects.end(id);
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            self.totals.executed(done, took);
            job.share.measured(done, took);
            self.usual_cost = job.share.cost();
        }
        self.requeue(lease, rest, begun);
    }

    /// Shortens the lease to end before `end`; the rest goes to the requeued. `cost` is what an input of it was seen to
    /// cost at least, where it is dearer than was thought.
    pub(crate) fn truncated(&mut self, id: ContainerId, end: u64, cost: Option<Duration>) {
        let Some(lease) = &mut self.berths[id.index()].lease else { return };
        if let (Some(cost), Some(job)) = (cost, self.jobs.get_mut(&lease.job)) {
            job.share.costs_at_least(cost);
        }
        let cut = Span { first: end, len: lease.span.end() - end };
        lease.span.len = end - lease.span.first;
        let lease = *lease;
        self.requeue(lease, cut, Begun::Nothing);
    }

    /// What had not begun waits again, as what it waited before; it has not been replayed or retried.
    fn requeue(&mut self, lease: Lease, span: Span, begun: Begun) {
        if span.len == 0 {
            return;
        }
        let input = InputId { job: lease.job, index: span.first };
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let not_begun = u64::from(begun == Begun::Nothing);
        match lease.kind {
            LeaseKind::First => _ = job.requeued.insert(self.requeued.push_back((lease.job, span))),
            LeaseKind::Replay { .. } => {
                job.counts.replayed -= not_begun;
                self.await_replay(input, Place::Front);
            }
            LeaseKind::Retry { due } => {
                job.counts.retried -= not_begun;
                let record = job.records.get_mut(&input.index).expect("it was executed before");
                record.waits = Some(Waits::Retry(due));
                self.retries.insert((due, input));
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
        leaving: Leaving,
        now: Time,
    ) -> Option<Verdict> {
        if !self.is_current(id, generation) {
            return None;
        }
        self.crashes += 1;
        let before = self.last_crash.replace((now, Arc::clone(crash)));
        self.discarded.extend(before.map(|(_, crash)| crash));
        self.settle(now);
        let executing = self.executing(id, position);
        let record = executing.and_then(|input| self.record(input));
        let stray = self.berths[id.index()].stray;
        let life = self.berths[id.index()].life;
        let death = Death {
            life,
            spare: life.entered.is_none() && self.others_serve(id),
            suspect: record.is_some_and(Record::is_suspect) || stray.is_some_and(|stray| stray.suspect),
            input_counted: record.map_or(stray.and_then(|stray| stray.counted), |record| record.counted),
        };
        let (mut restart, counted) = self.restarts.crashed(death, now);
        if self.restarts.may_give_up() {
            self.causes.add(crash, now, &mut self.discarded);
        }
        let berth = &self.berths[id.index()];
        let outlived = berth.proof.max(berth.done_proof);
        let input = executing.map(|input| self.blame(input, outlived, crash, counted, leaving, now));
        self.give_back(id, position, now);
        self.berths[id.index()].at_once = !death.is_loop_crash();
        self.recycling.remove(&id);
        self.berths[id.index()].returning = restart == Restart::Now && !leaving.abandoned;
        let restarts_in_place = restart == Restart::Now && !leaving.abandoned;
        if !restarts_in_place && self.is_hopeless(id, leaving) {
            restart = Restart::GiveUp;
        }
        if restart == Restart::GiveUp && self.goes_on() {
            self.gave_up = Some(GaveUp::new(self.causes.first(), Arc::clone(crash)));
            self.stand_down();
        }
        self.turn(
            id,
            match restart {
                Restart::At(until) if self.goes_on() => Stage::BackingOff { until },
                Restart::Now | Restart::At(_) | Restart::GiveUp => Stage::Absent,
            },
        );
        let mut inputs: Vec<AfterCrash> = input.into_iter().collect();
        self.end_crowded(leaving, &mut inputs);
        self.totals.after_crash(&inputs);
        Some(Verdict { restart, inputs })
    }

    /// Whether the verdict on a crash depends on what other containers have completed.
    pub(crate) fn verdict_depends_on_others(&mut self, now: Time) -> bool {
        self.restarts.depends_on_completions(now)
    }

    /// When what containers have completed is next to be booked, if a later verdict may depend on when that was.
    pub(crate) fn next_booking(&mut self, now: Time) -> Option<Time> {
        if self.goes_on() && !self.nothing_pending() { self.restarts.next_count(now) } else { None }
    }

    /// A container is killed by hand: no blame, no budget, no crash in the policy's count.
    pub(crate) fn killed(
        &mut self,
        id: ContainerId,
        position: Option<Position>,
        crash: &Arc<Crash>,
        leaving: Leaving,
        now: Time,
    ) -> Vec<AfterCrash> {
        self.settle(now);
        let executing = self.executing(id, position);
        let at_most_once = self.rules.crash_retries == 0;
        let after = executing.map(|input| {
            let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
            let record = job.records.entry(input.index).or_default();
            let attempts = record.attempt();
            record.kills += 1;
            record.previous = Some(Previous::Crashed(Arc::clone(crash)));
            if record.is_abandoned_for_good(leaving) || at_most_once {
                self.pending -= 1;
                return job.lose(input, attempts, Arc::clone(crash));
            }
            self.await_replay(input, Place::Back);
            AfterCrash::Pending { input }
        });
        self.give_back(id, position, now);
        self.turn(id, Stage::Absent);
        self.recycling.remove(&id);
        if self.is_hopeless(id, leaving) && self.goes_on() {
            self.gave_up = Some(GaveUp::new(self.causes.first(), Arc::clone(crash)));
            self.stand_down();
        }
        let mut inputs: Vec<AfterCrash> = after.into_iter().collect();
        self.end_crowded(leaving, &mut inputs);
        self.totals.after_crash(&inputs);
        inputs
    }

    /// Whether nobody is left who would do what is to be done, and nobody can be created: a function that may
    /// give up then does.
    fn is_hopeless(&self, id: ContainerId, leaving: Leaving) -> bool {
        leaving.crowd == Crowd::Full && self.restarts.may_give_up() && self.is_last(id)
    }

    /// Whether no other container lives, or is about to on the thread that it has.
    fn is_last(&self, id: ContainerId) -> bool {
        !self.containers().any(|other| other != id && self.berths[other.index()].goes_on())
    }

    /// Whether no container lives or is about to, in a function that may give up for that.
    pub(crate) fn is_deserted(&self) -> bool {
        self.restarts.may_give_up() && !self.berths.iter().map(steps::each).any(Berth::goes_on)
    }

    /// There may be no more abandoned threads: those that wait to be replayed, and have left one behind
    /// before, end.
    fn end_crowded(&mut self, leaving: Leaving, ended: &mut Vec<AfterCrash>) {
        if !leaving.abandoned || leaving.crowd == Crowd::Few {
            return;
        }
        for input in std::mem::take(&mut self.left_a_thread).into_iter().map(steps::each) {
            self.leave_queue(input);
            self.pending -= 1;
            let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
            ended.push(job.end_abandoned(input));
        }
    }

    /// An input waits to be replayed.
    fn await_replay(&mut self, input: InputId, place: Place) {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        let record = job.records.get_mut(&input.index).expect("it was executed before");
        record.waits = Some(match record.crashed {
            Some((crash, at)) => {
                self.suspects.wait(input, crash, at);
                Waits::Suspect(crash)
            }
            None if place == Place::Front => Waits::Replay(self.replays.push_front(input)),
            None => Waits::Replay(self.replays.push_back(input)),
        });
        if record.abandoned > 0 {
            self.left_a_thread.insert(input);
        }
    }

    /// An input waits no more in the queue in which it waits after an execution.
    pub(super) fn leave_queue(&mut self, input: InputId) {
        let Some(record) = self.jobs.get_mut(&input.job).and_then(|job| job.records.get_mut(&input.index))
        else {
            return;
        };
        if record.abandoned > 0 {
            self.left_a_thread.remove(&input);
        }
        match record.waits.take() {
            Some(Waits::Replay(ticket)) => _ = self.replays.remove(ticket),
            Some(Waits::Suspect(crash)) => self.suspects.remove(crash),
            Some(Waits::Retry(due)) => _ = self.retries.remove(&(due, input)),
            None => {}
        }
    }

    /// The input that was executing at `position`, if one was.
    fn executing(&self, id: ContainerId, position: Option<Position>) -> Option<InputId> {
        let lease = self.berths[id.index()].lease?;
        let position = position.filter(|position| position.begun)?;
        assert_eq!(position.at, self.berths[id.index()].booked, "what came before is booked");
        Some(InputId { job: lease.job, index: position.at })
    }

    /// A container has crashed while it executed an input. `outlived` is the last crash that the container had outlived:
    /// it was begun after it, or has completed something of a lease that it took after it.
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
        let record = job.records.entry(input.index).or_default();
        let attempts = record.attempt();
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if counted {
            record.counted = Some(now);
        }
        if record.deaths.len() < DEATHS_MAX {
            record.deaths.push(Arc::clone(crash));
        }
        // A container that has not proved itself may be the one that is at fault.
        let is_charged = record.crashed.is_none_or(|(last, _)| outlived >= last);
        if is_charged {
            record.crashes += 1;
        } else {
            record.kills += 1;
        }
        record.crashed = Some((self.crashes, now));
        if record.is_abandoned_for_good(leaving) || record.crashes > self.rules.crash_retries {
            self.pending -= 1;
            return job.poison(input, attempts);
        }
        self.await_replay(input, Place::Back);
        AfterCrash::Pending { input }
    }

    /// Ends the lease of a dead container: the executing input has its fate, the rest is requeued.
    fn give_back(&mut self, id: ContainerId, position: Option<Position>, now: Time) {
        if position.is_some_and(|position| position.begun) {
            self.berths[id.index()].booked += 1;
        }
        self.released(id, now);
    }
}

impl Record {
    /// Its thread may be left behind in it. Whether that is so too often, or there are too many already.
    fn is_abandoned_for_good(&mut self, leaving: Leaving) -> bool {
        if !leaving.abandoned {
            return false;
        }
        self.abandoned += 1;
        leaving.crowd > Crowd::Few || self.abandoned >= ABANDONED_MAX
    }
}

impl Job {
    fn poison(&mut self, input: InputId, attempts: Attempt) -> AfterCrash {
        let record = self.records.remove(&input.index).expect("it has crashed");
        self.counts.poisoned += 1;
        let ends_map = self.on_failure == OnFailure::EndMap;
        AfterCrash::Poisoned { input, attempts, deaths: record.deaths, ends_map }
    }

    fn lose(&mut self, input: InputId, attempts: Attempt, crash: Arc<Crash>) -> AfterCrash {
        let deaths = self.records.remove(&input.index).map_or_else(Vec::new, |record| record.deaths);
        self.counts.cancelled += 1;
        let ends_map = self.on_failure == OnFailure::EndMap;
        AfterCrash::Lost { input, attempts, deaths, crash, ends_map }
    }

    /// Ends an input that waits to be replayed, and must not be any more.
    fn end_abandoned(&mut self, input: InputId) -> AfterCrash {
        let record = self.records.get(&input.index).expect("it has left a thread behind");
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

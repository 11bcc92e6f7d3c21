//! The ends of inputs and containers: completion, failure, crash and kill, with retry, replay and blame.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId};
use crate::decide::job::{DEATHS_MAX, Ending, Job, OnFailure, Record, Span, Waits};
use crate::decide::ledger::berth::{Berth, Stray};
use crate::decide::ledger::{CrashNumber, Lease, LeaseKind, Ledger, Position, Stage};
use crate::decide::restart::{Death, Restart};
use crate::decide::share::Share;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};
use crate::values::gave_up::GaveUp;

/// The answer of `retry_if` to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    Retry,
    Surface,
}

/// The decision on a failed input.
#[derive(Debug, Clone)]
pub(crate) enum AfterFailure {
    /// The input is executed again, after its delay.
    Retry,
    /// The failure surfaces. `deaths` are the deaths that the input caused before.
    Final { attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
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
}

/// Whether the first input of a returned lease has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nothing,
    First,
}

/// Where in its queue an input begins to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
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
    pub(crate) crowd: Crowd,
}

/// How many threads are abandoned, and how much memory they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Crowd {
    /// More threads may be abandoned.
    Few,
    /// The threads hold as much memory as they may. No input is replayed that might abandon another thread.
    Large,
    /// As many threads are abandoned as may be. No container is created either.
    Full,
}

/// An input may abandon this many threads. After that it is not replayed, because a replay
/// could abandon another.
const ABANDONED_MAX: u32 = 2;

/// The decision on a crash.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) restart: Restart,
    /// The decisions on the input that was executing, and on inputs that must not be replayed any more.
    pub(crate) inputs: Vec<AfterCrash>,
}

impl Ledger {
    /// Books the inputs of the container's lease before `upto` as completed with `Ok`. Returns the range
    /// that was newly booked.
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
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        job.count(Ending::Ok, span.len);
        if lease.kind != LeaseKind::First {
            job.take_record(lease.span.first);
        }
        Some((lease.job, span))
    }

    /// Books the input at the booked position as failed. `worth` is the answer of `retry_if`.
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
        let record = job.record_or_new(index);
        let attempts = record.attempt();
        record.failures += 1;
        record.previous = Some(Previous::Failed);
        let failures = record.failures;
        let (retries, jitter) = match job.map_mut().and_then(|map| map.retries.as_mut()) {
            Some((retries, jitter)) => (&*retries, jitter),
            None => (&self.rules.retries, &mut self.jitter),
        };
        let again = worth == Worth::Retry && failures <= retries.retries_max() && goes_on;
        if again {
            let delay = retries.delay(failures);
            let delay = jitter.as_mut().map_or(delay, |jitter| jitter.equal(delay));
            let due = now + delay;
            job.record_or_new(index).waits = Some(Waits::Retry(due));
            self.retries.insert((due, InputId { job: lease.job, index }));
            return AfterFailure::Retry;
        }
        let deaths = job.take_record(index).map_or_else(Vec::new, |record| record.deaths);
        job.count(Ending::Failed, 1);
        self.pending -= 1;
        AfterFailure::Final { attempts, deaths, ends_map: job.on_failure() == OnFailure::EndMap }
    }

    /// Ends the lease and requeues the rest of it, which has not begun. `returned` is the moment at which the
    /// thread came back from the inputs.
    pub(crate) fn released(&mut self, id: ContainerId, returned: Time) {
        self.release(id, Begun::Nothing, returned);
    }

    /// Takes the lease back because its job is about to end. An input that executes at
    /// `position` goes on as a stray.
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
        match self.jobs.get_mut(&lease.job) {
            Some(Job::Map(map)) => {
                map.share.measured(done, took);
                self.usual_cost = map.share.cost();
            }
            Some(Job::Call(_)) => {
                let mut share = Share::like(self.usual_cost);
                share.measured(done, took);
                self.usual_cost = share.cost();
            }
            None => {}
        }
        self.requeue(lease, rest, begun);
    }

    /// Shortens the lease so that it ends before `end`, and requeues the rest. `cost` is a lower bound of the
    /// cost of an input, if inputs are more expensive than was assumed.
    pub(crate) fn truncated(&mut self, id: ContainerId, end: u64, cost: Option<Duration>) {
        let Some(lease) = &mut self.berths[id.index()].lease else { return };
        if let (Some(cost), Some(map)) = (cost, self.jobs.get_mut(&lease.job).and_then(Job::map_mut)) {
            map.share.costs_at_least(cost);
        }
        let cut = Span { first: end, len: lease.span.end() - end };
        lease.span.len = end - lease.span.first;
        let lease = *lease;
        self.requeue(lease, cut, Begun::Nothing);
    }

    /// Requeues inputs that had not begun in the queue from which they came. Their replays and
    /// retries are not counted.
    fn requeue(&mut self, lease: Lease, span: Span, begun: Begun) {
        if span.len == 0 {
            return;
        }
        let input = InputId { job: lease.job, index: span.first };
        let job = self.jobs.get_mut(&lease.job).expect("a lease belongs to an open job");
        let not_begun = begun == Begun::Nothing;
        match lease.kind {
            LeaseKind::First => job.waits_at(self.requeued.push_back((lease.job, span))),
            LeaseKind::Replay { .. } => {
                if not_begun {
                    job.has_not_replayed();
                }
                self.await_replay(input, Place::Front);
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

    /// Decides on the crash of a container. `position` is how far the container was in its lease. The inputs
    /// that it completed before are booked already. Returns `None` for an old generation.
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
        Some(Verdict { restart, inputs })
    }

    /// Whether the verdict on a crash depends on the inputs that other containers have completed.
    pub(crate) fn verdict_depends_on_others(&mut self, now: Time) -> bool {
        self.restarts.depends_on_completions(now)
    }

    /// The next moment at which completed inputs should be booked, if a later verdict may depend on
    /// when they were completed.
    pub(crate) fn next_booking(&mut self, now: Time) -> Option<Time> {
        if self.goes_on() && !self.nothing_pending() { self.restarts.next_count(now) } else { None }
    }

    /// Decides on a container that was killed by hand. It is not blamed, spends no budget, and is no crash
    /// in the policy's count.
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
            let record = job.record_or_new(input.index);
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
        inputs
    }

    /// Whether no container is left to do the work and none can be created. A function that
    /// may give up then does.
    fn is_hopeless(&self, id: ContainerId, leaving: Leaving) -> bool {
        leaving.crowd == Crowd::Full && self.restarts.may_give_up() && self.is_last(id)
    }

    /// Whether no other container lives, or is about to on the thread that it has.
    fn is_last(&self, id: ContainerId) -> bool {
        !self.containers().any(|other| other != id && self.berths[other.index()].goes_on())
    }

    /// Whether no container lives or is about to, in a function that may give up because of that.
    pub(crate) fn is_deserted(&self) -> bool {
        self.restarts.may_give_up() && !self.berths.iter().map(steps::each).any(Berth::goes_on)
    }

    /// Ends the inputs that wait to be replayed and have left a thread behind before, because no more
    /// threads may be abandoned.
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

    /// Puts an input into the queue of its replays.
    fn await_replay(&mut self, input: InputId, place: Place) {
        let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
        let record = job.record_mut(input.index).expect("it was executed before");
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
            Some(Waits::Suspect(crash)) => self.suspects.remove(crash),
            Some(Waits::Retry(due)) => _ = self.retries.remove(&(due, input)),
            None => {}
        }
    }

    /// The input that was executing at `position`, if there is one.
    fn executing(&self, id: ContainerId, position: Option<Position>) -> Option<InputId> {
        let lease = self.berths[id.index()].lease?;
        let position = position.filter(|position| position.begun)?;
        assert_eq!(position.at, self.berths[id.index()].booked, "all inputs before it are booked");
        Some(InputId { job: lease.job, index: position.at })
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
            return job.poison(input, attempts);
        }
        self.await_replay(input, Place::Back);
        AfterCrash::Pending { input }
    }

    /// Ends the lease of a dead container. The executing input was already decided on, and
    /// the rest is requeued.
    fn give_back(&mut self, id: ContainerId, position: Option<Position>, now: Time) {
        if position.is_some_and(|position| position.begun) {
            self.berths[id.index()].booked += 1;
        }
        self.released(id, now);
    }
}

impl Record {
    /// Counts an abandoned thread of this input. Returns whether the input has abandoned too many, or
    /// there are too many in all.
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
        let record = self.take_record(input.index).expect("it has crashed");
        self.count(Ending::Poisoned, 1);
        let ends_map = self.on_failure() == OnFailure::EndMap;
        AfterCrash::Poisoned { input, attempts, deaths: record.deaths, ends_map }
    }

    fn lose(&mut self, input: InputId, attempts: Attempt, crash: Arc<Crash>) -> AfterCrash {
        let deaths = self.take_record(input.index).map_or_else(Vec::new, |record| record.deaths);
        self.count(Ending::Cancelled, 1);
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

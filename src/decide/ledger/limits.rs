//! The limits of time that run in a function: when the engine looks next, and at what.
//!
//! One ordered set for each kind of limit holds the moments. A claim, a wait and an input do not look at
//! them, and a function without a limit has nothing in them. [`timeouts`](super::timeouts) and
//! [`leavers`](super::leavers) decide about attempts, and [`deadlines`](super::deadlines) about inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::ids::{ContainerId, InputId, JobId, LaneId};
use crate::decide::acceptances::Acceptances;
use crate::decide::job::{Job, Span};
use crate::decide::ledger::leavers::GRACE;
use crate::decide::ledger::{ContainerStage, Ledger};
use crate::decide::limits::Limits;
use crate::decide::time::Time;

/// The limits of a function that run.
#[derive(Debug, Default)]
pub(super) struct RunningLimits {
    /// Whether any limit was ever set, so that a function without one pays for nothing here.
    pub(super) is_used: bool,
    /// The lanes whose code is looked at, by the moment of that look.
    pub(super) lanes: BTreeSet<(Time, LaneId)>,
    /// The maps and calls with deadlines, by the moment of the next one.
    pub(super) jobs: BTreeSet<(Time, JobId)>,
    /// The containers whose `enter` has a limit.
    pub(super) enters: BTreeSet<(Time, ContainerId)>,
    /// The limits of calls that have any of their own, or a deadline.
    pub(super) calls: BTreeMap<JobId, CallLimits>,
    /// Jobs that have accepted inputs whose deadlines do not run yet.
    accepted: Vec<JobId>,
    /// The moment at which the engine looks next.
    armed: Option<Time>,
}

/// The limits of a call. They are kept apart from it, so that a call without any stays small.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) due: Option<Time>,
}

/// A limit whose moment has come, so that the engine looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DueLimit {
    Lane(LaneId),
    Job(JobId),
    Enter(ContainerId),
}

impl RunningLimits {
    /// The moment of the next look.
    fn next(&self) -> Option<Time> {
        let lane = self.lanes.first().map(|(at, _)| *at);
        let job = self.jobs.first().map(|(at, _)| *at);
        let enter = self.enters.first().map(|(at, _)| *at);
        [lane, job, enter].into_iter().flatten().min()
    }
}

impl Ledger {
    /// Sets the limits of a map or call that was just opened. Those that are not set are the function's.
    pub(crate) fn limit(&mut self, id: JobId, own: Limits) {
        let timeout = own.timeout.or(self.rules.limits.timeout);
        let deadline = own.deadline.or(self.rules.limits.deadline);
        if timeout.is_none() && deadline.is_none() {
            return;
        }
        self.limits.is_used = true;
        match self.jobs.get_mut(&id).expect("it was just opened") {
            Job::Map(map) => {
                map.timeout = timeout;
                map.acceptances = deadline.map(|limit| Box::new(Acceptances::new(limit)));
            }
            Job::Call(_) if own.timeout.is_none() && deadline.is_none() => {}
            Job::Call(_) => {
                self.limits.calls.insert(id, CallLimits { timeout: own.timeout, deadline, due: None });
                if deadline.is_some() {
                    self.limits.accepted.push(id);
                }
            }
        }
    }

    /// The time that an attempt at an input of a job may take.
    pub(super) fn timeout_of(&self, id: JobId) -> Option<Duration> {
        match self.jobs.get(&id)? {
            Job::Map(map) => map.timeout,
            Job::Call(_) => {
                let own = self.limits.calls.get(&id).and_then(|call| call.timeout);
                own.or(self.rules.limits.timeout)
            }
        }
    }

    /// Whether inputs of a job have a deadline.
    pub(crate) fn has_deadline(&self, id: JobId) -> bool {
        self.limits.is_used
            && match self.jobs.get(&id) {
                Some(Job::Map(map)) => map.acceptances.is_some(),
                Some(Job::Call(_)) => self.limits.calls.get(&id).is_some_and(|call| call.deadline.is_some()),
                None => false,
            }
    }

    /// The deadline of an accepted input: its length, and the moment at which it passes.
    pub(super) fn deadline_of(&self, InputId { job, index }: InputId) -> Option<(Duration, Time)> {
        if !self.limits.is_used {
            return None;
        }
        match self.jobs.get(&job)? {
            Job::Map(map) => {
                let accepted = map.acceptances.as_ref()?;
                Some((accepted.limit, accepted.due_of(index)?))
            }
            Job::Call(_) => {
                let call = self.limits.calls.get(&job)?;
                Some((call.deadline?, call.due?))
            }
        }
    }

    /// Records that the inputs of a map were accepted.
    pub(super) fn accepted_under_deadline(&mut self, id: JobId, span: Span) {
        let map = self.jobs.get_mut(&id).and_then(Job::map_mut);
        if let Some(acceptances) = map.and_then(|map| map.acceptances.as_mut()) {
            acceptances.accept(span);
            self.limits.accepted.push(id);
        }
    }

    /// Forgets the limits of a job that is closed.
    pub(super) fn forget_limits(&mut self, id: JobId, job: &Job) {
        let watched = match job {
            Job::Map(map) => map.acceptances.as_ref().and_then(|acceptances| acceptances.watched),
            Job::Call(_) => self.limits.calls.remove(&id).and_then(|call| call.due),
        };
        if let Some(at) = watched {
            self.limits.jobs.remove(&(at, id));
        }
    }

    /// Whether something about the limits has changed that the engine must know, or do.
    pub(crate) fn has_limits_news(&self) -> bool {
        self.limits.is_used
            && (!self.limits.accepted.is_empty()
                || self.limits.next().is_some_and(|next| self.limits.armed.is_none_or(|armed| next < armed)))
    }

    /// Lets the deadlines of the inputs run that were accepted since the last call. Returns whether the
    /// engine must look at the limits earlier than it would.
    pub(crate) fn take_limits_news(&mut self, now: Time) -> bool {
        if !self.has_limits_news() {
            return false;
        }
        for id in std::mem::take(&mut self.limits.accepted) {
            if let Some(acceptances) =
                self.jobs.get_mut(&id).and_then(Job::map_mut).and_then(|map| map.acceptances.as_mut())
            {
                acceptances.run_from(now);
                self.watch_job(id);
            } else if let Some(call) = self.limits.calls.get_mut(&id)
                && let Some(limit) = call.deadline
                && call.due.is_none()
            {
                call.due = Some(now + limit);
                self.limits.jobs.insert((now + limit, id));
            }
        }
        let next = self.limits.next();
        let is_sooner = next.is_some_and(|next| self.limits.armed.is_none_or(|armed| next < armed));
        if is_sooner {
            self.limits.armed = next;
        }
        is_sooner
    }

    /// The moment at which the engine looks next, which it does.
    pub(crate) fn arm(&mut self) -> Option<Time> {
        self.limits.armed = self.limits.next();
        self.limits.armed
    }

    /// Takes the next limit whose moment has come.
    pub(crate) fn take_due_limit(&mut self, now: Time) -> Option<DueLimit> {
        if let Some((at, lane)) = self.limits.lanes.first().copied().filter(|(at, _)| *at <= now) {
            self.limits.lanes.remove(&(at, lane));
            return Some(DueLimit::Lane(lane));
        }
        if let Some((at, job)) = self.limits.jobs.first().copied().filter(|(at, _)| *at <= now) {
            self.limits.jobs.remove(&(at, job));
            if let Some(map) = self.jobs.get_mut(&job).and_then(Job::map_mut)
                && let Some(acceptances) = &mut map.acceptances
            {
                acceptances.watched = None;
            }
            return Some(DueLimit::Job(job));
        }
        let (at, id) = self.limits.enters.first().copied().filter(|(at, _)| *at <= now)?;
        self.limits.enters.remove(&(at, id));
        self.containers[id.index()].enter_due = None;
        Some(DueLimit::Enter(id))
    }
}

/// Timeouts of `enter`.
impl Ledger {
    /// The user's `enter` begins in a container.
    pub(crate) fn begins_to_enter(&mut self, id: ContainerId, now: Time) {
        if let Some(limit) = self.rules.limits.enter_timeout {
            self.limits.is_used = true;
            self.look_at_enter(id, now + limit);
        }
    }

    /// Whether a container is still in the `enter` whose moment has come. If it is not to die for that yet,
    /// [`enters_on`](Self::enters_on) looks again.
    pub(crate) fn enter_overstays(&self, id: ContainerId) -> Option<Duration> {
        let (_, stage) = self.stage(id);
        self.rules.limits.enter_timeout.filter(|_| stage == ContainerStage::Starting)
    }

    /// A container is kept in its `enter`, because no thread may be left behind any more.
    pub(crate) fn enters_on(&mut self, id: ContainerId, now: Time) {
        self.look_at_enter(id, now + GRACE);
    }

    fn look_at_enter(&mut self, id: ContainerId, at: Time) {
        self.containers[id.index()].enter_due = Some(at);
        self.limits.enters.insert((at, id));
    }
}

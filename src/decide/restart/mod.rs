//! The restart policies. They decide whether a container may come back, and when. Each function has
//! one validated policy.
//!
//! [`RateLimited`] gives up when crashes are too many *and* too large a share of the work.
//! [`CrashLoopBackoff`] never gives up. Both slow a crash loop down with [`CrashLoop`], which counts loop
//! crashes in a row. [`Rounds`] decides which crashes the limit counts together. [`Restarts`] is the running
//! state of either policy. The ledger calls it under the function's lock.

mod backoff;
mod crash_loop;
mod explain;
mod history;
mod rate_limited;
mod record;
mod round;

pub use backoff::CrashLoopBackoff;
pub(crate) use crash_loop::{CrashLoop, Life};
pub use explain::Decision;
pub use rate_limited::RateLimited;
pub use record::CrashRecord;

use std::time::Duration;

use crate::decide::time::Time;
use crate::values::error::ConfigError;
use history::{Counts, History, Tally};
use round::Rounds;

/// The restart policy of a function.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Gives up past a limit. This is the default of ephemeral apps.
    RateLimited(RateLimited),
    /// Restarts for ever, more and more slowly. This is the default of deployed apps.
    CrashLoopBackoff(CrashLoopBackoff),
}

impl From<RateLimited> for RestartPolicy {
    fn from(policy: RateLimited) -> Self {
        Self::RateLimited(policy)
    }
}

impl From<CrashLoopBackoff> for RestartPolicy {
    fn from(policy: CrashLoopBackoff) -> Self {
        Self::CrashLoopBackoff(policy)
    }
}

impl RestartPolicy {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::RateLimited(policy) => policy.validate(),
            Self::CrashLoopBackoff(policy) => policy.validate(),
        }
    }

    /// Whether the policy ever gives up.
    pub(crate) fn may_give_up(&self) -> bool {
        matches!(self, Self::RateLimited(policy) if policy.may_trip())
    }

    /// The window within which crashes count. Within it each input counts at most one crash.
    pub(crate) fn window(&self) -> Duration {
        match self {
            Self::RateLimited(policy) => policy.window_length(),
            Self::CrashLoopBackoff(_) => rate_limited::WINDOW,
        }
    }
}

/// The decision of a policy on one crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// The container comes back now.
    Now,
    /// The container comes back at this time, and no other container is created before.
    At(Time),
    /// No container is created any more.
    GiveUp,
}

/// One death of a container, as the policies see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// The life that ended.
    pub(crate) life: Life,
    /// Whether a known suspect was executing: an input that had crashed a container before.
    pub(crate) suspect: bool,
    /// When the executing input last counted a crash, if it ever did.
    pub(crate) input_counted: Option<Time>,
    /// Whether this is a failed start while another container was live or recycling. The function then fails
    /// only to grow, which is not counted as a failure.
    pub(crate) spare: bool,
}

impl Death {
    /// Whether the death counts towards the delay: the container completed nothing, and no known suspect was
    /// executing. Any other container restarts at once.
    pub(crate) fn is_loop_crash(&self) -> bool {
        self.life.completed == 0 && !self.suspect
    }
}

/// The running state of a function's restart policy.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    history: History,
    crash_loop: CrashLoop,
    rounds: Rounds,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        let crash_loop = match &policy {
            RestartPolicy::RateLimited(policy) => policy.crash_loop(),
            RestartPolicy::CrashLoopBackoff(policy) => policy.crash_loop(),
        };
        let history = History::new(policy.window(), policy.may_give_up());
        Self { policy, history, crash_loop, rounds: Rounds::default() }
    }

    /// Begins the life of a container.
    pub(crate) fn started(&self, now: Time) -> Life {
        let (epoch, round) = (self.crash_loop.epoch(), self.rounds.counted());
        Life { epoch, round, began: now, entered: None, completed: 0 }
    }

    /// Records that a container has completed `inputs` inputs (returned `Ok` or `Err`) by `now`. Returns
    /// whether that ended a crash loop whose delay still runs.
    pub(crate) fn completed(&mut self, life: &mut Life, inputs: u64, now: Time) -> bool {
        if inputs == 0 {
            return false;
        }
        life.completed = life.completed.saturating_add(inputs);
        self.history.completed(inputs, now);
        let held = self.held_until(now).is_some();
        self.crash_loop.progress(life);
        held && self.held_until(now).is_none()
    }

    /// Records a death. Returns the decision, and whether the death counts against its input for this window.
    pub(crate) fn crashed(&mut self, death: Death, now: Time) -> (Restart, bool) {
        if death.is_loop_crash() {
            self.crash_loop.crashed(&death.life, now);
        }
        let restart = match self.crash_loop.due() {
            Some(due) if death.is_loop_crash() && due > now => Restart::At(due),
            _ => Restart::Now,
        };
        let window = self.policy.window();
        let repeated = death.input_counted.is_some_and(|at| now.since(at) <= window);
        if repeated || death.spare {
            return (restart, false);
        }
        let absorbed = self.rounds.absorbs(&death.life, death.is_loop_crash(), now);
        if !absorbed {
            self.rounds.count(now, if let Restart::At(due) = restart { due } else { now });
        }
        self.history.crashed(if absorbed { Counts::Rate } else { Counts::Both }, now);
        if self.trips(now) {
            return (Restart::GiveUp, !absorbed);
        }
        (restart, !absorbed)
    }

    /// The next moment at which completions that are not booked yet should be counted, if the limit may
    /// depend on the moment at which they happened.
    pub(crate) fn next_count(&mut self, now: Time) -> Option<Time> {
        if self.may_give_up() { self.history.next_count(now) } else { None }
    }

    /// Whether completions that are not booked yet may change the decision on the next crash. They
    /// may end a crash loop. They may also lower the failure rate, which matters if one more crash
    /// would exceed the limit.
    pub(crate) fn depends_on_completions(&mut self, now: Time) -> bool {
        let rounds = self.history.rounds(now);
        let limited =
            matches!(&self.policy, RestartPolicy::RateLimited(policy) if policy.may_trip_after(rounds));
        limited || self.crash_loop.in_a_row() > 0
    }

    /// Whether the limit is exceeded.
    fn trips(&mut self, now: Time) -> bool {
        let tally = self.tally(now);
        matches!(&self.policy, RestartPolicy::RateLimited(policy) if policy.trips(tally))
    }

    /// The crashes and the completed inputs within the window.
    pub(crate) fn tally(&mut self, now: Time) -> Tally {
        self.history.tally(now)
    }

    /// The moment until which no container may be created, except one that restarts at once.
    pub(crate) fn held_until(&self, now: Time) -> Option<Time> {
        self.crash_loop.due().filter(|due| *due > now)
    }

    /// Ends the crash loop if one of `lives` has stayed up long enough by `now`.
    pub(crate) fn settle(&mut self, lives: impl IntoIterator<Item = Life>, now: Time) {
        self.crash_loop.settle(lives, now);
    }

    /// Records in `life` that its container has entered.
    pub(crate) fn entered(&mut self, life: &mut Life, now: Time) {
        life.entered = Some(now);
        self.crash_loop.entered(life, now);
    }

    /// The earliest moment at which a container may have stayed up long enough to end a crash loop.
    pub(crate) fn stable_at(&self) -> Option<Time> {
        self.crash_loop.stable_at()
    }

    /// Takes the crash loop that has ended since the last call: the number of its loop crashes, and
    /// the moment of the first.
    pub(crate) fn take_loop_ended(&mut self) -> Option<(u32, Time)> {
        self.crash_loop.take_ended()
    }

    /// The number of loop crashes in a row, and the moment of the first.
    pub(crate) fn crash_loop(&self) -> Option<(u32, Time)> {
        self.crash_loop.since().map(|since| (self.crash_loop.in_a_row(), since))
    }

    /// Whether the policy ever gives up.
    pub(crate) fn may_give_up(&self) -> bool {
        self.policy.may_give_up()
    }

    /// Forgets every crash.
    pub(crate) fn reset(&mut self) {
        self.history = History::new(self.policy.window(), self.policy.may_give_up());
        self.crash_loop.reset();
        self.rounds.reset();
    }
}

//! May this container come back, and when? One validated policy for each function.
//!
//! [`RateLimited`] gives up when crashes are too many *and* too large a share; [`CrashLoopBackoff`]
//! never does. Both slow a crash loop down by [`CrashLoop`], which counts loop crashes in a row.
//! [`Rounds`] decides which crashes the limit counts together. [`Restarts`] is the running state of
//! either policy; the ledger feeds it under the function's lock.

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
pub(crate) use history::Tally;
use history::{Counts, History};
use round::Rounds;

/// The restart policy of a function.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Give up past a limit: the default of ephemeral apps.
    RateLimited(RateLimited),
    /// Restart for ever, ever more slowly: the default of deployed apps.
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

    /// Whether it ever gives up.
    pub(crate) fn may_give_up(&self) -> bool {
        matches!(self, Self::RateLimited(policy) if policy.may_trip())
    }

    /// The window within which crashes count, and one input counts at most one.
    pub(crate) fn window(&self) -> Duration {
        match self {
            Self::RateLimited(policy) => policy.window_length(),
            Self::CrashLoopBackoff(_) => rate_limited::WINDOW,
        }
    }
}

/// What a policy says of one crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Come back now.
    Now,
    /// Come back then, and create no other container before.
    At(Time),
    /// Create no container any more.
    GiveUp,
}

/// One death, as the policies see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// The life that ended.
    pub(crate) life: Life,
    /// Whether a known suspect was executing: an input that had crashed a container before.
    pub(crate) suspect: bool,
    /// When the executing input last counted a crash, if it ever did.
    pub(crate) input_counted: Option<Time>,
    /// Whether it is a failed start while another container was live or recycling: the function
    /// does not grow, which is no failure.
    pub(crate) spare: bool,
}

impl Death {
    /// Whether it counts towards the delay: the container completed nothing, and no input is known
    /// to be guilty of that. Any other container restarts at once.
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

    /// A container begins a life.
    pub(crate) fn started(&self, now: Time) -> Life {
        let (epoch, round) = (self.crash_loop.epoch(), self.rounds.counted());
        Life { epoch, round, began: now, entered: None, completed: 0 }
    }

    /// A container has completed `inputs` (returned `Ok` or `Err`) by `now`. Whether that ended a
    /// crash loop whose delay still runs.
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

    /// Returns the verdict, and whether the death counts against its input for this window.
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

    /// When completions that are not known yet are next to be counted, if the limit may depend on when they were.
    pub(crate) fn next_count(&mut self, now: Time) -> Option<Time> {
        if self.may_give_up() { self.history.next_count(now) } else { None }
    }

    /// Whether what was completed and is not known yet may change the verdict on the next crash: it may end a crash loop,
    /// and lower the failure rate where the crashes are as many as may be.
    pub(crate) fn depends_on_completions(&mut self, now: Time) -> bool {
        let rounds = self.history.rounds(now);
        let limited =
            matches!(&self.policy, RestartPolicy::RateLimited(policy) if policy.may_trip_after(rounds));
        limited || self.crash_loop.in_a_row() > 0
    }

    /// Whether the limit is broken.
    fn trips(&mut self, now: Time) -> bool {
        let tally = self.tally(now);
        matches!(&self.policy, RestartPolicy::RateLimited(policy) if policy.trips(tally))
    }

    /// Crashes and completed inputs within the window.
    pub(crate) fn tally(&mut self, now: Time) -> Tally {
        self.history.tally(now)
    }

    /// Until when no container may be created, save one that restarts at once.
    pub(crate) fn held_until(&self, now: Time) -> Option<Time> {
        self.crash_loop.due().filter(|due| *due > now)
    }

    /// Ends the crash loop if one of `lives` has stayed up long enough by `now`.
    pub(crate) fn settle(&mut self, lives: impl IntoIterator<Item = Life>, now: Time) {
        self.crash_loop.settle(lives, now);
    }

    /// A container has entered: sets the end of that in its life.
    pub(crate) fn entered(&mut self, life: &mut Life, now: Time) {
        life.entered = Some(now);
        self.crash_loop.entered(life, now);
    }

    /// When a container may have stayed up long enough to end a crash loop.
    pub(crate) fn stable_at(&self) -> Option<Time> {
        self.crash_loop.stable_at()
    }

    /// A crash loop that has ended since this was last asked: how many loop crashes it had, and when the first was.
    pub(crate) fn take_loop_ended(&mut self) -> Option<(u32, Time)> {
        self.crash_loop.take_ended()
    }

    /// Loop crashes in a row and when the first was.
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

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
pub(crate) use crash_loop::{CrashLoop, LifeRecord};
pub use explain::Decision;
pub use rate_limited::RateLimited;
pub use record::CrashRecord;

use std::time::Duration;

use crate::decide::time::Time;
use crate::values::error::ConfigError;
pub(crate) use history::WindowCounts;
use history::{CountsTowards, CrashHistory};
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
    pub(super) fn may_give_up(&self) -> bool {
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
pub(super) struct DeathFacts {
    /// The life that ended.
    pub(crate) life: LifeRecord,
    /// Whether a known suspect was executing: an input that had crashed a container before.
    pub(super) suspect: bool,
    /// When the executing input last counted a crash, if it ever did.
    pub(crate) input_counted: Option<Time>,
    /// Whether this is a failed start while another container was live or recycling. The function then fails
    /// only to grow, which is not counted as a failure.
    pub(super) spare: bool,
}

impl DeathFacts {
    /// Whether the death counts towards the delay: the container completed nothing, and no known suspect was
    /// executing. Any other container restarts at once.
    pub(super) fn is_loop_crash(&self) -> bool {
        self.life.completed == 0 && !self.suspect
    }
}

/// The running state of a function's restart policy.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    history: CrashHistory,
    crash_loop: CrashLoop,
    rounds: Rounds,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        let crash_loop = match &policy {
            RestartPolicy::RateLimited(policy) => policy.crash_loop(),
            RestartPolicy::CrashLoopBackoff(policy) => policy.crash_loop(),
        };
        let history = CrashHistory::new(policy.window(), policy.may_give_up());
        Self { policy, history, crash_loop, rounds: Rounds::default() }
    }

    /// Begins the life of a container.
    pub(crate) fn started(&self, now: Time) -> LifeRecord {
        let (epoch, round) = (self.crash_loop.epoch(), self.rounds.counted());
        LifeRecord { epoch, round, began: now, entered: None, completed: 0 }
    }

    /// Records that a container has completed `inputs` inputs (returned `Ok` or `Err`) by `now`. Returns
    /// whether that ended a crash loop whose delay still runs.
    pub(crate) fn completed(&mut self, life: &mut LifeRecord, inputs: u64, now: Time) -> bool {
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
    pub(crate) fn crashed(&mut self, death: DeathFacts, now: Time) -> (Restart, bool) {
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
        self.history.crashed(if absorbed { CountsTowards::Rate } else { CountsTowards::Both }, now);
        if self.trips(now) {
            return (Restart::GiveUp, !absorbed);
        }
        (restart, !absorbed)
    }

    /// The next moment at which completions that are not committed yet should be counted, if the limit may
    /// depend on the moment at which they happened.
    pub(crate) fn next_count(&mut self, now: Time) -> Option<Time> {
        if self.may_give_up() { self.history.next_count(now) } else { None }
    }

    /// Whether completions that are not committed yet may change the decision on the next crash. They
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
    pub(crate) fn tally(&mut self, now: Time) -> WindowCounts {
        self.history.tally(now)
    }

    /// The moment until which no container may be created, except one that restarts at once.
    pub(crate) fn held_until(&self, now: Time) -> Option<Time> {
        self.crash_loop.due().filter(|due| *due > now)
    }

    /// Ends the crash loop if one of `lives` has stayed up long enough by `now`.
    pub(crate) fn end_loop_if_stable(&mut self, lives: impl IntoIterator<Item = LifeRecord>, now: Time) {
        self.crash_loop.end_loop_if_stable(lives, now);
    }

    /// Records in `life` that its container has entered.
    pub(crate) fn entered(&mut self, life: &mut LifeRecord, now: Time) {
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
    pub(super) fn may_give_up(&self) -> bool {
        self.policy.may_give_up()
    }

    /// Forgets every crash.
    pub(crate) fn reset(&mut self) {
        self.history = CrashHistory::new(self.policy.window(), self.policy.may_give_up());
        self.crash_loop.reset();
        self.rounds.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn dies(restarts: &mut Restarts, life: LifeRecord, now: Time) -> Restart {
        restarts.crashed(DeathFacts { life, suspect: false, input_counted: None, spare: false }, now).0
    }

    /// Two loop crashes, after which containers wait until 30 ms.
    fn held() -> (Restarts, LifeRecord) {
        let mut restarts = Restarts::new(RateLimited::new().into());
        let old = restarts.started(at(0));
        assert_eq!(dies(&mut restarts, old, at(10)), Restart::Now);
        let second = restarts.started(at(15));
        assert_eq!(dies(&mut restarts, second, at(20)), Restart::At(at(30)));
        (restarts, old)
    }

    #[test]
    fn a_death_is_a_loop_crash_if_nothing_was_completed_and_no_suspect_was_executing() {
        let life = Restarts::new(RateLimited::new().into()).started(at(0));
        for (completed, suspect, is_loop_crash) in
            [(0, false, true), (0, true, false), (1, false, false), (1, true, false)]
        {
            let life = LifeRecord { completed, ..life };
            let death = DeathFacts { life, suspect, input_counted: None, spare: false };
            assert_eq!(death.is_loop_crash(), is_loop_crash, "{completed} completed, a suspect: {suspect}");
        }
    }

    #[test]
    fn an_input_counts_one_crash_within_a_window_and_a_failed_start_beside_a_live_container_none() {
        let window = Duration::from_secs(60);
        for (since, spare, counts) in [
            (None, false, true),
            (Some(Duration::ZERO), false, false),
            (Some(window), false, false),
            (Some(window + Duration::from_nanos(1)), false, true),
            (None, true, false),
        ] {
            let mut restarts = Restarts::new(RateLimited::new().into());
            let now = Time(3 * window);
            let life = restarts.started(now);
            let input_counted = since.map(|since| Time(now.0 - since));
            let (_, counted) =
                restarts.crashed(DeathFacts { life, suspect: false, input_counted, spare }, now);
            let tally = restarts.tally(now);
            assert_eq!(
                (counted, tally.crashes, tally.rounds),
                (counts, u64::from(counts), u64::from(counts))
            );
        }
    }

    #[test]
    fn deaths_of_one_round_count_once_for_the_limit_and_each_for_the_rate() {
        let mut restarts = Restarts::new(RateLimited::new().into());
        let lives = [restarts.started(at(0)); 3];
        for life in lives {
            assert_eq!(dies(&mut restarts, life, at(1)), Restart::Now);
        }
        let tally = restarts.tally(at(1));
        assert_eq!((tally.crashes, tally.rounds), (3, 1));
        // The next round begins with the end of its delay, and not before.
        let (mut restarts, _) = held();
        let early = restarts.started(at(29));
        dies(&mut restarts, early, at(29));
        assert_eq!(restarts.tally(at(29)).rounds, 2);
        let due = restarts.crash_loop.due().expect("there is a loop");
        let late = restarts.started(due);
        dies(&mut restarts, late, due);
        assert_eq!(restarts.tally(due).rounds, 3);
    }

    #[test]
    fn a_crash_past_the_limit_gives_up_and_a_reset_forgets_all() {
        let mut restarts = Restarts::new(RateLimited::new().max_crashes(1).into());
        for (ms, restart) in [(10, Restart::Now), (20, Restart::GiveUp)] {
            let life = restarts.started(at(ms));
            let death = DeathFacts { life, suspect: false, input_counted: None, spare: false };
            assert_eq!(restarts.crashed(death, at(ms)), (restart, true));
        }
        restarts.reset();
        assert_eq!((restarts.tally(at(21)).crashes, restarts.crash_loop()), (0, None));
        let life = restarts.started(at(21));
        assert_eq!(dies(&mut restarts, life, at(21)), Restart::Now);
    }

    #[test]
    fn a_loop_ends_once_a_container_has_stayed_up_and_its_length_is_given_once() {
        let (mut restarts, _) = held();
        assert_eq!((restarts.crash_loop(), restarts.stable_at()), (Some((2, at(10))), None));
        let mut up = restarts.started(at(30));
        restarts.entered(&mut up, at(40));
        assert_eq!(restarts.stable_at(), Some(at(10_040)));
        restarts.end_loop_if_stable([up], at(10_039));
        assert_eq!(restarts.take_loop_ended(), None);
        restarts.end_loop_if_stable([up], at(10_040));
        assert_eq!(restarts.take_loop_ended(), Some((2, at(10))));
        assert_eq!((restarts.take_loop_ended(), restarts.crash_loop()), (None, None));
    }

    #[test]
    fn a_policy_is_valid_if_its_settings_are() {
        let second = Duration::from_secs(1);
        let policies: [(RestartPolicy, bool); 4] = [
            (RateLimited::new().into(), true),
            (RateLimited::new().window(Duration::ZERO).into(), false),
            (CrashLoopBackoff::new().into(), true),
            (CrashLoopBackoff::new().reset_after(second / 10).into(), false),
        ];
        for (policy, valid) in policies {
            assert_eq!(policy.validate().is_ok(), valid, "{policy:?}");
        }
    }

    #[test]
    fn a_completion_ends_a_delay_only_if_one_runs_and_the_container_began_after_the_last_loop_crash() {
        let mut calm = Restarts::new(RateLimited::new().into());
        let mut life = calm.started(at(0));
        assert!(!calm.completed(&mut life, 1, at(1)), "there is no delay");
        let (mut restarts, mut old) = held();
        assert!(!restarts.completed(&mut old, 1, at(25)), "it began before");
        let mut young = restarts.started(at(25));
        assert!(!restarts.completed(&mut young, 0, at(26)), "nothing was completed");
        assert!(restarts.completed(&mut young, 1, at(26)));
        assert_eq!(restarts.held_until(at(26)), None);
        assert!(!restarts.completed(&mut young, 1, at(27)), "the delay is over already");
        let (mut late, _) = held();
        let mut young = late.started(at(30));
        assert!(!late.completed(&mut young, 1, at(31)), "the delay has passed");
    }

    #[test]
    fn a_delay_holds_containers_up_to_its_end() {
        let (restarts, _) = held();
        assert_eq!(restarts.held_until(at(29)), Some(at(30)));
        assert_eq!(restarts.held_until(at(30)), None);
    }

    #[test]
    fn when_inputs_were_completed_matters_only_to_a_policy_that_may_give_up() {
        let policies: [(RestartPolicy, bool); 3] = [
            (RateLimited::new().into(), true),
            (RateLimited::never().into(), false),
            (CrashLoopBackoff::new().into(), false),
        ];
        for (policy, may_give_up) in policies {
            let mut restarts = Restarts::new(policy.clone());
            let life = restarts.started(at(0));
            dies(&mut restarts, life, at(1));
            assert_eq!(restarts.next_count(at(2)).is_some(), may_give_up, "{policy:?}");
        }
    }

    #[test]
    fn a_verdict_depends_on_completions_at_the_limit_and_in_a_crash_loop_only() {
        let limited = |crashes| Restarts::new(RateLimited::new().max_crashes(crashes).into());
        let mut forgiving = Restarts::new(CrashLoopBackoff::new().into());
        assert!(limited(0).depends_on_completions(at(0)), "the next crash may break the limit");
        assert!(!limited(1).depends_on_completions(at(0)));
        assert!(!forgiving.depends_on_completions(at(0)));
        let life = forgiving.started(at(0));
        dies(&mut forgiving, life, at(1));
        assert!(forgiving.depends_on_completions(at(1)), "a completion would end the loop");
    }
}

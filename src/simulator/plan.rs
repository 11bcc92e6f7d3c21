//! The plan of a world: the settings of its function, and the behaviour of its inputs and containers.

use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::Rules;
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{CrashLoopBackoff, RateLimited, RestartPolicy};
use crate::decide::retries::Retries;
use crate::engine::settings::MemoryRules;
use crate::simulator::tape::{Tape, mix};

/// The bytes that a container may use.
const MEMORY_LIMIT: u64 = 1000;
/// The bytes that a container uses that exceeds its limit.
pub(super) const OVERDRAFT: u64 = 1500;

const MICRO: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The settings of a world's function and the habits of its inputs.
#[derive(Debug, Clone)]
pub(super) struct WorldPlan {
    pub(super) rules: Rules,
    pub(super) exit_timeout: Duration,
    pub(super) memory: MemoryRules,
    /// Whether the code has a state that an interruption may leave torn.
    pub(super) has_state: bool,
    /// Whether an interrupted state is used on, because the code promises that it is not torn.
    pub(super) keep_interrupted: bool,
    /// Whether the function, a map or a call may have limits of time.
    pub(super) is_limited: bool,
    habits: Habits,
}

/// How often, in a thousand inputs or lives, something goes wrong.
#[derive(Debug, Clone, Copy)]
struct Habits {
    salt: u64,
    fails: u64,
    crashes: u64,
    poison: u64,
    both: u64,
    hangs: u64,
    enter_fails: u64,
    /// An upper bound of the durations.
    longest: Duration,
    /// How many inputs of a thousand take a thousand times as long.
    dear: u64,
    /// How many executions of a thousand pass checkpoints.
    checks: u64,
}

/// How one execution ends, if it is not fenced before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SimAct {
    Ok,
    /// An error that is worth a retry, or not.
    Err {
        worth: bool,
    },
    Panic,
    /// It does not return until the world is healed.
    Hang,
}

impl WorldPlan {
    pub(super) fn drawn(tape: &mut Tape) -> Self {
        let containers = tape.one_of(&[1, 2, 3, 4, 8]);
        let crash_retries = tape.one_of(&[3, 0, 1, 2, 12]);
        let (retries, restart) = (retries(tape), policy(tape));
        let calls_max = tape.one_of(&[CALLS_MAX_DEFAULT, 1, 3]);
        let (lanes, has_state) = (1, true);
        let (limits, batch) = (LimitRules::default(), None);
        let rules =
            Rules { containers, lanes, has_state, batch, retries, crash_retries, restart, calls_max, limits };
        let often = [0, 20, 100, 400];
        let habits = Habits {
            salt: tape.salt(),
            fails: tape.one_of(&often),
            crashes: tape.one_of(&often),
            poison: tape.one_of(&[0, 20, 100, 300]),
            both: tape.one_of(&often),
            hangs: tape.one_of(&[0, 0, 30, 200]),
            enter_fails: tape.one_of(&[0, 0, 100, 400, 1000]),
            longest: tape.one_of(&[50 * MS, Duration::ZERO, 2 * MICRO, SECOND, 200 * MICRO]),
            dear: tape.one_of(&[0, 0, 20, 200]),
            checks: 0,
        };
        let memory = MemoryRules {
            accounted: true,
            limit: Some(MEMORY_LIMIT),
            recycle_above: None,
            abandoned_max: tape.one_of(&[100, 8, 100, 100, 1, 2, 3]),
            abandoned_bytes_max: tape.one_of(&[None, None, None, None, Some(2 * OVERDRAFT), Some(1)]),
        };
        let exit_timeout = tape.one_of(&[5 * SECOND, MS, Duration::ZERO]);
        let has_state = tape.one_in(2);
        let (keep_interrupted, is_limited) = (false, false);
        let plan = Self { rules, exit_timeout, memory, has_state, keep_interrupted, is_limited, habits };
        plan.perhaps_limited()
    }

    /// Gives limits of time to some of the worlds. Whether a world has them depends on its salt, and not on
    /// choices of their own, so that the other worlds are what they were before there were limits.
    fn perhaps_limited(mut self) -> Self {
        let salt = self.habits.salt;
        let draw = |what| mix(salt, what, 0, 7);
        if salt == 0 || !draw(0).is_multiple_of(3) {
            return self;
        }
        let limit = |what, limits: &[Option<Duration>]| limits[draw(what) as usize % limits.len()];
        self.is_limited = true;
        self.keep_interrupted = draw(1).is_multiple_of(3);
        self.rules.limits = LimitRules {
            timeout: limit(2, &[Some(10 * MS), None, Some(MS), Some(100 * MS), Some(3 * MS)]),
            deadline: limit(3, &[None, None, None, Some(50 * MS), Some(500 * MS), Some(5 * SECOND)]),
            retry_timeouts: !draw(4).is_multiple_of(4),
            enter_timeout: limit(5, &[None, None, Some(50 * MS)]),
        };
        self.habits.checks = [0, 500, 1000][draw(6) as usize % 3];
        self
    }

    /// The limits of a map or a call.
    pub(super) fn own_limits(&self, tape: &mut Tape) -> Limits {
        if !self.is_limited {
            return Limits::default();
        }
        Limits {
            timeout: tape.one_of(&[None, None, Some(2 * MS), Some(20 * MS)]),
            deadline: tape.one_of(&[None, None, None, Some(30 * MS), Some(5 * MS), Some(2 * SECOND)]),
        }
    }

    /// Whether this execution passes checkpoints, so that it ends as soon as its outcome is unwanted.
    pub(super) fn passes_checkpoints(&self, index: u64, attempt: u32) -> bool {
        mix(self.habits.salt, index, u64::from(attempt), 8) % 1000 < self.habits.checks
    }

    /// Whether the state of the code may be torn by an interruption, so that it is built again.
    pub(super) fn tears(&self) -> bool {
        self.has_state && !self.keep_interrupted
    }

    /// How the `attempt`-th execution of an input ends.
    pub(super) fn act(&self, tag: u64, index: u64, attempt: u32) -> SimAct {
        let Habits { salt, fails, crashes, poison, both, hangs, .. } = self.habits;
        let draw = mix(salt, tag, index, 1);
        let times = 1 + (draw >> 32) as u32 % 4;
        let fate = draw % 1000;
        let early = attempt <= times;
        let bounds = [hangs, poison, fails, crashes, both];
        let kind = bounds.iter().scan(0, |sum, bound| {
            *sum += bound;
            Some(*sum)
        });
        match kind.into_iter().position(|bound| fate < bound) {
            Some(0) if early => SimAct::Hang,
            Some(1) => SimAct::Panic,
            Some(2) if early => SimAct::Err { worth: draw >> 60 != 0 },
            Some(3) if early => SimAct::Panic,
            Some(4) if attempt <= 6 => {
                if mix(salt, index, u64::from(attempt), 2).is_multiple_of(2) {
                    SimAct::Panic
                } else {
                    SimAct::Err { worth: true }
                }
            }
            _ => SimAct::Ok,
        }
    }

    /// The least delay before the next attempt that the error of this execution asks for.
    pub(super) fn retry_after(&self, index: u64, attempt: u32) -> Option<Duration> {
        match mix(self.habits.salt, index, u64::from(attempt), 6) % 6 {
            0 => Some(3 * SECOND),
            1 => Some(MS),
            _ => None,
        }
    }

    /// The duration of this execution.
    pub(super) fn takes(&self, tag: u64, index: u64, attempt: u32) -> Duration {
        let draw = mix(self.habits.salt, tag, index, 3 + u64::from(attempt));
        let dear = mix(self.habits.salt, tag, index, 5) % 1000 < self.habits.dear;
        match self.habits.longest.as_nanos() as u64 {
            0 => Duration::ZERO,
            longest => {
                let usual = Duration::from_nanos(draw % longest);
                if dear { (usual * 1000).clamp(usual, (5 * SECOND).max(usual)) } else { usual }
            }
        }
    }

    /// Whether the `enter` of that generation fails by itself.
    pub(super) fn enter_fails(&self, id: ContainerId, generation: Generation) -> bool {
        mix(self.habits.salt, id.index() as u64, generation.get(), 4) % 1000 < self.habits.enter_fails
    }
}

fn retries(tape: &mut Tape) -> Retries {
    let retries = Retries::new(tape.one_of(&[0, 1, 2, 5]))
        .initial_delay(tape.one_of(&[Duration::ZERO, MS, SECOND]))
        .backoff_coefficient(tape.one_of(&[2.0, 1.0, 1.7, 10.0]))
        .max_delay(tape.one_of(&[60 * SECOND, SECOND, 2 * SECOND]));
    if tape.one_in(4) { retries.jitter(7) } else { retries }
}

fn policy(tape: &mut Tape) -> RestartPolicy {
    let limited = RateLimited::new();
    let policy: RestartPolicy = match tape.pick(6) {
        0 => RateLimited::never().into(),
        1 | 2 => limited
            .window(tape.one_of(&[60 * SECOND, 5 * SECOND, 700 * MS]))
            .max_crashes(tape.one_of(&[10, 0, 1, 3, 6]))
            .max_failure_rate(tape.one_of(&[0.5, 0.0, 0.1, 0.9]))
            .into(),
        3 => limited.into(),
        _ => CrashLoopBackoff::new()
            .initial(tape.one_of(&[100 * MS, MS, SECOND]))
            .max(tape.one_of(&[60 * SECOND, SECOND, 2 * SECOND]))
            .reset_after(tape.one_of(&[10 * SECOND, 2 * SECOND, 3 * SECOND]))
            .seed(3)
            .into(),
    };
    if policy.validate().is_ok() { policy } else { CrashLoopBackoff::new().into() }
}

//! What a policy would decide over a given history: the same code as the engine runs, replayed.

use std::fmt;
use std::time::Duration;

use crate::decide::restart::{CrashLoopBackoff, Death, RateLimited, Restart, RestartPolicy, Restarts};
use crate::decide::time::Time;
use crate::error::{ConfigError, containers_in_range};

/// One crash of a history to be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashRecord {
    /// When it came, from the begin of the history. Not before the crash listed ahead of it.
    pub at: Duration,
    /// Inputs completed by the whole function since the crash listed ahead of it.
    pub completed_before: u64,
    /// Inputs completed by the container that died, since it started. With 0 it is a loop crash.
    pub completed_by_container: u64,
}

impl CrashRecord {
    /// The crash of a container that had completed nothing, with nothing completed by others.
    #[must_use]
    pub const fn at(at: Duration) -> Self {
        Self { at, completed_before: 0, completed_by_container: 0 }
    }
}

/// What the policy decided on one crash, and by which numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// When the crash came.
    pub at: Duration,
    /// Crashes within the window, this one included.
    pub crashes: u64,
    /// Inputs completed within the window.
    pub completed: u64,
    /// Loop crashes in a row, this one included.
    pub loop_crashes: u32,
    /// How long the restart waits; `None` where the policy gives up.
    pub restart_after: Option<Duration>,
}

impl Decision {
    /// Crashes as a share of crashes and completed inputs.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        self.crashes as f64 / (self.crashes as f64 + self.completed as f64)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = 100.0 * self.failure_rate();
        write!(
            f,
            "at {:?}: {} crashes, {} completed in the window ({rate:.0} % failed), loop crash {}: ",
            self.at, self.crashes, self.completed, self.loop_crashes
        )?;
        match self.restart_after {
            Some(Duration::ZERO) => write!(f, "restart at once"),
            Some(delay) => write!(f, "restart after {delay:?}"),
            None => write!(f, "give up"),
        }
    }
}

impl RestartPolicy {
    /// Replays `crashes` of a function with `containers` containers and says what is decided on
    /// each. Every crash is taken to end a container started by the restart before it, also where it
    /// comes before that restart was due. The list ends where the policy gives up.
    ///
    /// # Errors
    ///
    /// The [`ConfigError`] that `start` would give for the policy.
    pub fn explain(
        &self,
        containers: usize,
        crashes: impl IntoIterator<Item = CrashRecord>,
    ) -> Result<Vec<Decision>, ConfigError> {
        containers_in_range(containers)?;
        self.validate(containers)?;
        let mut restarts = Restarts::new(self.clone(), containers);
        let mut decisions = Vec::new();
        for crash in crashes {
            let now = Time(crash.at);
            let mut life = restarts.started();
            let own = crash.completed_by_container.min(crash.completed_before);
            restarts.history.completed(crash.completed_before - own, now);
            restarts.completed(&mut life, own, now);
            life.completed = crash.completed_by_container;
            let death = Death { life, suspect: false, input_counted: None };
            restarts.settle([life], now);
            let (verdict, _) = restarts.crashed(death, now);
            let tally = restarts.history.tally(now);
            decisions.push(Decision {
                at: crash.at,
                crashes: tally.crashes,
                completed: tally.completed,
                loop_crashes: restarts.crash_loop.in_a_row(),
                restart_after: match verdict {
                    Restart::Now => Some(Duration::ZERO),
                    Restart::At(due) => Some(due.since(now)),
                    Restart::GiveUp => None,
                },
            });
            if verdict == Restart::GiveUp {
                break;
            }
        }
        Ok(decisions)
    }
}

impl RateLimited {
    /// See [`RestartPolicy::explain`].
    ///
    /// # Errors
    ///
    /// The [`ConfigError`] that `start` would give for the policy.
    ///
    /// # Examples
    ///
    /// ```
    /// use longshore::{CrashRecord, RateLimited};
    /// use std::time::Duration;
    ///
    /// let every_second = (0..20).map(|s| CrashRecord::at(Duration::from_secs(s)));
    /// let decisions = RateLimited::new().explain(2, every_second).unwrap();
    /// assert_eq!(decisions.len(), 11); // the eleventh crash exceeds ten, and nothing was completed
    /// assert_eq!(decisions[10].restart_after, None);
    /// ```
    pub fn explain(
        &self,
        containers: usize,
        crashes: impl IntoIterator<Item = CrashRecord>,
    ) -> Result<Vec<Decision>, ConfigError> {
        RestartPolicy::from(self.clone()).explain(containers, crashes)
    }
}

impl CrashLoopBackoff {
    /// See [`RestartPolicy::explain`].
    ///
    /// # Errors
    ///
    /// The [`ConfigError`] that `start` would give for the policy.
    pub fn explain(
        &self,
        containers: usize,
        crashes: impl IntoIterator<Item = CrashRecord>,
    ) -> Result<Vec<Decision>, ConfigError> {
        RestartPolicy::from(self.clone()).explain(containers, crashes)
    }
}

//! The limits of time that a function, a map or a call may set, and their ranges.

use std::time::Duration;

use crate::values::error::ConfigError;

/// The shortest limit. A shorter one would be over before a scheduler's slice.
pub(crate) const LIMIT_MIN: Duration = Duration::from_millis(1);

/// The longest timeout of an attempt or of an `enter`.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest deadline.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The limits of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitRules {
    /// The time that one attempt may take.
    pub(crate) timeout: Option<Duration>,
    /// Whether an attempt that timed out is worth a retry.
    pub(crate) retry_timeouts: bool,
    /// The time from the acceptance of an input to its outcome.
    pub(crate) deadline: Option<Duration>,
    /// The time that an `enter` may take.
    pub(crate) enter_timeout: Option<Duration>,
}

impl Default for LimitRules {
    fn default() -> Self {
        Self { timeout: None, retry_timeouts: true, deadline: None, enter_timeout: None }
    }
}

impl LimitRules {
    /// # Errors
    ///
    /// A limit is outside its range.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        Limits { timeout: self.timeout, deadline: self.deadline }.validate()?;
        in_range("enter_timeout", self.enter_timeout, TIMEOUT_MAX)
    }
}

/// Limits of time for one call, in place of the function's. See
/// [`Function::call_within`](crate::Function::call_within).
///
/// A limit that is not set is the function's. The ranges are checked when the call begins. A call with a
/// limit outside its range fails with [`Cause::Config`](crate::Cause::Config), and gives its input back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "limits do nothing before they are passed to a call"]
pub struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
}

impl Limits {
    /// The limits of the function.
    pub const fn new() -> Self {
        Self { timeout: None, deadline: None }
    }

    /// The time that each attempt may take: see [`Builder::timeout`](crate::Builder::timeout).
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The time until the call has its outcome: see [`Builder::deadline`](crate::Builder::deadline).
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// # Errors
    ///
    /// A limit is outside its range.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        in_range("timeout", self.timeout, TIMEOUT_MAX)?;
        in_range("deadline", self.deadline, DEADLINE_MAX)
    }
}

fn in_range(setting: &'static str, limit: Option<Duration>, max: Duration) -> Result<(), ConfigError> {
    match limit {
        Some(limit) if !(LIMIT_MIN..=max).contains(&limit) => {
            Err(ConfigError::TimeLimit { setting, limit, min: LIMIT_MIN, max })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_range() {
        let tick = Duration::from_nanos(1);
        let timeout = |limit| LimitRules { timeout: Some(limit), ..LimitRules::default() };
        let deadline = |limit| LimitRules { deadline: Some(limit), ..LimitRules::default() };
        let enter = |limit| LimitRules { enter_timeout: Some(limit), ..LimitRules::default() };
        let check = |rules: fn(Duration) -> LimitRules, max| {
            for (limit, is_in_range) in
                [(LIMIT_MIN - tick, false), (LIMIT_MIN, true), (max, true), (max + tick, false)]
            {
                assert_eq!(rules(limit).validate().is_ok(), is_in_range, "{limit:?}");
            }
        };
        check(timeout, TIMEOUT_MAX);
        check(deadline, DEADLINE_MAX);
        check(enter, TIMEOUT_MAX);
        assert!(LimitRules::default().validate().is_ok());
    }
}

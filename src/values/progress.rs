//! How far a map is.

use std::fmt;

/// How far a map is. Counts lag by at most the inputs that containers execute at the moment.
///
/// At the end, `pulled = ok + failed + poisoned + cancelled + given_up`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Progress {
    /// Inputs taken from the source, and those of a vector or a range for which the window has room.
    pub pulled: u64,
    /// Inputs that ended with `Ok`.
    pub ok: u64,
    /// Inputs that ended with the user's error.
    pub failed: u64,
    /// Inputs that crashed their containers too often.
    pub poisoned: u64,
    /// Inputs cancelled, refused by a shutdown or lost with a killed container.
    pub cancelled: u64,
    /// Inputs failed because the function gave up.
    pub given_up: u64,
    /// Executions begun again because a container died.
    pub replayed: u64,
    /// Executions begun again because the function failed.
    pub retried: u64,
    /// Inputs of the source, where it is known.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub total: Option<u64>,
}

impl Progress {
    /// Inputs that have ended.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.ok + self.failed + self.poisoned + self.cancelled + self.given_up
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.completed())?;
        match self.total {
            Some(total) => write!(f, " of {total}")?,
            None => write!(f, " of {} pulled", self.pulled)?,
        }
        write!(
            f,
            ": {} ok, {} failed, {} poisoned, {} cancelled, {} given up; {} replayed, {} retried",
            self.ok, self.failed, self.poisoned, self.cancelled, self.given_up, self.replayed, self.retried
        )
    }
}

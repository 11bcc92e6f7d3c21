//! The progress of a map.

use std::fmt;

/// The progress of a map. The counts lag behind by at most the inputs that containers are executing.
///
/// At the end, `pulled = ok + failed + poisoned + cancelled + given_up`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Progress {
    /// Inputs taken from the source. Inputs of a vector or a range count as soon as the
    /// window has room for them.
    pub pulled: u64,
    /// Inputs that ended with `Ok`.
    pub ok: u64,
    /// Inputs that ended with the user's error.
    pub failed: u64,
    /// Inputs that crashed their containers too often.
    pub poisoned: u64,
    /// Inputs that were cancelled, refused by a shutdown, or lost with a killed container.
    pub cancelled: u64,
    /// Inputs that failed because the function gave up.
    pub given_up: u64,
    /// Executions that were repeated because a container died.
    pub replayed: u64,
    /// Executions that were repeated because the function failed.
    pub retried: u64,
    /// The number of inputs of the source, where it is known.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each count is another power of two, so that no two sums are the same.
    const SOME: Progress = Progress {
        pulled: 100,
        ok: 1,
        failed: 2,
        poisoned: 4,
        cancelled: 8,
        given_up: 16,
        replayed: 32,
        retried: 64,
        total: Some(200),
    };

    #[test]
    fn what_has_ended_in_whatever_way_is_completed() {
        assert_eq!(SOME.completed(), 31);
    }

    #[test]
    fn it_shows_each_count_and_of_how_many() {
        let counts = "1 ok, 2 failed, 4 poisoned, 8 cancelled, 16 given up; 32 replayed, 64 retried";
        assert_eq!(SOME.to_string(), format!("31 of 200: {counts}"));
        assert_eq!(Progress { total: None, ..SOME }.to_string(), format!("31 of 100 pulled: {counts}"));
    }
}

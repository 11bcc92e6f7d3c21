//! What became of an app and its containers.

use std::fmt;

use crate::base::ids::ContainerId;
use crate::values::crash::Panic;
#[cfg(feature = "serde")]
use crate::values::serial;

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "fate", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Fate {
    /// It exited gracefully.
    Exited,
    /// It exited, and its `exit` panicked.
    ExitPanicked(Panic),
    /// Its `exit` took longer than `exit_timeout` and was abandoned.
    ExitTimedOut,
    /// An abort, or the end of the limit, came while it executed an input, or was in its `enter` or `exit`. That
    /// code has come to its end since: a future was dropped, synchronous code unwound at a checkpoint or returned.
    /// There was no `exit`, or no whole one.
    CutOff,
    /// It had nothing to do at the end: never created, waiting for work when it was aborted, backing off, given up or
    /// killed.
    Stopped,
    /// It still runs user code.
    StillRunning,
}

impl Fate {
    /// Whether the container came to its end as it should: it exited, or had nothing to do.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Exited | Self::Stopped)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited => write!(f, "exited"),
            Self::ExitPanicked(panic) => write!(f, "exit {panic}"),
            Self::ExitTimedOut => write!(f, "exit timed out"),
            Self::CutOff => write!(f, "cut off"),
            Self::Stopped => write!(f, "stopped"),
            Self::StillRunning => write!(f, "still running"),
        }
    }
}

/// What became of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FunctionReport {
    /// Its name.
    pub function: String,
    /// What became of each of its containers.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serial::fates"))]
    pub containers: Vec<(ContainerId, Fate)>,
    /// Threads that still run user code: containers, abandoned ones and feeders.
    pub threads_running: usize,
    /// Whether the limit passed before the function had come to its end, so that what was left was cut off.
    pub limit_passed: bool,
    /// Accepted inputs that the end kept from an outcome of their own, and that came back inside an error for it. Not
    /// those that failed, and not those that were refused because the end had begun.
    pub inputs_returned: u64,
    /// Accepted inputs that did not come back one by one, because the end ended their whole map with one error: it was
    /// read without [`return_exceptions`](crate::Map::return_exceptions).
    pub inputs_dropped: u64,
}

impl FunctionReport {
    /// Of a function of which nothing is left.
    pub(crate) fn unknown(function: &str) -> Self {
        Self {
            function: function.to_owned(),
            containers: Vec::new(),
            threads_running: 0,
            limit_passed: false,
            inputs_returned: 0,
            inputs_dropped: 0,
        }
    }

    /// Whether every container ended well, nothing runs any more, and no input was left over because the limit had
    /// passed. Inputs that a stop or an abort gives back are what was asked for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let left_over = self.inputs_returned + self.inputs_dropped > 0;
        let ended_well = self.containers.iter().all(|(_, fate)| fate.is_clean());
        ended_well && self.threads_running == 0 && !(self.limit_passed && left_over)
    }

    /// Every thread of it has ended since.
    pub(crate) fn let_go(&mut self) {
        self.threads_running = 0;
        for (_, fate) in &mut self.containers {
            if *fate == Fate::StillRunning {
                *fate = Fate::CutOff;
            }
        }
    }
}

impl fmt::Display for FunctionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.function)?;
        for (at, (id, fate)) in self.containers.iter().enumerate() {
            write!(f, "{} {id} {fate}", if at == 0 { "" } else { "," })?;
        }
        if self.limit_passed {
            write!(f, "; the limit passed")?;
        }
        if self.inputs_returned > 0 {
            write!(f, "; {} came back", Inputs(self.inputs_returned))?;
        }
        if self.inputs_dropped > 0 {
            write!(f, "; {} ended with their map", Inputs(self.inputs_dropped))?;
        }
        if self.threads_running > 0 {
            let (threads, run) =
                if self.threads_running == 1 { ("thread", "runs") } else { ("threads", "run") };
            write!(f, "; {} {threads} still {run}", self.threads_running)?;
        }
        Ok(())
    }
}

/// A number of inputs in words.
struct Inputs(u64);

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "input" } else { "inputs" })
    }
}

/// What became of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The app's name.
    pub app: String,
    /// A report of each function that the end found running, and of the last 64 that had come to an unclean end
    /// before, in the order of their start.
    pub functions: Vec<FunctionReport>,
    /// Functions that had come to a clean end before: they are only counted.
    pub ended_cleanly: u64,
    /// Functions that had come to an unclean end before, and whose reports were dropped for 64 later ones.
    pub reports_dropped: u64,
    /// Whether the end was begun and not waited for, because the call would have waited for itself: it was made in a
    /// container of one of the app's functions, or on the engine's thread. The reports are those of that moment.
    pub would_deadlock: bool,
}

impl Report {
    /// Whether every function of the app came to a clean end, and this report waited for it. See
    /// [`FunctionReport::is_clean`].
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let waited = !self.would_deadlock && self.reports_dropped == 0;
        waited && self.functions.iter().all(FunctionReport::is_clean)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.app)?;
        if self.would_deadlock {
            write!(f, " not waited for, because it would deadlock")?;
        }
        for function in &self.functions {
            write!(f, "\n  {function}")?;
        }
        if self.ended_cleanly > 0 {
            write!(f, "\n  {} ended cleanly before", self.ended_cleanly)?;
        }
        if self.reports_dropped > 0 {
            write!(f, "\n  {} ended uncleanly before, and are only counted", self.reports_dropped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(fate: Fate) -> FunctionReport {
        FunctionReport { containers: vec![(ContainerId::new(0), fate)], ..FunctionReport::unknown("f") }
    }

    #[test]
    fn a_function_is_clean_unless_something_was_cut_off_or_runs_or_was_left_over_past_the_limit() {
        assert!(ended(Fate::Exited).is_clean() && ended(Fate::Stopped).is_clean());
        for fate in [Fate::CutOff, Fate::ExitTimedOut, Fate::StillRunning] {
            assert!(!ended(fate).is_clean());
        }
        let stopped = FunctionReport { inputs_returned: 3, inputs_dropped: 1, ..ended(Fate::Exited) };
        assert!(stopped.is_clean(), "a stop gives inputs back");
        assert!(FunctionReport { limit_passed: true, ..ended(Fate::Exited) }.is_clean());
        assert!(!FunctionReport { limit_passed: true, ..stopped }.is_clean());
        assert!(!FunctionReport { threads_running: 1, ..ended(Fate::Exited) }.is_clean(), "a feeder");
    }

    #[test]
    fn a_report_says_everything_in_words() {
        let function = FunctionReport {
            threads_running: 2,
            limit_passed: true,
            inputs_returned: 1,
            inputs_dropped: 7,
            ..ended(Fate::CutOff)
        };
        let mut report = Report {
            app: "app".to_owned(),
            functions: vec![function],
            ended_cleanly: 3,
            reports_dropped: 2,
            would_deadlock: false,
        };
        let lines = "app:\n  f: 0 cut off; the limit passed; 1 input came back; 7 inputs ended with their map; \
                     2 threads still run\n  3 ended cleanly before\n  2 ended uncleanly before, and are only counted";
        assert_eq!(report.to_string(), lines);
        assert!(!report.is_clean());
        report.functions = vec![ended(Fate::Exited)];
        assert!(!report.is_clean(), "two reports were unclean");
        report.reports_dropped = 0;
        assert!(report.is_clean());
        report.would_deadlock = true;
        assert!(!report.is_clean() && report.to_string().contains("would deadlock"), "{report}");
    }
}

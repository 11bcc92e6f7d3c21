//! How an app, its functions and their containers ended.

use std::fmt;

use crate::base::ids::ContainerId;
use crate::values::crash::Panic;
#[cfg(feature = "serde")]
use crate::values::serial;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "fate", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Fate {
    /// The container exited gracefully.
    Exited,
    /// The container exited, and its `exit` panicked.
    ExitPanicked(Panic),
    /// The container's `exit` took longer than `exit_timeout` and was abandoned.
    ExitTimedOut,
    /// An abort, or the limit of a shutdown, came while the container executed an input, or was in its
    /// `enter` or `exit`. That code has ended since: a future was dropped, or synchronous code unwound at a
    /// checkpoint or returned. The container's `exit` did not run, or not to its end.
    CutOff,
    /// The container had nothing to do at the end. It was never created, or it waited for work when it was
    /// aborted. It may also have been backing off, or have been killed, or its function may have given up.
    Stopped,
    /// The container still runs user code.
    StillRunning,
}

impl Fate {
    /// Whether the container ended as it should: it exited, or had nothing to do.
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

/// How a function ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FunctionReport {
    /// The name of the function.
    pub function: String,
    /// How each of its containers ended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serial::fates"))]
    pub containers: Vec<(ContainerId, Fate)>,
    /// The number of threads that still run user code: those of containers, abandoned ones and feeders.
    pub threads_running: usize,
    /// Whether the limit passed before the function had ended, so that the rest was cut off.
    pub limit_passed: bool,
    /// Accepted inputs that got no outcome of their own because of the end, and came back inside an
    /// error instead. Inputs that failed do not count, and neither do inputs that were refused
    /// because the end had begun.
    pub inputs_returned: u64,
    /// Accepted inputs that did not come back one by one, because the end ended their whole map with one
    /// error. This happens to maps without [`return_exceptions`](crate::Map::return_exceptions).
    pub inputs_dropped: u64,
}

impl FunctionReport {
    /// The report of a function that no longer exists.
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

    /// Whether every container ended well, no thread runs any more, and the limit left no input over. Inputs
    /// that a stop or an abort gives back do not count against it, because giving them back was the request.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let left_over = self.inputs_returned + self.inputs_dropped > 0;
        let ended_well = self.containers.iter().all(|(_, fate)| fate.is_clean());
        ended_well && self.threads_running == 0 && !(self.limit_passed && left_over)
    }

    /// Records that every thread of the function has ended since.
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

/// How an app ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The app's name.
    pub app: String,
    /// A report of each function that was running when the end began, and of the last 64 functions that had
    /// ended uncleanly before. They are in the order of their start.
    pub functions: Vec<FunctionReport>,
    /// The number of functions that had ended cleanly before.
    pub ended_cleanly: u64,
    /// The number of functions that had ended uncleanly before, and whose reports were dropped in
    /// favour of 64 later ones.
    pub reports_dropped: u64,
    /// Whether the end was begun but not waited for. The call would have waited for itself, because
    /// it was made in a container of one of the app's functions, or on the engine's thread. The
    /// reports show that moment.
    pub would_deadlock: bool,
}

impl Report {
    /// Whether every function of the app ended cleanly, and this report waited for that. See
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
    fn a_report_is_unclean_if_a_container_was_cut_off_a_thread_runs_or_the_limit_left_inputs_over() {
        assert!(ended(Fate::Exited).is_clean());
        assert!(ended(Fate::Stopped).is_clean());
        for fate in [Fate::CutOff, Fate::ExitTimedOut, Fate::StillRunning] {
            assert!(!ended(fate.clone()).is_clean(), "{fate}");
        }
        let stopped = FunctionReport { inputs_returned: 3, inputs_dropped: 1, ..ended(Fate::Exited) };
        assert!(stopped.is_clean(), "giving inputs back is the purpose of a stop");
        assert!(FunctionReport { limit_passed: true, ..ended(Fate::Exited) }.is_clean());
        assert!(!FunctionReport { limit_passed: true, ..stopped }.is_clean());
        assert!(!FunctionReport { threads_running: 1, ..ended(Fate::Exited) }.is_clean(), "a feeder");
        for (inputs_returned, inputs_dropped) in [(1, 0), (0, 1), (1, 1)] {
            let left_over = FunctionReport { inputs_returned, inputs_dropped, ..ended(Fate::Exited) };
            assert!(!FunctionReport { limit_passed: true, ..left_over }.is_clean());
        }
    }

    #[test]
    fn a_thread_that_has_ended_since_was_cut_off_and_what_had_ended_before_stays_what_it_was() {
        for (fate, after) in [
            (Fate::StillRunning, Fate::CutOff),
            (Fate::Exited, Fate::Exited),
            (Fate::ExitTimedOut, Fate::ExitTimedOut),
        ] {
            let mut report = FunctionReport { threads_running: 2, ..ended(fate) };
            report.let_go();
            assert_eq!(report, ended(after));
        }
    }

    #[test]
    fn a_report_says_nothing_of_what_there_was_none_of() {
        let function = ended(Fate::Exited);
        assert_eq!(function.to_string(), "f: 0 exited");
        let report = Report {
            app: "app".to_owned(),
            functions: vec![function],
            ended_cleanly: 0,
            reports_dropped: 0,
            would_deadlock: false,
        };
        assert_eq!(report.to_string(), "app:\n  f: 0 exited");
        let two = vec![(ContainerId::new(0), Fate::Stopped), (ContainerId::new(1), Fate::ExitTimedOut)];
        let two = FunctionReport { containers: two, threads_running: 1, ..FunctionReport::unknown("f") };
        assert_eq!(two.to_string(), "f: 0 stopped, 1 exit timed out; 1 thread still runs");
    }

    #[test]
    fn the_text_of_a_report_holds_all_its_facts() {
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
        assert!(!report.is_clean(), "two unclean reports were dropped");
        report.reports_dropped = 0;
        assert!(report.is_clean());
        report.would_deadlock = true;
        assert!(!report.is_clean(), "{report}");
        assert!(report.to_string().contains("would deadlock"), "{report}");
    }
}

//! What became of an app and its containers.

use std::fmt;

use crate::crash::Panic;
use crate::decide::ids::ContainerId;

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It exited gracefully.
    Exited,
    /// It exited, and its `exit` panicked.
    ExitPanicked(Panic),
    /// Its `exit` took longer than `exit_timeout` and was abandoned.
    ExitTimedOut,
    /// It was not there: never created, backing off, given up or killed.
    Stopped,
    /// It still runs user code.
    StillRunning,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited => write!(f, "exited"),
            Self::ExitPanicked(panic) => write!(f, "exit {panic}"),
            Self::ExitTimedOut => write!(f, "exit timed out"),
            Self::Stopped => write!(f, "stopped"),
            Self::StillRunning => write!(f, "still running"),
        }
    }
}

/// What became of a function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FunctionReport {
    /// Its name.
    pub function: String,
    /// What became of each of its containers.
    pub containers: Vec<(ContainerId, Fate)>,
    /// Threads that still run user code: containers, abandoned ones and feeders.
    pub threads_running: usize,
}

impl FunctionReport {
    /// Of a function of which nothing is left.
    pub(crate) fn unknown(function: &str) -> Self {
        Self { function: function.to_owned(), containers: Vec::new(), threads_running: 0 }
    }
}

/// What became of an app.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The app's name.
    pub app: String,
    /// A report of each function, in the order of their start.
    pub functions: Vec<FunctionReport>,
}

impl Report {
    /// Whether every container ended well and nothing runs any more.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.functions.iter().all(|function| {
            let ended = |(_, fate): &(ContainerId, Fate)| matches!(fate, Fate::Exited | Fate::Stopped);
            function.threads_running == 0 && function.containers.iter().all(ended)
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.app)?;
        for function in &self.functions {
            write!(f, "\n  {}:", function.function)?;
            for (at, (id, fate)) in function.containers.iter().enumerate() {
                write!(f, "{} {id} {fate}", if at == 0 { "" } else { "," })?;
            }
            if function.threads_running > 0 {
                let (threads, run) =
                    if function.threads_running == 1 { ("thread", "runs") } else { ("threads", "run") };
                write!(f, "; {} {threads} still {run}", function.threads_running)?;
            }
        }
        Ok(())
    }
}

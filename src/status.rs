//! What a function looks like at one moment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::crash::Crash;

/// Containers by what they are doing. Capacity is `live`, never what was configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Containers {
    /// In `enter`.
    pub starting: usize,
    /// At work, or ready for it.
    pub live: usize,
    /// In `exit`.
    pub exiting: usize,
    /// Waiting to be created again.
    pub backing_off: usize,
    /// Not there: the function gave up, is stopped, or the container is between two lives.
    pub stopped: usize,
    /// Threads whose generation is over and that have not returned from the user's code. Not among
    /// the containers: each has been, or will be, replaced.
    pub abandoned: usize,
}

/// A crash loop: containers that die before they complete anything.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashLoopStatus {
    /// Loop crashes in a row.
    pub crashes: u32,
    /// How long ago the first of them was.
    pub since: Duration,
    /// In how long containers are created again; `None` once they may be.
    pub next_restart: Option<Duration>,
}

/// A snapshot of one function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// Containers by state.
    pub containers: Containers,
    /// The crash loop, if there is one.
    pub crash_loop: Option<CrashLoopStatus>,
    /// The last crash, and how long ago it was.
    pub last_crash: Option<(Duration, Arc<Crash>)>,
    /// The crash that broke the limit, while the function is given up.
    pub gave_up: Option<Arc<Crash>>,
    /// Accepted inputs that no container is executing, those waiting for a retry included.
    pub inputs_waiting: u64,
    /// Crashes of containers so far.
    pub crashes: u64,
    /// Restarts of containers so far.
    pub restarts: u64,
    /// Answers of fenced attempts, refused so far.
    pub late_answers: u64,
    /// Feeders that pull a source, or are stuck in one.
    pub feeders: usize,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Containers { starting, live, exiting, backing_off, stopped, abandoned } = self.containers;
        write!(
            f,
            "{live} live, {starting} starting, {exiting} exiting, {backing_off} backing off, {stopped} stopped, \
             {abandoned} abandoned; {} inputs waiting; {} crashes, {} restarts",
            self.inputs_waiting, self.crashes, self.restarts
        )?;
        if let Some(crash_loop) = &self.crash_loop {
            write!(f, "; crash loop of {} for {:?}", crash_loop.crashes, crash_loop.since)?;
            if let Some(next) = crash_loop.next_restart {
                write!(f, ", next restart in {next:?}")?;
            }
        }
        if let Some(crash) = &self.gave_up {
            write!(f, "; gave up: {crash}")?;
        }
        Ok(())
    }
}

//! The record of an input that has failed or crashed, and the queue in which it waits.

use std::sync::Arc;

use crate::base::ids::Attempt;
use crate::decide::ledger::{CrashNumber, Ticket};
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};

/// The largest number of deaths that are kept of one input, because a budget of 1000 crashes must
/// not keep 1000 messages.
pub(crate) const DEATHS_MAX: usize = 8;

/// The queue in which an input waits to be executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum Waits {
    /// The input waits for its replay, and has crashed no container.
    Replay(Ticket),
    /// The input waits for its replay, and will execute alone.
    Alone(Ticket),
    /// The input waits for its replay together with others of a batch that has crashed.
    Half(Ticket),
    /// The input waits for its replay as a suspect, in the order of its last crash.
    Suspect(CrashNumber),
    /// The input waits for its retry, which is due at this time.
    Retry(Time),
    /// The input waits for the code of its last attempt, which was cut at a limit, to return.
    Leaving,
}

/// The history of an input that has failed or crashed.
#[derive(Debug, Default, Clone)]
pub(crate) struct InputRecord {
    pub(in crate::decide) failures: u32,
    pub(crate) crashes: u32,
    /// Executions that ended with their container and cost nothing, because the container was killed by hand
    /// or had not proved itself.
    pub(in crate::decide) kills: u32,
    /// Executions that ended because another input of the same container crashed it, or because the input has
    /// crossed the memory limit beside others. They are also counted as kills.
    pub(in crate::decide) freed: u32,
    /// Whether the input executes alone in its container, until it returns.
    pub(in crate::decide) alone: bool,
    /// The number and the time of the input's last crash.
    pub(crate) crashed: Option<(CrashNumber, Time)>,
    /// The queue in which the input waits, if it does.
    pub(in crate::decide) waits: Option<Waits>,
    /// The number of the input's crashes and kills that left a thread behind.
    pub(crate) abandoned: u32,
    /// The last time at which the input counted a crash towards the restart policy.
    pub(crate) counted: Option<Time>,
    /// The first [`DEATHS_MAX`] of the input's crashes.
    pub(crate) deaths: Vec<Arc<Crash>>,
    pub(crate) previous: Option<Previous>,
}

impl InputRecord {
    /// Whether the input has crashed a container.
    pub(in crate::decide) fn is_suspect(&self) -> bool {
        self.crashed.is_some()
    }

    /// The number of the input's next execution.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt(1 + self.failures + self.crashes + self.kills)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_a_suspect_once_it_has_crashed_a_container() {
        let killed = InputRecord { kills: 1, ..InputRecord::default() };
        assert!(!killed.is_suspect());
        assert!(InputRecord { crashed: Some((1, Time::default())), ..killed }.is_suspect());
    }
}

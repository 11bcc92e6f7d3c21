//! The parts of the naive model that are about single inputs: where an input is, how it ended, and what has
//! happened to it, by the map or call that it belongs to.

use crate::base::ids::ContainerId;
use crate::decide::job::JobKind;
use crate::decide::limits::Limits;
use crate::decide::time::Time;
use crate::simulator::time_facts::TimeFacts;

/// Why an input waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WaitsFor {
    /// Its first execution. It was never assigned to a container.
    New,
    /// Its first execution. It was assigned to a container that died.
    Requeued,
    Replay,
    Retry {
        due: Time,
    },
    /// Its last attempt was cut at a limit, and the code of that attempt has not returned.
    Leaving,
}

/// How an input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedEnd {
    Ok {
        attempt: u32,
    },
    Failed,
    TimedOut,
    /// Its deadline has passed, or would pass before its retry.
    Expired,
    Poisoned,
    Lost,
    Unrun(EndReason),
}

/// The reason why an input ended without an ending of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    Cancelled,
    ShutDown,
    GaveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputState {
    Waits(WaitsFor),
    /// Assigned to a container, where it waits for its turn.
    Leased {
        to: ContainerId,
        from: WaitsFor,
    },
    Executes {
        on: ContainerId,
    },
    Done(ExpectedEnd),
}

#[derive(Debug)]
pub(super) struct InputModel {
    pub(super) state: InputState,
    pub(super) failures: u32,
    /// The crashes that were charged to it.
    pub(super) crashes: u32,
    /// The executions that ended with their container and were not charged.
    pub(super) kills: u32,
    /// The number and the moment of its last crash. The crashes of the function are numbered.
    pub(super) crashed: Option<(u64, Time)>,
    /// The number of crashes of the function when its last execution began.
    pub(super) begun_after: u64,
    /// The threads that it has left behind.
    pub(super) abandoned: u32,
    /// The attempts that crashed their containers.
    pub(super) deaths: Vec<u32>,
    /// When a crash of this input last counted for the restart policy.
    pub(super) counted: Option<Time>,
    /// Whether the previous attempt ended with its container.
    pub(super) previous_crashed: bool,
    /// The attempts that were cut at a limit.
    pub(super) cuts: u32,
    /// Whether the previous attempt was cut.
    pub(super) previous_cut: bool,
    pub(super) time: TimeFacts,
    /// When its last execution began.
    pub(super) begun: Time,
    /// The moment from which the engine knows at the latest that its execution goes on.
    pub(super) seen: Option<Time>,
    pub(super) yielded: bool,
    /// All executions that have begun.
    pub(super) executions: u32,
}

impl InputModel {
    pub(super) fn attempt(&self) -> u32 {
        1 + self.failures + self.crashes + self.kills
    }

    pub(super) fn is_pending(&self) -> bool {
        !matches!(self.state, InputState::Done(_))
    }
}

#[derive(Debug)]
pub(super) struct JobModel {
    pub(super) tag: u64,
    pub(super) kind: JobKind,
    /// Whether the job goes on after a failure.
    pub(super) goes_on: bool,
    /// The window, if the user has set one.
    pub(super) window: Option<u64>,
    /// The limits of its own.
    pub(super) limits: Limits,
    pub(super) inputs: Vec<InputModel>,
    /// Why the job ended before its inputs did. An input that is pulled later ends for the same reason.
    pub(super) ended: Option<EndReason>,
    /// The inputs that its feeder has put into the queue. `None` for a job without a feeder.
    pub(super) fed: Option<u64>,
    pub(super) replayed: u64,
    pub(super) retried: u64,
    /// How often in a row another map was served although this one could have been.
    pub(super) passed_over: usize,
}

impl JobModel {
    /// The number of inputs that have ended in each way: ok, failed, poisoned, cancelled, given up.
    pub(super) fn ended(&self) -> [u64; 5] {
        let mut ended = [0; 5];
        for input in &self.inputs {
            let InputState::Done(end) = input.state else { continue };
            let at = match end {
                ExpectedEnd::Ok { .. } => 0,
                ExpectedEnd::Failed | ExpectedEnd::TimedOut | ExpectedEnd::Expired => 1,
                ExpectedEnd::Poisoned => 2,
                ExpectedEnd::Lost | ExpectedEnd::Unrun(EndReason::Cancelled | EndReason::ShutDown) => 3,
                ExpectedEnd::Unrun(EndReason::GaveUp) => 4,
            };
            ended[at] += 1;
        }
        ended
    }
}

/// An execution that goes on although its job is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrphanModel {
    /// Whether the input has crashed a container before, as 0 or 1.
    pub(super) crashes: u32,
    /// When a crash of the input last counted for the restart policy.
    pub(super) counted: Option<Time>,
    pub(super) index: u64,
    pub(super) attempt: u32,
}

impl OrphanModel {
    /// The execution of an input that goes on although its outcome is not wanted any more.
    pub(super) fn of(index: u64, input: &InputModel) -> Self {
        let (crashes, counted) = (u32::from(input.crashed.is_some()), input.counted);
        Self { crashes, counted, index, attempt: input.attempt() }
    }
}

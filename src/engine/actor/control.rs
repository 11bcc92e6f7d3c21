//! The messages that control a function: to look at it, end it, kill a container, pause it, resume it
//! and reset it.

use std::time::Duration;

use actix::Message;

use crate::base::ids::ContainerId;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

/// Anyone → supervisor: the reply is a snapshot of the function.
#[derive(Debug, Message)]
#[rtype(result = "Status")]
pub struct GetStatus;

/// How a [`Shutdown`] ends a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The inputs that live maps have accepted are finished, and so are the inputs of vectors and ranges for
    /// which the window has room. Other sources are not pulled any more, and new calls are refused.
    Drain,
    /// Executions that have begun are finished, and no further input is begun.
    Stop,
    /// Nothing is waited for. Code that executes an input, enters or exits is cut off at once, and no
    /// container runs its `exit`.
    Abort,
}

/// Anyone → supervisor: end the function. The reply is the [`FunctionReport`], once every container has
/// ended.
///
/// Whatever has not ended after `limit` is cut off. Every input without an outcome comes back. Code that
/// executes or enters is dropped if it waits in a task; other code is left behind, and may still end at a
/// checkpoint. Idle containers exit. If the function has not ended after one more second, it is aborted; the
/// report lists the threads that still run.
#[derive(Debug, Message)]
#[rtype(result = "FunctionReport")]
pub struct Shutdown {
    /// Decides which inputs are finished before the function ends.
    pub ending: Ending,
    /// The time after which the rest is cut off. [`Ending::Abort`] ignores it. If there are several limits,
    /// the earliest counts.
    pub limit: Duration,
}

/// Anyone → supervisor: kill a container. The reply says whether the container was alive.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct KillContainer {
    /// The container to kill.
    pub container: ContainerId,
}

/// Anyone → supervisor: dispatch nothing new, as [`Function::pause`](crate::Function::pause) does. The reply
/// says whether the function is paused now.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Pause;

/// Anyone → supervisor: dispatch again, as [`Function::resume`](crate::Function::resume) does. The reply says
/// whether the function was paused.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Resume;

/// Anyone → supervisor: forget all crashes and take work again. The reply says whether the function had given
/// up.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Reset;

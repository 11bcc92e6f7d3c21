//! The messages that only the engine sends. Together with those in [`actor`](crate::actor), which
//! anyone may send, they are the closed list.
//!
//! Control is messages; inputs and outcomes never are, but for batches that are delivered to an
//! actor: they travel in shared ranges.

use std::sync::{Arc, Weak};

use actix::Message;
use tokio::sync::oneshot;

use crate::actor::Shutdown;
use crate::decide::ids::{ContainerId, Generation, JobId};
use crate::decide::restart::Restart;
use crate::engine::drops::Elsewhere;
use crate::engine::feeder::Feed;
use crate::function::Running;
use crate::report::FunctionReport;

/// Container thread → supervisor. No reply.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum Notice {
    /// A generation died; what the policy decided.
    Crashed { restart: Restart },
    /// A generation was killed under its thread, which restarts nothing; what the policy decided.
    Fenced { restart: Restart },
    /// A container begins its `exit`.
    Exiting { container: ContainerId, generation: Generation },
    /// A thread of the container ended, was left behind in its `exit`, or was not made at all.
    Ended { container: ContainerId, generation: Generation },
    /// A feeder has returned from its source for the last time.
    FeederEnded,
    /// A crash loop has ended before its delay: containers held back by it may be created.
    Recovered,
    /// A container has entered while there is a crash loop.
    Entered,
    /// The last pending input of a function that drains was cancelled.
    NothingPending,
    /// A consumer waits in a task, for outcomes of a run that tells of them at its end only.
    Awaited,
}

/// Supervisor → container actor: make a thread for that generation. No reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Launch {
    pub(crate) generation: Generation,
}

/// Supervisor → container actor, as its last: nobody is to be watched any more. The end of a thread may be told too late
/// to come by the supervisor, and what watches over its `exit` would keep the function until the timeout. No reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// Function handle → supervisor, before anything else: what keeps the function. No reply.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Attach<I, O, E>(pub(crate) Weak<Running<I, O, E>>)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static;

/// App or function handle → supervisor: come to an end, and keep the function until then, whoever lets go
/// of it. Not a request, because one whose reply nobody awaits is not carried out. No reply; the report
/// goes another way.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) how: Shutdown,
    pub(crate) running: Arc<Running<I, O, E>>,
    pub(crate) report: oneshot::Sender<FunctionReport>,
}

/// Function handle → supervisor: a map has begun, and its source may block. No reply.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FeedMap {
    pub(crate) job: JobId,
    /// A source may block in its drop: lost with the supervisor, it is dropped elsewhere.
    pub(crate) source: Elsewhere<Feed>,
    /// Ends the map if the message is lost.
    pub(crate) guard: Undelivered,
}

/// Runs its closure when dropped, unless disarmed: a message that nobody received.
pub(crate) struct Undelivered(Option<Box<dyn FnOnce() + Send>>);

impl Undelivered {
    pub(crate) fn new(lost: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(lost)))
    }

    pub(crate) fn delivered(mut self) {
        self.0 = None;
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if let Some(lost) = self.0.take() {
            lost();
        }
    }
}

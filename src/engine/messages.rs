//! The messages that only the engine sends. Together with those in [`actor`](crate::actor), which
//! anyone may send, they are the closed list.
//!
//! Control is messages; inputs and outcomes never are, but for batches that are delivered to an
//! actor: they travel in shared ranges.

use std::sync::{Arc, Weak};

use actix::dev::OneshotSender;
use actix::{Message, Recipient};
use tokio::sync::oneshot;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::contain::drops::DeferDrop;
use crate::data::source::BlockingSource;
use crate::decide::restart::Restart;
use crate::decide::window::Window;
use crate::engine::actor::{Happened, Shutdown};
use crate::engine::dispatch::Dispatch;
use crate::engine::running::Running;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

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

/// Function handle, or the typed supervisor → supervisor. What is answered, is answered through the reply that comes with it;
/// dropped with the message, it says that the supervisor is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Request {
    /// Before anything else: what keeps the function.
    Attach(Weak<Running>),
    /// There is a typed supervisor, which ends with this one.
    Front(Recipient<SupervisorEnded>),
    /// Come to an end, and keep the function until then, whoever lets go of it.
    End {
        how: Shutdown,
        running: Arc<Running>,
        report: oneshot::Sender<FunctionReport>,
    },
    /// Come to an end.
    Shutdown(Shutdown, Reply<FunctionReport>),
    /// A map has begun, and its source may block.
    FeedMap {
        job: JobId,
        /// A source may block in its drop: lost with the supervisor, it is dropped elsewhere.
        source: DeferDrop<BlockingSource>,
        /// Ends the map if the message is lost.
        guard: DropGuard,
    },
    Kill(ContainerId, Reply<bool>),
    Reset(Reply<bool>),
    Status(Reply<Status>),
    Subscribe(Recipient<Happened>, Reply<()>),
    /// A message with types, as what is to be done for it.
    Typed(Box<dyn FnOnce(&SupervisorView<'_>) + Send>),
}

/// Where the answer goes. `None` if no one asked for it.
pub(crate) type Reply<T> = Option<OneshotSender<T>>;

impl Request {
    /// Whether there was somebody who waited for the answer, and there is no longer: then it is not carried out.
    pub(crate) fn is_unwanted(&self) -> bool {
        fn is_closed<T>(reply: &Reply<T>) -> bool {
            reply.as_ref().is_some_and(OneshotSender::is_closed)
        }
        match self {
            Self::Shutdown(_, reply) => is_closed(reply),
            Self::Kill(_, reply) | Self::Reset(reply) => is_closed(reply),
            Self::Status(reply) => is_closed(reply),
            Self::Subscribe(_, reply) => is_closed(reply),
            Self::Attach(_) | Self::Front(_) | Self::End { .. } | Self::FeedMap { .. } | Self::Typed(_) => {
                false
            }
        }
    }
}

/// What a message with types finds at the supervisor.
pub(crate) struct SupervisorView<'a> {
    pub(crate) dispatch: &'a Arc<Dispatch>,
    /// The window of maps that set none.
    pub(crate) default_window: Window,
    /// What keeps the function; handed on to the maps and calls that begin by message.
    pub(crate) running: Option<Arc<Running>>,
}

/// Supervisor → typed supervisor, as its last. No reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct SupervisorEnded;

/// Runs its closure when dropped, unless disarmed: a message that nobody received.
pub(crate) struct DropGuard(Option<Box<dyn FnOnce() + Send>>);

impl DropGuard {
    pub(crate) fn new(lost: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(lost)))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(lost) = self.0.take() {
            lost();
        }
    }
}

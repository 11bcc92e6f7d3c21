//! The messages that only the engine sends. Together with the public messages in [`actor`](crate::actor) they
//! are all the messages there are.
//!
//! Messages carry control only. Inputs and outcomes travel in shared chunks, except for the batches that are
//! delivered to an actor.

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
use crate::engine::dispatch::{Dispatch, Wanted};
use crate::engine::place::{Reserved, Waits};
use crate::engine::ready_request::Waited;
use crate::engine::running::Running;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

/// Container thread → supervisor: something that the supervisor has to react to. There is no reply.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum Notice {
    /// A generation has crashed. `restart` is the decision of the restart policy, which the thread carries
    /// out if it has no delay.
    Crashed { restart: Restart },
    /// A generation was killed from outside its thread, which restarts nothing. `restart` is the decision of
    /// the restart policy.
    Fenced { restart: Restart },
    /// A container begins its `exit`, whose time the container actor limits.
    Exiting { container: ContainerId, generation: Generation },
    /// A thread of the container has ended, was abandoned in its `exit`, or was not made at all.
    Ended { container: ContainerId, generation: Generation },
    /// A feeder has ended, or could not be made.
    FeederEnded,
    /// A crash loop has ended before its delay was over. Containers that the delay held back may be created.
    Recovered,
    /// A container has entered during a crash loop, which ends if the container stays up.
    Entered,
    /// The last pending input of a function that drains was cancelled.
    NothingPending,
    /// A limit of time passes before the supervisor would look at the limits.
    Limited,
    /// The log folds repeats from now on, or calls are refused, so the supervisor must review the function.
    Folds,
    /// A consumer waits in a task for the outcomes of a run that notifies it only at its end, so the
    /// supervisor must poll.
    Awaited,
}

/// Supervisor → container actor: make a thread for this generation. There is no reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Launch {
    pub(crate) generation: Generation,
}

/// Supervisor → container actor: stop, and cancel the timer of the container's `exit`. It is the last
/// message. Once the supervisor is gone, it cannot forward [`Notice::Ended`], and the timer would keep the
/// function alive until it fires. There is no reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Retire;

/// Function handle or typed supervisor → supervisor. An answer goes through the [`Reply`] in the request. If
/// the request is dropped, so is its reply, and the sender sees that the supervisor is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Request {
    /// The first request: the function that the supervisor belongs to.
    Attach(Weak<Running>),
    /// A typed supervisor was started. It stops when the untyped supervisor does.
    Front(Recipient<SupervisorEnded>),
    /// End the function, and keep it alive until it has ended, even if its last handle is dropped.
    End {
        how: Shutdown,
        running: Arc<Running>,
        report: oneshot::Sender<FunctionReport>,
    },
    /// End the function.
    Shutdown(Shutdown, Reply<FunctionReport>),
    /// A map has begun whose source may block: start its feeder.
    FeedMap {
        job: JobId,
        /// The source. If the message is lost, the source is dropped on another thread, because its drop may
        /// block.
        source: DeferDrop<BlockingSource>,
        /// Ends the map if the message is lost.
        guard: DropGuard,
    },
    Kill(ContainerId, Reply<bool>),
    Reset(Reply<bool>),
    Reserve(Waits, Reply<Reserved>),
    /// Wait until the condition holds.
    Wait(Wanted, Reply<Waited>),
    Pause(Reply<bool>),
    Resume(Reply<bool>),
    Status(Reply<Status>),
    Subscribe(Recipient<Happened>, Reply<()>),
    /// A public message with types, as the closure that carries it out.
    Typed(Box<dyn FnOnce(&SupervisorView<'_>) + Send>),
}

/// The sender of the answer. `None` if the request was sent without waiting for one.
pub(super) type Reply<T> = Option<OneshotSender<T>>;

impl Request {
    /// Whether the sender of the request has stopped waiting for the answer. The supervisor skips such a
    /// request.
    pub(super) fn is_unwanted(&self) -> bool {
        fn is_closed<T>(reply: &Reply<T>) -> bool {
            reply.as_ref().is_some_and(OneshotSender::is_closed)
        }
        match self {
            Self::Shutdown(_, reply) => is_closed(reply),
            Self::Kill(_, reply) | Self::Reset(reply) => is_closed(reply),
            Self::Reserve(_, reply) => is_closed(reply),
            Self::Wait(_, reply) => is_closed(reply),
            Self::Pause(reply) | Self::Resume(reply) => is_closed(reply),
            Self::Status(reply) => is_closed(reply),
            Self::Subscribe(_, reply) => is_closed(reply),
            Self::Attach(_) | Self::Front(_) | Self::End { .. } | Self::FeedMap { .. } | Self::Typed(_) => {
                false
            }
        }
    }
}

/// The state of the supervisor that a message with types may use.
pub(crate) struct SupervisorView<'a> {
    pub(crate) dispatch: &'a Arc<Dispatch>,
    /// The window of maps that set no window of their own.
    pub(crate) default_window: Window,
    /// Keeps the function alive. The maps and calls that are begun by message hold a clone of it.
    pub(crate) running: Option<Arc<Running>>,
}

/// Supervisor → typed supervisor: stop. It is the last message, and there is no reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct SupervisorEnded;

/// Runs its closure when it is dropped, unless it was disarmed. In a message it handles the case that the
/// message is never received.
pub(crate) struct DropGuard(Option<Box<dyn FnOnce() + Send>>);

impl DropGuard {
    pub(crate) fn new(lost: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(lost)))
    }

    pub(super) fn disarm(mut self) {
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

//! The closed list of messages between the actors, and between them and the threads.
//!
//! Control is messages; inputs and outcomes never are: they travel in shared ranges.

use std::time::Duration;

use actix::Message;
use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use crate::decide::ids::{ContainerId, Generation, JobId};
use crate::decide::restart::Restart;
use crate::engine::feeder::Feed;
use crate::report::FunctionReport;
use crate::status::Status;

/// Container thread → supervisor. No reply.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum Notice {
    /// A generation died; what the policy decided.
    Crashed { restart: Restart },
    /// A container begins its `exit`.
    Exiting { container: ContainerId, generation: Generation },
    /// A thread of the container ended, was left behind in its `exit`, or was not made at all.
    Ended { container: ContainerId, generation: Generation },
    /// A feeder has returned from its source for the last time.
    FeederEnded,
    /// A crash loop has ended before its delay: containers held back by it may be created.
    Recovered,
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

/// Function handle → supervisor: a map begins, and its source may block. No reply.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StartMap<I> {
    pub(crate) job: JobId,
    pub(crate) source: Feed<I>,
    /// Marks the function broken if the message is lost.
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

/// How a function is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Accepted inputs finish.
    Drain,
    /// Only what executes finishes.
    Stop,
    /// Nothing waits.
    Abort,
}

/// App or function handle → supervisor. The report is sent when every container has ended, or
/// `limit` after the message.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Shutdown {
    pub(crate) ending: Ending,
    pub(crate) limit: Duration,
    pub(crate) reply: Option<Reply<FunctionReport>>,
}

/// Where an answer goes: to a thread that waits for it, or to a task.
#[derive(Debug)]
pub(crate) enum Reply<T> {
    Thread(Sender<T>),
    Task(oneshot::Sender<T>),
}

impl<T> Reply<T> {
    /// Answers. Whoever no longer waits misses nothing.
    pub(crate) fn send(self, answer: T) {
        match self {
            Self::Thread(reply) => drop(reply.send(answer)),
            Self::Task(reply) => drop(reply.send(answer)),
        }
    }
}

/// Function handle → supervisor. Replies whether the container lived.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct KillContainer {
    pub(crate) container: ContainerId,
    pub(crate) reply: Sender<bool>,
}

/// Function handle → supervisor: forget crashes and take work again. Replies whether it had given up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reset {
    pub(crate) reply: Sender<bool>,
}

/// Function handle → supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct GetStatus {
    pub(crate) reply: Sender<Status>,
}

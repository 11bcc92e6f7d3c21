//! The messages that only the engine sends. Together with those in [`actor`](crate::actor), which
//! anyone may send, they are the closed list.
//!
//! Control is messages; inputs and outcomes never are, but for batches that are delivered to an
//! actor: they travel in shared ranges.

use actix::Message;

use crate::decide::ids::{ContainerId, Generation, JobId};
use crate::decide::restart::Restart;
use crate::engine::feeder::Feed;

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

/// Function handle → supervisor: a map has begun, and its source may block. No reply.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FeedMap<I> {
    pub(crate) job: JobId,
    pub(crate) source: Feed<I>,
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

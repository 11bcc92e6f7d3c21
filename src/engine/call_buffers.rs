//! What one call has outside the ledger: its input, later with the slot of its outcome, and who waits for
//! that.
//!
//! A function may have a hundred thousand calls queued. So the slot is made when a container takes the call, and a thread
//! that waits leaves a waker, as a task does.

use std::sync::Arc;
use std::task::Waker;

use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::failure::Reason;
use crate::data::shape::Shape;
use crate::engine::caller::Caller;

/// What one call has outside the ledger.
pub(crate) struct CallBuffers {
    /// Who asked for the execution.
    pub(crate) caller: Caller,
    content: Content,
    /// Who waits for the outcome; left by it, taken by whoever brings something.
    pub(crate) waker: Option<Waker>,
    /// Why the call has ended without an outcome of its own, and whether its input was executing then. The failure is
    /// made when its caller comes to it.
    ended: Option<Box<(bool, Reason)>>,
}

/// The input.
enum Content {
    /// No container has taken it.
    Queued(Values),
    /// With the slot of its outcome.
    Taken(Arc<Chunk>),
    /// Its caller has it.
    Given,
}

impl CallBuffers {
    pub(crate) fn new(caller: Caller, input: Values) -> Self {
        Self { caller, content: Content::Queued(input), waker: None, ended: None }
    }

    /// The input with the slot of its outcome.
    pub(crate) fn chunk(&mut self, shape: &'static Shape) -> &Arc<Chunk> {
        if let Content::Queued(_) = self.content
            && let Content::Queued(input) = std::mem::replace(&mut self.content, Content::Given)
        {
            self.content = Content::Taken(Arc::new(Chunk::new(shape, 0, input)));
        }
        let Content::Taken(chunk) = &self.content else { unreachable!("a call has its input") };
        chunk
    }

    /// Gives the same to its caller, once the outcome is there.
    pub(crate) fn take_finished(&mut self) -> Option<Arc<Chunk>> {
        if !matches!(&self.content, Content::Taken(chunk) if chunk.is_published(0)) {
            return None;
        }
        let content = std::mem::replace(&mut self.content, Content::Given);
        if let Content::Taken(chunk) = content { Some(chunk) } else { None }
    }

    /// Whether its caller has its outcome.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.content, Content::Given)
    }

    /// The input has ended. `begun` says whether it was executing.
    pub(crate) fn has_ended(&mut self, begun: bool, reason: Reason) {
        self.ended = Some(Box::new((begun, reason)));
    }

    /// Takes out why the input has ended, and whether it was executing.
    pub(crate) fn take_ended(&mut self) -> Option<(bool, Reason)> {
        self.ended.take().map(|ended| *ended)
    }
}

//! The state of one call outside the ledger: its input, later with the slot of its outcome, and the waker of
//! its caller.
//!
//! A function may have a hundred thousand calls queued. To keep a queued call small, the slot is made when a
//! container takes the call, and a thread that waits leaves a waker, as a task does.

use std::sync::Arc;
use std::task::Waker;

use crate::data::chunk::Chunk;
use crate::data::erased::Values;
use crate::data::failure::Reason;
use crate::data::shape::Shape;
use crate::engine::caller::Caller;

/// The state of one call outside the ledger.
pub(crate) struct CallBuffers {
    /// The caller that asked for the execution.
    pub(crate) caller: Caller,
    content: Content,
    /// The waker of the caller, if it waits for the outcome. Taken when there may be an outcome.
    pub(super) waker: Option<Waker>,
    /// The reason why the call has ended without an outcome of its own, and whether its input was executing
    /// then. The failure is made when the caller polls for it.
    ended: Option<Box<(bool, Reason)>>,
}

/// The place of the input.
enum Content {
    /// No container has taken the call.
    Queued(Values),
    /// The input is in a chunk, with the slot of its outcome.
    Taken(Arc<Chunk>),
    /// The caller has taken the chunk.
    Given,
}

impl CallBuffers {
    pub(crate) fn new(caller: Caller, input: Values) -> Self {
        Self { caller, content: Content::Queued(input), waker: None, ended: None }
    }

    /// The chunk that holds the input and the slot of its outcome. Made on the first use.
    pub(crate) fn chunk(&mut self, shape: &'static Shape) -> &Arc<Chunk> {
        if let Content::Queued(_) = self.content
            && let Content::Queued(input) = std::mem::replace(&mut self.content, Content::Given)
        {
            self.content = Content::Taken(Arc::new(Chunk::new(shape, 0, input)));
        }
        let Content::Taken(chunk) = &self.content else { unreachable!("a call has its input") };
        chunk
    }

    /// Gives the chunk to the caller, if the outcome is published.
    pub(crate) fn take_finished(&mut self) -> Option<Arc<Chunk>> {
        if !matches!(&self.content, Content::Taken(chunk) if chunk.is_published(0)) {
            return None;
        }
        let content = std::mem::replace(&mut self.content, Content::Given);
        if let Content::Taken(chunk) = content { Some(chunk) } else { None }
    }

    /// Whether the caller has taken the outcome.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.content, Content::Given)
    }

    /// Records that the call has ended. `begun` says whether its input was executing.
    pub(crate) fn has_ended(&mut self, begun: bool, reason: Reason) {
        self.ended = Some(Box::new((begun, reason)));
    }

    /// Removes the record that the call has ended: whether its input was executing, and why it has ended.
    pub(crate) fn take_ended(&mut self) -> Option<(bool, Reason)> {
        self.ended.take().map(|ended| *ended)
    }
}

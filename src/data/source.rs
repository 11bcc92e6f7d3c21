//! The sources of a map's inputs. A few types are known neither to block nor to panic; all others may.

use std::any::{Any, TypeId};
use std::ops::Range;
use std::pin::Pin;
use std::vec;

use futures_core::Stream;
use tokio::runtime::Handle;

use crate::contain::unwind::Contained;
use crate::data::erased::Values;
use crate::data::prefetch::{Iterated, PollPullInto, PullInto};

/// The source of a map before it is pulled.
pub(crate) enum Source {
    /// A source that the containers pull themselves.
    Direct(DirectSource),
    /// A source that a feeder pulls.
    Blocking(BlockingSource),
}

impl Source {
    /// The source of an iterator, and whether there is anything to drop in it.
    pub(crate) fn of<S>(source: S) -> (Self, bool)
    where
        S: Iterator + Send + 'static,
        S::Item: Send + Sync + 'static,
    {
        let kind = TypeId::of::<S>();
        let ranges = [
            TypeId::of::<Range<u8>>(),
            TypeId::of::<Range<u16>>(),
            TypeId::of::<Range<u32>>(),
            TypeId::of::<Range<u64>>(),
            TypeId::of::<Range<usize>>(),
            TypeId::of::<Range<i32>>(),
            TypeId::of::<Range<i64>>(),
        ];
        let known = kind == TypeId::of::<vec::IntoIter<S::Item>>() || ranges.contains(&kind);
        // The length of a range longer than `usize` is not known from its size hint. A feeder pulls
        // and counts such a range.
        if known && (&source as &dyn Any).type_id() == kind && source.size_hint().1.is_some() {
            (Self::Direct(DirectSource::new(source)), std::mem::needs_drop::<S>())
        } else {
            (
                Self::Blocking(BlockingSource::of_iterator(Box::new(Iterated(source)))),
                std::mem::needs_drop::<S>(),
            )
        }
    }

    /// A stream, which is polled inside the runtime that the caller is in, if any.
    pub(crate) fn of_stream<S>(source: S) -> (Self, bool)
    where
        S: Stream + Send + 'static,
        S::Item: Send + Sync + 'static,
    {
        (Self::Blocking(BlockingSource::of_stream(Box::pin(source))), true)
    }
}

/// A source that is known neither to block nor to panic.
pub(crate) struct DirectSource {
    source: Box<dyn Pull>,
    left: u64,
    /// Whether its items need to be dropped.
    drops: bool,
}

/// An iterator that gives several items at a time, because a call that is not inlined costs
/// more than most items do.
trait Pull: Send {
    fn pull(&mut self, most: usize) -> Values;
}

impl<S> Pull for S
where
    S: Iterator + Send,
    S::Item: Send + Sync + 'static,
{
    fn pull(&mut self, most: usize) -> Values {
        Values::of(self.by_ref().take(most).collect())
    }
}

impl DirectSource {
    pub(crate) fn new<S>(source: S) -> Self
    where
        S: Iterator + Send + 'static,
        S::Item: Send + Sync + 'static,
    {
        let left = source.size_hint().0 as u64;
        Self { source: Box::new(source), left, drops: std::mem::needs_drop::<S::Item>() }
    }

    /// The number of inputs that the source still has.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Whether dropping the source drops values of the user's.
    pub(crate) fn holds_values(&self) -> bool {
        self.drops && self.left > 0
    }

    /// Takes at most `most` inputs out.
    pub(crate) fn pull(&mut self, most: u64) -> Values {
        let inputs = self.source.pull(most as usize);
        self.left -= inputs.len() as u64;
        inputs
    }
}

impl Drop for DirectSource {
    fn drop(&mut self) {
        if self.drops {
            // One at a time, so that each is dropped inside the boundary.
            while self.source.pull(1).len() > 0 {}
        }
    }
}

/// A source whose methods may block or panic.
pub(crate) enum BlockingSource {
    Iterator(Contained<Box<dyn PullInto>>),
    /// A stream, with the runtime that its owner was in.
    Stream(Contained<Pin<Box<dyn PollPullInto>>>, Option<Handle>),
}

impl BlockingSource {
    pub(crate) fn of_iterator(source: Box<dyn PullInto>) -> Self {
        Self::Iterator(Contained::new(source))
    }

    /// A stream, which is polled inside the runtime that the caller is in, if any.
    pub(crate) fn of_stream(source: Pin<Box<dyn PollPullInto>>) -> Self {
        Self::Stream(Contained::new(source), Handle::try_current().ok())
    }
}

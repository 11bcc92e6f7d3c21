//! Where a map's inputs come from: a kind known neither to block nor to panic, or any other.

use std::any::{Any, TypeId};
use std::ops::Range;
use std::vec;

use futures_core::Stream;
use tokio::runtime::Handle;

use crate::engine::drops::{Elsewhere, Stack};
use crate::engine::feeder::Feed;
use crate::engine::lane::Inline;
use crate::engine::pool::Iterated;
use crate::engine::unwind::Contained;

/// The source of a map, not yet pulled.
pub(crate) enum Source {
    /// Pulled by the containers themselves.
    Inline(Inline),
    /// Pulled by a feeder.
    MayBlock(Feed),
}

impl Source {
    /// A source that, as long as it is not pulled, is dropped elsewhere, with that stack.
    pub(crate) fn of<S>(source: S, stack: Stack) -> Elsewhere<Self>
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
        // A range longer than `usize` says so by having no upper bound; a feeder counts those.
        if known && (&source as &dyn Any).type_id() == kind && source.size_hint().1.is_some() {
            Elsewhere::new(Self::Inline(Inline::new(source)), stack, std::mem::needs_drop::<S>())
        } else {
            let feed = Feed::Iterator(Contained::new(Box::new(Iterated(source))));
            Elsewhere::new(Self::MayBlock(feed), stack, std::mem::needs_drop::<S>())
        }
    }

    /// A stream, which is polled inside the runtime that the caller is in, if any.
    pub(crate) fn of_stream<S>(source: S, stack: Stack) -> Elsewhere<Self>
    where
        S: Stream + Send + 'static,
        S::Item: Send + Sync + 'static,
    {
        let feed = Feed::Stream(Contained::new(Box::pin(source)), Handle::try_current().ok());
        Elsewhere::new(Self::MayBlock(feed), stack, true)
    }
}

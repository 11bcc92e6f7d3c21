//! Where a map's inputs come from: a kind known neither to block nor to panic, or any other.

use std::any::{Any, TypeId};
use std::ops::Range;
use std::vec;

use futures_core::Stream;

use crate::engine::feeder::Feed;
use crate::engine::lane::Inline;
use crate::engine::pool::Iterated;

/// The source of a map, not yet pulled.
pub(crate) enum Source {
    /// Pulled by the containers themselves.
    Inline(Inline),
    /// Pulled by a feeder.
    MayBlock(Feed),
}

impl Source {
    /// An iterator, and whether there is anything to drop in it.
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
        // A range longer than `usize` says so by having no upper bound; a feeder counts those.
        if known && (&source as &dyn Any).type_id() == kind && source.size_hint().1.is_some() {
            (Self::Inline(Inline::new(source)), std::mem::needs_drop::<S>())
        } else {
            (Self::MayBlock(Feed::of_iterator(Box::new(Iterated(source)))), std::mem::needs_drop::<S>())
        }
    }

    /// A stream, which is polled inside the runtime that the caller is in, if any.
    pub(crate) fn of_stream<S>(source: S) -> (Self, bool)
    where
        S: Stream + Send + 'static,
        S::Item: Send + Sync + 'static,
    {
        (Self::MayBlock(Feed::of_stream(Box::pin(source))), true)
    }
}

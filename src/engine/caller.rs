//! The caller of executions, as their spans and events name it: a labelled map or a numbered call, and the
//! span in which it was begun.

use std::num::NonZeroU64;
use std::sync::Arc;

use tracing::dispatcher::with_default;
use tracing::span::Id;

use crate::engine::span::SafeSpan;

/// The map or call that executions belong to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The number that [`Caller::call`] returns.
    call: Option<NonZeroU64>,
    asked: Option<Arc<Asked>>,
}

/// The label and the span. They are behind a pointer, because most maps and calls have neither.
#[derive(Debug)]
struct Asked {
    label: Option<Arc<str>>,
    span: Option<SafeSpan>,
}

impl Caller {
    /// The code on this thread as a caller, with its current span.
    pub(crate) fn here(label: Option<Arc<str>>) -> Self {
        Self::within(SafeSpan::current(), label)
    }

    /// A caller within `span`.
    pub(crate) fn within(span: Option<SafeSpan>, label: Option<Arc<str>>) -> Self {
        let named = span.is_some() || label.is_some();
        Self { call: None, asked: named.then(|| Arc::new(Asked { label, span })) }
    }

    /// The same caller, for the call with this number.
    pub(crate) fn of_call(self, number: u64) -> Self {
        Self { call: NonZeroU64::new(number), ..self }
    }

    /// The number of a call among the maps and calls of its function, from 1; `None` for a map.
    pub(super) fn call(&self) -> Option<u64> {
        self.call.map(NonZeroU64::get)
    }

    /// Whether dropping it may close a span, which runs the code of a subscriber.
    pub(super) fn holds_a_span(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.span.is_some())
    }

    /// The label of the map, if it has one.
    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.asked.as_ref()?.label.as_ref()
    }

    /// Makes the span of an execution as a child of the caller's span. It is made in the subscriber of the
    /// caller's span, because no other subscriber knows the parent's id.
    pub(super) fn in_its_subscriber<T>(&self, make: impl FnOnce(Option<Id>) -> T) -> T {
        match self.asked.as_ref().and_then(|asked| asked.span.as_ref()).and_then(SafeSpan::parent) {
            Some((id, subscriber)) => with_default(&subscriber, || make(Some(id))),
            None => make(None),
        }
    }

    /// The index of an input in its map. `None` for a call, because a call has one input, and the log names
    /// the call by its number.
    pub(crate) fn input(&self, index: u64) -> Option<u64> {
        self.call.is_none().then_some(index)
    }
}

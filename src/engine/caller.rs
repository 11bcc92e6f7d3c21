//! Who asked for executions, as their spans and events name it: a labelled map or a numbered call, and the span in
//! which it was begun.

use std::sync::Arc;

use tracing::span::Id;

use crate::engine::span::SafeSpan;

/// The map or call that executions belong to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The number of a call among the maps and calls of its function, from 1; `None` for a map.
    pub(crate) call: Option<u64>,
    asked: Option<Arc<Asked>>,
}

/// Kept apart, because most maps and calls have neither.
#[derive(Debug)]
struct Asked {
    label: Option<Arc<str>>,
    span: Option<SafeSpan>,
}

impl Caller {
    /// The code on this thread, with the label that it gives.
    pub(crate) fn here(label: Option<Arc<str>>) -> Self {
        Self::within(SafeSpan::current(), label)
    }

    /// The code in that span.
    pub(crate) fn within(span: Option<SafeSpan>, label: Option<Arc<str>>) -> Self {
        let named = span.is_some() || label.is_some();
        Self { call: None, asked: named.then(|| Arc::new(Asked { label, span })) }
    }

    /// The same for the call of that number.
    pub(crate) fn of_call(self, number: u64) -> Self {
        Self { call: Some(number), ..self }
    }

    /// What a map is called.
    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.asked.as_ref()?.label.as_ref()
    }

    /// The span that is the parent of those of the executions.
    pub(crate) fn span(&self) -> Option<Id> {
        self.asked.as_ref()?.span.as_ref()?.id()
    }

    /// The index of an input in its map. A call has one input only, and is told by its number.
    pub(crate) fn input(&self, index: u64) -> Option<u64> {
        self.call.is_none().then_some(index)
    }
}

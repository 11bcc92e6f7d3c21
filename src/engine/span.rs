//! The spans around the user's code and around some events.
//!
//! A `tracing` subscriber is the user's code. It may panic whenever a span is made, entered, left or closed.
//! A span is also left and closed while a crash unwinds through it, and a second panic would then end the
//! process. Each of these steps therefore runs inside a boundary of its own, and a panic of the subscriber
//! does not count as a crash.

use tracing::level_filters::LevelFilter;
use tracing::span::{Entered, Id};
use tracing::{Dispatch, Span};

use crate::contain::drops::{Stack, defer_drop};
use crate::contain::unwind::{Contained, contain, ignore_panic};
use crate::engine::system::on_engine_thread;
use crate::memory::local_charge::ChargeGuard;

/// A span whose subscriber may panic.
#[derive(Debug)]
pub(crate) struct SafeSpan(Option<Contained<Span>>);

/// An entered span, which is left when this is dropped.
#[must_use = "the span is left as soon as this is dropped"]
pub(crate) struct InSpan<'a>(Option<Entered<'a>>);

impl SafeSpan {
    /// Makes a span. Returns `None` if `make` does, or if the subscriber panics.
    pub(crate) fn new(make: impl FnOnce() -> Option<Span>) -> Option<Self> {
        let _outside = ChargeGuard::process(); // the subscriber is not the container's code
        let span = contain(make).ok().flatten()?;
        Some(Self(Some(Contained::new(span))))
    }

    /// The current span of the calling thread.
    pub(super) fn current() -> Option<Self> {
        if LevelFilter::current() == LevelFilter::OFF {
            return None; // without a subscriber there is no span
        }
        Self::new(|| Some(Span::current()).filter(|span| !span.is_none()))
    }

    /// The span's id, and the subscriber that knows the id. A child span needs both.
    pub(crate) fn parent(&self) -> Option<(Id, Dispatch)> {
        self.span().with_subscriber(|(id, subscriber)| (id.clone(), subscriber.clone()))
    }

    fn span(&self) -> &Span {
        self.0.as_ref().expect("only drop takes the span").get()
    }

    pub(crate) fn enter(&self) -> InSpan<'_> {
        let _outside = ChargeGuard::process();
        InSpan(contain(|| self.span().enter()).ok())
    }

    /// Emits an event inside the span.
    pub(super) fn emit_inside(&self, event: impl FnOnce()) {
        let _in_span = self.enter();
        ignore_panic(event);
    }
}

/// Closing a span may block in the subscriber. On the engine's thread, which must not wait, another thread
/// closes it.
impl Drop for SafeSpan {
    fn drop(&mut self) {
        if on_engine_thread() {
            defer_drop(Stack::of_any(), self.0.take());
        }
    }
}

impl Drop for InSpan<'_> {
    fn drop(&mut self) {
        if let Some(entered) = self.0.take() {
            ignore_panic(|| drop(entered));
        }
    }
}

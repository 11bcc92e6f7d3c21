//! The spans around users' code and around what is told of it.
//!
//! A subscriber is the user's code: it may panic whenever a span is made, entered, left or closed. A span is left and
//! closed also while a crash unwinds through it, where a second panic would end the process. So each of these is inside
//! a boundary of its own, and what a subscriber panics with is nobody's crash.

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

/// A span that was entered, until this is dropped.
#[must_use = "the span is left where it is dropped"]
pub(crate) struct InSpan<'a>(Option<Entered<'a>>);

impl SafeSpan {
    /// `None` if there is to be none, or if the subscriber panics.
    pub(crate) fn new(make: impl FnOnce() -> Option<Span>) -> Option<Self> {
        let _outside = ChargeGuard::process(); // it is not the container's code
        let span = contain(make).ok().flatten()?;
        Some(Self(Some(Contained::new(span))))
    }

    /// The span that the code on this thread is in.
    pub(crate) fn current() -> Option<Self> {
        if LevelFilter::current() == LevelFilter::OFF {
            return None; // without a subscriber that is not worth a look
        }
        Self::new(|| Some(Span::current()).filter(|span| !span.is_none()))
    }

    /// By what and where it is the parent of others: its number, and the subscriber that knows it.
    pub(crate) fn parent(&self) -> Option<(Id, Dispatch)> {
        self.span().with_subscriber(|(id, subscriber)| (id.clone(), subscriber.clone()))
    }

    fn span(&self) -> &Span {
        self.0.as_ref().expect("taken by drop only").get()
    }

    pub(crate) fn enter(&self) -> InSpan<'_> {
        let _outside = ChargeGuard::process();
        InSpan(contain(|| self.span().enter()).ok())
    }

    /// Tells something inside of the span.
    pub(crate) fn emit_inside(&self, event: impl FnOnce()) {
        let _in_span = self.enter();
        ignore_panic(event);
    }
}

/// A subscriber may block where a span closes, which the engine's thread must not wait for.
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

//! The spans around the user's code and around some events.
//!
//! A `tracing` subscriber is the user's code. It may panic whenever a span is made, entered, left or closed.
//! A span is also left and closed while a crash unwinds through it, and a second panic would then end the
//! process. Each of these steps therefore runs inside a boundary of its own, and a panic of the subscriber
//! does not count as a crash.

use tracing::level_filters::LevelFilter;
use tracing::span::{Entered, Id};
use tracing::{Dispatch, Level, Span};

use crate::base::ids::Attempt;
use crate::contain::TARGET;
use crate::contain::drops::{Stack, defer_drop};
use crate::contain::unwind::{Contained, contain, ignore_panic};
use crate::engine::caller::Caller;
use crate::engine::system::on_engine_thread;
use crate::engine::telemetry::Telemetry;
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

impl Telemetry<'_> {
    /// The span of one input, or of several inputs from `index` on. It is a child of the caller's span.
    pub(crate) fn span(self, caller: &Caller, index: u64, attempt: Attempt) -> Option<SafeSpan> {
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(index));
        let attempt = attempt.get();
        SafeSpan::new(|| {
            caller.in_its_subscriber(|parent| {
                Some(tracing::info_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, attempt
                ))
            })
        })
    }

    /// The span of a lease of first attempts, if a subscriber takes the `TRACE` level.
    pub(crate) fn trace_span(self, caller: &Caller, index: u64, inputs: u64) -> Option<SafeSpan> {
        if LevelFilter::current() < LevelFilter::TRACE {
            return None; // no subscriber takes it, and this is asked for each lease
        }
        let Self { app, function } = self;
        let (map, call, input) = (caller.label().map(|label| &**label), caller.call(), caller.input(index));
        SafeSpan::new(|| {
            let traced = tracing::enabled!(target: TARGET, Level::TRACE);
            let span = |parent| {
                tracing::trace_span!(
                    target: TARGET, parent: parent, "input", app, function, map, call, input, inputs, attempt = 1
                )
            };
            traced.then(|| caller.in_its_subscriber(span))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log_lines::said;

    #[test]
    fn an_execution_has_a_span_that_names_its_inputs() {
        let within = |span: Option<SafeSpan>| {
            let span = span.expect("a subscriber listens");
            span.emit_inside(|| tracing::info!(target: TARGET, "inside"));
        };
        let telemetry = Telemetry { app: "a", function: "f" };
        let caller = Caller::within(None, Some("urls".into()));
        let one = said(|| within(telemetry.span(&caller, 7, Attempt(3))));
        assert_eq!(one, ["INFO inside in INFO attempt=3 input=7 map=urls"]);
        let several = said(|| within(telemetry.trace_span(&caller, 7, 5)));
        assert_eq!(several, ["INFO inside in TRACE attempt=1 input=7 inputs=5 map=urls"]);
    }
}

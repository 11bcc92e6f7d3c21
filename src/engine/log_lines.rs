//! The log as a test reads it: each `tracing` event is a line.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Fields {
    /// The line of all fields except the app and the function. Both must be named, unless the event is in
    /// a span.
    fn line(mut self, outer: Option<String>) -> String {
        let named = (self.0.remove("app"), self.0.remove("function"));
        if outer.is_none() {
            assert!(named.0.is_some() && named.1.is_some());
        }
        let message = self.0.remove("message").unwrap_or_default();
        let fields: String = self.0.into_iter().map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{message}{fields}{}", outer.unwrap_or_default())
    }
}

/// Keeps each event as a line: its level, its message, its fields by name, and the span that it is in.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let level = attributes.metadata().level();
        let span = context.span(id).expect("the span was just made");
        span.extensions_mut().insert(format!("{level}{}", fields.line(None)));
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event);
        let span = span.and_then(|span| span.extensions().get::<String>().map(|span| format!(" in {span}")));
        let line = format!("{} {}", event.metadata().level(), fields.line(span));
        self.0.lock().push(line);
    }
}

/// The lines that `log` logs.
pub(crate) fn said(log: impl FnOnce()) -> Vec<String> {
    // While a process has one subscriber, the thread that comes to a line first decides for all threads
    // whether the line is wanted. Two subscribers that stay, and hear nothing, keep `tracing` from that.
    static KEPT: LazyLock<[tracing::Dispatch; 2]> = LazyLock::new(|| {
        [(); 2].map(|()| tracing::Dispatch::new(tracing_subscriber::registry().with(Lines::default())))
    });
    LazyLock::force(&KEPT);
    let lines = Lines::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.clone()), log);
    lines.0.lock().clone()
}

/// The first word of each line, which is its level, and its message.
pub(crate) fn messages(lines: &[String]) -> Vec<&str> {
    let end = |line: &str| line.find('=').map_or(line.len(), |at| line[..at].rfind(' ').unwrap_or(at));
    lines.iter().filter(|line| !line.starts_with("DEBUG")).map(|line| &line[..end(line)]).collect()
}

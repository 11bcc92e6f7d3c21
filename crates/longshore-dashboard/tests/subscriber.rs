//! An action is an event of `tracing`. The test is a binary of its own, because the subscriber belongs to the
//! process.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use http::{Request, StatusCode};
use longshore::App;
use longshore_dashboard::{Actions, Dashboard, Peer};
use tracing::field::{Field, Visit};
use tracing::span;

/// Collects the fields of events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl Visit for Events {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.lock().expect("not poisoned").push(format!("{field}={value:?}"));
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("longshore_dashboard")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn an_action_is_an_event_that_says_who_asked_and_never_the_token() {
    let app = App::deployed("acting");
    let _f = app.infallible("double", |n: &u64| 2 * n).containers(1).start().expect("valid settings");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::ALL);
    let request = Request::post("/api/v1/functions/double/reset")
        .header("authorization", "Bearer secret")
        .header("x-longshore", "1")
        .extension(Peer(([10, 0, 0, 7], 1234).into()));
    let events = Events::default();
    tracing::subscriber::set_global_default(events.clone()).expect("it is the first");
    let answer = dashboard.respond(&request.body(()).expect("a request"));
    assert_eq!(answer.status(), StatusCode::OK);
    let events = events.0.lock().expect("not poisoned").join(" ");
    assert!(events.contains("10.0.0.7:1234") && events.contains("double"), "{events}");
    assert!(events.contains("Reset") && !events.contains("secret"), "{events}");
}

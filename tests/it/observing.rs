//! `tracing` events and spans.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use longshore::{App, BoxError, Context, Function, RateLimited, Worker};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::{Gate, attempt, crash, unhung, until};

/// One event or span: its level, its fields (the message among them), and the span it is in.
#[derive(Debug, Clone, Default)]
struct Told {
    level: String,
    fields: BTreeMap<String, String>,
    span: Option<BTreeMap<String, String>>,
}

impl Told {
    fn is(&self, field: &str, value: &str) -> bool {
        self.fields.get(field).is_some_and(|told| told == value)
    }
}

/// A function whose status is asked for at each event about it.
static ASKED: OnceLock<Function<u32, u32, std::convert::Infallible>> = OnceLock::new();

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// Keeps everything that is told of one app, because tests of a process share the subscriber.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Told>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event);
        let span = span.and_then(|span| span.extensions().get::<BTreeMap<String, String>>().cloned());
        if fields.0.get("function").is_some_and(|function| function == "asked")
            && let Some(function) = ASKED.get()
        {
            assert!(function.status().containers.abandoned <= 1);
        }
        let told = Told { level: event.metadata().level().to_string(), fields: fields.0, span };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }
}

/// Everything told in this process so far about the function `name`.
fn told(name: &str) -> Vec<Told> {
    static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);
    let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    let keeper = keeper.get_or_insert_with(|| {
        let keeper = Keeper::default();
        let filter = tracing_subscriber::filter::LevelFilter::DEBUG;
        let registry = tracing_subscriber::registry().with(keeper.clone().with_filter(filter));
        tracing::subscriber::set_global_default(registry).expect("only here");
        keeper
    });
    let all = keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter(|told| told.is("function", name)).cloned().collect()
}

#[test]
fn a_crash_is_one_warning_with_message_and_location_in_the_span_of_its_input() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .infallible("one_warning", |n: &u32| if *n == 3 && attempt() == 1 { crash() } else { *n })
            .containers(1)
            .start()
            .expect("valid");
        f.run((0..5).collect()).expect("replayed");
        let told = told("one_warning");
        let crashes: Vec<_> = told.iter().filter(|told| told.is("message", "container crashed")).collect();
        assert_eq!(crashes.len(), 1, "{told:#?}");
        let crash = crashes[0];
        assert_eq!((crash.level.as_str(), crash.fields["app"].as_str()), ("WARN", "told"));
        assert_eq!((crash.fields["container"].as_str(), crash.fields["generation"].as_str()), ("0", "1"));
        assert_eq!((crash.fields["input"].as_str(), crash.fields["attempt"].as_str()), ("3", "1"));
        assert_eq!(crash.fields["cause"], "a crash on purpose");
        assert!(crash.fields["location"].contains("support.rs"), "{crash:?}");
        let span = crash.span.as_ref().expect("in the span of its input");
        assert_eq!((span["index"].as_str(), span["attempt"].as_str()), ("3", "1"));
    });
}

#[test]
fn each_change_of_a_container_is_one_event() {
    struct Plain;
    impl Worker for Plain {
        type Input = u32;
        type Output = u32;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u32, _: &Context) -> Result<u32, Self::Error> {
            if *input == 666 { crash() } else { Ok(*input) }
        }
    }
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app.worker("changes", |_: &Context| Ok::<_, BoxError>(Plain)).containers(1);
        let f = f.crash_retries(0).restart(RateLimited::never()).start().expect("valid");
        f.call(1).wait().expect("infallible");
        assert!(f.call(666).wait().is_err());
        f.call(2).wait().expect("infallible");
        assert!(app.shutdown_blocking().is_clean());
        let words: Vec<String> =
            told("changes").iter().filter_map(|told| told.fields.get("message").cloned()).collect();
        let expected = [
            "container starting",
            "container live",
            "container stopped",
            "container crashed",
            "input poisoned",
            "container starting",
            "container live",
            "container exiting",
            "container stopped",
            "function ended",
        ];
        assert_eq!(words, expected);
    });
}

#[test]
fn failures_and_later_attempts_have_a_span() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .function("spans", |n: &u32| {
                tracing::info!(function = "spans", inside = attempt(), "in the function");
                if *n == 7 && attempt() == 1 { Err("once") } else { Ok(()) }
            })
            .retries(longshore::Retries::new(1).initial_delay(std::time::Duration::ZERO))
            .containers(1)
            .start()
            .expect("valid");
        f.run((0..10).collect()).expect("retried");
        let told = told("spans");
        let inside: Vec<_> = told.iter().filter(|told| told.is("message", "in the function")).collect();
        assert_eq!(inside.len(), 11);
        for event in inside {
            match (event.fields["inside"].as_str(), &event.span) {
                ("1", None) => {}
                ("2", Some(span)) => {
                    assert_eq!((span["index"].as_str(), span["attempt"].as_str()), ("7", "2"))
                }
                other => panic!("{other:?}"),
            }
        }
        let failed: Vec<_> = told.iter().filter(|told| told.is("message", "input failed")).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].span.as_ref().map(|span| span["index"].as_str()), Some("7"));
    });
}

#[test]
fn the_label_of_a_map_is_told_with_its_inputs_and_names_the_thread_of_its_source() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app.function("labels", |n: &u32| if *n == 3 { Err("three") } else { Ok(()) });
        let f = f.containers(1).start().expect("valid");
        let thread = || std::thread::current().name().map(str::to_owned);
        let names = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&names);
        let source = (0..5).inspect(move |_| seen.lock().expect("not poisoned").extend(thread()));
        assert!(f.map(source).label("nightly").into_iter().any(|outcome| outcome.is_err()));
        assert_eq!(names.lock().expect("not poisoned")[0], "told/labels/nightly");
        let told = told("labels");
        let failed: Vec<_> = told.iter().filter(|told| told.is("message", "input failed")).collect();
        assert!(failed.len() == 1 && failed[0].is("map", "nightly"), "{failed:?}");
        let refused = f.map(0..1u32).label("").into_iter().next().expect("an error");
        assert!(matches!(refused.expect_err("no name").cause(), longshore::Cause::Config(_)));
    });
}

#[test]
fn giving_up_and_reset_are_told() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .infallible("gives_up", |_: &u32| crash())
            .containers(1)
            .crash_retries(0)
            .restart(RateLimited::new().max_crashes(0).max_failure_rate(0.0))
            .start()
            .expect("valid");
        assert!(f.call(0).wait().is_err());
        let times = |words: &str| told("gives_up").iter().filter(|told| told.is("message", words)).count();
        until("it gave up", || times("function gave up") == 1);
        assert!(f.reset());
        until("it is told", || times("function reset") == 1);
        assert_eq!(times("function gave up"), 1);
    });
}

#[test]
fn a_subscriber_may_ask_the_function_it_is_told_about() {
    // Events are spoken with the lock released: a subscriber that asks for the status does not hang.
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app.infallible("asked", |n: &u32| if *n == 3 && attempt() == 1 { crash() } else { *n });
        let f = f.containers(1).start().expect("valid");
        f.ready().expect("it starts");
        assert!(ASKED.set(f.clone()).is_ok(), "only here");
        f.run((0..5).collect()).expect("replayed");
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        let killed = || told("asked").iter().any(|told| told.is("message", "container killed"));
        until("the kill is told", killed);
    });
}

#[test]
fn a_status_shows_the_execution_that_has_gone_on_for_longest() {
    unhung(|| {
        let app = App::ephemeral("observing");
        let gate = Gate::default();
        let passes = gate.clone();
        let f = app
            .infallible("stuck", move |_: &u64| passes.pass())
            .containers(2)
            .start()
            .expect("valid settings");
        let calls = [f.call(1), f.call(2)];
        until("both execute", || f.status().executing == 2);
        let status = f.status();
        assert_eq!(status.inputs_waiting, 0);
        let oldest = status.oldest_execution.expect("two executions go on");
        until("it gets older", || {
            let later = f.status().oldest_execution.expect("two executions go on");
            later.container == oldest.container && later.executing_for > oldest.executing_for
        });
        assert!(f.status().to_string().contains("executes for"));
        gate.open();
        for call in calls {
            call.wait().expect("the gate is open");
        }
        until("nothing executes", || f.status().oldest_execution.is_none());
    });
}

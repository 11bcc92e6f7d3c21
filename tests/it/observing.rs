//! `tracing` events and spans.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use longshore::{App, BoxError, Context, Function, RateLimited, Worker};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::{Gate, Started, attempt, crash, unhung, until};

/// One event: its level, its target, its fields (with its message), the fields of its span, and the names of
/// the spans around that.
#[derive(Debug, Clone, Default)]
struct Told {
    level: String,
    target: String,
    fields: BTreeMap<String, String>,
    span: Option<BTreeMap<String, String>>,
    around: Vec<String>,
}

impl Told {
    /// Whether the field of the event, or of its span, has this value.
    fn is(&self, field: &str, value: &str) -> bool {
        let of_span = || self.span.as_ref().and_then(|span| span.get(field));
        self.fields.get(field).or_else(of_span).is_some_and(|told| told == value)
    }

    fn message(&self) -> &str {
        self.fields.get("message").map_or("", String::as_str)
    }
}

/// A function whose status the subscriber reads at each event about it.
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

/// Keeps every event. All tests of the process share one subscriber, so each test filters by its function's
/// name.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Told>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.0.insert("span's level".to_owned(), attributes.metadata().level().to_string());
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let within = context.event_span(event);
        let around = within.iter().flat_map(|span| span.scope().skip(1));
        let around = around.map(|span| span.name().to_owned()).collect();
        let span = within.and_then(|span| span.extensions().get::<BTreeMap<String, String>>().cloned());
        if fields.0.get("function").is_some_and(|function| function == "asked")
            && let Some(function) = ASKED.get()
        {
            assert!(function.status().containers.abandoned <= 1);
        }
        let (level, target) = (event.metadata().level().to_string(), event.metadata().target().to_owned());
        let told = Told { level, target, fields: fields.0, span, around };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }
}

/// All events so far about the function `name`.
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
            .started();
        f.run((0..5).collect()).expect("replayed");
        // Another thread may be about to write the lines of the function.
        let is_crash = |told: &Told| told.is("message", "container crashed");
        until("the crash is logged", || told("one_warning").iter().any(is_crash));
        let told = told("one_warning");
        let crashes: Vec<_> = told.iter().filter(|told| told.is("message", "container crashed")).collect();
        assert_eq!(crashes.len(), 1, "{told:#?}");
        let crash = crashes[0];
        assert_eq!(crash.level.as_str(), "WARN", "level");
        assert_eq!(crash.target.as_str(), "longshore", "target");
        assert_eq!(crash.fields["container"].as_str(), "0", "container");
        assert_eq!(crash.fields["generation"].as_str(), "1", "generation");
        assert_eq!(crash.fields["cause"], "a crash on purpose");
        assert!(crash.fields["location"].contains("support.rs"), "{crash:?}");
        let span = crash.span.as_ref().expect("in the span of its input");
        assert_eq!(span["input"].as_str(), "3", "input");
        assert_eq!(span["attempt"].as_str(), "1", "attempt");
        assert_eq!(span["app"].as_str(), "told", "name of the app");
        assert_eq!(span["function"].as_str(), "one_warning", "name of the function");
        assert_eq!(span["span's level"], "WARN", "a filter that shows the event shows its input as well");
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
        let f = app
            .worker("changes", |_: &Context| Ok::<_, BoxError>(Plain))
            .containers(1)
            .crash_retries(0)
            .restart(RateLimited::never())
            .started();
        f.call(1).wait().expect("infallible");
        assert!(f.call(666).wait().is_err());
        f.call(2).wait().expect("infallible");
        assert!(app.shutdown_blocking().is_clean());
        let words: Vec<String> =
            told("changes").iter().filter_map(|told| told.fields.get("message").cloned()).collect();
        let expected = [
            "container starting",
            "container live",
            "container crashed",
            "container stopped",
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
            .retries(longshore::Retries::new(1).initial_delay(Duration::ZERO))
            .containers(1)
            .started();
        f.run((0..10).collect()).expect("retried");
        let told = told("spans");
        let inside: Vec<_> = told.iter().filter(|told| told.is("message", "in the function")).collect();
        assert_eq!(inside.len(), 11);
        for event in inside {
            match (event.fields["inside"].as_str(), &event.span) {
                ("1", None) => {}
                ("2", Some(span)) => {
                    assert_eq!(span["input"].as_str(), "7", "input");
                    assert_eq!(span["attempt"].as_str(), "2", "attempt");
                }
                other => panic!("{other:?}"),
            }
        }
        let failed: Vec<_> = told.iter().filter(|told| told.is("message", "input failed")).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].span.as_ref().map(|span| span["input"].as_str()), Some("7"));
        assert!(failed[0].is("error", "\"once\""), "the error is shown: {failed:?}");
    });
}

#[test]
fn the_label_of_a_map_appears_in_its_events_and_in_the_name_of_its_feeder_thread() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .function("labels", |n: &u32| if *n == 3 { Err("three") } else { Ok(()) })
            .containers(1)
            .started();
        let thread = || std::thread::current().name().map(str::to_owned);
        let names = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&names);
        let source = (0..5).inspect(move |_| seen.lock().expect("not poisoned").extend(thread()));
        assert!(f.map(source).label("nightly").into_iter().any(|outcome| outcome.is_err()));
        assert_eq!(names.lock().expect("not poisoned")[0], "told/labels/nightly");
        let told = told("labels");
        let failed: Vec<_> = told.iter().filter(|told| told.is("message", "input failed")).collect();
        assert!(failed.len() == 1, "{failed:?}");
        assert!(failed[0].is("map", "nightly"), "{failed:?}");
        let refused = f.map(0..1u32).label("").into_iter().next().expect("an error");
        assert!(matches!(refused.expect_err("no name").cause(), longshore::Cause::Config(_)));
    });
}

#[test]
fn the_callers_span_is_the_parent_of_the_spans_of_its_executions() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .infallible("parents", |n: &u32| if attempt() == 1 { crash() } else { *n })
            .containers(1)
            .started();
        let span = tracing::info_span!("request");
        let calls = span.in_scope(|| [f.call(1), f.call(2)]);
        let map = span.in_scope(|| f.map(vec![3]));
        for call in calls {
            call.wait().expect("replayed");
        }
        map.into_iter().for_each(|outcome| assert_eq!(outcome.expect("replayed"), 3));
        f.call(4).wait().expect("replayed");
        let told = told("parents");
        let crashes: Vec<&Told> =
            told.iter().filter(|told| told.message().starts_with("container crashed")).collect();
        assert_eq!(crashes.len(), 4, "{told:#?}");
        let first = crashes[0];
        assert_eq!(first.around, ["request"], "{first:?}");
        let number =
            |told: &&Told| ["call", "input"].map(|field| (1..9).find(|n| told.is(field, &n.to_string())));
        let numbers: Vec<_> = crashes.iter().map(number).collect();
        assert_eq!(numbers[..2], [[Some(1), None], [Some(2), None]], "a call is identified by its number");
        assert!(crashes[2].is("input", "0"), "an input of a map is identified by its index");
    });
}

#[test]
fn no_field_is_both_in_an_event_and_in_its_span() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .function("once", |n: &u32| match (*n, attempt()) {
                (3, 1) => crash(),
                (4, 1 | 2) => Err("no"),
                _ => Ok(()),
            })
            .containers(1)
            .retries(longshore::Retries::new(2).initial_delay(Duration::ZERO))
            .started();
        f.run((0..9).collect()).expect("retried and replayed");
        drop(app);
        let told = told("once");
        assert!(told.len() > 4, "{told:#?}");
        for event in told {
            assert_eq!(event.target, "longshore", "{event:?}");
            let twice =
                event.span.iter().flat_map(BTreeMap::keys).find(|field| event.fields.contains_key(*field));
            assert_eq!(twice, None, "{event:?}");
        }
    });
}

#[test]
fn an_outage_logs_a_line_for_each_delay_and_each_kind_of_crash_and_one_for_its_end() {
    const SECOND: Duration = Duration::from_secs(1);
    unhung(|| {
        told("-");
        let app = App::deployed("told");
        let f = app.function("outage", |n: &u64| Ok::<u64, u8>(*n)).containers(8).rehearse();
        let (outcomes, _) =
            f.takes(SECOND / 100).down(5 * SECOND..25 * SECOND).run(0..10_000).expect("valid");
        assert!(outcomes.iter().all(Result::is_ok), "it is survived");
        let told: Vec<Told> = told("outage").into_iter().filter(|told| told.level != "DEBUG").collect();
        let lines: Vec<String> =
            told.iter().map(|told| format!("{} {}", told.level, told.message())).collect();
        let causes: std::collections::BTreeSet<&str> = told
            .iter()
            .filter(|told| told.message() == "container crashed")
            .map(|told| &*told.fields["cause"])
            .collect();
        let loops = lines.iter().filter(|line| *line == "WARN crash loop").count();
        assert_eq!(lines.first().map(String::as_str), Some("WARN container crashed"), "{told:#?}");
        assert_eq!(lines.last().map(String::as_str), Some("INFO recovered from a crash loop"), "{told:#?}");
        assert!((5..=10).contains(&loops), "a line for each delay: {lines:#?}");
        assert_eq!(lines.len(), causes.len() + loops + 1, "and a line for each kind of crash: {lines:#?}");
        let (last, over) = (&told[told.len() - 2], &told[told.len() - 1]);
        for field in ["crashes", "since", "next_restart", "cause", "repeats"] {
            assert!(last.fields.contains_key(field), "{field} of {last:?}");
        }
        assert!(over.fields.contains_key("after"), "{over:?}");
    });
}

#[test]
fn a_reset_within_a_crash_loop_is_logged() {
    const SECOND: Duration = Duration::from_secs(1);
    unhung(|| {
        told("-");
        let app = App::deployed("told");
        let f = app.function("reset in a loop", |n: &u64| Ok::<u64, u8>(*n)).containers(2).rehearse();
        let scene = async |stage: &longshore::testkit::Stage<u64, u64, u8>| {
            stage.sleep(5 * SECOND).await;
            assert!(!stage.reset().await, "it has not given up");
            stage.sleep(15 * SECOND).await;
        };
        f.down(Duration::ZERO..10 * SECOND).play(scene).expect("valid settings");
        let told = told("reset in a loop");
        let resets = told.iter().filter(|told| told.message() == "function reset").count();
        assert_eq!(resets, 1, "{told:#?}");
    });
}

#[test]
fn giving_up_and_reset_are_logged() {
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .infallible("gives_up", |_: &u32| crash())
            .containers(1)
            .crash_retries(0)
            .restart(RateLimited::new().max_crashes(0).max_failure_rate(0.0))
            .started();
        assert!(f.call(0).wait().is_err());
        let times = |words: &str| told("gives_up").iter().filter(|told| told.is("message", words)).count();
        until("the log has that the function gave up", || times("function gave up") == 1);
        assert!(f.reset());
        until("the log has the reset", || times("function reset") == 1);
        assert_eq!(times("function gave up"), 1);
    });
}

#[test]
fn a_subscriber_may_read_the_status_of_the_function_of_an_event() {
    // Events are emitted after the lock is released, so a subscriber that reads the status does not deadlock.
    unhung(|| {
        told("-");
        let app = App::ephemeral("told");
        let f = app
            .infallible("asked", |n: &u32| if *n == 3 && attempt() == 1 { crash() } else { *n })
            .containers(1)
            .started();
        f.ready().expect("it starts");
        assert!(ASKED.set(f.clone()).is_ok(), "only here");
        f.run((0..5).collect()).expect("replayed");
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        let killed = || told("asked").iter().any(|told| told.is("message", "container killed"));
        until("the log has the kill", killed);
    });
}

#[test]
fn a_status_shows_the_execution_that_has_gone_on_for_longest() {
    unhung(|| {
        let app = App::ephemeral("observing");
        let gate = Gate::default();
        let passes = gate.clone();
        let f = app.infallible("stuck", move |_: &u64| passes.pass()).containers(2).started();
        let calls = [f.call(1), f.call(2)];
        until("both calls execute", || f.status().executing == 2);
        let status = f.status();
        assert_eq!(status.inputs_waiting, 0);
        let oldest = status.oldest_execution.expect("two executions go on");
        until("the oldest execution gets older", || {
            let later = f.status().oldest_execution.expect("two executions go on");
            later.container == oldest.container && later.executing_for > oldest.executing_for
        });
        assert!(f.status().to_string().contains("has been executing for"));
        gate.open();
        for call in calls {
            call.wait().expect("the gate is open");
        }
        until("no input executes", || f.status().oldest_execution.is_none());
    });
}

//! Subscribers that are slow or that panic. This is a binary of its own, because the subscriber belongs to
//! the process.

#![expect(clippy::disallowed_methods, reason = "tests read the clock to see that nothing hangs")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use longshore::{App, BoxError, ContainerId, Context, RateLimited, Retries, Worker};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use support::{Gate, attempt, crash, unhung, until};

#[expect(dead_code, reason = "shared with the main binary, which uses all of it")]
#[path = "it/support.rs"]
mod support;

/// The fields of an event.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    fn is(&self, field: &str, value: &str) -> bool {
        self.0.get(field).is_some_and(|told| told == value)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// The code that runs at each event of one function.
type Reaction = Arc<dyn Fn(&Fields) + Send + Sync>;

static REACTIONS: Mutex<BTreeMap<&str, Reaction>> = Mutex::new(BTreeMap::new());

/// A subscriber that runs the reactions, and can panic at spans.
struct Reacting;

impl Subscriber for Reacting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longshore") && *metadata.level() <= Level::DEBUG
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let reactions = REACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let function = fields.0.get("function");
        let reaction = function.and_then(|function| reactions.get(function.as_str()).cloned());
        drop(reactions);
        if let Some(reaction) = reaction {
            reaction(&fields);
        }
    }

    /// The name of the function says when its spans panic: as they are made, entered, left or closed.
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let function = fields.0.remove("function").unwrap_or_default();
        let place = PANICS.iter().position(|place| function.ends_with(place));
        let id = Id::from_u64(place.map_or(1, |place| place as u64 + 2));
        panic_at(&id, "made");
        id
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, id: &Id) {
        panic_at(id, "entered");
    }

    fn exit(&self, id: &Id) {
        panic_at(id, "left");
    }

    fn try_close(&self, id: Id) -> bool {
        panic_at(&id, "closed");
        false
    }
}

/// The moments at which spans may panic.
const PANICS: [&str; 4] = ["made", "entered", "left", "closed"];

/// The number of panics of spans at each of these moments.
static PANICKED: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

fn panic_at(id: &Id, place: &str) {
    let at = (id.into_u64() as usize).checked_sub(2).filter(|at| PANICS[*at] == place);
    if let Some(at) = at {
        PANICKED[at].fetch_add(1, Ordering::SeqCst);
        panic!("a span's panic");
    }
}

/// From now on, `reaction` runs at each event about `function`.
fn at_events_of(function: &'static str, reaction: impl Fn(&Fields) + Send + Sync + 'static) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Reacting).expect("only here"));
    let mut reactions = REACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    reactions.insert(function, Arc::new(reaction));
}

/// Stops the emitting thread at an event with these values. The first gate opens when the thread is stopped,
/// and the thread goes on when the test opens the second.
fn stop_at(function: &'static str, values: &'static [(&str, &str)]) -> (Gate, Gate) {
    let (begun, gate) = (Gate::default(), Gate::default());
    let (told, pass) = (begun.clone(), gate.clone());
    at_events_of(function, move |fields| {
        if values.iter().all(|(field, value)| fields.is(field, value)) {
            told.open();
            pass.pass();
        }
    });
    (begun, gate)
}

#[test]
fn a_subscriber_that_panics_at_every_event_breaks_nothing() {
    unhung(|| {
        at_events_of("panics", |_| panic!("a subscriber's panic"));
        let app = App::ephemeral("told");
        let f = app
            .function("panics", |n: &u32| match attempt() {
                1 => crash(),
                2 => Err("once"),
                _ => Ok(*n),
            })
            .retries(Retries::new(1).initial_delay(Duration::ZERO))
            .containers(2)
            .start()
            .expect("valid");
        assert_eq!(f.call(7).wait().expect("replayed and retried"), 7);
        assert_eq!(f.status().crashes, 1, "a subscriber's panic is no crash");
        until("both containers live", || f.status().containers.live == 2);
        assert!(f.kill_container(ContainerId::new(0)));
        assert_eq!(f.run(vec![1, 2]).expect("the function is whole"), [1, 2]);
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
        let report = app.shutdown_blocking();
        assert!(report.is_clean(), "{report}");
    });
}

#[test]
fn a_subscriber_that_panics_at_a_span_breaks_nothing_even_while_a_crash_unwinds_through_it() {
    unhung(|| {
        // The subscriber also panics at events, and such a panic unwinds through its span.
        for place in PANICS {
            at_events_of(place, |_| panic!("a subscriber's panic"));
        }
        for (at, place) in PANICS.into_iter().enumerate() {
            let app = App::ephemeral("spans");
            // The second attempt and later ones are in a span.
            let code = |n: &u32| match attempt() {
                1 | 2 | 4 => crash(),
                3 => Err("once"),
                _ => Ok(*n),
            };
            let retries = || Retries::new(1).initial_delay(Duration::ZERO);
            let f = app.function(place, code).retries(retries()).containers(1);
            let f = f.restart(RateLimited::never()).start().expect("valid");
            assert_eq!(f.call(7).wait().expect("replayed and retried"), 7);
            assert_eq!(f.status().crashes, 3, "{place}: a subscriber's panic is no crash");
            assert!(app.shutdown_blocking().is_clean());
            let app = App::ephemeral("spans");
            let waits = async move |n: &u32| {
                tokio::task::yield_now().await;
                code(n)
            };
            let g = app.function_async(place, waits).retries(retries()).containers(1);
            let g = g.restart(RateLimited::never()).start().expect("valid");
            assert_eq!(g.call(7).wait().expect("replayed and retried"), 7);
            assert_eq!(g.status().crashes, 3, "{place}: a subscriber's panic is no crash");
            assert!(app.shutdown_blocking().is_clean());
            assert!(PANICKED[at].load(Ordering::SeqCst) >= 8, "{place}: {PANICKED:?}");
        }
    });
}

/// Counts the threads that have ended.
struct Departure(Arc<AtomicU32>);

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    /// It is dropped at the very end of its thread.
    static DEPARTURE: RefCell<Option<Departure>> = const { RefCell::new(None) };
}

/// A worker that opens a gate when it begins, waits at another gate, and crashes.
#[derive(Clone, Default)]
struct Doomed {
    begun: Gate,
    gate: Gate,
}

impl Worker for Doomed {
    type Input = u32;
    type Output = u32;
    type Error = Infallible;

    fn call(&mut self, _: &u32, _: &Context) -> Result<u32, Infallible> {
        self.begun.open();
        self.gate.pass();
        crash()
    }
}

#[test]
fn a_function_that_gives_up_during_a_drain_reaches_every_caller_however_slow_the_subscriber_is() {
    unhung(|| {
        let (app, other) = (App::ephemeral("told"), App::ephemeral("other"));
        let g = other.infallible("engine", |n: &u32| *n).containers(1).start().expect("valid");
        let (doomed, departed) = (Doomed::default(), Arc::new(AtomicU32::new(0)));
        let (worker, departing) = (doomed.clone(), Arc::clone(&departed));
        let enter = move |_: &Context| -> Result<Doomed, BoxError> {
            DEPARTURE.set(Some(Departure(Arc::clone(&departing))));
            Ok(worker.clone())
        };
        let f = app.worker("slow", enter).containers(2).restart(strict()).start().expect("valid");
        until("both containers live", || f.status().containers.live == 2);
        let call = f.call(1);
        doomed.begun.pass();
        f.drain();
        until("the function drains", || f.run(Vec::new()).is_err());
        // The engine's thread is stopped while one container crashes. The event of the crash is emitted only
        // when the other container has gone.
        let (held, resume) = stop_at("engine", &[("message", "container killed")]);
        let gone = Arc::clone(&departed);
        at_events_of("slow", move |fields| {
            if fields.is("message", "container crashed") {
                until("the idle container has gone", || gone.load(Ordering::SeqCst) == 1);
            }
        });
        let killing = std::thread::spawn(move || g.kill_container(ContainerId::new(0)));
        held.pass();
        doomed.gate.open();
        until("both threads have ended", || departed.load(Ordering::SeqCst) == 2);
        resume.open();
        assert!(call.wait().expect_err("it gave up").is_given_up());
        assert!(killing.join().expect("no panic"));
        drop((app, other));
    });
}

#[test]
fn no_enter_begins_once_an_abort_has_returned() {
    unhung(|| {
        let (held, resume) = stop_at("aborted", &[("message", "container starting"), ("generation", "2")]);
        let enters = Arc::new(AtomicU32::new(0));
        let (count, doomed) = (Arc::clone(&enters), Doomed::default());
        doomed.gate.open();
        let enter = move |_: &Context| -> Result<Doomed, BoxError> {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(doomed.clone())
        };
        let app = App::ephemeral("told");
        let f = app.worker("aborted", enter).containers(1).restart(RateLimited::never());
        let f = f.start().expect("valid");
        let call = f.call(1);
        held.pass();
        app.abort();
        resume.open();
        assert!(call.wait().expect_err("aborted").is_shut_down());
        drop(f);
        until("the threads of the function have ended", || Arc::strong_count(&enters) == 1);
        assert_eq!(enters.load(Ordering::SeqCst), 1, "only the first generation entered");
    });
}

fn strict() -> RateLimited {
    RateLimited::new().max_crashes(0).max_failure_rate(0.0)
}

#[test]
fn a_subscriber_may_wait_for_the_report_of_the_app_of_an_event() {
    unhung(|| {
        let place: Arc<Mutex<Option<App>>> = Arc::default();
        let (its, reports) = (Arc::clone(&place), Arc::<Mutex<Vec<bool>>>::default());
        let clean = Arc::clone(&reports);
        at_events_of("reported", move |fields| {
            if fields.is("message", "function gave up") {
                let app =
                    its.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it gives up once");
                let report = app.shutdown_blocking();
                clean.lock().unwrap_or_else(PoisonError::into_inner).push(report.is_clean());
            }
        });
        let app = App::ephemeral("told");
        let f = app.infallible("reported", |_: &u32| -> u32 { crash() }).containers(1).restart(strict());
        let f = f.start().expect("valid");
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(app);
        assert!(f.call(1).wait().is_err());
        let told = || reports.lock().unwrap_or_else(PoisonError::into_inner).len() == 1;
        until("the subscriber has the report", told);
    });
}

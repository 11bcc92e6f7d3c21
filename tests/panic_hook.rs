//! The panic hook. This is a binary of its own, because the hook belongs to the process.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read the clock, and catch what the user's code may catch"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::pending;
use std::panic::{catch_unwind, panic_any, resume_unwind};
use std::sync::{Mutex, Once, PoisonError};

use longshore::{App, Builder, Cause, ContainerId, Death, Failure, Panic, PanicHook, RateLimited};
use tokio::task::{spawn_blocking, spawn_local};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use support::{Gate, unhung, until};

#[expect(dead_code, reason = "shared with the main binary, which uses all of it")]
#[path = "it/support.rs"]
mod support;

/// The messages of the panics for which the application's hook was called.
static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The events of tasks that panicked.
static TOLD: Mutex<Vec<BTreeMap<&str, String>>> = Mutex::new(Vec::new());

/// Sets the application's hook and subscriber, before the first start of a function.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let message = info.payload().downcast_ref::<String>().cloned();
            let message = message.or_else(|| info.payload().downcast_ref::<&str>().map(ToString::to_string));
            HEARD.lock().unwrap_or_else(PoisonError::into_inner).push(message.unwrap_or_default());
        }));
        let subscriber = tracing_subscriber::registry().with(Listener);
        tracing::subscriber::set_global_default(subscriber).expect("only here");
    });
}

/// The number of calls of the application's hook with this message.
fn heard(message: &str) -> usize {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().filter(|of| *of == message).count()
}

/// The number of events of panicked tasks of this function, and the number of panics that they count.
fn told(function: &str) -> (usize, usize) {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let of_it = told.iter().filter(|event| event.get("function").is_some_and(|of| of == function));
    let panics: Vec<usize> = of_it.map(|event| event["panics"].parse().expect("a number")).collect();
    (panics.len(), panics.iter().sum())
}

struct Listener;

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        if fields.get("message").is_some_and(|message| message == "task panicked") {
            TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(fields);
            // A panic of the subscriber must break nothing.
            panic!("a subscriber's panic");
        }
    }
}

#[test]
fn a_containers_panic_reaches_the_applications_hook_only_if_the_function_says_so() {
    prepare();
    let app = App::ephemeral("hook");
    for (name, hook) in [("silent", PanicHook::Silent), ("forwarded", PanicHook::Forward)] {
        let f = app.infallible(name, move |(): &()| panic!("a {name} panic"));
        let f = f.containers(1).crash_retries(1).panic_hook(hook).start().expect("valid");
        let failure = f.call(()).wait().expect_err("it always panics");
        let panic = panic_of(&failure);
        assert_eq!(panic.message(), format!("a {name} panic"));
        assert!(panic.location().is_some_and(|at| at.contains("panic_hook.rs")), "{panic}");
    }
    let elsewhere = std::thread::spawn(|| panic!("an application's own panic")).join();
    assert!(elsewhere.is_err());
    assert_eq!(heard("a silent panic"), 0, "calls of the hook for silent panics");
    assert_eq!(heard("a forwarded panic"), 2, "calls of the hook for forwarded panics");
    assert_eq!(heard("an application's own panic"), 1);
}

fn panic_of<I, E>(failure: &Failure<I, E>) -> Panic {
    let Cause::Poisoned(deaths) = failure.cause() else { panic!("it is not poisoned") };
    let Death::Panicked(panic) = &deaths[0].death else { panic!("{}", deaths[0]) };
    panic.clone()
}

#[test]
fn panics_of_tasks_that_were_spawned_in_a_container_reach_the_applications_hook_and_are_an_event() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("dropped with its task");
        }
    }
    prepare();
    unhung(|| {
        let app = App::ephemeral("tasks");
        for (name, hook) in [("tasks, silent", PanicHook::Silent), ("tasks, forward", PanicHook::Forward)] {
            let f = app.function_async(name, async move |_: &u64| {
                drop(spawn_local(async move { panic!("{name}: local") }));
                drop(tokio::spawn(async move { panic!("{name}: spawned") }));
                drop(spawn_blocking(move || panic!("{name}: blocking")).await);
                // This task panics later, while the container is idle.
                drop(tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    panic!("{name}: later")
                }));
                drop(spawn_local(async {
                    let _held = PanicsInDrop;
                    pending::<()>().await;
                }));
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(())
            });
            let f = f.containers(1).panic_hook(hook).start().expect("valid");
            let before = heard("dropped with its task");
            f.call(1).wait().expect("no task is the container's own code");
            for kind in ["local", "spawned", "blocking", "later"] {
                until(kind, || heard(&format!("{name}: {kind}")) == 1);
            }
            until("each panic of a task is an event", || told(name) == (4, 4));
            assert!(f.kill_container(ContainerId::new(0)));
            until("the panic in the drop of the waiting task reaches the hook", || {
                heard("dropped with its task") == before + 1
            });
            until("that panic is an event", || told(name) == (5, 5));
            assert_eq!(f.status().crashes, 0);
            for kind in ["local", "spawned", "blocking", "later"] {
                assert_eq!(heard(&format!("{name}: {kind}")), 1, "{kind}");
            }
        }
        let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        let event = told.iter().find(|event| event["cause"] == "tasks, silent: local").expect("told");
        assert_eq!(&*event["app"], "tasks", "app");
        assert_eq!(&*event["container"], "0", "container");
        assert_eq!(&*event["generation"], "1", "generation");
        assert!(event["location"].contains("panic_hook.rs:"), "{event:?}");
    });
}

#[test]
fn an_async_containers_own_panics_are_not_reported_as_those_of_tasks() {
    struct Moody;
    impl longshore::AsyncWorker for Moody {
        type Input = u64;
        type Output = u64;
        type Error = Infallible;

        async fn call(&mut self, n: &u64, _: &longshore::Context) -> Result<u64, Infallible> {
            tokio::task::yield_now().await;
            panic!("own: call {n}")
        }
        // `exit` panics before its first await.
        fn exit(self, _: &longshore::Context) -> impl Future<Output = ()> {
            panic!("own: exit");
            #[expect(unreachable_code, reason = "says what it returns")]
            async {}
        }
    }
    prepare();
    unhung(|| {
        let app = App::ephemeral("own");
        let enters = std::sync::atomic::AtomicU32::new(0);
        let enter = async move |_: &longshore::Context| {
            if enters.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                panic!("own: enter");
            }
            Ok(Moody)
        };
        let f = app.worker_async("own", enter).containers(1).restart(RateLimited::never());
        let f = f.crash_retries(0).start().expect("valid");
        let failure = f.call(7).wait().expect_err("it panics");
        assert_eq!(panic_of(&failure).message(), "own: call 7");
        assert!(panic_of(&failure).location().is_some_and(|at| at.contains("panic_hook.rs")));
        until("the container lives again", || f.status().containers.live == 1);
        let report = app.shutdown_blocking();
        assert!(report.to_string().contains("own: exit"), "{report}");
        for kind in ["own: enter", "own: call 7", "own: exit"] {
            assert_eq!(heard(kind), 0, "{kind}");
        }
        assert_eq!(told("own"), (0, 0));
    });
}

#[test]
fn repeats_of_a_tasks_panic_are_counted_and_reported_once_a_second() {
    prepare();
    unhung(|| {
        let app = App::ephemeral("repeats");
        let f = app.function_async("repeats", async |_: &u64| {
            drop(tokio::spawn(async { panic!("again and again") }).await);
            Ok::<_, Infallible>(())
        });
        let f = f.containers(2).start().expect("valid");
        let begun = std::time::Instant::now();
        f.run((0..500).collect()).expect("no task is the container's own code");
        assert_eq!(heard("again and again"), 500);
        until("all panics are reported", || told("repeats").1 == 500);
        let seconds = begun.elapsed().as_secs() as usize;
        assert!(told("repeats").0 <= 2 + seconds, "{:?} in {seconds} s", told("repeats"));
    });
}

/// A function without crash retries, so that each input is executed once.
fn once<O: Send + 'static>(f: Builder<u64, O, Infallible>) -> longshore::Function<u64, O, Infallible> {
    f.containers(1).crash_retries(0).restart(RateLimited::never()).start().expect("valid")
}

#[test]
fn a_panic_that_is_raised_again_has_no_location_and_a_new_one_has_its_own() {
    #[derive(Debug)]
    struct Payload;
    prepare();
    unhung(|| {
        let app = App::ephemeral("places");
        let f = once(app.infallible("f", |n: &u64| {
            let caught = |n: u64| {
                let caught = catch_unwind(|| match n % 3 {
                    0 => panic!("caught"),
                    1 => panic!("caught {n}"),
                    _ => panic_any(Payload),
                });
                assert!(caught.is_err());
            };
            match n {
                0..3 => caught(*n),
                10..13 => {
                    caught(*n);
                    let helper = std::thread::spawn(|| panic!("the helper's"));
                    resume_unwind(helper.join().expect_err("it panics"));
                }
                20..23 => {
                    caught(*n);
                    resume_unwind(Box::new(format!("made here {n}")));
                }
                30 => resume_unwind(Box::new(Payload)),
                31 => resume_unwind(Box::new(41_u64)),
                40..43 => {
                    caught(*n);
                    panic!("a literal")
                }
                50..53 => {
                    caught(*n);
                    panic!("formatted {n}")
                }
                _ => {
                    caught(*n);
                    panic_any(Payload)
                }
            }
        }));
        let place = |n: u64| {
            let panic = panic_of(&f.call(n).wait().expect_err("it panics"));
            (panic.message().to_owned(), panic.location().map(ToOwned::to_owned))
        };
        for n in 0..3 {
            // A panic that was caught in another input has no effect, whatever its payload is.
            f.call(n).wait().expect("it catches");
            for n in [10, 11, 12, 20, 21, 22, 30, 31] {
                assert_eq!(place(n).1, None, "{:?}", place(n));
            }
            f.call(n).wait().expect("it catches");
            assert_eq!(place(30).1, None);
        }
        for (n, message) in [(40, "a literal"), (50, "formatted 50"), (60, "(a payload that is not text)")] {
            for n in n..n + 3 {
                let (said, at) = place(n);
                assert!(said == message || said == format!("formatted {n}"), "{said}");
                assert!(at.is_some_and(|at| at.contains("panic_hook.rs:")), "{n}");
            }
        }
    });
}

#[test]
fn panics_of_tasks_late_in_a_generation_reach_the_hook_and_are_events() {
    prepare();
    unhung(|| {
        let app = App::ephemeral("late");
        let gate = Gate::default();
        let passed = gate.clone();
        let f = app.function_async("late", async move |_: &u64| {
            let passed = passed.clone();
            drop(spawn_blocking(move || {
                passed.pass();
                panic!("a late one")
            }));
            Ok::<_, Infallible>(())
        });
        let f = f.containers(1).start().expect("valid");
        f.call(1).wait().expect("infallible");
        assert!(app.shutdown_blocking().is_clean());
        gate.open();
        until("the late panic reaches the hook", || heard("a late one") == 1);
        until("the late panic is an event", || told("late") == (1, 1));
    });
}

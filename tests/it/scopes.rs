//! The async scope and its end, the retries of a single map, and handles that abort a map from another place.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::{FutureExt, StreamExt, stream};
use longshore::{App, Cause, ConfigError, Fate, Function, NotReady, Retries};
use tokio::task::yield_now;

use crate::support::{
    Counted, Gate, Started, async_numbers_under, attempt, numbers_under, under_each_policy, unhung, until,
};

#[test]
fn run_returns_the_result_and_the_report() {
    unhung(|| {
        let borrowed = String::from("borrowed by the scope");
        let scope = App::run("scope", async |app| {
            let f = app.function_async("f", async |n: &u64| Ok::<_, Infallible>(*n)).started();
            let sum = f.run_async((0..100).collect()).await.expect("infallible").into_iter().sum::<u64>();
            (sum, borrowed.len(), f)
        });
        let ((sum, len, f), report) = block_on(scope);
        assert_eq!(sum, 4_950, "sum");
        assert_eq!(len, 21, "bytes that the scope borrowed");
        assert_eq!(report.app.as_str(), "scope", "name of the app");
        assert!(report.is_clean(), "{report}");
        assert!(report.functions[0].containers.iter().all(|(_, fate)| *fate == Fate::Exited), "{report}");
        assert!(
            matches!(f.ready(), Err(NotReady::ShutDown)),
            "a handle that outlives the scope learns of the shutdown"
        );
    });
}

#[test]
fn a_scope_that_is_dropped_or_panics_ends_its_functions() {
    type Waits = Function<u64, u64, Infallible>;
    fn waits(app: &App, drops: &Arc<AtomicU64>, begun: &Gate) -> Waits {
        let (count, told) = (Arc::clone(drops), begun.clone());
        let f = app.function_async("f", async move |_: &u64| {
            let _witness = Counted(Arc::clone(&count));
            told.open();
            pending().await
        });
        f.started()
    }
    unhung(|| {
        let (drops, begun) = (Arc::new(AtomicU64::new(0)), Gate::default());
        let mut scope = Box::pin(App::run("dropped", async |app| {
            waits(app, &drops, &begun).call(1).await.expect("it never ends")
        }));
        assert!((&mut scope).now_or_never().is_none());
        begun.pass();
        drop(scope);
        until("the future that waited is dropped", || drops.load(Ordering::SeqCst) == 1);

        let (count, gate) = (Arc::clone(&drops), Gate::default());
        let panics = std::thread::spawn(move || {
            block_on(App::run("panics", async |app| {
                let f = waits(app, &count, &gate);
                let _call = f.call(1);
                gate.passed().await;
                std::panic::resume_unwind(Box::new("on purpose"));
            }))
        });
        assert!(panics.join().is_err());
        until("the future that waited is dropped", || drops.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn an_awaited_shutdown_drains_and_goes_on_when_its_future_is_dropped() {
    under_each_policy(|_, policy| {
        for awaited in [true, false] {
            let app = App::ephemeral("shutdown");
            let (gate, begun) = (Gate::default(), Gate::default());
            let (inside, told) = (gate.clone(), begun.clone());
            let f = async_numbers_under(policy.clone(), &app, 2, async move |n| {
                told.open();
                inside.passed().await;
                *n
            });
            f.ready().expect("it starts");
            let call = f.call(1);
            begun.pass();
            let mut shutdown = Box::pin(app.shutdown());
            assert!((&mut shutdown).now_or_never().is_none(), "a call executes");
            until("the function drains", || matches!(f.ready(), Err(NotReady::ShutDown)));
            assert!(f.call(2).wait().expect_err("new calls are refused").is_shut_down());
            let shutdown = Some(shutdown).filter(|_| awaited);
            gate.open();
            assert_eq!(block_on(call).expect("what is accepted finishes"), 1);
            if let Some(shutdown) = shutdown {
                assert!(block_on(shutdown).is_clean());
            }
            until("all containers have left", || f.status().containers.live == 0);
        }
    });
}

#[test]
fn a_shutdown_that_is_never_polled_only_drops_the_app() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("unpolled");
        let f = numbers_under(policy, &app, 1, |n| n + 1);
        drop(app.shutdown());
        assert_eq!(f.call(1).wait().expect("a handle outlives its app"), 2);
    });
}

#[test]
fn retries_set_on_a_map_apply_to_that_map_only() {
    under_each_policy(|app, policy| {
        let at_once = |retries| Retries::new(retries).initial_delay(Duration::ZERO);
        let f = app
            .function_async("f", async |n: &u64| {
                yield_now().await;
                if u64::from(attempt()) > *n { Ok(attempt()) } else { Err(attempt()) }
            })
            .retries(at_once(1))
            .retry_if(|error| *error < 4)
            .restart(policy)
            .started();
        let ended = |map: longshore::Map<u64, u32, u32>| -> Vec<Result<u32, (u32, Option<u32>)>> {
            let outcomes = map.return_exceptions().into_iter();
            let told = outcomes
                .map(|outcome| outcome.map_err(|failure| (failure.attempts(), failure.error().copied())));
            told.collect()
        };
        assert_eq!(ended(f.map(0..3u64)), [Ok(1), Ok(2), Err((2, Some(2)))], "the retries of the function");
        let none = [Ok(1), Err((1, Some(1))), Err((1, Some(1)))];
        assert_eq!(ended(f.map(0..3u64).retries(0)), none);
        let more = [Ok(1), Ok(2), Ok(3), Ok(4), Err((4, Some(4))), Err((4, Some(4)))];
        assert_eq!(
            ended(f.map(0..6u64).retries(at_once(10))),
            more,
            "the function's `retry_if` still decides"
        );
        let failure = f.call(2).wait().expect_err("as the function says");
        assert_eq!(failure.attempts(), 2, "attempts");
        assert_eq!(failure.error(), Some(&2), "error");
        // Two maps with different retries run beside each other.
        let (mut one, mut other) = (f.map(vec![1]).retries(0), f.map(vec![1]));
        let (one, other) = block_on(async { futures::join!(one.next(), other.next()) });
        assert!(one.is_some_and(|outcome| outcome.is_err()));
        assert!(other.is_some_and(|outcome| outcome.is_ok()));
    });
}

#[test]
fn retries_of_a_map_out_of_range_are_a_typed_error_and_nothing_is_pulled() {
    under_each_policy(|app, policy| {
        let f = app.function("f", |n: &u64| Err::<(), _>(*n)).restart(policy).started();
        let pulled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&pulled);
        let source = (0..3u64).inspect(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let retries = Retries::new(1).max_delay(Duration::ZERO);
        let mut map = f.map(source).retries(retries).return_exceptions();
        let failure = block_on(map.next()).expect("the error").expect_err("it is refused");
        assert!(matches!(failure.cause(), Cause::Config(ConfigError::RetryMaxDelay { .. })), "{failure:?}");
        assert!(block_on(map.next()).is_none());
        assert_eq!(pulled.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_map_aborted_before_it_begins_yields_one_error_and_executes_nothing() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&runs);
        let f = numbers_under(policy, app, 1, move |_| count.fetch_add(1, Ordering::SeqCst));
        f.ready().expect("it starts");
        for source in [f.map(vec![1]), f.map((0..3).chain(7..8)), f.map_stream(stream::pending())] {
            let mut map = source.return_exceptions();
            map.abort_handle().abort();
            map.abort_handle().abort();
            let mut outcomes = std::iter::from_fn(|| block_on(map.next())).collect::<Vec<_>>();
            let last = outcomes.pop().expect("the error").expect_err("it is aborted");
            assert!(matches!(last.cause(), Cause::Cancelled), "{last:?}");
            assert!(last.index().is_none(), "{last:?}");
        }
        until("no feeder is left", || f.status().feeders == 0);
    });
}

#[test]
fn a_map_aborted_while_its_consumer_waits_gives_each_input_its_outcome_and_ends() {
    under_each_policy(|app, policy| {
        for (name, stream) in [("blocking", false), ("stream", true)] {
            let (drops, begun) = (Arc::new(AtomicU64::new(0)), Gate::default());
            let (count, told) = (Arc::clone(&drops), begun.clone());
            let f = app
                .function_async(name, async move |n: &u64| {
                    if *n < 2 {
                        return Ok::<_, Infallible>(*n);
                    }
                    let _witness = Counted(Arc::clone(&count));
                    told.open();
                    pending().await
                })
                .containers(1)
                .restart(policy.clone())
                .started();
            let map = f.map(0..1_000u64).window(4).return_exceptions();
            let handle = map.abort_handle();
            let (yields, yielded) = std::sync::mpsc::channel();
            let consumer = std::thread::spawn(move || {
                let told = move |outcome| yields.send(outcome).expect("the test listens");
                if stream {
                    block_on(map.for_each(async |outcome| told(outcome)))
                } else {
                    map.into_iter().for_each(told)
                }
            });
            assert_eq!(yielded.iter().take(2).filter_map(Result::ok).collect::<Vec<_>>(), [0, 1]);
            begun.pass();
            handle.clone().abort();
            let outcomes: Vec<_> =
                yielded.iter().map(|outcome| outcome.expect_err("every other input fails")).collect();
            consumer.join().expect("no panic");
            let (last, inputs) = outcomes.split_last().expect("the error of the map");
            assert!(
                outcomes.iter().all(|failure| matches!(failure.cause(), Cause::Cancelled)),
                "{outcomes:?}"
            );
            assert!(last.index().is_none(), "{outcomes:?}");
            assert!((1..=4).contains(&inputs.len()), "{outcomes:?}");
            for (n, failure) in (2..).zip(inputs) {
                let told = (failure.index(), failure.input(), failure.attempts());
                assert_eq!(told, (Some(n), Some(&n), u32::from(n == 2)));
            }
            until("the future is dropped", || drops.load(Ordering::SeqCst) == 1);
            assert_eq!(f.call(1).wait().expect("the container is free"), 1);
        }
    });
}

#[test]
fn a_call_aborted_from_elsewhere_gives_its_input_back() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = numbers_under(policy, app, 1, move |n| {
            inside.pass();
            *n
        });
        let (first, second) = (f.call(1), f.call(2));
        let handle = second.abort_handle();
        handle.abort();
        let aborted = second.wait().expect_err("it is aborted");
        assert!(matches!(aborted.cause(), Cause::Cancelled));
        assert_eq!(aborted.input(), Some(&2), "input");
        assert_eq!(aborted.attempts(), 0, "attempts");
        gate.open();
        let handle = first.abort_handle();
        assert_eq!(first.wait().expect("infallible"), 1);
        handle.abort(); // has no effect, because the call has ended
        assert_eq!(f.call(3).wait().expect("infallible"), 3);
    });
}

#[test]
fn an_abort_handle_keeps_nothing_alive_and_has_no_effect_after_the_end() {
    under_each_policy(|app, policy| {
        let captured = Arc::new(());
        let held = Arc::clone(&captured);
        let other = App::ephemeral("alive");
        let f = other
            .infallible("f", move |n: &u64| {
                let _ = &held;
                *n
            })
            .restart(policy)
            .started();
        let mut map = f.map(0..10u64);
        let handle = map.abort_handle();
        let all = block_on(map.by_ref().collect::<Vec<_>>());
        assert!(all.len() == 10);
        assert!(all.iter().all(Result::is_ok));
        handle.abort();
        assert!(block_on(map.next()).is_none(), "it had ended");
        let handle = f.map(0..10u64).abort_handle();
        drop((map, f, other));
        until("the function is gone", || Arc::strong_count(&captured) == 1);
        handle.abort();
        assert_eq!(app.name(), "promise");
    });
}

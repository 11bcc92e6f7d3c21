//! Maps and calls as streams and futures, streams as sources, and that a dropped future loses no outcome.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::channel::mpsc;
use futures::executor::block_on;
use futures::{FutureExt, SinkExt, Stream, StreamExt, TryStreamExt, stream};
use longshore::{Cause, Function};
use tokio::task::yield_now;

use crate::support::{
    Counted, Gate, Started, async_numbers_under, crash, numbers_under, under_each_policy, until,
};

#[test]
fn a_stream_of_outcomes_is_in_the_order_of_the_inputs_unless_it_is_unordered() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = async_numbers_under(policy, app, 2, async move |n| {
            if *n == 0 {
                inside.passed().await;
            }
            *n
        });
        block_on(async {
            let mut map = f.map(0..100u64).unordered();
            let first: Vec<u64> =
                map.by_ref().take(99).map(|outcome| outcome.expect("infallible")).collect().await;
            assert!(!first.contains(&0));
            gate.open();
            assert_eq!(map.next().await.and_then(Result::ok), Some(0));
            assert!(map.next().await.is_none());
            assert!(map.next().await.is_none());
            let outputs: Vec<u64> = f.map(0..2_000u64).try_collect().await.expect("infallible");
            assert_eq!(outputs, (0..2_000).collect::<Vec<_>>());
        });
    });
}

#[test]
fn a_stream_of_outcomes_ends_with_the_first_failure_or_yields_them_all() {
    under_each_policy(|app, policy| {
        let f = app
            .function_async("f", async |n: &u64| {
                yield_now().await;
                if n % 40 == 30 { Err(*n) } else { Ok(*n) }
            })
            .containers(2)
            .restart(policy)
            .started();
        block_on(async {
            let mut map = f.map(0..1_000u64).fail_in_order();
            for n in 0..30 {
                assert_eq!(map.next().await.and_then(Result::ok), Some(n));
            }
            assert_eq!(map.next().await.and_then(|outcome| outcome.err()?.index()), Some(30));
            assert!(map.next().await.is_none());

            let (oks, failures): (Vec<_>, Vec<_>) =
                f.map(0..1_000u64).collect::<Vec<_>>().await.into_iter().partition(Result::is_ok);
            assert_eq!(failures.len(), 1, "the map ends with its first failure");
            assert!(oks.len() < 1_000);

            let all: Vec<_> = f.map_stream(stream::iter(0..400u64)).return_exceptions().collect().await;
            for (n, outcome) in (0..400).zip(all) {
                let ended = outcome.unwrap_or_else(|failure| *failure.error().expect("the function's"));
                assert_eq!(ended, n);
            }
            assert_eq!(f.run_async((0..30).collect()).await.expect("none fails").len(), 30);
            let failure = f.run_async((0..100).collect()).await.expect_err("one fails");
            assert!(failure.error().is_some_and(|n| n % 40 == 30));
            let all = f.run_all_async((0..100).collect()).await;
            assert_eq!(all.iter().filter(|outcome| outcome.is_err()).count(), 2);
            let counts = f.for_each_async(stream::iter(0..100)).await.expect("it goes on");
            assert_eq!(counts.ok, 98, "ok inputs");
            assert_eq!(counts.failed, 2, "failed inputs");
            assert_eq!(counts.pulled, 100, "pulled inputs");
            assert_eq!(counts.total, Some(100), "total");
            assert_eq!(
                f.call(30).await.expect_err("it fails").into_input().and_then(|i| i.owned()),
                Some(30)
            );
        });
    });
}

#[test]
fn nothing_is_pulled_before_the_first_poll_and_never_more_than_the_window() {
    under_each_policy(|app, policy| {
        for window in [1, 2, 7, 64] {
            let pulled = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&pulled);
            let source = stream::iter(0..300u64).inspect(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            });
            let name = format!("f{window}");
            let f = app.infallible(&name, |n: &u64| *n).containers(2).restart(policy.clone()).started();
            let mut map = f.map_stream(source).window(window);
            f.ready().expect("it starts");
            let next = map.next(); // this future is never polled
            drop(next);
            assert_eq!(pulled.load(Ordering::SeqCst), 0, "lazy");
            for yielded in 1..=300 {
                block_on(map.next()).expect("one for each").expect("infallible");
                let outstanding = pulled.load(Ordering::SeqCst) - yielded;
                assert!(outstanding <= window, "{outstanding} of {window}");
            }
            assert!(block_on(map.next()).is_none());
        }
    });
}

#[test]
fn containers_fill_the_window_without_further_polls() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&runs);
        let f = async_numbers_under(policy, app, 2, async move |n| {
            yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
            *n
        });
        let mut map = f.map_stream(stream::iter(0..)).window(32);
        assert_eq!(block_on(map.next()).and_then(Result::ok), Some(0));
        until("the window is full", || runs.load(Ordering::SeqCst) == 33);
        assert_eq!(block_on(f.call(0)).expect("infallible"), 0);
        assert_eq!(runs.load(Ordering::SeqCst), 34, "executions");
        assert_eq!(map.progress().pulled, 33, "pulled inputs");
    });
}

#[test]
fn dropped_futures_of_the_next_outcome_lose_none() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = async_numbers_under(policy, app, 2, async move |n| {
            inside.passed().await;
            yield_now().await;
            *n
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let (mut map, mut yielded, mut dropped) = (f.map(0..500u64), Vec::new(), 0);
            loop {
                // A short timeout and a branch that is ready at its second poll take turns.
                let looked = if dropped % 2 == 0 {
                    tokio::time::timeout(Duration::from_micros(10), map.next()).await.ok()
                } else {
                    tokio::select! { biased; next = map.next() => Some(next), () = yield_now() => None }
                };
                match looked {
                    Some(Some(outcome)) => yielded.push(outcome.expect("infallible")),
                    Some(None) => break,
                    None => dropped += 1,
                }
                if dropped == 10 {
                    gate.open();
                }
            }
            assert_eq!(yielded, (0..500).collect::<Vec<_>>());
            assert!(dropped >= 10);
            let mut call = f.call(7);
            assert!(tokio::time::timeout(Duration::ZERO, &mut call).await.map_or(true, |done| done.is_ok()));
        });
    });
}

#[test]
fn a_call_awaited_by_reference_goes_on_when_that_future_is_dropped() {
    under_each_policy(|app, policy| {
        let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&runs));
        let f = async_numbers_under(policy, app, 1, async move |n| {
            count.fetch_add(1, Ordering::SeqCst);
            inside.passed().await;
            n + 1
        });
        let mut call = f.call(1);
        for _ in 0..3 {
            assert!((&mut call).now_or_never().is_none());
        }
        gate.open();
        assert_eq!(block_on(call).expect("infallible"), 2);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_map_may_be_polled_and_then_iterated_over() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        let mut map = f.map_stream(stream::iter(0..100u64)).window(3);
        assert_eq!(block_on(map.by_ref().take(10).count()), 10);
        // This leaves a waker in the map whose task is gone.
        let _ = map.next().now_or_never();
        let rest: Vec<u64> = map.blocking().map(|outcome| outcome.expect("infallible")).collect();
        assert!(rest.ends_with(&[98, 99]), "{rest:?}");
        assert!(rest.len() >= 89, "{rest:?}");
    });
}

#[test]
fn a_channel_is_a_source_and_sees_back_pressure() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |n| n * 2);
        let (mut send, receive) = mpsc::channel::<u64>(2);
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let producer = std::thread::spawn(move || {
            block_on(async {
                for n in 0..200 {
                    send.send(n).await.expect("the map listens");
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
        let mut map = f.map_stream(receive).window(4);
        for n in 0..200 {
            assert_eq!(block_on(map.next()).and_then(Result::ok), Some(n * 2));
            // At most the window, the two places of the channel, and the one place of its sender.
            let ahead = sent.load(Ordering::SeqCst).saturating_sub(n + 1);
            assert!(ahead <= 4 + 3, "{ahead} ahead");
        }
        assert!(block_on(map.next()).is_none());
        producer.join().expect("no panic");
        until("the feeder ends", || f.status().feeders == 0);
    });
}

#[test]
fn a_stream_may_be_endless_empty_or_unfolded_from_a_state() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| n + 1);
        block_on(async {
            assert!(f.map_stream(stream::empty()).next().await.is_none());
            assert_eq!(f.for_each_async(stream::empty()).await.expect("nothing fails").pulled, 0);
            let endless = stream::unfold(0, async |n| Some((n, n + 1)));
            let some: Vec<u64> = f
                .map_stream(endless)
                .window(8)
                .take(100)
                .map(|outcome| outcome.expect("infallible"))
                .collect()
                .await;
            assert_eq!(some, (1..=100).collect::<Vec<_>>());
            let sleepy = stream::unfold(0, async |n| {
                tokio::time::sleep(Duration::from_micros(10)).await; // the feeder's own runtime
                (n < 20).then_some((n, n + 1))
            });
            assert_eq!(f.map_stream(sleepy).count().await, 20);
        });
        until("no feeder is left", || f.status().feeders == 0);
    });
}

/// A stream that stays pending after its inputs, with the number of its drops. It opens `asked` when it is
/// first polled after its inputs.
fn pending_after(inputs: u64, asked: &Gate) -> (Arc<AtomicU64>, impl Stream<Item = u64> + Send + 'static) {
    let (drops, asked) = (Arc::new(AtomicU64::new(0)), asked.clone());
    let witness = Counted(Arc::clone(&drops));
    let rest = stream::poll_fn(move |_| {
        let _ = &witness;
        asked.open();
        Poll::Pending
    });
    (drops, stream::iter(0..inputs).chain(rest))
}

#[test]
fn a_pending_source_is_dropped_at_once_when_its_map_ends() {
    type Plain = Function<u64, u64, &'static str>;
    let ends: [fn(&Plain); 4] = [Plain::drain, Plain::stop, Plain::abort, |f| {
        assert!(f.call(666).wait().is_err());
    }];
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |n| *n);
        let asked = Gate::default();
        let (drops, source) = pending_after(3, &asked);
        let mut map = f.map_stream(source);
        let first: Vec<u64> = block_on(map.by_ref().take(3).map(|n| n.expect("infallible")).collect());
        assert_eq!(first, [0, 1, 2]);
        asked.pass();
        assert_eq!(f.status().feeders, 1, "feeders");
        assert_eq!(drops.load(Ordering::SeqCst), 0, "drops");
        assert_eq!(f.call(5).wait().expect("the container is free"), 5);
        drop(map);
        until("the source is dropped and the feeder has ended", || {
            (drops.load(Ordering::SeqCst), f.status().feeders) == (1, 0)
        });
    });
    for end in ends {
        under_each_policy(move |app, _| {
            let give_up = longshore::RateLimited::new().max_crashes(0).max_failure_rate(0.0);
            let f = app
                .function("f", |n: &u64| if *n == 666 { crash() } else { Ok(*n) })
                .containers(1)
                .crash_retries(0)
                .restart(give_up)
                .started();
            let asked = Gate::default();
            let (drops, source) = pending_after(3, &asked);
            let mut map = f.map_stream(source).return_exceptions();
            assert_eq!(block_on(map.next()).and_then(Result::ok), Some(0));
            asked.pass();
            end(&f);
            let last = block_on(map.fold(None, async |_, outcome| Some(outcome))).expect("an error");
            let last = last.expect_err("it comes last");
            assert!(last.index().is_none(), "{last:?}");
            assert!((last.is_shut_down() || last.is_given_up()), "{last:?}");
            until("the source is dropped", || drops.load(Ordering::SeqCst) == 1);
            until("the feeder ends", || f.status().feeders == 0);
        });
    }
}

/// A stream that panics in the methods that its fields name.
struct Hostile {
    left: u64,
    dropped: Arc<AtomicU64>,
    asked_after_end: Arc<AtomicU64>,
    in_poll: bool,
    in_size_hint: bool,
    in_drop: bool,
}

impl Stream for Hostile {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.left == 0 {
            self.asked_after_end.fetch_add(1, Ordering::SeqCst);
            if self.in_poll {
                crash();
            }
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(self.left))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.in_size_hint {
            crash();
        }
        (0, None)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        if self.in_drop {
            crash();
        }
    }
}

/// A stream that never yields, and that reports in its drop whether it is inside a tokio runtime.
struct Sleeper {
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    inside: std::sync::mpsc::Sender<bool>,
}

impl Stream for Sleeper {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_secs(600))));
        timer.as_mut().poll(cx).map(|()| None)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let inside = tokio::runtime::Handle::try_current().is_ok();
        self.inside.send(inside).expect("the test listens");
    }
}

#[test]
fn a_source_is_dropped_inside_the_runtime_that_it_was_polled_in() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |n| *n);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("it starts");
        for runtime in [None, Some(&runtime)] {
            let (inside, dropped) = std::sync::mpsc::channel();
            let source = Sleeper { timer: None, inside };
            let inside = runtime.map(|runtime| runtime.enter());
            let mut map = f.map_stream(source);
            drop(inside);
            assert!(block_on(async { futures::poll!(map.next()) }).is_pending());
            until("the feeder has begun", || f.status().feeders == 1);
            drop(map);
            assert!(dropped.recv().expect("it is dropped"));
        }
    });
}

#[test]
fn a_source_that_panics_ends_its_map_with_that_error_and_is_dropped_once() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        for way in 0..8 {
            let (in_poll, in_size_hint, in_drop) = (way & 1 > 0, way & 2 > 0, way & 4 > 0);
            let (dropped, asked_after_end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let source = Hostile {
                left: 10,
                dropped: Arc::clone(&dropped),
                asked_after_end: Arc::clone(&asked_after_end),
                in_poll,
                in_size_hint,
                in_drop,
            };
            let mut all: Vec<_> = block_on(f.map_stream(source).return_exceptions().collect());
            if in_poll || in_size_hint {
                let last = all.pop().expect("the error").expect_err("last");
                let Cause::Source(panic) = last.cause() else { panic!("{last:?}") };
                assert_eq!(panic.message(), "a crash on purpose", "message");
                assert_eq!(last.index(), None, "index");
                assert!(panic.location().is_some_and(|at| at.contains("support.rs")), "{panic:?}");
            }
            let oks = all.into_iter().filter(Result::is_ok).count();
            assert_eq!(oks, if in_size_hint { 0 } else { 10 });
            assert_eq!(asked_after_end.load(Ordering::SeqCst), u64::from(!in_size_hint));
            until("the source is dropped", || dropped.load(Ordering::SeqCst) == 1);
        }
        assert_eq!(f.status().crashes, 0);
        assert!(f.run(vec![1]).is_ok(), "the function goes on");
    });
}

#[test]
fn dropping_a_map_that_was_never_polled_does_not_wait_for_the_drop_of_its_stream() {
    struct Stuck(Gate, Arc<AtomicU64>);
    impl Drop for Stuck {
        fn drop(&mut self) {
            self.0.pass();
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        let (gate, dropped) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let stuck = Stuck(gate.clone(), Arc::clone(&dropped));
        drop(f.map_stream(stream::iter(0..3).inspect(move |_| {
            let _ = &stuck;
        })));
        gate.open();
        until("the source is dropped", || dropped.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn a_map_may_be_the_source_stream_of_another_of_the_same_function_with_one_container() {
    under_each_policy(|app, policy| {
        let f = async_numbers_under(policy, app, 1, async |n| {
            yield_now().await;
            n + 1
        });
        let inner = f.map(0..300u64).map(|outcome| outcome.expect("infallible"));
        let middle = f.map_stream(inner).window(3).map(|outcome| outcome.expect("infallible"));
        let outer: Vec<u64> = block_on(f.map_stream(middle).try_collect()).expect("infallible");
        assert_eq!(outer, (3..303).collect::<Vec<_>>());
    });
}

/// A waker that counts its calls and runs a closure.
struct Loud<F>(AtomicU64, F);

impl<F: Fn() + Send + Sync> Wake for Loud<F> {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        (self.1)();
    }
}

#[test]
fn a_waker_may_panic_or_use_the_function_that_wakes_it() {
    type Plain = Function<u64, u64, Infallible>;
    let wakers: [fn(&Plain); 3] = [
        |_| crash(),
        |f| assert_eq!(f.status().containers.live, 1),
        |f| drop((f.map(0..10u64).blocking(), f.call(1))),
    ];
    for wakes in wakers {
        under_each_policy(move |app, policy| {
            let (gate, begun) = (Gate::default(), Gate::default());
            let (inside, told) = (gate.clone(), begun.clone());
            let f = numbers_under(policy, app, 1, move |n| {
                if *n == 0 {
                    told.open();
                    inside.pass();
                }
                *n
            });
            let handle = f.clone();
            let loud = Arc::new(Loud(AtomicU64::new(0), move || wakes(&handle)));
            let waker = Waker::from(Arc::clone(&loud));
            let mut cx = Context::from_waker(&waker);
            let mut map = f.map(0..3u64);
            let mut call = f.call(5);
            let mut source = pin!(f.map_stream(stream::iter(0..3u64)));
            assert!(map.poll_next_unpin(&mut cx).is_pending());
            assert!(source.as_mut().poll_next(&mut cx).is_pending());
            begun.pass();
            let called = call.poll_unpin(&mut cx);
            gate.open();
            until("the waker is called", || loud.0.load(Ordering::SeqCst) >= 1);
            if called.is_pending() {
                assert_eq!(block_on(call).expect("infallible"), 5);
            }
            assert_eq!(block_on(map.count()), 3);
            assert_eq!(block_on(source.count()), 3);
            assert_eq!(f.status().crashes, 0, "crashes");
            assert_eq!(f.status().containers.live, 1, "live containers");
            f.abort();
        });
    }
}

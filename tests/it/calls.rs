//! Calls: the bound on those without an outcome, permits, and calls that are waited for with a limit or go on
//! without their handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use longshore::{App, Cause, RateLimited, ReserveError};

use crate::support::{
    Counted, Gate, Numbers, Started, crash, numbers_under, under_each_policy, unhung, until,
};

const MS: Duration = Duration::from_millis(1);

/// A function with one container and at most `calls_max` calls, which waits at the gate.
fn gated(app: &App, policy: longshore::RestartPolicy, calls_max: u64, gate: &Gate) -> Numbers {
    let gate = gate.clone();
    let f = app.function("f", move |n: &u64| {
        gate.pass();
        Ok(2 * n)
    });
    f.containers(1).calls_max(calls_max).restart(policy).started()
}

/// 8.6
#[test]
fn one_call_more_than_allowed_fails_at_once_with_its_input() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let f = gated(app, policy, 3, &gate);
        let calls: Vec<_> = (0..3).map(|n| f.call(n)).collect();
        for n in 3..5 {
            let refused = f.call(n).wait().expect_err("there is no room");
            assert!(matches!(refused.cause(), Cause::Overloaded { calls: 3, max: 3 }), "{refused:?}");
            assert_eq!((refused.input(), refused.attempts()), (Some(&n), 0));
            let text = "input 0 was refused because 3 of at most 3 calls are without an outcome";
            assert_eq!(refused.to_string(), text);
        }
        let counts = f.status().calls;
        assert_eq!((counts.pending, counts.permits, counts.max, counts.overloaded), (3, 0, 3, 2));
        let seen = f.snapshot().calls;
        assert_eq!((seen.pending, seen.max, seen.overloaded), (3, 3, 2));
        gate.open();
        let outputs: Vec<u64> = calls.into_iter().map(|call| call.wait().expect("it returns")).collect();
        assert_eq!(outputs, [0, 2, 4]);
        assert_eq!(f.call(9).wait().expect("there is room again"), 18);
        assert_eq!(f.run(vec![1, 2, 3, 4, 5]).expect("a map is no call").len(), 5);
        assert_eq!(f.status().calls.pending, 0);
    });
}

/// 8.6
#[test]
fn each_ending_of_a_call_makes_room() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = app
            .function("f", move |n: &u64| match n {
                0 => Ok(0),
                1 => Err("failed"),
                2 => crash(),
                _ => {
                    inside.pass();
                    Ok(3)
                }
            })
            .containers(1)
            .crash_retries(1)
            .calls_max(1)
            .restart(policy)
            .started();
        assert!(f.call(0).wait().is_ok());
        assert!(matches!(f.call(1).wait().expect_err("it fails").cause(), Cause::Failed("failed")));
        assert!(f.call(2).wait().expect_err("it crashes").is_poisoned());
        let executing = f.call(3);
        until("it executes", || f.status().executing == 1);
        executing.abort_handle().abort();
        assert!(matches!(executing.wait().expect_err("aborted").cause(), Cause::Cancelled));
        let queued = f.call(3);
        drop(queued);
        let last = f.call(3);
        gate.open();
        assert_eq!(last.wait().expect("there is room"), 3);
        assert_eq!(f.status().calls.overloaded, 0);
    });
}

/// 8.6
#[test]
fn a_permit_counts_as_a_call_and_comes_back_when_it_is_dropped() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let f = gated(app, policy, 2, &gate);
        let kept = f.try_reserve().expect("there is room");
        let dropped = f.reserve_blocking().expect("there is room");
        assert!(f.call(1).wait().expect_err("no room").is_overloaded());
        assert!(matches!(f.try_reserve(), Err(ReserveError::Overloaded { calls: 2, max: 2 })));
        let counts = f.status().calls;
        assert_eq!((counts.pending, counts.permits, counts.overloaded), (0, 2, 1));
        drop(dropped);
        let call = f.call(1);
        let reserved = kept.call(2);
        assert!(f.try_reserve().is_err(), "the call has taken the place of its permit");
        gate.open();
        assert_eq!((call.wait().expect("it returns"), reserved.wait().expect("it returns")), (2, 4));
        until("there is room", || f.status().calls.pending == 0);
    });
}

/// 8.6
#[test]
fn those_who_wait_for_room_are_served_in_turn_and_one_that_goes_away_passes_its_place_on() {
    unhung(|| {
        let app = App::ephemeral("calls");
        let f = app.infallible("f", |n: &u64| *n).calls_max(1).started();
        let first = f.try_reserve().expect("there is room");
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(f.reserve())).collect();
        for reserving in &mut waiting {
            assert!(reserving.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(f.status().calls.reserving, 4);
        drop(waiting.remove(2)); // it was granted nothing yet
        drop(first);
        assert!(f.call(1).wait().expect_err("the place is that of a waiter").is_overloaded());
        drop(waiting.remove(0)); // it was granted the place and has not noticed
        assert!(waiting[1].as_mut().poll(&mut cx).is_pending(), "it is behind another one");
        let Poll::Ready(Ok(permit)) = waiting[0].as_mut().poll(&mut cx) else { panic!("it is its turn") };
        assert!(waiting[1].as_mut().poll(&mut cx).is_pending());
        assert_eq!(permit.call(7).wait().expect("it has a place"), 7);
        until("the call has ended", || f.status().calls.pending == 0);
        assert!(matches!(waiting[1].as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    });
}

/// 8.6
#[test]
fn many_callers_with_little_room_all_have_their_turn() {
    under_each_policy(|app, policy| {
        let executing = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&executing);
        let f = app.function("f", move |n: &u64| {
            assert!(now.fetch_add(1, Ordering::SeqCst) < 3, "there are at most three calls");
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, &str>(*n)
        });
        let f = f.containers(4).calls_max(3).restart(policy).started();
        std::thread::scope(|threads| {
            for thread in 0..8 {
                let f = f.clone();
                threads.spawn(move || {
                    for n in 0..200 {
                        let permit = f.reserve_blocking().expect("it takes work");
                        if n % 5 == thread % 5 {
                            drop(permit);
                        } else {
                            assert_eq!(permit.call(n).wait().expect("a permit is never overloaded"), n);
                        }
                    }
                });
            }
        });
        let counts = f.status().calls;
        assert_eq!((counts.pending, counts.permits, counts.reserving, counts.overloaded), (0, 0, 0, 0));
    });
}

/// 8.6
#[test]
fn who_waits_for_room_hears_of_the_end_of_the_function() {
    unhung(|| {
        let app = App::ephemeral("calls");
        let limited = RateLimited::new().max_crashes(0);
        let f = numbers_under(limited, &app, 1, |n| if *n == 0 { crash() } else { *n });
        f.ready().expect("it enters");
        let permits: Vec<_> = std::iter::from_fn(|| (f.status().calls.permits < 4).then(|| f.try_reserve()))
            .map(|permit| permit.expect("there is room"))
            .collect();
        assert!(f.run(vec![0]).is_err());
        let refused = |error: Result<_, ReserveError>| error.expect_err("it takes no work");
        assert!(matches!(refused(f.try_reserve()), ReserveError::GaveUp(_)));
        assert!(matches!(refused(f.reserve_blocking()), ReserveError::GaveUp(_)));
        for permit in permits {
            assert!(permit.call(5).wait().expect_err("it gave up").is_given_up());
        }
        assert!(f.reset());
        assert_eq!(f.status().calls.permits, 0, "the places came back");

        let full = app.infallible("full", |n: &u64| *n).calls_max(1).started();
        let permit = full.try_reserve().expect("there is room");
        let waits = full.clone();
        let thread = std::thread::spawn(move || waits.reserve_blocking().map(drop));
        until("the thread waits", || full.status().calls.reserving == 1);
        full.drain();
        assert!(matches!(thread.join().expect("no panic"), Err(ReserveError::ShutDown)));
        assert!(permit.call(5).wait().expect_err("it drains").is_shut_down());
        assert!(matches!(full.try_reserve(), Err(ReserveError::ShutDown)));
    });
}

/// 8.6
#[test]
fn reserving_blocks_neither_a_container_of_the_function_nor_the_engine() {
    unhung(|| {
        let app = App::ephemeral("calls");
        let own = Arc::new(std::sync::OnceLock::<Numbers>::new());
        let inside = Arc::clone(&own);
        let f = crate::support::numbers(&app, 1, move |n| {
            let f = inside.get().expect("set before the call");
            u64::from(matches!(f.reserve_blocking(), Err(ReserveError::WouldDeadlock))) + n
        });
        own.set(f.clone()).expect("set once");
        assert_eq!(f.call(1).wait().expect("it returns"), 2);
    });
}

/// The outcome of a call that has one.
fn ended<T, C>(waited: Result<T, C>) -> T {
    waited.unwrap_or_else(|_| panic!("there is no outcome"))
}

/// 8.6
#[test]
fn a_wait_with_a_limit_gives_the_call_back_and_the_call_goes_on() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let f = gated(app, policy, 10, &gate);
        let begun = Instant::now();
        let call = f.call(4).wait_timeout(20 * MS).expect_err("it waits at the gate");
        assert!(begun.elapsed() >= 20 * MS);
        let call = call.wait_timeout(Duration::ZERO).expect_err("it still does");
        until("it executes", || f.status().executing == 1);
        gate.open();
        let output = ended(call.wait_timeout(Duration::MAX)).expect("it returns");
        assert_eq!(output, 8);
        assert_eq!(f.snapshot().totals.accepted, 1, "it was executed once");

        let call = f.call(5);
        until("it has ended", || f.status().calls.pending == 0);
        assert_eq!(ended(call.wait_timeout(Duration::ZERO)).expect("it returns"), 10);
        f.drain();
        let refused = ended(f.call(6).wait_timeout(Duration::ZERO));
        assert_eq!(refused.expect_err("it drains").input(), Some(&6));
    });
}

/// 8.6
#[test]
fn a_call_that_was_waited_for_in_vain_can_be_awaited() {
    unhung(|| {
        let app = App::ephemeral("calls");
        let gate = Gate::default();
        let f = gated(&app, RateLimited::never().into(), 10, &gate);
        let mut call = f.call(4).wait_timeout(MS).expect_err("it waits at the gate");
        assert!((&mut call).now_or_never().is_none());
        gate.open();
        assert_eq!(futures::executor::block_on(call).expect("it returns"), 8);
    });
}

/// 8.6
#[test]
fn a_detached_call_goes_on_and_its_outcome_is_dropped() {
    under_each_policy(|app, policy| {
        let (gate, dropped) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, counter) = (gate.clone(), Arc::clone(&dropped));
        let f = app
            .function("f", move |n: &u64| {
                inside.pass();
                if *n == 1 { Err(Counted(Arc::clone(&counter))) } else { Ok(Counted(Arc::clone(&counter))) }
            })
            .containers(1)
            .restart(policy)
            .started();
        for n in 0..3 {
            f.call(n).detach().expect("it is accepted");
        }
        let handle = {
            let call = f.call(3);
            let handle = call.abort_handle();
            call.detach().expect("it is accepted");
            handle
        };
        handle.abort();
        assert_eq!(f.status().calls.pending, 3);
        gate.open();
        f.idle().expect("it becomes idle");
        until("each outcome is dropped", || dropped.load(Ordering::SeqCst) == 3);
        let snapshot = f.snapshot();
        assert_eq!((snapshot.totals.ok, snapshot.totals.failed, snapshot.totals.cancelled), (2, 1, 1));
        until("each call is closed", || f.snapshot().calls.open == 0);
        f.abort();
        assert_eq!(f.call(9).detach().expect_err("it is refused").input(), Some(&9));
    });
}

/// 8.6
#[test]
fn a_detached_call_keeps_its_function_until_it_has_its_outcome() {
    under_each_policy(|app, policy| {
        let (gate, done) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&done));
        let captured = Arc::new(AtomicU64::new(0));
        let held = Counted(Arc::clone(&captured));
        let app = App::ephemeral(app.name());
        let f = app.infallible("f", move |n: &u64| {
            let _ = &held;
            inside.pass();
            count.fetch_add(*n, Ordering::SeqCst);
        });
        let f = f.containers(1).restart(policy).started();
        f.call(5).detach().expect("it is accepted");
        drop((f, app));
        gate.open();
        until("it is executed", || done.load(Ordering::SeqCst) == 5);
        until("the function has ended", || captured.load(Ordering::SeqCst) == 1);
    });
}

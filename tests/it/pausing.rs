//! Paused functions: nothing new is dispatched, and all else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use actix::System;
use longshore::actor::{Pause, Resume};
use longshore::snapshot::Happening;
use longshore::{App, Event, Health, RateLimited, Retries};

use crate::support::{
    Gate, Numbers, Started, attempt, crash, numbers, numbers_under, under_each_policy, unhung, until,
};

/// 8.8
#[test]
fn a_pause_lets_what_executes_finish_and_begins_nothing_of_what_was_leased_ahead() {
    under_each_policy(|app, policy| {
        let (gate, begun) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&begun));
        let f = numbers_under(policy, app, 1, move |n| {
            count.fetch_add(1, Ordering::SeqCst);
            if *n == 50 {
                inside.pass();
            }
            *n
        });
        // The inputs cost nothing, so the container has leased many of them when it comes to the gate.
        let mut outcomes = f.map(0..200).window(200).into_iter();
        assert!(outcomes.next().is_some());
        until("it is at the gate", || begun.load(Ordering::SeqCst) == 51);
        assert!(f.pause());
        assert!(f.pause(), "it is paused now, too");
        let call = f.call(7);
        gate.open();
        until("nothing executes", || f.status().executing == 0);
        let status = f.status();
        assert!(status.paused);
        assert_eq!(begun.load(Ordering::SeqCst), 51, "only what executed was finished");
        assert_eq!(status.inputs_waiting, 200 - 51 + 1);
        let call = call.wait_timeout(Duration::from_millis(10)).expect_err("it waits");
        assert_eq!(begun.load(Ordering::SeqCst), 51);
        assert!(f.resume());
        assert!(!f.resume(), "it was resumed before");
        assert_eq!(call.wait().expect("it goes on"), 7);
        let rest: Vec<u64> = outcomes.map(|outcome| outcome.expect("it goes on")).collect();
        assert_eq!(rest, (1..200).collect::<Vec<_>>());
        assert_eq!(begun.load(Ordering::SeqCst), 201, "each input was executed once");
    });
}

/// 8.8
#[test]
fn sources_are_pulled_until_the_window_is_full() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        assert!(f.pause());
        let pulled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&pulled);
        let source = std::iter::from_fn(move || Some(count.fetch_add(1, Ordering::SeqCst)));
        let mut map = Box::pin(f.map(source).window(20));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(futures::Stream::poll_next(map.as_mut(), &mut cx).is_pending());
        until("the window is full", || pulled.load(Ordering::SeqCst) == 20);
        until("they wait", || f.status().inputs_waiting == 20);
        assert_eq!(f.status().executing, 0);
        assert!(f.resume());
        let map = std::pin::Pin::into_inner(map);
        let outputs: Vec<u64> = map.into_iter().take(50).map(|outcome| outcome.expect("it works")).collect();
        assert_eq!(outputs, (0..50).collect::<Vec<_>>());
    });
}

/// 8.8
#[test]
fn ready_waits_for_the_end_of_a_pause_and_containers_enter_meanwhile() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| *n);
        f.pause();
        until("they enter", || f.status().containers.live == 2);
        let mut cx = Context::from_waker(Waker::noop());
        let mut ready = Box::pin(f.ready_async());
        assert!(ready.as_mut().poll(&mut cx).is_pending());
        let waits = f.clone();
        let thread = std::thread::spawn(move || waits.ready_all());
        f.resume();
        assert!(thread.join().expect("no panic").is_ok());
        assert!(ready.as_mut().poll(&mut cx).is_ready());
    });
}

/// 8.8
#[test]
fn retries_and_replays_wait_too() {
    under_each_policy(|app, policy| {
        let (gate, begun) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&begun));
        let f = app.function("f", move |n: &u64| {
            count.fetch_add(1, Ordering::SeqCst);
            inside.pass();
            match (attempt(), n) {
                (1, 0) => Err("once"),
                (1, _) => crash(),
                _ => Ok(*n),
            }
        });
        let f = f.containers(2).retries(Retries::new(1).initial_delay(Duration::ZERO)).restart(policy);
        let f = f.started();
        let calls = [f.call(0), f.call(1)];
        until("both execute", || begun.load(Ordering::SeqCst) == 2);
        f.pause();
        gate.open();
        until("one failed and one crashed", || {
            let inputs = f.snapshot().inputs;
            (inputs.retry, inputs.replay) == (1, 1)
        });
        until("the container is back", || f.status().containers.live == 2);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        f.resume();
        let outputs = calls.map(|call| call.wait().expect("it works the second time"));
        assert_eq!(outputs, [0, 1]);
    });
}

/// 8.8
#[test]
fn a_drain_ends_a_pause_and_stop_and_abort_work_as_ever() {
    under_each_policy(|app, policy| {
        let named = |name| {
            let f = app.infallible(name, |n: &u64| *n).containers(1).restart(policy.clone()).started();
            assert!(f.pause());
            let calls: Vec<_> = (0..5).map(|n| f.call(n)).collect();
            (f, calls)
        };
        let (drains, calls) = named("drains");
        drains.drain();
        assert!(!drains.status().paused && !drains.pause(), "a function that ends is not paused");
        assert!(calls.into_iter().all(|call| call.wait().is_ok()), "a drain finishes what was accepted");
        for (name, end) in [("stops", Numbers::stop as fn(&Numbers)), ("aborts", Numbers::abort)] {
            let (f, calls) = named(name);
            end(&f);
            for (n, call) in calls.into_iter().enumerate() {
                let failure = call.wait().expect_err("it comes back");
                assert!(failure.is_shut_down() && failure.input() == Some(&(n as u64)), "{failure:?}");
            }
        }
    });
}

/// 8.8
#[test]
fn a_paused_function_gives_up_and_a_reset_resumes_it() {
    unhung(|| {
        let app = App::ephemeral("pausing");
        let (gate, limited) = (Gate::default(), RateLimited::new().max_crashes(0));
        let inside = gate.clone();
        let f = numbers_under(limited, &app, 1, move |n| {
            inside.pass();
            if *n == 0 { crash() } else { *n }
        });
        let mut events = f.events();
        let (crashes, waits) = (f.call(0), f.call(1));
        until("it executes", || f.status().executing == 1);
        assert!(f.pause());
        assert_eq!(f.snapshot().health, Health::Serving);
        gate.open();
        assert!(crashes.wait().expect_err("it crashes").deaths().next().is_some());
        assert!(waits.wait().expect_err("it gave up").is_given_up());
        assert!(f.status().paused, "until it is reset");
        assert!(f.reset());
        assert!(!f.status().paused);
        assert_eq!(f.call(2).wait().expect("it takes work again"), 2);
        let told: Vec<Event> = std::iter::from_fn(|| events.try_next()).collect();
        let count = |is: fn(&Event) -> bool| told.iter().filter(|event| is(event)).count();
        assert_eq!(count(|event| matches!(event, Event::Paused)), 1);
        assert_eq!(count(|event| matches!(event, Event::Resumed)), 1);
        let log = f.snapshot().log;
        assert!(log.iter().any(|line| line.what == Happening::Paused));
        assert!(log.iter().any(|line| line.what == Happening::Resumed));
    });
}

/// 8.8
#[test]
fn a_function_is_paused_and_resumed_without_its_types_and_by_message() {
    unhung(|| {
        let app = App::ephemeral("pausing");
        let f = numbers(&app, 1, |n| *n);
        let untyped = f.untyped();
        assert!(untyped.pause() && f.status().paused);
        let text = f.snapshot().to_string();
        assert!(
            text.contains("f: ") && text.lines().next().is_some_and(|line| line.contains("paused")),
            "{text}"
        );
        assert!(f.status().to_string().contains("; paused"));
        assert!(untyped.resume() && !untyped.resume());
        System::new().block_on(async {
            let supervisor = f.supervisor();
            assert!(supervisor.send(Pause).await.expect("it lives"));
            assert!(f.status().paused);
            assert!(supervisor.send(Resume).await.expect("it lives"));
            assert!(!supervisor.send(Resume).await.expect("it lives"), "it was not paused");
        });
        assert_eq!(f.call(3).wait().expect("it goes on"), 3);
        f.abort();
        drop((f, app));
        until("it is gone", || untyped.is_gone());
        assert!(!untyped.pause() && !untyped.resume());
    });
}

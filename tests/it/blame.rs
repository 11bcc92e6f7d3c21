//! The input that is blamed for a crash, and how much poisoned inputs slow a function down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use longshore::{Cause, Death, RateLimited};

use crate::support::{
    Gate, Started, attempt, crash, numbers, numbers_under, under_each_policy, unhung, until,
};

#[test]
fn an_input_that_always_crashes_is_poisoned_with_every_death_and_the_others_go_on() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 2, |n| {
            if n % 100 == 13 { panic!("poison {n}, {}", attempt()) } else { *n }
        });
        let all = f.run_all((0..1_000).collect());
        assert_eq!(all.len(), 1_000);
        for (n, outcome) in (0..).zip(&all) {
            match outcome {
                Ok(output) => assert_eq!(*output, n),
                Err(failure) => {
                    assert_eq!(n % 100, 13, "the input ends in 13");
                    assert_eq!(failure.index(), Some(n), "index");
                    assert_eq!(failure.input(), Some(&n), "input");
                    assert_eq!(failure.attempts(), 4, "crash_retries is 3 by default");
                    let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure:?}") };
                    let told: Vec<String> = deaths
                        .iter()
                        .map(|crash| match &crash.death {
                            Death::Panicked(panic) => panic.message().to_owned(),
                            other => format!("{other:?}"),
                        })
                        .collect();
                    assert_eq!(told, [1, 2, 3, 4].map(|attempt| format!("poison {n}, {attempt}")));
                    assert!(deaths.iter().all(|crash| crash.executing.map(|(input, _)| input) == Some(n)));
                }
            }
        }
        assert_eq!(all.iter().filter(|outcome| outcome.is_err()).count(), 10);
    });
}

#[test]
fn at_most_eight_deaths_are_kept() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |(): &()| crash()).crash_retries(20).restart(policy).started();
        let failure = f.call(()).wait().expect_err("poisoned");
        let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure:?}") };
        assert_eq!(failure.attempts(), 21, "attempts");
        assert_eq!(deaths.len(), 8, "deaths");
        let attempts: Vec<u32> = deaths.iter().filter_map(|crash| Some(crash.executing?.1.get())).collect();
        assert_eq!(attempts, [1, 2, 3, 4, 5, 6, 7, 8], "the oldest are kept");
    });
}

#[test]
fn only_the_executing_input_is_blamed() {
    under_each_policy(|app, policy| {
        // The only container leases the inputs behind the culprit together with it.
        let attempts = Arc::new(AtomicU64::new(0));
        let most = Arc::clone(&attempts);
        let f = numbers_under(policy, app, 1, move |n| {
            if n % 10 == 5 {
                crash();
            }
            most.fetch_max(u64::from(attempt()), Ordering::SeqCst)
        });
        let progress = f.for_each(0..500u64).expect("the function goes on");
        assert_eq!(progress.ok, 450, "ok inputs");
        assert_eq!(progress.poisoned, 50, "poisoned inputs");
        assert_eq!(progress.replayed, 150, "replayed inputs");
        assert_eq!(attempts.load(Ordering::SeqCst), 1, "an innocent input is executed once");
    });
}

#[test]
fn known_suspects_are_replayed_by_one_container_at_a_time() {
    under_each_policy(|app, policy| {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
        let f = numbers_under(policy, app, 4, move |n| {
            if !n.is_multiple_of(20) {
                return *n;
            }
            if attempt() > 1 {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            }
            crash()
        });
        let progress = f.for_each(0..1_000u64).expect("the function goes on");
        assert_eq!(progress.poisoned, 50);
        assert_eq!(running.load(Ordering::SeqCst), 0, "replays that still run");
        assert_eq!(most.load(Ordering::SeqCst), 1, "most replays at a time");
    });
}

#[test]
fn two_percent_of_poison_trips_neither_policy_of_an_app() {
    for app in [longshore::App::ephemeral("poison"), longshore::App::deployed("poison")] {
        unhung(move || {
            let f = numbers(&app, 2, |n| if n % 50 == 49 { crash() } else { *n });
            let progress = f.for_each(0..3_000u64).expect("the function goes on");
            assert_eq!(progress.ok, 2_940, "ok inputs");
            assert_eq!(progress.poisoned, 60, "poisoned inputs");
        });
    }
}

#[test]
fn calls_go_first_then_replays_then_new_inputs() {
    unhung(|| {
        let app = longshore::App::ephemeral("order");
        let (gate, begun) = (Gate::default(), Gate::default());
        let (inside, told) = (gate.clone(), begun.clone());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        let f = numbers_under(RateLimited::never(), &app, 1, move |n| {
            seen.lock().expect("not poisoned").push((*n, attempt()));
            if *n == 0 && attempt() == 1 {
                told.open();
                inside.pass();
                crash();
            }
            *n
        });
        let handle = f.clone();
        let mapped = std::thread::spawn(move || handle.map(0..10u64).window(4).into_iter().count());
        begun.pass();
        let call = f.call(100);
        until("the call is queued", || f.status().inputs_waiting > 0);
        gate.open();
        call.wait().expect("it runs");
        assert_eq!(mapped.join().expect("no panic"), 10);
        let order = order.lock().expect("not poisoned");
        assert_eq!(order[..3], [(0, 1), (100, 1), (0, 2)], "{order:?}");
        let all: BTreeSet<u64> = order.iter().map(|(n, _)| *n).collect();
        assert_eq!(all.len(), 11);
    });
}

#[test]
fn a_cancelled_suspect_that_crashes_again_does_not_count_as_a_loop_crash() {
    unhung(|| {
        let app = longshore::App::deployed("cancelled");
        let (begun, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (begun.clone(), gate.clone());
        let f = numbers(&app, 1, move |n| {
            if *n == 1 {
                if attempt() == 2 {
                    told.open();
                    inside.pass();
                }
                crash()
            }
            *n
        });
        let call = f.call(1);
        begun.pass();
        let loop_crashes = || f.status().crash_loop.map(|crash_loop| crash_loop.crashes);
        assert_eq!(loop_crashes(), Some(1), "nothing was completed before the first crash");
        drop(call);
        gate.open();
        until("the input has crashed again", || f.status().crashes == 2);
        assert_eq!(loop_crashes(), Some(1), "a crash of a known suspect is no loop crash");
        assert_eq!(f.call(2).wait().expect("the container is back"), 2);
    });
}

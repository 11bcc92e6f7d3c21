//! Inputs whose deadlines pass, and what shows the limits of time.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use longshore::actor::CallInput;
use longshore::{App, Builder, Cause, Event, Function, Health, Limits, RateLimited, Retries};

use crate::support::{Gate, Started, unhung, until};

const MS: Duration = Duration::from_millis(1);

/// Runs a test in an app of its own, and fails if it hangs.
fn in_an_app(test: impl FnOnce(App) + Send + 'static) {
    unhung(|| test(App::ephemeral("deadlines")));
}

/// A function with one container, whose code waits for ever.
fn waits(app: &App) -> Builder<u64, u64, Infallible> {
    app.function_async("waits", async |_: &u64| pending().await).containers(1)
}

fn is_past_deadline(f: &Function<u64, u64, Infallible>, input: u64, limit: Duration) -> u32 {
    let failure = f.call_within(input, Limits::new().deadline(limit)).wait().expect_err("it is past it");
    assert!(
        matches!(failure.cause(), Cause::DeadlineExceeded { limit: of, last: None } if *of == limit),
        "{failure:?}"
    );
    assert_eq!(failure.input(), Some(&input));
    failure.attempts()
}

#[test]
fn what_executes_and_what_is_queued_behind_it_ends_at_its_deadline() {
    in_an_app(|app| {
        let f = waits(&app).started();
        let first = f.call(1);
        until("it executes", || f.status().executing == 1);
        assert_eq!(is_past_deadline(&f, 2, 10 * MS), 0, "it never began");
        first.abort_handle().abort();
        assert!(first.wait().is_err());
        assert_eq!(is_past_deadline(&f, 3, 10 * MS), 1, "it was executing");
        assert_eq!((f.status().crashes, f.snapshot().totals.past_deadline), (0, 2));
    });
}

#[test]
fn a_map_that_no_container_takes_ends_at_its_deadline() {
    in_an_app(|app| {
        let f = waits(&app).started();
        let blocks = f.call(1);
        until("it executes", || f.status().executing == 1);
        let outcomes: Vec<_> =
            f.map(0..100).window(40).deadline(20 * MS).return_exceptions().into_iter().collect();
        assert_eq!(outcomes.len(), 100);
        assert!(
            outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|failure| failure.is_past_deadline()))
        );
        let slow = std::iter::from_fn({
            let mut left = 5;
            move || {
                left -= 1;
                (left >= 0).then_some(7)
            }
        });
        let outcomes: Vec<_> = f.map(slow).deadline(20 * MS).return_exceptions().into_iter().collect();
        assert_eq!(outcomes.len(), 5, "a source that a feeder pulls");
        drop(blocks);
    });
}

#[test]
fn the_error_of_the_last_attempt_is_shown() {
    in_an_app(|app| {
        let f = app
            .function("fails", |_: &u64| Err::<u64, _>("busy"))
            .retries(Retries::new(9).initial_delay(20 * MS).backoff_coefficient(1.0))
            .deadline(30 * MS)
            .started();
        let failure = f.call(1).wait().expect_err("it fails");
        assert!(matches!(failure.cause(), Cause::DeadlineExceeded { last: Some("busy"), .. }), "{failure:?}");
        assert_eq!((failure.error(), failure.attempts()), (Some(&"busy"), 2));
        assert_eq!(
            failure.to_string(),
            "input 0 has no outcome 30ms after it was accepted, after 2 attempts: busy"
        );
    });
}

#[test]
fn an_enter_that_takes_too_long_is_left_behind_and_tried_again() {
    in_an_app(|app| {
        let gate = Gate::default();
        let held = gate.clone();
        let first = std::sync::atomic::AtomicBool::new(true);
        let f = app
            .worker("slow", move |_: &longshore::Context| {
                if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                    held.pass();
                }
                Ok::<_, longshore::BoxError>(Doubles)
            })
            .containers(1)
            .enter_timeout(20 * MS)
            .restart(RateLimited::never())
            .started();
        assert_eq!(f.call(2).wait().expect("the second start succeeds"), 4);
        let (_, crash) = f.status().last_crash.expect("the first start failed");
        assert!(matches!(crash.death, longshore::Death::EnterTimedOut { limit, .. } if limit == 20 * MS));
        assert_eq!(f.status().containers.abandoned, 1);
        gate.open();
        until("the thread has ended", || f.status().containers.abandoned == 0);
    });
}

struct Doubles;

impl longshore::Worker for Doubles {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &longshore::Context) -> Result<u64, Infallible> {
        Ok(2 * input)
    }
}

#[test]
fn a_call_by_message_has_its_limits_and_each_cut_is_an_event() {
    in_an_app(|app| {
        let f = waits(&app).retries(Retries::new(1).initial_delay(Duration::ZERO)).started();
        let mut events = f.events();
        let limits = Limits::new().timeout(10 * MS);
        let failure = futures::executor::block_on(f.supervisor().send(CallInput::new(5).within(limits)))
            .expect("the supervisor lives")
            .expect_err("it times out");
        assert!(failure.is_timed_out() && failure.attempts() == 2, "{failure:?}");
        let cuts = futures::executor::block_on(async {
            let mut cuts = Vec::new();
            while cuts.len() < 2 {
                let event = futures::StreamExt::next(&mut events).await.expect("the function lives");
                if let Event::TimedOut { call, attempt, limit, is_deadline, is_retried, .. } = event {
                    cuts.push((call, attempt.get(), limit, is_deadline, is_retried));
                }
            }
            cuts
        });
        assert_eq!(cuts, [(Some(1), 1, 10 * MS, false, true), (Some(1), 2, 10 * MS, false, false)]);
        let totals = f.snapshot().totals;
        assert_eq!((totals.timed_out, totals.failed, totals.retried), (2, 1, 1));
    });
}

#[test]
fn a_function_whose_containers_all_hang_says_that_it_is_exhausted() {
    in_an_app(|app| {
        let gate = Gate::default();
        let held = gate.clone();
        let f = app
            .infallible("stuck", move |_: &u64| held.pass())
            .containers(2)
            .abandoned_max(1)
            .timeout(5 * MS)
            .restart(RateLimited::never())
            .started();
        f.ready_all().expect("all containers enter");
        let calls = [f.call(1), f.call(2)];
        assert!(calls.into_iter().all(|call| call.wait().expect_err("it hangs").is_timed_out()));
        until("no container is left", || f.snapshot().health == Health::Exhausted);
        let waits = f.call_within(3, Limits::new().deadline(10 * MS)).wait().expect_err("deadlines run");
        assert!(waits.is_past_deadline() && waits.attempts() == 0, "{waits:?}");
        let containers = f.status().containers;
        assert_eq!((containers.abandoned, containers.hung, containers.live), (1, 1, 1));
        gate.open();
        until("it serves again", || f.snapshot().health == Health::Serving);
    });
}

//! Attempts that take longer than their timeout.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore::{
    App, AsyncWorker, BoxError, Builder, Cause, ConcurrentWorker, Context, Death, Limits, Previous,
    RateLimited, Retries, Worker,
};

use crate::support::{Gate, Started, unhung, until};

const MS: Duration = Duration::from_millis(1);

/// The input for which the code of these tests does not return in time.
const SLOW: u64 = 666;

/// Runs a test in an app of its own, and fails if it hangs.
fn in_an_app(test: impl FnOnce(App) + Send + 'static) {
    unhung(|| test(App::ephemeral("timeouts")));
}

/// Passes checkpoints until one of them unwinds.
fn passes_checkpoints() -> ! {
    loop {
        Context::checkpoint();
        std::thread::yield_now();
    }
}

/// A function that never returns for [`SLOW`], and passes checkpoints meanwhile.
fn checks(app: &App) -> Builder<u64, u64, Infallible> {
    app.function("checks", |n: &u64| {
        if *n == SLOW {
            passes_checkpoints();
        }
        Ok(*n)
    })
    .containers(1)
    .timeout(20 * MS)
}

/// A function that waits for ever for [`SLOW`].
fn waits(app: &App) -> Builder<u64, u64, Infallible> {
    let code = async |n: &u64| {
        if *n == SLOW {
            pending::<()>().await;
        }
        Ok(*n)
    };
    app.function_async("waits", code).containers(1).timeout(20 * MS)
}

/// A function that waits at `gate` for [`SLOW`], and passes no checkpoint.
fn stuck(app: &App, gate: &Gate) -> Builder<u64, u64, Infallible> {
    let gate = gate.clone();
    app.function("stuck", move |n: &u64| {
        if *n == SLOW {
            gate.pass();
        }
        Ok(*n)
    })
}

#[test]
fn code_that_waits_is_dropped_at_its_limit_and_its_container_lives_on() {
    in_an_app(|app| {
        let f = waits(&app).started();
        let begun = Instant::now();
        let failure = f.call(SLOW).wait().expect_err("it times out");
        assert!(begun.elapsed() >= 20 * MS);
        assert!(matches!(failure.cause(), Cause::TimedOut { limit } if *limit == 20 * MS), "{failure:?}");
        assert_eq!((failure.input(), failure.attempts()), (Some(&SLOW), 1));
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        let status = f.status();
        assert_eq!((status.crashes, status.restarts, status.containers.abandoned), (0, 0, 0));
    });
}

#[test]
fn code_with_checkpoints_unwinds_at_its_limit_and_its_container_lives_on() {
    in_an_app(|app| {
        let f = checks(&app).started();
        for _ in 0..3 {
            assert!(f.call(SLOW).wait().expect_err("it times out").is_timed_out());
            assert_eq!(f.call(1).wait().expect("infallible"), 1);
        }
        let status = f.status();
        assert_eq!((status.crashes, status.restarts, status.containers.abandoned), (0, 0, 0));
    });
}

#[test]
fn code_that_is_stuck_is_left_behind_and_is_a_crash_of_its_container_and_not_of_its_input() {
    in_an_app(|app| {
        let gate = Gate::default();
        let f = stuck(&app, &gate).containers(1).timeout(20 * MS).restart(RateLimited::never()).started();
        let failure = f.call(SLOW).wait().expect_err("it times out");
        assert!(failure.is_timed_out() && failure.deaths().count() == 0, "{failure:?}");
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        let status = f.status();
        assert_eq!((status.crashes, status.containers.abandoned), (1, 1));
        let (_, crash) = status.last_crash.expect("there was a crash");
        assert!(matches!(crash.death, Death::Unresponsive), "{crash}");
        assert_eq!(crash.executing.map(|(input, _)| input), Some(0));
        gate.open();
        until("the thread that was left behind has ended", || f.status().containers.abandoned == 0);
        assert_eq!(f.status().late_answers, 1);
    });
}

#[test]
fn an_input_that_leaves_two_threads_behind_ends_as_timed_out() {
    in_an_app(|app| {
        let gate = Gate::default();
        let f = stuck(&app, &gate)
            .containers(1)
            .timeout(5 * MS)
            .retries(Retries::new(9).initial_delay(Duration::ZERO))
            .restart(RateLimited::never())
            .started();
        let failure = f.call(SLOW).wait().expect_err("it times out");
        assert!(failure.is_timed_out(), "{failure:?}");
        assert_eq!(failure.attempts(), 2);
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_eq!(f.status().containers.abandoned, 2);
        gate.open();
    });
}

#[test]
fn a_time_out_spends_a_retry_and_the_next_attempt_sees_it() {
    in_an_app(|app| {
        let f = app
            .function_async("once", async |_: &u64| {
                let context = Context::current().expect("in a container");
                if context.attempt().get() == 1 {
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(matches!(context.previous(), Some(Previous::TimedOut)))
            })
            .timeout(10 * MS)
            .retry_if(|never| match *never {})
            .retries(Retries::new(1).initial_delay(30 * MS))
            .started();
        let begun = Instant::now();
        assert!(f.call(1).wait().expect("the second attempt returns"), "it sees why the first one ended");
        assert!(begun.elapsed() >= 40 * MS, "the delay of the policy is waited for");
    });
}

#[test]
fn a_time_out_is_final_where_time_outs_are_not_retried() {
    in_an_app(|app| {
        let f = waits(&app).retries(5).retry_timeouts(false).started();
        let failure = f.call(SLOW).wait().expect_err("it times out");
        assert!(failure.is_timed_out() && failure.attempts() == 1, "{failure:?}");
    });
}

#[test]
fn one_future_among_many_times_out_and_the_others_go_on() {
    in_an_app(|app| {
        let gate = Gate::default();
        let held = gate.clone();
        let f = app
            .function_async("many", async move |n: &u64| {
                if *n == SLOW {
                    pending::<()>().await;
                }
                held.passed().await;
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(8)
            .started();
        let others: Vec<_> = (0..7).map(|n| f.call(n)).collect();
        let slow = f.call_within(SLOW, Limits::new().timeout(10 * MS));
        assert!(slow.wait().expect_err("it times out").is_timed_out());
        assert_eq!(f.status().executing, 7, "the others are in flight");
        gate.open();
        for (n, other) in others.into_iter().enumerate() {
            assert_eq!(other.wait().expect("infallible"), n as u64);
        }
        let status = f.status();
        assert_eq!((status.crashes, status.restarts, f.snapshot().totals.replayed), (0, 0, 0));
    });
}

#[test]
fn the_others_in_flight_are_innocent_of_a_poll_that_does_not_return() {
    in_an_app(|app| {
        let gate = Gate::default();
        let held = gate.clone();
        let f = app
            .function_async("stuck", async move |n: &u64| {
                if *n == SLOW {
                    held.pass();
                } else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(4)
            .restart(RateLimited::never())
            .started();
        let others: Vec<_> = (0..3).map(|n| f.call(n)).collect();
        let slow = f.call_within(SLOW, Limits::new().timeout(20 * MS));
        assert!(slow.wait().expect_err("it times out").is_timed_out());
        for (n, other) in others.into_iter().enumerate() {
            assert_eq!(other.wait().expect("infallible"), n as u64);
        }
        assert_eq!(f.status().crashes, 1);
        assert!(matches!(f.status().last_crash.expect("a crash").1.death, Death::Unresponsive));
        gate.open();
    });
}

/// The number of times that workers were entered and exited.
#[derive(Default)]
struct Lives {
    entered: AtomicU32,
    exited: AtomicU32,
}

struct Checks(Arc<Lives>);

impl Worker for Checks {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        if *input == SLOW {
            passes_checkpoints();
        }
        Ok(*input)
    }

    fn exit(self, _: &Context) {
        self.0.exited.fetch_add(1, Ordering::SeqCst);
    }
}

struct Waits(Arc<Lives>);

impl AsyncWorker for Waits {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        if *input == SLOW {
            pending::<()>().await;
        }
        Ok(*input)
    }

    async fn exit(self, _: &Context) {
        self.0.exited.fetch_add(1, Ordering::SeqCst);
    }
}

struct Shared;

impl ConcurrentWorker for Shared {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn call(&self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        if *input == SLOW {
            pending::<()>().await;
        }
        Ok(*input)
    }
}

/// A function over each kind of worker that has `&mut self`, and the lives of its workers.
fn workers(app: &App) -> [(Builder<u64, u64, Infallible>, Arc<Lives>); 2] {
    let [checks, waits] = [Arc::<Lives>::default(), Arc::<Lives>::default()];
    let (of_checks, of_waits) = (Arc::clone(&checks), Arc::clone(&waits));
    let enter = move |_: &Context| {
        of_checks.entered.fetch_add(1, Ordering::SeqCst);
        Ok::<_, BoxError>(Checks(Arc::clone(&of_checks)))
    };
    let enter_async = async move |_: &Context| {
        of_waits.entered.fetch_add(1, Ordering::SeqCst);
        Ok::<_, BoxError>(Waits(Arc::clone(&of_waits)))
    };
    [
        (app.worker("checks", enter).containers(1).timeout(10 * MS), checks),
        (app.worker_async("waits", enter_async).containers(1).timeout(10 * MS), waits),
    ]
}

#[test]
fn a_worker_is_entered_anew_after_a_time_out_without_an_exit_or_a_crash() {
    in_an_app(|app| {
        for (worker, lives) in workers(&app) {
            let f = worker.started();
            assert!(f.call(SLOW).wait().expect_err("it times out").is_timed_out());
            assert_eq!(f.call(1).wait().expect("infallible"), 1);
            assert_eq!(lives.entered.load(Ordering::SeqCst), 2, "{}", f.name());
            assert_eq!(lives.exited.load(Ordering::SeqCst), 0, "{}", f.name());
            assert_eq!(f.status().crashes, 0);
        }
    });
}

#[test]
fn an_async_worker_is_entered_anew_after_its_call_was_cancelled() {
    in_an_app(|app| {
        for (worker, lives) in workers(&app) {
            let f = worker.timeout(Duration::from_secs(60)).started();
            let call = f.call(SLOW);
            until("it executes", || f.status().executing == 1);
            drop(call);
            assert_eq!(f.call(1).wait().expect("infallible"), 1);
            assert_eq!(lives.entered.load(Ordering::SeqCst), 2, "{}", f.name());
            assert_eq!(f.status().crashes, 0);
        }
    });
}

#[test]
fn an_interrupted_worker_is_kept_where_its_code_allows_it() {
    in_an_app(|app| {
        for (worker, lives) in workers(&app) {
            let f = worker.keep_interrupted().started();
            for _ in 0..3 {
                assert!(f.call(SLOW).wait().expect_err("it times out").is_timed_out());
                assert_eq!(f.call(1).wait().expect("infallible"), 1);
            }
            assert_eq!(lives.entered.load(Ordering::SeqCst), 1, "{}", f.name());
        }
    });
}

#[test]
fn a_worker_that_is_shared_lives_on() {
    in_an_app(|app| {
        let entered = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&entered);
        let enter = async move |_: &Context| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(Shared)
        };
        let f = app.worker_concurrent("shared", enter).containers(1).timeout(10 * MS).started();
        assert!(f.call(SLOW).wait().expect_err("it times out").is_timed_out());
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_eq!(entered.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_map_that_overrides_the_limit_has_its_own() {
    in_an_app(|app| {
        let f = waits(&app).timeout(Duration::from_secs(60)).concurrent_inputs(4).started();
        let outcomes: Vec<_> =
            f.map(vec![1, SLOW, 2]).timeout(10 * MS).return_exceptions().into_iter().collect();
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert!(outcomes[1].as_ref().expect_err("it times out").is_timed_out());
        let refused = f.map(vec![1]).timeout(Duration::ZERO).into_iter().next().expect("an error");
        assert!(matches!(refused.expect_err("refused").cause(), Cause::Config(_)));
        let refused = f.call_within(1, Limits::new().deadline(Duration::ZERO)).wait().expect_err("refused");
        assert!(matches!(refused.cause(), Cause::Config(_)) && refused.input() == Some(&1));
    });
}

#[test]
fn the_slow_input_of_a_long_lease_times_out_and_those_around_it_do_not() {
    in_an_app(|app| {
        let f = checks(&app).started();
        let inputs: Vec<u64> = (0..40_000).map(|n| if n == 30_000 { SLOW } else { 1 }).collect();
        let outcomes = f.run_all(inputs);
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!((failed[0].index(), failed[0].is_timed_out()), (Some(30_000), true));
    });
}

#[test]
fn code_can_see_that_its_attempt_has_timed_out_or_is_past_its_deadline() {
    in_an_app(|app| {
        let f = app
            .function("polls", |_: &u64| {
                let context = Context::current().expect("in a container");
                while !context.is_cancelled() {
                    std::thread::yield_now();
                }
                Ok::<_, Infallible>(())
            })
            .containers(1)
            .started();
        let failure = f.call_within(1, Limits::new().timeout(10 * MS)).wait().expect_err("it is too late");
        assert!(failure.is_timed_out(), "{failure:?}");
        until("its answer was refused", || f.status().late_answers == 1);
        let failure = f.call_within(1, Limits::new().deadline(10 * MS)).wait().expect_err("it is too late");
        assert!(failure.is_past_deadline(), "{failure:?}");
        until("its answer was refused", || f.status().late_answers == 2);
        assert_eq!(f.status().crashes, 0, "it has come out in time");
    });
}

#[test]
fn a_checkpoint_unwinds_past_a_deadline_and_the_container_lives_on() {
    in_an_app(|app| {
        let f = checks(&app).timeout(Duration::from_secs(60)).started();
        let failure = f.call_within(SLOW, Limits::new().deadline(10 * MS)).wait().expect_err("it is past it");
        assert!(failure.is_past_deadline() && failure.attempts() == 1, "{failure:?}");
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_eq!((f.status().crashes, f.status().containers.abandoned), (0, 0));
    });
}

#[test]
fn a_spawned_task_that_does_not_return_is_a_crash_of_its_container_and_all_in_flight_are_innocent() {
    in_an_app(|app| {
        let gate = Gate::default();
        let held = gate.clone();
        let f = app
            .function_async("spawns", async move |n: &u64| {
                let attempt = Context::current().expect("in a container").attempt().get();
                if *n == SLOW && attempt == 1 {
                    let held = held.clone();
                    drop(tokio::task::spawn_local(async move { held.pass() }));
                    pending::<()>().await;
                }
                tokio::time::sleep(5 * MS).await;
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(4)
            .timeout(20 * MS)
            .retries(Retries::new(1).initial_delay(Duration::ZERO))
            .crash_retries(1)
            .restart(RateLimited::never())
            .started();
        let calls: Vec<_> = [SLOW, 1, 2, 3].into_iter().map(|n| (n, f.call(n))).collect();
        for (n, call) in calls {
            assert_eq!(call.wait().expect("nothing is held against it"), n);
        }
        assert_eq!(f.status().crashes, 1);
        let (_, crash) = f.status().last_crash.expect("there was a crash");
        assert!(matches!(crash.death, Death::Unresponsive), "{crash}");
        assert_eq!((crash.executing, f.snapshot().totals.poisoned), (None, 0), "{crash}");
        gate.open();
    });
}

#[test]
fn at_the_bound_of_abandoned_threads_a_container_that_hangs_is_kept_and_not_replaced() {
    in_an_app(|app| {
        let gate = Gate::default();
        let f = stuck(&app, &gate)
            .containers(3)
            .abandoned_max(1)
            .timeout(5 * MS)
            .restart(RateLimited::never())
            .started();
        f.ready_all().expect("all containers enter");
        let calls: Vec<_> = (0..2).map(|_| f.call(SLOW)).collect();
        for call in calls {
            assert!(call.wait().expect_err("it times out").is_timed_out());
        }
        until("one is left behind", || f.status().containers.abandoned == 1);
        until("the other one is kept", || f.status().containers.live == 2);
        assert_eq!(f.call(1).wait().expect("infallible"), 1, "the third one works");
        assert_eq!(f.status().crashes, 1);
        gate.open();
        until("both come back", || f.status().containers.abandoned == 0 && f.status().containers.live == 3);
        assert_eq!(f.run((0..100).collect()).expect("infallible").len(), 100);
    });
}

#[test]
fn a_function_with_limited_restarts_gives_up_once_all_its_containers_hang() {
    in_an_app(|app| {
        let gate = Gate::default();
        let f = stuck(&app, &gate)
            .containers(2)
            .abandoned_max(1)
            .timeout(5 * MS)
            .restart(RateLimited::new())
            .started();
        f.ready_all().expect("all containers enter");
        let waits: Vec<_> = (0..5).map(|_| f.call(SLOW)).collect();
        let failures: Vec<_> = waits.into_iter().map(|call| call.wait().expect_err("it hangs")).collect();
        assert!(failures.iter().all(|failure| failure.is_timed_out() || failure.is_given_up()));
        assert_eq!(failures.iter().filter(|failure| failure.is_given_up()).count(), 3);
        gate.open();
    });
}

#[test]
fn a_healthy_function_on_an_overloaded_host_does_not_time_out() {
    in_an_app(|app| {
        let stop = Arc::new(AtomicU64::new(0));
        let spinning: Vec<_> = (0..8)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || while stop.load(Ordering::Relaxed) == 0 {})
            })
            .collect();
        let f = app
            .function("works", |_: &u64| {
                std::thread::park_timeout(MS);
                Ok::<_, Infallible>(())
            })
            .containers(4)
            .timeout(100 * MS)
            .started();
        let outcomes = f.run_all((0..10_000).collect());
        stop.store(1, Ordering::Relaxed);
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of 10 000: {:?}", failed.len(), failed[0]);
        assert_eq!(f.status().crashes, 0);
        spinning.into_iter().for_each(|thread| thread.join().expect("it spins"));
    });
}

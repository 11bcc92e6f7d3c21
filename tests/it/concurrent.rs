//! Many inputs at once in one container (section 9 of the contract).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::panic_any;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use longshore::{
    App, BoxError, Cause, ConcurrentWorker, ConfigError, ContainerId, Context, CrashLoopBackoff, Death,
    Previous, RateLimited, Report, StartError,
};
use tokio::sync::Barrier;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::{Counted, Gate, Numbers, Started, policies, under_each_policy, unhung, until};

/// Starts an async function with `inputs` in flight in each of `containers` containers.
fn many(
    app: &App,
    containers: usize,
    inputs: usize,
    code: impl AsyncFn(&u64) -> u64 + Send + Sync + 'static,
) -> Numbers {
    let f = app.function_async("f", async move |n: &u64| Ok(code(n).await));
    f.containers(containers).concurrent_inputs(inputs).restart(RateLimited::never()).started()
}

/// Runs a test in an app of its own, and fails if it hangs.
fn in_an_app<T: Send + 'static>(test: impl FnOnce(App) -> T + Send + 'static) -> T {
    unhung(|| test(App::ephemeral("concurrent")))
}

#[test]
fn as_many_inputs_are_in_flight_as_were_asked_for() {
    in_an_app(|app| {
        let meet = Arc::new(Barrier::new(2 * 50));
        let f = many(&app, 2, 50, async move |n| {
            meet.wait().await; // passes once all places of both containers are taken
            n * 2
        });
        let outputs = f.run((0..1_000).collect()).expect("infallible");
        assert_eq!(outputs, Vec::from_iter((0..1_000).map(|n| n * 2)), "outputs come in order");
    });
}

#[test]
fn no_more_inputs_are_in_flight_than_were_asked_for() {
    in_an_app(|app| {
        let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (its_now, its_most) = (Arc::clone(&now), Arc::clone(&most));
        let f = many(&app, 1, 7, async move |n| {
            its_most.fetch_max(its_now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..n % 5 {
                yield_now().await;
            }
            its_now.fetch_sub(1, Ordering::SeqCst);
            *n
        });
        f.run((0..5_000).collect()).expect("infallible");
        assert_eq!(now.load(Ordering::SeqCst), 0);
        assert!(most.load(Ordering::SeqCst) <= 7);
    });
}

#[test]
fn calls_and_several_maps_are_in_flight_together() {
    in_an_app(|app| {
        let meet = Arc::new(Barrier::new(4));
        let f = many(&app, 1, 4, async move |n| {
            meet.wait().await;
            *n
        });
        let (first, second) = (f.call(1), f.call(2));
        let (mut a, mut b) = (f.map(vec![3]).into_iter(), f.map(vec![4]).into_iter());
        let other = std::thread::spawn(move || b.next().expect("an outcome").expect("infallible"));
        assert_eq!(a.next().expect("an outcome").expect("infallible"), 3);
        assert_eq!(other.join().expect("the thread only waits"), 4);
        assert_eq!(first.wait().expect("infallible"), 1);
        assert_eq!(second.wait().expect("infallible"), 2);
    });
}

#[test]
fn an_ordered_map_keeps_its_window_behind_a_slow_head() {
    in_an_app(|app| {
        let gate = Gate::default();
        let (its, begun) = (gate.clone(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&begun);
        let f = many(&app, 1, 64, async move |n| {
            count.fetch_add(1, Ordering::SeqCst);
            if *n == 0 {
                its.passed().await;
            }
            *n
        });
        let mut map = f.map(0..1_000).window(32).into_iter();
        let first = std::thread::spawn(move || map.next().map(|head| (head.expect("infallible"), map)));
        until("all of the window but the head has ended", || f.snapshot().totals.ok == 31);
        assert_eq!(begun.load(Ordering::SeqCst), 32, "the window is strict");
        gate.open();
        let (head, rest) = first.join().expect("the thread only waits").expect("an outcome");
        assert_eq!(head, 0);
        assert_eq!(rest.map(|n| n.expect("infallible")).sum::<u64>(), (1..1_000u64).sum::<u64>());
    });
}

#[test]
fn a_future_that_always_wakes_itself_starves_no_other() {
    in_an_app(|app| {
        let ended = Arc::new(AtomicU32::new(0));
        let f = many(&app, 1, 100, async move |n| {
            if *n == 0 {
                poll_fn(|cx| {
                    if ended.load(Ordering::SeqCst) == 99 {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            } else {
                sleep(Duration::from_millis(1)).await;
                ended.fetch_add(1, Ordering::SeqCst);
            }
            *n
        });
        let outputs = f.run((0..100).collect()).expect("infallible");
        assert_eq!(outputs.len(), 100);
    });
}

// ---- blame (9.3, 9.4)

#[test]
fn of_a_function_only_the_guilty_input_ends_and_the_container_lives_on() {
    under_each_policy(|app, policy| {
        let generations = Arc::new(Mutex::new(BTreeMap::<u64, Vec<u64>>::new()));
        let seen = Arc::clone(&generations);
        let meet = Arc::new(Barrier::new(8));
        let f = app
            .function_async("f", async move |n: &u64| {
                let context = Context::current().expect("inside a container");
                let generation = context.generation().get();
                seen.lock().expect("nothing panics here").entry(*n).or_default().push(generation);
                if context.attempt().get() == 1 {
                    meet.wait().await;
                }
                if *n == 3 && context.attempt().get() == 1 {
                    panic!("three");
                }
                for _ in 0..10 {
                    yield_now().await;
                }
                Ok::<_, Infallible>(context.attempt().get())
            })
            .containers(1)
            .concurrent_inputs(8)
            .restart(policy)
            .started();
        let attempts = f.run((0..8).collect()).expect("infallible");
        assert_eq!(attempts, [1, 1, 1, 2, 1, 1, 1, 1], "the others had nothing to lose");
        let status = f.status();
        assert_eq!(status.crashes, 1);
        assert_eq!(status.restarts, 0, "the container lives on");
        let generations = generations.lock().expect("nothing panicked there");
        assert!(generations.values().flatten().all(|generation| *generation == 1));
    });
}

#[test]
fn a_crash_of_a_function_names_the_guilty_input_and_its_place() {
    in_an_app(|app| {
        let f = many(&app, 1, 16, async |n| {
            yield_now().await;
            assert!(*n != 11, "eleven");
            *n
        });
        let outcomes: Vec<_> = f.map(0..16).return_exceptions().into_iter().collect();
        for (n, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_err(), n == 11, "outcome {n}");
        }
        let failure = outcomes[11].as_ref().expect_err("it always panics");
        assert_eq!(failure.attempts(), 4);
        let Cause::Poisoned(crashes) = failure.cause() else { panic!("{failure}") };
        assert_eq!(crashes.len(), 4);
        for crash in crashes {
            assert_eq!(crash.executing.map(|(input, _)| input), Some(11));
            let text = crash.to_string();
            assert!(text.contains("concurrent.rs"), "the place is known: {text}");
        }
    });
}

#[test]
fn of_a_worker_all_in_flight_are_replayed_and_only_the_guilty_one_pays() {
    for policy in policies() {
        in_an_app(move |app| {
            let meet = Arc::new(Barrier::new(8));
            let f = app
                .worker_concurrent("w", async move |_: &Context| {
                    Ok(Shared { meet: Arc::clone(&meet), entered: Rc::default() })
                })
                .containers(1)
                .concurrent_inputs(8)
                .crash_retries(1)
                .restart(policy)
                .started();
            let attempts = f.run((0..8).collect()).expect("no input is poisoned");
            assert_eq!(attempts, [2; 8], "all are executed again, with a new worker");
            assert_eq!(f.status().crashes, 1);
            assert_eq!(f.status().restarts, 1);
        });
    }
}

/// A worker whose third input panics at its first attempt, once eight are in flight.
struct Shared {
    meet: Arc<Barrier>,
    entered: Rc<Cell<u32>>,
}

impl ConcurrentWorker for Shared {
    type Input = u64;
    type Output = u32;
    type Error = Infallible;

    async fn call(&self, input: &u64, context: &Context) -> Result<u32, Infallible> {
        self.entered.set(self.entered.get() + 1);
        if context.attempt().get() == 1 {
            self.meet.wait().await;
            assert!(*input != 3, "three");
            pending::<()>().await;
        }
        match context.previous() {
            Some(Previous::Crashed(crash)) => assert_eq!(crash.executing.map(|(input, _)| input), Some(3)),
            other => panic!("the previous attempt ended by {other:?}"),
        }
        Ok(context.attempt().get())
    }
}

/// A worker that does what its code says.
struct Does<F>(F, Cell<u32>);

impl<F: AsyncFn(&u64, &Context, &Cell<u32>) -> u64 + 'static> ConcurrentWorker for Does<F> {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn call(&self, input: &u64, context: &Context) -> Result<u64, Infallible> {
        Ok((self.0)(input, context, &self.1).await)
    }
}

/// Enters a worker that does what `code` says. The cell is the state that its inputs share.
fn does<F>(code: F) -> impl AsyncFn(&Context) -> Result<Does<F>, BoxError>
where
    F: AsyncFn(&u64, &Context, &Cell<u32>) -> u64 + Clone,
{
    async move |_: &Context| Ok(Does(code.clone(), Cell::new(0)))
}

#[test]
fn a_suspect_of_a_worker_executes_alone() {
    in_an_app(|app| {
        let worst = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&worst);
        let code = async move |n: &u64, context: &Context, in_flight: &Cell<u32>| {
            in_flight.set(in_flight.get() + 1);
            for _ in 0..20 {
                yield_now().await;
                if *n == 40 && context.attempt().get() > 1 {
                    seen.fetch_max(in_flight.get(), Ordering::SeqCst);
                }
            }
            assert!(*n != 40 || context.attempt().get() > 2, "forty");
            in_flight.set(in_flight.get() - 1);
            *n
        };
        let f = app
            .worker_concurrent("w", does(code))
            .containers(1)
            .concurrent_inputs(8)
            .restart(RateLimited::never())
            .started();
        let outputs = f.run((0..500).collect()).expect("no input is poisoned");
        assert_eq!(outputs.len(), 500);
        assert_eq!(worst.load(Ordering::SeqCst), 1, "nothing executes beside a suspect");
        assert_eq!(f.status().crashes, 2);
    });
}

#[test]
fn with_crash_retries_of_0_the_others_in_flight_are_lost_and_never_begun_again() {
    in_an_app(|app| {
        let begun = Arc::new(AtomicU32::new(0));
        let (count, meet) = (Arc::clone(&begun), Arc::new(Barrier::new(4)));
        let code = async move |n: &u64, _: &Context, _: &Cell<u32>| {
            count.fetch_add(1, Ordering::SeqCst);
            meet.wait().await;
            assert!(*n != 2, "two");
            pending::<u64>().await
        };
        let f = app
            .worker_concurrent("w", does(code))
            .containers(1)
            .concurrent_inputs(4)
            .crash_retries(0)
            .restart(RateLimited::never())
            .started();
        let outcomes: Vec<_> = f.map(0..4).return_exceptions().into_iter().collect();
        for (n, outcome) in outcomes.iter().enumerate() {
            let cause = outcome.as_ref().expect_err("each is lost or poisoned").cause();
            match n {
                2 => assert!(matches!(cause, Cause::Poisoned(_)), "{n}: {cause:?}"),
                _ => assert!(matches!(cause, Cause::Lost(_)), "{n}: {cause:?}"),
            }
        }
        assert_eq!(begun.load(Ordering::SeqCst), 4);
    });
}

#[test]
fn giving_up_fences_what_is_in_flight() {
    in_an_app(|app| {
        let f = app
            .function_async("f", async |n: &u64| {
                if *n == 0 {
                    return pending::<Result<u64, Infallible>>().await;
                }
                panic!("all of them");
            })
            .containers(1)
            .concurrent_inputs(8)
            .crash_retries(100)
            .restart(RateLimited::default().max_crashes(2))
            .started();
        let waits = f.call(0);
        until("the endless input executes", || f.status().executing == 1);
        for n in 1..100 {
            if f.call(n).wait().expect_err("it panics").is_given_up() {
                break;
            }
        }
        assert!(waits.wait().expect_err("it was given up").is_given_up());
    });
}

#[test]
fn inside_a_delay_the_container_takes_nothing_new_and_goes_on_with_the_rest() {
    in_an_app(|app| {
        let meet = Arc::new(Barrier::new(2));
        let (turns, begun, done) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let (its_turns, its_begun, is_done) = (Arc::clone(&turns), Arc::clone(&begun), Arc::clone(&done));
        let hour = Duration::from_secs(3600);
        let f = app
            .function_async("f", async move |n: &u64| {
                its_begun.fetch_or(1 << *n, Ordering::SeqCst);
                let attempt = Context::current().expect("inside").attempt().get();
                if attempt == 1 && (*n == 1 || *n == 2) {
                    meet.wait().await;
                    panic!("one after the other");
                }
                // Inputs 0 to 2 do not complete, so that the crashes are a loop.
                while *n < 3 && !is_done.load(Ordering::SeqCst) {
                    its_turns.fetch_add(u64::from(*n == 0), Ordering::SeqCst);
                    sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(8)
            .restart(CrashLoopBackoff::default().initial(hour).max(hour).reset_after(2 * hour))
            .started();
        let (zero, one, two) = (f.call(0), f.call(1), f.call(2));
        until("the second crash has a delay", || f.status().crashes == 2);
        let three = f.call(3);
        let before = turns.load(Ordering::SeqCst);
        until("the input in flight goes on", || turns.load(Ordering::SeqCst) >= before + 5);
        assert_eq!(begun.load(Ordering::SeqCst), 0b111, "nothing new is taken inside the delay");
        assert!(!f.reset(), "it had not given up");
        assert_eq!(three.wait().expect("infallible"), 3);
        done.store(true, Ordering::SeqCst);
        assert_eq!(zero.wait().expect("infallible"), 0);
        assert_eq!(one.wait().expect("it panics once"), 1);
        assert_eq!(two.wait().expect("it panics once"), 2);
    });
}

#[test]
fn several_panics_in_drops_of_futures_in_flight_end_no_process() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any("dropped");
        }
    }
    in_an_app(|app| {
        let meet = Arc::new(Barrier::new(4));
        let code = async move |n: &u64, context: &Context, _: &Cell<u32>| {
            if context.attempt().get() > 1 {
                return *n;
            }
            let _bomb = (*n != 0).then(|| Bomb);
            meet.wait().await;
            assert!(*n != 0, "nought");
            pending::<u64>().await
        };
        let f = app
            .worker_concurrent("w", does(code))
            .containers(1)
            .concurrent_inputs(4)
            .restart(RateLimited::never())
            .started();
        assert_eq!(f.run((0..4).collect()).expect("no input is poisoned"), [0, 1, 2, 3]);
        assert_eq!(f.status().crashes, 1);
    });
}

// ---- cancellation, kills and ends

#[test]
fn a_cancelled_input_among_many_is_dropped_and_the_others_go_on() {
    in_an_app(|app| {
        let (gate, dropped) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (its, count) = (gate.clone(), Arc::clone(&dropped));
        let f = many(&app, 1, 8, async move |n| {
            let counted = (*n == 5).then(|| Counted(Arc::clone(&count)));
            its.passed().await;
            drop(counted);
            *n
        });
        let mut calls: Vec<_> = (0..8).map(|n| f.call(n)).collect();
        until("all are in flight", || f.status().executing == 8);
        drop(calls.remove(5));
        until("the future of the cancelled call is dropped", || dropped.load(Ordering::SeqCst) == 1);
        let other = f.call(9);
        until("its place is taken by another call", || f.status().executing == 8);
        gate.open();
        let outputs: Vec<_> = calls.into_iter().map(|call| call.wait().expect("infallible")).collect();
        assert_eq!(outputs, [0, 1, 2, 3, 4, 6, 7]);
        assert_eq!(other.wait().expect("infallible"), 9);
        assert_eq!(f.status().crashes, 0);
    });
}

#[test]
fn a_checkpoint_of_a_cancelled_input_unwinds_that_input_only() {
    in_an_app(|app| {
        let gate = Gate::default();
        let its = gate.clone();
        let f = many(&app, 1, 2, async move |n| {
            if *n == 0 {
                its.passed().await;
                return 0;
            }
            loop {
                Context::checkpoint();
                std::thread::yield_now();
            }
        });
        let zero = f.call(0);
        until("the first is in flight", || f.status().executing == 1);
        let endless = f.call(1);
        until("both are in flight", || f.status().executing == 2);
        drop(endless);
        gate.open();
        assert_eq!(zero.wait().expect("infallible"), 0);
        assert_eq!(f.status().crashes, 0, "an interruption is no crash");
    });
}

#[test]
fn a_kill_by_hand_replays_all_in_flight_at_no_cost() {
    under_each_policy(|app, policy| {
        let f = app
            .function_async("f", async |n: &u64| {
                if Context::current().expect("inside").attempt().get() == 1 {
                    return pending::<Result<u64, Infallible>>().await;
                }
                Ok(*n)
            })
            .containers(1)
            .concurrent_inputs(16)
            .restart(policy)
            .started();
        let calls: Vec<_> = (0..16).map(|n| f.call(n)).collect();
        until("all are in flight", || f.status().executing == 16);
        assert!(f.kill_container(ContainerId::new(0)), "it lives");
        let outputs: Vec<_> = calls.into_iter().map(|call| call.wait().expect("infallible")).collect();
        assert_eq!(outputs, Vec::from_iter(0..16));
        assert_eq!(f.status().crashes, 0);
        assert_eq!(f.status().containers.abandoned, 0, "waiting futures are dropped");
    });
}

#[test]
fn a_drain_lets_all_in_flight_finish_and_a_stop_refuses_the_rest() {
    in_an_app(|app| {
        let gate = Gate::default();
        let its = gate.clone();
        let f = many(&app, 1, 8, async move |n| {
            its.passed().await;
            *n
        });
        let calls: Vec<_> = (0..20).map(|n| f.call(n)).collect();
        until("the places are taken", || f.status().executing == 8);
        let ends = std::thread::spawn(move || app.stop_within(Duration::from_secs(30)));
        until("the calls that wait are refused", || f.status().inputs_waiting == 0);
        gate.open();
        let finished = calls.into_iter().filter_map(|call| call.wait().ok()).count();
        assert_eq!(finished, 8);
        let report: Report = ends.join().expect("the app ends");
        assert_eq!(report.functions.iter().map(|f| f.inputs_returned).sum::<u64>(), 12);
    });
}

#[test]
fn an_abort_leaves_no_thread_behind_futures_that_wait() {
    in_an_app(|app| {
        let f = many(&app, 2, 100, async |_| pending().await);
        let calls: Vec<_> = (0..200).map(|n| f.call(n)).collect();
        until("all are in flight", || f.status().executing == 200);
        app.abort();
        assert!(calls.into_iter().all(|call| call.wait().is_err()));
        until("the threads have ended", || f.status().containers.abandoned == 0);
    });
}

// ---- memory (9.3, 9.6)

/// Allocates this many bytes, and writes to them.
fn block(bytes: usize) -> Vec<u8> {
    let mut block = vec![0; bytes];
    std::hint::black_box(&mut block)[bytes - 1] = 1;
    block
}

const MIB: usize = 1 << 20;

#[test]
fn only_what_crosses_the_limit_alone_is_charged() {
    under_each_policy(|app, policy| {
        let f = app
            .function_async("f", async |n: &u64| {
                let held = block(if *n == 3 { 40 * MIB } else { MIB });
                for _ in 0..20 {
                    yield_now().await;
                }
                Ok::<_, Infallible>(held.len() as u64)
            })
            .containers(1)
            .concurrent_inputs(8)
            .memory_limit(32 * MIB as u64)
            .crash_retries(1)
            .restart(policy)
            .started();
        let outcomes: Vec<_> = f.map(0..40).return_exceptions().into_iter().collect();
        for (n, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_err(), n == 3, "outcome {n}: {outcome:?}");
        }
        let failure = outcomes[3].as_ref().expect_err("it needs more than the limit");
        let Cause::Poisoned(crashes) = failure.cause() else { panic!("{failure}") };
        assert!(crashes.iter().all(|crash| matches!(crash.death, Death::MemoryLimit { .. })), "{failure}");
        assert_eq!(failure.attempts(), 3, "the crossing beside others is free, and two alone are charged");
        // Where other programs hold the thread up for longer than the watch waits, the watch replaces it.
        until("no thread is left behind", || f.status().containers.abandoned == 0);
    });
}

#[test]
fn inputs_that_only_cross_the_limit_together_all_complete() {
    in_an_app(|app| {
        let meet = Arc::new(Barrier::new(4));
        let f = app
            .function_async("f", async move |n: &u64| {
                if Context::current().expect("inside").attempt().get() == 1 {
                    meet.wait().await;
                }
                let held = block(12 * MIB);
                for _ in 0..20 {
                    yield_now().await;
                }
                drop(held);
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(4)
            .memory_limit(32 * MIB as u64)
            .crash_retries(1)
            .restart(RateLimited::never())
            .started();
        assert_eq!(f.run((0..4).collect()).expect("no input is poisoned"), [0, 1, 2, 3]);
        assert!(f.status().crashes > 0, "the limit was crossed");
    });
}

#[test]
fn a_held_container_takes_inputs_again_after_its_only_one_has_crashed() {
    in_an_app(|app| {
        let f = app
            .function_async("f", async |n: &u64| {
                for _ in 0..10 {
                    yield_now().await; // the container is held before the limit is crossed
                }
                let held = block(if *n == 3 { 40 * MIB } else { MIB });
                for _ in 0..20 {
                    yield_now().await;
                }
                Ok::<_, Infallible>(held.len() as u64)
            })
            .containers(1)
            .concurrent_inputs(8)
            .memory_limit(32 * MIB as u64)
            .crash_retries(1)
            .restart(RateLimited::never())
            .started();
        let outcomes: Vec<_> = f.map(0..40).return_exceptions().into_iter().collect();
        let failed: Vec<usize> = (0..40).filter(|n| outcomes[*n].is_err()).collect();
        assert_eq!(failed, [3]);
    });
}

#[test]
fn an_input_that_waits_to_execute_alone_begins_after_the_last_one_beside_it_has_crashed() {
    in_an_app(|app| {
        let gate = Gate::default();
        let its = gate.clone();
        let f = app
            .function_async("f", async move |n: &u64| {
                let attempt = Context::current().expect("inside").attempt().get();
                if *n == 0 && attempt == 1 {
                    its.passed().await;
                    panic!("nought");
                }
                if *n == 3 && attempt == 1 {
                    drop(block(40 * MIB));
                    yield_now().await;
                }
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(8)
            .memory_limit(32 * MIB as u64)
            .restart(RateLimited::never())
            .started();
        let nought = f.call(0);
        until("it is in flight", || f.status().executing == 1);
        let three = f.call(3);
        until("the limit was crossed", || f.status().crashes == 1);
        gate.open();
        assert_eq!(nought.wait().expect("it panics once"), 0);
        assert_eq!(three.wait().expect("it crosses the limit once"), 3);
    });
}

#[test]
fn a_worker_over_its_limit_is_replaced_and_the_others_are_replayed_free() {
    in_an_app(|app| {
        let code = async |n: &u64, context: &Context, _: &Cell<u32>| {
            if *n == 3 && context.attempt().get() == 1 {
                std::mem::forget(block(40 * MIB)); // it stays charged until the container is gone
            }
            for _ in 0..50 {
                yield_now().await;
            }
            u64::from(context.attempt().get())
        };
        let f = app
            .worker_concurrent("w", does(code))
            .containers(1)
            .concurrent_inputs(8)
            .memory_limit(32 * MIB as u64)
            .crash_retries(1)
            .restart(RateLimited::never())
            .started();
        let attempts = f.run((0..8).collect()).expect("no input is poisoned");
        assert!(attempts.iter().all(|attempts| *attempts <= 2), "{attempts:?}");
        assert_eq!(attempts[3], 2);
        assert_eq!(f.status().crashes, 1);
    });
}

#[test]
fn memory_that_an_attempt_leaves_behind_does_not_count_for_the_next() {
    in_an_app(|app| {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let its = Arc::clone(&kept);
        let f = app
            .function_async("f", async move |n: &u64| {
                let held = block(MIB);
                yield_now().await;
                its.lock().expect("nothing panics here").push(held);
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(4)
            .memory_limit(16 * MIB as u64)
            .started();
        f.run((0..64).collect()).expect("each attempt is far below the limit");
        assert_eq!(f.status().crashes, 0);
        assert!(f.status().memory.expect("it is accounted").retained > 32 * MIB as u64);
    });
}

#[test]
fn a_poll_that_does_not_return_is_left_behind_and_the_others_are_replayed() {
    in_an_app(|app| {
        let gate = Gate::default();
        let its = gate.clone();
        let f = app
            .function_async("f", async move |n: &u64| {
                let attempt = Context::current().expect("inside").attempt().get();
                if *n == 3 && attempt == 1 {
                    yield_now().await;
                    let held = block(40 * MIB);
                    its.pass();
                    drop(held);
                } else if attempt == 1 {
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(*n)
            })
            .containers(1)
            .concurrent_inputs(4)
            .memory_limit(32 * MIB as u64)
            .restart(RateLimited::never())
            .started();
        assert_eq!(f.run((0..4).collect()).expect("no input is poisoned"), [0, 1, 2, 3]);
        assert_eq!(f.status().containers.abandoned, 1);
        gate.open();
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
    });
}

// ---- context, retries, wakers

#[test]
fn the_context_is_that_of_the_future_being_polled() {
    in_an_app(|app| {
        let f = many(&app, 1, 32, async |n| {
            let own = Context::current().expect("inside");
            for _ in 0..*n % 7 {
                yield_now().await;
                let now = Context::current().expect("inside");
                assert_eq!(now.input(), own.input());
            }
            own.input().expect("it executes")
        });
        let outputs = f.run((0..500).collect()).expect("infallible");
        assert_eq!(outputs, Vec::from_iter(0..500), "the index of each input in its map");
    });
}

#[test]
fn a_context_that_was_kept_does_not_change_with_the_next_input() {
    in_an_app(|app| {
        thread_local! {
            static KEPT: Cell<Option<Context>> = const { Cell::new(None) };
        }
        let f = many(&app, 1, 2, async |n| {
            let before = KEPT.replace(Context::current());
            before.filter(|_| *n > 0).map_or(0, |kept| kept.attempt().get().into())
        });
        for n in 0..10 {
            assert!(f.call(n).wait().is_ok());
        }
        let indices = f.run((0..50).collect()).expect("infallible");
        assert!(indices.iter().all(|attempt| *attempt <= 1));
    });
}

#[test]
fn failures_are_retried_each_on_its_own() {
    in_an_app(|app| {
        let f = app
            .function_async("f", async |n: &u64| {
                yield_now().await;
                let attempt = Context::current().expect("inside").attempt().get();
                if u64::from(attempt) <= n % 3 { Err("again") } else { Ok(attempt) }
            })
            .containers(2)
            .concurrent_inputs(16)
            .retries(longshore::Retries::new(2).initial_delay(Duration::from_millis(1)))
            .started();
        let attempts = f.run((0..300).collect()).expect("two retries are enough");
        assert!(attempts.iter().zip(0u32..).all(|(attempt, n)| *attempt == n % 3 + 1));
    });
}

#[test]
fn a_waker_may_outlive_its_container_and_be_woken_from_another_thread() {
    in_an_app(|app| {
        let wakers = Arc::new(Mutex::new(Vec::<Waker>::new()));
        let its = Arc::clone(&wakers);
        let f = many(&app, 1, 8, async move |n| {
            let mut polls = 0;
            poll_fn(|cx| {
                its.lock().expect("nothing panics here").push(cx.waker().clone());
                polls += 1;
                if polls > 1 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            *n
        });
        let calls: Vec<_> = (0..8).map(|n| f.call(n)).collect();
        until("each was polled once", || wakers.lock().expect("nothing panics there").len() == 8);
        let kept: Vec<Waker> = wakers.lock().expect("nothing panics there").clone();
        kept.iter().for_each(Waker::wake_by_ref);
        calls.into_iter().for_each(|call| assert!(call.wait().is_ok()));
        kept.iter().for_each(Waker::wake_by_ref); // the lanes have other tenants or none
        drop((f, app));
        kept.into_iter().for_each(Waker::wake);
    });
}

#[test]
fn a_timer_beside_futures_that_are_always_ready_is_not_late() {
    in_an_app(|app| {
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let its = Arc::clone(&done);
        let f = many(&app, 1, 33, async move |n| {
            if *n > 0 {
                while !its.load(Ordering::SeqCst) {
                    let begun = std::time::Instant::now();
                    while begun.elapsed() < Duration::from_micros(10) {
                        std::hint::spin_loop();
                    }
                    yield_now().await;
                }
                return 0;
            }
            let mut late = Duration::ZERO;
            for _ in 0..20 {
                let begun = std::time::Instant::now();
                sleep(Duration::from_millis(5)).await;
                late += begun.elapsed() - Duration::from_millis(5);
            }
            its.store(true, Ordering::SeqCst);
            late.as_micros() as u64 / 20
        });
        let busy: Vec<_> = (1..33).map(|n| f.call(n)).collect();
        let late = f.call(0).wait().expect("infallible");
        assert!(late < 200_000, "a timer is {late} µs late on average");
        busy.into_iter().for_each(|call| assert!(call.wait().is_ok()));
    });
}

#[test]
fn tasks_that_an_input_spawns_run_beside_the_inputs() {
    in_an_app(|app| {
        let f = many(&app, 1, 8, async |n| {
            let n = *n;
            tokio::task::spawn_local(async move {
                sleep(Duration::from_millis(1)).await;
                n + 1
            })
            .await
            .expect("it does not panic")
        });
        assert_eq!(f.run((0..100).collect()).expect("infallible"), Vec::from_iter(1..101));
    });
}

// ---- settings (9.1)

#[test]
fn code_that_executes_one_input_at_a_time_refuses_more_and_says_what_to_use() {
    let app = App::ephemeral("concurrent");
    let refused =
        app.infallible("f", |n: &u64| *n).concurrent_inputs(2).start().expect_err("it is synchronous");
    let StartError::Config(ConfigError::OneAtATime { inputs: 2, .. }) = &refused else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains("App::function_async"), "{refused}");
    app.infallible("f", |n: &u64| *n).concurrent_inputs(1).start().expect("one is what it does anyway");
}

#[test]
fn numbers_that_are_out_of_range_are_refused() {
    let app = App::ephemeral("concurrent");
    let refuses = |containers, inputs| {
        let f = app.function_async("f", async |n: &u64| Ok::<_, Infallible>(*n));
        match f.containers(containers).concurrent_inputs(inputs).start().expect_err("it is refused") {
            StartError::Config(error) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refuses(1, 0), ConfigError::ConcurrentInputs { inputs: 0, max: 65_536 });
    assert_eq!(refuses(1, 65_537), ConfigError::ConcurrentInputs { inputs: 65_537, max: 65_536 });
    let in_flight = ConfigError::InFlight { containers: 17, inputs: 65_536, max: 1 << 20 };
    assert_eq!(refuses(17, 65_536), in_flight);
    let limited = app.function_async("f", async |n: &u64| Ok::<_, Infallible>(*n));
    let refused = limited.concurrent_inputs(4_097).memory_limit(1 << 30).start().expect_err("it is refused");
    let too_many = ConfigError::ConcurrentInputs { inputs: 4_097, max: 4_096 };
    assert!(matches!(refused, StartError::Config(error) if error == too_many));
}

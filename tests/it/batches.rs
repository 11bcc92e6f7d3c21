//! Batches: many inputs in one call (section 10 of the contract).

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use longshore::actor::CallInput;
use longshore::{
    App, BatchWorker, Builder, Cause, ConfigError, ContainerId, Context, Death, Failure, RateLimited,
    Retries, Returned, StartError,
};

use crate::support::{Gate, Started, crash, under_each_policy, unhung, until};

type Outcomes = Vec<Result<u64, &'static str>>;
type Batches = Builder<u64, u64, &'static str>;
type Code = Box<dyn Fn(&[&u64]) -> Outcomes + Send + Sync>;

/// Describes a function of batches. The code is boxed, so that the engine is compiled for one type of code.
fn batches(app: &App, code: impl Fn(&[&u64]) -> Outcomes + Send + Sync + 'static) -> Batches {
    let code: Code = Box::new(code);
    app.batch("f", code).restart(RateLimited::never())
}

fn echo(inputs: &[&u64]) -> Outcomes {
    inputs.iter().map(|n| Ok(**n)).collect()
}

/// The same, with the sizes of the batches that it has got.
fn echo_of_sizes() -> (Sizes, impl Fn(&[&u64]) -> Outcomes + Send + Sync + 'static) {
    let sizes = Sizes::default();
    let seen = sizes.clone();
    let code = move |inputs: &[&u64]| {
        seen.add(inputs);
        echo(inputs)
    };
    (sizes, code)
}

/// The output of an outcome that must be `Ok`.
fn got<T>(outcome: Result<T, Failure<u64, &'static str>>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

fn in_an_app(test: impl FnOnce(App) + Send + 'static) {
    unhung(|| test(App::ephemeral("batches")));
}

/// The sizes of the batches as they were executed.
#[derive(Clone, Default)]
struct Sizes(Arc<Mutex<Vec<usize>>>);

impl Sizes {
    fn add(&self, inputs: &[&u64]) {
        self.0.lock().expect("no test panics inside it").push(inputs.len());
    }

    fn taken(&self) -> Vec<usize> {
        std::mem::take(&mut *self.0.lock().expect("no test panics inside it"))
    }
}

#[test]
fn each_input_has_its_own_outcome_in_the_order_of_the_inputs() {
    under_each_policy(|app, policy| {
        let sizes = Sizes::default();
        let seen = sizes.clone();
        let code = move |inputs: &[&u64]| {
            seen.add(inputs);
            inputs.iter().map(|n| if **n % 10 == 3 { Err("a three") } else { Ok(**n * 2) }).collect()
        };
        let f = batches(app, code).containers(2).batch_size(64).restart(policy).started();
        let outcomes = f.run_all((0..10_000).collect());
        for (at, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(output) => assert_eq!(output, at * 2),
                Err(failure) => {
                    assert_eq!((at % 10, failure.index(), failure.input()), (3, Some(at), Some(&at)));
                    assert_eq!(failure.error(), Some(&"a three"));
                }
            }
        }
        let sizes = sizes.taken();
        assert_eq!(sizes.iter().sum::<usize>(), 10_000, "nothing is executed twice");
        assert!(sizes.iter().all(|size| (1..=64).contains(size)) && sizes.contains(&64), "{sizes:?}");
    });
}

#[test]
fn an_input_that_fails_is_retried_by_itself() {
    in_an_app(|app| {
        let executed = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&executed);
        let code = move |inputs: &[&u64]| {
            let mut seen = seen.lock().expect("no code panics");
            let fails = |n: u64| seen.iter().filter(|other| **other == n).count() <= 2 && n % 7 == 3;
            let outcomes = inputs.iter().map(|n| if fails(**n) { Err("busy") } else { Ok(**n) }).collect();
            seen.extend(inputs.iter().map(|n| **n));
            outcomes
        };
        let retries = Retries::new(3).initial_delay(Duration::ZERO);
        let f = batches(&app, code).containers(2).batch_size(16).retries(retries).started();
        assert_eq!(f.run((0..500).collect()).expect("three retries are enough"), Vec::from_iter(0..500));
        let executed = executed.lock().expect("no code panics");
        for n in 0..500 {
            let times = executed.iter().filter(|other| **other == n).count();
            assert_eq!(times, if n % 7 == 3 { 4 } else { 1 }, "input {n}");
        }
    });
}

#[test]
fn a_vector_of_the_wrong_length_fails_every_input_of_its_batch_and_no_other_and_none_is_retried() {
    in_an_app(|app| {
        let code = |inputs: &[&u64]| {
            let mut outcomes = echo(inputs);
            if inputs.iter().any(|n| **n == 5) {
                outcomes.pop();
            }
            outcomes
        };
        let f = batches(&app, code).containers(1).batch_size(4).retries(9).started();
        let outcomes = f.run_all((0..100).collect());
        let failures: Vec<&Failure<u64, _>> = outcomes.iter().filter_map(|it| it.as_ref().err()).collect();
        assert!(!failures.is_empty() && failures.len() <= 4, "{failures:?}");
        assert!(failures.iter().any(|failure| failure.index() == Some(5)));
        for failure in &failures {
            let expected = failures.len();
            let Cause::BatchLength { inputs, outcomes } = failure.cause() else { panic!("{failure}") };
            assert_eq!((*inputs, *outcomes, failure.attempts()), (expected, expected - 1, 1));
            let text = format!("its batch of {expected} inputs returned {} outcomes", expected - 1);
            assert!(failure.to_string().ends_with(&text), "{failure}");
        }
        assert_eq!(f.call(7).wait().expect("the function goes on"), 7);
    });
}

#[test]
fn one_poison_input_is_found_by_halving_and_the_others_go_on() {
    under_each_policy(|app, policy| {
        let executed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&executed);
        let code = move |inputs: &[&u64]| {
            counted.fetch_add(inputs.len() as u64, Ordering::SeqCst);
            if inputs.iter().any(|n| **n == 1_234) {
                crash();
            }
            echo(inputs)
        };
        let f = batches(app, code).containers(2).batch_size(256).crash_retries(2).restart(policy).started();
        let outcomes = f.run_all((0..4_096).collect());
        for (at, outcome) in (0..).zip(&outcomes) {
            match outcome {
                Ok(output) => assert_eq!(*output, at),
                Err(failure) => {
                    let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
                    assert_eq!((at, deaths.len()), (1_234, 3), "only crashes of its own count");
                    assert!(
                        deaths.iter().all(|crash| crash.executing.is_some_and(|(input, _)| input == 1_234))
                    );
                }
            }
        }
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
        assert!(f.status().crashes <= 8 + 1 + 2, "{}", f.status());
        let executions = executed.load(Ordering::SeqCst);
        assert!(executions * 100 <= 4_096 * 113, "{executions} executions");
    });
}

#[test]
fn several_poison_inputs_of_one_batch_are_all_found() {
    in_an_app(|app| {
        let code = |inputs: &[&u64]| {
            if inputs.iter().any(|n| **n % 16 == 3) {
                crash();
            }
            echo(inputs)
        };
        let f = batches(&app, code).containers(3).batch_size(64).crash_retries(1).started();
        let outcomes = f.run_all((0..64).collect());
        for (at, outcome) in (0..).zip(outcomes) {
            assert_eq!(outcome.is_err_and(|failure| failure.is_poisoned()), at % 16 == 3, "input {at}");
        }
    });
}

#[test]
fn with_no_crash_retries_every_input_of_the_batch_is_lost_and_no_other() {
    in_an_app(|app| {
        let crashes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&crashes);
        let code = move |inputs: &[&u64]| {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                crash();
            }
            echo(inputs)
        };
        let f = batches(&app, code).containers(1).batch_size(8).crash_retries(0).batch_wait(SECOND).started();
        let calls: Vec<_> = (0..16).map(|n| f.call(n)).collect();
        let outcomes: Vec<_> = calls.into_iter().map(longshore::Call::wait).collect();
        let lost = |failure: &Failure<u64, _>| matches!(failure.cause(), Cause::Lost(_));
        assert_eq!(outcomes.iter().filter(|it| it.as_ref().is_err_and(lost)).count(), 8, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|it| it.is_ok()).count(), 8);
    });
}

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: usize = 4 << 20;

#[test]
fn a_batch_over_the_memory_limit_is_halved_until_the_guilty_input_is_alone() {
    under_each_policy(|app, policy| {
        let code = |inputs: &[&u64]| {
            let kept: Vec<Vec<u8>> = inputs
                .iter()
                .filter(|n| ***n == 11)
                .flat_map(|_| 0..LIMIT / 512)
                .map(|_| {
                    Context::checkpoint();
                    black_box(vec![0; 1_024])
                })
                .collect();
            black_box(&kept);
            echo(inputs)
        };
        let f = batches(app, code).containers(2).batch_size(16).crash_retries(1).restart(policy);
        let f = f.memory_limit(LIMIT as u64).started();
        let outcomes = f.run_all((0..64).collect());
        for (at, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(output) => assert_eq!(output, at),
                Err(failure) => {
                    let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
                    assert_eq!((at, deaths.len()), (11, 2));
                    assert!(deaths.iter().all(|crash| matches!(crash.death, Death::MemoryLimit { .. })));
                }
            }
        }
    });
}

#[test]
fn a_batch_forms_of_calls_until_it_is_full_and_no_container_waits_with_half_of_it() {
    in_an_app(|app| {
        let (sizes, code) = echo_of_sizes();
        let f =
            batches(&app, code).containers(4).batch_size(8).batch_wait(Duration::from_secs(600)).started();
        let calls: Vec<_> = (0..8).map(|n| f.call(n)).collect();
        assert!((0..).zip(calls).all(|(n, call)| got(call.wait()) == n), "they do not wait for ten minutes");
        assert_eq!(sizes.taken(), [8]);
        let calls: Vec<_> = (0..5).map(|n| f.call(n)).collect();
        // A map that is at its end does not fill the batch, and calls may come at any time.
        let outcomes = std::thread::scope(|scope| {
            let map = scope.spawn(|| f.run((10..13).collect()));
            let outcomes: Vec<_> = calls.into_iter().map(longshore::Call::wait).collect();
            assert_eq!(got(map.join().expect("it does not panic")), [10, 11, 12]);
            outcomes
        });
        assert!(outcomes.into_iter().map(got).eq(0..5));
        assert_eq!(sizes.taken(), [8], "maps and calls fill the same batch");
    });
}

#[test]
fn a_batch_that_does_not_become_full_runs_when_its_time_has_passed() {
    in_an_app(|app| {
        let wait = Duration::from_millis(30);
        let f = batches(&app, echo).containers(2).batch_size(8).batch_wait(wait).started();
        let begun = Instant::now();
        assert_eq!(got(f.call(1).wait()), 1);
        assert!(begun.elapsed() >= wait, "it came early");
    });
}

#[test]
fn a_map_that_is_at_its_end_does_not_wait_for_a_full_batch() {
    in_an_app(|app| {
        let wait = Duration::from_secs(600);
        let f = batches(&app, echo).containers(2).batch_size(64).batch_wait(wait).started();
        assert_eq!(got(f.run((0..100).collect())), Vec::from_iter(0..100));
        let narrow = f.map(0..100u64).window(10);
        assert!(narrow.into_iter().map(got).eq(0..100), "a full window does not wait either");
        let slow = (0..20u64).filter(|_| true); // its length is not known before its end
        assert!(f.map(slow).into_iter().map(got).eq(0..20));
    });
}

#[test]
fn a_drain_does_not_wait_for_a_batch_to_become_full() {
    in_an_app(|app| {
        let f =
            batches(&app, echo).containers(1).batch_size(64).batch_wait(Duration::from_secs(600)).started();
        let calls = [f.call(1), f.call(2)];
        let report = app.shutdown_blocking();
        assert!(report.is_clean(), "{report}");
        assert!(calls.into_iter().map(longshore::Call::wait).map(got).eq([1, 2]));
    });
}

#[test]
fn two_containers_execute_a_batch_each_at_the_same_time() {
    in_an_app(|app| {
        let both = Arc::new(Barrier::new(2));
        let code = move |inputs: &[&u64]| {
            both.wait();
            echo(inputs)
        };
        let f =
            batches(&app, code).containers(2).batch_size(5).batch_wait(Duration::from_secs(600)).started();
        // Whatever the inputs cost before, a batch does not wait behind another beside an idle container.
        for _ in 0..20 {
            let calls: Vec<_> = (0..10).map(|n| f.call(n)).collect();
            let ended = calls.into_iter().map(longshore::Call::wait).filter(Result::is_ok).count();
            assert_eq!(ended, 10);
        }
    });
}

/// Code whose first batch waits at a checkpoint until it is unwanted.
fn waits_once(gate: &Gate, began: &Arc<AtomicU64>) -> impl Fn(&[&u64]) -> Outcomes + Send + Sync + use<> {
    let (gate, began) = (gate.clone(), Arc::clone(began));
    move |inputs| {
        if began.fetch_add(inputs.len() as u64, Ordering::SeqCst) == 0 {
            gate.pass();
            Context::checkpoint();
        }
        echo(inputs)
    }
}

#[test]
fn an_input_that_is_cancelled_ends_alone_and_the_code_is_told_once_no_input_is_wanted() {
    for all in [false, true] {
        in_an_app(move |app| {
            let (gate, began) = (Gate::default(), Arc::new(AtomicU64::new(0)));
            let f = batches(&app, waits_once(&gate, &began)).containers(1).batch_size(3);
            let f = f.batch_wait(Duration::from_secs(600)).started();
            let mut calls: Vec<_> = (0..3).map(|n| f.call(n)).collect();
            until("the batch executes", || began.load(Ordering::SeqCst) == 3);
            let kept = if all { Vec::new() } else { calls.split_off(1) };
            drop(calls); // cancels them
            until("they are cancelled", || f.status().calls.pending == kept.len() as u64);
            gate.open();
            for (n, call) in (1..).zip(kept) {
                assert_eq!(got(call.wait()), n, "the others keep their outcomes");
            }
            until("the container is free", || f.status().executing == 0);
            // If no input was wanted, the code has unwound at its checkpoint, and its answers are not late.
            assert_eq!(f.status().late_answers, u64::from(!all), "all: {all}");
            assert_eq!(f.status().crashes, 0);
        });
    }
}

#[test]
fn a_map_that_is_cancelled_takes_its_part_out_of_a_batch_that_executes() {
    in_an_app(|app| {
        let (gate, began) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let f = batches(&app, waits_once(&gate, &began)).containers(1).batch_size(6);
        let f = f.batch_wait(Duration::from_secs(600)).started();
        let call = f.call(100);
        let map = f.map(0..5u64).return_exceptions();
        let abort = map.abort_handle();
        let consumer = std::thread::spawn(|| map.into_iter().collect::<Vec<_>>());
        until("the batch executes", || began.load(Ordering::SeqCst) == 6);
        abort.abort();
        let outcomes = consumer.join().expect("it does not panic");
        let cancelled = |it: &Result<u64, Failure<_, _>>| {
            it.as_ref().is_err_and(|failure| matches!(failure.cause(), Cause::Cancelled))
        };
        assert!(!outcomes.is_empty() && outcomes.iter().all(cancelled), "{outcomes:?}");
        gate.open();
        assert_eq!(got(call.wait()), 100);
    });
}

#[test]
fn a_batch_that_is_killed_by_hand_is_replayed_and_what_its_code_still_reads_stays_alive() {
    in_an_app(|app| {
        let (gate, began) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (until_then, counted) = (gate.clone(), Arc::clone(&began));
        let code = move |inputs: &[&u64]| {
            if counted.fetch_add(inputs.len() as u64, Ordering::SeqCst) == 0 {
                until_then.pass();
                let sum: u64 = inputs.iter().copied().sum();
                assert_eq!(sum, 45, "the abandoned code reads its inputs");
            }
            echo(inputs)
        };
        let f =
            batches(&app, code).containers(1).batch_size(10).batch_wait(Duration::from_secs(600)).started();
        let map = std::thread::scope(|scope| {
            let map = scope.spawn(|| f.run((0..10).collect()));
            until("the batch executes", || began.load(Ordering::SeqCst) == 10);
            assert!(f.kill_container(ContainerId::new(0)));
            map.join().expect("it does not panic")
        });
        assert_eq!(got(map), Vec::from_iter(0..10));
        gate.open();
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
        assert_eq!(f.status().late_answers, 10);
        assert_eq!(f.status().crashes, 0);
    });
}

#[test]
fn with_no_crash_retries_the_inputs_of_a_batch_that_executes_on_come_back_as_shared_handles() {
    in_an_app(|app| {
        let (gate, began) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let f = batches(&app, waits_once(&gate, &began)).containers(1).batch_size(3).crash_retries(0);
        let f = f.batch_wait(Duration::from_secs(600)).started();
        let calls: Vec<_> = (0..3).map(|n| f.call(n)).collect();
        until("the batch executes", || began.load(Ordering::SeqCst) == 3);
        assert!(f.kill_container(ContainerId::new(0)));
        for (n, call) in (0..).zip(calls) {
            let failure = call.wait().expect_err("it was lost");
            let Some(Returned::Shared(input)) = failure.into_input() else { panic!("the code reads it") };
            assert_eq!(*input, n);
        }
        gate.open();
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
    });
}

#[test]
fn the_future_of_a_batch_is_dropped_once_no_input_is_wanted_and_when_its_container_is_killed() {
    in_an_app(|app| {
        let began = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&began);
        let code = async move |inputs: &[&u64]| {
            if counted.fetch_add(inputs.len() as u64, Ordering::SeqCst) < 6 {
                std::future::pending::<()>().await;
            }
            echo(inputs)
        };
        let f = app.batch_async("f", code).containers(1).batch_size(3).batch_wait(Duration::from_secs(600));
        let f = f.started();
        let calls: Vec<_> = (0..3).map(|n| f.call(n)).collect();
        until("the batch waits", || began.load(Ordering::SeqCst) == 3);
        drop(calls);
        let calls: Vec<_> = (0..3).map(|n| f.call(n)).collect();
        until("the next batch waits", || began.load(Ordering::SeqCst) == 6);
        assert!(f.kill_container(ContainerId::new(0)));
        assert!((0..).zip(calls).all(|(n, call)| got(call.wait()) == n), "they are replayed");
        // The kill may come before the code waits. Its thread is then left behind until it does.
        until("no thread is left behind", || f.status().containers.abandoned == 0);
        assert_eq!(f.status().crashes, 0);
    });
}

/// Counts the inputs that it has seen since its `enter`.
struct Counter {
    seen: u64,
}

impl BatchWorker for Counter {
    type Input = u64;
    type Output = u64;
    type Error = &'static str;

    fn call(&mut self, inputs: &[&u64], context: &Context) -> Outcomes {
        assert_eq!(context.input(), Context::current().expect("inside a container").input());
        self.seen += inputs.len() as u64;
        if inputs.iter().any(|n| **n == 13) && context.attempt().get() == 1 {
            crash();
        }
        vec![Ok(self.seen); inputs.len()]
    }
}

#[test]
fn a_worker_of_batches_keeps_its_state_until_a_crash_and_is_entered_anew_then() {
    in_an_app(|app| {
        let f = app
            .batch_worker("f", |_: &Context| Ok(Counter { seen: 0 }))
            .containers(1)
            .batch_size(4)
            .started();
        assert_eq!(got(f.call(1).wait()), 1);
        assert_eq!(got(f.call(1).wait()), 2);
        assert_eq!(got(f.call(13).wait()), 1, "it is replayed in a new worker");
        assert_eq!(f.status().restarts, 1);
    });
}

#[test]
fn calls_by_message_share_batches_with_others() {
    in_an_app(|app| {
        let (sizes, code) = echo_of_sizes();
        let f =
            batches(&app, code).containers(1).batch_size(3).batch_wait(Duration::from_secs(600)).started();
        let call = f.call(1);
        let messages = [f.supervisor().send(CallInput::new(2)), f.supervisor().send(CallInput::new(3))];
        let outcomes = futures::executor::block_on(futures::future::join_all(messages));
        let outputs: Vec<u64> =
            outcomes.into_iter().map(|it| it.expect("it lives").expect("it ends")).collect();
        assert_eq!((outputs, got(call.wait())), (vec![2, 3], 1));
        assert_eq!(sizes.taken(), [3]);
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |builder: Batches| match builder.start() {
        Err(StartError::Config(error)) => error,
        other => panic!("it is not refused: {other:?}"),
    };
    in_an_app(move |app| {
        let one = || app.function("one", |n: &u64| Ok(*n));
        let many = || batches(&app, echo);
        assert_eq!(refused(many()), ConfigError::NoBatchSize);
        assert_eq!(refused(one().batch_size(2)), ConfigError::NotBatched);
        assert_eq!(refused(one().batch_wait(SECOND)), ConfigError::NotBatched);
        for size in [0, 65_537] {
            assert_eq!(refused(many().batch_size(size)), ConfigError::BatchSize { size, max: 65_536 });
        }
        let wide = many().containers(17).batch_size(65_536);
        assert_eq!(refused(wide), ConfigError::InFlight { containers: 17, inputs: 65_536, max: 1 << 20 });
        let wait = Duration::from_secs(601);
        let limit = Duration::from_secs(600);
        assert_eq!(refused(many().batch_size(2).batch_wait(wait)), ConfigError::BatchWait { wait, limit });
        let instead = "code of batches executes one batch at a time; use batch_size";
        let both = many().batch_size(2).concurrent_inputs(2);
        assert_eq!(refused(both), ConfigError::OneAtATime { inputs: 2, instead });
        assert!(many().batch_size(65_536).containers(16).batch_wait(limit).start().is_ok());
    });
}

//! Code whose input was cancelled unwinds at its next checkpoint, and its container goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore::{App, AsyncWorker, BoxError, Call, Context, Worker};

use crate::support::{Gate, Numbers, Started, crash, numbers, unhung, until};

/// The input for which [`code`] never returns.
const FOR_EVER: u64 = 666;

/// The user's code. It returns its input, or passes checkpoints for ever.
fn code(input: u64) -> u64 {
    if input != FOR_EVER {
        return input;
    }
    loop {
        Context::checkpoint();
        std::thread::yield_now();
    }
}

/// Runs a test in an app of its own, and fails if it hangs.
fn in_an_app(test: impl FnOnce(App) + Send + 'static) {
    unhung(|| test(App::ephemeral("interrupting")));
}

/// Calls the endless input, and waits until the container of `f` executes it.
fn endless(f: &Numbers) -> Call<u64, u64, Infallible> {
    let call = f.call(FOR_EVER);
    until("the container executes the endless input", || f.status().executing == 1);
    call
}

/// Checks that the container of `f` answers another call.
fn assert_that_it_is_free(f: &Numbers) {
    assert_eq!(f.call(1).wait().expect("infallible"), 1);
}

fn assert_that_nothing_crashed(f: &Numbers, restarts: u64) {
    let status = f.status();
    assert_eq!(status.crashes, 0, "an interruption is no crash");
    assert_eq!(status.restarts, restarts, "restarts");
    assert_eq!(status.containers.abandoned, 0, "cancelled code is never abandoned");
}

#[test]
fn an_async_batch_that_is_interrupted_leaves_the_next_batch_alone() {
    in_an_app(|app| {
        let code = async |inputs: &[&u64]| -> Vec<Result<u64, Infallible>> {
            Context::checkpoint(); // a batch that is wanted passes it
            inputs.iter().map(|n| Ok(code(**n))).collect()
        };
        let f = app.batch_async("f", code).containers(1).batch_size(2).started();
        for _ in 0..20 {
            drop(endless(&f));
            assert_that_it_is_free(&f);
        }
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_dropped_call_frees_its_container_at_the_next_checkpoint() {
    in_an_app(|app| {
        let f = numbers(&app, 1, |n| code(*n));
        for _ in 0..20 {
            drop(endless(&f));
            assert_that_it_is_free(&f);
        }
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_dropped_map_frees_its_containers_at_the_next_checkpoint() {
    in_an_app(|app| {
        let f = numbers(&app, 1, |n| code(*n));
        let mut endless = f.map(vec![0, FOR_EVER, 2]).into_iter();
        assert_eq!(endless.next().expect("an outcome").expect("infallible"), 0);
        until("the container executes the endless input", || f.status().executing == 1);
        drop(endless);
        assert_that_it_is_free(&f);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_map_that_ends_by_a_failure_frees_its_containers_at_their_next_checkpoints() {
    in_an_app(|app| {
        let fails = |n: &u64| if *n == 1 { Err("one") } else { Ok(code(*n)) };
        let f = app.function("fails", fails).containers(2).started();
        assert!(f.run(vec![FOR_EVER, 1]).is_err());
        f.run(vec![2, 3]).expect("both containers are free");
        assert_eq!(f.status().crashes, 0);
    });
}

/// The number of times that [`Counted`] workers were entered and exited.
#[derive(Default)]
struct Lives {
    entered: AtomicU32,
    exited: AtomicU32,
}

struct Counted(Arc<Lives>);

impl Worker for Counted {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        Ok(code(*input))
    }

    fn exit(self, _: &Context) {
        Context::checkpoint(); // an earlier cancellation does not reach `exit`
        self.0.exited.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_interrupted_worker_is_entered_anew_without_an_exit() {
    in_an_app(|app| {
        let lives = Arc::new(Lives::default());
        let counted = Arc::clone(&lives);
        let enter = move |_: &Context| {
            counted.entered.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(Counted(Arc::clone(&counted)))
        };
        let f = app.worker("counted", enter).containers(1).started();
        drop(endless(&f));
        assert_that_it_is_free(&f);
        assert_that_nothing_crashed(&f, 1);
        assert_eq!(lives.entered.load(Ordering::SeqCst), 2, "enters");
        assert_eq!(lives.exited.load(Ordering::SeqCst), 0, "the interrupted worker does not exit");
        assert!(app.shutdown_blocking().is_clean());
        assert_eq!(lives.exited.load(Ordering::SeqCst), 1, "the second worker exits");
    });
}

#[test]
fn an_async_function_unwinds_from_a_long_poll_at_a_checkpoint() {
    in_an_app(|app| {
        let f = app
            .function_async("polls", async |n: &u64| Ok::<_, Infallible>(code(*n)))
            .containers(1)
            .started();
        for _ in 0..20 {
            drop(endless(&f));
            assert_that_it_is_free(&f);
        }
        assert_that_nothing_crashed(&f, 0);
    });
}

/// Spawns a task that outlives its input.
struct Spawns(Arc<AtomicU32>);

impl AsyncWorker for Spawns {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        if *input == FOR_EVER {
            let passed = Arc::clone(&self.0);
            tokio::task::spawn_local(async move {
                loop {
                    Context::checkpoint();
                    passed.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            });
            std::future::pending::<()>().await;
        }
        Ok(*input)
    }
}

#[test]
fn a_task_spawned_by_cancelled_code_goes_on() {
    in_an_app(|app| {
        let passed = Arc::new(AtomicU32::new(0));
        let spawned = Arc::clone(&passed);
        let f = app
            .worker_async("spawns", async move |_: &Context| Ok::<_, BoxError>(Spawns(Arc::clone(&spawned))))
            .containers(1)
            .keep_interrupted() // the tasks end with the generation of a worker that is entered again
            .started();
        let endless = endless(&f);
        until("the spawned task runs", || passed.load(Ordering::SeqCst) > 0);
        drop(endless);
        assert_that_it_is_free(&f);
        let before = passed.load(Ordering::SeqCst);
        until("the spawned task goes on", || passed.load(Ordering::SeqCst) > before);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn an_abort_handle_interrupts_code_as_dropping_the_call_does() {
    in_an_app(|app| {
        let f = numbers(&app, 1, |n| code(*n));
        let endless = endless(&f);
        endless.abort_handle().abort();
        assert!(endless.wait().is_err());
        assert_that_it_is_free(&f);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn code_that_joins_an_interrupted_helper_thread_is_interrupted_and_does_not_crash() {
    in_an_app(|app| {
        let f = numbers(&app, 1, |n| {
            if *n == FOR_EVER {
                let scope = Context::current().expect("in a container").scope();
                let helper = scope.spawn(|| code(FOR_EVER)).expect("a thread can be made");
                return helper.join().expect("the helper does not panic");
            }
            *n
        });
        drop(endless(&f));
        assert_that_it_is_free(&f);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_panic_of_cancelled_code_that_has_passed_no_checkpoint_is_a_crash() {
    in_an_app(|app| {
        let gate = Gate::default();
        let passes = gate.clone();
        let f = numbers(&app, 1, move |n| {
            if *n == FOR_EVER {
                passes.pass();
                crash();
            }
            *n
        });
        drop(endless(&f));
        gate.open();
        assert_that_it_is_free(&f);
        assert_eq!(f.status().crashes, 1);
    });
}

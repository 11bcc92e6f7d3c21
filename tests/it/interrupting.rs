//! Code that executes what nobody waits for any more comes out at its next checkpoint, and its container goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore::{App, AsyncWorker, BoxError, Context, Function, Worker};

use crate::support::{unhung, until};

/// An input by which code comes by checkpoints for ever.
const FOR_EVER: u64 = 666;

/// The user's code: returns its input, or goes on for ever.
fn code(input: u64) -> u64 {
    if input != FOR_EVER {
        return input;
    }
    loop {
        Context::checkpoint();
        std::thread::yield_now();
    }
}

/// Waits until the container of `f` executes the endless input.
fn executes(f: &Function<u64, u64, Infallible>) {
    until("it executes", || f.status().executing == 1);
}

fn assert_that_nothing_crashed(f: &Function<u64, u64, Infallible>, restarts: u64) {
    let status = f.status();
    assert_eq!(status.crashes, 0, "an interruption is no crash");
    assert_eq!(status.restarts, restarts, "how often its container began anew");
    assert_eq!(status.containers.abandoned, 0, "cancelled code is never abandoned");
}

#[test]
fn a_dropped_call_frees_its_container_at_the_next_checkpoint() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let f = app.infallible("plain", |n: &u64| code(*n)).containers(1).start().expect("valid settings");
        for _ in 0..20 {
            let endless = f.call(FOR_EVER);
            executes(&f);
            drop(endless);
            assert_eq!(f.call(1).wait().expect("infallible"), 1);
        }
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_dropped_map_frees_its_containers_at_the_next_checkpoint() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let f = app.infallible("plain", |n: &u64| code(*n)).containers(1).start().expect("valid settings");
        let mut endless = f.map(vec![0, FOR_EVER, 2]).into_iter();
        assert_eq!(endless.next().expect("an outcome").expect("infallible"), 0);
        executes(&f);
        drop(endless);
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_map_that_ends_by_a_failure_frees_its_containers_at_their_next_checkpoints() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let fails = |n: &u64| if *n == 1 { Err("one") } else { Ok(code(*n)) };
        let f = app.function("fails", fails).containers(2).start().expect("valid settings");
        assert!(f.run(vec![FOR_EVER, 1]).is_err());
        f.run(vec![2, 3]).expect("both containers are free");
        assert_eq!(f.status().crashes, 0);
    });
}

/// Counts its kind's `enter` and `exit`.
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
        Context::checkpoint(); // what was cancelled before does not reach it
        self.0.exited.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_worker_that_is_interrupted_is_entered_anew_without_an_exit() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let lives = Arc::new(Lives::default());
        let counted = Arc::clone(&lives);
        let enter = move |_: &Context| {
            counted.entered.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(Counted(Arc::clone(&counted)))
        };
        let f = app.worker("counted", enter).containers(1).start().expect("valid settings");
        let endless = f.call(FOR_EVER);
        executes(&f);
        drop(endless);
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_that_nothing_crashed(&f, 1);
        assert_eq!(lives.entered.load(Ordering::SeqCst), 2);
        assert_eq!(lives.exited.load(Ordering::SeqCst), 0);
        assert!(app.shutdown_blocking().is_clean());
        assert_eq!(lives.exited.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_async_function_comes_out_of_a_long_poll() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let f = app.function_async("polls", async |n: &u64| Ok::<_, Infallible>(code(*n)));
        let f = f.containers(1).start().expect("valid settings");
        for _ in 0..20 {
            let endless = f.call(FOR_EVER);
            executes(&f);
            drop(endless);
            assert_eq!(f.call(1).wait().expect("infallible"), 1);
        }
        assert_that_nothing_crashed(&f, 0);
    });
}

/// Spawns a task that outlives the inputs.
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
fn a_task_that_was_spawned_by_cancelled_code_goes_on() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let passed = Arc::new(AtomicU32::new(0));
        let spawned = Arc::clone(&passed);
        let f = app
            .worker_async("spawns", async move |_: &Context| Ok::<_, BoxError>(Spawns(Arc::clone(&spawned))));
        let f = f.containers(1).start().expect("valid settings");
        let endless = f.call(FOR_EVER);
        until("the task runs", || passed.load(Ordering::SeqCst) > 0);
        drop(endless);
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        let before = passed.load(Ordering::SeqCst);
        until("the task goes on", || passed.load(Ordering::SeqCst) > before);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn an_abort_handle_interrupts_as_a_drop_does() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let f = app.infallible("plain", |n: &u64| code(*n)).containers(1).start().expect("valid settings");
        let endless = f.call(FOR_EVER);
        executes(&f);
        endless.abort_handle().abort();
        assert!(endless.wait().is_err());
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn code_that_joins_a_helper_which_comes_out_is_interrupted_and_does_not_crash() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let f = app.infallible("joins", |n: &u64| {
            if *n == FOR_EVER {
                let scope = Context::current().expect("in a container").scope();
                let helper = scope.spawn(|| code(FOR_EVER)).expect("a thread can be made");
                return helper.join().expect("the helper does not panic");
            }
            *n
        });
        let f = f.containers(1).start().expect("valid settings");
        let endless = f.call(FOR_EVER);
        executes(&f);
        drop(endless);
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_that_nothing_crashed(&f, 0);
    });
}

#[test]
fn a_panic_of_unwanted_code_that_has_come_by_no_checkpoint_is_a_crash() {
    unhung(|| {
        let app = App::ephemeral("interrupting");
        let gate = crate::support::Gate::default();
        let passes = gate.clone();
        let f = app.infallible("crashes", move |n: &u64| {
            if *n == FOR_EVER {
                passes.pass();
                crate::support::crash();
            }
            *n
        });
        let f = f.containers(1).start().expect("valid settings");
        let doomed = f.call(FOR_EVER);
        executes(&f);
        drop(doomed);
        gate.open();
        assert_eq!(f.call(1).wait().expect("infallible"), 1);
        assert_eq!(f.status().crashes, 1);
    });
}

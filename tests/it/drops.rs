//! Values whose `Drop` panics: wherever one is dropped by the engine, that is where it ends.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore::{Context, Worker};

use crate::support::{attempt, under_each_policy, until};

/// Counts its drops, and panics in each unless the thread is panicking already.
#[derive(Debug)]
struct Bomb(Arc<AtomicU64>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

fn bombs() -> (Arc<AtomicU64>, impl Fn() -> Bomb + Clone + Send + Sync + 'static) {
    let drops = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&drops);
    (drops, move || Bomb(Arc::clone(&counted)))
}

/// Lets go of a value without its drop.
fn defuse<T>(value: T) {
    std::mem::forget(value);
}

#[test]
fn inputs_that_panic_in_their_drop() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app.infallible("f", |_: &Bomb| ()).containers(2).restart(policy).start().expect("valid");
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        assert_eq!(f.run(inputs).expect("infallible").len(), 200);
        until("each is dropped once", || drops.load(Ordering::SeqCst) == 200);
        // Dropped early: some executed, some in chunks, some still in the source.
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        drop(f.map(inputs).window(10).into_iter().next());
        until("each is dropped once", || drops.load(Ordering::SeqCst) == 400);
        // From a feeder.
        let again = bomb.clone();
        drop(f.map((0..50).map(move |_| again())).window(10).into_iter().next());
        until("the feeder is done", || f.status().feeders == 0);
        assert_eq!(f.status().crashes, 0, "no container dies of a drop");
        assert!(f.call(bomb()).wait().is_ok());
        // Never begun at all.
        drop(f.map((0..3).map(|_| bomb()).collect::<Vec<_>>()));
    });
}

#[test]
fn outputs_and_errors_that_panic_in_their_drop() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app
            .function("f", move |n: &u64| if n.is_multiple_of(3) { Err(bomb()) } else { Ok(bomb()) })
            .retries(longshore::Retries::new(1).initial_delay(std::time::Duration::ZERO))
            .containers(2)
            .restart(policy)
            .start()
            .expect("valid");
        let mut outcomes = f.map(0..300u64).return_exceptions().into_iter();
        defuse(outcomes.next());
        until("some more are there", || outcomes.progress().completed() > 10);
        drop(outcomes);
        let before = drops.load(Ordering::SeqCst);
        assert!(before > 0, "refused errors were dropped");
        defuse(f.call(1).wait());
        assert_eq!(f.status().crashes, 0, "no container dies of a drop");
        let mut all = f.map(0..30u64).return_exceptions().into_iter();
        let mut yielded = 0;
        for outcome in all.by_ref() {
            defuse(outcome);
            yielded += 1;
        }
        assert_eq!(yielded, 30);
    });
}

#[test]
fn payloads_that_panic_in_their_drop() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app
            .infallible("f", move |n: &u64| {
                if n.is_multiple_of(10) && attempt() == 1 {
                    panic_any(bomb());
                }
                *n
            })
            .containers(2)
            .restart(policy)
            .start()
            .expect("valid");
        assert_eq!(f.run((0..100).collect()).expect("replayed").len(), 100);
        assert_eq!(drops.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn states_and_captured_values_that_panic_in_their_drop() {
    struct Armed(#[expect(dead_code, reason = "dropped with the worker")] Bomb);
    impl Worker for Armed {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, context: &Context) -> Result<u64, Self::Error> {
            if *input == 5 && context.attempt().get() == 1 {
                crate::support::crash();
            }
            Ok(*input)
        }
    }
    under_each_policy(|_, policy| {
        let (drops, bomb) = bombs();
        let (captured_drops, captured) = bombs();
        let app = longshore::App::ephemeral("states");
        let held = captured();
        let worth = captured();
        let f = app
            .worker("f", move |_: &Context| {
                let _ = &held;
                Ok(Armed(bomb()))
            })
            .retry_if(move |_| {
                let _ = &worth;
                true
            })
            .containers(1)
            .restart(policy)
            .start()
            .expect("valid");
        assert_eq!(f.run((0..20).collect()).expect("replayed").len(), 20);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "the first generation's state");
        assert!(app.shutdown_blocking().functions[0].threads_running == 0);
        assert_eq!(drops.load(Ordering::SeqCst), 2, "the second's, in its exit");
        drop(f);
        until("the closures are dropped", || captured_drops.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn failures_hold_two_such_values_and_enter_errors_are_as_bad() {
    #[derive(Debug)]
    struct Sour(#[expect(dead_code, reason = "dropped with the error")] Bomb);
    impl std::fmt::Display for Sour {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            crate::support::crash()
        }
    }
    impl std::error::Error for Sour {}
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Self::Error> {
            Ok(*input)
        }
    }
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let make = bomb.clone();
        let f = app
            .function("f", move |_: &Bomb| Err::<(), Bomb>(make()))
            .restart(policy)
            .start()
            .expect("valid");
        drop(f.run_all((0..50).map(|_| bomb()).collect()));
        until("inputs and errors are dropped", || drops.load(Ordering::SeqCst) == 100);

        let enter = move |_: &Context| Err::<Never, _>(longshore::BoxError::from(Sour(bomb())));
        let give_up = longshore::RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let g = app.worker("g", enter).containers(1).restart(give_up).start().expect("valid");
        let Err(longshore::NotReady::GaveUp(crash)) = g.ready() else { panic!("it must give up") };
        let longshore::Death::EnterFailed(error) = &crash.death else { panic!("{crash}") };
        assert!(error.get().downcast_ref::<Sour>().is_some());
        assert!(error.to_string().contains("a crash on purpose"), "{error}");
    });
}

#[test]
fn a_builder_never_started_drops_its_closures_quietly() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let held = bomb();
        let builder = app.infallible("f", move |_: &u64| {
            let _ = &held;
        });
        drop(builder.restart(policy));
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn dropping_handles_while_panicking_breaks_nothing() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).start().expect("valid");
        let handle = f.clone();
        let caught = std::thread::spawn(move || {
            let mut outcomes = handle.map(0..1_000u64).into_iter();
            outcomes.next();
            let _call = handle.call(1);
            std::panic::resume_unwind(Box::new("an application's own panic"));
        })
        .join();
        assert!(caught.is_err());
        assert_eq!(f.run(vec![1, 2]).expect("the function is whole"), [1, 2]);
    });
}

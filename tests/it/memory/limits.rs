//! The code that is killed for its memory, how it is stopped, and what the limit covers.

use std::hint::black_box;
use std::io::Write;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use longshore::{App, AsyncWorker, BoxError, Cause, Context, Death, RateLimited, Worker};

use super::{KIB, LIMIT, MIB, memory, overdrafts, small_blocks};
use crate::support::{Gate, Started, numbers, under_each_policy, unhung, until};

/// The way an input uses memory. The gate opens at the end of the test.
type Appetite = fn(&Gate);

/// Runs `appetite` for input 7 of 40, and checks that only this input is poisoned and that each death reports
/// at least `used` bytes.
fn only_the_seventh_dies(appetite: Appetite, used: u64, most_threads: usize) {
    under_each_policy(move |app, policy| {
        let gate = Gate::default();
        let until_then = gate.clone();
        let f = app
            .infallible("f", move |n: &u64| {
                let own = black_box(vec![*n as u8; 64 * KIB]);
                if *n == 7 {
                    appetite(&until_then);
                }
                n + own.len() as u64
            })
            .containers(2)
            .crash_retries(2)
            .memory_limit(LIMIT)
            .restart(policy)
            .started();
        let outcomes = f.run_all((0..40).collect());
        for (n, outcome) in outcomes.iter().enumerate().filter(|(n, _)| *n != 7) {
            assert_eq!(*outcome.as_ref().expect("it is innocent"), (n + 64 * KIB) as u64);
        }
        let failure = outcomes[7].as_ref().expect_err("it used too much");
        let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
        for (limit, peak) in overdrafts(deaths) {
            assert_eq!(limit, LIMIT);
            assert!(peak >= used, "{peak} bytes are less than {used}");
        }
        assert!(failure.peak_bytes().is_some_and(|peak| peak >= used));
        assert!(f.status().containers.abandoned <= most_threads);
        gate.open();
        until("no abandoned thread is left", || f.status().containers.abandoned == 0);
        drop(outcomes);
    });
}

#[test]
fn one_block_over_the_limit_is_a_death_even_if_it_is_freed_at_once() {
    only_the_seventh_dies(|_| drop(black_box(Vec::<u8>::with_capacity(1 << 30))), 1 << 30, 2);
}

#[test]
fn leaked_small_blocks_over_the_limit_are_a_death() {
    only_the_seventh_dies(|_| std::mem::forget(black_box(small_blocks(5 * MIB))), LIMIT, 2);
}

#[test]
fn code_with_checkpoints_unwinds_when_it_is_over_its_limit() {
    let appetite: Appetite = |_| {
        let mut blocks = Vec::new();
        loop {
            blocks.push(black_box(vec![1u8; KIB]));
            Context::checkpoint();
        }
    };
    only_the_seventh_dies(appetite, LIMIT, 2);
}

#[test]
fn code_that_catches_the_unwinding_and_goes_on_is_left_behind() {
    let appetite: Appetite = |gate| {
        let blocks = small_blocks(5 * MIB);
        let caught = catch_unwind(Context::checkpoint); // this checkpoint may come before or after the kill
        gate.pass();
        drop((blocks, caught));
    };
    only_the_seventh_dies(appetite, LIMIT, 2);
}

#[test]
fn code_over_its_limit_that_holds_a_lock_keeps_it_until_it_returns() {
    static LOCK: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let appetite: Appetite = |_| {
        let mut lock = LOCK.lock().expect("no thread panics while it holds the lock");
        lock.extend_from_slice(&vec![1; 5 * MIB]);
        lock.clear();
        lock.shrink_to_fit();
    };
    only_the_seventh_dies(appetite, LIMIT, 2);
    assert!(LOCK.lock().expect("no thread unwound while it held the lock").is_empty());
}

#[test]
fn a_limit_covers_what_enter_built_and_what_the_attempt_holds() {
    struct Table(Vec<u8>);
    impl Worker for Table {
        type Input = usize;
        type Output = Option<u64>;
        type Error = std::convert::Infallible;
        fn call(&mut self, bytes: &usize, context: &Context) -> Result<Option<u64>, Self::Error> {
            let own = black_box(vec![self.0[0]; *bytes]);
            let left = context.memory_left();
            drop(own);
            Ok(left)
        }
    }
    unhung(|| {
        let app = App::ephemeral("table");
        let f = app
            .worker("f", |_: &Context| Ok(Table(vec![1; 3 * MIB])))
            .containers(1)
            .memory_limit(LIMIT)
            .crash_retries(0)
            .started();
        let left = f.call(MIB / 2).wait().expect("it fits").expect("there is a limit");
        let little = 16 * KIB as u64; // more than the container itself allocates
        assert!((MIB as u64 / 2 - little..=MIB as u64 / 2).contains(&left), "{left}");
        let failure = f.call(MIB + KIB).wait().expect_err("it does not fit");
        let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
        let (limit, used) = overdrafts(deaths)[0];
        assert!(limit == LIMIT, "{used}");
        assert!((used - LIMIT) < 2 * little, "{used}");
        assert!(f.call(MIB / 2).wait().is_ok(), "a fresh container has a fresh account");
        let held = memory(&f);
        assert_eq!(held.peak, used, "peak");
        assert_eq!(held.limit, Some(LIMIT), "limit");
    });
}

#[test]
fn an_enter_over_the_limit_is_a_crash_without_an_input() {
    unhung(|| {
        let app = App::ephemeral("enter");
        struct Never;
        impl Worker for Never {
            type Input = ();
            type Output = ();
            type Error = std::convert::Infallible;
            fn call(&mut self, (): &(), _: &Context) -> Result<(), Self::Error> {
                Ok(())
            }
        }
        let enter = |_: &Context| -> Result<Never, BoxError> {
            drop(black_box(vec![1u8; 5 * MIB]));
            Ok(Never)
        };
        let policy = RateLimited::new().max_crashes(1).max_failure_rate(0.0);
        let f = app.worker("f", enter).containers(1).memory_limit(LIMIT).restart(policy).started();
        let failure = f.call(()).wait().expect_err("it cannot start");
        let Cause::GaveUp(gave_up) = failure.cause() else { panic!("{failure}") };
        let crash = gave_up.last();
        assert!(matches!(crash.death, Death::MemoryLimit { .. }), "{crash}");
        assert!(crash.executing.is_none(), "{crash}");
    });
}

#[test]
fn a_kill_leaves_neighbours_and_their_output_untouched() {
    under_each_policy(|app, policy| {
        let over = Arc::new(AtomicBool::new(false));
        let goes_on = Arc::clone(&over);
        let prints = app
            .infallible("prints", move |line: &u64| {
                while !goes_on.load(Ordering::SeqCst) {
                    let mut out = std::io::stdout().lock();
                    drop(black_box(vec![0u8; 2 * KIB]));
                    out.write_all(b"").and_then(|()| out.flush()).expect("nothing is written");
                }
                *line
            })
            .containers(1)
            .memory_limit(MIB as u64)
            .started();
        let call = prints.call(5);
        let grows = app
            .infallible("grows", |n: &u64| {
                small_blocks(if n.is_multiple_of(4) { 5 * MIB } else { KIB }).len()
            })
            .containers(2)
            .crash_retries(0)
            .memory_limit(LIMIT)
            .restart(policy)
            .start();
        let outcomes = grows.expect("valid").run_all((0..20).collect());
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 5);
        over.store(true, Ordering::SeqCst);
        assert_eq!(call.wait().expect("it is a neighbour"), 5);
        assert_eq!(prints.status().crashes, 0);
    });
}

#[test]
fn async_code_over_its_limit_is_dropped_when_its_poll_returns() {
    struct Dropped(Arc<AtomicU64>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    struct Grows(Arc<AtomicU64>);
    impl AsyncWorker for Grows {
        type Input = u32;
        type Output = u32;
        type Error = std::convert::Infallible;
        async fn call(&mut self, n: &u32, _: &Context) -> Result<u32, Self::Error> {
            if *n == 3 {
                let _dropped = Dropped(Arc::clone(&self.0));
                let _blocks = small_blocks(5 * MIB);
                std::future::pending::<()>().await;
            }
            Ok(*n)
        }
    }
    under_each_policy(|app, policy| {
        let drops = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&drops);
        let f = app
            .worker_async("f", async move |_: &Context| Ok(Grows(Arc::clone(&counted))))
            .containers(2)
            .crash_retries(1)
            .memory_limit(LIMIT)
            .restart(policy)
            .started();
        let outcomes = f.run_all((0..20).collect());
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 19);
        let failure = outcomes[3].as_ref().expect_err("it used too much");
        let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
        assert_eq!(overdrafts(deaths).len(), 2);
        until("both futures are dropped", || drops.load(Ordering::SeqCst) == 2);
        until("no abandoned thread is left", || f.status().containers.abandoned == 0);
    });
}

#[test]
fn code_with_checkpoints_unwinds_when_it_is_killed_or_aborted() {
    unhung(|| {
        let app = App::ephemeral("spins");
        let (begun, begins) = mpsc::channel();
        let f = numbers(&app, 1, move |n| {
            begun.send(()).expect("the test waits");
            while *n == 0 || Context::current().expect("in a container").attempt().get() == 1 {
                Context::checkpoint();
            }
            *n
        });
        let call = f.call(5);
        begins.recv().expect("it begins");
        let container = f.status().containers.live;
        assert_eq!(container, 1);
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        assert_eq!(call.wait().expect("it is replayed"), 5);
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
        begins.recv().expect("it began again");
        let endless = f.call(0);
        begins.recv().expect("it begins");
        f.abort();
        assert!(endless.wait().expect_err("aborted").is_shut_down());
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
        assert_eq!(app.shutdown_blocking().functions[0].threads_running, 0);
    });
}

#[test]
fn a_checkpoint_does_not_interrupt_the_drop_of_a_worker() {
    struct Flushes(Arc<AtomicU32>);
    impl Drop for Flushes {
        fn drop(&mut self) {
            for _ in 0..10 {
                Context::checkpoint();
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    impl Worker for Flushes {
        type Input = usize;
        type Output = ();
        type Error = std::convert::Infallible;
        fn call(&mut self, bytes: &usize, _: &Context) -> Result<(), Self::Error> {
            drop(small_blocks(*bytes));
            Ok(())
        }
    }
    unhung(|| {
        let app = App::ephemeral("flushes");
        let flushed = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&flushed);
        let f = app
            .worker("f", move |_: &Context| Ok(Flushes(Arc::clone(&counted))))
            .containers(1)
            .crash_retries(0)
            .memory_limit(LIMIT)
            .started();
        assert!(f.call(5 * MIB).wait().expect_err("it used too much").is_poisoned());
        assert!(f.call(KIB).wait().is_ok());
        until("the drop of the worker has run to its end", || flushed.load(Ordering::SeqCst) == 10);
    });
}

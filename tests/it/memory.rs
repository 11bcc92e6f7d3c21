//! Memory limits: which container is killed, what becomes of its thread, and that the accounts are exact.

use std::hint::black_box;
use std::io::Write;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use longshore::{
    App, AsyncWorker, BoxError, Cause, ConfigError, Context, Crash, Death, Function, Memory, RateLimited,
    StartError, Worker,
};

use crate::support::{Gate, Started, crash, numbers, under_each_policy, unhung, until};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const LIMIT: u64 = 4 * MIB as u64;

/// What an input does with memory. The gate opens at the end of the test.
type Appetite = fn(&Gate);

/// Allocates `bytes` in blocks of a kibibyte.
fn small_blocks(bytes: usize) -> Vec<Vec<u8>> {
    (0..bytes / KIB).map(|_| black_box(vec![0; KIB])).collect()
}

fn memory<I, O, E>(f: &Function<I, O, E>) -> Memory
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    f.status().memory.expect("an accountant is installed")
}

/// The limit and the bytes used of each death, all of which must be kills for memory.
fn overdrafts(deaths: &[Arc<Crash>]) -> Vec<(u64, u64)> {
    let overdraft = |crash: &Arc<Crash>| match crash.death {
        Death::MemoryLimit { limit, used, .. } => (limit, used),
        ref other => panic!("it died of {other}"),
    };
    deaths.iter().map(overdraft).collect()
}

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
fn an_input_that_leaves_two_threads_behind_is_not_replayed_again() {
    under_each_policy(|app, policy| {
        let (gate, attempts) = (Gate::default(), Arc::new(AtomicU32::new(0)));
        let (until_then, counted) = (gate.clone(), Arc::clone(&attempts));
        let f = app.infallible("f", move |n: &u32| {
            if *n == 0 {
                counted.fetch_add(1, Ordering::SeqCst);
                let blocks = small_blocks(5 * MIB);
                until_then.pass();
                drop(blocks);
            }
        });
        let f = f.containers(1).crash_retries(100).memory_limit(LIMIT).restart(policy).started();
        let outcomes = f.run_all((0..10).collect());
        let failure = outcomes[0].as_ref().expect_err("it used too much");
        assert_eq!(failure.attempts(), 2, "attempts");
        assert!(failure.is_poisoned(), "the input is poisoned");
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 9);
        let status = f.status();
        assert_eq!(status.containers.abandoned, 2, "abandoned threads");
        assert_eq!(attempts.load(Ordering::SeqCst), 2, "attempts");
        let held = status.memory.expect("an accountant is installed");
        assert!(held.abandoned >= 2 * LIMIT, "{held:?}");
        assert!(held.live >= held.abandoned, "{held:?}");
        let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure}") };
        let left = |crash: &Arc<Crash>| matches!(crash.death, Death::MemoryLimit { reclaimed: false, .. });
        assert!(deaths.iter().all(left), "{deaths:?}");
        gate.open();
        until("both abandoned threads have ended", || f.status().containers.abandoned == 0);
        until("the memory of the abandoned threads is freed", || memory(&f).abandoned == 0);
    });
}

#[test]
fn a_function_with_abandoned_max_threads_left_behind_gives_up() {
    unhung(|| {
        let app = App::ephemeral("crowded");
        let gate = Gate::default();
        let until_then = gate.clone();
        let f = app
            .infallible("f", move |n: &u32| {
                let blocks = small_blocks(if *n < 2 { 5 * MIB } else { KIB });
                if *n < 2 {
                    until_then.pass();
                }
                blocks.len()
            })
            .containers(1)
            .memory_limit(LIMIT)
            .abandoned_max(2)
            .started();
        let outcomes = f.run_all((0..100).collect());
        assert!(outcomes[0].as_ref().expect_err("it used too much").is_poisoned());
        let given_up = outcomes[2..100].iter().filter_map(|outcome| outcome.as_ref().err());
        assert_eq!(
            given_up.filter(|failure| failure.is_given_up()).count(),
            98,
            "no container is left that could go on"
        );
        assert_eq!(f.status().containers.abandoned, 2);
        assert!(!f.reset(), "a reset needs one of the abandoned threads to end");
        assert!(f.call(5).wait().expect_err("no container is left").is_given_up());
        gate.open();
        until("no abandoned thread is left", || f.status().containers.abandoned == 0);
        assert!(f.reset());
        assert_eq!(f.call(5).wait().expect("it goes on"), 1);
    });
}

#[test]
fn the_answer_of_code_that_was_killed_for_its_memory_is_counted_as_late() {
    unhung(|| {
        let app = App::ephemeral("memory");
        let gate = Gate::default();
        let until_then = gate.clone();
        let f = app
            .infallible("f", move |n: &u64| {
                if *n == 7 && crate::support::attempt() == 1 {
                    let kept = black_box(small_blocks(5 * MIB));
                    until_then.pass();
                    drop(kept);
                }
                *n
            })
            .containers(1)
            .memory_limit(LIMIT)
            .started();
        assert_eq!(f.call(7).wait().expect("it is replayed"), 7);
        assert_eq!(f.status().late_answers, 0, "the first attempt has not returned");
        gate.open();
        until("the late answer is counted", || f.status().late_answers == 1);
        until("the abandoned thread has ended", || f.status().containers.abandoned == 0);
    });
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
fn outputs_that_the_caller_collects_kill_no_container() {
    unhung(|| {
        let app = App::ephemeral("outputs");
        let f = app
            .infallible("f", |n: &usize| vec![*n as u8; KIB])
            .containers(2)
            .memory_limit(MIB as u64)
            .started();
        let outputs: Vec<Vec<u8>> =
            f.map(0..30_000).into_iter().map(|output| output.expect("innocent")).collect();
        let held = memory(&f);
        assert!(held.retained >= 30_000 * KIB as u64, "{held:?}");
        assert!(held.peak < MIB as u64, "{held:?}");
        assert_eq!(f.status().crashes, 0);
        drop(outputs);
        until("no retained bytes are left", || memory(&f).retained == 0);
    });
}

#[test]
fn accounts_of_finished_containers_return_to_zero() {
    struct Kept(Vec<String>);
    impl Worker for Kept {
        type Input = String;
        type Output = Vec<String>;
        type Error = String;
        fn call(&mut self, input: &String, context: &Context) -> Result<Vec<String>, String> {
            self.0.push(input.clone());
            let scope = context.scope();
            let (text, carried) = (input.clone(), scope.spawn(|| vec!["carried".to_owned(); 20]));
            let free = thread::spawn(move || vec![text; 20]).join().expect("no panic");
            let carried = carried.expect("a thread").join().expect("no panic");
            if input.len().is_multiple_of(3) { Err(input.repeat(3)) } else { Ok([free, carried].concat()) }
        }
    }
    unhung(|| {
        let app = App::ephemeral("exact");
        let f = app.worker("f", |_: &Context| Ok(Kept(Vec::new()))).containers(3).started();
        let inputs: Vec<String> = (0..60).map(|n| "x".repeat(100 + n)).collect();
        let mut outcomes = f.run_all(inputs);
        for outcome in outcomes.iter_mut().flatten() {
            outcome.iter_mut().for_each(|text| text.push_str("grown outside"));
        }
        assert!(memory(&f).retained > 0);
        drop(outcomes);
        let kept = memory(&f);
        assert!(kept.live > 60 * 100, "the workers' own state is still charged: {kept:?}");
        drop(app);
        f.drain();
        until("all containers have stopped", || f.status().containers.stopped == 3);
        assert_eq!(memory(&f).live, 0);
    });
}

#[test]
fn helper_threads_are_charged_if_they_enter_the_scope() {
    unhung(|| {
        let app = App::ephemeral("helpers");
        let f = app
            .infallible("f", |carried: &bool| {
                let scope = Context::current().expect("in a container").scope();
                let work = || small_blocks(5 * MIB).len();
                thread::scope(|threads| {
                    threads
                        .spawn(|| if *carried { scope.run(work) } else { work() })
                        .join()
                        .expect("no panic")
                })
            })
            .containers(1)
            .crash_retries(0)
            .memory_limit(LIMIT)
            .started();
        assert_eq!(f.call(false).wait().expect("charged to the process"), 5 * KIB);
        assert!(f.call(true).wait().expect_err("charged to the container").is_poisoned());
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
fn a_container_that_retains_more_than_recycle_above_is_recycled() {
    struct Cache(Vec<Vec<u8>>, Arc<AtomicU32>);
    impl Worker for Cache {
        type Input = usize;
        type Output = Vec<u8>;
        type Error = std::convert::Infallible;
        fn call(&mut self, bytes: &usize, _: &Context) -> Result<Vec<u8>, Self::Error> {
            self.0.push(vec![1; *bytes]);
            Ok(vec![2; 8 * KIB])
        }
        fn exit(self, _: &Context) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    under_each_policy(|app, policy| {
        let exits = Arc::new(AtomicU32::new(0));
        let start = |name: &str| {
            let counted = Arc::clone(&exits);
            let f = app
                .worker(name, move |_: &Context| Ok(Cache(Vec::new(), Arc::clone(&counted))))
                .containers(1)
                .recycle_above(MIB as u64)
                .restart(policy.clone());
            f.started()
        };
        let outputs_alone = start("outputs");
        let all: usize =
            outputs_alone.map(vec![0; 2000]).into_iter().map(|output| output.expect("ok").len()).sum();
        assert_eq!(all, 2000 * 8 * KIB, "bytes of the outputs");
        assert_eq!(outputs_alone.status().recycled, 0, "outputs that the caller takes do not count");
        let f = start("caches");
        for _ in 0..50 {
            assert!(f.call(100 * KIB).wait().is_ok());
        }
        let status = f.status();
        assert!((3..=5).contains(&status.recycled), "{}", status.recycled);
        assert_eq!(status.crashes, 0, "crashes");
        assert_eq!(status.restarts, status.recycled, "restarts");
        assert_eq!(u64::from(exits.load(Ordering::SeqCst)), status.recycled);
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
fn memory_settings_that_cannot_be_enforced_are_refused() {
    let app = App::ephemeral("settings");
    let f = || app.infallible("f", |n: &u32| *n);
    let refused = [f().memory_limit(0).start(), f().memory_limit(1).abandoned_bytes_max(0).start()];
    for start in refused {
        assert!(matches!(start, Err(StartError::Config(ConfigError::NoMemory))));
    }
    assert!(matches!(f().abandoned_max(0).start(), Err(StartError::Config(ConfigError::NoneAbandoned))));
    let most = f().memory_limit(u64::MAX).recycle_above(0).abandoned_max(usize::MAX).started();
    assert_eq!(most.call(3).wait().expect("it fits"), 3);
}

/// A worker that keeps as many bytes as each input says, and whose `exit` waits for a gate.
struct Hoard {
    kept: Vec<Vec<u8>>,
    leave: Gate,
    exits: Arc<AtomicU32>,
}

impl Worker for Hoard {
    type Input = usize;
    type Output = ();
    type Error = std::convert::Infallible;

    fn call(&mut self, bytes: &usize, _: &Context) -> Result<(), Self::Error> {
        self.kept.push(vec![1; *bytes]);
        Ok(())
    }

    fn exit(self, _: &Context) {
        self.exits.fetch_add(1, Ordering::SeqCst);
        self.leave.pass();
    }
}

#[test]
fn a_recycled_container_whose_exit_hangs_is_replaced_once_and_its_thread_counted_once() {
    unhung(|| {
        let app = App::ephemeral("hoard");
        let (leave, exits) = (Gate::default(), Arc::new(AtomicU32::new(0)));
        let (gate, counted) = (leave.clone(), Arc::clone(&exits));
        let enter = move |_: &Context| {
            Ok(Hoard { kept: Vec::new(), leave: gate.clone(), exits: Arc::clone(&counted) })
        };
        let f = app
            .worker("f", enter)
            .containers(1)
            .abandoned_max(2)
            .recycle_above(MIB as u64)
            .exit_timeout(Duration::from_millis(5))
            .started();
        assert!(f.call(2 * MIB).wait().is_ok());
        assert!(f.call(KIB).wait().is_ok(), "after this call the engine holds no output of the first one");
        until("the exit of the recycled container is abandoned", || f.status().containers.abandoned == 1);
        leave.open();
        assert!(f.call(KIB).wait().is_ok(), "the recycled container is replaced");
        until("no abandoned thread is left", || f.status().containers.abandoned == 0);
        assert_eq!(f.status().recycled, 1, "recycled containers");
        assert_eq!(exits.load(Ordering::SeqCst), 1, "exits");
        assert!(app.shutdown_blocking().is_clean());
    });
}

#[test]
fn outputs_that_the_caller_keeps_do_not_count_as_memory_of_an_abandoned_thread() {
    unhung(|| {
        let app = App::ephemeral("outputs");
        let gate = Gate::default();
        let until_then = gate.clone();
        let f = app
            .infallible("f", move |n: &usize| {
                if *n == usize::MAX && Context::current().expect("in a container").attempt().get() == 1 {
                    let blocks = small_blocks(2 * MIB);
                    until_then.pass();
                    drop(blocks);
                }
                vec![1u8; KIB]
            })
            .containers(1)
            .memory_limit(MIB as u64)
            .abandoned_bytes_max(16 * MIB as u64)
            .started();
        let outputs: Vec<_> =
            f.map(0..20 * KIB).into_iter().map(|output| output.expect("innocent")).collect();
        assert!(f.call(usize::MAX).wait().is_ok(), "it is replayed");
        assert_eq!(f.status().containers.abandoned, 1);
        gate.open();
        drop(outputs);
    });
}

#[test]
fn memory_of_a_helper_thread_counts_for_the_attempt_that_it_helps() {
    struct Helped {
        jobs: mpsc::SyncSender<usize>,
        done: mpsc::Receiver<Vec<Vec<u8>>>,
    }
    impl Worker for Helped {
        type Input = usize;
        type Output = usize;
        type Error = std::convert::Infallible;
        fn call(&mut self, bytes: &usize, _: &Context) -> Result<usize, Self::Error> {
            self.jobs.send(*bytes).expect("the helper waits");
            Ok(self.done.recv().expect("it answers").len())
        }
    }
    unhung(|| {
        let app = App::ephemeral("helped");
        let enter = |context: &Context| -> Result<Helped, BoxError> {
            let (jobs, todo) = mpsc::sync_channel(0);
            let (answer, done) = mpsc::sync_channel(0);
            let scope = context.scope();
            thread::spawn(move || {
                for bytes in todo {
                    if answer.send(scope.run(|| small_blocks(bytes))).is_err() {
                        return;
                    }
                }
            });
            Ok(Helped { jobs, done })
        };
        let f = app.worker("f", enter).containers(1).crash_retries(0).memory_limit(LIMIT).started();
        let outcomes = f.run_all(vec![MIB, 3 * MIB, 5 * MIB, 3 * MIB, 2 * MIB, 3 * MIB]);
        let poisoned: Vec<bool> = outcomes.iter().map(|outcome| outcome.is_err()).collect();
        assert_eq!(poisoned, [false, false, true, false, false, false]);
    });
}

#[test]
fn a_function_without_a_usable_container_gives_up_however_the_last_one_died() {
    unhung(|| {
        let app = App::ephemeral("killed");
        let (gate, begun) = (Gate::default(), Gate::default());
        let (until_then, begins) = (gate.clone(), begun.clone());
        let f = app
            .infallible("f", move |(): &()| {
                begins.open();
                until_then.pass();
            })
            .containers(1)
            .abandoned_max(1)
            .started();
        let calls = [f.call(()), f.call(())];
        begun.pass();
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        let failures = calls.map(|call| call.wait().expect_err("no container is left"));
        let lost = failures.iter().filter(|failure| matches!(failure.cause(), Cause::Lost(_))).count();
        let given_up = failures.iter().filter(|failure| failure.is_given_up()).count();
        assert_eq!(lost, 1, "lost inputs");
        assert_eq!(given_up, 1, "given-up inputs");
        gate.open();
    });
}

#[test]
fn a_drain_ends_when_the_last_input_is_killed() {
    unhung(|| {
        let app = App::ephemeral("drains");
        let (gate, begun, grow) = (Gate::default(), Gate::default(), Gate::default());
        let (until_then, begins, grows) = (gate.clone(), begun.clone(), grow.clone());
        let f = app
            .infallible("f", move |(): &()| {
                begins.open();
                grows.pass();
                let blocks = small_blocks(5 * MIB);
                until_then.pass();
                drop(blocks);
            })
            .containers(1)
            .crash_retries(0)
            .memory_limit(LIMIT)
            .started();
        let call = f.call(());
        begun.pass();
        f.drain();
        grow.open();
        let report = app.shutdown_blocking();
        assert_eq!(report.functions[0].threads_running, 1, "{report}");
        assert!(call.wait().expect_err("it used too much").is_poisoned());
        gate.open();
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

#[test]
fn kept_outputs_of_dead_generations_are_not_charged_to_their_successors() {
    unhung(|| {
        let app = App::ephemeral("kept");
        let f = app
            .infallible("f", |n: &u64| {
                if n % 2 == 1 {
                    crash();
                }
                vec![*n as u8; KIB]
            })
            .containers(2)
            .crash_retries(0)
            .memory_limit(LIMIT)
            .restart(RateLimited::never())
            .started();
        let outcomes = f.run_all((0..6_000).collect());
        let kept: Vec<Vec<u8>> = outcomes.into_iter().filter_map(Result::ok).collect();
        assert_eq!(kept.len(), 3_000, "outputs");
        assert_eq!(f.status().crashes, 3_000, "crashes");
        let held = memory(&f);
        // Almost all outputs were made by generations that are over. Only the last two generations are still
        // charged.
        assert!(held.live < 100 * KIB as u64, "{held:?}");
        assert!(held.retained < 100 * KIB as u64, "{held:?}");
        let own = f.call(0).wait().expect("it fits");
        let with_it = memory(&f).retained;
        drop(kept);
        let without = memory(&f).retained;
        assert!(
            without <= with_it,
            "{with_it} bytes, then {without}: the container's own output is still charged"
        );
        assert!(
            without >= KIB as u64,
            "{with_it} bytes, then {without}: the container's own output is still charged"
        );
        drop(own);
        assert!(memory(&f).retained <= without - KIB as u64);
    });
}

//! The accounts of containers: retained bytes, recycling, helper threads, and that every account is exact.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use longshore::{App, BoxError, ConfigError, Context, RateLimited, StartError, Worker};

use super::{KIB, LIMIT, MIB, memory, small_blocks};
use crate::support::{Gate, Started, crash, under_each_policy, unhung, until};

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

//! Threads that a kill has left behind, and what a function does when there are too many.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore::{App, Cause, Context, Crash, Death};

use super::{KIB, LIMIT, MIB, memory, small_blocks};
use crate::support::{Gate, Started, under_each_policy, unhung, until};

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

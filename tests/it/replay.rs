//! Crashes, replays, and that each input has exactly one outcome.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use longshore::{App, Cause, Context, Death, Failure, Previous, RateLimited, Worker};

use crate::support::{
    Gate, Started, attempt, crash, failing_under, numbers_under, under_each_policy, unhung, until,
};

#[test]
fn in_flight_inputs_survive_a_panic() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 3, |n| {
            if n.is_multiple_of(97) && attempt() == 1 { crash() } else { n * 2 }
        });
        let outputs = f.run((0..5_000).collect()).expect("every input is replayed");
        assert!(outputs.iter().enumerate().all(|(n, output)| *output == 2 * n as u64));
        let status = f.status();
        assert_eq!(status.crashes, 52);
    });
}

#[test]
fn completed_inputs_never_run_again_and_each_input_has_one_outcome() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(Mutex::new(BTreeMap::<u64, u32>::new()));
        let count = Arc::clone(&runs);
        let f = failing_under(policy, app, 4, move |n| {
            *count.lock().expect("not poisoned").entry(*n).or_default() += 1;
            match n % 50 {
                7 if attempt() < 3 => crash(),
                11 => Err("odd one"),
                _ => Ok(*n),
            }
        });
        let mut outcomes = f.map(0..2_000u64).return_exceptions().unordered().into_iter();
        let mut seen = vec![0; 2_000];
        for outcome in outcomes.by_ref() {
            let index = match outcome {
                Ok(n) => n,
                Err(failure) => failure.index().expect("no error of the map"),
            };
            seen[usize::try_from(index).expect("small")] += 1;
        }
        assert!(seen.iter().all(|times| *times == 1), "each input has exactly one outcome");
        let runs = runs.lock().expect("not poisoned");
        assert!(runs.iter().all(|(n, times)| *times == if n % 50 == 7 { 3 } else { 1 }), "{runs:?}");
        let progress = outcomes.progress();
        assert_eq!(progress.ok, 1_960, "ok inputs");
        assert_eq!(progress.failed, 40, "failed inputs");
        assert_eq!(progress.replayed, 80, "replayed inputs");
        assert_eq!(progress.pulled, progress.completed());
    });
}

#[test]
fn a_worker_is_entered_anew_after_a_crash_and_attempts_are_shown() {
    struct Fresh(u32);
    impl Worker for Fresh {
        type Input = u32;
        type Output = (u32, u32, u64, Option<String>);
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u32, context: &Context) -> Result<Self::Output, Self::Error> {
            self.0 += 1;
            if *input == 2 && context.attempt().get() < 3 {
                panic!("attempt {}", context.attempt());
            }
            let previous = context.previous().map(|previous| match previous {
                Previous::Crashed(crash) => match &crash.death {
                    Death::Panicked(panic) => panic.message().to_owned(),
                    other => format!("{other:?}"),
                },
                other => format!("{other:?}"),
            });
            Ok((self.0, context.attempt().get(), context.generation().get(), previous))
        }
    }
    under_each_policy(|app, policy| {
        let f = app.worker("f", |_: &Context| Ok(Fresh(0))).containers(1).restart(policy).started();
        let seen = f.run(vec![0, 1, 2, 3]).expect("replayed");
        assert_eq!(seen[0], (1, 1, 1, None));
        assert_eq!(seen[1], (2, 1, 1, None));
        let third = (seen[2].1, seen[2].2, seen[2].3.as_deref());
        assert_eq!(third, (3, 3, Some("attempt 2")));
        assert_eq!(seen[3].1, 1);
        assert_eq!(seen[2].0 + seen[3].0, 3, "both ran in the third generation, after one another");
    });
}

#[test]
fn without_crash_retries_only_inputs_that_crashed_are_given_up() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&runs);
        let f = app
            .infallible("f", move |n: &u32| {
                if *n == 5 {
                    count.fetch_add(1, Ordering::SeqCst);
                    crash();
                }
                *n
            })
            .containers(2)
            .crash_retries(0)
            .restart(policy)
            .started();
        let all = f.run_all((0..10).collect());
        let bad: Vec<_> = all.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].index(), Some(5), "index");
        assert_eq!(bad[0].attempts(), 1, "attempts");
        assert!(bad[0].is_poisoned(), "the input is poisoned");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_killed_container_loses_no_input_and_no_input_is_blamed() {
    under_each_policy(|app, policy| {
        let (gate, begun) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&begun));
        let f = numbers_under(policy, app, 1, move |n| {
            if *n == 3 && attempt() == 1 {
                count.fetch_add(1, Ordering::SeqCst);
                inside.pass();
                return 1_000;
            }
            *n
        });
        let handle = f.clone();
        let mapped = std::thread::spawn(move || handle.run((0..10).collect()));
        until("input 3 executes", || begun.load(Ordering::SeqCst) == 1);
        let container = longshore::ContainerId::new(0);
        assert!(f.kill_container(container));
        let outputs = mapped.join().expect("no panic").expect("replayed beside the abandoned attempt");
        assert_eq!(outputs, (0..10).collect::<Vec<_>>());
        let status = f.status();
        assert_eq!(status.crashes, 0, "crashes");
        assert_eq!(status.containers.abandoned, 1, "abandoned threads");
        assert_eq!(status.containers.live, 1, "live containers");
        gate.open();
        until("the abandoned attempt's answer is refused", || f.status().late_answers == 1);
        until("the abandoned thread ends", || f.status().containers.abandoned == 0);
        assert!(!f.kill_container(longshore::ContainerId::new(7)), "there is no such container");
    });
}

#[test]
fn without_crash_retries_an_input_interrupted_by_a_kill_is_lost_and_comes_back_shared() {
    unhung(|| {
        let app = App::ephemeral("kill");
        let (gate, begun) = (Gate::default(), Gate::default());
        let (inside, told) = (gate.clone(), begun.clone());
        let f = app
            .infallible("f", move |_: &String| {
                told.open();
                inside.pass();
            })
            .containers(1)
            .crash_retries(0)
            .started();
        let call = f.call("precious".to_owned());
        begun.pass();
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        let failure: Failure<String, _> = call.wait().expect_err("it may not run twice");
        assert!(matches!(failure.cause(), Cause::Lost(_)), "{failure:?}");
        assert_eq!(failure.attempts(), 1, "attempts");
        assert_eq!(failure.input().map(String::as_str), Some("precious"), "input");
        let returned = failure.into_input().expect("it comes back");
        assert!(matches!(&returned, longshore::Returned::Shared(input) if **input == "precious"));
        gate.open();
    });
}

#[test]
fn every_input_is_answered_while_eight_containers_crash_hundreds_of_times() {
    unhung(|| {
        let app = App::ephemeral("many");
        let f = numbers_under(RateLimited::never(), &app, 8, |n| {
            if n % 10 == 3 && attempt() <= 2 { crash() } else { *n }
        });
        let outputs = f.run((0..3_000).collect()).expect("all answer");
        assert_eq!(outputs, (0..3_000).collect::<Vec<_>>());
        assert_eq!(f.status().crashes, 600);
    });
}

//! Crashes, replay, and exactly one outcome for each input.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use longshore::{App, Cause, Context, Death, Failure, Previous, RateLimited, Worker};

use crate::support::{Gate, attempt, crash, under_each_policy, unhung, until};

#[test]
fn in_flight_inputs_survive_a_panic() {
    under_each_policy(|app, policy| {
        let f = app
            .infallible("f", |n: &u64| if n.is_multiple_of(97) && attempt() == 1 { crash() } else { n * 2 })
            .containers(3)
            .restart(policy)
            .start()
            .expect("valid");
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
        let f = app
            .function("f", move |n: &u64| {
                *count.lock().expect("not poisoned").entry(*n).or_default() += 1;
                match n % 50 {
                    7 if attempt() < 3 => crash(),
                    11 => Err("odd one"),
                    _ => Ok(*n),
                }
            })
            .containers(4)
            .restart(policy)
            .start()
            .expect("valid");
        let mut outcomes = f.map(0..2_000u64).return_exceptions().unordered().into_iter();
        let mut seen = vec![0; 2_000];
        for outcome in outcomes.by_ref() {
            let index = match outcome {
                Ok(n) => n,
                Err(failure) => failure.index().expect("no error of the map"),
            };
            seen[usize::try_from(index).expect("small")] += 1;
        }
        assert!(seen.iter().all(|times| *times == 1), "exactly one outcome each");
        let runs = runs.lock().expect("not poisoned");
        assert!(runs.iter().all(|(n, times)| *times == if n % 50 == 7 { 3 } else { 1 }), "{runs:?}");
        let progress = outcomes.progress();
        assert_eq!((progress.ok, progress.failed, progress.replayed), (1_960, 40, 80));
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
        let f =
            app.worker("f", |_: &Context| Ok(Fresh(0))).containers(1).restart(policy).start().expect("valid");
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
fn at_most_once_gives_up_what_crashed_and_nothing_else() {
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
            .start()
            .expect("valid");
        let all = f.run_all((0..10).collect());
        let bad: Vec<_> = all.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(bad.len(), 1);
        assert_eq!((bad[0].index(), bad[0].attempts(), bad[0].is_poisoned()), (Some(5), 1, true));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_killed_container_loses_nothing_and_nobody_is_blamed() {
    under_each_policy(|app, policy| {
        let (gate, begun) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&begun));
        let f = app
            .infallible("f", move |n: &u64| {
                if *n == 3 && attempt() == 1 {
                    count.fetch_add(1, Ordering::SeqCst);
                    inside.pass();
                    return 1_000;
                }
                *n
            })
            .containers(1)
            .restart(policy)
            .start()
            .expect("valid");
        let handle = f.clone();
        let mapped = std::thread::spawn(move || handle.run((0..10).collect()));
        until("input 3 executes", || begun.load(Ordering::SeqCst) == 1);
        let container = longshore::ContainerId::new(0);
        assert!(f.kill_container(container));
        let outputs = mapped.join().expect("no panic").expect("replayed beside the abandoned attempt");
        assert_eq!(outputs, (0..10).collect::<Vec<_>>());
        let status = f.status();
        assert_eq!((status.crashes, status.containers.abandoned, status.containers.live), (0, 1, 1));
        gate.open();
        until("the abandoned attempt's answer is refused", || f.status().late_answers == 1);
        until("its thread ends", || f.status().containers.abandoned == 0);
        assert!(!f.kill_container(longshore::ContainerId::new(7)), "there is no such container");
    });
}

#[test]
fn at_most_once_loses_what_a_kill_interrupts_and_gives_the_input_back_shared() {
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
            .start()
            .expect("valid");
        let call = f.call("precious".to_owned());
        begun.pass();
        assert!(f.kill_container(longshore::ContainerId::new(0)));
        let failure: Failure<String, _> = call.wait().expect_err("it may not run twice");
        assert!(matches!(failure.cause(), Cause::Lost(_)), "{failure:?}");
        assert_eq!((failure.attempts(), failure.input().map(String::as_str)), (1, Some("precious")));
        let returned = failure.into_input().expect("it comes back");
        assert!(matches!(&returned, longshore::Returned::Shared(input) if **input == "precious"));
        gate.open();
    });
}

#[test]
fn eight_dying_containers_of_a_thousand_inputs_each_answer_all() {
    unhung(|| {
        let app = App::ephemeral("many");
        let f = app
            .infallible("f", |n: &u64| if n % 10 == 3 && attempt() <= 2 { crash() } else { *n })
            .containers(8)
            .restart(RateLimited::never())
            .start()
            .expect("valid");
        let outputs = f.run((0..3_000).collect()).expect("all answer");
        assert_eq!(outputs, (0..3_000).collect::<Vec<_>>());
        assert_eq!(f.status().crashes, 600);
    });
}

//! Retries of failed inputs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longshore::{Cause, Context, Previous, Retries};

use crate::support::{Started, attempt, crash, under_each_policy};

fn at_once(retries: u32) -> Retries {
    Retries::new(retries).initial_delay(Duration::ZERO)
}

#[test]
fn failures_are_retried_up_to_the_budget_and_the_last_error_surfaces() {
    under_each_policy(|app, policy| {
        let f = app
            .function("f", |n: &u32| {
                let previous = Context::current().expect("in a container").previous();
                assert_eq!(attempt() > 1, matches!(previous, Some(Previous::Failed)));
                if attempt() > *n { Ok(attempt()) } else { Err(attempt()) }
            })
            .retries(at_once(2))
            .restart(policy)
            .started();
        let all = f.run_all((0..6).collect());
        let oks: Vec<u32> = all.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
        assert_eq!(oks, [1, 2, 3]);
        for failure in all.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(failure.attempts(), 3, "attempts");
            assert_eq!(failure.error(), Some(&3), "the error of the last attempt");
        }
        assert_eq!(f.status().crashes, 0, "an error does not restart a container");
    });
}

#[test]
fn crashes_spend_no_retries_and_failures_spend_no_crash_retries() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&runs);
        // Fails and crashes in turn: 2 retries and 3 crash retries make 6 executions.
        let f = app
            .function("f", move |(): &()| -> Result<(), u32> {
                let run = count.fetch_add(1, Ordering::SeqCst) + 1;
                assert_eq!(run, attempt());
                if run.is_multiple_of(2) { crash() } else { Err(run) }
            })
            .retries(at_once(2))
            .crash_retries(3)
            .restart(policy)
            .started();
        // Failure 1, crash 2, failure 3, crash 4, failure 5: the third failure is one more than the retries
        // allow.
        let failure = f.call(()).wait().expect_err("it never succeeds");
        assert_eq!(failure.attempts(), 5, "attempts");
        assert_eq!(failure.error(), Some(&5), "error");
        assert_eq!(runs.load(Ordering::SeqCst), 5);
    });
}

#[test]
fn an_input_is_executed_at_most_once_plus_its_retries_plus_its_crash_retries() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&runs);
        let f = app
            .function("f", move |(): &()| -> Result<(), u32> {
                let run = count.fetch_add(1, Ordering::SeqCst) + 1;
                if run <= 2 { Err(run) } else { crash() }
            })
            .retries(at_once(2))
            .crash_retries(3)
            .restart(policy)
            .started();
        let failure = f.call(()).wait().expect_err("poisoned");
        assert!(failure.is_poisoned());
        assert_eq!(failure.attempts(), 6, "attempts");
        assert_eq!(runs.load(Ordering::SeqCst), 6, "executions");
        let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure:?}") };
        assert_eq!(deaths.len(), 4);
    });
}

#[test]
fn retry_if_decides_which_errors_are_retried() {
    under_each_policy(|app, policy| {
        let runs = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&runs);
        let f = app
            .function("f", move |n: &u32| -> Result<(), u32> {
                seen.lock().expect("not poisoned").push(*n);
                Err(*n)
            })
            .containers(1)
            .retries(at_once(2))
            .retry_if(|error| match error {
                0 => true,
                1 => false,
                _ => panic!("an opinion too strong"),
            })
            .restart(policy)
            .started();
        let errors: Vec<_> = f
            .run_all(vec![0, 1, 2])
            .into_iter()
            .map(|outcome| outcome.map(|()| 0).expect_err("all fail").error().copied())
            .collect();
        assert_eq!(
            errors,
            [Some(0), Some(1), Some(2)],
            "a panicking retry_if surfaces the input's own error"
        );
        let runs = runs.lock().expect("not poisoned");
        let times = |n| runs.iter().filter(|run| **run == n).count();
        assert_eq!(times(0), 3, "executions of input 0");
        assert_eq!(times(1), 1, "executions of input 1");
        assert_eq!(times(2), 1, "executions of input 2");
        assert_eq!(f.status().crashes, 0);
    });
}

#[test]
fn an_input_that_waits_for_its_retry_blocks_no_container_and_is_never_early() {
    under_each_policy(|app, policy| {
        let delay = Duration::from_millis(40);
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let f = app
            .function("f", move |n: &u32| {
                if *n > 0 {
                    return Ok(*n);
                }
                seen.lock().expect("not poisoned").push(Instant::now());
                if attempt() < 3 { Err("again") } else { Ok(0) }
            })
            .containers(1)
            .retries(Retries::new(2).initial_delay(delay))
            .restart(policy)
            .started();
        let first = f.map(0..100u32).unordered().into_iter().next();
        assert_eq!(
            first.map(|outcome| outcome.expect("no failure") > 0),
            Some(true),
            "the other inputs go first"
        );
        times.lock().expect("not poisoned").clear();
        assert_eq!(f.run((0..100).collect()).expect("the third attempt").len(), 100);
        let times = times.lock().expect("not poisoned");
        let last: Vec<_> = times.iter().rev().take(3).rev().collect();
        assert!(last[1].duration_since(*last[0]) >= delay, "never before its due time");
        assert!(last[2].duration_since(*last[1]) >= 2 * delay, "the second delay is twice the first");
    });
}

#[test]
fn the_text_of_a_failure_counts_its_attempts() {
    under_each_policy(|app, policy| {
        let f = app
            .function("f", |n: &u32| -> Result<(), u32> {
                if *n == 2 { crash() } else { Err(*n) }
            })
            .retries(at_once(1))
            .retry_if(|n| *n == 1)
            .crash_retries(0)
            .restart(policy)
            .started();
        let told: Vec<String> =
            (0..3).map(|n| f.call(n).wait().expect_err("it always fails").to_string()).collect();
        let expected = [
            "failed after 1 attempt: 0",
            "failed after 2 attempts: 1",
            "is poisoned after 1 attempt: container",
        ];
        for (text, words) in told.iter().zip(expected) {
            assert!(text.starts_with(&format!("input 0 {words}")), "{text}");
        }
    });
}

/// 8.7
#[test]
fn an_error_puts_its_retry_off_past_the_longest_delay_of_the_policy() {
    const LEAST: Duration = Duration::from_millis(40);
    under_each_policy(|app, policy| {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&begun);
        let f = app
            .function("f", move |asks: &bool| {
                seen.lock().expect("not poisoned").push((*asks, Instant::now()));
                if attempt() == 1 { Err(*asks) } else { Ok(()) }
            })
            .containers(1)
            .retries(at_once(1).max_delay(Duration::from_millis(1)))
            .retry_after(|asks| asks.then_some(LEAST))
            .restart(policy)
            .started();
        assert!(f.run(vec![true, false]).is_ok());
        let begun = begun.lock().expect("not poisoned");
        let waited = |asks| {
            let mut moments = begun.iter().filter(|(asked, _)| *asked == asks).map(|(_, at)| *at);
            let (first, second) = (moments.next().expect("executed"), moments.next().expect("retried"));
            second.duration_since(first)
        };
        assert!(waited(true) >= LEAST, "{:?}", waited(true));
        let place = |asks| begun.iter().rposition(|(asked, _)| *asked == asks);
        assert!(place(false) < place(true), "an error that asks for nothing waits as the policy says");
    });
}

/// 8.7
#[test]
fn a_panicking_retry_after_surfaces_the_error_and_one_that_is_not_worth_a_retry_is_not_asked() {
    under_each_policy(|app, policy| {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let f = app
            .function("f", |n: &u32| -> Result<(), u32> { Err(*n) })
            .containers(1)
            .retries(at_once(3))
            .retry_if(|error| *error > 0)
            .retry_after(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                panic!("a header that is no date")
            })
            .restart(policy)
            .started();
        for n in [0, 1] {
            let failure = f.call(n).wait().expect_err("it fails");
            assert_eq!((failure.error(), failure.attempts()), (Some(&n), 1));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "only about the error that is worth a retry");
        assert_eq!(f.status().crashes, 0);
    });
}

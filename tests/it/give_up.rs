//! The restart policy that gives up, and `reset`.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use longshore::{
    App, BoxError, Cause, Context, Crash, Death, Failure, NotReady, RateLimited, Retries, Worker,
};

use crate::support::{Gate, Started, attempt, crash, failing_under, numbers_under, unhung, until};

/// A worker that crashes at input 666.
struct Fragile;

impl Worker for Fragile {
    type Input = u32;
    type Output = u32;
    type Error = &'static str;

    fn call(&mut self, input: &u32, _: &Context) -> Result<u32, &'static str> {
        if *input == 666 { crash() } else { Ok(*input) }
    }
}

fn strict(max_crashes: u32) -> RateLimited {
    RateLimited::new().max_crashes(max_crashes).max_failure_rate(0.0)
}

#[test]
fn a_function_gives_up_past_its_crash_limit_and_not_at_it() {
    unhung(|| {
        let app = App::ephemeral("limit");
        let f = app
            .worker("f", |_: &Context| Ok(Fragile))
            .containers(1)
            .crash_retries(0)
            .restart(strict(3))
            .started();
        for crashes in 1..=3 {
            let failure = f.call(666).wait().expect_err("it crashes");
            assert!(failure.is_poisoned(), "crash {crashes} is borne: {failure:?}");
            assert_eq!(f.run(vec![1, 2]).expect("the function goes on"), [1, 2]);
        }
        let failure = f.call(666).wait().expect_err("it crashes");
        assert!(failure.is_poisoned(), "its own budget ended in that moment");
        let failure = f.call(7).wait().expect_err("given up");
        assert!(failure.is_given_up(), "the cause is that the function gave up");
        assert_eq!(failure.input(), Some(&7), "input");
        assert_eq!(failure.attempts(), 0, "attempts");
        let Cause::GaveUp(cause) = failure.cause() else { panic!("{failure:?}") };
        let told: Vec<u64> = cause.deaths().map(|crash| crash.generation.get()).collect();
        assert_eq!(told, [1, 2, 3, 4], "the first three, and the one that broke the limit");
        let on_purpose = |crash: &Crash| matches!(&crash.death, Death::Panicked(panic) if panic.message() == "a crash on purpose");
        assert!(cause.deaths().all(|crash| on_purpose(crash)), "{cause:?}");
        assert!(matches!(f.ready(), Err(NotReady::GaveUp(_))));
        assert_eq!(f.status().crashes, 4);
    });
}

#[test]
fn every_pending_input_fails_with_the_crash_that_broke_the_limit() {
    unhung(|| {
        let app = App::ephemeral("pending");
        let (gate, begun) = (Gate::default(), Arc::new(AtomicU32::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&begun));
        let f = app
            .function("f", move |n: &u32| {
                count.fetch_add(1, Ordering::SeqCst);
                match n {
                    0 => Err("wait for a retry"),
                    1 => Ok(1),
                    _ => {
                        inside.pass();
                        crash()
                    }
                }
            })
            .containers(1)
            .retries(Retries::new(9).initial_delay(std::time::Duration::from_secs(60)))
            .restart(strict(0))
            .started();
        let mut outcomes = f.map(0..1_000u32).window(10).return_exceptions().unordered().into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(1), "what is produced stays available");
        until("input 2 executes", || begun.load(Ordering::SeqCst) == 3);
        let call = f.call(5);
        gate.open();
        let failure = call.wait().expect_err("given up");
        assert!(failure.is_given_up());
        let mut seen = Vec::new();
        let mut last = None;
        for outcome in outcomes.by_ref() {
            let failure = outcome.expect_err("nothing else succeeds");
            assert!(failure.is_given_up(), "{failure:?}");
            match failure.index() {
                Some(index) => seen.push((index, failure.attempts())),
                None => last = Some(failure),
            }
        }
        seen.sort_unstable();
        assert_eq!(seen[..2], [(0, 1), (2, 1)], "also the input that waits for a retry");
        assert!(seen[2..].iter().all(|(_, attempts)| *attempts == 0));
        assert!(last.is_some(), "the map ends with one error that has no index");
        let progress = outcomes.progress();
        assert_eq!(progress.pulled, progress.completed());
        assert_eq!(progress.given_up, seen.len() as u64, "given-up inputs");
        assert_eq!(progress.ok, 1, "ok inputs");
        assert!(progress.pulled <= 11, "the pulling stopped");
    });
}

#[test]
fn a_function_that_cannot_start_gives_up_and_says_why_and_reset_revives_it() {
    unhung(|| {
        let app = App::ephemeral("reset");
        let (down, enters) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (is_down, count) = (Arc::clone(&down), Arc::clone(&enters));
        let enter = move |_: &Context| -> Result<Fragile, BoxError> {
            count.fetch_add(1, Ordering::SeqCst);
            if is_down.load(Ordering::SeqCst) { Err("no database".into()) } else { Ok(Fragile) }
        };
        let f = app.worker("f", enter).containers(2).restart(strict(5)).started();
        let neighbour = app.infallible("neighbour", |n: &u32| *n).started();
        let Err(NotReady::GaveUp(cause)) = f.ready() else { panic!("it must give up") };
        let Death::EnterFailed(error) = &cause.last().death else { panic!("{cause}") };
        assert_eq!(error.to_string().as_str(), "no database", "text of the error");
        assert_eq!(cause.last().executing, None, "executing input");
        assert_eq!(cause.source().expect("what `enter` said").to_string(), "no database");
        assert!(f.status().to_string().contains("no database"), "{}", f.status());
        let crashes = f.status().crashes;
        assert!((6..=13).contains(&crashes), "{crashes} crashes: six rounds of at most two, and one more");
        assert!(f.call(1).wait().expect_err("given up").is_given_up());
        let all = f.run_all(vec![1, 2]);
        assert_eq!(all.len(), 1, "a map that begins now pulls nothing");
        assert!(all[0].as_ref().is_err_and(longshore::Failure::is_given_up));
        assert_eq!(neighbour.run(vec![3]).expect("other functions feel nothing"), [3]);

        // A crash of an old container after the reset would count in the new history.
        until("no container is in `enter`", || f.status().containers.starting == 0);
        let begun = enters.load(Ordering::SeqCst);
        down.store(false, Ordering::SeqCst);
        assert!(f.reset());
        assert!(!f.reset(), "it has not given up");
        f.ready().expect("it lives again");
        assert_eq!(f.run(vec![1, 2]).expect("it takes work again"), [1, 2]);
        assert!(enters.load(Ordering::SeqCst) > begun);
        assert!(f.status().gave_up.is_none());
        assert!(f.status().crash_loop.is_none());
    });
}

#[test]
fn a_panic_in_enter_is_a_crash_as_well() {
    unhung(|| {
        let app = App::ephemeral("enter");
        let f = app
            .worker("f", |_: &Context| -> Result<Fragile, BoxError> { crash() })
            .containers(1)
            .restart(strict(1))
            .started();
        let Err(NotReady::GaveUp(cause)) = f.ready() else { panic!("it must give up") };
        assert!(matches!(cause.last().death, Death::EnterPanicked(_)));
    });
}

#[test]
fn containers_that_complete_nothing_but_errors_are_not_failing() {
    unhung(|| {
        let app = App::ephemeral("errors");
        let f = app
            .function("f", |n: &u32| -> Result<(), u32> {
                if n.is_multiple_of(10) { crash() } else { Err(*n) }
            })
            .containers(1)
            .crash_retries(0)
            .started();
        let progress = f.for_each(0..500u32).expect("50 crashes, but only a tenth of the work");
        assert_eq!(progress.poisoned, 50, "poisoned inputs");
        assert_eq!(progress.failed, 450, "failed inputs");
    });
}

#[test]
fn a_map_without_return_exceptions_ends_with_one_error_on_giving_up() {
    unhung(|| {
        let app = App::ephemeral("plain");
        let f = numbers_under(strict(0), &app, 1, |n| if *n >= 5 { crash() } else { *n });
        let mut outcomes = f.map(0..100u64).into_iter();
        let oks = outcomes.by_ref().take(5).filter_map(Result::ok).count();
        let failure = outcomes.next().expect("an error").expect_err("given up");
        assert!(failure.is_given_up(), "{failure:?}");
        assert!(failure.index().is_none(), "{failure:?}");
        assert!(outcomes.next().is_none());
        assert_eq!(oks, 5, "results that could already be yielded come first");
    });
}

#[test]
fn a_function_that_gives_up_while_it_drains_fails_its_inputs_as_given_up() {
    for goes_on in [false, true] {
        unhung(move || {
            let app = App::ephemeral("drained");
            let (begun, gate) = (Gate::default(), Gate::default());
            let (told, inside) = (begun.clone(), gate.clone());
            let f = numbers_under(strict(0), &app, 1, move |n| {
                if *n == 3 {
                    told.open();
                    inside.pass();
                    crash()
                }
                *n
            });
            let map = f.map(0..1_000u64).window(8);
            let mut outcomes = if goes_on { map.return_exceptions() } else { map }.into_iter();
            assert!(outcomes.next().is_some_and(|outcome| outcome.is_ok()));
            begun.pass();
            f.drain();
            until("the function drains", || f.run(Vec::new()).is_err());
            gate.open();
            let failures: Vec<_> = outcomes.by_ref().filter_map(Result::err).collect();
            assert!(failures.iter().all(longshore::Failure::is_given_up), "{failures:?}");
            assert_eq!(failures.last().map(longshore::Failure::index), Some(None));
            let progress = outcomes.progress();
            assert!(progress.given_up > 0, "some inputs are given up");
            assert_eq!(progress.completed(), progress.pulled, "completed inputs");
        });
    }
}

/// The texts of an error and of all its sources.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[test]
fn every_error_that_follows_from_a_root_cause_shows_it() {
    unhung(|| {
        let app = App::ephemeral("root");
        let shared = Mutex::new(0);
        let f = numbers_under(strict(8), &app, 2, move |n| {
            let mut sum = shared.lock().expect("the lock is sound");
            assert!(*n != 30, "thirty is too much");
            *sum += n;
            *sum
        });
        let outcomes = f.run_all((0..400).collect());
        let failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        // Input 30 poisoned the lock, was replayed, and then failed at the lock like all the others.
        let guilty = failures.iter().find(|failure| failure.index() == Some(30)).expect("it failed");
        let own = guilty.deaths().next().expect("it has deaths of its own").to_string();
        assert!(own.contains("thirty is too much"), "its own death comes first: {own}");
        if guilty.is_given_up() {
            assert!(chain(guilty).contains("thirty is too much"), "{}", chain(guilty));
        }

        let given_up: Vec<_> = failures.iter().filter(|failure| failure.is_given_up()).collect();
        assert!(given_up.len() > 300, "{} were pending", given_up.len());
        for failure in &given_up {
            let Cause::GaveUp(gave_up) = Failure::cause(failure) else { panic!("{failure:?}") };
            assert!(gave_up.last().to_string().contains("PoisonError"), "{gave_up}");
            assert!(failure.deaths().any(|crash| crash.to_string().contains("thirty is too much")));
            let is_own = |crash: &Crash| crash.executing.is_some_and(|(at, _)| Some(at) == failure.index());
            let shows_it_first = failure.deaths().next().is_some_and(|crash| is_own(crash));
            assert_eq!(shows_it_first, failure.deaths().any(|crash| is_own(crash)), "{failure:?}");
            if failure.index() == Some(399) {
                assert!(chain(*failure).contains("thirty is too much"), "{}", chain(*failure));
            }
        }
        let status = f.status();
        assert!(status.to_string().contains("thirty is too much"), "{status}");
        let Err(not_ready) = f.ready() else { panic!("it gave up") };
        assert!(chain(&not_ready).contains("thirty is too much"), "{}", chain(&not_ready));
        let refused = f.call(1).wait().expect_err("it gave up");
        assert!(chain(&refused).contains("thirty is too much"), "{}", chain(&refused));
    });
}

#[test]
fn a_failure_lists_its_deaths_whatever_its_cause() {
    unhung(|| {
        let app = App::ephemeral("deaths");
        let f = failing_under(RateLimited::never(), &app, 1, |n| {
            if u64::from(attempt()) <= *n { crash() } else { Err("at last") }
        });
        for crashes in 0..=3usize {
            let failure = f.call(crashes as u64).wait().expect_err("it fails in the end");
            assert_eq!(failure.error(), Some(&"at last"), "error");
            assert_eq!(failure.deaths().count(), crashes, "deaths");
        }
        let poisoned = f.call(4).wait().expect_err("its budget is spent");
        assert!(poisoned.is_poisoned(), "the input is poisoned");
        assert_eq!(poisoned.deaths().count(), 4, "deaths");
    });
}

//! The promises of the bar: it counts what has ended, and shows how it has ended.

#![expect(clippy::disallowed_methods, reason = "a test that waits has a limit")]

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{InMemoryTerm, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish};
use longshore::{App, Context, Function, RateLimited};
use longshore_indicatif::{ProgressWith, style};

/// A bar on a terminal that the test can read.
fn bar() -> (ProgressBar, InMemoryTerm) {
    let terminal = InMemoryTerm::new(4, 120);
    let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
    let bar = ProgressBar::with_draw_target(None, target).with_style(style());
    (bar.with_finish(ProgressFinish::AndLeave), terminal)
}

/// A function whose every fourth input fails, and whose input 10 crashes its container once.
fn uneven(app: &App) -> Function<u64, u64, &'static str> {
    let f = app.function("uneven", |n: &u64| {
        let attempt = Context::current().map_or(1, |context| context.attempt().get());
        assert!(*n != 10 || attempt > 1, "a crash");
        if n % 4 == 1 { Err("one") } else { Ok(*n) }
    });
    f.containers(2).restart(RateLimited::never()).start().expect("the settings are valid")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "this never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn the_last_picture_has_every_count() {
    let app = App::ephemeral("bars");
    let (bar, terminal) = bar();
    let outcomes = uneven(&app).map(0..100u64).return_exceptions().progress_with(bar.clone());
    assert_eq!(outcomes.into_iter().count(), 100);
    assert!(bar.is_finished());
    let picture = terminal.contents();
    assert!(picture.contains("100/100"), "{picture}");
    assert!(picture.contains("25 failed 0 poisoned 1 replayed"), "{picture}");
}

#[test]
fn it_moves_behind_a_slow_first_input_of_an_ordered_map() {
    let app = App::ephemeral("bars");
    let gate = Arc::new(Barrier::new(2));
    let its_gate = Arc::clone(&gate);
    let f = app.infallible("first is slow", move |n: &u64| {
        if *n == 0 {
            its_gate.wait();
        }
    });
    let f = f.containers(2).start().expect("the settings are valid");
    let (bar, _terminal) = bar();
    let outcomes = f.map((0..50).collect::<Vec<u64>>()).progress_with(bar.clone());
    let consumer = std::thread::spawn(move || outcomes.into_iter().count());
    until("all others are counted, and none was yielded", || bar.position() == 49);
    assert_eq!(bar.length(), Some(50));
    gate.wait();
    assert_eq!(consumer.join().expect("it only counts"), 50);
    assert_eq!(bar.position(), 50);
}

#[test]
fn a_map_that_ends_early_leaves_its_bar_standing() {
    let app = App::ephemeral("bars");
    let (bar, terminal) = bar();
    let outcomes = uneven(&app).map(0..1_000u64).window(4).progress_with(bar.clone());
    let mut outcomes = outcomes.into_iter();
    // The map ends when input 1 fails. The other container may still hold input 0 at that time.
    let failure = outcomes.find_map(Result::err).expect("input 1 fails");
    assert_eq!(failure.index(), Some(1));
    assert!(outcomes.next().is_none());
    assert!(bar.is_finished());
    assert!(bar.position() < 1_000);
    assert!(terminal.contents().contains("1 failed"), "{}", terminal.contents());

    let (bar, _terminal) = self::bar();
    let outcomes =
        uneven(&App::ephemeral("others")).map(0..).return_exceptions().window(4).progress_with(bar.clone());
    let mut outcomes = outcomes.into_iter();
    assert!(outcomes.next().is_some());
    drop(outcomes);
    assert!(bar.is_finished(), "a dropped map ends its bar");
    assert_eq!(bar.length(), None, "the source has no end");
}

#[test]
fn it_is_a_stream_too_and_a_bar_among_others() {
    let app = App::ephemeral("bars");
    let terminal = InMemoryTerm::new(6, 120);
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
    let add = || bars.add(ProgressBar::no_length().with_style(style()).with_finish(ProgressFinish::AndLeave));
    let (first, second) = (add(), add());
    let f = uneven(&app);
    let stream = |bar| f.map(0..20u64).return_exceptions().progress_with(bar).count();
    let counts = futures::executor::block_on(futures::future::join(stream(first), stream(second)));
    assert_eq!(counts, (20, 20));
    assert_eq!(terminal.contents().matches("20/20").count(), 2, "{}", terminal.contents());
}

#[test]
fn a_map_that_never_began_ends_its_bar() {
    let app = App::ephemeral("bars");
    let (bar, _terminal) = bar();
    drop(uneven(&app).map(0..20u64).progress_with(bar.clone()));
    assert_eq!(bar.position(), 0);
    assert!(bar.is_finished());
}

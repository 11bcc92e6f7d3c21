//! A function is sick: the snapshots show what is wrong, since when, and when the function tries again.
//!
//! A crawler's parser needs a schema from a registry that is down, so its containers fail in `enter`. Then the registry comes
//! back, and one page crashes every container that parses it. Snapshots show both as text. A dashboard, an exporter and a
//! post-mortem read the same fields. The program does not sleep: the events say when to look.
//!
//! ```text
//! cargo run --example 13_snapshot
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore::{
    App, BoxError, Context, CrashLoopBackoff, Event, Events, FunctionSnapshot, Health, StartError, Worker,
};

/// Parses pages by a schema.
struct Parser;

impl Worker for Parser {
    type Input = String;
    type Output = usize;
    type Error = std::convert::Infallible;

    fn call(&mut self, page: &String, _: &Context) -> Result<usize, Self::Error> {
        assert!(page.matches('<').count() == page.matches('>').count(), "a tag is not closed");
        Ok(page.matches('<').count())
    }
}

/// The parts of a snapshot that are the same in each run. Durations and the order of containers are left out.
fn tell(what: &str, snapshot: &FunctionSnapshot) {
    println!("{what}: {}", snapshot.health);
    if let Some(crash_loop) = snapshot.crash_loop {
        match (crash_loop.ended, crash_loop.next_restart) {
            (Some(_), _) => println!("  a crash loop is over"),
            (None, Some(next)) => {
                let within_a_minute = next - snapshot.now <= Duration::from_secs(60);
                println!(
                    "  {} crashes in a row, next restart within a minute: {within_a_minute}",
                    crash_loop.crashes
                );
            }
            (None, None) => println!("  {} crashes in a row, about to restart", crash_loop.crashes),
        }
    }
    let mut causes = snapshot.causes.clone();
    causes.sort_by_key(|cause| cause.first);
    for cause in &causes {
        let place = cause.location.as_deref().and_then(|place| place.split(':').next()).unwrap_or("enter");
        println!("  {} in {place}: {}", cause.kind, cause.message);
    }
    for poisoned in &snapshot.poisoned {
        let description = poisoned.description.as_deref().unwrap_or("(not described)");
        println!("  poisoned: {} after {} executions: {description}", poisoned.input, poisoned.attempts);
    }
    let (inputs, totals) = (snapshot.inputs, snapshot.totals);
    println!("  {} pending, {} ok, {} poisoned", inputs.pending(), totals.ok, totals.poisoned);
}

/// Waits for an event.
fn wait(events: &mut Events, is_it: fn(&Event) -> bool) {
    while !is_it(&events.wait().expect("the function goes on")) {}
}

fn main() -> Result<(), StartError> {
    let app = App::deployed("crawler");
    let is_down = Arc::new(AtomicBool::new(true));
    let registry = Arc::clone(&is_down);
    let enter = move |_: &Context| match registry.load(Ordering::SeqCst) {
        true => Err::<_, BoxError>("the registry is down".into()),
        false => Ok(Parser),
    };
    let minute = Duration::from_secs(60);
    let parse = app
        .worker("parse", enter)
        .containers(2)
        .restart(CrashLoopBackoff::new().initial(minute).max(minute).reset_after(2 * minute))
        .describe(|page| format!("{} bytes, {:.12}…", page.len(), page))
        .start()?;
    let mut events = parse.events();
    if parse.snapshot().health != Health::CrashLoop {
        wait(&mut events, |event| matches!(event, Event::CrashLoop { .. }));
    }
    let pages: Vec<String> =
        (0..100).map(|n| format!("<page {n}>{}", if n == 42 { "<" } else { "" })).collect();
    let map = parse.map(pages).label("nightly").return_exceptions();
    tell("the registry is down", &parse.snapshot());

    is_down.store(false, Ordering::SeqCst);
    parse.reset(); // an operator has read this, and does not wait for a minute
    let failures = map.into_iter().filter(Result::is_err).count();
    assert_eq!(failures, 1);
    tell("\nit is back, and there is a poisoned page", &parse.snapshot());

    // The whole snapshot, as a log or a support ticket would contain it.
    let text = parse.snapshot().to_string();
    assert!(text.contains("the registry is down") && text.contains("input 42 of nightly"), "{text}");
    let report = app.shutdown_blocking();
    println!("\nended well: {}", report.is_clean());
    Ok(())
}

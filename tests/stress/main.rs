//! The real engine under real faults: threads, actors, panics, balloons, stuck code, timeouts, deadlines,
//! clients that leave, kills, pauses and shutdowns, all at random moments. Every accepted input must have one
//! outcome, which is its own, in order if the map is ordered, and within its budgets. At the end the numbers
//! of threads, file handles and bytes must be what they were.
//!
//! ```text
//! cargo test --test stress                                                        a few seconds
//! LONGSHORE_STRESS_SECONDS=600 cargo test --release --test stress -- --nocapture  ten minutes, and a report
//! LONGSHORE_STRESS_SEED=7 cargo test --test stress                                other random choices
//! ```
//!
//! [`code`] is executed by the containers, [`crowd`] has the users and the operator of a function, and
//! [`tally`] has the counts. The seed decides what happens, and the scheduler decides when.

#![expect(clippy::disallowed_methods, reason = "a stress test is bounded by time")]

mod code;
mod crowd;
mod process;
mod random;
mod tally;

use std::time::{Duration, Instant};

use longshore::Accountant;

use code::{LEAKED_BYTES, MARK_BYTES};
use crowd::Round;
use process::{Counted, Footprint};
use random::Random;
use tally::Tally;

#[global_allocator]
static ALLOCATOR: Accountant<Counted> = Accountant::over(Counted);

/// The number of threads that the process keeps after its first memory limit: the watch.
const THREADS_KEPT: u64 = 1;

/// The bytes that may be allocated once for the process: names, lists, thread-locals of the runtime.
const SLACK_BYTES: i64 = 256 << 10;

/// A round that takes longer than this counts as hung. No round should take seconds.
const HUNG: Duration = Duration::from_secs(60);

/// The rounds go on for this time at most until each event of [`unseen`] has happened. On a slow machine the
/// rounds of a short run are few.
const MORE_MAX: Duration = Duration::from_secs(120);

/// The events that the rounds must have, and that none has had yet.
fn unseen(tally: &Tally) -> Vec<&'static str> {
    let counts = [
        ("outcomes", tally.outcomes),
        ("replays", tally.replays),
        ("panics", tally.panics),
        ("inputs that timed out", tally.timed_out),
        ("inputs past their deadline", tally.past_deadline),
        ("code that hangs at checkpoints or in a task", tally.hangs),
        ("code that returns long after its timeout", tally.overdue),
        ("unresponsive containers", tally.unresponsive),
        ("calls refused by an overloaded function", tally.overloaded),
        ("permits", tally.permits),
        ("pauses", tally.pauses),
    ];
    counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn every_input_has_its_outcome_whatever_happens() {
    let seconds = setting("LONGSHORE_STRESS_SECONDS").unwrap_or(4);
    let seed = setting("LONGSHORE_STRESS_SEED").unwrap_or(0);
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    // With tokio's feature `signal`, which another crate of a build may turn on, the first runtime of a
    // process opens two handles that stay.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
    let before = Footprint::now();
    let lasts = Duration::from_secs(seconds);
    while begun.elapsed() < lasts || (!unseen(&tally).is_empty() && begun.elapsed() < lasts + MORE_MAX) {
        let round = Round::drawn(random.next(), tally.rounds);
        tally += round.live(HUNG);
    }
    let after = Footprint::once_at_most(before.threads + THREADS_KEPT, before.handles);
    println!("{tally}");
    println!("{:>14}  before and after\n{before}\n{after}", "");
    let unseen = unseen(&tally);
    assert!(unseen.is_empty(), "no round had any of these: {unseen:?}");
    assert!(after.threads <= before.threads + THREADS_KEPT, "threads are left: {before:?}, {after:?}");
    assert!(after.handles <= before.handles, "file handles are left: {before:?}, {after:?}");
    let leaked = (tally.leaks * (LEAKED_BYTES + MARK_BYTES)) as i64;
    assert!(after.bytes <= before.bytes + leaked + SLACK_BYTES, "bytes are left: {before:?}, {after:?}");
}

//! The real engine under real faults: threads, actors, panics, balloons, stuck code, kills and shutdowns, all at
//! random moments. Every input that was accepted must have its outcome, once, of itself, in order where that was
//! asked for, and within its budgets; threads, file handles and bytes must be what they were.
//!
//! ```text
//! cargo test --test stress                                                        a few seconds
//! LONGSHORE_STRESS_SECONDS=600 cargo test --release --test stress -- --nocapture  ten minutes, and a report
//! LONGSHORE_STRESS_SEED=7 cargo test --test stress                                other random choices
//! ```
//!
//! [`code`] is what containers execute, [`crowd`] who uses the function and who kills it, [`tally`] what is
//! counted. What happens is drawn from the seed; when it happens is up to the scheduler.

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

/// Threads that the process keeps once it has had a memory limit: the watch.
const THREADS_KEPT: u64 = 1;

/// What may be allocated once for the process: names, lists, thread-locals of the runtime.
const SLACK_BYTES: i64 = 256 << 10;

/// How long a round may take: whatever is drawn, none is meant to take seconds.
const HUNG: Duration = Duration::from_secs(60);

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
    let before = Footprint::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let round = Round::drawn(random.next(), tally.rounds);
        tally += round.live(HUNG);
    }
    let after = Footprint::once_at_most(before.threads + THREADS_KEPT, before.handles);
    println!("{tally}");
    println!("{:>14}  before and after\n{before}\n{after}", "");
    assert!(tally.outcomes > 0 && tally.replays > 0 && tally.panics > 0, "nothing was put to the test");
    assert!(after.threads <= before.threads + THREADS_KEPT, "threads are left: {before:?}, {after:?}");
    assert!(after.handles <= before.handles, "file handles are left: {before:?}, {after:?}");
    let leaked = (tally.leaks * (LEAKED_BYTES + MARK_BYTES)) as i64;
    assert!(after.bytes <= before.bytes + leaked + SLACK_BYTES, "bytes are left: {before:?}, {after:?}");
}

//! What each restart policy would decide about the same crashes, asked before any function runs.
//!
//! Prints a table with a row for each crash of the history and a column for each policy. The history is that
//! of a service which crashes now and then at work, then loses its dependency and crashes at every start. The
//! first policy allows ten crashes a minute. It gives up at the eleventh, because the crashes are more than
//! half of all executions. The second policy goes on, ever more slowly, up to its `max`.

use std::time::Duration;

use longshore::{ConfigError, CrashLoopBackoff, CrashRecord, Decision, RateLimited};

fn main() -> Result<(), ConfigError> {
    let second = Duration::from_secs(1);
    // Two crashes in the middle of work, then twelve in a row of containers that complete nothing. They come
    // 5 s apart, which is longer than the longest delay below and a failing start together.
    let at_work = (1..=2).map(|n| n * 5 * second).map(|at| CrashRecord::at(at).completed(at - second, 4));
    let in_a_loop = (0..12).map(|n| CrashRecord::at((20 + 5 * n) * second).failed_start());
    let crashes: Vec<CrashRecord> = at_work.chain(in_a_loop).collect();

    let rate_limited = RateLimited::new().max_crashes(10).explain(1, crashes.iter().cloned())?;
    let backoff = CrashLoopBackoff::new().max(4 * second).explain(1, crashes.iter().cloned())?;

    println!("  at  crashes  completed  rate  | rate limited      | crash-loop backoff");
    for (row, slowed) in backoff.iter().enumerate() {
        let limited = rate_limited.get(row);
        println!(
            "{:3}s  {:7}  {:9}  {:3.0}%  | {:17} | {}",
            slowed.at.as_secs(),
            slowed.crashes,
            slowed.completed,
            100.0 * slowed.failure_rate(),
            // The list of a policy ends where it gives up.
            limited.map_or("(no container)".to_owned(), in_words),
            in_words(slowed),
        );
    }
    Ok(())
}

fn in_words(decision: &Decision) -> String {
    match decision.restart_after {
        Some(Duration::ZERO) => "at once".to_owned(),
        Some(delay) => format!("after {} ms", delay.as_millis()),
        None => "gives up".to_owned(),
    }
}

//! The load of a service of months in a few minutes: millions of crashes, functions that come and go, and
//! dropped calls. At the end the process has as many threads as after the first part of the load, and at most
//! 2 MiB more of resident memory. The times of a call before and after are printed. This is a binary of its
//! own, because it looks at the whole process.
//!
//! ```text
//! cargo test --test months                                             a hundredth of the load
//! LONGSHORE_MONTHS=1 cargo test --release --test months -- --nocapture the whole load, and a report
//! ```

#![expect(clippy::disallowed_methods, reason = "it measures how long calls take")]

use std::convert::Infallible;
use std::fs;
use std::time::{Duration, Instant};

use longshore::{Accountant, App, Function, RateLimited};

#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

const CRASHES: u64 = 2_600_000;
const FUNCTIONS: u64 = 100_000;
const DROPPED_CALLS: u64 = 1_000_000;

/// The growth of the resident memory that is allowed: 2 MiB.
const GROWTH_KIB: u64 = 2 << 10;

/// Makes the allocator use one arena. The allocator of some systems has several, and keeps the memory that
/// threads have freed in each, which would hide a leak.
#[expect(unsafe_code, reason = "sets up the system's allocator")]
fn have_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers, and locks the state of the allocator that it changes.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    assert_eq!(set, 1, "the allocator takes the setting");
}

/// A number from the status of this process, as the system reports it.
fn of_this_process(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Waits until there are at most `most` threads, for a limited time, and returns their number.
fn threads_once_at_most(most: u64) -> u64 {
    let begun = Instant::now();
    loop {
        let threads = of_this_process("Threads");
        if threads <= most || begun.elapsed() > Duration::from_secs(10) {
            return threads;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The median time of a call, from its beginning to its outcome.
fn call(f: &Function<u64, u64, Infallible>) -> Duration {
    let mut times: Vec<Duration> = (0..2001)
        .map(|n| {
            let begun = Instant::now();
            assert_eq!(f.call(2 * n).wait().expect("even numbers do not crash"), 2 * n);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Runs a part of the load. Each odd input crashes its container.
fn live(f: &Function<u64, u64, Infallible>, crashes: u64, functions: u64, dropped_calls: u64) {
    let outcomes = f.map(0..2 * crashes).return_exceptions().into_iter();
    assert_eq!(outcomes.filter(Result::is_err).count() as u64, crashes);
    let mut guests = 0;
    while guests < functions {
        let app = App::ephemeral("guests");
        for n in 0..20 {
            let kept = vec![n; 1000];
            let guest = app.infallible(&format!("guest {n}"), move |n: &u64| n + kept.len() as u64);
            let guest = guest.containers(1).start().expect("valid settings");
            assert_eq!(guest.call(1).wait().expect("infallible"), 1001);
        }
        guests += 20;
        assert!(app.shutdown_blocking().is_clean());
    }
    let mut left = dropped_calls;
    while left > 0 {
        let calls: Vec<_> = (0..left.min(1000)).map(|n| f.call(2 * n)).collect();
        left -= calls.len() as u64;
        drop(calls);
    }
    f.idle().expect("dropped calls are cancelled");
}

#[test]
fn a_service_of_months_leaves_neither_threads_nor_memory_behind() {
    have_one_arena();
    let all = std::env::var_os("LONGSHORE_MONTHS").is_some();
    let part = if all { 1 } else { 100 };
    let app = App::deployed("months");
    let f = app.infallible("months", |n: &u64| {
        if n.is_multiple_of(2) { *n } else { std::panic::resume_unwind(Box::new(())) }
    });
    let f = f.containers(2).crash_retries(0).restart(RateLimited::never()).start().expect("valid settings");
    // After a first part of the load the process holds everything that it needs.
    live(&f, 20_000 / part, 200 / part, 2000);
    let (memory, first) = (of_this_process("VmRSS"), call(&f));
    let threads = of_this_process("Threads");
    for tenth in 1..=10 {
        live(&f, CRASHES / part / 10, FUNCTIONS / part / 10, DROPPED_CALLS / part / 10);
        println!("after {tenth} tenths {} KiB are resident", of_this_process("VmRSS"));
    }
    let (threads_after, last) = (threads_once_at_most(threads), call(&f));
    let memory_after = of_this_process("VmRSS");
    println!("resident {memory} KiB, then {memory_after}; threads {threads}, then {threads_after}");
    println!(
        "a call takes {first:?} (p50), then {last:?}: {:.2} ×",
        last.as_secs_f64() / first.as_secs_f64()
    );
    println!("{}", f.status());
    assert!(threads_after <= threads, "threads are left");
    assert!(memory_after <= memory + GROWTH_KIB, "memory is left");
}

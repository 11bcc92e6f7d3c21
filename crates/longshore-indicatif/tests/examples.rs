//! The promises of the examples: each runs as a process of its own, and what it prints is checked.
//!
//! `cargo test` builds the examples. `cargo test --test examples` does not, and then says so.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// An example that takes longer than this counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// Runs an example, and returns its lines. Fails unless it ends well and prints nothing to stderr.
fn printed(name: &str, arguments: &[&str]) -> Vec<String> {
    let test = env::current_exe().expect("a test knows its executable");
    let profile = test.parent().and_then(Path::parent).expect("it is in target/<profile>/deps");
    let path = profile.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    let mut command = Command::new(&path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(child) = command.spawn() else {
        panic!("{} is not built: run `cargo build --examples` before this", path.display());
    };
    let process = child.id();
    let (send, ended) = channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let output = ended.recv_timeout(HUNG).unwrap_or_else(|_| panic!("{name} hangs as process {process}"));
    let output = output.expect("its output can be read");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{name}: {errors}");
    String::from_utf8(output.stdout).expect("it is text").lines().map(str::to_owned).collect()
}

#[test]
fn a_crawl_finds_the_same_however_often_the_site_and_the_parser_fail() {
    let lines = printed("crawl", &["600"]);
    let [healthy, in_flight, sick, faults, equal] = &lines[..] else { panic!("five lines: {lines:?}") };
    let totals = healthy.strip_prefix("a site in good health: ").expect("the totals");
    assert!(totals.starts_with("600 pages, "), "every page can be reached: {totals}");
    assert!(totals.ends_with(" 1 dead"), "the link to nowhere is followed once: {totals}");
    let most = in_flight.strip_prefix("up to ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(most.is_some_and(|most: u64| (17..=256).contains(&most)), "two containers of 128: {in_flight}");
    assert_eq!(sick.strip_prefix("a site with faults: "), Some(totals));
    let refused = "12 answers were 503 and 3 pages were cut off: ";
    let counts = faults.strip_prefix(refused).unwrap_or_else(|| panic!("{faults}"));
    let counts: Vec<u64> = counts.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [retries, crashes, replays] = counts[..] else { panic!("three counts: {faults}") };
    // The answer to a request that was in flight beside a panic is lost, and the next answer is good.
    assert!((1..=12).contains(&retries) && (1..=3).contains(&crashes), "{faults}");
    assert!(replays >= crashes, "{faults}");
    assert_eq!(equal, "the totals are equal: true");
}

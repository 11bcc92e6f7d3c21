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

/// The output of an example.
fn printed(name: &str) -> String {
    let test = env::current_exe().expect("a test knows its executable");
    let profile = test.parent().and_then(Path::parent).expect("it is in target/<profile>/deps");
    let path = profile.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    let mut command = Command::new(&path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(child) = command.spawn() else {
        panic!("{} is not built: run `cargo build --examples` before this", path.display());
    };
    let process = child.id();
    let (send, ended) = channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let output = ended.recv_timeout(HUNG).unwrap_or_else(|_| panic!("{name} hangs as process {process}"));
    let output = output.expect("its output can be read");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// The lines behind the first one, which is an address.
fn behind_the_address(name: &str) -> Vec<String> {
    let printed = printed(name);
    let mut lines = printed.lines().map(str::to_owned);
    let address = lines.next().expect("an example prints its address");
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    lines.collect()
}

#[cfg(feature = "serve")]
#[test]
fn a_plain_program_serves_its_page_and_leaves_a_report() {
    let lines = behind_the_address("plain_main");
    assert_eq!(lines[..2], ["503 Service Unavailable", "fetch: crash loop: the registry is down"]);
    let report = lines[2].strip_prefix("a report is in ").expect("the path of the report");
    let report = std::fs::read_to_string(report).expect("the report is there");
    assert!(report.contains("the registry is down"));
    assert_eq!(lines[3..], ["inputs that came back: true"]);
}

#[test]
fn a_dashboard_within_axum_is_behind_the_login() {
    let lines = behind_the_address("axum_behind_a_login");
    assert_eq!(lines, ["without a login: 403 Forbidden", "with one: 200 OK, ok", "ended well: true"]);
}

#[cfg(feature = "actix-web")]
#[test]
fn a_dashboard_within_actix_web_answers() {
    assert_eq!(behind_the_address("actix_web"), ["200 OK, ok", "ended well: true"]);
}

#[test]
fn the_totals_reach_opentelemetry() {
    let expected = "longshore.inputs function=odd outcome=failed 5\n\
        longshore.inputs function=odd outcome=ok 5\n\
        longshore.inputs function=odd outcome=poisoned 0\n\
        ended well: true\n";
    assert_eq!(printed("opentelemetry"), expected);
}

#[test]
fn the_totals_reach_the_facade() {
    let expected = "longshore_containers_live function=odd 2\n\
        longshore_inputs_total function=odd outcome=failed 5\n\
        longshore_inputs_total function=odd outcome=ok 5\n\
        longshore_inputs_total function=odd outcome=poisoned 0\n\
        ended well: true\n";
    assert_eq!(printed("metrics_facade"), expected);
}

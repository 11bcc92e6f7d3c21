//! The metrics as a scraper reads them. `src/metrics.rs` has the tests of the numbers.

use std::io::Write;
use std::process::{Command, Stdio};

use longshore::App;
use longshore_dashboard::Dashboard;

use crate::support::{get, sick, well};

#[test]
fn a_scraper_reads_all_lines() {
    let app = App::deployed("metrics");
    let dashboard = Dashboard::of(&app);
    let _functions = (well(&app, "double"), sick(&app, "fetch \"a\\b\"\n", "down"));
    let answer = get(&dashboard, "/metrics");
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let lines = answer.text().lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).expect("it reads them");
    let names = scrape.samples.iter().filter_map(|sample| sample.labels.get("function"));
    let names: std::collections::BTreeSet<_> = names.collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let alerts = scrape.samples.iter().filter(|sample| sample.metric == "longshore_crash_loop_crashes");
    assert_eq!(alerts.count(), 2, "the lines of an alert are there from the start");
}

/// Prometheus' own checker. The test says so if it is not installed. `LONGSHORE_PROMTOOL=1` makes it
/// necessary.
#[test]
fn promtool_has_no_complaint() {
    let app = App::deployed("metrics");
    let dashboard = Dashboard::of(&app).each_container();
    let _functions = (well(&app, "double"), sick(&app, "fetch \"a\\b\"\n\u{202e}", "down"));
    let mut checker = Command::new("promtool");
    checker.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut checker) = checker.spawn() else {
        assert!(std::env::var_os("LONGSHORE_PROMTOOL").is_none(), "promtool is not installed");
        eprintln!("NOT RUN: promtool is not installed");
        return;
    };
    let mut input = checker.stdin.take().expect("it is piped");
    input.write_all(&get(&dashboard, "/metrics").body).expect("it reads");
    drop(input);
    let output = checker.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}

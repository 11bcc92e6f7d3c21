//! Apps that end on a signal: the first one drains, the second one aborts, and none is swallowed once the app
//! is gone.
//!
//! This is a binary of its own, and each test runs in a process of its own, because a signal is for the whole
//! process and its handlers stay installed.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use longshore::{App, Cause, Context, Fate, StartError};

/// The environment variable that is set in the child process of a test.
const INSIDE: &str = "LONGSHORE_INSIDE_THE_CHILD";

/// A child that takes longer than this for its next step counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// The line with which a child asks for the signal of this name.
const ASKS: &str = "send ";

/// The child asks its parent for a signal.
fn asks_for(signal: &str) {
    println!("\n{ASKS}{signal}");
}

/// Runs `body` in a child process, and sends it the signals that it asks for. Returns how it ended, with what
/// it printed.
fn in_a_child(test: &str, body: impl FnOnce()) -> Option<(ExitStatus, String)> {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return None;
    }
    let this = std::env::current_exe().expect("the test runs");
    let mut child = Command::new(this);
    child.args([test, "--exact", "--nocapture"]).env(INSIDE, "yes");
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be made");
    let (send, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut stderr = child.stderr.take().expect("it is piped");
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    std::thread::spawn(move || stdout.lines().try_for_each(|line| send.send(line.expect("it is text"))));
    let mut told = String::new();
    loop {
        match lines.recv_timeout(HUNG) {
            Ok(line) => {
                if let Some(signal) = line.strip_prefix(ASKS) {
                    let id = child.id().to_string();
                    let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status();
                    assert!(sent.expect("there is a `kill`").success());
                }
                told += &line;
                told.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().expect("it can be killed");
                panic!("the child hung:\n{told}");
            }
        }
    }
    let status = child.wait().expect("it has ended");
    told += &complaints.join().expect("no panic").expect("it is text");
    Some((status, told))
}

/// Waits for the end of the process.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Fails unless the child ended well.
fn ends_well(ended: Option<(ExitStatus, String)>) {
    if let Some((status, told)) = ended {
        assert!(status.success(), "{status}\n{told}");
        assert!(told.contains("1 passed"), "the test has run:\n{told}");
    }
}

/// 8.9
#[test]
fn the_first_signal_drains_under_load_and_each_input_is_accounted_for() {
    let child = || {
        let app = App::deployed("signals");
        let signalled = app.shutdown_on_signal().expect("they can be installed");
        let executed = AtomicU64::new(0);
        let f = app.infallible("f", |n: &u64| {
            std::thread::park_timeout(Duration::from_micros(200)); // some work
            *n
        });
        let f = f.containers(3).calls_max(64).start().expect("the settings are valid");
        let outcomes = std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for n in 0.. {
                        match f.call(n).wait() {
                            Ok(output) => {
                                assert_eq!(output, n);
                                executed.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(refused) => {
                                assert!(refused.is_shut_down(), "{refused:?}");
                                return assert_eq!((refused.input(), refused.attempts()), (Some(&n), 0));
                            }
                        }
                    }
                });
            }
            let mut map = f.map(0..).return_exceptions().into_iter();
            let mut outcomes = 0;
            for outcome in map.by_ref() {
                match outcome {
                    Ok(output) => assert_eq!(output, outcomes),
                    Err(end) => {
                        assert!(matches!(end.cause(), Cause::ShutDown) && end.index().is_none(), "{end:?}");
                        break;
                    }
                }
                outcomes += 1;
                if outcomes == 500 {
                    asks_for("TERM");
                }
            }
            let progress = map.progress();
            assert_eq!((progress.ok, progress.pulled), (outcomes, outcomes), "all of it came back");
            outcomes
        });
        assert!(matches!(app.infallible("late", |n: &u64| *n).start(), Err(StartError::ShutDown)));
        let report = signalled.wait().expect("there was a signal");
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.functions[0].inputs_returned, 0, "a drain finishes what was accepted");
        let totals = f.snapshot().totals;
        assert_eq!((totals.accepted, totals.ok), (totals.ok, outcomes + executed.load(Ordering::SeqCst)));
        assert!(app.shutdown_blocking().is_clean(), "the end of the app waits for nothing more");
    };
    ends_well(in_a_child("the_first_signal_drains_under_load_and_each_input_is_accounted_for", child));
}

/// 8.9
#[test]
fn the_second_signal_aborts_what_does_not_end() {
    let child = || {
        let app = App::ephemeral("signals");
        let signalled = app.shutdown_on_signal().expect("they can be installed");
        let again = app.shutdown_on_signal().expect("asked twice, it ends once");
        let f = app.infallible("f", |_: &u64| -> u64 {
            loop {
                Context::checkpoint();
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        let f = f.containers(1).start().expect("the settings are valid");
        let (hangs, queued) = (f.call(1), f.call(2));
        while f.status().executing == 0 {
            std::thread::yield_now();
        }
        asks_for("TERM");
        while !f.call(3).wait_timeout(Duration::ZERO).is_ok_and(|outcome| outcome.is_err()) {
            std::thread::yield_now(); // until it drains
        }
        asks_for("INT");
        for (call, input) in [(hangs, 1), (queued, 2)] {
            let failure = call.wait().expect_err("it is cut off");
            assert!(failure.is_shut_down() && failure.input() == Some(&input), "{failure:?}");
        }
        let report = signalled.wait().expect("there was a signal");
        assert!(!report.is_clean());
        // An abort reports at once. The code may not have come to its checkpoint yet.
        let fate = &report.functions[0].containers[0].1;
        assert!(matches!(fate, Fate::CutOff | Fate::StillRunning), "{fate:?}");
        assert_eq!(again.wait().map(|report| report.app), Some("signals".to_owned()));
    };
    ends_well(in_a_child("the_second_signal_aborts_what_does_not_end", child));
}

/// 8.9
#[test]
fn a_signal_ends_the_process_once_the_app_is_gone() {
    let child = || {
        let app = App::ephemeral("signals");
        let signalled = app.shutdown_on_signal().expect("they can be installed");
        assert!(app.shutdown_blocking().is_clean());
        assert!(signalled.wait().is_none(), "it has ended without a signal");
        asks_for("TERM");
        hang();
    };
    if let Some((status, told)) = in_a_child("a_signal_ends_the_process_once_the_app_is_gone", child) {
        assert_eq!(status.code(), Some(143), "{status}\n{told}");
    }
}

/// 8.9
#[test]
fn an_aborted_app_does_not_keep_its_process_from_a_third_signal() {
    let child = || {
        let app = App::ephemeral("signals");
        app.shutdown_on_signal().expect("they can be installed");
        let f = app.infallible("f", |_: &u64| -> u64 { hang() });
        let f = f.containers(1).start().expect("the settings are valid");
        let call = f.call(1);
        asks_for("INT");
        while !f.call(3).wait_timeout(Duration::ZERO).is_ok_and(|outcome| outcome.is_err()) {
            std::thread::yield_now(); // until it drains
        }
        asks_for("INT");
        assert!(call.wait().expect_err("it is cut off").is_shut_down());
        asks_for("INT");
        hang();
    };
    let ended = in_a_child("an_aborted_app_does_not_keep_its_process_from_a_third_signal", child);
    if let Some((status, told)) = ended {
        assert_eq!(status.code(), Some(130), "{status}\n{told}");
    }
}

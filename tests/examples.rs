//! The promises of the examples: each runs as a process of its own, and what it prints is checked.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

/// An example that takes longer than this counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// The executable of an example. Cargo puts it beside the folder of the test executables. `cargo test` builds
/// the examples, but `cargo test --test examples` does not. So this fails if the executable is older than its
/// sources.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its executable");
    let profile = test.parent().and_then(Path::parent).expect("it is in target/<profile>/deps");
    let path = profile.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources = match fs::read_dir(examples.join(name)) {
        Ok(folder) => folder.map(|entry| entry.expect("it is there").path()).collect(),
        Err(_) => vec![examples.join(format!("{name}.rs"))],
    };
    let written = sources.iter().map(|source| modified(source)).max();
    let fresh = path.is_file() && written.is_some_and(|written| modified(&path) >= written);
    assert!(fresh, "{} is not built, or old: run `cargo build --examples` before this", path.display());
    path
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|metadata| metadata.modified()).expect("files have a time")
}

/// Runs an example to its end, and fails if it hangs.
fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(example(name));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("an example can be run");
    let stdout = read(child.stdout.take().expect("it is piped"));
    let stderr = read(child.stderr.take().expect("it is piped"));
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(HUNG), stderr.recv_timeout(HUNG)) else {
        child.kill().expect("it can be killed");
        panic!("{name} {arguments:?} hung: it did not end within {HUNG:?}");
    };
    Output { status: child.wait().expect("it has ended"), stdout, stderr }
}

/// Reads a pipe to its end on a thread of its own, so that the example never blocks on a full pipe.
fn read(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        send.send(bytes)
    });
    receive
}

/// Runs an example, and returns its stdout. Fails unless it ends well and prints nothing to stderr.
fn printed(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {}: {stderr}", output.status);
    assert_eq!(stderr, "", "{name} {arguments:?}");
    String::from_utf8(output.stdout).expect("examples print text")
}

#[test]
fn a_map_prints_its_outputs_in_the_order_of_its_inputs() {
    let squares = (0..10).map(|n| format!("{n} squared is {}\n", n * n)).collect::<String>();
    assert_eq!(printed("01_hello_map", &[]), squares + "ended well\n");
}

#[test]
fn an_input_that_crashes_once_is_replayed_and_one_that_always_crashes_is_named() {
    let printed = printed("02_crash_and_replay", &[]);
    let death = printed.lines().nth(6).expect("a line for each input");
    assert!(death.starts_with("input 6 is poisoned after 4 attempts: container "), "{death}");
    assert!(death.contains(" (input 6, attempt 4) panicked at examples/02_crash_and_replay.rs:"), "{death}");
    assert!(death.ends_with(": a crash, always: Some(6)"), "{death}");
    let expected = format!(
        "0\n1\n4\n9\n16\n25\n{death}\n49\n\
         input 8 failed after 1 attempt: an error: Some(8)\n81\n5 crashes\nended well: true\n"
    );
    assert_eq!(printed, expected);
}

#[test]
fn inputs_wait_through_a_crash_loop_that_the_status_shows() {
    let crashes = (0..5).map(|n| format!("enter {}: {n} crashes in a row, 3 inputs waiting\n", n + 1));
    let expected = crashes.collect::<String>() + "quoted 12\nquoted 24\nquoted 36\ncrash loop over: true\n";
    assert_eq!(printed("03_crash_loop_backoff", &[]), expected);
}

#[test]
fn one_policy_gives_up_where_the_other_goes_on_more_slowly() {
    let table = printed("04_explain_policies", &[]);
    assert_eq!(table, printed("04_explain_policies", &[]), "the jitter is seeded");
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|row| row.split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.len(), 14);
    let limited: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(limited[..4], ["at once", "at once", "at once", "after 10 ms"]);
    assert_eq!(limited.iter().position(|decision| *decision == "gives up"), Some(10), "{table}");
    assert!(limited[11..].iter().all(|decision| *decision == "(no container)"), "{table}");
    let delays: Vec<u64> = rows[3..]
        .iter()
        .map(|row| row[2].split(' ').nth(1).expect("after … ms").parse().expect("a number"))
        .collect();
    for (n, delay) in delays.iter().enumerate() {
        let whole = (100 << n).min(4_000);
        assert!((whole / 2..=whole).contains(delay), "{delay} ms of {whole}: equal jitter leaves a half");
    }
}

#[test]
fn dead_letters_come_back_by_value_and_finished_work_is_salvaged() {
    let expected = "delivered to 1\ninput 1 failed after 1 attempt: no such pier\ndelivered to 3\n\
        input 3 failed after 1 attempt: not a number\nrepaired and delivered to [2, 4]\n\
        the first outcome is a failure: input Some(4)\nsalvaged [1, 2, 3]\nended well: true\n";
    assert_eq!(printed("05_dead_letters", &[]), expected);
}

#[test]
fn an_actor_receives_a_map_and_the_events_of_its_function() {
    let expected = "input 12 is given up after 4 attempts\ntotal 10074, poisoned [13]\n\
        4 crash events\nended, 0 threads still run\n";
    assert_eq!(printed("08_actor", &[]), expected);
}

#[test]
fn every_input_is_answered_although_the_server_hangs_up_at_random() {
    let expected = "300 inputs answered, all of them right: true\n\
        the server hung up more than 10 times: true\n\
        each time a container crashed and came back: true\nended well: true\n";
    assert_eq!(printed("06_async_worker", &[]), expected);
}

#[test]
fn a_slow_consumer_of_a_stream_slows_its_producer_down() {
    let ships = (0..20).map(|ship| match ship % 8 {
        7 => format!("input {ship} failed after 1 attempt: nothing on board\n"),
        _ => format!("ship {ship} brought {} tons\n", ship * 100),
    });
    let expected = ships.collect::<String>()
        + "20 of 20: 18 ok, 2 failed, 0 poisoned, 0 cancelled, 0 given up; 0 replayed, 0 retried\nthe producer was never more than 8 ahead: true\nended well: true\n";
    assert_eq!(printed("07_stream", &[]), expected);
}

#[test]
fn a_manifest_that_unpacks_to_too_much_costs_only_its_container() {
    let expected = "aaabb\n900000000000000x used too much: true\ninput 2 failed after 1 attempt: cannot parse integer from empty string\ncccccccccccc\n\
        1 crash, and no container used 64 MiB: true\n";
    assert_eq!(printed("09_memory_limit", &[]), expected);
}

#[cfg(feature = "testkit")]
#[test]
fn a_rehearsal_is_the_same_each_time_to_the_millisecond() {
    let first = printed("12_rehearsal", &[]);
    assert!(first.starts_with("busy, then a panic: 1.8s, 1 crashes, 1 restarts\n"), "{first}");
    assert!(first.ends_with("       200ms  ended\n"), "{first}");
    assert_eq!(first, printed("12_rehearsal", &[]));
}

#[test]
fn snapshots_say_what_is_wrong_with_a_sick_function() {
    let expected = "\
        the registry is down: crash loop\n  \
          2 crashes in a row, next restart within a minute: true\n  \
          enter error in enter: the registry is down\n  \
          0 pending, 0 ok, 0 poisoned\n\n\
        it is back, and there is a poisoned page: crashing\n  \
          a crash loop is over\n  \
          enter error in enter: the registry is down\n  \
          panic in examples/13_snapshot.rs: a tag is not closed\n  \
          poisoned: input 42 of nightly after 4 executions: 10 bytes, <page 42><…\n  \
          0 pending, 99 ok, 1 poisoned\n\n\
        ended well: true\n";
    assert_eq!(printed("13_snapshot", &[]), expected);
}

#[test]
fn texts_are_scored_in_batches_and_one_that_the_model_does_not_take_costs_no_other() {
    let folder = env::temp_dir().join(format!("longshore-texts-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let path = folder.join("texts.md");
    let long = "word ".repeat(401);
    let texts = [
        "a fan-out that survives a crash",
        &long,
        "what it costs to wait",
        "A fan-out that survives: a crash!",
        "---",
    ];
    fs::write(&path, texts.join("\n\n")).expect("a file can be written");
    let output = printed("14_batches", &[path.to_str().expect("its name is text")]);
    fs::remove_dir_all(&folder).expect("it can be removed");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "5 paragraphs: 3 signed, 1 without words, 1 too long");
    let expected = [
        "the most alike differ in 0 of 64 bits:",
        "  a fan-out that survives a crash",
        "  A fan-out that survives: a crash!",
        "ended well: true",
    ];
    assert_eq!(lines[2..], expected, "{output}");
}

#[test]
fn a_pool_of_solvers_reports_its_real_state() {
    let lethal = "it killed 3 solvers, each by a division by zero: true";
    let (healthy, cause) =
        ("200 healthy, 4 of 4 live; 0 waiting", "last cause: enter failed: the market feed is down");
    let expected = format!(
        "{healthy}\n\n\
        2000 orders, and a block for each hundred\norder 1000: {lethal}\n\
        1801 quoted, 0 of them wrong, 198 without a route; the block moved: true\n43 crashes\n{healthy}\n\n\
        the feed goes down, and a lethal order comes in\n{lethal}\n\
        200 degraded, 1 of 4 live; 0 waiting\n{cause}\norders are quoted all the same: true\n\n\
        a second lethal order comes in, and five others\n503 down, 0 of 4 live; 6 waiting\n{cause}\n\
        the pool goes on trying: true\n\n\
        the feed is back\nall waiting orders are quoted, in the newest block: true\nthe lethal order: {lethal}\n\
        {healthy}\nthe crash loop is over: true\nended well: true\n"
    );
    assert_eq!(printed("10_solver_pool", &[]), expected);
}

/// Returns the stdout of `11_decode_images` for this many files, without the size of the largest balloon.
fn decoded(files: &str, seed: &str) -> String {
    let output = run("11_decode_images", &[files, seed]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A thread that was left behind in a balloon may not have returned by the end. Then the report says so.
    assert!(output.status.success() && (stderr.is_empty() || stderr.contains("still run")), "{stderr}");
    let table = String::from_utf8(output.stdout).expect("examples print text");
    table.lines().filter(|line| !line.starts_with("ballooned: ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_damaged_picture_is_accounted_for_however_it_ends() {
    let text = decoded("4000", "0");
    assert_eq!(text, decoded("4000", "0"), "outcomes do not depend on the race of the containers");
    assert!(text.ends_with("panicked or ballooned: true\nevery file is accounted for: true\n"), "{text}");
    let numbers = |line: &str| -> Vec<u64> {
        line.split_whitespace().skip(1).map(|word| word.parse().expect("a number")).collect()
    };
    let rows = text.lines().skip_while(|line| !line.starts_with("format")).skip(1);
    let rows: Vec<Vec<u64>> = rows.take_while(|line| !line.is_empty()).map(numbers).collect();
    let (all, formats) = rows.split_last().expect("a row for all");
    assert_eq!(formats.len(), 12);
    for (column, sum) in all.iter().enumerate() {
        assert_eq!(formats.iter().map(|row| row[column]).sum::<u64>(), *sum, "column {column}: {text}");
    }
    let [files, decoded, refused, panicked, ballooned] = all[..] else { panic!("five columns: {text}") };
    assert_eq!(files, 4_000, "files");
    assert_eq!(decoded + refused + panicked + ballooned, 4_000, "the sum of all endings");
    // That the decoder panics is not a promise of this crate, and is not checked.
    assert!(decoded > 0 && refused > 0 && ballooned > 0, "{text}");
    let listed = |title: &str| {
        let list = text.lines().skip_while(|line| !line.starts_with(title)).skip(1);
        let list = list.take_while(|line| line.starts_with(' '));
        list.map(|line| line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).expect("a number"))
            .sum()
    };
    let sums: [u64; 2] = [listed("refused:"), listed("panicked:")];
    assert_eq!(sums, [refused, panicked], "{text}");
}

#[test]
fn a_program_whose_panics_unwind_is_not_refused() {
    let printed = printed("panic_abort", &[]);
    let expected = "panics unwind in this build, so the function runs: Some([100, 50])\n\
        a division by zero is contained: input 0 is poisoned after 4 attempts: container 0#4 ";
    assert!(printed.starts_with(expected) && printed.ends_with(": attempt to divide by zero\n"), "{printed}");
}

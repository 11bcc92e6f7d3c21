//! The promises of the program: no crash changes a total, and each file that is missing is named.

#![expect(clippy::disallowed_methods, reason = "a test that waits has a limit")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{fs, thread};

use walkdir::{DirEntry, WalkDir};

/// A run that takes longer than this counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// The totals. No crash may change them.
const TOTALS: [&str; 16] = [
    "files", "lines", "errors", "fn", "struct", "enum", "union", "trait", "impl", "mod", "use", "const",
    "static", "type", "macro", "other",
];

/// Starts the program.
fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_count_rust"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program can be run")
}

/// Runs the program to its end, and fails if it hangs.
fn run(arguments: &[&str]) -> Output {
    let mut child = start(arguments);
    let stdout = read(child.stdout.take().expect("it is piped"));
    let stderr = read(child.stderr.take().expect("it is piped"));
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(HUNG), stderr.recv_timeout(HUNG)) else {
        child.kill().expect("it can be killed");
        panic!("{arguments:?} hung: it did not end within {HUNG:?}");
    };
    Output { status: child.wait().expect("it has ended"), stdout, stderr }
}

/// Reads a pipe to its end on a thread of its own, so that the program never blocks on a full pipe.
fn read(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        let _ = send.send(bytes); // the test may have failed meanwhile
    });
    receive
}

/// The output of a run that succeeds and has nothing to say beside it.
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{arguments:?}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).expect("it is text")
}

/// The tree of files that these tests count.
fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("tree")
}

/// The table that the program prints.
#[derive(Debug)]
struct Table {
    rows: BTreeMap<String, u64>,
    errors: Vec<String>,
    poisoned: Vec<String>,
    ballooned: Vec<String>,
}

impl Table {
    fn of(path: &Path, arguments: &[&str]) -> Self {
        let path = path.to_str().expect("the repository is at a path of text");
        Self::read(&printed(&[arguments, &[path]].concat()))
    }

    fn read(text: &str) -> Self {
        let mut table =
            Self { rows: BTreeMap::new(), errors: Vec::new(), poisoned: Vec::new(), ballooned: Vec::new() };
        let mut named = None;
        for line in text.lines() {
            match (line, &mut named) {
                ("", _) => {}
                ("errors:", _) => named = Some(&mut table.errors),
                ("poisoned:", _) => named = Some(&mut table.poisoned),
                ("ballooned:", _) => named = Some(&mut table.ballooned),
                (line, Some(list)) => list.push(line.trim().to_owned()),
                (line, None) => {
                    let (key, value) = line.split_once(' ').expect("key  value");
                    table.rows.insert(key.to_owned(), value.trim().parse().expect("a number"));
                }
            }
        }
        table
    }

    fn row(&self, key: &str) -> u64 {
        *self.rows.get(key).unwrap_or_else(|| panic!("no row {key} in {self:?}"))
    }

    fn totals(&self) -> [u64; TOTALS.len()] {
        TOTALS.map(|key| self.row(key))
    }
}

/// The number of lines of a file, or `None` if it is not UTF-8.
fn lines(path: &Path) -> Option<u64> {
    let bytes = fs::read(path).expect("the tree can be read");
    Some(String::from_utf8(bytes).ok()?.lines().count() as u64)
}

#[test]
fn every_file_of_a_tree_is_counted_and_errors_are_named_with_their_place() {
    let table = Table::of(&tree(), &[]);
    let walk = WalkDir::new(tree()).into_iter().map(|entry| entry.expect("the tree can be read"));
    let paths: Vec<PathBuf> = walk.map(DirEntry::into_path).collect();
    let rust: Vec<&PathBuf> = paths.iter().filter(|path| path.to_string_lossy().ends_with(".rs")).collect();
    assert_eq!(table.row("files"), rust.len() as u64);
    let whole = rust.iter().filter(|path| !path.ends_with("syntax_error.rs"));
    assert_eq!(table.row("lines"), whole.filter_map(|path| lines(path)).sum::<u64>());
    assert!(TOTALS.iter().all(|key| table.row(key) > 0), "the tree holds some of each kind: {table:?}");
    let undisturbed = ["crashes", "replays", "restarts", "poisoned"].map(|key| table.row(key));
    assert_eq!(undisturbed, [0, 0, 0, 0]);
    assert_eq!(table.row("errors"), 2, "the row of errors");
    assert_eq!(table.errors.len(), 2, "listed errors");
    assert_eq!(table.errors[0], "not_utf8.rs: not UTF-8 from byte 65 on");
    assert!(table.errors[1].starts_with("syntax_error.rs: 5:1: "), "{table:?}");
}

#[test]
fn every_kind_of_item_is_counted_even_in_nested_modules() {
    let kinds = Table::of(&tree().join("every_kind.rs"), &[]);
    for kind in &TOTALS[3..] {
        let expected = if ["macro", "other"].contains(kind) { 2 } else { 1 };
        assert_eq!(kinds.row(kind), expected, "{kind}");
    }
    let nested = Table::of(&tree().join("nested.rs"), &[]);
    assert_eq!(["mod", "fn", "use", "const"].map(|kind| nested.row(kind)), [3, 3, 1, 1]);
}

#[test]
fn chaos_changes_no_total() {
    let plain = Table::of(&tree(), &[]);
    for containers in ["1", "2", "16"] {
        let chaos = Table::of(&tree(), &["--chaos", "0.3", "--containers", containers]);
        assert_eq!(chaos.totals(), plain.totals());
        assert_eq!(&chaos.errors, &plain.errors, "errors");
        assert_eq!(chaos.row("poisoned"), 0, "the row of poisoned files");
        assert!(chaos.row("crashes") > 0, "{chaos:?}");
        assert_eq!(chaos.row("replays"), chaos.row("crashes"), "each crash is replayed");
    }
    let all = Table::of(&tree(), &["--chaos", "1"]);
    assert_eq!(all.row("crashes"), plain.row("files"), "a share of 1 takes every first attempt");
}

#[test]
fn poisoned_files_are_named_and_only_their_share_is_missing() {
    let plain = Table::of(&tree(), &[]);
    for seed in ["0", "1", "2"] {
        let options = ["--chaos", "0.3", "--poison", "3", "--containers", "4", "--seed", seed];
        let table = Table::of(&tree(), &options);
        assert_eq!(table.row("poisoned"), 3, "the row of poisoned files");
        assert_eq!(table.poisoned.len(), 3, "listed poisoned files");
        let mut totals = table.totals();
        for poisoned in &table.poisoned {
            let (name, how) = poisoned.split_once(": ").expect("name: how it ended");
            assert_eq!(how, "crashed 4 containers");
            let share = Table::of(&tree().join(name), &[]).totals();
            assert_eq!(share[0], 1, "a file");
            for (total, share) in totals.iter_mut().zip(share) {
                *total += share;
            }
        }
        assert_eq!(totals, plain.totals(), "{:?} with seed {seed}", table.poisoned);
        assert_eq!(table.row("replays"), table.row("crashes") - 3, "all but the last crash of each");
        // Without chaos the same files are poisoned, and nothing else crashes.
        let calm = Table::of(&tree(), &["--poison", "3", "--seed", seed]);
        assert_eq!(&calm.poisoned, &table.poisoned, "the same files are poisoned");
        assert_eq!(calm.row("crashes"), 3 * 4, "crashes");
    }
}

#[test]
fn files_that_balloon_are_named_with_their_peaks_and_only_their_share_is_missing() {
    let plain = Table::of(&tree(), &[]);
    let limit = ["--memory-limit", "8"];
    let unharmed = Table::of(&tree(), &limit);
    assert_eq!(unharmed.totals(), plain.totals(), "totals");
    assert_eq!(unharmed.row("crashes"), 0, "crashes");
    let tree = tree();
    let path = tree.to_str().expect("the repository is at a path of text");
    let arguments = [&limit[..], &["--balloon", "3", "--poison", "1", path]].concat();
    let output = run(&arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A thread that was left behind in a balloon may not have returned by the end. Then the report says so.
    assert!(output.status.success() && (stderr.is_empty() || stderr.contains("still run")), "{stderr}");
    let table = Table::read(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(table.row("ballooned"), 3, "the row of ballooned files");
    assert_eq!(table.ballooned.len(), 3, "listed ballooned files");
    assert_eq!(table.row("poisoned"), 1, "the row of poisoned files");
    assert_eq!(table.poisoned.len(), 1, "listed poisoned files");
    let mut totals = table.totals();
    let ballooned = table.ballooned.iter().map(|line| line.split_once(": used ").expect("name: peaks"));
    let poisoned = table.poisoned.iter().map(|line| line.split_once(": crashed ").expect("name: how"));
    for (name, how) in ballooned.clone().chain(poisoned) {
        let share = Table::of(&tree.join(name), &[]).totals();
        for (total, share) in totals.iter_mut().zip(share) {
            *total += share;
        }
        assert!(!how.is_empty());
    }
    assert_eq!(totals, plain.totals(), "{:?}", table.ballooned);
    for (_, peaks) in ballooned {
        let peaks = peaks.split(", ").map(|peak| peak.trim_end_matches(" MiB").parse().expect("a number"));
        assert!(peaks.into_iter().all(|mib: u64| (8..=32).contains(&mib)), "{:?}", table.ballooned);
    }
    assert!(table.row("peak_kib") > 8 * 1024);
}

#[test]
fn the_dependencies_of_this_project_can_be_counted() {
    let output = run(&["--chaos", "0.05", "--poison", "3"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.starts_with("count_rust: no directory is named") {
        return; // a build from vendored sources has no registry to count
    }
    assert_eq!(stderr, "", "no package is missing");
    let table = Table::read(&String::from_utf8_lossy(&output.stdout));
    assert!(table.row("files") > 1_000 && table.row("crashes") > 50, "{table:?}");
    assert_eq!(table.row("poisoned"), 3, "the row of poisoned files");
    assert_eq!(table.poisoned.len(), 3, "listed poisoned files");
}

#[test]
fn bad_options_are_refused_with_a_reason_and_exit_code_2() {
    let tree = tree();
    let tree = tree.to_str().expect("the repository is at a path of text");
    let refused: [(&[&str], &str); 13] = [
        (&["--dashboard", "nonsense", tree], "the address of the page is not known"),
        (&["--report"], "--report needs a value"),
        (&["--chaos"], "--chaos needs a value"),
        (&["--chaos", "1.5"], "--chaos 1.5 is outside 0..=1"),
        (&["--chaos", "NaN"], "--chaos NaN is outside 0..=1"),
        (&["--poison", "-1"], "--poison wants a whole number, not -1"),
        (&["--poison", "1000", tree], "--poison and --balloon 1000 of 35 files"),
        (&["--balloon", "2", tree], "--balloon needs a --memory-limit"),
        (&["--memory-limit", "0", tree], "a memory setting of 0 bytes"),
        (&["--containers", "0", tree], "0 containers are outside 1..=1024"),
        (&["--frobnicate"], "unknown option --frobnicate"),
        (&[tree, tree], "a second directory"),
        (&["no/such/directory"], "no/such/directory cannot be walked: "),
    ];
    for (arguments, reason) in refused {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "exit code: {arguments:?}: {stderr}");
        assert_eq!(output.stdout.len(), 0, "stdout: {arguments:?}: {stderr}");
        assert!(stderr.starts_with(&format!("count_rust: {reason}")), "{arguments:?}: {stderr}");
    }
}

/// What the page answers to a request.
fn get(url: &str, path: &str) -> Option<serde_json::Value> {
    let host = url.strip_prefix("http://")?.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn a_page_shows_the_run_while_it_lasts_and_the_report_shows_it_afterwards() {
    // So many files that the run lasts for a second, in which the test asks the page many times.
    let folder = std::env::temp_dir().join(format!("count_rust-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder can be made");
    for n in 0..1_500 {
        let copied = fs::copy(tree().join("every_kind.rs"), folder.join(format!("{n}.rs")));
        assert!(copied.is_ok(), "{copied:?}");
    }
    let report = folder.join("report.html");
    let [saved, tree] = [&report, &folder].map(|path| path.to_str().expect("it is text"));
    let options = ["--dashboard", "127.0.0.1:0", "--report", saved, "--containers", "1"];
    let options = [&options[..], &["--chaos", "0.5", "--poison", "3", tree]].concat();
    let mut child = start(&options);
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let stdout = read(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a pipe can be read");
    let url = line.trim_start_matches("count_rust: ").split(' ').next().expect("a word").to_owned();
    let begun = Instant::now();
    let mut seen = None;
    while seen.is_none() && child.try_wait().expect("it can be asked").is_none() {
        assert!(begun.elapsed() < HUNG, "it hangs: {line}");
        seen = get(&url, "/api/v1/functions/parse")
            .filter(|answer| answer["function"]["totals"]["accepted"] != 0);
    }
    let table = Table::read(&String::from_utf8_lossy(&stdout.recv_timeout(HUNG).expect("it ends")));
    assert!(child.wait().expect("it has ended").success());
    let seen = seen.expect("the page answered during the run");
    assert_eq!(seen["function"]["maps"][0]["label"], "files", "{seen}");
    let page = fs::read_to_string(&report).expect("the report was saved");
    fs::remove_dir_all(&folder).expect("it can be removed");
    assert_eq!(table.poisoned.len(), 3);
    for poisoned in &table.poisoned {
        let name = poisoned.split(": ").next().expect("a name");
        assert!(page.contains(&format!("\"description\":\"{name}\"")), "the report names {name}");
    }
}

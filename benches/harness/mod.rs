//! The harness that all benches share: questions, each asked in interleaved rounds, and the table of
//! their answers.
//!
//! ```text
//!  question ──▶ rounds: ours, rival, rival, ours, … ──▶ pairs ──▶ median and quartiles ──▶ row
//! ```
//!
//! Two noisy cores make a time measured now and one measured a minute later incomparable; the ratio of two
//! that were measured side by side is stable. So every round runs all the ways of one question in turn,
//! each ratio is that of one round, and a row tells the median of the ratios with their quartiles. The
//! ratio is therefore not quite that of the two medians beside it.
//!
//! Criterion calls the rounds, and reports our own time as it does for any bench.
//!
//! | run as | N | each question is asked | rows are written |
//! |---|---|---|---|
//! | `cargo bench` | as it says | at least 15 times | `target/longshore-bench/<bench>.md` |
//! | `cargo bench -- --test`, `cargo test --benches` | at most 300 | once, for the answers to be checked | no |

pub(crate) mod crashes;
pub(crate) mod goal;
pub(crate) mod ours;
pub(crate) mod question;
pub(crate) mod reading;
mod row;
mod spread;
mod watch;
pub(crate) mod work;

use std::path::PathBuf;
use std::time::Duration;

use criterion::Criterion;

use question::Question;
use row::Row;
use work::Spin;

/// The most inputs of a question that is only checked.
const INPUTS_CHECKED: u64 = 300;

/// How much less work there is in an input that is only checked.
const WORK_CHECKED: u32 = 100;

/// Whether answers are timed, or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Timed,
    Checked,
}

/// One bench: it asks its questions one by one, and writes their rows down after each.
pub(crate) struct Harness {
    bench: &'static str,
    criterion: Criterion,
    mode: Mode,
    spin: Spin,
    /// The questions to ask are those whose names contain it.
    filter: String,
    rows: Vec<Row>,
}

impl Harness {
    /// # Panics
    ///
    /// Unoptimised code is to be timed.
    pub(crate) fn new(bench: &'static str) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
        // Criterion's own rule: Cargo passes `--bench` to what it benches and not to what it tests.
        let mode = if has("--bench") && !has("--test") { Mode::Timed } else { Mode::Checked };
        assert!(
            mode == Mode::Checked || !cfg!(debug_assertions),
            "times of unoptimised code would mislead: use `cargo bench`"
        );
        let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned();
        Self {
            bench,
            criterion: Criterion::default().without_plots().configure_from_args(),
            mode,
            spin: Spin::calibrated(),
            filter: filter.unwrap_or_default(),
            rows: Vec::new(),
        }
    }

    /// How many inputs to give a question that is about `inputs` of them.
    pub(crate) fn inputs(&self, inputs: u64) -> u64 {
        match self.mode {
            Mode::Timed => inputs,
            Mode::Checked => inputs.min(INPUTS_CHECKED),
        }
    }

    /// Work of that length on one core.
    pub(crate) fn work(&self, length: Duration) -> Spin {
        self.spin.lasting(self.time(length))
    }

    /// How long to go on with something that is about `length`.
    pub(crate) fn time(&self, length: Duration) -> Duration {
        match self.mode {
            Mode::Timed => length,
            Mode::Checked => length / WORK_CHECKED,
        }
    }

    /// A question about `inputs` inputs.
    pub(crate) fn question(&mut self, name: &str, inputs: u64) -> Question<'_> {
        Question::new(self, name, inputs)
    }

    /// Where benches leave their rows, for `benches/table` to collect.
    fn rows_path(&self) -> PathBuf {
        let mut path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        path.set_file_name("longshore-bench");
        path.push(self.bench);
        path.with_extension("md")
    }

    /// Keeps what was answered, and writes it down with all that was answered before.
    fn keep(&mut self, rows: Vec<Row>) -> std::io::Result<()> {
        println!("\n{}", row::HEAD);
        rows.iter().for_each(|row| println!("{row}"));
        self.rows.extend(rows);
        let path = self.rows_path();
        std::fs::create_dir_all(path.parent().expect("it has the bench's name below a directory"))?;
        let lines: Vec<String> = self.rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(&path, lines.concat())
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.criterion.final_summary();
    }
}

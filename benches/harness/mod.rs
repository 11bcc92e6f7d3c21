//! The harness that all benches share. Each question is asked in interleaved rounds, and its answers are rows
//! of a table.
//!
//! ```text
//!  question ──▶ rounds: ours, rival, rival, ours, … ──▶ pairs ──▶ median and quartiles ──▶ row
//! ```
//!
//! On two noisy cores a time measured now cannot be compared with a time measured a minute later, but the
//! ratio of two times that were measured side by side is stable. So every round runs all the ways of one
//! question in turn. Each ratio is taken within one round, and a row shows the median and the quartiles of
//! these ratios. So the ratio in a row is not exactly the ratio of the two medians beside it.
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

/// The largest number of inputs in a question that is only checked.
const INPUTS_CHECKED: u64 = 300;

/// The work of an input is divided by this in a question that is only checked.
const WORK_CHECKED: u32 = 100;

/// Whether answers are timed, or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Timed,
    Checked,
}

/// One bench. It asks its questions one by one, and writes all rows after each.
pub(crate) struct Harness {
    bench: &'static str,
    criterion: Criterion,
    mode: Mode,
    spin: Spin,
    /// Only questions whose names contain this are asked.
    filter: String,
    rows: Vec<Row>,
}

impl Harness {
    /// # Panics
    ///
    /// If the code to time is not optimised.
    pub(crate) fn new(bench: &'static str) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
        // This is criterion's own rule: Cargo passes `--bench` when it benches, and not when it tests.
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

    /// The number of inputs for a question that is about `inputs` of them. It is smaller if the question is
    /// only checked.
    pub(crate) fn inputs(&self, inputs: u64) -> u64 {
        match self.mode {
            Mode::Timed => inputs,
            Mode::Checked => inputs.min(INPUTS_CHECKED),
        }
    }

    /// Work that takes this long on one core.
    pub(crate) fn work(&self, length: Duration) -> Spin {
        self.spin.lasting(self.time(length))
    }

    /// The duration for a question that is about `length`. It is shorter if the question is only checked.
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

    /// The file for the rows of this bench, which `benches/table` collects.
    fn rows_path(&self) -> PathBuf {
        let mut path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        path.set_file_name("longshore-bench");
        path.push(self.bench);
        path.with_extension("md")
    }

    /// Adds the rows of a question, and writes all rows so far to the file.
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

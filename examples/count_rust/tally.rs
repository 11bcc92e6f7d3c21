//! What all files add up to, and how it is shown.

use std::fmt;
use std::time::Duration;

use longshore::{Failure, Progress, Status};

use crate::error::chain;
use crate::items::Items;
use crate::parse::{Counts, ParseError};
use crate::tree::SourceFile;

/// How many files with errors are named; the rest is only counted.
const ERRORS_NAMED_MAX: usize = 10;

type Failed = Failure<SourceFile, ParseError>;

/// What all files add up to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    parsed: u64,
    lines: u64,
    items: Items,
    /// The files that could not be parsed. Each failure holds its file: nothing is kept beside it.
    pub(crate) errors: Vec<Failed>,
    /// The files given up because they crashed their containers too often. In no total.
    pub(crate) poisoned: Vec<Failed>,
    crashes: u64,
    replays: u64,
    restarts: u64,
    took: Duration,
}

impl Tally {
    /// Adds a file.
    pub(crate) fn count(&mut self, counts: &Counts) {
        self.parsed += 1;
        self.lines += counts.lines;
        self.items += counts.items;
    }

    /// Adds what the engine went through, and makes the lists independent of the order of outcomes.
    pub(crate) fn finish(&mut self, progress: Progress, status: &Status, took: Duration) {
        self.crashes = status.crashes;
        self.replays = progress.replayed;
        self.restarts = status.restarts;
        self.took = took;
        self.errors.sort_by(|a, b| name(a).cmp(name(b)));
        self.poisoned.sort_by(|a, b| name(a).cmp(name(b)));
    }

    fn files(&self) -> u64 {
        self.parsed + self.errors.len() as u64
    }
}

fn name(failed: &Failed) -> &str {
    failed.input().map_or("", |file| &file.name)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: u64| writeln!(f, "{key:<18}{value:>10}");
        row("files", self.files())?;
        row("lines", self.lines)?;
        for (kind, items) in self.items.rows() {
            row(kind, items)?;
        }
        row("errors", self.errors.len() as u64)?;
        row("poisoned", self.poisoned.len() as u64)?;
        row("crashes", self.crashes)?;
        row("replays", self.replays)?;
        row("restarts", self.restarts)?;
        row("files_per_second", (self.files() as f64 / self.took.as_secs_f64().max(1e-9)) as u64)?;

        if !self.errors.is_empty() {
            writeln!(f, "\nerrors:")?;
        }
        for failed in self.errors.iter().take(ERRORS_NAMED_MAX) {
            let error = failed.error().map_or(String::new(), |error| chain(error));
            writeln!(f, "  {}: {error}", name(failed))?;
        }
        if self.errors.len() > ERRORS_NAMED_MAX {
            writeln!(f, "  and {} more", self.errors.len() - ERRORS_NAMED_MAX)?;
        }
        if !self.poisoned.is_empty() {
            writeln!(f, "\npoisoned:")?;
        }
        for failed in &self.poisoned {
            writeln!(f, "  {}: crashed {} containers", name(failed), failed.attempts())?;
        }
        Ok(())
    }
}

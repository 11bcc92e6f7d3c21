//! [`Tally`]: the totals of all files, and the table that shows them.

use std::fmt;
use std::time::Duration;

use longshore::{Cause, Death, Failure, Progress, Status};

use crate::error::chain;
use crate::items::Items;
use crate::parse::{Counts, ParseError};
use crate::tree::SourceFile;

/// The largest number of files with errors that are named. The others are only counted.
const ERRORS_NAMED_MAX: usize = 10;

type Failed = Failure<SourceFile, ParseError>;

/// The totals of all files.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    parsed: u64,
    lines: u64,
    items: Items,
    /// The files that could not be parsed. Each failure holds its file.
    pub(crate) errors: Vec<Failed>,
    /// The files given up because they crashed their containers too often. They are in no total.
    poisoned: Vec<Failed>,
    /// The files given up because they used more memory than a container may. They are in no total either.
    ballooned: Vec<Failed>,
    /// The peak memory of any container, in bytes.
    peak: u64,
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

    /// Adds a file that crashed its containers too often.
    pub(crate) fn crashed(&mut self, failed: Failed) {
        let list = if peaks(&failed).is_empty() { &mut self.poisoned } else { &mut self.ballooned };
        list.push(failed);
    }

    /// Adds the counts of the engine, and makes the lists independent of the order of outcomes.
    pub(crate) fn finish(&mut self, progress: Progress, status: &Status, took: Duration) {
        self.crashes = status.crashes;
        self.replays = progress.replayed;
        self.restarts = status.restarts;
        self.took = took;
        self.peak = status.memory.as_ref().map_or(0, |memory| memory.peak);
        for list in [&mut self.errors, &mut self.poisoned, &mut self.ballooned] {
            list.sort_by(|a, b| name(a).cmp(name(b)));
        }
    }

    fn files(&self) -> u64 {
        self.parsed + self.errors.len() as u64
    }
}

fn name(failed: &Failed) -> &str {
    failed.input().map_or("", |file| &file.name)
}

/// The memory that each attempt over the limit used, in MiB.
fn peaks(failed: &Failed) -> Vec<String> {
    let Cause::Poisoned(deaths) = failed.cause() else { return Vec::new() };
    let used = deaths.iter().filter_map(|crash| match crash.death {
        Death::MemoryLimit { used, .. } => Some(format!("{} MiB", used >> 20)),
        _ => None,
    });
    used.collect()
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
        row("ballooned", self.ballooned.len() as u64)?;
        row("crashes", self.crashes)?;
        row("replays", self.replays)?;
        row("restarts", self.restarts)?;
        row("peak_kib", self.peak >> 10)?;
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
        if !self.ballooned.is_empty() {
            writeln!(f, "\nballooned:")?;
        }
        for failed in &self.ballooned {
            writeln!(f, "  {}: used {}", name(failed), peaks(failed).join(", "))?;
        }
        Ok(())
    }
}

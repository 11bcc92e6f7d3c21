//! [`Tally`]: how the files ended, and the table that shows it.

use std::collections::BTreeMap;
use std::fmt;

use image::{ImageError, ImageFormat};
use longshore::{Cause, Death, Failure, Panic};

use crate::damage::File;

/// How the files of one format ended.
#[derive(Default, Clone, Copy)]
struct Row {
    decoded: u64,
    refused: u64,
    panicked: u64,
    ballooned: u64,
}

impl Row {
    fn files(&self) -> u64 {
        self.decoded + self.refused + self.panicked + self.ballooned
    }
}

/// The files that panicked at one place.
struct Culprits {
    files: u64,
    /// The smallest number of such a file, with a text that names the panic and the file. Outcomes come in no
    /// order.
    first: (u64, String),
}

/// How each file ended. Each file is counted once.
#[derive(Default)]
pub(crate) struct Tally {
    rows: BTreeMap<&'static str, Row>,
    refusals: BTreeMap<&'static str, u64>,
    panics: BTreeMap<String, Culprits>,
    /// The largest balloon, in bytes.
    largest: u64,
    /// The files that ended in an unexpected way.
    odd: Vec<String>,
}

impl Tally {
    pub(crate) fn decoded(&mut self, format: ImageFormat) {
        self.row(format).decoded += 1;
    }

    pub(crate) fn failed(&mut self, failure: &Failure<File, ImageError>) {
        let Some(file) = failure.input() else { return self.odd.push(failure.to_string()) };
        match failure.cause() {
            Cause::Failed(error) => {
                self.row(file.format).refused += 1;
                *self.refusals.entry(kind(error)).or_default() += 1;
            }
            // Each such file has one death, because crash retries are 0.
            Cause::Poisoned(deaths) => match deaths.last().map(|crash| &crash.death) {
                Some(Death::Panicked(panic)) => self.panicked(file, panic),
                Some(Death::MemoryLimit { used, .. }) => {
                    self.row(file.format).ballooned += 1;
                    self.largest = self.largest.max(*used);
                }
                _ => self.odd.push(failure.to_string()),
            },
            _ => self.odd.push(failure.to_string()),
        }
    }

    fn panicked(&mut self, file: &File, panic: &Panic) {
        self.row(file.format).panicked += 1;
        let place = panic.location().map_or("nowhere".to_owned(), in_its_package);
        let words = format!("{} (first: {} {})", panic.message(), name(file.format), file.number);
        let first = (file.number, words);
        let culprits =
            self.panics.entry(place).or_insert_with(|| Culprits { files: 0, first: first.clone() });
        culprits.files += 1;
        if first.0 < culprits.first.0 {
            culprits.first = first;
        }
    }

    fn row(&mut self, format: ImageFormat) -> &mut Row {
        self.rows.entry(name(format)).or_default()
    }

    pub(crate) fn files(&self) -> u64 {
        self.total().files()
    }

    pub(crate) fn crashes(&self) -> u64 {
        self.total().panicked + self.total().ballooned
    }

    fn total(&self) -> Row {
        self.rows.values().fold(Row::default(), |sum, row| Row {
            decoded: sum.decoded + row.decoded,
            refused: sum.refused + row.refused,
            panicked: sum.panicked + row.panicked,
            ballooned: sum.ballooned + row.ballooned,
        })
    }
}

fn name(format: ImageFormat) -> &'static str {
    format.extensions_str().first().copied().unwrap_or("?")
}

fn kind(error: &ImageError) -> &'static str {
    match error {
        ImageError::Decoding(_) => "malformed",
        ImageError::Unsupported(_) => "unsupported",
        ImageError::Limits(_) => "over the decoder's own limits",
        ImageError::IoError(_) => "cut off, or unreadable",
        ImageError::Parameter(_) | ImageError::Encoding(_) => "other",
    }
}

/// The place of a panic, relative to the folder of its package. The rest of the path depends on the machine.
fn in_its_package(location: &str) -> String {
    let location = location.replace('\\', "/");
    let package = location.rfind("/src/").and_then(|src| location[..src].rfind('/'));
    package.map_or(location.clone(), |slash| location[slash + 1..].to_owned())
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decoded, refused, panicked, ballooned } = self;
        write!(f, "{:>8}{decoded:>10}{refused:>10}{panicked:>10}{ballooned:>11}", self.files())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format     files   decoded   refused  panicked  ballooned")?;
        for (format, row) in &self.rows {
            writeln!(f, "{format:<8}{row}")?;
        }
        writeln!(f, "{:<8}{}", "all", self.total())?;
        writeln!(f, "\nrefused:")?;
        for (kind, files) in &self.refusals {
            writeln!(f, "  {files:>6}  {kind}")?;
        }
        writeln!(f, "\npanicked:{}", if self.panics.is_empty() { " none" } else { "" })?;
        for (place, Culprits { files, first: (_, words) }) in &self.panics {
            writeln!(f, "  {files:>6}  {place}: {words}")?;
        }
        writeln!(f, "\nballooned: up to {} MiB\n", self.largest >> 20)?;
        for odd in &self.odd {
            writeln!(f, "ended otherwise: {odd}")?;
        }
        Ok(())
    }
}

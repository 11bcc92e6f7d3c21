//! Parses one file, from its path to its counts. Containers execute this.

use std::error::Error;
use std::path::Path;
use std::{fmt, fs, io};

use crate::items::Items;

/// The counts of one file.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) items: Items,
}

/// Why a file has no counts.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is not UTF-8 from this byte on. Bytes are counted from 0.
    NotUtf8 { byte: usize },
    /// It is not Rust. Lines and columns are counted from 1.
    Syntax { line: usize, column: usize, message: String },
}

/// Reads and parses the file.
pub(crate) fn parse(path: &Path) -> Result<Counts, ParseError> {
    // For its spans, proc-macro2 keeps every text that a thread has parsed until this call invalidates them.
    // Nothing of the previous file is left here, because it was dropped at its end or by a panic. This comes
    // first, because thread-locals survive a restart.
    proc_macro2::extra::invalidate_current_thread_spans();
    let bytes = fs::read(path).map_err(ParseError::Unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| ParseError::NotUtf8 { byte: error.utf8_error().valid_up_to() })?;
    let file = syn::parse_file(&text).map_err(|error| {
        let start = error.span().start();
        ParseError::Syntax { line: start.line, column: start.column + 1, message: error.to_string() }
    })?;
    Ok(Counts { lines: text.lines().count() as u64, items: Items::of(&file.items) })
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(_) => write!(f, "unreadable"),
            Self::NotUtf8 { byte } => write!(f, "not UTF-8 from byte {byte} on"),
            Self::Syntax { line, column, message } => write!(f, "{line}:{column}: {message}"),
        }
    }
}

impl Error for ParseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::NotUtf8 { .. } | Self::Syntax { .. } => None,
        }
    }
}

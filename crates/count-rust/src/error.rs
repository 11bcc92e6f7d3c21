//! [`Error`]: every way in which the program can end without a table.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::{fmt, io};

use longshore::{Failure, StartError};
use longshore_dashboard::ServeError;

use crate::options::OptionsError;
use crate::parse::ParseError;
use crate::tree::{SourceFile, TreeError};

/// Why there is no count.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is wrong.
    Options(OptionsError),
    /// There is nothing to count.
    Tree(TreeError),
    /// The command line asks for more crashing files than there are.
    TooMany { asked: usize, files: usize },
    /// The page cannot be served.
    Dashboard(ServeError),
    /// The report cannot be written.
    Report { path: PathBuf, error: io::Error },
    /// The function was refused, because of a setting of the command line or because of the machine.
    Start(StartError),
    /// The map ended as a whole.
    Ended(Failure<SourceFile, ParseError>),
}

impl Error {
    /// By convention 2 if the command line was wrong and nothing was begun, and otherwise 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_)
            | Self::Tree(_)
            | Self::TooMany { .. }
            | Self::Dashboard(_)
            | Self::Start(StartError::Config(_)) => 2,
            Self::Start(_) | Self::Ended(_) | Self::Report { .. } => 1,
        }
    }
}

/// An error and its sources, in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let sources = std::iter::successors(error.source(), |&source| source.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => write!(f, "{error}"),
            Self::Tree(error) => write!(f, "{error}"),
            Self::TooMany { asked, files } => write!(f, "--poison and --balloon {asked} of {files} files"),
            Self::Dashboard(error) => write!(f, "{error}"),
            Self::Report { path, .. } => write!(f, "the report {} cannot be written", path.display()),
            Self::Start(error) => write!(f, "{error}"),
            Self::Ended(failure) => write!(f, "{failure}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The text of each variant is the text of its inner error, so its source is the source of that error.
        match self {
            Self::Options(error) => error.source(),
            Self::Tree(error) => error.source(),
            Self::TooMany { .. } => None,
            Self::Dashboard(error) => error.source(),
            Self::Report { error, .. } => Some(error),
            Self::Start(error) => error.source(),
            Self::Ended(failure) => failure.source(),
        }
    }
}

impl From<OptionsError> for Error {
    fn from(error: OptionsError) -> Self {
        Self::Options(error)
    }
}

impl From<TreeError> for Error {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<Failure<SourceFile, ParseError>> for Error {
    fn from(failure: Failure<SourceFile, ParseError>) -> Self {
        Self::Ended(failure)
    }
}

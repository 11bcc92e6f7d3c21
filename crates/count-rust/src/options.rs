//! [`Options`]: the command line, checked before anything begins.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The text that `--help` prints.
pub(crate) const USAGE: &str = "\
count_rust [OPTIONS] [DIRECTORY]

DIRECTORY        the directory to count; the sources of this project's dependencies by default
--chaos P        the share of files, 0 to 1, whose first attempt panics; 0 by default
--poison N       the number of files whose every attempt panics; 0 by default
--memory-limit M how many MiB a container may use; no limit by default
--balloon N      the number of files whose every attempt uses four times that; 0 by default
--seed S         chooses the files for all of these; 0 by default
--containers N   the number of containers; as many as there are processors by default
--dashboard A    serves a page that shows the run at this address, such as 127.0.0.1:0, where port 0 is a free one
--report FILE    saves the page as it is at the end";

/// The options of the command line.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) directory: Option<PathBuf>,
    /// In 0 ..= 1.
    pub(crate) chaos: f64,
    pub(crate) poison: usize,
    /// In MiB. The library checks its range.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) balloon: usize,
    pub(crate) seed: u64,
    /// The library checks its range.
    pub(crate) containers: Option<usize>,
    /// The address of the page. The dashboard checks it.
    pub(crate) dashboard: Option<String>,
    pub(crate) report: Option<PathBuf>,
}

/// Why the command line is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum OptionsError {
    /// There is no such option.
    Unknown(OsString),
    /// The option is the last word.
    NoValue(&'static str),
    /// The option's value is not a number of the right kind.
    NotANumber { option: &'static str, value: OsString, wants: &'static str },
    /// The share is outside 0 ..= 1.
    Share(f64),
    /// There is `--balloon` but no memory limit to exceed.
    NothingToOutgrow,
    /// There is a second directory.
    SecondDirectory(OsString),
}

impl Options {
    /// Reads the words after the program's name.
    pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--chaos") => options.chaos = share(value("--chaos", "a share", words.next())?)?,
                Some("--poison") => options.poison = value("--poison", "a whole number", words.next())?,
                Some("--memory-limit") => {
                    options.memory_limit = Some(value("--memory-limit", "a whole number", words.next())?);
                }
                Some("--balloon") => options.balloon = value("--balloon", "a whole number", words.next())?,
                Some("--seed") => options.seed = value("--seed", "a whole number", words.next())?,
                Some("--containers") => {
                    options.containers = Some(value("--containers", "a whole number", words.next())?);
                }
                Some("--dashboard") => {
                    options.dashboard = Some(value("--dashboard", "an address", words.next())?);
                }
                Some("--report") => {
                    let file = words.next().ok_or(OptionsError::NoValue("--report"))?;
                    options.report = Some(file.into());
                }
                Some(option) if option.starts_with('-') => return Err(OptionsError::Unknown(word)),
                _ if options.directory.is_some() => return Err(OptionsError::SecondDirectory(word)),
                _ => options.directory = Some(word.into()),
            }
        }
        if options.balloon > 0 && options.memory_limit.is_none() {
            return Err(OptionsError::NothingToOutgrow);
        }
        Ok(options)
    }
}

fn value<T: FromStr>(
    option: &'static str,
    wants: &'static str,
    word: Option<OsString>,
) -> Result<T, OptionsError> {
    let value = word.ok_or(OptionsError::NoValue(option))?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or(OptionsError::NotANumber { option, value, wants })
}

fn share(share: f64) -> Result<f64, OptionsError> {
    // NaN is in no range either.
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(OptionsError::Share(share)) }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "unknown option {}", option.display())?,
            Self::NoValue(option) => write!(f, "{option} needs a value")?,
            Self::NotANumber { option, value, wants } => {
                write!(f, "{option} wants {wants}, not {}", value.display())?;
            }
            Self::Share(share) => write!(f, "--chaos {share} is outside 0..=1")?,
            Self::NothingToOutgrow => write!(f, "--balloon needs a --memory-limit")?,
            Self::SecondDirectory(second) => write!(f, "a second directory, {}", second.display())?,
        }
        write!(f, "; --help lists the options")
    }
}

impl Error for OptionsError {}

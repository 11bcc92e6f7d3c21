//! What issue 5 asks of an answer, and whether the answer meets it.

use std::fmt;

/// A goal for what is measured: the lower the better, unless it is a band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// None: the figures are shown for comparison.
    Shown,
    /// At most that many times the rival's.
    Times(f64),
    /// At most that many times the rival's, or at most that much more than it, whichever is easier.
    TimesOrMore(f64, f64),
    /// At most that share of the rival's, told as how many times faster that is.
    Faster(f64),
    /// At least that share of the rival's throughput.
    Throughput(f64),
    /// Within that share of the rival's, above or below.
    Like(f64),
    /// At most that much, whatever any rival does.
    AtMost(f64),
}

impl Goal {
    /// Whether it is met by the medians of our figures, of their ratios to the rival's, and of how much
    /// more they are; `None` if there is nothing to meet.
    pub(crate) fn is_met(self, ours: f64, ratio: f64, more: f64) -> Option<bool> {
        Some(match self {
            Self::Shown => return None,
            Self::Times(most) => ratio <= most,
            Self::TimesOrMore(times, most) => ratio <= times || more <= most,
            Self::Faster(times) => ratio <= 1.0 / times,
            Self::Throughput(share) => ratio <= 1.0 / share,
            Self::Like(share) => (ratio - 1.0).abs() <= share,
            Self::AtMost(most) => ours <= most,
        })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown => write!(f, "–"),
            Self::Times(most) => write!(f, "≤ {most} ×"),
            Self::TimesOrMore(times, most) => write!(f, "≤ {times} × or {most} more"),
            Self::Faster(times) => write!(f, "≥ {times} × faster"),
            Self::Throughput(share) => write!(f, "≥ {share} of the throughput"),
            Self::Like(share) => write!(f, "1 ± {share}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

//! [`Goal`]: the goal of an answer, and whether the answer meets it.

use std::fmt;

/// A goal for a figure. Lower figures are better, except for a band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// There is no goal. The figures are shown for comparison.
    Shown,
    /// At most this many times the rival's figure.
    Times(f64),
    /// At most this many times the rival's figure, or at most this much more, whichever is easier to meet.
    TimesOrMore(f64, f64),
    /// At least this many times as fast as the rival.
    Faster(f64),
    /// At least this share of the rival's throughput.
    Throughput(f64),
    /// Within this share of the rival's figure, above or below.
    Like(f64),
    /// At most this much, whatever the rivals' figures are.
    AtMost(f64),
}

impl Goal {
    /// Whether the goal is met. The arguments are medians: of our figures, of their ratios to the rival's,
    /// and of their differences. `None` if there is no goal.
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

//! The health of a function in one word.
//!
//! A pure function derives the word from a few numbers ([`Signs`]), so that every viewer shows the same one.

use std::fmt;
use std::time::Duration;

/// A function counts as stuck if inputs wait, containers execute, and no input has completed for this long.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A function counts as stuck only after this many times the usual cost of an input as well, because a
/// function whose inputs take a minute each is not stuck while it executes them.
const STUCK_COSTS: u32 = 3;

/// The time over which crashes are counted to see whether a function counts as crashing.
pub(crate) const CRASHING_OVER: Duration = Duration::from_secs(60);

/// A function with this many crashes within [`CRASHING_OVER`] counts as crashing. One or two crashes are
/// normal.
pub(super) const CRASHING_FROM: u64 = 3;

/// The health of a function: the worst state that applies. The words of [`Health::as_str`] are stable.
///
/// | health | when |
/// |---|---|
/// | `Ended` | the function has ended, or a fault of the engine has ended it |
/// | `GaveUp` | its crash limit is broken, and it has not been reset |
/// | `Exhausted` | [as many threads are abandoned](crate::Builder::abandoned_max) as may be, and no container is left that takes inputs |
/// | `CrashLoop` | two loop crashes in a row or more: containers die before they complete anything |
/// | `Stuck` | inputs wait, containers execute, and nothing has completed for 10 s (nor for three times what an input usually costs). An attempt that times out completes nothing |
/// | `Crashing` | three crashes or more within the last 60 s, without a loop |
/// | `Starting` | no container is live yet, or again |
/// | `Serving` | none of these |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Health {
    /// Nothing is wrong.
    Serving,
    /// No container is live yet, or again.
    Starting,
    /// Containers crash again and again, and inputs are completed meanwhile.
    Crashing,
    /// Inputs wait and nothing completes, though containers execute.
    Stuck,
    /// Containers die before they complete anything.
    CrashLoop,
    /// No container is left that takes inputs, and none can be created, because too many threads are
    /// abandoned.
    Exhausted,
    /// The crash limit is broken: nothing is executed until a reset.
    GaveUp,
    /// The function has ended.
    Ended,
}

impl Health {
    /// The word for the health, as it is serialized.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Starting => "starting",
            Self::Crashing => "crashing",
            Self::Stuck => "stuck",
            Self::CrashLoop => "crash_loop",
            Self::Exhausted => "exhausted",
            Self::GaveUp => "gave_up",
            Self::Ended => "ended",
        }
    }

    /// Whether inputs are executed to their end. The health check of a service needs this.
    #[must_use]
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Serving | Self::Crashing)
    }

    /// The health of a function with these signs.
    pub(crate) fn of(signs: &Signs) -> Self {
        let Signs { ended, gave_up, exhausted, loop_crashes, crashes, live, .. } = *signs;
        if ended {
            Self::Ended
        } else if gave_up {
            Self::GaveUp
        } else if exhausted {
            Self::Exhausted
        } else if loop_crashes > 1 {
            Self::CrashLoop
        } else if signs.is_stuck() {
            Self::Stuck
        } else if crashes >= CRASHING_FROM {
            Self::Crashing
        } else if live == 0 {
            Self::Starting
        } else {
            Self::Serving
        }
    }
}

impl fmt::Display for Health {
    /// Writes the word without underscores.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashLoop => f.pad("crash loop"),
            Self::GaveUp => f.pad("gave up"),
            other => f.pad(other.as_str()),
        }
    }
}

/// The numbers from which the health of a function is derived.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs {
    pub(crate) ended: bool,
    pub(crate) gave_up: bool,
    /// Whether no container is left that takes inputs, and none can be created.
    pub(crate) exhausted: bool,
    /// The number of loop crashes in a row.
    pub(crate) loop_crashes: u32,
    /// The number of crashes within [`CRASHING_OVER`].
    pub(crate) crashes: u64,
    pub(crate) live: usize,
    /// The number of inputs that wait for a container.
    pub(crate) waiting: u64,
    /// The age of the oldest execution, if there is one.
    pub(crate) oldest: Option<Duration>,
    /// The time since the last input was completed, or since the start.
    pub(crate) completed: Duration,
    /// The time since the first attempt was cut at a limit, if no input was completed since then.
    pub(crate) cut: Option<Duration>,
    /// The usual cost of an input, if it is known.
    pub(crate) usual_cost: Option<Duration>,
}

impl Signs {
    fn is_stuck(&self) -> bool {
        let usual = self.usual_cost.unwrap_or_default().saturating_mul(STUCK_COSTS);
        let long = STUCK_AFTER.max(usual);
        // After an idle hour the last completion is old, and the execution that has just begun is not.
        self.waiting > 0
            && self.completed >= long
            && [self.oldest, self.cut].into_iter().flatten().any(|busy| busy >= long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn well() -> Signs {
        Signs { live: 4, ..Signs::default() }
    }

    #[test]
    fn the_worst_that_is_true_is_told() {
        let all = Signs {
            ended: true,
            gave_up: true,
            exhausted: true,
            loop_crashes: 2,
            crashes: 3,
            live: 0,
            waiting: 1,
            oldest: Some(10 * SECOND),
            completed: 10 * SECOND,
            cut: None,
            usual_cost: None,
        };
        assert_eq!(Health::of(&all), Health::Ended);
        let given_up = Signs { ended: false, ..all };
        assert_eq!(Health::of(&given_up), Health::GaveUp);
        let exhausted = Signs { gave_up: false, ..given_up };
        assert_eq!(Health::of(&exhausted), Health::Exhausted);
        let looping = Signs { exhausted: false, ..exhausted };
        assert_eq!(Health::of(&looping), Health::CrashLoop);
        let stuck = Signs { loop_crashes: 1, ..looping };
        assert_eq!(Health::of(&stuck), Health::Stuck, "a single loop crash is no loop");
        let crashing = Signs { waiting: 0, ..stuck };
        assert_eq!(Health::of(&crashing), Health::Crashing);
        let starting = Signs { crashes: 2, ..crashing };
        assert_eq!(Health::of(&starting), Health::Starting);
        assert_eq!(Health::of(&Signs { live: 1, ..starting }), Health::Serving);
    }

    #[test]
    fn stuck_is_what_waits_executes_and_does_not_complete_for_ten_seconds() {
        let stuck = Signs { waiting: 1, oldest: Some(10 * SECOND), completed: 10 * SECOND, ..well() };
        assert_eq!(Health::of(&stuck), Health::Stuck);
        let timing_out = Signs { oldest: None, cut: Some(10 * SECOND), ..stuck };
        assert_eq!(Health::of(&timing_out), Health::Stuck, "attempts that time out complete nothing");
        let just_not = Duration::from_nanos(9_999_999_999);
        for well in [
            Signs { cut: Some(just_not), ..timing_out },
            Signs { waiting: 0, ..stuck },
            Signs { oldest: None, ..stuck },
            Signs { oldest: Some(just_not), completed: 3600 * SECOND, ..stuck },
            Signs { completed: just_not, ..stuck },
        ] {
            assert_eq!(Health::of(&well), Health::Serving, "{well:?}");
        }
    }

    #[test]
    fn dear_inputs_are_given_three_times_what_they_cost() {
        let dear = Signs {
            waiting: 1,
            oldest: Some(179 * SECOND),
            completed: 300 * SECOND,
            usual_cost: Some(60 * SECOND),
            ..well()
        };
        assert_eq!(Health::of(&dear), Health::Serving);
        assert_eq!(Health::of(&Signs { oldest: Some(180 * SECOND), ..dear }), Health::Stuck);
        let cheap = Signs { usual_cost: Some(SECOND / 1000), oldest: Some(10 * SECOND), ..dear };
        assert_eq!(Health::of(&cheap), Health::Stuck);
    }

    #[test]
    fn words_for_machines_and_for_people() {
        assert_eq!(
            (Health::CrashLoop.as_str(), Health::CrashLoop.to_string().as_str()),
            ("crash_loop", "crash loop")
        );
        assert!(Health::Crashing.is_serving() && !Health::Starting.is_serving());
    }
}

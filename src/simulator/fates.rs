//! [`Fates`]: how the executions of inputs end in the worlds of lanes and of batches.

use crate::simulator::tape::mix;

/// How one execution of an input ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Ok,
    Err { worth: bool },
    Panic,
    Overdraw,
}

/// How often executions end badly. Each fate is in a thousand executions, and poison in a thousand inputs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fates {
    pub(super) salt: u64,
    pub(super) fails: u64,
    pub(super) panics: u64,
    pub(super) overdraws: u64,
    pub(super) poison: u64,
}

impl Fates {
    /// How the execution of an input with this number ends.
    pub(super) fn act(&self, input: u64, execution: u32) -> Act {
        let Self { salt, fails, panics, overdraws, poison } = *self;
        if mix(salt, input, 0, 5) % 1000 < poison {
            return if mix(salt, input, 0, 6).is_multiple_of(2) { Act::Panic } else { Act::Overdraw };
        }
        let draw = mix(salt, input, u64::from(execution), 1);
        match draw % 1000 {
            fate if fate < fails => Act::Err { worth: draw >> 60 != 0 },
            fate if fate < fails + panics => Act::Panic,
            fate if fate < fails + panics + overdraws => Act::Overdraw,
            _ => Act::Ok,
        }
    }
}

/// The output of an input.
pub(super) fn answer(input: u64) -> u64 {
    mix(7, input, 0, 0)
}

//! The end of a map: the error with which it ends after its outcomes.

use crate::data::erased::ErasedValue;
use crate::data::failure::Reason;

/// The error with which a map ends after its outcomes.
pub(crate) enum MapEnd {
    /// The map ended as a whole.
    OfMap(Reason),
    /// The map ended with the failure of an input.
    OfInput(ErasedValue),
}

impl MapEnd {
    /// The consumer gets the end with the greatest weight. The failure of an input weighs most, and the
    /// function's giving up comes next.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::OfInput(_) => 2,
            Self::OfMap(Reason::GaveUp(_)) => 1,
            Self::OfMap(_) => 0,
        }
    }
}

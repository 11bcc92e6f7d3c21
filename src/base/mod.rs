//! What everything else stands on: the atomics and locks of the engine's own protocols, signals, and the numbers that name
//! things.

pub(crate) mod ids;
pub(crate) mod position;
pub(crate) mod signal;
pub(crate) mod sync;

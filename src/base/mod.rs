//! The layer below all others: the atomics and locks of the engine's own protocols, signals, and the numbers
//! that identify things.

pub(crate) mod ids;
pub(crate) mod position;
pub(crate) mod signal;
pub(crate) mod sync;

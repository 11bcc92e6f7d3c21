//! The layer below all others: the atomics and locks of the engine's own protocols, signals, ready
//! lanes, and the numbers that identify things.

pub(crate) mod ids;
pub(crate) mod lock;
pub(crate) mod position;
pub(crate) mod ready;
#[cfg(test)]
mod ready_tests;
pub(crate) mod signal;
pub(crate) mod sync;

//! Protects the engine from the user's code. Panics end at [`unwind`]. Values whose drop may block, or needs
//! a large stack, are dropped by the threads of [`drops`].
//!
//! [`blocking_pool`] makes these threads. [`thread_end`] knows when a thread is too close to its end to drop
//! them itself. [`spawned`] reports panics in spawned tasks. [`outlined`] makes the compiler compile the
//! drops of the engine's own values once.

pub(crate) mod blocking_pool;
pub(crate) mod drops;
pub(crate) mod outlined;
pub(crate) mod panic;
pub(crate) mod spawned;
pub(crate) mod thread_end;
pub(crate) mod unwind;

/// The target of every `tracing` event of the engine.
pub(super) const TARGET: &str = "longshore";

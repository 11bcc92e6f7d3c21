//! Which container holds how many bytes, and what happens when they are too many.
//!
//! ```text
//!  user's code in a scope                       anybody, anywhere
//!       │ alloc: the block is marked                 │ dealloc: the mark says whose it is
//!       ▼                                            ▼
//!  [`till`] of the thread ── now and then ──▶ [`account`] of the container
//!                                                    │ above its limit
//!                                                    ▼
//!                                             [`alarm`]: the watch wakes, and kills
//! ```
//!
//! [`accountant`] is the global allocator that marks blocks, [`accounts`] the table of all accounts,
//! [`crossings`] the list that leads from the allocator to the watch, and [`scope`] what hands a container's
//! account to other threads. Nothing here allocates, locks or unwinds
//! inside the allocator.

pub(crate) mod account;
pub(crate) mod accountant;
pub(crate) mod accounts;
pub(crate) mod alarm;
pub(crate) mod crossings;
pub(crate) mod till;

// So that a model checker can put its own primitives under the files that are modelled.
pub(crate) use crate::base::sync;

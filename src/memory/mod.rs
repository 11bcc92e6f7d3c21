//! How many bytes each container holds, and what happens when it holds too many.
//!
//! ```text
//!  user's code in a scope                       any thread
//!       │ alloc: the block is marked                 │ dealloc: the mark names the owner
//!       ▼                                            ▼
//!  [`local_charge`] of the thread ── now and then ──▶ [`account`] of the container
//!                                                    │ above its limit
//!                                                    ▼
//!                                             [`watch`]: the watch wakes, and kills
//! ```
//!
//! [`accountant`] is the global allocator that marks blocks. [`accounts`] is the table of all accounts, and
//! [`attempts`] are the cells of an account whose container has many attempts open at a time.
//! [`over_limit`] is the list that leads from the allocator to the watch. [`Scope`](crate::Scope) lets other
//! threads charge a container's account. Nothing here allocates, locks or unwinds inside the allocator.

pub(crate) mod account;
pub(crate) mod accountant;
pub(crate) mod accounts;
pub(crate) mod attempts;
#[cfg(test)]
mod naive_account;
pub(crate) mod watch;
pub(crate) mod over_limit;
pub(crate) mod local_charge;

// A model checker can put its own primitives under the files that are modelled.
pub(crate) use crate::base::sync;

//! The promises of longshore as tests: one binary, with a module for each group of promises.
//!
//! A promise that does not depend on the restart policy is tested under both kinds of policy.

#![expect(clippy::disallowed_methods, reason = "tests read the clock to see that nothing came early")]

use longshore::Accountant;

// The memory tests need it, and every other promise is kept with it as well.
#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

mod actors;
mod backoff;
mod batches;
mod blame;
mod calls;
mod cancelling;
mod concurrent;
mod deadlines;
mod dispatching;
mod drops;
mod embedding;
mod ends;
mod errors;
mod faces;
mod give_up;
mod hostile;
mod interrupting;
mod lifecycle;
mod maps;
mod memory;
mod observing;
mod pausing;
mod ready_messages;
#[cfg(feature = "testkit")]
mod rehearsals;
mod replay;
mod retrying;
mod scopes;
#[cfg(all(feature = "serde", feature = "testkit"))]
mod serialized;
#[cfg(feature = "tower")]
mod service;
mod settings;
mod snapshots;
mod sources;
mod spawning;
mod streams;
mod support;
mod tasks;
mod timeouts;
mod untyped;

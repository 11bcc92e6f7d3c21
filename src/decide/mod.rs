//! The deciding half of the engine: pure state machines with the clock passed in.
//!
//! Nothing below this folder imports actix, a thread, a lock or `tracing`, and nothing reads a
//! clock; `clippy.toml` keeps it so. The [`engine`](crate::engine) carries out what is decided here.
//!
//! Reading order: [`ids`] and [`time`] name things, [`retries`] and [`restart`] hold the two
//! policies, [`window`] and [`share`] say how much may be outstanding and how much one container
//! takes, [`pacing`] how often all that happens, [`ledger`] owns every input between *pulled* and *outcome* and ties them together. [`steps`] counts for tests
//! what an operation costs.

pub(crate) mod jitter;
pub(crate) mod job;
pub(crate) mod ledger;
pub(crate) mod life;
pub(crate) mod pacing;
pub(crate) mod restart;
pub(crate) mod retries;
pub(crate) mod share;
pub(crate) mod steps;
pub(crate) mod time;
pub(crate) mod window;

//! A fan-out that survives its workers.
pub mod crash;
mod decide;
mod error;
pub use decide::ids::{Attempt, ContainerId, Generation};
pub use decide::restart::{CrashLoopBackoff, CrashRecord, Decision, RateLimited, RestartPolicy};
pub use decide::retries::Retries;
pub use error::{ConfigError, StartError};

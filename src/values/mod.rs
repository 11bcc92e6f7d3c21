//! Plain values that users read. They have no behaviour.

pub(crate) mod crash;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod gave_up;
pub(crate) mod health;
pub(crate) mod histogram;
pub(crate) mod progress;
pub(crate) mod report;
#[cfg(feature = "serde")]
pub(crate) mod serial;
pub mod snapshot;
pub(crate) mod status;

//! Plain values that users read. They have no behaviour.

pub(crate) mod crash;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod gave_up;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod status;

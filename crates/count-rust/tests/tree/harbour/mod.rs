//! The harbour: its berths, its crane and its pilot.

pub mod berth;
pub mod crane;
mod pilot;
mod signal;

pub use berth::Berth;
pub use pilot::Pilot;

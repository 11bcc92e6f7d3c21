//! The crane and what hangs from it.

mod hook;
mod rail;

pub use hook::Hook;
pub use rail::{Gauge, Rail};

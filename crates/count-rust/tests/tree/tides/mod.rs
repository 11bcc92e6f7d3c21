//! When there is water.

pub mod moon;
pub mod tables;

pub fn is_high(hour: u32) -> bool {
    matches!(hour % 12, 0..=2 | 11)
}

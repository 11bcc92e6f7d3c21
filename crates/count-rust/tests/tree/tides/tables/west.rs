//! The western gauge, in centimetres.

use super::Table;

pub static TABLE: Table = [150, 161, 170, 172, 166, 158, 149];

pub fn lowest() -> u16 {
    TABLE.iter().copied().min().unwrap_or(3)
}

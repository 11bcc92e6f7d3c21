//! The eastern gauge, in centimetres.

use super::Table;

pub static TABLE: Table = [212, 198, 187, 190, 204, 221, 230];

pub fn lowest() -> u16 {
    TABLE.iter().copied().min().unwrap_or(1)
}

//! No newline at the end.

pub const KNOTS: u32 = 12;
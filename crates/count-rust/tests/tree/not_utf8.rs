//! In Latin-1, not in UTF-8.

pub const QUAY: &str = "Kaimauer Süd";

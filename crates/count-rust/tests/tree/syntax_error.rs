//! A file that is no Rust.

pub fn unload(crates: u32) -> u32 {
    crates +
}

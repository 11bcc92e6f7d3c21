//! Looked up rather than computed.

mod east;
mod north;
mod west;

pub(crate) const DAYS: usize = 7;

pub type Table = [u16; DAYS];

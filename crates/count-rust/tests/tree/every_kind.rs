//! One item of each kind, at least.

extern crate alloc;

use std::fmt;

mod elsewhere;

pub const ONE: u32 = 1;
pub static TWO: u32 = 2;
pub type Three = [u8; 3];

pub struct Four;

pub enum Five {
    Low,
    High,
}

pub union Six {
    word: u32,
    bytes: [u8; 4],
}

pub trait Seven {
    fn seven(&self) -> u32;
}

impl Seven for Four {
    fn seven(&self) -> u32 {
        7
    }
}

macro_rules! eight {
    () => {
        8
    };
}

eight!();

unsafe extern "C" {
    fn nine() -> u32;
}

pub fn ten() -> fmt::Result {
    Ok(())
}

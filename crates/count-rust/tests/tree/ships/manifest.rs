//! What is on board, as the papers say.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

pub struct Manifest {
    crates: BTreeMap<String, u32>,
}

impl Manifest {
    pub fn read(lines: impl BufRead) -> io::Result<Self> {
        let mut crates = BTreeMap::new();
        for line in lines.lines() {
            let line = line?;
            let Some((what, number)) = line.split_once('\t') else { continue };
            let number: u32 = number.parse().map_err(io::Error::other)?;
            *crates.entry(what.to_owned()).or_default() += number;
        }
        Ok(Self { crates })
    }

    pub fn total(&self) -> u32 {
        self.crates.values().sum()
    }
}

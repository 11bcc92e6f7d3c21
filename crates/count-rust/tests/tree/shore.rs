//! The root of a small invented program. Nothing compiles it: it is there to be parsed.

mod harbour;
mod ledger;
mod ships;
mod tides;

use ledger::Ledger;
use ships::Ship;

/// Everything that is ashore.
pub struct Shore {
    ships: Vec<Ship>,
    ledger: Ledger,
}

pub fn open(ships: Vec<Ship>) -> Shore {
    Shore { ships, ledger: Ledger::default() }
}

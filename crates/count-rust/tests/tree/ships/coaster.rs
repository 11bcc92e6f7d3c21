//! Keeps in sight of land.

use super::Sails;

pub struct Coaster {
    tons: u32,
}

impl Sails for Coaster {
    const MASTS: u32 = 1;

    fn knots(&self) -> f64 {
        9.0 - f64::from(self.tons) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_coaster_is_slow() {
        assert!(Coaster { tons: 900 }.knots() < Coaster { tons: 100 }.knots());
    }
}

//! Ships of all kinds.

mod coaster;
mod ferry;
mod hull;
mod manifest;
mod tug;

pub trait Sails {
    const MASTS: u32 = 0;

    fn knots(&self) -> f64;

    fn hours(&self, miles: f64) -> f64 {
        miles / self.knots()
    }
}

pub struct Ship {
    name: String,
    kind: Box<dyn Sails + Send>,
}

impl Ship {
    pub fn arrival(&self, miles: f64) -> String {
        format!("{} in {:.1} h", self.name, self.kind.hours(miles))
    }
}

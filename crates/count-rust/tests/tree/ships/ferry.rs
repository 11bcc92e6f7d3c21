//! Goes to and fro.

use super::Sails;

pub struct Ferry {
    crossings: Vec<Crossing>,
}

pub enum Crossing {
    There,
    Back,
}

impl Ferry {
    pub fn next(&self) -> Crossing {
        if let Some(Crossing::There) = self.crossings.last() { Crossing::Back } else { Crossing::There }
    }

    pub async fn cross(&mut self) {
        let next = self.next();
        std::future::ready(()).await;
        self.crossings.push(next);
    }
}

impl Sails for Ferry {
    fn knots(&self) -> f64 {
        14.0
    }
}

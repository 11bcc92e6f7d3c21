//! What the crane runs on.

pub type Millimetres = u32;

pub const GAUGE: Gauge = Gauge { millimetres: 1_435 };

pub struct Gauge {
    pub millimetres: Millimetres,
}

pub struct Rail<const SLEEPERS: usize> {
    loads: [u32; SLEEPERS],
}

impl<const SLEEPERS: usize> Rail<SLEEPERS> {
    pub fn heaviest(&self) -> Option<u32> {
        self.loads.iter().copied().max()
    }
}

//! What causes it all.

pub static PHASES: [Phase; 4] = [Phase::New, Phase::Waxing, Phase::Full, Phase::Waning];

#[derive(Clone, Copy)]
pub enum Phase {
    New,
    Waxing,
    Full,
    Waning,
}

impl Phase {
    pub fn springs(self) -> bool {
        matches!(self, Self::New | Self::Full)
    }
}

pub fn phase(day: usize) -> Phase {
    PHASES[day / 7 % PHASES.len()]
}

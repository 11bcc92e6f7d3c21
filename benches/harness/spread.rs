//! A median with its quartiles.

/// How figures of many rounds are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// The spread of some figures, of which there is at least one.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        Self { lower: at(&sorted, 0.25), median: at(&sorted, 0.5), upper: at(&sorted, 0.75) }
    }
}

/// The figure that `share` of all are below, between its neighbours where it falls between two.
pub(crate) fn at(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * share;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

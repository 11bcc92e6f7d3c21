//! [`Spread`]: a median with its quartiles.

/// The spread of the figures of many rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// The spread of at least one figure.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        Self { lower: at(&sorted, 0.25), median: at(&sorted, 0.5), upper: at(&sorted, 0.75) }
    }
}

/// The quantile of the sorted figures at `share`, interpolated between two neighbours.
pub(crate) fn at(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * share;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

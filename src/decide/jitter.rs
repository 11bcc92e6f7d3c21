//! Seeded jitter. It is a SplitMix64 step, because a policy must be replayable from its seed and needs
//! no better randomness.

use std::time::Duration;

/// A deterministic stream of 64-bit numbers.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Equal jitter: a delay drawn uniformly from `delay / 2 ..= delay`.
    pub(crate) fn equal(&mut self, delay: Duration) -> Duration {
        let half = delay.as_nanos() / 2;
        let spread = u128::from(self.next()) % (delay.as_nanos() - half + 1);
        from_nanos(half + spread)
    }
}

/// A duration of `nanos`, saturated at the largest number of nanoseconds in 64 bits.
pub(crate) fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_jitter_stays_between_half_and_whole_and_replays_from_its_seed() {
        let whole = Duration::from_millis(100);
        let drawn: Vec<_> = {
            let mut jitter = Jitter::new(7);
            (0..1000).map(|_| jitter.equal(whole)).collect()
        };
        assert!(drawn.iter().all(|d| (whole / 2..=whole).contains(d)));
        assert!(drawn.iter().min() < drawn.iter().max(), "it never varied");
        let mut again = Jitter::new(7);
        assert!(drawn.iter().all(|d| *d == again.equal(whole)));
    }
}

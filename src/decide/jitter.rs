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
    pub(super) fn equal(&mut self, delay: Duration) -> Duration {
        let half = delay.as_nanos() / 2;
        let spread = u128::from(self.next()) % (delay.as_nanos() - half + 1);
        from_nanos(half + spread)
    }
}

/// A duration of `nanos`, saturated at the largest number of nanoseconds in 64 bits.
pub(super) fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

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

    #[test]
    fn its_numbers_are_those_of_splitmix64() {
        let mut jitter = Jitter::new(1_234_567);
        let numbers: Vec<u64> = (0..5).map(|_| jitter.next()).collect();
        // The vector that implementations of the generator are checked with.
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(numbers, published);
    }

    #[test]
    fn equal_jitter_draws_each_delay_from_half_to_whole_and_no_other() {
        let mut jitter = Jitter::new(7);
        for whole in 0..9 {
            let drawn = (0..1_000).map(|_| jitter.equal(Duration::from_nanos(whole)).as_nanos() as u64);
            let drawn: BTreeSet<u64> = drawn.collect();
            assert_eq!(drawn, (whole / 2..=whole).collect());
        }
    }
}

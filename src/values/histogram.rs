//! A histogram of durations: the number in each of thirteen ranges, and the sum.
//!
//! The ranges are fixed, so that histograms of different functions and of different moments can be added up.

use std::time::Duration;

/// The upper bounds of the ranges, each included. Longer durations are in one more range.
pub(super) const BOUNDS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// The durations of many executions or waits.
///
/// Its serialized form is `{"count", "sum_us", "buckets": [{"le_us", "count"}, …]}`. The last bucket has no
/// `le_us`. Each count is that of its own range alone, as in [`Histogram::ranges`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Adds `count` durations with this sum. They are assumed to be equal, because only their sum is known.
    pub(crate) fn add(&mut self, count: u64, sum: Duration) {
        if count == 0 {
            return;
        }
        let nanos = sum.as_nanos() / u128::from(count);
        let range = BOUNDS.partition_point(|bound| bound.as_nanos() < nanos);
        self.counts[range] += count;
        self.sum = self.sum.saturating_add(sum);
    }

    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the durations.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The ranges, the shortest durations first: the upper bound of each, which is included, and its number
    /// of durations. The last range has no bound.
    pub fn ranges(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use crate::values::serial::micros;

        #[derive(serde::Serialize)]
        struct Bucket {
            #[serde(skip_serializing_if = "Option::is_none")]
            le_us: Option<u64>,
            count: u64,
        }

        #[derive(serde::Serialize)]
        struct Whole {
            count: u64,
            sum_us: u64,
            buckets: Vec<Bucket>,
        }

        let buckets = self.ranges().map(|(bound, count)| Bucket { le_us: bound.map(micros), count });
        Whole { count: self.count(), sum_us: micros(self.sum), buckets: buckets.collect() }
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_first_range_that_holds_them() {
        let mut histogram = Histogram::default();
        histogram.add(1, Duration::from_micros(100));
        histogram.add(1, Duration::from_nanos(100_001));
        histogram.add(1, Duration::from_secs(301));
        histogram.add(0, Duration::from_secs(9));
        let filled: Vec<_> = histogram.ranges().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(Some(BOUNDS[0]), 1), (Some(BOUNDS[1]), 1), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (3, Duration::from_nanos(301_000_200_001)));
        assert_eq!(histogram.ranges().count(), 13);
    }

    #[test]
    fn many_are_counted_by_their_average() {
        let mut histogram = Histogram::default();
        histogram.add(1000, Duration::from_millis(2));
        assert_eq!(histogram.ranges().next(), Some((Some(BOUNDS[0]), 1000)));
        assert_eq!(histogram.sum(), Duration::from_millis(2));
    }
}

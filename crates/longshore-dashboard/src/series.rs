//! [`Ring`]: the last samples of a function at a fixed step.
//!
//! A ring knows neither clocks nor functions. The [sampler](crate::sampler) says which step a sample belongs
//! to.

use std::collections::VecDeque;

/// One step of a series: counts of what happened within it, and gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) ok: u32,
    pub(crate) failed: u32,
    pub(crate) poisoned: u32,
    pub(crate) crashes: u32,
    /// The containers that were live. The lowest number of the step counts.
    pub(crate) live: u32,
    /// The inputs that waited. The highest number of the step counts.
    pub(crate) waiting: u32,
    /// The memory of the function. The highest number of the step counts. `None` without an accountant.
    pub(crate) bytes: Option<u64>,
}

impl Sample {
    /// Both samples as one.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            ok: self.ok.saturating_add(other.ok),
            failed: self.failed.saturating_add(other.failed),
            poisoned: self.poisoned.saturating_add(other.poisoned),
            crashes: self.crashes.saturating_add(other.crashes),
            live: self.live.min(other.live),
            waiting: self.waiting.max(other.waiting),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// The last samples of a function, one a step.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    step_ms: u64,
    capacity: usize,
    /// The number of the newest step: it ends at `newest * step_ms`.
    newest: u64,
    /// The newest last. `None` is a step in which there was no sample.
    samples: VecDeque<Option<Sample>>,
}

impl Ring {
    pub(crate) const fn new(step_ms: u64, capacity: usize) -> Self {
        Self { step_ms, capacity, newest: 0, samples: VecDeque::new() }
    }

    /// Adds a sample that was taken at this moment. An earlier moment than the newest counts as the newest.
    pub(crate) fn push(&mut self, at_ms: u64, sample: Sample) {
        let step = at_ms.div_ceil(self.step_ms);
        if !self.samples.is_empty() && step <= self.newest {
            let last = self.samples.back_mut().expect("it is not empty");
            *last = Some(last.map_or(sample, |before| before.and(sample)));
            return;
        }
        if !self.samples.is_empty() {
            let missed = (step - self.newest - 1).min(self.capacity as u64);
            for _ in 0..missed {
                self.push_back(None);
            }
        }
        self.newest = step;
        self.push_back(Some(sample));
    }

    fn push_back(&mut self, sample: Option<Sample>) {
        let length = self.samples.len();
        if length == self.capacity {
            self.samples.pop_front();
        } else if length == self.samples.capacity() {
            self.samples.reserve_exact(length.max(16).min(self.capacity - length));
        }
        self.samples.push_back(sample);
    }

    pub(crate) const fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// The moment at which the newest step ends.
    pub(crate) const fn end_ms(&self) -> u64 {
        self.newest * self.step_ms
    }

    /// The samples, the newest last.
    pub(crate) fn samples(&self) -> impl Iterator<Item = Option<Sample>> + Clone + '_ {
        self.samples.iter().copied()
    }

    /// The bytes that the samples take.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.samples.capacity() * size_of::<Option<Sample>>()
    }

    /// The same in longer steps of `factor` steps each. The last of them may not be over yet.
    pub(crate) fn coarser(&self, factor: u64, capacity: usize) -> Self {
        let mut coarse = Self::new(self.step_ms * factor, capacity);
        let first = self.newest + 1 - (self.samples.len() as u64).min(self.newest + 1);
        for (step, sample) in (first..).zip(&self.samples) {
            if let Some(sample) = sample {
                coarse.push(step * self.step_ms, *sample);
            }
        }
        coarse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(ok: u32) -> Sample {
        Sample { ok, ..Sample::default() }
    }

    fn oks(ring: &Ring) -> Vec<Option<u32>> {
        ring.samples().map(|sample| sample.map(|sample| sample.ok)).collect()
    }

    #[test]
    fn a_step_without_a_sample_is_a_gap_and_no_zero() {
        let mut ring = Ring::new(1000, 5);
        ring.push(7_000, ok(1));
        ring.push(7_001, ok(2));
        ring.push(9_500, ok(3));
        assert_eq!(oks(&ring), [Some(1), Some(2), None, Some(3)]);
        assert_eq!(ring.end_ms(), 10_000);
    }

    #[test]
    fn two_samples_of_one_step_are_added_up() {
        let mut ring = Ring::new(1000, 5);
        ring.push(1_001, Sample { live: 4, waiting: 1, bytes: Some(7), ..ok(1) });
        ring.push(1_999, Sample { live: 2, waiting: 9, bytes: Some(5), ..ok(2) });
        ring.push(500, Sample { live: 3, ..ok(4) });
        let both = Sample { live: 2, waiting: 9, bytes: Some(7), ..ok(7) };
        assert_eq!(ring.samples().collect::<Vec<_>>(), [Some(both)]);
    }

    #[test]
    fn a_ring_holds_its_capacity_also_after_a_long_sleep() {
        let mut ring = Ring::new(1000, 3);
        for second in 1..=9 {
            ring.push(second * 1000, ok(1));
        }
        assert_eq!(oks(&ring), [Some(1); 3]);
        ring.push(u64::MAX / 2, ok(2));
        assert_eq!(oks(&ring), [None, None, Some(2)]);
    }

    #[test]
    fn longer_steps_hold_the_same_counts() {
        let mut ring = Ring::new(1000, 600);
        for second in 1..=25 {
            ring.push(second * 1000, ok(1));
        }
        let coarse = ring.coarser(10, 60);
        assert_eq!(oks(&coarse), [Some(10), Some(10), Some(5)]);
        assert_eq!((coarse.step_ms(), coarse.end_ms()), (10_000, 30_000));
    }
}

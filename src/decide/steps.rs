//! Counts steps, so that tests can compare what an operation costs with what it concerns.
//!
//! A step is one iteration of a loop over maps, queued inputs, containers, leases or other things that can be
//! many. Nothing is counted outside of this crate's own tests.

/// Counts one iteration of such a loop.
#[inline]
pub(crate) fn step() {
    #[cfg(test)]
    tests::count();
}

/// Counts the iteration of a loop over `each`.
#[inline]
pub(crate) fn each<T>(each: T) -> T {
    step();
    each
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    /// The number of steps that this thread has taken so far.
    pub(crate) fn taken() -> u64 {
        STEPS.get()
    }

    #[test]
    fn each_turn_of_a_loop_is_a_step() {
        let before = taken();
        (0..7).map(super::each).for_each(drop);
        super::step();
        assert_eq!(taken() - before, 8);
    }
}

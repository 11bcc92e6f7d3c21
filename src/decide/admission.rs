//! The bound on the calls of a function that have no outcome, and the order of those who wait for room.
//!
//! A permit is a place that was reserved before its call began. It counts as a call. Room goes to the waiters
//! first, in the order in which they began to wait, so while one waits there is no room for anything else. A
//! waiter that is granted its permit has it from that moment, whether or not it has noticed.

use std::collections::BTreeSet;

/// The number of a waiter. The smaller number has waited longer.
pub(crate) type Waiter = u64;

/// The largest number of calls without outcome that a function may allow.
pub(crate) const CALLS_MAX: u64 = 1 << 24;

/// The number of calls without outcome that a function allows by default.
pub(crate) const CALLS_MAX_DEFAULT: u64 = 1 << 20;

/// The place that a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It takes a free place, if there is one.
    Free,
    /// It takes the place that its caller has reserved.
    Reserved,
}

/// The refusal of a call or of a permit, because there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overloaded {
    /// The number of calls and permits.
    pub(crate) calls: u64,
    /// The largest number of them.
    pub(crate) max: u64,
}

/// The calls and permits of a function, and those who wait for a permit.
#[derive(Debug)]
pub(crate) struct Admission {
    max: u64,
    /// The calls that have no outcome.
    calls: u64,
    /// The permits that are granted and not used, whether or not their waiters have collected them.
    permits: u64,
    /// The number of calls that were refused so far.
    refused: u64,
    /// The number of waiters so far.
    waiters: u64,
    waiting: BTreeSet<Waiter>,
    /// Waiters that have been granted a permit and have not collected it.
    granted: BTreeSet<Waiter>,
    /// The granted waiters that the engine has not woken.
    unwoken: Vec<Waiter>,
}

impl Admission {
    pub(crate) fn new(max: u64) -> Self {
        Self {
            max,
            calls: 0,
            permits: 0,
            refused: 0,
            waiters: 0,
            waiting: BTreeSet::new(),
            granted: BTreeSet::new(),
            unwoken: Vec::new(),
        }
    }

    /// The largest number of calls and permits.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The number of calls without an outcome.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// The number of permits that are not used.
    pub(crate) fn permits(&self) -> u64 {
        self.permits
    }

    /// The number of calls that were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// The number of those who wait for a permit.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    fn has_room(&self) -> bool {
        self.calls + self.permits < self.max
    }

    fn overloaded(&self) -> Overloaded {
        Overloaded { calls: self.calls + self.permits, max: self.max }
    }

    /// Takes a place for a call. The call counts until [`call_ended`](Self::call_ended).
    ///
    /// # Errors
    ///
    /// There is no free place. The refusal is counted.
    ///
    /// # Panics
    ///
    /// If the place is said to be reserved, and no permit is out.
    pub(crate) fn admit(&mut self, place: Place) -> Result<(), Overloaded> {
        match place {
            Place::Free if !self.has_room() => {
                self.refused += 1;
                return Err(self.overloaded());
            }
            Place::Free => {}
            Place::Reserved => self.use_permit(),
        }
        self.calls += 1;
        Ok(())
    }

    /// Records that a call has its outcome.
    ///
    /// # Panics
    ///
    /// If no call is without an outcome.
    pub(crate) fn call_ended(&mut self) {
        self.calls = self.calls.checked_sub(1).expect("a call ends once");
        self.grant();
    }

    /// Takes a permit without waiting.
    ///
    /// # Errors
    ///
    /// There is no free place.
    pub(crate) fn try_reserve(&mut self) -> Result<(), Overloaded> {
        if !self.has_room() {
            return Err(self.overloaded());
        }
        self.permits += 1;
        Ok(())
    }

    /// Queues a new waiter behind all others, and grants it its permit at once if there is room.
    pub(crate) fn wait(&mut self) -> Waiter {
        self.waiters += 1;
        self.waiting.insert(self.waiters);
        self.grant();
        self.waiters
    }

    /// Gives a waiter the permit that it was granted. Returns whether it was. The waiter is then forgotten.
    pub(crate) fn collect(&mut self, waiter: Waiter) -> bool {
        self.granted.remove(&waiter)
    }

    /// A waiter goes away. The permit that it was granted goes to the next waiter.
    pub(crate) fn leave(&mut self, waiter: Waiter) {
        if !self.waiting.remove(&waiter) && self.granted.remove(&waiter) {
            self.release();
        }
    }

    /// A permit comes back unused.
    pub(crate) fn release(&mut self) {
        self.use_permit();
        self.grant();
    }

    fn use_permit(&mut self) {
        self.permits = self.permits.checked_sub(1).expect("a permit is used once");
    }

    /// Grants the free places to the waiters.
    fn grant(&mut self) {
        while self.has_room()
            && let Some(waiter) = self.waiting.pop_first()
        {
            self.permits += 1;
            self.granted.insert(waiter);
            self.unwoken.push(waiter);
        }
    }

    /// Whether waiters were granted a permit and are to be woken.
    pub(crate) fn has_unwoken(&self) -> bool {
        !self.unwoken.is_empty()
    }

    /// Takes the waiters that are to be woken.
    pub(crate) fn take_unwoken(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.unwoken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_call_more_than_there_may_be_is_refused_and_counted() {
        let mut admission = Admission::new(2);
        assert_eq!(admission.admit(Place::Free), Ok(()));
        assert_eq!(admission.try_reserve(), Ok(()));
        let overloaded = Overloaded { calls: 2, max: 2 };
        assert_eq!(admission.admit(Place::Free), Err(overloaded));
        assert_eq!(admission.try_reserve(), Err(overloaded), "a permit counts as a call");
        assert_eq!(admission.refused(), 1, "that a permit is not there is no refused call");
        assert_eq!(admission.admit(Place::Reserved), Ok(()), "its place is kept");
        assert_eq!((admission.calls(), admission.permits()), (2, 0));
        admission.call_ended();
        assert_eq!(admission.admit(Place::Free), Ok(()));
    }

    #[test]
    fn a_free_place_goes_to_the_waiter_that_has_waited_longest_and_to_nothing_else() {
        let mut admission = Admission::new(1);
        assert_eq!(admission.admit(Place::Free), Ok(()));
        let (first, second) = (admission.wait(), admission.wait());
        assert!(!admission.collect(first), "there is no room");
        assert!(!admission.has_unwoken());
        admission.call_ended();
        assert!(admission.has_unwoken());
        assert_eq!(admission.take_unwoken(), [first]);
        assert!(!admission.has_unwoken(), "the engine looks at it whenever it releases the lock");
        assert!(admission.admit(Place::Free).is_err(), "the place is the waiter's");
        assert!(!admission.collect(second));
        assert!(admission.collect(first));
        admission.release();
        assert_eq!(admission.take_unwoken(), [second]);
    }

    #[test]
    fn a_waiter_that_goes_away_passes_its_permit_on() {
        let mut admission = Admission::new(1);
        assert_eq!(admission.try_reserve(), Ok(()));
        let waiters = [admission.wait(), admission.wait(), admission.wait()];
        admission.leave(waiters[1]); // it was granted nothing
        admission.release();
        admission.leave(waiters[0]);
        assert!(admission.collect(waiters[2]));
        assert_eq!(admission.permits(), 1);
        admission.leave(waiters[2]); // it is forgotten by now
        assert_eq!((admission.permits(), admission.waiting()), (1, 0));
    }

    #[test]
    fn a_waiter_that_finds_room_has_its_permit_at_once() {
        let mut admission = Admission::new(1);
        let waiter = admission.wait();
        assert!(admission.collect(waiter));
        assert_eq!(admission.permits(), 1);
    }

    proptest! {
        /// Against a naive twin, which keeps the waiters in one list.
        #[test]
        fn no_room_is_lost_and_waiters_are_served_in_turn(
            acts in prop::collection::vec((0..7u8, 0..8usize), 0..200),
        ) {
            const MAX: u64 = 3;
            let mut admission = Admission::new(MAX);
            let (mut calls, mut permits) = (0, 0);
            let mut line: VecDeque<Waiter> = VecDeque::new();
            let mut granted: Vec<Waiter> = Vec::new();
            for (act, which) in acts {
                match act {
                    0 => {
                        let room = calls + permits < MAX;
                        prop_assert_eq!(admission.admit(Place::Free).is_ok(), room);
                        calls += u64::from(room);
                    }
                    1 if permits > granted.len() as u64 => {
                        prop_assert_eq!(admission.admit(Place::Reserved), Ok(()));
                        (calls, permits) = (calls + 1, permits - 1);
                    }
                    2 if calls > 0 => {
                        admission.call_ended();
                        calls -= 1;
                    }
                    3 => {
                        let waiter = admission.wait();
                        line.push_back(waiter);
                    }
                    4 if which < line.len() => {
                        let waiter = line.remove(which).expect("it is in the line");
                        admission.leave(waiter);
                    }
                    5 if which < granted.len() => {
                        let waiter = granted.swap_remove(which);
                        if which % 2 == 0 {
                            prop_assert!(admission.collect(waiter));
                        } else {
                            admission.leave(waiter);
                            permits -= 1;
                        }
                    }
                    6 if permits > granted.len() as u64 => {
                        admission.release();
                        permits -= 1;
                    }
                    _ => {}
                }
                while calls + permits < MAX && let Some(waiter) = line.pop_front() {
                    permits += 1;
                    granted.push(waiter);
                    prop_assert!(admission.granted.contains(&waiter));
                }
                prop_assert_eq!((admission.calls(), admission.permits()), (calls, permits));
                prop_assert_eq!(admission.waiting(), line.len() as u64);
                prop_assert!(admission.granted.iter().all(|waiter| granted.contains(waiter)));
                prop_assert_eq!(admission.granted.len(), granted.len());
                prop_assert!(admission.take_unwoken().is_sorted());
            }
        }
    }
}

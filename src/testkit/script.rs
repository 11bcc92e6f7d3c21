//! The script of a rehearsal. It decides which faults happen and how long code takes, and has no effects of
//! its own.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};

/// An execution that is about to begin.
#[derive(Debug)]
#[non_exhaustive]
pub struct At<'a, I> {
    /// The map or call that the input belongs to, counted from 0 in the order in which they began.
    pub map: u64,
    /// The input's index in that map or call.
    pub index: u64,
    /// The input.
    pub input: &'a I,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The container that executes the input.
    pub container: ContainerId,
    /// The generation of that container.
    pub generation: Generation,
    /// The virtual time since the start.
    pub now: Duration,
}

/// An `enter` that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entering {
    /// How many `enter`s of the function have begun, including this one.
    pub nth: u64,
    /// The container.
    pub container: ContainerId,
    /// The generation that it begins.
    pub generation: Generation,
    /// The virtual time since the start.
    pub now: Duration,
}

/// A fault that takes the place of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault<E> {
    /// It panics.
    Panic,
    /// It returns this error.
    Fail(E),
    /// It never returns. Async code is dropped once its generation is over, or its map or call is cancelled.
    Hang,
    /// Its container is found to be over its memory limit, and crashes as if at a checkpoint.
    ExceedMemory,
}

/// A fault that takes the place of an `enter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnterFault {
    /// It panics.
    Panic,
    /// It returns an error.
    Fail,
    /// It never returns.
    Hang,
}

type Decides<I, T> = Box<dyn for<'a> FnMut(&At<'a, I>) -> Option<T> + Send>;
type DecidesToEnter = Box<dyn FnMut(&Entering) -> Option<EnterFault> + Send>;

/// The rules of a rehearsal. The first rule that answers counts.
pub(super) struct Script<I, E> {
    faults: Vec<Decides<I, Fault<E>>>,
    durations: Vec<Decides<I, Duration>>,
    enter_faults: Vec<DecidesToEnter>,
    pub(super) enter_takes: Duration,
    deadly: BTreeSet<u64>,
    /// The kills by hand, and when they happen.
    pub(crate) kills: Vec<(Duration, ContainerId)>,
    /// How many `enter`s have begun.
    enters: u64,
}

impl<I, E> Default for Script<I, E> {
    fn default() -> Self {
        Self {
            faults: Vec::new(),
            durations: Vec::new(),
            enter_faults: Vec::new(),
            enter_takes: Duration::ZERO,
            deadly: BTreeSet::new(),
            kills: Vec::new(),
            enters: 0,
        }
    }
}

impl<I, E> Script<I, E> {
    pub(super) fn fault_when(
        &mut self,
        decides: impl for<'a> FnMut(&At<'a, I>) -> Option<Fault<E>> + Send + 'static,
    ) {
        self.faults.push(Box::new(decides));
    }

    pub(super) fn takes_when(
        &mut self,
        decides: impl for<'a> FnMut(&At<'a, I>) -> Option<Duration> + Send + 'static,
    ) {
        self.durations.push(Box::new(decides));
    }

    pub(super) fn enter_fault_when(
        &mut self,
        decides: impl FnMut(&Entering) -> Option<EnterFault> + Send + 'static,
    ) {
        self.enter_faults.push(Box::new(decides));
    }

    pub(crate) fn dies_after(&mut self, index: u64) {
        self.deadly.insert(index);
    }

    /// Adds the outage of a dependency, during which each `enter` fails and each execution panics.
    pub(super) fn is_down(&mut self, during: Range<Duration>) {
        let entering = during.clone();
        self.enter_fault_when(move |at| entering.contains(&at.now).then_some(EnterFault::Fail));
        self.fault_when(move |at| during.contains(&at.now).then_some(Fault::Panic));
    }

    /// How long an execution takes, and the fault in its place, if there is one.
    pub(crate) fn executes(&mut self, at: &At<'_, I>) -> (Duration, Option<Fault<E>>) {
        let takes = self.durations.iter_mut().find_map(|decides| decides(at));
        (takes.unwrap_or_default(), self.faults.iter_mut().find_map(|decides| decides(at)))
    }

    /// The fault in place of an `enter`, if there is one.
    pub(super) fn enters(
        &mut self,
        container: ContainerId,
        generation: Generation,
        now: Duration,
    ) -> Option<EnterFault> {
        self.enters += 1;
        let entering = Entering { nth: self.enters, container, generation, now };
        self.enter_faults.iter_mut().find_map(|decides| decides(&entering))
    }

    /// Whether the container that has completed the input of this index dies.
    pub(crate) fn is_deadly(&self, index: u64) -> bool {
        self.deadly.contains(&index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, attempt: u32, now: Duration) -> At<'static, ()> {
        let (container, generation) = (ContainerId::new(0), Generation(1));
        At { map: 0, index, input: &(), attempt, container, generation, now }
    }

    #[test]
    fn the_first_rule_that_answers_decides() {
        let mut script = Script::<(), u8>::default();
        script.fault_when(|at| (at.index == 7 && at.attempt == 2).then_some(Fault::Fail(1)));
        script.fault_when(|at| (at.index == 7).then_some(Fault::Panic));
        script.takes_when(|at| (at.index == 7).then_some(Duration::from_secs(1)));
        let none = (Duration::ZERO, None);
        assert_eq!(script.executes(&at(6, 2, Duration::ZERO)), none);
        assert_eq!(
            script.executes(&at(7, 2, Duration::ZERO)),
            (Duration::from_secs(1), Some(Fault::Fail(1)))
        );
        assert_eq!(script.executes(&at(7, 3, Duration::ZERO)), (Duration::from_secs(1), Some(Fault::Panic)));
    }

    #[test]
    fn a_dependency_is_down_from_the_start_of_its_range_to_before_the_end() {
        let mut script = Script::<(), u8>::default();
        let second = Duration::from_secs(1);
        script.is_down(second..3 * second);
        let tick = Duration::from_nanos(1);
        for (now, down) in
            [(second - tick, false), (second, true), (3 * second - tick, true), (3 * second, false)]
        {
            assert_eq!(script.executes(&at(0, 1, now)).1.is_some(), down, "at {now:?}");
            let entered = script.enters(ContainerId::new(0), Generation(1), now);
            assert_eq!(entered, down.then_some(EnterFault::Fail), "at {now:?}");
        }
    }

    #[test]
    fn enters_are_counted_over_all_containers() {
        let mut script = Script::<(), u8>::default();
        script.enter_fault_when(|at| (at.nth <= 2).then_some(EnterFault::Panic));
        let mut enter = |container| script.enters(ContainerId::new(container), Generation(1), Duration::ZERO);
        assert_eq!([0, 1, 2].map(&mut enter), [Some(EnterFault::Panic), Some(EnterFault::Panic), None]);
    }
}

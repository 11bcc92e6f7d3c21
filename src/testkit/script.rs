//! The script of a rehearsal: what happens to whom. It decides, and does nothing itself.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};

/// An execution that is about to begin.
#[derive(Debug)]
#[non_exhaustive]
pub struct At<'a, I> {
    /// Which map or call it belongs to, in the order in which they began, from 0.
    pub map: u64,
    /// Its index in that.
    pub index: u64,
    /// The input.
    pub input: &'a I,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where it is executed.
    pub container: ContainerId,
    /// In which of its generations.
    pub generation: Generation,
    /// When, in virtual time since the start.
    pub now: Duration,
}

/// An `enter` that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entering {
    /// How many of the function's there have been, this one included.
    pub nth: u64,
    /// The container.
    pub container: ContainerId,
    /// The generation that it begins.
    pub generation: Generation,
    /// When, in virtual time since the start.
    pub now: Duration,
}

/// What happens in place of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault<E> {
    /// It panics.
    Panic,
    /// It returns that error.
    Fail(E),
    /// It never returns: only the end of its generation ends it.
    Hang,
    /// Its container is found to be over its memory limit, and comes out.
    ExceedMemory,
}

/// What happens in place of an `enter`.
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

/// What happens to whom. Of several answers the first counts.
pub(crate) struct Script<I, E> {
    faults: Vec<Decides<I, Fault<E>>>,
    durations: Vec<Decides<I, Duration>>,
    enter_faults: Vec<DecidesToEnter>,
    pub(crate) enter_takes: Duration,
    deadly: BTreeSet<u64>,
    /// Kills by hand, at those moments.
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
    pub(crate) fn fault_when(
        &mut self,
        decides: impl for<'a> FnMut(&At<'a, I>) -> Option<Fault<E>> + Send + 'static,
    ) {
        self.faults.push(Box::new(decides));
    }

    pub(crate) fn takes_when(
        &mut self,
        decides: impl for<'a> FnMut(&At<'a, I>) -> Option<Duration> + Send + 'static,
    ) {
        self.durations.push(Box::new(decides));
    }

    pub(crate) fn enter_fault_when(
        &mut self,
        decides: impl FnMut(&Entering) -> Option<EnterFault> + Send + 'static,
    ) {
        self.enter_faults.push(Box::new(decides));
    }

    pub(crate) fn dies_after(&mut self, index: u64) {
        self.deadly.insert(index);
    }

    /// The dependency is not there: whoever enters fails, whoever executes panics.
    pub(crate) fn is_down(&mut self, during: Range<Duration>) {
        let entering = during.clone();
        self.enter_fault_when(move |at| entering.contains(&at.now).then_some(EnterFault::Fail));
        self.fault_when(move |at| during.contains(&at.now).then_some(Fault::Panic));
    }

    /// How long an execution takes, and what happens in its place, if anything does.
    pub(crate) fn executes(&mut self, at: &At<'_, I>) -> (Duration, Option<Fault<E>>) {
        let takes = self.durations.iter_mut().find_map(|decides| decides(at));
        (takes.unwrap_or_default(), self.faults.iter_mut().find_map(|decides| decides(at)))
    }

    /// What happens in place of an `enter`, if anything does.
    pub(crate) fn enters(
        &mut self,
        container: ContainerId,
        generation: Generation,
        now: Duration,
    ) -> Option<EnterFault> {
        self.enters += 1;
        let entering = Entering { nth: self.enters, container, generation, now };
        self.enter_faults.iter_mut().find_map(|decides| decides(&entering))
    }

    /// Whether the container dies that has completed that input.
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
    fn the_first_that_answers_decides() {
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
    fn what_is_down_is_down_from_its_first_moment_to_before_its_last() {
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

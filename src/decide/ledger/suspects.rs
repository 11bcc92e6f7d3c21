//! Known suspects: inputs that have crashed a container, and the rules by which they are replayed.
//!
//! | question | rule |
//! |---|---|
//! | which container | one that was entered after the last crash of the suspect, or that has completed an input begun after it |
//! | and if there is none | any live one, once no container was entered for [`UNPROVEN_AFTER`] |
//! | how many at a time | one; another once each of those has executed for [`HUNG_AFTER`], on at most half of the containers |
//! | and with many inputs in flight | alone in its container where they share a state; otherwise on a sixteenth of the lanes |
//!
//! The *proof* of a container is the number of crashes that the function had counted when the container was
//! begun, or when the container took a lease in which it has completed an input. In an outage that makes
//! `enter` fail, no new container gets the proof that a suspect needs. The suspect waits, and is not charged.
//! Otherwise a container whose connection is just as dead would replay the suspect, and the suspect would be
//! charged for the crash.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::{InputId, LaneId};
use crate::decide::ledger::Rules;
use crate::decide::time::Time;

/// The time that a suspect executes before the next one may begin in another container, because a suspect
/// that hangs must not hold up all others.
pub(super) const HUNG_AFTER: Duration = Duration::from_secs(1);

/// The time without any container being entered after which any live container may replay a suspect.
pub(super) const UNPROVEN_AFTER: Duration = Duration::from_secs(10);

/// The number of a crash, counted over the function. Often the number of the last crash that
/// happened before something.
pub(crate) type CrashNumber = u64;

/// A suspect that may be replayed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The crash that a container must have outlived to replay it. 0 if any container may.
    pub(crate) proof: CrashNumber,
}

/// The suspects of one function.
#[derive(Debug)]
pub(super) struct Suspects {
    /// The largest number of suspects that may execute at once.
    executing_max: usize,
    /// Whether the next suspect waits until each executing one has executed for [`HUNG_AFTER`].
    one_by_one: bool,
    /// The suspects that wait, by the number of their last crash, with its moment.
    waiting: BTreeMap<CrashNumber, (InputId, Time)>,
    /// The lanes that replay a suspect, with the moment at which they took it.
    executing: Vec<(LaneId, Time)>,
    /// When a container was last entered.
    entered: Option<Time>,
}

impl Suspects {
    pub(super) fn new(rules: &Rules) -> Self {
        // Where the inputs in flight share no state, a crash costs its culprit only, so that several
        // suspects may execute at once.
        let one_by_one = rules.lanes == 1 || rules.has_state;
        let lanes = rules.containers * rules.lanes as usize;
        let executing_max = if one_by_one { rules.containers / 2 } else { lanes / 16 };
        Self {
            executing_max: executing_max.max(1),
            one_by_one,
            waiting: BTreeMap::new(),
            executing: Vec::new(),
            entered: None,
        }
    }

    /// Records that a container was entered.
    pub(super) fn entered(&mut self, now: Time) {
        self.entered = Some(now);
    }

    /// Adds an input that waits to be replayed. Its last crash has the number `crash` and happened at `at`.
    pub(super) fn wait(&mut self, input: InputId, crash: CrashNumber, at: Time) {
        let before = self.waiting.insert(crash, (input, at));
        assert!(before.is_none(), "a crash has at most one culprit");
    }

    /// The number of suspects that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The suspect that is replayed next, if one waits.
    pub(super) fn first(&self) -> Option<InputId> {
        self.waiting.first_key_value().map(|(_, (input, _))| *input)
    }

    /// Removes the input with this last crash, which does not wait any more.
    pub(super) fn remove(&mut self, crash: CrashNumber) {
        self.waiting.remove(&crash);
    }

    /// The next suspect for a container that has outlived the crash `proof`.
    pub(super) fn next_for(&self, proof: CrashNumber, now: Time) -> Option<InputId> {
        let ready = self.ready(now)?;
        (ready.proof <= proof).then(|| self.waiting.first_key_value().expect("a suspect is waiting").1.0)
    }

    /// Records that a lane has taken a suspect.
    pub(super) fn begin(&mut self, id: LaneId, now: Time) {
        self.executing.push((id, now));
    }

    /// Records that a lane has given its lease back.
    pub(super) fn end(&mut self, id: LaneId) {
        self.executing.retain(|(on, _)| *on != id);
    }

    /// The number of lanes that replay a suspect.
    #[cfg(test)]
    pub(super) fn executing(&self) -> usize {
        self.executing.len()
    }

    /// The suspect that may be replayed now, if there is one.
    pub(super) fn ready(&self, now: Time) -> Option<Ready> {
        let (crash, (_, at)) = self.waiting.first_key_value()?;
        if self.executing.len() >= self.executing_max || self.hung_at().is_some_and(|hung| hung > now) {
            return None;
        }
        Some(Ready { proof: if self.unproven_at(*at) <= now { 0 } else { *crash } })
    }

    /// The next moment at which [`Suspects::ready`] may allow more than it does now.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        let (_, (_, at)) = self.waiting.first_key_value()?;
        if self.executing.len() >= self.executing_max {
            return None;
        }
        let moments = [self.hung_at(), Some(self.unproven_at(*at))];
        moments.into_iter().flatten().filter(|moment| *moment > now).min()
    }

    /// The moment at which every executing suspect will have executed for [`HUNG_AFTER`].
    fn hung_at(&self) -> Option<Time> {
        if !self.one_by_one {
            return None;
        }
        self.executing.iter().map(|(_, since)| *since + HUNG_AFTER).max()
    }

    /// The moment from which any container may replay a suspect that last crashed at `crashed`.
    fn unproven_at(&self, crashed: Time) -> Time {
        self.entered.map_or(crashed, |entered| entered.max(crashed)) + UNPROVEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ContainerId, JobId};
    use crate::decide::ledger::fixture::rules;

    fn input(index: u64) -> InputId {
        InputId { job: JobId(0), index }
    }

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn a_suspect_waits_for_a_container_that_has_outlived_its_last_crash() {
        let mut suspects = Suspects::new(&rules(4));
        suspects.wait(input(7), 3, at(0));
        assert_eq!(suspects.next_for(2, at(1)), None);
        assert_eq!(suspects.next_for(3, at(1)), Some(input(7)));
    }

    #[test]
    fn any_container_may_replay_a_suspect_once_none_was_entered_for_ten_seconds() {
        let mut suspects = Suspects::new(&rules(4));
        suspects.wait(input(7), 3, at(0));
        assert_eq!(suspects.due(at(0)), Some(at(10_000)));
        assert_eq!(suspects.next_for(0, at(9_999)), None);
        assert_eq!(suspects.next_for(0, at(10_000)), Some(input(7)));
        assert_eq!(suspects.due(at(10_000)), None, "there is nothing more to wait for");
        suspects.entered(at(10_000));
        assert_eq!(suspects.next_for(0, at(10_000)), None, "the container that was entered may take it");
        assert_eq!(suspects.due(at(10_000)), Some(at(20_000)));
    }

    #[test]
    fn a_suspect_that_hangs_holds_up_the_others_for_a_second() {
        let mut suspects = Suspects::new(&rules(6));
        (1..=5).for_each(|crash| suspects.wait(input(crash), crash, at(0)));
        for (id, from) in [(0, 0), (1, 1_000), (2, 2_000)] {
            assert_eq!(suspects.next_for(9, at(from)), Some(input(u64::from(id) + 1)));
            suspects.remove(u64::from(id) + 1);
            suspects.begin(ContainerId(id).into(), at(from));
            assert_eq!(suspects.next_for(9, at(from + 999)), None, "the suspect may still return");
        }
        assert_eq!(suspects.next_for(9, at(60_000)), None, "half of the containers hang");
        assert_eq!(suspects.due(at(60_000)), None);
        suspects.end(ContainerId(1).into());
        assert_eq!(suspects.next_for(9, at(60_000)), Some(input(4)));
    }
}

//! Explains what a policy would decide over a given history. It replays the history with the code
//! that the engine runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::decide::restart::record::{ContainerEnd, CrashRecord, CrashedInput, Enter};
use crate::decide::restart::{
    CrashLoopBackoff, DeathFacts, LifeRecord, RateLimited, Restart, RestartPolicy, Restarts,
};
use crate::decide::time::Time;
use crate::values::error::{ConfigError, containers_in_range};

/// The decision of the policy on one crash, with the numbers that led to it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// The moment of the crash.
    pub at: Duration,
    /// The crashes within the window, from which the failure rate is computed. They include this crash if it
    /// counts. For a policy that never gives up there are at most 1024.
    pub crashes: u64,
    /// The crashes within the window that count towards the limit. All crashes of one round count once.
    pub rounds: u64,
    /// The inputs completed within the window.
    pub completed: u64,
    /// The number of loop crashes in a row, including this one.
    pub loop_crashes: u32,
    /// The time that the restart waits. `None` if the policy gives up.
    pub restart_after: Option<Duration>,
}

impl Decision {
    /// Crashes as a share of crashes and completed inputs. It is 0 if there are neither.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        let all = self.crashes as f64 + self.completed as f64;
        if all > 0.0 { self.crashes as f64 / all } else { 0.0 }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = 100.0 * self.failure_rate();
        write!(
            f,
            "at {:?}: {} crashes in {} rounds, {} completed in the window ({rate:.0} % failed), loop crash {}: ",
            self.at, self.crashes, self.rounds, self.completed, self.loop_crashes
        )?;
        match self.restart_after {
            Some(Duration::ZERO) => write!(f, "restart at once"),
            Some(delay) => write!(f, "restart after {delay:?}"),
            None => write!(f, "give up"),
        }
    }
}

impl RestartPolicy {
    /// Replays the crashes of a function and returns the decision on each, in the order of their
    /// moments. Crashes at the same moment keep their order in the list. The returned list ends
    /// where the policy gives up.
    ///
    /// The number of containers is checked as it is by `start`, but no decision depends on it.
    ///
    /// # Errors
    ///
    /// The [`ConfigError`] with which `start` would refuse the policy.
    pub fn explain(
        &self,
        containers: usize,
        history: impl IntoIterator<Item = CrashRecord>,
    ) -> Result<Vec<Decision>, ConfigError> {
        containers_in_range(containers)?;
        self.validate()?;
        let mut records: Vec<CrashRecord> = history.into_iter().collect();
        records.sort_by_key(|record| record.at);
        Ok(Replay::new(self.clone(), records).decisions())
    }
}

/// An event in the life of a container, in the order in which the events happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Starts,
    Enters,
    /// The index of the completion in the record.
    Completes(usize),
    Ends,
}

/// The history of an input that has crashed a container.
#[derive(Debug, Default, Clone, Copy)]
struct Blamed {
    crashed: bool,
    /// The moment at which the input last counted a crash.
    counted: Option<Time>,
}

/// A history that is being replayed.
struct Replay {
    restarts: Restarts,
    /// The records, sorted by their ends.
    records: Vec<CrashRecord>,
    /// The events to come: the moment, the index of the record, and the step. A record has events here
    /// once its start is known.
    steps: BTreeSet<(Time, usize, Step)>,
    /// The containers that exist, by the indices of their records.
    lives: BTreeMap<usize, LifeRecord>,
    inputs: BTreeMap<u64, Blamed>,
}

impl Replay {
    fn new(policy: RestartPolicy, records: Vec<CrashRecord>) -> Self {
        let restarts = Restarts::new(policy);
        let (steps, lives, inputs) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let mut replay = Self { restarts, records, steps, lives, inputs };
        let mut crash_before = None;
        for at in 0..replay.records.len() {
            let record = &replay.records[at];
            let earliest = record.earliest();
            let start = match (record.started, record.end, crash_before) {
                (Some(_), _, _) => Some(earliest),
                (None, ContainerEnd::NoCrash, _) | (None, ContainerEnd::Crash(_), None) => {
                    Some(Duration::ZERO)
                }
                // The record names a moment before the restart by which the container would be started.
                (None, ContainerEnd::Crash(_), Some(before)) if earliest < before => Some(earliest),
                (None, ContainerEnd::Crash(_), Some(_)) => None,
            };
            if let ContainerEnd::Crash(_) = record.end {
                crash_before = Some(record.at);
            }
            replay.steps.extend(start.map(|start| (Time(start), at, Step::Starts)));
        }
        replay
    }

    fn decisions(mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while let Some((now, at, step)) = self.steps.pop_first() {
            match (step, self.records[at].end) {
                (Step::Starts, _) => {
                    let life = self.restarts.started(now);
                    self.begins(at, life, now);
                }
                (Step::Enters, _) => self.enters(at, now),
                (Step::Completes(which), _) => {
                    let inputs = self.records[at].completed[which].1;
                    let life =
                        self.lives.get_mut(&at).expect("a container completes nothing before it begins");
                    self.restarts.completed(life, inputs, now);
                }
                (Step::Ends, ContainerEnd::NoCrash) => {
                    self.end_loop_if_stable(now);
                    self.lives.remove(&at);
                }
                (Step::Ends, ContainerEnd::Crash(executing)) => {
                    decisions.push(self.crashes(at, executing, now));
                    if decisions.last().is_some_and(|last| last.restart_after.is_none()) {
                        break;
                    }
                }
            }
        }
        decisions
    }

    fn end_loop_if_stable(&mut self, now: Time) {
        let live = self.lives.values().filter(|life| life.entered.is_some());
        self.restarts.end_loop_if_stable(live.copied(), now);
    }

    /// Records that a container exists from now on.
    fn begins(&mut self, at: usize, life: LifeRecord, now: Time) {
        self.lives.insert(at, life);
        let record = &self.records[at];
        // If the moments of a record contradict each other, they are clamped between its start and its end.
        let end = Time(record.at).max(now);
        let within = |moment: Duration| Time(moment).clamp(now, end);
        if let Enter::At(moment) = record.enter {
            self.steps.insert((within(moment), at, Step::Enters));
        }
        for (which, (moment, _)) in record.completed.iter().enumerate() {
            self.steps.insert((within(*moment), at, Step::Completes(which)));
        }
        self.steps.insert((end, at, Step::Ends));
        if record.enter == Enter::AtOnce {
            self.enters(at, now);
        }
    }

    fn enters(&mut self, at: usize, now: Time) {
        let life = self.lives.get_mut(&at).expect("a record's other steps follow its start");
        self.restarts.entered(life, now);
    }

    fn crashes(&mut self, at: usize, executing: CrashedInput, now: Time) -> Decision {
        self.end_loop_if_stable(now);
        let life = self.lives.remove(&at).expect("the container has begun");
        let known = executing.input.and_then(|input| self.inputs.get(&input)).copied().unwrap_or_default();
        let counted_before = (executing.suspect && executing.input.is_none()).then_some(now);
        let serves = |life: &LifeRecord| life.entered.is_some();
        let others_serve = self.records[at].beside_live || self.lives.values().any(serves);
        let death = DeathFacts {
            life,
            suspect: executing.suspect || known.crashed,
            input_counted: known.counted.or(counted_before),
            spare: !serves(&life) && others_serve,
        };
        let (restart, counted) = self.restarts.crashed(death, now);
        if let Some(input) = executing.input {
            let counted = if counted { Some(now) } else { known.counted };
            self.inputs.insert(input, Blamed { crashed: true, counted });
        }
        self.starts_after(at, life, restart, now);
        let tally = self.restarts.tally(now);
        Decision {
            at: now.0,
            crashes: tally.crashes,
            rounds: tally.rounds,
            completed: tally.completed,
            loop_crashes: self.restarts.crash_loop().map_or(0, |(crashes, _)| crashes),
            restart_after: match restart {
                Restart::Now => Some(Duration::ZERO),
                Restart::At(due) => Some(due.since(now)),
                Restart::GiveUp => None,
            },
        }
    }

    /// Schedules the start of the next container that crashes, if its record does not give the moment.
    fn starts_after(&mut self, at: usize, life: LifeRecord, restart: Restart, now: Time) {
        let crashed = |at: &usize| matches!(self.records[*at].end, ContainerEnd::Crash(_));
        let Some(next) = (at + 1..self.records.len()).find(crashed) else { return };
        let (start, earliest) = match (restart, &self.records[next]) {
            (Restart::Now, record) => (now, Time(record.earliest())),
            (Restart::At(due), record) => (due, Time(record.earliest())),
            (Restart::GiveUp, _) => return,
        };
        let said = self.records[next].started.is_some() || earliest < now;
        if said {
            return;
        }
        if earliest < start {
            // That restart cannot have started the container, because it already existed.
            let entered = (self.records[next].enter == Enter::AtOnce).then_some(life.began);
            self.begins(next, LifeRecord { completed: 0, entered, ..life }, now);
            return;
        }
        self.steps.insert((start, next, Step::Starts));
    }
}

impl RateLimited {
    /// Explains this policy. See [`RestartPolicy::explain`].
    ///
    /// # Errors
    ///
    /// The [`ConfigError`] with which `start` would refuse the policy.
    ///
    /// # Examples
    ///
    /// ```
    /// use longshore::{CrashRecord, RateLimited};
    /// use std::time::Duration;
    ///
    /// let every_second = (0..20).map(|s| CrashRecord::at(Duration::from_secs(s)));
    /// let decisions = RateLimited::new().explain(2, every_second).unwrap();
    /// assert_eq!(decisions.len(), 17); // the 17th crash exceeds 16, and nothing was completed
    /// assert_eq!(decisions[16].restart_after, None);
    /// ```
    pub fn explain(
        &self,
        containers: usize,
        history: impl IntoIterator<Item = CrashRecord>,
    ) -> Result<Vec<Decision>, ConfigError> {
        RestartPolicy::from(self.clone()).explain(containers, history)
    }
}

impl CrashLoopBackoff {
    /// Explains this policy. See [`RestartPolicy::explain`].
    ///
    /// # Errors
    ///
    /// The [`ConfigError`] with which `start` would refuse the policy.
    ///
    /// # Examples
    ///
    /// ```
    /// use longshore::{CrashLoopBackoff, CrashRecord};
    /// use std::time::Duration;
    ///
    /// // Each container stays up for 11 s, which ends a crash loop.
    /// let crashes = [0, 11, 22].map(|s| CrashRecord::at(Duration::from_secs(s)));
    /// let decisions = CrashLoopBackoff::new().explain(1, crashes).unwrap();
    /// assert!(decisions.iter().all(|decision| decision.restart_after == Some(Duration::ZERO)));
    /// ```
    pub fn explain(
        &self,
        containers: usize,
        history: impl IntoIterator<Item = CrashRecord>,
    ) -> Result<Vec<Decision>, ConfigError> {
        RestartPolicy::from(self.clone()).explain(containers, history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_decision_holds_its_rate_and_the_restart() {
        let none = Decision {
            at: Duration::from_secs(2),
            crashes: 0,
            rounds: 0,
            completed: 0,
            loop_crashes: 0,
            restart_after: None,
        };
        assert_eq!(none.failure_rate(), 0.0, "there are neither crashes nor completed inputs");
        let some = Decision { crashes: 3, rounds: 2, completed: 1, loop_crashes: 1, ..none };
        assert_eq!(some.failure_rate(), 0.75);
        let text = "at 2s: 3 crashes in 2 rounds, 1 completed in the window (75 % failed), loop crash 1: ";
        let ends = [
            (None, "give up"),
            (Some(Duration::ZERO), "restart at once"),
            (Some(Duration::from_secs(1)), "restart after 1s"),
        ];
        for (restart_after, end) in ends {
            assert_eq!(Decision { restart_after, ..some }.to_string(), format!("{text}{end}"));
        }
    }

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// Loop crashes in a row, and crashes within the window, after each crash of a history.
    fn counted(history: impl IntoIterator<Item = CrashRecord>) -> Vec<(u32, u64)> {
        let decisions = RateLimited::new().explain(2, history).expect("the defaults are valid");
        decisions.iter().map(|decision| (decision.loop_crashes, decision.crashes)).collect()
    }

    #[test]
    fn a_container_is_started_by_the_restart_before_unless_it_was_there_already() {
        // The second loop crash in a row, at 1 ms, delays the restart until 11 ms.
        let early = |last: CrashRecord| [CrashRecord::at(Duration::ZERO), CrashRecord::at(MS), last];
        for (what, last, loop_crashes) in [
            ("it was started together with the one before", CrashRecord::at(10 * MS), 2),
            ("it was started by the restart", CrashRecord::at(11 * MS), 3),
            ("it was started at the begin", CrashRecord::at(20 * MS).started(Duration::ZERO), 2),
            ("it entered before the crash", CrashRecord::at(20 * MS).entered(MS / 2), 2),
            ("it entered after the restart", CrashRecord::at(20 * MS).entered(12 * MS), 3),
        ] {
            assert_eq!(counted(early(last)), [(1, 1), (2, 2), (loop_crashes, 3)], "{what}");
        }
    }

    #[test]
    fn what_happens_in_the_moment_of_a_restart_comes_after_it() {
        let worked = CrashRecord::at(2 * SECOND).completed(SECOND, 1);
        assert_eq!(counted([CrashRecord::at(SECOND), worked]), [(1, 1), (0, 2)]);
    }

    #[test]
    fn a_container_that_was_there_before_a_restart_entered_as_its_own_record_says() {
        let at = |ms: u32| CrashRecord::at(ms * MS);
        for (second, third, crashes) in [
            (at(1).failed_start(), at(5).beside_live(), 3), // it entered, and is no spare start
            (at(1), at(5).failed_start().beside_live(), 2), // it did not
        ] {
            let history = [at(0), second, third];
            assert_eq!(counted(history).last(), Some(&(2, crashes)));
        }
    }

    #[test]
    fn both_policies_explain_themselves_and_refuse_what_they_would_not_start_with() {
        let crashes = || [0, 11, 22].map(|seconds| CrashRecord::at(seconds * SECOND));
        let patient = CrashLoopBackoff::new();
        let decisions = patient.explain(1, crashes()).expect("the defaults are valid");
        assert!(decisions.iter().map(|decision| decision.restart_after).eq([Some(Duration::ZERO); 3]));
        let strict = RateLimited::new().max_crashes(1).max_failure_rate(0.0);
        let decisions = strict.explain(1, crashes()).expect("it is valid");
        assert!(decisions.iter().map(|decision| decision.restart_after).eq([Some(Duration::ZERO), None]));
        assert!(patient.explain(0, []).is_err());
        assert!(patient.clone().initial(Duration::ZERO).explain(1, []).is_err());
        assert!(strict.window(Duration::ZERO).explain(1, []).is_err());
    }

    #[test]
    fn nothing_is_decided_on_a_container_that_did_not_crash() {
        let lived_on = CrashRecord::no_crash(3 * SECOND);
        assert_eq!(counted([lived_on, CrashRecord::at(SECOND)]), [(1, 1)]);
    }
}

//! The facts about inputs that a world with limits records by itself, and what the supervisor's looks at the
//! limits must do by them.

use std::collections::BTreeMap;

use crate::base::ids::{ContainerId, Generation};
use crate::data::failure::Cause;
use crate::decide::time::Time;
use crate::simulator::course::Course;
use crate::simulator::course::TIMER_MIN;
use crate::simulator::fates::answer;
use crate::simulator::left_behind::LeftBehind;
use crate::simulator::limits::code::{Driver, Phase};
use crate::simulator::limits::{LAG, LimitWorld};
use crate::simulator::takers::Outcome;
use crate::simulator::time_facts::{CutEvent, TimeFacts};

/// The history of one input.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) executions: u32,
    /// The container and the generation in whose code it is, if it is in any that lives.
    pub(super) on: Option<(ContainerId, Generation)>,
    /// The failures and the time-outs.
    pub(super) failures: u32,
    pub(super) crashes: u32,
    pub(super) left: LeftBehind,
    pub(super) outcomes: u32,
    pub(super) time: TimeFacts,
}

impl LimitWorld<'_> {
    /// Enters the inputs that were accepted into the records.
    pub(super) fn see_accepted(&mut self) {
        let now = self.now();
        for (input, limits) in self.takers.newly_accepted(self.engine) {
            let time = TimeFacts::of(limits, &self.rules, now);
            self.records.insert(input, Record { time, ..Record::default() });
        }
    }

    /// Consumers take the outcomes that are there, and each is checked.
    pub(super) fn consume(&mut self) {
        self.see_accepted();
        let mut takers = std::mem::take(&mut self.takers);
        takers.consume(|input, outcome| self.judge(input, outcome));
        self.takers = takers;
        self.see_accepted(); // the outcomes that were taken have made room
    }

    /// Checks the outcome of an input against its history.
    fn judge(&mut self, input: u64, outcome: &Outcome) {
        let (now, full_at, rules) = (self.now(), self.full_at, &self.rules);
        self.log(|| format!("{input:x} ends: {outcome:?}"));
        let Some(record) = self.records.get_mut(&input) else {
            // It was accepted and ended in the same step, which only the end of the function does.
            let failure = outcome.as_ref().expect_err("it was never executed");
            assert!(matches!(failure.cause(), Cause::GaveUp(_)), "{input:x} was not accepted: {failure:?}");
            return;
        };
        record.outcomes += 1;
        assert_eq!(record.outcomes, 1, "{input:x} has two outcomes");
        let failure = match outcome {
            Ok(output) => return assert_eq!(*output, answer(input), "the output of another input"),
            Err(failure) => failure,
        };
        let has_left = record.left.may_end_it(full_at);
        match failure.cause() {
            Cause::TimedOut { limit } => {
                self.tally.timed_out += 1;
                record.time.ends_by_timeout(*limit, has_left);
            }
            Cause::DeadlineExceeded { limit, last } => {
                self.tally.past_deadline += 1;
                record.time.ends_by_deadline(*limit, *last, record.failures, rules, now);
                self.tally.refused_retries += u64::from(!record.time.is_past_deadline(now));
                self.tally.deadlines_of_waiting += u64::from(record.on.is_none());
                self.tally.deadlines_with_an_error += u64::from(last.is_some());
            }
            Cause::Failed(error) => assert_eq!(record.time.error(), Some(*error), "{input:x}: {record:?}"),
            Cause::Poisoned(_) => {
                self.tally.poisoned += 1;
                assert!(record.crashes > rules.crash_retries || has_left, "{input:x}: {record:?}");
                return;
            }
            Cause::Lost(_) => {
                return assert!(rules.crash_retries == 0 || has_left, "{input:x}: {record:?}");
            }
            Cause::GaveUp(_) => {
                self.tally.given_up += 1;
                return;
            }
            other => panic!("{input:x} ends by {other:?}"),
        }
        assert_eq!(failure.attempts(), record.executions, "{input:x}: {record:?}");
    }

    /// A generation has died from outside. The code that it executes goes on without it.
    pub(super) fn died(&mut self, id: ContainerId, generation: Generation) {
        let now = self.now();
        for record in self.records.values_mut().filter(|record| record.on == Some((id, generation))) {
            record.on = None;
            record.left.leaves(now);
        }
    }

    /// Notes whether as many threads are left behind as may be.
    pub(super) fn see_threads_left(&mut self) {
        if self.engine.under_lock(|state| state.left_behind()) >= self.abandoned_max {
            self.full_at = Some(self.now());
        }
    }

    /// The supervisor looks at the limits. Each event of a cut is held against the facts.
    pub(super) fn look_at_limits(&mut self) {
        self.see_accepted();
        let now = self.now();
        let before: Vec<(ContainerId, Generation)> =
            self.drivers.iter().map(|driver| (driver.id, driver.living.generation())).collect();
        let executing: BTreeMap<u64, Time> = self.drivers.iter().filter_map(Driver::executing).collect();
        let goes_on = |world: &Self| world.engine.under_lock(|state| state.ledger.goes_on());
        let went_on = goes_on(self);
        CutEvent::take_all(&self.heard, &self.takers);
        self.office.looks(self.engine, now);
        let goes_on = (goes_on(self) == went_on).then_some(went_on);
        for CutEvent { input, attempt, cut } in CutEvent::take_all(&self.heard, &self.takers) {
            self.log(|| format!("{input:x} is cut: {cut:?}"));
            let began =
                executing.get(&input).unwrap_or_else(|| panic!("{input:x} is cut, and does not execute"));
            let is_late = !cut.is_deadline && now > *began + cut.limit + LAG + TIMER_MIN;
            assert!(!is_late, "{input:x} is cut at {now:?}, and began at {began:?}: {cut:?}");
            let record = self.records.get_mut(&input).expect("it executes");
            assert_eq!(attempt, record.executions, "the attempt of {input:x} that is cut: {record:?}");
            record.failures += 1;
            record.time.is_cut(cut, record.failures, &self.rules, goes_on, now);
            self.tally.cut += 1;
        }
        for (id, generation) in before {
            let lives = self.engine.under_lock(|state| state.ledger.is_current(id, generation));
            let was_in = self.records.values().any(|record| record.on == Some((id, generation)));
            if !lives && was_in {
                self.log(|| format!("{id}#{generation} is unresponsive"));
                self.tally.unresponsive += 1;
                self.died(id, generation);
            }
        }
        self.see_threads_left();
        self.tally.kept += self.engine.under_lock(|state| state.ledger.hung() as u64).min(1);
        self.leases_are_in_time();
    }

    /// After a look no attempt goes on for longer than its limit, and no deadline has passed.
    fn leases_are_in_time(&mut self) {
        self.consume();
        let now = self.now();
        for driver in &self.drivers {
            let Phase::Executing(task) = &driver.phase else { continue };
            let record = &self.records[&task.input];
            let timeout = record.time.timeout.filter(|_| !task.run.is_fenced());
            let is_past = timeout.is_some_and(|limit| now >= task.began + limit + LAG);
            assert!(!is_past, "{:x} goes on past its limit: {record:?}", task.input);
        }
        // A status commits what was published, and so would hide whether anything else does.
        let ends = self.engine.under_lock(|state| state.ledger.gave_up().is_some());
        for (input, record) in self.records.iter().filter(|(_, record)| record.outcomes == 0 && !ends) {
            assert!(!record.time.is_past_deadline(now), "{input:x} waits past its deadline: {record:?}");
        }
    }
}

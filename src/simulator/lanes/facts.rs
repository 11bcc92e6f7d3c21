//! The facts about inputs that a world of lanes records by itself. Each execution of an input ends in one
//! way, and the way decides what it costs.

use crate::base::ids::LaneId;
use crate::data::failure::Cause;
use crate::decide::ledger::{Lease, LeaseKind, Mode, Rules};
use crate::decide::time::Time;
use crate::engine::map_buffers::Order;
use crate::simulator::course::Course;
use crate::simulator::fates::{Act, answer};
use crate::simulator::lanes::LaneWorld;
use crate::simulator::lanes::driver::Driver;
use crate::simulator::left_behind::LeftBehind;
use crate::simulator::suspects::UNPROVEN;
use crate::simulator::takers::Outcome;
use crate::simulator::tape::mix;
use crate::simulator::time_facts::TimeFacts;

/// The largest number of free replays of an input that has not returned in between.
const FREED_MAX: u32 = 3;

/// The facts about an input that the world records.
#[derive(Debug, Default, Clone)]
pub(super) struct Record {
    pub(super) executions: u32,
    /// Errors and cuts.
    pub(super) failures: u32,
    /// Crashes by which it was to blame.
    own: u32,
    /// When it last was to blame for a crash.
    crashed_at: Option<Time>,
    /// Whether any container may have taken its current lease, because none was entered for ten seconds.
    is_unproven: bool,
    /// Its crashes that may be free, because the container may have proved nothing.
    unproven: u32,
    freed: u32,
    /// Free replays because another lane did not return after its limit. `freed` counts them as well.
    pub(super) stuck: u32,
    pub(super) kills: u32,
    /// Threads that may have been left behind in its code.
    left: LeftBehind,
    /// Whether it executes alone when it is replayed.
    alone: bool,
    /// Whether its lane has published its outcome and gone on to the next input of its lease.
    pub(super) is_published: bool,
    pub(super) outcomes: u32,
    pub(super) time: TimeFacts,
}

impl LaneWorld<'_> {
    pub(super) fn record(&mut self, input: u64) -> &mut Record {
        self.records.entry(input).or_default()
    }

    /// Records the inputs that were accepted since the last step.
    pub(super) fn see_accepted(&mut self) {
        let now = self.now();
        for (input, limits) in self.takers.newly_accepted(self.engine) {
            let time = TimeFacts::of(limits, &self.rules, now);
            self.record(input).time = time;
        }
    }

    /// How the current execution of an input ends.
    pub(super) fn act(&self, input: u64) -> Act {
        self.habits.fates.act(input, self.records[&input].executions)
    }

    /// A lane takes a lease.
    pub(super) fn takes(&mut self, at: usize, lane: u32, lease: Lease) {
        let id = self.drivers[at].id;
        let input = self.takers.input(lease.job, lease.span.first);
        let lane = LaneId::new(id, lane);
        self.see_accepted();
        self.log(|| format!("{lane} takes {input:x} {lease:?}"));
        let (now, entered_at) = (self.now(), self.entered_at);
        let Record { own, alone, executions, crashed_at, .. } = *self.record(input);
        assert_eq!(lease.attempt.get(), executions + 1, "{input:x}: {:?}", self.records[&input]);
        let is_replay = matches!(lease.kind, LeaseKind::Replay { .. });
        let is_suspect = lease.kind == LeaseKind::Replay { suspect: true };
        assert_eq!(is_suspect, own > 0 && is_replay, "{input:x}");
        self.record(input).is_unproven =
            is_suspect && crashed_at.is_some_and(|at| at.max(entered_at) + UNPROVEN <= now);
        let is_alone = alone || (is_suspect && self.rules.has_state);
        self.tally.alone += u64::from(is_alone);
        let leases = self.engine.under_lock(|state| state.ledger.leased_by(id).count());
        assert!(!is_alone || leases == 1, "{input:x} executes alone, beside {} others", leases - 1);
        self.has_come_back(input);
    }

    /// An input is executed again only if the code of its last attempt has returned, or was left behind.
    fn has_come_back(&self, input: u64) {
        for driver in &self.drivers {
            let is_in_it = |lane: &crate::simulator::lanes::driver::SimLane| {
                lane.task.as_ref().is_some_and(|task| task.input == Some(input))
            };
            let lives =
                || self.engine.under_lock(|state| state.ledger.is_current(driver.id, driver.generation));
            let is_in_it = driver.lanes.iter().any(is_in_it);
            assert!(!is_in_it || !lives(), "{input:x} begins again, and {driver:?} has not left its code");
        }
    }

    /// An execution begins.
    pub(super) fn execute(&mut self, at: usize, lane: u32, place: usize) {
        let (now, habits) = (self.now(), self.habits);
        let task = self.drivers[at].lanes[lane as usize].task.as_mut().expect("it executes");
        let is_first = task.place.replace(place).is_none();
        let input = *task.run.active_at::<u64, u64, u64>(place).input();
        task.input = Some(input);
        task.began = now;
        task.waits = (mix(habits.fates.salt, input, 3, 0) % u64::from(habits.waits + 1)) as u32;
        let leased = task.leased;
        let record = self.records.entry(input).or_default();
        task.stuck_for = habits.is_stuck_for(input, record.executions);
        record.time.began = if is_first { leased } else { now };
        record.executions += 1;
        assert_eq!(record.outcomes, 0, "{input:x} executes after its outcome: {record:?}");
        let Record { executions, failures, own, unproven, freed, kills, stuck, .. } = record.clone();
        assert_eq!(executions, 1 + failures + own + freed + kills, "{input:x}: {record:?}");
        let Rules { retries, crash_retries, .. } = &self.rules;
        assert!(failures <= retries.retries_max(), "{input:x} fails {failures} times");
        // A crash is not charged in a container that has proved nothing. A retry may be executed there, and
        // after ten seconds a replay.
        let is_in_budget = own <= crash_retries + failures + unproven;
        assert!(is_in_budget, "{input:x} crashes {own} times: {record:?}");
        assert!(freed <= FREED_MAX + failures + stuck, "{input:x} is freed {freed} times");
        let is_at_most_once = *crash_retries == 0;
        assert!(!is_at_most_once || executions == 1 + failures, "{input:x} has begun {executions} times");
        let dispatches = self.engine.under_lock(|state| state.ledger.dispatches());
        assert!(dispatches, "{input:x} begins although the function is paused or over");
    }

    /// The container, or the lane, of an input has crashed by its fault.
    pub(super) fn is_to_blame(&mut self, input: u64) {
        let now = self.now();
        let record = self.record(input);
        record.own += 1;
        record.unproven += u32::from(record.is_unproven);
        record.crashed_at = Some(now);
    }

    /// An execution has returned an error. The error is the number of the input.
    pub(super) fn has_failed(&mut self, input: u64) {
        let now = self.now();
        let record = self.record(input);
        record.failures += 1;
        record.alone = false;
        record.time.has_failed(input, now);
    }

    /// An execution was cut at a limit.
    pub(super) fn was_cut(&mut self, input: u64) -> &mut Record {
        let record = self.record(input);
        record.failures += 1;
        record.alone = false;
        record
    }

    /// An execution ended by no fault of its input, so that it is replayed free.
    pub(super) fn free(&mut self, input: u64, alone: bool) {
        self.tally.freed += 1;
        let record = self.record(input);
        record.freed += 1;
        record.alone |= alone || record.freed >= FREED_MAX;
    }

    /// The thread of a container that dies from outside may be left behind in the code of some inputs. The
    /// engine knows of a lane that has come back only when the container looks for work again.
    pub(super) fn leaves_behind(&mut self, at: usize) {
        let driver: &Driver<'_> = &self.drivers[at];
        let cut = driver.lanes.iter().filter_map(|lane| lane.task.as_ref()).filter(|task| task.cut.is_some());
        let polled = driver.in_code().and_then(|(_, task)| task.input);
        let inputs: Vec<u64> = cut.filter_map(|task| task.input).chain(polled).collect();
        let inputs: std::collections::BTreeSet<u64> = inputs.into_iter().collect();
        let now = self.now();
        inputs.into_iter().for_each(|input| self.record(input).left.leaves(now));
    }

    /// Consumers take the outcomes that are there, and each is checked. Returns whether there was any.
    pub(super) fn consume(&mut self) -> bool {
        self.see_accepted();
        let mut takers = std::mem::take(&mut self.takers);
        let took = takers.consume(|input, outcome| self.judge(input, outcome));
        for map in takers.maps.iter().filter(|map| map.plan.order == Order::Completion) {
            let mut records = self.records.range(map.first()..map.first() + map.plan.inputs);
            let hidden = records.find(|(_, record)| record.is_published && record.outcomes == 0);
            assert!(hidden.is_none(), "an outcome is there, and its consumer does not find it: {hidden:x?}");
        }
        self.takers = takers;
        self.see_accepted(); // the outcomes that were taken have made room
        took
    }

    fn judge(&mut self, input: u64, outcome: &Outcome) {
        let (now, full_at) = (self.now(), self.full_at);
        let record = self.records.entry(input).or_default();
        record.outcomes += 1;
        assert_eq!(record.outcomes, 1, "input {input:x} has two outcomes");
        let told = match outcome {
            Ok(output) => {
                assert_eq!(*output, answer(input), "the output of another input");
                return;
            }
            Err(failure) => failure,
        };
        let (rules, has_left) = (&self.rules, record.left.may_end_it(full_at));
        match told.cause() {
            Cause::Poisoned(_) => {
                self.tally.poisoned += 1;
                let is_spent = record.own > rules.crash_retries || has_left;
                assert!(is_spent, "{input:x} is poisoned: {record:?}");
            }
            Cause::Failed(_) => assert!(record.failures > 0, "{input:x} has failed: {record:?}"),
            Cause::Lost(_) => {
                self.tally.lost += 1;
                assert!(rules.crash_retries == 0 || has_left, "{input:x} is lost: {record:?}");
                return;
            }
            Cause::TimedOut { limit } => {
                self.tally.timed_out += 1;
                record.time.ends_by_timeout(*limit, has_left);
            }
            Cause::DeadlineExceeded { limit, last } => {
                self.tally.past_deadline += 1;
                self.tally.past_deadline_after_an_error += u64::from(last.is_some());
                record.time.ends_by_deadline(*limit, *last, record.failures, rules, now);
            }
            Cause::GaveUp(_) | Cause::ShutDown | Cause::Cancelled => return,
            other => panic!("{input:x} ends by {other:?}"),
        }
        assert_eq!(told.attempts(), record.executions, "{input:x}: {record:?}");
    }

    /// Whether a container is alive and served by this thread.
    pub(super) fn lives(&self, at: usize) -> bool {
        let driver = &self.drivers[at];
        self.engine.under_lock(|state| {
            state.ledger.is_current(driver.id, driver.generation) && state.ledger.mode() < Mode::Aborted
        })
    }
}

//! The limits of time in a world of lanes: the supervisor's looks, what they cut, and what must hold after
//! each of them.

use crate::engine::map_buffers::Order;
use crate::engine::reader::Failures;
use crate::simulator::course::Course;
use crate::simulator::lanes::LaneWorld;
use crate::simulator::limits::LAG;
use crate::simulator::takers::SimMap;
use crate::simulator::time_facts::CutEvent;
use crate::simulator::time_model::GRACE;

/// The executions of a living container when the supervisor looks at the limits.
struct Before {
    at: usize,
    executing: Vec<(u32, u64)>,
}

impl LaneWorld<'_> {
    /// The supervisor looks at the limits. Each event of a cut is held against the facts, and so is each
    /// death.
    pub(super) fn look_at_limits(&mut self) {
        self.see_accepted();
        let now = self.now();
        let lives = (0..self.drivers.len()).filter(|at| self.lives(*at));
        let before: Vec<Before> =
            lives.map(|at| Before { at, executing: self.drivers[at].executing() }).collect();
        let goes_on = |world: &Self| world.engine.under_lock(|state| state.ledger.goes_on());
        let went_on = goes_on(self);
        CutEvent::take_all(&self.heard, &self.takers);
        self.office.looks(self.engine, now);
        let goes_on = (goes_on(self) == went_on).then_some(went_on);
        for event in CutEvent::take_all(&self.heard, &self.takers) {
            self.is_cut(&before, event, goes_on);
        }
        for Before { at, executing } in before {
            if !self.lives(at) {
                self.was_stuck(at, &executing);
            }
        }
        self.limits_hold();
    }

    /// An execution was cut at a limit.
    fn is_cut(&mut self, before: &[Before], event: CutEvent, goes_on: Option<bool>) {
        let (now, CutEvent { input, attempt, cut }) = (self.now(), event);
        self.log(|| format!("{input:x} is cut: {cut:?}"));
        let lane = before.iter().find_map(|before| {
            let (lane, _) = before.executing.iter().find(|(_, other)| *other == input)?;
            Some((before.at, *lane as usize))
        });
        let Some((at, lane)) = lane else { panic!("{input:x} is cut, and does not execute") };
        let rules = self.rules.clone();
        let record = self.was_cut(input);
        assert_eq!(attempt, record.executions, "the attempt of {input:x} that is cut: {record:?}");
        record.time.is_cut(cut, record.failures, &rules, goes_on, now);
        let task = self.drivers[at].lanes[lane].task.as_mut().expect("it executes");
        assert!(task.run.is_fenced(), "{input:x} was cut, and may go on");
        task.cut = Some((now, cut.is_retried));
        self.tally.cut += 1;
        let beside = before.iter().find(|before| before.at == at).map_or(0, |before| before.executing.len());
        self.tally.cut_beside_others += u64::from(beside > 1);
    }

    /// A container has died, because code in it did not return after its limit. All that executes in it is
    /// innocent.
    fn was_stuck(&mut self, at: usize, executing: &[(u32, u64)]) {
        let (now, driver) = (self.now(), &self.drivers[at]);
        self.log(|| format!("{driver:?} has died, because it did not return"));
        let tasks = || driver.lanes.iter().filter_map(|lane| lane.task.as_ref());
        let cut = tasks().filter_map(|task| task.cut).map(|(at, _)| at).min();
        let overstays = cut.is_some_and(|at| at + GRACE <= now);
        assert!(overstays, "{driver:?} has died, and all of its code has returned in time");
        let was_late = cut.is_some_and(|at| at < self.late_at);
        assert!(driver.stuck_until.is_some() || was_late, "{driver:?} has died, and is in no code");
        self.tally.unresponsive += 1;
        let goes_on = |(lane, _): &&(u32, u64)| {
            let task = driver.lanes[*lane as usize].task.as_ref();
            task.is_some_and(|task| task.cut.is_none())
        };
        let innocent: Vec<u64> = executing.iter().filter(goes_on).map(|(_, input)| *input).collect();
        self.tally.innocent_beside_stuck += innocent.len() as u64;
        for input in innocent {
            self.free(input, false);
            self.record(input).stuck += 1;
        }
        self.leaves_behind(at);
    }

    /// After a look no attempt goes on past its limit, no deadline has passed, and no code goes on that was
    /// to return.
    fn limits_hold(&mut self) {
        self.see_threads_left();
        self.consume();
        let (now, late_at) = (self.now(), self.late_at);
        // A container that hangs is looked at again once in this time.
        let may_stay = self.full_at.is_some_and(|at| now < at + GRACE);
        for driver in (0..self.drivers.len()).filter(|at| self.lives(*at)).map(|at| &self.drivers[at]) {
            for task in driver.lanes.iter().filter_map(|lane| lane.task.as_ref()) {
                let overstays = task.cut.is_some_and(|(at, _)| at + GRACE <= now);
                assert!(!overstays || may_stay, "{driver:?} lives, and does not return");
                let Some(input) = task.input.filter(|_| !task.run.is_fenced()) else { continue };
                let record = &self.records[&input];
                let timeout = record.time.timeout.map(|limit| task.began.max(late_at) + limit + LAG);
                assert!(timeout.is_none_or(|at| now < at), "{input:x} goes on past its limit: {record:?}");
                let is_past = record.time.is_past_deadline(now);
                assert!(!is_past, "{input:x} executes past its deadline: {record:?}");
            }
        }
        for call in &self.takers.calls {
            self.is_in_time(call.serial << 20);
        }
        for map in &self.takers.maps {
            self.waits_in_time(map);
        }
    }

    /// Notes whether as many threads are left behind as may be.
    pub(super) fn see_threads_left(&mut self) {
        let (left, hung) = self.engine.under_lock(|state| (state.left_behind(), state.ledger.hung()));
        if left >= self.abandoned_max {
            self.full_at = Some(self.now());
        }
        self.tally.kept += u64::from(hung > 0);
    }

    fn is_in_time(&self, input: u64) {
        let Some(record) = self.records.get(&input).filter(|record| record.outcomes == 0) else { return };
        assert!(!record.time.is_past_deadline(self.now()), "{input:x} is past its deadline: {record:?}");
    }

    /// The outcomes of a map that can be taken were taken, so no other input is past its deadline.
    fn waits_in_time(&self, map: &SimMap) {
        let first = map.first();
        let next = first + map.taken;
        match (map.plan.order, map.plan.failures) {
            (_, Failures::EndMap) | (Order::Completion, Failures::Yield) => {
                let accepted = self.records.range(first..first + map.plan.inputs);
                accepted.for_each(|(input, _)| self.is_in_time(*input));
            }
            (Order::Input, Failures::Yield) if map.taken < map.plan.inputs => self.is_in_time(next),
            _ => {}
        }
    }
}

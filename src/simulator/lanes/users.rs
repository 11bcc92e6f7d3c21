//! The users and operators of a world of lanes.

use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::data::failure::Reason;
use crate::decide::limits::Limits;
use crate::engine::map_buffers::Order;
use crate::engine::reader::Failures;
use crate::simulator::course::Course;
use crate::simulator::host::passes;
use crate::simulator::lanes::driver::Phase;
use crate::simulator::lanes::{LIMIT, LaneWorld};
use crate::simulator::limits::limits;
use crate::simulator::office::Supervised;
use crate::simulator::takers::MapPlan;
use crate::simulator::time_facts::TimeFacts;

impl LaneWorld<'_> {
    /// Lets a user or an operator do something, if the tape says so.
    pub(super) fn someone_acts(&mut self) -> bool {
        match self.tape.pick(60) {
            1..=4 => self.open_map(),
            5..=8 => self.open_call(),
            9 => self.kill(),
            10 => self.overdraw_from_outside(),
            11 => self.end_a_call(),
            12 if !self.takers.maps.is_empty() => {
                let at = self.tape.pick(self.takers.maps.len());
                self.log(|| "drop a map".to_owned());
                drop(self.takers.maps.swap_remove(at));
            }
            13 => {
                self.log(|| "reset".to_owned());
                self.engine.give_up(); // if that was decided, and its notice has not arrived
                self.engine.reset();
                self.create();
            }
            14 if self.tape.one_in(10) => {
                self.log(|| "the end begins".to_owned());
                match self.tape.pick(4) {
                    0 => self.engine.drain(),
                    1 => self.engine.stop(),
                    2 => self.engine.cut_off(),
                    _ => self.engine.abort(),
                }
            }
            15..=20 => _ = self.consume(),
            21 => self.is_late(),
            22 => self.tally.pauses += u64::from(self.engine.pause()),
            23..=24 => _ = self.engine.unpause(),
            _ => return false,
        }
        true
    }

    /// Time passes although a step could be taken, so that everything is late now.
    fn is_late(&mut self) {
        let late = self.tape.one_of(&[1, 1_000_000, 30_000_000, 1_000_000_000, 11_000_000_000]);
        passes(&self.clock, Duration::from_nanos(late));
        self.late_at = self.now();
    }

    /// The limits of a map or a call.
    fn limits(&mut self) -> Limits {
        if self.has_limits { limits(&mut self.tape) } else { Limits::default() }
    }

    fn open_call(&mut self) {
        let (now, limits) = (self.now(), self.limits());
        if let Some(serial) = self.takers.open_call(self.engine, limits) {
            self.log(|| format!("call {serial:x} within {limits:?}"));
            let time = TimeFacts::of(limits, &self.rules, now);
            self.record(serial << 20).time = time;
        }
    }

    fn open_map(&mut self) {
        let inputs = self.tape.one_of(&[4, 1, 12, 40]);
        let window = self.tape.one_of(&[8, 1, 3, 50]);
        let order = self.tape.one_of(&[Order::Input, Order::Completion]);
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap, Failures::EndMapInOrder]);
        let limits = self.limits();
        let plan = MapPlan { inputs, window, order, failures, limits, leaves_after: None };
        if let Some(serial) = self.takers.open_map_over_inputs(self.engine, plan) {
            self.log(|| format!("map {serial:x} of {plan:?}"));
            self.see_accepted();
        }
    }

    fn end_a_call(&mut self) {
        if self.takers.calls.is_empty() {
            return;
        }
        let at = self.tape.pick(self.takers.calls.len());
        self.log(|| "cancel a call".to_owned());
        if self.tape.one_in(2) {
            self.takers.calls[at].call.end_as(&Reason::Cancelled);
        } else {
            drop(self.takers.calls.swap_remove(at));
        }
    }

    /// The driver of the current generation of a container.
    fn current(&self, id: ContainerId) -> Option<usize> {
        let generation = self.engine.under_lock(|state| state.ledger.stage(id).0);
        self.drivers.iter().position(|driver| driver.id == id && driver.generation == generation)
    }

    fn kill(&mut self) {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let at = self.current(id);
        let executing = at.map(|at| self.drivers[at].executing()).unwrap_or_default();
        if let Some(generation) = self.engine.kill(id) {
            self.log(|| format!("kill {id}#{generation}"));
            self.tally.kills += 1;
            executing.iter().for_each(|(_, input)| self.record(*input).kills += 1);
            at.into_iter().for_each(|at| self.leaves_behind(at));
        }
        self.engine.give_up(); // if no container is left, and none can be created
        self.create();
    }

    /// A container crosses its memory limit while its thread does not poll, or has not seen it yet, and the
    /// watch kills it.
    fn overdraw_from_outside(&mut self) {
        let id = ContainerId(self.tape.pick(self.rules.containers) as u32);
        let Some(at) = self.current(id).filter(|at| self.drivers[*at].phase == Phase::Serving) else {
            return;
        };
        let driver = &self.drivers[at];
        let generation = driver.generation;
        let executing = driver.executing();
        let is_crowded = executing.len() > 1;
        let in_code = driver.in_code().map(|(lane, _)| lane); // code that was recalled may still execute
        let account = driver.token.account().expect("memory is counted").counters();
        let bytes = 2 * LIMIT as i64;
        account.charge(account.epoch(), bytes, bytes);
        let lived = self.lives(at);
        self.engine.over_limit(id, generation);
        if !lived {
            return;
        }
        self.log(|| format!("{id}#{generation} is killed for its memory, in {in_code:?}"));
        self.tally.memory_kills += 1;
        self.leaves_behind(at);
        let only = if let [(lane, _)] = executing[..] { Some(lane) } else { None };
        let culprit = in_code.or(only);
        for (lane, input) in executing {
            match culprit {
                None => self.free(input, true),
                Some(culprit) if culprit != lane => self.free(input, false),
                Some(_) if is_crowded => self.free(input, true),
                Some(_) => self.is_to_blame(input),
            }
        }
    }
}

/// How long a poll is stuck, in the worlds in which some are.
pub(super) const STUCK_FOR: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(70),
    Duration::from_millis(300),
    Duration::from_secs(9),
];

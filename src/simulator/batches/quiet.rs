//! Worlds in which nothing goes wrong but one poison input: what it costs is bounded.

use std::time::Duration;

use crate::code::context::Context;
use crate::contain::unwind::install_hook;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::{Batching, Rules};
use crate::decide::limits::LimitRules;
use crate::decide::restart::RateLimited;
use crate::decide::retries::Retries;
use crate::engine::map_buffers::Order;
use crate::engine::reader::Failures;
use crate::simulator::Verbosity;
use crate::simulator::batches::{BatchTally, BatchWorld, Habits, with_world};
use crate::simulator::course::Course;
use crate::simulator::fates::Fates;
use crate::simulator::office::Supervised;
use crate::simulator::tape::{Tape, mix};

/// A salt for which exactly one of the inputs of a map is poison, and the chance that makes it so.
fn one_poison(inputs: u64, seed: u64) -> (u64, u64) {
    let chance = 1000 / inputs.max(2);
    let is_one = |salt: &u64| {
        let poison = |input: &u64| mix(*salt, (1 << 20) + input, 0, 5) % 1000 < chance;
        (0..inputs).filter(poison).count() == 1
    };
    let salt = (0..).map(|at| mix(seed, at, 0, 0)).find(is_one).expect("some salt is right");
    (salt, chance)
}

impl BatchWorld<'_> {
    fn play_one_poison(mut self, inputs: u64) -> BatchTally {
        self.create();
        self.map_of(inputs, inputs, (Order::Input, Failures::Yield), None, None);
        self.healed = true;
        self.run_until("the map ends", |world| world.takers.is_empty());
        self.engine.drain();
        self.after_step();
        self.run_until("every thread ends", |world| world.drivers.is_empty() && world.engine.has_ended());
        let crash_retries = self.rules.crash_retries;
        let together = inputs.min(self.batching.size);
        let logarithm = together.next_power_of_two().trailing_zeros();
        let poisoned: Vec<u64> =
            self.records.iter().filter(|(_, record)| record.own > 0).map(|(at, _)| *at).collect();
        assert_eq!(poisoned.len(), 1, "one input is to blame: {poisoned:x?}");
        let most = u64::from(logarithm + 1 + crash_retries);
        assert!(self.tally.crashes <= most, "{} crashes by one poison among {together}", self.tally.crashes);
        for (input, record) in self.records.iter().filter(|(input, _)| **input != poisoned[0]) {
            assert!(record.executions <= logarithm + 1, "{input:x} among {together}: {record:?}");
        }
        assert_eq!(self.records[&poisoned[0]].own, 1 + crash_retries);
        self.nothing_is_left()
    }
}

#[test]
fn one_poison_costs_as_many_crashes_as_its_batch_can_be_halved() {
    install_hook(Context::moment);
    for seed in 0..200 {
        let draw = |what: u64, of: u64| mix(seed, what, 1, 1) % of;
        let size = 1 + draw(1, 40);
        let inputs = if seed % 2 == 0 { size } else { 1 + draw(2, 100) };
        let (salt, poison) = one_poison(inputs, seed);
        let batching = Batching { size, wait: Duration::from_millis(3 * draw(3, 2)) };
        let rules = Rules {
            containers: 1 + draw(4, 3) as usize,
            lanes: 1,
            batch: Some(batching),
            has_state: false,
            retries: Retries::new(0),
            crash_retries: 1 + draw(5, 3) as u32,
            restart: RateLimited::never().into(),
            calls_max: CALLS_MAX_DEFAULT,
            limits: LimitRules::default(),
        };
        let habits = Habits {
            fates: Fates { salt, poison, ..Fates::default() },
            longest: Duration::from_millis(1),
            in_task: draw(6, 2) == 0,
            waits: 1,
            ..Habits::default()
        };
        let tape = Tape::new(Vec::new());
        with_world((rules, batching, habits), tape, Verbosity::Nothing, |world| {
            world.play_one_poison(inputs)
        });
    }
}

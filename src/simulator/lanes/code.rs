//! The steps of the threads of a world of lanes: they enter, look for work, poll their lanes, and crash.

use std::sync::Arc;

use crate::base::ids::LaneId;
use crate::code::token;
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::shape::Why;
use crate::decide::ledger::{Mode, Retryable};
use crate::decide::life::Served;
use crate::decide::restart::Restart;
use crate::engine::dispatch::Work;
use crate::simulator::course::Course;
use crate::simulator::fates::{Act, answer};
use crate::simulator::lanes::driver::{Driver, Phase, Sought, Task};
use crate::simulator::lanes::{LIMIT, LaneWorld};
use crate::simulator::tape::mix;
use crate::simulator::values::panic;
use crate::values::crash::Death;

impl LaneWorld<'_> {
    pub(super) fn drive(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        match driver.phase {
            Phase::Entering => {
                let tied = self.engine.register_token(id, generation, &driver.token);
                if !tied || !self.engine.entered(id, generation) {
                    return self.end(at);
                }
                driver.serves();
                self.entered_at = self.now();
            }
            Phase::Serving => match driver.polled {
                Some(lane) => self.poll(at, lane),
                None => self.turn(at),
            },
            Phase::Exiting { recycles } => {
                self.engine.left(id, generation);
                if recycles { self.begin_again(at) } else { self.end(at) }
            }
            Phase::Over => unreachable!("the world removes drivers that are over"),
        }
    }

    /// The thread begins the next generation, if the function wants one.
    fn begin_again(&mut self, at: usize) {
        let (id, generation) = (self.drivers[at].id, self.drivers[at].generation);
        match self.engine.begin(id, generation) {
            Some(next) => self.drivers[at] = Driver::new(self.engine, id, next, self.rules.lanes),
            None => self.end(at),
        }
    }

    fn end(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        driver.seeker.stops();
        driver.phase = Phase::Over;
        self.engine.ended(driver.id, driver.generation, None);
    }

    /// Looks for work, or begins to poll a lane that is ready.
    fn turn(&mut self, at: usize) {
        let now = self.now();
        let skips = self.drivers[at].taken.is_some() && self.tape.one_in(2);
        let driver = &mut self.drivers[at];
        driver.awakes();
        if !skips {
            match driver.seek(self.engine, self.rules.lanes, now) {
                Sought::Begun(lane, work) => return self.begin(at, lane, work),
                Sought::Over(Served::Stale) => return self.end(at),
                Sought::Over(served) => {
                    self.tally.recycled += u64::from(served == Served::Recycles);
                    driver.seeker.stops();
                    driver.phase = Phase::Exiting { recycles: served == Served::Recycles };
                    return;
                }
                Sought::Again => return,
                Sought::Nothing => {}
            }
            self.tally.holds += u64::from(driver.is_on_hold);
        }
        match driver.next_ready() {
            Some(lane) if driver.lanes[lane as usize].task.as_ref().is_some_and(|task| task.run.resume()) => {
                driver.polled = Some(lane);
            }
            Some(lane) => driver.comes_back(lane, now), // its future is dropped
            None if skips => {}
            None => driver.falls_asleep(),
        }
    }

    /// A lane has a lease.
    fn begin(&mut self, at: usize, lane: u32, work: Work) {
        let Work { run, lease, .. } = work;
        let now = self.now();
        self.tally.of_several += u64::from(lease.span.len > 1);
        let driver = &mut self.drivers[at];
        driver.polled = Some(lane);
        driver.lanes[lane as usize].task = Some(Task::of(run, now));
        self.takes(at, lane, lease);
    }

    /// Goes on with the poll of a lane. It ends in the way that is laid down for its input.
    fn poll(&mut self, at: usize, lane: u32) {
        let (now, engine) = (self.now(), self.engine);
        let driver = &mut self.drivers[at];
        driver.stuck_until = None;
        let id = LaneId::new(driver.id, lane);
        let sim = &mut driver.lanes[lane as usize];
        let task = sim.task.as_mut().expect("a lane that is polled has its task");
        let Some(place) = task.place else {
            match task.run.begin::<u64, u64, u64>().map(|active| active.place()) {
                Some(place) => self.execute(at, lane, place),
                None => driver.comes_back(lane, now),
            }
            return;
        };
        let run = Arc::clone(&task.run);
        if task.waits > 0 {
            task.waits -= 1;
            driver.polled = None;
            run.keep_waker(&sim.waker);
            if !run.suspend() {
                return driver.comes_back(lane, now);
            }
            let draw =
                mix(self.habits.fates.salt, place as u64, u64::from(task.waits), now.0.as_nanos() as u64);
            let takes = self.habits.longest.mul_f64((draw % 100) as f64 / 100.0);
            task.wakes_at = Some(now + takes);
            return;
        }
        if let Some(takes) = task.stuck_for.take().filter(|_| !self.healed) {
            driver.stuck_until = Some(now + takes);
            self.tally.stuck += 1;
            return self.log(|| format!("{id} is stuck for {takes:?}"));
        }
        if self.is_interrupted(at, lane) {
            let now = self.now();
            return self.drivers[at].unwinds(lane, now);
        }
        let fenced = run.is_fenced();
        let mut active = run.active_at::<u64, u64, u64>(place);
        let input = *active.input();
        let act = self.act(input);
        self.log(|| format!("{id} ends its poll of {input:x}: {act:?}, fenced {fenced}"));
        match act {
            Act::Ok => match active.publish(answer(input)) {
                Ok(Advance::Next) => {
                    self.record(input).is_published = true;
                    self.execute(at, lane, place + 1);
                }
                Ok(_) => self.drivers[at].comes_back(lane, now),
                Err(_) => {
                    engine.count_late();
                    self.drivers[at].comes_back(lane, now);
                }
            },
            Act::Err { worth } => {
                if !fenced {
                    self.has_failed(input);
                }
                let retryable = if worth { Retryable::Yes } else { Retryable::No };
                if engine.failed(id, &run, &mut active.at, Why::Error(Box::new(input)), (retryable, None)) {
                    self.execute(at, lane, place + 1);
                } else {
                    self.drivers[at].comes_back(lane, now);
                }
            }
            Act::Panic | Act::Overdraw => self.crash(at, lane, (!fenced).then_some(input), act),
        }
    }

    /// Whether a checkpoint ends the code of a lane, because its outcome is unwanted.
    fn is_interrupted(&mut self, at: usize, lane: u32) -> bool {
        let driver = &self.drivers[at];
        let id = LaneId::new(driver.id, lane);
        let is_unwanted = self.engine.under_lock(|state| {
            let lives = state.ledger.is_current(id.container, driver.generation);
            lives && state.ledger.mode() < Mode::Aborted && state.ledger.orphan(id).is_some()
        });
        let token = Arc::clone(&driver.lanes[lane as usize].token);
        let told = token.is_unwanted();
        assert_eq!(told, is_unwanted, "whether a checkpoint in {id} sees that its outcome is unwanted");
        if !is_unwanted || !self.tape.one_in(2) {
            return false;
        }
        let unwound = token::with_current(Some(Arc::clone(&token)), || contain(token::checkpoint)).is_err();
        assert!(unwound && token.is_interrupted(), "a checkpoint ends code that is unwanted");
        self.tally.interrupted += 1;
        true
    }

    /// The code in a lane crashes. `input` is what it executes, unless that has ended.
    fn crash(&mut self, at: usize, lane: u32, input: Option<u64>, act: Act) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        let executing = driver.executing();
        let leases = self.engine.under_lock(|state| state.ledger.leased_by(id).count());
        driver.polled = None;
        driver.token.blame(lane);
        let is_too_large = act == Act::Overdraw && self.tape.one_in(4); // even without this attempt
        let in_lane = !self.rules.has_state && !is_too_large;
        let death = match act {
            Act::Overdraw => Death::MemoryLimit { limit: LIMIT, used: 2 * LIMIT, reclaimed: true },
            _ => Death::Panicked(panic()),
        };
        let is_crowded = if in_lane { leases > usize::from(input.is_some()) } else { executing.len() > 1 };
        let restart = if in_lane {
            self.engine.crashed_in_lane(LaneId::new(id, lane), generation, death)
        } else {
            self.engine.crashed(id, generation, death)
        };
        if restart.is_some() {
            match input {
                Some(input) if act == Act::Overdraw && is_crowded => self.free(input, true),
                Some(input) => self.is_to_blame(input),
                None => {}
            }
            let others = executing.into_iter().filter(|(other, _)| *other != lane && !in_lane);
            others.for_each(|(_, input)| self.free(input, false));
        }
        match restart {
            None => self.end(at),
            Some(_) if in_lane => {
                self.tally.crashes_in_lanes += 1;
                let now = self.now();
                self.drivers[at].unwinds(lane, now);
            }
            Some(restart) => {
                self.tally.crashes_of_containers += 1;
                self.drivers[at].seeker.stops();
                if restart == Restart::Now { self.begin_again(at) } else { self.end(at) }
            }
        }
    }
}

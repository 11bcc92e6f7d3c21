//! The simulated thread of a container: the user's code, and the loop of `engine/batch_body.rs` around it.

use std::sync::Arc;

use crate::code::token;
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::failure::Reason;
use crate::data::shape::Why;
use crate::decide::ledger::{Mode, Retryable};
use crate::decide::life::{Next, Served};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::dispatch::{Work, WorkSeeker};
use crate::simulator::batches::driver::{Called, Driver, Phase, SimPart};
use crate::simulator::batches::{BatchWorld, LIMIT};
use crate::simulator::course::Course;
use crate::simulator::fates::{Act, answer};
use crate::simulator::tape::mix;
use crate::simulator::values::panic;
use crate::values::crash::Death;

impl<'a> BatchWorld<'a> {
    pub(super) fn drive(&mut self, at: usize) {
        self.log(|| format!("{:?}", self.drivers[at]));
        let (engine, now) = (self.engine, self.now());
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        self.deeds += u64::from(!matches!(driver.phase, Phase::Asleep | Phase::Asking));
        match driver.phase {
            Phase::Entering => self.enter(at),
            Phase::Asleep => {
                let due = driver.until.is_some_and(|at| at <= now);
                driver.bell.clear();
                match &driver.seeker {
                    // The task was woken for another reason, so it does not look for work.
                    Some(seeker) if !due && seeker.still_waits(&driver.waker) => return,
                    Some(_) => {}
                    None => engine.wake(id, generation),
                }
                driver.until = None;
                driver.phase = Phase::Asking;
            }
            Phase::Asking => self.ask(at),
            Phase::Beginning => self.begin_a_part(at),
            Phase::Calling => self.code_goes_on(at),
            Phase::Suspended => {
                driver.bell.clear();
                if driver.parts.iter().filter(|part| part.run.resume()).count() > 0 {
                    driver.phase = Phase::Calling;
                    driver.until = Some(Time::default());
                } else {
                    self.comes_back(at);
                }
            }
            Phase::Publishing { miscounts } => self.publish(at, miscounts),
            Phase::Exiting { recycles } => {
                engine.left(id, generation);
                if recycles { self.begin_again(at) } else { self.end(at) }
            }
            Phase::Over => unreachable!("the world removes threads that are over"),
        }
    }

    fn enter(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        if !self.engine.register_token(id, generation, &driver.token) {
            return self.end(at);
        }
        let draw = mix(self.habits.fates.salt, u64::from(id.0), generation.get(), 4);
        if !self.healed && draw % 1000 < self.habits.enter_fails {
            return self.crashes(at, Death::EnterPanicked(panic()));
        }
        if !self.engine.entered(id, generation) {
            return self.end(at);
        }
        self.entered_at = self.now();
        let driver = &mut self.drivers[at];
        if let Some(account) = driver.token.account() {
            account.counters().end_epoch();
        }
        driver.phase = Phase::Asking;
    }

    /// The thread begins the next generation, if the function wants one.
    fn begin_again(&mut self, at: usize) {
        let (id, generation) = (self.drivers[at].id, self.drivers[at].generation);
        match self.engine.begin(id, generation) {
            Some(next) => self.drivers[at] = Driver::new(self.engine, id, next),
            None => self.end(at),
        }
    }

    fn end(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        driver.seeker = None;
        driver.phase = Phase::Over;
        self.engine.ended(driver.id, driver.generation, None);
    }

    /// The thread asks for its next batch.
    fn ask(&mut self, at: usize) {
        let engine = self.engine;
        let recycles = !self.healed && self.tape.one_in(40);
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        if recycles && engine.recycle(id, generation) {
            self.tally.recycled += 1;
            driver.seeker = None;
            driver.phase = Phase::Exiting { recycles: true };
            return;
        }
        let mut works = Vec::new();
        let next = if self.habits.in_task {
            let seeker = driver.seeker.get_or_insert_with(|| WorkSeeker::new(engine, id, generation));
            match seeker.look(&driver.waker, id.into(), &mut Vec::new()) {
                Next::Work(first) => {
                    works = seeker.batch(first);
                    Next::Work(())
                }
                Next::Wait { until } => Next::Wait { until },
                Next::Hold { until } => Next::Hold { until },
                Next::Over(served) => Next::Over(served),
            }
        } else {
            engine.try_next_batch(id, generation, &mut works)
        };
        match next {
            Next::Work(()) => {
                driver.seeker = None;
                driver.phase = Phase::Beginning;
                let part =
                    |Work { lane, run, lease, .. }| SimPart { lane, run, lease, place: None, asked: false };
                driver.parts = works.into_iter().map(part).collect();
                driver.called.clear();
                self.took_batch(at);
            }
            Next::Wait { until } => {
                driver.phase = Phase::Asleep;
                driver.until = until;
            }
            Next::Hold { .. } => panic!("a container that executes batches is not held"),
            Next::Over(Served::Stale) => self.end(at),
            Next::Over(served) => {
                assert_eq!(served, Served::Leaves, "only the container itself decides to recycle");
                driver.seeker = None;
                driver.phase = Phase::Exiting { recycles: false };
            }
        }
    }

    fn begin_a_part(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let id = (driver.id, driver.generation);
        if let Some(part) = driver.parts.iter_mut().find(|part| !part.asked) {
            part.asked = true;
            part.place = part.run.begin::<u64, u64, u64>().map(|active| active.place());
            let begun = part.next_batch();
            begun.into_iter().for_each(|input| self.begins(input, id));
            return;
        }
        self.call(at);
    }

    /// The code is called with the next inputs of all parts that go on.
    fn call(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        driver.called.clear();
        for (at, part) in driver.parts.iter().enumerate() {
            let Some(place) = part.place else { continue };
            let inputs = part.next_batch().into_iter().zip(place..);
            driver.called.extend(inputs.map(|(input, place)| Called {
                part: at,
                place,
                input,
                is_over: false,
            }));
        }
        if driver.called.is_empty() {
            return self.comes_back(at);
        }
        self.tally.batches += 1;
        let inputs = driver.called.len() as u64;
        assert!(inputs <= self.batching.size, "{inputs} inputs in a batch of {}", self.batching.size);
        self.tally.full += u64::from(inputs == self.batching.size);
        let now = self.now();
        let driver = &mut self.drivers[at];
        let seed = mix(self.habits.fates.salt, driver.called[0].input, inputs, driver.generation.get());
        driver.phase = Phase::Calling;
        driver.waits = if self.habits.in_task { (seed % u64::from(self.habits.waits + 1)) as u32 } else { 0 };
        let hangs = !self.habits.in_task && seed % 64 == 63 && !self.healed;
        let takes = self.habits.longest.mul_f64((seed / 64 % 100) as f64 / 100.0);
        driver.until = (!hangs).then(|| now + takes);
        let driver = &self.drivers[at];
        self.log(|| format!("{}#{} executes {:x?}", driver.id, driver.generation, driver.inputs()));
    }

    /// The user's code goes on: it passes a checkpoint, waits, returns or dies.
    fn code_goes_on(&mut self, at: usize) {
        let (now, engine) = (self.now(), self.engine);
        let driver = &mut self.drivers[at];
        let id = driver.id;
        let lives = engine.under_lock(|state| {
            state.ledger.is_current(id, driver.generation) && state.ledger.mode() < Mode::Aborted
        });
        if driver.token.is_over_limit() {
            let death = driver.token.over_limit_death().expect("it is over its limit");
            return self.crashes(at, death);
        }
        let is_unwanted =
            lives && driver.called.iter().all(|called| driver.parts[called.part].run.is_fenced());
        let told = driver.token.is_unwanted();
        assert_eq!(told, is_unwanted, "whether a checkpoint in {id} sees that no input is wanted any more");
        if is_unwanted && self.tape.one_in(2) {
            let current = Some(Arc::clone(&driver.token));
            let unwound = token::with_current(current, || contain(token::checkpoint)).is_err();
            assert!(unwound && driver.token.is_interrupted(), "a checkpoint ends code that is unwanted");
            self.tally.interrupted += 1;
            return self.is_interrupted(at);
        }
        if driver.waits > 0 {
            driver.waits -= 1;
            let waker = driver.waker.clone();
            driver.parts.iter().for_each(|part| part.run.keep_waker(&waker));
            if driver.parts.iter().filter(|part| part.run.suspend()).count() == 0 {
                return self.comes_back(at);
            }
            self.tally.suspended += 1;
            let draw = mix(self.habits.fates.salt, u64::from(driver.waits), now.0.as_nanos() as u64, 9);
            driver.phase = Phase::Suspended;
            driver.until = Some(now + self.habits.longest.mul_f64((draw % 100) as f64 / 100.0));
            return;
        }
        let inputs = driver.inputs();
        let deadly =
            inputs.iter().map(|input| self.act(*input)).find(|act| matches!(act, Act::Panic | Act::Overdraw));
        match deadly {
            Some(Act::Panic) => self.crashes(at, Death::Panicked(panic())),
            Some(_) => {
                let death = Death::MemoryLimit { limit: LIMIT, used: 2 * LIMIT, reclaimed: true };
                self.crashes(at, death);
            }
            None => {
                let execution: u64 =
                    inputs.iter().map(|input| u64::from(self.record(*input).executions)).sum();
                let draw = mix(self.habits.fates.salt, inputs[0], execution, 8);
                let miscounts = draw % 1000 < self.habits.miscounts;
                self.tally.miscounted += u64::from(miscounts);
                self.drivers[at].phase = Phase::Publishing { miscounts };
            }
        }
    }

    /// The execution was interrupted. A state is built again, and other code goes on serving.
    fn is_interrupted(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.generation);
        driver.drops_batch();
        if !self.habits.has_state {
            driver.phase = Phase::Asking;
            if self.habits.in_task {
                self.engine.batch_returned(id, generation); // as it begins to serve again
            }
            return;
        }
        match self.engine.enter_anew(id, generation) {
            Some(next) => self.drivers[at] = Driver::new(self.engine, id, next),
            None => self.end(at),
        }
    }

    /// Publishes the next outcome. That takes two steps: the thread first gets the right to.
    #[expect(unsafe_code, reason = "the right to publish that one step was given is used in a later step")]
    fn publish(&mut self, at: usize, miscounts: bool) {
        let engine = self.engine;
        let driver = &mut self.drivers[at];
        let Some(next) = driver.called.iter().position(|called| !called.is_over) else {
            return if driver.parts.iter().any(|part| part.place.is_some()) {
                self.tally.of_several_batches += 1;
                self.call(at);
            } else {
                self.comes_back(at);
            };
        };
        let Called { part, place, input, .. } = driver.called[next];
        let len = driver.called.len();
        if let Some(place) = driver.granted.take() {
            // SAFETY: the step before has got the right for this place, and did not use it.
            unsafe { driver.parts[part].run.publish_at::<u64, u64, u64>(place, answer(input)) };
            driver.called[next].is_over = true;
            return self.ends_with_outcome(input);
        }
        let act = if miscounts { Act::Err { worth: false } } else { self.act(input) };
        let driver = &mut self.drivers[at];
        let sim = &mut driver.parts[part];
        let Some(_) = sim.place else {
            engine.count_late(); // the job of the input has ended meanwhile
            driver.called[next].is_over = true;
            return;
        };
        let run = Arc::clone(&sim.run);
        let mut active = run.active_at::<u64, u64, u64>(place);
        if act == Act::Ok {
            match active.at.skip() {
                Advance::Fenced => {
                    engine.count_late();
                    sim.place = None;
                    driver.called[next].is_over = true;
                }
                advance => {
                    sim.place = (advance == Advance::Next).then_some(place + 1);
                    driver.granted = Some(place);
                    self.begins_next_batch(at, part, place + 1);
                }
            }
            return;
        }
        let is_fenced = run.is_fenced();
        let (why, retryable) = if miscounts {
            (Why::Reason(Reason::BatchLength { inputs: len, outcomes: len + 1 }), Retryable::No)
        } else {
            let retryable = if act == (Act::Err { worth: true }) { Retryable::Yes } else { Retryable::No };
            (Why::Error(Box::new(input)), retryable)
        };
        let goes_on = engine.failed(sim.lane, &run, &mut active.at, why, (retryable, None));
        sim.place = goes_on.then_some(place + 1);
        driver.called[next].is_over = true;
        if !is_fenced {
            self.has_failed(input, miscounts);
        }
        self.begins_next_batch(at, part, place + 1);
    }

    /// The thread has left a batch, and is about to ask for the next one.
    fn comes_back(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        driver.drops_batch();
        driver.phase = Phase::Asking;
        if self.habits.in_task {
            self.engine.batch_returned(driver.id, driver.generation);
        }
    }

    /// The code of a container crashes, or its `enter` fails.
    fn crashes(&mut self, at: usize, death: Death) {
        let driver = &mut self.drivers[at];
        driver.seeker = None;
        let (id, generation) = (driver.id, driver.generation);
        let scene = self.scene(at);
        let restart = self.engine.crashed(id, generation, death);
        if restart.is_some() {
            self.tally.crashes += 1;
            self.is_to_pay(scene);
        }
        self.drivers[at].drops_batch();
        if restart == Some(Restart::Now) { self.begin_again(at) } else { self.end(at) }
    }

    /// A part goes on with its next batch, if the input at `place` is its first.
    fn begins_next_batch(&mut self, at: usize, part: usize, place: usize) {
        let driver = &self.drivers[at];
        let ends = driver.called.iter().any(|called| called.part == part && called.place >= place);
        let goes_on = driver.parts[part].place.is_some();
        if !ends && goes_on {
            let id = (driver.id, driver.generation);
            driver.parts[part].next_batch().into_iter().for_each(|input| self.begins(input, id));
        }
    }
}

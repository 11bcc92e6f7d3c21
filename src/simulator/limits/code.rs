//! The threads of a world with limits: the user's code, and the loop of `engine/body.rs` around it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::code::token::{self, Token};
use crate::contain::unwind::contain;
use crate::data::cursor::Advance;
use crate::data::run::Run;
use crate::data::shape::Why;
use crate::decide::ledger::{Lease, Retryable};
use crate::decide::life::{LifeEvent, Next, Part};
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, Work};
use crate::engine::life::Living;
use crate::simulator::course::Course;
use crate::simulator::fates::answer;
use crate::simulator::limits::LimitWorld;
use crate::simulator::tape::mix;
use crate::simulator::values::panic;
use crate::values::crash::Previous;

/// How one execution ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Ok,
    Fail,
    Panic,
    /// The code does not return by itself until the world is healed.
    Hang,
}

/// A thread of a container.
pub(super) struct Driver {
    pub(super) id: ContainerId,
    pub(super) living: Living,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    Asking,
    Asleep { until: Option<Time> },
    Executing(Task),
    Over,
}

pub(super) struct Task {
    pub(super) run: Arc<Run>,
    lease: Lease,
    place: usize,
    pub(super) input: u64,
    pub(super) began: Time,
    ends: Option<Time>,
    act: Act,
    /// Whether the code passes checkpoints.
    checks: bool,
}

impl Driver {
    pub(super) fn new(
        engine: &Arc<Dispatch>,
        id: ContainerId,
        generation: crate::base::ids::Generation,
    ) -> Self {
        let token = |_: &Dispatch| Ok(Token::of_no_thread(None));
        let mut driver = Self { id, living: Living::new(engine, id, generation, token), phase: Phase::Over };
        driver.go_on();
        driver
    }

    /// Goes through the life of the container up to the next wait.
    fn go_on(&mut self) {
        loop {
            match self.living.next() {
                Some(Part::Enter) => self.living.entered(Ok(Ok(()))),
                Some(Part::Serve) => return self.phase = Phase::Asking,
                Some(Part::Exit) => self.living.exited(Ok(())),
                Some(Part::Drop) => self.living.hear(LifeEvent::Dropped),
                None => {
                    let event = self.living.perform();
                    self.living.hear(event);
                    return self.phase = Phase::Over;
                }
            }
        }
    }

    /// The input that is executing, and since when, unless its run is fenced.
    pub(super) fn executing(&self) -> Option<(u64, Time)> {
        match &self.phase {
            Phase::Executing(task) if !task.run.is_fenced() => Some((task.input, task.began)),
            _ => None,
        }
    }

    /// When the thread has its next step, if nothing wakes it before.
    pub(super) fn ready_at(&self, healed: bool) -> Option<Time> {
        match &self.phase {
            Phase::Asking => Some(Time::default()),
            Phase::Asleep { until } => *until,
            Phase::Executing(task) => {
                let cut = task.checks && self.living.with_current().is_cancelled();
                if cut || healed { Some(Time::default()) } else { task.ends }
            }
            Phase::Over => None,
        }
    }
}

impl LimitWorld<'_> {
    pub(super) fn drive(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        let (id, generation) = (driver.id, driver.living.generation());
        match std::mem::replace(&mut driver.phase, Phase::Over) {
            Phase::Asleep { .. } => {
                self.engine.wake(id, generation);
                driver.phase = Phase::Asking;
            }
            Phase::Asking => match self.engine.try_next(id, generation, |_| ()).0 {
                Next::Work(work) => self.begin(at, work),
                Next::Wait { until } => driver.phase = Phase::Asleep { until },
                Next::Over(served) => {
                    driver.living.served(Ok(served));
                    driver.go_on();
                }
                Next::Hold { .. } => unreachable!("it executes one input at a time"),
            },
            Phase::Executing(task) => self.finish(at, task),
            Phase::Over => unreachable!("it is removed"),
        }
    }

    fn begin(&mut self, at: usize, work: Work) {
        let Work { run, lease, previous, .. } = work;
        let Some(active) = run.begin::<u64, u64, u64>() else {
            self.drivers[at].phase = Phase::Asking;
            return;
        };
        let (place, input) = (active.place(), *active.input());
        self.see_accepted();
        if let Some(Previous::TimedOut) = previous {
            assert!(self.records[&input].failures > 0, "{input:x} has not timed out");
        }
        self.execute(at, run, lease, place, input);
    }

    fn execute(&mut self, at: usize, run: Arc<Run>, lease: Lease, place: usize, input: u64) {
        self.see_accepted();
        let now = self.now();
        let driver = &mut self.drivers[at];
        let on = (driver.id, driver.living.generation());
        let record = self.records.get_mut(&input).expect("it was accepted");
        assert!(record.outcomes == 0 || run.is_fenced(), "{input:x} has its outcome, and executes");
        if !run.is_fenced() {
            assert_eq!(record.on, None, "{input:x} executes although its last attempt has not returned");
            record.executions += 1;
            record.time.began = now;
            record.on = Some(on);
        }
        let draw = mix(self.salt, input, u64::from(lease.attempt.get()), 1);
        let act = match draw % 1000 {
            fate if fate < self.hangs => Act::Hang,
            fate if fate < self.hangs + 80 => Act::Fail,
            fate if fate < self.hangs + 110 => Act::Panic,
            _ => Act::Ok,
        };
        let longest = self.longest.as_nanos() as u64;
        let ends = (act != Act::Hang).then(|| now + Duration::from_nanos((draw >> 20) % longest));
        let checks = draw >> 62 == 0;
        driver.phase = Phase::Executing(Task { run, lease, place, input, began: now, ends, act, checks });
    }

    /// The code of a thread returns, panics, or unwinds at a checkpoint.
    fn finish(&mut self, at: usize, task: Task) {
        let now = self.now();
        let Task { run, lease, place, input, ends, act, .. } = task;
        let driver = &mut self.drivers[at];
        let on = (driver.id, driver.living.generation());
        if let Some(record) = self.records.get_mut(&input) {
            record.on = record.on.filter(|of| *of != on);
        }
        let its_own_end = ends.is_some_and(|ends| ends <= now) || self.healed;
        if !its_own_end {
            // A checkpoint unwinds, because the attempt was cut or its generation is over.
            let token = Arc::clone(driver.living.with_current());
            let unwound = token::with_current(Some(token), || contain(token::checkpoint));
            let panic = unwound.expect_err("a checkpoint unwinds out of cut code");
            self.tally.unwound += 1;
            let lived = self.engine.under_lock(|state| state.ledger.is_current(on.0, on.1));
            driver.living.served(Err(panic));
            driver.go_on();
            if lived && !matches!(driver.phase, Phase::Over) {
                let is_new = driver.living.generation() != on.1;
                assert_eq!(
                    is_new, self.enters_anew,
                    "whether an interrupted container builds its state again"
                );
                self.tally.entered_anew += u64::from(is_new);
                self.tally.kept_their_state += u64::from(!is_new);
            }
            return;
        }
        match act {
            Act::Ok | Act::Hang => {
                let mut active = run.active_at::<u64, u64, u64>(place);
                match active.publish(answer(input)) {
                    Err(_) => {
                        self.engine.count_late();
                        self.tally.returned_in_the_grace += 1;
                        driver.phase = Phase::Asking;
                    }
                    Ok(Advance::Next) => {
                        let next = *run.active_at::<u64, u64, u64>(place + 1).input();
                        self.execute(at, run, lease, place + 1, next);
                    }
                    Ok(_) => {
                        let first = run.places().end;
                        self.tally.leases_cut_short += u64::from(place + 1 < first);
                        driver.phase = Phase::Asking;
                    }
                }
            }
            Act::Fail => {
                let error = mix(5, input, u64::from(lease.attempt.get()), 0);
                if !run.is_fenced() {
                    let record = self.records.get_mut(&input).expect("it executes");
                    record.failures += 1;
                    record.time.has_failed(error, now);
                }
                let id = driver.id;
                let mut active = run.active_at::<u64, u64, u64>(place);
                let how = (Retryable::Yes, None);
                let goes_on =
                    self.engine.failed(id.into(), &run, &mut active.at, Why::Error(Box::new(error)), how);
                if goes_on {
                    let next = *run.active_at::<u64, u64, u64>(place + 1).input();
                    return self.execute(at, run, lease, place + 1, next);
                }
                self.drivers[at].phase = Phase::Asking;
            }
            Act::Panic => {
                if !run.is_fenced() {
                    self.records.get_mut(&input).expect("it executes").crashes += 1;
                }
                driver.living.served(Err(panic()));
                driver.go_on();
            }
        }
    }
}

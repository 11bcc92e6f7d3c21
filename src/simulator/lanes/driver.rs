//! The simulated thread of a container with lanes: its futures, and how it looks for work. It does the same
//! as the loop of `engine/concurrent_body.rs`.

use std::sync::Arc;
use std::task::Waker;

use crate::base::ids::{ContainerId, Generation, LaneId};
use crate::base::ready::{LaneWaker, ReadyGroup, ReadyLanes};
use crate::code::token::Token;
use crate::data::run::Run;
use crate::decide::life::{Next, Served};
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, Work, WorkSeeker};
use crate::simulator::readers::Woken;
use crate::simulator::tape::mix;

/// The lease of a lane, and its future.
pub(super) struct Task {
    pub(super) run: Arc<Run>,
    /// The place that executes. `None` until the future was polled once.
    pub(super) place: Option<usize>,
    /// The input at that place.
    pub(super) input: Option<u64>,
    /// When the lane has got its lease.
    pub(super) leased: Time,
    /// When the execution began.
    pub(super) began: Time,
    /// The number of times that the future still waits.
    pub(super) waits: u32,
    /// When its timer wakes it.
    pub(super) wakes_at: Option<Time>,
    /// For how long its last poll is stuck.
    pub(super) stuck_for: Option<std::time::Duration>,
    /// When the attempt was cut at a limit, and whether its input is to be retried.
    pub(super) cut: Option<(Time, bool)>,
}

impl Task {
    pub(super) fn of(run: Arc<Run>, leased: Time) -> Self {
        Self {
            run,
            place: None,
            input: None,
            leased,
            began: leased,
            waits: 0,
            wakes_at: None,
            stuck_for: None,
            cut: None,
        }
    }
}

pub(super) struct SimLane {
    pub(super) waker: Waker,
    pub(super) token: Arc<Token>,
    pub(super) task: Option<Task>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Entering,
    Serving,
    Exiting { recycles: bool },
    Over,
}

/// The thread of a container.
pub(super) struct Driver<'a> {
    pub(super) id: ContainerId,
    pub(super) generation: Generation,
    pub(super) phase: Phase,
    pub(super) token: Arc<Token>,
    pub(super) lanes: Vec<SimLane>,
    free: Vec<u32>,
    /// The lanes that have come back, and that the engine does not know of yet.
    pub(super) back: Vec<(LaneId, Time)>,
    ready: Arc<ReadyLanes>,
    pub(super) taken: Option<ReadyGroup>,
    pub(super) seeker: WorkSeeker<'a>,
    timer: Option<Time>,
    /// The lane in whose code the thread is.
    pub(super) polled: Option<u32>,
    /// The end of a poll that is stuck.
    pub(super) stuck_until: Option<Time>,
    bell: Arc<Woken>,
    waker: Waker,
    sleeps: bool,
    pub(super) recycles: bool,
    /// Whether the last look for work was answered by a hold.
    pub(super) is_on_hold: bool,
}

/// The result of a look for new work.
pub(super) enum Sought {
    Begun(u32, Work),
    Again,
    Nothing,
    Over(Served),
}

impl std::fmt::Debug for Driver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} {:?}, {} free", self.id, self.generation, self.phase, self.free.len())?;
        write!(f, ", on hold: {}, sleeps: {}, until {:?}", self.is_on_hold, self.sleeps, self.timer)?;
        write!(f, ", in lane {:?} until {:?}", self.polled, self.stuck_until)
    }
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        engine: &'a Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
        lanes: u32,
    ) -> Self {
        let (bell, ready) = (Arc::new(Woken::default()), Arc::new(ReadyLanes::new(lanes as usize)));
        let account = engine.open_account().expect("there are accounts enough");
        Self {
            id,
            generation,
            phase: Phase::Entering,
            token: Arc::new(Token::of_no_thread(account)),
            lanes: Vec::new(),
            free: Vec::new(),
            back: Vec::new(),
            seeker: WorkSeeker::new(engine, id, generation).driven_by(&ready),
            ready,
            taken: None,
            timer: None,
            polled: None,
            stuck_until: None,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            sleeps: false,
            recycles: false,
            is_on_hold: false,
        }
    }

    /// Whether the thread has a step to take.
    pub(super) fn runs(&self, now: Time) -> bool {
        if self.stuck_until.is_some_and(|until| until > now) {
            return false;
        }
        !self.sleeps || self.bell.is_set() || self.timer.is_some_and(|at| at <= now)
    }

    /// Whether the container waits for work, and was not called since it has looked for some.
    pub(super) fn still_waits(&self) -> bool {
        self.seeker.still_waits(&self.waker)
    }

    /// When the thread has its next step, if nothing wakes it before.
    pub(super) fn wakes_at(&self) -> Option<Time> {
        let timer = self.timer.filter(|_| self.sleeps);
        let tasks = self.lanes.iter().filter_map(|lane| lane.task.as_ref()?.wakes_at);
        match self.stuck_until {
            Some(until) => Some(until),
            None => tasks.chain(timer).min(),
        }
    }

    /// The timers that are due wake their lanes.
    pub(super) fn time_passes(&mut self, now: Time) {
        for lane in &mut self.lanes {
            let Some(task) = &mut lane.task else { continue };
            if task.wakes_at.is_some_and(|at| at <= now) {
                task.wakes_at = None;
                lane.waker.wake_by_ref();
            }
        }
    }

    /// The thread begins a turn of its task.
    pub(super) fn awakes(&mut self) {
        if self.sleeps {
            self.sleeps = false;
            self.bell.clear();
            self.ready.awakes(&self.waker);
        }
    }

    /// The thread begins to serve.
    pub(super) fn serves(&mut self) {
        self.phase = Phase::Serving;
        self.ready.awakes(&self.waker);
    }

    /// The thread sleeps, unless a lane has become ready.
    pub(super) fn falls_asleep(&mut self) {
        self.sleeps = self.ready.sleeps();
    }

    /// The next lane that is ready and has a lease.
    pub(super) fn next_ready(&mut self) -> Option<u32> {
        loop {
            if self.taken.is_none() {
                self.taken = self.ready.take();
            }
            match self.taken.as_mut()?.next() {
                None => self.taken = None,
                Some(lane) if self.lanes[lane].task.is_some() => return Some(lane as u32),
                Some(_) => {} // its lease has ended since it was woken
            }
        }
    }

    /// Whether each lane has a lease.
    pub(super) fn is_full(&self, lanes: u32) -> bool {
        self.lanes.iter().filter(|lane| lane.task.is_some()).count() == lanes as usize
    }

    /// The inputs that the container executes, by their lanes.
    pub(super) fn executing(&self) -> Vec<(u32, u64)> {
        let executing = self.lanes.iter().enumerate().filter_map(|(lane, sim)| {
            let task = sim.task.as_ref().filter(|task| !task.run.is_fenced())?;
            Some((lane as u32, task.input?))
        });
        executing.collect()
    }

    /// The task of the lane in whose code the thread is, unless it has not begun.
    pub(super) fn in_code(&self) -> Option<(u32, &Task)> {
        let lane = self.polled?;
        let task = self.lanes[lane as usize].task.as_ref().filter(|task| task.input.is_some())?;
        Some((lane, task))
    }

    /// The same as the `seek` of `engine/concurrent_body.rs`.
    pub(super) fn seek(&mut self, engine: &Arc<Dispatch>, lanes: u32, now: Time) -> Sought {
        let is_full = self.free.is_empty() && self.lanes.len() == lanes as usize;
        if self.recycles || is_full {
            self.seeker.stops();
            self.timer = None;
            self.is_on_hold = false;
            self.seeker.returned_all(&mut self.back);
            if self.recycles && self.free.len() == self.lanes.len() {
                self.recycles = false;
                if engine.recycle(self.id, self.generation) {
                    return Sought::Over(Served::Recycles);
                }
                return Sought::Again;
            }
            return Sought::Nothing;
        }
        let lane = self.free.last().copied().unwrap_or_else(|| self.add_lane(engine));
        let due = self.timer.is_some_and(|at| at <= now);
        if !due && self.back.is_empty() && self.seeker.still_waits(&self.waker) {
            return Sought::Nothing;
        }
        self.timer = None;
        self.is_on_hold = false;
        match self.seeker.look(&self.waker, LaneId::new(self.id, lane), &mut self.back) {
            Next::Work(work) => {
                self.free.pop();
                Sought::Begun(lane, work)
            }
            Next::Over(served) => Sought::Over(served),
            Next::Wait { until } => {
                self.timer = until;
                Sought::Nothing
            }
            Next::Hold { until } => {
                self.timer = until;
                self.is_on_hold = true;
                Sought::Nothing
            }
        }
    }

    fn add_lane(&mut self, engine: &Dispatch) -> u32 {
        let lane = self.lanes.len() as u32;
        let token = Arc::new(self.token.of_lane());
        engine.register_lane(LaneId::new(self.id, lane), self.generation, &token);
        self.lanes.push(SimLane { waker: LaneWaker::of(&self.ready, lane as usize), token, task: None });
        self.free.push(lane);
        lane
    }

    /// The code of a lane has unwound, so that it has no lease any more.
    pub(super) fn unwinds(&mut self, lane: u32, now: Time) {
        self.polled = None;
        self.lanes[lane as usize].task = None;
        self.free.push(lane);
        self.seeker.came_back(LaneId::new(self.id, lane), None, now, &mut self.back);
    }

    /// A lane has come back from its run.
    pub(super) fn comes_back(&mut self, lane: u32, now: Time) {
        self.polled = None;
        // One return in this number leaves too many bytes.
        let run = self.lanes[lane as usize].task.take().expect("it had a lease").run;
        self.recycles |= mix(3, run.chunk.first(), u64::from(lane), 0).is_multiple_of(50);
        self.free.push(lane);
        self.seeker.came_back(LaneId::new(self.id, lane), Some(&run), now, &mut self.back);
        // One return in this number is the last poll of a turn.
        if mix(4, now.0.as_nanos() as u64, u64::from(lane), 0).is_multiple_of(5) {
            self.seeker.returned_all(&mut self.back);
        }
    }
}

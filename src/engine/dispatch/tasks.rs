//! Waiting in a task: by async containers, by feeders, and by consumers that are polled.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::base::ids::{ContainerId, Generation, JobId, LaneId};
use crate::base::ready::ReadyLanes;
use crate::data::flow_control::FlowControl;
use crate::data::run::Run;
use crate::decide::ledger::{ContainerStage, Mode};
use crate::decide::life::{Next, Served};
use crate::decide::pacing::{POLL_MAX, POLL_MIN};
use crate::decide::time::Time;
use crate::engine::dispatch::containers::Work;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::map_buffers::MapBuffers;
use crate::engine::messages::Notice;

/// The key under which a feeder waits for room. No other task waits on its job's signal.
pub(super) const FEEDER: u64 = 0;

/// The key under which the task of a container waits. It contains the generation, because a detached task may
/// wait beside its successor.
pub(super) fn key(id: ContainerId, generation: Generation) -> u64 {
    generation.0 << 16 | u64::from(id.0)
}

/// Looks for work in the task of a container, and waits for it. If it is dropped, the container stops
/// waiting.
pub(crate) struct WorkSeeker<'a> {
    dispatch: &'a Dispatch,
    id: ContainerId,
    generation: Generation,
    waits: Waits,
    /// Whether lanes have come back by another way since the last look, so that the container may have to
    /// look again: it may be held until it is empty.
    is_stale: bool,
    /// The other parts of the batch that was found last, if inputs execute in batches.
    beside: Vec<Work>,
    /// The driver of the container's lanes, if it has several.
    driver: Option<Arc<ReadyLanes>>,
}

/// The event for which the task of a container waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The task does not wait.
    No,
    /// The task waits for a moment, or until its own container is signalled.
    Held,
    /// The task also waits for work that any container may take.
    Asleep,
}

impl<'a> WorkSeeker<'a> {
    pub(crate) fn new(dispatch: &'a Dispatch, id: ContainerId, generation: Generation) -> Self {
        Self { dispatch, id, generation, waits: Waits::No, is_stale: false, beside: Vec::new(), driver: None }
    }

    /// The same for a container whose lanes this driver polls.
    pub(crate) fn driven_by(mut self, driver: &Arc<ReadyLanes>) -> Self {
        self.driver = Some(Arc::clone(driver));
        self
    }

    fn key(&self) -> u64 {
        key(self.id, self.generation)
    }

    fn wake(&mut self, state: &mut State) {
        let waits = std::mem::replace(&mut self.waits, Waits::No);
        if waits != Waits::No {
            self.dispatch.work[self.id.index()].forget(self.key());
        }
        if waits == Waits::Asleep {
            state.sleepers.has_woken(self.id, self.generation);
        }
    }

    /// The batch whose first part was found last.
    pub(crate) fn batch(&mut self, first: Work) -> Vec<Work> {
        let mut batch = std::mem::take(&mut self.beside);
        batch.insert(0, first);
        batch
    }

    /// Whether the task of `waker` waits for work, and has not been woken since it began to.
    pub(crate) fn still_waits(&self, waker: &Waker) -> bool {
        let work = &self.dispatch.work[self.id.index()];
        self.waits != Waits::No && !self.is_stale && work.is_registered(self.key(), waker)
    }

    /// Looks for work for `lane`. If there is none, the container waits, and `waker` is woken when it should
    /// look again. It should also look again at the moment that the result names.
    pub(crate) fn look(&mut self, waker: &Waker, lane: LaneId, back: &mut Vec<(LaneId, Time)>) -> Next<Work> {
        let (dispatch, id, generation) = (self.dispatch, self.id, self.generation);
        let mut state = dispatch.lock();
        self.is_stale = false;
        loop {
            self.wake(&mut state);
            let now = dispatch.now();
            dispatch.come_back_all(&mut state, generation, back, now);
            let (next, waits) = match dispatch.assign(&mut state, lane, generation, now) {
                Next::Work(work) if state.ledger.is_batched() => {
                    self.beside.push(work);
                    dispatch.fill(&mut state, id, &mut self.beside);
                    return Next::Work(self.beside.remove(0));
                }
                next @ (Next::Work(_) | Next::Over(_)) => return next,
                Next::Wait { .. } | Next::Hold { .. } if state.flush() => continue,
                Next::Wait { until } => {
                    let until = dispatch.sleeps(&mut state, id, generation, until);
                    state.seats[id.index()].driver.clone_from(&self.driver);
                    (Next::Wait { until }, Waits::Asleep)
                }
                Next::Hold { until } => (Next::Hold { until }, Waits::Held),
            };
            self.waits = waits;
            dispatch.work[id.index()].register(self.key(), waker.clone());
            return next;
        }
    }

    /// Polls for work for `lane`. `back` are the lanes that have come back since the last poll, each with the
    /// moment at which it did. They are taken.
    pub(crate) fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        lane: LaneId,
        back: &mut Vec<(LaneId, Time)>,
        mut timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<Result<Work, Served>> {
        // A wake-up of any task of the container polls this future as well. The lock is taken only if this
        // future was meant.
        let due = timer.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
        if !due && back.is_empty() && self.still_waits(cx.waker()) {
            return Poll::Pending;
        }
        loop {
            let until = match self.look(cx.waker(), lane, back) {
                Next::Work(work) => return Poll::Ready(Ok(work)),
                Next::Over(served) => return Poll::Ready(Err(served)),
                Next::Wait { until } | Next::Hold { until } => until,
            };
            timer.set(until.map(|until| sleep_until(self.dispatch.host.instant(until).into())));
            match timer.as_mut().as_pin_mut().map(|timer| timer.poll(cx)) {
                None | Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(())) => {} // it was due before it was set
            }
        }
    }
}

impl WorkSeeker<'_> {
    /// A lane has come back from its run, or has unwound, and has none any more. The engine learns that at
    /// the next look for work, with all others in `back`. If the lane has unwound, or the run is fenced, it
    /// learns it now: its attempt may have been cut, and the container dies if its code does not return.
    pub(crate) fn came_back(
        &mut self,
        lane: LaneId,
        run: Option<&Run>,
        now: Time,
        back: &mut Vec<(LaneId, Time)>,
    ) {
        back.push((lane, now));
        if run.is_none_or(Run::is_fenced) {
            self.returned_all(back);
        }
    }

    /// Lanes have returned from their runs, and their container does not ask for work yet.
    pub(crate) fn returned_all(&mut self, back: &mut Vec<(LaneId, Time)>) {
        if !back.is_empty() {
            self.dispatch.returned_all(self.generation, back);
            self.is_stale = true;
        }
    }

    /// The container does not wait for work any more.
    pub(crate) fn stops(&mut self) {
        if self.waits != Waits::No {
            let dispatch = self.dispatch;
            let passes_on = self.waits == Waits::Asleep;
            let mut state = dispatch.lock();
            self.wake(&mut state);
            if passes_on {
                dispatch.wake_one(&mut state); // the wake-up is passed on to another container
            }
        }
    }
}

impl Drop for WorkSeeker<'_> {
    fn drop(&mut self) {
        self.stops();
    }
}

impl Dispatch {
    /// The same as [`Dispatch::next`], for a task.
    pub(crate) async fn next_in_task(&self, id: ContainerId, generation: Generation) -> Result<Work, Served> {
        let mut seeker = WorkSeeker::new(self, id, generation);
        let mut timer = pin!(None::<Sleep>);
        let mut back = vec![(id.into(), self.now())];
        poll_fn(|cx| seeker.poll(cx, id.into(), &mut back, timer.as_mut())).await
    }

    /// The same as [`Dispatch::next_batch`], for a task.
    pub(crate) async fn next_batch_in_task(
        &self,
        id: ContainerId,
        generation: Generation,
    ) -> Result<Vec<Work>, Served> {
        let mut seeker = WorkSeeker::new(self, id, generation);
        let mut timer = pin!(None::<Sleep>);
        let mut back = Vec::new(); // a batch has come back before its container asks for the next one
        let first = poll_fn(|cx| seeker.poll(cx, id.into(), &mut back, timer.as_mut())).await?;
        Ok(seeker.batch(first))
    }

    /// Lanes that have come back from their runs give their leases back.
    pub(super) fn come_back_all(
        &self,
        state: &mut State,
        generation: Generation,
        back: &mut Vec<(LaneId, Time)>,
        now: Time,
    ) {
        if state.broken.is_none() {
            for (lane, returned) in &*back {
                self.come_back_at(state, *lane, generation, (*returned, now));
            }
        }
        back.clear();
    }

    /// Lanes have returned from their runs, and their container does not ask for work yet.
    pub(crate) fn returned_all(&self, generation: Generation, back: &mut Vec<(LaneId, Time)>) {
        let mut state = self.lock();
        let now = self.now();
        self.come_back_all(&mut state, generation, back, now);
        self.pass_on(&mut state, now);
    }

    /// The user's `enter` or `exit` waits in a task, which is woken when the generation is over. Returns
    /// `false` if the generation is over already.
    pub(crate) fn suspend(&self, id: ContainerId, generation: Generation, waker: &Waker) -> bool {
        let mut state = self.lock();
        let lives = state.lives(id, generation);
        if lives {
            state.seats[id.index()].suspended = true;
            self.changed.register(key(id, generation), waker.clone());
        }
        lives
    }

    /// The user's `enter` or `exit` goes on. Returns `false` if it may not, because the generation is over.
    pub(crate) fn resume(&self, id: ContainerId, generation: Generation) -> bool {
        let mut state = self.lock();
        let lives = state.lives(id, generation);
        if lives {
            state.seats[id.index()].suspended = false;
        }
        self.changed.forget(key(id, generation));
        lives
    }

    /// The same as [`Dispatch::await_room`], for a task.
    pub(crate) async fn room_in_task(&self, job: JobId, flow: &FlowControl) -> Option<u64> {
        poll_fn(|cx| {
            let state = self.lock();
            match state.room(job, flow) {
                Some(0) => {
                    state
                        .buffers
                        .map(job)
                        .expect("its map is open")
                        .space
                        .register(FEEDER, cx.waker().clone());
                    Poll::Pending
                }
                room => Poll::Ready(room),
            }
        })
        .await
    }

    /// Whether a feeder that waits for its source should go on. Its task is woken when it should not any
    /// more.
    pub(crate) fn is_wanted_by_task(&self, job: JobId, waker: &Waker) -> bool {
        let state = self.lock();
        let Some(buffers) = state.buffers.map(job).filter(|buffers| !buffers.source_over) else {
            return false;
        };
        buffers.space.register(FEEDER, waker.clone());
        state.ledger.mode() == Mode::Running && state.broken.is_none()
    }

    /// Polls for the outcomes of running inputs for which a consumer waits in a task.
    pub(crate) fn tick(&self) -> Tick {
        let mut state = self.lock();
        let now = self.now();
        let waited = state.tasks_waiting();
        if state.broken.is_none() {
            state.commit_all(now);
        }
        let waiting = state.tasks_waiting();
        state.ticking = waiting > 0;
        match waiting {
            0 => Tick::Last,
            _ if waiting < waited => Tick::Found,
            _ => Tick::Nothing,
        }
    }
}

/// The result of a poll for outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tick {
    /// No consumer waits in a task for a run of several inputs.
    Last,
    /// At least one consumer was woken, and others wait.
    Found,
    /// No consumer was woken.
    Nothing,
}

impl Tick {
    /// The time until the next poll, if the pause before this one was `before`. `None` if no consumer waits.
    pub(crate) fn pause(self, before: Duration) -> Option<Duration> {
        match self {
            Self::Last => None,
            Self::Found => Some(POLL_MIN),
            Self::Nothing => Some((before * 2).min(POLL_MAX)),
        }
    }
}

impl State {
    fn lives(&self, id: ContainerId, generation: Generation) -> bool {
        let (current, stage) = self.ledger.stage(id);
        let lives =
            matches!(stage, ContainerStage::Starting | ContainerStage::Live | ContainerStage::Exiting);
        current == generation && lives && self.broken.is_none()
    }

    /// The consumer of a job begins to wait in a task. A run of several inputs announces its outcomes only at
    /// its end, so the supervisor polls now and then while there is such a run.
    pub(super) fn wait_in_task(&mut self, dispatch: &Dispatch, job: JobId, waker: Waker) {
        let buffers = self.buffers.map_mut(job).expect("its consumer keeps it open");
        buffers.awaited = true;
        let before = buffers.waker.replace(waker);
        self.wakers.unused.extend(before);
        if !self.ticking && self.runs_ahead(job) {
            self.begin_to_tick(dispatch);
        }
    }

    /// Whether the consumer of a map waits in a task for outcomes of runs, which announce them only at their
    /// end.
    pub(super) fn has_polling_task(&self, job: JobId) -> bool {
        self.buffers.map(job).is_some_and(MapBuffers::has_polling_task)
    }

    /// Whether a container has a lease of several inputs of the job.
    fn runs_ahead(&self, job: JobId) -> bool {
        self.ledger.ahead_of(job).any(|lane| {
            self.ledger.lease(lane).is_some_and(|lease| lease.span.len > self.ledger.batch_size())
        })
    }

    /// The number of runs of several inputs for whose outcomes a consumer waits in a task.
    fn tasks_waiting(&self) -> usize {
        let waited_for = |id: &LaneId| {
            let lease = self.ledger.lease(*id).filter(|lease| lease.span.len > self.ledger.batch_size());
            lease.is_some_and(|lease| self.has_polling_task(lease.job))
        };
        self.ledger.ahead().filter(waited_for).count()
    }

    pub(super) fn begin_to_tick(&mut self, dispatch: &Dispatch) {
        if dispatch.host.tells_of_each_outcome() {
            return;
        }
        self.ticking = true;
        dispatch.notify(Notice::Awaited);
    }
}

//! Waiting in a task: by async containers, by feeders, and by consumers that are polled.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::base::ids::{ContainerId, Generation, JobId, LaneId};
use crate::data::flow_control::FlowControl;
use crate::decide::ledger::{ContainerStage, Mode};
use crate::decide::life::{Next, Served};
use crate::decide::pacing::{POLL_MAX, POLL_MIN};
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

/// A container whose task waits for work. If the task is dropped, the container stops waiting.
struct Asleep<'a> {
    dispatch: &'a Dispatch,
    id: ContainerId,
    generation: Generation,
    asleep: bool,
}

impl Asleep<'_> {
    fn key(&self) -> u64 {
        key(self.id, self.generation)
    }

    fn wake(&mut self, state: &mut State) {
        if std::mem::take(&mut self.asleep) {
            self.dispatch.work[self.id.index()].forget(self.key());
            state.sleepers.has_woken(self.id, self.generation);
        }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        if self.asleep {
            let dispatch = self.dispatch;
            let mut state = dispatch.lock();
            self.wake(&mut state);
            dispatch.wake_one(&mut state); // the wake-up is passed on to another container
        }
    }
}

impl Dispatch {
    /// The same as [`Dispatch::next`], for a task.
    pub(crate) async fn next_in_task(&self, id: ContainerId, generation: Generation) -> Result<Work, Served> {
        let mut asleep = Asleep { dispatch: self, id, generation, asleep: false };
        let mut timer = pin!(None::<Sleep>);
        let returned = self.now();
        poll_fn(|cx| {
            // A wake-up of any task of the container polls this future as well. The lock is taken only if
            // this future was meant.
            let due = timer.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
            if !due && asleep.asleep && self.work[id.index()].is_registered(asleep.key(), cx.waker()) {
                return Poll::Pending;
            }
            loop {
                let mut state = self.lock();
                asleep.wake(&mut state);
                let until = match self.offer(&mut state, id.into(), generation, returned) {
                    Next::Work(work) => return Poll::Ready(Ok(work)),
                    Next::Over(served) => return Poll::Ready(Err(served)),
                    Next::Wait { .. } | Next::Hold { .. } if state.flush() => continue,
                    Next::Wait { until } | Next::Hold { until } => until,
                };
                let until = self.sleeps(&mut state, id, generation, until);
                asleep.asleep = true;
                self.work[id.index()].register(asleep.key(), cx.waker().clone());
                drop(state);
                timer.set(until.map(|until| sleep_until(self.host.instant(until).into())));
                match timer.as_mut().as_pin_mut().map(|timer| timer.poll(cx)) {
                    None | Some(Poll::Pending) => return Poll::Pending,
                    Some(Poll::Ready(())) => {} // it was due before it was set
                }
            }
        })
        .await
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
        self.ledger.leases_of(job).any(|lane| self.ledger.lease(lane).is_some_and(|lease| lease.span.len > 1))
    }

    /// The number of runs of several inputs for whose outcomes a consumer waits in a task.
    fn tasks_waiting(&self) -> usize {
        let waited_for = |id: &LaneId| {
            let lease = self.ledger.lease(*id).filter(|lease| lease.span.len > 1);
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

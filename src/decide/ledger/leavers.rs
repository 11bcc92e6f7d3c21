//! Code that was cut at a limit, and has not returned. Its input waits for it, and its container may die.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, InputId, LaneId};
use crate::decide::job::{OnFailure, Waits};
use crate::decide::ledger::lane::LaneLimit;
use crate::decide::ledger::{AfterCrash, Change, ContainerStage, Leaving, Ledger, Scene};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::Crash;

/// The time that code has to return after its limit. The contract names it.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// An attempt that was cut at a limit, and whose code has not returned. Code returns by an unwind or by the
/// drop of its future as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaver {
    /// The moment of the next look.
    pub(super) at: Time,
    /// The input, if it is to be executed again, and the moment at which its retry is due.
    pub(super) retry: Option<(InputId, Time)>,
    /// Whether the code was given more time, because it was seen to unwind.
    pub(super) extended: bool,
}

impl Ledger {
    /// The code of a lane has returned. An input that waited for that now waits for its retry.
    pub(crate) fn came_out(&mut self, id: LaneId) {
        if !self.limits.is_used {
            return;
        }
        if let LaneLimit::Leaving(Leaver { at, retry, .. }) = self.limit_of(id) {
            self.set_limit(id, LaneLimit::None);
            self.limits.lanes.remove(&(at, id));
            let hung = self.change(id.container, |container| container.hung.take());
            let container = &self.containers[id.container.index()];
            let hung = hung.filter(|_| container.stage == ContainerStage::Live);
            let (container, generation) = (id.container, container.generation);
            self.changes.extend(hung.map(|since| Change::HangEnded { container, generation, since }));
            if let Some((input, due)) = retry {
                self.await_retry(input, due);
            }
            self.batch_came_out(id.container);
        }
    }

    /// A container has ended, so that its code holds no input back any more.
    pub(super) fn all_came_out(&mut self, id: ContainerId) {
        if !self.limits.is_used {
            return;
        }
        if let Some(at) = self.containers[id.index()].enter_due.take() {
            self.limits.enters.remove(&(at, id));
        }
        for lane in 0..self.containers[id.index()].lanes.len() {
            steps::step();
            self.came_out(LaneId::new(id, lane as u32));
        }
    }

    fn await_retry(&mut self, input: InputId, due: Time) {
        let record = self.jobs.get_mut(&input.job).and_then(|job| job.record_mut(input.index));
        let Some(record) = record.filter(|record| record.waits == Some(Waits::Leaving)) else {
            return; // it was cancelled, or its deadline has passed
        };
        record.waits = Some(Waits::Retry(due));
        if record.abandoned > 0 {
            self.left_a_thread.insert(input);
        }
        self.queue_retry(due, input);
    }

    /// The thread of a container is left behind in the code of the scene's culprit. If that is an attempt
    /// that was cut, its input has left a thread behind. An input that has left too many ends.
    pub(super) fn is_left_behind(&mut self, scene: &Scene, leaving: Leaving) -> Option<AfterCrash> {
        let limit = self.limit_of(scene.culprit?);
        let LaneLimit::Leaving(Leaver { retry: Some((input, _)), .. }) = limit else { return None };
        let record = self.jobs.get_mut(&input.job)?.record_mut(input.index)?;
        if record.waits != Some(Waits::Leaving) || !record.is_abandoned_for_good(leaving) {
            return None;
        }
        record.waits = None;
        Some(self.end_timed_out(input))
    }

    /// A container has died. If that counted towards the restart policy, it did so for the attempt that was
    /// cut and in whose code the thread was.
    pub(super) fn leaver_counts(&mut self, scene: &Scene, counted: bool, now: Time) {
        let Some(lane) = scene.culprit.filter(|_| counted) else { return };
        if let LaneLimit::Leaving(Leaver { retry: Some((input, _)), .. }) = self.limit_of(lane)
            && let Some(record) = self.jobs.get_mut(&input.job).and_then(|job| job.record_mut(input.index))
        {
            record.counted = Some(now);
        }
    }

    /// Ends an input that is not executed again after a timeout, because it has left too many threads behind.
    pub(super) fn end_timed_out(&mut self, input: InputId) -> AfterCrash {
        let limit = self.timeout_of(input.job).unwrap_or_default();
        let job = self.jobs.get_mut(&input.job).expect("an input without outcome is of an open job");
        let record = job.take_record(input.index).expect("it was executed before");
        let attempts = Attempt(record.attempt().0 - 1); // those that were begun
        let ends_map = job.on_failure() == OnFailure::EndMap;
        self.ends_as_failed(input);
        AfterCrash::TimedOut { input, attempts, deaths: record.deaths, limit, ends_map }
    }

    /// The code of a lane gets more time to return. `hung` says that no thread may be left behind any more,
    /// so that its container is kept although it hangs. Returns whether the container hangs since now.
    pub(crate) fn stays(&mut self, id: LaneId, hung: bool, now: Time) -> bool {
        let LaneLimit::Leaving(leaver) = self.limit_of(id) else { return false };
        let before = self.containers[id.container.index()].hung;
        self.change(id.container, |container| container.hung = hung.then(|| before.unwrap_or(now)));
        self.look_at(id, LaneLimit::Leaving(Leaver { at: now + GRACE, extended: true, ..leaver }));
        hung && before.is_none()
    }

    /// Gives up if the function may, because every container that is left hangs and none can be created.
    /// Returns whether it gave up.
    pub(crate) fn give_up_if_all_hang(&mut self, crash: &Arc<Crash>) -> bool {
        let gives_up = self.gives_up_hanging();
        if gives_up {
            self.give_up(Arc::clone(crash));
        }
        gives_up
    }

    /// Whether the function gives up because every container that is left hangs.
    pub(crate) fn gives_up_hanging(&self) -> bool {
        self.goes_on() && self.is_deserted()
    }

    /// Whether a container lives, or is about to on the thread that it has, and does not hang.
    pub(crate) fn has_server(&self) -> bool {
        self.serving() > 0
    }

    /// The number of containers that hang and are kept.
    pub(crate) fn hung(&self) -> usize {
        if !self.limits.is_used {
            return 0;
        }
        self.containers.iter().map(steps::each).filter(|container| container.hung.is_some()).count()
    }
}

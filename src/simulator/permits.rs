//! Users that reserve a place for a call, wait for one, use it, or go away with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::decide::job::JobKind;
use crate::decide::ledger::Mode;
use crate::engine::dispatch::{ReservedPlace, Reserving};
use crate::simulator::course::Course;
use crate::simulator::model::{InputModel, JobModel};
use crate::simulator::readers::Woken;
use crate::simulator::world::World;
use crate::values::error::ReserveError;

/// A user that waits for a place.
struct Queued {
    future: Pin<Box<Reserving>>,
    woken: Arc<Woken>,
}

/// The places that users hold, and the users that wait for one, in the order in which they began to wait.
#[derive(Default)]
pub(super) struct Permits {
    held: Vec<ReservedPlace>,
    line: Vec<Queued>,
}

impl World {
    /// Does something with a place.
    pub(super) fn someone_reserves(&mut self) {
        match self.tape.pick(6) {
            0 => self.queue_up(),
            1 => self.try_reserve(),
            2 => self.take_granted(),
            3 => {
                let at = self.tape.pick(self.permits.held.len());
                if at < self.permits.held.len() {
                    let place = self.permits.held.swap_remove(at);
                    self.log(|| "use a place".to_owned());
                    self.open_call_in(Some(place));
                }
            }
            4 => {
                self.log(|| "give a place back".to_owned());
                let at = self.tape.pick(self.permits.held.len());
                drop((at < self.permits.held.len()).then(|| self.permits.held.swap_remove(at)));
            }
            _ => {
                self.log(|| "leave the line".to_owned());
                let at = self.tape.pick(self.permits.line.len());
                if at < self.permits.line.len() {
                    let granted = self.permits.line[at].woken.is_set();
                    self.tally.granted_places_left += u64::from(granted && self.takes_work());
                    drop(self.permits.line.remove(at));
                }
            }
        }
    }

    fn takes_work(&self) -> bool {
        self.model.mode == Mode::Running && !self.model.gave_up
    }

    /// The free places, and those who wait for one, as the engine sees them.
    fn room(&self) -> (u64, u64) {
        self.engine.under_lock(|state| {
            let admission = state.ledger.admission();
            (admission.max() - admission.calls() - admission.permits(), admission.waiting())
        })
    }

    fn try_reserve(&mut self) {
        self.log(|| "try to reserve".to_owned());
        let (room, _) = self.room();
        match self.engine.try_reserve() {
            Ok(place) => {
                assert!(room > 0 && self.takes_work(), "a place was given that there is not");
                self.permits.held.push(place);
            }
            Err(ReserveError::Overloaded { calls, max }) => {
                assert_eq!((room, calls, max), (0, max, self.plan.rules.calls_max), "there was room");
                assert!(self.takes_work());
            }
            Err(_) => assert!(!self.takes_work(), "a place was refused"),
        }
    }

    fn queue_up(&mut self) {
        self.log(|| "wait for a place".to_owned());
        let (room, _) = self.room();
        let future = Box::pin(Reserving::new(&self.engine));
        let mut queued = Queued { future, woken: Arc::default() };
        match queued.poll() {
            Poll::Ready(Ok(place)) => {
                assert!(room > 0, "a place was given that there is not");
                self.permits.held.push(place);
            }
            Poll::Ready(Err(_)) => assert!(!self.takes_work(), "a place was refused"),
            Poll::Pending => {
                assert_eq!(room, 0, "there was room");
                self.tally.waits_for_a_place += 1;
                self.permits.line.push(queued);
            }
        }
    }

    /// The first one that was woken takes what it was granted.
    fn take_granted(&mut self) {
        let Some(at) = self.permits.line.iter().position(|queued| queued.woken.is_set()) else { return };
        self.log(|| "take the granted place".to_owned());
        let mut queued = self.permits.line.remove(at);
        match queued.poll() {
            Poll::Ready(Ok(place)) => {
                assert_eq!(at, 0, "one that has waited longer was passed over");
                self.permits.held.push(place);
            }
            Poll::Ready(Err(_)) => assert!(!self.takes_work(), "a place was refused"),
            // The function gave up, and was reset before this one looked.
            Poll::Pending => self.permits.line.insert(at, queued),
        }
    }

    /// Checks that no room is lost, and that places are granted in turn.
    pub(super) fn check_places(&self) {
        if self.permits.line.is_empty() {
            return;
        }
        let (room, waiting) = self.room();
        if !self.takes_work() {
            let asleep = self.permits.line.iter().any(|queued| !queued.woken.is_set());
            return assert!(!asleep, "one waits for a place that never comes");
        }
        assert!(room == 0 || waiting == 0, "{waiting} wait although {room} places are free");
    }

    /// Checks the numbers of calls and places. The engine has just committed everything.
    pub(super) fn check_calls(&self) {
        let calls = self.engine.under_lock(|state| state.call_counts());
        let is_pending =
            |job: &&JobModel| job.kind == JobKind::Call && job.inputs.iter().any(InputModel::is_pending);
        let pending = self.model.jobs.values().filter(is_pending).count() as u64;
        assert_eq!(calls.pending, pending, "status: calls without an outcome");
        assert!(calls.pending + calls.permits <= calls.max, "status: {calls:?}");
        assert_eq!(calls.overloaded, self.tally.overloaded, "status: calls that were refused");
    }

    /// All who wait for a place go away, and all places come back.
    pub(super) fn give_places_back(&mut self) {
        self.permits = Permits::default();
    }
}

impl Queued {
    fn poll(&mut self) -> Poll<Result<ReservedPlace, ReserveError>> {
        self.woken.clear();
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

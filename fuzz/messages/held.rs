//! The maps and calls that a story's user holds: they have begun and are not over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::executor::block_on;
use futures::task::noop_waker_ref;
use futures::{FutureExt, Stream, StreamExt};
use longshore::{AbortHandle, Call, Cause, Map, Outcomes, Progress};

use crate::judge::{Course, judge_failure, judge_output};
use crate::start::retries;
use crate::story::{Failures, Limits, MapSpec};
use crate::values::{Outcome, Output, Ticket, World, Wrong, armed};

/// A map that the user holds.
pub(crate) struct HeldMap {
    course: Course,
    taken: Taken,
    abort: AbortHandle,
}

enum Taken {
    Blocking(Outcomes<Ticket, Output, Wrong>),
    Stream(Map<Ticket, Output, Wrong>),
}

/// Whether a map may have further outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Maybe,
    No,
}

impl HeldMap {
    pub(crate) fn new(map: Map<Ticket, Output, Wrong>, course: Course, stream: bool) -> Self {
        let abort = map.abort_handle();
        let taken = if stream { Taken::Stream(map) } else { Taken::Blocking(map.into_iter()) };
        Self { course, taken, abort }
    }

    /// Waits for the next outcome.
    pub(crate) fn pull(&mut self) -> More {
        let outcome = armed(|| match &mut self.taken {
            Taken::Blocking(outcomes) => outcomes.next(),
            Taken::Stream(map) => block_on(map.next()),
        });
        self.give(outcome)
    }

    /// Polls for the next outcome.
    pub(crate) fn poll(&mut self) -> More {
        let Taken::Stream(map) = &mut self.taken else { return self.pull() };
        let polled = armed(|| Pin::new(map).poll_next(&mut Context::from_waker(noop_waker_ref())));
        match polled {
            Poll::Pending => More::Maybe,
            Poll::Ready(outcome) => self.give(outcome),
        }
    }

    fn give(&mut self, outcome: Option<Outcome>) -> More {
        let Some(outcome) = outcome else {
            self.course.end(self.progress());
            let again = match &mut self.taken {
                Taken::Blocking(outcomes) => outcomes.next(),
                Taken::Stream(map) => block_on(map.next()),
            };
            assert!(again.is_none(), "an outcome after the end");
            return More::No;
        };
        self.course.give(&outcome);
        drop_outcome(outcome);
        More::Maybe
    }

    pub(crate) fn progress(&self) -> Progress {
        match &self.taken {
            Taken::Blocking(outcomes) => outcomes.progress(),
            Taken::Stream(map) => map.progress(),
        }
    }

    pub(crate) fn abort(&mut self) {
        self.course.disturbed = true;
        armed(|| self.abort.abort());
    }

    pub(crate) fn salvage(mut self) {
        let saved = armed(|| match self.taken {
            Taken::Blocking(outcomes) => outcomes.salvage(),
            Taken::Stream(map) => map.salvage(),
        });
        self.course.salvage(&saved);
    }

    pub(crate) fn cancel(self) {
        armed(|| drop(self.taken));
    }
}

/// The map with the settings of its spec.
pub(crate) fn set(map: Map<Ticket, Output, Wrong>, spec: MapSpec) -> Map<Ticket, Output, Wrong> {
    let map = if spec.unordered { map.unordered() } else { map };
    let map = match spec.failures {
        Failures::EndMap => map,
        Failures::EndMapInOrder => map.fail_in_order(),
        Failures::Yield => map.return_exceptions(),
    };
    let map = match spec.window {
        Some(window) => map.window(u64::from(window)),
        None => map,
    };
    let map = match spec.retries {
        Some(times) => map.retries(retries(times)),
        None => map,
    };
    let map = match spec.limits.timeout.length() {
        Some(limit) => map.timeout(limit),
        None => map,
    };
    match spec.limits.deadline.length() {
        Some(limit) => map.deadline(limit),
        None => map,
    }
}

/// Takes all held maps and calls to their ends.
pub(crate) fn finish(world: &Arc<World>, maps: &mut Vec<HeldMap>, calls: &mut Vec<HeldCall>) {
    for mut map in maps.drain(..) {
        while map.pull() == More::Maybe {}
        map.cancel();
    }
    for (at, call) in calls.drain(..).enumerate() {
        call.finish(world, at % 2 == 1);
    }
}

/// Drops an outcome. An output that the user drops does not panic. A failure drops its values inside the
/// engine, which must contain their panics.
pub(crate) fn drop_outcome(outcome: Outcome) {
    match outcome {
        Ok(output) => drop(output),
        Err(failure) => armed(|| drop(failure)),
    }
}

/// A call that the user holds.
pub(crate) struct HeldCall {
    call: Call<Ticket, Output, Wrong>,
    limits: Limits,
    aborted: bool,
}

impl HeldCall {
    pub(crate) fn new(call: Call<Ticket, Output, Wrong>, limits: Limits) -> Self {
        Self { call, limits, aborted: false }
    }

    /// Waits for a moment, and gives the call back if it has no outcome yet.
    pub(crate) fn wait_timeout(self, world: &Arc<World>, limit: Duration) -> Option<Self> {
        let Self { call, limits, aborted } = self;
        match armed(|| call.wait_timeout(limit)) {
            Ok(outcome) => judge_call(world, outcome, limits, aborted),
            Err(call) => return Some(Self { call, limits, aborted }),
        }
        None
    }

    /// Lets the call go on alone. Its outcome is dropped.
    pub(crate) fn detach(self, world: &Arc<World>) {
        if let Err(failure) = armed(|| self.call.detach()) {
            judge_call(world, Err(failure), self.limits, self.aborted);
        }
    }

    pub(crate) fn abort(&mut self) {
        self.aborted = true;
        armed(|| self.call.abort_handle().abort());
    }

    /// Polls the call, and gives it back if it has no outcome yet.
    pub(crate) fn poll(mut self, world: &Arc<World>) -> Option<Self> {
        match armed(|| self.call.poll_unpin(&mut Context::from_waker(noop_waker_ref()))) {
            Poll::Pending => return Some(self),
            Poll::Ready(outcome) => judge_call(world, outcome, self.limits, self.aborted),
        }
        None
    }

    pub(crate) fn finish(self, world: &Arc<World>, awaited: bool) {
        let outcome = armed(|| if awaited { block_on(self.call) } else { self.call.wait() });
        judge_call(world, outcome, self.limits, self.aborted);
    }

    pub(crate) fn cancel(self) {
        armed(|| drop(self.call));
    }
}

/// Judges the outcome of a call, whether it was made by method or by message.
pub(crate) fn judge_call(world: &Arc<World>, outcome: Outcome, limits: Limits, aborted: bool) {
    match &outcome {
        Ok(output) => judge_output(world, &output.record, None),
        Err(failure) => {
            let number = judge_failure(world, failure, None, limits);
            if matches!(failure.cause(), Cause::Config(_)) {
                assert!(limits.is_refused(), "{failure:?}");
            }
            assert_eq!(number, Some(0), "a call has one input: {failure:?}");
            assert!(
                aborted || !matches!(failure.cause(), Cause::Cancelled),
                "the call was not aborted: {failure:?}"
            );
        }
    }
    drop_outcome(outcome);
}

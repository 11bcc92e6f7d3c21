//! How inputs and jobs end that do not simply complete.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::decide::ids::{ContainerId, InputId, JobId};
use crate::decide::job::{JobKind, OnFailure, Span};
use crate::decide::ledger::{Mode, Position, Sources, Unrun};
use crate::decide::time::Time;
use crate::engine::chunk::{Chunk, Reclaimed, Slot};
use crate::engine::dispatch::State;
use crate::engine::lane::{Lane, Supply};
use crate::failure::{Bug, Cause, Failure, Tried};

impl<I, O, E> State<I, O, E> {
    /// Books what a container has completed, and tells the consumer.
    pub(super) fn book(&mut self, id: ContainerId, now: Time) {
        if let Some(run) = &self.runs[id.index()] {
            self.book_to(id, run.completed_to(), now);
        }
    }

    fn book_to(&mut self, id: ContainerId, upto: u64, now: Time) {
        if self.broken.is_some() {
            return; // the books are not to be trusted any more
        }
        if let Some((job, span)) = self.ledger.advanced(id, upto, now)
            && let Some(lane) = self.lanes.0.get_mut(&job)
        {
            lane.booked(upto - 1);
            let pending = self.ledger.job(job).map_or(0, |job| job.counts.pending());
            self.wakers.woken.extend(lane.finished(span, pending, Some(now)));
        }
    }

    /// Books what all containers have completed, so that a verdict is exact.
    pub(super) fn book_all(&mut self, now: Time) {
        for id in self.ledger.containers() {
            self.book(id, now);
        }
    }

    /// Ends a container's run from outside. The input that executes may be read on.
    pub(super) fn fence(&mut self, id: ContainerId, now: Time) -> Option<Position> {
        let run = Arc::clone(self.runs[id.index()].as_ref()?);
        let position = run.fence();
        self.suspended[id.index()] = run.is_suspended();
        run.wake();
        if position.begun {
            run.chunk.share((position.at - run.chunk.first()) as usize);
        }
        // Up to there, and no further: the thread may have moved on since, in vain.
        self.book_to(id, position.at, now);
        self.runs[id.index()] = None;
        self.spent.push(run);
        Some(position)
    }

    /// Publishes the failure of an input that nothing executes any more.
    pub(super) fn publish_failure(&mut self, job: JobId, index: u64, tried: Tried, cause: Cause<E>) {
        let Some(lane) = self.lanes.0.get_mut(&job) else { return };
        let chunk = Arc::clone(lane.chunk(index).expect("an input without outcome is in its chunk"));
        let place = (index - chunk.first()) as usize;
        let (input, slot) = reclaim(&chunk, place);
        slot.publish(Err(Failure::of_input(index, input, tried, cause)));
        let pending = self.ledger.job(job).map_or(0, |job| job.counts.pending());
        self.wakers.woken.extend(lane.finished(Span { first: index, len: 1 }, pending, None));
    }

    /// An input failed for good: its outcome, or the end of its map.
    pub(super) fn fail(&mut self, input: InputId, tried: Tried, cause: Cause<E>, ends_map: bool, now: Time) {
        if !ends_map {
            return self.publish_failure(input.job, input.index, tried, cause);
        }
        let Some(lane) = self.lanes.0.get_mut(&input.job) else { return };
        let chunk = lane.chunk(input.index).expect("an input without outcome is in its chunk");
        let (given, _) = reclaim(chunk, (input.index - chunk.first()) as usize);
        let failure = Failure::of_input(input.index, given, tried, cause);
        lane.gap_at(input.index);
        self.end_job(input.job, Unrun::Cancelled, None, Some(failure), now);
    }

    /// Ends a job: fences its runs, gives each pending input `cause` as its outcome (or none), and
    /// leaves `error` to be yielded behind what there is. Returns how many inputs were pending.
    pub(super) fn end_job(
        &mut self,
        job: JobId,
        how: Unrun,
        cause: Option<&dyn Fn() -> Cause<E>>,
        error: Option<Failure<I, E>>,
        now: Time,
    ) -> u64 {
        let mut begun = Vec::new();
        for id in self.ledger.containers() {
            if self.ledger.lease(id).is_some_and(|lease| lease.job == job) {
                let position = self.fence(id, now);
                begun.extend(position.filter(|position| position.begun).map(|position| position.at));
                self.ledger.recalled(id, position, now);
            }
        }
        self.absorb(job);
        let ended = self.end_pending(job, how, cause, &begun);
        if let Some(lane) = self.lanes.0.get_mut(&job) {
            let (supply, unseen) = lane.end_with(error);
            self.supplies.push(supply);
            self.failures.extend(unseen);
            self.wakers.woken.extend(lane.wake());
        }
        ended
    }

    /// Ends what is accepted of a job and in no lease: each input gets `cause` as its outcome, or
    /// none. `begun` were executing until now. Returns how many there were.
    pub(super) fn end_pending(
        &mut self,
        job: JobId,
        how: Unrun,
        cause: Option<&dyn Fn() -> Cause<E>>,
        begun: &[u64],
    ) -> u64 {
        let mut ended = 0;
        for span in self.ledger.take_pending(job) {
            ended += span.len;
            let Some(cause) = cause else {
                if let Some(lane) = self.lanes.0.get_mut(&job) {
                    lane.gap_at(span.first);
                }
                continue;
            };
            for index in span.indices() {
                let before = self.ledger.job(job).map_or(0, |job| job.attempt(index).get() - 1);
                let attempts = before + u32::from(begun.contains(&index));
                self.publish_failure(job, index, attempts.into(), cause());
            }
        }
        self.ledger.ended(job, how, ended);
        ended
    }

    /// Takes what a feeder has pulled into the books.
    pub(super) fn absorb(&mut self, job: JobId) {
        let Some(known) = self.ledger.job(job) else { return };
        let first = known.counts.pulled;
        let Some(lane) = self.lanes.0.get(&job) else { return };
        if matches!(lane.supply, Supply::Fed(_)) {
            lane.close_pool();
            let pulled = self.lanes.pull(job, first, u64::MAX);
            self.ledger.accept(job, pulled);
        }
    }

    /// Ends every job with `cause`: outcome by outcome where the map goes on after failures.
    pub(super) fn end_all(&mut self, how: Unrun, cause: &dyn Fn() -> Cause<E>, now: Time) {
        self.book_all(now); // a job whose inputs have all completed is not ended
        for job in self.ledger.job_ids() {
            let over = self.lanes.0.get(&job).is_none_or(Lane::is_dry);
            let known = self.ledger.job(job).expect("just listed");
            if over && known.counts.pending() == 0 {
                continue;
            }
            let publish = known.on_failure == OnFailure::GoOn;
            let error = (known.kind == JobKind::Map).then(|| Failure::of_map(cause()));
            let ended = self.end_job(job, how, publish.then_some(cause), error, now);
            if how == Unrun::Cancelled {
                self.leftovers.add(ended, publish);
            }
        }
    }

    /// While the function stops: what is not executing does not begin any more.
    pub(super) fn sweep(&mut self, now: Time) {
        if self.ledger.mode() != Mode::Stopping {
            return;
        }
        for id in self.ledger.containers() {
            if let Some(run) = self.runs[id.index()].clone() {
                let end = run.truncate(run.chunk.first());
                self.book(id, now);
                self.ledger.truncated(id, end);
            }
        }
        for job in self.ledger.job_ids() {
            self.absorb(job);
            let known = self.ledger.job(job).expect("just listed");
            let (publish, is_map) = (known.on_failure == OnFailure::GoOn, known.kind == JobKind::Map);
            let cause: &dyn Fn() -> Cause<E> = &|| Cause::ShutDown;
            let ended = self.end_pending(job, Unrun::Cancelled, publish.then_some(cause), &[]);
            self.leftovers.add(ended, publish);
            let Some(lane) = self.lanes.0.get_mut(&job) else { continue };
            let cut_short = !lane.source_over || ended > 0;
            let error = (is_map && cut_short).then(|| Failure::of_map(Cause::ShutDown));
            let (supply, unseen) = lane.end_with(error);
            self.supplies.push(supply);
            self.failures.extend(unseen);
            self.wakers.woken.extend(lane.wake());
        }
    }

    pub(super) fn break_down(&mut self, why: &str) {
        if self.broken.is_none() {
            self.broken = Some(Bug(why.into()));
        }
        // A future that waits for ever would never see that it is over.
        for run in self.runs.iter_mut().filter_map(Option::take) {
            let position = run.fence();
            if position.begun {
                run.chunk.share((position.at - run.chunk.first()) as usize);
            }
            run.wake();
            self.spent.push(run);
        }
        for lane in self.lanes.0.values_mut() {
            lane.awaited = true;
            self.wakers.woken.extend(lane.wake());
            lane.space.notify_all();
        }
    }

    /// Sets each lane's window anew from what its inputs cost.
    pub(super) fn refresh_window(&self, job: JobId) {
        if let Some(lane) = self.lanes.0.get(&job) {
            lane.gate.window.store(self.ledger.window(job), Ordering::SeqCst);
            lane.gate.refill.store(self.ledger.refill(job), Ordering::SeqCst);
        }
    }
}

/// The input of a failure, and the right to publish that. Callers hold the lock, and no attempt at it is in
/// the books.
#[expect(unsafe_code, reason = "moves an input out of its chunk")]
fn reclaim<I, T>(chunk: &Chunk<I, T>, place: usize) -> (Reclaimed<I>, Slot<'_, I, T>) {
    // SAFETY: the input's outcome is being decided under the lock, once. Its last attempt has
    // returned or unwound, never began, or was fenced, and then it is marked as shared.
    unsafe { chunk.reclaim(place) }
}

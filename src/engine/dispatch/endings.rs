//! The endings of inputs and jobs, other than the publication of an outcome by a container's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{ContainerId, InputId, JobId, LaneId};
use crate::data::failure::{Bug, Reason, Tried};
use crate::data::shape::Why;
use crate::decide::job::{JobKind, OnFailure, Span};
use crate::decide::ledger::{Mode, Position, Unrun};
use crate::decide::time::Time;
use crate::engine::dispatch::State;
use crate::engine::job_buffers::JobBuffers;
use crate::engine::map_buffers::JobSource;
use crate::engine::map_end::MapEnd;

/// The number of failures that are made while the lock is held once, because each of them needs an
/// allocation.
const FAILURES_MAX: u64 = 256;
/// The reason with which a function breaks down if it can fence no run.
pub(super) const REFUSED: &str = "the system refuses a barrier that it has granted before";

impl State {
    /// Commits the inputs that a lane has completed, and wakes the consumer.
    pub(super) fn commit(&mut self, id: LaneId, now: Time) {
        if let Some(run) = self.run(id) {
            let upto = run.completed_to();
            self.commit_to(id, upto, now);
        }
    }

    fn commit_to(&mut self, id: LaneId, upto: u64, now: Time) {
        if self.broken.is_some() {
            return; // the ledger cannot be trusted any more
        }
        let Some((job, span)) = self.ledger.advanced(id, upto, now) else { return };
        self.outlives(id.container);
        if let Some(buffers) = self.buffers.get_mut(job) {
            buffers.committed(upto - 1);
            self.last_errors.forget(InputId { job, index: span.first });
            let pending = self.ledger.job(job).map_or(0, |job| job.counts().pending());
            self.wakers.woken.extend(buffers.finished(span, pending, Some(now)));
        }
    }

    /// Commits the inputs that all containers have completed.
    pub(super) fn commit_all(&mut self, now: Time) {
        let leased: Vec<LaneId> = self.ledger.leased().collect();
        leased.into_iter().for_each(|id| self.commit(id, now));
    }

    /// Commits everything that the verdict on the death of a container depends on.
    pub(super) fn commit_for_verdict(&mut self, id: ContainerId, now: Time) {
        let leased: Vec<LaneId> = self.ledger.leased_by(id).collect();
        leased.into_iter().for_each(|lane| self.commit(lane, now));
        if self.ledger.verdict_depends_on_others(now) {
            self.commit_all(now);
        }
    }

    /// Commits the inputs that the containers with a lease of `job` have completed.
    pub(super) fn commit_job(&mut self, job: JobId, now: Time) {
        let leased: Vec<LaneId> = self.ledger.leases_of(job).collect();
        leased.into_iter().for_each(|lane| self.commit(lane, now));
    }

    /// Commits the inputs that the containers with a lease of several inputs have completed.
    pub(super) fn commit_ahead(&mut self, now: Time) {
        let ahead: Vec<LaneId> = self.ledger.ahead().collect();
        ahead.into_iter().for_each(|id| self.commit(id, now));
    }

    /// Commits the inputs that the containers with a lease of several inputs of `job` have completed.
    pub(super) fn commit_ahead_of(&mut self, job: JobId, now: Time) {
        let ahead: Vec<LaneId> = self.ledger.ahead_of(job).collect();
        ahead.into_iter().for_each(|id| self.commit(id, now));
    }

    /// Commits what the verdict on a crash in one lane depends on. The lanes of its container that have come
    /// back are committed already.
    pub(super) fn commit_for_lane(&mut self, lane: LaneId, now: Time) {
        let ahead: Vec<LaneId> = self.ledger.ahead_in(lane.container).collect();
        ahead.into_iter().for_each(|id| self.commit(id, now));
        self.commit(lane, now);
        if self.ledger.verdict_depends_on_others(now) {
            self.commit_all(now);
        }
    }

    /// Ends the run of a lane from outside. The thread may go on reading the input that it executes. Returns
    /// `None` if there is no run, or if the function is broken.
    pub(super) fn fence(&mut self, id: LaneId, now: Time) -> Option<Position> {
        let run = Arc::clone(self.run(id)?);
        let Some(position) = run.fence() else {
            self.break_down(REFUSED);
            return None;
        };
        self.sees_suspension(id, run.is_suspended());
        run.wake();
        run.executing_places(position).for_each(|place| run.chunk.share(place));
        // Commits only up to the fence. The thread may have advanced past it, but cannot publish any outcome
        // there.
        self.commit_to(id, position.at, now);
        self.lane_mut(id).run = None;
        self.spent.push(run);
        Some(position)
    }

    /// Moves an input that will be executed again out of its chunk, so that a long wait does not keep the
    /// whole chunk.
    pub(super) fn move_out(&mut self, input: InputId) {
        let used_up = self.buffers.get_mut(input.job).and_then(|buffers| buffers.move_out(input.index));
        self.used_up.extend(used_up);
    }

    /// Publishes the failure of an input that no thread executes any more.
    pub(super) fn publish_failure(&mut self, job: JobId, index: u64, tried: Tried, why: Why) {
        if self.broken.is_some() {
            return; // a thread may still execute the input
        }
        if self.buffers.get(job).is_some() {
            self.write_failure(job, index, tried, why);
            self.notify_finished(job, Span { first: index, len: 1 });
        }
    }

    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    fn write_failure(&mut self, job: JobId, index: u64, tried: Tried, why: Why) {
        let input = InputId { job, index };
        let why = self.with_last_error(input, why);
        let chunk = self.buffers.chunk(input).expect("an input without outcome is in its chunk");
        // SAFETY: the input's outcome is decided once, under the lock, and the ledger holds no attempt at it.
        // Its last attempt has returned or unwound, never began, or was fenced. If it was fenced, the input
        // is marked as shared.
        unsafe { chunk.fail((index - chunk.first()) as usize, tried, why) };
    }

    /// Records that the inputs of `span` have outcomes that no container's thread publishes, and wakes the
    /// consumer.
    fn notify_finished(&mut self, job: JobId, span: Span) {
        let pending = self.ledger.job(job).map_or(0, |job| job.counts().pending());
        if let Some(buffers) = self.buffers.get_mut(job) {
            self.wakers.woken.extend(buffers.finished(span, pending, None));
        }
    }

    /// Publishes the final failure of an input as its outcome, or ends its map with it.
    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    pub(super) fn fail(&mut self, input: InputId, tried: Tried, why: Why, ends_map: bool, now: Time) {
        if !ends_map {
            return self.publish_failure(input.job, input.index, tried, why);
        }
        if self.broken.is_some() {
            return; // a thread may still execute the input
        }
        let why = self.with_last_error(input, why);
        let Some(buffers) = self.buffers.map_mut(input.job) else { return };
        let chunk = buffers.chunk(input.index).expect("an input without outcome is in its chunk");
        // SAFETY: the same holds as in `write_failure`.
        let failure = unsafe { chunk.ends_by((input.index - chunk.first()) as usize, tried, why) };
        buffers.gap_at(input.index);
        self.end_job(input.job, Unrun::Cancelled, None, Some(MapEnd::OfInput(failure)), now);
    }

    /// Ends a job and fences its runs. Each pending input gets `reason` as its outcome, or none. `end` is
    /// yielded after the outcomes. Returns the number of inputs that were pending.
    pub(super) fn end_job(
        &mut self,
        job: JobId,
        how: Unrun,
        reason: Option<&Reason>,
        end: Option<MapEnd>,
        now: Time,
    ) -> u64 {
        let mut begun = Vec::new();
        let leased: Vec<LaneId> = self.ledger.leases_of(job).collect();
        for id in leased {
            let position = self.fence(id, now);
            if self.broken.is_some() {
                self.unseen_ends.extend(end); // it may hold an input
                return 0;
            }
            let executing = self.ledger.executing_at(id, position);
            let is_executing = !executing.is_empty();
            begun.extend(executing);
            self.ledger.recalled(id, position, now);
            self.ends_part(id, is_executing);
        }
        self.absorb(job);
        if self.broken.is_some() {
            self.unseen_ends.extend(end);
            return 0; // the consumers have been woken, and get the fault
        }
        begun.sort_unstable();
        let ended = self.end_pending(job, how, reason, &begun);
        if let Some(buffers) = self.buffers.get_mut(job) {
            let (source, unseen) = buffers.end_with(end);
            self.sources.push(source);
            self.unseen_ends.extend(unseen);
            self.wakers.woken.extend(buffers.wake());
        }
        ended
    }

    /// Ends the accepted inputs of a job that are in no lease. Each gets `reason` as its outcome, or none.
    /// `begun` contains, in order, the inputs that were executing until now. Returns the number of inputs
    /// that ended.
    pub(super) fn end_pending(
        &mut self,
        job: JobId,
        how: Unrun,
        reason: Option<&Reason>,
        begun: &[u64],
    ) -> u64 {
        let mut ended = 0;
        for span in self.ledger.take_pending(job) {
            ended += span.len;
            let Some(buffers) = self.buffers.get_mut(job) else { continue };
            match reason {
                // Inputs that were executing are the first of their range, because every input before them
                // has its outcome.
                Some(reason) => {
                    let at = |index: u64| begun.partition_point(|other| *other < index) as u64;
                    buffers.has_ended(span, at(span.end()) - at(span.first), reason.clone());
                }
                None => buffers.gap_at(span.first),
            }
        }
        self.ledger.ended(job, how, ended);
        ended
    }

    /// Makes the failures of some inputs of a job that have ended, the earliest first, when their consumer
    /// needs them.
    pub(super) fn publish_ended(&mut self, job: JobId) {
        let Some(buffers) = self.buffers.get_mut(job) else { return };
        let Some((span, begun, reason)) = buffers.take_ended(FAILURES_MAX) else { return };
        for index in span.indices() {
            let record = self.ledger.job(job).and_then(|job| job.record(index));
            let before = record.map_or(0, |record| record.attempt().get() - 1);
            let tried = Tried {
                attempts: before + u32::from(index - span.first < begun),
                deaths: record.map_or_else(Vec::new, |record| record.deaths.clone()),
                peak_bytes: None,
            };
            self.write_failure(job, index, tried, Why::Reason(reason.clone()));
            if matches!(reason, Reason::DeadlineExceeded { .. }) {
                self.ledger.forget_record(InputId { job, index }); // its map goes on
            }
        }
        self.reasons.push(reason);
        self.notify_finished(job, span);
    }

    /// Takes everything that the window of a job holds into the ledger, because the source will not be pulled
    /// again. These inputs get outcomes of their own, from either kind of source.
    pub(super) fn fill_window(&mut self, job: JobId) {
        self.absorb(job);
        let (Some(known), Some(buffers)) = (self.ledger.job(job), self.buffers.get(job)) else { return };
        let (first, held) = (known.counts().pulled, buffers.held_by_window());
        if held > 0 && self.broken.is_none() {
            let pulled = self.buffers.pull(job, first, held);
            self.ledger.accept(job, pulled);
        }
    }

    /// Takes the inputs that a feeder has pulled into the ledger, and closes its queue.
    pub(super) fn absorb(&mut self, job: JobId) {
        let Some(known) = self.ledger.job(job) else { return };
        let first = known.counts().pulled;
        let Some(buffers) = self.buffers.map(job) else { return };
        if matches!(buffers.source, JobSource::Prefetched(_)) {
            if !buffers.close_queue() {
                return self.break_down(REFUSED);
            }
            let pulled = self.buffers.pull(job, first, u64::MAX);
            self.ledger.accept(job, pulled);
        }
    }

    /// Ends every job with `reason`. If a map goes on after failures, each of its pending inputs gets an
    /// outcome.
    pub(super) fn end_all(&mut self, how: Unrun, reason: &Reason, now: Time) {
        self.commit_all(now); // a job whose inputs are all completed keeps its outcomes
        for job in self.ledger.job_ids() {
            if self.broken.is_some() {
                return;
            }
            self.fill_window(job);
            let over = self.buffers.get(job).is_none_or(|buffers| buffers.is_exhausted());
            let known = self.ledger.job(job).expect("the job was just listed");
            if over && known.counts().pending() == 0 {
                continue;
            }
            let publish = known.on_failure() == OnFailure::GoOn;
            let end = (known.kind() == JobKind::Map).then(|| MapEnd::OfMap(reason.clone()));
            let ended = self.end_job(job, how, publish.then_some(reason), end, now);
            if how == Unrun::Cancelled {
                self.leftovers.add(ended, publish);
            }
        }
    }

    /// Ends the inputs that are not executing, if the function stops.
    pub(super) fn sweep(&mut self, now: Time) {
        self.ledger.job_ids().into_iter().for_each(|job| self.sweep_job(job, now));
    }

    /// Ends the inputs of one job that are not executing, if the function stops.
    pub(super) fn sweep_job(&mut self, job: JobId, now: Time) {
        if self.ledger.mode() != Mode::Stopping || self.broken.is_some() {
            return;
        }
        let leased: Vec<LaneId> = self.ledger.leases_of(job).collect();
        for id in leased {
            let run = self.run(id).cloned().expect("a lease has its run");
            let end = run.truncate(run.chunk.first());
            self.commit(id, now);
            self.ledger.truncated(id, end, None);
            self.ends_part(id, false);
        }
        self.fill_window(job);
        if self.broken.is_some() {
            return; // the consumers have been woken, and get the fault
        }
        let Some(known) = self.ledger.job(job) else { return };
        let (publish, is_map) = (known.on_failure() == OnFailure::GoOn, known.kind() == JobKind::Map);
        let ended = self.end_pending(job, Unrun::Cancelled, publish.then_some(&Reason::ShutDown), &[]);
        self.leftovers.add(ended, publish);
        let Some(buffers) = self.buffers.get_mut(job) else { return };
        let cut_short = !buffers.is_source_over() || ended > 0;
        let end = (is_map && cut_short).then_some(MapEnd::OfMap(Reason::ShutDown));
        let (source, unseen) = buffers.end_with(end);
        self.sources.push(source);
        self.unseen_ends.extend(unseen);
        self.wakers.woken.extend(buffers.wake());
    }

    /// Marks the function broken. From now on no outcome is published under the lock. This may be called
    /// while a thread panics, so it must not panic itself.
    pub(super) fn break_down(&mut self, why: &str) {
        if self.broken.is_none() {
            self.broken = Some(Bug(why.into()));
            self.breaks = true;
        }
        // A future that waits for ever would not notice the end without a fence and a wake-up.
        let lanes = self.seats.iter_mut().flat_map(|seat| &mut seat.lanes);
        for run in lanes.filter_map(|lane| lane.run.take()) {
            // If the system refuses the fence, the input is not marked as shared. That is safe, because a
            // broken function moves no input out of its chunk.
            if let Some(position) = run.fence() {
                run.executing_places(position).for_each(|place| run.chunk.share(place));
            }
            run.wake();
            self.spent.push(run);
        }
        for buffers in self.buffers.open.values_mut() {
            if let JobBuffers::Map(map) = buffers {
                map.awaited = true;
                map.space.notify_all();
            }
            self.wakers.woken.extend(buffers.wake());
        }
    }

    /// Updates the window of a map from the measured cost of its inputs.
    pub(super) fn refresh_window(&mut self, job: JobId) {
        if let Some(buffers) = self.buffers.map(job) {
            let (window, room_min) = (self.ledger.window(job), self.ledger.room_min(job));
            let flow = &buffers.flow;
            let (window_before, room_before) =
                (flow.window.load(Ordering::Relaxed), flow.room_min.load(Ordering::Relaxed));
            // A store takes the line from the consumer's core, so it is left out where nothing changes. Only
            // holders of the lock store here.
            if (window_before, room_before) != (window, room_min) {
                flow.window.store(window, Ordering::SeqCst);
                flow.room_min.store(room_min, Ordering::SeqCst);
                self.ledger.requeue_map(job);
            }
        }
    }
}

//! How inputs and jobs end that do not simply complete.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::{ContainerId, InputId, JobId};
use crate::data::failure::{Bug, Reason, Tried};
use crate::data::shape::Why;
use crate::decide::job::{JobKind, OnFailure, Span};
use crate::decide::ledger::{Mode, Position, Unrun};
use crate::decide::time::Time;
use crate::engine::dispatch::State;
use crate::engine::job_buffers::JobBuffers;
use crate::engine::map_buffers::{JobSource, MapEnd};

/// How many failures of inputs that have ended are made while the lock is held, because each takes an allocation.
const FAILURES_MAX: u64 = 256;
/// Why a function breaks down that can fence nothing.
pub(super) const REFUSED: &str = "the system refuses a barrier that it has granted before";

impl State {
    /// Commits what a container has completed, and tells the consumer.
    pub(super) fn commit(&mut self, id: ContainerId, now: Time) {
        if let Some(run) = &self.seats[id.index()].run {
            self.commit_to(id, run.completed_to(), now);
        }
    }

    fn commit_to(&mut self, id: ContainerId, upto: u64, now: Time) {
        if self.broken.is_some() {
            return; // the ledger is not to be trusted any more
        }
        if let Some((job, span)) = self.ledger.advanced(id, upto, now)
            && let Some(buffers) = self.buffers.get_mut(job)
        {
            buffers.committed(upto - 1);
            let pending = self.ledger.job(job).map_or(0, |job| job.counts().pending());
            self.wakers.woken.extend(buffers.finished(span, pending, Some(now)));
        }
    }

    /// Commits what all containers have completed.
    pub(super) fn commit_all(&mut self, now: Time) {
        let leased: Vec<ContainerId> = self.ledger.leased().collect();
        leased.into_iter().for_each(|id| self.commit(id, now));
    }

    /// Commits what the verdict on the death of a container depends on.
    pub(super) fn commit_for_verdict(&mut self, id: ContainerId, now: Time) {
        self.commit(id, now);
        if self.ledger.verdict_depends_on_others(now) {
            self.commit_all(now);
        }
    }

    /// The same of those that execute inputs of that job.
    pub(super) fn commit_job(&mut self, job: JobId, now: Time) {
        let mut next = self.ledger.leased_of(job, ContainerId(0));
        while let Some(id) = next {
            self.commit(id, now);
            next = self.ledger.leased_of(job, ContainerId(id.0 + 1));
        }
    }

    /// The same of those that have leased more inputs than one.
    pub(super) fn commit_ahead(&mut self, now: Time) {
        let ahead: Vec<ContainerId> = self.ledger.ahead().collect();
        ahead.into_iter().for_each(|id| self.commit(id, now));
    }

    /// Ends a container's run from outside. The input that executes may be read on. `None` if there is no run, or if
    /// the function is broken.
    pub(super) fn fence(&mut self, id: ContainerId, now: Time) -> Option<Position> {
        let run = Arc::clone(self.seats[id.index()].run.as_ref()?);
        let Some(position) = run.fence() else {
            self.break_down(REFUSED);
            return None;
        };
        self.seats[id.index()].suspended = run.is_suspended();
        run.wake();
        if position.begun {
            run.chunk.share((position.at - run.chunk.first()) as usize);
        }
        // Up to there, and no further: the thread may have moved on since, in vain.
        self.commit_to(id, position.at, now);
        self.seats[id.index()].run = None;
        self.spent.push(run);
        Some(position)
    }

    /// An input waits to be executed again, perhaps for long: the chunk it came in is not to be kept for it.
    pub(super) fn move_out(&mut self, input: InputId) {
        let used_up = self.buffers.get_mut(input.job).and_then(|buffers| buffers.move_out(input.index));
        self.used_up.extend(used_up);
    }

    /// Publishes the failure of an input that nothing executes any more.
    pub(super) fn publish_failure(&mut self, job: JobId, index: u64, tried: Tried, why: Why) {
        if self.broken.is_some() {
            return; // something may execute it after all
        }
        if self.buffers.get(job).is_some() {
            self.write_failure(job, index, tried, why);
            self.notify_finished(job, Span { first: index, len: 1 });
        }
    }

    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    fn write_failure(&mut self, job: JobId, index: u64, tried: Tried, why: Why) {
        let input = InputId { job, index };
        let chunk = self.buffers.chunk(input).expect("an input without outcome is in its chunk");
        // SAFETY: the input's outcome is being decided under the lock, once, and no attempt at it is in the
        // ledger. Its last attempt has returned or unwound, never began, or was fenced, and then the input is
        // marked as shared.
        unsafe { chunk.fail((index - chunk.first()) as usize, tried, why) };
    }

    /// Those inputs have their outcomes, which no thread publishes.
    fn notify_finished(&mut self, job: JobId, span: Span) {
        let pending = self.ledger.job(job).map_or(0, |job| job.counts().pending());
        if let Some(buffers) = self.buffers.get_mut(job) {
            self.wakers.woken.extend(buffers.finished(span, pending, None));
        }
    }

    /// An input failed for good: its outcome, or the end of its map.
    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    pub(super) fn fail(&mut self, input: InputId, tried: Tried, why: Why, ends_map: bool, now: Time) {
        if !ends_map {
            return self.publish_failure(input.job, input.index, tried, why);
        }
        if self.broken.is_some() {
            return; // as above
        }
        let Some(buffers) = self.buffers.map_mut(input.job) else { return };
        let chunk = buffers.chunk(input.index).expect("an input without outcome is in its chunk");
        // SAFETY: as above.
        let failure = unsafe { chunk.ends_by((input.index - chunk.first()) as usize, tried, why) };
        buffers.gap_at(input.index);
        self.end_job(input.job, Unrun::Cancelled, None, Some(MapEnd::OfInput(failure)), now);
    }

    /// Ends a job: fences its runs, gives each pending input `reason` as its outcome (or none), and
    /// leaves `end` to be yielded behind what there is. Returns how many inputs were pending.
    pub(super) fn end_job(
        &mut self,
        job: JobId,
        how: Unrun,
        reason: Option<&Reason>,
        end: Option<MapEnd>,
        now: Time,
    ) -> u64 {
        let mut begun = Vec::new();
        while let Some(id) = self.ledger.leased_of(job, ContainerId(0)) {
            let position = self.fence(id, now);
            if self.broken.is_some() {
                return 0;
            }
            if let Some(position) = position.filter(|position| position.begun) {
                begun.push(position.at);
                self.interrupt(id);
            }
            self.ledger.recalled(id, position, now);
        }
        self.absorb(job);
        if self.broken.is_some() {
            return 0; // its consumers have been told
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

    /// Ends what is accepted of a job and in no lease: each input gets `reason` as its outcome, or
    /// none. `begun` were executing until now, in order. Returns how many there were.
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
                // What was executing is the first of its range: what came before it has its outcome.
                Some(reason) => {
                    buffers.has_ended(span, begun.binary_search(&span.first).is_ok(), reason.clone());
                }
                None => buffers.gap_at(span.first),
            }
        }
        self.ledger.ended(job, how, ended);
        ended
    }

    /// Makes the failures of some inputs of a job that have ended, the earliest first. Called for their consumer.
    pub(super) fn publish_ended(&mut self, job: JobId) {
        let Some(buffers) = self.buffers.get_mut(job) else { return };
        let Some((span, begun, reason)) = buffers.take_ended(FAILURES_MAX) else { return };
        for index in span.indices() {
            let record = self.ledger.job(job).and_then(|job| job.record(index));
            let before = record.map_or(0, |record| record.attempt().get() - 1);
            let tried = Tried {
                attempts: before + u32::from(begun && index == span.first),
                deaths: record.map_or_else(Vec::new, |record| record.deaths.clone()),
                peak_bytes: None,
            };
            self.write_failure(job, index, tried, Why::Reason(reason.clone()));
        }
        self.reasons.push(reason);
        self.notify_finished(job, span);
    }

    /// Takes into the ledger everything that the window of a job holds, because its source will not be asked
    /// again: these inputs get an outcome of their own, whatever kind of source they come from.
    pub(super) fn fill_window(&mut self, job: JobId) {
        self.absorb(job);
        let (Some(known), Some(buffers)) = (self.ledger.job(job), self.buffers.get(job)) else { return };
        let (first, held) = (known.counts().pulled, buffers.held_by_window());
        if held > 0 && self.broken.is_none() {
            let pulled = self.buffers.pull(job, first, held);
            self.ledger.accept(job, pulled);
        }
    }

    /// Takes what a feeder has pulled into the ledger.
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

    /// Ends every job with `reason`: outcome by outcome where the map goes on after failures.
    pub(super) fn end_all(&mut self, how: Unrun, reason: &Reason, now: Time) {
        self.commit_all(now); // a job whose inputs have all completed is not ended
        for job in self.ledger.job_ids() {
            if self.broken.is_some() {
                return;
            }
            self.fill_window(job);
            let over = self.buffers.get(job).is_none_or(|buffers| buffers.is_exhausted());
            let known = self.ledger.job(job).expect("just listed");
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

    /// While the function stops: what is not executing does not begin any more.
    pub(super) fn sweep(&mut self, now: Time) {
        if self.ledger.mode() != Mode::Stopping || self.broken.is_some() {
            return;
        }
        self.ledger.job_ids().into_iter().for_each(|job| self.sweep_job(job, now));
    }

    /// The same for one job, of which something was given back.
    pub(super) fn sweep_job(&mut self, job: JobId, now: Time) {
        let known = self.ledger.job(job).is_some() && self.broken.is_none();
        if self.ledger.mode() != Mode::Stopping || !known {
            return;
        }
        let mut next = self.ledger.leased_of(job, ContainerId(0));
        while let Some(id) = next {
            let run = self.seats[id.index()].run.clone().expect("a lease has its run");
            let end = run.truncate(run.chunk.first());
            self.commit(id, now);
            self.ledger.truncated(id, end, None);
            next = self.ledger.leased_of(job, ContainerId(id.0 + 1));
        }
        self.fill_window(job);
        if self.broken.is_some() {
            return; // its consumers have been told
        }
        let known = self.ledger.job(job).expect("it was just looked at");
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

    /// Marks the function broken, from wherever the fault was found: it may be while a thread panics, and so nothing
    /// here panics. From now on no outcome is published under the lock.
    pub(super) fn break_down(&mut self, why: &str) {
        if self.broken.is_none() {
            self.broken = Some(Bug(why.into()));
            self.breaks = true;
        }
        // A future that waits for ever would never see that it is over.
        for run in self.seats.iter_mut().filter_map(|seat| seat.run.take()) {
            // Where that is refused, nobody takes up what the thread executes: no input is moved out any more.
            if let Some(position) = run.fence().filter(|position| position.begun) {
                run.chunk.share((position.at - run.chunk.first()) as usize);
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

    /// Sets each job's window anew from what its inputs cost.
    pub(super) fn refresh_window(&mut self, job: JobId) {
        if let Some(buffers) = self.buffers.map(job) {
            let (window, room_min) = (self.ledger.window(job), self.ledger.room_min(job));
            let before = buffers.flow.window.swap(window, Ordering::SeqCst);
            let changed =
                buffers.flow.room_min.swap(room_min, Ordering::SeqCst) != room_min || before != window;
            if changed {
                self.ledger.requeue_map(job);
            }
        }
    }
}

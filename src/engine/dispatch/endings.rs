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
use crate::engine::lane::Lane;
use crate::engine::map_lane::{MapEnd, Supply};

/// How many failures of inputs that have ended are made while the lock is held, because each takes an allocation.
const TOLD_MAX: u64 = 256;
/// Why a function breaks down that can fence nothing.
pub(super) const REFUSED: &str = "the system refuses a barrier that it has granted before";

impl State {
    /// Books what a container has completed, and tells the consumer.
    pub(super) fn book(&mut self, id: ContainerId, now: Time) {
        if let Some(run) = &self.seats[id.index()].run {
            self.book_to(id, run.completed_to(), now);
        }
    }

    fn book_to(&mut self, id: ContainerId, upto: u64, now: Time) {
        if self.broken.is_some() {
            return; // the books are not to be trusted any more
        }
        if let Some((job, span)) = self.ledger.advanced(id, upto, now)
            && let Some(lane) = self.lanes.get_mut(job)
        {
            lane.booked(upto - 1);
            let pending = self.ledger.job(job).map_or(0, |job| job.counts().pending());
            self.wakers.woken.extend(lane.finished(span, pending, Some(now)));
        }
    }

    /// Books what all containers have completed.
    pub(super) fn book_all(&mut self, now: Time) {
        let leased: Vec<ContainerId> = self.ledger.leased().collect();
        leased.into_iter().for_each(|id| self.book(id, now));
    }

    /// Books what the verdict on the death of a container depends on.
    pub(super) fn book_for_verdict(&mut self, id: ContainerId, now: Time) {
        self.book(id, now);
        if self.ledger.verdict_depends_on_others(now) {
            self.book_all(now);
        }
    }

    /// The same of those that execute inputs of that job.
    pub(super) fn book_job(&mut self, job: JobId, now: Time) {
        let mut next = self.ledger.leased_of(job, ContainerId(0));
        while let Some(id) = next {
            self.book(id, now);
            next = self.ledger.leased_of(job, ContainerId(id.0 + 1));
        }
    }

    /// The same of those that have leased more inputs than one.
    pub(super) fn book_ahead(&mut self, now: Time) {
        let ahead: Vec<ContainerId> = self.ledger.ahead().collect();
        ahead.into_iter().for_each(|id| self.book(id, now));
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
        self.book_to(id, position.at, now);
        self.seats[id.index()].run = None;
        self.spent.push(run);
        Some(position)
    }

    /// An input waits to be executed again, perhaps for long: the chunk it came in is not to be kept for it.
    pub(super) fn set_apart(&mut self, input: InputId) {
        let used_up = self.lanes.get_mut(input.job).and_then(|lane| lane.set_apart(input.index));
        self.used_up.extend(used_up);
    }

    /// Publishes the failure of an input that nothing executes any more.
    pub(super) fn publish_failure(&mut self, job: JobId, index: u64, tried: Tried, why: Why) {
        if self.broken.is_some() {
            return; // something may execute it after all
        }
        if self.lanes.get(job).is_some() {
            self.write_failure(job, index, tried, why);
            self.tell_finished(job, Span { first: index, len: 1 });
        }
    }

    #[expect(unsafe_code, reason = "moves an input out of its chunk")]
    fn write_failure(&mut self, job: JobId, index: u64, tried: Tried, why: Why) {
        let input = InputId { job, index };
        let chunk = self.lanes.chunk(input).expect("an input without outcome is in its chunk");
        // SAFETY: the input's outcome is being decided under the lock, once, and no attempt at it is in the books. Its
        // last attempt has returned or unwound, never began, or was fenced, and then the input is marked as shared.
        unsafe { chunk.fail((index - chunk.first()) as usize, tried, why) };
    }

    /// Those inputs have their outcomes, which no thread publishes.
    fn tell_finished(&mut self, job: JobId, span: Span) {
        let pending = self.ledger.job(job).map_or(0, |job| job.counts().pending());
        if let Some(lane) = self.lanes.get_mut(job) {
            self.wakers.woken.extend(lane.finished(span, pending, None));
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
        let Some(lane) = self.lanes.map_mut(input.job) else { return };
        let chunk = lane.chunk(input.index).expect("an input without outcome is in its chunk");
        // SAFETY: as above.
        let failure = unsafe { chunk.ends_by((input.index - chunk.first()) as usize, tried, why) };
        lane.gap_at(input.index);
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
        if let Some(lane) = self.lanes.get_mut(job) {
            let (supply, unseen) = lane.end_with(end);
            self.supplies.push(supply);
            self.unseen_ends.extend(unseen);
            self.wakers.woken.extend(lane.wake());
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
            let Some(lane) = self.lanes.get_mut(job) else { continue };
            match reason {
                // What was executing is the first of its range: what came before it has its outcome.
                Some(reason) => {
                    lane.has_ended(span, begun.binary_search(&span.first).is_ok(), reason.clone());
                }
                None => lane.gap_at(span.first),
            }
        }
        self.ledger.ended(job, how, ended);
        ended
    }

    /// Makes the failures of some inputs of a job that have ended, the earliest first. Called for their consumer.
    pub(super) fn tell_ended(&mut self, job: JobId) {
        let Some(lane) = self.lanes.get_mut(job) else { return };
        let Some((span, begun, reason)) = lane.take_ended(TOLD_MAX) else { return };
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
        self.tell_finished(job, span);
    }

    /// Takes into the books everything that the window of a job holds, because its source will not be asked again:
    /// these inputs get an outcome of their own, whatever kind of source they come from.
    pub(super) fn fill_window(&mut self, job: JobId) {
        self.absorb(job);
        let (Some(known), Some(lane)) = (self.ledger.job(job), self.lanes.get(job)) else { return };
        let (first, held) = (known.counts().pulled, lane.held_by_window());
        if held > 0 && self.broken.is_none() {
            let pulled = self.lanes.pull(job, first, held);
            self.ledger.accept(job, pulled);
        }
    }

    /// Takes what a feeder has pulled into the books.
    pub(super) fn absorb(&mut self, job: JobId) {
        let Some(known) = self.ledger.job(job) else { return };
        let first = known.counts().pulled;
        let Some(lane) = self.lanes.map(job) else { return };
        if matches!(lane.supply, Supply::Fed(_)) {
            if !lane.close_pool() {
                return self.break_down(REFUSED);
            }
            let pulled = self.lanes.pull(job, first, u64::MAX);
            self.ledger.accept(job, pulled);
        }
    }

    /// Ends every job with `reason`: outcome by outcome where the map goes on after failures.
    pub(super) fn end_all(&mut self, how: Unrun, reason: &Reason, now: Time) {
        self.book_all(now); // a job whose inputs have all completed is not ended
        for job in self.ledger.job_ids() {
            if self.broken.is_some() {
                return;
            }
            self.fill_window(job);
            let over = self.lanes.get(job).is_none_or(|lane| lane.is_dry());
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
            self.book(id, now);
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
        let Some(lane) = self.lanes.get_mut(job) else { return };
        let cut_short = !lane.is_source_over() || ended > 0;
        let end = (is_map && cut_short).then_some(MapEnd::OfMap(Reason::ShutDown));
        let (supply, unseen) = lane.end_with(end);
        self.supplies.push(supply);
        self.unseen_ends.extend(unseen);
        self.wakers.woken.extend(lane.wake());
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
        for lane in self.lanes.open.values_mut() {
            if let Lane::Map(map) = lane {
                map.awaited = true;
                map.space.notify_all();
            }
            self.wakers.woken.extend(lane.wake());
        }
    }

    /// Sets each lane's window anew from what its inputs cost.
    pub(super) fn refresh_window(&mut self, job: JobId) {
        if let Some(lane) = self.lanes.map(job) {
            let (window, refill) = (self.ledger.window(job), self.ledger.refill(job));
            let before = lane.gate.window.swap(window, Ordering::SeqCst);
            let changed = lane.gate.refill.swap(refill, Ordering::SeqCst) != refill || before != window;
            if changed {
                self.ledger.look_again(job);
            }
        }
    }
}

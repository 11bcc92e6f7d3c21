//! The acts at a limit of time. An attempt is cut, an input ends at its deadline, and a container that does
//! not leave its code dies or is kept.
//!
//! The supervisor looks at the limits at the moments that the ledger names. An attempt that ends before the
//! look is in time.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId, LaneId};
use crate::base::position::Position;
use crate::code::token::Token;
use crate::data::failure::{Reason, Tried};
use crate::data::shape::Why;
use crate::decide::job::OnFailure;
use crate::decide::ledger::{AfterCut, CutBy, DueLimit, LaneStep, Mode, Scene, Unrun};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::map_buffers::JobSource;
use crate::engine::messages::Notice;
use crate::values::crash::{Crash, Death};
use crate::values::event::Event;

impl Dispatch {
    /// Does everything that is due at the limits of time. Returns the time until the next look, if one is
    /// needed.
    pub(crate) fn look_at_limits(&self) -> Option<Duration> {
        let mut state = self.lock();
        let now = self.now();
        let is_over = |state: &State| state.broken.is_some() || state.ledger.mode() == Mode::Aborted;
        while !is_over(&state)
            && let Some(due) = state.ledger.take_due_limit(now)
        {
            match due {
                DueLimit::Lane(lane) => self.look_at_lane(&mut state, lane, now),
                DueLimit::Job(job) => self.expire(&mut state, job, now),
                DueLimit::Enter(id) => self.look_at_enter(&mut state, id, now),
            }
        }
        if is_over(&state) {
            return None;
        }
        if !state.events.is_empty() {
            self.notify(Notice::Folds);
        }
        state.ledger.arm().map(|at| at.since(now))
    }

    /// Whether the execution in a lane was interrupted: its outcome is unwanted, and its generation lives on.
    pub(crate) fn is_interrupted(&self, lane: LaneId, generation: Generation) -> bool {
        let state = self.lock();
        let lives = state.broken.is_none() && state.ledger.is_current(lane.container, generation);
        lives && state.token_of(lane).is_some_and(|token| token.is_unwanted())
    }

    fn look_at_lane(&self, state: &mut State, lane: LaneId, now: Time) {
        state.commit(lane, now);
        let executing = state.run(lane).and_then(|run| run.executing());
        match state.ledger.lane_step(lane, executing, now) {
            LaneStep::Wait => {}
            LaneStep::Shorten(index) => {
                state.shorten(lane, index, None, now); // it executes, so the lease ends after it
                self.wake_one(state);
            }
            LaneStep::Cut(index, limit) => self.time_out(state, lane, index, limit, now),
            LaneStep::Overstays { extended } => self.overstays(state, lane, extended, now),
        }
    }

    /// The attempt at the input `index` has come to its timeout, unless it has ended meanwhile.
    fn time_out(&self, state: &mut State, lane: LaneId, index: u64, limit: Duration, now: Time) {
        if state.ledger.is_batched() {
            return self.batch_times_out(state, lane.container, limit, now);
        }
        let job = state.ledger.lease(lane).expect("an attempt with a timeout has its lease").job;
        let Some(position) = state.fence(lane, now) else { return };
        // It had begun when it was looked at, so it has not ended if the run is still there.
        if position.at == index {
            self.cut(state, lane, position, CutBy::Timeout(limit), now);
        } else {
            state.ledger.recalled(lane, Some(position), now); // it was in time
        }
        self.after_cuts(state, job, now);
    }

    /// A batch has come to its timeout, unless it has ended meanwhile. If it has several inputs, it is not
    /// known which of them is slow, and the event names the first one.
    fn batch_times_out(&self, state: &mut State, id: ContainerId, limit: Duration, now: Time) {
        let leased: Vec<LaneId> = state.ledger.leased_by(id).collect();
        let mut jobs: Vec<JobId> = Vec::new();
        let mut positions = Vec::new();
        for lane in leased {
            jobs.extend(state.ledger.lease(lane).map(|lease| lease.job));
            positions.extend(state.fence(lane, now).map(|position| (lane, position)));
            if state.broken.is_some() {
                return;
            }
        }
        let executing: Vec<_> = positions.iter().filter(|(_, position)| position.begun).copied().collect();
        match (state.executes_alone(id, &positions), &executing[..]) {
            (_, []) => {} // it was in time
            (Some(_), [(lane, position)]) => self.cut(state, *lane, *position, CutBy::Timeout(limit), now),
            (_, [(lane, position), ..]) => {
                let first = state.executing(*lane, Some(*position)).expect("it has begun");
                let decided = state.ledger.cut_batch(id, &executing, limit, now);
                let is_retried = decided.iter().any(|after| matches!(after, AfterCut::Retry { .. }));
                state.emit_cut(*lane, first, CutBy::Timeout(limit), is_retried, now);
                state.set_unwanted(LaneId::from(id), true);
                decided.into_iter().for_each(|after| state.after_cut(after, now));
            }
        }
        for (lane, position) in positions.into_iter().filter(|(_, position)| !position.begun) {
            state.ledger.recalled(lane, Some(position), now);
        }
        jobs.sort_unstable();
        jobs.dedup();
        jobs.into_iter().for_each(|job| state.refresh_window(job));
        self.after_cancel(state);
    }

    /// Cuts the attempt that a lane executes. The run of the lane is fenced.
    fn cut(&self, state: &mut State, lane: LaneId, position: Position, by: CutBy, now: Time) {
        let attempt = state.executing(lane, Some(position)).map_or(Attempt::FIRST, |(_, attempt)| attempt);
        let after = state.ledger.cut(lane, position, by, now);
        state.ends_part(lane, true);
        let (cut, is_retried) = match &after {
            AfterCut::Retry { .. } => (by, true),
            AfterCut::Final { cut, .. } => (*cut, false),
        };
        state.emit_cut(lane, (position.at, attempt), cut, is_retried, now);
        state.after_cut(after, now);
    }

    /// The code of a lane has not returned in time after its attempt was cut. Its container dies, and its
    /// thread is left behind, unless too many threads are left behind already.
    fn overstays(&self, state: &mut State, lane: LaneId, extended: bool, now: Time) {
        if !extended && state.is_unwinding(lane) {
            state.ledger.stays(lane, false, now);
            return;
        }
        let id = lane.container;
        let (generation, _) = state.ledger.stage(id);
        if state.abandoned >= self.settings.memory.abandoned_max {
            let hangs_anew = state.ledger.stays(lane, true, now);
            if !hangs_anew && !state.ledger.gives_up_hanging() {
                return;
            }
            // Another lane than the one that was cut first may be the one in whose code the thread is stuck.
            let (executing, caller) = state.blamed(&state.scene_of_hang(id), false);
            if hangs_anew {
                state.emit_hung(id, executing, caller.clone(), now);
            }
            let (map, call) = (caller.label().cloned(), caller.call());
            let (peak_bytes, death) = (state.peak(id, generation), Death::Unresponsive);
            let crash =
                Arc::new(Crash { container: id, generation, executing, map, call, peak_bytes, death });
            if state.ledger.give_up_if_all_hang(&crash) {
                state.emit_gave_up(now);
                self.notify(Notice::Crashed { restart: Restart::GiveUp });
            }
            return;
        }
        if let Some(restart) = self.dies_stuck(state, id, |_| Death::Unresponsive) {
            self.notify(Notice::Fenced { restart });
        }
    }

    /// The `enter` of a container has taken too long.
    fn look_at_enter(&self, state: &mut State, id: ContainerId, now: Time) {
        let Some(limit) = state.ledger.enter_overstays(id) else { return };
        let is_abandoned = state.would_be_abandoned(id, &Scene::default());
        if is_abandoned && state.abandoned >= self.settings.memory.abandoned_max {
            return state.ledger.enters_on(id, now);
        }
        if let Some(restart) = self.die_from_outside(state, id, |_| Death::EnterTimedOut { limit }) {
            self.notify(Notice::Fenced { restart });
        }
    }

    /// Ends the inputs of a job whose deadlines have passed.
    fn expire(&self, state: &mut State, job: JobId, now: Time) {
        if let Some((end, limit)) = state.ledger.take_expired(job, now) {
            self.expire_before(state, job, end, limit, now);
        }
        state.ledger.watch_job(job);
        self.after_cuts(state, job, now);
    }

    /// Attempts at inputs of a job were cut. Their cost is measured, so the window of their map may have
    /// grown, and their containers cannot take the inputs for which it has room.
    fn after_cuts(&self, state: &mut State, job: JobId, now: Time) {
        if state.ledger.job(job).is_some() {
            state.refresh_window(job);
        }
        self.after_cancel(state);
        self.pass_on(state, now);
    }

    fn expire_before(&self, state: &mut State, job: JobId, end: u64, limit: Duration, now: Time) {
        let is_due = |lane: &LaneId| state.ledger.lease(*lane).is_some_and(|lease| lease.span.first < end);
        let leased: Vec<LaneId> = state.ledger.leases_of(job).filter(is_due).collect();
        for lane in leased {
            let Some(run) = state.run(lane) else { return }; // its map has ended with an input before
            let first = run.chunk.first();
            state.shorten(lane, first, None, now); // the inputs that have not begun end with those that wait
            let position = state.fence(lane, now);
            match position.filter(|position| position.begun) {
                Some(position) => self.cut(state, lane, position, CutBy::Deadline(limit), now),
                None => state.ledger.recalled(lane, position, now),
            }
            if state.broken.is_some() {
                return;
            }
        }
        let Some(known) = state.ledger.job(job) else { return };
        let ends_map = known.on_failure() == OnFailure::EndMap;
        let waiting = state.ledger.take_waiting(job, end);
        let Some(first) = waiting.iter().map(|span| span.first).min() else { return };
        let inputs: u64 = waiting.iter().map(|span| span.len).sum();
        state.emit_expired(job, first, inputs, limit, now);
        let reason = Reason::DeadlineExceeded { limit };
        if ends_map {
            state.ledger.ended(job, Unrun::Expired, 1);
            state.ledger.ended(job, Unrun::Cancelled, inputs - 1);
            if let Some(buffers) = state.buffers.get_mut(job) {
                waiting.iter().for_each(|span| buffers.gap_at(span.first));
            }
            let input = InputId { job, index: first };
            let tried = state.tried(input);
            state.ledger.forget_record(input);
            return state.fail(input, tried, Why::Reason(reason), true, now);
        }
        state.ledger.ended(job, Unrun::Expired, inputs);
        if let Some(buffers) = state.buffers.get_mut(job) {
            waiting.into_iter().for_each(|span| buffers.has_ended(span, 0, reason.clone()));
            state.wakers.woken.extend(buffers.wake());
        }
    }
}

impl State {
    /// Emits that the attempt at an input was cut in a lane.
    fn emit_cut(
        &mut self,
        lane: LaneId,
        (input, attempt): (u64, Attempt),
        cut: CutBy,
        is_retried: bool,
        now: Time,
    ) {
        let (limit, is_deadline) = match cut {
            CutBy::Timeout(limit) => (limit, false),
            CutBy::Deadline(limit) => (limit, true),
        };
        let caller = self.caller(lane);
        let (map, call) = (caller.label().cloned(), caller.call());
        let event = Event::TimedOut { map, call, input, attempt, limit, is_deadline, is_retried };
        self.emit_for(event, caller, now);
    }

    /// Emits that the deadlines of inputs have passed while they waited.
    fn emit_expired(&mut self, job: JobId, input: u64, inputs: u64, limit: Duration, now: Time) {
        let caller = self.buffers.get(job).map_or_else(Caller::default, |buffers| buffers.caller().clone());
        let (map, call) = (caller.label().cloned(), caller.call());
        self.emit_for(Event::Expired { map, call, input, inputs, limit }, caller, now);
    }

    /// Carries out the decision on an attempt that was cut.
    fn after_cut(&mut self, after: AfterCut, now: Time) {
        match after {
            AfterCut::Retry { input } => self.move_out(input),
            AfterCut::Final { input, attempts, deaths, cut, ends_map } => {
                let tried = Tried { attempts: attempts.get(), deaths, peak_bytes: None };
                self.fail(input, tried, Why::Reason(cut.into()), ends_map, now);
            }
        }
    }

    /// Accepts the inputs for which the window of a map has room, if they have a deadline. It runs whether or
    /// not a container claims them. From now on the source and the consumer inform the function of more.
    pub(super) fn accept_for_deadline(&mut self, job: JobId) {
        let mode = self.ledger.mode();
        if !self.ledger.has_deadline(job) || mode != Mode::Running || self.broken.is_some() {
            return;
        }
        loop {
            let (Some(known), Some(buffers)) = (self.ledger.job(job), self.buffers.map(job)) else { return };
            let (first, held) = (known.counts().pulled, buffers.held_by_window());
            if held > 0 {
                let pulled = self.buffers.pull(job, first, held);
                self.ledger.accept(job, pulled);
            }
            let Some(buffers) = self.buffers.map(job) else { return };
            // A feeder asks for room itself, and a source that is over needs none.
            if matches!(buffers.source, JobSource::Direct(_)) && !buffers.source_over {
                return buffers.request_room(self.ledger.room_min(job));
            }
            if buffers.await_inputs(mode).unwrap_or(0) == 0 {
                return;
            }
        }
    }

    /// The attempts at an input that waits, and the deaths that it has caused.
    pub(super) fn tried(&self, input: InputId) -> Tried {
        let record = self.ledger.job(input.job).and_then(|job| job.record(input.index));
        Tried {
            attempts: record.map_or(0, |record| record.attempt().get() - 1),
            deaths: record.map_or_else(Vec::new, |record| record.deaths.clone()),
            peak_bytes: None,
        }
    }

    /// Whether the code of a lane has unwound from a checkpoint, and the unwind has not ended.
    fn is_unwinding(&self, id: LaneId) -> bool {
        self.token_of(id).is_some_and(|token| token.is_interrupted())
    }

    /// The token of the code in a lane.
    fn token_of(&self, id: LaneId) -> Option<&Arc<Token>> {
        let its_own = self.lane(id).and_then(|lane| lane.token.as_ref());
        let seat = || self.seats[id.container.index()].token.as_ref().map(|(_, token)| token);
        its_own.or_else(seat)
    }
}

impl From<CutBy> for Reason {
    fn from(cut: CutBy) -> Self {
        match cut {
            CutBy::Timeout(limit) => Self::TimedOut { limit },
            CutBy::Deadline(limit) => Self::DeadlineExceeded { limit },
        }
    }
}

//! Simulated consumers read: they take outcomes through the real
//! [`Consumer`](crate::engine::consumer::Consumer), and hold each of them against the model.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::base::ids::JobId;
use crate::data::failure::{Cause, Failure};
use crate::data::shape::Outcome;
use crate::decide::job::JobKind;
use crate::decide::ledger::{Mode, Sources};
use crate::engine::dispatch::Wait;
use crate::engine::map_buffers::Order;
use crate::engine::reader::Failures;
use crate::simulator::course::Course;
use crate::simulator::model::{EndReason, ExpectedEnd, InputModel, InputState};
use crate::simulator::readers::{Habit, PAUSE_MAX, PAUSE_MIN, POLL_MAX, ReaderWaits, STEADY, Taker};
use crate::simulator::values::{Refusal, SimInput, SimOutput};
use crate::simulator::world::World;

impl World {
    /// One look of one consumer.
    pub(super) fn read(&mut self, at: usize) {
        let now = self.now();
        let reader = &mut self.readers[at];
        match reader.habit {
            Habit::DropsAfter(n) if reader.taken >= n => return self.drop_reader(at),
            Habit::SalvagesAfter(n) if reader.taken >= n => return self.salvage(at),
            Habit::Slow if !self.healed => {
                let pause = Duration::from_millis(self.tape.one_of(&[0, 1, 30, 20_000]));
                reader.polls_at = Some(now + pause);
            }
            Habit::Steady => reader.polls_at = Some(now + STEADY),
            _ => {}
        }
        if self.readers[at].order == Order::AtOnce {
            return self.read_all(at);
        }
        let reader = &mut self.readers[at];
        let consumer = reader.consumer.as_mut().expect("it has not gone away");
        let polled = match &reader.waits {
            ReaderWaits::InThread => consumer.poll_next(Wait::Try),
            ReaderWaits::InTask(woken) => {
                let waker = Waker::from(Arc::clone(woken));
                consumer.poll_next(Wait::Register(&waker))
            }
        };
        let (ended, job) = (matches!(consumer, Taker::Map(map) if map.ended), reader.job);
        self.sync_pulled();
        match polled {
            Poll::Ready(Some(outcome)) => self.outcome(at, outcome),
            Poll::Pending => self.await_outcome(at),
            Poll::Ready(None) => {
                self.end_of(at);
                return self.drop_reader(at);
            }
        }
        if ended {
            self.model.end_job(job, EndReason::Cancelled);
        }
    }

    /// One look of a consumer that takes everything at once.
    fn read_all(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let consumer = reader.consumer.as_mut().expect("it has not gone away");
        let all = match &reader.waits {
            ReaderWaits::InThread => consumer.map().poll_all(Wait::Try),
            ReaderWaits::InTask(woken) => {
                let waker = Waker::from(Arc::clone(woken));
                consumer.map().poll_all(Wait::Register(&waker))
            }
        };
        self.sync_pulled();
        let Some((outcomes, failure)) = all else { return self.await_outcome(at) };
        self.tally.maps_taken_at_once += 1;
        for outcome in outcomes.into_iter().chain(failure.map(Err)) {
            self.outcome(at, outcome);
        }
        self.end_of(at);
        self.drop_reader(at);
    }

    /// There is no outcome yet, so the consumer waits for its signal. A thread also looks without one, at
    /// growing intervals.
    fn await_outcome(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let job = reader.job;
        let told = self.engine.under_lock(|state| state.buffers.yielded(job));
        assert_eq!(told, reader.taken, "who waits has told of all that it took");
        if matches!(reader.waits, ReaderWaits::InTask(_)) {
            reader.pause = 2 * PAUSE_MIN;
            reader.polls_at = None;
            return;
        }
        reader.arrived = self.engine.under_lock(|state| {
            let buffers = state.buffers.map_mut(job)?;
            buffers.awaited = true;
            Some(Arc::clone(&buffers.arrived))
        });
        reader.pause = (reader.pause * 2).min(if self.healed { PAUSE_MAX } else { POLL_MAX });
        let until = self.now() + self.readers[at].pause;
        self.readers[at].polls_at = Some(until);
    }

    fn outcome(&mut self, at: usize, outcome: Outcome<SimInput, SimOutput, Refusal>) {
        let reader = &mut self.readers[at];
        reader.pause = PAUSE_MIN;
        assert!(!reader.last, "an outcome came after the last");
        reader.taken += 1;
        let job = reader.job;
        match outcome {
            Ok(answer) => {
                let tag = self.model.jobs[&job].tag;
                self.in_order(at, answer.index);
                let input = self.model.input(job, answer.index);
                assert_eq!(answer.tag, tag, "an outcome of another map");
                let end = InputState::Done(ExpectedEnd::Ok { attempt: answer.attempt });
                assert_eq!(input.state, end, "invariant 2: the answer of {:?}", answer.by);
                self.yielded(job, answer.index);
            }
            Err(failure) => match failure.index() {
                Some(index) => self.failure(at, index, &failure),
                None => self.end_error(at, &failure),
            },
        }
    }

    fn in_order(&self, at: usize, index: u64) {
        let reader = &self.readers[at];
        if reader.order == Order::Input {
            assert_eq!(index + 1, reader.taken, "outcomes come in the order of the inputs");
        }
    }

    fn yielded(&mut self, job: JobId, index: u64) {
        let input = self.model.input(job, index);
        assert!(!input.yielded, "invariant 1: input {index} was answered twice");
        input.yielded = true;
    }

    /// The outcome of an input is a failure.
    fn failure(&mut self, at: usize, index: u64, failure: &Failure<SimInput, Refusal>) {
        let (job, failures) = (self.readers[at].job, self.readers[at].failures);
        if failures == Failures::EndMap {
            self.tally.maps_ended_by_a_failure += 1;
            self.nothing_else_could_be_yielded(at, index);
        } else {
            self.in_order(at, index);
        }
        self.readers[at].last = failures != Failures::Yield;
        let ticket = failure.input().expect("it comes back");
        assert_eq!((ticket.tag, ticket.index), (self.model.jobs[&job].tag, index), "another input came back");
        let input = self.model.input(job, index);
        assert_eq!(failure.attempts(), input.executions, "attempts told of input {index}");
        let InputState::Done(end) = input.state else {
            panic!("input {index} of {job:?} has an outcome and is {:?}: {failure:?}", input.state)
        };
        let attempt = input.attempt() - 1;
        let right = match failure.cause() {
            Cause::Failed(error) => end == ExpectedEnd::Failed && error.attempt == attempt,
            Cause::TimedOut { limit } => end == ExpectedEnd::TimedOut && input.time.timeout == Some(*limit),
            Cause::DeadlineExceeded { limit, last } => {
                let last = last.as_ref().map(|error| u64::from(error.attempt));
                let has_limit = input.time.deadline == Some(*limit);
                end == ExpectedEnd::Expired && has_limit && last == input.time.error()
            }
            Cause::Poisoned(deaths) => {
                let told: Vec<u32> = deaths
                    .iter()
                    .filter_map(|crash| crash.executing.map(|(_, attempt)| attempt.get()))
                    .collect();
                end == ExpectedEnd::Poisoned && told == self.model.deaths_told(job, index)
            }
            Cause::Lost(_) => end == ExpectedEnd::Lost,
            Cause::GaveUp(_) => end == ExpectedEnd::Unrun(EndReason::GaveUp),
            Cause::ShutDown => end == ExpectedEnd::Unrun(EndReason::ShutDown),
            Cause::Cancelled => end == ExpectedEnd::Unrun(EndReason::Cancelled),
            _ => false,
        };
        assert!(right, "input {index} ended as {end:?}, and was told {failure:?}");
        self.yielded(job, index);
    }

    /// Checks that the first failure ends a map after the outcomes that could be yielded, and before anything
    /// else.
    fn nothing_else_could_be_yielded(&self, at: usize, failed: u64) {
        let reader = &self.readers[at];
        if self.threads.iter().any(|thread| thread.is_publishing(reader.job)) {
            return;
        }
        let could = |index: u64| {
            let input = self.model.jobs[&reader.job].inputs.get(index as usize);
            input.is_some_and(|input| {
                !input.yielded && matches!(input.state, InputState::Done(ExpectedEnd::Ok { .. }))
            })
        };
        let left = match reader.order {
            Order::Input => could(reader.taken - 1),
            Order::AtOnce => false, // its outcomes are yielded only when all are there
            Order::Completion => (0..self.model.jobs[&reader.job].inputs.len() as u64).any(could),
        };
        assert!(!left, "the failure of input {failed} came before outcomes that were there");
    }

    /// The map failed as a whole.
    fn end_error(&mut self, at: usize, failure: &Failure<SimInput, Refusal>) {
        let reader = &mut self.readers[at];
        reader.last = true;
        let job = reader.job;
        let entry = &self.model.jobs[&job];
        let why = entry.ended;
        let failed = |input: &InputModel| {
            matches!(
                input.state,
                InputState::Done(
                    ExpectedEnd::Failed
                        | ExpectedEnd::TimedOut
                        | ExpectedEnd::Expired
                        | ExpectedEnd::Poisoned
                        | ExpectedEnd::Lost
                )
            ) && !input.yielded
        };
        let hidden = !entry.goes_on && entry.inputs.iter().any(failed);
        assert!(!hidden, "a map that an input's failure ended was told {failure:?}");
        let right = match failure.cause() {
            // This cause goes before a shutdown, even if a shutdown has ended the map's inputs.
            Cause::GaveUp(_) => {
                why == Some(EndReason::GaveUp) || (why.is_some() && self.model.mode > Mode::Running)
            }
            // A drained map ends with this error although all its inputs finish.
            Cause::ShutDown => self.model.mode > Mode::Running,
            Cause::Source(_) | Cause::Engine(_) => true,
            _ => false,
        };
        assert!(right, "a map that ended as {why:?} was told {failure:?}");
    }

    /// The map has no more outcomes.
    fn end_of(&mut self, at: usize) {
        let reader = &self.readers[at];
        let entry = &self.model.jobs[&reader.job];
        if reader.last && reader.failures != Failures::Yield {
            return; // its failure cut the map short
        }
        let cut = entry.ended.is_some_and(|why| why != EndReason::Cancelled) || reader.last;
        let complete = !cut || entry.goes_on;
        if complete {
            let missing = entry.inputs.iter().position(|input| !input.yielded);
            assert_eq!(missing, None, "invariant 1: a map ended and an input has no outcome");
        }
        if !reader.last && entry.ended != Some(EndReason::Cancelled) {
            assert_eq!(Some(entry.inputs.len() as u64), reader.total, "a map ended before its source");
            let cut_short = entry
                .inputs
                .iter()
                .any(|input| matches!(input.state, InputState::Done(ExpectedEnd::Unrun(_))));
            assert!(
                !cut_short || entry.kind == JobKind::Call,
                "the end of a map that was cut short is an error"
            );
        }
    }

    /// A consumer is dropped.
    pub(super) fn drop_reader(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let job = reader.job;
        let consumer = reader.consumer.take().expect("it goes away once");
        if !consumer.is_ended() {
            match self.model.jobs[&job].kind {
                JobKind::Map => self.tally.maps_dropped += 1,
                JobKind::Call => self.tally.calls_dropped += 1,
            }
        }
        self.tally.inputs += self.model.jobs[&job].inputs.len() as u64;
        if consumer.is_ended() {
            self.check_counts(job);
        }
        drop(consumer);
        self.model.closed(job);
    }

    /// A consumer salvages the finished outputs, and is dropped.
    fn salvage(&mut self, at: usize) {
        let job = self.readers[at].job;
        if self.threads.iter().any(|thread| thread.is_publishing(job)) {
            return; // a salvage would wait for these threads
        }
        self.tally.maps_salvaged += 1;
        let consumer = self.readers[at].consumer.as_mut().expect("it has not gone away");
        let saved = consumer.map().salvage();
        self.sync_pulled();
        self.model.end_job(job, EndReason::Cancelled);
        let there = |(index, input): (usize, &InputModel)| {
            let saved = !input.yielded && matches!(input.state, InputState::Done(ExpectedEnd::Ok { .. }));
            saved.then_some(index as u64)
        };
        let expected: Vec<u64> = self.model.jobs[&job].inputs.iter().enumerate().filter_map(there).collect();
        let indices: Vec<u64> = saved.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, expected, "salvage gives what finished and was not yielded");
        assert!(saved.iter().all(|(index, answer)| answer.index == *index), "salvage mixes indices up");
        self.drop_reader(at);
    }
}

//! The users and operators of a world: they open and drop maps and calls, kill containers, reset and shut
//! down.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::data::erased::{TypeInfo, Values};
use crate::data::failure::Cause;
use crate::data::prefetch::PrefetchQueue;
use crate::data::source::DirectSource;
use crate::decide::job::JobKind;
use crate::decide::ledger::Mode;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::ReservedPlace;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::open_call::OpenCall;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::simulator::course::Course;
use crate::simulator::events::Due;
use crate::simulator::feeders::{Feeder, SimSource};
use crate::simulator::model::EndReason;
use crate::simulator::plan::OVERDRAFT;
use crate::simulator::readers::{Habit, ReaderWaits, SimReader, Taker};
use crate::simulator::threads::{SimThread, ThreadPhase};
use crate::simulator::values::{Refusal, SimInput};
use crate::simulator::world::{WIDE, World};
use crate::values::event::Event;

impl World {
    /// Lets a user or an operator do something, if the tape says so.
    pub(super) fn someone_acts(&mut self) -> bool {
        match self.tape.pick(160) {
            1..=14 => self.open_map(),
            15..=22 => self.open_call_in(None),
            23..=27 => self.kill(),
            28 => self.dependency_down = true,
            29..=32 => self.dependency_down = false,
            33..=35 => self.reset(),
            36 => match self.tape.pick(12) {
                1..=3 => self.drain(),
                4..=5 => self.stop(),
                6 => self.abort(),
                _ => return false,
            },
            39..=41 => self.someone_goes_away(),
            42..=45 => self.someone_asks_for_progress(),
            46..=47 => self.check_status(),
            48..=50 => self.someone_uses_too_much(),
            51..=60 => self.someone_reserves(),
            61 => self.pause(),
            62..=64 => self.resume(),
            _ => return false,
        }
        true
    }

    fn open_map(&mut self) {
        self.log(|| "open map".to_owned());
        self.tags += 1;
        let tag = self.tags;
        if self.tape.one_in(8) {
            return self.open_with(tag);
        }
        let order = self.tape.one_of(&[Order::Input, Order::Completion]);
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap, Failures::EndMapInOrder]);
        let wide = self.tape.one_in(40);
        let fixed =
            if wide { Some(WIDE) } else { self.tape.one_of(&[Some(8), None, Some(1), Some(3), Some(100)]) };
        let window = fixed.map_or(Window::Adaptive { inputs_min: 3, inputs_max: 64 }, Window::Fixed);
        let habit = match self.tape.pick(7) {
            _ if wide => Habit::Steady,
            0 | 1 => Habit::Greedy,
            2 | 3 => Habit::Slow,
            4 => Habit::Steady,
            5 => Habit::DropsAfter(self.tape.one_of(&[5, 0, 30])),
            _ => Habit::SalvagesAfter(self.tape.one_of(&[5, 0, 30])),
        };
        let size = if wide { WIDE + 60 } else { self.tape.one_of(&[5, 0, 1, 20, 60]) };
        let source = match self.tape.pick(7) {
            0..=2 => None,
            3 => Some(SimSource { inputs: None, panics_at: None, blocks_at: None }),
            4 => Some(SimSource { inputs: Some(size), panics_at: Some(size / 2), blocks_at: None }),
            5 => Some(SimSource { inputs: Some(size), panics_at: None, blocks_at: Some(size / 2) }),
            _ => Some(SimSource { inputs: Some(size), panics_at: None, blocks_at: None }),
        };
        let job_source = match source {
            None => {
                let tickets: Vec<SimInput> =
                    (0..size).map(|index| SimInput::new(tag, index, &self.witness)).collect();
                JobSource::Direct(DirectSource::new(tickets.into_iter()))
            }
            Some(_) => JobSource::Prefetched(Arc::new(PrefetchQueue::new(TypeInfo::of::<SimInput>()))),
        };
        // The consumer of an endless map is dropped before its end.
        let total = source.map_or(Some(size), |source| source.inputs);
        let ends = !matches!(habit, Habit::Greedy | Habit::Steady);
        let habit = if total.is_some() || ends { habit } else { Habit::DropsAfter(40) };
        let limits = self.plan.own_limits(&mut self.tape);
        let Ok(consumer) = ReaderGuard::of_map(
            &self.engine,
            job_source,
            (order, failures),
            window,
            (None, limits),
            self.caller(tag),
        )
        .map(Consumer::over) else {
            assert!(self.model.mode > Mode::Running || self.model.gave_up, "a map was refused");
            return;
        };
        self.tally.maps += 1;
        self.tally.endless_maps += u64::from(total.is_none());
        let job = consumer.job;
        let goes_on = failures != Failures::EndMap;
        self.model.opened(job, tag, JobKind::Map, goes_on, fixed);
        self.model.limited(job, limits);
        let waits = self.waits();
        self.readers.push(SimReader::new(Taker::Map(consumer), order, failures, habit, total, waits));
        if let Some(source) = source {
            self.model.jobs.get_mut(&job).expect("it was just opened").fed = Some(0);
            self.feeders.push(Feeder::new(job, tag, source));
        }
    }

    /// Opens a map over a vector whose outcomes are taken all at once.
    fn open_with(&mut self, tag: u64) {
        let failures = self.tape.one_of(&[Failures::Yield, Failures::EndMap]);
        let size = self.tape.one_of(&[20, 0, 1, 5, 60, 600]);
        let habit = self.tape.one_of(&[Habit::Greedy, Habit::Slow, Habit::DropsAfter(0)]);
        let tickets = (0..size).map(|index| SimInput::new(tag, index, &self.witness)).collect();
        let Ok(consumer) = ReaderGuard::of_all(&self.engine, Values::of(tickets), failures, self.caller(tag))
            .map(Consumer::over)
        else {
            assert!(self.model.mode > Mode::Running || self.model.gave_up, "a map was refused");
            return;
        };
        self.tally.maps += 1;
        self.model.opened(consumer.job, tag, JobKind::Map, failures != Failures::EndMap, None);
        self.sync_pulled();
        let waits = self.waits();
        self.readers.push(SimReader::new(
            Taker::Map(consumer),
            Order::AtOnce,
            failures,
            habit,
            Some(size),
            waits,
        ));
    }

    /// The caller of a map. In worlds with limits its label says which map it is, because events name it.
    fn caller(&self, tag: u64) -> Caller {
        let label = self.plan.is_limited.then(|| tag.to_string().into());
        Caller::within(None, label)
    }

    fn waits(&mut self) -> ReaderWaits {
        if self.tape.one_in(2) { ReaderWaits::InTask(Arc::default()) } else { ReaderWaits::InThread }
    }

    /// Opens a call, in the place that was reserved for it if there is one.
    pub(super) fn open_call_in(&mut self, place: Option<ReservedPlace>) {
        self.log(|| "open call".to_owned());
        let reserved = place.is_some();
        self.tags += 1;
        let input = SimInput::new(self.tags, 0, &self.witness);
        let habit = if self.tape.one_in(5) { Habit::DropsAfter(0) } else { Habit::Greedy };
        let limits = self.plan.own_limits(&mut self.tape);
        match OpenCall::begin::<_, Refusal>(&self.engine, input, Caller::default(), place, limits) {
            Ok(call) => {
                self.tally.calls += 1;
                self.model.opened(call.0.job, self.tags, JobKind::Call, true, None);
                self.model.limited(call.0.job, limits);
                self.sync_pulled();
                let (taker, waits) = (Taker::Call(call), ReaderWaits::InTask(Arc::default()));
                let reader = SimReader::new(taker, Order::Input, Failures::Yield, habit, Some(1), waits);
                self.readers.push(reader);
            }
            Err(failure) => {
                let takes_work = self.model.mode == Mode::Running && !self.model.gave_up;
                let is_full = matches!(failure.cause(), Cause::Overloaded { calls, max } if calls == max);
                assert_eq!(takes_work, is_full && !reserved, "a call was refused for {failure:?}");
                self.tally.overloaded += u64::from(takes_work);
                assert!(failure.input().is_some_and(|input| input.tag == self.tags), "it comes back");
            }
        }
    }

    fn kill(&mut self) {
        self.log(|| "kill".to_owned());
        let id = ContainerId(self.tape.pick(self.plan.rules.containers) as u32);
        if let Some(generation) = self.engine.kill(id) {
            self.tally.kills += 1;
            assert!(self.model.is_alive(id, generation), "invariant 12: a dead generation was killed");
            self.sync_pulled();
            self.dies(id, generation);
            self.note_retry(id, None);
            let lost = self.model.killed(id, generation, self.now());
            self.tally.inputs_lost += u64::from(lost);
        }
        self.give_up(); // if no container is left
        self.create();
    }

    /// A container exceeds its memory limit, in its `enter` or in an execution.
    fn someone_uses_too_much(&mut self) {
        let grows = |thread: &SimThread| {
            matches!(thread.phase, ThreadPhase::Entering { .. } | ThreadPhase::Executing { .. })
        };
        let threads: Vec<usize> = (0..self.threads.len()).filter(|at| grows(&self.threads[*at])).collect();
        let Some(thread) = threads.get(self.tape.pick(threads.len())).map(|at| &self.threads[*at]) else {
            return;
        };
        self.log(|| format!("{}#{} uses too much", thread.id, thread.generation()));
        if thread.grow(OVERDRAFT) {
            self.over_limit.push((thread.id, thread.generation()));
        }
        self.model.left_behind_holds(thread.id, thread.generation(), thread.holds());
    }

    fn pause(&mut self) {
        self.log(|| "pause".to_owned());
        let pauses = self.model.mode == Mode::Running && !self.model.paused;
        let is_paused = self.engine.pause();
        assert_eq!(is_paused, pauses || self.model.paused, "what pause says");
        if pauses {
            self.tally.pauses += 1;
            self.model.paused = true;
            self.recovers_before_it_pauses();
            self.model.hearing.is_due(Due::Paused);
            self.sync_pulled();
            self.shorten_leases();
        }
    }

    /// A pause commits all that containers have completed. A crash loop that one of these completions ended
    /// is over before the function is paused, so subscribers hear of its end first. A container that has
    /// stayed up long enough may end a crash loop in the same moment, if the engine has looked for it.
    fn recovers_before_it_pauses(&mut self) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let has_recovered = heard.iter().any(|(event, _)| matches!(event, Event::Recovered { .. }));
        drop(heard);
        if has_recovered {
            self.model.note_recoveries(self.now());
        } else {
            self.model.note_loops_ended();
        }
    }

    pub(super) fn resume(&mut self) {
        self.log(|| "resume".to_owned());
        let resumes = std::mem::take(&mut self.model.paused);
        if resumes {
            self.model.hearing.is_due(Due::Resumed);
        }
        assert_eq!(self.engine.unpause(), resumes, "what resume says");
    }

    fn reset(&mut self) {
        self.log(|| "reset".to_owned());
        self.give_up();
        let given_up = self.engine.reset();
        let aborted = self.model.mode == Mode::Aborted;
        let deserted = self.model.gave_up && self.model.is_deserted();
        assert_eq!(given_up, self.model.gave_up && !aborted && !deserted, "what reset says");
        self.tally.resets += u64::from(given_up);
        self.tally.resets_in_vain += u64::from(deserted && !aborted);
        if aborted || deserted {
            return;
        }
        let now = self.now();
        self.model.note_recoveries(now);
        if std::mem::take(&mut self.model.paused) {
            self.model.hearing.is_due(Due::Resumed);
        }
        let now = self.now();
        if given_up || self.model.policy.in_a_row(now) > 1 {
            self.model.hearing.is_due(Due::Reset);
        }
        self.model.gave_up = false;
        self.model.policy.reset();
        self.create();
    }

    pub(super) fn drain(&mut self) {
        self.log(|| "drain".to_owned());
        self.tally.drains += 1;
        let full = self.full_windows();
        self.engine.drain();
        self.sync_pulled();
        self.check_windows_are_full(&full);
        self.model.advance_mode(Mode::Draining);
        self.limit_to(Duration::from_secs(30));
    }

    fn stop(&mut self) {
        self.log(|| "stop".to_owned());
        self.tally.stops += 1;
        let full = self.full_windows();
        self.engine.stop();
        self.sync_pulled();
        self.check_windows_are_full(&full);
        self.model.advance_mode(Mode::Stopping);
        self.model.sweep();
        self.limit_to(Duration::from_secs(30));
    }

    pub(super) fn abort(&mut self) {
        self.log(|| "abort".to_owned());
        self.tally.aborts += 1;
        let over = self.jobs_over();
        let full = self.full_windows();
        self.engine.abort();
        self.sync_pulled();
        self.check_windows_are_full(&full);
        self.model.advance_mode(Mode::Aborted);
        self.model.end_all(EndReason::ShutDown, |job| over.contains(&job));
        self.cut(true);
        self.model.all_dead(self.now());
    }

    fn someone_goes_away(&mut self) {
        if !self.readers.is_empty() {
            let at = self.tape.pick(self.readers.len());
            self.drop_reader(at);
        }
    }

    /// A consumer that saw room some time ago reports it only now.
    pub(super) fn room_is_told_of_late(&mut self) {
        if self.tape.one_in(2) {
            self.readers.iter().for_each(|reader| self.engine.made_room(reader.job));
            // A window that has grown has room, and inputs with a deadline are accepted into it now. The
            // clock moves on before the step ends.
            self.sync_pulled();
        }
    }

    /// May drop the consumer of a suspect that is being replayed while suspects of other jobs wait for that.
    pub(super) fn suspect_is_cancelled(&mut self) -> bool {
        let Some(job) = self.model.awaited_suspect() else { return false };
        let at = self.readers.iter().position(|reader| reader.job == job);
        let tired = at.filter(|_| self.tape.one_in(2));
        tired.inspect(|at| self.drop_reader(*at)).is_some()
    }

    fn someone_asks_for_progress(&mut self) {
        if !self.readers.is_empty() {
            let job = self.readers[self.tape.pick(self.readers.len())].job;
            self.check_counts(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::Ordering;

    use crate::simulator::Verbosity;
    use crate::simulator::tape::Tape;

    #[test]
    fn a_pause_that_commits_the_end_of_a_crash_loop_comes_after_it() {
        let mut world = World::new(Tape::new(Vec::new()), Verbosity::Nothing);
        world.dependency_down = true;
        world.create();
        world.run_until("a delay begins", |world| {
            let crash_loop = world.engine.status().crash_loop;
            crash_loop.is_some_and(|crash_loop| crash_loop.crashes == 2)
        });
        world.dependency_down = false;
        world.open_map();
        let publishes = |thread: &SimThread| matches!(thread.phase, ThreadPhase::Publishing { .. });
        world.run_until("an input is completed", |world| world.threads.iter().any(publishes));
        world.pause();
        let heard = world.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heard: Vec<Event> = heard.into_iter().map(|(event, _)| event).collect();
        assert!(matches!(heard[..], [Event::Recovered { crashes: 2, .. }, Event::Paused]), "{heard:?}");
        world.after_step(); // the model expects the same
    }

    #[test]
    fn inputs_that_late_room_lets_in_are_known_before_the_clock_moves_on() {
        let mut world = World::new(Tape::new(Vec::new()), Verbosity::Nothing);
        world.plan.is_limited = true;
        let (adaptive, twenty_inputs, five_ms) = (1, 3, 4);
        let choices = vec![0, 0, 0, 0, adaptive, 0, twenty_inputs, 0, 0, five_ms];
        world.tape = Tape::new(choices);
        world.open_map();
        world.after_step();
        let job = world.readers[0].job;
        world.engine.under_lock(|state| {
            let flow = &state.buffers.map(job).expect("it is open").flow;
            flow.window.store(10, Ordering::SeqCst); // as after an input that was found to be cheap
        });
        world.tape = Tape::new(vec![1]);
        world.room_is_told_of_late();
        let accepted = world.engine.under_lock(|state| state.ledger.job(job).map(|job| job.counts().pulled));
        assert_eq!((accepted, world.model.jobs[&job].inputs.len()), (Some(10), 10));
    }
}

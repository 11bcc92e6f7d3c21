//! [`User`]: carries out the steps of a story, and ends its function.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

use actix::Addr;
use futures::FutureExt;
use futures::executor::block_on;
use futures::task::noop_waker_ref;
use longshore::actor::{MapActor, Place, Resume};
use longshore::{App, ContainerId, Permit, ReserveError};

use crate::actors::Heard;
use crate::held::{HeldCall, HeldMap, More, drop_outcome, finish, set};
use crate::judge::{Course, judge_failure, judge_report, judge_status};
use crate::sources::Tickets;
use crate::story::{Failures, HowCalled, HowOver, HowReserved, Limits, MapSpec, STEPS_MAX, SourceKind, Step};
use crate::values::{F, Output, Ticket, World, Wrong, armed, hold};
use crate::wait::{HUNG, until};

/// The largest number of maps, and of calls, that are held at a time.
const HELD_MAX: usize = 4;

pub(crate) struct User {
    pub(crate) world: Arc<World>,
    app: App,
    pub(crate) f: Option<F>,
    maps: Vec<HeldMap>,
    calls: Vec<HeldCall>,
    permits: Vec<Permit<Ticket, Output, Wrong>>,
    pub(crate) spoken: Vec<Spoken>,
    /// The places that were reserved by message.
    pub(crate) places: Vec<Place>,
    /// Whether the user has paused the function. It resumes the function before it waits for anything.
    pub(crate) paused: bool,
    /// Whether a message that pauses the function may still be on its way.
    pub(crate) pause_is_sent: bool,
    pub(crate) subscribers: Arc<AtomicU32>,
}

/// Whether a step waits for nothing that a pause holds up.
fn goes_on_in_a_pause(step: Step) -> bool {
    match step {
        Step::Begin { stream, .. } => stream,
        Step::Call { how, .. } | Step::CallInPermit { how, .. } => {
            matches!(how, HowCalled::Keep | HowCalled::Drop | HowCalled::Poll)
        }
        Step::Poll { .. } => false, // a map that is no stream is pulled
        Step::DropMap { .. }
        | Step::AbortMap { .. }
        | Step::DropCall { .. }
        | Step::Reserve { .. }
        | Step::DropPermit { .. }
        | Step::WaitTimeout { .. }
        | Step::DetachCall { .. }
        | Step::PauseFunction
        | Step::DropRun { .. }
        | Step::Kill { .. }
        | Step::Status
        | Step::Drain
        | Step::Stop
        | Step::Abort
        | Step::Pause { .. }
        | Step::SendReserve { .. }
        | Step::SendAwaitState { .. }
        | Step::DropPlace { .. }
        | Step::SendPause { .. }
        | Step::SendGetStatus { .. } => true,
        _ => false,
    }
}

/// A map that was begun by message.
pub(crate) struct Spoken {
    pub(crate) map: Addr<MapActor<Ticket, Output, Wrong>>,
    pub(crate) heard: Arc<Mutex<Heard>>,
}

impl User {
    pub(crate) fn new(world: Arc<World>, app: App, f: F) -> Self {
        *hold(&world.f) = Some(Arc::new(f.clone()));
        Self {
            world,
            app,
            f: Some(f),
            maps: Vec::new(),
            calls: Vec::new(),
            permits: Vec::new(),
            spoken: Vec::new(),
            places: Vec::new(),
            paused: false,
            pause_is_sent: false,
            subscribers: Arc::new(AtomicU32::new(0)),
        }
    }

    /// Carries out the whole story.
    pub(crate) fn live(mut self) {
        let steps = self.world.story.steps.clone();
        for step in steps.into_iter().take(STEPS_MAX) {
            if self.paused && !goes_on_in_a_pause(step) {
                self.resume();
            }
            if let Some(f) = self.f.clone() {
                self.take(step, &f);
            } else {
                self.take_what_is_held(step);
            }
        }
        self.end();
    }

    fn take(&mut self, step: Step, f: &F) {
        match step {
            Step::Begin { map, stream } => {
                let (tickets, records) = Tickets::new(&self.world, map);
                let course = Course::new(&self.world, map, records);
                let held = HeldMap::new(set(tickets.mapped(f), map), course, stream);
                self.maps.push(held);
                if self.maps.len() > HELD_MAX {
                    self.maps.remove(0).cancel();
                }
            }
            Step::Call { script, bomb, limits, how } => {
                let ticket = Ticket::new(&self.world, 0, script, bomb);
                let call = armed(|| match limits {
                    Limits::NONE => f.call(ticket),
                    _ => f.call_within(ticket, limits.set()),
                });
                self.call(HeldCall::new(call, limits), how);
            }
            Step::Reserve { how } => self.reserve(f, how),
            Step::PauseFunction => self.paused |= f.pause(),
            Step::ResumeFunction => self.resume(),
            Step::Run { inputs, script, awaited } => {
                let (mut course, tickets) = self.vector(inputs, script, Failures::EndMap);
                let run = armed(|| if awaited { block_on(f.run_async(tickets)) } else { f.run(tickets) });
                match run {
                    Ok(outputs) => {
                        assert_eq!(outputs.len() as u64, u64::from(inputs % 40));
                        outputs.into_iter().for_each(|output| course.give(&Ok(output)));
                    }
                    Err(failure) => {
                        course.give(&Err(failure));
                    }
                }
            }
            Step::RunAll { inputs, script, awaited } => {
                let (mut course, tickets) = self.vector(inputs, script, Failures::Yield);
                let all =
                    armed(|| if awaited { block_on(f.run_all_async(tickets)) } else { f.run_all(tickets) });
                let whole = all.iter().all(|outcome| !matches!(outcome, Err(f) if f.index().is_none()));
                assert!(!whole || all.len() as u64 == u64::from(inputs % 40), "{all:?}");
                for outcome in all {
                    course.give(&outcome);
                    drop_outcome(outcome);
                }
            }
            Step::DropRun { inputs, script } => {
                let (_, tickets) = self.vector(inputs, script, Failures::Yield);
                let polled = armed(|| {
                    let mut run = Box::pin(f.run_all_async(tickets));
                    run.poll_unpin(&mut Context::from_waker(noop_waker_ref()))
                });
                drop(polled);
            }
            Step::ForEach { map, awaited } => {
                let map = match map.source {
                    SourceKind::Endless => MapSpec { source: SourceKind::Vector, ..map },
                    _ => map,
                };
                let (tickets, _) = Tickets::new(&self.world, map);
                match armed(|| tickets.counted(f, awaited)) {
                    Ok(progress) => assert_eq!(progress.pulled, progress.completed()),
                    Err(failure) => {
                        let number = judge_failure(&self.world, &failure, None, Limits::NONE);
                        assert_eq!(number, None, "{failure:?}");
                    }
                }
            }
            Step::Kill { container } => {
                self.world.kills.fetch_add(1, Ordering::SeqCst);
                f.kill_container(ContainerId::new(u32::from(container)));
            }
            Step::Reset => drop(f.reset()),
            Step::Status => judge_status(&self.world, &f.status()),
            Step::Ready => drop(f.ready()),
            Step::Drain | Step::Stop | Step::Abort => {
                self.world.end();
                match step {
                    Step::Drain => f.drain(),
                    Step::Stop => f.stop(),
                    _ => f.abort(),
                }
            }
            Step::DropHandle => armed(|| drop(self.f.take())),
            Step::SendStartMap { .. }
            | Step::SendCallInput { .. }
            | Step::SendReserve { .. }
            | Step::SendAwaitState { .. }
            | Step::SendCallInPlace { .. }
            | Step::SendPause { .. }
            | Step::SendResume { .. }
            | Step::SendKill { .. }
            | Step::SendReset { .. }
            | Step::SendGetStatus { .. }
            | Step::SendShutdown { .. }
            | Step::SendSubscribe { .. } => self.send(step, f),
            _ => self.take_what_is_held(step),
        }
    }

    /// A step that needs no function.
    fn take_what_is_held(&mut self, step: Step) {
        let (maps, calls) = (self.maps.len().max(1), self.calls.len().max(1));
        match step {
            Step::Pull { map, outcomes } => {
                for _ in 0..outcomes % 50 {
                    let at = usize::from(map) % maps;
                    if self.maps.get_mut(at).is_none_or(|map| map.pull() == More::No) {
                        return self.forget_map(at);
                    }
                }
            }
            Step::Poll { map } => {
                let at = usize::from(map) % maps;
                if self.maps.get_mut(at).is_some_and(|map| map.poll() == More::No) {
                    self.forget_map(at);
                }
            }
            Step::DropMap { map } if !self.maps.is_empty() => {
                self.maps.swap_remove(usize::from(map) % maps).cancel();
            }
            Step::AbortMap { map } if !self.maps.is_empty() => self.maps[usize::from(map) % maps].abort(),
            Step::Salvage { map } if !self.maps.is_empty() => {
                self.maps.swap_remove(usize::from(map) % maps).salvage();
            }
            Step::AwaitCall { call } if !self.calls.is_empty() => {
                self.calls.swap_remove(usize::from(call) % calls).finish(&self.world, call > 127);
            }
            Step::DropCall { call } if !self.calls.is_empty() => {
                self.calls.swap_remove(usize::from(call) % calls).cancel();
            }
            Step::WaitTimeout { call, micros } if !self.calls.is_empty() => {
                let call = self.calls.swap_remove(usize::from(call) % calls);
                let limit = Duration::from_micros(u64::from(micros));
                self.calls.extend(call.wait_timeout(&self.world, limit));
            }
            Step::DetachCall { call } if !self.calls.is_empty() => {
                self.calls.swap_remove(usize::from(call) % calls).detach(&self.world);
            }
            Step::DropPermit { permit } if !self.permits.is_empty() => {
                let at = usize::from(permit) % self.permits.len();
                armed(|| drop(self.permits.swap_remove(at)));
            }
            Step::CallInPermit { permit, script, bomb, limits, how } if !self.permits.is_empty() => {
                let at = usize::from(permit) % self.permits.len();
                let permit = self.permits.swap_remove(at);
                let ticket = Ticket::new(&self.world, 0, script, bomb);
                let call = armed(|| permit.call_within(ticket, limits.set()));
                self.call(HeldCall::new(call, limits), how);
            }
            Step::DropPlace { place } if !self.places.is_empty() => {
                let at = usize::from(place) % self.places.len();
                armed(|| drop(self.places.swap_remove(at)));
            }
            Step::Pause { micros } => thread::park_timeout(Duration::from_micros(u64::from(micros))),
            Step::SendCancelMap { .. } | Step::SendGetProgress { .. } => self.send_to_map(step),
            _ => {}
        }
    }

    fn forget_map(&mut self, at: usize) {
        if at < self.maps.len() {
            self.maps.swap_remove(at).cancel();
        }
    }

    fn resume(&mut self) {
        self.paused = false;
        let by_message = std::mem::take(&mut self.pause_is_sent);
        let Some(f) = &self.f else { return };
        if by_message {
            // The method would overtake the message that pauses the function. This message is behind it.
            let _resumed = block_on(f.supervisor().send(Resume)); // fails if the function has ended
        } else {
            f.resume();
        }
    }

    fn reserve(&mut self, f: &F, how: HowReserved) {
        let reserved = match how {
            HowReserved::Try => Some(f.try_reserve()),
            HowReserved::Poll => f.reserve().now_or_never(),
        };
        match reserved {
            Some(Ok(permit)) if self.permits.len() < HELD_MAX => self.permits.push(permit),
            Some(Err(ReserveError::WouldDeadlock | ReserveError::Engine(_))) => panic!("{reserved:?}"),
            Some(_) | None => {}
        }
    }

    fn call(&mut self, mut call: HeldCall, how: HowCalled) {
        match how {
            HowCalled::Wait => call.finish(&self.world, false),
            HowCalled::Await => call.finish(&self.world, true),
            HowCalled::Drop => call.cancel(),
            HowCalled::Abort => {
                call.abort();
                call.finish(&self.world, false);
            }
            HowCalled::Poll => self.calls.extend(call.poll(&self.world)),
            HowCalled::Keep => self.calls.push(call),
        }
        if self.calls.len() > HELD_MAX {
            self.calls.remove(0).cancel();
        }
    }

    fn vector(&self, inputs: u8, script: u8, failures: Failures) -> (Course, Vec<Ticket>) {
        let source = SourceKind::Vector;
        let (bombs, unordered, window, retries) = (script > 127, false, None, None);
        let limits = Limits::NONE;
        let map = MapSpec { source, inputs, script, bombs, unordered, failures, window, retries, limits };
        let (tickets, records) = Tickets::new(&self.world, map);
        (Course::new(&self.world, map, records), tickets.vector())
    }

    fn end(mut self) {
        self.resume();
        let ending = self.world.story.ending;
        self.world.over.store(true, Ordering::SeqCst);
        if ending.finish_first {
            finish(&self.world, &mut self.maps, &mut self.calls);
        }
        if ending.how != HowOver::Dropped {
            self.world.end();
        }
        let begun = Instant::now();
        let app = self.app;
        let report = match ending.how {
            HowOver::Dropped => {
                armed(|| drop((self.f.take(), hold(&self.world.f).take(), app)));
                None
            }
            HowOver::Drained => Some(app.shutdown_within(2 * HUNG)),
            HowOver::DrainedAwaited => Some(block_on(app.shutdown())),
            HowOver::Stopped => Some(app.stop_within(2 * HUNG)),
            HowOver::Aborted => Some(app.abort()),
        };
        assert!(begun.elapsed() < HUNG, "the end took {:?}: {report:?}", begun.elapsed());
        report.iter().for_each(judge_report);
        armed(|| drop((self.f.take(), hold(&self.world.f).take(), self.permits, self.places)));
        let (mut maps, mut calls) = (self.maps, self.calls);
        finish(&self.world, &mut maps, &mut calls);
        for spoken in self.spoken {
            until("the last batch has come", || {
                let heard = hold(&spoken.heard);
                heard.last || heard.course.disturbed
            });
        }
        until("the subscribers have ended", || self.subscribers.load(Ordering::SeqCst) == 0);
        let world = self.world;
        until("every value is dropped", || Arc::strong_count(&world) == 1);
        assert_eq!(world.live.load(Ordering::SeqCst), 0);
    }
}

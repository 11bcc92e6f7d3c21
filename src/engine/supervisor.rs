//! The supervisor actor: it owns a function's containers, and alone creates them, waits for their end and gives up.
//!
//! Crashes are judged where they are seen, under the function's lock; a restart without delay is
//! carried out by the thread that crashed; the end of a function is begun by the handle that asks for it. Everything
//! that takes time or a new thread is done here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Recipient, SpawnHandle};
use tokio::sync::oneshot;

use crate::base::ids::ContainerId;
use crate::decide::pacing::POLL_MIN;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::actor::{Ending, Shutdown};
use crate::engine::container::Container;
use crate::engine::dispatch::Dispatch;
use crate::engine::feeder;
use crate::engine::log_throttle::REPEATS_PERIOD;
use crate::engine::messages::{Launch, Notice, Reply, Request, Retire, SupervisorEnded, SupervisorView};
use crate::engine::running::Running;
use crate::values::report::FunctionReport;

/// How long code that was cut off may take to come out, idle containers to exit, feeders to come back from their source, and
/// subscribers to hear of what comes before the report.
const GRACE: Duration = Duration::from_secs(1);

/// A timer may fire a moment early by its own clock: so long is waited at least before the next look.
const TIMER_MIN: Duration = Duration::from_micros(100);

/// How far the end of a function has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndPhase {
    /// None was asked for, or its limit has not passed.
    Limited,
    /// The limit has passed. What was cut off may come out, and idle containers exit: everything is waited for.
    Grace,
    /// It is aborted: only what comes out by itself is waited for.
    Aborted,
}

/// Supervises one function. It knows no types: messages that have any come by way of the
/// [`Supervisor`](crate::actor::Supervisor).
pub(crate) struct UntypedSupervisor {
    dispatch: Arc<Dispatch>,
    default_window: Window,
    /// What keeps the function; handed on to the maps and calls that begin by message.
    running: Weak<Running>,
    /// The same, while the function comes to its end because it was told to.
    kept: Option<Arc<Running>>,
    containers: Vec<Addr<Container>>,
    /// The typed supervisor, if there is one: it is told of the end.
    front: Option<Recipient<SupervisorEnded>>,
    /// Who wants the report.
    reporting: Vec<oneshot::Sender<FunctionReport>>,
    /// Ends the wait for containers that do not end, and when.
    limit: Option<(Time, SpawnHandle)>,
    /// How far the end has come that was asked for.
    end: EndPhase,
    /// The next moment at which containers may be created again.
    wake: Option<SpawnHandle>,
    /// The next review of what is due by time alone.
    review: Option<(Time, SpawnHandle)>,
    /// Ends the wait for feeders.
    grace: Option<SpawnHandle>,
}

impl UntypedSupervisor {
    pub(crate) fn new(dispatch: Arc<Dispatch>, default_window: Window) -> Self {
        Self {
            dispatch,
            default_window,
            running: Weak::new(),
            kept: None,
            containers: Vec::new(),
            front: None,
            reporting: Vec::new(),
            limit: None,
            end: EndPhase::Limited,
            wake: None,
            review: None,
            grace: None,
        }
    }

    /// Creates every container that is absent and may be created; comes back for those that may not yet.
    fn create(&mut self, ctx: &mut Context<Self>) {
        for (id, generation) in self.dispatch.create() {
            self.containers[id.index()].do_send(Launch { generation });
        }
        if let Some(handle) = self.wake.take() {
            ctx.cancel_future(handle);
        }
        if let Some(delay) = self.dispatch.next_creation() {
            // A timer may fire a moment early by its own clock; `create` then arms it again.
            let delay = delay.max(TIMER_MIN);
            self.wake = Some(ctx.run_later(delay, |supervisor, ctx| {
                supervisor.create(ctx);
                supervisor.finish_if_ended(ctx);
            }));
        }
    }

    /// Schedules a [`review`](Dispatch::review) after `delay`, unless one is due earlier. Each review schedules the next, as
    /// long as there may be something to do.
    fn review_in(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        let at = self.dispatch.now() + delay;
        match self.review.take() {
            Some((before, handle)) if before <= at => return self.review = Some((before, handle)),
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        let handle = ctx.run_later(delay, |supervisor, ctx| {
            supervisor.review = None;
            if let Some(delay) = supervisor.dispatch.review() {
                supervisor.review_in(delay.max(TIMER_MIN), ctx);
            }
            supervisor.create(ctx); // who was held back by a loop that is over now
        });
        self.review = Some((at, handle));
    }

    /// Looks for outcomes after `pause`, and again until nobody waits for them in a task.
    fn tick(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(pause, move |supervisor, ctx| {
            if let Some(pause) = supervisor.dispatch.tick().pause(pause) {
                supervisor.tick(pause, ctx);
            }
        });
    }

    /// Sends the report and stops, once everything has ended or nothing is waited for any more.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.give_up(); // if that was decided, and its notice is still on the way
        let report = self.dispatch.report();
        self.dispatch.ended_with(report.clone());
        let running = self.kept.take().or_else(|| self.running.upgrade());
        if let Some(running) = running {
            running.ended(&report);
            drop(running); // before the reply, so that whoever has it finds nothing of ours alive
        }
        let replies = std::mem::take(&mut self.reporting);
        // Behind the events, so that a program which ends with its report has told them.
        let answer = self.dispatch.behind_events(move || {
            for reply in replies {
                drop(reply.send(report.clone())); // whoever no longer waits misses nothing
            }
        });
        // A subscriber may block for ever, or wait for this very report.
        if !answer.is_done() {
            actix::spawn(async move {
                tokio::time::sleep(GRACE).await;
                answer.run();
            });
        }
        self.dispatch.over();
        ctx.stop();
    }

    /// Begins to come to an end. What is left of a drain or a stop after `limit` is cut off.
    fn end(&mut self, ending: Ending, limit: Duration, ctx: &mut Context<Self>) {
        self.dispatch.begin_end(ending);
        match (ending, self.end) {
            (Ending::Abort, _) => return self.abort(ctx),
            (_, EndPhase::Limited) => self.limit_to(limit, ctx, Self::cut_off),
            (_, EndPhase::Grace | EndPhase::Aborted) => {} // its own limit runs
        }
        self.finish_if_ended(ctx);
    }

    /// The limit has passed.
    fn cut_off(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.cut_off();
        self.limit = None;
        self.end = EndPhase::Grace;
        self.limit_to(GRACE, ctx, Self::abort);
        self.finish_if_ended(ctx);
    }

    /// What is in the user's code is left behind; what is not comes out by itself, or is left behind as well.
    fn abort(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.abort();
        if self.end != EndPhase::Aborted {
            if let Some((_, handle)) = self.limit.take() {
                ctx.cancel_future(handle);
            }
            self.end = EndPhase::Aborted;
            self.limit_to(GRACE, ctx, Self::finish);
        }
        self.finish_if_ended(ctx);
    }

    /// Ends the wait after `limit`, unless it ends before already: of several limits the first counts.
    fn limit_to(
        &mut self,
        limit: Duration,
        ctx: &mut Context<Self>,
        then: fn(&mut Self, &mut Context<Self>),
    ) {
        let until = self.dispatch.now() + limit;
        match self.limit.take() {
            Some((before, handle)) if before <= until => return self.limit = Some((before, handle)),
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        self.limit = Some((until, ctx.run_later(limit, then)));
    }

    /// Comes to the end once containers have ended. Feeders get a grace: one stuck in its source may
    /// stay there for ever, and is reported.
    fn finish_if_ended(&mut self, ctx: &mut Context<Self>) {
        if self.limit.is_none() || !self.dispatch.has_ended() {
            return;
        }
        if self.end == EndPhase::Grace && self.dispatch.has_threads() {
            return; // they are cut off, and may come out
        }
        if !self.dispatch.is_fed() {
            return self.finish(ctx);
        }
        self.grace.get_or_insert_with(|| ctx.run_later(GRACE, |supervisor, ctx| supervisor.finish(ctx)));
    }
}

impl Actor for UntypedSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let supervisor = ctx.address();
        self.dispatch.supervise(move |notice| supervisor.do_send(notice));
        self.containers = self
            .dispatch
            .containers()
            .map(|id| Container::new(id, Arc::clone(&self.dispatch)).start())
            .collect();
        self.create(ctx);
    }
}

impl Drop for UntypedSupervisor {
    fn drop(&mut self) {
        if !self.dispatch.is_over() {
            self.dispatch.break_down("the supervisor ended unexpectedly");
        }
        self.containers.iter().for_each(|container| container.do_send(Retire));
        self.front.iter().for_each(|front| front.do_send(SupervisorEnded));
    }
}

impl Handler<Notice> for UntypedSupervisor {
    type Result = ();

    fn handle(&mut self, notice: Notice, ctx: &mut Context<Self>) {
        match notice {
            Notice::Crashed { restart } => {
                self.review_in(REPEATS_PERIOD, ctx);
                if restart == Restart::GiveUp {
                    self.dispatch.give_up();
                }
            }
            Notice::Entered => self.review_in(TIMER_MIN, ctx),
            Notice::Fenced { restart } => {
                self.review_in(REPEATS_PERIOD, ctx);
                if restart == Restart::GiveUp {
                    self.dispatch.give_up();
                }
                self.create(ctx);
                self.finish_if_ended(ctx);
            }
            Notice::FeederEnded => self.finish_if_ended(ctx),
            Notice::Recovered => self.create(ctx),
            Notice::Awaited => self.tick(POLL_MIN, ctx),
            Notice::NothingPending => {
                self.create(ctx);
                self.finish_if_ended(ctx);
            }
            Notice::Exiting { container, .. } => self.containers[container.index()].do_send(notice),
            Notice::Ended { container, .. } => {
                self.containers[container.index()].do_send(notice);
                self.create(ctx);
                self.finish_if_ended(ctx);
            }
        }
    }
}

impl Handler<Request> for UntypedSupervisor {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Context<Self>) {
        if request.is_unwanted() {
            return;
        }
        match request {
            Request::Attach(running) => self.running = running,
            Request::Front(front) => self.front = Some(front),
            Request::End { how, running, report } => {
                self.kept = Some(running);
                self.reporting.push(report);
                self.end(how.ending, how.limit, ctx);
            }
            Request::Shutdown(Shutdown { ending, limit }, reply) => {
                self.kept = self.running.upgrade(); // not there if this comes from its drop
                self.reporting.extend(reply);
                self.end(ending, limit, ctx);
            }
            Request::FeedMap { job, source, guard } => {
                feeder::start(&self.dispatch, job, source);
                guard.disarm();
            }
            Request::Kill(container, reply) => answer(reply, self.kill(container, ctx)),
            Request::Reset(reply) => answer(reply, self.reset(ctx)),
            Request::Status(reply) => answer(reply, self.dispatch.status()),
            Request::Subscribe(to, reply) => {
                self.dispatch.outbox.subscribers.add(to);
                answer(reply, ());
            }
            Request::Typed(carry_out) => carry_out(&SupervisorView {
                dispatch: &self.dispatch,
                default_window: self.default_window,
                running: self.running.upgrade(),
            }),
        }
    }
}

fn answer<T>(reply: Reply<T>, answer: T) {
    if let Some(reply) = reply {
        drop(reply.send(answer)); // whoever no longer waits misses nothing
    }
}

impl UntypedSupervisor {
    /// Whether the container lived.
    fn kill(&mut self, container: ContainerId, ctx: &mut Context<Self>) -> bool {
        let known = container.index() < self.containers.len();
        let killed = known && self.dispatch.kill(container).is_some();
        self.dispatch.give_up(); // if nobody is left, and nobody can be created
        self.create(ctx);
        self.finish_if_ended(ctx);
        killed
    }

    /// Whether the function had given up.
    fn reset(&mut self, ctx: &mut Context<Self>) -> bool {
        self.dispatch.give_up(); // if that was decided, and its notice is still on the way
        let given_up = self.dispatch.reset();
        self.create(ctx);
        given_up
    }
}

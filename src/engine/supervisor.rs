//! The supervisor actor: it owns a function's containers. Only the supervisor creates containers, waits for
//! their end, and carries out a decision to give up.
//!
//! A crash is judged by the thread that sees it, under the function's lock. A restart without delay is
//! carried out by the thread that crashed. The end of a function is begun by the handle that asks for it. The
//! supervisor does everything that takes time or needs a new thread.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Recipient, SpawnHandle};
use tokio::sync::oneshot;

use crate::base::ids::ContainerId;
use crate::decide::pacing::POLL_MIN;
use crate::decide::restart::Restart;
use crate::decide::storm::PERIOD;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::actor::{Ending, Shutdown};
use crate::engine::container::Container;
use crate::engine::dispatch::Dispatch;
use crate::engine::feeder;
use crate::engine::messages::{Launch, Notice, Reply, Request, Retire, SupervisorEnded, SupervisorView};
use crate::engine::place;
use crate::engine::ready_request;
use crate::engine::running::Running;
use crate::values::report::FunctionReport;

/// How long code that was cut off may take to reach a checkpoint, idle containers to exit, feeders to return
/// from their source, and subscribers to take the events that precede the report.
const GRACE: Duration = Duration::from_secs(1);

/// The shortest delay of a timer. A timer may fire a moment early by its own clock, and a timer that is set
/// again for the rest must not have a delay of almost 0.
const TIMER_MIN: Duration = Duration::from_micros(100);

/// The phase of a function's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndPhase {
    /// The function was not asked to end, or the limit of its end has not passed.
    Limited,
    /// The limit has passed, and unfinished code was cut off. The supervisor waits for the code to end at a
    /// checkpoint and for idle containers to exit.
    Grace,
    /// The function is aborted. The supervisor waits only for threads that end by themselves.
    Aborted,
}

/// Supervises one function. It knows none of the function's types. Messages with types go through the public
/// [`Supervisor`](crate::actor::Supervisor).
pub(crate) struct UntypedSupervisor {
    dispatch: Arc<Dispatch>,
    default_window: Window,
    /// The function. The maps and calls that are begun by message hold a strong reference to it.
    running: Weak<Running>,
    /// Keeps the function alive while it ends by request.
    kept: Option<Arc<Running>>,
    containers: Vec<Addr<Container>>,
    /// The typed supervisor, if there is one. It stops when this supervisor does.
    front: Option<Recipient<SupervisorEnded>>,
    /// The senders that wait for the report.
    reporting: Vec<oneshot::Sender<FunctionReport>>,
    /// The timer of the current phase of the end, and when it fires.
    limit: Option<(Time, SpawnHandle)>,
    /// The phase of the function's end.
    end: EndPhase,
    /// The timer that fires when containers may be created again.
    wake: Option<SpawnHandle>,
    /// The timer of the next [`review`](Dispatch::review), and when it fires.
    review: Option<(Time, SpawnHandle)>,
    /// The timer of the next look at the limits of time.
    limits: Option<SpawnHandle>,
    /// The timer that ends the wait for feeders.
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
            limits: None,
            grace: None,
        }
    }

    /// Creates every container that is absent and may be created, and sets a timer for those that may not be
    /// created yet.
    fn create(&mut self, ctx: &mut Context<Self>) {
        for (id, generation) in self.dispatch.create() {
            self.containers[id.index()].do_send(Launch { generation });
        }
        if let Some(handle) = self.wake.take() {
            ctx.cancel_future(handle);
        }
        if let Some(delay) = self.dispatch.next_creation() {
            // A timer may fire a moment early by its own clock. Then `create` sets it again.
            let delay = delay.max(TIMER_MIN);
            self.wake = Some(ctx.run_later(delay, |supervisor, ctx| {
                supervisor.create(ctx);
                supervisor.finish_if_ended(ctx);
            }));
        }
    }

    /// Schedules a [`review`](Dispatch::review) after `delay`, unless one is due earlier. Each review
    /// schedules the next, as long as there may be something to do.
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
            supervisor.create(ctx); // containers that a crash loop held back until now
        });
        self.review = Some((at, handle));
    }

    /// Does what is due at the limits of time, and sets a timer for the next look.
    fn look_at_limits(&mut self, ctx: &mut Context<Self>) {
        if let Some(handle) = self.limits.take() {
            ctx.cancel_future(handle);
        }
        if let Some(delay) = self.dispatch.look_at_limits() {
            // A timer may fire a moment early by its own clock. Then this sets it again.
            let delay = delay.max(TIMER_MIN);
            self.limits = Some(ctx.run_later(delay, |supervisor, ctx| {
                supervisor.limits = None;
                supervisor.look_at_limits(ctx);
            }));
        }
    }

    /// Polls for outcomes after `pause`, and again until no consumer waits in a task.
    fn tick(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(pause, move |supervisor, ctx| {
            if let Some(pause) = supervisor.dispatch.tick().pause(pause) {
                supervisor.tick(pause, ctx);
            }
        });
    }

    /// Sends the report and stops, once everything has ended or nothing is waited for any more.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.give_up(); // if that was decided, and its notice has not arrived
        let report = self.dispatch.report();
        self.dispatch.ended_with(report.clone());
        let running = self.kept.take().or_else(|| self.running.upgrade());
        if let Some(running) = running {
            running.ended(&report);
            // Dropped before the reply, so that the receiver of the report finds nothing of the function
            // alive.
            drop(running);
        }
        self.dispatch.over();
        let replies = std::mem::take(&mut self.reporting);
        // The reply is queued behind the events, so that a program that ends once it has the report has
        // logged them all.
        let dispatch = Arc::clone(&self.dispatch);
        let answer = self.dispatch.behind_events(move || {
            dispatch.settings.viewers.record(|| dispatch.snapshot());
            drop(dispatch);
            for reply in replies {
                drop(reply.send(report.clone())); // fails if the receiver no longer waits
            }
        });
        // A subscriber may block for ever, or even wait for this report, so the reply is sent after `GRACE`
        // at the latest.
        if !answer.is_done() {
            actix::spawn(async move {
                tokio::time::sleep(GRACE).await;
                answer.run();
            });
        }
        ctx.stop();
    }

    /// Begins to end the function. If a drain or a stop has not ended after `limit`, the rest is cut off.
    fn end(&mut self, ending: Ending, limit: Duration, ctx: &mut Context<Self>) {
        self.dispatch.begin_end(ending);
        match (ending, self.end) {
            (Ending::Abort, _) => return self.abort(ctx),
            (_, EndPhase::Limited) => self.limit_to(limit, ctx, Self::cut_off),
            // The limit of an earlier end has passed, and `GRACE` limits the rest.
            (_, EndPhase::Grace | EndPhase::Aborted) => {}
        }
        self.finish_if_ended(ctx);
    }

    /// The limit has passed: cuts off all unfinished code.
    fn cut_off(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.cut_off();
        self.limit = None;
        self.end = EndPhase::Grace;
        self.limit_to(GRACE, ctx, Self::abort);
        self.finish_if_ended(ctx);
    }

    /// Aborts the function. Threads in the user's code are abandoned. The other threads end by themselves, or
    /// are abandoned as well after `GRACE`.
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

    /// Calls `then` after `limit`, unless an earlier limit is already set. The earliest limit counts.
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

    /// Finishes once all containers have ended. Feeders have a grace period. A feeder that is stuck in its
    /// source may stay there for ever, and counts as a running thread in the report.
    fn finish_if_ended(&mut self, ctx: &mut Context<Self>) {
        if self.limit.is_none() || !self.dispatch.has_ended() {
            return;
        }
        if self.end == EndPhase::Grace && self.dispatch.has_threads() {
            return; // the threads are cut off, and may still end at a checkpoint
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
        self.look_at_limits(ctx); // a call with a deadline may have been accepted before
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
                self.review_in(PERIOD, ctx);
                if restart == Restart::GiveUp {
                    self.dispatch.give_up();
                }
            }
            Notice::Entered => self.review_in(TIMER_MIN, ctx),
            Notice::Fenced { restart } => {
                self.review_in(PERIOD, ctx);
                if restart == Restart::GiveUp {
                    self.dispatch.give_up();
                }
                self.create(ctx);
                self.finish_if_ended(ctx);
            }
            Notice::FeederEnded => self.finish_if_ended(ctx),
            Notice::Recovered => self.create(ctx),
            Notice::Limited => self.look_at_limits(ctx),
            Notice::Folds => self.review_in(PERIOD, ctx),
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
                self.kept = self.running.upgrade(); // `None` if the request comes from the drop of `Running`
                self.reporting.extend(reply);
                self.end(ending, limit, ctx);
            }
            Request::FeedMap { job, source, guard } => {
                feeder::start(&self.dispatch, job, source);
                guard.disarm();
            }
            Request::Kill(container, reply) => answer(reply, self.kill(container, ctx)),
            Request::Reset(reply) => answer(reply, self.reset(ctx)),
            Request::Reserve(waits, reply) => place::reserve(self.running.upgrade(), waits, reply),
            Request::Wait(wanted, reply) => ready_request::reply_when(&self.dispatch, wanted, reply),
            Request::Pause(reply) => answer(reply, self.dispatch.pause()),
            Request::Resume(reply) => answer(reply, self.dispatch.unpause()),
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
        drop(reply.send(answer)); // fails if the sender of the request no longer waits
    }
}

impl UntypedSupervisor {
    /// Kills a container. Returns whether it was alive.
    fn kill(&mut self, container: ContainerId, ctx: &mut Context<Self>) -> bool {
        let known = container.index() < self.containers.len();
        let killed = known && self.dispatch.kill(container).is_some();
        self.dispatch.give_up(); // if no container is left, and none can be created
        self.create(ctx);
        self.finish_if_ended(ctx);
        killed
    }

    /// Resets the function. Returns whether it had given up.
    fn reset(&mut self, ctx: &mut Context<Self>) -> bool {
        self.dispatch.give_up(); // if that was decided, and its notice has not arrived
        let given_up = self.dispatch.reset();
        self.create(ctx);
        given_up
    }
}

//! The supervisor actor: it owns a function's containers, and alone creates them, waits for their end and gives up.
//!
//! Crashes are judged where they are seen, under the function's lock; a restart without delay is
//! carried out by the thread that crashed; the end of a function is begun by the handle that asks for it. Everything
//! that takes time or a new thread is done here.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture, SpawnHandle,
};
use tokio::sync::oneshot;

use crate::actor::{CallInput, Ending, GetStatus, KillContainer, Reset, Shutdown, StartMap, Subscribe};
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::consumer::{Consumer, Sight};
use crate::engine::container::Container;
use crate::engine::dispatch::{Dispatch, Patience, TICK_MIN};
use crate::engine::drops::{Elsewhere, Stack, drop_elsewhere};
use crate::engine::feeder;
use crate::engine::map::{Delivery, Map};
use crate::engine::messages::{Attach, End, FeedMap, Launch, Notice, Retire};
use crate::engine::story::FOLD;
use crate::failure::{Cause, Failure, Reason};
use crate::function::Running;
use crate::map::Opened;
use crate::report::FunctionReport;

/// How long code that was cut off may take to come out, idle containers to exit, feeders to come back from their source, and
/// subscribers to hear of what comes before the report.
const GRACE: Duration = Duration::from_secs(1);

/// A timer may fire a moment early by its own clock: so long is waited at least before the next look.
const TIMER_MIN: Duration = Duration::from_micros(100);

/// A stretch of the way to the end of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    /// None was asked for, or its limit has not passed.
    Limited,
    /// The limit has passed. What was cut off may come out, and idle containers exit: everything is waited for.
    Grace,
    /// It is aborted: only what comes out by itself is waited for.
    Aborted,
}

/// Supervises one function: the actor behind a [`Function`](crate::Function). It takes the messages of
/// [`actor`](crate::actor).
pub struct Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    dispatch: Arc<Dispatch>,
    default_window: Window,
    /// What keeps the function; handed on to the maps and calls that begin by message.
    running: Weak<Running<I, O, E>>,
    /// The same, while the function comes to its end because it was told to.
    kept: Option<Arc<Running<I, O, E>>>,
    containers: Vec<Addr<Container>>,
    /// Who wants the report.
    reporting: Vec<oneshot::Sender<FunctionReport>>,
    /// Ends the wait for containers that do not end, and when.
    limit: Option<(Time, SpawnHandle)>,
    /// How far the end has come that was asked for.
    end: Stretch,
    /// The next moment at which containers may be created again.
    wake: Option<SpawnHandle>,
    /// The next review of what is due by time alone.
    review: Option<(Time, SpawnHandle)>,
    /// Ends the wait for feeders.
    grace: Option<SpawnHandle>,
}

impl<I, O, E> Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(dispatch: Arc<Dispatch>, default_window: Window) -> Self {
        Self {
            dispatch,
            default_window,
            running: Weak::new(),
            kept: None,
            containers: Vec::new(),
            reporting: Vec::new(),
            limit: None,
            end: Stretch::Limited,
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
            (_, Stretch::Limited) => self.limit_to(limit, ctx, Self::cut_off),
            (_, Stretch::Grace | Stretch::Aborted) => {} // its own limit runs
        }
        self.finish_if_ended(ctx);
    }

    /// The limit has passed.
    fn cut_off(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.cut_off();
        self.limit = None;
        self.end = Stretch::Grace;
        self.limit_to(GRACE, ctx, Self::abort);
        self.finish_if_ended(ctx);
    }

    /// What is in the user's code is left behind; what is not comes out by itself, or is left behind as well.
    fn abort(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.abort();
        if self.end != Stretch::Aborted {
            if let Some((_, handle)) = self.limit.take() {
                ctx.cancel_future(handle);
            }
            self.end = Stretch::Aborted;
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
        if self.end == Stretch::Grace && self.dispatch.has_threads() {
            return; // they are cut off, and may come out
        }
        if !self.dispatch.is_fed() {
            return self.finish(ctx);
        }
        self.grace.get_or_insert_with(|| ctx.run_later(GRACE, |supervisor, ctx| supervisor.finish(ctx)));
    }
}

impl<I, O, E> Actor for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let supervisor = ctx.address();
        self.dispatch.supervise(move |notice| supervisor.do_send(notice));
        let ids = self.dispatch.hold().ledger.containers();
        self.containers = ids.map(|id| Container::new(id, Arc::clone(&self.dispatch)).start()).collect();
        self.create(ctx);
    }
}

impl<I, O, E> Drop for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if !self.dispatch.is_over() {
            self.dispatch.break_down("the supervisor ended unexpectedly");
        }
        self.containers.iter().for_each(|container| container.do_send(Retire));
    }
}

impl<I, O, E> Handler<Notice> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, notice: Notice, ctx: &mut Context<Self>) {
        match notice {
            Notice::Crashed { restart } => {
                self.review_in(FOLD, ctx);
                if restart == Restart::GiveUp {
                    self.dispatch.give_up();
                }
            }
            Notice::Entered => self.review_in(TIMER_MIN, ctx),
            Notice::Fenced { restart } => {
                self.review_in(FOLD, ctx);
                if restart == Restart::GiveUp {
                    self.dispatch.give_up();
                }
                self.create(ctx);
                self.finish_if_ended(ctx);
            }
            Notice::FeederEnded => self.finish_if_ended(ctx),
            Notice::Recovered => self.create(ctx),
            Notice::Awaited => self.tick(TICK_MIN, ctx),
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

impl<I, O, E> Handler<Attach<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, Attach(running): Attach<I, O, E>, _: &mut Context<Self>) {
        self.running = running;
    }
}

impl<I, O, E> Handler<End<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, End { how, running, report }: End<I, O, E>, ctx: &mut Context<Self>) {
        self.kept = Some(running);
        self.reporting.push(report);
        self.end(how.ending, how.limit, ctx);
    }
}

impl<I, O, E> Handler<FeedMap> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, FeedMap { job, source, guard }: FeedMap, _: &mut Context<Self>) {
        feeder::start(&self.dispatch, job, source);
        guard.delivered();
    }
}

impl<I, O, E> Handler<StartMap<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Result<Addr<Map<I, O, E>>, Cause<E>>;

    fn handle(
        &mut self,
        StartMap { source, options, to }: StartMap<I, O, E>,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let running = self.running.upgrade().ok_or(Reason::ShutDown)?;
        let (consumer, feed): Opened<I, O, E> = options.open(&self.dispatch, self.default_window, source)?;
        let job = consumer.job();
        if let Some(source) = feed {
            feeder::start(&self.dispatch, job, source);
        }
        let delivery = Delivery { consumer, to, _running: running };
        Ok(Map::new(job, Arc::clone(&self.dispatch), delivery).start())
    }
}

impl<I, O, E> Handler<CallInput<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Answer<I, O, E>;

    fn handle(&mut self, message: CallInput<I, O, E>, _: &mut Context<Self>) -> Self::Result {
        let stack = self.dispatch.settings.stack();
        let CallInput { input, caller, .. } = message;
        let begun = Consumer::of_call(&self.dispatch, input.into_inner(), caller).map(|mut consumer| {
            consumer.keep_used();
            consumer
        });
        let begun = begun.map_err(|refused| Elsewhere::new(refused, stack, true));
        Answer { begun, stack, running: self.running.upgrade() }
    }
}

/// The answer to a [`CallInput`]: its outcome, once that is there. Not a plain future, because an outcome
/// that nobody waits for is the user's to drop, and not on this thread.
pub struct Answer<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    begun: Result<Consumer<I, O, E>, Elsewhere<Failure<I, E>>>,
    stack: Stack,
    /// Keeps the function until the call has its outcome, as any call does.
    running: Option<Arc<Running<I, O, E>>>,
}

impl<I, O, E> Answer<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    async fn outcome(self) -> Result<O, Failure<I, E>> {
        let _running = self.running;
        let mut consumer = self.begun.map_err(Elsewhere::into_inner)?;
        poll_fn(|cx| match consumer.look(Patience::Task(cx.waker())) {
            Sight::NotYet => Poll::Pending,
            sight => Poll::Ready(sight.into_outcome()),
        })
        .await
    }
}

impl<I, O, E> MessageResponse<Supervisor<I, O, E>, CallInput<I, O, E>> for Answer<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn handle(
        self,
        _: &mut Context<Supervisor<I, O, E>>,
        reply: Option<OneshotSender<Result<O, Failure<I, E>>>>,
    ) {
        actix::spawn(async move {
            let stack = self.stack;
            let outcome = self.outcome().await;
            let unread = match reply {
                Some(reply) => reply.send(outcome).err(),
                None => Some(outcome),
            };
            if let Some(unread) = unread {
                drop_elsewhere(stack, unread);
            }
        });
    }
}

impl<I, O, E> Handler<Shutdown> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ResponseFuture<FunctionReport>;

    fn handle(&mut self, Shutdown { ending, limit }: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, report) = oneshot::channel();
        self.kept = self.running.upgrade(); // not there if this comes from its drop
        self.reporting.push(reply);
        self.end(ending, limit, ctx);
        let function = self.dispatch.settings.function.to_string();
        Box::pin(async move { report.await.unwrap_or_else(|_| FunctionReport::unknown(&function)) })
    }
}

impl<I, O, E> Handler<KillContainer> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = bool;

    fn handle(&mut self, KillContainer { container }: KillContainer, ctx: &mut Context<Self>) -> bool {
        let known = container.index() < self.containers.len();
        let killed = known && self.dispatch.kill(container).is_some();
        self.dispatch.give_up(); // if nobody is left, and nobody can be created
        self.create(ctx);
        self.finish_if_ended(ctx);
        killed
    }
}

impl<I, O, E> Handler<Reset> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = bool;

    fn handle(&mut self, _: Reset, ctx: &mut Context<Self>) -> bool {
        self.dispatch.give_up(); // if that was decided, and its notice is still on the way
        let given_up = self.dispatch.reset();
        self.create(ctx);
        given_up
    }
}

impl<I, O, E> Handler<GetStatus> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.dispatch.status())
    }
}

impl<I, O, E> Handler<Subscribe> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, Subscribe { to }: Subscribe, _: &mut Context<Self>) {
        self.dispatch.outbox.audience.add(to);
    }
}

//! The supervisor actor: it owns a function's containers, and alone creates, drains and gives up.
//!
//! Crashes are judged where they are seen, under the function's lock; a restart without delay is
//! carried out by the thread that crashed. Everything that takes time or a new thread is done here.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture, SpawnHandle,
};
use tokio::sync::oneshot;

use crate::actor::{CallInput, Ending, GetStatus, KillContainer, Reset, Shutdown, StartMap, Subscribe};
use crate::decide::ids::ContainerId;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::consumer::{Closing, Consumer, Sight};
use crate::engine::container::Container;
use crate::engine::dispatch::{Dispatch, Patience, Tick};
use crate::engine::map::{Delivery, Map};
use crate::engine::messages::{FeedMap, Launch, Notice};
use crate::failure::{Cause, Failure};
use crate::report::FunctionReport;

/// How long idle threads may take to end, and feeders to come back from their source.
const GRACE: Duration = Duration::from_secs(1);

/// How soon, and how late, outcomes of a long run are looked for while a task waits for them.
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_millis(16);

/// Supervises one function: the actor behind a [`Function`](crate::Function). It takes the messages of
/// [`actor`](crate::actor).
pub struct Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    dispatch: Arc<Dispatch<I, O, E>>,
    default_window: Window,
    containers: Vec<Addr<Container<I, O, E>>>,
    /// Who wants the report.
    reporting: Vec<oneshot::Sender<FunctionReport>>,
    /// Ends the wait for containers that do not end, and when.
    limit: Option<(Time, SpawnHandle)>,
    /// The next moment at which containers may be created again.
    wake: Option<SpawnHandle>,
    /// Ends the wait for feeders.
    grace: Option<SpawnHandle>,
}

impl<I, O, E> Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(dispatch: Arc<Dispatch<I, O, E>>, default_window: Window) -> Self {
        Self {
            dispatch,
            default_window,
            containers: Vec::new(),
            reporting: Vec::new(),
            limit: None,
            wake: None,
            grace: None,
        }
    }

    /// Creates every container that is absent and may be created; comes back for those that may not yet.
    fn create(&mut self, ctx: &mut Context<Self>) {
        for (at, container) in self.containers.iter().enumerate() {
            let id = ContainerId::new(u32::try_from(at).expect("at most 1024 containers"));
            if let Some(generation) = self.dispatch.begin(id) {
                container.do_send(Launch { generation });
            }
        }
        if let Some(handle) = self.wake.take() {
            ctx.cancel_future(handle);
        }
        if let Some(delay) = self.dispatch.next_creation() {
            // A timer may fire a moment early by its own clock; `create` then arms it again.
            let delay = delay.max(Duration::from_micros(100));
            self.wake = Some(ctx.run_later(delay, |supervisor, ctx| {
                supervisor.create(ctx);
                supervisor.finish_if_ended(ctx);
            }));
        }
    }

    /// Looks for outcomes after `pause`, and again until nobody waits for them in a task.
    fn tick(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(pause, move |supervisor, ctx| match supervisor.dispatch.tick() {
            Tick::Last => {}
            Tick::Found => supervisor.tick(TICK_MIN, ctx),
            Tick::Nothing => supervisor.tick((pause * 2).min(TICK_MAX), ctx),
        });
    }

    /// Sends the report and stops, once everything has ended or the limit has passed.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.dispatch.give_up(); // if that was decided, and its notice is still on the way
        let report = self.dispatch.report();
        self.dispatch.ended_with(report.clone());
        for reply in self.reporting.drain(..) {
            drop(reply.send(report.clone())); // whoever no longer waits misses nothing
        }
        self.dispatch.over();
        ctx.stop();
    }

    /// Begins to come to an end.
    fn end(&mut self, ending: Ending, limit: Duration, ctx: &mut Context<Self>) {
        match ending {
            Ending::Drain => self.dispatch.drain(),
            Ending::Stop => self.dispatch.stop(),
            Ending::Abort => self.dispatch.abort(),
        }
        // What is in the user's code is left behind by an abort; what is not ends by itself.
        let limit = if ending == Ending::Abort { GRACE } else { limit };
        self.limit_to(limit, ctx, |supervisor, ctx| {
            supervisor.dispatch.abort();
            supervisor.limit = None;
            supervisor.limit_to(GRACE, ctx, Self::finish);
            supervisor.finish_if_ended(ctx);
        });
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
            Notice::Crashed { restart: Restart::GiveUp } => self.dispatch.give_up(),
            Notice::Crashed { restart: Restart::Now | Restart::At(_) } => {}
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

impl<I, O, E> Handler<FeedMap<I>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, FeedMap { job, source, guard }: FeedMap<I>, _: &mut Context<Self>) {
        Map::new(job, Arc::clone(&self.dispatch), Some(source), None).start();
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
        let (consumer, feed) = options.open(&self.dispatch, self.default_window, source)?;
        let job = consumer.job();
        let delivery = Delivery { consumer: Closing::new(consumer), to };
        Ok(Map::new(job, Arc::clone(&self.dispatch), feed, Some(delivery)).start())
    }
}

impl<I, O, E> Handler<CallInput<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ResponseFuture<Result<O, Failure<I, E>>>;

    fn handle(&mut self, message: CallInput<I, O, E>, _: &mut Context<Self>) -> Self::Result {
        let begun = Consumer::of_call(&self.dispatch, message.input).map(Closing::new);
        Box::pin(async move {
            let mut consumer = begun?;
            poll_fn(|cx| match consumer.get_mut().look(Patience::Task(cx.waker())) {
                Sight::NotYet => Poll::Pending,
                sight => Poll::Ready(sight.into_outcome()),
            })
            .await
        })
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
        self.create(ctx);
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
        self.dispatch.audience.add(to);
    }
}

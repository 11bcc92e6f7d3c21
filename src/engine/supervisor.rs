//! The supervisor actor: it owns a function's containers, and alone creates, drains and gives up.
//!
//! Crashes are judged where they are seen, under the function's lock; a restart without delay is
//! carried out by the thread that crashed. Everything that takes time or a new thread is done here.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, SpawnHandle};

use crate::decide::ids::ContainerId;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::container::Container;
use crate::engine::dispatch::{Dispatch, Tick};
use crate::engine::map::Map;
use crate::engine::messages::{
    Ending, GetStatus, KillContainer, Launch, Notice, Reply, Reset, Shutdown, StartMap,
};
use crate::report::FunctionReport;

/// How long idle threads may take to end, and feeders to come back from their source.
const GRACE: Duration = Duration::from_secs(1);

/// How soon, and how late, outcomes of a long run are looked for while a task waits for them.
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_millis(16);

/// Supervises one function.
pub(crate) struct Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    dispatch: Arc<Dispatch<I, O, E>>,
    containers: Vec<Addr<Container<I, O, E>>>,
    /// Who wants the report.
    reporting: Vec<Reply<FunctionReport>>,
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
    pub(crate) fn new(dispatch: Arc<Dispatch<I, O, E>>) -> Self {
        Self { dispatch, containers: Vec::new(), reporting: Vec::new(), limit: None, wake: None, grace: None }
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
        for reply in self.reporting.drain(..) {
            reply.send(report.clone());
        }
        self.dispatch.over();
        ctx.stop();
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

impl<I, O, E> Handler<StartMap<I>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, StartMap { job, source, guard }: StartMap<I>, _: &mut Context<Self>) {
        Map::new(job, Arc::clone(&self.dispatch), source).start();
        guard.delivered();
    }
}

impl<I, O, E> Handler<Shutdown> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, Shutdown { ending, limit, reply }: Shutdown, ctx: &mut Context<Self>) {
        self.reporting.extend(reply);
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
}

impl<I, O, E> Handler<KillContainer> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, KillContainer { container, reply }: KillContainer, ctx: &mut Context<Self>) {
        let known = container.index() < self.containers.len();
        let killed = known && self.dispatch.kill(container).is_some();
        self.create(ctx);
        let _ = reply.send(killed); // a caller that no longer waits misses nothing
    }
}

impl<I, O, E> Handler<Reset> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, Reset { reply }: Reset, ctx: &mut Context<Self>) {
        self.dispatch.give_up(); // if that was decided, and its notice is still on the way
        let given_up = self.dispatch.reset();
        self.create(ctx);
        let _ = reply.send(given_up); // a caller that no longer waits misses nothing
    }
}

impl<I, O, E> Handler<GetStatus> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, GetStatus { reply }: GetStatus, _: &mut Context<Self>) {
        drop(reply.send(self.dispatch.status())); // a caller that no longer waits misses nothing
    }
}

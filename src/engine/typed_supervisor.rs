//! The public face of the supervisor, with the types of its function.
//!
//! It forwards each message to the [`UntypedSupervisor`], in order, and the untyped supervisor answers the
//! sender. The order of messages therefore does not depend on whether they have types, and only a program
//! that sends messages compiles this actor.

use std::any::Any;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, ActorContext, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message};

use crate::contain::drops::{DeferDrop, defer_drop};
use crate::data::failure::{Cause, Failure, Reason};
use crate::data::shape::{Outcome, Types};
use crate::engine::actor::{
    CallInput, GetStatus, Idle, KillContainer, Pause, Ready, ReadyAll, Reserve, Reset, Resume, Shutdown,
    StartMap, Subscribe, TryReserve,
};
use crate::engine::consumer::{Consumer, outcome_of_call};
use crate::engine::dispatch::{Wait, Wanted};
use crate::engine::feeder;
use crate::engine::map::{Delivery, MapActor};
use crate::engine::messages::{Reply, Request, SupervisorEnded, SupervisorView};
use crate::engine::open_call::OpenCall;
use crate::engine::place::{Reserved, Waits};
use crate::engine::ready_request::Waited;
use crate::engine::supervisor::UntypedSupervisor;

/// Supervises one function: the actor behind a [`Function`](crate::Function). It takes the messages of
/// [`actor`](crate::actor).
pub struct Supervisor<I, O, E> {
    untyped: Addr<UntypedSupervisor>,
    types: Types<I, O, E>,
}

/// The address of a [`Supervisor`], for code that does not know its types.
pub(super) struct Front {
    address: Box<dyn Any + Send + Sync>,
    /// Forwards a request, behind all messages that the actor has received before.
    pass: Box<dyn Fn(Request) + Send + Sync>,
}

impl Front {
    /// Starts the actor.
    pub(crate) fn start<I, O, E>(untyped: &Addr<UntypedSupervisor>, arbiter: &ArbiterHandle) -> Self
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let untyped = untyped.clone();
        let start = move |_: &mut Context<_>| Supervisor::<I, O, E> { untyped, types: Types::default() };
        let address = Supervisor::start_in_arbiter(arbiter, start);
        let passes = address.clone();
        Self { address: Box::new(address), pass: Box::new(move |request| passes.do_send(request)) }
    }

    /// The address, with its types.
    ///
    /// # Panics
    ///
    /// If the supervisor has other types.
    pub(super) fn address<I, O, E>(&self) -> &Addr<Supervisor<I, O, E>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        self.address.downcast_ref().expect("a function has its own types")
    }

    pub(crate) fn pass(&self, request: Request) {
        (self.pass)(request);
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
        self.untyped.do_send(Request::Front(ctx.address().recipient()));
        if !self.untyped.connected() {
            ctx.stop(); // it has ended before, and sends no `SupervisorEnded`
        }
    }
}

/// The response to a message: a request to the untyped supervisor, which sends the reply to the sender of the
/// message.
pub struct Forward<T> {
    untyped: Addr<UntypedSupervisor>,
    request: Box<dyn FnOnce(Reply<T>) -> Request>,
}

impl<A, M> MessageResponse<A, M> for Forward<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, reply: Option<OneshotSender<M::Result>>) {
        self.untyped.do_send((self.request)(reply));
    }
}

impl<I, O, E> Supervisor<I, O, E> {
    fn forward<T>(&self, request: impl FnOnce(Reply<T>) -> Request + 'static) -> Forward<T> {
        Forward { untyped: self.untyped.clone(), request: Box::new(request) }
    }
}

impl<I, O, E> Handler<Request> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, request: Request, _: &mut Context<Self>) {
        self.untyped.do_send(request);
    }
}

impl<I, O, E> Handler<SupervisorEnded> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, _: SupervisorEnded, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl<I, O, E> Handler<StartMap<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Started<I, O, E>>;

    fn handle(&mut self, message: StartMap<I, O, E>, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply: Reply<Started<I, O, E>>| {
            Request::Typed(Box::new(move |view| {
                if reply.as_ref().is_some_and(OneshotSender::is_closed) {
                    return;
                }
                let started = start_map(message, view).map_err(Cause::from);
                if let Some(reply) = reply {
                    drop(reply.send(started)); // fails if the sender of the message no longer waits
                }
            }))
        })
    }
}

/// The answer to a [`StartMap`].
type Started<I, O, E> = Result<Addr<MapActor<I, O, E>>, Cause<E>>;

fn start_map<I, O, E>(
    StartMap { planned, to }: StartMap<I, O, E>,
    view: &SupervisorView<'_>,
) -> Result<Addr<MapActor<I, O, E>>, Reason>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let running = view.running.clone().ok_or(Reason::ShutDown)?;
    let (reader, blocking) = planned.into_inner().open(view.dispatch, view.default_window)?;
    let job = reader.job();
    if let Some(source) = blocking {
        feeder::start(view.dispatch, job, source);
    }
    let delivery = Delivery { consumer: Consumer::over(reader), to, _running: running };
    Ok(MapActor::new(job, Arc::clone(view.dispatch), delivery).start())
}

impl<I, O, E> Handler<CallInput<I, O, E>> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Outcome<I, O, E>>;

    fn handle(&mut self, message: CallInput<I, O, E>, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply: Reply<Outcome<I, O, E>>| {
            Request::Typed(Box::new(move |view| {
                if !reply.as_ref().is_some_and(OneshotSender::is_closed) {
                    call(message, view, reply);
                }
            }))
        })
    }
}

/// Begins a call, and replies with its outcome once that is ready. If the sender of the message no longer
/// waits, the outcome is dropped on another thread, because a drop of the user's must not block this one.
fn call<I, O, E>(message: CallInput<I, O, E>, view: &SupervisorView<'_>, reply: Reply<Outcome<I, O, E>>)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let stack = view.dispatch.settings.stack();
    // Keeps the function alive until the call has its outcome, as every call does.
    let running = view.running.clone();
    let CallInput { input, caller, limits, place, .. } = message;
    let place = place.and_then(|place| place.of_function(view.dispatch));
    let begun = OpenCall::begin(view.dispatch, input.into_inner(), caller, place, limits);
    let begun = begun.map_err(|refused| DeferDrop::new(refused, stack, true));
    actix::spawn(async move {
        let outcome = outcome_of(begun).await;
        drop(running);
        let unread = match reply {
            Some(reply) => reply.send(outcome).err(),
            None => Some(outcome),
        };
        if let Some(unread) = unread {
            defer_drop(stack, unread);
        }
    });
}

async fn outcome_of<I, O, E>(begun: Result<OpenCall, DeferDrop<Failure<I, E>>>) -> Outcome<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let mut call = begun.map_err(DeferDrop::into_inner)?;
    poll_fn(|cx| match call.poll(Wait::Register(cx.waker())) {
        Poll::Pending => Poll::Pending,
        polled => Poll::Ready(outcome_of_call(polled)),
    })
    .await
}

impl<I, O, E> Handler<Shutdown> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<<Shutdown as Message>::Result>;

    fn handle(&mut self, shutdown: Shutdown, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Shutdown(shutdown, reply))
    }
}

impl<I, O, E> Handler<KillContainer> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<bool>;

    fn handle(&mut self, KillContainer { container }: KillContainer, _: &mut Context<Self>) -> Self::Result {
        self.forward(move |reply| Request::Kill(container, reply))
    }
}

impl<I, O, E> Handler<Reset> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<bool>;

    fn handle(&mut self, _: Reset, _: &mut Context<Self>) -> Self::Result {
        self.forward(Request::Reset)
    }
}

impl<I, O, E> Handler<Reserve> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Reserved>;

    fn handle(&mut self, _: Reserve, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Reserve(Waits::ForRoom, reply))
    }
}

impl<I, O, E> Handler<TryReserve> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Reserved>;

    fn handle(&mut self, _: TryReserve, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Reserve(Waits::Never, reply))
    }
}

impl<I, O, E> Handler<Ready> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Waited>;

    fn handle(&mut self, _: Ready, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Wait(Wanted::One, reply))
    }
}

impl<I, O, E> Handler<ReadyAll> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Waited>;

    fn handle(&mut self, _: ReadyAll, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Wait(Wanted::All, reply))
    }
}

impl<I, O, E> Handler<Idle> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<Waited>;

    fn handle(&mut self, _: Idle, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Wait(Wanted::Idle, reply))
    }
}

impl<I, O, E> Handler<Pause> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<bool>;

    fn handle(&mut self, _: Pause, _: &mut Context<Self>) -> Self::Result {
        self.forward(Request::Pause)
    }
}

impl<I, O, E> Handler<Resume> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<bool>;

    fn handle(&mut self, _: Resume, _: &mut Context<Self>) -> Self::Result {
        self.forward(Request::Resume)
    }
}

impl<I, O, E> Handler<GetStatus> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<<GetStatus as Message>::Result>;

    fn handle(&mut self, _: GetStatus, _: &mut Context<Self>) -> Self::Result {
        self.forward(Request::Status)
    }
}

impl<I, O, E> Handler<Subscribe> for Supervisor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Forward<()>;

    fn handle(&mut self, Subscribe { to }: Subscribe, _: &mut Context<Self>) -> Self::Result {
        self.forward(|reply| Request::Subscribe(to, reply))
    }
}

//! The map actor: it owns one map whose outcomes go to an actor.
//!
//! It takes the outcomes batch by batch, and sends the next batch once the recipient has answered the last
//! one. A map whose outcomes are read through an iterator or a stream has no actor: the reader takes the
//! outcomes itself.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, Recipient};

use crate::base::ids::JobId;
use crate::engine::actor::{Batch, CancelMap, Demand, GetProgress};
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::{Dispatch, Wait};
use crate::engine::running::Running;

/// The most outcomes in one batch. A batch is a vector, whose memory comes on top of the map's window.
const BATCH_MAX: u64 = 1_024;

/// One map, as an actor.
pub struct MapActor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    job: JobId,
    dispatch: Arc<Dispatch>,
    /// Taken when the actor starts.
    delivery: Option<Delivery<I, O, E>>,
}

/// The consumer of the map's outcomes, and the actor that receives them.
pub(crate) struct Delivery<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) consumer: Consumer<I, O, E>,
    pub(super) to: Recipient<Batch<I, O, E>>,
    /// Keeps the function alive until the last batch is delivered, as every map does.
    pub(crate) _running: Arc<Running>,
}

impl<I, O, E> MapActor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(job: JobId, dispatch: Arc<Dispatch>, delivery: Delivery<I, O, E>) -> Self {
        Self { job, dispatch, delivery: Some(delivery) }
    }
}

impl<I, O, E> Delivery<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Delivers batches until the map ends, the recipient ends, or the recipient wants no more.
    async fn deliver(mut self) {
        let consumer = &mut self.consumer;
        consumer.keep_used();
        let most = consumer.window().clamp(1, BATCH_MAX) as usize;
        loop {
            let batch = self.gather(most).await;
            let last = batch.is_last();
            match self.to.send(batch).await {
                Ok(Demand::More) if !last => {}
                Ok(Demand::More | Demand::Stop) | Err(_) => return,
            }
        }
    }

    /// Waits for one outcome, and takes the others that are ready, up to `most`.
    async fn gather(&mut self, most: usize) -> Batch<I, O, E> {
        let mut outcomes = Vec::new();
        let consumer = &mut self.consumer;
        let last = poll_fn(|cx| {
            while outcomes.len() < most {
                let polled = if outcomes.is_empty() {
                    consumer.poll_next(Wait::Register(cx.waker()))
                } else {
                    consumer.poll_next(Wait::Try)
                };
                match polled {
                    Poll::Ready(Some(outcome)) => outcomes.push(outcome),
                    Poll::Pending if outcomes.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                    Poll::Ready(None) => return Poll::Ready(true),
                }
            }
            Poll::Ready(false)
        })
        .await;
        Batch::new(outcomes, consumer.take_used(), last, consumer.stack())
    }
}

impl<I, O, E> Actor for MapActor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let delivery = self.delivery.take().expect("an actor starts once");
        let delivery = wrap_future::<_, Self>(delivery.deliver());
        ctx.spawn(delivery.map(|(), _, ctx| ctx.stop()));
    }
}

impl<I, O, E> Handler<GetProgress> for MapActor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = MessageResult<GetProgress>;

    fn handle(&mut self, _: GetProgress, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.dispatch.progress(self.job))
    }
}

impl<I, O, E> Handler<CancelMap> for MapActor<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    /// Stops the actor. This drops its delivery and with that the consumer, which cancels the map.
    fn handle(&mut self, _: CancelMap, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

//! The function as an actor: every call as a message.
//!
//! [`Function::supervisor`](crate::Function::supervisor) is the address of a function's supervisor. Any
//! actor, on any system of the process, can send it these messages; a thread or task without an
//! actor can too. The function lives as long as its app, a [`Function`](crate::Function), a map or a call
//! of it does, those begun by message included: an address alone does not keep it.
//!
//! As everywhere in actix, a request whose reply nobody awaits any more when its turn comes is not carried
//! out: what is to happen in any case is sent with `do_send`.
//!
//! | message | to | reply |
//! |---|---|---|
//! | [`StartMap`] | supervisor | the address of the map, or why it was refused |
//! | [`Batch`] | your actor, from the map | [`Demand`] |
//! | [`GetProgress`], [`CancelMap`] | map | [`Progress`] / nothing |
//! | [`CallInput`] | supervisor | the outcome |
//! | [`GetStatus`] | supervisor | [`Status`] |
//! | [`Shutdown`] | supervisor | the [`FunctionReport`], once everything has ended |
//! | [`Reset`], [`KillContainer`] | supervisor | whether it had given up / lived |
//! | [`Subscribe`] | supervisor | nothing |
//! | [`Happened`] | your actor, from the function | nothing |
//!
//! ```
//! use actix::prelude::*;
//! use longshore::App;
//! use longshore::actor::{Batch, Demand, StartMap};
//! use std::convert::Infallible;
//!
//! struct Sum { total: u64, done: std::sync::mpsc::Sender<u64> }
//!
//! impl Actor for Sum {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Batch<u64, u64, Infallible>> for Sum {
//!     type Result = MessageResult<Batch<u64, u64, Infallible>>;
//!
//!     fn handle(&mut self, batch: Batch<u64, u64, Infallible>, _: &mut Context<Self>) -> Self::Result {
//!         let last = batch.is_last();
//!         self.total += batch.into_outcomes().into_iter().flatten().sum::<u64>();
//!         if last {
//!             self.done.send(self.total).unwrap();
//!         }
//!         MessageResult(Demand::More)
//!     }
//! }
//!
//! let (done, total) = std::sync::mpsc::channel();
//! let system = System::new();
//! system.block_on(async {
//!     let app = App::ephemeral("docs");
//!     let double = app.infallible("double", |n: &u64| 2 * n).start().unwrap();
//!     let sum = Sum { total: 0, done }.start();
//!     let map = double.supervisor().send(StartMap::new(0..100u64, sum.recipient())).await.unwrap();
//!     assert!(map.is_ok());
//!     while total.try_recv() != Ok(9_900) {
//!         tokio::task::yield_now().await;
//!     }
//! });
//! ```

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Message, Recipient};
use futures_core::Stream;

use crate::base::ids::ContainerId;
use crate::contain::drops::{DeferDrop, Stack};
use crate::contain::outlined::Outlined;
use crate::data::chunk::Chunk;
use crate::data::failure::{Cause, Failure};
use crate::data::shape::Outcome;
use crate::data::source::Source;
use crate::decide::retries::Retries;
use crate::engine::caller::Caller;
use crate::engine::consumer::Failures;
use crate::engine::map_buffers::Order;
use crate::engine::planned::Planned;
use crate::values::event::Event;
use crate::values::progress::Progress;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

pub use crate::engine::map::MapActor;
pub use crate::engine::typed_supervisor::Supervisor;

/// Anyone → supervisor: fan inputs out, and deliver the outcomes to an actor in batches. Replies the
/// address of the map actor, or why the map was refused.
///
/// The map begins at once. At most one batch is unanswered at a time, of at most `window` outcomes; the
/// answer to it is the demand for the next. A recipient that is slow slows its map down; one that has
/// ended, or answers [`Demand::Stop`], ends it.
pub struct StartMap<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) planned: Outlined<Planned>,
    pub(crate) to: Recipient<Batch<I, O, E>>,
}

impl<I, O, E> Message for StartMap<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = Result<Addr<MapActor<I, O, E>>, Cause<E>>;
}

impl<I, O, E> StartMap<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// A map over any iterator.
    pub fn new<S>(inputs: S, to: Recipient<Batch<I, O, E>>) -> Self
    where
        S: IntoIterator<Item = I>,
        S::IntoIter: Send + 'static,
    {
        Self { planned: Planned::over(Source::of(inputs.into_iter()), Stack::of_any()), to }
    }

    /// A map over a stream.
    pub fn of_stream<S>(inputs: S, to: Recipient<Batch<I, O, E>>) -> Self
    where
        S: Stream<Item = I> + Send + 'static,
    {
        Self { planned: Planned::over(Source::of_stream(inputs), Stack::of_any()), to }
    }

    /// See [`Map::unordered`](crate::Map::unordered).
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.planned.options.order = Order::Completion;
        self
    }

    /// See [`Map::return_exceptions`](crate::Map::return_exceptions).
    #[must_use]
    #[doc(alias = "collect")]
    pub fn return_exceptions(mut self) -> Self {
        self.planned.options.failures = Failures::Yield;
        self
    }

    /// See [`Map::fail_in_order`](crate::Map::fail_in_order).
    #[must_use]
    pub fn fail_in_order(mut self) -> Self {
        self.planned.options.failures = Failures::EndMapInOrder;
        self
    }

    /// See [`Map::window`](crate::Map::window).
    #[must_use]
    pub fn window(mut self, inputs: u64) -> Self {
        self.planned.options.window = Some(inputs);
        self
    }

    /// See [`Map::retries`](crate::Map::retries).
    #[must_use]
    pub fn retries(mut self, retries: impl Into<Retries>) -> Self {
        self.planned.options.retries = Some(retries.into());
        self
    }

    /// See [`Map::label`](crate::Map::label).
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.planned.options.label = Some(label.into());
        self
    }
}

/// Map → the actor that a [`StartMap`] named: outcomes, as the map yields them. Replies the demand for
/// more. Every map that is not cancelled ends with a batch that says so, which may be empty.
#[derive(Message)]
#[rtype(result = "Demand")]
pub struct Batch<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    outcomes: DeferDrop<Load<I, O, E>>,
    last: bool,
}

/// Outcomes, with the chunks of their inputs, which are to be dropped where the outcomes are taken.
type Load<I, O, E> = (Vec<Outcome<I, O, E>>, Vec<Arc<Chunk>>);

impl<I, O, E> Batch<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(
        outcomes: Vec<Result<O, Failure<I, E>>>,
        used: Vec<Arc<Chunk>>,
        last: bool,
        stack: Stack,
    ) -> Self {
        // Undelivered it is dropped on the engine's thread, where no drop of the user's may block.
        let drops = !outcomes.is_empty() && std::mem::needs_drop::<Result<O, Failure<I, E>>>();
        let holds_values = drops || !used.is_empty();
        Self { outcomes: DeferDrop::new((outcomes, used), stack, holds_values), last }
    }

    /// The outcomes, as the map yields them.
    #[must_use]
    pub fn into_outcomes(self) -> Vec<Result<O, Failure<I, E>>> {
        self.outcomes.into_inner().0
    }

    /// Whether nothing comes after this.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }
}

/// The answer to a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// The next batch may come.
    More,
    /// The map is cancelled.
    Stop,
}

/// Anyone → map. Replies how far it is.
#[derive(Debug, Message)]
#[rtype(result = "Progress")]
pub struct GetProgress;

/// Anyone → map: cancel it. No further batch comes. No reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CancelMap;

/// Anyone → supervisor: one execution, ahead of all maps. Replies its outcome. Once the supervisor has read
/// it, it goes on if nobody waits for the reply any more.
pub struct CallInput<I, O, E> {
    pub(crate) input: DeferDrop<I>,
    pub(crate) caller: Caller,
    outcome: PhantomData<fn() -> (O, E)>,
}

impl<I: Send + 'static, O, E> CallInput<I, O, E> {
    /// A call with that input.
    pub fn new(input: I) -> Self {
        let holds_values = std::mem::needs_drop::<I>();
        let input = DeferDrop::new(input, Stack::of_any(), holds_values);
        Self { input, caller: Caller::here(None), outcome: PhantomData }
    }
}

impl<I: std::fmt::Debug, O, E> std::fmt::Debug for CallInput<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallInput").field("input", self.input.get()).finish()
    }
}

impl<I, O, E> Message for CallInput<I, O, E>
where
    I: 'static,
    O: 'static,
    E: 'static,
{
    type Result = Result<O, Failure<I, E>>;
}

/// Anyone → supervisor. Replies a snapshot.
#[derive(Debug, Message)]
#[rtype(result = "Status")]
pub struct GetStatus;

/// How a function is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Accepted inputs of live maps finish, with those of vectors and ranges for which the window has room; sources are not
    /// pulled any more; new calls are refused.
    Drain,
    /// Only what executes finishes.
    Stop,
    /// Nothing waits: what executes, enters or exits is cut off at once, and there is no `exit`.
    Abort,
}

/// Anyone → supervisor: come to an end. Replies the report, once every container has ended.
///
/// What has not ended `limit` after the message is cut off: every input without an outcome comes back, what executes or
/// enters is dropped if it waits in a task and left behind if not, containers that have nothing to do exit. They all have a
/// second more, in which code that was left behind may come out at a checkpoint; then the function is aborted, and what
/// still runs is reported as that.
#[derive(Debug, Message)]
#[rtype(result = "FunctionReport")]
pub struct Shutdown {
    /// How.
    pub ending: Ending,
    /// After which time what is left is cut off; an abort has none. Of several limits the first counts.
    pub limit: Duration,
}

/// Anyone → supervisor: kill a container. Replies whether it lived.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct KillContainer {
    /// Which.
    pub container: ContainerId,
}

/// Anyone → supervisor: forget crashes and take work again. Replies whether the function had given up.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Reset;

/// Anyone → supervisor: tell an actor of every [`Event`] from now on. No reply.
///
/// Nobody waits for a subscriber: what does not fit into its mailbox (16 messages, unless its context
/// says otherwise) it misses, and is told how much when the next event finds room. It is forgotten when it
/// has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// Who is told.
    pub to: Recipient<Happened>,
}

/// Function → subscribed actors. No reply.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Happened(pub Event);

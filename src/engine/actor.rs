//! The function as an actor: everything that can be asked of a function, as messages.
//!
//! [`Function::supervisor`](crate::Function::supervisor) returns the address of a function's supervisor. Any
//! actor, on any actix system of the process, can send these messages to it, and so can a thread or task
//! without an actor. The function lives as long as any of these does: its app, a
//! [`Function`](crate::Function), a map, or a call, including the maps and calls that were begun by message.
//! An address alone does not keep the function alive.
//!
//! If the sender stops awaiting a reply before the supervisor reads the request, the request is not carried
//! out. Use `do_send` for a message that must be carried out.
//!
//! | message | to | reply |
//! |---|---|---|
//! | [`StartMap`] | supervisor | the address of the map, or why the map was refused |
//! | [`Batch`] | your actor, from the map | [`Demand`] |
//! | [`GetProgress`], [`CancelMap`] | map | [`Progress`] / nothing |
//! | [`CallInput`] | supervisor | the outcome of the input |
//! | [`Reserve`] | supervisor | a [`Place`] for a call, once there is room, or why there will be none |
//! | [`TryReserve`] | supervisor | a [`Place`] if there is room now, or why not |
//! | [`Ready`], [`ReadyAll`] | supervisor | nothing, once a container is live, or all are, or why none will be |
//! | [`Idle`] | supervisor | nothing, once every accepted input has its outcome |
//! | [`GetStatus`] | supervisor | [`Status`] |
//! | [`Shutdown`] | supervisor | the [`FunctionReport`], once everything has ended |
//! | [`Reset`] | supervisor | whether the function had given up |
//! | [`Pause`] | supervisor | whether the function is paused now |
//! | [`Resume`] | supervisor | whether the function was paused |
//! | [`KillContainer`] | supervisor | whether the container was alive |
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
use crate::decide::limits::Limits;
use crate::decide::retries::Retries;
use crate::engine::caller::Caller;
use crate::engine::map_buffers::Order;
use crate::engine::planned::Planned;
use crate::engine::reader::Failures;
use crate::values::error::{NotReady, ReserveError};
use crate::values::event::Event;
use crate::values::progress::Progress;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

pub use crate::engine::map::MapActor;
pub use crate::engine::place::Place;
pub use crate::engine::typed_supervisor::Supervisor;

/// Anyone → supervisor: start a map whose outcomes are delivered to an actor in batches. The reply is the
/// address of the [`MapActor`], or the [`Cause`] for which the map was refused.
///
/// The map begins at once. At most one batch is unanswered at a time, and a batch has at most `window`
/// outcomes. The answer to a batch is the [`Demand`] for the next one. A slow recipient therefore slows the
/// map down. The map ends early if the recipient has ended or answers [`Demand::Stop`].
pub struct StartMap<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) planned: Outlined<Planned>,
    pub(super) to: Recipient<Batch<I, O, E>>,
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
    /// A map over any iterator. The outcomes go to the actor `to`.
    pub fn new<S>(inputs: S, to: Recipient<Batch<I, O, E>>) -> Self
    where
        S: IntoIterator<Item = I>,
        S::IntoIter: Send + 'static,
    {
        Self { planned: Planned::over(Source::of(inputs.into_iter()), Stack::of_any()), to }
    }

    /// A map over a stream. The outcomes go to the actor `to`.
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

    /// See [`Map::timeout`](crate::Map::timeout).
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.planned.options.limits.timeout = Some(limit);
        self
    }

    /// See [`Map::deadline`](crate::Map::deadline).
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.planned.options.limits.deadline = Some(limit);
        self
    }

    /// See [`Map::label`](crate::Map::label).
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.planned.options.label = Some(label.into());
        self
    }
}

/// Map → the actor that a [`StartMap`] named: some outcomes, in the order in which the map yields them. The
/// reply is the [`Demand`] for more. Every map that is not cancelled ends with a batch for which
/// [`Batch::is_last`] is `true`. The last batch may be empty.
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

/// Outcomes, with the chunks of their inputs. The chunks are dropped on the thread that takes the outcomes.
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
        // An undelivered batch is dropped on the engine's thread, where a `drop` of the user's must not
        // block.
        let drops = !outcomes.is_empty() && std::mem::needs_drop::<Result<O, Failure<I, E>>>();
        let holds_values = drops || !used.is_empty();
        Self { outcomes: DeferDrop::new((outcomes, used), stack, holds_values), last }
    }

    /// The outcomes, in the order in which the map yields them.
    #[must_use]
    pub fn into_outcomes(self) -> Vec<Result<O, Failure<I, E>>> {
        self.outcomes.into_inner().0
    }

    /// Whether this is the last batch of the map.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }
}

/// The answer to a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// The map sends the next batch as soon as it has an outcome.
    More,
    /// The map is cancelled, and sends no further batch.
    Stop,
}

/// Anyone → map: the reply is the map's [`Progress`].
#[derive(Debug, Message)]
#[rtype(result = "Progress")]
pub struct GetProgress;

/// Anyone → map: cancel the map. It sends no further batch, and there is no reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CancelMap;

/// Anyone → supervisor: execute one input, ahead of the inputs of all maps. The reply is the outcome. Once
/// the supervisor has read the call, it runs to its end, even if its sender no longer awaits the reply.
pub struct CallInput<I, O, E> {
    pub(crate) input: DeferDrop<I>,
    pub(crate) caller: Caller,
    pub(super) limits: Limits,
    pub(super) place: Option<Place>,
    outcome: PhantomData<fn() -> (O, E)>,
}

impl<I: Send + 'static, O, E> CallInput<I, O, E> {
    /// A call with this input.
    pub fn new(input: I) -> Self {
        let holds_values = std::mem::needs_drop::<I>();
        let input = DeferDrop::new(input, Stack::of_any(), holds_values);
        Self { input, caller: Caller::here(None), limits: Limits::new(), place: None, outcome: PhantomData }
    }

    /// A call with limits of time of its own: see [`Function::call_within`](crate::Function::call_within).
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// A call in a place that was reserved for it: see [`Reserve`]. It is refused only if the function
    /// takes no work any more, or if its [limits](Self::within) are outside their range. A place of another
    /// function goes back there, and the call takes a free place.
    #[must_use]
    pub fn in_place(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
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

/// Anyone → supervisor: wait for room among the calls of the function, and reserve a place for one, as
/// [`Function::reserve`](crate::Function::reserve) does. The reply is the [`Place`], or a [`ReserveError`] if
/// the function takes no work any more.
///
/// Those who wait are served in the order in which the supervisor has read their messages, together with
/// those who wait for a [`Permit`](crate::Permit). A sender that stops awaiting the reply gives up its turn,
/// and a place that it was granted goes to the next one. With `do_send` nothing is reserved.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{CallInput, Reserve, TryReserve};
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).calls_max(1).start()?;
/// let place = double.supervisor().send(Reserve).await.unwrap().unwrap();
/// assert!(double.supervisor().send(TryReserve).await.unwrap().is_err(), "there is one place");
/// let call = CallInput::new(21).in_place(place);
/// assert_eq!(double.supervisor().send(call).await.unwrap().unwrap(), 42);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<Place, ReserveError>")]
pub struct Reserve;

/// Anyone → supervisor: reserve a place for a call if there is room now, as
/// [`Function::try_reserve`](crate::Function::try_reserve) does. The reply is the [`Place`], or a
/// [`ReserveError`]. Those who wait for room go first.
#[derive(Debug, Message)]
#[rtype(result = "Result<Place, ReserveError>")]
pub struct TryReserve;

/// Anyone → supervisor: wait until a container is live and the function is not [paused](Pause), as
/// [`Function::ready`](crate::Function::ready) does. The reply comes then, or it is a [`NotReady`] because
/// the function has given up, is shut down, or its engine is broken.
///
/// The supervisor goes on meanwhile, and takes other messages. The wait does not keep the function alive: if
/// the function ends, the reply is [`NotReady::ShutDown`]. With `do_send` nothing is waited for.
///
/// # Cancel safety
///
/// A sender that stops awaiting the reply ends the wait, which has no other effect.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{CallInput, Idle, Ready};
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
/// let supervisor = double.supervisor();
/// supervisor.send(Ready).await.unwrap().unwrap();
/// assert!(double.status().containers.live > 0);
/// for n in 0..100 {
///     supervisor.do_send(CallInput::new(n));
/// }
/// supervisor.send(Idle).await.unwrap().unwrap();
/// assert_eq!(double.snapshot().totals.ok, 100);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotReady>")]
pub struct Ready;

/// Anyone → supervisor: wait until all containers are live at once and the function is not [paused](Pause),
/// as [`Function::ready_all`](crate::Function::ready_all) does. Otherwise it is the same as [`Ready`].
///
/// # Cancel safety
///
/// A sender that stops awaiting the reply ends the wait, which has no other effect.
///
/// ```
/// use longshore::App;
/// use longshore::actor::ReadyAll;
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).containers(4).start()?;
/// double.supervisor().send(ReadyAll).await.unwrap().unwrap();
/// assert_eq!(double.status().containers.live, 4);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotReady>")]
pub struct ReadyAll;

/// Anyone → supervisor: wait until every accepted input has its outcome, as
/// [`Function::idle`](crate::Function::idle) does. The reply comes then. It is an error only if the engine is
/// broken ([`NotReady::Engine`]).
///
/// The calls whose messages the supervisor has read before are waited for, and so are the inputs that its
/// maps have accepted. A map whose outcomes are not taken delays this until its window is full at most. A
/// map over a source that may block has accepted nothing at first. A function that is idle for one moment
/// after the supervisor has read this message counts as idle, even if new work comes at once.
///
/// The supervisor goes on meanwhile, and takes other messages. The wait does not keep the function alive. A
/// function that gives up or ends becomes idle, and the reply is `Ok`. With `do_send` nothing is waited for.
/// An attempt of the function that awaits this reply waits for itself, until its timeout or for ever.
///
/// # Cancel safety
///
/// A sender that stops awaiting the reply ends the wait, which has no other effect.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{CallInput, Idle};
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
/// (0..10).for_each(|n| double.supervisor().do_send(CallInput::new(n)));
/// double.supervisor().send(Idle).await.unwrap().unwrap();
/// assert_eq!(double.snapshot().totals.ok, 10);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotReady>")]
pub struct Idle;

/// Anyone → supervisor: the reply is a snapshot of the function.
#[derive(Debug, Message)]
#[rtype(result = "Status")]
pub struct GetStatus;

/// How a [`Shutdown`] ends a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The inputs that live maps have accepted are finished, and so are the inputs of vectors and ranges for
    /// which the window has room. Other sources are not pulled any more, and new calls are refused.
    Drain,
    /// Executions that have begun are finished, and no further input is begun.
    Stop,
    /// Nothing is waited for. Code that executes an input, enters or exits is cut off at once, and no
    /// container runs its `exit`.
    Abort,
}

/// Anyone → supervisor: end the function. The reply is the [`FunctionReport`], once every container has
/// ended.
///
/// Whatever has not ended after `limit` is cut off. Every input without an outcome comes back. Code that
/// executes or enters is dropped if it waits in a task; other code is left behind, and may still end at a
/// checkpoint. Idle containers exit. If the function has not ended after one more second, it is aborted; the
/// report lists the threads that still run.
#[derive(Debug, Message)]
#[rtype(result = "FunctionReport")]
pub struct Shutdown {
    /// Decides which inputs are finished before the function ends.
    pub ending: Ending,
    /// The time after which the rest is cut off. [`Ending::Abort`] ignores it. If there are several limits,
    /// the earliest counts.
    pub limit: Duration,
}

/// Anyone → supervisor: kill a container. The reply says whether the container was alive.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct KillContainer {
    /// The container to kill.
    pub container: ContainerId,
}

/// Anyone → supervisor: dispatch nothing new, as [`Function::pause`](crate::Function::pause) does. The reply
/// says whether the function is paused now.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Pause;

/// Anyone → supervisor: dispatch again, as [`Function::resume`](crate::Function::resume) does. The reply says
/// whether the function was paused.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Resume;

/// Anyone → supervisor: forget all crashes and take work again. The reply says whether the function had given
/// up.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Reset;

/// Anyone → supervisor: send every [`Event`] from now on to an actor, as [`Happened`]. There is no reply.
///
/// The function does not wait for a subscriber. Events that do not fit into its mailbox are lost, and the
/// next event that fits is preceded by their number, as [`Event::Missed`]. A mailbox holds 16 messages unless
/// the actor's context sets another capacity. A subscriber that has ended is removed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// The actor that receives the events.
    pub to: Recipient<Happened>,
}

/// Function → subscribed actors: something has happened. There is no reply.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Happened(pub Event);

//! The messages of maps: to start one, to deliver its outcomes in batches, to look at it and to cancel
//! it.

use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Message, Recipient};
use futures_core::Stream;

use crate::contain::drops::{DeferDrop, Stack};
use crate::contain::outlined::Outlined;
use crate::data::chunk::Chunk;
use crate::data::failure::{Cause, Failure};
use crate::data::shape::Outcome;
use crate::data::source::Source;
use crate::decide::retries::Retries;
use crate::engine::map::MapActor;
use crate::engine::map_buffers::Order;
use crate::engine::planned::Planned;
use crate::engine::reader::Failures;
use crate::values::progress::Progress;

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
    pub(in crate::engine) to: Recipient<Batch<I, O, E>>,
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

//! [`Map`]: one fan-out, with its options before it begins, and its outcomes as an iterator and as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::contain::outlined::Outlined;
use crate::data::failure::{Failure, Reason};
use crate::decide::retries::Retries;
use crate::engine::abort::AbortHandle;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::Wait;
use crate::engine::map_buffers::Order;
use crate::engine::planned::{Options, Planned};
use crate::engine::progress_handle::{ProgressHandle, ProgressSource};
use crate::engine::reader::Failures;
use crate::engine::running::Running;
use crate::values::progress::Progress;

/// A fan-out over many inputs. It begins when your code asks for its first outcome. Your code can iterate
/// over it, which blocks, or poll it as a [`Stream`].
///
/// | setting | default |
/// |---|---|
/// | order | the order of the inputs; [`Map::unordered`] yields outcomes as they complete |
/// | a failure | ends the map at once; see [`Map::return_exceptions`] and [`Map::fail_in_order`] |
/// | window | the function's |
/// | retries | the function's |
/// | timeout, deadline | the function's |
/// | label | none |
///
/// Settings have an effect only before the map has begun.
///
/// # Cancel safety
///
/// Polling is cancel safe: if a future that awaits the next outcome is dropped, by `select!` or a timeout, no
/// outcome is lost. Dropping the map itself cancels it, and does not block.
///
/// ```
/// use futures::StreamExt;
/// use longshore::App;
///
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).start()?;
/// let doubled = futures::executor::block_on(async {
///     let mut map = double.map(0..10u64);
///     let mut sum = 0;
///     while let Some(outcome) = map.next().await {
///         sum += outcome.unwrap();
///     }
///     sum
/// });
/// assert_eq!(doubled, 90);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[must_use = "a map does nothing before its first outcome is asked for"]
pub struct Map<I, O, E>(Outcomes<I, O, E>);

impl<I, O, E> Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(running: Outlined<Arc<Running>>, planned: Outlined<Planned>) -> Self {
        Self(Outcomes { running, state: MapState::Waiting(planned), abort: AbortHandle::new() })
    }

    fn set(mut self, set: impl FnOnce(&mut Options)) -> Self {
        if let MapState::Waiting(planned) = &mut self.0.state {
            set(&mut planned.options);
        }
        self
    }

    /// Yields outcomes as they complete.
    pub fn unordered(self) -> Self {
        self.set(|options| options.order = Order::Completion)
    }

    /// Yields the outcome of every input, `Ok` or `Err`, and does not stop at a failure.
    #[doc(alias = "collect")]
    pub fn return_exceptions(self) -> Self {
        self.set(|options| options.failures = Failures::Yield)
    }

    /// Yields the first failure at its place, after the outcomes of all inputs before it.
    pub fn fail_in_order(self) -> Self {
        self.set(|options| options.failures = Failures::EndMapInOrder)
    }

    /// The number of inputs that may be outstanding (pulled and not yet yielded), 1 ..= 2^24. The limit is
    /// strict.
    pub fn window(self, inputs: u64) -> Self {
        self.set(|options| options.window = Some(inputs))
    }

    /// How often a failed input of this map is executed again, in place of the function's setting. The
    /// function's [`retry_if`](crate::Builder::retry_if) still decides which errors are retried.
    pub fn retries(self, retries: impl Into<Retries>) -> Self {
        let retries = retries.into();
        self.set(|options| options.retries = Some(retries))
    }

    /// The time that each attempt of this map may take, in place of the function's setting: see
    /// [`Builder::timeout`](crate::Builder::timeout).
    pub fn timeout(self, limit: Duration) -> Self {
        self.set(|options| options.limits.timeout = Some(limit))
    }

    /// The time from the acceptance of each input of this map to its outcome, in place of the function's
    /// setting: see [`Builder::deadline`](crate::Builder::deadline).
    pub fn deadline(self, limit: Duration) -> Self {
        self.set(|options| options.limits.deadline = Some(limit))
    }

    /// A name for the map. It appears as the field `map` in the `tracing` spans and events of the map's
    /// inputs, in [`Event::Poisoned`](crate::Event::Poisoned), and in the name of the thread that pulls the
    /// source.
    pub fn label(self, label: &str) -> Self {
        self.set(|options| options.label = Some(label.into()))
    }

    /// The outcomes as an iterator that blocks. It is `into_iter` as a method, for chains of adapters.
    pub fn blocking(self) -> Outcomes<I, O, E> {
        self.into_iter()
    }

    /// A handle that cancels the map from another place.
    pub fn abort_handle(&self) -> AbortHandle {
        self.0.abort_handle()
    }

    /// How many inputs the map has pulled, and how they have ended so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.progress()
    }

    /// A handle that shows the progress of the map in another place, also after the map's end.
    pub fn progress_handle(&mut self) -> ProgressHandle {
        self.0.progress_handle()
    }

    /// See [`Outcomes::salvage`].
    pub fn salvage(self) -> Vec<(u64, O)> {
        self.0.salvage()
    }
}

impl<I, O, E> IntoIterator for Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;
    type IntoIter = Outcomes<I, O, E>;

    fn into_iter(self) -> Outcomes<I, O, E> {
        self.0
    }
}

impl<I, O, E> Stream for Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let outcomes = &mut self.0;
        if let Some(outcome) = outcomes.take() {
            return Poll::Ready(Some(outcome));
        }
        if let Some(refused) = outcomes.begin() {
            return Poll::Ready(Some(Err(refused)));
        }
        let MapState::Open(consumer) = &mut outcomes.state else { return Poll::Ready(None) };
        consumer.poll_next(Wait::Register(cx.waker()))
    }
}

/// The outcomes of a map as an iterator. Dropping it cancels the map and does not block.
///
/// # Panics
///
/// It never panics by itself. `next` blocks the thread until the next outcome is there. Inside a container of
/// the same function, and on the engine's thread, it yields
/// [`Cause::WouldDeadlock`](crate::Cause::WouldDeadlock) instead of blocking.
pub struct Outcomes<I, O, E> {
    running: Outlined<Arc<Running>>,
    state: MapState<I, O, E>,
    abort: AbortHandle,
}

// No field is pinned, because the parts that refer to themselves are behind pointers.
impl<I, O, E> Unpin for Map<I, O, E> {}

enum MapState<I, O, E> {
    /// Nothing has been pulled.
    Waiting(Outlined<Planned>),
    /// The map is under way, or has ended and can still be salvaged.
    Open(Consumer<I, O, E>),
    /// The map was refused, so the function does not know it.
    Closed,
}

impl<I, O, E> Iterator for Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.take() {
            None => self.next_that_is_not_at_hand(),
            outcome => outcome,
        }
    }
}

impl<I, O, E> Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// The next outcome if it is at hand. Any thread may take it, because this never waits.
    #[inline]
    fn take(&mut self) -> Option<Result<O, Failure<I, E>>> {
        match &mut self.state {
            MapState::Open(consumer) => consumer.take(),
            MapState::Waiting(_) | MapState::Closed => None,
        }
    }

    fn next_that_is_not_at_hand(&mut self) -> Option<Result<O, Failure<I, E>>> {
        if matches!(self.state, MapState::Waiting(_)) && self.running.would_deadlock() {
            self.state = MapState::Closed;
            return Some(Err(Failure::of_map(Reason::WouldDeadlock)));
        }
        if let Some(refused) = self.begin() {
            return Some(Err(refused));
        }
        let MapState::Open(consumer) = &mut self.state else { return None };
        let mut polled = consumer.poll_next(Wait::Try);
        if matches!(polled, Poll::Pending) {
            if self.running.would_deadlock() {
                consumer.end();
                return Some(Err(Failure::of_map(Reason::WouldDeadlock)));
            }
            polled = consumer.poll_next(Wait::Block);
        }
        match polled {
            Poll::Ready(Some(outcome)) => Some(outcome),
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    /// Begins the map if it has not begun, so that containers fill its window from now on. Returns the
    /// failure if the map is refused.
    fn begin(&mut self) -> Option<Failure<I, E>> {
        if !matches!(self.state, MapState::Waiting(_)) {
            return None;
        }
        let MapState::Waiting(planned) = std::mem::replace(&mut self.state, MapState::Closed) else {
            return None;
        };
        match Planned::begin(planned, &self.running, &self.abort) {
            Ok(reader) => {
                self.state = MapState::Open(Consumer::over(reader));
                None
            }
            Err(reason) => Some(Failure::of_map(reason)),
        }
    }

    /// A handle that cancels the map from another place.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }

    /// See [`Map::progress_handle`].
    pub fn progress_handle(&mut self) -> ProgressHandle {
        match &mut self.state {
            MapState::Waiting(planned) => {
                planned.options.progress.get_or_insert_with(ProgressSource::new).handle()
            }
            MapState::Open(consumer) => consumer.progress_handle(),
            MapState::Closed => ProgressSource::new().handle(), // it has ended
        }
    }

    /// How many inputs the map has pulled, and how they have ended so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.state {
            MapState::Waiting(_) | MapState::Closed => Progress::default(),
            MapState::Open(consumer) => consumer.progress(),
        }
    }

    /// Ends the map, and returns the outputs that were finished and not yielded, with their indices, in the
    /// order of the inputs.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.function("f", |n: &u64| if *n == 500 { Err("no") } else { Ok(*n) }).start()?;
    /// let mut outcomes = f.map(0..1000u64).into_iter();
    /// let yielded = outcomes.by_ref().take_while(Result::is_ok).count();
    /// let saved = outcomes.salvage();
    /// assert!(saved.iter().all(|(index, output)| index == output && *output != 500));
    /// assert!(yielded + saved.len() < 1000);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn salvage(mut self) -> Vec<(u64, O)> {
        match &mut self.state {
            MapState::Open(consumer) => consumer.salvage(),
            MapState::Waiting(_) | MapState::Closed => Vec::new(),
        }
    }
}

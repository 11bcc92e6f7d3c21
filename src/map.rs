//! One fan-out: its options before it runs, and its outcomes as an iterator.

use std::sync::Arc;

use crate::decide::window::Window;
use crate::engine::consumer::{Consumer, Failures, Sight};
use crate::engine::dispatch::Patience;
use crate::engine::lane::{Order, Pool, Supply};
use crate::engine::messages::{StartMap, Undelivered};
use crate::engine::unwind::Elsewhere;
use crate::failure::{Cause, Failure};
use crate::function::{Running, close_elsewhere};
use crate::progress::Progress;
use crate::source::Source;

/// A fan-out, not yet begun. It begins with the first outcome that is asked for.
///
/// | setting | default |
/// |---|---|
/// | order | that of the inputs; [`Map::unordered`] yields as they complete |
/// | a failure | ends the map when it happens; see [`Map::return_exceptions`], [`Map::fail_in_order`] |
/// | window | the function's |
#[must_use = "a map does nothing before its first outcome is asked for"]
pub struct Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    running: Arc<Running<I, O, E>>,
    source: Elsewhere<Source<I>>,
    order: Order,
    failures: Failures,
    window: Option<u64>,
}

impl<I, O, E> Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(running: Arc<Running<I, O, E>>, source: Elsewhere<Source<I>>) -> Self {
        Self { running, source, order: Order::Input, failures: Failures::EndMap, window: None }
    }

    /// Yields outcomes as they complete.
    pub fn unordered(mut self) -> Self {
        self.order = Order::Completion;
        self
    }

    /// Yields the outcome of every input, `Ok` or `Err`, and stops for none.
    pub fn return_exceptions(mut self) -> Self {
        self.failures = Failures::Yield;
        self
    }

    /// Yields the first failure at its place, behind the outcomes of all inputs before it.
    pub fn fail_in_order(mut self) -> Self {
        self.failures = Failures::EndMapInOrder;
        self
    }

    /// How many inputs may be outstanding (pulled and not yet yielded): 1 ..= 2^24, and strict.
    pub fn window(mut self, inputs: u64) -> Self {
        self.window = Some(inputs);
        self
    }

    /// The outcomes, as an iterator that blocks. The same as `into_iter`, for chaining adapters.
    pub fn blocking(self) -> Outcomes<I, O, E> {
        self.into_iter()
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
        let Self { running, source, order, failures, window } = self;
        Outcomes { running, stage: Stage::Waiting { source, order, failures, window } }
    }
}

/// The outcomes of a map. Dropping it cancels the map and does not block.
///
/// # Panics
///
/// Never by itself. `next` blocks the thread until the next outcome is there; on a container of the
/// same function, or on the engine, it yields [`Cause::WouldDeadlock`] instead.
pub struct Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    running: Arc<Running<I, O, E>>,
    stage: Stage<I, O, E>,
}

enum Stage<I, O, E> {
    /// Nothing is pulled.
    Waiting { source: Elsewhere<Source<I>>, order: Order, failures: Failures, window: Option<u64> },
    /// Under way, or ended and not yet salvaged.
    Open(Consumer<I, O, E>),
    /// The function does not know of the map.
    Closed,
}

impl<I, O, E> Iterator for Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.stage, Stage::Waiting { .. })
            && let Err(cause) = self.open()
        {
            return Some(Err(Failure::of_map(cause)));
        }
        let Stage::Open(consumer) = &mut self.stage else { return None };
        // What is there already can be had on any thread.
        let mut sight = consumer.look(Patience::Look);
        if matches!(sight, Sight::NotYet) {
            if self.running.would_deadlock() {
                consumer.end();
                return Some(Err(Failure::of_map(Cause::WouldDeadlock)));
            }
            sight = consumer.look(Patience::Wait);
        }
        match sight {
            Sight::Outcome(outcome) => Some(outcome),
            Sight::End | Sight::NotYet => None,
        }
    }
}

impl<I, O, E> Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Begins: from now on containers fill the window.
    fn open(&mut self) -> Result<(), Cause<E>> {
        let Stage::Waiting { source, order, failures, window } =
            std::mem::replace(&mut self.stage, Stage::Closed)
        else {
            return Ok(());
        };
        if self.running.would_deadlock() {
            return Err(Cause::WouldDeadlock);
        }
        let window = match window {
            Some(inputs) => Window::fixed(inputs).map_err(Cause::Config)?,
            None => self.running.default_window,
        };
        let (supply, may_block) = match source.into_inner() {
            Source::Inline(inline) => (Supply::Inline(inline), None),
            Source::MayBlock(source) => (Supply::Fed(Arc::new(Pool::new())), Some(source)),
        };
        let dispatch = &self.running.dispatch;
        let consumer = Consumer::of_map(dispatch, supply, order, failures, window)?;
        let job = consumer.job();
        if let Some(source) = may_block {
            let broken = Arc::clone(dispatch);
            let guard = Undelivered::new(move || broken.map_undelivered(job));
            self.running.supervisor.do_send(StartMap { job, source, guard });
        }
        self.stage = Stage::Open(consumer);
        Ok(())
    }

    /// How far the map is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.stage {
            Stage::Waiting { .. } | Stage::Closed => Progress::default(),
            Stage::Open(consumer) => consumer.progress(),
        }
    }

    /// Ends the map, and gives the outputs that had finished and were not yielded, with their
    /// indices, in the order of the inputs.
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
        match &mut self.stage {
            Stage::Open(consumer) => consumer.salvage(),
            Stage::Waiting { .. } | Stage::Closed => Vec::new(),
        }
    }
}

impl<I, O, E> Drop for Outcomes<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if let Stage::Open(consumer) = std::mem::replace(&mut self.stage, Stage::Closed) {
            close_elsewhere(consumer);
        }
    }
}

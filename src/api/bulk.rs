//! Inputs that are all there, and whose outcomes are wanted all at once: the short way of
//! [`Function::run`](crate::Function::run) and its kin.
//!
//! They are one chunk from the beginning, so that nothing is moved, and the caller is woken once. A map does
//! the same in order, piece by piece; it is taken where pieces matter: where the user has set a window, and
//! where inputs are to be dropped as soon as they are used up.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::contain::drops::{Gathered, Stack};
use crate::data::erased::Values;
use crate::data::failure::Failure;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::{All, Closing, Consumer, Failures};
use crate::engine::dispatch::Patience;
use crate::engine::running::Running;

/// The most inputs of one chunk.
const INPUTS_MAX: usize = (1 << 31) - 1;

/// Whether this way may be taken.
pub(crate) fn suits<I>(running: &Running, inputs: &[I]) -> bool {
    let piecemeal = std::mem::needs_drop::<I>() || matches!(running.default_window, Window::Fixed(_));
    !piecemeal && inputs.len() <= INPUTS_MAX
}

/// A run over a vector that has begun.
pub(crate) struct Bulk<I, O, E> {
    begun: Result<Consumer<I, O, E>, Failure<I, E>>,
}

impl<I, O, E> Bulk<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn begin(running: &Arc<Running>, inputs: Vec<I>, failures: Failures) -> Self {
        let begun = Closing::of_all(&running.dispatch, Values::of(inputs), failures, Caller::here(None));
        Self { begun: begun.map(Consumer::over).map_err(Failure::of_map) }
    }

    /// Waits for the last outcome, or the failure that ends it before.
    pub(crate) fn wait(self) -> All<I, O, E> {
        match self.begun {
            Ok(mut consumer) => consumer.look_for_all(Patience::Wait).expect("it waits until all are there"),
            Err(refused) => (Vec::new(), Some(refused)),
        }
    }

    /// The same for a task.
    pub(crate) async fn outcome(self) -> All<I, O, E> {
        match self.begun {
            Ok(mut consumer) => {
                poll_fn(|cx| match consumer.look_for_all(Patience::Task(cx.waker())) {
                    Some(all) => Poll::Ready(all),
                    None => Poll::Pending,
                })
                .await
            }
            Err(refused) => (Vec::new(), Some(refused)),
        }
    }
}

/// All outputs, or the failure that ended the run.
pub(crate) fn outputs<I, O, E>(
    (outcomes, failure): All<I, O, E>,
    stack: Stack,
) -> Result<Vec<O>, Failure<I, E>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    match failure {
        Some(failure) => {
            drop(Gathered::new(outcomes, stack));
            Err(failure)
        }
        None => outcomes.into_iter().collect(),
    }
}

/// All outcomes, and behind them the failure of the run as a whole.
pub(crate) fn outcomes<I, O, E>((mut outcomes, failure): All<I, O, E>) -> Vec<Result<O, Failure<I, E>>> {
    outcomes.extend(failure.map(Err));
    outcomes
}

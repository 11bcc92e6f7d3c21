//! [`Bulk`]: a vector of inputs whose outcomes are wanted all at once. It is the fast path of
//! [`Function::run`](crate::Function::run), [`Function::run_all`](crate::Function::run_all) and their async
//! forms.
//!
//! All inputs are one chunk from the beginning, so no input is moved, and the caller is woken once. A map
//! yields the same outcomes piece by piece. It is used instead if the user has set a window, and if the
//! inputs have a drop, because they should be dropped as soon as they have been executed.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::contain::drops::{Gathered, Stack};
use crate::data::erased::Values;
use crate::data::failure::Failure;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::{All, Consumer};
use crate::engine::dispatch::Wait;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::engine::running::Running;

/// The largest number of inputs in one chunk.
const INPUTS_MAX: usize = (1 << 31) - 1;

/// Whether these inputs can be run in bulk.
pub(crate) fn suits<I>(running: &Running, inputs: &[I]) -> bool {
    let piecemeal = std::mem::needs_drop::<I>() || matches!(running.default_window, Window::Fixed(_));
    !piecemeal && inputs.len() <= INPUTS_MAX
}

/// A run over a vector that has begun, or why it was refused.
pub(super) struct Bulk<I, O, E> {
    begun: Result<Consumer<I, O, E>, Failure<I, E>>,
}

impl<I, O, E> Bulk<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn begin(running: &Arc<Running>, inputs: Vec<I>, failures: Failures) -> Self {
        let begun = ReaderGuard::of_all(&running.dispatch, Values::of(inputs), failures, Caller::here(None));
        Self { begun: begun.map(Consumer::over).map_err(Failure::of_map) }
    }

    /// Waits for the last outcome, or for the failure that ends the run before.
    pub(crate) fn wait(self) -> All<I, O, E> {
        match self.begun {
            Ok(mut consumer) => consumer.poll_all(Wait::Block).expect("it waits until all are there"),
            Err(refused) => (Vec::new(), Some(refused)),
        }
    }

    /// [`Bulk::wait`] for a task.
    pub(crate) async fn outcome(self) -> All<I, O, E> {
        match self.begun {
            Ok(mut consumer) => {
                poll_fn(|cx| match consumer.poll_all(Wait::Register(cx.waker())) {
                    Some(all) => Poll::Ready(all),
                    None => Poll::Pending,
                })
                .await
            }
            Err(refused) => (Vec::new(), Some(refused)),
        }
    }
}

/// The outputs of a run, or the failure that ended it.
pub(super) fn outputs<I, O, E>(
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

/// The outcomes of a run. If the run failed as a whole, its failure comes last.
pub(crate) fn outcomes<I, O, E>((mut outcomes, failure): All<I, O, E>) -> Vec<Result<O, Failure<I, E>>> {
    outcomes.extend(failure.map(Err));
    outcomes
}

//! Concurrent workers: async functions whose inputs in flight share one state in each container.

use crate::code::context::Context;
use std::fmt;

/// An async function whose inputs in flight share a state, such as a client with its pool of connections.
/// Each container has one worker, on the container's thread and in a runtime of its own.
/// [`Builder::concurrent_inputs`](crate::Builder::concurrent_inputs) sets how many inputs it has in flight.
///
/// The worker is shared by reference, and one future is polled at a time. So a [`Cell`](std::cell::Cell) or a
/// [`RefCell`](std::cell::RefCell) is enough for state that changes. A borrow must not be held over an
/// `await`.
///
/// A panic in one input ends the worker for all inputs in flight. Only the input that panicked is blamed. The
/// others are replayed with a new worker, and that costs them nothing.
///
/// ```
/// use longshore::{App, ConcurrentWorker, Context};
/// use std::cell::Cell;
/// use std::convert::Infallible;
/// use std::time::Duration;
///
/// struct Gauge { in_flight: Cell<usize>, most: Cell<usize> }
///
/// impl ConcurrentWorker for Gauge {
///     type Input = u64;
///     type Output = usize;
///     type Error = Infallible;
///
///     async fn call(&self, _: &u64, _: &Context) -> Result<usize, Infallible> {
///         self.in_flight.set(self.in_flight.get() + 1);
///         self.most.set(self.most.get().max(self.in_flight.get()));
///         tokio::time::sleep(Duration::from_millis(20)).await;
///         self.in_flight.set(self.in_flight.get() - 1);
///         Ok(self.most.get())
///     }
/// }
///
/// let app = App::ephemeral("docs");
/// let enter = async |_: &Context| Ok(Gauge { in_flight: Cell::new(0), most: Cell::new(0) });
/// let gauge = app
///     .worker_concurrent("gauge", enter)
///     .containers(1)
///     .concurrent_inputs(8)
///     .start()?;
/// let most = gauge.run((0..40).collect()).unwrap().into_iter().max();
/// assert_eq!(most, Some(8));
/// # Ok::<(), longshore::StartError>(())
/// ```
#[expect(async_fn_in_trait, reason = "its futures stay on the container's thread, so no bound is missing")]
pub trait ConcurrentWorker: Sized + 'static {
    /// The input of a call.
    type Input: Send + Sync + 'static;
    /// The output of a call that succeeds.
    type Output: Send + 'static;
    /// The error of a call that fails. A failure does not end the worker.
    type Error: fmt::Debug + Send + 'static;

    /// Executes one input, beside others.
    ///
    /// # Errors
    ///
    /// An error means that the input has failed. The input is retried, or the error becomes its outcome. The
    /// worker goes on.
    ///
    /// # Panics
    ///
    /// A panic ends this worker, and with it all inputs that it has in flight. A new one is entered, and the
    /// inputs are replayed.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at an `await` when the input's map or call is cancelled, and when the container
    /// dies. In the first case the worker stays in use, also if a [`checkpoint`](Context::checkpoint) unwinds
    /// inside a poll. Code that changes the state in several steps must therefore leave it whole at each
    /// `await` and at each checkpoint.
    async fn call(&self, input: &Self::Input, context: &Context) -> Result<Self::Output, Self::Error>;

    /// Called on a graceful end, when no input is in flight: a drain, a stop, or a recycling. It is not
    /// called after a crash or on an abort. A panic here is reported, and is not a crash.
    async fn exit(self, _context: &Context) {}
}

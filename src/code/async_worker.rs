//! Async workers: async functions with a state of their own in each container.

use crate::code::context::Context;
use std::fmt;

/// An async function with state. Each container has one worker, on the container's thread and in a
/// runtime of its own. Neither the worker nor its futures need be `Send`, and `tokio`'s timers, sockets
/// and `spawn_local` work inside. A crash drops the worker and all tasks that it has spawned, and
/// `enter` builds a new one.
///
/// ```
/// use longshore::{App, AsyncWorker, Context};
/// use std::convert::Infallible;
/// use std::time::Duration;
///
/// struct Counter { seen: u64 }
///
/// impl AsyncWorker for Counter {
///     type Input = u64;
///     type Output = u64;
///     type Error = Infallible;
///
///     async fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///         self.seen += 1;
///         Ok(input + self.seen)
///     }
/// }
///
/// let app = App::ephemeral("docs");
/// let count = app.worker_async("count", async |_: &Context| Ok(Counter { seen: 0 })).containers(1).start()?;
/// assert_eq!(count.run(vec![10, 20, 30]).unwrap(), [11, 22, 33]);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[expect(async_fn_in_trait, reason = "its futures stay on the container's thread, so no bound is missing")]
pub trait AsyncWorker: Sized + 'static {
    /// The input of a call.
    type Input: Send + Sync + 'static;
    /// The output of a call that succeeds.
    type Output: Send + 'static;
    /// The error of a call that fails. A failure does not end the worker.
    type Error: fmt::Debug + Send + 'static;

    /// Executes one input.
    ///
    /// # Errors
    ///
    /// An error means that the input has failed. The input is retried, or the error becomes its
    /// outcome. The worker goes on.
    ///
    /// # Panics
    ///
    /// A panic ends this worker. A new one is entered, and the input is replayed. Tokio catches the panic of
    /// a spawned task, which ends only that task.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at an `await` in two cases. When the input's map or call is cancelled, the
    /// worker stays in use. When the container is killed, the worker is dropped as well. If a
    /// [`checkpoint`](Context::checkpoint) unwinds inside a poll, a new worker is entered.
    async fn call(&mut self, input: &Self::Input, context: &Context) -> Result<Self::Output, Self::Error>;

    /// Called on a graceful end: a drain, a stop, or a recycling. It is not called after a crash, after an
    /// interruption, or on an abort. A panic here is reported, and is not a crash.
    async fn exit(self, _context: &Context) {}
}

//! Async workers: async functions with a state of their own in each container.

use crate::code::context::Context;
use std::fmt;

/// An async function with state. One lives in each container, on the container's thread and in a
/// runtime of its own, so neither it nor its futures need be `Send`; `tokio`'s timers, sockets and
/// `spawn_local` work inside. A crash drops it, and all it had spawned, and `enter` builds a fresh one.
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
    /// What it is called with.
    type Input: Send + Sync + 'static;
    /// What it returns.
    type Output: Send + 'static;
    /// How it fails. A failure does not end the worker.
    type Error: fmt::Debug + Send + 'static;

    /// Executes one input.
    ///
    /// # Errors
    ///
    /// The input has failed, and is retried or surfaces. The worker goes on.
    ///
    /// # Panics
    ///
    /// A panic ends this worker; a fresh one is entered, and the input is replayed. A panic in a task
    /// that was spawned is tokio's, and ends only that task.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at an `await` when the input's map or call is cancelled, which leaves the
    /// worker in use, or when the container is killed. Inside a poll a [`checkpoint`](Context::checkpoint) unwinds instead, and
    /// then a fresh worker is entered.
    async fn call(&mut self, input: &Self::Input, context: &Context) -> Result<Self::Output, Self::Error>;

    /// Called on a graceful end: drain or stop. Never after a crash or an interruption, never on drop. A panic here is
    /// reported and is no crash.
    async fn exit(self, _context: &Context) {}
}

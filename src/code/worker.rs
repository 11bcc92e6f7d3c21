//! Workers: functions with a state of their own in each container.

use crate::code::context::Context;
use std::fmt;

/// A function with state. Each container has one worker, on the container's thread, so a worker need not be
/// `Send`. A crash drops the worker, and `enter` builds a new one.
///
/// ```
/// use longshore::{App, Context, Worker};
/// use std::convert::Infallible;
///
/// struct Counter { seen: u64 }
///
/// impl Worker for Counter {
///     type Input = u64;
///     type Output = u64;
///     type Error = Infallible;
///
///     fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
///         self.seen += 1;
///         Ok(input + self.seen)
///     }
/// }
///
/// let app = App::ephemeral("docs");
/// let count = app.worker("count", |_: &Context| Ok(Counter { seen: 0 })).containers(1).start()?;
/// assert_eq!(count.run(vec![10, 20, 30]).unwrap(), [11, 22, 33]);
/// # Ok::<(), longshore::StartError>(())
/// ```
pub trait Worker: Sized + 'static {
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
    /// A panic ends this worker. A new one is entered, and the input is replayed. A
    /// [`checkpoint`](Context::checkpoint) that unwinds because the map or call was cancelled or has ended
    /// also ends this worker. A new one is then entered. That is not a crash.
    fn call(&mut self, input: &Self::Input, context: &Context) -> Result<Self::Output, Self::Error>;

    /// Called on a graceful end: a drain, a stop, or a recycling. It is not called after a crash, after an
    /// interruption, or on an abort. A panic here is reported, and is not a crash.
    fn exit(self, _context: &Context) {}
}

//! Workers: functions with a state of their own in each container.

use crate::code::context::Context;
use std::fmt;

/// A function with state. One lives in each container, on the container's thread, so it need not
/// be `Send`; a crash drops it and `enter` builds a fresh one.
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
    /// A panic ends this worker; a fresh one is entered, and the input is replayed. A
    /// [`checkpoint`](Context::checkpoint) that unwinds because the map or call was cancelled or has ended also ends this
    /// worker. A fresh one is then entered, and that is no crash.
    fn call(&mut self, input: &Self::Input, context: &Context) -> Result<Self::Output, Self::Error>;

    /// Called on a graceful end: drain or stop. Never after a crash or an interruption, never on drop. A panic here is
    /// reported and is no crash.
    fn exit(self, _context: &Context) {}
}

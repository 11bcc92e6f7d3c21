//! Batch workers: functions with a state of their own in each container, which execute many inputs in one
//! call.

use crate::code::context::Context;
use std::fmt;

/// A function with state that executes many inputs in one call, such as a model or a client of a database.
/// [`Builder::batch_size`](crate::Builder::batch_size) says how many. Each container has one worker, on the
/// container's thread, so a worker need not be `Send`.
///
/// Each input has an outcome of its own, and is retried by itself. A panic ends the worker, and it is not
/// known which input of the batch is guilty. So the inputs are replayed in halves, each half by itself, until
/// the guilty input has crashed alone.
///
/// ```
/// use longshore::{App, BatchWorker, Context};
/// use std::collections::HashMap;
///
/// /// Looks words up with one query for many of them.
/// struct Dictionary { words: HashMap<&'static str, u32>, queries: u32 }
///
/// impl BatchWorker for Dictionary {
///     type Input = &'static str;
///     type Output = (u32, u32);
///     type Error = String;
///
///     fn call(&mut self, words: &[&&'static str], _: &Context) -> Vec<Result<(u32, u32), String>> {
///         self.queries += 1;
///         let look_up = |word: &&&'static str| match self.words.get(**word) {
///             Some(found) => Ok((*found, self.queries)),
///             None => Err(format!("no such word: {word}")),
///         };
///         words.iter().map(look_up).collect()
///     }
/// }
///
/// let app = App::ephemeral("docs");
/// let enter = |_: &Context| Ok(Dictionary { words: [("one", 1), ("two", 2)].into(), queries: 0 });
/// let look_up = app.batch_worker("look-up", enter).containers(1).batch_size(64).start()?;
/// let found: Vec<_> = look_up.map(vec!["one", "three", "two"]).return_exceptions().into_iter().collect();
/// assert_eq!(found[0].as_ref().unwrap(), &(1, 1));
/// assert_eq!(found[1].as_ref().unwrap_err().error().unwrap(), "no such word: three");
/// assert_eq!(found[2].as_ref().unwrap(), &(2, 1));
/// # Ok::<(), longshore::StartError>(())
/// ```
pub trait BatchWorker: Sized + 'static {
    /// The input of a call.
    type Input: Send + Sync + 'static;
    /// The output of an input that succeeds.
    type Output: Send + 'static;
    /// The error of an input that fails. A failure does not end the worker.
    type Error: fmt::Debug + Send + 'static;

    /// Executes a batch: from 1 to `batch_size` inputs. Returns the outcome of each input, in their order.
    /// With a vector of another length every input fails with
    /// [`Cause::BatchLength`](crate::Cause::BatchLength).
    ///
    /// The inputs may be of several maps and calls. The context has the [index](Context::input),
    /// the [attempt](Context::attempt) and the tracing span of the first input.
    ///
    /// # Errors
    ///
    /// An error means that its input has failed. The input is retried, or the error becomes its outcome. The
    /// worker and the other inputs go on.
    ///
    /// # Panics
    ///
    /// A panic ends this worker. A new one is entered, and the inputs are replayed in halves. A
    /// [`checkpoint`](Context::checkpoint) that unwinds because none of the inputs is wanted any more also
    /// ends this worker. A new one is then entered. That is not a crash.
    fn call(&mut self, inputs: &[&Self::Input], context: &Context) -> Vec<Result<Self::Output, Self::Error>>;

    /// Called on a graceful end: a drain, a stop, or a recycling. It is not called after a crash, after an
    /// interruption, or on an abort. A panic here is reported, and is not a crash.
    fn exit(self, _context: &Context) {}
}

//! The kinds of the user's code, as the application gives them.

/// A plain function.
pub(crate) struct Plain<F>(pub(crate) F);

/// A [`Worker`](crate::Worker), made anew by its `enter` for each generation.
pub(crate) struct WorkerCode<N>(pub(crate) N);

/// An async function.
pub(crate) struct AsyncPlain<F>(pub(crate) F);

/// An [`AsyncWorker`](crate::AsyncWorker), made anew by its `enter` for each generation.
pub(crate) struct AsyncWorkerCode<N>(pub(crate) N);

/// A [`ConcurrentWorker`](crate::ConcurrentWorker), which its `enter` makes for each generation.
pub(crate) struct ConcurrentCode<N>(pub(crate) N);

/// A function of batches.
pub(crate) struct PlainBatch<F>(pub(crate) F);

/// An async function of batches.
pub(crate) struct AsyncBatch<F>(pub(crate) F);

/// A [`BatchWorker`](crate::BatchWorker), which its `enter` makes for each generation.
pub(crate) struct BatchWorkerCode<N>(pub(crate) N);

#[cfg(feature = "testkit")]
pub(crate) use crate::code::rehearsable::Rehearsable;

/// Without the test kit nothing is asked of code for its sake.
#[cfg(not(feature = "testkit"))]
pub(crate) trait Rehearsable<I, O, E> {}

#[cfg(not(feature = "testkit"))]
impl<B, I, O, E> Rehearsable<I, O, E> for B {}

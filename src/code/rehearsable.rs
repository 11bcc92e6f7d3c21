//! The user's code as futures, which is how the containers of a rehearsal run it.

use std::pin::Pin;

use crate::code::async_worker::AsyncWorker;
use crate::code::batch_worker::BatchWorker;
use crate::code::concurrent_worker::ConcurrentWorker;
use crate::code::context::Context;
use crate::code::kinds::{
    AsyncBatch, AsyncPlain, AsyncWorkerCode, BatchWorkerCode, ConcurrentCode, Plain, PlainBatch, WorkerCode,
};
use crate::code::worker::Worker;
use crate::values::crash::BoxError;

/// A future that stays on its thread.
pub(super) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The user's code in a generation that begins, or why it does not.
pub(crate) type Begun<'a, I, O, E> = Result<Box<dyn Role<I, O, E> + 'a>, BoxError>;

/// The user's code, shared by all containers of a function.
pub(crate) trait Rehearsable<I, O, E> {
    /// Whether it can be dropped at an `await`. Code that cannot is left behind when its container is killed.
    fn waits(&self) -> bool;

    fn begin<'a>(&'a self, context: &'a Context) -> Local<'a, Begun<'a, I, O, E>>;
}

/// The user's code in one generation of a container.
pub(crate) trait Role<I, O, E> {
    fn call<'a>(&'a mut self, input: &'a I, context: &'a Context) -> Local<'a, Result<O, E>>;

    /// Whether an execution that is dropped where it waits may leave the state of the code torn.
    fn tears(&self) -> bool {
        false
    }

    /// The role of code that can have several inputs in flight.
    fn shared(&self) -> Option<&dyn SharedRole<I, O, E>> {
        None
    }

    /// The role of code that executes batches.
    fn batch(&mut self) -> Option<&mut dyn BatchRole<I, O, E>> {
        None
    }

    /// Ends the code. Code without state has nothing to do.
    fn exit<'a>(self: Box<Self>, _: &'a Context) -> Local<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async {})
    }
}

/// The user's code in one generation of a container, for batches of inputs.
pub(crate) trait BatchRole<I, O, E> {
    fn call<'a>(&'a mut self, inputs: &'a [&'a I], context: &'a Context) -> Local<'a, Vec<Result<O, E>>>;
}

/// The user's code in one generation of a container, for several inputs in flight.
pub(crate) trait SharedRole<I, O, E> {
    fn call<'a>(&'a self, input: &'a I, context: &'a Context) -> Local<'a, Result<O, E>>;
}

/// A function has no state.
struct Stateless<'f, F>(&'f F);

impl<I, O, E, F: Fn(&I) -> Result<O, E>> Rehearsable<I, O, E> for Plain<F> {
    fn waits(&self) -> bool {
        false
    }

    fn begin<'a>(&'a self, _: &'a Context) -> Local<'a, Begun<'a, I, O, E>> {
        Box::pin(async { Ok(Box::new(Stateless(&self.0)) as Box<dyn Role<I, O, E>>) })
    }
}

impl<I, O, E, F: Fn(&I) -> Result<O, E>> Role<I, O, E> for Stateless<'_, F> {
    fn call<'a>(&'a mut self, input: &'a I, _: &'a Context) -> Local<'a, Result<O, E>> {
        Box::pin(async { (self.0)(input) })
    }
}

/// An async function has none either.
struct AsyncStateless<'f, F>(&'f F);

impl<I, O, E, F: AsyncFn(&I) -> Result<O, E>> Rehearsable<I, O, E> for AsyncPlain<F> {
    fn waits(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, _: &'a Context) -> Local<'a, Begun<'a, I, O, E>> {
        Box::pin(async { Ok(Box::new(AsyncStateless(&self.0)) as Box<dyn Role<I, O, E>>) })
    }
}

impl<I, O, E, F: AsyncFn(&I) -> Result<O, E>> SharedRole<I, O, E> for AsyncStateless<'_, F> {
    fn call<'a>(&'a self, input: &'a I, _: &'a Context) -> Local<'a, Result<O, E>> {
        Box::pin((self.0)(input))
    }
}

impl<I, O, E, F: AsyncFn(&I) -> Result<O, E>> Role<I, O, E> for AsyncStateless<'_, F> {
    fn call<'a>(&'a mut self, input: &'a I, context: &'a Context) -> Local<'a, Result<O, E>> {
        SharedRole::call(self, input, context)
    }

    fn shared(&self) -> Option<&dyn SharedRole<I, O, E>> {
        Some(self)
    }
}

struct WorkerRole<W>(W);

impl<W, N> Rehearsable<W::Input, W::Output, W::Error> for WorkerCode<N>
where
    W: Worker,
    N: Fn(&Context) -> Result<W, BoxError>,
{
    fn waits(&self) -> bool {
        false
    }

    fn begin<'a>(&'a self, context: &'a Context) -> Local<'a, Begun<'a, W::Input, W::Output, W::Error>> {
        Box::pin(async { Ok(Box::new(WorkerRole((self.0)(context)?)) as Box<dyn Role<_, _, _>>) })
    }
}

impl<W: Worker> Role<W::Input, W::Output, W::Error> for WorkerRole<W> {
    fn call<'a>(
        &'a mut self,
        input: &'a W::Input,
        context: &'a Context,
    ) -> Local<'a, Result<W::Output, W::Error>> {
        Box::pin(async { self.0.call(input, context) })
    }

    fn exit<'a>(self: Box<Self>, context: &'a Context) -> Local<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async { self.0.exit(context) })
    }
}

struct AsyncWorkerRole<W>(W);

impl<W, N> Rehearsable<W::Input, W::Output, W::Error> for AsyncWorkerCode<N>
where
    W: AsyncWorker,
    N: AsyncFn(&Context) -> Result<W, BoxError>,
{
    fn waits(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, context: &'a Context) -> Local<'a, Begun<'a, W::Input, W::Output, W::Error>> {
        Box::pin(async { Ok(Box::new(AsyncWorkerRole((self.0)(context).await?)) as Box<dyn Role<_, _, _>>) })
    }
}

impl<W: AsyncWorker> Role<W::Input, W::Output, W::Error> for AsyncWorkerRole<W> {
    fn call<'a>(
        &'a mut self,
        input: &'a W::Input,
        context: &'a Context,
    ) -> Local<'a, Result<W::Output, W::Error>> {
        Box::pin(self.0.call(input, context))
    }

    fn tears(&self) -> bool {
        true
    }

    fn exit<'a>(self: Box<Self>, context: &'a Context) -> Local<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(self.0.exit(context))
    }
}

struct ConcurrentRole<W>(W);

impl<W, N> Rehearsable<W::Input, W::Output, W::Error> for ConcurrentCode<N>
where
    W: ConcurrentWorker,
    N: AsyncFn(&Context) -> Result<W, BoxError>,
{
    fn waits(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, context: &'a Context) -> Local<'a, Begun<'a, W::Input, W::Output, W::Error>> {
        Box::pin(async { Ok(Box::new(ConcurrentRole((self.0)(context).await?)) as Box<dyn Role<_, _, _>>) })
    }
}

impl<W: ConcurrentWorker> SharedRole<W::Input, W::Output, W::Error> for ConcurrentRole<W> {
    fn call<'a>(
        &'a self,
        input: &'a W::Input,
        context: &'a Context,
    ) -> Local<'a, Result<W::Output, W::Error>> {
        Box::pin(self.0.call(input, context))
    }
}

impl<W: ConcurrentWorker> Role<W::Input, W::Output, W::Error> for ConcurrentRole<W> {
    fn call<'a>(
        &'a mut self,
        input: &'a W::Input,
        context: &'a Context,
    ) -> Local<'a, Result<W::Output, W::Error>> {
        SharedRole::call(self, input, context)
    }

    fn shared(&self) -> Option<&dyn SharedRole<W::Input, W::Output, W::Error>> {
        Some(self)
    }

    fn exit<'a>(self: Box<Self>, context: &'a Context) -> Local<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(self.0.exit(context))
    }
}

/// Code of batches gets each input in a batch.
const ONLY_BATCHES: &str = "code of batches executes nothing but batches";

impl<I, O, E, F: Fn(&[&I]) -> Vec<Result<O, E>>> Rehearsable<I, O, E> for PlainBatch<F> {
    fn waits(&self) -> bool {
        false
    }

    fn begin<'a>(&'a self, _: &'a Context) -> Local<'a, Begun<'a, I, O, E>> {
        Box::pin(async { Ok(Box::new(StatelessBatch(&self.0)) as Box<dyn Role<I, O, E>>) })
    }
}

/// A function of batches has no state.
struct StatelessBatch<'f, F>(&'f F);

impl<I, O, E, F: Fn(&[&I]) -> Vec<Result<O, E>>> BatchRole<I, O, E> for StatelessBatch<'_, F> {
    fn call<'a>(&'a mut self, inputs: &'a [&'a I], _: &'a Context) -> Local<'a, Vec<Result<O, E>>> {
        Box::pin(async { (self.0)(inputs) })
    }
}

impl<I, O, E, F: Fn(&[&I]) -> Vec<Result<O, E>>> Role<I, O, E> for StatelessBatch<'_, F> {
    fn call<'a>(&'a mut self, _: &'a I, _: &'a Context) -> Local<'a, Result<O, E>> {
        unreachable!("{ONLY_BATCHES}")
    }

    fn batch(&mut self) -> Option<&mut dyn BatchRole<I, O, E>> {
        Some(self)
    }
}

impl<I, O, E, F: AsyncFn(&[&I]) -> Vec<Result<O, E>>> Rehearsable<I, O, E> for AsyncBatch<F> {
    fn waits(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, _: &'a Context) -> Local<'a, Begun<'a, I, O, E>> {
        Box::pin(async { Ok(Box::new(AsyncStatelessBatch(&self.0)) as Box<dyn Role<I, O, E>>) })
    }
}

/// An async function of batches has none either.
struct AsyncStatelessBatch<'f, F>(&'f F);

impl<I, O, E, F: AsyncFn(&[&I]) -> Vec<Result<O, E>>> BatchRole<I, O, E> for AsyncStatelessBatch<'_, F> {
    fn call<'a>(&'a mut self, inputs: &'a [&'a I], _: &'a Context) -> Local<'a, Vec<Result<O, E>>> {
        Box::pin((self.0)(inputs))
    }
}

impl<I, O, E, F: AsyncFn(&[&I]) -> Vec<Result<O, E>>> Role<I, O, E> for AsyncStatelessBatch<'_, F> {
    fn call<'a>(&'a mut self, _: &'a I, _: &'a Context) -> Local<'a, Result<O, E>> {
        unreachable!("{ONLY_BATCHES}")
    }

    fn batch(&mut self) -> Option<&mut dyn BatchRole<I, O, E>> {
        Some(self)
    }
}

struct BatchWorkerRole<W>(W);

impl<W, N> Rehearsable<W::Input, W::Output, W::Error> for BatchWorkerCode<N>
where
    W: BatchWorker,
    N: Fn(&Context) -> Result<W, BoxError>,
{
    fn waits(&self) -> bool {
        false
    }

    fn begin<'a>(&'a self, context: &'a Context) -> Local<'a, Begun<'a, W::Input, W::Output, W::Error>> {
        Box::pin(async { Ok(Box::new(BatchWorkerRole((self.0)(context)?)) as Box<dyn Role<_, _, _>>) })
    }
}

impl<W: BatchWorker> BatchRole<W::Input, W::Output, W::Error> for BatchWorkerRole<W> {
    fn call<'a>(
        &'a mut self,
        inputs: &'a [&'a W::Input],
        context: &'a Context,
    ) -> Local<'a, Vec<Result<W::Output, W::Error>>> {
        Box::pin(async { self.0.call(inputs, context) })
    }
}

impl<W: BatchWorker> Role<W::Input, W::Output, W::Error> for BatchWorkerRole<W> {
    fn call<'a>(&'a mut self, _: &'a W::Input, _: &'a Context) -> Local<'a, Result<W::Output, W::Error>> {
        unreachable!("{ONLY_BATCHES}")
    }

    fn batch(&mut self) -> Option<&mut dyn BatchRole<W::Input, W::Output, W::Error>> {
        Some(self)
    }

    fn exit<'a>(self: Box<Self>, context: &'a Context) -> Local<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async { self.0.exit(context) })
    }
}

//! The synchronous [kinds](crate::code::kinds) of code: a function without state, and a worker.

use std::marker::PhantomData;

use crate::code::context::Context;
use crate::code::kinds::{Plain, WorkerCode};
use crate::code::worker::Worker;
use crate::data::shape::Types;
use crate::decide::life::Served;
use crate::engine::body::{Body, Errors, GenerationEnv, InFlight, Instance};
use crate::values::crash::{BoxError, Panic};

/// Synchronous code, with what a user may use instead.
const SYNCHRONOUS: InFlight = InFlight::One(
    "synchronous code executes one input at a time; use App::function_async or App::worker_concurrent",
);

impl<I, O, E, F> Body<I, O, E> for Plain<F>
where
    F: Fn(&I) -> Result<O, E> + Send + Sync,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<E>,
        _: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        Ok(Box::new(PlainInstance { function: &self.0, errors, types: PhantomData }))
    }

    fn has_state(&self) -> bool {
        false
    }

    fn in_flight(&self) -> InFlight {
        SYNCHRONOUS
    }
}

struct PlainInstance<'a, F, I, O, E> {
    function: &'a F,
    errors: &'a Errors<E>,
    types: Types<I, O, E>,
}

impl<I, O, E, F> Instance for PlainInstance<'_, F, I, O, E>
where
    F: Fn(&I) -> Result<O, E>,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let Self { mut function, errors, .. } = *self;
        Ok(env.serve(&mut |task| task.drive(errors, &mut function)))
    }

    fn exit(self: Box<Self>, _: &GenerationEnv<'_>) {}
}

impl<W, N> Body<W::Input, W::Output, W::Error> for WorkerCode<N>
where
    W: Worker,
    N: Fn(&Context) -> Result<W, BoxError> + Send + Sync,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<W::Error>,
        env: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        Ok(Box::new(WorkerInstance { worker: (self.0)(env.context)?, errors }))
    }

    fn has_state(&self) -> bool {
        true
    }

    fn in_flight(&self) -> InFlight {
        SYNCHRONOUS
    }
}

struct WorkerInstance<'a, W: Worker> {
    worker: W,
    errors: &'a Errors<W::Error>,
}

impl<W: Worker> Instance for WorkerInstance<'_, W> {
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let Self { worker, errors } = self;
        Ok(env.serve(&mut |task| task.drive(errors, &mut |input| worker.call(input, env.context))))
    }

    fn exit(self: Box<Self>, env: &GenerationEnv<'_>) {
        self.worker.exit(env.context);
    }
}

//! The asynchronous kinds of the user's code. Each generation has a runtime of its own.
//!
//! The whole generation runs in one `block_on` of a current-thread runtime with a set of local tasks. Timers,
//! sockets and `spawn_local` work inside it, and futures need not be `Send`. Spawned tasks go on while the
//! container waits for work, and end with its generation. A future whose attempt is fenced, because its map
//! was cancelled or its container was killed, is dropped at once. The future of an `enter` or `exit` is
//! dropped at once when its generation is over.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, yield_now};

use crate::code::async_worker::AsyncWorker;
use crate::code::concurrent_worker::ConcurrentWorker;
use crate::code::context::Context;
use crate::code::kinds::{AsyncPlain, AsyncWorkerCode, ConcurrentCode};
use crate::code::token::{at_no_checkpoint, outside, unwind_to_boundary};
use crate::contain::drops::Stack;
use crate::contain::spawned::{Origin, among_tasks, as_its_own, this_thread_runs_tasks};
use crate::contain::unwind::{contain_drop, drop_contained};
use crate::data::shape::Types;
use crate::decide::life::Served;
use crate::engine::body::{Body, Errors, GenerationEnv, InFlight, Instance, LeasedRun};
use crate::engine::concurrent_body::serve_lanes;
use crate::engine::span::SafeSpan;
use crate::values::crash::{BoxError, Panic};

/// The runtime of one generation, with the user's state in it.
pub(super) struct Tasks<S> {
    /// The container to which the tasks in the runtime belong.
    origin: Arc<Origin>,
    /// The user's state, which is dropped first. `None` before `enter` has returned and after `exit` has
    /// begun.
    state: Option<S>,
    local: Option<LocalSet>,
    runtime: Option<Runtime>,
}

impl<S> Tasks<S> {
    pub(super) fn enter(
        env: &GenerationEnv<'_>,
        enter: impl AsyncFnOnce() -> Result<S, BoxError>,
    ) -> Result<Self, BoxError> {
        let settings = &env.dispatch.settings;
        let origin = Arc::new(Origin::of((&settings.app, &settings.function), env.container, env.generation));
        let theirs = Arc::clone(&origin);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(Stack::of(settings.stack_bytes).bytes())
            .on_thread_start(move || this_thread_runs_tasks(&theirs))
            .build()?;
        let mut tasks = Self { origin, state: None, local: Some(LocalSet::new()), runtime: Some(runtime) };
        let state = tasks.run(async |_: &mut Option<S>| enter().await)?;
        tasks.state = Some(state);
        Ok(tasks)
    }

    pub(super) fn run<T>(&mut self, work: impl AsyncFnOnce(&mut Option<S>) -> T) -> T {
        let local = self.local.as_ref().expect("only the drop takes it");
        let runtime = self.runtime.as_ref().expect("only the drop takes it");
        let working = local.run_until(work(&mut self.state));
        among_tasks(&self.origin, || runtime.block_on(working))
    }
}

impl<S> Drop for Tasks<S> {
    fn drop(&mut self) {
        // The parts are dropped one by one, each inside the unwind boundary, because two panics in one drop
        // would abort the process.
        let runtime = self.runtime.take().expect("dropped once");
        {
            let _inside = runtime.enter(); // the state may need its timers and sockets in its drop
            drop_contained(self.state.take());
            let local = self.local.take();
            contain_drop(|| among_tasks(&self.origin, || drop(local)));
        }
        contain_drop(|| among_tasks(&self.origin, || runtime.shutdown_background()));
    }
}

/// Whether an execution that is dropped where it waits may leave the state of the code torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tears {
    Yes,
    /// There is no state, or it is shared by reference.
    No,
}

impl GenerationEnv<'_> {
    /// Polls the user's `enter` or `exit`. If the generation is over, drops the future and returns `None`.
    pub(crate) async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let (id, generation) = (self.container, self.generation);
        let mut future = pin!(Some(future));
        let ended = poll_fn(|cx| {
            if !self.dispatch.resume(id, generation) {
                return Poll::Ready(None);
            }
            let running = future.as_mut().as_pin_mut().expect("the future is dropped after its last poll");
            match as_its_own(|| running.poll(cx)) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if self.dispatch.suspend(id, generation, cx.waker()) => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await;
        // The future is dropped before the end of the scope, so that a panic in its drop is contained.
        at_no_checkpoint(|| contain_drop(|| future.set(None)));
        ended
    }

    /// The same as [`GenerationEnv::serve`], in a task.
    pub(crate) async fn serve_in_task(&self, mut drive: impl AsyncFnMut(&LeasedRun<'_>) -> i64) -> Served {
        loop {
            let next = polled_outside(self.dispatch.next_in_task(self.container, self.generation)).await;
            let task = match next {
                Ok(work) => self.begin(work),
                Err(served) => return served,
            };
            let left = drive(&task).await;
            self.context.end_run();
            if outside(|| self.recycles(&task.run, left)) {
                return Served::Recycles;
            }
            // This comes before the tasks that the user's code has spawned, because these may run for long.
            self.dispatch.returned(self.container, self.generation);
            yield_now().await;
        }
    }
}

impl LeasedRun<'_> {
    /// Executes the inputs of the run. Returns the number of bytes that the attempts have left.
    async fn drive_in_task<I, O, E>(
        &self,
        errors: &Errors<E>,
        call: &mut impl AsyncFnMut(&I) -> Result<O, E>,
        tears: Tears,
    ) -> i64
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let Some(mut active) = self.run.begin::<I, O, E>() else { return 0 };
        let span = outside(|| self.span());
        self.env.token.begin_attempt();
        let mut left = 0;
        loop {
            self.env.token.is_at_a_checkpoint(); // each return of a poll is a checkpoint
            self.env.context.begin_input(active.index());
            let future = call(active.input());
            let result = self.unless_fenced(future, span.as_ref()).await;
            let used = self.env.token.end_attempt();
            left += used.map_or(0, |used| used.left);
            if self.env.token.is_over_limit() {
                result.into_iter().for_each(|answer| self.too_late(answer));
                unwind_to_boundary();
            }
            let Some(result) = result else {
                if tears == Tears::Yes {
                    self.may_be_torn();
                }
                return left;
            };
            if !self.returned(&mut active, result, used, span.as_ref(), errors) {
                return left;
            }
        }
    }

    /// The future of a worker's call was dropped where it waited. If its execution was interrupted, this
    /// unwinds as a checkpoint does, so that the worker is entered again. If its generation is over, nothing
    /// is left to be torn.
    #[cold]
    pub(crate) fn may_be_torn(&self) {
        if outside(|| self.env.dispatch.is_interrupted(self.lane, self.env.generation)) {
            self.env.token.unwinds_unwanted();
            unwind_to_boundary();
        }
    }

    /// Polls the user's future. If the run is fenced or the account is over its limit, drops the future and
    /// returns `None`.
    pub(crate) async fn unless_fenced<T>(
        &self,
        future: impl Future<Output = T>,
        span: Option<&SafeSpan>,
    ) -> Option<T> {
        let mut future = pin!(Some(future));
        let mut kept: Option<Waker> = None;
        let ended = poll_fn(|cx| {
            if !self.run.resume() {
                return Poll::Ready(None);
            }
            let _in_span = span.map(SafeSpan::enter);
            let running = future.as_mut().as_pin_mut().expect("the future is dropped after its last poll");
            if let Poll::Ready(result) = as_its_own(|| running.poll(cx)) {
                return Poll::Ready(Some(result));
            }
            if self.env.token.is_over_limit() {
                return Poll::Ready(None);
            }
            if !kept.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
                self.run.keep_waker(cx.waker());
                kept = Some(cx.waker().clone());
            }
            if self.run.suspend() { Poll::Pending } else { Poll::Ready(None) }
        })
        .await;
        // The future is dropped before the end of the scope, so that a panic in its drop is contained.
        at_no_checkpoint(|| contain_drop(|| future.set(None)));
        ended
    }
}

impl<I, O, E, F> Body<I, O, E> for AsyncPlain<F>
where
    F: AsyncFn(&I) -> Result<O, E> + Send + Sync,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<E>,
        env: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        let tasks = Tasks::enter(env, async || Ok(&self.0))?;
        Ok(Box::new(AsyncPlainInstance { tasks, errors, types: PhantomData }))
    }

    fn has_state(&self) -> bool {
        false
    }

    fn in_flight(&self) -> InFlight {
        InFlight::Many
    }
}

struct AsyncPlainInstance<'a, F, I, O, E> {
    tasks: Tasks<&'a F>,
    errors: &'a Errors<E>,
    types: Types<I, O, E>,
}

impl<I, O, E, F> Instance for AsyncPlainInstance<'_, F, I, O, E>
where
    F: AsyncFn(&I) -> Result<O, E>,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let _inside = env.token.enter();
        let errors = self.errors;
        self.tasks.run(async |function: &mut Option<&F>| {
            let function = function.expect("the instance has not exited");
            if env.executes_many() {
                let call = async |input: &I, _: &Context| function(input).await;
                return serve_lanes(env, |task| task.drive_in_lane(errors, &call)).await;
            }
            let mut call = async |input: &I| function(input).await;
            let drive = async |task: &LeasedRun<'_>| task.drive_in_task(errors, &mut call, Tears::No).await;
            Ok(env.serve_in_task(drive).await)
        })
    }

    fn exit(self: Box<Self>, _: &GenerationEnv<'_>) {}
}

impl<W, N> Body<W::Input, W::Output, W::Error> for AsyncWorkerCode<N>
where
    W: AsyncWorker,
    N: AsyncFn(&Context) -> Result<W, BoxError> + Send + Sync,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<W::Error>,
        env: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        let over = || Err("its generation is over".into());
        // The call is inside the polled future, so that code that runs before the user's own future exists
        // counts as the container's as well.
        let entering = async || (self.0)(env.context).await;
        let enter = async || env.unless_over(entering()).await.unwrap_or_else(over);
        Ok(Box::new(AsyncWorkerInstance { tasks: Tasks::enter(env, enter)?, errors }))
    }

    fn has_state(&self) -> bool {
        true
    }

    fn in_flight(&self) -> InFlight {
        InFlight::One("an AsyncWorker has `&mut self`; use App::worker_concurrent")
    }
}

struct AsyncWorkerInstance<'a, W: AsyncWorker> {
    tasks: Tasks<W>,
    errors: &'a Errors<W::Error>,
}

impl<W: AsyncWorker> Instance for AsyncWorkerInstance<'_, W> {
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let _inside = env.token.enter();
        let errors = self.errors;
        self.tasks.run(async |worker: &mut Option<W>| {
            let worker = worker.as_mut().expect("the instance has not exited");
            let mut call = async |input: &W::Input| worker.call(input, env.context).await;
            let drive = async |task: &LeasedRun<'_>| task.drive_in_task(errors, &mut call, Tears::Yes).await;
            Ok(env.serve_in_task(drive).await)
        })
    }

    fn exit(mut self: Box<Self>, env: &GenerationEnv<'_>) {
        self.tasks.run(async |worker: &mut Option<W>| {
            let worker = worker.take().expect("an instance exits once");
            env.unless_over(async { worker.exit(env.context).await }).await
        });
    }
}

impl<W, N> Body<W::Input, W::Output, W::Error> for ConcurrentCode<N>
where
    W: ConcurrentWorker,
    N: AsyncFn(&Context) -> Result<W, BoxError> + Send + Sync,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<W::Error>,
        env: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        let over = || Err("its generation is over".into());
        let entering = async || (self.0)(env.context).await;
        let enter = async || env.unless_over(entering()).await.unwrap_or_else(over);
        Ok(Box::new(ConcurrentInstance { tasks: Tasks::enter(env, enter)?, errors }))
    }

    fn has_state(&self) -> bool {
        true
    }

    fn in_flight(&self) -> InFlight {
        InFlight::Many
    }
}

struct ConcurrentInstance<'a, W: ConcurrentWorker> {
    tasks: Tasks<W>,
    errors: &'a Errors<W::Error>,
}

impl<W: ConcurrentWorker> Instance for ConcurrentInstance<'_, W> {
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let _inside = env.token.enter();
        let errors = self.errors;
        self.tasks.run(async |worker: &mut Option<W>| {
            let worker = worker.as_ref().expect("the instance has not exited");
            if env.executes_many() {
                let call = async |input: &W::Input, context: &Context| worker.call(input, context).await;
                return serve_lanes(env, |task| task.drive_in_lane(errors, &call)).await;
            }
            let mut call = async |input: &W::Input| worker.call(input, env.context).await;
            let drive = async |task: &LeasedRun<'_>| task.drive_in_task(errors, &mut call, Tears::No).await;
            Ok(env.serve_in_task(drive).await)
        })
    }

    fn exit(mut self: Box<Self>, env: &GenerationEnv<'_>) {
        self.tasks.run(async |worker: &mut Option<W>| {
            let worker = worker.take().expect("an instance exits once");
            env.unless_over(async { worker.exit(env.context).await }).await
        });
    }
}

/// Polls a future of the engine on a thread that is inside an account.
pub(super) async fn polled_outside<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| outside(|| future.as_mut().poll(cx))).await
}

//! Code that executes batches: many inputs in one call.
//!
//! A batch consists of the runs of its leases. All inputs of a run's next batch execute together, and then
//! the outcomes are published one by one, so a fence finds each input either published or executing.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::task::yield_now;

use crate::code::batch_worker::BatchWorker;
use crate::code::context::Context;
use crate::code::kinds::{AsyncBatch, BatchWorkerCode, PlainBatch};
use crate::code::token::{at_no_checkpoint, outside, unwind_to_boundary};
use crate::contain::TARGET;
use crate::contain::spawned::as_its_own;
use crate::contain::unwind::{contain_drop, ignore_panic};
use crate::data::run::{ActiveRun, Run};
use crate::data::shape::Types;
use crate::decide::life::Served;
use crate::engine::async_body::{Tasks, polled_outside};
use crate::engine::body::{Body, Errors, GenerationEnv, InFlight, Instance, LeasedRun};
use crate::engine::dispatch::Work;
use crate::engine::span::SafeSpan;
use crate::memory::account::Epoch;
use crate::values::crash::{BoxError, Panic};

/// The outcomes of a batch, in the order of its inputs.
pub(crate) type Outcomes<O, E> = Vec<Result<O, E>>;

/// A part of a batch: a lease, and its run as the executing thread holds it.
pub(crate) type Part<'r, 'a, I, O, E> = (&'r LeasedRun<'a>, ActiveRun<'r, I, O, E>);

impl GenerationEnv<'_> {
    /// Repeatedly waits for a batch and executes it.
    fn serve_batches<I, O, E>(
        &self,
        errors: &Errors<E>,
        call: &mut impl FnMut(&[&I]) -> Outcomes<O, E>,
    ) -> Served
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let mut works = Vec::new();
        loop {
            if let Err(served) = self.dispatch.next_batch(self.container, self.generation, &mut works) {
                return served;
            }
            let batch = self.begin_batch(&mut works);
            let left = drive_batch(&batch, errors, call);
            self.context.end_run();
            if self.recycles_after(&batch, left) {
                return Served::Recycles;
            }
        }
    }

    /// The same, in a task.
    pub(crate) async fn serve_batches_in_task(
        &self,
        mut drive: impl AsyncFnMut(&[LeasedRun<'_>]) -> i64,
    ) -> Served {
        // The last batch may have been interrupted, and then nothing else gives its leases back.
        outside(|| self.dispatch.batch_returned(self.container, self.generation));
        loop {
            let next = self.dispatch.next_batch_in_task(self.container, self.generation);
            let mut works = match polled_outside(next).await {
                Ok(works) => works,
                Err(served) => return served,
            };
            let batch = self.begin_batch(&mut works);
            let left = drive(&batch).await;
            self.context.end_run();
            if outside(|| self.recycles_after(&batch, left)) {
                return Served::Recycles;
            }
            // This comes before the tasks that the user's code has spawned, because these may run for long.
            self.dispatch.batch_returned(self.container, self.generation);
            yield_now().await;
        }
    }

    /// Begins to execute a batch. The context has the index and the attempt of its first input.
    fn begin_batch(&self, works: &mut Vec<Work>) -> Vec<LeasedRun<'_>> {
        let mut works = works.drain(..);
        let first = works.next().map(|work| self.begin(work));
        let beside = works.map(|Work { lane, run, lease, caller, .. }| {
            let (context, token) = (self.context.clone(), Arc::clone(&self.token));
            LeasedRun { env: self, context, token, lane, run, lease, caller }
        });
        first.into_iter().chain(beside).collect()
    }

    /// Whether the container exits after a batch. `left` is the number of bytes that it has left.
    fn recycles_after(&self, batch: &[LeasedRun<'_>], left: i64) -> bool {
        let Some((first, beside)) = batch.split_first() else { return false };
        let mut too_much = self.retains_too_much(&first.run, left);
        beside.iter().for_each(|part| too_much |= self.retains_too_much(&part.run, 0));
        too_much && self.dispatch.recycle(self.container, self.generation)
    }
}

/// Executes the inputs of a batch, and the further batches of its only lease. Returns the number of bytes
/// that the calls have left.
fn drive_batch<I, O, E>(
    batch: &[LeasedRun<'_>],
    errors: &Errors<E>,
    call: &mut impl FnMut(&[&I]) -> Outcomes<O, E>,
) -> i64
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let mut parts = begun(batch);
    let Some((first, _)) = parts.first() else { return 0 };
    let (env, span) = (first.env, first.span());
    let _in_span = span.as_ref().map(SafeSpan::enter);
    let _inside = env.token.enter();
    env.token.begin_attempt();
    let mut left = 0;
    while let Some((_, first)) = parts.first() {
        env.context.begin_input(first.index());
        let inputs: Vec<&I> = parts.iter().flat_map(|(_, active)| active.inputs()).collect();
        let outcomes = call(&inputs);
        let used = env.token.end_attempt();
        if let Some(used) = used {
            left += used.left;
            if env.token.is_over_limit() {
                first_of(&parts).too_late(outcomes);
                unwind_to_boundary();
            }
        }
        parts = returned(parts, inputs.len(), outcomes, used, span.as_ref(), errors);
    }
    left
}

/// The same, in a task.
async fn drive_batch_in_task<I, O, E>(
    batch: &[LeasedRun<'_>],
    errors: &Errors<E>,
    mut call: impl AsyncFnMut(&[&I]) -> Outcomes<O, E>,
) -> i64
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let mut parts = begun(batch);
    let Some((first, _)) = parts.first() else { return 0 };
    let env = first.env;
    let span = outside(|| first.span());
    env.token.begin_attempt();
    let mut left = 0;
    while let Some((_, first)) = parts.first() {
        env.token.is_at_a_checkpoint(); // each return of a poll is a checkpoint
        env.context.begin_input(first.index());
        let inputs: Vec<&I> = parts.iter().flat_map(|(_, active)| active.inputs()).collect();
        let outcomes = unless_unwanted(batch, call(&inputs), span.as_ref()).await;
        let used = env.token.end_attempt();
        left += used.map_or(0, |used| used.left);
        if env.token.is_over_limit() {
            outcomes.into_iter().for_each(|outcomes| first_of(&parts).too_late(outcomes));
            unwind_to_boundary();
        }
        let Some(outcomes) = outcomes else { return left };
        parts = returned(parts, inputs.len(), outcomes, used, span.as_ref(), errors);
    }
    left
}

/// The parts of a batch that were not fenced before they began.
pub(crate) fn begun<'r, 'a, I, O, E>(batch: &'r [LeasedRun<'a>]) -> Vec<Part<'r, 'a, I, O, E>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    batch.iter().filter_map(|part| Some((part, part.run.begin()?))).collect()
}

fn first_of<'r, 'a, I, O, E>(parts: &[Part<'r, 'a, I, O, E>]) -> &'r LeasedRun<'a> {
    parts[0].0
}

/// A batch has returned. Publishes the outcomes of its inputs. Returns the parts whose next batch has begun.
pub(crate) fn returned<'r, 'a, I, O, E>(
    mut parts: Vec<Part<'r, 'a, I, O, E>>,
    inputs: usize,
    outcomes: Outcomes<O, E>,
    used: Option<Epoch>,
    span: Option<&SafeSpan>,
    errors: &Errors<E>,
) -> Vec<Part<'r, 'a, I, O, E>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    if outcomes.len() != inputs {
        at_no_checkpoint(|| outside(|| fail_all(&mut parts, inputs, outcomes)));
        return parts;
    }
    let mut outcomes = outcomes.into_iter();
    parts.retain_mut(|(part, active)| {
        let mut goes_on = true;
        for outcome in outcomes.by_ref().take(active.inputs().len()) {
            if goes_on {
                goes_on = part.returned(active, outcome, used, span, errors);
            } else {
                // The job of the input has ended meanwhile, or its container has died.
                part.env.dispatch.count_late();
                part.env.token.drop_inside(outcome);
            }
        }
        goes_on
    });
    parts
}

/// A batch has returned a vector of the wrong length, so that it is not known which outcome belongs to which
/// input. All of its inputs fail.
#[cold]
fn fail_all<I: 'static, O, E>(
    parts: &mut Vec<Part<'_, '_, I, O, E>>,
    inputs: usize,
    outcomes: Outcomes<O, E>,
) {
    let wrong = outcomes.len();
    let first = first_of(parts);
    first.env.token.drop_inside(outcomes);
    let settings = &first.env.dispatch.settings;
    let (app, function) = (&settings.app, &settings.function);
    ignore_panic(|| {
        tracing::warn!(target: TARGET, %app, %function, inputs, outcomes = wrong, "batch of a wrong length");
    });
    parts.retain_mut(|(part, active)| {
        let mut goes_on = true;
        for _ in 0..active.inputs().len() {
            goes_on = goes_on && part.fails_by_length(&mut active.at, inputs, wrong);
        }
        goes_on
    });
}

/// Polls the future of a batch. If every run of the batch is fenced, or the account is over its limit, drops
/// the future and returns `None`.
pub(crate) async fn unless_unwanted<T>(
    batch: &[LeasedRun<'_>],
    future: impl Future<Output = T>,
    span: Option<&SafeSpan>,
) -> Option<T> {
    let mut future = pin!(Some(future));
    let mut kept: Option<Waker> = None;
    let token = &batch[0].env.token;
    let resumes = || resume(batch.iter().map(|part| &*part.run));
    // Each run is asked, because each records whether its code waits.
    let suspends = || batch.iter().filter(|part| part.run.suspend()).count() > 0;
    let ended = poll_fn(|cx| {
        if !resumes() {
            return Poll::Ready(None);
        }
        let _in_span = span.map(SafeSpan::enter);
        let running = future.as_mut().as_pin_mut().expect("the future is dropped after its last poll");
        if let Poll::Ready(result) = as_its_own(|| running.poll(cx)) {
            return Poll::Ready(Some(result));
        }
        if token.is_over_limit() {
            return Poll::Ready(None);
        }
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
            batch.iter().for_each(|part| part.run.keep_waker(cx.waker()));
            kept = Some(cx.waker().clone());
        }
        if suspends() { Poll::Pending } else { Poll::Ready(None) }
    })
    .await;
    // The future is dropped before the end of the scope, so that a panic in its drop is contained.
    at_no_checkpoint(|| contain_drop(|| future.set(None)));
    ended
}

/// Records that the task of a batch goes on, in the runs of its parts. Returns `false` if it may not, because
/// all of them are fenced.
///
/// The parts may be fenced one after the other while this function runs. So some may be fenced after they
/// went on, and others while they were still at rest. The thread that fences them takes the last of them at
/// its word: if that part is at rest, the task does not go on. This function then sees that the last part is
/// halted, and therefore also sees the fences before it, for which it looks at all parts once more.
fn resume<'a>(mut runs: impl Iterator<Item = &'a Run> + Clone) -> bool {
    runs.clone().for_each(|run| _ = run.resume()); // each records that its code goes on
    runs.any(|run| !run.is_suspended() && !run.is_fenced())
}

impl<I, O, E, F> Body<I, O, E> for PlainBatch<F>
where
    F: Fn(&[&I]) -> Outcomes<O, E> + Send + Sync,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<E>,
        _: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        Ok(Box::new(PlainBatchInstance { function: &self.0, errors, types: PhantomData }))
    }

    fn has_state(&self) -> bool {
        false
    }

    fn in_flight(&self) -> InFlight {
        InFlight::Batch
    }
}

struct PlainBatchInstance<'a, F, I, O, E> {
    function: &'a F,
    errors: &'a Errors<E>,
    types: Types<I, O, E>,
}

impl<I, O, E, F> Instance for PlainBatchInstance<'_, F, I, O, E>
where
    F: Fn(&[&I]) -> Outcomes<O, E>,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let Self { function, errors, .. } = *self;
        Ok(env.serve_batches(errors, &mut |inputs| function(inputs)))
    }

    fn exit(self: Box<Self>, _: &GenerationEnv<'_>) {}
}

impl<W, N> Body<W::Input, W::Output, W::Error> for BatchWorkerCode<N>
where
    W: BatchWorker,
    N: Fn(&Context) -> Result<W, BoxError> + Send + Sync,
{
    fn enter<'a>(
        &'a self,
        errors: &'a Errors<W::Error>,
        env: &GenerationEnv<'_>,
    ) -> Result<Box<dyn Instance + 'a>, BoxError> {
        Ok(Box::new(BatchWorkerInstance { worker: (self.0)(env.context)?, errors }))
    }

    fn has_state(&self) -> bool {
        true
    }

    fn in_flight(&self) -> InFlight {
        InFlight::Batch
    }
}

struct BatchWorkerInstance<'a, W: BatchWorker> {
    worker: W,
    errors: &'a Errors<W::Error>,
}

impl<W: BatchWorker> Instance for BatchWorkerInstance<'_, W> {
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let Self { worker, errors } = self;
        Ok(env.serve_batches(errors, &mut |inputs| worker.call(inputs, env.context)))
    }

    fn exit(self: Box<Self>, env: &GenerationEnv<'_>) {
        self.worker.exit(env.context);
    }
}

impl<I, O, E, F> Body<I, O, E> for AsyncBatch<F>
where
    F: AsyncFn(&[&I]) -> Outcomes<O, E> + Send + Sync,
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
        Ok(Box::new(AsyncBatchInstance { tasks, errors, types: PhantomData }))
    }

    fn has_state(&self) -> bool {
        false
    }

    fn in_flight(&self) -> InFlight {
        InFlight::Batch
    }
}

struct AsyncBatchInstance<'a, F, I, O, E> {
    tasks: Tasks<&'a F>,
    errors: &'a Errors<E>,
    types: Types<I, O, E>,
}

impl<I, O, E, F> Instance for AsyncBatchInstance<'_, F, I, O, E>
where
    F: AsyncFn(&[&I]) -> Outcomes<O, E>,
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn serve(&mut self, env: &GenerationEnv<'_>) -> Result<Served, Panic> {
        let _inside = env.token.enter();
        let errors = self.errors;
        self.tasks.run(async |function: &mut Option<&F>| {
            let function = function.expect("the instance has not exited");
            let drive = async |batch: &[LeasedRun<'_>]| {
                let call = async |inputs: &[&I]| function(inputs).await;
                drive_batch_in_task(batch, errors, call).await
            };
            Ok(env.serve_batches_in_task(drive).await)
        })
    }

    fn exit(self: Box<Self>, _: &GenerationEnv<'_>) {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::data::chunk::Chunk;
    use crate::data::erased::Values;
    use crate::data::shape::Shape;

    const PARTS: usize = 3;

    /// The runs of a batch, which have begun and wait.
    fn parts() -> [Run; PARTS] {
        [0, 1, 2].map(|part| {
            let inputs = Values::of(Vec::from_iter(0..PARTS as u64));
            let run = Run::new(Arc::new(Chunk::new(Shape::of::<u64, u64, ()>(), 0, inputs)), part, part + 1);
            assert!(run.begin::<u64, u64, ()>().is_some() && run.suspend(), "nothing fences it");
            run
        })
    }

    /// The moments at which one part after the other is fenced, counted in looks of [`resume`] at a part. The
    /// last moment is after its end.
    fn moments() -> impl Iterator<Item = [usize; PARTS]> {
        let end = 2 * PARTS + 1;
        let all = (0..end.pow(3)).map(move |n| [n / end / end, n / end % end, n % end]);
        all.filter(|moments| moments.is_sorted())
    }

    #[test]
    fn a_task_does_not_go_on_if_the_part_of_its_batch_that_is_fenced_last_is_at_rest() {
        let (mut rested, mut went_on) = (0, 0);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for moments in moments() {
                let (parts, now, fenced) = (parts(), Cell::new(0), Cell::new(0));
                let fence = || {
                    while fenced.get() < PARTS && moments[fenced.get()] == now.get() {
                        assert!(parts[order[fenced.get()]].fence().is_some());
                        fenced.set(fenced.get() + 1);
                    }
                };
                let looks = parts.iter().inspect(|_| {
                    fence();
                    now.set(now.get() + 1);
                });
                let goes_on = resume(looks);
                let all_are_fenced = fenced.get() == PARTS;
                now.set(2 * PARTS);
                (fenced.get()..PARTS).for_each(|part| assert!(parts[order[part]].fence().is_some()));
                let waits = parts[order[2]].is_suspended();
                assert!(!(goes_on && waits), "fenced in the order {order:?} at {moments:?}");
                assert!(goes_on || all_are_fenced, "{order:?} at {moments:?}: a part is wanted");
                (rested, went_on) = (rested + u32::from(waits), went_on + u32::from(goes_on));
            }
        }
        assert!(rested > 20 && went_on > 20, "{rested} and {went_on} of both kinds");
    }
}

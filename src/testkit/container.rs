//! A container in a rehearsal: what `engine/thread.rs` and the bodies do, as a task.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::base::ids::{ContainerId, Generation};
use crate::code::context::Context;
use crate::code::leash::{Leash, at_no_checkpoint, come_out};
use crate::contain::spawned::{Origin, among_tasks};
use crate::contain::unwind::{contain, contain_drop};
use crate::decide::restart::Restart;
use crate::engine::body::{Post, Task};
use crate::engine::dispatch::{Dispatch, Next};
use crate::engine::messages::Notice;
use crate::engine::rehearsable::{Begun, Role};
use crate::engine::span::SafeSpan;
use crate::engine::thread::{End, exited};
use crate::testkit::record::{Ending, Entered};
use crate::testkit::script::{At, EnterFault, Fault};
use crate::testkit::stage::Rehearsed;
use crate::values::crash::{Death, EnterError, Panic};
use crate::values::report::Fate;

/// Runs a container from `generation` on, until it is not restarted at once.
pub(crate) async fn run<I, O, E>(
    dispatch: Arc<Dispatch>,
    id: ContainerId,
    generation: Generation,
    rehearsed: Arc<Rehearsed<I, O, E>>,
) where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let settings = &dispatch.settings;
    let context = Context::new(Arc::clone(&settings.app), Arc::clone(&settings.function), settings.id, id);
    let mut next = Some(generation);
    let mut last = None;
    let mut current = generation;
    while let Some(generation) = next.take() {
        current = generation;
        let life = Life { dispatch: &dispatch, rehearsed: &rehearsed, context: &context };
        // The local tasks that it spawns die with it.
        let tasks = LocalSet::new();
        let origin = Arc::new(Origin::of((&settings.app, &settings.function), id, generation));
        let living = contained(polled_among_tasks(&origin, tasks.run_until(life.live(id, generation))));
        let end = as_its_own(&context, living).await;
        let drop_tasks = || contain_drop(|| among_tasks(&origin, || drop(tasks)));
        context.inside(|| at_no_checkpoint(drop_tasks));
        match end {
            Ok(End::Crashed(Some(Restart::Now))) => next = dispatch.begin(id, generation),
            Ok(End::Crashed(_)) => {}
            Ok(End::Left(fate)) => last = Some(fate),
            Ok(End::Interrupted) => next = dispatch.enter_anew(id, generation),
            Ok(End::Stale) => last = None,
            Ok(End::Recycled(_)) => unreachable!("nothing is retained where no memory is counted"),
            // What is the user's is contained.
            Err(panic) => dispatch.break_down(&format!("a container {panic}")),
        }
    }
    context.end_generation();
    dispatch.ended(id, current, last);
}

/// Polls what belongs to a container, on a thread that others share with it.
async fn as_its_own<T>(context: &Context, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| context.inside(|| future.as_mut().poll(cx))).await
}

/// Polls code of the user's. A panic in it ends here.
async fn contained<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| match contain(|| future.as_mut().poll(cx)) {
        Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Polls what polls spawned tasks as well. The container's own code is contained once more inside of it.
async fn polled_among_tasks<T>(origin: &Arc<Origin>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| among_tasks(origin, || future.as_mut().poll(cx))).await
}

async fn in_span<T>(future: impl Future<Output = T>, span: Option<&SafeSpan>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _in_span = span.map(SafeSpan::enter);
        future.as_mut().poll(cx)
    })
    .await
}

/// What the generations of a container share.
struct Life<'a, I, O, E> {
    dispatch: &'a Arc<Dispatch>,
    rehearsed: &'a Rehearsed<I, O, E>,
    context: &'a Context,
}

/// Why a container dies, where that is not what the panic says.
type Scripted = Cell<Option<Death>>;

impl<I, O, E> Life<'_, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn now(&self) -> Duration {
        self.dispatch.now().0
    }

    /// One generation.
    async fn live(&self, id: ContainerId, generation: Generation) -> End {
        let Self { dispatch, rehearsed, context } = *self;
        let leash = Arc::new(Leash::of_no_thread(None));
        if !dispatch.tie(id, generation, &leash) {
            return End::Stale; // killed or aborted before it began
        }
        context.begin_generation(generation, &leash);
        let post = Post::new(dispatch, (id, generation), context, &leash);
        let start = rehearsed.log.starts(id, generation, self.now());
        let entered = contained(self.enter(&post)).await;
        let how = match &entered {
            Ok(Some(Ok(_))) => Entered::Well,
            Ok(Some(Err(_))) => Entered::Failed,
            Ok(None) => Entered::Dropped,
            Err(_) => Entered::Panicked,
        };
        rehearsed.log.entered(start, how, self.now());
        let mut role = match entered {
            Ok(Some(Ok(role))) => role,
            Ok(Some(Err(error))) => {
                let death = Death::EnterFailed(Arc::new(EnterError::new(error, dispatch.settings.stack())));
                return End::Crashed(dispatch.crashed(id, generation, death));
            }
            Ok(None) => return End::Stale,
            Err(panic) => return End::Crashed(dispatch.crashed(id, generation, Death::EnterPanicked(panic))),
        };
        if !dispatch.entered(id, generation) {
            leash.drop_inside(role);
            return End::Stale;
        }
        let scripted = Scripted::default();
        let has_state = dispatch.settings.code.has_state();
        let served = loop {
            let served = contained(self.serve(&post, role.as_mut(), &scripted)).await;
            context.end_run();
            match served {
                Err(_) if leash.is_interrupted() && !has_state => {}
                served => break served,
            }
        };
        match served {
            Ok(true) => End::Left(self.leave(&post, role).await),
            Ok(false) => {
                leash.drop_inside(role);
                End::Stale
            }
            Err(_) if leash.is_interrupted() => {
                leash.drop_inside(role);
                End::Interrupted
            }
            Err(panic) => {
                let death = scripted.take().unwrap_or(Death::Panicked(panic));
                let verdict = dispatch.crashed(id, generation, death);
                leash.drop_inside(role);
                verdict.map_or(End::Stale, |verdict| End::Crashed(Some(verdict)))
            }
        }
    }

    /// `None` if the generation is over meanwhile, and the code is of the kind that can be dropped.
    async fn enter<'p>(&'p self, post: &Post<'p>) -> Option<Begun<'p, I, O, E>> {
        let body = self.rehearsed.code.body();
        let (takes, fault) = self.rehearsed.enters(post.container, post.generation, self.now());
        let enter = async {
            pass(takes).await;
            match fault {
                None => body.begin(post.context).await,
                Some(EnterFault::Panic) => panic!("a scripted panic"),
                Some(EnterFault::Fail) => Err("a scripted error".into()),
                Some(EnterFault::Hang) => pending().await,
            }
        };
        if body.waits() { post.unless_over(enter).await } else { Some(enter.await) }
    }

    /// Waits for work and executes it, again and again. Whether it then leaves gracefully.
    async fn serve(&self, post: &Post<'_>, role: &mut dyn Role<I, O, E>, scripted: &Scripted) -> bool {
        loop {
            match post.dispatch.next_in_task(post.container, post.generation).await {
                Next::Work { run, lease, previous, caller } => {
                    post.context.begin_run(lease.attempt, previous);
                    let task = Task { post, run, lease, caller };
                    self.drive(&task, role, scripted).await;
                    post.context.end_run();
                    post.dispatch.returned(post.container, post.generation);
                    tokio::task::yield_now().await;
                }
                Next::Leave => return true,
                Next::Stale => return false,
            }
        }
    }

    async fn drive(&self, task: &Task<'_>, role: &mut dyn Role<I, O, E>, scripted: &Scripted) {
        let Some(mut lap) = task.run.begin::<I, O, E>() else { return };
        let span = task.span();
        let waits = self.rehearsed.code.body().waits();
        loop {
            task.post.context.begin_input(lap.index());
            let at = At {
                map: task.lease.job.0,
                index: lap.index(),
                input: lap.input(),
                attempt: task.lease.attempt.get(),
                container: task.post.container,
                generation: task.post.generation,
                now: self.now(),
            };
            let deadly = self.rehearsed.is_deadly(at.index);
            if deadly {
                task.post.dispatch.end_lease_behind(task.post.container, at.index);
            }
            let execution = self.rehearsed.log.begins(&at, || self.now());
            let executes = self.execute(at, role, task.post, scripted);
            let result = if waits {
                task.unless_fenced(executes, span.as_ref()).await
            } else {
                Some(in_span(executes, span.as_ref()).await)
            };
            let Some(result) = result else { return };
            let ending = match &result {
                _ if task.run.is_fenced() => Ending::Late,
                Ok(_) => Ending::Completed,
                Err(_) => Ending::Failed,
            };
            let goes_on = task.returned(&mut lap, result, None, span.as_ref(), &self.rehearsed.code.errors);
            execution.ends(ending);
            if deadly && ending == Ending::Completed {
                return task.post.dispatch.dies_between(task.post.container, task.post.generation);
            }
            task.post.dispatch.completed(task.post.container);
            if !goes_on {
                return;
            }
        }
    }

    async fn execute(
        &self,
        at: At<'_, I>,
        role: &mut dyn Role<I, O, E>,
        post: &Post<'_>,
        scripted: &Scripted,
    ) -> Result<O, E> {
        let (takes, fault) = self.rehearsed.executes(&at);
        pass(takes).await;
        match fault {
            None => role.call(at.input, post.context).await,
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::Hang) => pending().await,
            Some(Fault::Panic) => panic!("a scripted panic"),
            Some(Fault::ExceedMemory) => {
                let limit = post.dispatch.settings.memory.limit.unwrap_or(0);
                let used = limit.saturating_add(1);
                scripted.set(Some(Death::MemoryLimit { limit, used, reclaimed: true }));
                come_out() // as from a checkpoint
            }
        }
    }

    async fn leave(&self, post: &Post<'_>, role: Box<dyn Role<I, O, E> + '_>) -> Fate {
        let Post { dispatch, container: id, generation, context, .. } = *post;
        post.leash.exits();
        dispatch.tell(Notice::Exiting { container: id, generation });
        // What it does before its first await is its own code as well.
        let exit = async { role.exit(context).await };
        let waits = self.rehearsed.code.body().waits();
        let exit =
            if waits { contained(post.unless_over(exit)).await.map(|_| ()) } else { contained(exit).await };
        let fate = exited(post, exit);
        dispatch.left(id, generation);
        fate
    }
}

/// Virtual time passes.
async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

//! A container in a rehearsal. Its [life](crate::engine::life) is a task, in which the script decides how
//! long the user's code waits and how it dies.

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
use crate::code::rehearsable::{Begun, Role, SharedRole};
use crate::code::token::{Token, at_no_checkpoint, unwind_to_boundary};
use crate::contain::spawned::{Origin, among_tasks};
use crate::contain::unwind::{contain, contain_drop};
use crate::decide::life::{LifeEvent, Part, Served};
use crate::decide::restart::Restart;
use crate::engine::body::{GenerationEnv, LeasedRun};
use crate::engine::concurrent_body::serve_lanes_that_die;
use crate::engine::dispatch::Dispatch;
use crate::engine::life::Living;
use crate::engine::messages::Notice;
use crate::engine::span::SafeSpan;
use crate::testkit::record::{Entered, ExecutionEnd};
use crate::testkit::script::{At, EnterFault, Fault};
use crate::testkit::stage::Rehearsed;
use crate::values::crash::{Death, Panic};

/// Runs a container from `generation` on, until it ends or its restart has a delay.
pub(super) async fn run<I, O, E>(
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
    let mut living = Living::new(&dispatch, id, generation, |_| Ok(Token::of_no_thread(None)));
    let play = Play { dispatch: &dispatch, rehearsed: &rehearsed, context: &context, id };
    while let Some(part) = living.next() {
        // The generation's local tasks are dropped when it ends.
        let tasks = LocalSet::new();
        let origin = Arc::new(Origin::of((&settings.app, &settings.function), id, living.generation()));
        let playing = tasks.run_until(play.generation(part, &mut living));
        let played = as_its_own(&context, contained(polled_among_tasks(&origin, playing))).await;
        let drop_tasks = || contain_drop(|| among_tasks(&origin, || drop(tasks)));
        context.inside(|| at_no_checkpoint(drop_tasks));
        if let Err(panic) = played {
            // Panics of the user's code are contained further in, so this is a bug of the engine.
            dispatch.break_down(&format!("a container {panic}"));
            context.end_generation();
            return dispatch.ended(id, living.generation(), None);
        }
        living.hear(LifeEvent::Dropped);
    }
    context.end_generation();
    living.end();
}

/// Polls a container's future with its `Context` installed, on the thread that all containers share.
async fn as_its_own<T>(context: &Context, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| context.inside(|| future.as_mut().poll(cx))).await
}

/// Polls the user's code. A panic ends at this boundary.
async fn contained<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| match contain(|| future.as_mut().poll(cx)) {
        Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Polls a future that polls spawned tasks as well, and names `origin` as their container. The container's
/// own code is contained once more inside it.
async fn polled_among_tasks<T>(origin: &Arc<Origin>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| among_tasks(origin, || future.as_mut().poll(cx))).await
}

pub(super) async fn in_span<T>(future: impl Future<Output = T>, span: Option<&SafeSpan>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _in_span = span.map(SafeSpan::enter);
        future.as_mut().poll(cx)
    })
    .await
}

/// The state that all generations of a container share.
pub(super) struct Play<'a, I, O, E> {
    pub(super) dispatch: &'a Arc<Dispatch>,
    pub(super) rehearsed: &'a Rehearsed<I, O, E>,
    pub(super) context: &'a Context,
    pub(super) id: ContainerId,
}

/// The user's code as an execution calls it.
enum Plays<'a, I, O, E> {
    /// Nothing executes beside it.
    Alone(&'a mut (dyn Role<I, O, E> + 'a)),
    /// Several inputs are in flight.
    Shared(&'a (dyn SharedRole<I, O, E> + 'a)),
}

impl<I, O, E> Plays<'_, I, O, E> {
    /// See [`Role::tears`].
    fn tears(&self) -> bool {
        matches!(self, Plays::Alone(role) if role.tears())
    }

    async fn call(&mut self, input: &I, context: &Context) -> Result<O, E> {
        match self {
            Self::Alone(role) => role.call(input, context).await,
            Self::Shared(role) => role.call(input, context).await,
        }
    }
}

/// The scripted death of a container, if it is not the death that its panic stands for.
pub(super) type Scripted = Cell<Option<Death>>;

/// The user's code in one generation.
struct OnStage<'a, I, O, E> {
    env: GenerationEnv<'a>,
    /// `None` if `enter` has failed, and once it has exited.
    role: Option<Box<dyn Role<I, O, E> + 'a>>,
}

impl<I, O, E> Play<'_, I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(super) fn now(&self) -> Duration {
        self.dispatch.now().0
    }

    /// Runs the user's code of one generation, from the part `first` up to the drop of its state.
    async fn generation(&self, first: Part, living: &mut Living) {
        let mut entered = None;
        let mut next = Some(first);
        while let Some(part) = next {
            match (part, &mut entered) {
                (Part::Enter, entered) => *entered = Some(self.begin(living).await),
                (Part::Serve, Some(OnStage { env, role: Some(role) })) if env.executes_many() => {
                    let scripted = Scripted::default();
                    let served = contained(self.serve_lanes(env, role.as_ref(), &scripted)).await;
                    match (served.and_then(|served| served), scripted.take()) {
                        (Err(panic), Some(death)) => {
                            living.hear(LifeEvent::Unwinding {
                                panic,
                                interrupted: false,
                                overdraft: Some(death),
                            });
                        }
                        (served, _) => living.served(served),
                    }
                }
                (Part::Serve, Some(OnStage { env, role: Some(role) })) => {
                    let scripted = Scripted::default();
                    let served = self.serve(env, role.as_mut(), &scripted).await;
                    self.context.end_run();
                    match (served, scripted.take()) {
                        (Err(panic), Some(death)) => {
                            let interrupted = env.token.is_interrupted();
                            living.hear(LifeEvent::Unwinding { panic, interrupted, overdraft: Some(death) });
                        }
                        (served, _) => living.served(served),
                    }
                }
                (Part::Exit, Some(OnStage { env, role })) => {
                    let role = role.take().expect("a generation exits once");
                    living.exited(self.exit(env, role).await);
                }
                (Part::Drop, entered) => {
                    if let Some(OnStage { env, role: Some(role) }) = entered.take() {
                        env.token.drop_inside(role);
                    }
                    return;
                }
                (Part::Serve | Part::Exit, _) => unreachable!("the generation has entered"),
            }
            next = living.next();
        }
    }

    /// Runs the user's `enter`, in a generation that was tied.
    async fn begin(&self, living: &mut Living) -> OnStage<'_, I, O, E> {
        let generation = living.generation();
        self.context.begin_generation(generation, living.with_current());
        let env =
            GenerationEnv::new(self.dispatch, (self.id, generation), self.context, living.with_current());
        let start = self.rehearsed.log.starts(self.id, generation, self.now());
        let (how, role, outcome) = match contained(self.enter(&env)).await {
            Ok(Some(Ok(role))) => (Entered::Well, Some(role), Some(Ok(Ok(())))),
            Ok(Some(Err(error))) => (Entered::Failed, None, Some(Ok(Err(error)))),
            Ok(None) => (Entered::Dropped, None, None),
            Err(panic) => (Entered::Panicked, None, Some(Err(panic))),
        };
        self.rehearsed.log.entered(start, how, self.now());
        match outcome {
            Some(outcome) => living.entered(outcome),
            None => living.hear(LifeEvent::Stale),
        }
        OnStage { env, role }
    }

    /// Runs the user's `enter` or its scripted fault. Returns `None` if the generation is over meanwhile and
    /// the code is async, so that it can be dropped.
    async fn enter(&self, env: &GenerationEnv<'_>) -> Option<Begun<'_, I, O, E>> {
        let body = self.rehearsed.body();
        let (takes, fault) = self.rehearsed.enters(env.container, env.generation, self.now());
        let enter = async {
            pass(takes).await;
            match fault {
                None => body.begin(self.context).await,
                Some(EnterFault::Panic) => panic!("a scripted panic"),
                Some(EnterFault::Fail) => Err("a scripted error".into()),
                Some(EnterFault::Hang) => pending().await,
            }
        };
        if body.waits() { env.unless_over(enter).await } else { Some(enter.await) }
    }

    /// Executes one input at a time, or one batch.
    async fn serve(
        &self,
        env: &GenerationEnv<'_>,
        role: &mut (dyn Role<I, O, E> + '_),
        scripted: &Scripted,
    ) -> Result<Served, Panic> {
        // No memory is counted in a rehearsal, so no bytes count as retained.
        if role.batch().is_some() {
            let drive = async |batch: &[LeasedRun<'_>]| {
                let role = role.batch().expect("it was just asked");
                self.drive_batch(batch, role, scripted).await;
                0
            };
            return contained(env.serve_batches_in_task(drive)).await;
        }
        let drive = async |task: &LeasedRun<'_>| {
            self.drive(task, Plays::Alone(&mut *role), scripted).await;
            0
        };
        contained(env.serve_in_task(drive)).await
    }

    /// Kills the container between two batches, as if by hand.
    pub(super) fn dies_between_batches(&self) {
        let (generation, _) = self.dispatch.under_lock(|state| state.ledger.stage(self.id));
        self.dispatch.batch_returned(self.id, generation);
        kill(self.dispatch, self.id);
    }

    async fn drive(&self, task: &LeasedRun<'_>, mut role: Plays<'_, I, O, E>, scripted: &Scripted) {
        let Some(mut active) = task.run.begin::<I, O, E>() else { return };
        let span = task.span();
        let waits = self.rehearsed.body().waits();
        loop {
            task.context.begin_input(active.index());
            let at = At {
                map: task.lease.job.0,
                index: active.index(),
                input: active.input(),
                attempt: task.lease.attempt.get(),
                container: task.env.container,
                generation: task.env.generation,
                now: self.now(),
            };
            let deadly = self.rehearsed.is_deadly(at.index);
            if deadly {
                end_lease_behind(task, at.index);
            }
            let execution = self.rehearsed.log.begins(&at, || self.now());
            let executes = self.execute(at, &mut role, task, scripted);
            let result = if waits {
                task.unless_fenced(executes, span.as_ref()).await
            } else {
                Some(in_span(executes, span.as_ref()).await)
            };
            let Some(result) = result else {
                if role.tears() {
                    task.may_be_torn();
                }
                return;
            };
            let ending = match &result {
                _ if task.run.is_fenced() => ExecutionEnd::Late,
                Ok(_) => ExecutionEnd::Completed,
                Err(_) => ExecutionEnd::Failed,
            };
            let goes_on =
                task.returned(&mut active, result, None, span.as_ref(), &self.rehearsed.code.errors);
            execution.ends(ending);
            if deadly && ending == ExecutionEnd::Completed {
                return dies_between(task);
            }
            // Notifies the consumer of the outcome now, and not at the end of the lease. A rehearsal does not
            // poll for outcomes, because polling takes virtual time.
            self.dispatch.progress(task.lease.job);
            if !goes_on {
                return;
            }
        }
    }

    /// Executes many inputs at a time.
    async fn serve_lanes<'a>(
        &'a self,
        env: &'a GenerationEnv<'a>,
        role: &'a (dyn Role<I, O, E> + 'a),
        scripted: &'a Scripted,
    ) -> Result<Served, Panic> {
        let role = role.shared().expect("the code can have several inputs in flight");
        let drive = |task: LeasedRun<'a>| async move {
            self.drive(&task, Plays::Shared(role), scripted).await;
            (task.run, 0)
        };
        let death = |panic, _| Ok(scripted.take().unwrap_or(Death::Panicked(panic)));
        serve_lanes_that_die(env, drive, death).await
    }

    async fn execute(
        &self,
        at: At<'_, I>,
        role: &mut Plays<'_, I, O, E>,
        task: &LeasedRun<'_>,
        scripted: &Scripted,
    ) -> Result<O, E> {
        let (takes, fault) = self.rehearsed.executes(&at);
        pass(takes).await;
        match fault {
            None => role.call(at.input, &task.context).await,
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::Hang) => pending().await,
            Some(Fault::Panic) => panic!("a scripted panic"),
            Some(Fault::ExceedMemory) => dies_of_memory(task, scripted),
        }
    }

    async fn exit(&self, env: &GenerationEnv<'_>, role: Box<dyn Role<I, O, E> + '_>) -> Result<(), Panic> {
        // The async block makes the code before the first await of `exit` run inside the boundary as well.
        let exit = async { role.exit(self.context).await };
        if self.rehearsed.body().waits() {
            contained(env.unless_over(exit)).await.map(|_| ())
        } else {
            contained(exit).await
        }
    }
}

/// The executing code is over its memory limit.
pub(super) fn dies_of_memory(task: &LeasedRun<'_>, scripted: &Scripted) -> ! {
    let limit = task.env.dispatch.settings.memory.limit.unwrap_or(0);
    let used = limit.saturating_add(1);
    scripted.set(Some(Death::MemoryLimit { limit, used, reclaimed: true }));
    unwind_to_boundary() // as a checkpoint does
}

/// Makes the executing input the last one of its lease, and gives the inputs behind it back, so that the
/// container can die before it begins another.
fn end_lease_behind(task: &LeasedRun<'_>, index: u64) {
    let dispatch = task.env.dispatch;
    let now = dispatch.now();
    dispatch.under_lock(|state| {
        if state.run(task.lane).is_some_and(|run| !run.is_fenced()) {
            state.shorten(task.lane, index + 1, None, now);
            dispatch.wake_one(state);
        }
    });
}

/// Kills the container between two inputs, as if by hand.
fn dies_between(task: &LeasedRun<'_>) {
    let GenerationEnv { dispatch, container: id, generation, .. } = *task.env;
    dispatch.returned(task.lane, generation);
    kill(dispatch, id);
}

fn kill(dispatch: &Dispatch, id: ContainerId) {
    dispatch.kill(id);
    dispatch.give_up(); // if no container is left, and none can be created
    dispatch.notify(Notice::Fenced { restart: Restart::Now });
}

/// Lets `time` of virtual time pass.
pub(super) async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

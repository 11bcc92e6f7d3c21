//! ractor: its factory with the router that its docs recommend, and an actor that its supervisor starts anew.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use ractor::factory::queues::DefaultQueue;
use ractor::factory::routing::QueuerRouting;
use ractor::factory::{Factory, FactoryArguments, FactoryRef, Job, Worker, WorkerBuilder, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::harness::crashes::Probe;
use crate::harness::ours::WORKERS;

type Caught = Result<u64, Box<dyn Any + Send>>;

/// An input with a channel for its outcome.
struct Run {
    input: u64,
    done: UnboundedSender<Caught>,
}

/// Runs a function. A panic would lose the job with the worker, so it is caught.
struct Runs<F>(F);

impl<F: Fn(u64) -> u64 + Send + Sync + 'static> Worker for Runs<F> {
    type Key = ();
    type Message = Run;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &FactoryRef<(), Run>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &FactoryRef<(), Run>,
        Job { msg: Run { input, done }, .. }: Job<(), Run>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.0(input)));
        done.send(outcome).expect("the caller waits");
        Ok(())
    }
}

impl<F: Fn(u64) -> u64 + Copy + Send + Sync + 'static> WorkerBuilder<Runs<F>, ()> for Runs<F> {
    fn build(&mut self, _: WorkerId) -> (Runs<F>, ()) {
        (Runs(self.0), ())
    }
}

/// Starts a factory. The returned closure maps `run` over `0..inputs`. Outcomes come as they complete.
pub(crate) fn factory<F>(runtime: &Runtime, run: F) -> impl Fn(u64) -> Vec<Caught> + '_
where
    F: Fn(u64) -> u64 + Copy + Send + Sync + 'static,
{
    let definition =
        Factory::<(), Run, (), Runs<F>, QueuerRouting<(), Run>, DefaultQueue<(), Run>>::default();
    let arguments = FactoryArguments::builder()
        .worker_builder(Box::new(Runs(run)))
        .queue(DefaultQueue::default())
        .router(QueuerRouting::default())
        .num_initial_workers(WORKERS)
        .build();
    let started = runtime.block_on(Actor::spawn(None, definition, arguments));
    let (factory, _) = started.expect("the factory starts");
    move |inputs| {
        runtime.block_on(async {
            let (done, mut outcomes) = unbounded_channel();
            for input in 0..inputs {
                let dispatched = factory.dispatch((), Run { input, done: done.clone() });
                dispatched.expect("the factory lives");
            }
            drop(done);
            let mut all = Vec::with_capacity(inputs as usize);
            while let Some(outcome) = outcomes.recv().await {
                all.push(outcome);
            }
            all
        })
    }
}

/// A probe, with a channel for the time until its replay began.
#[derive(Clone)]
struct Try {
    probe: Probe,
    answer: mpsc::Sender<Duration>,
}

/// An actor that panics once, and is not used again.
struct Fragile;

impl Actor for Fragile {
    type Msg = Try;
    type State = bool;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Try>, (): ()) -> Result<bool, ActorProcessingErr> {
        Ok(true)
    }

    async fn handle(&self, _: ActorRef<Try>, asked: Try, fresh: &mut bool) -> Result<(), ActorProcessingErr> {
        let delay = asked.probe.attempt(fresh);
        asked.answer.send(delay)?;
        Ok(())
    }
}

/// Forwards each message to its actor, and after a panic starts a fresh actor for the message.
struct Supervisor;

/// The living actor, and the last message that it was sent.
struct Linked {
    actor: ActorRef<Try>,
    handed: Option<Try>,
}

impl Actor for Supervisor {
    type Msg = Try;
    type State = Linked;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Try>, (): ()) -> Result<Linked, ActorProcessingErr> {
        let (actor, _) = Actor::spawn_linked(None, Fragile, (), myself.get_cell()).await?;
        Ok(Linked { actor, handed: None })
    }

    async fn handle(
        &self,
        _: ActorRef<Try>,
        asked: Try,
        linked: &mut Linked,
    ) -> Result<(), ActorProcessingErr> {
        linked.handed = Some(asked.clone());
        linked.actor.cast(asked)?;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Try>,
        event: SupervisionEvent,
        linked: &mut Linked,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            let (actor, _) = Actor::spawn_linked(None, Fragile, (), myself.get_cell()).await?;
            linked.actor = actor;
            if let Some(handed) = linked.handed.take() {
                linked.actor.cast(handed)?;
            }
        }
        Ok(())
    }
}

/// Starts an actor and its supervisor. The returned closure gives the time from the panic of a probe until it
/// began again.
pub(crate) fn linked(runtime: &Runtime) -> impl Fn(Probe) -> Duration {
    let started = runtime.block_on(Actor::spawn(None, Supervisor, ()));
    let (supervisor, _) = started.expect("the supervisor starts");
    move |probe| {
        let (answer, answers) = mpsc::channel();
        supervisor.cast(Try { probe, answer }).expect("the supervisor lives");
        answers.recv().expect("it is answered")
    }
}

//! kameo: its actor pool with 64 messages in flight, and an actor that its supervisor restarts.

use std::time::Duration;

use futures::{StreamExt, stream};
use kameo::error::Infallible;
use kameo::prelude::*;
use kameo::supervision::RestartPolicy;
use kameo_actors::pool::{ActorPool, Dispatch};
use tokio::runtime::Runtime;

use crate::harness::crashes::Probe;
use crate::harness::ours::WORKERS;

/// The number of messages in flight, which is the default capacity of a mailbox.
const IN_FLIGHT: usize = 64;

/// Runs a function. kameo catches its panics.
struct Runs<F>(F);

impl<F: Send + 'static> Actor for Runs<F> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(worker: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(worker)
    }
}

impl<F: Fn(u64) -> u64 + Send + 'static> Message<u64> for Runs<F> {
    type Reply = u64;

    async fn handle(&mut self, input: u64, _: &mut Context<Self, u64>) -> u64 {
        self.0(input)
    }
}

/// Starts a pool. The returned closure maps `run` over `0..inputs`. Outcomes come as they complete.
pub(crate) fn pool<F>(runtime: &Runtime, run: F) -> impl Fn(u64) -> Vec<Result<u64, ()>> + '_
where
    F: Fn(u64) -> u64 + Copy + Send + Sync + 'static,
{
    let _inside = runtime.enter();
    let pool = ActorPool::spawn(ActorPool::new(WORKERS, move || Runs::spawn(Runs(run))));
    move |inputs| {
        runtime.block_on(async {
            let ask = |input| {
                let pool = &pool;
                async move { pool.ask(Dispatch(input)).await.map_err(|_| ()) }
            };
            stream::iter(0..inputs).map(ask).buffer_unordered(IN_FLIGHT).collect().await
        })
    }
}

struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

/// An actor that is started anew with fresh state after each panic.
struct Fragile {
    fresh: bool,
}

impl Actor for Fragile {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self { fresh: true })
    }
}

impl Message<Probe> for Fragile {
    type Reply = Result<Duration, Infallible>;

    async fn handle(&mut self, probe: Probe, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(probe.attempt(&mut self.fresh))
    }
}

/// Starts an actor under a supervisor. The returned closure gives the time from the panic of a probe until it
/// began again. kameo loses the message that panicked, so the asker sends it again.
pub(crate) fn supervised(runtime: &Runtime) -> impl Fn(Probe) -> Duration + '_ {
    let (actor, supervisor) = runtime.block_on(async {
        let supervisor = Supervisor::spawn(());
        let supervised = Fragile::supervise(&supervisor, ()).restart_policy(RestartPolicy::Permanent);
        let actor = supervised.restart_limit(u32::MAX, Duration::from_secs(1)).spawn().await;
        (actor, supervisor)
    });
    move |probe| {
        let _kept = &supervisor; // a supervisor without a reference stops
        runtime.block_on(async {
            loop {
                if let Ok(delay) = actor.ask(probe.clone()).await {
                    return delay;
                }
            }
        })
    }
}

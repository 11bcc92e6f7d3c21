//! The stage: a running function in virtual time, and what happens around it.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::actor::{Ending, Happened, KillContainer, Reset, Shutdown, Subscribe};
use crate::decide::ids::{ContainerId, Generation, JobId};
use crate::engine::dispatch::Dispatch;
use crate::engine::feeder::{self, Feed};
use crate::function::Function;
use crate::report::FunctionReport;
use crate::testkit::container;
use crate::testkit::record::Log;
use crate::testkit::script::{At, EnterFault, Fault, Script};

/// What the containers of a rehearsal play, and where it is written down.
pub(crate) struct Rehearsed<I, E> {
    script: Mutex<Script<I, E>>,
    pub(crate) log: Log,
}

impl<I, E> Rehearsed<I, E> {
    pub(crate) fn new(script: Script<I, E>) -> Self {
        Self { script: Mutex::new(script), log: Log::default() }
    }

    pub(crate) fn executes(&self, at: &At<'_, I>) -> (Duration, Option<Fault<E>>) {
        self.script.lock().executes(at)
    }

    pub(crate) fn enters(
        &self,
        container: ContainerId,
        generation: Generation,
        now: Duration,
    ) -> (Duration, Option<EnterFault>) {
        let mut script = self.script.lock();
        (script.enter_takes, script.enters(container, generation, now))
    }

    pub(crate) fn is_deadly(&self, index: u64) -> bool {
        self.script.lock().is_deadly(index)
    }

    pub(crate) fn kills(&self) -> Vec<(Duration, ContainerId)> {
        self.script.lock().kills.clone()
    }
}

/// Makes a task of what would be a thread. Behind a pointer, so that it is compiled for functions that are
/// rehearsed, and not for all others too.
pub(crate) trait Performs<I, O, E>: Send + Sync {
    fn container(self: Arc<Self>, dispatch: Arc<Dispatch<I, O, E>>, id: ContainerId, generation: Generation);

    fn feeder(&self, dispatch: Arc<Dispatch<I, O, E>>, job: JobId, source: Feed<I>);
}

impl<I, O, E> Performs<I, O, E> for Rehearsed<I, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn container(self: Arc<Self>, dispatch: Arc<Dispatch<I, O, E>>, id: ContainerId, generation: Generation) {
        actix::spawn(container::run(dispatch, id, generation, self));
    }

    fn feeder(&self, dispatch: Arc<Dispatch<I, O, E>>, job: JobId, source: Feed<I>) {
        actix::spawn(feeder::run_in_task(dispatch, job, source));
    }
}

/// A function in a rehearsal, in the hands of a scene: see [`Rehearsal::play`](crate::testkit::Rehearsal::play).
pub struct Stage<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    function: Function<I, O, E>,
    began: Instant,
}

impl<I, O, E> Stage<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(function: Function<I, O, E>, log: Log) -> Self {
        let began = Instant::now();
        let listener = Listener { log, began }.start();
        function.supervisor().do_send(Subscribe { to: listener.recipient() });
        Self { function, began }
    }

    /// The function. What blocks is refused; its async forms work.
    #[must_use]
    pub const fn function(&self) -> &Function<I, O, E> {
        &self.function
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets so much of it pass.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub async fn sleep(&self, time: Duration) {
        sleep(time).await;
    }

    /// Kills a container by hand, and says whether it lived. See [`Function::kill_container`].
    ///
    /// # Cancel safety
    ///
    /// Once polled it is killed.
    pub async fn kill(&self, container: ContainerId) -> bool {
        self.function.supervisor().send(KillContainer { container }).await.unwrap_or(false)
    }

    /// Has a function that gave up take work again, and says whether it had. See [`Function::reset`].
    ///
    /// # Cancel safety
    ///
    /// Once polled it is reset.
    pub async fn reset(&self) -> bool {
        self.function.supervisor().send(Reset).await.unwrap_or(false)
    }

    pub(crate) async fn ends(&self, ending: Ending, limit: Duration) -> FunctionReport {
        let report = self.function.supervisor().send(Shutdown { ending, limit }).await;
        report.unwrap_or_else(|_| self.function.running.dispatch.report()) // it has ended before
    }
}

impl<I, O, E> std::fmt::Debug for Stage<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("function", &self.function).field("now", &self.now()).finish()
    }
}

/// Writes events down.
struct Listener {
    log: Log,
    began: Instant,
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(1 << 20); // it misses none
    }
}

impl Handler<Happened> for Listener {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, _: &mut Context<Self>) {
        self.log.event(event, self.began.elapsed());
    }
}

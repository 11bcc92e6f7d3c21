//! The stage: a running function in virtual time, and the test's access to it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::api::function::Function;
use crate::base::ids::{ContainerId, Generation};
use crate::code::kinds::Rehearsable;
use crate::contain::unwind::contain;
use crate::engine::actor::{Ending, Shutdown};
use crate::engine::body::CodeOf;
use crate::engine::messages::Request;
use crate::testkit::record::Log;
use crate::testkit::script::{At, EnterFault, Fault, Script};
use crate::values::crash::Panic;
use crate::values::report::FunctionReport;

/// The code that the containers of a rehearsal run, the script, and the log.
pub(super) struct Rehearsed<I, O, E> {
    pub(crate) code: Arc<CodeOf<I, O, E>>,
    script: Mutex<Script<I, E>>,
    panic: Mutex<Option<Panic>>,
    pub(super) log: Log,
}

impl<I, O, E> Rehearsed<I, O, E> {
    pub(crate) fn new(code: Arc<CodeOf<I, O, E>>, script: Script<I, E>) -> Self {
        Self { code, script: Mutex::new(script), panic: Mutex::new(None), log: Log::default() }
    }

    /// The function's code.
    pub(crate) fn body(&self) -> &dyn Rehearsable<I, O, E> {
        self.code.body.get().as_ref()
    }

    pub(crate) fn executes(&self, at: &At<'_, I>) -> (Duration, Option<Fault<E>>) {
        self.read(|script| script.executes(at)).unwrap_or((Duration::ZERO, None))
    }

    pub(super) fn enters(
        &self,
        container: ContainerId,
        generation: Generation,
        now: Duration,
    ) -> (Duration, Option<EnterFault>) {
        let entering = self.read(|script| (script.enter_takes, script.enters(container, generation, now)));
        entering.unwrap_or((Duration::ZERO, None))
    }

    /// Asks the script. The script is partly the test's own code, so its panic must not count as a crash of
    /// the function. The first panic is kept, and fails the rehearsal at its end.
    fn read<T>(&self, read: impl FnOnce(&mut Script<I, E>) -> T) -> Option<T> {
        match contain(|| read(&mut self.script.lock())) {
            Ok(said) => Some(said),
            Err(panic) => {
                self.panic.lock().get_or_insert(panic);
                None
            }
        }
    }

    /// Takes the first panic of the script.
    pub(crate) fn take_panic(&self) -> Option<Panic> {
        self.panic.lock().take()
    }

    pub(crate) fn is_deadly(&self, index: u64) -> bool {
        self.script.lock().is_deadly(index)
    }

    pub(crate) fn kills(&self) -> Vec<(Duration, ContainerId)> {
        self.script.lock().kills.clone()
    }
}

/// A function in a rehearsal, as its scene uses it. See [`Rehearsal::play`](crate::testkit::Rehearsal::play).
pub struct Stage<I, O, E> {
    function: Function<I, O, E>,
    log: Log,
    began: Instant,
    naps: Naps,
}

/// How long a scene has slept by [`Stage::sleep`]. A scene that sleeps does not hang.
#[derive(Debug, Default)]
struct Naps {
    /// The time of the naps that are over, without overlaps.
    before: Cell<Duration>,
    /// How many naps go on, and since when there has been at least one.
    now: Cell<Option<(usize, Instant)>>,
}

impl Naps {
    fn time(&self) -> Duration {
        self.before.get() + self.now.get().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    fn begin(&self) -> Nap<'_> {
        let (naps, since) = self.now.get().unwrap_or_else(|| (0, Instant::now()));
        self.now.set(Some((naps + 1, since)));
        Nap(self)
    }
}

/// A nap that ends when this is dropped.
struct Nap<'a>(&'a Naps);

impl Drop for Nap<'_> {
    fn drop(&mut self) {
        match self.0.now.get() {
            Some((naps, since)) if naps > 1 => self.0.now.set(Some((naps - 1, since))),
            _ => {
                self.0.before.set(self.0.time());
                self.0.now.set(None);
            }
        }
    }
}

impl<I, O, E> Stage<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(function: Function<I, O, E>, log: Log) -> Self {
        Self { function, log, began: Instant::now(), naps: Naps::default() }
    }

    /// The function. Use it on this thread only. Its async forms work, and its blocking forms are refused.
    /// Its `kill_container` and `reset` are carried out but cannot return their result: use [`Stage::kill`]
    /// and [`Stage::reset`].
    #[must_use]
    pub const fn function(&self) -> &Function<I, O, E> {
        &self.function
    }

    /// The virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets `time` of virtual time pass. It does not count towards the time that the scene [may
    /// take](crate::testkit::Rehearsal::for_at_most).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub async fn sleep(&self, time: Duration) {
        let _nap = self.naps.begin();
        sleep(time).await;
    }

    /// Waits until the scene has taken `limit` more, without its own sleep.
    pub(crate) async fn takes_longer_than(&self, limit: Duration) {
        let (began, slept) = (Instant::now(), self.naps.time());
        loop {
            let taken = began.elapsed().saturating_sub(self.naps.time() - slept);
            match limit.checked_sub(taken) {
                None | Some(Duration::ZERO) => return,
                Some(left) => sleep(left).await,
            }
        }
    }

    /// One line for each thing that has happened so far, for the messages of a scene's own assertions.
    #[must_use]
    pub fn timeline(&self) -> String {
        self.log.to_string()
    }

    /// Kills a container by hand, and returns whether it was alive. See [`Function::kill_container`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the container may or may not be killed.
    pub async fn kill(&self, container: ContainerId) -> bool {
        self.function.running.answer(|reply| Request::Kill(container, reply)).await.unwrap_or(false)
    }

    /// Makes a function that gave up take work again, and returns whether it had given up. See
    /// [`Function::reset`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the function may or may not be reset.
    pub async fn reset(&self) -> bool {
        self.function.running.answer(Request::Reset).await.unwrap_or(false)
    }

    pub(crate) async fn ends(&self, ending: Ending, limit: Duration) -> FunctionReport {
        let running = &self.function.running;
        let report = running.answer(|reply| Request::Shutdown(Shutdown { ending, limit }, reply)).await;
        report.unwrap_or_else(|| running.dispatch.report()) // the function has ended before
    }
}

impl<I, O, E> std::fmt::Debug for Stage<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("function", &self.function).field("now", &self.began.elapsed()).finish()
    }
}

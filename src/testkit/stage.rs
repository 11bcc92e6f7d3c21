//! The stage: a running function in virtual time, and what happens around it.

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

/// What the containers of a rehearsal play, and where it is written down.
pub(crate) struct Rehearsed<I, O, E> {
    pub(crate) code: Arc<CodeOf<I, O, E>>,
    script: Mutex<Script<I, E>>,
    panic: Mutex<Option<Panic>>,
    pub(crate) log: Log,
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

    pub(crate) fn enters(
        &self,
        container: ContainerId,
        generation: Generation,
        now: Duration,
    ) -> (Duration, Option<EnterFault>) {
        let entering = self.read(|script| (script.enter_takes, script.enters(container, generation, now)));
        entering.unwrap_or((Duration::ZERO, None))
    }

    /// The script is partly the test's own code, whose panic is no fault of the function's.
    fn read<T>(&self, read: impl FnOnce(&mut Script<I, E>) -> T) -> Option<T> {
        match contain(|| read(&mut self.script.lock())) {
            Ok(said) => Some(said),
            Err(panic) => {
                self.panic.lock().get_or_insert(panic);
                None
            }
        }
    }

    /// The first panic of the script.
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

/// A function in a rehearsal, in the hands of a scene: see [`Rehearsal::play`](crate::testkit::Rehearsal::play).
pub struct Stage<I, O, E> {
    function: Function<I, O, E>,
    log: Log,
    began: Instant,
    naps: Naps,
}

/// How long a scene has slept by its own wish, which is no sign that it hangs.
#[derive(Debug, Default)]
struct Naps {
    /// Those that are over.
    before: Cell<Duration>,
    /// How many go on, and since when there are any.
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

/// A nap that goes on until this is dropped.
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

    /// The function, for this thread. Its async forms work; what blocks is refused, and `kill_container` and `reset`
    /// are carried out without telling their result, which [`Stage::kill`] and [`Stage::reset`] do.
    #[must_use]
    pub const fn function(&self) -> &Function<I, O, E> {
        &self.function
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets so much of it pass. It does not count towards what the scene [may take](crate::testkit::Rehearsal::for_at_most).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub async fn sleep(&self, time: Duration) {
        let _nap = self.naps.begin();
        sleep(time).await;
    }

    /// Waits until the scene has taken so much longer, its own sleep not counted.
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

    /// What has happened so far, a line for each thing: for the messages of a scene's own assertions.
    #[must_use]
    pub fn timeline(&self) -> String {
        self.log.to_string()
    }

    /// Kills a container by hand, and says whether it lived. See [`Function::kill_container`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have been killed or not.
    pub async fn kill(&self, container: ContainerId) -> bool {
        self.function.running.answer(|reply| Request::Kill(container, reply)).await.unwrap_or(false)
    }

    /// Has a function that gave up take work again, and says whether it had. See [`Function::reset`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have been reset or not.
    pub async fn reset(&self) -> bool {
        self.function.running.answer(Request::Reset).await.unwrap_or(false)
    }

    pub(crate) async fn ends(&self, ending: Ending, limit: Duration) -> FunctionReport {
        let running = &self.function.running;
        let report = running.answer(|reply| Request::Shutdown(Shutdown { ending, limit }, reply)).await;
        report.unwrap_or_else(|| running.dispatch.report()) // it has ended before
    }
}

impl<I, O, E> std::fmt::Debug for Stage<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("function", &self.function).field("now", &self.began.elapsed()).finish()
    }
}

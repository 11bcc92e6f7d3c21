//! The running function, which its handles, maps and calls share.

use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use actix::Addr;
use tokio::sync::oneshot;

use crate::base::ids::ContainerId;
use crate::code::context::Context;
use crate::contain::drops::{Stack, let_go};
use crate::contain::outlined::outline;
use crate::decide::window::Window;
use crate::engine::actor::{Ending, Shutdown, Supervisor};
use crate::engine::dispatch::Dispatch;
use crate::engine::host::Machine;
use crate::engine::messages::{Reply, Request};
use crate::engine::registry::{EndingReport, Ends, Latest, Registration};
use crate::engine::settings::Settings;
use crate::engine::supervisor::UntypedSupervisor;
use crate::engine::system::{Engine, on_engine_thread};
use crate::engine::typed_supervisor::Front;
use crate::engine::wait::wait;
use crate::values::error::StartError;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

/// A running function. Dropping it aborts the function.
pub(crate) struct Running(Option<Parts>);

outline!(Arc<Running>);

/// The parts of a running function.
pub(crate) struct Parts {
    pub(crate) dispatch: Arc<Dispatch>,
    supervisor: Addr<UntypedSupervisor>,
    /// The supervisor with the types of the function, once its address was asked for.
    front: OnceLock<Front>,
    pub(crate) default_window: Window,
    /// The function's name in its app, which is free again once this is dropped. `None` in a rehearsal.
    registration: Option<Registration<Arc<Running>>>,
    /// Keeps the engine's thread running.
    engine: Arc<Engine>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(parts) = self.0.take() else { return };
        // The closure takes `parts` as a whole, by value. Otherwise the fields that it does not use would be
        // dropped on the calling thread.
        let_go(parts.stack(), move || parts.end());
    }
}

impl Deref for Running {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        self.0.as_ref().expect("only drop takes the parts")
    }
}

impl Running {
    /// Starts a function on the engine.
    pub(crate) fn start(
        engine: Arc<Engine>,
        settings: Settings,
        default_window: Window,
        registration: Registration<Arc<Self>>,
    ) -> Result<Arc<Self>, StartError> {
        let dispatch = Arc::new(Dispatch::new(settings, Arc::new(Machine::from_now())));
        let supervisor = engine.start(UntypedSupervisor::new(Arc::clone(&dispatch), default_window))?;
        Ok(Self::supervised(dispatch, supervisor, default_window, Some(registration), engine))
    }

    /// A function whose supervisor has already been started on `engine`.
    pub(crate) fn supervised(
        dispatch: Arc<Dispatch>,
        supervisor: Addr<UntypedSupervisor>,
        default_window: Window,
        registration: Option<Registration<Arc<Self>>>,
        engine: Arc<Engine>,
    ) -> Arc<Self> {
        let front = OnceLock::new();
        let parts = Parts { dispatch, supervisor, front, default_window, registration, engine };
        let running = Arc::new(Self(Some(parts)));
        running.request(Request::Attach(Arc::downgrade(&running)));
        running
    }

    /// Records that the function has ended with this report. Its app drops it.
    pub(crate) fn ended(&self, report: &FunctionReport) {
        if let Some(registration) = &self.registration {
            registration.ended(report, self.latest());
        }
    }
}

impl Parts {
    fn end(self) {
        // The engine may end with this handle before the supervisor reads its mailbox, so the function is
        // aborted at once.
        self.dispatch.over();
        self.dispatch.abort();
        self.request(Request::Shutdown(Shutdown { ending: Ending::Abort, limit: Duration::ZERO }, None));
    }

    /// Sends a request to the supervisor, behind all earlier requests.
    pub(crate) fn request(&self, request: Request) {
        match self.front.get() {
            // Messages with types go through the typed supervisor. The request must not overtake them.
            Some(front) => front.pass(request),
            None => self.supervisor.do_send(request),
        }
    }

    /// Sends a request and returns the supervisor's answer, or `None` if the supervisor has ended.
    pub(crate) async fn answer<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.request(request(Some(reply)));
        answer.await.ok()
    }

    /// Blocks until [`answer`](Self::answer) is ready.
    fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        wait(self.answer(request))
    }

    /// The supervisor with the types of the function.
    pub(crate) fn supervisor<I, O, E>(&self) -> &Addr<Supervisor<I, O, E>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        let start = || Front::start::<I, O, E>(&self.supervisor, self.engine.arbiter());
        self.front.get_or_init(start).address()
    }

    /// A snapshot of the function.
    pub(crate) fn status(&self) -> Status {
        if on_engine_thread() {
            return self.dispatch.status();
        }
        // A supervisor that has ended does not answer, but the state of its function can still be read.
        self.ask(Request::Status).unwrap_or_else(|| self.dispatch.status())
    }

    /// See [`Function::reset`](crate::Function::reset). The engine's own thread does not wait for the answer,
    /// and returns `false`.
    pub(crate) fn reset(&self) -> bool {
        if on_engine_thread() {
            self.request(Request::Reset(None));
            return false;
        }
        self.ask(Request::Reset).unwrap_or(false)
    }

    /// See [`Function::kill_container`](crate::Function::kill_container). The engine's own thread does not
    /// wait for the answer, and returns `false`.
    pub(crate) fn kill_container(&self, container: ContainerId) -> bool {
        if on_engine_thread() {
            self.request(Request::Kill(container, None));
            return false;
        }
        self.ask(|reply| Request::Kill(container, reply)).unwrap_or(false)
    }

    pub(crate) fn stack(&self) -> Stack {
        self.dispatch.settings.stack()
    }

    /// Returns the report of the function as it is now. After the function's end it works as long as one of
    /// its threads is left.
    fn latest(&self) -> Latest {
        let dispatch = Arc::downgrade(&self.dispatch);
        Arc::new(move || Some(dispatch.upgrade()?.report()))
    }

    /// Whether a blocking call on the calling thread would wait for itself.
    pub(crate) fn would_deadlock(&self) -> bool {
        on_engine_thread() || Context::is_container_of(self.dispatch.settings.id)
    }
}

impl Ends for Arc<Running> {
    type Weak = Weak<Running>;

    fn downgrade(&self) -> Weak<Running> {
        Self::downgrade(self)
    }

    fn upgrade(weak: &Weak<Running>) -> Option<Self> {
        weak.upgrade()
    }

    fn end(&self, ending: Ending, limit: Duration) -> EndingReport {
        self.dispatch.begin_end(ending); // not by request, because the supervisor may be busy
        let (report, reported) = oneshot::channel();
        let how = Shutdown { ending, limit };
        self.request(Request::End { how, running: Self::clone(self), report });
        let (name, latest) = (Arc::clone(&self.dispatch.settings.function), self.latest());
        // If the function has ended before, its state says how it ended and which threads still run.
        let before = move || latest().unwrap_or_else(|| FunctionReport::unknown(&name));
        Box::pin(async move { reported.await.unwrap_or_else(|_| before()) })
    }

    fn report(&self) -> FunctionReport {
        self.dispatch.report()
    }

    fn is_in_a_container(&self) -> bool {
        Context::is_container_of(self.dispatch.settings.id)
    }
}

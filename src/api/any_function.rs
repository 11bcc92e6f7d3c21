//! [`AnyFunction`]: a handle to a running function for a caller that does not know its types.

use std::fmt;
use std::sync::{Arc, Weak};

use actix::Recipient;

use crate::api::app::SHUTDOWN_LIMIT;
use crate::api::function::Function;
use crate::base::ids::ContainerId;
use crate::engine::actor::{Ending, Happened};
use crate::engine::events::Events;
use crate::engine::messages::Request;
use crate::engine::registry::Ends;
use crate::engine::running::Running;
use crate::values::report::FunctionReport;
use crate::values::snapshot::FunctionSnapshot;
use crate::values::status::Status;

/// A function without its types, for a dashboard, a registry, or a supervisor of supervisors. It is cheap to
/// clone.
///
/// It keeps nothing alive. Once the function has ended and its last handle is dropped, it [is
/// gone](AnyFunction::is_gone), and only its name can still be read.
///
/// ```
/// use longshore::App;
///
/// let app = App::ephemeral("docs");
/// let length = app.infallible("length", |text: &String| text.len()).containers(2).start()?;
/// let double = app.infallible("double", |n: &u64| 2 * n).containers(1).start()?;
/// assert_eq!(length.run(vec!["one".to_owned(), "three".to_owned()]).unwrap(), [3, 5]);
///
/// let functions = app.functions();
/// let names: Vec<&str> = functions.iter().map(|function| function.name()).collect();
/// assert_eq!(names, ["length", "double"]);
/// assert_eq!(functions[0].status().unwrap().containers.configured(), 2);
///
/// let again = functions[1].typed::<u64, u64, std::convert::Infallible>().unwrap();
/// assert_eq!(again.call(4).wait().unwrap(), 8);
/// assert!(functions[1].typed::<u64, u32, std::convert::Infallible>().is_none());
/// # drop(double);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Clone)]
pub struct AnyFunction {
    name: Arc<str>,
    running: Weak<Running>,
}

impl AnyFunction {
    pub(crate) fn of(running: &Arc<Running>) -> Self {
        Self { name: Arc::clone(&running.dispatch.settings.function), running: Arc::downgrade(running) }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the function has ended and its last handle has been dropped.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.running.strong_count() == 0
    }

    /// A handle with the types of the function. It is `None` if the function has other types or is gone.
    #[must_use]
    pub fn typed<I, O, E>(&self) -> Option<Function<I, O, E>>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        Function::of(self.running.upgrade()?)
    }

    /// A snapshot, as from [`Function::status`]. It is `None` if the function is gone.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        Some(self.running.upgrade()?.status())
    }

    /// A snapshot of the function as numbers and text, as [`Function::snapshot`] returns it. It is `None` if
    /// the function is gone.
    #[must_use]
    pub fn snapshot(&self) -> Option<FunctionSnapshot> {
        Some(self.running.upgrade()?.dispatch.snapshot())
    }

    /// A stream of the function's events from now on, as [`Function::events`] returns it. It is `None` if the
    /// function is gone.
    #[must_use]
    pub fn events(&self) -> Option<Events> {
        Some(self.running.upgrade()?.dispatch.outbox.subscribers.stream())
    }

    /// A report of its containers and inputs so far. It is `None` if the function is gone.
    #[must_use]
    pub fn report(&self) -> Option<FunctionReport> {
        Some(self.running.upgrade()?.report())
    }

    /// Sends every later [`Event`](crate::Event) to an actor, like [`Subscribe`](crate::actor::Subscribe).
    /// Returns `false` if the function is gone.
    pub fn subscribe(&self, to: Recipient<Happened>) -> bool {
        self.with(|running| running.request(Request::Subscribe(to, None))).is_some()
    }

    /// Kills a container by hand: see [`Function::kill_container`]. Returns whether the container lived.
    pub fn kill_container(&self, container: ContainerId) -> bool {
        self.with(|running| running.kill_container(container)).unwrap_or(false)
    }

    /// Clears the crash history, and revives a function that had given up: see [`Function::reset`]. Returns
    /// what [`Function::reset`] returns, and `false` if the function is gone.
    pub fn reset(&self) -> bool {
        self.with(|running| running.reset()).unwrap_or(false)
    }

    /// Pauses the function: see [`Function::pause`]. Returns whether it is paused now.
    pub fn pause(&self) -> bool {
        self.with(|running| running.dispatch.pause()).unwrap_or(false)
    }

    /// Resumes the function: see [`Function::resume`]. Returns whether it was paused.
    pub fn resume(&self) -> bool {
        self.with(|running| running.dispatch.unpause()).unwrap_or(false)
    }

    /// Begins to drain the function: see [`Function::drain`]. Returns `false` if the function is gone.
    pub fn drain(&self) -> bool {
        self.end(Ending::Drain)
    }

    /// Begins to stop the function: see [`Function::stop`]. Returns `false` if the function is gone.
    pub fn stop(&self) -> bool {
        self.end(Ending::Stop)
    }

    /// Aborts the function: see [`Function::abort`]. Returns `false` if the function is gone.
    pub fn abort(&self) -> bool {
        self.end(Ending::Abort)
    }

    fn end(&self, ending: Ending) -> bool {
        self.with(|running| drop(Ends::end(running, ending, SHUTDOWN_LIMIT))).is_some()
    }

    fn with<T>(&self, deed: impl FnOnce(&Arc<Running>) -> T) -> Option<T> {
        self.running.upgrade().map(|running| deed(&running))
    }
}

impl fmt::Debug for AnyFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_gone = self.is_gone();
        f.debug_struct("AnyFunction").field("name", &self.name()).field("is_gone", &is_gone).finish()
    }
}

//! What the user's code can ask about the execution it is part of.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::code::leash::{self, Leash};
use crate::code::scope::Scope;
use crate::contain::unwind::Moment;
use crate::memory::till::Inside;
use crate::values::crash::Previous;

/// The execution that is going on: which function, container and generation, which input, at which
/// attempt, and why the previous attempt ended.
///
/// Workers are handed one; plain functions ask [`Context::current`].
///
/// ```
/// use longshore::{App, Context, Previous};
///
/// let app = App::ephemeral("docs");
/// let flaky = app
///     .infallible("flaky", |_: &u8| {
///         let context = Context::current().expect("inside a container");
///         if context.attempt().get() == 1 {
///             panic!("the first attempt always does");
///         }
///         matches!(context.previous(), Some(Previous::Crashed(_)))
///     })
///     .start()?;
/// assert!(flaky.call(7).wait().unwrap());
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Clone)]
pub struct Context(Rc<Inner>);

struct Inner {
    app: Arc<str>,
    function: Arc<str>,
    /// Distinguishes functions of the process, so that a call can tell it would wait for itself.
    function_id: u64,
    container: ContainerId,
    generation: Cell<u64>,
    index: Cell<u64>,
    attempt: Cell<u32>,
    previous: RefCell<Option<Previous>>,
    /// How many runs of inputs have begun.
    runs: Cell<u64>,
    /// What ties the code to this generation.
    leash: RefCell<Option<Arc<Leash>>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

impl Context {
    pub(crate) fn install(
        app: Arc<str>,
        function: Arc<str>,
        function_id: u64,
        container: ContainerId,
    ) -> Self {
        let context = Self::new(app, function, function_id, container);
        Self::replace_current(Some(context.clone()));
        context
    }

    pub(crate) fn new(app: Arc<str>, function: Arc<str>, function_id: u64, container: ContainerId) -> Self {
        Self(Rc::new(Inner {
            app,
            function,
            function_id,
            container,
            generation: Cell::new(0),
            index: Cell::new(0),
            attempt: Cell::new(0),
            previous: RefCell::new(None),
            runs: Cell::new(0),
            leash: RefCell::new(None),
        }))
    }

    /// Runs what belongs to the container, on a thread that others share with it.
    #[cfg(feature = "testkit")]
    pub(crate) fn inside<T>(&self, run: impl FnOnce() -> T) -> T {
        struct Before(Option<Context>);
        impl Drop for Before {
            fn drop(&mut self) {
                Context::replace_current(self.0.take());
            }
        }
        let _before = Before(Self::replace_current(Some(self.clone())));
        let leash = self.0.leash.borrow().clone();
        leash::tied(leash, run)
    }

    /// The context of the container this thread belongs to; `None` on every other thread.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::look(Self::clone)
    }

    pub(crate) fn is_container_of(function_id: u64) -> bool {
        Self::look(|context| context.0.function_id == function_id) == Some(true)
    }

    /// What this thread executes now.
    pub(crate) fn moment() -> Moment {
        let moment = Self::look(|context| (context.0.runs.get(), context.0.index.get()));
        Moment::of(moment.unwrap_or_default())
    }

    /// Looks at the context of this thread, if it has one. Late in the end of a thread there is none any more: users'
    /// values that a thread keeps for itself are dropped then, and may ask.
    fn look<T>(look: impl FnOnce(&Self) -> T) -> Option<T> {
        CURRENT.try_with(|slot| slot.borrow().as_ref().map(look)).ok().flatten()
    }

    fn replace_current(context: Option<Self>) -> Option<Self> {
        CURRENT.try_with(|slot| slot.replace(context)).ok().flatten()
    }

    pub(crate) fn begin_generation(&self, generation: Generation, leash: &Arc<Leash>) {
        self.0.generation.set(generation.0);
        self.0.attempt.set(0);
        self.0.previous.borrow_mut().take();
        self.0.leash.replace(Some(Arc::clone(leash)));
    }

    pub(crate) fn end_generation(&self) {
        self.0.leash.replace(None);
    }

    pub(crate) fn begin_run(&self, attempt: Attempt, previous: Option<Previous>) {
        self.0.attempt.set(attempt.0);
        self.0.runs.set(self.0.runs.get() + 1);
        *self.0.previous.borrow_mut() = previous;
    }

    pub(crate) fn begin_input(&self, index: u64) {
        self.0.index.set(index);
    }

    pub(crate) fn end_run(&self) {
        self.0.attempt.set(0);
    }

    /// The name of the app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.0.app
    }

    /// The name of the function.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> ContainerId {
        self.0.container
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.0.generation.get())
    }

    /// The index of the executing input in its map; `None` in `enter` and `exit`.
    #[must_use]
    pub fn input(&self) -> Option<u64> {
        (self.0.attempt.get() > 0).then(|| self.0.index.get())
    }

    /// The attempt, from 1. In `enter` and `exit`, where nothing is attempted, the first.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        Attempt(self.0.attempt.get().max(1))
    }

    /// Why the previous attempt of the executing input ended; `None` at its first.
    #[must_use]
    pub fn previous(&self) -> Option<Previous> {
        self.0.previous.borrow().clone()
    }
}

impl Context {
    /// Unwinds if this code is to come to its end: its container was killed (by hand, or for using too much
    /// memory), its function was aborted, or its map or call was cancelled or has ended. A long synchronous computation that
    /// calls it now and then is left at once. One that does not goes on until it returns, and its answer is refused: on a
    /// thread that is *abandoned* where the container was killed or the function aborted, and otherwise in its container,
    /// which is not free before.
    ///
    /// A container whose code was cancelled goes on. The unwind may leave a [`Worker`](crate::Worker) half-updated: it is
    /// dropped without an `exit`, and `enter` builds a new one. Each execution that is cancelled so costs an `enter`.
    /// None of that is a crash. Tasks that the code has spawned in an async container go on; helper threads in the
    /// [`Scope`] of the container come out as the code itself does, until the container takes its next inputs.
    ///
    /// It costs about 2 ns. It does nothing while the thread is panicking, and on threads that are neither
    /// a container's nor in a [`Scope`].
    ///
    /// # Panics
    ///
    /// As said, past the panic hook. `catch_unwind` can catch it; the engine has let go of the code all the
    /// same, and the next checkpoint unwinds again. It unwinds through every frame between here and the container:
    /// a frame of another language has no way to be unwound through, and Rust ends the process where one would be. So
    /// call it neither from a callback under `extern "C"` (a comparison for `qsort`, a progress callback of a C
    /// library) nor from whatever such a callback calls; have the callback return an error code instead, and come by a
    /// checkpoint once the foreign function has returned.
    ///
    /// ```
    /// use longshore::{App, Context};
    ///
    /// let app = App::ephemeral("docs");
    /// let sum = app
    ///     .infallible("sum", |n: &u64| {
    ///         (0..*n).fold(0u64, |sum, i| {
    ///             if i % 1024 == 0 {
    ///                 Context::checkpoint();
    ///             }
    ///             sum.wrapping_add(i * i)
    ///         })
    ///     })
    ///     .start()?;
    /// assert_eq!(sum.call(4).wait().unwrap(), 14);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    #[inline]
    pub fn checkpoint() {
        leash::checkpoint();
    }

    /// How many more bytes this container may allocate before it is killed, to the byte for what this thread
    /// did. `None` without [`Builder::memory_limit`](crate::Builder::memory_limit).
    #[must_use]
    pub fn memory_left(&self) -> Option<u64> {
        let leash = self.0.leash.borrow();
        let account = leash.as_ref()?.account()?;
        let limit = account.counters().limit()?;
        let used = account.counters().used() + Inside::unbooked(account.place());
        Some(limit.saturating_sub(u64::try_from(used).unwrap_or(0)))
    }

    /// The scope of this container, for helper threads: what they allocate in it is charged to the container,
    /// and their checkpoints are its own.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let leash = self.0.leash.borrow().clone();
        if let Some(account) = leash.as_ref().and_then(|leash| leash.account()) {
            Inside::share(account.place());
        }
        Scope::of(leash)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}#{}", self.app(), self.function(), self.container(), self.generation())
    }
}

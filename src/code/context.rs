//! The facts that the user's code can learn about its execution.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::code::cancellation::Cancelled;
use crate::code::scope::Scope;
use crate::code::token::{self, Token};
use crate::contain::unwind::Moment;
use crate::memory::attempts::OpenAttempt;
use crate::memory::local_charge::ChargeGuard;
use crate::values::crash::Previous;

/// The execution of an input: its function, container and generation, the input and its attempt, and why the
/// previous attempt ended.
///
/// A worker is passed a context. A plain function calls [`Context::current`].
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
pub struct Context(Rc<ContextInner>);

struct ContextInner {
    app: Arc<str>,
    function: Arc<str>,
    /// Identifies the function in the process, so that a call on the same function can be refused instead
    /// of waiting for itself.
    function_id: u64,
    container: ContainerId,
    generation: Cell<u64>,
    index: Cell<u64>,
    attempt: Cell<u32>,
    previous: RefCell<Option<Previous>>,
    /// The number of runs of inputs that have begun.
    runs: Cell<u64>,
    /// Ties the code to this generation.
    token: RefCell<Option<Arc<Token>>>,
    /// The account of the executing input, if it is one of several in flight.
    account: Cell<Option<OpenAttempt>>,
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
        Self(Rc::new(ContextInner {
            app,
            function,
            function_id,
            container,
            generation: Cell::new(0),
            index: Cell::new(0),
            attempt: Cell::new(0),
            previous: RefCell::new(None),
            runs: Cell::new(0),
            token: RefCell::new(None),
            account: Cell::new(None),
        }))
    }

    /// The context of a lane of the same container, in which one of several inputs in flight executes.
    pub(crate) fn of_lane(&self, token: &Arc<Token>) -> Self {
        let ContextInner { app, function, function_id, container, .. } = &*self.0;
        let context = Self::new(Arc::clone(app), Arc::clone(function), *function_id, *container);
        context.begin_generation(self.generation(), token);
        context
    }

    /// Whether user code has kept a clone. `own` is the number of handles that the engine holds.
    pub(crate) fn is_kept(&self, own: usize) -> bool {
        Rc::strong_count(&self.0) > own
    }

    /// Runs code of the container on a thread that other containers share.
    #[cfg(feature = "testkit")]
    pub(crate) fn inside<T>(&self, run: impl FnOnce() -> T) -> T {
        struct Before(Option<Context>);
        impl Drop for Before {
            fn drop(&mut self) {
                Context::replace_current(self.0.take());
            }
        }
        let _before = Before(Self::replace_current(Some(self.clone())));
        let token = self.0.token.borrow().clone();
        token::with_current(token, run)
    }

    /// The context of the container that this thread belongs to, or `None` on every other thread.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::look(Self::clone)
    }

    pub(crate) fn is_container_of(function_id: u64) -> bool {
        Self::look(|context| context.0.function_id == function_id) == Some(true)
    }

    /// The input that this thread executes now.
    pub(crate) fn moment() -> Moment {
        let moment = Self::look(|context| (context.0.runs.get(), context.0.index.get()));
        Moment::of(moment.unwrap_or_default())
    }

    /// Looks at the context of this thread, if it has one. Late in the end of a thread it has none any more,
    /// but users' values in thread-locals are dropped then and may call this.
    fn look<T>(look: impl FnOnce(&Self) -> T) -> Option<T> {
        CURRENT.try_with(|slot| slot.borrow().as_ref().map(look)).ok().flatten()
    }

    pub(crate) fn replace_current(context: Option<Self>) -> Option<Self> {
        CURRENT.try_with(|slot| slot.replace(context)).ok().flatten()
    }

    pub(crate) fn begin_generation(&self, generation: Generation, token: &Arc<Token>) {
        self.0.generation.set(generation.0);
        self.0.attempt.set(0);
        self.0.previous.borrow_mut().take();
        self.0.token.replace(Some(Arc::clone(token)));
    }

    pub(crate) fn end_generation(&self) {
        self.0.token.replace(None);
    }

    pub(crate) fn begin_run(&self, attempt: Attempt, previous: Option<Previous>) {
        self.0.attempt.set(attempt.0);
        self.0.runs.set(self.0.runs.get() + 1);
        *self.0.previous.borrow_mut() = previous;
    }

    pub(crate) fn begin_input(&self, index: u64) {
        self.0.index.set(index);
    }

    /// Sets the account of the executing input, which is one of several in flight.
    pub(crate) fn set_open_attempt(&self, attempt: Option<OpenAttempt>) {
        self.0.account.set(attempt);
    }

    /// The account of the executing input, or of the last one, if it is one of several in flight.
    pub(crate) fn open_attempt(&self) -> Option<OpenAttempt> {
        self.0.account.get()
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

    /// The generation of the container.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.0.generation.get())
    }

    /// The index of the executing input in its map, or `None` in `enter` and `exit`.
    #[must_use]
    pub fn input(&self) -> Option<u64> {
        (self.0.attempt.get() > 0).then(|| self.0.index.get())
    }

    /// The attempt, counted from 1. In `enter` and `exit` it is 1, although nothing is attempted there.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        Attempt(self.0.attempt.get().max(1))
    }

    /// The reason why the previous attempt of the executing input ended, or `None` at the first attempt.
    #[must_use]
    pub fn previous(&self) -> Option<Previous> {
        self.0.previous.borrow().clone()
    }
}

impl Context {
    /// Unwinds if this code should end. Its container was killed (by hand, or for using too much memory), or
    /// its function was aborted. Or its map or call was cancelled or has ended, or its attempt has come to
    /// its [timeout](crate::Builder::timeout) or [deadline](crate::Builder::deadline).
    ///
    /// A long synchronous computation should call it now and then. Code that does not call it goes on until
    /// it returns, and its answer is then refused. If the container was killed or the function aborted, such
    /// code goes on in an *abandoned* thread. Otherwise its container stays occupied until it returns.
    ///
    /// A container whose code was cancelled lives on. The unwind may leave a [`Worker`](crate::Worker)
    /// half-updated, so the worker is dropped without an `exit`, and `enter` builds a new one, unless the
    /// function [keeps it](crate::Builder::keep_interrupted). Each execution that is cancelled in this way
    /// costs an `enter`. None of this is a crash. Tasks that the code has spawned in an async container go
    /// on, unless its worker is entered again. Helper threads in the [`Scope`] of the container also unwind
    /// at their checkpoints, until the container takes its next inputs.
    ///
    /// A checkpoint costs about 2 ns. It does nothing while the thread is panicking, or on a thread that is
    /// neither a container's nor in a [`Scope`].
    ///
    /// # Panics
    ///
    /// It unwinds past the panic hook. `catch_unwind` can catch this, but the engine has given up on the code
    /// anyway, and the next checkpoint unwinds again.
    ///
    /// The unwind passes through every frame between the checkpoint and the container. A frame of another
    /// language cannot be unwound, and Rust ends the process where that would happen. Do not call
    /// `checkpoint` from a callback under `extern "C"` (a comparison for `qsort`, a progress callback of a C
    /// library) or from code that such a callback calls. Let the callback return an error code instead, and
    /// call `checkpoint` when the foreign function has returned.
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
        token::checkpoint();
    }

    /// The number of bytes that this container may still allocate before it is killed, exact for the
    /// allocations of this thread. `None` without [`Builder::memory_limit`](crate::Builder::memory_limit).
    #[must_use]
    pub fn memory_left(&self) -> Option<u64> {
        let token = self.0.token.borrow();
        let account = token.as_ref()?.account()?;
        let limit = account.counters().limit()?;
        let used = account.counters().used() + ChargeGuard::unflushed(account.index());
        Some(limit.saturating_sub(u64::try_from(used).unwrap_or(0)))
    }

    /// Whether this execution is cancelled: its map or call was cancelled or has ended, its attempt has come
    /// to its timeout or deadline, its container was killed, its function was aborted, or the container is
    /// over its memory limit. Code that cannot unwind at a [`checkpoint`](Context::checkpoint) asks this
    /// instead, and returns early. The answer is then refused.
    ///
    /// ```
    /// use longshore::{App, Context};
    ///
    /// let app = App::ephemeral("docs");
    /// let sum = app
    ///     .infallible("sum", |n: &u64| {
    ///         let context = Context::current().expect("in a container");
    ///         (0..*n).take_while(|_| !context.is_cancelled()).sum::<u64>()
    ///     })
    ///     .start()?;
    /// assert_eq!(sum.call(4).wait().unwrap(), 6);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.token.borrow().as_ref().is_some_and(|token| token.is_cancelled())
    }

    /// A future that is ready once this execution is cancelled, in the cases of
    /// [`is_cancelled`](Context::is_cancelled). The engine drops the future of an async execution at its next
    /// `await` by itself. This one is for code that would go on: a spawned task, a blocking task, a child
    /// process.
    ///
    /// ```
    /// use longshore::{App, Context};
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let (send, receive) = std::sync::mpsc::channel();
    /// let work = app
    ///     .function_async("work", async move |_: &()| {
    ///         let cancelled = Context::current().expect("in a container").cancelled();
    ///         let helper = send.clone();
    ///         tokio::task::spawn_local(async move {
    ///             cancelled.await;
    ///             helper.send("the helper has stopped").unwrap();
    ///         });
    ///         send.send("the work has begun").unwrap();
    ///         std::future::pending::<Result<(), ()>>().await
    ///     })
    ///     .start()?;
    /// let call = work.call(());
    /// assert_eq!(receive.recv_timeout(Duration::from_secs(30)), Ok("the work has begun"));
    /// drop(call); // the client leaves
    /// assert_eq!(receive.recv_timeout(Duration::from_secs(30)), Ok("the helper has stopped"));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::of(self.0.token.borrow().as_ref())
    }

    /// The scope of this container for helper threads. Allocations inside the scope are charged to the
    /// container, and checkpoints there unwind when the container's own checkpoints do.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let token = self.0.token.borrow().clone();
        if let Some(account) = token.as_ref().and_then(|token| token.account()) {
            ChargeGuard::share(account.index());
        }
        Scope::of(token, self.0.account.get())
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}#{}", self.app(), self.function(), self.container(), self.generation())
    }
}

//! What the user's code can ask about the execution it is part of.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::crash::Previous;
use crate::decide::ids::{Attempt, ContainerId, Generation};

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
        let context = Self(Rc::new(Inner {
            app,
            function,
            function_id,
            container,
            generation: Cell::new(0),
            index: Cell::new(0),
            attempt: Cell::new(0),
            previous: RefCell::new(None),
        }));
        CURRENT.with(|slot| *slot.borrow_mut() = Some(context.clone()));
        context
    }

    /// The context of the container this thread belongs to; `None` on every other thread.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with(|slot| slot.borrow().clone())
    }

    pub(crate) fn is_container_of(function_id: u64) -> bool {
        CURRENT
            .with(|slot| slot.borrow().as_ref().is_some_and(|context| context.0.function_id == function_id))
    }

    pub(crate) fn begin_generation(&self, generation: Generation) {
        self.0.generation.set(generation.0);
        self.0.attempt.set(0);
        self.0.previous.borrow_mut().take();
    }

    pub(crate) fn begin_run(&self, attempt: Attempt, previous: Option<Previous>) {
        self.0.attempt.set(attempt.0);
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

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}#{}", self.app(), self.function(), self.container(), self.generation())
    }
}

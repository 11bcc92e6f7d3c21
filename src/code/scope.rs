//! The scope that lets other threads charge a container's account.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::code::cancellation::Cancelled;
use crate::code::token::{self, Token};
use crate::memory::attempts::OpenAttempt;

/// The scope of one generation of a container, for helper threads. [`Context::scope`](crate::Context::scope)
/// returns it. Allocations inside the scope are charged to the container.
/// [`Context::checkpoint`](crate::Context::checkpoint) unwinds in it when the container is killed, or when
/// the map or call that the container executes is cancelled or has ended.
///
/// A thread outside of any scope is charged to the process, which has no limit.
///
/// ```
/// use longshore::{App, Context};
///
/// let app = App::ephemeral("docs");
/// let lengths = app
///     .infallible("lengths", |texts: &Vec<String>| {
///         let scope = Context::current().expect("in a container").scope();
///         std::thread::scope(|threads| {
///             let work = || texts.iter().map(String::len).collect::<Vec<_>>();
///             let helper = threads.spawn(move || scope.run(work));
///             helper.join().expect("the helper does not panic")
///         })
///     })
///     .start()?;
/// assert_eq!(lengths.call(vec!["one".into(), "two!".into()]).wait().unwrap(), [3, 4]);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Clone)]
pub struct Scope {
    token: Option<Arc<Token>>,
    /// The account of the input that the scope belongs to, if it is one of several in flight.
    attempt: Option<OpenAttempt>,
    /// Knows whether the execution that has made the scope is cancelled, also when the container goes on.
    cancelled: Arc<Cancelled>,
}

impl Scope {
    pub(crate) fn of(token: Option<Arc<Token>>, attempt: Option<OpenAttempt>) -> Self {
        let cancelled = token::outside(|| Arc::new(Cancelled::of(token.as_ref())));
        Self { token, attempt, cancelled }
    }

    /// Runs `work` on this thread, inside the scope. The allocations of `work` count for the attempt that the
    /// container executes when `work` begins. After that attempt they count as memory that the attempt has
    /// left behind.
    ///
    /// # Panics
    ///
    /// If `work` panics.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        token::with_current(self.token.clone(), || match &self.token {
            Some(token) => token.inside_attempt(self.attempt, work),
            None => work(),
        })
    }

    /// Whether the execution that has made this scope is cancelled. See
    /// [`Context::is_cancelled`](crate::Context::is_cancelled). The answer stays the same when the container
    /// goes on with another input. Threads that cannot await
    /// [`Context::cancelled`](crate::Context::cancelled) ask this.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Runs `work` on a new thread, inside the scope. The thread's stack is as large as [the
    /// container's](crate::Builder::stack_size).
    ///
    /// # Errors
    ///
    /// The thread could not be created.
    pub fn spawn<T, W>(&self, work: W) -> io::Result<JoinHandle<T>>
    where
        W: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let scope = self.clone();
        let mut thread = thread::Builder::new();
        if let Some(bytes) = self.token.as_ref().and_then(|token| token.stack_bytes()) {
            thread = thread.stack_size(bytes);
        }
        token::outside(|| thread.spawn(move || scope.run(work)))
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

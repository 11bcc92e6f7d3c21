//! Helpers that the tests share: the two restart policies, a watchdog, the usual functions, gates, values
//! that count their drops, and a wait for a condition.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore::{App, Builder, CrashLoopBackoff, Function, RateLimited, RestartPolicy};
use tokio::sync::Semaphore;

/// A test that takes longer than this counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// One policy of each kind. Neither stands in the way of a promise: the rate-limited one never gives up, and
/// the delays of the crash loop are a few milliseconds.
pub(crate) fn policies() -> [RestartPolicy; 2] {
    let backoff = CrashLoopBackoff::default().initial(Duration::from_millis(1)).max(Duration::from_millis(4));
    [RateLimited::never().into(), backoff.into()]
}

/// Runs a promise under each policy, in a fresh app, and fails if it hangs.
pub(crate) fn under_each_policy(promise: impl Fn(&App, RestartPolicy) + Send + Sync + 'static) {
    let promise = Arc::new(promise);
    for policy in policies() {
        let promise = Arc::clone(&promise);
        unhung(move || {
            let app = App::ephemeral("promise");
            promise(&app, policy);
            drop(app);
        });
    }
}

/// Runs a test on a thread of its own, and fails if it hangs.
pub(crate) fn unhung<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::channel();
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let result = test();
        send.send(()).expect("the test waits");
        result
    });
    let thread = thread.expect("a thread can be made");
    if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = receive.recv_timeout(HUNG) {
        panic!("hung: the test did not end within {HUNG:?}");
    }
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Waits until a condition holds. `what` is the condition as a sentence.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < HUNG / 2, "this never came true: {what}");
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

/// A function from numbers to numbers that cannot fail.
pub(crate) type Numbers = Function<u64, u64, Infallible>;
/// A function from numbers to numbers that may fail.
pub(crate) type Failing = Function<u64, u64, &'static str>;

/// Starts the function `f` under the policy of its app.
///
/// The code is boxed in this and in the two functions below, so that the engine is compiled for one type of
/// code instead of one for each test.
pub(crate) fn numbers(
    app: &App,
    containers: usize,
    code: impl Fn(&u64) -> u64 + Send + Sync + 'static,
) -> Numbers {
    boxed(app, Box::new(move |n| Ok(code(n)))).containers(containers).started()
}

/// Starts the function `f` under `policy`.
pub(crate) fn numbers_under(
    policy: impl Into<RestartPolicy>,
    app: &App,
    containers: usize,
    code: impl Fn(&u64) -> u64 + Send + Sync + 'static,
) -> Numbers {
    boxed(app, Box::new(move |n| Ok(code(n)))).containers(containers).restart(policy).started()
}

/// Starts the function `f`, which may fail, under `policy`.
pub(crate) fn failing_under(
    policy: impl Into<RestartPolicy>,
    app: &App,
    containers: usize,
    code: impl Fn(&u64) -> Result<u64, &'static str> + Send + Sync + 'static,
) -> Failing {
    boxed(app, Box::new(code)).containers(containers).restart(policy).started()
}

/// Starts the async function `f` under the policy of its app.
pub(crate) fn async_numbers(
    app: &App,
    containers: usize,
    code: impl AsyncFn(&u64) -> u64 + Send + Sync + 'static,
) -> Numbers {
    app.function_async("f", async move |n: &u64| Ok(code(n).await)).containers(containers).started()
}

/// Starts the async function `f` under `policy`.
pub(crate) fn async_numbers_under(
    policy: impl Into<RestartPolicy>,
    app: &App,
    containers: usize,
    code: impl AsyncFn(&u64) -> u64 + Send + Sync + 'static,
) -> Numbers {
    let f = app.function_async("f", async move |n: &u64| Ok(code(n).await));
    f.containers(containers).restart(policy).started()
}

type Code<E> = Box<dyn Fn(&u64) -> Result<u64, E> + Send + Sync>;

fn boxed<E: std::fmt::Debug + Send + 'static>(app: &App, code: Code<E>) -> Builder<u64, u64, E> {
    app.function("f", code)
}

/// Starts a function whose settings are valid.
pub(crate) trait Started<I, O, E> {
    fn started(self) -> Function<I, O, E>;
}

impl<I, O, E> Started<I, O, E> for Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn started(self) -> Function<I, O, E> {
        self.start().expect("the settings are valid")
    }
}

/// A gate that is opened once. Threads pass it with [`Gate::pass`] and tasks with [`Gate::passed`]; both wait
/// until it is open.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inside>);

struct Inside {
    open: Mutex<bool>,
    opened: Condvar,
    /// Has no permits. It is closed when the gate is opened.
    tasks: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        let tasks = Semaphore::new(0);
        Self(Arc::new(Inside { open: Mutex::default(), opened: Condvar::default(), tasks }))
    }
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opened.notify_all();
        self.0.tasks.close();
    }

    pub(crate) fn pass(&self) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.0.opened.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) async fn passed(&self) {
        assert!(self.0.tasks.acquire().await.is_err(), "the semaphore has no permits");
    }
}

/// Counts its drops.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts its drops, and panics in each one unless the thread is panicking already.
#[derive(Debug)]
pub(crate) struct Bomb(Arc<AtomicU64>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

/// A maker of bombs, and the number of drops of all the bombs that it has made.
pub(crate) fn bombs() -> (Arc<AtomicU64>, impl Fn() -> Bomb + Clone + Send + Sync + 'static) {
    let drops = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&drops);
    (drops, move || Bomb(Arc::clone(&counted)))
}

/// The number of the attempt that the calling container is executing.
pub(crate) fn attempt() -> u32 {
    longshore::Context::current().expect("inside a container").attempt().get()
}

/// Panics on purpose. The test prints nothing of it, because a container's panics do not reach the panic
/// hook.
pub(crate) fn crash() -> ! {
    panic!("a crash on purpose")
}

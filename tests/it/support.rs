//! What the tests share: both policies, a watchdog, gates, values that tell of their drop, and waiting
//! for a condition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore::{App, CrashLoopBackoff, RateLimited, RestartPolicy};
use tokio::sync::Semaphore;

/// How long anything may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// Both policies, neither of which may stand in the way of a promise: many crashes are fine, and a
/// crash loop backs off by little.
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
        panic!("hung: nothing happened for {HUNG:?}");
    }
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < HUNG / 2, "{what} did not come about");
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

/// A gate that is opened once; whoever passes waits for that, as a thread or as a task.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inside>);

struct Inside {
    open: Mutex<bool>,
    opened: Condvar,
    /// Closed when the gate is opened.
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
        assert!(self.0.tasks.acquire().await.is_err(), "it has no permits");
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

/// Counts its drops, and panics in each unless the thread is panicking already.
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

/// The drops of all bombs of a kind, and how one is made.
pub(crate) fn bombs() -> (Arc<AtomicU64>, impl Fn() -> Bomb + Clone + Send + Sync + 'static) {
    let drops = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&drops);
    (drops, move || Bomb(Arc::clone(&counted)))
}

/// The attempt that is going on.
pub(crate) fn attempt() -> u32 {
    longshore::Context::current().expect("inside a container").attempt().get()
}

/// Panics for the tests: silent, because a container's panics do not reach the hook.
pub(crate) fn crash() -> ! {
    panic!("a crash on purpose")
}

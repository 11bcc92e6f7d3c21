//! What the tests share: both policies, a watchdog, gates, and waiting for a condition.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore::{App, CrashLoopBackoff, RateLimited, RestartPolicy};

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

/// A gate that is opened once; whoever passes waits for that.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pass(&self) {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.0.1.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The attempt that is going on.
pub(crate) fn attempt() -> u32 {
    longshore::Context::current().expect("inside a container").attempt().get()
}

/// Panics for the tests: silent, because a container's panics do not reach the hook.
pub(crate) fn crash() -> ! {
    panic!("a crash on purpose")
}

//! A dashboard keeps nothing alive and delays no end, and it answers while the engine is busy.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use http::StatusCode;
use longshore::actor::{Ending, Shutdown};
use longshore::{AnyFunction, App};
use longshore_dashboard::{Actions, Dashboard};

use crate::support::{HUNG, VALID, get, overview, path_of, send, until, well};

#[test]
fn a_dashboard_keeps_neither_the_app_nor_a_function_alive() {
    struct Captured(Sender<()>);

    impl Drop for Captured {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    let (send, dropped) = channel();
    let captured = Captured(send);
    let app = App::deployed("lifetime");
    let dashboard = Dashboard::of(&app);
    let page = dashboard.serve("127.0.0.1:0").expect(VALID);
    let guard = dashboard.report_on_drop(std::env::temp_dir().join("never-written.html"));
    let f = app.infallible("f", move |n: &u64| {
        let _ = &captured.0;
        *n
    });
    let f = f.containers(2).start().expect(VALID);
    f.run(vec![1, 2, 3]).expect("it cannot fail");
    let weak: Vec<AnyFunction> = app.functions();
    assert_eq!(overview(&dashboard)["functions"].as_array().map(Vec::len), Some(1));
    drop(f);
    drop(app);
    dropped.recv_timeout(HUNG).expect("the captured values of the closure are dropped");
    until("the function is gone", || weak[0].is_gone());
    assert_eq!(overview(&dashboard)["dashboard"]["app_gone"], true);
    drop(page);
    std::mem::forget(guard); // it would write the file
}

#[test]
fn a_shutdown_takes_no_longer_while_the_dashboard_is_asked_without_a_pause() {
    let app = App::deployed("lifetime");
    let dashboard = Dashboard::of(&app);
    let f = well(&app, "double");
    f.run((0..1000).collect::<Vec<u64>>()).expect("it cannot fail");
    let ended = AtomicBool::new(false);
    let (looked, looks): (_, Receiver<()>) = channel();
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                assert_eq!(get(&dashboard, "/api/v1/overview").status, StatusCode::OK);
                let _ = looked.send(());
            }
        });
        // The shutdown begins between two requests of a thread that already asks.
        let asked = looks.recv_timeout(HUNG);
        let report = app.shutdown_within(HUNG);
        ended.store(true, Ordering::Relaxed);
        asked.expect("the dashboard answered before the shutdown");
        report
    });
    assert!(report.is_clean() && !report.functions.is_empty(), "{report}");
}

/// Blocks the engine's thread, which is the one that wakes the tasks of calls, until it is released.
struct Blocks {
    entered: Mutex<Sender<()>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl Wake for Blocks {
    fn wake(self: Arc<Self>) {
        if thread::current().name() != Some("longshore") {
            return;
        }
        let _ = self.entered.lock().expect("not poisoned").send(());
        let released = self.released.lock().expect("not poisoned");
        let wait = self.release.wait_timeout_while(released, HUNG, |released| !*released);
        drop(wait.expect("not poisoned"));
    }
}

impl Blocks {
    /// Returns once the engine's thread is blocked.
    fn now() -> Arc<Self> {
        let (send, entered): (_, Receiver<()>) = channel();
        let blocks = Arc::new(Self {
            entered: Mutex::new(send),
            released: Mutex::new(false),
            release: Condvar::new(),
        });
        let app = App::ephemeral("blocks");
        let f = app.function_async("f", async |_: &u64| std::future::pending::<Result<u64, ()>>().await);
        let f = f.containers(1).start().expect(VALID);
        let waker = Waker::from(Arc::clone(&blocks));
        let mut call = pin!(f.call(1));
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        f.supervisor().do_send(Shutdown { ending: Ending::Abort, limit: HUNG });
        entered.recv_timeout(HUNG).expect("the engine's thread wakes the call");
        blocks
    }

    fn release(&self) {
        *self.released.lock().expect("not poisoned") = true;
        self.release.notify_all();
    }
}

#[test]
fn requests_are_answered_while_the_engine_is_busy_and_an_action_does_not_wait_for_long() {
    let app = App::deployed("lifetime");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::KILL);
    let f = well(&app, "double");
    f.ready().expect("it starts");
    let bearer = ("authorization", "Bearer secret");
    let blocks = Blocks::now();

    // On a thread of its own, so that a request which waits for the engine fails the test and does not hang
    // it.
    let (send_answers, answers) = channel();
    let asking = dashboard.clone();
    let asked = thread::spawn(move || {
        for path in ["/", "/api/v1/overview", &path_of("double"), "/metrics", "/healthz", "/report"] {
            let answer = send(&asking, http::Method::GET, path, &[bearer]);
            send_answers.send((path.to_owned(), answer.status)).expect("the test waits");
        }
        let kill = format!("{}/kill/0", path_of("double"));
        let answer = send(&asking, http::Method::POST, &kill, &[bearer, ("x-longshore", "1")]);
        send_answers.send((kill, answer.status)).expect("the test waits");
    });
    let limit = Duration::from_secs(10);
    for _ in 0..6 {
        let (path, status) = answers.recv_timeout(limit).expect("an answer does not wait for the engine");
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let (_, killed) = answers.recv_timeout(limit).expect("an action waits for a moment only");
    assert_eq!(killed, StatusCode::ACCEPTED);
    assert_eq!(f.snapshot().totals.crashes.killed, 0);

    blocks.release();
    asked.join().expect("it does not panic");
    until("the engine does it when it can", || f.snapshot().totals.crashes.killed == 1);
}

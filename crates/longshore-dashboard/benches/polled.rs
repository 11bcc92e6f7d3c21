//! The cost of being looked at: a map while a page polls, against the same map beside a thread that only
//! sleeps.
//!
//! ```sh
//! cargo bench -p longshore-dashboard --bench polled
//! ```

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

#[path = "../../../benches/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::Harness;
use harness::goal::Goal;
use harness::ours::{self, as_iterator};
use harness::reading::{per_input, timed};
use harness::work::no_op;
use http::Request;
use longshore::App;
use longshore_dashboard::Dashboard;

/// A page asks once a second.
const PERIOD: Duration = Duration::from_secs(1);

fn main() {
    let mut harness = Harness::new("polled");
    while_polled(&mut harness);
    an_answer(&mut harness);
}

/// A thread that wakes once a second, and then does what a page does, or nothing.
struct Viewer {
    asks: Arc<AtomicU8>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Viewer {
    fn of(dashboard: Dashboard, function: &str) -> Self {
        let (stop, stopped) = channel::<()>();
        let asks = Arc::new(AtomicU8::new(0));
        let its_asks = Arc::clone(&asks);
        let paths = ["/api/v1/overview".to_owned(), format!("/api/v1/functions/{function}")];
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                if its_asks.load(Ordering::Relaxed) > 0 {
                    paths.iter().for_each(|path| answered(&dashboard, path));
                }
            }
        });
        Self { asks, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs `run` while the thread asks, or while it only sleeps.
    fn during<T>(&self, asks: bool, run: impl FnOnce() -> T) -> T {
        self.asks.store(u8::from(asks), Ordering::Relaxed);
        run()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only asks");
        }
    }
}

fn answered(dashboard: &Dashboard, path: &str) {
    let request = Request::get(path).body(()).expect("the request is valid");
    assert_eq!(dashboard.respond(&request).status(), 200, "{path}");
}

fn while_polled(harness: &mut Harness) {
    let app = App::ephemeral("bench");
    let work = harness.work(Duration::from_micros(1));
    let works = ours::start(app.infallible("works", move |n: &u64| work.run(*n)));
    let nothing = ours::start(app.infallible("nothing", |n: &u64| no_op(*n)));
    let dashboard = Dashboard::of(&app);
    let viewer = Viewer::of(dashboard, "works");
    for (question, function, inputs) in
        [("1 µs, a page that polls", &works, 2_000_000), ("no-op, a page that polls", &nothing, 20_000_000)]
    {
        let n = harness.inputs(inputs);
        let viewer = &viewer;
        let run = |asks| per_input(n, move || viewer.during(asks, || as_iterator(function, n)));
        harness
            .question(question, n)
            .ours(run(true))
            .rival("a thread that sleeps", &[Goal::Times(1.01)], run(false))
            .ask();
    }
}

/// One request for a function with many containers, to see how an answer grows.
fn an_answer(harness: &mut Harness) {
    let app = App::ephemeral("bench");
    let few = ours::start(app.infallible("few", |n: &u64| no_op(*n)));
    let many = ours::start_with(256, app.infallible("many", |n: &u64| no_op(*n)));
    let dashboard = Dashboard::of(&app);
    let times = 20;
    let answer = |path: &'static str| {
        let dashboard = dashboard.clone();
        timed(1, times, || (), move |()| answered(&dashboard, path), |()| ())
    };
    harness
        .question("an answer about 256 containers", 1)
        .ours(answer("/api/v1/functions/many"))
        .rival("one about two", &[Goal::Shown], answer("/api/v1/functions/few"))
        .ask();
    drop((few, many));
}

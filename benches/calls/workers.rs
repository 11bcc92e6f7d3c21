//! Workers that answer numbers, as one would write them by hand: a thread between two channels, and a task
//! that gets each number with a channel for its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::{mpsc, oneshot};

use crate::harness::work::no_op;

/// A thread that blocks between two channels of crossbeam. Its caller blocks too, and asks for one number at
/// a time.
pub(crate) struct Pair {
    asks: Sender<u64>,
    answers: Receiver<u64>,
}

impl Pair {
    pub(crate) fn spawn() -> Self {
        let ((asks, asked), (answer, answers)) = (unbounded(), unbounded());
        thread::spawn(move || asked.iter().try_for_each(|n| answer.send(no_op(n))));
        Self { asks, answers }
    }

    pub(crate) fn ask(&self, n: u64) -> u64 {
        self.asks.send(n).expect("the thread lives");
        self.answers.recv().expect("the thread lives")
    }
}

/// A number, and the channel for its answer.
type Asked = (u64, oneshot::Sender<u64>);

/// A task on a thread of its own. It gets numbers from a channel of tokio.
pub(crate) struct Task(mpsc::UnboundedSender<Asked>);

impl Task {
    pub(crate) fn spawn() -> Self {
        let (send, mut asked) = mpsc::unbounded_channel::<Asked>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                while let Some((n, answer)) = asked.recv().await {
                    let _ = answer.send(no_op(n)); // fails if the caller has given up
                }
            });
        });
        Self(send)
    }

    /// Asks for a number. Dropping the receiver gives it up.
    pub(crate) fn ask(&self, n: u64) -> oneshot::Receiver<u64> {
        let (answer, answered) = oneshot::channel();
        self.0.send((n, answer)).expect("the task lives");
        answered
    }
}

/// Keeps a worker from going on until it is dropped.
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A gate, and the code that waits at it.
    pub(crate) fn new() -> (Self, impl Fn() + Clone + Send + Sync + 'static) {
        let is_open = Arc::new(AtomicBool::new(false));
        let gate = Self(Arc::clone(&is_open));
        let wait = move || {
            while !is_open.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        };
        (gate, wait)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! Async code that may panic, as one would write it by hand: a thread with a `LocalSet`. Channels bring its
//! inputs and take its outcomes, one at a time.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::thread;

use futures::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

/// The outcome of an input.
type Caught = Result<u64, Box<dyn Any + Send>>;

/// The handle of the thread. The thread ends when the handle is dropped.
pub(crate) struct Worker {
    inputs: UnboundedSender<u64>,
    outcomes: std::cell::RefCell<UnboundedReceiver<Caught>>,
}

impl Worker {
    pub(crate) fn spawn(run: impl AsyncFn(u64) -> u64 + Send + 'static) -> Self {
        let (inputs, mut todo) = unbounded_channel();
        let (done, outcomes) = unbounded_channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.expect("a runtime"), async {
                while let Some(input) = todo.recv().await {
                    let outcome = AssertUnwindSafe(run(input)).catch_unwind().await;
                    if done.send(outcome).is_err() {
                        break;
                    }
                }
            });
        });
        Self { inputs, outcomes: outcomes.into() }
    }

    /// Runs `0..inputs`, and collects their outcomes.
    pub(crate) fn run(&self, inputs: u64) -> Vec<Caught> {
        for input in 0..inputs {
            self.inputs.send(input).expect("the worker lives");
        }
        let mut outcomes = self.outcomes.borrow_mut();
        (0..inputs).map(|_| outcomes.blocking_recv().expect("the worker lives")).collect()
    }
}

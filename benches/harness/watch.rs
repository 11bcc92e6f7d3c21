//! What ends a bench that hangs: a lost wake-up is to be told, not waited for.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longer than any question takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Ends the process if it is not dropped in time.
pub(crate) struct Watch {
    /// Dropped with it, which the thread that waits takes for the end.
    _over: Sender<()>,
}

impl Watch {
    pub(crate) fn over(question: &str) -> Self {
        let (over, told) = channel();
        let question = question.to_owned();
        std::thread::spawn(move || {
            if told.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("\n`{question}` has no answer after {LIMIT:?}");
                std::process::exit(1);
            }
        });
        Self { _over: over }
    }
}

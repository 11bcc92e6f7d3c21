//! [`Watch`]: ends a bench that hangs, so that a lost wake-up is reported.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The limit of a question. It is longer than any question takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Ends the process if it is not dropped in time.
pub(crate) struct Watch {
    /// It is dropped with the watch, and the waiting thread then ends.
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

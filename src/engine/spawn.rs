//! Makes threads. The function takes a boxed closure, so that the code that makes a thread is compiled once.

use std::io;
use std::thread::Builder;

/// Makes a thread that runs `run`, with this name and a stack of `stack_bytes` bytes.
///
/// # Errors
///
/// The system makes none.
pub(crate) fn spawn(name: String, stack_bytes: usize, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name).stack_size(stack_bytes).spawn(run).map(drop)
}

//! Making threads. Compiled once, because to make a thread is much code for each kind of closure.

use std::io;
use std::thread::Builder;

/// Makes a thread with that name and stack, which runs that.
///
/// # Errors
///
/// The system makes none.
pub(crate) fn spawn(name: String, stack_bytes: usize, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name).stack_size(stack_bytes).spawn(run).map(drop)
}

//! The promises of the service, over real connections: every request is answered or refused, and nothing is
//! left behind.
//!
//! It is a binary of its own because it needs the accountant as its global allocator.

mod answers;
mod client;
mod here;
mod pictures;
#[cfg(unix)]
mod process;

use longshore::Accountant;

#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

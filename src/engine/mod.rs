//! The acting half of the engine: actors, threads and the lock, without cleverness.
//!
//! [`supervisor`], [`container`] and [`map`] are the actors, on the thread of [`system`];
//! [`thread`] is what a container's thread runs and [`feeder`] what pulls a source that may block;
//! [`consumer`] takes the outcomes. [`dispatch`] is the lock they meet at, over [`lane`], [`chunk`]
//! and [`run`].

pub(crate) mod async_body;
pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod chunk;
pub(crate) mod clock;
pub(crate) mod consumer;
pub(crate) mod container;
pub(crate) mod crew;
pub(crate) mod dispatch;
pub(crate) mod drops;
pub(crate) mod erased;
pub(crate) mod feeder;
pub(crate) mod lane;
pub(crate) mod leash;
pub(crate) mod map;
pub(crate) mod messages;
pub(crate) mod outbox;
pub(crate) mod outlined;
pub(crate) mod pool;
pub(crate) mod priority;
#[cfg(test)]
mod races;
pub(crate) mod retained;
pub(crate) mod run;
pub(crate) mod shape;
pub(crate) mod signal;
pub(crate) mod span;
pub(crate) mod spawn;
pub(crate) mod spawned;
pub(crate) mod speech;
pub(crate) mod story;
pub(crate) mod supervisor;
pub(crate) mod sync;
pub(crate) mod system;
pub(crate) mod thread;
pub(crate) mod thread_end;
pub(crate) mod track;
pub(crate) mod typed_supervisor;
pub(crate) mod unwind;
pub(crate) mod wait;

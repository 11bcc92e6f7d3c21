//! The acting half of the engine: actors, threads and the lock. The decisions are in
//! [`decide`](crate::decide).
//!
//! [`supervisor`], [`container`] and [`map`] are the actors, which run on the thread of [`system`].
//! [`typed_supervisor`] is the public face of [`supervisor`]. [`life`] carries out the life of a container,
//! [`thread`] is what the container's thread runs, and a [`body`] is the user's code in it. A [`feeder`]
//! pulls a source that may block. A [`reader`] finds the outcomes, and a [`consumer`] takes them. They all
//! meet at [`dispatch`], the lock of the function, which has one [`job_buffers`] entry for each job. A
//! [`running`] function lives as long as something holds it, and reaches the clock and the threads through
//! its [`host`].
//! `signals` (a feature) end all functions of an app.

pub(crate) mod abort;
pub mod actor;
pub(crate) mod anchor;
pub(crate) mod async_body;
pub(crate) mod batch_body;
pub(crate) mod body;
pub(crate) mod call_buffers;
pub(crate) mod caller;
pub(crate) mod concurrent_body;
pub(crate) mod consumer;
pub(crate) mod container;
pub(crate) mod detached_call;
pub(crate) mod dispatch;
mod ended_inputs;
pub(crate) mod events;
pub(crate) mod feeder;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod job_buffers;
pub(crate) mod life;
#[cfg(test)]
pub(crate) mod log_lines;
pub(crate) mod map;
pub(crate) mod map_buffers;
pub(crate) mod map_end;
pub(crate) mod messages;
pub(crate) mod open_call;
pub(crate) mod outbox;
pub(crate) mod place;
pub(crate) mod planned;
pub(crate) mod progress_handle;
pub(crate) mod reader;
pub(crate) mod ready_request;
pub(crate) mod registry;
pub(crate) mod running;
pub(crate) mod settings;
#[cfg(feature = "signal")]
pub(crate) mod signals;
pub(crate) mod span;
pub(crate) mod spawn;
pub(crate) mod subscribers;
mod sync_body;
pub(crate) mod telemetry;
#[cfg(test)]
mod telemetry_tests;
pub(crate) mod log_throttle;
pub(crate) mod supervisor;
pub(crate) mod system;
pub(crate) mod thread;
pub(crate) mod typed_supervisor;
pub(crate) mod viewers;
pub(crate) mod wait;

//! The acting half of the engine: actors, threads and the lock, without cleverness.
//!
//! [`supervisor`], [`container`] and [`map`] are the actors, on the thread of [`system`], and [`typed_supervisor`] is the face of
//! the first; [`life`] carries out a container's life, and [`thread`] is what its thread runs, with the user's code in a [`body`], and [`feeder`] what pulls a
//! source that may block; [`consumer`] takes the outcomes. [`dispatch`] is the lock they meet at, over a
//! [`job_buffers`] for each job. A function is [`running`] as long as something holds it, and stands on its
//! [`host`].

pub(crate) mod abort;
pub mod actor;
pub(crate) mod anchor;
pub(crate) mod async_body;
pub(crate) mod body;
pub(crate) mod call_buffers;
pub(crate) mod caller;
pub(crate) mod consumer;
pub(crate) mod container;
pub(crate) mod dispatch;
pub(crate) mod events;
pub(crate) mod feeder;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod job_buffers;
pub(crate) mod life;
pub(crate) mod map;
pub(crate) mod map_buffers;
pub(crate) mod messages;
pub(crate) mod open_call;
pub(crate) mod outbox;
pub(crate) mod planned;
pub(crate) mod registry;
pub(crate) mod running;
pub(crate) mod settings;
pub(crate) mod span;
pub(crate) mod spawn;
pub(crate) mod telemetry;
pub(crate) mod log_throttle;
pub(crate) mod supervisor;
pub(crate) mod system;
pub(crate) mod thread;
pub(crate) mod typed_supervisor;
pub(crate) mod wait;

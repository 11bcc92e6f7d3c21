//! The function as an actor: everything that can be asked of a function, as messages.
//!
//! [`Function::supervisor`](crate::Function::supervisor) returns the address of a function's supervisor. Any
//! actor, on any actix system of the process, can send these messages to it, and so can a thread or task
//! without an actor. The function lives as long as any of these does: its app, a
//! [`Function`](crate::Function), a map, or a call, including the maps and calls that were begun by message.
//! An address alone does not keep the function alive.
//!
//! If the sender stops awaiting a reply before the supervisor reads the request, the request is not carried
//! out. Use `do_send` for a message that must be carried out.
//!
//! | message | to | reply |
//! |---|---|---|
//! | [`StartMap`] | supervisor | the address of the map, or why the map was refused |
//! | [`Batch`] | your actor, from the map | [`Demand`] |
//! | [`GetProgress`], [`CancelMap`] | map | [`Progress`] / nothing |
//! | [`CallInput`] | supervisor | the outcome of the input |
//! | [`Reserve`] | supervisor | a [`Place`] for a call, once there is room, or why there will be none |
//! | [`TryReserve`] | supervisor | a [`Place`] if there is room now, or why not |
//! | [`Ready`], [`ReadyAll`] | supervisor | nothing, once a container is live, or all are, or why none will be |
//! | [`Idle`] | supervisor | nothing, once every accepted input has its outcome |
//! | [`GetStatus`] | supervisor | [`Status`] |
//! | [`Shutdown`] | supervisor | the [`FunctionReport`], once everything has ended |
//! | [`Reset`] | supervisor | whether the function had given up |
//! | [`Pause`] | supervisor | whether the function is paused now |
//! | [`Resume`] | supervisor | whether the function was paused |
//! | [`KillContainer`] | supervisor | whether the container was alive |
//! | [`Subscribe`] | supervisor | nothing |
//! | [`Happened`] | your actor, from the function | nothing |
//!
//! ```
//! use actix::prelude::*;
//! use longshore::App;
//! use longshore::actor::{Batch, Demand, StartMap};
//! use std::convert::Infallible;
//!
//! struct Sum { total: u64, done: std::sync::mpsc::Sender<u64> }
//!
//! impl Actor for Sum {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Batch<u64, u64, Infallible>> for Sum {
//!     type Result = MessageResult<Batch<u64, u64, Infallible>>;
//!
//!     fn handle(&mut self, batch: Batch<u64, u64, Infallible>, _: &mut Context<Self>) -> Self::Result {
//!         let last = batch.is_last();
//!         self.total += batch.into_outcomes().into_iter().flatten().sum::<u64>();
//!         if last {
//!             self.done.send(self.total).unwrap();
//!         }
//!         MessageResult(Demand::More)
//!     }
//! }
//!
//! let (done, total) = std::sync::mpsc::channel();
//! let system = System::new();
//! system.block_on(async {
//!     let app = App::ephemeral("docs");
//!     let double = app.infallible("double", |n: &u64| 2 * n).start().unwrap();
//!     let sum = Sum { total: 0, done }.start();
//!     let map = double.supervisor().send(StartMap::new(0..100u64, sum.recipient())).await.unwrap();
//!     assert!(map.is_ok());
//!     while total.try_recv() != Ok(9_900) {
//!         tokio::task::yield_now().await;
//!     }
//! });
//! ```
//!
//! [`Progress`]: crate::Progress
//! [`Status`]: crate::Status
//! [`FunctionReport`]: crate::FunctionReport

mod calls;
mod control;
mod maps;
mod readiness;
mod subscription;

pub use calls::{CallInput, Reserve, TryReserve};
pub use control::{Ending, GetStatus, KillContainer, Pause, Reset, Resume, Shutdown};
pub use maps::{Batch, CancelMap, Demand, GetProgress, StartMap};
pub use readiness::{Idle, Ready, ReadyAll};
pub use subscription::{Happened, Subscribe};

pub use crate::engine::map::MapActor;
pub use crate::engine::place::Place;
pub use crate::engine::typed_supervisor::Supervisor;

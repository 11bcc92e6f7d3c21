//! A test kit: a function of yours under scripted faults and in virtual time (feature `testkit`).
//!
//! Where your application [`start`](crate::Builder::start)s a [`Builder`](crate::Builder), a test
//! [`rehearse`](crate::Builder::rehearse)s it. The code that decides and dispatches is the code that runs in
//! production, actors included. The containers, however, are tasks of one thread. The time of their runtime
//! stands still while any task can run. When no task can run, time jumps to the next moment at which
//! something is due. An hour of backing off therefore takes a millisecond, nothing depends on the machine,
//! and each run is the same as the last.
//!
//! ```
//! use longshore::{App, Retries};
//! use std::time::Duration;
//!
//! let app = App::ephemeral("docs");
//! let parse = app
//!     .function("parse", |text: &&str| text.parse::<u32>())
//!     .containers(2)
//!     .retries(Retries::new(2).backoff_coefficient(3.0));
//!
//! let (outcomes, record) = parse
//!     .rehearse()
//!     .panics(1, 1) // attempt 1 of input 1
//!     .dies_after(2) // between input 2 and the next
//!     .run(["1", "2", "3", "no number"])?;
//!
//! assert_eq!(*outcomes[1].as_ref().unwrap(), 2);
//! assert_eq!(record.attempts(1), 2, "input 1 was replayed");
//! assert_eq!(record.delays(1), [Duration::ZERO], "a replay does not wait");
//! assert_eq!(record.delays(3), [1, 3].map(Duration::from_secs), "retries wait");
//! assert_eq!(record.restarts(), 2, "one restart after the panic, one after the death");
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Time
//!
//! | code | virtual time that it takes |
//! |---|---|
//! | synchronous | none, however long it really takes; [`Rehearsal::takes`] adds time before it |
//! | async | as long as its `tokio` timers say |
//!
//! Virtual time moves in whole milliseconds, because tokio's timers do: whatever is due between two
//! milliseconds happens at the later one. `tokio::time::Instant::now` reads virtual time, and
//! `std::time::Instant::now` does not.
//!
//! # Differences from production
//!
//! * Code that blocks its thread blocks all containers, and code that waits for another container never
//!   returns. A blocking call of a function, and the start of one, is refused with `WouldDeadlock`.
//! * Synchronous code runs inside a runtime, so a client that blocks on a runtime of its own panics.
//! * Virtual time does not wait for the outside. While the scene awaits a socket, another thread or a started
//!   function, time jumps to the next due moment, and finally to [the end](Rehearsal::for_at_most). It does
//!   wait for `spawn_blocking`.
//! * A task that is spawned with `tokio::spawn` outlives its container, and has no `Context`. `spawn_local`
//!   works as in production.
//! * Code that is random by itself stays random: `tokio::select!` without `biased`, or the order of a
//!   `HashMap`.
//! * Memory is not counted, and no accountant is needed: [`Rehearsal::exceeds_memory`] says when a container
//!   is over its limit. `recycle_above` and `abandoned_bytes_max` do nothing, and `memory_left` is `None`.
//! * Without [`Builder::containers`](crate::Builder::containers) there are [`CONTAINERS`] containers,
//!   whatever the machine.
//! * All containers share their thread-locals, and values are dropped at once, on the shared thread.
//! * If several containers could go first, the engine always lets the same one go first. The next version may
//!   choose another one.

mod batch;
mod container;
mod feeder;
mod host;
mod record;
mod rehearsal;
mod script;
mod stage;

pub use record::{Entered, Execution, ExecutionEnd, Record, Start};
pub use rehearsal::{CONTAINERS, Rehearsal};
pub use script::{At, EnterFault, Entering, Fault};
pub use stage::Stage;

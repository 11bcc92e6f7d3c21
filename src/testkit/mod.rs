//! A test kit: a function of yours under scripted faults and in virtual time (feature `testkit`).
//!
//! A [`Builder`](crate::Builder) that your application would [`start`](crate::Builder::start), a test
//! [`rehearse`](crate::Builder::rehearse)s. The code that decides and dispatches is the very code that runs in
//! production, actors included; but containers are tasks of one thread, in a runtime whose time stands still
//! while anything can be done and then leaps to the next moment at which something is due. So an hour of
//! backing off takes a millisecond, nothing depends on the machine, and each run is the same as the last.
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
//! assert_eq!(record.attempts(1), 2, "it was replayed");
//! assert_eq!(record.delays(1), [Duration::ZERO], "at once");
//! assert_eq!(record.delays(3), [1, 3].map(Duration::from_secs), "retries wait");
//! assert_eq!(record.restarts(), 2, "one after the panic, one after the death");
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Time
//!
//! | code | takes, in virtual time |
//! |---|---|
//! | synchronous | none, however long it really takes; what [`Rehearsal::takes`] says is added before it |
//! | async | as long as its `tokio` timers say |
//!
//! It moves in whole milliseconds, because tokio's timers do: what is due between two of them happens at the later
//! one. `tokio::time::Instant::now` tells it, `std::time::Instant::now` does not.
//!
//! # What is not as in production
//!
//! * Code that blocks its thread blocks everybody, and one that waits for another container to do something never
//!   returns. A blocking call of a function, and the start of one, is refused with `WouldDeadlock`.
//! * Synchronous code runs inside a runtime here: clients that block on one of their own panic.
//! * Time does not stand still for what comes from outside: while a socket, another thread or a function that was
//!   really started is awaited, it leaps to what is due next, at last to [the end](Rehearsal::for_at_most). For
//!   `spawn_blocking` it does stand still.
//! * What is begun with `tokio::spawn` outlives its container, and knows no `Context`; `spawn_local` is as ever.
//! * What is random by itself stays so: `tokio::select!` without `biased`, the order of a `HashMap`.
//! * Memory is not counted, and needs no accountant: [`Rehearsal::exceeds_memory`] says when a container is over
//!   its limit. `recycle_above` and `abandoned_bytes_max` do nothing, `memory_left` is `None`.
//! * Without [`Builder::containers`](crate::Builder::containers) there are [`CONTAINERS`], whatever the machine.
//! * Thread-locals are shared by all containers, and values are dropped at once, on the thread that is shared.
//! * Which of several containers is first, where it does not matter, is always the same one. It may be
//!   another in the next version.

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

//! Events of a function: the same facts as its `tracing` events, as typed values.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::values::crash::Crash;
use crate::values::gave_up::GaveUp;
use crate::values::report::FunctionReport;
#[cfg(feature = "serde")]
use crate::values::serial;

/// Something that happened to a function. Actors receive events with [`Subscribe`](crate::actor::Subscribe).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A container has changed its state.
    #[non_exhaustive]
    Container {
        /// The container.
        container: ContainerId,
        /// The generation of the container, or 0 before its first one.
        generation: Generation,
        /// The new state.
        state: ContainerState,
    },
    /// A container died by its own fault or by its input's fault.
    Crashed(Arc<Crash>),
    /// A container was killed by hand.
    Killed(Arc<Crash>),
    /// Containers die before they complete any input. Reported once for each delay.
    #[non_exhaustive]
    CrashLoop {
        /// The number of loop crashes in a row.
        crashes: u32,
        /// How long ago the first of these crashes was.
        since: Duration,
        /// The time until containers are created again.
        next_restart: Duration,
        /// The crash that began the delay.
        crash: Arc<Crash>,
    },
    /// A crash loop of at least two crashes is over. A container that was started after the last of them has
    /// completed an input, or has stayed up for `reset_after`.
    #[non_exhaustive]
    Recovered {
        /// The number of loop crashes in a row that the loop had.
        crashes: u32,
        /// How long ago the first of these crashes was.
        after: Duration,
    },
    /// An input has crashed its containers too often.
    #[non_exhaustive]
    Poisoned {
        /// The label of its map, if it has one.
        map: Option<Arc<str>>,
        /// The number of the call, if the input is that of a call.
        call: Option<u64>,
        /// The index of the input in its map, or 0 for a call.
        input: u64,
        /// The number of times that the input was executed.
        attempts: Attempt,
    },
    /// An attempt was cut at its [timeout](crate::Builder::timeout) or at its input's
    /// [deadline](crate::Builder::deadline).
    #[non_exhaustive]
    TimedOut {
        /// The label of its map, if it has one.
        map: Option<Arc<str>>,
        /// The number of the call, if the input belongs to a call.
        call: Option<u64>,
        /// The index of the input in its map, or 0 for a call.
        input: u64,
        /// The attempt.
        attempt: Attempt,
        /// The limit: the timeout of the attempt, or the time from the acceptance of the input to its
        /// deadline.
        limit: Duration,
        /// Whether the limit was the deadline.
        is_deadline: bool,
        /// Whether the input is executed again.
        is_retried: bool,
    },
    /// The [deadline](crate::Builder::deadline) of inputs has passed while they waited. They were not
    /// executing, so this is no [`TimedOut`](Event::TimedOut). Inputs of one map whose deadlines have passed
    /// at one look of the engine are one event.
    #[non_exhaustive]
    Expired {
        /// The label of their map, if it has one.
        map: Option<Arc<str>>,
        /// The number of the call, if it is the input of a call.
        call: Option<u64>,
        /// The index of the first of the inputs in its map, or 0 for a call.
        input: u64,
        /// The number of inputs, at least 1.
        inputs: u64,
        /// The time from the acceptance of an input to its deadline.
        limit: Duration,
    },
    /// A container hangs: the code of an attempt has not returned at its limit, and as many threads as
    /// [`Builder::abandoned_max`](crate::Builder::abandoned_max) allows are left behind already. The
    /// container is kept and takes no input. Emitted once for each time that it hangs.
    #[non_exhaustive]
    Hung {
        /// The container.
        container: ContainerId,
        /// The generation of the container.
        generation: Generation,
        /// The label of the map of the input in whose code the thread is stuck, if it has one.
        map: Option<Arc<str>>,
        /// The number of the call, if that input belongs to a call.
        call: Option<u64>,
        /// The index of the input in whose code the thread is stuck, in its map, or 0 for a call. It need not
        /// be the input that was cut. `None` if all executing code waits, so that the thread is in other
        /// code, or if several inputs of a batch execute together.
        input: Option<u64>,
        /// The attempt at that input.
        attempt: Option<Attempt>,
        /// The number of threads that are left behind.
        abandoned: usize,
    },
    /// The code of a container that hung has returned, so the container takes inputs again. A container that
    /// dies while it hangs has no such event.
    #[non_exhaustive]
    HangEnded {
        /// The container.
        container: ContainerId,
        /// The generation of the container.
        generation: Generation,
        /// The time since the container was found to hang.
        after: Duration,
    },
    /// No container is left that takes inputs, and none can be created, because too many threads are left
    /// behind. Inputs wait until one of these threads returns, or end by their deadlines. A function that
    /// gives up or ends while it is exhausted has no [`Event::ExhaustionEnded`].
    #[non_exhaustive]
    Exhausted {
        /// The number of containers that hang.
        hung: usize,
        /// The number of threads that are left behind.
        abandoned: usize,
    },
    /// The function was exhausted, and has a container again, or may create one. It is not emitted if the
    /// function gives up or ends first.
    #[non_exhaustive]
    ExhaustionEnded {
        /// The time since the function was exhausted.
        after: Duration,
    },
    /// Calls were refused with [`Cause::Overloaded`](crate::Cause::Overloaded). Emitted at the first of them,
    /// and then once a second while more are refused.
    #[non_exhaustive]
    Overloaded {
        /// The largest number of calls without outcome: see
        /// [`Builder::calls_max`](crate::Builder::calls_max).
        max: u64,
        /// The number of calls that were refused since the overload began.
        refused: u64,
        /// The time since the overload began.
        since: Duration,
    },
    /// The function was overloaded, and has refused no call for ten seconds or has ended.
    #[non_exhaustive]
    OverloadEnded {
        /// The number of calls that were refused.
        refused: u64,
        /// The time from the first refused call to the last one.
        lasted: Duration,
    },
    /// The `exit` of a container took longer than this timeout, and its thread was left behind.
    ExitTimedOut(ContainerId, Duration),
    /// The function gave up. The value holds the first crashes and the crash that exceeded the limit.
    GaveUp(GaveUp),
    /// The function had given up or was in a crash loop, and was reset by hand. Its crashes are forgotten,
    /// and it takes work again.
    Reset,
    /// The function was paused by hand. Nothing new is dispatched until it is resumed.
    Paused,
    /// The function was paused, and was resumed by hand or by a reset. The end of a function ends its pause
    /// without this event.
    Resumed,
    /// The function has ended: drained, stopped or aborted.
    Ended(FunctionReport),
    /// The subscriber has missed this number of events just before this one. Its mailbox or its stream was
    /// full, or a subscriber blocked and 65 536 events were already waiting.
    Missed(u64),
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "state", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ContainerState {
    /// The container is in `enter`.
    Starting,
    /// The container executes inputs or is ready to.
    Live,
    /// The container is in `exit`.
    Exiting,
    /// The container waits to be created again.
    #[non_exhaustive]
    BackingOff {
        /// The length of the wait.
        #[cfg_attr(feature = "serde", serde(rename = "delay_ms", serialize_with = "serial::ms"))]
        delay: Duration,
    },
    /// The container does not exist.
    Stopped,
}

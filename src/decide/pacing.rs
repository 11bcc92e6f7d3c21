//! How often threads are woken and the lock is taken. These numbers are in one place because they
//! depend on each other.
//!
//! Waking a parked thread costs some tens of µs, which the containers on the same core lose. A claim costs
//! about 5 µs. Cheap inputs are therefore claimed in ranges, and cheap news is delivered late. Each number is
//! a multiple of the cost that it must outweigh:
//!
//! ```text
//!  20 µs  GRAIN         a smaller claim would cost a quarter of what it executes
//!  40 µs  STEAL_MIN     less work is not stolen from another container: that costs a fence and a claim
//! 100 µs  ROOM_WORK     a sleeping container is not woken for less room
//! 500 µs  CLAIM_WORK    the work of one claim, so that a wake-up is at most a tenth of it
//! 500 µs  SIGNAL_PAUSE  a consumer that was woken is not woken again: one claim may have come meanwhile
//!   1 ms  ROOM_WAIT     a small amount of room is taken after this time, though it is not worth a claim
//!   1 ms  STEAL_PAUSE   an input that is leased ahead waits at most this long beside a sleeping container
//!   1 ms  POLL_MIN      a waiting consumer polls by itself: twice SIGNAL_PAUSE, or it would wake for nothing
//!   4 ms  YIELD_PAUSE   a consumer that makes many failures yields its core this often: a scheduler's slice
//!   4 ms  WINDOW_WORK   the window for each container: a scheduler's slice, and eight claims
//!   8 ms  STEAL_FOR     a sleeping container goes on looking: waking it for each lease would cost more
//!  16 ms  POLL_MAX      a consumer sleeps at most this long: inputs can become expensive during a claim
//! ```

use std::time::Duration;

/// The work that one claim should contain.
pub(super) const CLAIM_WORK: Duration = Duration::from_micros(500);

/// Work that is not worth sharing, because the other containers would spend as much on the claim.
pub(super) const GRAIN: Duration = Duration::from_micros(20);

/// Work that is worth stealing, because fencing it off and claiming it cost some µs on either side.
pub(super) const STEAL_MIN: Duration = Duration::from_micros(40);

/// The work for which it is worth waking a container when its window has room again.
pub(super) const ROOM_WORK: Duration = Duration::from_micros(100);

/// The measured work that the default window holds for each container. A consumer that shares the cores with
/// containers may have to wait for its turn for a scheduler's slice, about 3 ms.
pub(super) const WINDOW_WORK: Duration = Duration::from_millis(4);

/// The time for which a consumer goes on making failures before it yields its core.
pub(crate) const YIELD_PAUSE: Duration = Duration::from_millis(4);

/// The time that a small amount of room may wait to grow.
pub(super) const ROOM_WAIT: Duration = Duration::from_millis(1);

/// The time that inputs that are leased ahead may wait for their container beside another
/// container that sleeps.
pub(crate) const STEAL_PAUSE: Duration = Duration::from_millis(1);

/// The time that a sleeping container goes on looking after the last lease of several inputs.
pub(crate) const STEAL_FOR: Duration = Duration::from_millis(8);

/// The time for which outcomes may come before a thread that waits for them is woken again.
pub(crate) const SIGNAL_PAUSE: Duration = Duration::from_micros(500);

/// The shortest interval at which a waiting consumer polls by itself. For a consumer that waits in a task
/// the supervisor looks.
pub(crate) const POLL_MIN: Duration = Duration::from_millis(1);

/// The longest such interval. A run announces its outcomes only at its end, and inputs can become
/// expensive during a run.
pub(crate) const POLL_MAX: Duration = Duration::from_millis(16);

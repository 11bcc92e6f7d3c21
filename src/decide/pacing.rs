//! How often threads are woken and the lock is taken, in one place, because these numbers depend on each other.
//!
//! To wake a parked thread costs some tens of µs, which the containers on its core lack; a claim costs about five. So cheap
//! inputs travel in ranges, and what is cheap is told late. Each number is a multiple of the one that it has to pay for:
//!
//! ```text
//!  20 µs  CRUMB          a claim of less would cost a quarter of what it executes
//!  40 µs  WORTH          less is not taken over from another container: that costs a fence and a claim
//! 100 µs  REFILL_WORK    room for less is not told to a container that sleeps
//! 500 µs  CLAIM_WORK     one claim, so that a wake-up is at most a tenth of it
//! 500 µs  TELL_PAUSE     a consumer that was woken is not woken again: one claim may have come meanwhile
//!   1 ms  CRUMBS_WAIT    little room is taken after so long, though it is not worth a claim
//!   1 ms  LOOK_AHEAD     no input that is leased ahead waits longer beside a container that sleeps
//!   1 ms  LOOK_MIN       a waiting consumer looks by itself: twice TELL_PAUSE, or it would be woken in vain
//!   4 ms  WINDOW_WORK    a window for each container: a scheduler's slice, and eight claims
//!   8 ms  LOOK_AHEAD_FOR a sleeping container goes on looking: to be woken for each lease would cost more
//!  16 ms  LOOK_MAX       nor does a consumer sleep longer, because inputs can turn dear in the middle of a claim
//! ```

use std::time::Duration;

/// The work one claim should hold.
pub(crate) const CLAIM_WORK: Duration = Duration::from_micros(500);

/// Work that is not worth sharing, because the others would spend as much on the claim.
pub(crate) const CRUMB: Duration = Duration::from_micros(20);

/// Work that is worth taking over, because to fence it off, and to claim it, costs some µs on either side.
pub(crate) const WORTH: Duration = Duration::from_micros(40);

/// Work that is worth telling of as room.
pub(crate) const REFILL_WORK: Duration = Duration::from_micros(100);

/// How much measured work the default window holds for each container, because a consumer that shares the
/// cores with containers may have to wait a scheduler's slice, about 3 ms, for its turn.
pub(crate) const WINDOW_WORK: Duration = Duration::from_millis(4);

/// How long little room may wait to become more.
pub(crate) const CRUMBS_WAIT: Duration = Duration::from_millis(1);

/// How long inputs that are leased ahead may wait for a container that does not come to them, beside one that sleeps.
pub(crate) const LOOK_AHEAD: Duration = Duration::from_millis(1);

/// How long a sleeping container goes on looking after the last lease of several inputs.
pub(crate) const LOOK_AHEAD_FOR: Duration = Duration::from_millis(8);

/// How long outcomes may come before a thread that waits for them is told again.
pub(crate) const TELL_PAUSE: Duration = Duration::from_micros(500);

/// The shortest time that a waiting consumer, or the supervisor for one that waits in a task, does not look.
pub(crate) const LOOK_MIN: Duration = Duration::from_millis(1);

/// The longest such time, because a run tells of its outcomes at its end only, and inputs can turn dear in the middle of one.
pub(crate) const LOOK_MAX: Duration = Duration::from_millis(16);

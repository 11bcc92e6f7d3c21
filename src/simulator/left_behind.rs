//! [`LeftBehind`]: the threads that one input has left behind.

use crate::decide::time::Time;

/// The number of threads that an input may leave behind before it is not executed again.
pub(super) const LEFT_MAX: u32 = 2;

/// The threads that an input has left behind in its code, as a world counts them by itself.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LeftBehind {
    threads: u32,
    /// When it left the first one behind.
    since: Option<Time>,
}

impl LeftBehind {
    /// The input leaves one more thread behind.
    pub(super) fn leaves(&mut self, now: Time) {
        self.threads += 1;
        self.since.get_or_insert(now);
    }

    /// Whether the input may end because of these threads. `full_at` is the last moment at which as many
    /// threads of the function were left behind as may be. From then on an input that has left one behind
    /// is not executed again.
    pub(super) fn may_end_it(self, full_at: Option<Time>) -> bool {
        let was_full = self.since.is_some_and(|since| full_at.is_some_and(|at| at >= since));
        self.threads >= LEFT_MAX || was_full
    }
}

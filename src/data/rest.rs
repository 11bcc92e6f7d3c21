//! The rest of a task between two polls, and how a fence uses it.
//!
//! To fence a run, a thread must know how far the executing thread is. A barrier makes that known, and costs
//! an interrupt of that thread's core. A task that waits stands still, so a fence that keeps it at rest needs
//! no barrier. An async container may have thousands of tasks, and nearly all of them wait.
//!
//! ```text
//!             suspends            resumes
//!   runs ────────────────▶ waits ─────────▶ runs
//!                            │
//!                            └── a fence ──▶ halted: the task does not go on
//! ```

use super::sync::{AtomicU32, Ordering};

const RUNS: u32 = 0;
const WAITS: u32 = 1;
const HALTED: u32 = 2;

/// Whether the task that executes a run waits. A run without a task never waits.
#[derive(Debug)]
pub(super) struct Rest(AtomicU32);

impl Rest {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(RUNS))
    }

    /// The task begins to wait. A fence then sees all that the task has done.
    pub(super) fn begins(&self) {
        // Only the task leaves `RUNS`, and `HALTED` is for ever.
        if self.0.load(Ordering::Relaxed) == RUNS {
            self.0.store(WAITS, Ordering::Release);
        }
    }

    /// The task goes on. Returns `false` if a fence has halted it.
    pub(super) fn ends(&self) -> bool {
        self.0.compare_exchange(WAITS, RUNS, Ordering::AcqRel, Ordering::Acquire) != Err(HALTED)
    }

    /// Keeps the task at rest for ever, if it waits. Returns `false` if it does not wait.
    pub(super) fn halt(&self) -> bool {
        let halted = self.0.compare_exchange(WAITS, HALTED, Ordering::AcqRel, Ordering::Acquire);
        matches!(halted, Ok(_) | Err(HALTED))
    }

    /// Whether the task waits, or was halted when it did.
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst) != RUNS
    }
}

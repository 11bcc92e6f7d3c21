//! The settings of a function: validated, plain, and never changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::contain::drops::Stack;
use crate::contain::unwind::PanicHook;
use crate::data::shape::Shape;
use crate::decide::ledger::Rules;
use crate::engine::body::Code;
use crate::engine::viewers::Viewers;

/// The settings of one running function.
pub(crate) struct Settings {
    pub(crate) app: Arc<str>,
    pub(crate) function: Arc<str>,
    /// Distinguishes functions of the process.
    pub(crate) id: u64,
    pub(crate) rules: Rules,
    /// The types of the function's inputs and outcomes.
    pub(crate) shape: &'static Shape,
    /// The user's code.
    pub(crate) code: Arc<dyn Code>,
    pub(crate) exit_timeout: Duration,
    /// Whether a worker lives on whose execution was interrupted.
    pub(crate) keep_interrupted: bool,
    pub(crate) stack_bytes: usize,
    pub(crate) panic_hook: PanicHook,
    pub(crate) memory: MemoryRules,
    pub(crate) viewers: Arc<Viewers>,
}

impl Settings {
    /// The stack size that the drops of the function's values may need.
    pub(crate) fn stack(&self) -> Stack {
        Stack::of(self.stack_bytes)
    }
}

/// The limits on the memory that containers use, and on the threads that they leave behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryRules {
    /// Whether the allocations of containers are counted by an accountant.
    pub(crate) accounted: bool,
    pub(crate) limit: Option<u64>,
    /// How many bytes earlier attempts may have left in a container before the container is recycled.
    pub(crate) recycle_above: Option<u64>,
    /// While this many threads are abandoned, no container is created.
    pub(crate) abandoned_max: usize,
    /// While abandoned threads use this many bytes, an input that might abandon another thread is not
    /// replayed.
    pub(crate) abandoned_bytes_max: Option<u64>,
}

/// A number that no other function of the process has.
pub(crate) fn next_function_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//! What a function was started with: validated, plain, and never changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::contain::drops::Stack;
use crate::contain::unwind::PanicHook;
use crate::data::shape::Shape;
use crate::decide::ledger::Rules;
use crate::engine::body::Code;

/// The settings of one running function.
pub(crate) struct Settings {
    pub(crate) app: Arc<str>,
    pub(crate) function: Arc<str>,
    /// Distinguishes functions of the process.
    pub(crate) id: u64,
    pub(crate) rules: Rules,
    /// The types of its inputs and outcomes.
    pub(crate) shape: &'static Shape,
    /// The user's code.
    pub(crate) code: Arc<dyn Code>,
    pub(crate) exit_timeout: Duration,
    pub(crate) stack_bytes: usize,
    pub(crate) panic_hook: PanicHook,
    pub(crate) memory: MemoryRules,
}

impl Settings {
    /// The stack that drops of the function's values may need.
    pub(crate) fn stack(&self) -> Stack {
        Stack::of(self.stack_bytes)
    }
}

/// What containers may hold in memory, and may leave behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryRules {
    /// Whether what they allocate passes an accountant.
    pub(crate) accounted: bool,
    pub(crate) limit: Option<u64>,
    /// What earlier attempts may have left before a container is made anew.
    pub(crate) recycle_above: Option<u64>,
    /// With so many threads left behind no container is created.
    pub(crate) abandoned_max: usize,
    /// With so many bytes that they use nothing is replayed that might leave one more.
    pub(crate) abandoned_bytes_max: Option<u64>,
}

/// A number no other function of the process has.
pub(crate) fn next_function_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//! What a function was started with: validated, plain, and never changed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::decide::ledger::Rules;
use crate::engine::body::Body;
use crate::engine::drops::{Elsewhere, Stack};
use crate::engine::unwind::PanicHook;

/// Decides whether an error is worth a retry.
pub(crate) type RetryIf<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// Shows an error: its `Debug`.
pub(crate) type ShowError<E> = fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result;

/// The settings of one running function.
pub(crate) struct Settings<I, O, E> {
    pub(crate) app: Arc<str>,
    pub(crate) function: Arc<str>,
    /// Distinguishes functions of the process.
    pub(crate) id: u64,
    pub(crate) rules: Rules,
    pub(crate) retry_if: Option<Elsewhere<RetryIf<E>>>,
    /// Shows an error in the log.
    pub(crate) show_error: ShowError<E>,
    pub(crate) body: Elsewhere<Box<dyn Body<I, O, E>>>,
    pub(crate) exit_timeout: Duration,
    pub(crate) stack_bytes: usize,
    pub(crate) panic_hook: PanicHook,
    pub(crate) memory: MemoryRules,
    /// Who makes tasks of what would be threads, where the function is only rehearsed.
    #[cfg(feature = "testkit")]
    pub(crate) rehearsed: Option<Arc<dyn crate::testkit::Performs<I, O, E>>>,
}

impl<I, O, E> Settings<I, O, E> {
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

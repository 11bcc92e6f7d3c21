//! What a function was started with: validated, plain, and never changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::decide::ledger::Rules;
use crate::engine::body::Body;
use crate::engine::unwind::{Elsewhere, PanicHook};

/// Decides whether an error is worth a retry.
pub(crate) type RetryIf<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// The settings of one running function.
pub(crate) struct Settings<I, O, E> {
    pub(crate) app: Arc<str>,
    pub(crate) function: Arc<str>,
    /// Distinguishes functions of the process.
    pub(crate) id: u64,
    pub(crate) rules: Rules,
    pub(crate) retry_if: Option<Elsewhere<RetryIf<E>>>,
    pub(crate) body: Elsewhere<Box<dyn Body<I, O, E>>>,
    pub(crate) exit_timeout: Duration,
    pub(crate) stack_bytes: usize,
    pub(crate) panic_hook: PanicHook,
}

/// A number no other function of the process has.
pub(crate) fn next_function_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

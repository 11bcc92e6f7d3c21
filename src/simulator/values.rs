//! The values of a simulated function. Each knows its origin, and is counted until it is dropped.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::base::ids::{ContainerId, Generation};
use crate::engine::dispatch::Dispatch;
use crate::values::crash::Panic;

/// Counts the living values of one world, and notices a value that is dropped under the lock.
#[derive(Default)]
pub(super) struct Witness {
    alive: AtomicI64,
    /// Whether a value was dropped under the lock. The world asserts this later, because a panic in a drop is
    /// contained.
    under_lock: AtomicBool,
    engine: OnceLock<Weak<Dispatch>>,
}

impl Witness {
    pub(super) fn watch(&self, engine: &Arc<Dispatch>) {
        assert!(self.engine.set(Arc::downgrade(engine)).is_ok(), "a world has one engine");
    }

    /// Whether a value was dropped while a thread held the lock.
    pub(super) fn dropped_under_lock(&self) -> bool {
        self.under_lock.load(Ordering::Relaxed)
    }

    /// The number of values that are not dropped. It is negative if a value was dropped twice.
    pub(super) fn alive(&self) -> i64 {
        self.alive.load(Ordering::Relaxed)
    }
}

/// A value that the witness counts.
struct CountedValue(Arc<Witness>);

impl std::fmt::Debug for CountedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountedValue")
    }
}

impl CountedValue {
    fn new(witness: &Arc<Witness>) -> Self {
        witness.alive.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(witness))
    }
}

impl Drop for CountedValue {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
        let engine = self.0.engine.get().and_then(Weak::upgrade);
        let locked = engine.is_some_and(|engine| engine.is_locked());
        self.0.under_lock.fetch_or(locked && !std::thread::panicking(), Ordering::Relaxed);
    }
}

/// An input, with its source and its index.
pub(super) struct SimInput {
    pub(super) tag: u64,
    pub(super) index: u64,
    _counted: CountedValue,
}

impl SimInput {
    pub(super) fn new(tag: u64, index: u64, witness: &Arc<Witness>) -> Self {
        Self { tag, index, _counted: CountedValue::new(witness) }
    }
}

/// An output, with the execution that gave it.
pub(super) struct SimOutput {
    pub(super) tag: u64,
    pub(super) index: u64,
    pub(super) attempt: u32,
    pub(super) by: (ContainerId, Generation),
    _counted: CountedValue,
}

impl SimOutput {
    pub(super) fn to(
        ticket: &SimInput,
        attempt: u32,
        by: (ContainerId, Generation),
        witness: &Arc<Witness>,
    ) -> Self {
        Self { tag: ticket.tag, index: ticket.index, attempt, by, _counted: CountedValue::new(witness) }
    }
}

/// An error, with the attempt that gave it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) attempt: u32,
    _counted: CountedValue,
}

impl Refusal {
    pub(super) fn new(attempt: u32, witness: &Arc<Witness>) -> Self {
        Self { attempt, _counted: CountedValue::new(witness) }
    }
}

/// The panic of simulated code.
pub(super) fn panic() -> Panic {
    Panic { message: "a simulated panic".to_owned(), location: None }
}

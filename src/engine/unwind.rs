//! The one unwind boundary of the crate, and the panic hook that belongs to it.
//!
//! User code runs inside [`contain`]. A panic there is caught, its message and location are kept,
//! and the application's panic hook does not hear of it unless asked to. Panics elsewhere reach
//! the application's hook untouched. Only a panic during unwinding cannot be contained.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};

use parking_lot::Mutex;

use crate::crash::Panic;
use crate::memory::till::Inside;

/// Whether the application's panic hook hears of panics in containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PanicHook {
    /// It does not: a container's panic is a `tracing` event and part of the typed cause.
    #[default]
    Silent,
    /// It does, after the engine has taken message and location.
    Forward,
}

thread_local! {
    /// How many boundaries this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Set once by the thread of a container.
    static HOOK: Cell<PanicHook> = const { Cell::new(PanicHook::Silent) };
    /// Where the panic that unwinds now was raised; written by the hook, taken by `contain`.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Chains the engine's hook in front of the application's, once for the process.
///
/// # Panics
///
/// If the thread is panicking, which callers check before.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let application = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return application(info);
            }
            let _outside = Inside::process(); // what is told of a panic outlives the code
            let location = info.location().map(ToString::to_string);
            LOCATION.with(|slot| *slot.borrow_mut() = location);
            if HOOK.get() == PanicHook::Forward {
                application(info);
            }
        }));
    });
}

/// What this thread's contained panics tell the application's hook from now on.
pub(crate) fn set_thread_hook(hook: PanicHook) {
    HOOK.set(hook);
}

/// Runs user code. A panic in it ends here.
#[expect(clippy::disallowed_methods, reason = "this is the one unwind boundary")]
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    let (result, location) = inside(|| panic::catch_unwind(AssertUnwindSafe(run)));
    result.map_err(|payload| {
        let message = message(payload.as_ref());
        drop_contained(payload);
        Panic { message, location }
    })
}

/// Counts as inside of a boundary meanwhile; also gives where `run` panicked, if it did. That of a panic
/// which unwinds already, with `run` called in a drop, is kept for the boundary further out.
fn inside<T>(run: impl FnOnce() -> T) -> (T, Option<String>) {
    let outer = LOCATION.take();
    DEPTH.set(DEPTH.get() + 1);
    let result = run();
    DEPTH.set(DEPTH.get() - 1);
    (result, LOCATION.replace(outer))
}

fn message(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "(a payload that is no text)".to_owned(),
    }
}

/// Drops a user's value. A panic in its `Drop` ends here, as an event.
pub(crate) fn drop_contained<T>(value: T) {
    if mem::needs_drop::<T>() {
        contain_drop(|| drop(value));
    }
}

/// Does what drops a user's value, where it cannot be moved. A panic ends here, as an event.
pub(crate) fn contain_drop(drops: impl FnOnce()) {
    #[expect(clippy::disallowed_methods, reason = "this is the one unwind boundary")]
    let (result, _) = inside(|| panic::catch_unwind(AssertUnwindSafe(drops)));
    if let Err(payload) = result {
        tell(|| tracing::warn!(message = message(payload.as_ref()), "a value panicked in its drop"));
        // The payload of a drop may itself panic when dropped, without end; leaking it is finite.
        mem::forget(payload);
    }
}

/// Tells a `tracing` subscriber or a waker, which are the user's code: if one panics, nothing else does.
pub(crate) fn tell(event: impl FnOnce()) {
    let _outside = Inside::process(); // it is not the container's code
    drop(contain(event));
}

/// Does what follows from a change on a thread of its own, because it may block and the caller must not.
pub(crate) fn settle_elsewhere(settle: impl FnOnce() + Send + 'static) {
    if cfg!(test) {
        return settle(); // the simulator lives in one thread
    }
    // Without a thread it is not done at all, and the next who takes the lock has nothing of it: so it is done here.
    let settle = Arc::new(Mutex::new(Some(settle)));
    let there = Arc::clone(&settle);
    let made = std::thread::Builder::new().name("longshore/settle".to_owned()).spawn(move || {
        let settle = there.lock().take();
        settle.into_iter().for_each(|settle| settle());
    });
    if made.is_err() {
        let left = settle.lock().take();
        left.into_iter().for_each(|settle| settle());
    }
}

/// Drops users' values on a thread of their own, because their drops may block.
pub(crate) fn drop_elsewhere<T: Send + 'static>(values: T) {
    let values = Contained::new(values);
    if cfg!(test) || is_one_thread_for_all() {
        return drop(values); // who simulates or rehearses counts what is left
    }
    // Without a thread the closure comes back inside the error, and the values are dropped here.
    drop(std::thread::Builder::new().name("longshore/drop".to_owned()).spawn(move || drop(values)));
}

#[cfg(feature = "testkit")]
thread_local! {
    static ONE_FOR_ALL: Cell<bool> = const { Cell::new(false) };
}

/// This thread is a rehearsal's, on which everything happens that does happen.
#[cfg(feature = "testkit")]
pub(crate) fn set_one_thread_for_all() {
    ONE_FOR_ALL.set(true);
}

fn is_one_thread_for_all() -> bool {
    #[cfg(feature = "testkit")]
    return ONE_FOR_ALL.get();
    #[cfg(not(feature = "testkit"))]
    false
}

/// A user's value that is dropped inside the boundary, wherever its owner is dropped.
#[derive(Debug)]
pub(crate) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("taken only here and by drop")
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only by value")
    }

    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("taken only by value")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_contained(value);
        }
    }
}

/// Users' values that are dropped one by one inside the boundary: of one vector, two that panic in their drop would
/// take the process with them.
#[derive(Debug)]
pub(crate) struct ContainedEach<T>(Vec<T>);

impl<T> ContainedEach<T> {
    pub(crate) fn new(values: Vec<T>) -> Self {
        Self(values)
    }

    pub(crate) fn push(&mut self, value: T) {
        self.0.push(value);
    }

    pub(crate) fn into_inner(mut self) -> Vec<T> {
        mem::take(&mut self.0)
    }
}

impl<T> Drop for ContainedEach<T> {
    fn drop(&mut self) {
        mem::take(&mut self.0).into_iter().for_each(drop_contained);
    }
}

/// A user's value that is dropped on a thread of its own, wherever its owner is dropped, because its
/// drop may block.
pub(crate) struct Elsewhere<T> {
    value: Option<T>,
    drop: fn(T),
}

impl<T> Elsewhere<T> {
    /// `holds_values` says whether there is anything to drop: if not, no thread is made for it.
    pub(crate) fn new(value: T, holds_values: bool) -> Self
    where
        T: Send + 'static,
    {
        Self { value: Some(value), drop: if holds_values { drop_elsewhere } else { drop_contained } }
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.value.take().expect("taken only here and by drop")
    }

    pub(crate) fn get(&self) -> &T {
        self.value.as_ref().expect("taken only by value")
    }
}

impl<T> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.drop)(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn message_and_location_are_kept_and_nesting_is_fine() {
        install_hook();
        let outer = contain::<()>(|| {
            let inner = contain::<()>(|| panic!("inner {}", 1)).expect_err("it panicked");
            assert_eq!(inner.message(), "inner 1");
            panic!("outer");
        });
        let panic = outer.expect_err("it panicked");
        assert_eq!(panic.message(), "outer");
        assert!(panic.location().is_some_and(|at| at.contains("unwind.rs")));
    }

    #[test]
    fn a_panic_that_unwinds_through_boundaries_in_drops_keeps_its_place() {
        struct Contains;
        impl Drop for Contains {
            fn drop(&mut self) {
                contain(|| ()).expect("it does not panic");
                contain::<()>(|| panic!("inner")).expect_err("it panics");
                drop_contained(Bomb);
            }
        }
        install_hook();
        let panic = contain::<()>(|| {
            let _contains = Contains;
            panic!("outer");
        });
        let panic = panic.expect_err("it panicked");
        assert_eq!(panic.message(), "outer");
        let line = panic.location().and_then(|at| at.split(':').nth(1)?.parse().ok());
        assert_eq!(line, Some(line!() - 5));
    }

    #[test]
    fn payloads_and_values_that_panic_in_their_drop_end_here() {
        install_hook();
        let panic = contain::<()>(|| panic::panic_any(Bomb)).expect_err("it panicked");
        assert_eq!(panic.message(), "(a payload that is no text)");
        drop_contained(vec![Bomb]);
        drop(Contained::new(Bomb));
        drop(ContainedEach::new(vec![Bomb, Bomb, Bomb]));
    }
}

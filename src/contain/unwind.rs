//! The one unwind boundary of the crate, and the panic hook that belongs to it.
//!
//! User code runs inside [`contain`]. A panic there is caught, its message and location are kept, and the
//! application's panic hook does not hear of it unless the user asks for that. A panic elsewhere reaches the
//! application's hook unchanged. So does a panic of a task that was spawned inside a container: it reaches no
//! boundary, because tokio catches it first. Only a panic during unwinding cannot be contained.
//!
//! A panic that is raised again (`resume_unwind`) bypasses the hook, and so its location is not known. The
//! hook remembers the payload of the panic that it has seen. If the user's code caught a panic itself, the
//! location of that panic is then not attributed to another one.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::mem;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Once, OnceLock};

use crate::contain::TARGET;
use crate::contain::panic::Panic;
use crate::contain::spawned;
use crate::memory::local_charge::ChargeGuard;

/// Whether the application's panic hook hears of panics in containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PanicHook {
    /// The hook does not hear of them. A container's panic is a `tracing` event and part of the typed cause.
    #[default]
    Silent,
    /// The hook hears of them, after the engine has taken the message and the location.
    Forward,
}

thread_local! {
    /// The number of boundaries that this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The setting of this thread. The thread of a container sets it once.
    static HOOK: Cell<PanicHook> = const { Cell::new(PanicHook::Silent) };
    /// Whether a panic now would be one of a spawned task, which reaches no boundary.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    /// The last panic that the hook has seen inside of the innermost boundary. The hook writes it,
    /// and `contain` takes it.
    static SEEN: Cell<Option<Box<Seen>>> = const { Cell::new(None) };
}

/// The run and the input that a container executes, as numbers to be compared. On all other threads the
/// numbers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moment((u64, u64));

impl Moment {
    pub(crate) fn of(run_and_input: (u64, u64)) -> Self {
        Self(run_and_input)
    }
}

/// The function that returns what the calling thread executes. Set together with the hook.
static MOMENT: OnceLock<fn() -> Moment> = OnceLock::new();

fn moment() -> Moment {
    MOMENT.get().map_or_else(Moment::default, |moment| moment())
}

/// A panic as the hook has seen it.
struct Seen {
    location: String,
    payload: Likeness,
    /// What the container executed at that time.
    moment: Moment,
}

/// The features by which a payload is recognised. A text is recognised by its type and its address: when the
/// payload is moved into its box, the text stays where it is. For any other payload only the type is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Likeness(TypeId, Option<(usize, usize)>);

impl Likeness {
    fn of(payload: &(dyn Any + Send)) -> Self {
        Self(payload.type_id(), text(payload).map(|text| (text.as_ptr() as usize, text.len())))
    }
}

/// Chains the engine's hook in front of the application's, once for the process. `moment` returns what the
/// calling thread executes.
///
/// # Panics
///
/// If the thread is panicking. Callers check that before.
pub(crate) fn install_hook(moment: fn() -> Moment) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        MOMENT.get_or_init(|| moment);
        let application = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let in_task = IN_TASK.get();
            if DEPTH.get() == 0 && !in_task {
                return application(info);
            }
            let _outside = ChargeGuard::process(); // the record of a panic outlives the container's code
            if in_task {
                spawned::panicked(panic_of(info));
            } else {
                see(info);
            }
            if in_task || HOOK.get() == PanicHook::Forward {
                application(info);
            }
        }));
    });
}

/// Records a panic that the hook has seen. A boundary will catch it, unless the user's code does.
fn see(info: &PanicHookInfo<'_>) {
    let seen = info.location().map(|location| {
        let (location, payload) = (location.to_string(), Likeness::of(info.payload()));
        Box::new(Seen { location, payload, moment: moment() })
    });
    drop(replace_seen(seen));
}

fn panic_of(info: &PanicHookInfo<'_>) -> Panic {
    Panic { message: message(info.payload()), location: info.location().map(ToString::to_string) }
}

/// Replaces the recorded panic. Late in the end of a thread nothing is recorded any more.
fn replace_seen(seen: Option<Box<Seen>>) -> Option<Box<Seen>> {
    SEEN.try_with(|slot| slot.replace(seen)).ok().flatten()
}

/// Sets whether the application's hook hears of this thread's contained panics.
pub(crate) fn set_thread_hook(hook: PanicHook) {
    HOOK.set(hook);
}

/// Sets whether panics on this thread are those of spawned tasks, until the returned value is dropped.
pub(crate) fn in_task(in_task: bool) -> InTask {
    InTask(IN_TASK.replace(in_task))
}

/// When this is dropped, the thread's setting is restored.
#[must_use = "it ends where it is dropped"]
pub(crate) struct InTask(bool);

impl Drop for InTask {
    fn drop(&mut self) {
        IN_TASK.set(self.0);
    }
}

/// Whether this thread runs a spawned task.
pub(crate) fn is_in_task() -> bool {
    IN_TASK.get()
}

/// Runs user code. A panic in it ends here.
#[inline]
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    let (mut run, mut result) = (Some(run), None);
    let panic = contained(&mut || {
        if let Some(run) = run.take() {
            result = Some(run());
        }
    });
    match panic {
        None => Ok(result.expect("a closure that did not panic has returned")),
        Some(panic) => Err(panic),
    }
}

/// [`contain`], compiled once.
fn contained(run: &mut dyn FnMut()) -> Option<Panic> {
    let (payload, seen) = caught(run)?;
    let message = message(payload.as_ref());
    // The recorded panic may be an older one, if this panic was raised again past the hook.
    let its_own = |seen: &Seen| seen.payload == Likeness::of(payload.as_ref()) && seen.moment == moment();
    let location = seen.filter(|seen| its_own(seen)).map(|seen| seen.location);
    drop_contained(payload);
    Some(Panic { message, location })
}

/// The payload of a panic that was caught, and the last one that the hook has seen inside of the boundary.
type Caught = (Box<dyn Any + Send>, Option<Box<Seen>>);

/// Runs code inside of a boundary. If `run` is called in a drop during unwinding, the hook has already
/// recorded the panic that unwinds. That record is kept for the outer boundary.
#[expect(clippy::disallowed_methods, reason = "this is the one unwind boundary")]
fn caught(run: &mut dyn FnMut()) -> Option<Caught> {
    let (outer, _own) = (replace_seen(None), in_task(false));
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    DEPTH.set(DEPTH.get() - 1);
    let seen = replace_seen(outer);
    result.err().map(|payload| (payload, seen))
}

fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

fn message(payload: &(dyn Any + Send)) -> String {
    text(payload).unwrap_or("(a payload that is not text)").to_owned()
}

/// Drops a user's value. A panic in its `Drop` ends here, as an event.
#[inline]
pub(crate) fn drop_contained<T>(value: T) {
    if mem::needs_drop::<T>() {
        let mut value = Some(value);
        dropped(&mut || drop(value.take()));
    }
}

/// Runs code that drops a user's value which cannot be moved. A panic in it ends here, as an event.
#[inline]
pub(crate) fn contain_drop(drops: impl FnOnce()) {
    let mut drops = Some(drops);
    dropped(&mut || {
        if let Some(drops) = drops.take() {
            drops();
        }
    });
}

/// [`contain_drop`], compiled once.
fn dropped(drops: &mut dyn FnMut()) {
    if let Some((payload, _)) = caught(drops) {
        ignore_panic(
            || tracing::warn!(target: TARGET, message = message(payload.as_ref()), "a value panicked in its drop"),
        );
        // Dropping this payload may panic with another payload, and so on without end. Leaking it ends that.
        mem::forget(payload);
    }
}

/// Calls a `tracing` subscriber or a waker, which are the user's code. A panic in it ends here
/// and has no other effect.
#[inline]
pub(crate) fn ignore_panic(event: impl FnOnce()) {
    let _outside = ChargeGuard::process(); // the subscriber's memory is not charged to the container
    drop(contain(event));
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

/// Users' values that are dropped one by one inside the boundary. If a vector dropped them, two panics in
/// their drops would end the process.
#[derive(Debug)]
pub(super) struct ContainedEach<T>(Vec<T>);

impl<T> ContainedEach<T> {
    pub(crate) fn new(values: Vec<T>) -> Self {
        Self(values)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Drop for ContainedEach<T> {
    fn drop(&mut self) {
        mem::take(&mut self.0).into_iter().for_each(drop_contained);
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
    fn message_and_location_are_kept_also_where_boundaries_are_nested() {
        install_hook(Moment::default);
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
    fn a_panic_that_unwinds_through_boundaries_in_drops_keeps_its_location() {
        struct Contains;
        impl Drop for Contains {
            fn drop(&mut self) {
                contain(|| ()).expect("it does not panic");
                contain::<()>(|| panic!("inner")).expect_err("it panics");
                drop_contained(Bomb);
            }
        }
        install_hook(Moment::default);
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
        install_hook(Moment::default);
        let panic = contain::<()>(|| panic::panic_any(Bomb)).expect_err("it panicked");
        assert_eq!(panic.message(), "(a payload that is not text)");
        drop_contained(vec![Bomb]);
        drop(Contained::new(Bomb));
        drop(ContainedEach::new(vec![Bomb, Bomb, Bomb]));
    }
}

//! Where users' values are dropped that must not be dropped where they are: their drops may block, and may need the
//! stack of their function.
//!
//! A process has one [`Crew`] for drops. Subscribers of what the watch has killed are told by another one, so that they
//! do not wait behind users' drops. A value is dropped inside the unwind boundary wherever that is.

#[cfg(any(test, feature = "testkit"))]
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::contain::crew::{Crew, Job};
use crate::contain::thread_end::is_at_its_end;
use crate::contain::unwind::{Contained, ContainedEach, contain_drop, drop_contained};

/// The stack of each container of a function, unless the user has set another.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// The smallest stack on which users' values are dropped: that of a thread whose stack nobody has set.
const STACK_BYTES_MIN: usize = 2 << 20;

/// The threads that drop users' values.
static DROPS: Crew = Crew::new("longshore/drop");

/// The threads that settle what the watch has changed.
static SETTLES: Crew = Crew::new("longshore/settle");

/// Of each function what is still to be settled, in order. A function is in it while one thread settles for it.
static SETTLING: Mutex<BTreeMap<u64, VecDeque<Job>>> = Mutex::new(BTreeMap::new());

/// The largest stack of a function that was started so far, in bytes.
static LARGEST: AtomicUsize = AtomicUsize::new(STACK_BYTES);

/// The stack that drops of a function's values may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack(usize);

impl Stack {
    /// That of a function whose containers have so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self(bytes.max(STACK_BYTES_MIN))
    }

    /// That of a function which is not known yet, for a value that is on its way there.
    pub(crate) fn of_any() -> Self {
        Self(LARGEST.load(Ordering::Relaxed))
    }

    /// A function with that stack is started.
    pub(crate) fn begins(self) {
        LARGEST.fetch_max(self.0, Ordering::Relaxed);
    }

    pub(crate) fn bytes(self) -> usize {
        self.0
    }

    /// Whether it is larger than the stack that an application's thread may be expected to have.
    pub(crate) fn is_deep(self) -> bool {
        self.0 > STACK_BYTES
    }
}

/// Drops users' values on a thread with that stack, because their drops may block and may need it. Where no thread can
/// be made, they are dropped here.
pub(crate) fn drop_elsewhere<T: Send + 'static>(stack: Stack, values: T) {
    let values = Contained::new(values);
    if is_one_thread_for_all() {
        return drop(values);
    }
    DROPS.push(stack.0, Box::new(move || drop(values)));
}

/// Drops a user's value on this thread, which is the application's: it may block here. Elsewhere, where the user has
/// asked for a larger stack than this thread may have.
pub(crate) fn drop_in_turn<T: Send + 'static>(stack: Stack, value: T) {
    if std::mem::needs_drop::<T>() && stack.is_deep() {
        drop_elsewhere(stack, value);
    } else {
        drop_contained(value);
    }
}

/// Lets go of something of ours, which sends messages and wakes tasks: on another thread, if this one is at its very end.
pub(crate) fn let_go(stack: Stack, let_go: impl FnOnce() + Send + 'static) {
    if !is_one_thread_for_all() && is_at_its_end() {
        DROPS.push(stack.0, Box::new(let_go));
    } else {
        let_go();
    }
}

/// Does what follows from a change on another thread, because it may block and the caller must not: in order for one
/// function, of which `function` is the number. Where no thread can be made, it is done here.
pub(crate) fn settle_elsewhere(function: u64, stack: Stack, settle: impl FnOnce() + Send + 'static) {
    if is_one_thread_for_all() {
        return settle();
    }
    settle_in_turn(function, stack, Box::new(settle));
}

/// The same of what is in no order with anything, and must not wait behind a subscriber.
pub(crate) fn settle_at_once(stack: Stack, settle: impl FnOnce() + Send + 'static) {
    if is_one_thread_for_all() {
        return settle();
    }
    SETTLES.push(stack.0, Box::new(settle));
}

fn settle_in_turn(function: u64, stack: Stack, settle: Job) {
    let mut settling = SETTLING.lock();
    let first = !settling.contains_key(&function);
    settling.entry(function).or_default().push_back(settle);
    drop(settling);
    if first {
        SETTLES.push(stack.0, Box::new(move || settle_next(function, stack)));
    }
}

/// Settles what is next of a function; what comes behind that takes its turn behind other functions.
fn settle_next(function: u64, stack: Stack) {
    let next = SETTLING.lock().get_mut(&function).and_then(VecDeque::pop_front);
    next.into_iter().for_each(contain_drop);
    let mut settling = SETTLING.lock();
    if settling.get(&function).is_some_and(VecDeque::is_empty) {
        settling.remove(&function);
        return;
    }
    drop(settling);
    SETTLES.push(stack.0, Box::new(move || settle_next(function, stack)));
}

#[cfg(any(test, feature = "testkit"))]
thread_local! {
    /// Whether all of that is done on this thread, at once: in a rehearsal and in unit tests, which count what is left.
    static ONE_FOR_ALL: Cell<bool> = const { Cell::new(cfg!(test)) };
}

/// This thread is a rehearsal's, on which everything happens that does happen.
#[cfg(feature = "testkit")]
pub(crate) fn set_one_thread_for_all() {
    ONE_FOR_ALL.set(true);
}

fn is_one_thread_for_all() -> bool {
    #[cfg(any(test, feature = "testkit"))]
    return ONE_FOR_ALL.get();
    #[cfg(not(any(test, feature = "testkit")))]
    false
}

/// A user's value that is dropped on another thread, wherever its owner is dropped, because its drop may block, and may
/// need a larger stack.
pub(crate) struct Elsewhere<T> {
    value: Option<T>,
    stack: Stack,
    drop: fn(Stack, T),
}

impl<T> Elsewhere<T> {
    /// `holds_values` says whether there is anything to drop: if not, no thread is made for it.
    pub(crate) fn new(value: T, stack: Stack, holds_values: bool) -> Self
    where
        T: Send + 'static,
    {
        let drop = if holds_values { drop_elsewhere } else { |_, value| drop_contained(value) };
        Self { value: Some(value), stack, drop }
    }

    /// Its drop may need that stack, as is known by now.
    pub(crate) fn set_stack(&mut self, stack: Stack) {
        self.stack = stack;
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
            (self.drop)(self.stack, value);
        }
    }
}

/// Users' values that are gathered for the caller on its own thread. If it does not get them, they are dropped there
/// one by one, or elsewhere if they may need a larger stack.
pub(crate) struct Gathered<T: Send + 'static> {
    values: Vec<T>,
    stack: Stack,
}

impl<T: Send + 'static> Gathered<T> {
    pub(crate) fn new(values: Vec<T>, stack: Stack) -> Self {
        Self { values, stack }
    }

    pub(crate) fn push(&mut self, value: T) {
        self.values.push(value);
    }

    pub(crate) fn into_inner(mut self) -> Vec<T> {
        std::mem::take(&mut self.values)
    }
}

impl<T: Send + 'static> Drop for Gathered<T> {
    fn drop(&mut self) {
        let values = ContainedEach::new(std::mem::take(&mut self.values));
        if !values.is_empty() {
            drop_in_turn(self.stack, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "the payload of its panic is leaked on purpose")]
    fn what_is_settled_of_one_function_keeps_its_order_and_waits_for_no_other() {
        let stack = Stack::of(0);
        let (open, gate) = channel::<()>();
        settle_in_turn(u64::MAX, stack, Box::new(move || assert!(gate.recv().is_err())));
        let (settled, order) = channel();
        for n in 0..200 {
            let settled = settled.clone();
            // A thread that is overtaken shows it.
            let settle = move || {
                std::thread::yield_now();
                assert!(n != 100, "a subscriber's panic");
                settled.send(n).expect("somebody listens");
            };
            settle_in_turn(u64::MAX - 1, stack, Box::new(settle));
        }
        drop(settled);
        let expected: Vec<u32> = (0..200).filter(|n| *n != 100).collect();
        assert_eq!(order.iter().collect::<Vec<_>>(), expected);
        let (settled, last) = channel();
        settle_in_turn(u64::MAX, stack, Box::new(move || settled.send(()).expect("somebody listens")));
        assert!(last.try_recv().is_err(), "the first is stuck");
        drop(open);
        assert!(last.recv().is_ok());
        while !SETTLING.lock().is_empty() {
            std::thread::yield_now();
        }
    }
}

//! Drops of users' values on other threads, because a drop may block, and may need the stack of its function.
//!
//! A process has one [`BlockingPool`] for drops, and another one that calls subscribers after a kill by the
//! watch, so that subscribers do not wait behind users' drops. On either crew, a value is dropped
//! inside the unwind boundary.

#[cfg(any(test, feature = "testkit"))]
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::contain::blocking_pool::{BlockingPool, BoxedJob};
use crate::contain::thread_end::is_at_its_end;
use crate::contain::unwind::{Contained, ContainedEach, contain_drop, drop_contained};

/// The stack of each container of a function, unless the user has set another size.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// The smallest stack on which users' values are dropped. It is the default stack of a thread.
const STACK_BYTES_MIN: usize = 2 << 20;

/// The threads that drop users' values.
static DROPS: BlockingPool = BlockingPool::new("longshore/drop");

/// The threads that finish what the watch has begun: they call subscribers and wakers.
static DEFERRED: BlockingPool = BlockingPool::new("longshore/deferred");

/// For each function, the jobs that are still to be done, in order. A function has an entry while one
/// thread does its jobs.
static IN_ORDER: Mutex<BTreeMap<u64, VecDeque<BoxedJob>>> = Mutex::new(BTreeMap::new());

/// The largest stack, in bytes, of all functions that were started so far.
static LARGEST: AtomicUsize = AtomicUsize::new(STACK_BYTES);

/// The stack that drops of a function's values may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack(usize);

impl Stack {
    /// The stack of a function whose containers have `bytes` of stack.
    pub(crate) fn of(bytes: usize) -> Self {
        Self(bytes.max(STACK_BYTES_MIN))
    }

    /// A stack that is large enough for every function, for a value whose function is not known yet.
    pub(crate) fn of_any() -> Self {
        Self(LARGEST.load(Ordering::Relaxed))
    }

    /// Records that a function with this stack is started.
    pub(crate) fn begins(self) {
        LARGEST.fetch_max(self.0, Ordering::Relaxed);
    }

    pub(crate) fn bytes(self) -> usize {
        self.0
    }

    /// Whether the stack is larger than the one that a thread of the application can be expected to have.
    pub(super) fn is_deep(self) -> bool {
        self.0 > STACK_BYTES
    }
}

/// Drops users' values on a thread with the given stack, because their drops may block and may need that
/// stack. Where no thread can be made, they are dropped on this thread.
pub(crate) fn defer_drop<T: Send + 'static>(stack: Stack, values: T) {
    let values = Contained::new(values);
    if is_one_thread_for_all() {
        return drop(values);
    }
    DROPS.push(stack.0, Box::new(move || drop(values)));
}

/// Drops a user's value on this thread, which is the application's and may block. If the user has asked for a
/// larger stack than this thread can be expected to have, the value is dropped on another thread.
pub(crate) fn drop_in_turn<T: Send + 'static>(stack: Stack, value: T) {
    if std::mem::needs_drop::<T>() && stack.is_deep() {
        defer_drop(stack, value);
    } else {
        drop_contained(value);
    }
}

/// Drops something of the engine's that sends messages and wakes tasks. This happens on another thread if
/// this thread is at its very end.
pub(crate) fn let_go(stack: Stack, let_go: impl FnOnce() + Send + 'static) {
    if !is_one_thread_for_all() && is_at_its_end() {
        DROPS.push(stack.0, Box::new(let_go));
    } else {
        let_go();
    }
}

/// Does on another thread what follows from a change, because it may block and the caller must not. The jobs
/// of one function, which has the number `function`, are done in order. Where no thread can be made, the
/// caller's thread does the job.
pub(crate) fn defer_in_order(function: u64, stack: Stack, work: impl FnOnce() + Send + 'static) {
    if is_one_thread_for_all() {
        return work();
    }
    push_in_order(function, stack, Box::new(work));
}

/// Does a job on another thread that has no order with other jobs, and that must not
/// wait behind a subscriber.
pub(crate) fn defer(stack: Stack, work: impl FnOnce() + Send + 'static) {
    if is_one_thread_for_all() {
        return work();
    }
    DEFERRED.push(stack.0, Box::new(work));
}

fn push_in_order(function: u64, stack: Stack, work: BoxedJob) {
    let mut in_order = IN_ORDER.lock();
    let first = !in_order.contains_key(&function);
    in_order.entry(function).or_default().push_back(work);
    drop(in_order);
    if first {
        DEFERRED.push(stack.0, Box::new(move || run_next(function, stack)));
    }
}

/// Does the next job of a function. The job after it waits its turn behind other functions.
fn run_next(function: u64, stack: Stack) {
    let next = IN_ORDER.lock().get_mut(&function).and_then(VecDeque::pop_front);
    next.into_iter().for_each(contain_drop);
    let mut in_order = IN_ORDER.lock();
    if in_order.get(&function).is_some_and(VecDeque::is_empty) {
        in_order.remove(&function);
        return;
    }
    drop(in_order);
    DEFERRED.push(stack.0, Box::new(move || run_next(function, stack)));
}

#[cfg(any(test, feature = "testkit"))]
thread_local! {
    /// Whether this thread does all drops and jobs at once and by itself. It does so in a rehearsal and in
    /// unit tests, because they count what is left.
    static ONE_FOR_ALL: Cell<bool> = const { Cell::new(cfg!(test)) };
}

/// Declares this thread the only thread of a rehearsal, on which everything happens.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn set_one_thread_for_all() {
    ONE_FOR_ALL.set(true);
}

fn is_one_thread_for_all() -> bool {
    #[cfg(any(test, feature = "testkit"))]
    return ONE_FOR_ALL.get();
    #[cfg(not(any(test, feature = "testkit")))]
    false
}

/// A user's value that is dropped on another thread, wherever its owner is dropped, because its drop may
/// block and may need a larger stack.
pub(crate) struct DeferDrop<T> {
    value: Option<T>,
    stack: Stack,
    drop: fn(Stack, T),
}

impl<T> DeferDrop<T> {
    /// `holds_values` is `false` if there is nothing to drop. No thread is made then.
    pub(crate) fn new(value: T, stack: Stack, holds_values: bool) -> Self
    where
        T: Send + 'static,
    {
        let drop = if holds_values { defer_drop } else { |_, value| drop_contained(value) };
        Self { value: Some(value), stack, drop }
    }

    /// Sets the stack that the drop may need, once it is known.
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

impl<T> Drop for DeferDrop<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.drop)(self.stack, value);
        }
    }
}

/// Users' values that are gathered for the caller on its own thread. If the caller does not get them, they
/// are dropped on that thread one by one, or on another thread if they may need a larger stack.
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
    fn jobs_of_one_function_keep_their_order_and_wait_for_no_other_function() {
        let stack = Stack::of(0);
        let (open, gate) = channel::<()>();
        push_in_order(u64::MAX, stack, Box::new(move || assert!(gate.recv().is_err())));
        let (done, order) = channel();
        for n in 0..200 {
            let done = done.clone();
            // The yield gives another thread the chance to overtake, which would show in the order.
            let work = move || {
                std::thread::yield_now();
                assert!(n != 100, "a subscriber's panic");
                done.send(n).expect("the receiver is alive");
            };
            push_in_order(u64::MAX - 1, stack, Box::new(work));
        }
        drop(done);
        let expected: Vec<u32> = (0..200).filter(|n| *n != 100).collect();
        assert_eq!(order.iter().collect::<Vec<_>>(), expected);
        let (done, last) = channel();
        push_in_order(u64::MAX, stack, Box::new(move || done.send(()).expect("the receiver is alive")));
        assert!(last.try_recv().is_err(), "the first job of that function is stuck");
        drop(open);
        assert!(last.recv().is_ok());
        while !IN_ORDER.lock().is_empty() {
            std::thread::yield_now();
        }
    }
}

//! Waiting for an answer on a thread that has no runtime, or must not use the one it has.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::decide::patience::Patience;

thread_local! {
    /// The experience of this thread with yields before it sleeps.
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::NEW) };
}

/// Wakes a thread that waits for a future.
struct Unpark {
    thread: Thread,
    /// Whether the future is to be polled again. Other code that parks the thread between the poll and the
    /// wait, such as a subscriber or the drop of a value, could use up an unpark alone.
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Unpark {
    /// Yields once before the thread sleeps, unless that has cost this thread more than it gained.
    #[expect(clippy::disallowed_methods, reason = "measures how long the core was given away")]
    fn yield_for_it(&self) {
        let mut patience = PATIENCE.get();
        if patience.yields() {
            let begun = Instant::now();
            thread::yield_now();
            patience.has_yielded(self.woken.load(Ordering::SeqCst), begun.elapsed());
        }
        PATIENCE.set(patience);
    }
}

/// Blocks the thread until the future is ready.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    wait_while(future, || Duration::MAX).expect("there is always time left")
}

/// Blocks the thread until the future is ready, or until `left` says that no time is left. The future is
/// polled once more then.
pub(crate) fn wait_while<F: Future>(future: F, left: impl Fn() -> Duration) -> Option<F::Output> {
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let mut has_yielded = false;
    loop {
        let time_left = left();
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if time_left.is_zero() {
            return None;
        }
        let is_there = unpark.woken.load(Ordering::SeqCst);
        if !is_there && !std::mem::replace(&mut has_yielded, true) {
            unpark.yield_for_it();
        }
        while !unpark.woken.swap(false, Ordering::SeqCst) {
            match left() {
                Duration::ZERO => break,
                Duration::MAX => thread::park(),
                left => thread::park_timeout(left),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_wake_up_is_kept_although_other_code_uses_the_unpark_up() {
        let mut polls = 0;
        let output = wait(poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(polls);
            }
            cx.waker().wake_by_ref();
            thread::park(); // uses the unpark up
            Poll::Pending
        }));
        assert_eq!(output, 2);
    }

    #[test]
    fn what_is_ready_when_the_time_is_over_is_taken() {
        assert_eq!(wait_while(std::future::ready(1), || Duration::ZERO), Some(1));
        assert_eq!(wait_while(std::future::pending::<u8>(), || Duration::ZERO), None);
        let asked = std::cell::Cell::new(0);
        let left = || {
            asked.set(asked.get() + 1);
            if asked.get() < 4 { Duration::from_nanos(1) } else { Duration::ZERO }
        };
        let mut polls = 0;
        let output = wait_while(
            poll_fn(|_| {
                polls += 1;
                if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
            }),
            left,
        );
        assert_eq!(output, Some(2), "it is looked at once more at the end");
    }
}

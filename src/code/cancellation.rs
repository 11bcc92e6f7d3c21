//! How code learns that the execution is cancelled that has started it: tasks that it has spawned, helper
//! threads, and what it awaits.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use parking_lot::Mutex;

use crate::code::token::Token;

/// The futures that wait for the cancellation of the executions of one token.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    /// The number of the current execution. Written under the function's lock.
    execution: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    tickets: u64,
    /// The futures by their tickets, each with the number of the execution that has made it.
    all: BTreeMap<u64, (u64, Arc<Waiter>)>,
}

/// One future that waits.
#[derive(Debug, Default)]
struct Waiter {
    is_cancelled: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Cancellations {
    /// The current execution is over, and the next one is another.
    pub(crate) fn next_execution(&self) {
        let next = self.execution.load(Ordering::Relaxed) + 1;
        self.execution.store(next, Ordering::Relaxed);
    }

    /// Cancels the current execution. The caller wakes the wakers with the function's lock released, because
    /// they are the user's code.
    pub(crate) fn cancel(&self, wakers: &mut Vec<Waker>) {
        let current = self.execution.load(Ordering::Relaxed);
        self.end(|execution| execution == current, wakers);
    }

    /// Cancels everything, because the generation is over.
    pub(crate) fn cancel_all(&self, wakers: &mut Vec<Waker>) {
        self.end(|_| true, wakers);
    }

    fn end(&self, is_meant: impl Fn(u64) -> bool, wakers: &mut Vec<Waker>) {
        self.waiting.lock().all.retain(|_, (execution, waiter)| {
            let stays = !is_meant(*execution);
            if !stays {
                waiter.is_cancelled.store(true, Ordering::Release);
                wakers.extend(waiter.waker.lock().take());
            }
            stays
        });
    }

    fn add(&self) -> (u64, Arc<Waiter>) {
        let execution = self.execution.load(Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        let ticket = waiting.tickets;
        waiting.tickets += 1;
        let waiter = Arc::<Waiter>::default();
        waiting.all.insert(ticket, (execution, Arc::clone(&waiter)));
        (ticket, waiter)
    }

    fn remove(&self, ticket: u64) {
        self.waiting.lock().all.remove(&ticket);
    }
}

/// A future that is ready once the execution that has made it is cancelled.
/// [`Context::cancelled`](crate::Context::cancelled) makes it.
///
/// It never becomes ready if the execution ends in another way. It may be sent to other threads and outlive
/// its execution.
///
/// # Cancel safety
///
/// It may be dropped at any time.
#[must_use = "a future does nothing unless it is polled"]
pub struct Cancelled {
    /// `None` outside of a container.
    of: Option<(Arc<Token>, u64, Arc<Waiter>)>,
}

impl Cancelled {
    pub(crate) fn of(token: Option<&Arc<Token>>) -> Self {
        Self {
            of: token.map(|token| {
                let (ticket, waiter) = token.cancellations().add();
                if token.is_cancelled() {
                    waiter.is_cancelled.store(true, Ordering::Release);
                }
                (Arc::clone(token), ticket, waiter)
            }),
        }
    }
}

impl Cancelled {
    /// Whether the execution is cancelled. The answer stays the same when the container goes on with another.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.of.as_ref().is_some_and(|(token, _, waiter)| {
            waiter.is_cancelled.load(Ordering::Acquire) || token.has_ended()
        })
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some((_, _, waiter)) = &self.of else { return Poll::Pending };
        // The waker is kept first, so that a cancellation in between finds it.
        *waiter.waker.lock() = Some(cx.waker().clone());
        if waiter.is_cancelled.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some((token, ticket, _)) = &self.of {
            token.cancellations().remove(*ticket);
        }
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn is_ready(future: Pin<&mut Cancelled>) -> bool {
        future.poll(&mut TaskContext::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn only_the_futures_of_the_current_execution_are_cancelled() {
        let token = Arc::new(Token::of_no_thread(None));
        let mut earlier = pin!(Cancelled::of(Some(&token)));
        token.set_unwanted(false); // the next execution begins
        let mut current = pin!(Cancelled::of(Some(&token)));
        assert!(!is_ready(earlier.as_mut()));
        assert!(!is_ready(current.as_mut()));
        let mut wakers = Vec::new();
        token.set_unwanted(true);
        token.cancellations().cancel(&mut wakers);
        assert_eq!(wakers.len(), 1, "only one of them is woken");
        token.set_unwanted(false);
        assert!(!is_ready(earlier.as_mut()), "its execution had ended in another way");
        assert!(is_ready(current.as_mut()), "a cancellation is not forgotten when the next execution begins");
    }

    #[test]
    fn the_end_of_the_generation_cancels_the_futures_of_all_executions() {
        let token = Arc::new(Token::of_no_thread(None));
        let mut earlier = pin!(Cancelled::of(Some(&token)));
        token.set_unwanted(false);
        token.cancel();
        token.cancellations().cancel_all(&mut Vec::new());
        assert!(is_ready(earlier.as_mut()));
        let mut later = pin!(Cancelled::of(Some(&token)));
        assert!(is_ready(later.as_mut()), "it was made after the end");
    }

    #[test]
    fn a_future_that_was_dropped_leaves_nothing_behind() {
        let token = Arc::new(Token::of_no_thread(None));
        for _ in 0..100 {
            drop(Cancelled::of(Some(&token)));
        }
        assert!(token.cancellations().waiting.lock().all.is_empty());
    }
}

//! The events of a function as a stream, for code without an actor.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use parking_lot::{Condvar, Mutex};

use crate::engine::system::on_engine_thread;
use crate::values::event::Event;

/// The largest number of events that wait for their reader. Further events are only counted.
const EVENTS_MAX: usize = 1024;

/// The events of a function from the moment at which it was asked for them. See
/// [`Function::events`](crate::Function::events).
///
/// It is a [`Stream`]. As an iterator it blocks until each event comes ([`Events::wait`]). It ends after
/// [`Event::Ended`], or when the function is gone. At most 1024 events wait to be read. The stream loses
/// further events, and yields an [`Event::Missed`] with their number in their place. The stream keeps nothing
/// alive, and does not hold up the function.
///
/// ```
/// use longshore::{App, Event};
///
/// let app = App::ephemeral("docs");
/// let f = app.infallible("f", |n: &u32| assert!(*n != 3, "no threes")).containers(1).start()?;
/// let events = f.events();
/// assert!(f.call(3).wait().is_err());
/// assert!(app.shutdown_blocking().is_clean());
/// let crashes = events.into_iter().filter(|event| matches!(event, Event::Crashed(_))).count();
/// assert_eq!(crashes, 4); // of the input's first execution, and of its three replays
/// # Ok::<(), longshore::StartError>(())
/// ```
#[must_use = "events are missed unless they are read"]
pub struct Events(Arc<EventQueue>);

/// The events that wait for their reader.
#[derive(Default)]
pub(crate) struct EventQueue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// The number of events that were missed since the last event that was queued.
    missed: u64,
    /// No more events will come.
    over: bool,
    reader: Option<Waker>,
}

impl Waiting {
    /// The next event, if one is there. The inner `None` says that there will be none.
    fn next(&mut self) -> Option<Option<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Some(Some(event));
        }
        match std::mem::take(&mut self.missed) {
            0 => self.over.then_some(None),
            missed => Some(Some(Event::Missed(missed))),
        }
    }
}

impl EventQueue {
    /// Adds an event. Returns the reader's waker, which is the user's code.
    #[must_use = "the reader waits"]
    pub(crate) fn add(&self, event: &Event) -> Option<Waker> {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= EVENTS_MAX {
            waiting.missed += 1;
        } else {
            let missed = std::mem::take(&mut waiting.missed);
            waiting.events.extend((missed > 0).then_some(Event::Missed(missed)));
            waiting.events.push_back(event.clone());
        }
        waiting.over |= matches!(event, Event::Ended(_));
        self.arrived.notify_all();
        waiting.reader.take()
    }

    /// Records that no more events will come. Returns the reader's waker, which is the user's code.
    #[must_use = "the reader waits"]
    pub(crate) fn close(&self) -> Option<Waker> {
        let mut waiting = self.waiting.lock();
        waiting.over = true;
        self.arrived.notify_all();
        waiting.reader.take()
    }
}

impl Events {
    /// A stream, and the queue by which events are added to it.
    pub(crate) fn new() -> (Self, Arc<EventQueue>) {
        let queue = Arc::<EventQueue>::default();
        (Self(Arc::clone(&queue)), queue)
    }

    /// The next event, if one is there. It does not wait.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.waiting.lock().next().flatten()
    }
}

impl Events {
    /// Waits for the next event. Returns `None` if there will be none. On the engine's own thread it does not
    /// wait, and `None` may also mean that there is no event yet.
    pub fn wait(&mut self) -> Option<Event> {
        let mut waiting = self.0.waiting.lock();
        loop {
            if let Some(next) = waiting.next() {
                return next;
            }
            if on_engine_thread() {
                return None;
            }
            self.0.arrived.wait(&mut waiting);
        }
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = WaitedFor;

    fn into_iter(self) -> WaitedFor {
        WaitedFor(self)
    }
}

/// [`Events`] as an iterator that blocks until each event comes. It is a type of its own, because a value
/// that is both a stream and an iterator has two methods of each name.
#[derive(Debug)]
pub struct WaitedFor(Events);

impl Iterator for WaitedFor {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.wait()
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // Cloned before the lock is taken, and dropped after it, because a waker is the user's code.
        let reader = cx.waker().clone();
        let mut waiting = self.0.waiting.lock();
        let (next, unused) = match waiting.next() {
            Some(next) => (Poll::Ready(next), Some(reader)),
            None => (Poll::Pending, waiting.reader.replace(reader)),
        };
        drop(waiting);
        drop(unused);
        next
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.waiting.lock();
        let (events, missed, over) = (waiting.events.len(), waiting.missed, waiting.over);
        f.debug_struct("Events")
            .field("waiting", &events)
            .field("missed", &missed)
            .field("over", &over)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::report::FunctionReport;

    fn is_missed(event: Option<Event>) -> Option<u64> {
        if let Some(Event::Missed(events)) = event { Some(events) } else { None }
    }

    #[test]
    fn what_finds_no_place_is_counted_in_its_place() {
        let (mut events, queue) = Events::new();
        for _ in 0..EVENTS_MAX + 3 {
            assert!(queue.add(&Event::Reset).is_none());
        }
        assert!(matches!(events.try_next(), Some(Event::Reset)));
        assert!(queue.add(&Event::Missed(99)).is_none()); // any event that differs from the others
        for _ in 1..EVENTS_MAX {
            assert!(matches!(events.try_next(), Some(Event::Reset)));
        }
        assert_eq!(is_missed(events.try_next()), Some(3));
        assert_eq!(is_missed(events.try_next()), Some(99));
        assert!(events.try_next().is_none());
    }

    #[test]
    fn the_last_that_were_missed_are_told_too() {
        let (mut events, queue) = Events::new();
        for _ in 0..=EVENTS_MAX {
            assert!(queue.add(&Event::Reset).is_none());
        }
        assert!(queue.close().is_none());
        for _ in 0..EVENTS_MAX {
            assert!(matches!(events.wait(), Some(Event::Reset)));
        }
        assert_eq!(is_missed(events.wait()), Some(1));
        assert!(events.wait().is_none());
    }

    #[test]
    fn it_ends_behind_the_end_of_its_function() {
        let (mut events, queue) = Events::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut events).poll_next(&mut cx).is_pending());
        assert!(queue.add(&Event::Ended(FunctionReport::unknown("f"))).is_some(), "its reader is woken");
        assert!(matches!(events.wait(), Some(Event::Ended(_))));
        assert!(events.wait().is_none());
        assert!(matches!(Pin::new(&mut events).poll_next(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn a_thread_that_waits_is_woken() {
        let (mut events, queue) = Events::new();
        let reader = std::thread::spawn(move || events.wait());
        assert!(queue.add(&Event::Reset).is_none());
        assert!(matches!(reader.join(), Ok(Some(Event::Reset))));
    }
}

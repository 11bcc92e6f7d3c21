//! The subscribers of a function: the actors and the streams that receive its events.
//!
//! Sending waits for none of them. An actor that does not keep up learns how many events it has missed.
//! The streams themselves are in [`events`](crate::engine::events).

use std::sync::{Arc, Weak};
use std::task::Waker;

use actix::Recipient;
use actix::prelude::SendError;
use parking_lot::Mutex;

use crate::contain::unwind::ignore_panic;
use crate::engine::actor::Happened;
use crate::engine::events::{EventQueue, Events};
use crate::values::event::Event;

/// The subscribers to events: actors and streams.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    actors: Vec<Subscriber>,
    /// Streams of events. Only the reader of a stream keeps it alive.
    streams: Vec<Weak<EventQueue>>,
    /// The last event was sent.
    over: bool,
}

struct Subscriber {
    to: Recipient<Happened>,
    /// The number of events that found the mailbox full, and that no [`Event::Missed`] has reported yet.
    missed: u64,
}

impl Subscriber {
    /// Sends the event, and returns whether the actor still exists. An event that does not fit into its
    /// mailbox is missed, and counted.
    fn hears(&mut self, event: &Event) -> bool {
        if self.missed > 0 {
            match self.to.try_send(Happened(Event::Missed(self.missed))) {
                Ok(()) => self.missed = 0,
                Err(SendError::Full(_)) => {}
                Err(SendError::Closed(_)) => return false,
            }
        }
        match self.to.try_send(Happened(event.clone())) {
            Ok(()) => true,
            Err(SendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(SendError::Closed(_)) => false,
        }
    }
}

impl Subscribers {
    pub(crate) fn add(&self, to: Recipient<Happened>) {
        self.0.lock().actors.push(Subscriber { to, missed: 0 });
    }

    /// A stream of the events from now on.
    pub(crate) fn stream(&self) -> Events {
        let (events, queue) = Events::new();
        let mut seats = self.0.lock();
        if seats.over {
            drop(queue.close()); // it has no reader yet
        } else {
            // The next event forgets dead streams, but there may be no next event for days.
            if seats.streams.len() == seats.streams.capacity() {
                seats.streams.retain(|stream| stream.strong_count() > 0);
            }
            seats.streams.push(Arc::downgrade(&queue));
        }
        events
    }

    pub(super) fn is_empty(&self) -> bool {
        let seats = self.0.lock();
        seats.actors.is_empty() && seats.streams.is_empty()
    }

    /// Sends an event to all subscribers without waiting for any. A subscriber misses the events that do not
    /// fit into its mailbox, and receives their number before the next event that does. A subscriber that has
    /// ended is removed.
    pub(super) fn send(&self, event: &Event) {
        let (mut readers, mut told) = (Vec::new(), Vec::new()); // the last handle of a stream is dropped with no lock held
        {
            let mut seats = self.0.lock();
            seats.actors.retain_mut(|subscriber| subscriber.hears(event));
            seats.streams.retain(|stream| {
                let Some(stream) = stream.upgrade() else { return false };
                readers.extend(stream.add(event));
                told.push(stream);
                true
            });
            if matches!(event, Event::Ended(_)) {
                seats.over = true;
                seats.streams.clear();
            }
        }
        wake(readers);
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        let streams = std::mem::take(&mut self.0.get_mut().streams);
        let streams = streams.iter().filter_map(Weak::upgrade);
        wake(streams.filter_map(|stream| stream.close()).collect());
    }
}

/// Wakes readers of streams, with no lock held.
fn wake(readers: Vec<Waker>) {
    for reader in readers {
        ignore_panic(|| reader.wake());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::ContainerId;

    /// Keeps the events that it receives. Its mailbox holds two.
    struct Listener(Arc<Mutex<Vec<Event>>>);

    impl actix::Actor for Listener {
        type Context = actix::Context<Self>;

        fn started(&mut self, context: &mut Self::Context) {
            context.set_mailbox_capacity(2);
        }
    }

    impl actix::Handler<Happened> for Listener {
        type Result = ();

        fn handle(&mut self, Happened(event): Happened, _: &mut Self::Context) {
            self.0.lock().push(event);
        }
    }

    #[test]
    fn a_subscriber_receives_each_event_in_order_or_the_number_of_missed_events() {
        use actix::Actor;

        let heard = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&heard);
        actix::System::new().block_on(async move {
            let subscribers = Subscribers::default();
            assert!(subscribers.is_empty());
            let listener = Listener(keeps).start();
            subscribers.add(listener.clone().recipient());
            assert!(!subscribers.is_empty());
            let mut happened = 0;
            // The listener empties its mailbox between two bursts. The mailbox holds a whole burst of 1, but
            // not one of 20 or 30.
            for burst in [1, 1, 20, 1, 30, 1] {
                for _ in 0..burst {
                    subscribers.send(&Event::ExitTimedOut(ContainerId(happened), Duration::ZERO));
                    happened += 1;
                }
                listener.send(Happened(Event::Reset)).await.expect("the listener runs");
            }
            assert_eq!(happened, 54);
        });
        let (mut next, mut missed) = (0, Vec::new());
        for event in heard.lock().iter() {
            match event {
                Event::ExitTimedOut(number, _) => {
                    assert_eq!(number.0, next);
                    next += 1;
                }
                Event::Missed(events) => {
                    missed.push(*events);
                    next += *events as u32;
                }
                _ => {}
            }
        }
        assert_eq!(next, 54);
        assert!(missed.len() == 2 && !missed.contains(&0), "{missed:?}");
    }

    #[test]
    fn streams_whose_readers_are_gone_are_forgotten_while_no_event_is_sent() {
        let subscribers = Subscribers::default();
        for _ in 0..1000 {
            drop(subscribers.stream());
        }
        let kept = subscribers.0.lock().streams.len();
        assert!(kept <= 4, "{kept} streams are kept");
    }
}

//! The outbox of a function: events on their way to those who listen.
//!
//! Events are put in under the function's lock, so that they are in the order in which they happened. They are told
//! with the lock released, by one thread at a time, because subscribers are the user's code: whichever thread has put
//! something in tells all that is there, unless another one is at it. The engine's own thread does not tell, because a
//! subscriber that blocks would hold up the supervisors of all functions.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;

use crate::decide::time::Time;
use crate::engine::speech::Audience;
use crate::event::Event;

/// The most events that wait, because a subscriber may block for ever. Those that come then are counted.
const EVENTS_MAX: usize = 1 << 16;

/// Events that wait to be told.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(Event, Time)>,
    /// Events that found no place since the last one that did.
    missed: u64,
    /// Whether a thread is telling.
    is_told: bool,
}

/// A function's.
pub(crate) struct Outbox {
    app: Arc<str>,
    function: Arc<str>,
    /// Actors that listen.
    pub(crate) audience: Audience,
    waiting: Mutex<Waiting>,
}

impl Outbox {
    pub(crate) fn new(app: Arc<str>, function: Arc<str>) -> Self {
        Self { app, function, audience: Audience::default(), waiting: Mutex::default() }
    }

    /// Puts events in, under the function's lock. Gives back those for which there is no place.
    pub(crate) fn add(&self, events: Vec<Event>, now: Time) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        let mut refused = Vec::new();
        for event in events {
            if waiting.events.len() >= EVENTS_MAX {
                waiting.missed += 1;
                refused.push(event);
                continue;
            }
            let missed = std::mem::take(&mut waiting.missed);
            waiting.events.extend((missed > 0).then_some((Event::Missed(missed), now)));
            waiting.events.push_back((event, now));
        }
        refused
    }

    /// Whether anything waits, and no thread is telling it.
    pub(crate) fn is_waiting(&self) -> bool {
        let waiting = self.waiting.lock();
        !waiting.is_told && !waiting.events.is_empty()
    }

    /// Whether nothing of the user's hears what is told.
    pub(crate) fn is_unheard(&self) -> bool {
        LevelFilter::current() == LevelFilter::OFF && self.audience.is_empty()
    }

    /// Tells what waits, and what is put in meanwhile, unless another thread does. `also` hears of each as well.
    pub(crate) fn tell(&self, mut also: impl FnMut(&Event, Time)) {
        {
            let mut waiting = self.waiting.lock();
            if std::mem::replace(&mut waiting.is_told, true) {
                return;
            }
        }
        while let Some((event, at)) = self.next() {
            event.speak(&self.app, &self.function);
            also(&event, at);
            self.audience.tell(&event);
        }
    }

    /// The next event for the thread that is telling. Without one it does so no more.
    fn next(&self) -> Option<(Event, Time)> {
        let mut waiting = self.waiting.lock();
        let next = waiting.events.pop_front();
        waiting.is_told = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox::new("app".into(), "function".into())
    }

    #[test]
    fn events_are_told_in_order_and_by_one_thread_at_a_time() {
        let outbox = outbox();
        outbox.add(vec![Event::Missed(1), Event::Missed(2)], Time::default());
        let mut told = Vec::new();
        outbox.tell(|event, _| {
            let Event::Missed(number) = event else { unreachable!("no other was put in") };
            told.push(*number);
            if *number == 1 {
                outbox.add(vec![Event::Missed(3)], Time::default());
                assert!(!outbox.is_waiting());
                outbox.tell(|_, _| panic!("another thread is at it"));
            }
        });
        assert_eq!(told, [1, 2, 3]);
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn events_beyond_the_bound_are_counted_and_the_count_is_told() {
        let outbox = outbox();
        let many = (0..EVENTS_MAX + 2).map(|_| Event::Reset).collect();
        assert_eq!(outbox.add(many, Time::default()).len(), 2);
        let mut told = 0;
        outbox.tell(|_, _| told += 1);
        assert_eq!(told, EVENTS_MAX);
        outbox.add(vec![Event::Reset], Time::default());
        let mut missed = Vec::new();
        outbox.tell(|event, _| {
            missed.extend(if let Event::Missed(missed) = event { Some(*missed) } else { None })
        });
        assert_eq!(missed, [2]);
    }
}

//! The outbox of a function: events on their way to those who listen.
//!
//! Events are put in under the function's lock, so that they are in the order in which they happened. They are told
//! with the lock released, by one thread at a time, because subscribers are the user's code: whichever thread has put
//! something in tells all that is there, unless another one is at it. The engine's own thread does not tell, because a
//! subscriber that blocks would hold up the supervisors of all functions. The log tells repeated crashes as a number
//! ([`log_throttle`](crate::engine::log_throttle)); subscribed actors hear of each.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tracing::level_filters::LevelFilter;

use crate::contain::unwind::ignore_panic;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::history::{Fact, History};
use crate::engine::log_throttle::LogThrottle;
use crate::engine::telemetry::{Subscribers, Telemetry};
use crate::values::event::Event;

/// The most events that wait, because a subscriber may block for ever. Those that come then are counted.
const EVENTS_MAX: usize = 1 << 16;

/// An event, and who asked for the execution that it is about.
#[derive(Debug)]
pub(crate) struct QueuedEvent {
    pub(crate) event: Event,
    pub(crate) caller: Caller,
}

impl From<Event> for QueuedEvent {
    fn from(event: Event) -> Self {
        Self { event, caller: Caller::default() }
    }
}

/// Something that waits to be told.
#[derive(Debug)]
enum OutboxItem {
    Event(QueuedEvent),
    /// The log is to tell how many repeats it has not told of.
    Repeats,
    /// Runs once all entries before it have been delivered.
    Action(Arc<OnceAction>),
}

/// An action that runs once. Several threads may try to run it.
pub(crate) struct OnceAction(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl OnceAction {
    pub(crate) fn new(then: impl FnOnce() + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(then))))
    }

    /// Does it, unless it is done.
    pub(crate) fn run(&self) {
        let then = self.0.lock().take();
        then.into_iter().for_each(|then| then());
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().is_none()
    }
}

impl std::fmt::Debug for OnceAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnceAction").field("is_done", &self.is_done()).finish()
    }
}

/// Events that wait to be told.
#[derive(Debug, Default)]
struct OutboxQueue {
    events: VecDeque<(OutboxItem, Time)>,
    /// Events that found no place since the last one that did.
    missed: u64,
    /// Whether a thread is telling.
    is_delivering: bool,
    /// Whether the repeats wait to be told of.
    has_repeats: bool,
}

/// A function's.
pub(crate) struct Outbox {
    app: Arc<str>,
    function: Arc<str>,
    /// Actors that listen.
    pub(crate) subscribers: Subscribers,
    waiting: Mutex<OutboxQueue>,
    /// What the log has told.
    throttle: Mutex<LogThrottle>,
    /// Hears each event as well: the function's host.
    listener: Listener,
    /// What snapshots show of the past.
    history: Mutex<History>,
    /// The facts that the history has not heard yet. They are written under the function's lock, which keeps them in
    /// order.
    facts: Mutex<Vec<(Fact, Time)>>,
}

/// Hears events, and when they happened.
pub(crate) type Listener = Box<dyn Fn(&Event, Time) + Send + Sync>;

impl Outbox {
    pub(crate) fn new(app: Arc<str>, function: Arc<str>, history: History, listener: Listener) -> Self {
        let throttle = Mutex::default();
        Self {
            app,
            function,
            subscribers: Subscribers::default(),
            waiting: Mutex::default(),
            throttle,
            listener,
            history: Mutex::new(history),
            facts: Mutex::default(),
        }
    }

    /// Puts events in, under the function's lock. Gives back those for which there is no place.
    pub(crate) fn add(&self, events: Vec<QueuedEvent>, now: Time) -> Vec<QueuedEvent> {
        let mut waiting = self.waiting.lock();
        let mut refused = Vec::new();
        for event in events {
            if waiting.events.len() >= EVENTS_MAX {
                waiting.missed += 1;
                refused.push(event);
                continue;
            }
            let missed = std::mem::take(&mut waiting.missed);
            let missed = (missed > 0).then(|| QueuedEvent::from(Event::Missed(missed)));
            waiting
                .events
                .extend(missed.into_iter().chain([event]).map(|entry| (OutboxItem::Event(entry), now)));
        }
        refused
    }

    /// Has the log tell of the repeats that it has only counted for a while, if there are any.
    pub(crate) fn log_repeats(&self, now: Time) {
        if self.has_repeats() {
            let mut waiting = self.waiting.lock();
            if !std::mem::replace(&mut waiting.has_repeats, true) {
                waiting.events.push_back((OutboxItem::Repeats, now));
            }
        }
    }

    /// Adds an action that runs once all waiting entries have been delivered.
    pub(crate) fn add_action(&self, then: Arc<OnceAction>, now: Time) {
        self.waiting.lock().events.push_back((OutboxItem::Action(then), now));
    }

    /// Whether the log has counted repeats that it has not told of.
    pub(crate) fn has_repeats(&self) -> bool {
        self.throttle.lock().has_repeats()
    }

    /// Whether anything waits, and no thread is telling it.
    pub(crate) fn is_waiting(&self) -> bool {
        let waiting = self.waiting.lock();
        !waiting.is_delivering && !waiting.events.is_empty()
    }

    /// Queues facts for the history, under the function's lock.
    pub(crate) fn remember(&self, facts: &mut Vec<(Fact, Time)>) {
        self.facts.lock().append(facts);
    }

    /// Lets the history hear all queued facts, also those of other threads. It waits for no subscriber.
    pub(crate) fn write_down(&self) {
        drop(self.history());
    }

    /// The history, after it has heard all queued facts.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        let mut history = self.history.lock();
        let facts = std::mem::take(&mut *self.facts.lock());
        for (fact, at) in facts {
            history.hear(fact, at);
        }
        history
    }

    /// Whether nothing of the user's hears what is told.
    pub(crate) fn is_unheard(&self) -> bool {
        LevelFilter::current() == LevelFilter::OFF && self.subscribers.is_empty()
    }

    /// Tells what waits, and what is put in meanwhile, unless another thread does.
    pub(crate) fn deliver_all(&self) {
        while self.deliver() {}
    }

    /// Tells what waits, unless another thread does. Returns whether something was put in meanwhile.
    pub(crate) fn deliver(&self) -> bool {
        let mut most = {
            let mut waiting = self.waiting.lock();
            if std::mem::replace(&mut waiting.is_delivering, true) {
                return false;
            }
            waiting.events.len()
        };
        while let Some((item, at)) = self.next(most) {
            most -= 1;
            self.deliver_one(item, at);
        }
        !self.waiting.lock().events.is_empty()
    }

    fn deliver_one(&self, item: OutboxItem, at: Time) {
        let repeats = {
            let mut throttle = self.throttle.lock();
            match &item {
                OutboxItem::Repeats => throttle.take_repeats(at),
                OutboxItem::Event(QueuedEvent { event: Event::Ended(_), .. }) => {
                    throttle.take_all_repeats(at)
                }
                OutboxItem::Event(_) | OutboxItem::Action(_) => Vec::new(),
            }
        };
        for (crash, repeats) in repeats {
            self.telemetry().repeats(&crash, repeats);
        }
        match item {
            OutboxItem::Event(QueuedEvent { event, caller }) => {
                let detail = self.throttle.lock().admit(&event, at);
                self.telemetry().log(&event, &caller, detail);
                (self.listener)(&event, at);
                self.subscribers.send(&event);
            }
            OutboxItem::Action(then) => ignore_panic(|| then.run()),
            OutboxItem::Repeats => {}
        }
    }

    fn telemetry(&self) -> Telemetry<'_> {
        Telemetry { app: &self.app, function: &self.function }
    }

    /// The next of at most `most` for the thread that is telling. Without one it does so no more.
    fn next(&self, most: usize) -> Option<(OutboxItem, Time)> {
        let mut waiting = self.waiting.lock();
        let next = if most > 0 { waiting.events.pop_front() } else { None };
        waiting.is_delivering = next.is_some();
        waiting.has_repeats &= !matches!(next, Some((OutboxItem::Repeats, _)));
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    fn heard_by(listener: impl Fn(&Event, Time) + Send + Sync + 'static) -> Outbox {
        let history = History::new(std::time::Duration::ZERO);
        Outbox::new("app".into(), "function".into(), history, Box::new(listener))
    }

    /// An outbox, and the numbers in the `Missed` events that it tells.
    fn outbox() -> (Outbox, Arc<Mutex<Vec<u64>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let outbox = heard_by(move |event, _| {
            if let Event::Missed(number) = event {
                heard.lock().push(*number);
            }
        });
        (outbox, told)
    }

    #[test]
    fn events_are_told_in_order_and_by_one_thread_at_a_time() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let outbox = Arc::new_cyclic(|again: &Weak<Outbox>| {
            let again = Weak::clone(again);
            heard_by(move |event, _| {
                let Event::Missed(number) = event else { unreachable!("no other was put in") };
                heard.lock().push(*number);
                if *number == 1 {
                    let outbox = again.upgrade().expect("it is telling");
                    outbox.add(vec![Event::Missed(3).into()], Time::default());
                    assert!(!outbox.is_waiting());
                    assert!(!outbox.deliver(), "another thread is at it");
                }
            })
        });
        outbox.add([1, 2].map(|number| Event::Missed(number).into()).into(), Time::default());
        assert!(outbox.deliver(), "one has come meanwhile");
        assert_eq!(*told.lock(), [1, 2]);
        outbox.deliver_all();
        assert_eq!(*told.lock(), [1, 2, 3]);
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn events_beyond_the_bound_are_counted_and_the_count_is_told() {
        let (outbox, missed) = outbox();
        let many = (0..EVENTS_MAX + 2).map(|_| Event::Reset.into()).collect();
        assert_eq!(outbox.add(many, Time::default()).len(), 2);
        outbox.deliver_all();
        assert_eq!(*missed.lock(), [0; 0]);
        outbox.add(vec![Event::Reset.into()], Time::default());
        outbox.deliver_all();
        assert_eq!(*missed.lock(), [2]);
    }

    #[test]
    fn the_history_hears_facts_while_a_subscriber_holds_up_the_events() {
        let gave_up = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&gave_up);
        let outbox = Arc::new_cyclic(|again: &Weak<Outbox>| {
            let again = Weak::clone(again);
            heard_by(move |_, _| {
                let outbox = again.upgrade().expect("it is telling");
                let before = outbox.history().gave_up();
                outbox.remember(&mut vec![(Fact::GaveUp, Time::default())]);
                outbox.write_down();
                seen.lock().extend([before, outbox.history().gave_up()]);
            })
        });
        outbox.add(vec![Event::Reset.into()], Time::default());
        outbox.deliver_all();
        assert_eq!(*gave_up.lock(), [None, Some(std::time::Duration::ZERO)]);
    }

    #[test]
    fn something_is_done_behind_the_events_before_it_and_once() {
        let (outbox, missed) = outbox();
        outbox.add(vec![Event::Missed(7).into()], Time::default());
        let (done, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&missed));
        let record = Arc::clone(&done);
        let then = Arc::new(OnceAction::new(move || record.lock().push(seen.lock().clone())));
        outbox.add_action(Arc::clone(&then), Time::default());
        assert!(!then.is_done());
        outbox.deliver_all();
        then.run();
        assert_eq!(*done.lock(), [[7]]);
    }
}

//! The outbox of a function: the queue of events on their way to the log, the host and the subscribers.
//!
//! Events are added under the function's lock, so that they are in the order in which they happened. They are
//! delivered with the lock released, because subscribers are the user's code, and by one thread at a time. A
//! thread that has added an event delivers everything in the queue, unless another thread is already
//! delivering. The engine's own thread does not deliver, because a subscriber that blocks would hold up the
//! supervisors of all functions. The log counts repeated crashes
//! ([`log_throttle`](crate::engine::log_throttle)), while subscribed actors receive each of them.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use crate::base::lock::{Mutex, MutexGuard};
use crate::contain::unwind::ignore_panic;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::history::{Fact, History};
use crate::engine::log_throttle::{LogThrottle, Sum};
use crate::engine::subscribers::Subscribers;
use crate::engine::telemetry::Telemetry;
use crate::values::event::Event;

/// The most events in the queue, because a subscriber may block for ever. Events beyond it are only counted.
const EVENTS_MAX: usize = 1 << 16;

/// An event, and the caller of the execution that it is about.
#[derive(Debug)]
pub(crate) struct QueuedEvent {
    pub(super) event: Event,
    pub(crate) caller: Caller,
}

impl From<Event> for QueuedEvent {
    fn from(event: Event) -> Self {
        Self { event, caller: Caller::default() }
    }
}

/// An entry of the queue.
#[derive(Debug)]
enum OutboxItem {
    Event(QueuedEvent),
    /// The log reports the repeats that it has only counted.
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

    /// Runs the action, unless it has run.
    pub(super) fn run(&self) {
        let then = self.0.lock().take();
        then.into_iter().for_each(|then| then());
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.lock().is_none()
    }
}

impl std::fmt::Debug for OnceAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnceAction").field("is_done", &self.is_done()).finish()
    }
}

/// The queue of an outbox.
#[derive(Debug, Default)]
struct OutboxQueue {
    events: VecDeque<(OutboxItem, Time)>,
    /// The number of events that were refused since the last one that was added.
    missed: u64,
    /// Whether a thread is delivering.
    is_delivering: bool,
    /// Whether [`OutboxItem::Repeats`] is in the queue.
    has_repeats: bool,
}

/// The outbox of a function.
pub(crate) struct Outbox {
    app: Arc<str>,
    function: Arc<str>,
    /// The actors that have subscribed to events.
    pub(crate) subscribers: Subscribers,
    waiting: Mutex<OutboxQueue>,
    /// Decides which crashes the log only counts.
    throttle: Mutex<LogThrottle>,
    /// Passes each event on to the function's host.
    listener: Listener,
    /// What snapshots show of the past.
    history: Mutex<History>,
    /// The facts that the history has not heard yet. They are written under the function's lock, which keeps
    /// them in order.
    facts: Mutex<Vec<(Fact, Time)>>,
}

/// Called with each event, and when it happened.
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

    /// Adds events, under the function's lock. Returns the events for which the queue has no room.
    pub(crate) fn add(&self, events: Vec<QueuedEvent>, now: Time) -> Vec<QueuedEvent> {
        let mut refused = Vec::new();
        if events.is_empty() {
            return refused; // most releases of the lock have none
        }
        let mut waiting = self.waiting.lock();
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

    /// Adds an entry for the repeats that the log has only counted, if there are any.
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

    /// Whether the log has counted repeats that it has not reported.
    pub(super) fn has_repeats(&self) -> bool {
        self.throttle.lock().has_repeats()
    }

    /// Whether the queue has entries, and no thread is delivering them.
    pub(super) fn is_waiting(&self) -> bool {
        let waiting = self.waiting.lock();
        !waiting.is_delivering && !waiting.events.is_empty()
    }

    /// Queues facts for the history, under the function's lock.
    pub(crate) fn remember(&self, facts: &mut Vec<(Fact, Time)>) {
        self.facts.lock().append(facts);
    }

    /// Lets the history hear all queued facts, also those of other threads. It waits for no subscriber.
    pub(super) fn write_down(&self) {
        drop(self.history());
    }

    /// The history, after it has heard all queued facts.
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        let mut history = self.history.lock();
        let facts = std::mem::take(&mut *self.facts.lock());
        for (fact, at) in facts {
            history.hear(fact, at);
        }
        history
    }

    /// Whether events reach no code of the user's: there is neither a `tracing` subscriber nor a subscribed
    /// actor.
    pub(super) fn is_unheard(&self) -> bool {
        LevelFilter::current() == LevelFilter::OFF && self.subscribers.is_empty()
    }

    /// Delivers all entries, including those that are added meanwhile, unless another thread is delivering.
    pub(super) fn deliver_all(&self) {
        while self.deliver() {}
    }

    /// Delivers the entries that are in the queue now, unless another thread is delivering. Returns whether
    /// entries were added meanwhile.
    pub(super) fn deliver(&self) -> bool {
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
        for sum in repeats {
            match sum {
                Sum::Crashes(crash, repeats) => self.telemetry().repeats(&crash, repeats),
                Sum::Storm(last, report) => self.telemetry().storm(&last, report),
                Sum::Overloads(report) => self.telemetry().overloads(report),
            }
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

    /// Takes the next entry for the delivering thread, which may take `most` more. If there is none, the
    /// thread no longer counts as delivering.
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

    /// An outbox, and the numbers in the `Missed` events that it delivers.
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
    fn events_are_delivered_in_order_and_by_one_thread_at_a_time() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let outbox = Arc::new_cyclic(|again: &Weak<Outbox>| {
            let again = Weak::clone(again);
            heard_by(move |event, _| {
                let Event::Missed(number) = event else { unreachable!("no other event was added") };
                heard.lock().push(*number);
                if *number == 1 {
                    let outbox = again.upgrade().expect("the outbox is delivering");
                    outbox.add(vec![Event::Missed(3).into()], Time::default());
                    assert!(!outbox.is_waiting());
                    assert!(!outbox.deliver(), "another thread is delivering");
                }
            })
        });
        outbox.add([1, 2].map(|number| Event::Missed(number).into()).into(), Time::default());
        assert!(outbox.deliver(), "an event was added meanwhile");
        assert_eq!(*told.lock(), [1, 2]);
        outbox.deliver_all();
        assert_eq!(*told.lock(), [1, 2, 3]);
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn events_beyond_the_bound_are_counted_and_the_count_is_delivered() {
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
    fn an_action_runs_once_and_behind_the_events_before_it() {
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

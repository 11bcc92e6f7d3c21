//! The work that is deferred until the lock is released: the drops of users' values, wakers of
//! consumers, notices to the supervisor, and events.
//!
//! All of these may run the user's code, or may want the lock.

use std::sync::Arc;
use std::task::Waker;

use crate::base::ids::ContainerId;
use crate::base::signal::Signal;
use crate::code::context::Context;
use crate::contain::drops::{defer_drop, defer_in_order};
use crate::contain::unwind::{drop_contained, ignore_panic};
use crate::data::chunk::Chunk;
use crate::data::erased::ErasedValue;
use crate::data::failure::Reason;
use crate::data::run::Run;
use crate::decide::time::Time;
use crate::engine::caller::Caller;
use crate::engine::dispatch::snapshot::Undescribed;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::map_buffers::JobSource;
use crate::engine::map_end::MapEnd;
use crate::engine::messages::Notice;
use crate::engine::outbox::{OnceAction, Outbox, QueuedEvent};
use crate::values::crash::Crash;

/// Wakers of consumers.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    /// The wakers of consumers that have something to take.
    pub(super) woken: Vec<Waker>,
    /// The wakers that were replaced by newer ones.
    pub(super) unused: Vec<Waker>,
}

/// The work that is deferred until the lock is released.
pub(super) struct Deferred {
    sources: Vec<JobSource>,
    unseen_ends: Vec<MapEnd>,
    spent: Vec<Arc<Run>>,
    reasons: Vec<Reason>,
    used_up: Vec<Arc<Chunk>>,
    callers: Vec<Caller>,
    crashes: Vec<Arc<Crash>>,
    /// Events for which the outbox has no room.
    refused: Vec<QueuedEvent>,
    wakers: Wakers,
    /// Whether containers that were held back may be created now.
    recovered: bool,
    /// A container that may take work again.
    unheld: Option<ContainerId>,
    /// Whether the function has broken down.
    breaks: bool,
    /// Whether the supervisor must look at the limits of time earlier than it would.
    limited: bool,
    /// Errors of the user's that no outcome needs any more.
    errors: Vec<ErasedValue>,
    /// The history has facts to hear.
    remembers: bool,
    /// Poisoned inputs that the user's code may describe.
    undescribed: Vec<Undescribed>,
}

impl State {
    pub(super) fn has_deferred(&self) -> bool {
        let nothing = self.sources.is_empty()
            && self.unseen_ends.is_empty()
            && self.spent.is_empty()
            && self.reasons.is_empty()
            && self.used_up.is_empty()
            && self.unused_callers.is_empty()
            && self.events.is_empty()
            && self.wakers.woken.is_empty()
            && self.wakers.unused.is_empty()
            && self.last_errors.has_none_to_drop()
            && !self.observed.has_deferred();
        !nothing
            || self.breaks
            || self.ledger.has_news()
            || self.has_readied()
            || self.has_places()
            || self.exhaustion.is_to_be_checked
            || self.ledger.has_limits_news()
    }

    pub(super) fn deferred(&mut self, outbox: &Outbox, now: Time) -> Deferred {
        self.wake_the_ready();
        self.wake_for_places();
        self.emit_changes(now);
        self.note_exhaustion(now);
        let refused = outbox.add(std::mem::take(&mut self.events), now);
        let (remembers, undescribed) = self.observed.deferred(outbox);
        Deferred {
            limited: self.ledger.take_limits_news(now),
            errors: self.last_errors.take_unused(),
            remembers,
            undescribed,
            sources: std::mem::take(&mut self.sources),
            unseen_ends: std::mem::take(&mut self.unseen_ends),
            spent: std::mem::take(&mut self.spent),
            reasons: std::mem::take(&mut self.reasons),
            used_up: std::mem::take(&mut self.used_up),
            callers: std::mem::take(&mut self.unused_callers),
            crashes: self.ledger.take_discarded(),
            refused,
            wakers: std::mem::take(&mut self.wakers),
            recovered: self.ledger.take_recovered(),
            unheld: self.ledger.take_unheld(),
            breaks: std::mem::take(&mut self.breaks),
        }
    }
}

impl Dispatch {
    /// Does the deferred work, with the lock released: drops users' values, wakes tasks and emits events.
    pub(super) fn run_deferred(&self, deferred: Deferred) {
        if deferred.remembers {
            self.outbox.write_down();
        }
        if deferred.breaks {
            self.wake_all();
        }
        if deferred.limited {
            self.notify(Notice::Limited);
        }
        if deferred.recovered {
            self.notify(Notice::Recovered);
            if self.settings.rules.lanes > 1 {
                self.work.iter().for_each(Signal::notify_all); // live containers may be held back as well
            }
        }
        if let Some(id) = deferred.unheld {
            self.work[id.index()].notify_all();
        }
        for waker in deferred.wakers.woken {
            ignore_panic(|| waker.wake());
        }
        drop_contained(deferred.wakers.unused);
        if !deferred.undescribed.is_empty() {
            self.describe(deferred.undescribed);
        }
        self.empty_outbox();
        drop(deferred.refused);
        // This may be the last holder of a run that is over, and then of its chunk.
        let last = |run: Arc<Run>| Arc::into_inner(run).and_then(|run| Arc::into_inner(run.chunk));
        let used_up = deferred.used_up.into_iter().filter_map(Arc::into_inner);
        let chunks: Vec<Chunk> = deferred.spent.into_iter().filter_map(last).chain(used_up).collect();
        drop(deferred.callers);
        if !deferred.errors.is_empty() {
            defer_drop(self.settings.stack(), deferred.errors);
        }
        drop((deferred.crashes, deferred.reasons)); // users' values in them are deferred by their own drops
        if chunks.is_empty()
            || !self.settings.shape.runs_drops()
            || Context::is_container_of(self.settings.id)
        {
            drop(chunks); // nothing to drop, or this thread runs the user's code anyway
        } else {
            defer_drop(self.settings.stack(), chunks);
        }
        // The thread that ends a job should not wait for the drops of inputs that were never pulled.
        if deferred.sources.iter().any(JobSource::holds_values) || !deferred.unseen_ends.is_empty() {
            defer_drop(self.settings.stack(), (deferred.sources, deferred.unseen_ends));
        }
    }

    /// Runs `then` on the thread that emits the events, after all events so far. The returned handle runs it
    /// earlier, for a caller that stops waiting for subscribers.
    pub(crate) fn behind_events(&self, then: impl FnOnce() + Send + 'static) -> Arc<OnceAction> {
        let then = Arc::new(OnceAction::new(then));
        self.outbox.add_action(Arc::clone(&then), self.now());
        self.empty_outbox();
        then
    }

    /// Whether events must be emitted on another thread, because this one must not wait for a subscriber.
    fn delivers_elsewhere(&self) -> bool {
        self.host.must_not_wait() && !self.outbox.is_unheard()
    }

    /// Emits the events in the outbox. If this thread must not wait for a subscriber, another thread emits
    /// them.
    pub(super) fn empty_outbox(&self) {
        if !self.outbox.is_waiting() {
            return;
        }
        // Events that were added meanwhile are left to another thread, because this one may have inputs to
        // execute.
        if self.delivers_elsewhere() || self.outbox.deliver() {
            let outbox = Arc::clone(&self.outbox);
            defer_in_order(self.settings.id, self.settings.stack(), move || outbox.deliver_all());
        }
    }
}

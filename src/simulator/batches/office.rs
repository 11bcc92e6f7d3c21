//! The supervisor's work in a world of batches.

use std::sync::{Arc, Mutex, PoisonError};

use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;
use crate::simulator::batches::code::Driver;
use crate::simulator::batches::{BatchWorld, MS};

/// The desk of the supervisor: its notices, and the moments at which it acts by itself.
pub(super) struct Office {
    notices: Arc<Mutex<Vec<Notice>>>,
    creation_at: Option<Time>,
    review_at: Option<Time>,
}

impl Office {
    pub(super) fn of(engine: &Dispatch) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let mail = Arc::clone(&notices);
        engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
        Self { notices, creation_at: None, review_at: None }
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// The next moment at which the supervisor acts by itself.
    pub(super) fn next(&self) -> Option<Time> {
        self.creation_at.into_iter().chain(self.review_at).min()
    }

    /// Reviews the crash loop, if that is due.
    pub(super) fn works(&mut self, engine: &Dispatch, now: Time) {
        if self.review_at.is_some_and(|at| at <= now) {
            self.review_at = engine.review().map(|delay| now + delay.max(MS / 10));
        }
        self.creation_at = self.creation_at.filter(|at| *at > now);
    }

    /// Reads the notices. Returns the number of times that the function gave up.
    fn hear(&mut self, engine: &Dispatch, now: Time) -> u64 {
        let mut give_ups = 0;
        loop {
            let told = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
            if told.is_empty() {
                return give_ups;
            }
            for notice in told {
                match notice {
                    Notice::Crashed { restart } | Notice::Fenced { restart } => {
                        if restart == Restart::GiveUp {
                            give_ups += 1;
                            engine.give_up();
                        }
                        self.review_at = Some(now);
                    }
                    Notice::Entered => self.review_at = Some(now),
                    Notice::Recovered
                    | Notice::NothingPending
                    | Notice::Ended { .. }
                    | Notice::Exiting { .. }
                    | Notice::FeederEnded
                    | Notice::Awaited
                    | Notice::Limited
                    | Notice::Folds => {}
                }
            }
        }
    }
}

impl BatchWorld<'_> {
    /// The supervisor reads its notices, and creates the containers that it may.
    pub(super) fn create(&mut self) {
        let now = self.now();
        self.tally.give_ups += self.office.hear(self.engine, now);
        for (id, generation) in self.engine.create() {
            if self.engine.launch(id, generation) {
                self.drivers.push(Driver::new(self.engine, id, generation));
            }
        }
        self.office.creation_at = self.engine.next_creation().map(|delay| now + delay.max(MS / 10));
    }
}

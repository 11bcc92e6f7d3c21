//! The supervisor's desk in the worlds of lanes, of batches and of limits.

use std::sync::{Arc, Mutex, PoisonError};

use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;
use crate::simulator::course::{Course, TIMER_MIN};

/// The notices of the supervisor, and the moments at which it acts by itself.
pub(super) struct Office {
    notices: Arc<Mutex<Vec<Notice>>>,
    creation_at: Option<Time>,
    review_at: Option<Time>,
    limits_at: Option<Time>,
}

/// The work that notices ask for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errands {
    /// The number of times that the function gave up. That is carried out already.
    pub(super) give_ups: u64,
    /// Whether containers may have to be created.
    pub(super) creates: bool,
    /// Whether a limit of time is due earlier than it was.
    pub(super) looks: bool,
}

impl Office {
    pub(super) fn of(engine: &Dispatch) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let mail = Arc::clone(&notices);
        engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
        Self { notices, creation_at: None, review_at: None, limits_at: None }
    }

    /// The next moment at which the supervisor acts by itself.
    pub(super) fn next(&self) -> Option<Time> {
        self.creation_at.into_iter().chain(self.review_at).chain(self.limits_at).min()
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// Whether the supervisor has to look at the limits of time.
    pub(super) fn must_look(&self, now: Time) -> bool {
        self.limits_at.is_some_and(|at| at <= now)
    }

    /// Reviews the crash loop, if that is due. Containers are to be created after that.
    pub(super) fn works(&mut self, engine: &Dispatch, now: Time) {
        if self.review_at.is_some_and(|at| at <= now) {
            self.review_at = engine.review().map(|delay| now + delay.max(TIMER_MIN));
        }
        self.creation_at = self.creation_at.filter(|at| *at > now);
    }

    /// Looks at the limits of time.
    pub(super) fn looks(&mut self, engine: &Dispatch, now: Time) {
        self.limits_at = engine.look_at_limits().map(|delay| now + delay.max(TIMER_MIN));
    }

    /// Containers were created.
    pub(super) fn created(&mut self, engine: &Dispatch, now: Time) {
        self.creation_at = engine.next_creation().map(|delay| now + delay.max(TIMER_MIN));
    }

    /// Reads the notices.
    pub(super) fn hear(&mut self, engine: &Dispatch, now: Time) -> Errands {
        let mut errands = Errands::default();
        loop {
            let told = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
            if told.is_empty() {
                return errands;
            }
            for notice in told {
                match notice {
                    Notice::Crashed { restart } | Notice::Fenced { restart } => {
                        if restart == Restart::GiveUp {
                            errands.give_ups += 1;
                            engine.give_up();
                        }
                        self.review_at = Some(now);
                        errands.creates = true;
                    }
                    Notice::Entered => self.review_at = Some(now),
                    Notice::Recovered | Notice::NothingPending | Notice::Ended { .. } => {
                        errands.creates = true;
                    }
                    Notice::Limited => errands.looks = true,
                    Notice::Exiting { .. } | Notice::FeederEnded | Notice::Awaited | Notice::Folds => {}
                }
            }
        }
    }
}

/// A world with such a supervisor.
pub(super) trait Supervised: Course {
    /// The desk of the supervisor, and the engine.
    fn desk(&mut self) -> (&mut Office, &Dispatch);

    /// Creates the containers that may be created. As in `engine/supervisor.rs`, this gives up nothing: a
    /// decision to give up comes by a notice, and only a kill by hand and a reset look for one.
    fn create(&mut self);

    /// Looks at the limits of time.
    fn look(&mut self);

    fn has_given_up(&mut self, times: u64);

    /// Does what the supervisor does with its notices.
    fn hear(&mut self) {
        loop {
            let now = self.now();
            let (office, engine) = self.desk();
            let Errands { give_ups, creates, looks } = office.hear(engine, now);
            self.has_given_up(give_ups);
            if looks {
                self.look();
            }
            if creates {
                self.create();
            }
            if !looks && !creates {
                return;
            }
        }
    }

    /// Does what the supervisor does by itself. Returns whether anything was due.
    fn supervises(&mut self) -> bool {
        let now = self.now();
        let (office, engine) = self.desk();
        if office.must_look(now) {
            self.look();
            return true;
        }
        if office.is_due(now) {
            office.works(engine, now);
            self.create();
            return true;
        }
        false
    }
}

//! The events about calls that the function refuses because it has no room.
//!
//! Each caller gets its refusal. Subscribers and the log get one event when the function begins to refuse
//! calls, one a second while it goes on, and one when it is over, however many calls are refused.

use crate::decide::storm::{Storm, StormReport};
use crate::decide::time::Time;
use crate::engine::dispatch::{Dispatch, State};
use crate::engine::messages::Notice;
use crate::values::event::Event;

impl Dispatch {
    /// A call was refused for want of room.
    pub(super) fn is_overloaded(&self, state: &mut State) {
        let now = self.now();
        match &mut state.overload {
            Some(overload) if !overload.is_over(now) => overload.again(1, now),
            _ => {
                state.end_overload(now); // the review that would have ended it is late
                state.overload = Some(Storm::begins(1, now));
                let report = StormReport::GoesOn { repeats: 1, events: 1, since: now.since(now) };
                state.emit_overload(report, now);
                self.notify(Notice::Folds);
            }
        }
    }
}

impl State {
    /// Emits what is due about the calls that are refused.
    pub(super) fn review_overload(&mut self, now: Time) {
        if let Some(report) = self.overload.as_mut().and_then(|overload| overload.review(now)) {
            self.emit_overload(report, now);
        }
    }

    /// Emits the end of an overload, if there is one.
    pub(super) fn end_overload(&mut self, now: Time) {
        if let Some(overload) = self.overload {
            self.emit_overload(overload.end(), now);
        }
    }

    fn emit_overload(&mut self, report: StormReport, now: Time) {
        let event = match report {
            StormReport::GoesOn { events, since, .. } => {
                Event::Overloaded { max: self.ledger.admission().max(), refused: events, since }
            }
            StormReport::Over { events, lasted } => {
                self.overload = None;
                Event::OverloadEnded { refused: events, lasted }
            }
        };
        self.emit(event, now);
    }
}

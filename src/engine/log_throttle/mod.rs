//! The throttle of a function's log. It decides which crashes and time-outs the log reports in full, and
//! which it only counts.
//!
//! It has no side effects: it is given each event in turn, and returns how the log is to report it. The first
//! crash of each kind is logged in full. Repeats are counted. For each kind, the count is logged once a
//! second, and in a crash loop it is logged with each delay of the loop instead. An outage is therefore one
//! line for its beginning, one for each delay and one for its end, however many containers it kills.
//!
//! Attempts that time out, and inputs whose deadlines pass, are [storms](crate::decide::storm): one line for
//! the first, one a second with the number of those that followed, and one when they are over.
//!
//! An overload is reported by its events, at most once a second, and so is its end. Overloads that come and
//! go are a [wave](crate::decide::wave): one line a minute with their number, and one when they are over.

mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::decide::storm::{PERIOD, Storm, StormReport};
use crate::decide::time::Time;
use crate::decide::wave::{Coming, Wave, WaveReport};
use crate::values::crash::Crash;
use crate::values::event::Event;
use kinds::{RepeatedCrash, StormKind};

/// How many kinds of crashes are distinguished within [`PERIOD`]. Crashes of further kinds count as
/// one kind.
const KINDS_MAX: usize = 64;

/// How the log reports an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// In full, with the number of crashes that were only counted before it. For a crash, only the crashes of
    /// its kind are counted. For any other event, the crashes of all kinds are.
    InFull { repeats: u64 },
    /// In full, because it begins a storm. The storm of the same kind before it is over, and the log has not
    /// said so yet. It says so first.
    NextStorm { before: StormReport },
    /// In full, because it begins a wave. The wave before it is over, and the log has not said so yet. It
    /// says so first.
    NextWave { before: WaveReport },
    /// In full, as something that has been there before and comes again.
    Again,
    /// At the debug level, because the event is counted as a repeat.
    Folded,
}

/// The crashes of one kind that were only counted.
#[derive(Debug)]
struct Repeats {
    /// When their number was last logged.
    logged: Time,
    /// How many crashes there have been since then.
    unlogged: u64,
    /// The last of these crashes.
    last: Arc<Crash>,
}

/// A line of the log about events that were only counted.
#[derive(Debug)]
pub(super) enum Sum {
    /// This number of crashes like the given one.
    Crashes(Arc<Crash>, u64),
    /// A storm, and the last of its events.
    Storm(Event, StormReport),
    /// Overloads that come and go.
    Overloads(WaveReport),
}

/// The state of the throttle of one function.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    kinds: BTreeMap<RepeatedCrash, Repeats>,
    /// The storms, each with the last of its events.
    storms: BTreeMap<StormKind, (Storm, Event)>,
    /// The overloads.
    overloads: Wave,
    /// Whether there is a crash loop. The event of each delay of the loop carries the number of repeats.
    in_a_loop: bool,
}

impl LogThrottle {
    /// Takes the next event, which happened at `at`, and returns how to log it.
    pub(crate) fn admit(&mut self, event: &Event, at: Time) -> Detail {
        if let Some(kind) = StormKind::of(event) {
            return self.stormed(kind, event, at);
        }
        match event {
            Event::Crashed(crash) => self.crashed(crash, at),
            Event::CrashLoop { .. } => {
                self.in_a_loop = true;
                Detail::InFull { repeats: self.take_counts(at) }
            }
            Event::Recovered { .. } | Event::Reset | Event::GaveUp(_) => {
                self.in_a_loop = false;
                Detail::InFull { repeats: self.take_counts(at) }
            }
            Event::Overloaded { refused, .. } => {
                let coming = self.overloads.is_there(*refused, at);
                match coming {
                    Coming::First { before: Some(before) } => Detail::NextWave { before },
                    Coming::Again if self.overloads.reports(coming) => Detail::Again,
                    _ if self.overloads.reports(coming) => Detail::InFull { repeats: 0 },
                    _ => Detail::Folded,
                }
            }
            Event::OverloadEnded { refused, .. } => {
                self.overloads.is_gone(*refused, at);
                if self.overloads.is_folded() { Detail::Folded } else { Detail::InFull { repeats: 0 } }
            }
            Event::Missed(_) => {
                self.in_a_loop = false; // the end of the loop may be among the missed events
                // The end of an overload may be among them too. The overloads so far are logged first.
                let before = mem::take(&mut self.overloads).end();
                before.map_or(Detail::InFull { repeats: 0 }, |before| Detail::NextWave { before })
            }
            _ => Detail::InFull { repeats: 0 },
        }
    }

    fn crashed(&mut self, crash: &Arc<Crash>, at: Time) -> Detail {
        let mut kind = RepeatedCrash::of(crash);
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= KINDS_MAX {
            // A kind whose next crash would be logged in full anyway need not be remembered.
            self.kinds.retain(|_, repeats| repeats.unlogged > 0 || at.since(repeats.logged) < PERIOD);
            if self.kinds.len() >= KINDS_MAX {
                kind = RepeatedCrash::Other;
            }
        }
        let Some(repeats) = self.kinds.get_mut(&kind) else {
            self.kinds.insert(kind, Repeats { logged: at, unlogged: 0, last: Arc::clone(crash) });
            return Detail::InFull { repeats: 0 };
        };
        if self.in_a_loop || at.since(repeats.logged) < PERIOD {
            repeats.unlogged += 1;
            repeats.last = Arc::clone(crash);
            return Detail::Folded;
        }
        repeats.logged = at;
        Detail::InFull { repeats: mem::take(&mut repeats.unlogged) }
    }

    fn stormed(&mut self, kind: StormKind, event: &Event, at: Time) -> Detail {
        let inputs = if let Event::Expired { inputs, .. } = event { *inputs } else { 1 };
        if let Some((storm, last)) = self.storms.get_mut(&kind)
            && !storm.is_over(at)
        {
            storm.again(inputs, at);
            *last = event.clone();
            return Detail::Folded;
        }
        let before = self.storms.insert(kind, (Storm::begins(inputs, at), event.clone()));
        match before {
            // No review has come since it was over. Its end has the number of all events, also of those that
            // were not reported.
            Some((storm, _)) if !storm.is_single() => Detail::NextStorm { before: storm.end() },
            Some(_) | None => Detail::InFull { repeats: 0 },
        }
    }

    /// Takes the sums that are due to be logged, with the last event of each kind. It is needed if no later
    /// event logs them.
    pub(crate) fn take_repeats(&mut self, at: Time) -> Vec<Sum> {
        let mut sums = self.take_crashes(at);
        self.storms.retain(|_, (storm, last)| {
            // A review that comes late reports the last events, and then the end.
            while let Some(report) = storm.review(at) {
                let is_over = matches!(report, StormReport::Over { .. });
                if !storm.is_single() {
                    sums.push(Sum::Storm(last.clone(), report));
                }
                if is_over {
                    return false;
                }
            }
            true
        });
        sums.extend(self.overloads.review(at).map(Sum::Overloads));
        sums
    }

    fn take_crashes(&mut self, at: Time) -> Vec<Sum> {
        if self.in_a_loop {
            return Vec::new(); // the next delay of the loop logs them, or its end
        }
        let due = self
            .kinds
            .values_mut()
            .filter(|repeats| repeats.unlogged > 0 && at.since(repeats.logged) >= PERIOD);
        let take = |repeats: &mut Repeats| {
            repeats.logged = at;
            Sum::Crashes(Arc::clone(&repeats.last), mem::take(&mut repeats.unlogged))
        };
        due.map(take).collect()
    }

    /// Takes all repeats that were not logged, because the function has ended.
    pub(crate) fn take_all_repeats(&mut self, at: Time) -> Vec<Sum> {
        self.in_a_loop = false;
        let mut sums = self.take_crashes(at + PERIOD);
        for (mut storm, last) in mem::take(&mut self.storms).into_values() {
            let unreported = storm.take_unreported(at);
            let end = (storm.is_over(at) && !storm.is_single()).then(|| storm.end());
            sums.extend(unreported.into_iter().chain(end).map(|report| Sum::Storm(last.clone(), report)));
        }
        sums.extend(mem::take(&mut self.overloads).end().map(Sum::Overloads));
        sums
    }

    /// Whether there are sums that `take_repeats` will return once they are due.
    pub(super) fn has_repeats(&self) -> bool {
        let crashes = !self.in_a_loop && self.kinds.values().any(|repeats| repeats.unlogged > 0);
        let storms = self.storms.values().any(|(storm, _)| !storm.is_single());
        crashes || storms || self.overloads.is_folded()
    }

    /// Takes the number of repeats of all kinds, which is logged now.
    fn take_counts(&mut self, at: Time) -> u64 {
        let take = |repeats: &mut Repeats| {
            repeats.logged = at;
            mem::take(&mut repeats.unlogged)
        };
        self.kinds.values_mut().map(take).sum()
    }
}
